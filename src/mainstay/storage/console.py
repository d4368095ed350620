"""What the console looks up beside the ports that programs use: the money of one request, purses in force, releases.

Each is one bounded read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, or_, select

from mainstay.agreement.ledger import LedgerLine, PurseLine
from mainstay.storage import hours
from mainstay.storage.database import Database
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import hold, money_scope, trace

MOST_LINES = 500
MOST_PURSES = 500


class SqlLookups:
    """Over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def lines(self, request_id: str) -> tuple[LedgerLine, ...]:
        """What calls of models a request held money for, in their order."""
        wanted = (
            select(hold)
            .where(hold.c.request_id == request_id)
            .order_by(hold.c.created, hold.c.hold_id)
            .limit(MOST_LINES)
        )
        with self._db.read() as connection:
            return tuple(
                LedgerLine(
                    hold_id=row.hold_id,
                    purpose=row.purpose,
                    model=row.model,
                    state=row.state,
                    held_n=row.amount_n,
                    settled_n=row.settled_n,
                    input_tokens=row.input_tokens,
                    cached_tokens=row.cached_tokens,
                    output_tokens=row.output_tokens,
                    estimated=bool(row.estimated),
                    prices=row.price_version,
                    at=_moment(row.created),
                    closed=moment(row.closed),
                )
                for row in connection.execute(wanted)
            )

    def purses(self, now: datetime) -> tuple[PurseLine, ...]:
        """Every budget whose window runs now, the emptiest first."""
        at = micros(now)
        used = money_scope.c.settled_n + money_scope.c.held_n
        wanted = (
            select(money_scope)
            .where(
                money_scope.c.kind != "request",
                money_scope.c.window_start <= at,
                or_(money_scope.c.window_end.is_(None), money_scope.c.window_end > at),
            )
            .order_by(
                (money_scope.c.limit_n - used) * 1.0 / func.nullif(money_scope.c.limit_n, 0), money_scope.c.scope_id
            )
            .limit(MOST_PURSES)
        )
        with self._db.read() as connection:
            return tuple(
                PurseLine(
                    kind=row.kind,
                    name=row.name,
                    since=_moment(row.window_start),
                    until=moment(row.window_end),
                    limit_n=row.limit_n,
                    settled_n=row.settled_n,
                    held_n=row.held_n,
                )
                for row in connection.execute(wanted)
            )

    def releases(self, since: datetime) -> tuple[tuple[str, datetime], ...]:
        """Releases that answered since then, each with its first answer in that time, the oldest first."""
        with self._db.read() as connection:
            found = hours.releases(connection, micros(since) or 0)
        return tuple((name, _moment(at)) for name, at in sorted(found.items(), key=lambda one: (one[1], one[0]))[:200])

    def last_asked(self, principals: Sequence[str]) -> Mapping[str, datetime]:
        """When each of these asked last."""
        found: dict[str, datetime] = {}
        with self._db.read() as connection:
            for name in principals:
                at = connection.scalar(select(func.max(trace.c.at)).where(trace.c.asker == name))
                if at is not None:
                    found[name] = _moment(at)
        return found


def _moment(value: int) -> datetime:
    at = moment(value)
    assert at is not None  # only None becomes None
    return at
