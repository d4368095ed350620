"""What was measured, in SQL: a row a request, read as sums and ranks so that a million rows take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, and_, case, cast, delete, func, select

from mainstay.agreement.budgets import window
from mainstay.agreement.ports import Counts, Shares, Slice, Spent, Timing
from mainstay.agreement.terms import Payer, Period
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.rows import micros
from mainstay.storage.schema import cache_audit, measure, money_scope

ANSWERS = "answer"  # the kind of requests that objectives are about
WIDEST_READ = 100_000
"""Ranks further apart than this are fetched one by one."""
_KINDS: dict[Payer, tuple[str, ...]] = {"service": (), "team": ("group",), "user": ("user", "service"), "key": ()}
_WORKED = and_(measure.c.kind == ANSWERS, measure.c.status != TURNED_AWAY)


def put_measure(connection: Connection, measured: Measured) -> None:
    """Write one row in an open transaction; a request id that is taken keeps the row it has."""
    _PUT.run(
        connection,
        {
            "request_id": measured.request_id,
            "at": micros(measured.at),
            "kind": measured.kind,
            "door": measured.door,
            "principal": measured.principal,
            "team": measured.team,
            "status": measured.status,
            "mode": measured.mode,
            "model": measured.model,
            "release": measured.release,
            "failed": int(measured.failed),
            "cached": int(measured.cached),
            "total_ms": measured.total_ms,
            "first_ms": measured.first_ms,
            "cost_n": measured.cost_nanodollars,
            "grounded": measured.grounded,
            "covered": measured.covered,
        },
    )


_PUT = Hot(lambda connection: upsert(connection, measure).on_conflict_do_nothing(), columns=measure.c.keys())


class SqlMeasures:
    """``agreement.ports.Measures`` and ``Spending`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def keep(self, measured: Measured) -> None:
        """Write one row in a transaction of its own."""
        with self._db.write(alone=False, durable=False) as connection:
            put_measure(connection, measured)

    def keep_all(self, measured: Sequence[Measured]) -> None:
        """Several at once: of requests that were turned away, which cost as little as they can."""
        with self._db.write(alone=False, durable=False) as connection:
            for one in measured:
                put_measure(connection, one)

    def prune(self, before: datetime) -> int:
        """Delete what is older; returns how many rows."""
        with self._db.write(alone=False, durable=False) as connection:
            return int(connection.execute(delete(measure).where(measure.c.at < micros(before))).rowcount)

    def counts(self, held: Slice) -> Counts:
        worked, cost = case((_WORKED, 1), else_=0), cast(measure.c.cost_n, Double)
        wanted = select(
            func.sum(worked),
            func.sum(1 - worked),
            func.sum(measure.c.failed * worked),
            func.sum(measure.c.cached * worked),
            func.sum(measure.c.cost_n),
            func.sum(cost * cost),
            func.max(measure.c.cost_n),
            *_shares(measure.c.grounded),
            *_shares(measure.c.covered),
        ).where(*_in(held))
        with self._db.read() as connection:
            row = connection.execute(wanted).one()
        whole = [0 if value is None else value for value in row]
        return Counts(
            requests=int(whole[0]),
            turned_away=int(whole[1]),
            failed=int(whole[2]),
            cached=int(whole[3]),
            cost=int(whole[4]),
            cost_squares=float(whole[5]),
            dearest=int(whole[6]),
            grounded=Shares(events=int(whole[7]), total=float(whole[8]), some=int(whole[9])),
            covered=Shares(events=int(whole[10]), total=float(whole[11]), some=int(whole[12])),
        )

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        time = measure.c[timing]
        late = func.sum(case((time > than_ms, 1), else_=0))
        wanted = select(func.count(), late).where(*_in(held), *_timed(time))
        with self._db.read() as connection:
            events, bad = connection.execute(wanted).one()
        return int(events), int(bad or 0)

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int]) -> list[float]:
        """One sorted read of what lies between the lowest and the highest rank, from the nearer end: the database keeps no
        more rows in order than up to there."""
        if not ranks:
            return []
        time = measure.c[timing]
        base = select(time).where(*_in(held), *_timed(time))
        low, high = min(ranks), max(ranks)
        with self._db.read() as connection:
            if high - low > WIDEST_READ:
                found = {rank: connection.scalar(base.order_by(time).offset(rank - 1).limit(1)) for rank in set(ranks)}
                return [float(value) for rank in ranks if (value := found[rank]) is not None]
            events = int(connection.scalar(select(func.count()).where(*_in(held), *_timed(time))) or 0)
            high = min(high, events)
            if low - 1 <= events - high:
                read = base.order_by(time).offset(low - 1).limit(high - low + 1)
                values = list(connection.scalars(read))
            else:
                read = base.order_by(time.desc()).offset(events - high).limit(high - low + 1)
                values = list(connection.scalars(read))[::-1]
        return [float(values[rank - low]) for rank in ranks if 0 <= rank - low < len(values)]

    def audits(self, since: datetime, until: datetime) -> tuple[int, int]:
        wanted = select(func.count(), func.sum(1 - cache_audit.c.agreed)).where(
            cache_audit.c.served == 1, cache_audit.c.at >= micros(since), cache_audit.c.at < micros(until)
        )
        with self._db.read() as connection:
            events, wrong = connection.execute(wanted).one()
        return int(events), int(wrong or 0)

    def spent(self, of: Payer, per: Period, name: str, at: datetime) -> Spent:
        start, end = window(per, at)
        used = money_scope.c.settled_n + money_scope.c.held_n
        where = [money_scope.c.kind == of, money_scope.c.window_start == micros(start)]
        where.append(money_scope.c.window_end.is_(None) if end is None else money_scope.c.window_end == micros(end))
        if name:
            where.append(money_scope.c.name.in_([name, *(f"{kind}:{name}" for kind in _KINDS[of])]))
        with self._db.read() as connection:
            purses, empty = connection.execute(
                select(func.count(), func.sum(case((used >= money_scope.c.limit_n, 1), else_=0))).where(*where)
            ).one()
            most = connection.execute(
                select(money_scope).where(*where).order_by(used.desc(), money_scope.c.name).limit(1)
            ).first()
        if most is None:
            return Spent()
        return Spent(
            purses=int(purses),
            empty=int(empty or 0),
            name=most.name,
            limit=most.limit_n,
            settled=most.settled_n,
            held=most.held_n,
        )


def _in(held: Slice) -> list[ColumnElement[bool]]:
    where = [measure.c.kind == ANSWERS, measure.c.at >= micros(held.since), measure.c.at < micros(held.until)]
    if held.team:
        where.append(measure.c.team == held.team)
    if held.door:
        where.append(measure.c.door == held.door)
    return where


def _timed(time: Any) -> list[ColumnElement[bool]]:
    """A failure is quick or slow for reasons of its own: it counts as a failure, not as a time."""
    return [measure.c.status != TURNED_AWAY, measure.c.failed == 0, time.is_not(None)]


def _shares(share: Any) -> list[Any]:
    return [func.count(share), func.sum(share), func.sum(case((share > 0, 1), else_=0))]
