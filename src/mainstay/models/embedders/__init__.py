"""Embedders: text in, unit vectors out.

This file owns the port that search asks for, and nothing else; importing it loads no weights and no model library. Two
embedders live beside it: `static` (always there, a few megabytes, no model run) and `minilm` (better, its weights are
added by the operator, see `weights`).

Two rules bind every embedder:

- Vectors of different identities are never compared. An index keeps the identity it was built with and refuses another.
- The vector of one text is the same to the last bit whatever other texts are embedded in the same call. Otherwise a
  reader could learn something about a hidden neighbour from the scores of a visible passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Embedder", "EmbedderIdentity"]


@dataclass(frozen=True, kw_only=True)
class EmbedderIdentity:
    """What has to agree before two vectors may be compared.

    `digest` is the sha256 (hex) over the weights and everything else that decides the vector: vocabulary, truncation,
    pooling. `precision` names the number format of the weights ("fp32", "int8"); `dims` is the length of a vector.
    """

    name: str
    digest: str
    precision: str
    dims: int


class Embedder(Protocol):
    """Turns texts into unit vectors whose dot product is the likeness of their meanings (-1 to 1)."""

    @property
    def identity(self) -> EmbedderIdentity:
        """Name, digest, precision and length of the vectors this embedder makes."""
        ...

    @property
    def weight(self) -> float:
        """The share of meaning against words at which hybrid search measured best, 0 to 1; settings may say otherwise."""
        ...

    @property
    def related(self) -> float:
        """The cosine of question and passage from which one more likely than not speaks of what was asked."""
        ...

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed passages, in order: (len(texts), dims), C-contiguous, unit rows.

        A text without a single token (empty, blank, control characters only) gives a row of zeros.
        """
        ...

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """Embed one query: (dims,), unit length, or zeros for a text without a token."""
        ...
