"""A scripted model provider: a real HTTP server on loopback that speaks two wire formats, well or badly.

```python
with Upstream(good("Hello"), status(429, retry_after="2")) as upstream:  # one behaviour per call, in order
    ...  # upstream.base_url, upstream.calls
with Upstream(always=answering(cites)) as upstream:  # a worst-case or a best-case model for every call
    ...
```

The path of a call says in which format it is answered: `/v1/chat/completions` as OpenAI does, `/v1/messages` as Anthropic
does; `tests/support/formats.py` has their frames. `tests/support/faults.py` names every way to fail, for both.

A behaviour is a function that answers one call; whoever needs another one writes it. A scripted model is a function
from the messages to a text; `echo`, `obeys`, `liar` and `cites` read passages as the built-in answer prompt has them.
"""

from __future__ import annotations

import json
import math
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

from tests.support.formats import ANTHROPIC, OPENAI, Calls, Format, frame

Messages: TypeAlias = Sequence[Mapping[str, str]]
Model: TypeAlias = Callable[[Messages], str]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A call as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def messages(self) -> Messages:
        """What was said, the system first, as texts."""
        told = [{"role": "system", "content": self.body["system"]}] if self.body.get("system") else []
        for message in self.body.get("messages", ()):
            content = message["content"]
            if not isinstance(content, str):
                content = "\n".join(str(part.get("text") or part.get("content") or "") for part in content)
            told.append({**message, "content": content})
        return told

    @property
    def format(self) -> Format:
        return ANTHROPIC if self.path.endswith(ANTHROPIC.path) else OPENAI


class Call:
    """One call that a behaviour answers, by means of these few strokes."""

    def __init__(self, handler: _Handler, seen: Seen) -> None:
        self.seen = seen
        self._handler = handler
        self._chunked = False

    def head(
        self, status: int = 200, media: str = "text/event-stream", headers: Mapping[str, str] | None = None
    ) -> None:
        """Status and headers; the body follows in chunks."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", media)
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()
        self._chunked = True

    def raw(self, data: bytes) -> None:
        """Bytes on the socket, as they are."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def chunk(self, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        if data:
            self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    @property
    def format(self) -> Format:
        return self.seen.format

    def frame(self, document: Mapping[str, Any]) -> None:
        self.chunk(frame(document))

    def begin(self) -> None:
        """The head and the first frames of a stream."""
        self.head()
        self.chunk(self.format.opening())

    def end(self, *, done: bool = True) -> None:
        """The end frame and the end of the body."""
        if done:
            self.chunk(self.format.end_frame())
        self.raw(b"0\r\n\r\n")

    def whole(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        """A JSON response."""
        self.head(status, "application/json", headers)
        self.chunk(document if isinstance(document, (str, bytes)) else json.dumps(document))
        self.end(done=False)

    def hang_up(self) -> None:
        """Close the connection without another word."""
        self._handler.close_connection = True

    def wait(self, seconds: float) -> None:
        """Stay quiet, but not longer than the server lives."""
        self._handler.upstream.stopping.wait(seconds)


Behaviour: TypeAlias = Callable[[Call], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream
    timeout = 60

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            body = {}
        seen = Seen(path=self.path, headers={k.lower(): v for k, v in self.headers.items()}, body=body)
        try:
            self.upstream.next(seen)(Call(self, seen))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what many tests want; nothing to print."""


class Upstream:
    """The server. Behaviours are used up in order; then `always`, and without one, a good answer."""

    def __init__(
        self, *behaviours: Behaviour, always: Behaviour | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.calls: list[Seen] = []
        self.stopping = threading.Event()
        self._script = deque(behaviours)
        self._always = always or good("Hello there.")
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"upstream": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        with self._lock:
            self._script.extend(behaviours)

    def next(self, seen: Seen) -> Behaviour:
        with self._lock:
            self.calls.append(seen)
            if seen.path.endswith("/embeddings") and not self._script:
                return embeddings()
            return self._script.popleft() if self._script else self._always

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# Answers as they should be


def good(
    text: str, *, reason: str = "stop", usage: object = "true", pieces: int = 5, thoughts: int = 0, calls: Calls = ()
) -> Behaviour:
    """Streams the text, or sends it as JSON if no stream was asked for. `usage=None` leaves it out. `thoughts` come before
    each piece, `calls` of tools after the text."""

    def behave(call: Call) -> None:
        if not call.seen.body.get("stream"):
            good_json(text, reason=reason, usage=usage)(call)
            return
        call.begin()
        for piece in _pieces(text, pieces):
            call.chunk(call.format.thought() * thoughts + call.format.piece(piece))
        if calls:
            call.chunk(call.format.tools(calls))
        wanted = call.format is ANTHROPIC or call.seen.body.get("stream_options", {}).get("include_usage")
        call.chunk(call.format.ending(reason, _usage(call.seen, text, usage) if wanted else None))
        call.end()

    return behave


def good_json(text: str, *, reason: str = "stop", usage: object = "true") -> Behaviour:
    """One JSON document, whether a stream was asked for or not."""
    return lambda call: call.whole(200, call.format.document(text, reason, _usage(call.seen, text, usage)))


def answering(model: Model) -> Behaviour:
    """A scripted model behind good manners."""
    return lambda call: good(model(call.seen.messages))(call)


def by_model(models: Mapping[str, Model]) -> Behaviour:
    """Several models on one server: the request's model name chooses; another name is a 404."""

    def behave(call: Call) -> None:
        name = call.seen.body.get("model", "")
        if name not in models:
            status(404, code="model_not_found", message=f"The model {name} does not exist")(call)
            return
        answering(models[name])(call)

    return behave


def embeddings(
    dims: int = 8, *, shuffled: bool = True, change: Callable[[dict[str, Any]], object] | None = None
) -> Behaviour:
    """Vectors made of the letters of each text; out of order, as the format permits. `change` spoils the document."""

    def behave(call: Call) -> None:
        texts = call.seen.body["input"]
        length = call.seen.body.get("dimensions", dims)
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": [1.0 + sum(map(ord, text[d::length])) % 97 for d in range(length)],
            }
            for i, text in enumerate(texts)
        ]
        document: dict[str, Any] = {
            "object": "list",
            "model": call.seen.body.get("model"),
            "data": data[::-1] if shuffled else data,
            "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
        }
        call.whole(200, (change(document) if change else None) or document)

    return behave


