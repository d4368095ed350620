"""The index on disk: the state before or the state after, or empty; never wrong, never an error."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.rooms.corpus.index import worlds
from tests.rooms.corpus.index.worlds import DIMS, FINGERPRINT, scope

from mainstay.corpus.index import PutDocument, RemoveDocument, Row, SearchIndex, SetVectors, files
from mainstay.corpus.index import index as index_module
from mainstay.corpus.index import part as part_module

EVERYONE = scope(0, 1, 2, 3)


def at(folder: Path | None, **other: Any) -> SearchIndex:
    options: dict[str, Any] = {"dims": DIMS, "fingerprint": FINGERPRINT}
    return SearchIndex.open(folder, **(options | other))


def answers(index: SearchIndex) -> list[Any]:
    rng = random.Random(1)
    text = "the policy of word1 word2 INV-2023/004"
    return [worlds.bits(index, EVERYONE, text, worlds.some_vector(rng, []), [], 50) for _ in range(2)]


def filled(folder: Path, seed: int = 3) -> SearchIndex:
    """An index with several files: saved in the middle, with late vectors and a removal after that."""
    world = worlds.make(random.Random(seed), steps=120, documents=60)
    index = at(folder)
    half = len(world.lots) // 2
    worlds.fill(index, worlds.World(lots=world.lots[:half]))
    index.save()
    worlds.fill(index, worlds.World(lots=world.lots[half:]))
    return index


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    index = filled(tmp_path)
    before = answers(index)
    index.save()
    assert answers(index) == before
    again = at(tmp_path)
    assert (again.applied, len(again), answers(again)) == (index.applied, len(index), before)
    again.apply([RemoveDocument(document=n) for n in range(60)], applied=10_000)
    again.save()
    assert (at(tmp_path).applied, len(at(tmp_path))) == (10_000, 0)
    assert len(list(tmp_path.iterdir())) == 2, "files no state needs are removed"


def test_what_was_not_saved_is_not_there(tmp_path: Path) -> None:
    filled(tmp_path)
    saved = at(tmp_path)
    assert saved.applied > 0
    saved.apply([PutDocument(document=500, class_id=1, metadata={}, rows=[Row(seq=9999, text="x")])], applied=99_999)
    assert at(tmp_path).applied < 99_999


def test_another_fingerprint_or_length_opens_empty_and_starts_anew(tmp_path: Path) -> None:
    filled(tmp_path).save()
    for other in ({"fingerprint": "else"}, {"dims": DIMS + 1}):
        assert (at(tmp_path, **other).applied, len(at(tmp_path, **other))) == (0, 0)
    new = at(tmp_path, fingerprint="else")
    new.apply([PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="x")])], applied=1)
    new.save()
    assert (at(tmp_path).applied, at(tmp_path, fingerprint="else").applied) == (0, 1)


def test_any_damage_opens_empty_or_right(tmp_path: Path) -> None:
    """Every file cut at many lengths, with bytes changed at many places, emptied, removed."""
    filled(tmp_path).save()
    right = (at(tmp_path).applied, answers(at(tmp_path)))
    rng = random.Random(0)
    tried = 0
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        cuts = [whole[: rng.randrange(len(whole))] for _ in range(4)] + [b"", whole + b"\0", whole[:-1]]
        for place in [*(rng.randrange(len(whole)) for _ in range(10)), 0, len(whole) - 1]:
            cuts += [whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]]
        for damaged in cuts:
            path.write_bytes(damaged)
            index = at(tmp_path)
            assert (index.applied == 0 and len(index) == 0) or (index.applied, answers(index)) == right
            tried += index.applied == 0
        path.unlink()
        assert at(tmp_path).applied == 0
        path.write_bytes(whole)
    assert tried > 60
    assert (at(tmp_path).applied, answers(at(tmp_path))) == right


def test_a_manifest_of_another_shape_opens_empty(tmp_path: Path) -> None:
    import zlib

    filled(tmp_path).save()
    _, _, body = (tmp_path / "manifest.json").read_text().partition(" ")
    good = json.loads(body)
    shapes: list[Any] = [
        [],
        {},
        {**good, "format": 99},
        {**good, "files": 3},
        {**good, "parts": [["no"]]},
        {**good, "state": 1},
    ]
    for bad in shapes:
        text = json.dumps(bad)
        (tmp_path / "manifest.json").write_text(f"{zlib.crc32(text.encode()):08x} {text}\n")
        assert at(tmp_path).applied == 0


def test_a_process_that_may_not_write_leaves_the_folder_alone(tmp_path: Path) -> None:
    filled(tmp_path).save()
    held = sorted(path.name for path in tmp_path.iterdir())
    reader = at(tmp_path, writes=False)
    puts = [PutDocument(document=n, class_id=1, metadata={}, rows=[Row(seq=n, text="w")]) for n in range(100, 27_100)]
    reader.apply(puts, applied=10_000)
    reader.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == held
    assert len(reader.lexical("w", reader.permitted(scope(1)), 3)) == 3


def test_opening_while_another_process_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that were named when the manifest was read may be gone a moment later: the next state is there then."""
    writer = filled(tmp_path)
    writer.save()
    check, saves = files.check, iter(range(3))

    def overtaken_check(folder: Path, stored: files.Stored) -> None:
        for n in islice(saves, 1):
            writer.apply([RemoveDocument(document=n)], applied=writer.applied + 1)
            writer.save()
        check(folder, stored)

    monkeypatch.setattr(files, "check", overtaken_check)
    reader = at(tmp_path, writes=False)
    assert reader.applied == writer.applied
    assert answers(reader) == answers(writer)


