"""A model provider that costs next to nothing: an OpenAI-compatible server in a process of its own, for benchmarks.

Every call is answered after the same wait. It says the first sentence of passage 1, with its marker, when the prompt has
passages as the built-in answer prompt gives them, else a sentence of its own; as a stream or as one JSON document, with the
count of tokens. ``Provider.cpu_s`` is the CPU it has used, so that a benchmark can leave it out.

    with Provider.on(wait_ms=20) as provider:  # provider.base_url
        ...
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

from bench._load import ROOT, cpu_s

SAID = "The travel allowance is 420 euros a month [0]."
PIECES = 5
_HEAD = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_PASSAGE = re.compile(r"(?:\A|\n)\[1\][^\n]*\n((?:>[^\n]*\n?)+)")
_SENTENCE = re.compile(r"[^.!?]{12,}[.!?]")
_STREAMED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"


def sentence(prompt: str, asked: str) -> str:
    """What is answered: of passage 1 the first sentence that shares a telling word with the question."""
    found = _PASSAGE.search(prompt)
    if found is None:
        return SAID
    lines = [line.removeprefix(">").strip() for line in found[1].splitlines()]
    said = [one.strip() for one in _SENTENCE.findall(" ".join(line for line in lines if not line.startswith("#")))]
    wanted = set(re.findall(r"\w{4,}", asked.lower()))
    best = max(said, key=lambda one: len(wanted & set(re.findall(r"\w{4,}", one.lower()))), default="")
    return f"{best.rstrip('.!?')} [1]." if best else SAID


def _chunk(data: str) -> bytes:
    raw = data.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


def answered(body: bytes) -> bytes:
    """The whole response to one call."""
    try:
        asked = json.loads(body)
    except ValueError:  # whatever else a client looks for here
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    messages = asked.get("messages") or [{"content": ""}]
    prompt = str(messages[-1]["content"])
    said = sentence(prompt, prompt.rpartition("Question: ")[2])
    usage = {
        "prompt_tokens": max(1, sum(len(str(m["content"])) for m in messages) // 4),
        "completion_tokens": len(said) // 4,
    }
    usage["total_tokens"] = sum(usage.values())
    head = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": asked.get("model", "bench")}
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        whole = json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            len(whole),
            whole,
        )
    size = -(-len(said) // PIECES)
    deltas = [
        {"role": "assistant", "content": ""},
        *({"content": said[at : at + size]} for at in range(0, len(said), size)),
    ]
    frames: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    frames.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        frames.append({"choices": [], "usage": usage})
    told = [f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **frame})}\n\n" for frame in frames]
    return b"".join([_STREAMED, *map(_chunk, told), _chunk("data: [DONE]\n\n"), b"0\r\n\r\n"])


class _Connection(asyncio.Protocol):
    """One kept-alive connection; calls on it come one after the other."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s, self._held = wait_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _HEAD.search(self._held, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < whole:
                return
            body, self._held = self._held[end + 4 : whole], self._held[whole:]
            asyncio.get_running_loop().call_later(self._wait_s, self._answer, body)

    def _answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answered(body))


async def _serve(wait_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(wait_s), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True)
class Provider:
    """The process. ``base_url`` is what a client is given."""

    popen: subprocess.Popen[str]
    base_url: str

    @classmethod
    def on(cls, *, wait_ms: float) -> Self:
        command = [sys.executable, "-m", "bench._upstream", str(wait_ms)]
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert popen.stdout is not None
        port = popen.stdout.readline().strip()
        if not port:
            raise SystemExit("the bench's model provider did not start")
        return cls(popen, f"http://127.0.0.1:{port}/v1")

    @property
    def cpu_s(self) -> float:
        return cpu_s(self.popen.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) / 1000))