# Answers as they should not be


def status(
    code_: int, *, code: str = "", message: str = "no", headers: Mapping[str, str] | None = None, **extra: str
) -> Behaviour:
    """A refusal with an error object; `retry_after` sets the header."""
    sent = dict(headers or {})
    if "retry_after" in extra:
        sent["Retry-After"] = extra.pop("retry_after")

    def behave(call: Call) -> None:
        document = call.format.error(code, message)
        document["error"].update(extra)
        call.whole(code_, document, sent)

    return behave


def redirect(to: str) -> Behaviour:
    return lambda call: call.whole(307, "", {"Location": to})


def silent(seconds: float = 30.0) -> Behaviour:
    """Takes the call and never answers."""

    def behave(call: Call) -> None:
        call.wait(seconds)
        call.hang_up()

    return behave


def dripping_head(gap: float = 0.05) -> Behaviour:
    """Sends its headers byte by byte: no single read is ever late."""

    def behave(call: Call) -> None:
        call.raw(b"HTTP/1.1 200 OK\r\nX-Filler: ")
        for _ in range(400):
            call.raw(b"x")
            call.wait(gap)

    return behave


def no_text(gap: float = 0.05) -> Behaviour:
    """Headers at once, then comments to keep the connection alive, and never a word."""

    def behave(call: Call) -> None:
        call.head()
        for _ in range(400):
            call.chunk(": still here\n\n")
            call.wait(gap)

    return behave


def slow(text: str, *, first: float = 0.0, gap: float = 0.0) -> Behaviour:
    """A good stream that takes its time."""

    def behave(call: Call) -> None:
        call.head()
        call.wait(first)
        call.chunk(call.format.opening())
        for piece in _pieces(text, 5):
            call.chunk(call.format.piece(piece))
            call.wait(gap)
        call.chunk(call.format.ending("stop"))
        call.end()

    return behave


def stalled(text: str, *, comments: bool = False) -> Behaviour:
    """Begins well, then nothing more (or comments only)."""

    def behave(call: Call) -> None:
        call.begin()
        call.chunk(call.format.piece(text))
        for _ in range(400):
            if comments:
                call.chunk(": still here\n\n")
            call.wait(0.05 if comments else 30)

    return behave


def endless() -> Behaviour:
    """Never stops talking."""

    def behave(call: Call) -> None:
        call.begin()
        for _ in range(100_000):
            call.chunk(call.format.piece("and so on "))
            time.sleep(0.002)

    return behave


Part: TypeAlias = str | bytes | Callable[[Format], str]
"""Bytes as they are, or what a format makes of it."""


def streamed(*parts: Part, clean: bool = True) -> Behaviour:
    """Exactly these bytes as an event stream; not `clean`: the connection breaks before the end of the body."""

    def behave(call: Call) -> None:
        call.head()
        for part in parts:
            call.chunk(part(call.format) if callable(part) else part)
        if clean:
            call.end(done=False)
        else:
            call.hang_up()

    return behave


def opened(form: Format) -> str:
    """The beginning of every good stream, as a part."""
    return form.opening()


def said(text: str) -> Part:
    """A piece of text, as a part."""
    return lambda form: form.piece(text)


def ended(reason: str = "stop", usage: object = None) -> Part:
    """The end reason, as a part."""
    return lambda form: form.ending(reason, usage)


def end_frame(form: Format) -> str:
    """The end frame, as a part."""
    return form.end_frame()


def cut(text: str, *, reason: str | None = None, clean: bool = True) -> Behaviour:
    """Looks complete: text, perhaps an end reason, and a connection that ends politely, but no end frame."""
    return streamed(opened, said(text), *([ended(reason)] if reason else []), clean=clean)


