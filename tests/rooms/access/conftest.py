"""The access room over a real database, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from mainstay.access.directory import People
from mainstay.access.identity import Identity
from mainstay.access.keys import Keyring
from mainstay.access.scope import Gate
from mainstay.clock import FixedClock
from mainstay.storage.access import AccessStore
from mainstay.storage.database import Address, open_database


@dataclass(frozen=True, kw_only=True)
class Room:
    path: Path
    clock: FixedClock
    store: AccessStore
    people: People
    keyring: Keyring
    identity: Identity
    gate: Gate


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    database, clock = open_database(Address(url=str(tmp_path / "access.db"))), FixedClock()
    store = AccessStore(database, clock)
    people = People(store, clock, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    keyring = Keyring(store, store, clock)
    yield Room(
        path=tmp_path / "access.db",
        clock=clock,
        store=store,
        people=people,
        keyring=keyring,
        identity=Identity(store, people, keyring),
        gate=Gate(store, store),
    )
    database.close()
