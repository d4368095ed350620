"""kill -9 while the index follows and saves: the next start has the truth, from the files or from the change log.

The service database is real; only the documents are made up. A child process changes documents, follows them with the
index and saves it, with merges and files brought down to the size of these worlds, and is killed at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mainstay.access.acl import Acl
from mainstay.corpus import following
from mainstay.corpus.following import IndexFollower
from mainstay.corpus.index import SearchIndex, index, part
from mainstay.corpus.index.analyzer import ANALYZER
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.models.embedders import EmbedderIdentity
from mainstay.storage.database import Address, open_database
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Scope

SEED = 20261122
DIMS = 16
MADE_BY = EmbedderIdentity(name="drill", digest="d" * 64, precision="float32", dims=DIMS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = "budget travel crane invoice audit salary harbour customs reefer ticket contract the of and".split()
CLASSES = 5
DOCUMENTS = 60


@contextmanager
def truth(folder: Path) -> Iterator[SqlDocuments]:
    folder.mkdir(parents=True, exist_ok=True)
    database = open_database(Address(url=f"sqlite:///{folder / 'service.db'}"))
    try:
        yield SqlDocuments(database)
    finally:
        database.close()


def rule(n: int) -> AccessRule:
    return AccessRule(origin=f"o{n}", acl=Acl((f"group:g{n}",), ()))


def document(rng: random.Random, n: int) -> Prepared:
    blocks = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(rng.randint(0, 5))]
    text, pieces = "\n\n".join(blocks), []
    for i, block in enumerate(blocks):
        start = sum(len(before) + 2 for before in blocks[:i])
        pieces.append(
            Piece(
                chunk_id=f"chk_{n}_{i}_{rng.getrandbits(60)}",
                start=start,
                end=start + len(block),
                page=None,
                heading_path=(),
                section_start=0,
                section_end=len(text),
                prefix=f"Title {n}",
                text=block,
            )
        )
    return Prepared(
        doc_id=f"doc_{n}",
        source="drill",
        path=f"d{n}.md",
        uri=f"d{n}.md",
        title=f"Title {n}",
        media_type="text/markdown",
        version=f"v{rng.getrandbits(60)}",
        raw_digest="x",
        rule=rule(rng.randrange(CLASSES)),
        own_access=None,
        metadata={"year": rng.randint(2020, 2025)},
        language="en",
        modified=NOW,
        size=len(text),
        recipe="1",
        text=text,
        pieces=tuple(pieces),
    )


def change(documents: SqlDocuments, rng: random.Random) -> None:
    """One random change of the truth."""
    what = rng.random()
    some = rng.sample(range(DOCUMENTS), rng.choice([1, 1, 1, 4, 25]))
    if what < 0.5:
        documents.put([document(rng, n) for n in some], NOW)
    elif what < 0.6:
        documents.remove([f"doc_{n}" for n in some], NOW)
    elif what < 0.75:
        documents.apply_access("drill", {f"d{n}.md": rule(rng.randrange(CLASSES)) for n in some}, NOW)
    elif waiting := documents.without_vector(MADE_BY, rng.choice([3, 40])):
        rows = np.array([[rng.gauss(0, 1) for _ in range(DIMS)] for _ in waiting], np.float32)
        documents.put_vectors(MADE_BY, [seq for seq, _ in waiting], rows, NOW)


def small() -> None:
    """Merges, files and saves as often in a small world as in a large one."""
    vars(index).update(_LONG=40, _QUICK=20, _BUILT_AT_ONCE=30)
    vars(part).update(SHORT=6)
    vars(following).update(SAVE_AFTER_CHANGES=40, DOCUMENTS_AT_ONCE=10)


def work(folder: Path, seed: int) -> None:
    """Changes the truth, follows and saves, for ever."""
    rng = random.Random(seed)
    small()
    with truth(folder) as documents:
        follower = IndexFollower(documents, MADE_BY, folder / "index")
        while True:
            change(documents, rng)
            if rng.random() < 0.7:
                follower.current()
            if rng.random() < 0.4:
                applied = follower.current().applied
                follower.save()
                print("saved", applied, flush=True)


def nursery(folder: str) -> None:
    """Forks a worker for each line on standard input: a new process without its imports."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            work(Path(folder), int(line))
        print("born", child, flush=True)
        os.waitpid(child, 0)
        print("dead", 0, flush=True)


