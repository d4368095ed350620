"""kill -9 of a worker in the middle of ingestion: another takes over within the lease + 5 s, and nothing is lost or done twice.

Real processes over a real database; times are those of the job's row.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, select
from tests.support.databases import skip_without_postgres
from tests.support.services import open_service, sync, write

from mainstay.app import App
from mainstay.storage.database import DIALECTS
from mainstay.storage.schema import change, chunk, document, document_version, vector
from mainstay.workflows.ports import Job, JobState

SEED = 20261122
LEASE_S = 2
LONG_LEASE_S = 120  # nobody waits for this one to run out
PROMISE = timedelta(seconds=LEASE_S + 5)
DOCUMENTS = 60
SETTINGS = """\
name: Test service
worker: {lease_s: LEASE_S}
sources:
  - {name: docs, folder: documents, access: public}
"""
WORDS = "budget travel crane invoice audit salary harbour customs reefer ticket contract liability pallet".split()
T = TypeVar("T")


def files(rng: random.Random, names: Iterator[int] | range) -> dict[str, str]:
    return {
        f"f{n % 5}/d{n}.md": f"# {rng.choice(WORDS)} {n}\n\n"
        + "\n\n".join(" ".join(rng.choices(WORDS, k=60)) + f" {rng.randint(1, 999)} euros." for _ in range(12))
        for n in names
    }


def state(app: App) -> dict[str, object]:
    """What must not differ from an undisturbed run; numbers, times and the order of work may."""
    with app.database.read() as connection:
        documents = select(document.c.path, document.c.doc_id, document.c.version, document.c.status)
        versions = select(document_version.c.doc_id, document_version.c.version, document_version.c.text)
        chunks = select(chunk.c.chunk_id, chunk.c.ord, chunk.c.text, chunk.c.prefix)
        vectors = select(chunk.c.chunk_id, vector.c.e).join(vector, vector.c.seq == chunk.c.seq)
        puts = select(document.c.path, func.count()).join(change, change.c.document == document.c.number)
        puts = puts.where(change.c.kind == "put").group_by(document.c.path)
        return {
            name: sorted(tuple(row) for row in connection.execute(wanted))
            for name, wanted in (
                ("documents", documents),
                ("versions", versions),
                ("chunks", chunks),
                ("vectors", vectors),
                ("times each was written", puts),
            )
        }


@dataclass
class Workers:
    """Processes of ``mainstay worker`` over one service folder."""

    folder: Path
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        log = (self.folder / f"worker{len(list(self.folder.glob('worker*')))}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mainstay", "-C", str(self.folder), "worker", "--json"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running[process.pid] = process

    def strike(self, owner: str, with_signal: signal.Signals) -> int:
        """End the process that an owner's name tells of; its exit code."""
        process = self.running.pop(int(owner.split(":")[1]))
        process.send_signal(with_signal)
        return process.wait(timeout=60)

    def said(self) -> str:
        return "\n".join(log.read_text(errors="replace") for log in sorted(self.folder.glob("worker*.log")))

    def turns(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]


@contextmanager
def workers(folder: Path, count: int = 2) -> Iterator[Workers]:
    held = Workers(folder)
    try:
        for _ in range(count):
            held.start()
        yield held
    finally:
        for process in held.running.values():
            process.kill()
            process.wait()


def until(look: Callable[[], T | None], what: str, pause_s: float = 0.01) -> T:
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        if (seen := look()) is not None:
            return seen
        time.sleep(pause_s)
    raise AssertionError(f"never came: {what}")


def begun(app: App, job: Job, *, written: int) -> Job:
    """The job once a worker is in the middle of it: so many documents more than ``written`` at the start."""

    def look() -> Job | None:
        held = app.queue.get(job.job_id)
        assert held is not None
        if held.state is JobState.RUNNING:
            return held if puts(app) > written else None
        return held if held.state is not JobState.READY else None

    return until(look, "a running job")


def puts(app: App) -> int:
    with app.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(change).where(change.c.kind == "put")) or 0