def test_a_long_load_goes_to_files_before_it_is_saved(tmp_path: Path) -> None:
    index = at(tmp_path)
    puts = [PutDocument(document=n, class_id=n % 2, metadata={"n": n % 7}, rows=[Row(seq=n, text=f"w x{n % 5}")])
            for n in range(1, 40_001)]  # fmt: skip
    for start in range(0, 40_000, 8000):
        index.apply(puts[start : start + 8000], applied=start + 8000)
        index.compact()
    assert index.stats()["file_bytes"] > 0
    assert at(tmp_path).applied == 0, "nothing counts before save"
    index.apply([RemoveDocument(document=n) for n in range(1, 30_000)], applied=50_000)
    index.save()
    again = at(tmp_path)
    assert (again.applied, len(again), again.stats()["rows_gone"]) == (50_000, 10_001, 0)
    assert again.permitted(scope(1)).seqs().tolist() == [n for n in range(30_000, 40_001) if n % 2]


def test_vectors_that_arrive_in_many_small_lots(tmp_path: Path) -> None:
    index = at(tmp_path)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, DIMS)).astype(np.float32)
    index.apply(
        [PutDocument(document=n, class_id=1, metadata={}, rows=[Row(seq=n, text="w")]) for n in range(1, 601)],
        applied=1,
    )
    index.save()
    for start in range(0, 600, 10):
        seqs = list(range(start + 1, start + 11))
        index.apply([SetVectors(seqs=seqs, vectors=vectors[start : start + 10])], applied=2 + start)
        if start % 100 == 50:
            index.save()
    assert index.vectors_missing() == 0
    index.apply([SetVectors(seqs=[7], vectors=vectors[599:])], applied=1000)
    index.save()
    for held in (index, at(tmp_path)):
        permitted = held.permitted(scope(1))
        scores = held.dense_scores(permitted.seqs(), vectors[3], permitted)
        expected = vectors.astype(np.float64)
        expected[6] = vectors[599]
        assert np.allclose(scores, expected @ vectors[3].astype(np.float64), atol=1e-9)


def test_readers_see_whole_states_while_a_writer_works(tmp_path: Path) -> None:
    """Each lot replaces a document's two rows by two others; no reader may see one, three or four."""
    index = at(tmp_path)
    index.apply(
        [PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="w"), Row(seq=2, text="w")])], applied=1
    )
    stop = threading.Event()
    wrong: list[str] = []
    reads = [0]

    def read() -> None:
        while not stop.is_set():
            permitted = index.permitted(scope(1))
            hits = index.lexical("w", permitted, 10)
            seqs = sorted(hits.seqs.tolist())
            if len(seqs) != 2 or seqs[1] != seqs[0] + 1 or permitted.count != 2 or len(set(hits.scores.tolist())) != 1:
                wrong.append(f"{seqs} {permitted.count} {hits.scores}")
            if index.dense(np.ones(DIMS, np.float32), permitted, 3).seqs.tolist() not in ([], seqs):
                wrong.append("vectors")
            reads[0] += 1

    def keep() -> None:
        while not stop.is_set():
            index.compact()
            index.save()

    readers = [threading.Thread(target=work) for work in (read, read, read, keep)]
    for reader in readers:
        reader.start()
    one = np.ones(DIMS, np.float32)
    for n in range(1, 150):
        rows = [Row(seq=2 * n + i, text="w", vector=one if n % 2 else None) for i in (1, 2)]
        noise = PutDocument(
            document=n + 1, class_id=2, metadata={}, rows=[Row(seq=10_000 + n, text="w w w", vector=one)]
        )
        index.apply([PutDocument(document=1, class_id=1, metadata={}, rows=rows), noise], applied=n + 1)
        if n % 30 == 0:
            index.save()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong, wrong[:3]
    assert reads[0] > 20


