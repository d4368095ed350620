"""What was measured, by the hour: added up once from the rows, so that a month is read as some hundred rows.

An hour is added up when somebody looks at it and it has been over for ``CLOSED_AFTER``. The rows stay the truth: what stands
here follows from them alone, and equals what reading them gives (sums of floats but for their last digits). A row that comes
late takes its hour's sums away in its own transaction; whoever looks next adds them up again. Who adds up and who takes away
wait for each other; who writes a row of this hour, which nobody adds up yet, waits for nobody.

Times are kept in order, in pieces with their least and their greatest: how many exceed a limit needs a look into one piece of
each hour, the time at a rank a look into a few. Both are exact.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
)

from mainstay.agreement.ports import Counts, Limit, Shares, Slice, Timing
from mainstay.errors import Unavailable
from mainstay.storage.database import Database
from mainstay.storage.hot import Hot
from mainstay.storage.rows import micros, moment
from mainstay.storage.scans import ANSWERS, RAN, SUMS, counts_of, in_slice, sums
from mainstay.storage.schema import measure, measure_hour, measure_release, measure_times

HOUR = 3600 * 1_000_000
CLOSED_AFTER = 15 * 60 * 1_000_000
"""So long an hour must be over, by the database's clock, before it is added up. A process whose own clock is further behind
writes rows that nobody notices to be late."""
LATE_AFTER = 60 * 1_000_000
"""A row that is written so long after its hour may find it added up. What lies between this and ``CLOSED_AFTER`` is far more
than a transaction may last."""
EVERY = "*"
"""For team and door: the whole hour. That row says that the hour was added up."""
AT_ONCE = 5_000
"""Rows that one transaction adds up, or those of one hour: SQLite lets nobody else write meanwhile."""
PIECES, LEAST_PIECE = 64, 64
"""In how many pieces the times of an hour are cut at most, and how many are in one at least."""
MOST_RUNS = 40
"""Hours that lie scattered are read row by row."""
TIMINGS: tuple[Timing, ...] = ("total_ms", "first_ms")
_LOCK = 0x686F7572  # the advisory lock of who changes these tables
_COLUMNS = [column.name for column in measure_hour.columns][3:]
# No parameter: what is selected and what is grouped by must be one and the same.
_BY_HOUR = measure.c.at - measure.c.at % literal_column(str(HOUR))
_TABLES = (measure_hour, measure_release, measure_times)
_FORGET = [Hot(delete(table).where(table.c.hour == bindparam("hour"))) for table in _TABLES]

Range = tuple[int, int]
Floats = npt.NDArray[np.float64]


# -- writing -----------------------------------------------------------------------------------------------------------


def noticed(connection: Connection, at: int) -> None:
    """A row of this time was written in this transaction: if it is late, its hour is to be added up anew."""
    hour = _begin(at)
    if time.time_ns() // 1000 >= hour + HOUR + LATE_AFTER:
        _take_turn(connection)
        first, *others = _FORGET
        if first.run(connection, {"hour": hour}).rowcount:  # it was added up
            for statement in others:
                statement.run(connection, {"hour": hour})


def forget(connection: Connection, before: int) -> None:
    """Rows older than this are deleted in this transaction."""
    _take_turn(connection)
    for table in _TABLES:
        connection.execute(delete(table).where(table.c.hour < before))


def _take_turn(connection: Connection) -> None:
    """Until the end of the transaction nobody else changes these tables. On SQLite nobody does so anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key, hashtext(current_schema()))"), {"key": _LOCK})


def add_up(database: Database, lacking: Sequence[int], most: int) -> None:
    """Add up these hours, the latest first, until ``most`` rows were read. Where nothing can be written it is left."""
    read = 0
    try:
        for first, last in reversed(list(_runs(lacking))):
            while last > first and read < most:
                with database.write(alone=False, durable=False) as connection:
                    _take_turn(connection)
                    low = max(first, _some(connection, first, last))
                    over = _begin(database.now(connection) - CLOSED_AFTER)
                    read += _add_up(connection, low, min(last, over))
                last = low
    except Unavailable:
        return  # who reads does without: row by row


