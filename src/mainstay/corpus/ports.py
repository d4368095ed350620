"""What the corpus asks to be kept. Storage implements it; every read of text takes a Scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mainstay.access.acl import Acl
from mainstay.models.embedders import EmbedderIdentity
from mainstay.types import MetaValue, Passage, Scope


@dataclass(frozen=True, kw_only=True)
class AccessRule:
    """An access rule and where it is stated; documents under the same origin share one ACL class."""

    origin: str
    acl: Acl


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A chunk to keep: ``text`` is the exact slice ``start:end`` of the version's text; ``prefix`` is indexed, never cited."""

    chunk_id: str
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    section_start: int
    section_end: int
    prefix: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One document, read and cut, ready to be kept."""

    doc_id: str
    source: str
    path: str
    uri: str
    title: str
    media_type: str
    version: str
    raw_digest: str
    rule: AccessRule
    own_access: Acl | None
    metadata: Mapping[str, MetaValue]
    language: str
    modified: datetime | None
    size: int
    recipe: str
    text: str = ""
    pages: tuple[tuple[int, int, int], ...] = ()
    pieces: tuple[Piece, ...] = ()
    findings: tuple[tuple[str, str], ...] = ()
    quarantined: str = ""  # the reason, when it could not be read


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the truth already holds of one path of a source."""

    doc_id: str
    path: str
    raw_digest: str
    origin: str
    acl: Acl
    own_access: Acl | None
    recipe: str
    quarantined: str


@dataclass(frozen=True, kw_only=True)
class DocumentRecord:
    """A document as its readers and operators see it, without its text."""

    doc_id: str
    source: str
    path: str
    uri: str
    title: str
    media_type: str
    version: str
    metadata: Mapping[str, MetaValue]
    language: str
    modified: datetime | None
    created: datetime
    updated: datetime
    size: int
    chunks: int
    status: str
    reason: str
    findings: tuple[tuple[str, str], ...]
    origin: str = ""
    acl: Acl = field(default_factory=lambda: Acl((), ()))


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One line of the change log."""

    n: int
    kind: str
    document: int


@dataclass(frozen=True, kw_only=True)
class IndexedDocument:
    """What a derived index needs of one document, now."""

    number: int
    class_id: int
    metadata: Mapping[str, MetaValue]
    rows: tuple[tuple[int, str], ...]  # (seq, words to index)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """A chunk with what stands beside it in its section: ``text`` is exactly the slice ``start:end`` of the version's text."""

    version: str
    start: int
    end: int
    text: str


class Documents(Protocol):
    """The truth about documents. Every method is one transaction; every read of text takes a Scope."""

    def salt(self) -> bytes: ...

    def known(self, source_name: str, path: str | None = None) -> dict[str, Known]: ...

    def taken_ids(self, ids: Sequence[str]) -> set[str]: ...

    def put(self, documents: Sequence[Prepared], at: datetime) -> None: ...

    def move(self, doc_id: str, *, path: str, uri: str, rule: AccessRule, at: datetime) -> None: ...

    def apply_access(self, source_name: str, rules: Mapping[str, AccessRule], at: datetime) -> int: ...

    def remove(self, doc_ids: Sequence[str], at: datetime) -> int: ...

    def note_sync(
        self,
        name: str,
        *,
        kind: str,
        root: str,
        state: str,
        detail: str,
        at: datetime,
        done: Mapping[str, int] | None = None,
    ) -> None:
        """How a source's synchronisation went, and what it did, counted."""
        ...

    def passages(self, seqs: Sequence[int], *, scope: Scope) -> Mapping[int, Passage]: ...

    def text(
        self, doc_id: str, version: str, *, scope: Scope
    ) -> tuple[str, tuple[tuple[int, int, int], ...]] | None: ...

    def neighbours(self, chunk_id: str, reach: int, *, scope: Scope) -> list[Passage]: ...

    def around(
        self, chunk_ids: Sequence[str], reach: int, *, most_chars: int, scope: Scope
    ) -> Mapping[str, Surroundings]: ...


class IndexFeed(Protocol):
    """What derived indexes follow."""

    def newest_change(self) -> int: ...

    def changes_after(self, n: int, limit: int = 10_000) -> list[Changed]: ...

    def indexed(self, numbers: Sequence[int]) -> dict[int, IndexedDocument]: ...

    def vectors(self, made_by: EmbedderIdentity, numbers: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]: ...

    def without_vector(self, made_by: EmbedderIdentity, limit: int) -> list[tuple[int, str]]: ...

    def put_vectors(
        self, made_by: EmbedderIdentity, seqs: Sequence[int], rows: npt.NDArray[np.float32], at: datetime
    ) -> None: ...

    def embedding_progress(self, made_by: EmbedderIdentity) -> tuple[int, int]: ...