NURSERY = """
import os
import sys
from pathlib import Path
import numpy as np
from mainstay.corpus.index import PutDocument, RemoveDocument, Row, SearchIndex

def save_for_ever():
    index = SearchIndex.open(Path(sys.argv[1]), dims=4, fingerprint="kill")
    n = index.applied
    while True:
        n += 1
        rows = [Row(seq=10 * n + i, text=f"word all{n}", vector=np.eye(4, dtype=np.float32)[i]) for i in range(4)]
        changes = [PutDocument(document=n, class_id=1, metadata={"n": n}, rows=rows)]
        if n > 20:
            changes.append(RemoveDocument(document=n - 20))
        index.apply(changes, applied=n)
        index.save()
        print(n, flush=True)

for _ in sys.stdin:
    child = os.fork()
    if not child:
        save_for_ever()
    print("born", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    """A process saves in a loop and is killed; what it said was saved is there, whole, with every answer right."""
    rng = random.Random(11)
    saved = 0
    command = [sys.executable, "-c", NURSERY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        child = patience = 0
        for _ in range(20):
            nursery.stdin.write("go\n")
            nursery.stdin.flush()
            said = [saved]
            while (line := nursery.stdout.readline().split()) != ["dead"]:
                if line[0] == "born":
                    child, patience = int(line[1]), rng.randrange(3)
                else:
                    said.append(int(line[0]))
                    patience -= 1
                if patience == 0:  # after so many saves, at any moment of the next
                    time.sleep(rng.uniform(0.0, 0.05))
                    os.kill(child, signal.SIGKILL)
            index = SearchIndex.open(tmp_path, dims=4, fingerprint="kill", writes=False)
            assert index.applied >= max(said)
            saved = index.applied
            alive = range(max(1, saved - 19), saved + 1)
            permitted = index.permitted(scope(1))
            assert permitted.seqs().tolist() == [10 * n + i for n in alive for i in range(4)]
            assert len(index.lexical("word", permitted, 500)) == 4 * len(alive)
            assert len(index.dense(np.ones(4, np.float32), permitted, 500)) == 4 * len(alive)
    assert saved > 10


@pytest.mark.parametrize("seed", range(6))
def test_what_happens_during_a_merge_or_a_save_is_carried_over(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every merge and every file is overtaken by changes; the index equals one that was never merged or saved."""
    rng = random.Random(seed)
    world = worlds.make(rng, steps=120, documents=40, lots=0.6)
    plain = worlds.fill(at(None), world)
    lots = iter(world.lots)
    busy = at(tmp_path)

    def step() -> None:
        for lot in islice(lots, rng.randrange(3)):
            busy.apply(lot, applied=busy.applied + 1)

    with monkeypatch.context() as patched:
        patched.setattr(index_module, "_QUICK", rng.choice([0, 12]))
        patched.setattr(index_module, "_LONG", 25)
        patched.setattr(part_module, "SHORT", rng.choice([0, 5]))
        patched.setattr(files, "sync", lambda path: None)
        for name in ("one", "joined"):
            patched.setattr(index_module, name, overtaken(getattr(index_module, name), step))
        patched.setattr(files, "write", overtaken(files.write, step))
        while busy.applied < len(world.lots):
            step()
            if rng.random() < 0.5:
                busy.compact()
            if rng.random() < 0.3:
                busy.save()
    assert answers(busy) == answers(plain)
    busy.save()
    assert answers(at(tmp_path)) == answers(plain)
    busy.compact()
    assert not busy.untidy


def overtaken(work: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def done(*given: Any, **named: Any) -> Any:
        out = work(*given, **named)
        if not index_is_writing():
            step()
        return out

    return done


def index_is_writing() -> bool:
    """Whether the caller is inside ``apply`` itself, where no other change can come between."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "apply":
            return True
    return False


def test_many_small_changes_leave_few_parts_and_nothing_that_is_gone(tmp_path: Path) -> None:
    """One document a change, put again and again: parts shrink to a third each, so their number is a logarithm."""
    index = at(tmp_path)
    one = np.ones(DIMS, np.float32)
    for n in range(1400):
        rows = [Row(seq=2 * n + i, text=f"w x{n}", vector=one if n % 3 else None) for i in (1, 2)]
        index.apply([PutDocument(document=n % 300, class_id=1, metadata={"n": n}, rows=rows)], applied=n + 1)
        if n % 50 == 0:
            index.compact()
        held = index.stats()
        assert held["parts"] <= 2 + math.log(held["rows"] + held["rows_gone"], 3)
        assert held["rows"] + held["rows_gone"] <= 4 * held["rows"] + 512
    index.save()
    assert index.stats()["rows"] == 600
    assert index.stats()["parts"] <= 4
    index.apply([RemoveDocument(document=n) for n in range(250)], applied=5000)
    index.save()
    held = index.stats()
    assert (held["rows"], held["rows_gone"] <= 100) == (100, True)
    files_now = {path.name for path in tmp_path.iterdir()}
    assert len(files_now) <= 2 + 2 * held["parts"], "files of parts that were merged are removed"


def test_taking_in_one_change_reads_no_long_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``apply`` merges is short, whatever the index holds."""
    index = at(tmp_path)
    puts = [PutDocument(document=n, class_id=1, metadata={}, rows=[Row(seq=n, text="w")]) for n in range(1, 30_001)]
    index.apply(puts, applied=1)
    merged: list[int] = []
    one = part_module.one

    def counted(parts: Sequence[Any], dims: int) -> Any:
        merged.append(sum(map(len, parts)))
        return one(parts, dims)

    monkeypatch.setattr(index_module, "one", counted)
    for n in range(500):
        index.apply([RemoveDocument(document=n), replace(puts[n + 500], metadata={"n": n})], applied=n + 2)
    assert merged
    assert max(merged) <= 4000
    assert sum(merged) < 500 * 600