def _some(connection: Connection, first: int, last: int) -> int:
    """The hour from which on there are about ``AT_ONCE`` rows up to ``last``."""
    wanted = select(measure.c.at).where(measure.c.at >= first, measure.c.at < last)
    at = connection.scalar(wanted.order_by(measure.c.at.desc()).offset(AT_ONCE).limit(1))
    return first if at is None else min(_begin(at) + HOUR, last - HOUR)


def _add_up(connection: Connection, low: int, high: int) -> int:
    """Add up the hours from ``low`` to ``high`` that are not; how many rows that were."""
    known = set(connection.scalars(_known(low, high)))
    new = [hour for hour in range(low, high, HOUR) if hour not in known]
    if not new:
        return 0
    where = [measure.c.kind == ANSWERS, measure.c.at >= low, measure.c.at < high]
    hour = _BY_HOUR.label("hour")
    grouped = select(hour, measure.c.team, measure.c.door, *sums()).where(*where)
    totals = dict.fromkeys(new, _EMPTY)
    rows = []
    for held in connection.execute(grouped.group_by(hour, measure.c.team, measure.c.door)):
        at = int(held[0])
        if at in totals:
            counts = counts_of([0 if value is None else value for value in held[3:]])
            totals[at] = plus(totals[at], counts)
            rows.append(_row(at, held[1], held[2], counts))
    connection.execute(insert(measure_hour), [*rows, *(_row(at, EVERY, EVERY, held) for at, held in totals.items())])
    _add_releases(connection, where, totals.keys())
    times = _pieces(connection, where, totals.keys())
    if times:
        connection.execute(insert(measure_times), times)
    return sum(held.requests + held.turned_away for held in totals.values())


def _row(hour: int, team: str, door: str, held: Counts) -> dict[str, Any]:
    numbers: list[float] = [held.requests + held.turned_away, held.turned_away, held.failed, held.cached, held.cost]
    numbers += [held.cost_squares, held.dearest]
    for shares in (held.grounded, held.covered):
        numbers += [shares.events, shares.total, shares.some]
    return {"hour": hour, "team": team, "door": door, **dict(zip(_COLUMNS, numbers, strict=True))}


def _add_releases(connection: Connection, where: Sequence[Any], hours: Iterable[int]) -> None:
    """The rows of ``measure_release`` of these hours."""
    hour, wanted = _BY_HOUR.label("hour"), set(hours)
    read = select(hour, measure.c.release, func.min(measure.c.at)).where(*where, measure.c.release != "")
    found = [
        {"hour": int(at), "release": release, "at": first}
        for at, release, first in connection.execute(read.group_by(hour, measure.c.release))
        if at in wanted
    ]
    if found:
        connection.execute(insert(measure_release), found)


def _pieces(connection: Connection, where: Sequence[Any], hours: Iterable[int]) -> list[dict[str, Any]]:
    """The rows of ``measure_times`` of these hours."""
    found: dict[tuple[int, str, str], list[Any]] = defaultdict(list)
    hour = _BY_HOUR.label("hour")
    read = select(hour, measure.c.team, measure.c.door, measure.c.total_ms, measure.c.first_ms).where(*where, RAN)
    for row in connection.execute(read).all():
        found[row[:3]].append(row)
    timed: dict[tuple[int, str, str, Timing], list[Floats]] = defaultdict(list)
    wanted = set(hours)
    for (at, team, door), rows in found.items():
        if at in wanted:
            for place, timing in enumerate(TIMINGS, start=3):
                values = np.array([row[place] for row in rows if row[place] is not None], dtype="<f8")
                if len(values):
                    timed[at, team, door, timing].append(values)
                    timed[at, EVERY, EVERY, timing].append(values)
    return [
        {
            **dict(zip(("hour", "team", "door", "timing"), key, strict=True)),
            "n": n,
            "low": float(piece[0]),
            "high": float(piece[-1]),
            "many": len(piece),
            "times": piece.tobytes(),
        }
        for key, values in timed.items()
        for n, piece in enumerate(_cut(np.sort(np.concatenate(values))))
    ]


