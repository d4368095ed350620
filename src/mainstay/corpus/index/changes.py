"""What can happen to the index: the change log's entries, in the room's own nouns.

Every change carries the whole truth about what it names, so applying one twice, or again after a crash, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mainstay.types import MetaValue


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One chunk: ``seq`` is the caller's number (unique, above zero), ``text`` what is indexed by words.

    ``vector`` is the unit row of the embedder, or None while it is not computed yet: such a row is found by words only.
    """

    seq: int
    text: str
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class PutDocument:
    """The document is now exactly these rows: whatever was known of it before is replaced."""

    document: int
    class_id: int
    metadata: Mapping[str, MetaValue]
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class RemoveDocument:
    """The document is gone."""

    document: int


@dataclass(frozen=True, kw_only=True)
class SetClass:
    """The document moved to another ACL class; nothing of its content is indexed again."""

    document: int
    class_id: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SetVectors:
    """Vectors that arrived later: ``vectors[i]`` belongs to the row numbered ``seqs[i]``; unknown rows are ignored."""

    seqs: Sequence[int]
    vectors: NDArray[np.float32]


Change = PutDocument | RemoveDocument | SetClass | SetVectors
