"""Load from a process of its own, so that the client's work is never counted as the service's.

Open loop: requests are due at times fixed beforehand (exponential gaps of a seed) whether or not earlier ones were answered,
and latency counts from the time a request was due: a service that stalls can not hide behind a client that waits for it.
Closed loop: so many connections, each asking again as soon as it was answered; finds a capacity, measures no latency worth having.

    told = run(Plan(address, requests, rate=20, seconds=15))

Each request has four times (seconds from the start): due, sent (its last byte handed to the socket), first (byte of the
response) and end. ``latency_ms`` is end - due, ``service_ms`` is end - sent. Requests are bounded in count and in time; one
that was not answered within ``patience_s`` of being due counts with status 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MOST = 50_000  # requests of one run
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after:\s*([^\r]*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: its body, whose key it carries, and a name by which results are told apart."""

    path: str
    key: str
    body: str
    tag: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do. ``rate`` per second makes an open loop, ``clients`` without a rate a closed one. ``count`` is a pattern whose
    first group is counted over all bodies."""

    address: str
    requests: Sequence[Asked]
    seconds: float
    rate: float = 0.0
    clients: int = 0
    seed: int = 1
    connections: int = 512
    patience_s: float = 60.0
    count: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One request's end. ``retry_after`` is the header's text, empty when there was none."""

    tag: str
    status: int
    due: float
    sent: float
    first: float
    end: float
    retry_after: str

    @property
    def latency_ms(self) -> float:
        return (self.end - self.due) * 1000

    @property
    def first_ms(self) -> float:
        return (self.first - self.due) * 1000

    @property
    def service_ms(self) -> float:
        return (self.end - self.sent) * 1000

    @property
    def late_ms(self) -> float:
        """How long after it was due the client sent it: the client's own fault."""
        return (self.sent - self.due) * 1000


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run said. ``cpu_s`` is the client's own."""

    outcomes: tuple[Outcome, ...]
    counted: dict[str, int]
    cpu_s: float
    took_s: float
    samples: tuple[str, ...] = field(default=())  # the beginning of one body of each status, for whoever wonders


