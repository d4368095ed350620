"""Measures the ledger: what a paid call's two bookings cost, and that nothing is overspent when threads and processes spend.

    python -m bench.ledger [--databases sqlite,postgresql] [--operations 6000]

``cpu_ms_per_pair`` is one hold and its settlement by one caller, with five budgets, on this side of the connection.
``ops_per_s`` counts every call of the ledger by four threads and two processes at once, while the database watches
each change. The PostgreSQL server is that of the tests, on this machine, and does not wait for the disk; SQLite does.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path

from tests.support import spending
from tests.support.databases import server

from mainstay.agreement.ledger import Purse
from mainstay.clock import SystemClock
from mainstay.storage.database import Address, Database, open_database
from mainstay.storage.ledger import SqlLedger
from mainstay.types import Usage

SEED = 20261122
PAIRS = 400
THREADS, PROCESSES = 4, 2
SLOWER = {"sqlite": 1, "postgresql": 3}  # the bench is to be over in three minutes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--operations", type=int, default=6_000)
    given = parser.parse_args()
    figures: dict[str, float] = {}
    for dialect in given.databases.split(","):
        prefix = "pg." if dialect == "postgresql" else ""
        with tempfile.TemporaryDirectory() as folder:
            figures |= {
                f"{prefix}{name}": value for name, value in measured(dialect, Path(folder), given.operations).items()
            }
    for name, value in figures.items():
        print(f"{name:28} {value:>10}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()}
    print(json.dumps({"bench": "ledger", "figures": figures, "peers": {}, "machine": machine}))


def measured(dialect: str, folder: Path, operations: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name in ("alone", "crowd"):
        url = str(folder / f"{name}.db") if dialect == "sqlite" else server().fresh()
        database = open_database(Address(url=url))
        try:
            figures |= (
                pairs(database) if name == "alone" else crowd(database, url, folder, operations // SLOWER[dialect])
            )
        finally:
            database.close()
            if dialect == "postgresql":
                server().drop(url)
    return figures


def pairs(database: Database) -> dict[str, float]:
    """One caller, one pair after the other; the first few open connections and are not counted."""
    clock = SystemClock()
    ledger = SqlLedger(database, clock)
    terms = spending.agreement(100 * PAIRS)
    rng = random.Random(SEED)
    took = []
    used = 0.0
    for n in range(-20, PAIRS):
        who = spending.payer(rng, clock.new_id("req"))
        purse = Purse(ledger, who, terms, spending.CAP_N, clock, clock.monotonic() + 30)
        began, cpu = time.perf_counter(), time.process_time()
        held = purse.hold(1, spending.CALL_N, "answer", "m", "p1")
        purse.settle(held, actual_n=held.amount_n // 2, usage=Usage(input_tokens=900, output_tokens=90))
        if n >= 0:
            took.append(time.perf_counter() - began)
            used += time.process_time() - cpu
    took.sort()
    free_began = time.process_time()
    for _ in range(PAIRS):
        purse.settle(purse.hold(0, 0, "answer", "local", "p1"), actual_n=0, usage=Usage(input_tokens=900))
    return {
        "cpu_ms_per_pair": round(used / PAIRS * 1000, 3),
        "pair_ms.p50": round(took[PAIRS // 2] * 1000, 2),
        "pair_ms.p95": round(took[PAIRS * 95 // 100] * 1000, 2),
        "cpu_ms_per_free_call": round((time.process_time() - free_began) / PAIRS * 1000, 3),
    }


def crowd(database: Database, url: str, folder: Path, operations: int) -> dict[str, float]:
    """Everybody at once; then every promise is looked at."""
    clock = SystemClock()
    terms = spending.agreement(operations)
    share = operations // (PROCESSES + 1)
    journal = spending.journal_of(folder / "journal0")
    spending.watch(database)
    with spending.spenders(url, folder, operations, SEED) as others:
        began = time.monotonic()
        for _ in range(PROCESSES):
            others.start(share)
        mine = spending.in_threads(
            SqlLedger(database, clock), clock, terms, seed=SEED, operations=share, threads=THREADS, journal=journal
        )
        others.finish(600)
        took = time.monotonic() - began
        lines = others.lines()
    done = mine["operations"] + PROCESSES * share
    return {**spending.audited(database, terms, lines), "ops": done, "ops_per_s": round(done / took, 1)}


if __name__ == "__main__":
    main()
