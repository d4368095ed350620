"""Traces in SQL: a request is one row, its steps one document in it; steps of other programs are rows of their own.

Lists read one index that holds everything they are filtered by, from a cursor on, and look at a bounded number of its
entries for each page: no search reads the whole table, whatever it is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any, Protocol

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from mainstay.errors import Invalid
from mainstay.records.audit import AuditEntry
from mainstay.records.audit.events import HELD, RELEASED
from mainstay.records.measures import Measured
from mainstay.records.spans import (
    ERROR,
    IMPORTED,
    MAX_BATCH,
    MAX_TRACE_SPANS,
    OK,
    ImportedSpan,
    Ingested,
    Span,
)
from mainstay.records.traces import LIMITED, PASSING, Kept, Order, Page, Pruned, Search, Texts, Trace, own_name
from mainstay.storage.audit import append, bound
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.measures import put_measure
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import span as span_table
from mainstay.storage.schema import span_detail, trace_content
from mainstay.storage.schema import trace as table

LOOK_AT = 100_000
"""Entries of the index that one page of a search looks at."""
LOOK_AT_ROWS = 20_000
"""The same where the rows themselves must be read."""
AT_ONCE = 1000  # rows that one transaction deletes
OWN_IN_A_TRACE = 200  # requests of ours that are shown within another program's trace
DROPPED = "dropped"
_EMPTY = dumps({"spans": [], "facts": {}})

_KEEP = Hot(lambda connection: upsert(connection, table).on_conflict_do_nothing(), columns=table.c.keys())
_DETAIL = Hot(lambda connection: upsert(connection, span_detail).on_conflict_do_nothing(), columns=span_detail.c.keys())
_CONTENT = Hot(
    lambda connection: upsert(connection, trace_content).on_conflict_do_nothing(), columns=trace_content.c.keys()
)


class Decisions(Protocol):
    """Writes the records of decisions in the transaction of their traces."""

    def put_all(self, connection: Connection, records: Sequence[Any]) -> None: ...


class SqlTraces:
    """``records.recorder.Store`` over SQL; alone it is a ``Traces`` that writes at once and keeps no texts."""

    def __init__(
        self,
        database: Database,
        *,
        decisions: Decisions | None = None,
        outcome: Callable[[str], ColumnElement[bool]] | None = None,
    ) -> None:
        """``outcome`` gives the condition on a row of ``trace`` that an outcome of this name was reported for it."""
        self._db, self._decisions, self._outcome = database, decisions, outcome

    # -- writing -------------------------------------------------------------------------------------------------------

    def keep(
        self,
        trace: Trace,
        measured: Measured | None = None,
        *,
        decision: object | None = None,
        texts: Texts | None = None,  # noqa: ARG002 - the port's: the recorder says what of them is written
    ) -> None:
        """Write one finished journey; a request id that is taken keeps the journey it has."""
        self.keep_all([Kept(trace=trace, measured=measured, decision=decision)])

    def keep_all(self, batch: Sequence[Kept]) -> None:
        """Write these in one transaction. With a decision among them it is one that a power cut leaves whole."""
        durable = any(one.decision is not None for one in batch)
        with self._db.write(alone=False, durable=durable) as connection:
            _KEEP.run_many(connection, [_row(one.trace) for one in batch])
            for one in batch:
                if one.measured is not None:
                    put_measure(connection, one.measured)
                if one.content:
                    _put_content(connection, one.trace.request_id, "", micros(one.trace.at), one.content)
            records = [one.decision for one in batch if one.decision is not None]
            if records and self._decisions is not None:
                self._decisions.put_all(connection, records)

    def ingest(self, batch: Sequence[ImportedSpan]) -> Ingested:
        if len(batch) > MAX_BATCH:
            raise Invalid(f"{len(batch)} spans at once, at most {MAX_BATCH} are taken", fix="send smaller batches")
        unique = {(one.trace_id, one.span_id): one for one in reversed(batch)}  # of two alike the first
        # In one order, so that two writers do not wait for each other in a circle.
        spans = [unique[key] for key in sorted(unique)]
        if not spans:
            return Ingested()
        keys = [(one.trace_id, one.span_id) for one in spans]
        # Everything that can be made before is: others wait for the transaction to end.
        rows = [_span_row(one) for one in spans]
        said = [to_json(one.attributes).decode() if one.attributes else "" for one in spans]
        sums = _summaries(spans)
        with self._db.write(alone=False) as connection:
            full = _full(connection, [row["trace_id"] for row in sums])
            taken = [n for n, one in enumerate(spans) if one.trace_id not in full]
            new = _insert_spans(connection, [rows[n] for n in taken])
            fresh = [n for n in taken if keys[n] in new]
            if fresh:
                names = ("trace_id", "span_id", "attributes")
                details = [dict(zip(names, (*keys[n], said[n]), strict=True)) for n in fresh if said[n]]
                if details:
                    _DETAIL.run_many(connection, details)
                _COUNT.run_many(connection, sums if len(fresh) == len(spans) else _summaries([spans[n] for n in fresh]))
                for one in (spans[n] for n in fresh):
                    if one.content:
                        _put_content(connection, IMPORTED + one.trace_id, one.span_id, one.start_us, one.content)
        refused = len(spans) - len(taken)
        return Ingested(
            kept=len(fresh),
            known=len(batch) - refused - len(fresh),
            refused=refused,
            why=f"a trace has at most {MAX_TRACE_SPANS} spans" if refused else "",
        )

    def mark(self, request_id: str, kept: str) -> bool:
        with self._db.write(alone=False) as connection:
            return bool(
                connection.execute(
                    update(table).where(table.c.request_id == request_id, table.c.kept == PASSING).values(kept=kept)
                ).rowcount
            )

    def hold(self, request_id: str, case: str, *, at: datetime, why: str = "") -> bool:
        with self._db.write() as connection:
            row = _found(connection, request_id)
            if row is None:
                return False
            connection.execute(update(table).where(table.c.request_id == row.request_id).values(held=case))
            subject, before = f"request:{row.request_id}", {"held": row.held}
            action = HELD if case else RELEASED
            entry = AuditEntry(
                action=action, subject=subject, at=at, before=before, after={"held": case}, why=why or case
            )
            append(connection, entry)
            return True

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, request_id: str) -> Trace | None:
        return self._get(request_id, attributes=True)

    def skeleton(self, request_id: str) -> Trace | None:
        return self._get(request_id, attributes=False)

    def span(self, request_id: str, span_id: str) -> Span | None:
        with self._db.read() as connection:
            row = _found(connection, request_id)
            if row is None:
                return None
            held = _trace(row)
            if held.imported:
                one = _ONE.run(connection, {"trace_id": held.trace_id, "span_id": span_id}).first()
                if one is not None:
                    return _imported(one, row.at)
                own = _own_within(connection, row, attributes=True)
                return next((span for span in own if span.span_id == span_id), None)
        return next((span for span in held.whole if span.span_id == span_id), None)

    def recent(self, *, asker: str | None, limit: int, before: datetime | None = None) -> list[Trace]:
        """The newest first, of one asker or of all."""
        wanted = select(table).order_by(table.c.at.desc(), table.c.request_id.desc()).limit(limit)
        if asker is not None:
            wanted = wanted.where(table.c.asker == asker)
        if before is not None:
            wanted = wanted.where(table.c.at < micros(before))
        with self._db.read() as connection:
            return [_trace(row) for row in connection.execute(wanted)]

    def search(self, wanted: Search) -> Page:
        key = tuple_(table.c.at, table.c.request_id)
        order = (table.c.at.desc(), table.c.request_id.desc())
        where, indexed = _range(wanted, key)
        filters = [*_filters(wanted), *self._reported(wanted)]
        with self._db.read() as connection:
            end = None
            if filters:
                # The last entry that this page looks at: what comes after it is the next page's.
                most = LOOK_AT if indexed else LOOK_AT_ROWS
                last = select(table.c.at, table.c.request_id).where(*where).order_by(*order).offset(most).limit(1)
                end = connection.execute(last).first()
                if end is not None:
                    where.append(key >= tuple_(literal(end.at), literal(end.request_id)))
            found = connection.execute(
                select(table.c.at, table.c.request_id).where(*where, *filters).order_by(*order).limit(wanted.limit + 1)
            ).all()
            more = len(found) > wanted.limit
            ids = [row.request_id for row in found[: wanted.limit]]
            named = connection.execute(select(table).where(table.c.request_id.in_(ids))) if ids else ()
            rows = {row.request_id: row for row in named}
        shown = tuple(replace(_trace(rows[name]), spans=()) for name in ids)
        after = found[wanted.limit - 1] if more else end
        return Page(traces=shown, next="" if after is None else f"{after.at}~{after.request_id}")

    def ranked(self, wanted: Search, by: Order) -> tuple[Trace, ...]:
        """The dearest, or the slowest, of the newest that a page of a search looks at; without their steps."""
        column = table.c.cost_n if by == "cost" else table.c.duration_ms
        where, indexed = _range(wanted, tuple_(table.c.at, table.c.request_id))
        newest = (
            select(table.c.request_id, column.label("much"))
            .where(*where, *_filters(wanted), *self._reported(wanted))
            .order_by(table.c.at.desc(), table.c.request_id.desc())
            .limit(LOOK_AT if indexed else LOOK_AT_ROWS)
            .subquery()
        )
        first = select(newest.c.request_id).order_by(newest.c.much.desc(), newest.c.request_id).limit(wanted.limit)
        with self._db.read() as connection:
            ids = connection.scalars(first).all()
            named = connection.execute(select(table).where(table.c.request_id.in_(ids))) if ids else ()
            rows = {row.request_id: row for row in named}
        return tuple(replace(_trace(rows[name]), spans=()) for name in ids if name in rows)

    def content(self, request_id: str) -> Mapping[str, str] | None:
        held: dict[str, str] = {}
        with self._db.read() as connection:
            row = _found(connection, request_id)
            if row is None:
                return None
            wanted = select(trace_content.c.part, trace_content.c.content).where(
                trace_content.c.request_id == row.request_id
            )
            for part, content in connection.execute(wanted.order_by(trace_content.c.part)):
                held |= {f"{part}.{name}" if part else name: text for name, text in json.loads(content).items()}
        return held or None

    def _get(self, request_id: str, *, attributes: bool) -> Trace | None:
        with self._db.read() as connection:
            row = _found(connection, request_id)
            if row is None:
                return None
            held = _trace(row)
            if not held.imported:
                return held if attributes else replace(held, spans=tuple(map(_bare, held.spans)))
            wanted = _WHOLE if attributes else _BARE
            read = wanted.run(connection, {"trace_id": held.trace_id, "most": MAX_TRACE_SPANS})
            steps = [_imported(one, row.at) for one in read.fetchall()]
            steps += _own_within(connection, row, attributes=attributes)
        return replace(held, spans=tuple(sorted(steps, key=lambda one: one.start_ms)))

    def _reported(self, wanted: Search) -> list[ColumnElement[bool]]:
        if not wanted.outcome:
            return []
        if self._outcome is None:
            raise Invalid("outcomes are not kept here", where="outcome")
        return [self._outcome(wanted.outcome)]

    # -- deleting ------------------------------------------------------------------------------------------------------

    def prune(
        self,
        before: datetime,
        *,
        content_before: datetime | None = None,
        passing_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Forget journeys that began before, texts that are older than theirs, and the steps of those that sampling left
        out. What is held stays whole, and what a legal hold on its
        asker or itself binds. With ``dry_run`` nothing is deleted, and the same is counted."""
        old = [table.c.at < micros(before)]
        kept_back = or_(table.c.held != "", bound(table.c.asker, "request:" + table.c.request_id))
        free = ~kept_back
        texts = trace_content.c.at < micros(content_before or before)
        staying = exists().where(table.c.request_id == trace_content.c.request_id, kept_back, table.c.kept != DROPPED)
        leaving = [literal_column("trace.kept") == literal_column(f"'{PASSING}'"), free]
        leaving.append(table.c.at < micros(passing_before or before))
        with self._db.read() as connection:
            held = connection.scalar(select(func.count()).where(*old, ~free)) or 0
            if dry_run:
                steps = exists().where(*old, free, table.c.trace_id == span_table.c.trace_id, _IS_IMPORTED)
                return Pruned(
                    traces=connection.scalar(select(func.count()).where(*old, free)) or 0,
                    dropped=connection.scalar(select(func.count()).where(*leaving)) or 0,
                    spans=connection.scalar(select(func.count()).select_from(span_table).where(steps)) or 0,
                    contents=connection.scalar(select(func.count()).where(texts, ~staying)) or 0,
                    held=held,
                )
        contents = 0
        while True:
            some = select(trace_content.c.request_id, trace_content.c.part).where(texts, ~staying).limit(AT_ONCE)
            with self._db.write(alone=False) as connection:
                keys = connection.execute(some).all()
                for name, part in keys:
                    connection.execute(
                        delete(trace_content).where(trace_content.c.request_id == name, trace_content.c.part == part)
                    )
            contents += len(keys)
            if len(keys) < AT_ONCE:
                break
        dropped = self._drop(leaving)
        traces = spans = 0
        while True:
            some_traces = select(table.c.request_id, table.c.trace_id).where(*old, free).limit(AT_ONCE)
            with self._db.write(alone=False) as connection:
                rows = connection.execute(some_traces).all()
                names = [row.request_id for row in rows]
                foreign = [row.trace_id for row in rows if row.request_id == IMPORTED + row.trace_id]
                if foreign:
                    connection.execute(delete(span_detail).where(span_detail.c.trace_id.in_(foreign)))
                    gone = delete(span_table).where(span_table.c.trace_id.in_(foreign))
                    spans += int(connection.execute(gone).rowcount)
                connection.execute(delete(trace_content).where(trace_content.c.request_id.in_(names)))
                connection.execute(delete(table).where(table.c.request_id.in_(names)))
            traces += len(names)
            if len(names) < AT_ONCE:
                break
        return Pruned(traces=traces, dropped=dropped, spans=spans, contents=contents, held=held)

    def _drop(self, leaving: Sequence[ColumnElement[bool]]) -> int:
        """Take the steps out of journeys that sampling left out; what they came to stays."""
        dropped = 0
        while True:
            with self._db.write(alone=False) as connection:
                rows = connection.execute(select(table.c.request_id, table.c.visible).where(*leaving).limit(AT_ONCE))
                held = rows.all()
                for name, visible in held:
                    facts = json.loads(visible)["facts"]
                    connection.execute(
                        update(table)
                        .where(table.c.request_id == name)
                        .values(kept=DROPPED, visible=dumps({"spans": [], "facts": facts}))
                    )
            dropped += len(held)
            if len(held) < AT_ONCE:
                return dropped