def run(plan: Plan) -> Told:
    """Run a plan in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        said, out = Path(folder) / "plan.json", Path(folder) / "told.json"
        said.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        command = [sys.executable, "-m", "bench._load", str(said), str(out)]
        subprocess.run(command, check=True, cwd=ROOT, timeout=plan.seconds + plan.patience_s + 60)
        told = json.loads(out.read_text(encoding="utf-8"))
    outcomes = tuple(
        Outcome(tag=tag, status=status, due=due, sent=sent, first=first, end=end, retry_after=again)
        for tag, status, due, sent, first, end, again in told["outcomes"]
    )
    return Told(
        outcomes=outcomes,
        counted=told["counted"],
        cpu_s=told["cpu_s"],
        took_s=told["took_s"],
        samples=tuple(told["samples"]),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else 0.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all below it have used, those that ended and were waited for included."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    waiting, total = [pid], 0.0
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0.0)
        waiting += parents.get(one, [])
    return total


# --- the process -----------------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, its response read to the end."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._at: int | None = None
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.usable = True

    def ask(self, at: int) -> None:
        self._at, self._parts, self._first = at, bytearray(), 0.0
        self._transport.write(self._load.raw[at % len(self._load.raw)])
        self._load.sent[at] = self._load.now()

    def data_received(self, data: bytes) -> None:
        if self._at is None:
            return
        self._first = self._first or self._load.now()
        self._parts += data
        head = self._parts.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._parts, 0, head)
        if length is not None:
            whole = len(self._parts) >= head + 4 + int(length[1])
        elif _CHUNKED.search(self._parts, 0, head):
            whole = self._parts.endswith(b"\r\n0\r\n\r\n")
        else:
            return  # ends with the connection
        if whole:
            self._done(head)

    def _done(self, head: int) -> None:
        at, self._at = self._at, None
        assert at is not None
        if _CLOSES.search(self._parts, 0, head):
            self.usable = False
            self._transport.close()
        again = _RETRY.search(self._parts, 0, head + 2)
        status = int(self._parts[9:12])
        self._load.ended(self, at, status, self._first, bytes(self._parts), again[1].decode() if again else "")

    def connection_lost(self, _: Exception | None) -> None:
        self.usable = False
        self._load.open -= 1
        if self._at is not None:
            head = self._parts.find(b"\r\n\r\n")
            if head >= 0 and not _LENGTH.search(self._parts, 0, head) and not _CHUNKED.search(self._parts, 0, head):
                self._done(head)
            else:
                at, self._at = self._at, None
                self._load.ended(self, at, 0, self._first, bytes(self._parts), "")
        self._load.room()


class _Load:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        host, _, port = plan.address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self.raw = [_raw(asked, plan.address) for asked in plan.requests]
        self._count = re.compile(plan.count.encode()) if plan.count else None
        self.counted: Counter[str] = Counter()
        self.samples: dict[int, str] = {}
        self.open = 0
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()  # due, but no connection is to be had
        self.due: list[float] = []
        self.sent: dict[int, float] = {}
        self.outcomes: dict[int, tuple[str, int, float, float, float, float, str]] = {}
        self._all = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed, self._over = plan.rate <= 0, False

    def now(self) -> float:
        return time.monotonic() - self._begun

    async def run(self) -> None:
        plan = self._plan
        self._begun = time.monotonic()
        if self._closed:
            for _ in range(plan.clients):
                self._go()
            await asyncio.sleep(plan.seconds)
        else:
            gaps, at = random.Random(plan.seed), 0.0
            times: list[float] = []
            while (at := at + gaps.expovariate(plan.rate)) < plan.seconds and len(times) < MOST:
                times.append(at)
            for at in times:
                if (early := at - self.now()) > 0:
                    await asyncio.sleep(early)
                self.due.append(at)
                self._send(len(self.due) - 1)
        self._over = True
        if len(self.outcomes) < len(self.due):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all.wait(), plan.patience_s)
        for at in range(len(self.due)):
            self.outcomes.setdefault(
                at, (self._tag(at), 0, self.due[at], self.sent.get(at, self.now()), 0.0, self.now(), "")
            )

    def _go(self) -> None:
        """The next request of a closed loop."""
        if not self._over and self.now() < self._plan.seconds and len(self.due) < MOST:
            self.due.append(self.now())
            self._send(len(self.due) - 1)

    def _tag(self, at: int) -> str:
        return self._plan.requests[at % len(self._plan.requests)].tag

    def _send(self, at: int) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.ask(at)
                return
        if self.open >= self._plan.connections:
            self._waiting.append(at)
            return
        self.open += 1
        task = asyncio.get_running_loop().create_task(self._connect(at))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def room(self) -> None:
        """A connection has gone: one that waits may open another."""
        if self._waiting and self.open < self._plan.connections:
            self._send(self._waiting.popleft())

    async def _connect(self, at: int) -> None:
        try:
            made = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError:
            self.open -= 1
            self.ended(None, at, 0, 0.0, b"", "")
            return
        made[1].ask(at)

    def ended(
        self, connection: _Connection | None, at: int, status: int, first: float, body: bytes, again: str
    ) -> None:
        now = self.now()
        if at not in self.outcomes:
            self.outcomes[at] = (self._tag(at), status, self.due[at], self.sent.get(at, now), first or now, now, again)
        if self._count is not None:
            self.counted.update(found.decode() for found in self._count.findall(body))
        if status not in self.samples:
            self.samples[status] = body[:1200].decode("utf-8", "replace")
        if connection is not None and connection.usable:
            if self._waiting:
                connection.ask(self._waiting.popleft())
            else:
                self._idle.append(connection)
        if self._closed:
            self._go()
        if self._over and len(self.outcomes) >= len(self.due):
            self._all.set()


def _raw(asked: Asked, address: str) -> bytes:
    body = asked.body.encode()
    head = (
        f"POST {asked.path} HTTP/1.1\r\nHost: {address.removeprefix('http://')}\r\nAuthorization: Bearer {asked.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _plan(said: dict[str, Any]) -> Plan:
    return Plan(**{**said, "requests": [Asked(**asked) for asked in said["requests"]]})


async def _run(plan: Plan) -> _Load:
    load = _Load(plan)
    await load.run()
    return load


def _main(said: Path, out: Path) -> None:
    plan = _plan(json.loads(said.read_text(encoding="utf-8")))
    before, begun = time.process_time(), time.monotonic()
    load = asyncio.run(_run(plan))
    told = {
        "outcomes": [load.outcomes[at] for at in range(len(load.due))],
        "counted": dict(load.counted),
        "cpu_s": time.process_time() - before,
        "took_s": time.monotonic() - begun,
        "samples": [f"{status}: {body}" for status, body in sorted(load.samples.items())],
    }
    out.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
