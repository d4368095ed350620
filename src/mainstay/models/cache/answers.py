"""What of an Answer is kept, whether it may be, and whether two answers say the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from mainstay.models.cache.gates import normalised
from mainstay.models.cache.ports import CachedAnswer, ReadSet, Source
from mainstay.text.words import negations, quantities
from mainstay.types import Answer, Citation, Mode, Passage, Status

_NOT_WHOLE = ("cut_short", "broke_off", "content_filter", "too_dear")


def why_not_kept(answer: Answer) -> str:
    """Why this answer must not serve again; "" when it may. Only whole, cited answers of the full service are kept."""
    if answer.status is not Status.ANSWERED:
        return str(answer.status)
    if answer.mode is not Mode.FULL:
        return "limited mode"
    if answer.cache_hit:
        return "from the cache"
    if any(step.rpartition(":")[2] in _NOT_WHOLE for step in answer.route):
        return "not whole"
    if not answer.text.strip() or not answer.citations:
        return "no source"
    return ""


def cached(answer: Answer) -> CachedAnswer:
    """The parts that serve again."""
    return CachedAnswer(
        text=answer.text,
        language=answer.language,
        citations=answer.citations,
        confidence=answer.confidence,
        model=answer.model,
        notice=answer.notice,
        review=answer.review,
        release=answer.release,
    )


def served(kept: CachedAnswer, answer: Answer) -> Answer:
    """``answer`` (the asker's own id, times, cap) with what was kept: it costs nothing and says that it is a hit."""
    return replace(
        answer,
        status=Status.ANSWERED,
        text=kept.text,
        language=kept.language,
        citations=kept.citations,
        confidence=kept.confidence,
        model=kept.model,
        notice=kept.notice,
        review=kept.review,
        release=kept.release,
        cache_hit=True,
    )


def sources_of(passages: Sequence[Passage], answer: Answer | CachedAnswer) -> tuple[Source, ...]:
    """Everything the answer was made from: what was read and what is cited."""
    pairs = {(p.document, p.version) for p in passages} | {(c.document, c.version) for c in answer.citations}
    return tuple(Source(document=document, version=version) for document, version in sorted(pairs))


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
