"""Keeps the search index equal to the truth by following its change log.

Every search first looks at the newest line of the log (a point read); what is new is applied before the search runs, so a change
made by another process counts at the next query. Only the process that holds the folder's lock writes index files.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from mainstay.corpus.index import Change, PutDocument, RemoveDocument, Row, SearchIndex, SetClass, SetVectors
from mainstay.corpus.index.analyzer import ANALYZER
from mainstay.corpus.ports import Changed, IndexFeed
from mainstay.models.embedders import EmbedderIdentity

DOCUMENTS_AT_ONCE = 1000
SAVE_AFTER_CHANGES = 2000


class IndexFollower:
    """The search index of one embedder, never behind the truth when ``current()`` returns it."""

    def __init__(self, feed: IndexFeed, made_by: EmbedderIdentity, folder: Path | None) -> None:
        self._feed, self._made_by = feed, made_by
        self._refreshing = threading.Lock()
        self._own = folder / made_by.digest[:16] if folder else None
        self._lock_file = _lock(self._own) if self._own else None
        self._index = SearchIndex.open(
            self._own,
            dims=made_by.dims,
            fingerprint=f"{ANALYZER}:{made_by.digest}",
            writes=self._lock_file is not None,
        )
        self._saved = self._index.applied

    @property
    def made_by(self) -> EmbedderIdentity:
        return self._made_by

    def current(self) -> SearchIndex:
        """The index with every committed change applied."""
        if self._feed.newest_change() > self._index.applied:
            with self._refreshing:
                self._catch_up()
        return self._index

    def _catch_up(self) -> None:
        while True:
            log = self._feed.changes_after(self._index.applied)
            if not log:
                break
            for start in range(0, len(log), DOCUMENTS_AT_ONCE):
                some = log[start : start + DOCUMENTS_AT_ONCE]
                self._index.apply(self._changes(some), applied=some[-1].n)
        if self._index.applied - self._saved >= SAVE_AFTER_CHANGES:
            self.save()

    def _changes(self, log: Sequence[Changed]) -> list[Change]:
        """The log's lines as changes to today's state: a document is put once, however often it changed."""
        kinds: dict[int, set[str]] = {}
        for line in log:
            kinds.setdefault(line.document, set()).add(line.kind)
        numbers = list(kinds)
        today = self._feed.indexed(numbers)
        vectors = self._feed.vectors(self._made_by, numbers)
        changes: list[Change] = []
        for number, kind in kinds.items():
            held = today.get(number)
            if held is None:
                changes.append(RemoveDocument(document=number))
            elif "put" in kind:
                rows = [Row(seq=seq, text=text, vector=vectors.get(seq)) for seq, text in held.rows]
                changes.append(PutDocument(document=number, class_id=held.class_id, metadata=held.metadata, rows=rows))
            else:
                if "access" in kind:
                    changes.append(SetClass(document=number, class_id=held.class_id))
                made = [(seq, vectors[seq]) for seq, _ in held.rows if seq in vectors]
                if "vectors" in kind and made:
                    rows_of = np.stack([row for _, row in made])
                    changes.append(SetVectors(seqs=[seq for seq, _ in made], vectors=rows_of))
        return changes

    def save(self) -> None:
        """Write the index files, if this process is the one that may."""
        if self._lock_file is not None and self._index.applied != self._saved:
            try:
                self._index.save()
            except OSError:  # a full disk: the files are a copy of the truth, the next start reads that again
                return
            self._saved = self._index.applied

    def close(self) -> None:
        with self._refreshing:
            self.save()
            if self._lock_file is not None:
                self._lock_file.close()


def _lock(folder: Path) -> IO[bytes] | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.close()
        return None
    return lock_file
