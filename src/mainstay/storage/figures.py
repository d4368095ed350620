"""Figures that a scraper is told: sums over the database, and nothing that names anybody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import and_, case, func, or_, select

from mainstay.storage.database import Database
from mainstay.storage.rows import micros
from mainstay.storage.schema import chunk, document, money_scope, vector

_DAY = 86_400_000_000


class SqlFigures:
    """Looked up when somebody asks."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def money(self, at: datetime) -> list[tuple[str, str, str, int]]:
        """Of each kind of purse and each period, in the windows around ``at``: what is held, settled and permitted, in
        nano-dollars."""
        now, length = micros(at), money_scope.c.window_end - money_scope.c.window_start
        per = case((money_scope.c.window_end.is_(None), "total"), (length <= _DAY, "day"), else_="month")
        running = and_(
            money_scope.c.window_start <= now, or_(money_scope.c.window_end.is_(None), money_scope.c.window_end > now)
        )
        states = ("held", "settled", "limit")
        # The period is a column before it is grouped by: with parameters in it PostgreSQL does not see that both are one.
        each = select(money_scope, per.label("per")).where(running).subquery()
        wanted = select(each.c.kind, each.c.per, *(func.sum(each.c[f"{state}_n"]).label(state) for state in states))
        with self._db.read() as connection:
            rows = connection.execute(wanted.group_by(each.c.kind, each.c.per).order_by(each.c.kind, each.c.per)).all()
        return [(row.kind, row.per, state, int(getattr(row, state))) for row in rows for state in states]

    def index(self) -> Mapping[str, int]:
        """How much is kept to be searched."""
        with self._db.read() as connection:
            return {
                name: int(connection.scalar(select(func.count()).select_from(held)) or 0)
                for name, held in (("documents", document), ("chunks", chunk), ("vectors", vector))
            }