def _cut(values: Floats) -> Iterator[Floats]:
    size = max(LEAST_PIECE, math.ceil(len(values) / PIECES))
    return (values[start : start + size] for start in range(0, len(values), size))


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A slice as ranges of hours that are added up, and the rest, which is read row by row. ``lacking`` are hours of the
    rest that could be added up."""

    held: Slice
    hours: tuple[Range, ...] = ()
    rest: tuple[Slice, ...] = ()
    lacking: tuple[int, ...] = ()


def divided(connection: Connection, held: Slice) -> Parts:
    """As the database is in this transaction."""
    since, until = micros(held.since) or 0, micros(held.until) or 0
    oldest = connection.scalar(select(func.min(measure.c.at)))
    if oldest is None:
        return Parts(held=held, rest=(held,))
    since = max(since, _begin(oldest))  # nothing lies before
    first, last = _begin(since + HOUR - 1), _begin(until)
    if first >= last:
        return Parts(held=held, rest=(held,))
    many = connection.scalar(_known(first, last).with_only_columns(func.count()))
    if many == (last - first) // HOUR:
        return Parts(held=held, hours=((first, last),), rest=_rest(held, [(since, first), (last, until)]))
    known = set(connection.scalars(_known(first, last)))
    over = closed()
    hours = tuple(_runs(sorted(known)))
    if len(hours) > MOST_RUNS:
        hours = ()
    edges = [since, *(edge for range_ in hours for edge in range_), until]
    return Parts(
        held=held,
        hours=hours,
        rest=_rest(held, list(pairwise(edges))[::2]),
        lacking=tuple(hour for hour in range(first, min(last, over), HOUR) if hour not in known),
    )


def closed() -> int:
    """The end of the last hour that may be added up now."""
    return _begin(time.time_ns() // 1000 - CLOSED_AFTER)


def lacking(connection: Connection, last: int) -> tuple[int, ...]:
    """All hours up to this one that are not added up."""
    first = connection.scalar(select(func.min(measure.c.at)))
    if first is None:
        return ()
    known = set(connection.scalars(_known(_begin(first), last)))
    return tuple(hour for hour in range(_begin(first), last, HOUR) if hour not in known)


def counted(connection: Connection, parts: Parts) -> Counts:
    """``Measures.counts`` of the hours that are added up."""
    if not parts.hours:
        return _EMPTY
    many, *most = (measure_hour.c[name] for name in _COLUMNS)
    columns = [func.max(one) if one is measure_hour.c.dearest else func.sum(one) for one in (many, *most)]
    row = connection.execute(select(*columns).where(*_in(measure_hour, parts))).one()
    return counts_of([0 if value is None else value for value in row])


def slower(connection: Connection, parts: Parts, limit: Limit) -> tuple[int, int]:
    """``Measures.slower`` of the hours that are added up."""
    if not parts.hours:
        return 0, 0
    (timing, than_ms), piece = limit, measure_times.c
    where = [piece.timing == timing, *_in(measure_times, parts)]
    wanted = select(func.sum(piece.many), func.sum(piece.many).filter(piece.low > than_ms)).where(*where)
    events, bad = connection.execute(wanted).one()
    split = connection.scalars(select(piece.times).where(*where, piece.low <= than_ms, piece.high > than_ms)).all()
    over = sum(int(np.count_nonzero(_times(held) > than_ms)) for held in split)
    return int(events or 0), int(bad or 0) + over


def releases(connection: Connection, since: int) -> dict[str, int]:
    """Releases that answered since then, and when each did so first."""
    last = connection.scalar(select(func.max(measure.c.at)))
    if last is None:
        return {}
    parts = divided(connection, Slice(since=_moment(since), until=_moment(last + 1)))
    found: dict[str, int] = {}
    asked = [
        select(measure.c.release, func.min(measure.c.at))
        .where(*in_slice(rest), measure.c.release != "")
        .group_by(measure.c.release)
        for rest in parts.rest
    ]
    if parts.hours:
        held = measure_release.c
        asked.append(select(held.release, func.min(held.at)).where(_within(held.hour, parts)).group_by(held.release))
    for wanted in asked:
        for release, at in connection.execute(wanted):
            found[release] = min(at, found.get(release, at))
    return found


class Ranks:
    """The times of hours that are added up and ``more``, by rank."""

    def __init__(self, connection: Connection, parts: Parts, timing: Timing, more: Sequence[float]) -> None:
        self._connection, self._more = connection, np.array(more, dtype=np.float64)
        piece = measure_times.c
        self._where = [piece.timing == timing, *_in(measure_times, parts)]
        wanted = select(piece.low, piece.high, piece.many).where(*self._where)
        rows = connection.execute(wanted).all() if parts.hours else []
        held = np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 3)
        # What is not in pieces is one piece each.
        single = np.stack([self._more, self._more, np.ones_like(self._more)], axis=1)
        self._low, self._high, many = np.concatenate([held, single]).T
        self._many = many.astype(np.int64)

    @property
    def events(self) -> int:
        return int(self._many.sum())

    def at(self, ranks: Sequence[int]) -> list[float]:
        """The times at these ranks, which exist and are in order."""
        # Of the pieces that end at or below a time at least so many are that short; of those that begin there at most so many.
        by_low, by_high = np.argsort(self._low), np.argsort(self._high)
        begun, ended = np.cumsum(self._many[by_low]), np.cumsum(self._many[by_high])
        least = float(self._low[by_low[np.searchsorted(begun, ranks[0])]])
        most = float(self._high[by_high[np.searchsorted(ended, ranks[-1])]])
        piece = measure_times.c
        read = select(piece.times).where(*self._where, piece.high >= least, piece.low <= most)
        values = (
            [_times(held) for held in self._connection.scalars(read).all()] if len(self._many) > len(self._more) else []
        )
        around = np.concatenate([*values, self._more[(self._more >= least) & (self._more <= most)]])
        below = int(self._many[self._high < least].sum() + np.count_nonzero(around < least))
        around = np.sort(around[(around >= least) & (around <= most)])
        return [float(around[rank - below - 1]) for rank in ranks]


def _in(table: Table, parts: Parts) -> list[ColumnElement[bool]]:
    held, column = parts.held, table.c
    ranges = _within(column.hour, parts)
    if not held.team and not held.door:
        return [column.team == EVERY, column.door == EVERY, ranges]
    return [
        column.team == held.team if held.team else column.team != EVERY,
        column.door == held.door if held.door else column.door != EVERY,
        ranges,
    ]


def _within(hour: Any, parts: Parts) -> ColumnElement[bool]:
    return or_(*(and_(hour >= first, hour < last) for first, last in parts.hours))


def _known(first: int, last: int) -> Any:
    column = measure_hour.c
    return select(column.hour).where(
        column.team == EVERY, column.door == EVERY, column.hour >= first, column.hour < last
    )


def _rest(held: Slice, ranges: Sequence[Range]) -> tuple[Slice, ...]:
    return tuple(replace(held, since=_moment(since), until=_moment(until)) for since, until in ranges if since < until)


def _runs(hours: Sequence[int]) -> Iterator[Range]:
    """Hours in order, as ranges without gaps."""
    start = None
    for n, hour in enumerate(hours):
        start = hour if start is None else start
        if n + 1 == len(hours) or hours[n + 1] != hour + HOUR:
            yield start, hour + HOUR
            start = None


def _begin(at: int) -> int:
    return at - at % HOUR


def _moment(at: int) -> datetime:
    value = moment(at)
    assert value is not None  # only None becomes None
    return value


def _times(held: bytes) -> Floats:
    return np.frombuffer(held, dtype="<f8")


def plus(one: Counts, other: Counts) -> Counts:
    """Two slices that share nothing, together."""
    return Counts(
        requests=one.requests + other.requests,
        turned_away=one.turned_away + other.turned_away,
        failed=one.failed + other.failed,
        cached=one.cached + other.cached,
        cost=one.cost + other.cost,
        cost_squares=one.cost_squares + other.cost_squares,
        dearest=max(one.dearest, other.dearest),
        grounded=_both(one.grounded, other.grounded),
        covered=_both(one.covered, other.covered),
    )


def _both(one: Shares, other: Shares) -> Shares:
    return Shares(events=one.events + other.events, total=one.total + other.total, some=one.some + other.some)


_EMPTY = Counts()
assert len(_COLUMNS) == SUMS