_IS_IMPORTED = table.c.request_id == IMPORTED + table.c.trace_id


# -- rows --------------------------------------------------------------------------------------------------------------


def _row(trace: Trace) -> dict[str, Any]:
    return {
        "request_id": trace.request_id,
        "at": micros(trace.at),
        "asker": trace.asker,
        "kind": trace.kind,
        "status": trace.status,
        "visible": _DUMP({"spans": [_span(span) for span in trace.spans], "facts": dict(trace.facts)}),
        "operator": _DUMP(dict(trace.operator)),
        "trace_id": trace.trace_id,
        "root_id": trace.root_id,
        "parent_id": trace.parent_id,
        "name": trace.name,
        "door": trace.door,
        "mode": trace.mode,
        "model": trace.model,
        "release": trace.release,
        "failed": int(trace.failed),
        "duration_ms": trace.duration_ms,
        "first_ms": trace.first_ms,
        "cost_n": trace.cost_nanodollars,
        "input_tokens": trace.input_tokens,
        "output_tokens": trace.output_tokens,
        "span_count": trace.span_count,
        "kept": trace.kept,
        "held": trace.held,
    }


_DUMP = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # made once: there is one on every request
_PLAIN = {"span_id": "", "parent_id": "", "name": "", "status": OK, "error_class": ""}


