"""What was measured, in SQL: a row a request, read as sums and ranks so that a million rows take seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Select, and_, case, cast, delete, func, select, union_all

from mainstay.agreement.budgets import window
from mainstay.agreement.ports import Counts, Limit, Shares, Slice, Spent, Timing
from mainstay.agreement.terms import Payer, Period
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.rows import micros
from mainstay.storage.schema import cache_audit, measure, money_scope

ANSWERS = "answer"  # the kind of requests that objectives are about
WIDEST_READ = 100_000
"""Ranks further apart than this are fetched one by one."""
STRIPES, OF_EACH = 32, 128
"""How a sample is taken: so many pieces of the time, and so many times out of each."""
FEW = 5_000
"""So many are sorted without looking at a sample first."""
MARGINS = (0.02, 0.1)
"""How far from where the sample has them ranks are looked for, as shares; then everywhere."""
_KINDS: dict[Payer, tuple[str, ...]] = {"service": (), "team": ("group",), "user": ("user", "service"), "key": ()}
_WORKED = measure.c.status != TURNED_AWAY
_RAN = and_(measure.c.failed == 0, _WORKED)
"""A failure is quick or slow for reasons of its own: it counts as a failure, not as a time."""


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
        return self.read(held, ())[0]

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
        timed: list[Timing] = sorted({timing for timing, _ in limits})
        wanted = select(
            func.count(),
            _many(measure.c.status == TURNED_AWAY),
            _many(measure.c.failed == 1, _WORKED),
            _many(measure.c.cached == 1, _WORKED),
            func.sum(measure.c.cost_n),
            func.sum(cast(measure.c.cost_n, Double) * measure.c.cost_n),
            func.max(measure.c.cost_n),
            *_shares(measure.c.grounded),
            *_shares(measure.c.covered),
            *(_many(measure.c[timing].is_not(None), _RAN) for timing in timed),
            *(_late(timing, than_ms) for timing, than_ms in limits),
        ).where(*_in(held))
        with self._db.read() as connection:
            row = connection.execute(_scanned(connection, wanted, held)).one()
        whole = [0 if value is None else value for value in row]
        events = {timing: int(count) for timing, count in zip(timed, whole[13:], strict=False)}
        late = whole[13 + len(timed) :]
        return Counts(
            requests=int(whole[0]) - int(whole[1]),
            turned_away=int(whole[1]),
            failed=int(whole[2]),
            cached=int(whole[3]),
            cost=int(whole[4]),
            cost_squares=float(whole[5]),
            dearest=int(whole[6]),
            grounded=Shares(events=int(whole[7]), total=float(whole[8]), some=int(whole[9])),
            covered=Shares(events=int(whole[10]), total=float(whole[11]), some=int(whole[12])),
        ), {limit: (events[limit[0]], int(count)) for limit, count in zip(limits, late, strict=True)}

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        wanted = select(func.count(measure.c[timing]), _late(timing, than_ms)).where(*_in(held), _RAN)
        with self._db.read() as connection:
            events, bad = connection.execute(_scanned(connection, wanted, held)).one()
        return int(events), int(bad)

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        """A sample says about where the ranks are. What lies there alone is put in order; that they are there is counted,
        not believed."""
        time = measure.c[timing]
        base = _Times(held, time)
        with self._db.read() as connection:
            events = base.count(connection) if of is None else of
            wanted = sorted({rank for rank in ranks if 1 <= rank <= events})
            if not wanted:
                return []
            low, high = wanted[0], wanted[-1]
            if high - low > WIDEST_READ:
                found = {rank: value for rank in wanted for value in base.between(connection, rank, rank, events)}
            else:
                values = base.between(connection, low, high, events)
                found = {rank: values[rank - low] for rank in wanted if rank - low < len(values)}
        return [float(found[rank]) for rank in ranks if rank in found]

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


def _late(timing: Timing, than_ms: float) -> ColumnElement[int]:
    return _many(measure.c[timing] > than_ms, _RAN)


def _many(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows are so. What is rare stands first: a row that is not so costs no more than that."""
    return func.count().filter(*conditions)


