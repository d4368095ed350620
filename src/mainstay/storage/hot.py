"""Statements of the road, compiled once.

SQLAlchemy works out at each execution whether it has compiled such a statement before, which costs more than SQLite needs
to run it. A ``Hot`` statement is compiled at its first use on each dialect and then handed to the driver as it is: by
``exec_driver_sql``, so that pools, transactions, errors and events stay what they are. Values go to the driver as they come,
and so do results: only for columns whose Python type is the driver's own (text, numbers, bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from sqlalchemy import Connection, CursorResult


class Hot:
    """One statement with named parameters (``bindparam``; of an insert, its columns).

    ``statement`` may be a function of a connection, where the dialects have different words for it.
    """

    def __init__(self, statement: Any, *, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def run(self, connection: Connection, values: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Execute it with these values."""
        sql, names, fixed = self._for(connection)
        held = fixed if values is None else {**fixed, **values}
        return connection.exec_driver_sql(sql, tuple([held[name] for name in names]))

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it once for each of these, of which there is at least one."""
        if connection.dialect.name == "postgresql" and len(rows) > 1:
            connection.execute(self._made(connection), rows)  # one round trip for all, where it is an insert
            return
        sql, names, fixed = self._for(connection)
        connection.exec_driver_sql(sql, [tuple([{**fixed, **row}[name] for name in names]) for row in rows])

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
