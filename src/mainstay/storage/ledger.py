"""Money in SQL: ``agreement.ledger.Ledger`` over every database.

Every change of a total and the entry that says so are one transaction. On PostgreSQL rows are locked in one order, holds
before scopes and scopes by their id, so that no two writers wait for each other; SQLite's writers come one by one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    distinct,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from mainstay.agreement.budgets import SERVICE, MoneyScope, Payer
from mainstay.agreement.ledger import (
    AUDIT,
    Axis,
    Booked,
    Hold,
    HoldState,
    ReportRow,
    Spent,
    Standing,
    cost,
    granted,
    wanted,
)
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import hold as table
from mainstay.storage.schema import measure, money_entry, money_scope, trace
from mainstay.types import Clock, Status, Usage

SWEPT_AT_ONCE = 500
PRUNED_AT_ONCE = 500
SHORTEST_MEMORY = timedelta(days=1)
"""A closed hold is remembered for at least so long: settling it twice must do nothing."""
FORGOTTEN = timedelta(hours=1)
"""A hold that is open so long after its time says that nobody sweeps."""
UNFINISHED = "unfinished"
OWN = "service"
"""How calls end that no question asked for: vectors of documents and of the cache."""
CARRIED = "carried"
_DAY_US = 86_400_000_000
_NOTHING = Usage()
_COUNTS = tuple(field.name for field in fields(ReportRow) if field.name != "name")
_USED = money_scope.c.settled_n + money_scope.c.held_n


class SqlLedger:
    """``agreement.ledger.Ledger`` over SQL."""

    def __init__(self, database: Database, clock: Clock, *, settle: Callable[[], object] = lambda: None) -> None:
        """``settle`` is called before a report: what this process has measured and not yet written is written then."""
        self._db, self._clock, self._settle = database, clock, settle
        self._locks = database.dialect == "postgresql"

    # -- before a call -------------------------------------------------------------------------------------------------

    def reserve(
        self,
        payer: Payer,
        scopes: Sequence[MoneyScope],
        *,
        least_n: int,
        most_n: int,
        purpose: str,
        model: str,
        price_version: str,
        ttl_s: float,
    ) -> Hold:
        least = wanted(least_n, most_n, ttl_s)
        now = self._clock.now()
        hold_id = self._clock.new_id("hold")

        def made(amount_n: int) -> Hold:
            return Hold(
                hold_id=hold_id,
                amount_n=amount_n,
                expires=now + timedelta(seconds=ttl_s),
                scopes=tuple(sorted(scopes, key=lambda scope: scope.scope_id)),
                payer=payer,
                purpose=purpose,
                model=model,
                price_version=price_version,
                created=now,
            )

        asked = made(most_n)
        swept = most_n == 0
        while most_n > 0:
            try:
                amount_n = self._held(asked, least, now)
            except Spent:
                if swept or not self.sweep(now):  # what lost calls held may be all that is missing
                    raise
                swept = True
            else:
                if amount_n is not None:
                    return made(amount_n)
                self._begin(asked.scopes)
        return made(0)

    def _held(self, asked: Hold, least_n: int, now: datetime) -> int | None:
        """How much was set aside; None when there are scopes that nobody has spent from before.

        A power cut takes SQLite's caller with it: the hold would have been lost anyway, so it does not wait for the
        disk. PostgreSQL may fall alone, while the call goes on.
        """
        with self._db.write(alone=False, durable=self._locks) as connection:
            used = self._used(connection, asked.scopes)
            missing = [scope for scope in asked.scopes if scope.scope_id not in used]
            if missing:
                # A budget's scope is made apart: while no lock is held, since on PostgreSQL a new row may make others
                # wait; and so that it stays when this call is refused. The request's own is nobody else's.
                if any(scope.kind != "request" for scope in missing):
                    return None
                if self._add_scopes(connection, missing) < len(missing):
                    return None
            lefts = [(scope, scope.limit_n - used.get(scope.scope_id, 0)) for scope in asked.scopes]
            amount_n = granted(lefts, least_n, asked.amount_n, now)
            self._move(connection, asked.scopes, held_n=amount_n)
            _HOLD.run(connection, _row(asked, "open", amount_n=amount_n))
            _enter(connection, asked, "held", now, held_n=amount_n)
            return amount_n

    def _used(self, connection: Connection, scopes: Sequence[MoneyScope]) -> dict[str, int]:
        """What stands on scopes, which nobody can change until this transaction ends."""
        rows = _locking(len(scopes)).run(connection, _ids(scopes)).fetchall()
        return {row.scope_id: row.used for row in rows}

    def _begin(self, scopes: Sequence[MoneyScope]) -> None:
        with self._db.write(alone=False, durable=False) as connection:
            self._add_scopes(connection, [scope for scope in scopes if scope.kind != "request"])

    def _add_scopes(self, connection: Connection, scopes: Iterable[MoneyScope], besides: str = "") -> int:
        """New scopes, in the order of ids; how many were new. A budget may be added in the middle of its window: what that
        has cost already stands on it from the beginning, and an entry says so.

        No hold names a scope that is not there, so nothing counts twice: but for ``besides``, the hold that the caller is
        booking in this transaction.
        """
        new = [scope for scope in scopes if self._add_scope(connection, scope)]
        for scope in new:
            if scope.kind != "request":
                before = Booked(settled_n=_spent_before(connection, scope, besides))
                if before.settled_n:
                    self._move(connection, [scope], settled_n=before.settled_n)
                _carry(connection, scope.scope_id, before, micros(self._clock.now()))
        return len(new)

    def _add_scope(self, connection: Connection, scope: MoneyScope) -> bool:
        row = {
            "scope_id": scope.scope_id,
            "kind": scope.kind,
            "name": scope.name,
            "window_start": micros(scope.window_start),
            "window_end": micros(scope.window_end),
            "limit_n": scope.limit_n,
            "settled_n": 0,
            "held_n": 0,
        }
        return _NEW_SCOPE.run(connection, row).rowcount > 0

    def _move(
        self, connection: Connection, scopes: Sequence[MoneyScope], *, held_n: int = 0, settled_n: int = 0
    ) -> None:
        """Change what stands on scopes, which the caller has locked when they are several."""
        _moving(len(scopes)).run(connection, {**_ids(scopes), "more_held": held_n, "more_settled": settled_n})

    # -- after it ------------------------------------------------------------------------------------------------------

    def settle(self, hold: Hold, *, actual_n: int, usage: Usage, estimated: bool) -> None:
        self._close(hold, "settled", cost(actual_n), usage, estimated=estimated)

    def cancel(self, hold: Hold, *, charged_n: int = 0) -> None:
        if hold.amount_n or charged_n:
            self._close(hold, "cancelled", cost(charged_n), _NOTHING, estimated=False)

    def _close(self, hold: Hold, state: HoldState, actual_n: int, usage: Usage, *, estimated: bool) -> None:
        now = self._clock.now()
        closing = _closing(actual_n, usage, estimated=estimated, now=now)
        if hold.amount_n == 0:
            self._close_free(hold, closing, actual_n, now)
            return
        with self._db.write(alone=False) as connection:
            if _CLOSE.run(connection, {"its_id": hold.hold_id, "was": "open", "state": state, **closing}).rowcount:
                reason = "breach" if actual_n > hold.amount_n else state
                self._book(connection, hold, reason, now, held_n=-hold.amount_n, settled_n=actual_n)
                return
        if actual_n or state == "settled":
            self._close_late(hold, closing, actual_n, now)

    def _close_free(self, hold: Hold, closing: dict[str, Any], actual_n: int, now: datetime) -> None:
        """A free call is written down once, when it has ended. If it was not free after all, that is booked."""
        if actual_n:
            self._begin(hold.scopes)
        with self._db.write(alone=False, durable=actual_n > 0) as connection:
            row = {**_row(hold, "settled"), **closing}
            added = connection.execute(_new(connection, table), row).rowcount
            if added and actual_n:
                self._add_scopes(connection, hold.scopes, hold.hold_id)
                self._book(connection, hold, "breach", now, settled_n=actual_n)

    def _close_late(self, hold: Hold, closing: dict[str, Any], actual_n: int, now: datetime) -> None:
        """It expired meanwhile, or was lost with the database's last moments; closed before, it stays as it is."""
        self._begin(hold.scopes)
        with self._db.write(alone=False) as connection:
            changed = {"its_id": hold.hold_id, "was": "expired", "state": "late", **closing}
            if not _CLOSE.run(connection, changed).rowcount:
                row = {**_row(hold, "late"), **closing}
                if not connection.execute(_new(connection, table), row).rowcount:
                    return
            self._add_scopes(connection, hold.scopes, hold.hold_id)
            self._book(connection, hold, "late", now, settled_n=actual_n)

    def _book(
        self, connection: Connection, hold: Hold, reason: str, now: datetime, *, held_n: int = 0, settled_n: int = 0
    ) -> None:
        if self._locks and len(hold.scopes) > 1:
            self._used(connection, hold.scopes)
        self._move(connection, hold.scopes, held_n=held_n, settled_n=settled_n)
        _enter(connection, hold, reason, now, held_n=held_n, settled_n=settled_n)

    def sweep(self, now: datetime) -> int:
        swept = 0
        while self._anything_overdue(now):
            with self._db.write(alone=False) as connection:
                some = self._sweep_some(connection, now)
            swept += some
            if some < SWEPT_AT_ONCE:
                break
        return swept

    def _anything_overdue(self, now: datetime) -> bool:
        """Looked at first: who finds nothing has taken no writer's turn."""
        with self._db.read() as connection:
            return connection.execute(select(table.c.hold_id).where(_overdue(now)).limit(1)).first() is not None

    def _sweep_some(self, connection: Connection, now: datetime) -> int:
        """Skips what another sweep, or a settlement that comes at the last moment, is at."""
        rows = connection.execute(
            select(table.c.hold_id, table.c.amount_n, money_entry.c.scopes)
            .join(money_entry, and_(money_entry.c.hold_id == table.c.hold_id, money_entry.c.reason == "held"))
            .where(_overdue(now))
            .limit(SWEPT_AT_ONCE)
            .with_for_update(of=table, skip_locked=True)
        ).all()
        if not rows:
            return 0
        ids = [row.hold_id for row in rows]
        connection.execute(update(table).where(table.c.hold_id.in_(ids)).values(state="expired", closed=micros(now)))
        freed: Counter[str] = Counter()
        for row in rows:
            for scope_id in json.loads(row.scopes):
                freed[scope_id] += row.amount_n
        if self._locks:
            ordered = select(money_scope.c.scope_id).where(money_scope.c.scope_id.in_(sorted(freed)))
            connection.execute(ordered.order_by(money_scope.c.scope_id).with_for_update()).all()
        _moving(1).run_many(
            connection,
            [{"s0": scope_id, "more_held": -freed[scope_id], "more_settled": 0} for scope_id in sorted(freed)],
        )
        connection.execute(
            insert(money_entry),
            [
                {
                    "hold_id": row.hold_id,
                    "reason": "expired",
                    "scopes": row.scopes,
                    "held_n": -row.amount_n,
                    "settled_n": 0,
                    "at": micros(now),
                }
                for row in rows
            ],
        )
        return len(rows)

    # -- how it stands -------------------------------------------------------------------------------------------------

    def left(self, scopes: Sequence[MoneyScope]) -> int:
        now = self._clock.now()
        if not scopes:
            return 0
        used, overdue = self._looked(scopes, now)
        begun = any(scope.scope_id not in used and scope.kind != "request" for scope in scopes)
        if begun:
            self._begin(scopes)
        if (overdue and self.sweep(now)) or begun:
            used, _ = self._looked(scopes, now)
        return max(0, min(scope.limit_n - used.get(scope.scope_id, 0) for scope in scopes))

    def _looked(self, scopes: Sequence[MoneyScope], now: datetime) -> tuple[dict[str, int], bool]:
        late = exists().where(_overdue(now)).label("overdue")
        ids = [scope.scope_id for scope in scopes]
        wanted_rows = select(money_scope.c.scope_id, _USED.label("used"), late).where(money_scope.c.scope_id.in_(ids))
        with self._db.read() as connection:
            rows = connection.execute(wanted_rows).all()
        return {row.scope_id: row.used for row in rows}, any(row.overdue for row in rows)

    def totals(self) -> dict[str, Booked]:
        with self._db.read() as connection:
            return _totals(connection)

    def replayed(self) -> dict[str, Booked]:
        with self._db.read() as connection:
            return _replayed(connection)

    def check(self) -> list[str]:
        with self._db.read() as connection:
            totals, replayed, running = _totals(connection), _replayed(connection), _running(connection)
            old = _overdue(self._clock.now() - FORGOTTEN)
            forgotten = connection.scalar(select(func.count()).select_from(table).where(old)) or 0
        nothing = Booked()
        wrong = []
        for scope_id in sorted({*totals, *replayed, *running}):
            total, again = totals.get(scope_id, nothing), replayed.get(scope_id, nothing)
            held_n = running.get(scope_id, 0)
            if total != again:
                wrong.append(
                    f"{scope_id}: settled {total.settled_n} and held {total.held_n}, but its entries say "
                    f"{again.settled_n} and {again.held_n}"
                )
            if total.held_n != held_n:
                wrong.append(f"{scope_id}: held {total.held_n}, but open holds are {held_n}")
            if total.held_n < 0 or total.settled_n < 0:
                wrong.append(f"{scope_id}: below zero")
        if forgotten:
            wrong.append(f"{forgotten} holds are open long past their time: nobody sweeps")
        return wrong

    def standing(self, since: datetime | None = None) -> Standing:
        breach = and_(table.c.state.in_(("settled", "cancelled")), table.c.settled_n > table.c.amount_n)
        with self._db.read() as connection:
            rows = connection.execute(
                select(
                    table.c.state,
                    func.count().label("holds"),
                    _sum(table.c.amount_n).label("amount_n"),
                    _sum(table.c.settled_n).label("settled_n"),
                    _count(breach).label("breaches"),
                    _sum(case((breach, table.c.settled_n - table.c.amount_n), else_=0)).label("breached_n"),
                )
                .where(*_between(since, None))
                .group_by(table.c.state)
            ).all()
            overdue = connection.scalar(select(func.count()).select_from(table).where(_overdue(self._clock.now())))
        held = {row.state: row for row in rows}
        return Standing(
            holds={state: int(row.holds) for state, row in held.items()},
            open_n=int(held["open"].amount_n) if "open" in held else 0,
            overdue=overdue or 0,
            breaches=sum(int(row.breaches) for row in rows),
            breached_n=sum(int(row.breached_n) for row in rows),
            late_n=int(held["late"].settled_n) if "late" in held else 0,
        )

    # -- what it was for -----------------------------------------------------------------------------------------------

    def report(self, *, by: Axis, since: datetime | None = None, until: datetime | None = None) -> list[ReportRow]:
        nobody_asked = case((table.c.purpose == AUDIT, AUDIT), (table.c.principal == SERVICE, OWN), else_=UNFINISHED)
        outcome = func.coalesce(measure.c.status, trace.c.status, nobody_asked)
        axis = {
            "day": table.c.created // _DAY_US,
            "user": table.c.principal,
            "team": table.c.team,
            "key": table.c.key_id,
            "model": table.c.model,
            "release": table.c.release,
            "purpose": table.c.purpose,
            "outcome": outcome,
        }[by].label("axis")
        answered = case((outcome == Status.ANSWERED, table.c.request_id))
        inner = (
            select(
                axis,
                table.c.request_id,
                answered.label("answered"),
                *(table.c[name] for name in ("state", "amount_n", "settled_n", "estimated")),
                *(table.c[name] for name in ("input_tokens", "cached_tokens", "output_tokens")),
            )
            .select_from(table)
            .outerjoin(measure, measure.c.request_id == table.c.request_id)
            .outerjoin(trace, trace.c.request_id == table.c.request_id)
            .where(*_between(since, until))
            .subquery()
        )
        of = inner.c
        closed = of.state.in_(("settled", "cancelled"))
        wanted_rows = select(
            of.axis,
            func.count(distinct(of.request_id)).label("requests"),
            func.count(distinct(of.answered)).label("answered"),
            func.count().label("calls"),
            _sum(of.input_tokens).label("input_tokens"),
            _sum(of.cached_tokens).label("cached_tokens"),
            _sum(of.output_tokens).label("output_tokens"),
            _sum(of.settled_n).label("cost_n"),
            _sum(case((of.state == "open", of.amount_n), else_=0)).label("held_n"),
            _count(of.estimated == 1).label("estimated"),
            _count(and_(closed, of.settled_n > of.amount_n)).label("breaches"),
            _count(of.state == "late").label("late"),
            _count(of.state == "expired").label("lost"),
        ).group_by(of.axis)
        assert tuple(wanted_rows.selected_columns.keys())[1:] == _COUNTS
        self._settle()
        with self._db.read() as connection:
            rows = [tuple(row) for row in connection.execute(wanted_rows)]
        return _report(by, rows)

    def prune(self, before: datetime) -> int:
        """What a scope that still counts was spent of is kept in one entry of its own; scopes that are over go. Every
        transaction leaves books that add up."""
        before = min(before, self._clock.now() - SHORTEST_MEMORY)
        old = and_(table.c.created < micros(before), table.c.state != "open")
        ended = micros(before - SHORTEST_MEMORY)
        over = and_(
            money_scope.c.held_n == 0,
            case(
                (money_scope.c.kind == "request", money_scope.c.window_start < ended),
                else_=func.coalesce(money_scope.c.window_end <= ended, literal(False)),
            ),
        )
        pruned = 0
        while True:
            with self._db.write() as connection:
                ids = connection.scalars(select(table.c.hold_id).where(old).limit(PRUNED_AT_ONCE)).all()
                _forget(connection, ids, over, micros(before))
            pruned += len(ids)
            if len(ids) < PRUNED_AT_ONCE:
                break
        with self._db.write() as connection:
            gone = connection.scalars(select(money_scope.c.scope_id).where(over, money_scope.c.kind != "request")).all()
            _drop(connection, gone)
        return pruned


