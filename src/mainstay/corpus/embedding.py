"""Vectors for chunks that have none yet: in the background, resumable, each kept with the identity of what made it."""

from __future__ import annotations

from collections.abc import Callable

from mainstay.corpus.ports import IndexFeed
from mainstay.models.embedders import Embedder
from mainstay.types import Clock

BATCH = 256


def embed_waiting(
    feed: IndexFeed,
    embedder: Embedder,
    clock: Clock,
    *,
    batch: int = BATCH,
    progress: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Embed every chunk that waits, a transaction a batch, until none waits or ``stop()`` says so; returns how many."""
    made = 0
    done, total = feed.embedding_progress(embedder.identity)
    while not stop():
        waiting = feed.without_vector(embedder.identity, batch)
        if not waiting:
            break
        rows = embedder.embed_passages([words for _, words in waiting])
        feed.put_vectors(embedder.identity, [seq for seq, _ in waiting], rows, clock.now())
        made += len(waiting)
        if progress:
            progress(min(done + made, total), total, "embedding")
    return made