def seen(held: SearchIndex) -> list[Any]:
    """What searches give in some scopes, with scores as bytes."""
    rng = random.Random(1)
    vector = np.array([rng.gauss(0, 1) for _ in range(DIMS)], np.float32)
    out: list[Any] = [len(held), held.vectors_missing()]
    for classes in ({1}, {2, 3}, set(range(1, CLASSES + 1))):
        scope = Scope(principals=frozenset(), classes=frozenset(classes))
        inside = held.permitted(scope)
        words, meaning = held.lexical("the crane budget", inside, 30), held.dense(vector, inside, 30)
        out += [
            inside.seqs().tolist(),
            words.seqs.tolist(),
            words.scores.tobytes(),
            meaning.seqs.tolist(),
            meaning.scores.tobytes(),
            sorted(held.metadata_values(scope, "year").items()),
        ]
    return out


def rebuilt(documents: SqlDocuments) -> list[Any]:
    return seen(IndexFollower(documents, MADE_BY, None).current())


def kill_rounds(rounds: int, folder: Path) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}, {rounds} rounds")
    from_files = 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    program = f"from tests.drills.test_killed_index import nursery; nursery({str(folder)!r})"
    with (
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process,
        truth(folder) as documents,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        saved = 0
        for n in range(rounds):
            process.stdin.write(f"{SEED + n}\n")
            process.stdin.flush()
            _, child = process.stdout.readline().split()
            for _ in range(rng.randrange(3)):  # after so many saves, at any moment of what follows
                _, said = process.stdout.readline().split()
                saved = int(said)
            time.sleep(rng.uniform(0.0, 0.06))
            os.kill(int(child), signal.SIGKILL)
            while (line := process.stdout.readline().split())[0] != "dead":
                saved = int(line[1])
            stored = SearchIndex.open(
                folder / "index" / MADE_BY.digest[:16], dims=DIMS, fingerprint=FINGERPRINT, writes=False
            )
            assert stored.applied >= saved, f"round {n} of seed {SEED}: what was saved is not there"
            from_files += stored.applied > 0
            follower = IndexFollower(documents, MADE_BY, folder / "index")
            assert seen(follower.current()) == rebuilt(documents), f"round {n} of seed {SEED}"
            follower.close()
            saved = follower.current().applied
        process.stdin.close()
    assert from_files > rounds // 2, "the drill is about files"


def damage_rounds(rounds: int, folder: Path) -> None:
    """Files cut, changed, emptied or removed: an index of the truth all the same, and files that are whole again."""
    rng = random.Random(SEED)
    kinds = ("manifest", "segment", "vectors", "state", "lock")
    with truth(folder) as documents:
        documents.put([document(rng, n) for n in range(DOCUMENTS)], NOW)
        for n in range(rounds):
            follower = IndexFollower(documents, MADE_BY, folder / "index")
            for _ in range(rng.choice([1, 6])):
                change(documents, rng)
                follower.current()
            follower.current()
            follower.close()
            own = folder / "index" / MADE_BY.digest[:16]
            path = rng.choice(sorted(own.glob(f"{kinds[n % len(kinds)]}*")))
            damage(path, rng)
            follower = IndexFollower(documents, MADE_BY, folder / "index")
            assert seen(follower.current()) == rebuilt(documents), f"{path.name} in round {n} of seed {SEED}"
            follower.close()


def damage(path: Path, rng: random.Random) -> None:
    whole = path.read_bytes()
    what = rng.randrange(5)
    if what == 0 or not whole:
        path.unlink()
    elif what == 1:
        path.write_bytes(whole[: rng.randrange(len(whole))])
    elif what == 2:
        path.write_bytes(rng.randbytes(len(whole)))
    elif what == 3:
        path.write_bytes(whole + b"more")
    else:
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])


FINGERPRINT = f"{ANALYZER}:{MADE_BY.digest}"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """``small``, undone afterwards."""
    for module in (index, part, following):
        for name in ("_LONG", "_QUICK", "_BUILT_AT_ONCE", "SHORT", "SAVE_AFTER_CHANGES", "DOCUMENTS_AT_ONCE"):
            if name in vars(module):
                monkeypatch.setattr(module, name, vars(module)[name])
    small()


@pytest.mark.long
def test_killed_while_it_follows_and_saves(tmp_path: Path) -> None:
    kill_rounds(20, tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    damage_rounds(15, tmp_path)


@pytest.mark.long
def test_killed_again_and_again(tmp_path: Path) -> None:
    kill_rounds(80, tmp_path)


@pytest.mark.long
def test_damaged_again_and_again(tmp_path: Path) -> None:
    damage_rounds(100, tmp_path)