# -- statements, made once for each number of scopes -------------------------------------------------------------------
_NEW_SCOPE = Hot(lambda connection: _new(connection, money_scope), columns=money_scope.c.keys())
_HOLD = Hot(insert(table), columns=table.c.keys())
_ENTRY = Hot(insert(money_entry), columns=money_entry.c.keys())
_CLOSE = Hot(
    update(table)
    .where(table.c.hold_id == bindparam("its_id"), table.c.state == bindparam("was"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "settled_n",
                "input_tokens",
                "cached_tokens",
                "output_tokens",
                "estimated",
                "closed",
            )
        }
    )
)


def _any_of(count: int) -> ColumnElement[bool]:
    return money_scope.c.scope_id.in_([bindparam(f"s{n}") for n in range(count)])


@cache
def _locking(count: int) -> Hot:
    wanted_rows = select(money_scope.c.scope_id, _USED.label("used")).where(_any_of(count))
    return Hot(wanted_rows.order_by(money_scope.c.scope_id).with_for_update())


@cache
def _moving(count: int) -> Hot:
    return Hot(
        update(money_scope)
        .where(_any_of(count))
        .values(
            held_n=money_scope.c.held_n + bindparam("more_held"),
            settled_n=money_scope.c.settled_n + bindparam("more_settled"),
        )
    )