def _span(span: Span) -> dict[str, Any]:
    held: dict[str, Any] = {"kind": span.kind, "start_ms": span.start_ms, "duration_ms": span.duration_ms}
    if span.span_id:
        held["span_id"], held["parent_id"] = span.span_id, span.parent_id
    if span.name:
        held["name"] = span.name
    if span.status != OK or span.error_class:
        held["status"], held["error_class"] = span.status, span.error_class
    held["attributes"] = dict(span.attributes)
    return held


def _trace(row: Row[Any]) -> Trace:
    visible = json.loads(row.visible)
    at = moment(row.at)
    assert at is not None
    spans = tuple([Span(**span) for span in visible["spans"]])
    return Trace(
        request_id=row.request_id,
        at=at,
        asker=row.asker,
        kind=row.kind,
        status=row.status,
        spans=spans,
        facts=visible["facts"],
        operator=json.loads(row.operator),
        trace_id=row.trace_id,
        root_id=row.root_id,
        parent_id=row.parent_id,
        name=row.name,
        door=row.door,
        mode=row.mode,
        model=row.model,
        release=row.release,
        failed=bool(row.failed),
        duration_ms=row.duration_ms,
        first_ms=row.first_ms,
        cost_nanodollars=row.cost_n,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        span_count=row.span_count,
        kept=row.kept,
        held=row.held,
    )


