"""What was measured, in SQL: a row a request, written with its trace; read by the hour (``hours``), and row by row at both ends
(``scans``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, case, delete, func, select

from mainstay.agreement.budgets import window
from mainstay.agreement.ports import Counts, Limit, Slice, Spent, Timing
from mainstay.agreement.terms import Payer, Period
from mainstay.records.measures import Measured
from mainstay.storage import hours
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.hours import Parts
from mainstay.storage.rows import micros
from mainstay.storage.scans import ANSWERS, WIDEST_READ, Times, rank_of_rows, scan, scan_slower
from mainstay.storage.schema import cache_audit, measure, money_scope

MOST_ADDED = 20_000
"""So many rows one reader, or one look around, adds up for those who come after."""
MOST_BESIDE = 1_000_000
"""So many times are held beside those of hours that are added up, to find ranks among all."""
_KINDS: dict[Payer, tuple[str, ...]] = {"service": (), "team": ("group",), "user": ("user", "service"), "key": ()}


def put_measure(connection: Connection, measured: Measured) -> None:
    """Write one row in an open transaction; a request id that is taken keeps the row it has."""
    at = micros(measured.at) or 0
    _PUT.run(
        connection,
        {
            "request_id": measured.request_id,
            "at": at,
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
    if measured.kind == ANSWERS:
        hours.noticed(connection, at)


_PUT = Hot(lambda connection: upsert(connection, measure).on_conflict_do_nothing(), columns=measure.c.keys())


class SqlMeasures:
    """``agreement.ports.Measures`` and ``Spending`` over SQL."""

    def __init__(self, database: Database, *, by_hours: bool = True) -> None:
        """``by_hours=False`` reads every row: the same answers, later."""
        self._db, self._by_hours = database, by_hours
        self._kept_up = 0

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
        at = micros(before) or 0
        with self._db.write(alone=False, durable=False) as connection:
            pruned = int(connection.execute(delete(measure).where(measure.c.at < at)).rowcount)
            hours.forget(connection, at)
            return pruned

    def counts(self, held: Slice) -> Counts:
        return self.read(held, ())[0]

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
        with self._divided(held) as (connection, parts):
            counts = hours.counted(connection, parts)
            late = {limit: hours.slower(connection, parts, limit) for limit in limits}
            for rest in parts.rest:
                more, later = scan(connection, rest, limits)
                counts = hours.plus(counts, more)
                late = {limit: _both(late[limit], later[limit]) for limit in limits}
        return counts, late

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        with self._divided(held) as (connection, parts):
            found = hours.slower(connection, parts, (timing, than_ms))
            for rest in parts.rest:
                found = _both(found, scan_slower(connection, rest, timing, than_ms))
        return found

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        with self._divided(held) as (connection, parts):
            scanned = [Times(rest, measure.c[timing]) for rest in parts.rest]
            if not parts.hours or sum(rest.count(connection) for rest in scanned) > MOST_BESIDE:
                return rank_of_rows(connection, held, measure.c[timing], ranks, of)
            values = [value for rest in scanned for value in rest.all(connection)]
            known = hours.Ranks(connection, parts, timing, values)
            wanted = sorted({rank for rank in ranks if 1 <= rank <= known.events})
            if not wanted:
                return []
            apart = wanted[-1] - wanted[0] > WIDEST_READ
            groups = [[rank] for rank in wanted] if apart else [wanted]
            found = {rank: value for group in groups for rank, value in zip(group, known.at(group), strict=True)}
        return [found[rank] for rank in ranks if rank in found]

    @contextmanager
    def _divided(self, held: Slice) -> Iterator[tuple[Connection, Parts]]:
        """What is known of a slice by the hour, as of one moment; hours that could be known and are not are added up first."""
        if self._by_hours:
            with self._db.read() as connection:
                parts = hours.divided(connection, held)
                if not parts.lacking:
                    yield connection, parts
                    return
            hours.add_up(self._db, parts.lacking, MOST_ADDED)
        with self._db.read() as connection:
            yield connection, hours.divided(connection, held) if self._by_hours else Parts(held=held, rest=(held,))

    def keep_up(self) -> None:
        """Add up hours that are over, so that nobody who reads needs to; some at each call. Where nothing can be written it is
        left."""
        last = hours.closed()
        if last != self._kept_up:
            with self._db.read() as connection:
                lacking = hours.lacking(connection, last)
            hours.add_up(self._db, lacking, MOST_ADDED)
            if not lacking:
                self._kept_up = last

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


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