def taken_over(app: App, job: Job) -> Job:
    """The job as soon as a later claim shows, or it has ended."""

    def look() -> Job | None:
        held = app.queue.get(job.job_id)
        assert held is not None
        return held if held.token > job.token or held.state not in (JobState.RUNNING, JobState.READY) else None

    return until(look, "another worker")


def settled(app: App, job: Job) -> Job:
    """The job when it is done, and every vector made."""

    def look() -> Job | None:
        held = app.queue.get(job.job_id)
        assert held is not None
        assert held.state in (JobState.READY, JobState.RUNNING, JobState.DONE), held.error
        done, total = app.documents.embedding_progress(app.embedder().identity)
        return held if held.state is JobState.DONE and done == total else None

    return until(look, "the end", pause_s=0.05)


@contextmanager
def service(folder: Path, dialect: str, lease_s: int) -> Iterator[App]:
    with open_service(folder, settings=SETTINGS.replace("LEASE_S", str(lease_s)), dialect=dialect) as app:
        app.documents.set_salt(b"s" * 32)
        yield app


def rounds(dialect: str, tmp_path: Path, blows: Sequence[signal.Signals]) -> None:
    """For each blow: change the documents, ask for a sync, strike its worker in the middle of it."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    struck = 0
    lease_s = LONG_LEASE_S if signal.SIGTERM in blows else LEASE_S
    with (
        service(tmp_path / "calm", "sqlite", lease_s) as calm,
        service(tmp_path / "struck", dialect, lease_s) as app,
        workers(tmp_path / "struck") as held,
    ):
        written = 0
        for n, blow in enumerate(blows):
            changed = files(rng, range(DOCUMENTS) if n == 0 else iter(rng.sample(range(DOCUMENTS), DOCUMENTS // 2)))
            for folder in ("calm", "struck"):
                write(tmp_path / folder / "documents", changed)
            sync(calm)
            victim = begun(app, app.ask_for_sync("docs"), written=written)
            if victim.state is JobState.RUNNING:
                time.sleep(rng.uniform(0, 0.2) if n else 0)
                code = held.strike(victim.owner, blow)
                last = app.queue.get(victim.job_id)
                assert last is not None
                next_ = taken_over(app, victim)
                if next_.token > victim.token:
                    struck += 1
                    assert next_.owner != victim.owner
                    if blow is signal.SIGTERM:
                        assert code == 0, held.said()
                        assert next_.attempts == victim.attempts  # handed back, not run out
                    else:
                        assert last.heartbeat_at is not None
                        assert next_.heartbeat_at is not None
                        assert next_.attempts == victim.attempts + 1
                        waited = next_.heartbeat_at - last.heartbeat_at
                        print(f"round {n}: another took over after {waited.total_seconds():.2f} s")
                        assert waited <= PROMISE
                if n < len(blows) - 1:
                    held.start()
            done = settled(app, victim)
            written += len(changed)
            assert state(app) == state(calm), f"round {n} of seed {SEED}"
            assert puts(app) == written
            assert done.result["unchanged"] + done.result["added"] + done.result["changed"] == DOCUMENTS
        assert struck >= max(1, len(blows) // 2), f"only {struck} of {len(blows)} were struck in the middle"
        ended = Counter(turn["id"] for turn in held.turns() if turn["kind"] == "sync" and turn["ended"] == "done")
        assert set(ended.values()) == {1}
        assert sum(ended.values()) == len(blows)
        assert "Traceback" not in held.said()


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_killed(dialect: str, tmp_path: Path) -> None:
    skip_without_postgres(dialect)
    rounds(dialect, tmp_path, [signal.SIGKILL])


@pytest.mark.long
def test_told_to_go_home(tmp_path: Path) -> None:
    rounds("sqlite", tmp_path, [signal.SIGTERM])


@pytest.mark.long
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to go"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_struck_again_and_again(dialect: str, blow: signal.Signals, tmp_path: Path) -> None:
    skip_without_postgres(dialect)
    rounds(dialect, tmp_path, [blow] * 4)