_STEP = tuple(
    span_table.c[name]
    for name in ("span_id", "parent_id", "kind", "name", "start", "duration_ms", "status", "error_class")
)
_SUMS = ("service", "model", "input_tokens", "output_tokens", "cost_n", "first_ms")
_SAID = ("service", "model", "input_tokens", "output_tokens", "cost_nanodollars", "first_ms")
# Straight to the driver, as plain rows: there may be tens of thousands.
_OF_TRACE = span_table.c.trace_id == bindparam("trace_id")
_BARE = Hot(select(*_STEP).where(_OF_TRACE).limit(bindparam("most")), by_place=True)
_FULL = (
    select(*_STEP, span_detail.c.attributes, *(span_table.c[name] for name in _SUMS))
    .outerjoin(
        span_detail,
        and_(span_detail.c.trace_id == span_table.c.trace_id, span_detail.c.span_id == span_table.c.span_id),
    )
    .where(_OF_TRACE)
)
_WHOLE = Hot(_FULL.limit(bindparam("most")), by_place=True)
_ONE = Hot(_FULL.where(span_table.c.span_id == bindparam("span_id")), by_place=True)


def _imported(row: Sequence[Any], began: int) -> Span:
    """A step of another program, its times counted from the beginning of its trace."""
    span_id, parent_id, kind, name, start, duration_ms, status, error_class = row[:8]
    attributes: dict[str, Any] = {}
    if len(row) > 8:
        attributes = json.loads(row[8] or "{}")
        attributes |= {said: value for said, value in zip(_SAID, row[9:], strict=True) if value}
    return Span(
        span_id=span_id,
        parent_id=parent_id,
        kind=kind,
        name=name,
        start_ms=(start - began) / 1000,
        duration_ms=duration_ms,
        status=status,
        error_class=error_class,
        attributes=attributes,
    )


