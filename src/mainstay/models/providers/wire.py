"""The wire: HTTP to a model provider with limits that hold.

The limits of an HTTP library count each read on its own, so a server that drips one byte a second is never too slow,
and a name server that hangs is not counted at all. Here every wait on the network, name look-up included, asks an
Allowance how long it may still take: the end of the present phase (first token, idle gap) or the deadline, whichever is
nearer.

Also decided here, for all providers: no redirect is followed, nothing is taken from the environment (proxies, netrc,
certificates), no cookie is kept, link-local addresses (cloud metadata) are never called, a secret goes over plain HTTP
to loopback and private addresses only, and a name is resolved once and the checked address is the one connected to.
A call that was refused a connection is tried once more; nothing else is repeated.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias

import httpcore2
import httpx2

from mainstay.errors import Invalid
from mainstay.models.chat import FailureKind, ModelFailure, failure

READ_BYTES = 64 * 1024
WRITE_BYTES = 64 * 1024
KEEP_IDLE_S = 15.0
REFUSED_PAUSE_S = 0.1
FAIR_WAIT_S = 1.0
"""A provider that was given less time than this by the caller's deadline is not to blame for being late."""

_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+")


Resolver: TypeAlias = Callable[[str, int], list[str]]
"""Host and port to addresses; OSError if there are none."""


