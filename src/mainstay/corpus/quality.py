"""What is wrong with the documents: unread files, copies, bad pieces, missing facts, texts that have been overtaken.

Near-duplicates by MinHash over 5-word shingles (Broder 1997), candidates by locality-sensitive hashing and each pair compared in
full. Everything is computed from documents inside the given Scope.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from rensa import RMinHash, RMinHashLSH

from mainstay.corpus.ports import DocumentRecord
from mainstay.types import Passage, Scope

SIMILAR = 0.6  # of all shingles of both, or of the shorter one's: an edited copy, or a copy with an addition
MEET = 0.4
PERMUTATIONS = 128
BANDS = 64  # 2 rows a band: pairs at 0.4 meet with probability above 0.9999; each that meets is then compared in full
SHINGLE_WORDS = 5
TINY_CHUNK_CHARS = 40
STALE_AFTER = timedelta(days=2 * 365)


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One thing to look at: ``kind``, the documents it is about, and why."""

    kind: str
    documents: tuple[str, ...]
    detail: str


class Readable(Protocol):
    """What quality reads."""

    def records(
        self, *, scope: Scope, source_name: str | None = None, limit: int = 1000, after: str = ""
    ) -> list[DocumentRecord]: ...

    def chunks_of(self, doc_id: str, *, scope: Scope) -> list[Passage]: ...


def examine(documents: Readable, *, scope: Scope, now: datetime) -> list[Issue]:
    """Every finding about the documents of this scope, worst kinds first."""
    records = list(_all(documents, scope))
    texts = {
        record.doc_id: documents.chunks_of(record.doc_id, scope=scope) for record in records if record.status == "ready"
    }
    issues = [
        *_parsing(records),
        *_pieces(records, texts),
        *_missing(records),
        *_overtaken(records, now),
        *_copies(records, texts),
    ]
    order = ["unread", "access-unreadable", "hidden-text", "near-duplicate", "overtaken", "stale"]
    return sorted(
        issues,
        key=lambda issue: (order.index(issue.kind) if issue.kind in order else len(order), issue.kind, issue.documents),
    )


def _all(documents: Readable, scope: Scope) -> Iterator[DocumentRecord]:
    after = ""
    while some := documents.records(scope=scope, after=after):
        yield from some
        after = some[-1].doc_id


def _parsing(records: Iterable[DocumentRecord]) -> Iterator[Issue]:
    for record in records:
        if record.status == "quarantined":
            yield Issue(kind="unread", documents=(record.path,), detail=record.reason)
        for kind, detail in record.findings:
            yield Issue(kind=kind, documents=(record.path,), detail=detail)


def _pieces(records: Iterable[DocumentRecord], texts: dict[str, list[Passage]]) -> Iterator[Issue]:
    for record in records:
        chunks = texts.get(record.doc_id)
        if chunks is None:
            continue
        if not chunks:
            yield Issue(kind="no-text", documents=(record.path,), detail="nothing of it can be found: no text was read")
        tiny = sum(len(chunk.text.strip()) < TINY_CHUNK_CHARS for chunk in chunks)
        if len(chunks) > 3 and tiny * 2 > len(chunks):
            yield Issue(
                kind="segmentation",
                documents=(record.path,),
                detail=f"{tiny} of {len(chunks)} pieces have under {TINY_CHUNK_CHARS} characters: the layout was not understood",
            )


def _missing(records: Iterable[DocumentRecord]) -> Iterator[Issue]:
    for record in records:
        if record.status != "ready":
            continue
        if not any(isinstance(value, date) for value in record.metadata.values()):
            yield Issue(
                kind="no-date", documents=(record.path,), detail="no date inside it: filters by year will miss it"
            )
        if not record.acl.allow:
            yield Issue(
                kind="private", documents=(record.path,), detail="no access is stated: only administrators can find it"
            )


_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


def _overtaken(records: Sequence[DocumentRecord], now: datetime) -> Iterator[Issue]:
    families: dict[tuple[str, str], list[tuple[int, DocumentRecord]]] = defaultdict(list)
    for record in records:
        year = record.metadata.get("year")
        if isinstance(year, int):
            stem = " ".join(_YEAR.sub(" ", record.title).casefold().split())
            families[(record.source, stem)].append((year, record))
        review = record.metadata.get("review") or record.metadata.get("review_by") or record.metadata.get("valid_until")
        if isinstance(review, date) and review < now.date():
            yield Issue(kind="stale", documents=(record.path,), detail=f"was to be reviewed by {review}")
        elif isinstance(day := record.metadata.get("date"), date) and now.date() - day > STALE_AFTER:
            yield Issue(kind="stale", documents=(record.path,), detail=f"dated {day}, more than two years ago")
    for family in families.values():
        newest = max(year for year, _ in family)
        for year, record in family:
            if year < newest:
                newer = next(other.path for other_year, other in family if other_year == newest)
                yield Issue(
                    kind="overtaken", documents=(record.path, newer), detail=f"of {year}; there is one of {newest}"
                )


def _copies(records: Sequence[DocumentRecord], texts: dict[str, list[Passage]]) -> Iterator[Issue]:
    index = RMinHashLSH(threshold=MEET, num_perm=PERMUTATIONS, num_bands=BANDS)
    seen: list[tuple[DocumentRecord, frozenset[int]]] = []
    for record in records:
        shingles = _shingles(" ".join(chunk.text for chunk in texts.get(record.doc_id, ())))
        if not shingles:
            continue
        signature = RMinHash(num_perm=PERMUTATIONS, seed=7)
        signature.update(shingles)
        mine = frozenset(map(hash, shingles))
        for other in sorted(index.query(signature)):
            twin, theirs = seen[other]
            shared = len(mine & theirs)
            similarity = max(shared / len(mine | theirs), shared / min(len(mine), len(theirs)))
            if similarity >= SIMILAR:
                paths = tuple(sorted((record.path, twin.path)))
                differ = "" if record.acl == twin.acl else "; their access differs"
                yield Issue(kind="near-duplicate", documents=paths, detail=f"{100 * similarity:.0f} % the same{differ}")
        index.insert(len(seen), signature)
        seen.append((record, mine))


_WORD = re.compile(r"[^\W_]+")


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    if len(words) < SHINGLE_WORDS:
        return []
    return sorted({" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)})
