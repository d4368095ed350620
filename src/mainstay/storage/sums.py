"""What a table holds, as a number of rows and one checksum that does not depend on their order or on the database.

A row becomes bytes in one fixed way, the bytes a 128-bit BLAKE2b digest, and the digests of a table are added up modulo
2**128: equal sums mean equal rows, whatever collation sorted them. It guards against mishaps, not against somebody who
chooses rows so that they add up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import BigInteger, Connection, Table, Text, column, literal, select, tuple_
from sqlalchemy import table as named_table

from mainstay.storage.schema import metadata

PAGE = 1000
PAGE_OF_TEXTS = 16  # whole documents: few of them fill the memory that many chunks do
_TEXTS = frozenset({"document_version"})
_MODULUS = 1 << 128


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A table by names alone, so that a backup can be checked whose schema is not today's."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def of(cls, table: Table) -> Shape:
        return cls(
            name=table.name,
            columns=tuple(held.name for held in table.columns),
            key=tuple(held.name for held in table.primary_key.columns),
        )


@dataclass(frozen=True, kw_only=True)
class Sum:
    """How many rows, and their digests added up."""

    rows: int = 0
    digest: int = 0

    def plus(self, rows: Iterable[Sequence[Any]]) -> Sum:
        """With these rows as well."""
        count, digest = self.rows, self.digest
        for row in rows:
            count += 1
            digest += _digest(row)
        return Sum(rows=count, digest=digest % _MODULUS)

    @property
    def hex(self) -> str:
        return f"{self.digest:032x}"

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> Sum:
        return cls(rows=int(held["rows"]), digest=int(held["sum"], 16))

    def written(self) -> dict[str, Any]:
        return {"rows": self.rows, "sum": self.hex}


def shapes() -> list[Shape]:
    """Every table of today's schema, each after those it refers to."""
    return [Shape.of(table) for table in metadata.sorted_tables]


def pages(
    connection: Connection, shape: Shape, after: Sequence[Any] | None = None, where: Any = None
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a table in the order of their keys, a page at a time, after a given key."""
    held = named_table(shape.name, *(column(name) for name in shape.columns))
    keys = [held.c[name] for name in shape.key]
    places = [shape.columns.index(name) for name in shape.key]
    size = PAGE_OF_TEXTS if shape.name in _TEXTS else PAGE
    while True:
        wanted = select(held).order_by(*keys).limit(size)
        if where is not None:
            wanted = wanted.where(where)
        if after is not None:
            wanted = wanted.where(tuple_(*keys) > tuple_(*map(_bound, after)))
        rows = [tuple(row) for row in connection.execute(wanted)]
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = [rows[-1][place] for place in places]


def sum_of(connection: Connection, shape: Shape, where: Any = None) -> Sum:
    """The rows and checksum of a table as it is read here."""
    total = Sum()
    for rows in pages(connection, shape, where=where):
        total = total.plus(rows)
    return total


def _bound(value: Any) -> Any:
    """A key's value, sent as wide as the widest column: a number would be sent as 32 bits otherwise."""
    return literal(value, BigInteger() if isinstance(value, int) else Text())


def _digest(row: Sequence[Any]) -> int:
    """Each value with its kind and length before it, so that no two rows write the same bytes."""
    parts: list[bytes] = []
    for value in row:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, str):
            data = value.encode()
            parts += (b"s%d:" % len(data), data)
        elif isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif isinstance(value, float):
            parts.append(b"f" + struct.pack(">d", value))
        else:
            data = bytes(value)
            parts += (b"b%d:" % len(data), data)
    return int.from_bytes(blake2b(b"".join(parts), digest_size=16).digest(), "little")
