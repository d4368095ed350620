"""The port Traces over every database."""

from __future__ import annotations

from datetime import timedelta

from mainstay.clock import FixedClock
from mainstay.records.traces import Trace
from mainstay.storage.database import Database
from mainstay.storage.traces import SqlTraces

NOW = FixedClock().now()


def made(n: int, asker: str = "user:alice", status: str = "answered") -> Trace:
    return Trace(
        request_id=f"req_{n}",
        at=NOW + timedelta(microseconds=n),
        asker=asker,
        kind="answer",
        status=status,
        spans=(),
        facts={"n": n, "text": "ä„\u2028"},
        operator={"cut_off": n},
    )


def test_kept_and_found(opened: Database) -> None:
    traces = SqlTraces(opened)
    traces.keep(made(1))
    assert traces.get("req_1") == made(1)
    assert traces.get("req_2") is None


def test_a_request_id_that_is_taken_keeps_its_journey(opened: Database) -> None:
    traces = SqlTraces(opened)
    traces.keep(made(1))
    traces.keep(made(1, asker="user:mallory", status="failed"))
    assert traces.get("req_1") == made(1)


def test_the_newest_first_and_only_ones_own(opened: Database) -> None:
    traces = SqlTraces(opened)
    for n in range(6):
        traces.keep(made(n, asker="user:bram" if n % 2 else "user:alice"))
    assert [trace.request_id for trace in traces.recent(asker="user:alice", limit=2)] == ["req_4", "req_2"]
    assert [trace.request_id for trace in traces.recent(asker=None, limit=9, before=made(2).at)] == ["req_1", "req_0"]
