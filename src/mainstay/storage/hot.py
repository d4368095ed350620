"""Statements of the road, compiled once.

SQLAlchemy works out at each execution whether it has compiled such a statement before, and puts together a context and a
result, which costs several times what SQLite needs to run it. A ``Hot`` statement is compiled at its first use on each
dialect and then handed to the driver as it is. To SQLite's on the spot; else, or while somebody listens to the engine's
statements, by ``exec_driver_sql``. Pools, transactions and errors stay what they are. Values go to the driver as they come,
and so do results: only for columns whose Python type is the driver's own (text, numbers, bytes).
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Result(Protocol):
    """What an execution brought: the part of SQLAlchemy's result that the road needs. Rows have their columns by name and place."""

    @property
    def rowcount(self) -> int: ...

    def first(self) -> Any: ...

    def scalar(self) -> Any: ...

    def fetchall(self) -> Sequence[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Hot:
    """One statement with named parameters (``bindparam``; of an insert, its columns).

    ``statement`` may be a function of a connection, where the dialects have different words for it. ``by_place`` says that
    nobody asks its rows for a column by name, which is dearer where there are many.
    """

    def __init__(self, statement: Any, *, columns: Sequence[str] | None = None, by_place: bool = False) -> None:
        self._statement, self._columns, self._by_place = statement, columns, by_place
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}
        self._row: Callable[[Any], Any] | None = None

    def run(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Result:
        """Execute it with these values."""
        sql, names, fixed = self._for(connection)
        held = fixed if values is None else {**fixed, **values}
        return self._run(connection, sql, tuple([held[name] for name in names]))

    def run_in_order(self, connection: Connection, values: Sequence[Any]) -> Result:
        """Execute it with the values of all its parameters in the order in which they stand in it: where there are thousands."""
        return self._run(connection, self._for(connection)[0], tuple(values))

    def _run(self, connection: Connection, sql: str, given: tuple[Any, ...]) -> Result:
        if not _straight(connection):
            return connection.exec_driver_sql(sql, given)
        cursor = at_once(connection, sql, given)
        if self._row is None and not self._by_place and cursor.description:
            columns = [column[0] for column in cursor.description]
            self._row = namedtuple("Row", columns, rename=True)._make  # type: ignore[attr-defined] # noqa: PYI024 - names known only now
        return _Rows(cursor, self._row)

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it once for each of these, of which there is at least one."""
        if connection.dialect.name == "postgresql" and len(rows) > 1:
            connection.execute(self._made(connection), rows)  # one round trip for all, where it is an insert
            return
        sql, names, fixed = self._for(connection)
        given = [tuple([{**fixed, **row}[name] for name in names]) for row in rows]
        if len(given) == 1 and _straight(connection):
            at_once(connection, sql, given[0])
        else:
            connection.exec_driver_sql(sql, given)

    def _for(self, connection: Connection) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        dialect = connection.dialect
        held = self._compiled.get(dialect.name)
        if held is None:
            compiled = self._made(connection).compile(
                dialect=dialect, column_keys=self._columns, compile_kwargs={"render_postcompile": True}
            )
            # Threads that meet here compile the same: whichever comes last stays.
            held = (str(compiled), tuple(compiled.positiontup or ()), dict(compiled.params))
            self._compiled[dialect.name] = held
        return held

    def _made(self, connection: Connection) -> Any:
        return self._statement(connection) if isinstance(self._statement, FunctionType) else self._statement


def at_once(connection: Connection, sql: str, given: Sequence[Any] = ()) -> sqlite3.Cursor:
    """Run a statement on a connection to SQLite, past SQLAlchemy but with its errors."""
    driver: Any = connection.connection.driver_connection
    try:
        cursor: sqlite3.Cursor = driver.execute(sql, given)
    except sqlite3.Error as error:
        raise _told(sql, error) from error
    return cursor


def _straight(connection: Connection) -> bool:
    """Whether nobody listens to what this connection is asked, and the driver needs no help."""
    return connection.dialect.name == "sqlite" and not connection.engine.dispatch.before_cursor_execute


def _told(sql: str | None, error: sqlite3.Error) -> BaseException:
    return DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True)


class _Rows:
    """A ``Result`` over a cursor of SQLite. To be read inside the transaction, and once."""

    __slots__ = ("_cursor", "_row")

    def __init__(self, cursor: sqlite3.Cursor, row: Callable[[Any], Any] | None) -> None:
        self._cursor, self._row = cursor, row

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def first(self) -> Any:
        """The first row, or None; what comes after it is let go."""
        try:
            held = self._cursor.fetchone()
            self._cursor.close()
        except sqlite3.Error as error:
            raise _told(None, error) from error
        return held if held is None or self._row is None else self._row(held)

    def scalar(self) -> Any:
        held = self.first()
        return None if held is None else held[0]

    def fetchall(self) -> list[Any]:
        try:
            held = self._cursor.fetchall()
        except sqlite3.Error as error:
            raise _told(None, error) from error
        return held if self._row is None else list(map(self._row, held))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())
