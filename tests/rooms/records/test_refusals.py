"""Failed sign-ins: each counted, none able to fill the log."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from mainstay.clock import FixedClock
from mainstay.errors import Unavailable
from mainstay.records.audit import AuditEntry, Event, reason
from mainstay.records.audit.refusals import MOST_NAMES, OTHERS, REFUSED, Refusals

DAY_S = 24 * 3600


class Log:
    """What was recorded."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.away = False

    def record(self, *entries: AuditEntry) -> None:
        if self.away:
            raise Unavailable("the database is away")
        self.entries += entries

    def seen(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(entry.subject, entry.details) for entry in self.entries]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("action", "why", "details", "said"),
    [
        (
            "session.ended",
            "",
            {"because": "signed_out", "sessions": 1, "with": ["password"]},
            "because: signed_out; with: password",
        ),
        (
            "session.ended",
            "",
            {"because": "password", "sessions": 3, "with": ["key", "password"]},
            "because: password; 3 sessions; with: key, password",
        ),
        (REFUSED, "", {"tries": 400, "with": ["password"], "since": "2026-01-31"}, "tries: 400; with: password"),
        (
            REFUSED,
            "",
            {"tries": 9, "limited": 2, "unknown": 4, "with": ["key"]},
            "tries: 9; limited: 2; unknown: 4; with: key",
        ),
        (REFUSED, "", {}, ""),  # erased
        ("user.removed", "she left", {"because": "x"}, "she left"),
        ("session.started", "", {"with": "password"}, ""),
    ],
)
def test_why_in_a_line(clock: FixedClock, action: str, why: str, details: Mapping[str, Any], said: str) -> None:
    event = Event(
        n=1,
        at=clock.now(),
        action=action,
        subject="user:alice",
        actor="user:alice",
        via="",
        why=why,
        request_id="",
        details=details,
        before="",
        after="",
        erased=not details,
        leaf="",
    )
    assert reason(event) == said


def test_one_name_is_one_event_a_minute(log: Log, clock: FixedClock) -> None:
    refusals = Refusals(log.record, clock)
    refusals.failed("user:alice", "password")
    assert log.entries == []  # written by the thread that looks: whoever fails waits for nothing
    refusals.look()
    assert log.seen() == [("user:alice", {"tries": 1, "with": ["password"]})]
    assert log.entries[0].action == REFUSED
    began = clock.now()
    for _ in range(7):
        refusals.failed("user:alice", "password")
        clock.advance(timedelta(seconds=8))
        refusals.look()
    assert len(log.entries) == 1
    clock.advance(timedelta(seconds=8))
    refusals.look()
    assert log.seen()[1] == ("user:alice", {"tries": 7, "with": ["password"], "since": began.isoformat()})
    clock.advance(timedelta(hours=1))
    refusals.look()
    assert len(log.entries) == 2


def test_names_that_nobody_has_are_numbers_alone(log: Log, clock: FixedClock) -> None:
    refusals = Refusals(log.record, clock)
    for _ in range(3):
        refusals.failed("", "password")
    refusals.failed("", "key", limited=True)
    refusals.look()
    (entry,) = log.entries
    assert entry.subject == OTHERS
    assert entry.details == {
        "tries": 4,
        "with": ["key", "password"],
        "since": clock.now().isoformat(),
        "limited": 1,
        "unknown": 4,
    }


@pytest.mark.parametrize("names", [0, 1, 500, 3 * MOST_NAMES])
def test_a_day_of_floods_is_fewer_than_900_events_and_every_try_is_counted(
    log: Log, clock: FixedClock, names: int
) -> None:
    refusals, tried = Refusals(log.record, clock), 0
    step = 20  # seconds
    for n in range(DAY_S // step):
        for who in range(min(names, 40) or 1):
            refusals.failed(f"user:{(n * 40 + who) % names}" if names else "", "password")
            tried += 1
        refusals.look()
        clock.advance(timedelta(seconds=step))
    refusals.close()
    assert sum(entry.details["tries"] for entry in log.entries) == tried
    assert len(log.entries) < 900
    assert max(len(str(entry)) for entry in log.entries) < 1000


def test_a_log_that_can_not_be_written_is_told_later(
    log: Log, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals(log.record, clock)
    refusals.failed("user:alice", "password")
    refusals.failed("", "password")
    log.away = True
    with pytest.raises(Unavailable):
        refusals.look()
    refusals.failed("user:alice", "token")
    log.away = False
    refusals.look()
    assert [(who, held["tries"]) for who, held in log.seen()] == [("user:alice", 2), (OTHERS, 1)]
    log.away = True
    refusals.failed("user:bob", "password")
    refusals.close()
    assert "1 failed sign-ins are not in the audit log" in caplog.text


def test_the_end_of_a_process_writes_what_waits(log: Log, clock: FixedClock) -> None:
    refusals = Refusals(log.record, clock)
    refusals.failed("user:alice", "password")
    refusals.look()
    refusals.failed("user:alice", "password")
    refusals.close()
    assert [held["tries"] for _, held in log.seen()] == [1, 1]


def test_no_try_is_lost_between_threads(log: Log, clock: FixedClock) -> None:
    refusals = Refusals(log.record, clock)

    def fail(n: int) -> None:
        for k in range(500):
            refusals.failed(f"user:{(n + k) % 7}" if k % 3 else "", "password")
            if k % 50 == 0:
                refusals.look()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, range(4)))
    refusals.close()
    assert sum(entry.details["tries"] for entry in log.entries) == 2000
