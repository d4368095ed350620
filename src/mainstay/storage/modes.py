"""Orders and changes of mode in SQL: the order that stands is a fact, each change a row."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from mainstay.records.audit import AuditEntry
from mainstay.resilience.ports import ModeEvent, Order
from mainstay.storage.audit import append
from mainstay.storage.database import Database, put_fact, upsert
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import fact
from mainstay.storage.schema import mode_event as table
from mainstay.types import Mode

ORDERED = "mode:ordered"
ORDER = "order"


class SqlModes:
    """``resilience.ports.ModeLog`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def keep(self, event: ModeEvent) -> None:
        """Write one event; one whose id is known is written already: a commit whose answer got lost may be repeated."""
        with self._db.write(alone=False) as connection:
            _keep(connection, event)

    def ordered(self) -> Order | None:
        with self._db.read() as connection:
            value = connection.scalar(select(fact.c.value).where(fact.c.name == ORDERED))
        if value is None:
            return None
        held = json.loads(value)
        at = moment(held["at"])
        assert at is not None
        return Order(mode=Mode(held["mode"]), by=held["by"], at=at, until=moment(held["until"]))

    def order(self, order: Order | None, event: ModeEvent) -> None:
        """The order and its event, both or neither."""
        with self._db.write() as connection:
            if order is None:
                connection.execute(delete(fact).where(fact.c.name == ORDERED))
            else:
                held = {"mode": order.mode, "by": order.by, "at": micros(order.at), "until": micros(order.until)}
                put_fact(connection, ORDERED, dumps(held))
            _keep(connection, event)

    def events(self, limit: int) -> list[ModeEvent]:
        """The newest first."""
        wanted = select(table).order_by(table.c.at.desc(), table.c.event_id.desc()).limit(limit)
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(wanted)]


def _keep(connection: Connection, event: ModeEvent) -> None:
    kept = connection.execute(
        upsert(connection, table)
        .values(
            event_id=event.event_id,
            at=micros(event.at),
            process=event.process,
            before=event.before,
            after=event.after,
            reason=event.reason,
            detail=event.detail,
            by_whom=event.by,
        )
        .on_conflict_do_nothing()
    )
    if kept.rowcount:
        # ``by`` is what whoever ordered it calls themselves; who acted, the log knows by itself.
        said = {"reason": event.reason, "detail": event.detail, "by": event.by, "process": event.process}
        details = {**said, "before": str(event.before), "after": str(event.after), "event": event.event_id}
        entry = AuditEntry(
            action="mode.ordered" if event.reason == ORDER else "mode.changed",
            subject="mode:service",
            at=event.at,
            before=str(event.before),
            after=str(event.after),
            details=details,
        )
        append(connection, entry)


def _event(row: Row[Any]) -> ModeEvent:
    at = moment(row.at)
    assert at is not None
    return ModeEvent(
        event_id=row.event_id,
        before=Mode(row.before),
        after=Mode(row.after),
        reason=row.reason,
        detail=row.detail,
        by=row.by_whom,
        at=at,
        process=row.process,
    )
