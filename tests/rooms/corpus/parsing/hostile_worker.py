"""A worker gone wrong, for the tests of the sandbox: it does what the name of the file says instead of reading it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

from mainstay.corpus.parsing import wire
from mainstay.corpus.parsing.document import Parsed, Quarantined
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.reading import read_document
from mainstay.corpus.parsing.worker import serve


def misbehave(data: bytes, name: str, limits: ParseLimits) -> Parsed:
    action = _ACTIONS.get(name)
    if action is not None:
        raise Quarantined(f"{name}: {action(data.decode())}")
    return read_document(data, name, limits)


def loop(_: str) -> str:
    while True:
        pass


def sleep(_: str) -> str:
    time.sleep(3600)
    return "woke"


def hog(_: str) -> str:
    kept = []
    while True:
        kept.append(bytearray(8 * 1024 * 1024))


def crash(_: str) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "lives"


def leave(_: str) -> str:
    os._exit(3)


def tries(*attempts: object) -> str:
    """The names of the errors that attempts end in, or what they gave."""
    results = []
    for attempt in attempts:
        try:
            results.append(f"got {attempt()}")  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001  # whatever stops it is the answer
            results.append(type(error).__name__)
    return " ".join(results)


def connect(port: str) -> str:
    """By Python's socket, and around it by the C library."""

    def by_libc() -> str:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        address = (
            socket.AF_INET.to_bytes(2, sys.byteorder) + int(port).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
        )
        if libc.connect(fd, address, 16) != 0:
            raise OSError(ctypes.get_errno(), "refused")
        return "through"

    return tries(lambda: socket.create_connection(("127.0.0.1", int(port)), 2), by_libc)


def look(path: str) -> str:
    return tries(lambda: Path(path).read_text())


def write(path: str) -> str:
    return tries(lambda: Path(path).write_text("x"))


def environment(_: str) -> str:
    return " ".join(sorted(os.environ))


def _reply(payload: bytes) -> str:
    """Say something else than a document, on the pipe the worker answers by."""
    for fd in range(3, 12):
        try:
            os.write(fd, len(payload).to_bytes(8, "big") + payload)
        except OSError:
            continue
    os._exit(0)


def babble(_: str) -> str:
    return _reply(b"\xff\xfe not json")


def boast(_: str) -> str:
    for fd in range(3, 12):
        try:
            os.write(fd, (1 << 60).to_bytes(8, "big"))
        except OSError:
            continue
    time.sleep(3600)
    return ""


def lie(text: str) -> str:
    document = wire.encode(read_document(b"honest text", "x.txt", ParseLimits())) | {"text": text}
    return _reply(wire.to_bytes({"parsed": document}))


def deep(_: str) -> str:
    return _reply(b"[" * 200_000)


_ACTIONS = {
    action.__name__: action
    for action in (loop, sleep, hog, crash, leave, connect, look, write, environment, babble, boast, lie, deep)
}

if __name__ == "__main__":
    serve(misbehave)
