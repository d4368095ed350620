"""Mainstay as real processes: started, asked over HTTP, killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

START_S = 60.0


@dataclass(frozen=True)
class Said:
    """An HTTP response (header names in small letters), and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float = 0.0

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str, *, key: str | None = None, body: object = None, method: str | None = None, timeout_s: float = 60.0
) -> Said:
    """One call; an error status is an answer like any other. Raises OSError when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    call = urllib.request.Request(url, data=data, headers=headers, method=method)
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(call, timeout=timeout_s) as said:
            return Said(said.status, _lower(said.headers), said.read(), time.monotonic() - begun)
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, _lower(error.headers), error.read(), time.monotonic() - begun)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass
class Process:
    """A command of Mainstay, running. ``lines`` is what it said on stderr."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _listener: threading.Thread | None = None

    @classmethod
    def start(
        cls, folder: Path, *arguments: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Self:
        """``before`` is put in front of the command: a program that runs it in other surroundings."""
        command = [*before, sys.executable, "-m", "mainstay", *arguments]
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MAINSTAY_FOLDER": str(folder), **(environment or {})},
        )
        started = cls(popen)
        started._listener = threading.Thread(target=started._listen, daemon=True)
        started._listener.start()
        return started

    def _listen(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines.append(line)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=60)
        finally:
            if self.popen.poll() is None:
                self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.stop()
        self.close()

    def close(self) -> None:
        """After its end: everything it said is in ``lines``."""
        if self._listener is not None:
            self._listener.join(timeout=10)
        if self.popen.stderr is not None:
            self.popen.stderr.close()


@dataclass
class Serving(Process):
    """``mainstay serve``, on a free port."""

    address: str = ""

    @classmethod
    def on(cls, folder: Path, **surroundings: Any) -> Self:
        started = cls.start(folder, "serve", "--host", "127.0.0.1", "--port", "0", **surroundings)
        until = time.monotonic() + START_S
        while time.monotonic() < until and started.popen.poll() is None:
            said = next((line for line in started.lines if line.startswith("serving ")), None)
            if said is not None:
                started.address = said.split()[1]
                return started
            time.sleep(0.02)
        started.kill()
        started.close()
        raise AssertionError(f"it does not serve: {''.join(started.lines)}")

    def get(self, path: str, key: str | None = None) -> Said:
        return request(self.address + path, key=key)

    def post(self, path: str, body: object, key: str | None = None) -> Said:
        return request(self.address + path, key=key, body=body)

    def ask(self, question: str, key: str | None = None) -> Said:
        return self.post("/v1/answers", {"question": question}, key)

    def events(self, question: str, key: str | None = None) -> Iterator[tuple[str, Any]]:
        """The events of a streamed answer as they come; ends, or raises OSError, when the connection does."""
        host, port = self.address.removeprefix("http://").split(":")
        body = json.dumps({"question": question, "stream": True}).encode()
        head = f"POST /v1/answers HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head.encode() + b"\r\n" + body)
            name = ""
            with connection.makefile("rb") as lines:
                for raw in lines:
                    line = raw.decode().rstrip("\r\n")
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))


def until(condition: Any, *, within_s: float, what: str) -> float:
    """Wait until the condition holds; how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < within_s:
        with suppress(OSError):
            if condition():
                return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {what}")