def _bare(span: Span) -> Span:
    return replace(span, attributes={})


def _found(connection: Connection, request_id: str) -> Row[Any] | None:
    """The row of a request, of an imported trace, or the first of ours in a trace."""
    if not (request_id.isascii() and request_id.isprintable()):
        return None  # no database takes every character in a statement
    names = [request_id, own_name(request_id)]
    rows = connection.execute(select(table).where(table.c.request_id.in_(names))).all()
    row = next((held for name in names for held in rows if held.request_id == name), None)
    if row is None and names[0] != names[1]:
        first = select(table).where(table.c.trace_id == request_id).order_by(table.c.at).limit(1)
        row = connection.execute(first).first()
    return row


def _own_within(connection: Connection, row: Row[Any], *, attributes: bool) -> list[Span]:
    """The steps of our own requests within an imported trace, of the same asker."""
    wanted = select(table).where(
        table.c.trace_id == row.trace_id, table.c.asker == row.asker, table.c.request_id != row.request_id
    )
    steps: list[Span] = []
    for own in connection.execute(wanted.limit(OWN_IN_A_TRACE)):
        shift = (own.at - row.at) / 1000
        for span in _trace(own).whole:
            moved = replace(span, start_ms=round(span.start_ms + shift, 3))
            steps.append(moved if attributes else _bare(moved))
    return steps


