"""kill -9 of a process that takes spans of other programs: what it acknowledged is there, batch by batch, each span once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from mainstay.records.spans import ImportedSpan
from mainstay.storage.database import Address, open_database
from mainstay.storage.schema import span, span_detail, trace
from mainstay.storage.traces import SqlTraces

BATCH = 50
CODE = """\
import sys
from tests.drills.test_killed_spans import batch
from mainstay.guard.redaction import clean
from mainstay.records.recorder import Recorder
from mainstay.storage.database import Address, open_database
from mainstay.storage.traces import SqlTraces

recorder = Recorder(SqlTraces(open_database(Address(url=sys.argv[1]))), clean=clean)
print("ready", flush=True)
for n in range(int(sys.argv[2]), 100_000):
    recorder.ingest(batch(n))
    print(n, flush=True)
"""


def batch(n: int) -> list[ImportedSpan]:
    """The n-th batch: the end of one trace and the beginning of the next."""
    return [
        ImportedSpan(
            trace_id=f"{number // 75 + 1:032x}",
            span_id=f"{number % 75 + 1:016x}",
            parent_id=f"{1:016x}" if number % 75 else "",
            name="step",
            start_us=1_760_000_000_000_000 + number,
            duration_ms=1.0,
            attributes={"n": number},
            principal="service:crm",
        )
        for number in range(n * BATCH, (n + 1) * BATCH)
    ]


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 8))])
def test_acknowledged_batches_survive(tmp_path: Path, seed: int) -> None:
    print(seed)
    place = str(tmp_path / "mainstay.db")
    open_database(Address(url=place)).close()
    acknowledged, rng = -1, random.Random(seed)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", CODE, place, str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            wanted = acknowledged + rng.randrange(1, 8)
            while acknowledged < wanted:
                acknowledged = int(child.stdout.readline())
            time.sleep(rng.random() / 50)  # in the middle of a batch, wherever that is
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split()  # what it said before it died
        acknowledged = max([acknowledged, *map(int, rest)])
        _whole(place, acknowledged)


def _whole(place: str, acknowledged: int) -> None:
    """Everything that was acknowledged is there; of what was under way a whole batch, or nothing."""
    database = open_database(Address(url=place))
    try:
        assert database.integrity() == "ok"
        with database.read() as connection:
            kept = connection.scalar(select(func.count()).select_from(span))
            details = connection.scalar(select(func.count()).select_from(span_detail))
            counted = connection.scalar(select(func.sum(trace.c.span_count)))
        assert kept in (BATCH * (acknowledged + 1), BATCH * (acknowledged + 2))
        assert kept == details == counted
        # The sender, who was not answered, sends again: nothing is counted twice.
        again = SqlTraces(database).ingest(batch(acknowledged))
        assert (again.kept, again.known) == (0, BATCH)
    finally:
        database.close()
