"""Copies a whole service from one database into another: every table of the schema, in batches, verified, resumable.

How far the copy is stands in the target (the fact ``transfer:progress``), written in the transaction of each batch: it
goes on where it was interrupted, and until it is finished nobody can open the target as a service, which would be one
without some of its rules. The source is read in one snapshot. In the end both sides are read again and compared table
by table; a source that was written to meanwhile shows there, is named, and is copied anew by the next run.

What a database derives from documents to search by is not copied: it is built again when the service starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, not_, select, update
from sqlalchemy import column as named_column

from mainstay.errors import Conflict
from mainstay.storage.database import UNFINISHED, Database
from mainstay.storage.schema import change, fact, metadata
from mainstay.storage.sums import Shape, Sum, pages, shapes, sum_of

BATCH_ROWS = 5000
BATCH_BYTES = 4 * 1024 * 1024
INSTEAD_OF_NUL = "\N{REPLACEMENT CHARACTER}"  # one character for one: offsets into texts stay true
# Not part of the service: rows about the copy, and about what one database keeps to search by.
_OURS = {"fact": and_(*(not_(named_column("name").like(f"{prefix}:%")) for prefix in ("transfer", "search")))}
_STOP = "stop mainstay serve and mainstay worker, then run it again: it copies anew what it has to"

Progress = Callable[[int, int, str], None]


@dataclass(kw_only=True)
class Transfer:
    """What was copied. ``mended`` counts rows whose U+0000, which PostgreSQL can not keep, became U+FFFD."""

    tables: dict[str, Sum]
    resumed: bool
    mended: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _State:
    """How far the copy is: the table it stands in, the last key copied of it, and what was read so far."""

    stamp: str  # of the source when the copy began
    table: str = ""
    after: tuple[Any, ...] | None = None
    sums: dict[str, Sum] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    stale: bool = False  # it was found to differ: to be copied anew

    def dumped(self) -> str:
        held = {name: total.written() for name, total in self.sums.items()}
        return json.dumps({**self.__dict__, "sums": held}, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> _State:
        held = json.loads(text)
        held["sums"] = {name: Sum.read(total) for name, total in held["sums"].items()}
        return cls(**{**held, "after": None if held["after"] is None else tuple(held["after"])})


def transfer(source: Database, target: Database, *, progress: Progress | None = None) -> Transfer:
    """Copy all of ``source`` into ``target``, or go on with a copy that was interrupted.

    The target is opened with ``open_database(..., unfinished=True)``. Errors: Conflict when the target holds another
    service, when another copy runs, or when the two differ in the end; Unavailable when either does not answer: run it
    again.
    """
    with source.read() as reading:
        state, resumed = _begun(target, _stamp(reading))
        counts = {shape.name: _count(reading, shape) for shape in shapes()}
        total = 2 * sum(counts.values())
        done = sum(held.rows for held in state.sums.values())
        for state, copied in _copied(reading, target, state):  # noqa: B020 - goes on from where it is
            done += copied
            if progress:
                progress(done, total, state.table)
    _verify(source, target, state, lambda seen, what: progress(done + seen, total, what) if progress else None)
    with target.write() as connection:
        _must_be(connection, state)
        connection.execute(delete(fact).where(fact.c.name == UNFINISHED))
    if progress:
        progress(total, total, "")
    return Transfer(tables=state.sums, resumed=resumed, mended=state.mended)


def _begun(target: Database, stamp: str) -> tuple[_State, bool]:
    """Where the copy stands: at its beginning in an empty target, at the beginning again when the source is another."""
    with target.write() as connection:
        held = connection.scalar(select(fact.c.value).where(fact.c.name == UNFINISHED))
        state = None if held is None else _State.read(held)
        if state is not None and state.stamp == stamp and not state.stale:
            return state, bool(state.sums)
        if state is None:
            # Whoever merely looked at an empty database has left facts and chores in it.
            taken = [
                table.name
                for table in metadata.sorted_tables
                if table.name not in ("fact", "job") and connection.execute(select(table).limit(1)).first()
            ]
            if taken:
                raise Conflict(
                    f"there is a service already (rows in {', '.join(taken)})",
                    where=target.where,
                    fix="name an empty database, or another schema with --schema",
                )
        _empty(connection)
        fresh = _State(stamp=stamp)
        connection.execute(insert(fact).values(name=UNFINISHED, value=fresh.dumped()))
        return fresh, False


def _empty(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # One quick statement where deleting a large table would run into the statement's time-out; CASCADE reaches what
        # was derived from these rows.
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.exec_driver_sql(f"TRUNCATE {names} CASCADE")
    else:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


def _copied(reading: Connection, target: Database, state: _State) -> Iterator[tuple[_State, int]]:
    """Copies batch by batch; gives the new state after each."""
    noted = state  # as it stands in the target
    order = shapes()
    names = [shape.name for shape in order]
    for shape in order[names.index(state.table) if state.table else 0 :]:
        after = state.after if shape.name == state.table else None
        state = replace(state, table=shape.name, after=after, sums={shape.name: Sum(), **state.sums})
        for batch in _batches(pages(reading, shape, after, _OURS.get(shape.name))):
            rows, mended = _mended(batch) if target.dialect == "postgresql" else (batch, 0)
            state = replace(
                state,
                after=tuple(batch[-1][shape.columns.index(name)] for name in shape.key),
                sums={**state.sums, shape.name: state.sums[shape.name].plus(rows)},
                mended={**state.mended, shape.name: state.mended.get(shape.name, 0) + mended}
                if mended
                else state.mended,
            )
            # Not durable: rows and progress are one transaction, so a power cut takes both back alike.
            with target.write(durable=False) as connection:
                _must_be(connection, noted)
                connection.execute(
                    insert(metadata.tables[shape.name]), [dict(zip(shape.columns, row, strict=True)) for row in rows]
                )
                _note(connection, state)
            noted = state
            yield state, len(rows)
    if noted != state:
        with target.write() as connection:
            _must_be(connection, noted)
            _note(connection, state)
    yield state, 0


def _batches(read: Iterator[list[tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    size = 0
    for rows in read:
        for row in rows:
            batch.append(row)
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if size >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _mended(rows: Sequence[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], int]:
    """The rows as PostgreSQL can keep them, and how many had to be changed for it."""
    kept: list[tuple[Any, ...]] = []
    mended = 0
    for row in rows:
        if any(isinstance(value, str) and "\0" in value for value in row):
            mended += 1
            row = tuple(value.replace("\0", INSTEAD_OF_NUL) if isinstance(value, str) else value for value in row)
        kept.append(row)
    return kept, mended


def _must_be(connection: Connection, state: _State) -> None:
    """Nobody else copies into the same target: two would not find what they wrote."""
    held = connection.scalar(select(fact.c.value).where(fact.c.name == UNFINISHED).with_for_update())
    if held != state.dumped():
        raise Conflict("another copy runs into this database", fix="wait for it")


def _note(connection: Connection, state: _State) -> None:
    connection.execute(update(fact).where(fact.c.name == UNFINISHED).values(value=state.dumped()))


def _verify(source: Database, target: Database, state: _State, progress: Callable[[int, str], None]) -> None:
    """Both sides as they are now are what was copied. Errors: Conflict naming the tables; the next run copies anew."""
    moved: list[str] = []
    wrong: list[str] = []
    seen = 0
    nul = target.dialect == "postgresql"
    with source.read() as here, target.read() as there:
        for shape in shapes():
            where = _OURS.get(shape.name)
            copied = state.sums[shape.name]
            now = Sum()
            for rows in pages(here, shape, where=where):
                now = now.plus(_mended(rows)[0] if nul else rows)
            if now != copied:
                moved.append(shape.name)
            if sum_of(there, shape, where) != copied:
                wrong.append(shape.name)
            seen += copied.rows
            progress(seen, f"verifying {shape.name}")
    if moved or wrong:
        with target.write() as connection:
            _must_be(connection, state)
            _note(connection, replace(state, stale=True))
    if moved:
        raise Conflict(
            f"the service was written to while it was copied ({', '.join(moved)})", where=source.where, fix=_STOP
        )
    if wrong:
        raise Conflict(
            f"the copy differs ({', '.join(wrong)})",
            where=target.where,
            fix="see that nothing else writes there, then run it again: it copies anew",
        )


def _stamp(reading: Connection) -> str:
    """Tells whether this is still the service that was being copied. Cheap, so not proof: verifying is."""
    facts = sum_of(reading, Shape.of(fact), _OURS["fact"])
    newest = reading.scalar(select(func.max(change.c.n))) or 0
    counts = [_count(reading, shape) for shape in shapes()]
    return json.dumps([facts.hex, newest, counts])


def _count(reading: Connection, shape: Shape) -> int:
    return reading.scalar(select(func.count()).select_from(metadata.tables[shape.name])) or 0
