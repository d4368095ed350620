"""Vectors that are missing: whether there are any, who makes them, and the change from one embedder to another."""

from __future__ import annotations

import threading

from mainstay.app.embedding import Embedders
from mainstay.app.searching import Searching
from mainstay.corpus.embedding import embed_waiting
from mainstay.corpus.ingest import Progress
from mainstay.models.embedders import EmbedderIdentity
from mainstay.settings import Settings
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.jobs import SqlQueue
from mainstay.types import Clock

EMBED = "embed"  # the kind of the one job that makes them


class Vectors:
    """Of the embedder in force. Embedding here, outside a job, goes on until ``stop``."""

    def __init__(
        self,
        *,
        settings: Settings,
        documents: SqlDocuments,
        embedders: Embedders,
        searching: Searching,
        queue: SqlQueue,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._settings, self._documents, self._embedders, self._searching = settings, documents, embedders, searching
        self._queue, self._clock, self._stop = queue, clock, stop
        self._all_embedded: tuple[str, int] | None = None

    def missing(self) -> bool:
        made_by = self._embedders.in_force()
        seen = (made_by.digest, self._documents.newest_change())
        if seen != self._all_embedded and not self._documents.without_vector(made_by, 1):
            self._all_embedded = seen  # looking for chunks without a vector costs; it waits until something changes
        return seen != self._all_embedded

    def ask_for(self) -> bool:
        """Of many processes one at a time embeds: whoever claims this one job."""
        missing = self.missing()
        if missing:
            self._queue.add(EMBED, {}, key=EMBED, requested_by="schedule", again=True)
        return missing

    def embed_waiting(self, *, progress: Progress | None = None) -> int:
        """Embed what has no vector of the embedder in force yet."""
        embedder = self._embedders.current()
        return embed_waiting(self._documents, embedder, self._clock, progress=progress, stop=self._stop.is_set)

    def reembed(self, *, progress: Progress | None = None) -> EmbedderIdentity:
        """Make the vectors of the embedder the settings ask for, then put it in force; searches go on with the old
        one meanwhile."""
        wanted = self._embedders.wanted()
        embed_waiting(self._documents, wanted, self._clock, progress=progress, stop=self._stop.is_set)
        self._embedders.put_in_force(self._settings.service.models.embedder, wanted.identity)
        self._searching.searched()
        self._documents.drop_vectors(keep=wanted.identity)
        return wanted.identity
