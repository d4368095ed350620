"""The nouns of the cache, and what it asks to be kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mainstay.types import Citation, Scope

ReadSet = frozenset[tuple[str, str]]
"""(document, version) of every passage that search brought for a question: what an answer to it can depend on."""


class Wording(StrEnum):
    """How near the words of two questions are, after the gates; each kind is counted on its own."""

    EXACT = "exact"  # equal but for case, white space, punctuation, hidden characters
    SAME = "same"  # the same words: articles, contractions, "which" for "what", the order around "and" apart
    FORMS = "forms"  # other forms of the same words: number, endings
    LICENCE = "licence"  # a way of asking is another: "how do I", "how can you"


def digest(*parts: object) -> str:
    """A short name for values, equal for equal ones."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Between what answers are never shared: another release, agreement, language, embedder or kind of model."""

    release: str
    agreement: str
    language: str
    embedder: str
    model_class: str

    @cached_property
    def family(self) -> str:
        """Whose likenesses may be counted together: it outlives a release, so that what was learnt does too."""
        return digest("family", self.language, self.embedder)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as the cache sees it.

    ``history_digest`` is "" at the start of a conversation; ``filters`` are the given ones as text. ``vector`` is the question
    embedded (unit length), or None: then only the same question is found. ``personal`` is the principal when the answer is
    meant for that person alone. ``read`` is what today's search brought this asker: an answer is served only where the search
    behind it brought the very same. None leaves that check out: for tests and measuring.
    """

    question: str
    partition: Partition
    history_digest: str = ""
    filters: tuple[str, ...] = ()
    top_k: int = 8
    vector: npt.NDArray[np.float32] | None = None
    personal: str | None = None
    read: ReadSet | None = None

    @cached_property
    def place(self) -> str:
        """The digest of everything that must be the same, whatever the words."""
        parts = (asdict(self.partition), self.history_digest, sorted(self.filters), self.top_k, self.personal)
        return digest("place", *parts)

    @cached_property
    def read_digest(self) -> str:
        return "" if self.read is None else digest("read", sorted(self.read))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A document version that an answer was made from: read by the model, or cited."""

    document: str
    version: str


@dataclass(frozen=True, kw_only=True)
class CachedAnswer:
    """The parts of an Answer that serve again."""

    text: str
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    model: str = ""
    notice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A kept answer with the question it answers. ``owner`` is "" unless it is meant for one person."""

    entry_id: str
    place: str
    exact: str
    read_set: str
    question: str
    vector: npt.NDArray[np.float32] | None
    answer: CachedAnswer
    owner: str
    created: datetime
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Near:
    """A kept question and the cosine of its vector with the one asked."""

    entry_id: str
    question: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Label:
    """What was seen when an answer was made anew beside a kept one: whether they agreed. ``asked`` is the digest of the question
    that was asked, ``served`` whether the kept answer had been shown."""

    entry_id: str
    family: str
    asked: str
    wording: Wording
    similarity: float
    agreed: bool
    served: bool
    at: datetime


class CacheStore(Protocol):
    """Keeps answers. No text of an answer leaves it without a Scope that may read every source of it as it is now.

    Errors: Unavailable; the cache takes it for a miss.
    """

    def exact(self, place: str, exact: str, *, at: datetime, scope: Scope) -> Entry | None:
        """The newest answer under this key that is not expired, if its sources are unchanged and readable."""

    def near(
        self,
        place: str,
        read_set: str,
        vector: npt.NDArray[np.float32],
        *,
        least: float,
        limit: int,
        at: datetime,
    ) -> list[Near]:
        """Kept questions of this place and read set with at least this cosine, nearest first. No text of answers."""

    def open(self, entry_id: str, *, at: datetime, scope: Scope) -> Entry | None:
        """The entry, if it is not expired and its sources are unchanged and readable now."""

    def still_good(self, entry_id: str, *, scope: Scope) -> bool:
        """Whether every source of the entry is there in the same version, and inside the scope as it is classed now."""

    def current(self, sources: Sequence[Source], *, scope: Scope) -> bool:
        """The same for sources named directly: for an answer that another thread made."""

    def put(self, entry: Entry, sources: Sequence[Source], *, most: int) -> bool:
        """Keep it in place of an older one under the same key; False, and nothing kept, when a source has changed meanwhile.
        Beyond ``most`` entries the least used and oldest go."""

    def used(self, entry_id: str) -> None:
        """It served. Written later, with the next ``put``: a count that may get lost."""

    def add_label(self, label: Label) -> None: ...

    def labels(self, family: str, *, limit: int) -> list[Label]:
        """The newest first."""

    def labels_of(self, entry_id: str) -> list[Label]: ...

    def forget(self, entry_id: str) -> None: ...

    def forget_person(self, principal: str) -> int:
        """Delete every answer kept for this person alone; how many."""

    def clear(self) -> int:
        """Delete all answers; how many. What was learnt stays."""

    def prune(self, *, at: datetime, labels_before: datetime) -> int:
        """Delete expired answers and old labels; how many answers."""

    def counts(self) -> Mapping[str, int]:
        """``entries``, ``labels`` and ``labels_agreed``."""
