"""Reading measures row by row: what is too young or too short to be known by the hour, and ranks found by a look at a sample.

So a million rows take seconds: ``hours`` keeps readers from needing to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Select, and_, cast, func, select, union_all

from mainstay.agreement.ports import Counts, Limit, Shares, Slice, Timing
from mainstay.records.measures import TURNED_AWAY
from mainstay.storage.rows import micros
from mainstay.storage.schema import measure

ANSWERS = "answer"  # the kind of requests that objectives are about
WIDEST_READ = 100_000
"""Ranks further apart than this are fetched one by one."""
STRIPES, OF_EACH = 32, 128
"""How a sample is taken: so many pieces of the time, and so many times out of each."""
FEW = 5_000
"""So many are sorted without looking at a sample first."""
MARGINS = (0.02, 0.1)
"""How far from where the sample has them ranks are looked for, as shares; then everywhere."""
_WORKED = measure.c.status != TURNED_AWAY
RAN = and_(measure.c.failed == 0, _WORKED)
"""A failure is quick or slow for reasons of its own: it counts as a failure, not as a time."""


def scan(
    connection: Connection, held: Slice, limits: Sequence[Limit]
) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
    """``Measures.read``, in one pass over the rows."""
    timed: list[Timing] = sorted({timing for timing, _ in limits})
    wanted = select(
        *sums(),
        *(many(measure.c[timing].is_not(None), RAN) for timing in timed),
        *(_late(timing, than_ms) for timing, than_ms in limits),
    ).where(*in_slice(held))
    row = connection.execute(hinted(connection, wanted, held)).one()
    whole = [0 if value is None else value for value in row]
    events = {timing: int(count) for timing, count in zip(timed, whole[SUMS:], strict=False)}
    late = whole[SUMS + len(timed) :]
    return counts_of(whole), {limit: (events[limit[0]], int(count)) for limit, count in zip(limits, late, strict=True)}


def sums() -> list[ColumnElement[Any]]:
    """What ``counts_of`` is made from, over rows."""
    return [
        func.count(),
        many(measure.c.status == TURNED_AWAY),
        many(measure.c.failed == 1, _WORKED),
        many(measure.c.cached == 1, _WORKED),
        func.sum(measure.c.cost_n),
        func.sum(cast(measure.c.cost_n, Double) * measure.c.cost_n),
        func.max(measure.c.cost_n),
        *_shares(measure.c.grounded),
        *_shares(measure.c.covered),
    ]


SUMS = 13


def counts_of(row: Sequence[Any]) -> Counts:
    """From a row that begins with ``sums``."""
    return Counts(
        requests=int(row[0]) - int(row[1]),
        turned_away=int(row[1]),
        failed=int(row[2]),
        cached=int(row[3]),
        cost=int(row[4]),
        cost_squares=float(row[5]),
        dearest=int(row[6]),
        grounded=Shares(events=int(row[7]), total=float(row[8]), some=int(row[9])),
        covered=Shares(events=int(row[10]), total=float(row[11]), some=int(row[12])),
    )


def scan_slower(connection: Connection, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
    """``Measures.slower``, in one pass over the rows."""
    wanted = select(func.count(measure.c[timing]), _late(timing, than_ms)).where(*in_slice(held), RAN)
    events, bad = connection.execute(hinted(connection, wanted, held)).one()
    return int(events), int(bad)


def rank_of_rows(connection: Connection, held: Slice, time: Any, ranks: Sequence[int], of: int | None) -> list[float]:
    """``Measures.ranked``. A sample says about where the ranks are. What lies there alone is put in order; that they are
    there is counted, not believed."""
    base = Times(held, time)
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


def in_slice(held: Slice) -> list[ColumnElement[bool]]:
    where = [measure.c.kind == ANSWERS, measure.c.at >= micros(held.since), measure.c.at < micros(held.until)]
    if held.team:
        where.append(measure.c.team == held.team)
    if held.door:
        where.append(measure.c.door == held.door)
    return where


def _late(timing: Timing, than_ms: float) -> ColumnElement[int]:
    return many(measure.c[timing] > than_ms, RAN)


def many(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows are so. What is rare stands first: a row that is not so costs no more than that."""
    return func.count().filter(*conditions)


def hinted(connection: Connection, wanted: Any, held: Slice) -> Any:
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


class Times:
    """The times of one slice, in order."""

    def __init__(self, held: Slice, time: Any) -> None:
        self._held, self._time = held, time
        self._where = [*in_slice(held), RAN, time.is_not(None)]

    def count(self, connection: Connection, *more: ColumnElement[bool]) -> int:
        wanted = select(func.count()).select_from(measure).where(*self._where, *more)
        return int(connection.scalar(hinted(connection, wanted, self._held)) or 0)

    def all(self, connection: Connection) -> list[float]:
        """In no order."""
        wanted = select(self._time).where(*self._where)
        return list(connection.scalars(hinted(connection, wanted, self._held)).all())

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
        values = list(connection.scalars(hinted(connection, wanted, self._held)))
        return values[::-1] if down else values

    def _sample(self, connection: Connection) -> list[float]:
        """Some out of every piece of the time, in order."""
        pieces = union_all(*(select(piece.subquery()) for piece in self._pieces()))
        return sorted(connection.scalars(pieces))

    def _pieces(self) -> Iterator[Select[Any]]:
        start, step = self._held.since, (self._held.until - self._held.since) / STRIPES
        for n in range(STRIPES):
            piece = replace(self._held, since=start + n * step, until=start + (n + 1) * step)
            wanted = select(self._time).where(*in_slice(piece), RAN, self._time.is_not(None))
            yield wanted.order_by(measure.c.at).limit(OF_EACH)


def _shares(share: Any) -> list[Any]:
    return [func.count(share), func.sum(share), many(share > 0)]
