"""What the facts of this service said when this process last looked.

A fact may be changed by any process, so each request reads what it needs once; whatever comes later in the same request
takes what was seen then, or by another thread since: who has read, and then asks what was seen, never gets anything older
than their own reading.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from mainstay.storage.database import Database
from mainstay.storage.hot import Hot
from mainstay.storage.schema import fact


class _Seen(NamedTuple):
    ended: int
    known: bool
    value: str | None


class Facts:
    """Facts as last seen. Safe for many threads."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lock = threading.Lock()
        self._times = itertools.count()
        self._seen: dict[str, _Seen] = {}

    def begin(self) -> int:
        """To be called before a transaction in which facts are read, for ``saw``."""
        return next(self._times)

    def saw(self, begun: int, found: Iterable[tuple[str, str | None]]) -> None:
        """What a reading that began then has found."""
        with self._lock:
            ended = next(self._times)
            for name, value in found:
                held = self._seen.get(name)
                # Of two that were under way together nobody knows which is newer: where they differ, none is kept.
                known = held is None or begun > held.ended or (held.known and held.value == value)
                self._seen[name] = _Seen(ended=ended, known=known, value=value if known else None)

    def read(self, *names: str) -> dict[str, str | None]:
        """These facts now."""
        begun = self.begin()
        with self._db.read() as connection:
            found = dict.fromkeys(names) | read_facts(connection, names)
        self.saw(begun, found.items())
        return found

    def seen(self, name: str) -> str | None:
        """A fact as it was last seen; it is read when it never was."""
        with self._lock:
            held = self._seen.get(name)
        return held.value if held is not None and held.known else self.read(name)[name]


def read_facts(connection: Connection, names: Iterable[str]) -> dict[str, str | None]:
    """Those of these facts that are there."""
    wanted = {f"n{n}": name for n, name in enumerate(names)}
    return {row.name: row.value for row in _facts(len(wanted)).run(connection, wanted)}


@cache
def _facts(count: int) -> Hot:
    return Hot(select(fact.c.name, fact.c.value).where(fact.c.name.in_([bindparam(f"n{n}") for n in range(count)])))
