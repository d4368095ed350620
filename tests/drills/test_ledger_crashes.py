"""kill -9 of those who spend, in the middle of it: never overspent, nothing held for ever, nothing booked twice or lost.

Real processes over one database, each with a journal of what its calls cost; the database itself watches each change.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.contracts.worlds import address
from tests.support import spending
from tests.support.databases import skip_without_postgres

from mainstay.clock import SystemClock
from mainstay.storage.database import DIALECTS, open_database
from mainstay.storage.ledger import SqlLedger

SEED = 20261122
ROOT = Path(__file__).parents[2]


class Spenders:
    """Processes that spend, each with its journal."""

    def __init__(self, url: str, folder: Path, whole: int) -> None:
        self._url, self._folder, self._whole = url, folder, whole
        self._started = 0
        self.running: list[subprocess.Popen[str]] = []

    def start(self, operations: int) -> None:
        self._started += 1
        journal = self._folder / f"journal{self._started}"
        journal.touch()
        command = [sys.executable, "-m", "tests.support.spending", self._url, str(SEED + self._started)]
        self.running.append(
            subprocess.Popen(
                [*command, str(operations), str(journal), str(self._whole)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def busy(self) -> int:
        """Lines in all journals."""
        return sum(len(path.read_bytes().splitlines()) for path in self._folder.glob("journal*"))

    def kill(self, one: subprocess.Popen[str]) -> bool:
        """SIGKILL; whether it was still at work."""
        self.running.remove(one)
        one.kill()
        _, said = one.communicate()
        assert one.returncode in (0, -9), said
        return one.returncode == -9

    def finish(self, within_s: float) -> None:
        for one in self.running:
            _, said = one.communicate(timeout=within_s)
            assert one.returncode == 0, said

    def lines(self) -> list[str]:
        """Whole lines: the last of a killed process may be half a line."""
        texts = (path.read_text() for path in sorted(self._folder.glob("journal*")))
        return [line for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]


@contextmanager
def spenders(url: str, folder: Path, whole: int) -> Iterator[Spenders]:
    held = Spenders(url, folder, whole)
    try:
        yield held
    finally:
        for one in held.running:
            one.kill()
            with suppress(ValueError):  # its pipe was read to the end
                one.communicate()


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
            with spenders(at.url, folder, operations) as held:
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
                for _ in range(blows):
                    seen = held.busy()
                    until = time.monotonic() + 60
                    while held.busy() < seen + 20 and any(one.poll() is None for one in held.running):
                        assert time.monotonic() < until, "nobody spends"
                        time.sleep(0.02)
                    time.sleep(rng.uniform(0, 0.1))
                    alive = [one for one in held.running if one.poll() is None]
                    if not alive:
                        break
                    killed += held.kill(rng.choice(alive))
                    held.start(share // 2)
                at_work.join()
                held.finish(1200)
                print(spending.audited(database, terms, held.lines()), f"killed {killed}")
                assert killed >= max(1, blows // 2)
        finally:
            database.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_killed_while_spending(dialect: str, tmp_path: Path) -> None:
    struck(dialect, tmp_path, operations=900, processes=2, blows=1, threads=2)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_hundred_thousand_operations(dialect: str, tmp_path: Path) -> None:
    struck(dialect, tmp_path, operations=100_000, processes=3, blows=20, threads=4)