def system_resolver(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Allowance:
    """How long the next wait may take, and what has been seen so far. Belongs to one call."""

    def __init__(self, *, deadline: float, connect_s: float, first_token_s: float, idle_s: float) -> None:
        self.deadline = deadline
        self.connect_s, self.first_token_s, self.idle_s = connect_s, first_token_s, idle_s
        self.started = time.monotonic()
        self.until = self.started + first_token_s
        self.connect_until = self.until
        self.secret_in_clear = False
        self.received = 0
        self.closed = False
        self.refused = False
        self.answered = False
        self.speaking = False

    def left(self) -> float:
        """Seconds the next wait may take; zero or less: none."""
        return min(self.deadline, self.until) - time.monotonic()

    def progress(self) -> None:
        """Something of the answer came: from now on gaps count."""
        self.speaking = True
        self.until = time.monotonic() + self.idle_s

    def until_deadline(self) -> None:
        """An answer that comes in one piece has no gaps to measure: only the deadline counts."""
        self.speaking = True
        self.until = self.deadline

    def late(self, where: str) -> ModelFailure:
        """The time is up: which time, and whose fault."""
        if self.deadline < self.until and time.monotonic() - self.started < FAIR_WAIT_S and not self.speaking:
            return failure(FailureKind.DEADLINE, "too little time was left for the call", where=where)
        if not self.received:
            return failure(FailureKind.SILENT, "the call was taken, and nothing was answered in time", where=where)
        if not self.speaking:
            return failure(FailureKind.SLOW_FIRST_TOKEN, "no text came in time", where=where)
        if self.until < self.deadline:
            return failure(FailureKind.STALLED, f"the answer stalled for {self.idle_s:g} s", where=where)
        return failure(FailureKind.DEADLINE, "the time was up before the answer was complete", where=where)


@dataclass(frozen=True)
class Reply:
    """The head of a response, and its body as it comes. Reading raises ModelFailure only."""

    status: int
    headers: httpx2.Headers
    chunks: Iterator[bytes]
    where: str

    @property
    def media(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def body(self, at_most: int) -> bytes:
        """The whole body."""
        pieces: list[bytes] = []
        size = 0
        for chunk in self.chunks:
            size += len(chunk)
            if size > at_most:
                raise failure(FailureKind.MALFORMED, f"an answer of more than {at_most} bytes", where=self.where)
            pieces.append(chunk)
        return b"".join(pieces)


class Wire:
    """One pool of connections for every provider. Safe to use from several threads; close it when the App closes.

    `ca_file` adds nothing to the system's certificates, it replaces them. `plain_http_anywhere` permits secrets over
    plain HTTP to public addresses. `resolver` looks names up, by default as the system does.
    """

    def __init__(
        self, *, ca_file: Path | None = None, plain_http_anywhere: bool = False, resolver: Resolver | None = None
    ) -> None:
        self._plain_http_anywhere = plain_http_anywhere
        # The pool itself, without a client around it: that would take care of redirects, cookies and the environment,
        # of which nothing is wanted here, in more time than the pool takes for the call.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_tls(ca_file),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=KEEP_IDLE_S,
            network_backend=_Network(resolver or system_resolver),
        )

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def post(
        self, url: str, *, headers: Mapping[str, str], secret: bool, body: bytes, allowance: Allowance, where: str
    ) -> Iterator[Reply]:
        """Send and receive the head; the body is read by the caller, inside. Every failure is a ModelFailure."""
        allowance.secret_in_clear = secret and url.startswith("http:") and not self._plain_http_anywhere
        if allowance.left() <= 0:
            raise failure(FailureKind.DEADLINE, "no time is left for the call", where=where, maybe_paid=False)
        response = self._sent(url, headers, body, allowance, where)
        try:
            allowance.answered = True
            told = httpx2.Headers(response.headers)
            yield Reply(response.status, told, _chunks(response, told, allowance, where), where)
        finally:
            response.close()

    def _sent(
        self, url: str, headers: Mapping[str, str], body: bytes, allowance: Allowance, where: str
    ) -> httpcore2.Response:
        """The response's head, with one more try when the connection was refused."""
        target, host = _target(url)
        told = {"accept": "*/*", "connection": "keep-alive", **{name.lower(): headers[name] for name in headers}}
        told |= {"accept-encoding": "identity", "content-length": str(len(body))}
        for attempt in (1, 2):
            request = httpcore2.Request(
                method=b"POST",
                url=target,
                headers=[(b"host", host), *((name.encode("ascii"), told[name].encode("ascii")) for name in told)],
                content=body,
                extensions={"timeout": {"connect": allowance, "read": allowance, "write": allowance, "pool": None}},
            )
            try:
                return self._pool.handle_request(request)
            except _BROKEN as error:
                if attempt == 1 and allowance.refused and allowance.left() > 2 * REFUSED_PAUSE_S:
                    time.sleep(REFUSED_PAUSE_S)
                    continue
                _classify(error, allowance, where)
        raise AssertionError("unreachable")


@lru_cache(maxsize=256)
def _target(url: str) -> tuple[httpcore2.URL, bytes]:
    """An address as the pool wants it, and what its Host header says."""
    parsed = httpx2.URL(url)
    target = httpcore2.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
    return target, parsed.netloc


_BROKEN = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _chunks(response: httpcore2.Response, headers: httpx2.Headers, allowance: Allowance, where: str) -> Iterator[bytes]:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise failure(FailureKind.MALFORMED, "a compressed answer that was not asked for", where=where)
    try:
        yield from response.iter_stream()
    except _BROKEN as error:
        _classify(error, allowance, where)


def _classify(error: Exception, allowance: Allowance, where: str) -> NoReturn:
    """The one place where a broken connection gets its name."""
    match error:
        case httpcore2.ConnectTimeout():
            late = failure(
                FailureKind.NETWORK,
                f"no connection within {allowance.connect_s:g} s",
                where=where,
                fix="check the address and the network",
                maybe_paid=False,
            )
            raise late from None
        case httpcore2.ConnectError():
            raise failure(
                FailureKind.NETWORK,
                f"no connection: {_short(str(error))}",
                where=where,
                fix="check the address and the network",
                maybe_paid=False,
            ) from None
        case httpcore2.TimeoutException():
            raise allowance.late(where) from None
        case httpcore2.RemoteProtocolError() if allowance.received and not allowance.closed:
            raise failure(FailureKind.MALFORMED, "the answer is not HTTP", where=where) from None
        case _ if allowance.answered:
            raise failure(FailureKind.CUT, "the connection broke in the middle of the answer", where=where) from None
        case _:
            raise failure(FailureKind.NETWORK, "the connection closed without an answer", where=where) from None


def _short(text: str, most: int = 160) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:most] or "refused"


