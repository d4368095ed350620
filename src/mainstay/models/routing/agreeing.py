"""How much two drafts of one model say the same: what they rest on, the facts they name, and their words.

A model that is sure says the same twice; one that guesses says something else each time. Words may differ between two drafts
that agree, facts may not: so a number, a date, a name or a "not" that differs bounds the whole, whatever else is alike.
Source of the idea: Wang et al., "Self-Consistency Improves Chain of Thought Reasoning" (arXiv 2203.11171); as a sign for a
cascade: Yue et al., "Large Language Model Cascades with Mixture of Thought Representations" (arXiv 2310.03094).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mainstay.text.words import content, dates, names, negations, quantities
from mainstay.types import Citation

FACTS, SOURCES, WORDS = 0.4, 0.3, 0.3
"""The weights of what is compared; they make 1 together."""
OTHER_NAMES = 0.4
"""The most that is left when both name somebody, and nobody the same."""
DENIED = 0.3
"""The most that is left when one of them denies and the other does not."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is kept of a checked draft: its sentences without markers, and the sources they rest on."""

    text: str
    citations: tuple[Citation, ...]


def agreement(a: Said, b: Said, question: str = "") -> float:
    """0 (they contradict each other, or only one has an answer) to 1 (they say the same).

    Facts that the question names already are left out: both repeat them, or not, without telling anything.
    """
    if not a.citations or not b.citations:
        return 0.0 if a.citations or b.citations else 1.0
    facts, bound = _facts(a.text, b.text, question)
    sources = _alike(a.citations, b.citations, _overlap)[0] or 0.0
    mine, theirs = set(content(a.text)), set(content(b.text))
    words = 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine or theirs else 1.0
    if facts is None:
        score = (SOURCES * sources + WORDS * words) / (SOURCES + WORDS)
    else:
        score = FACTS * facts + SOURCES * sources + WORDS * words
    return round(min(score, bound), 4)


def _facts(a: str, b: str, question: str) -> tuple[float | None, float]:
    """How alike the facts are (None: neither names any), and the most that two drafts with these facts can agree."""
    asked_numbers, asked_dates = quantities(question), dates(question)
    numbers = [[q for q in quantities(t) if q.sure and not any(q.agrees(x) for x in asked_numbers)] for t in (a, b)]
    days = [[d for d in dates(t) if not any(d.within(x) for x in asked_dates)] for t in (a, b)]
    known = _parts(question)
    persons = [sorted(_parts(t) - known) for t in (a, b)]
    shares: list[float] = []
    bound = 1.0 if bool(negations(a)) == bool(negations(b)) else DENIED
    for share, contained in (
        _alike(numbers[0], numbers[1], lambda x, y: x.agrees(y)),
        _alike(days[0], days[1], lambda x, y: x.within(y) or y.within(x)),
    ):
        if share is not None:
            shares.append(share)
            bound = min(bound, contained)
    share, contained = _alike(persons[0], persons[1], lambda x, y: x == y)
    if share is not None:
        shares.append(share)
        bound = min(bound, OTHER_NAMES + (1 - OTHER_NAMES) * contained)
    return (sum(shares) / len(shares) if shares else None), bound


def _alike(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool]) -> tuple[float | None, float]:
    """The share of both that is in the other, None when both are empty; and the share of the shorter one that is in the
    longer: a detail that only one of them adds contradicts nothing."""
    if not a and not b:
        return None, 1.0
    mine = sum(any(same(x, y) for y in b) for x in a)
    theirs = sum(any(same(x, y) for x in a) for y in b)
    shorter = min(len(a), len(b))
    held = min(count for count, of in ((mine, a), (theirs, b)) if len(of) == shorter)
    return (mine + theirs) / (len(a) + len(b)), held / shorter if shorter else 1.0


def _overlap(a: Citation, b: Citation) -> bool:
    """Whether both quote from the same place."""
    return (a.document, a.version) == (b.document, b.version) and a.start < b.end and b.start < a.end


def _parts(text: str) -> set[str]:
    return {part for name in names(text) for part in name.parts}
