"""kill -9 during ingestion, at random moments: after the next run the service is as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.services import open_service, people, search, sync

from mainstay.app import App
from mainstay.storage.schema import chunk, document, document_version, vector

SEED = 20261121
WORDS = (
    "budget travel crane invoice audit salary harbour customs reefer ticket contract liability pallet deposit"
).split()


def company(rng: random.Random) -> dict[str, str]:
    files = {".access.yaml": "allow: [group:staff]"}
    for n in range(40):
        paragraphs = [
            " ".join(rng.choices(WORDS, k=40)) + f" {rng.randint(1, 999)} euros." for _ in range(rng.randint(1, 12))
        ]
        files[f"f{n % 5}/d{n}.md"] = f"# {rng.choice(WORDS)} {n}\n\n" + "\n\n".join(paragraphs)
    return files


def state(app: App) -> dict[str, object]:
    """All that readers can notice, without the numbers and times that differ from run to run."""
    with app.database.read() as connection:
        documents = connection.execute(
            select(
                document.c.path, document.c.doc_id, document.c.version, document.c.status, document.c.class_id
            ).order_by(document.c.path)
        ).all()
        versions = connection.execute(
            select(document_version.c.doc_id, document_version.c.version, document_version.c.text).order_by(
                document_version.c.doc_id
            )
        ).all()
        chunks = connection.execute(
            select(chunk.c.chunk_id, chunk.c.text, chunk.c.prefix).order_by(chunk.c.chunk_id)
        ).all()
        vectors = connection.execute(
            select(chunk.c.chunk_id, vector.c.e).join(vector, vector.c.seq == chunk.c.seq).order_by(chunk.c.chunk_id)
        ).all()
    found = [(passage.chunk, passage.score) for passage in search(app, "crane audit budget", "alice", top_k=20)]
    return {
        "documents": [tuple(row) for row in documents],
        "versions": [tuple(row) for row in versions],
        "chunks": [tuple(row) for row in chunks],
        "vectors": [tuple(row) for row in vectors],
        "found": found,
    }


def kill_rounds(rounds: int, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}, {rounds} rounds")
    files = company(rng)
    with open_service(tmp_path / "calm", files) as app:
        app.documents.set_salt(b"s" * 32)
        people(app, {"alice": ("staff",)})
        sync(app)
        expected = state(app)
    killed = 0
    longest = 4.0
    for n in range(rounds):
        folder = tmp_path / f"round{n}"
        with open_service(folder, files) as app:
            app.documents.set_salt(b"s" * 32)
            people(app, {"alice": ("staff",)})
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "mainstay", "-C", str(folder), "sync"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=rng.uniform(0.3, longest))
            longest = max(1.0, 0.9 * (time.monotonic() - began))  # it ended by itself: strike earlier from now on
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        with open_service(folder) as app:
            sync(app)
            assert state(app) == expected, f"round {n} of seed {SEED}"
    assert killed >= rounds // 4, f"only {killed} of {rounds} runs were hit"


@pytest.mark.long
def test_killed_at_random_moments(tmp_path: Path) -> None:
    kill_rounds(4, tmp_path)


@pytest.mark.long
def test_killed_twenty_times(tmp_path: Path) -> None:
    kill_rounds(20, tmp_path)
