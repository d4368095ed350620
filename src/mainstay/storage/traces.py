"""Traces in SQL."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select

from mainstay.records.measures import Measured
from mainstay.records.traces import Span, Trace
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.measures import put_measure
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import trace as table

_KEEP = Hot(lambda connection: upsert(connection, table).on_conflict_do_nothing(), columns=table.c.keys())


class SqlTraces:
    """``records.traces.Traces`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def keep(self, trace: Trace, measured: Measured | None = None) -> None:
        """Write one finished journey; a request id that is taken keeps the journey it has."""
        with self._db.write(alone=False, durable=False) as connection:
            _KEEP.run(
                connection,
                {
                    "request_id": trace.request_id,
                    "at": micros(trace.at),
                    "asker": trace.asker,
                    "kind": trace.kind,
                    "status": trace.status,
                    "visible": dumps({"spans": [_span(span) for span in trace.spans], "facts": dict(trace.facts)}),
                    "operator": dumps(dict(trace.operator)),
                },
            )
            if measured is not None:
                put_measure(connection, measured)

    def prune(self, before: datetime) -> int:
        """Forget journeys that began before; how many."""
        with self._db.write(alone=False) as connection:
            return connection.execute(delete(table).where(table.c.at < micros(before))).rowcount

    def get(self, request_id: str) -> Trace | None:
        with self._db.read() as connection:
            row = connection.execute(select(table).where(table.c.request_id == request_id)).first()
            return None if row is None else _trace(row)

    def recent(self, *, asker: str | None, limit: int, before: datetime | None = None) -> list[Trace]:
        """The newest first, of one asker or of all."""
        wanted = select(table).order_by(table.c.at.desc(), table.c.request_id.desc()).limit(limit)
        if asker is not None:
            wanted = wanted.where(table.c.asker == asker)
        if before is not None:
            wanted = wanted.where(table.c.at < micros(before))
        with self._db.read() as connection:
            return [_trace(row) for row in connection.execute(wanted)]


def _span(span: Span) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "start_ms": span.start_ms,
        "duration_ms": span.duration_ms,
        "attributes": dict(span.attributes),
    }


def _trace(row: Row[Any]) -> Trace:
    visible = json.loads(row.visible)
    at = moment(row.at)
    assert at is not None
    return Trace(
        request_id=row.request_id,
        at=at,
        asker=row.asker,
        kind=row.kind,
        status=row.status,
        spans=tuple(Span(**span) for span in visible["spans"]),
        facts=visible["facts"],
        operator=json.loads(row.operator),
    )
