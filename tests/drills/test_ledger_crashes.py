"""kill -9 of those who spend, in the middle of it: never overspent, nothing held for ever, nothing booked twice or lost.

Real processes over one database, each with a journal of what its calls cost; the database itself watches each change.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest
from tests.contracts.worlds import address
from tests.support import spending
from tests.support.databases import skip_without_postgres

from mainstay.clock import SystemClock
from mainstay.storage.database import DIALECTS, open_database
from mainstay.storage.ledger import SqlLedger

SEED = 20261122
PAUSE_S = 0.00002  # between two looks, for each operation: looking is not to be the work


def struck(dialect: str, folder: Path, *, operations: int, processes: int, blows: int, threads: int) -> None:
    """So many operations by threads here and processes there, of which some are killed and replaced."""
    skip_without_postgres(dialect)
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    terms = spending.agreement(operations)
    clock = SystemClock()
    with address(dialect, folder) as at:
        database = open_database(at)
        try:
            spending.watch(database)
            with spending.spenders(at.url, folder, operations, SEED) as held:
                share = operations // (processes + 1)
                for _ in range(processes):
                    held.start(share)
                mine = spending.journal_of(folder / "journal0")
                at_work = threading.Thread(
                    target=spending.in_threads,
                    args=(SqlLedger(database, clock), clock, terms),
                    kwargs={"seed": SEED, "operations": share, "threads": threads, "journal": mine},
                )
                at_work.start()
                killed = 0
                for n in range(1, blows + 1):
                    while held.did() < operations * n // (blows + 1) and any(
                        one.poll() is None for one in held.running
                    ):
                        time.sleep(PAUSE_S * operations)
                    alive = [one for one in held.running if one.poll() is None]
                    if not alive:
                        break
                    time.sleep(rng.uniform(0, 0.05))
                    killed += held.kill(rng.choice(alive))
                    held.start(share * (blows + 1 - n) // (blows + 1))
                at_work.join()
                held.finish(1200)
                while (left := operations - held.did()) > 0:
                    held.start(left)
                    held.finish(1200)
                print(f"{held.did()} operations, {killed} killed: {spending.audited(database, terms, held.lines())}")
                assert killed >= max(1, blows // 2)
        finally:
            database.close()


@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_killed_while_spending(dialect: str, tmp_path: Path) -> None:
    struck(dialect, tmp_path, operations=600, processes=2, blows=1, threads=2)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_many_operations(dialect: str, tmp_path: Path) -> None:
    """Of ten thousand as the long suite has them; MAINSTAY_TEST_OPERATIONS=100000 takes a quarter of an hour more."""
    operations = int(os.environ.get("MAINSTAY_TEST_OPERATIONS", "10000"))
    struck(dialect, tmp_path, operations=operations, processes=3, blows=10, threads=4)