def _new(connection: Connection, of: Table) -> Any:
    """A row that may be there already: then it stays as it is."""
    return upsert(connection, of).on_conflict_do_nothing()


def _ids(scopes: Sequence[MoneyScope]) -> dict[str, Any]:
    return {f"s{n}": scope.scope_id for n, scope in enumerate(scopes)}


def _overdue(now: datetime) -> ColumnElement[bool]:
    return and_(table.c.state == "open", table.c.expires <= micros(now))


def _between(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(table.c.created >= micros(since))
    if until is not None:
        conditions.append(table.c.created < micros(until))
    return conditions


def _sum(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(amount), 0)


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.count(case((condition, literal(1))))


# -- rows --------------------------------------------------------------------------------------------------------------
def _row(hold: Hold, state: HoldState, *, amount_n: int | None = None) -> dict[str, Any]:
    payer = hold.payer
    return {
        "hold_id": hold.hold_id,
        "request_id": payer.request_id,
        "purpose": hold.purpose,
        "model": hold.model,
        "principal": payer.principal,
        "team": dumps(payer.team) if payer.team else "",
        "key_id": payer.key_id or "",
        "release": payer.release,
        "price_version": hold.price_version,
        "state": state,
        "amount_n": hold.amount_n if amount_n is None else amount_n,
        "settled_n": 0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "estimated": 0,
        "created": micros(hold.created),
        "expires": micros(hold.expires),
        "closed": None,
    }


def _closing(actual_n: int, usage: Usage, *, estimated: bool, now: datetime) -> dict[str, Any]:
    return {
        "settled_n": actual_n,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": int(estimated),
        "closed": micros(now),
    }


def _enter(
    connection: Connection, hold: Hold, reason: str, now: datetime, *, held_n: int = 0, settled_n: int = 0
) -> None:
    _ENTRY.run(
        connection,
        {
            "hold_id": hold.hold_id,
            "reason": reason,
            "scopes": dumps([scope.scope_id for scope in hold.scopes]),
            "held_n": held_n,
            "settled_n": settled_n,
            "at": micros(now),
        },
    )


def _forget(connection: Connection, holds: Sequence[str], over: ColumnElement[bool], at: int | None) -> None:
    """Take closed holds away. A request's own scope goes with it when it is over."""
    mine = money_entry.c.hold_id.in_(holds)
    carried = _added_up(connection, mine)
    connection.execute(delete(money_entry).where(mine))
    connection.execute(delete(table).where(table.c.hold_id.in_(holds)))
    requests = and_(money_scope.c.scope_id.in_(sorted(carried)), money_scope.c.kind == "request", over)
    gone = set(connection.scalars(select(money_scope.c.scope_id).where(requests)))
    for scope_id in sorted({*carried} - gone):
        _carry(connection, scope_id, carried[scope_id], at)
    _drop(connection, sorted(gone))


def _drop(connection: Connection, scopes: Sequence[str]) -> None:
    connection.execute(delete(money_scope).where(money_scope.c.scope_id.in_(scopes)))
    connection.execute(delete(money_entry).where(money_entry.c.reason == CARRIED, money_entry.c.hold_id.in_(scopes)))


def _spent_before(connection: Connection, scope: MoneyScope, besides: str) -> int:
    """What calls of this payer that began in this window have cost, or cost at most if they still run.

    A running call does not name the scope, so it could not give back here what it does not use: it counts as a whole, and
    for good. Calls that were forgotten, and lost ones, count as nothing.
    """
    amount = _sum(case((table.c.state == "open", table.c.amount_n), else_=table.c.settled_n)).label("amount_n")
    where = [*_between(scope.window_start, scope.window_end), table.c.hold_id != besides]
    if scope.kind == "team":
        rows = connection.execute(select(table.c.team, amount).where(*where).group_by(table.c.team)).all()
        return sum(int(row.amount_n) for row in rows if row.team and scope.name in json.loads(row.team))
    if scope.kind == "user":
        where.append(table.c.principal == scope.name)
    elif scope.kind == "key":
        where.append(table.c.key_id == scope.name)
    return int(connection.scalar(select(amount).where(*where)) or 0)


def _carry(connection: Connection, scope_id: str, amount: Booked, at: int | None) -> None:
    values = {
        "hold_id": scope_id,
        "reason": CARRIED,
        "scopes": dumps([scope_id]),
        "held_n": amount.held_n,
        "settled_n": amount.settled_n,
        "at": at,
    }
    connection.execute(
        upsert(connection, money_entry)
        .values(values)
        .on_conflict_do_update(
            index_elements=["hold_id", "reason"],
            set_={
                "held_n": money_entry.c.held_n + amount.held_n,
                "settled_n": money_entry.c.settled_n + amount.settled_n,
                "at": at,
            },
        )
    )


# -- the books ---------------------------------------------------------------------------------------------------------
def _totals(connection: Connection) -> dict[str, Booked]:
    rows = connection.execute(select(money_scope.c.scope_id, money_scope.c.settled_n, money_scope.c.held_n))
    return {row.scope_id: Booked(settled_n=row.settled_n, held_n=row.held_n) for row in rows}


def _replayed(connection: Connection) -> dict[str, Booked]:
    return _added_up(connection, literal(True))


def _added_up(connection: Connection, which: ColumnElement[bool]) -> dict[str, Booked]:
    """What these entries come to on each scope."""
    held: Counter[str] = Counter()
    settled: Counter[str] = Counter()
    for scopes, held_n, settled_n in connection.execute(
        select(money_entry.c.scopes, _sum(money_entry.c.held_n), _sum(money_entry.c.settled_n))
        .where(which)
        .group_by(money_entry.c.scopes)
    ):
        for scope_id in json.loads(scopes):
            held[scope_id] += int(held_n)
            settled[scope_id] += int(settled_n)
    return {scope_id: Booked(settled_n=settled[scope_id], held_n=held[scope_id]) for scope_id in settled}


def _running(connection: Connection) -> dict[str, int]:
    """What open holds come to on each scope."""
    held: Counter[str] = Counter()
    for scopes, amount_n in connection.execute(
        select(money_entry.c.scopes, table.c.amount_n)
        .join(table, and_(table.c.hold_id == money_entry.c.hold_id, money_entry.c.reason == "held"))
        .where(table.c.state == "open")
    ):
        for scope_id in json.loads(scopes):
            held[scope_id] += amount_n
    return dict(held)


def _report(by: Axis, rows: Iterable[tuple[Any, ...]]) -> list[ReportRow]:
    """Rows under names that people know. A call of somebody in two teams counts for both."""
    counted: dict[str, list[int]] = {}
    for axis, *counts in rows:
        names = [_day(axis)] if by == "day" else [axis]
        if by == "team":
            names = json.loads(axis) if axis else [""]
        for name in names:
            held = counted.setdefault(name, [0] * len(counts))
            counted[name] = [before + int(more) for before, more in zip(held, counts, strict=True)]
    made = [ReportRow(name=name, **dict(zip(_COUNTS, counts, strict=True))) for name, counts in counted.items()]
    return sorted(made, key=lambda row: row.name if by == "day" else (-row.cost_n, row.name))


def _day(number: int) -> str:
    day = moment(int(number) * _DAY_US)
    assert day is not None
    return str(day.date())