def _put_content(connection: Connection, name: str, part: str, at: int | None, content: Mapping[str, str]) -> None:
    _CONTENT.run(connection, {"request_id": name, "part": part, "at": at, "content": dumps(dict(content))})


# -- searching ---------------------------------------------------------------------------------------------------------


def _range(wanted: Search, key: Any) -> tuple[list[ColumnElement[bool]], bool]:
    """What an index itself begins and ends with, and whether it holds everything else that is asked for."""
    where: list[ColumnElement[bool]] = []
    covering = True
    if wanted.trace_id:
        where.append(table.c.trace_id == wanted.trace_id)
        covering = False
    elif wanted.asker:
        where.append(table.c.asker == wanted.asker)
        covering = False
    elif wanted.failed:
        where.append(_FAILED)
        covering = False
    if wanted.since is not None:
        where.append(table.c.at >= micros(wanted.since))
    if wanted.before is not None:
        where.append(table.c.at < micros(wanted.before))
    if wanted.after:
        at, _, name = wanted.after.partition("~")
        if not (at.isascii() and at.isdigit() and len(at) < 19 and name.isascii() and name.isprintable()):
            raise Invalid("is no cursor", where="cursor", fix="use the next of the page before, as it is")
        where.append(key < tuple_(literal(int(at)), literal(name)))
    return where, covering


_FAILED: ColumnElement[bool] = table.c.failed == literal_column("1")  # in the words of the index over failures


def _filters(wanted: Search) -> list[ColumnElement[bool]]:
    named = {name: getattr(wanted, name) for name in ("status", "mode", "model", "release", "door", "kind")}
    limited = named["mode"] == LIMITED
    if limited:
        del named["mode"]
    where: list[ColumnElement[bool]] = [table.c[name] == value for name, value in named.items() if value]
    if limited:
        where.append(table.c.mode.not_in(("", "full")))
    if wanted.asker and wanted.trace_id:
        where.append(table.c.asker == wanted.asker)
    if wanted.failed is not None and (not wanted.failed or wanted.asker or wanted.trace_id):
        where.append(table.c.failed == int(wanted.failed))
    if wanted.min_cost:
        where.append(table.c.cost_n >= wanted.min_cost)
    if wanted.min_ms:
        where.append(table.c.duration_ms >= wanted.min_ms)
    return where


# -- steps of other programs -------------------------------------------------------------------------------------------


def _full(connection: Connection, traces: Sequence[str]) -> set[str]:
    """Those of these traces that may have no more steps."""
    wanted = select(table.c.trace_id).where(
        table.c.request_id.in_([IMPORTED + one for one in traces]), table.c.span_count >= MAX_TRACE_SPANS
    )
    return set(connection.scalars(wanted))


_MOST_AT_ONCE = 128  # rows of one statement: SQLite takes 32,766 values
_INSERTS = {
    1 << n: Hot(lambda connection, count=1 << n: _inserting(connection, count), by_place=True)
    for n in range(_MOST_AT_ONCE.bit_length())
}
"""Statements that insert so many steps: a few sizes, of which any number is made up, so that each is compiled once."""


def _inserting(connection: Connection, count: int) -> Any:
    rows: list[dict[str, Any]] = [
        {column.name: bindparam(f"{column.name}_{n}") for column in span_table.c} for n in range(count)
    ]
    statement = upsert(connection, span_table).values(rows).on_conflict_do_nothing()
    return statement.returning(span_table.c.trace_id, span_table.c.span_id)


