"""What of an answer is kept, and whether two answers say the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mainstay.models.cache.gates import normalised
from mainstay.models.cache.ports import CachedAnswer, ReadSet
from mainstay.text.words import negations, quantities
from mainstay.types import Citation, Passage


def read_set(passages: Sequence[Passage]) -> ReadSet:
    """What search brought, for ``Asked.read``."""
    return frozenset((passage.document, passage.version) for passage in passages)


def dumps(kept: CachedAnswer) -> str:
    """As JSON."""
    return json.dumps(asdict(kept), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def loads(text: str) -> CachedAnswer:
    """The inverse of ``dumps``."""
    held = json.loads(text)
    return CachedAnswer(**{**held, "citations": tuple(Citation(**citation) for citation in held["citations"])})


def same_answer(a: CachedAnswer, b: CachedAnswer) -> bool:
    """Whether two answers say the same: the same text but for case and punctuation; or the same cited spans, with the same numbers
    and as many negations. Strict: two right answers in other words from other places count as different."""
    if normalised(a.text) == normalised(b.text):
        return True
    return bool(a.citations) and _spans(a) == _spans(b) and _stated(a.text) == _stated(b.text)


def _spans(answer: CachedAnswer) -> frozenset[tuple[str, str, int, int]]:
    return frozenset((c.document, c.version, c.start, c.end) for c in answer.citations)


def _stated(text: str) -> tuple[list[tuple[list[str], str]], int]:
    numbers = sorted((sorted(map(str, q.values)), q.unit) for q in quantities(text))
    return numbers, len(negations(text))
