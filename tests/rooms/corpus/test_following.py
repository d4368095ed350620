"""The index follows the change log: all of it, once, and without anyone in the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mainstay.corpus import following
from mainstay.corpus.following import IndexFollower
from mainstay.corpus.index import SearchIndex, files
from mainstay.corpus.ports import Changed, IndexedDocument
from mainstay.models.embedders import EmbedderIdentity
from mainstay.types import Scope

MADE_BY = EmbedderIdentity(name="test", digest="a" * 64, precision="float32", dims=4)
EVERYONE = Scope(principals=frozenset(), classes=frozenset({1}))


class Feed:
    """A truth in memory that counts what is read of it."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.log: list[Changed] = []
        self.read: list[int] = []
        self.embedded: set[int] = set()

    def put(self, number: int, text: str) -> None:
        self.texts[number] = text
        self.note("put", number)

    def note(self, kind: str, number: int) -> None:
        self.log.append(Changed(n=len(self.log) + 1, kind=kind, document=number))

    def newest_change(self) -> int:
        return len(self.log)

    def changes_after(self, n: int, limit: int = 10_000) -> list[Changed]:
        return self.log[n : n + limit]

    def indexed(self, numbers: Sequence[int]) -> dict[int, IndexedDocument]:
        self.read += numbers
        return {
            n: IndexedDocument(number=n, class_id=1, metadata={}, rows=((n, self.texts[n]),))
            for n in numbers
            if n in self.texts
        }

    def vectors(self, made_by: EmbedderIdentity, numbers: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]:
        return {n: np.eye(4, dtype=np.float32)[n % 4] for n in numbers if n in self.embedded}

    def without_vector(self, made_by: EmbedderIdentity, limit: int) -> list[tuple[int, str]]:
        raise NotImplementedError

    def put_vectors(self, *_: object) -> None:
        raise NotImplementedError

    def embedding_progress(self, made_by: EmbedderIdentity) -> tuple[int, int]:
        raise NotImplementedError


def found(index: SearchIndex, word: str) -> list[int]:
    return sorted(index.lexical(word, index.permitted(EVERYONE), 10_000).seqs.tolist())


def filled(documents: int) -> Feed:
    feed = Feed()
    for n in range(1, documents + 1):
        feed.put(n, f"word number{n}")
    return feed


def test_a_backlog_is_read_once_however_often_its_documents_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "DOCUMENTS_AT_ONCE", 30)
    feed = filled(100)
    for n in range(1, 101):
        feed.embedded.add(n)
        feed.note("vectors", n)
        feed.note("access", n)
    del feed.texts[7]
    feed.note("remove", 7)
    index = IndexFollower(feed, MADE_BY, None).current()
    assert sorted(feed.read) == list(range(1, 101))
    assert found(index, "word") == [n for n in range(1, 101) if n != 7]
    assert (index.applied, index.vectors_missing()) == (301, 0)


def test_many_who_ask_at_once_share_the_work() -> None:
    feed = filled(300)
    follower = IndexFollower(feed, MADE_BY, None)
    start, results = threading.Barrier(8), list[list[int]]()

    def ask() -> None:
        start.wait()
        results.append(found(follower.current(), "word"))

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert results == [list(range(1, 301))] * 8, "whoever asks sees every change committed before"
    assert len(feed.read) == 300


def test_stored_files_that_are_behind_are_caught_up_from_where_they_stand(tmp_path: Path) -> None:
    feed = filled(200)
    first = IndexFollower(feed, MADE_BY, tmp_path)
    first.current()
    first.close()
    feed.read.clear()
    feed.put(50, "changed entirely")
    feed.put(500, "word new")
    again = IndexFollower(feed, MADE_BY, tmp_path)
    index = again.current()
    assert feed.read == [50, 500]
    assert found(index, "word") == [n for n in range(1, 201) if n != 50] + [500]
    again.close()


def test_an_index_ahead_of_the_truth_starts_anew(tmp_path: Path) -> None:
    """A backup of the database was restored beside newer files: what they hold may never have happened."""
    first = IndexFollower(filled(50), MADE_BY, tmp_path)
    first.current()
    first.close()
    older = filled(20)
    again = IndexFollower(older, MADE_BY, tmp_path)
    assert found(again.current(), "word") == list(range(1, 21))
    again.close()
    older.put(21, "word")
    with closing(IndexFollower(older, MADE_BY, tmp_path)) as last:
        assert found(last.current(), "word") == list(range(1, 22))


def test_saving_holds_up_neither_searches_nor_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SAVE_AFTER_CHANGES", 10)
    writing, go_on = threading.Event(), threading.Event()
    sync = files.sync

    def slowly(path: Path) -> None:
        writing.set()
        assert go_on.wait(30)
        sync(path)

    monkeypatch.setattr(files, "sync", slowly)
    feed = filled(20)
    follower = IndexFollower(feed, MADE_BY, tmp_path)
    follower.current()
    assert writing.wait(30), "a save began"
    for n in range(21, 60):
        feed.put(n, "word")
        assert len(found(follower.current(), "word")) == n
    go_on.set()
    follower.close()
    feed.read.clear()
    with closing(IndexFollower(feed, MADE_BY, tmp_path)) as again:
        assert len(found(again.current(), "word")) == 59
    assert feed.read == [], "the last state was saved at the end"


def test_a_full_disk_costs_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    monkeypatch.setattr(following, "SAVE_AFTER_CHANGES", 1)
    feed = filled(30)
    follower = IndexFollower(feed, MADE_BY, tmp_path)
    assert len(found(follower.current(), "word")) == 30
    follower.close()
    monkeypatch.undo()
    with closing(IndexFollower(feed, MADE_BY, tmp_path)) as again:
        assert len(found(again.current(), "word")) == 30