def garbage() -> Behaviour:
    return streamed(opened, said("Well"), "<html>Bad gateway</html>\n\n")


def half_json() -> Behaviour:
    return streamed(opened, said("Well"), 'data: {"choices": [{"index": 0, "del\n\n', end_frame)


def empty() -> Behaviour:
    return streamed()


def error_in_stream(code: str = "server_error", message: str = "The server had an error") -> Behaviour:
    return streamed(opened, said("Well"), lambda form: form.error_frame(code, message), end_frame)


def huge_line(size: int = 3 << 20) -> Behaviour:
    def behave(call: Call) -> None:
        call.head()
        call.chunk("data: ")
        for _ in range(size >> 16):
            call.chunk("x" * (1 << 16))
        call.end()

    return behave


def hangs_up() -> Behaviour:
    """Closes the connection without an answer."""
    return Call.hang_up


def framed(delta: Mapping[str, object], reason: str | None = None, **more: object) -> str:
    """One frame of an OpenAI stream as text."""
    return frame({**OPENAI.chunk(delta, reason), **more})


def _usage(seen: Seen, text: str, usage: object) -> object:
    """The truth (about a token for four characters) if `usage` is "true", else what it says."""
    if usage != "true":
        return usage
    told = sum(len(message["content"]) for message in seen.messages)
    return seen.format.usage(math.ceil(told / 4) or 1, math.ceil(len(text) / 4))


def _pieces(text: str, count: int) -> Iterator[str]:
    size = max(1, math.ceil(len(text) / count))
    for start in range(0, len(text), size):
        yield text[start : start + size]


# Scripted models


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """A passage as the model reads it in its prompt."""

    n: int
    title: str
    text: str


_HEAD = re.compile(r"\[(\d+)\] ?(.*)")
_QUESTION = re.compile(r"^Question: (.*)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]")
_WORD = re.compile(r"\w{3,}")
_ORDER = re.compile(
    r"(?:^|[.!?:]\s+|\n)\W*(?:please\s+)?(?:ignore|disregard|forget|reply|answer|say|write|print|output|repeat|append|include|"
    r"add|send|visit|click|open|tell|reveal|call|use)\b[^.!?\n]*[.!?]?",
    re.IGNORECASE,
)


def passages(messages: Messages) -> list[Quoted]:
    """The numbered passages of the prompt: a head line `[n] title`, then lines that begin with "> "."""
    found: list[Quoted] = []
    lines = "\n".join(message["content"] for message in messages if message["role"] != "system").split("\n")
    for i, line in enumerate(lines):
        head = _HEAD.fullmatch(line)
        if head and i + 1 < len(lines) and lines[i + 1].startswith(">"):
            end = i + 1
            while end < len(lines) and lines[end].startswith(">"):
                end += 1
            text = "\n".join(quoted.removeprefix(">").removeprefix(" ") for quoted in lines[i + 1 : end])
            found.append(Quoted(n=int(head[1]), title=head[2], text=text))
    return found


def question(messages: Messages) -> str:
    """What is asked: the prompt's question line, else the last thing a user said."""
    for message in reversed(messages):
        if message["role"] == "user":
            asked = _QUESTION.search(message["content"])
            return asked[1] if asked else message["content"]
    return ""


def echo(messages: Messages) -> str:
    """Prints everything it was shown."""
    return "\n".join(message["content"] for message in messages)


def obeys(messages: Messages) -> str:
    """Does whatever any passage tells it to do: its answer is what the orders say, word by word."""
    orders = [found.group().strip(" \n.:!?") for p in passages(messages) for found in _ORDER.finditer(p.text)]
    return "\n".join(f"{order}." for order in orders) or cites(messages)


def liar(messages: Messages) -> str:
    """Speaks with wrong markers: true words behind another passage's number, invented ones behind a real number."""
    seen = passages(messages)
    if not seen:
        return "This is certain [1]."
    best, sentence = _best(seen, question(messages))
    wrong = next((p.n for p in seen if p.n != best), len(seen) + 90)
    return f"{_bare(sentence)} [{wrong}]. The moon is made of cheese [{best}]. Nobody doubts it [{len(seen) + 98}]."


def cites(messages: Messages) -> str:
    """Copies the sentence that shares most words with the question, with its right marker; else does not know."""
    seen = passages(messages)
    asked = _words(question(messages))
    if not seen or not any(asked & _words(p.text) for p in seen):
        return "The documents do not say [0]."
    n, sentence = _best(seen, question(messages))
    return f"{_bare(sentence)} [{n}]."


def saying(text: str) -> Model:
    """Always says this."""
    return lambda _: text


def _best(seen: Iterable[Quoted], asked: str) -> tuple[int, str]:
    words = _words(asked)
    sentences = [(p.n, s.strip()) for p in seen for s in _SENTENCE.findall(p.text) or [p.text]]
    return max(sentences, key=lambda entry: (len(words & _words(entry[1])), -entry[0]))


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _bare(sentence: str) -> str:
    return " ".join(sentence.split()).rstrip(" .!?")
