"""The port ModeLog over every database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import SQLAlchemyError

from mainstay.agreement import terms
from mainstay.clock import FixedClock
from mainstay.errors import MainstayError
from mainstay.resilience.ladder import Ladder
from mainstay.resilience.ports import ModeEvent, Order
from mainstay.storage.database import Database
from mainstay.storage.modes import SqlModes
from mainstay.types import Mode

NOW = FixedClock().now()


def event(n: int, after: Mode = Mode.ECONOMY) -> ModeEvent:
    return ModeEvent(
        event_id=f"mode_{n}",
        before=Mode.FULL,
        after=after,
        reason="breaker:groß",
        detail="3 failures „in a row“",
        by="automatic",
        at=NOW + timedelta(microseconds=n),
        process="host:1",
    )


def test_events_are_kept_once_and_come_newest_first(opened: Database) -> None:
    modes = SqlModes(opened)
    for n in range(5):
        modes.keep(event(n))
    modes.keep(event(3, after=Mode.STATIC))  # the answer of its commit got lost
    assert modes.events(3) == [event(4), event(3), event(2)]
    assert len(modes.events(100)) == 5


@pytest.mark.parametrize("until", [None, NOW + timedelta(hours=1)])
def test_an_order_stands_until_it_is_replaced_or_withdrawn(opened: Database, until: object) -> None:
    modes = SqlModes(opened)
    assert modes.ordered() is None
    first = Order(mode=Mode.STATIC, by="user:zoë", at=NOW, until=NOW + timedelta(hours=1) if until else None)
    modes.order(first, event(1))
    assert modes.ordered() == first
    second = Order(mode=Mode.FULL, by="user:bram", at=NOW)
    modes.order(second, event(2))
    assert SqlModes(opened).ordered() == second
    modes.order(None, event(3))
    assert modes.ordered() is None
    assert modes.events(9) == [event(3), event(2), event(1)]


def test_an_order_without_its_event_is_no_order(opened: Database) -> None:
    modes = SqlModes(opened)
    broken = event(1)
    object.__setattr__(broken, "detail", None)  # which the table refuses, after the order was written
    with pytest.raises((SQLAlchemyError, MainstayError)):
        modes.order(Order(mode=Mode.STATIC, by="user:zoë", at=NOW), broken)
    assert modes.ordered() is None
    assert modes.events(9) == []


def test_two_processes_follow_one_order(opened: Database) -> None:
    clock = FixedClock()
    one, two = (Ladder(terms.Ladder(), clock, SqlModes(opened), process=process) for process in ("host:1", "host:2"))
    assert two.current().mode is Mode.FULL
    one.order(Mode.SOURCES_ONLY, "user:zoë")
    clock.advance(timedelta(seconds=1))
    assert two.current().mode is Mode.SOURCES_ONLY
    assert {(kept.process, kept.after, kept.by) for kept in SqlModes(opened).events(9)} == {
        ("host:1", Mode.SOURCES_ONLY, "user:zoë"),
        ("host:2", Mode.SOURCES_ONLY, "user:zoë"),
    }