def _span_row(one: ImportedSpan) -> tuple[Any, ...]:
    """What is kept of a step besides what it says of itself, in the order of the table's columns."""
    return (
        one.trace_id,
        one.span_id,
        one.parent_id,
        one.kind,
        one.name,
        one.start_us,
        one.duration_ms,
        one.status,
        one.error_class,
        one.service,
        one.model,
        one.input_tokens,
        one.output_tokens,
        one.cost_nanodollars,
        one.first_ms,
    )


def _insert_spans(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> set[tuple[str, str]]:
    """Write steps; which were not there before."""
    new: set[tuple[str, str]] = set()
    at, size = 0, _MOST_AT_ONCE
    while at < len(rows):
        if len(rows) - at < size:
            size >>= 1
            continue
        values = list(chain.from_iterable(rows[at : at + size]))
        new.update((trace_id, span_id) for trace_id, span_id in _INSERTS[size].run_in_order(connection, values))
        at += size
    return new


def _summaries(spans: Iterable[ImportedSpan]) -> list[dict[str, Any]]:
    """A row of ``trace`` for each trace of these, with what these add to it."""
    made: dict[str, dict[str, Any]] = {}
    for one in spans:
        end = one.start_us + one.duration_ms * 1000
        row = made.get(one.trace_id)
        if row is None:
            row = made[one.trace_id] = {
                "request_id": IMPORTED + one.trace_id,
                "at": one.start_us,
                "asker": one.principal,
                "kind": "imported",
                "status": OK,
                "visible": _EMPTY,
                "operator": "{}",
                "trace_id": one.trace_id,
                "root_id": "",
                "parent_id": "",
                "name": "",
                "door": "otlp",
                "mode": "",
                "model": "",
                "release": "",
                "failed": 0,
                "duration_ms": 0.0,
                "first_ms": None,
                "cost_n": 0,
                "input_tokens": 0,
                "output_tokens": 0,
                "span_count": 0,
                "kept": "all",
                "held": "",
            }
        until = max(row["at"] + row["duration_ms"] * 1000, end)
        row["at"] = min(row["at"], one.start_us)
        row["duration_ms"] = round((until - row["at"]) / 1000, 3)
        row["model"] = row["model"] or one.model
        row["release"] = row["release"] or one.release
        if row["first_ms"] is None:
            row["first_ms"] = one.first_ms
        row["cost_n"] += one.cost_nanodollars
        row["input_tokens"] += one.input_tokens
        row["output_tokens"] += one.output_tokens
        row["span_count"] += 1
        if not one.parent_id:  # what became of the whole is what became of its root
            row["root_id"], row["name"] = one.span_id, one.name
            row["status"], row["failed"] = one.status, int(one.status == ERROR)
    return [made[name] for name in sorted(made)]


def _counting(connection: Connection) -> Any:
    """The statement that adds what is new to the row of a trace."""
    adding = upsert(connection, table)
    new, held = adding.excluded, table.c
    begin = case((new.at < held.at, new.at), else_=held.at)
    held_end, new_end = held.at + held.duration_ms * 1000, new.at + new.duration_ms * 1000
    end = case((new_end > held_end, new_end), else_=held_end)
    rooted = new.root_id != ""

    def first(name: str) -> Any:
        return case((held[name] != "", held[name]), else_=new[name])

    def of_root(name: str) -> Any:
        return case((rooted, new[name]), else_=held[name])

    return adding.on_conflict_do_update(
        index_elements=[held.request_id],
        set_={
            "at": begin,
            "duration_ms": (end - begin) / 1000.0,
            # A trace that several send is nobody's own: only who may see all sees it.
            "asker": case((held.asker == new.asker, held.asker), else_=""),
            "model": first("model"),
            "release": first("release"),
            "first_ms": func.coalesce(held.first_ms, new.first_ms),
            "cost_n": held.cost_n + new.cost_n,
            "input_tokens": held.input_tokens + new.input_tokens,
            "output_tokens": held.output_tokens + new.output_tokens,
            "span_count": held.span_count + new.span_count,
            **{name: of_root(name) for name in ("root_id", "name", "status", "failed")},
        },
        where=held.request_id == IMPORTED + held.trace_id,
    )


_COUNT = Hot(_counting, columns=table.c.keys())