def check_base_url(url: str, where: str) -> str:
    """The address without its last slash; only http(s), a host, and nothing secret in it."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise Invalid("base_url is not a URL", where=where) from None
    if parsed.scheme not in ("http", "https") or not _HOST.fullmatch(parsed.host):
        raise Invalid("base_url must begin with https:// or http:// and name a host", where=where)
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise Invalid("base_url must hold no user, query or fragment", where=where, fix="give the key as a secret")
    return str(parsed).rstrip("/")


def check_headers(headers: Mapping[str, str], where: str) -> None:
    """A bad character in a header would be shown by the library's own error, secret included: refuse it before."""
    for name, value in headers.items():
        printable = value.isascii() and value.isprintable() and value == value.strip()
        if not printable or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise Invalid(f"the header {name!r} holds characters that HTTP does not allow", where=where)


# The network below the pool: every wait asks the Allowance, which is handed down as the "timeout" of the request.


class _Network(httpcore2.NetworkBackend):
    """Resolves once, checks the address, connects to exactly that address."""

    def __init__(self, resolver: Resolver) -> None:
        self._inner = httpcore2.SyncBackend()
        self._resolver = resolver

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        allowance: Allowance = timeout
        allowance.refused = False
        allowance.connect_until = time.monotonic() + allowance.connect_s
        failed: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        addresses = _permitted(_resolved(self._resolver, host, port, allowance), allowance)
        for tried, address in enumerate(addresses):
            try:  # each gets its share, so that a dead first address leaves time for the next
                seconds = _seconds(allowance, httpcore2.ConnectTimeout) / (len(addresses) - tried)
                return _Stream(self._inner.connect_tcp(address, port, seconds, local_address, socket_options or ()))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        if failed is None:
            raise httpcore2.ConnectError("the name has no address")
        allowance.refused = isinstance(failed.__cause__, ConnectionRefusedError)
        raise failed


class _Stream(httpcore2.NetworkStream):
    """A connection whose reads and writes end when the Allowance does."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        allowance: Allowance = timeout
        data = self._inner.read(min(max_bytes, READ_BYTES), _seconds(allowance, httpcore2.ReadTimeout))
        allowance.received += len(data)
        allowance.closed = not data
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        for start in range(0, len(buffer), WRITE_BYTES):
            self._inner.write(buffer[start : start + WRITE_BYTES], _seconds(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore2.NetworkStream:
        seconds = _seconds(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _seconds(allowance: Allowance, expired: type[httpcore2.TimeoutException]) -> float:
    left = allowance.left()
    if expired is httpcore2.ConnectTimeout:
        left = min(left, allowance.connect_until - time.monotonic())
    if left <= 0:
        raise expired("out of time")
    return left


def _resolved(resolver: Resolver, host: str, port: int, allowance: Allowance) -> list[str]:
    """The addresses of a host. A look-up cannot be given a time limit, so it runs aside and may be left behind."""
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(resolver(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError("not a host name"))

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_seconds(allowance, httpcore2.ConnectTimeout))
    except queue.Empty:
        raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
    if isinstance(answer, OSError):
        raise httpcore2.ConnectError(f"the name cannot be resolved: {answer.strerror or answer}")
    return answer


def _permitted(addresses: list[str], allowance: Allowance) -> list[str]:
    """The addresses, if every one of them may be called."""
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise httpcore2.ConnectError("the address is link-local, multicast or unspecified, which is never called")
        if allowance.secret_in_clear and address.is_global:
            raise httpcore2.ConnectError("a key would cross a public network in the clear: use https")
    return addresses


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx2.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise Invalid(f"the certificates cannot be read: {error.strerror}", where=str(ca_file)) from None
