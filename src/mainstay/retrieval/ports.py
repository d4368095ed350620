"""What search asks of an index: the embedded kernel is one, a database that searches itself another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import Hits
from mainstay.types import Filter, Scope

Scores = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""The scores of given rows on one side, NaN (meaning) or 0 (words) where there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lists:
    """The best rows by words and by meaning, and how to ask for the score a row of one list has on the other side."""

    words: Hits
    meaning: Hits
    word_scores: Scores
    meaning_scores: Scores


class Inside(Protocol):
    """What one scope may read, narrowed by filters: everything searched is searched in here."""

    @property
    def count(self) -> int:
        """Rows in here."""

    @property
    def without_vector(self) -> int:
        """Rows in here that are found by words only, because their vector has not arrived."""

    @property
    def cut_off(self) -> int:
        """Rows the scope keeps out: for operators alone."""

    def lists(self, text: str, vector: NDArray[np.float32] | None, k: int) -> Lists:
        """The k best rows by words, and with a vector by meaning."""


class Index(Protocol):
    """Search over one corpus with the vectors of one embedder."""

    def permitted(self, scope: Scope, filters: Sequence[Filter] = ()) -> Inside: ...

    def metadata_keys(self, scope: Scope) -> Sequence[str]:
        """The metadata keys that occur in the scope."""

    def metadata_values(
        self, scope: Scope, key: str, *, limit: int | None = None
    ) -> Mapping[str | int | float | bool | date, int]:
        """The (most frequent) distinct values of a key in the scope, with the number of documents that have each."""