def _scanned(connection: Connection, wanted: Any, held: Slice) -> Any:
    """Without the index by time where most of the table is wanted: SQLite does not see that by itself, and looks up row by
    row."""
    if connection.dialect.name != "sqlite":
        return wanted
    first, last = (connection.scalar(select(end(measure.c.at))) for end in (func.min, func.max))
    if first is None or last is None:
        return wanted
    since, until = micros(held.since) or 0, micros(held.until) or 0
    most = 2 * (min(until, last) - max(since, first)) > last - first
    return wanted.with_hint(measure, "NOT INDEXED", "sqlite") if most else wanted


class _Times:
    """The times of one slice, in order."""

    def __init__(self, held: Slice, time: Any) -> None:
        self._held, self._time = held, time
        self._where = [*_in(held), _RAN, time.is_not(None)]

    def count(self, connection: Connection, *more: ColumnElement[bool]) -> int:
        wanted = select(func.count()).select_from(measure).where(*self._where, *more)
        return int(connection.scalar(_scanned(connection, wanted, self._held)) or 0)

    def between(self, connection: Connection, low: int, high: int, events: int) -> list[float]:
        """Those at ranks ``low`` to ``high`` of ``events``."""
        if events > FEW:
            sample = self._sample(connection)
            for margin in MARGINS:
                values = self._around(connection, low, high, events, sample, margin)
                if values is not None:
                    return values
        return self._sorted(connection, low, high, events)

    def _around(
        self, connection: Connection, low: int, high: int, events: int, sample: Sequence[float], margin: float
    ) -> list[float] | None:
        """The same, looked for near where the sample has them; None when they are not there."""
        if not sample:
            return None
        first = math.floor((low / events - margin) * len(sample))
        last = math.ceil((high / events + margin) * len(sample))
        above = self._time >= sample[first] if first >= 0 else None
        below = self._time <= sample[last] if last < len(sample) else None
        wanted = high - low + 1
        if above is not None and 8 * (events - low) < events:  # from the upper end: nothing needs to be counted
            values = self._read(connection, events - high, wanted, above, down=True)
        elif below is not None and 8 * high < events:
            values = self._read(connection, low - 1, wanted, below)
        else:
            less = 0 if above is None else self.count(connection, self._time < sample[first])
            if less >= low:
                return None
            values = self._read(connection, low - 1 - less, wanted, *(one for one in (above, below) if one is not None))
        return values if len(values) == wanted else None

    def _sorted(self, connection: Connection, low: int, high: int, events: int) -> list[float]:
        """From the nearer end: the database keeps no more of them in order than up to there."""
        high = min(high, events)
        if low - 1 <= events - high:
            return self._read(connection, low - 1, high - low + 1)
        return self._read(connection, events - high, high - low + 1, down=True)

    def _read(
        self, connection: Connection, skipped: int, count: int, *more: ColumnElement[bool] | None, down: bool = False
    ) -> list[float]:
        wanted = select(self._time).where(*self._where, *(one for one in more if one is not None))
        wanted = wanted.order_by(self._time.desc() if down else self._time).offset(skipped).limit(count)
        values = list(connection.scalars(_scanned(connection, wanted, self._held)))
        return values[::-1] if down else values

    def _sample(self, connection: Connection) -> list[float]:
        """Some out of every piece of the time, in order."""
        pieces = union_all(*(select(piece.subquery()) for piece in self._pieces()))
        return sorted(connection.scalars(pieces))

    def _pieces(self) -> Iterator[Select[Any]]:
        start, step = self._held.since, (self._held.until - self._held.since) / STRIPES
        for n in range(STRIPES):
            piece = replace(self._held, since=start + n * step, until=start + (n + 1) * step)
            wanted = select(self._time).where(*_in(piece), _RAN, self._time.is_not(None))
            yield wanted.order_by(measure.c.at).limit(OF_EACH)


def _shares(share: Any) -> list[Any]:
    return [func.count(share), func.sum(share), _many(share > 0)]
