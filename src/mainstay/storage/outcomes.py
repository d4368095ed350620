"""Outcomes in SQL, beside what was measured of the same requests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, literal_column, select, update

from mainstay.records.audit import AuditEntry
from mainstay.records.outcomes import Axis, Case, Kind, Outcome
from mainstay.storage.audit import append, bound
from mainstay.storage.database import Database, upsert
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.scans import ANSWERS
from mainstay.storage.schema import measure, trace
from mainstay.storage.schema import outcome as table

UNKNOWN = ""
MAX_NAME = 200
_NOT_SAID = "[taken back]"
# What a journey says of itself: the way it took, and the prompt of the step that wrote.
_FROM_TRACES = {
    ("route", "sqlite"): "(SELECT group_concat(value, ' ') FROM json_each(trace.visible, '$.facts.route'))",
    ("route", "postgresql"): "(SELECT string_agg(value, ' ')"
    " FROM json_array_elements_text(CAST(trace.visible AS json) -> 'facts' -> 'route'))",
    ("prompt", "sqlite"): "COALESCE(json_extract(trace.visible, '$.facts.prompt'),"
    " (SELECT json_extract(value, '$.attributes.prompt') FROM json_each(trace.visible, '$.spans')"
    " WHERE json_extract(value, '$.attributes.prompt') IS NOT NULL LIMIT 1))",
    ("prompt", "postgresql"): "COALESCE(CAST(trace.visible AS json) -> 'facts' ->> 'prompt',"
    " (SELECT value -> 'attributes' ->> 'prompt' FROM json_array_elements(CAST(trace.visible AS json) -> 'spans')"
    " WHERE value -> 'attributes' ->> 'prompt' IS NOT NULL LIMIT 1))",
}


class SqlOutcomes:
    """``records.outcomes.Store`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, outcome: Outcome) -> Outcome:
        with self._db.write(alone=False) as connection:
            connection.execute(
                upsert(connection, table)
                .values(
                    outcome_id=outcome.id,
                    request_id=outcome.request_id,
                    mark=outcome.mark,
                    kind=outcome.kind,
                    value=outcome.value,
                    unit=outcome.unit,
                    source=outcome.source,
                    by_whom=outcome.by,
                    at=micros(outcome.at),
                    recorded=micros(outcome.recorded),
                    comment=outcome.comment,
                    fields=dumps(dict(outcome.fields)),
                )
                .on_conflict_do_nothing()
            )
            row = connection.execute(
                select(table).where(table.c.request_id == outcome.request_id, table.c.mark == outcome.mark)
            ).one()
        return _outcome(row)

    def of(self, request_id: str) -> Sequence[Outcome]:
        if not _can_be(request_id):
            return []
        wanted = select(table).where(table.c.request_id == request_id)
        with self._db.read() as connection:
            found = connection.execute(wanted.order_by(table.c.at.desc(), table.c.outcome_id.desc()))
            return [_outcome(row) for row in found]

    def asker(self, request_id: str) -> str | None:
        if not _can_be(request_id):
            return None
        with self._db.read() as connection:
            found = connection.scalar(select(measure.c.principal).where(measure.c.request_id == request_id))
            if found is None:
                found = connection.scalar(select(trace.c.asker).where(trace.c.request_id == request_id))
        return None if found is None else str(found)

    def requests(self, by: Axis, since: datetime, until: datetime) -> Mapping[str, int]:
        counted: dict[str, int] = {}
        with self._db.read() as connection:
            name, source = _named(connection, by)
            wanted = select(name, func.count()).select_from(source).where(*_in(since, until)).group_by(name)
            for found, count in connection.execute(wanted):
                shown = _shown(found)
                counted[shown] = counted.get(shown, 0) + int(count)
        return counted

    def cases(self, by: Axis, since: datetime, until: datetime) -> Iterator[Case]:
        with self._db.read() as connection:
            name, source = _named(connection, by)
            wanted = (
                select(
                    measure.c.request_id,
                    name.label("name"),
                    measure.c.cost_n,
                    table.c.kind,
                    table.c.value,
                    table.c.at,
                )
                .select_from(source.join(table, table.c.request_id == measure.c.request_id))
                .where(*_in(since, until))
                .order_by(measure.c.request_id, table.c.at, table.c.outcome_id)
            )
            rows: Any = connection.execution_options(yield_per=5000).execute(wanted)
            for _, group in itertools.groupby(rows, key=lambda row: row.request_id):
                yield _case(list(group))

    def prune(self, before: datetime) -> int:
        with self._db.write(alone=False) as connection:
            free = ~bound(table.c.by_whom, "request:" + table.c.request_id)
            return int(connection.execute(delete(table).where(table.c.recorded < micros(before), free)).rowcount)

    def unsay(self, by: str, at: datetime) -> int:
        with self._db.write(alone=False) as connection:
            theirs = and_(table.c.by_whom == by, ~bound(table.c.by_whom, "request:" + table.c.request_id))
            gone = connection.execute(update(table).where(theirs).values(by_whom=_NOT_SAID, comment="", fields="{}"))
            many = int(gone.rowcount)
            if many:
                entry = AuditEntry(action="outcomes.erased", subject=by, at=at, details={"outcomes": many})
                append(connection, entry)
        return many


def has_outcome(name: str) -> ColumnElement[bool]:
    """The condition on a row of ``trace`` that an outcome of this kind was reported for it; ``any``: of whatever kind."""
    where = table.c.request_id == trace.c.request_id
    return exists().where(where if name == "any" else and_(where, table.c.kind == name))


def _named(connection: Connection, by: Axis) -> tuple[Any, Any]:
    """The column that names the rows of a report, and where it stands."""
    if by in ("release", "model", "mode"):
        return measure.c[by], measure
    said: Any = literal_column(_FROM_TRACES[by, connection.dialect.name])
    return said, measure.outerjoin(trace, trace.c.request_id == measure.c.request_id)


def _in(since: datetime, until: datetime) -> list[ColumnElement[bool]]:
    return [measure.c.kind == ANSWERS, measure.c.at >= micros(since), measure.c.at < micros(until)]


def _shown(name: object) -> str:
    return UNKNOWN if name is None else str(name)[:MAX_NAME]


def _case(rows: Sequence[Row[Any]]) -> Case:
    newest: dict[Kind, tuple[datetime, float | None]] = {}
    for row in rows:  # in the order of their times: the last one stays
        at = moment(row.at)
        assert at is not None
        newest[Kind(row.kind)] = (at, row.value)
    return Case(name=_shown(rows[0].name), cost_n=int(rows[0].cost_n), newest=newest)


def _can_be(name: str) -> bool:
    """Whether a text from outside can name anything here: no database takes every character in a statement."""
    return name.isascii() and name.isprintable()


def _outcome(row: Row[Any]) -> Outcome:
    at, recorded = moment(row.at), moment(row.recorded)
    assert at is not None
    assert recorded is not None
    return Outcome(
        id=row.outcome_id,
        request_id=row.request_id,
        kind=Kind(row.kind),
        at=at,
        recorded=recorded,
        by=row.by_whom,
        mark=row.mark,
        value=row.value,
        unit=row.unit,
        source=row.source,
        comment=row.comment,
        fields=json.loads(row.fields),
    )
