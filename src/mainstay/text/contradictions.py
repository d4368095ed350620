"""Two quotes that speak of the same thing and say something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstay.text.words import Dated, Quantity, content, dates, names, negations, opener, quantities


@dataclass(frozen=True, slots=True)
class _Reading:
    """What of a quote is compared."""

    stems: frozenset[str]
    names: frozenset[str]
    quantities: tuple[Quantity, ...]
    dates: tuple[Dated, ...]
    negated: bool


def _read(text: str) -> _Reading:
    return _Reading(
        stems=frozenset(s for s in content(text) if s.isalpha()),
        names=frozenset(part for name in names(text) for part in name.parts) | ({opener(text)} - {""}),
        quantities=tuple(q for q in quantities(text) if q.sure),
        dates=tuple(dates(text)),
        negated=bool(negations(text)),
    )


def contradictions(
    quotes: Sequence[str], same_document: Callable[[int, int], bool] | None = None
) -> list[tuple[int, int]]:
    """Pairs of quotes that speak of the same thing and differ in a number, a date or a negation.

    Give ``same_document`` to leave out pairs from one document: a table there lists different numbers on purpose.
    """
    read = [_read(q) for q in quotes]
    out = []
    for i, first in enumerate(read):
        for j in range(i + 1, len(read)):
            if same_document is not None and same_document(i, j):
                continue
            if _disagree(first, read[j]):
                out.append((i, j))
    return out


def _disagree(a: _Reading, b: _Reading) -> bool:
    words_a, words_b = a.stems, b.stems
    if min(len(words_a), len(words_b)) < 2:
        return False
    shared = len(words_a & words_b)
    if shared < 2 or shared / min(len(words_a), len(words_b)) < 0.6 or shared / len(words_a | words_b) < 0.4:
        return False
    if a.names - b.names and b.names - a.names:
        return False  # each speaks of somebody else
    return _different_numbers(a, b) or _different_dates(a, b) or a.negated != b.negated


def _different_numbers(a: _Reading, b: _Reading) -> bool:
    units = {q.unit for q in a.quantities} & {q.unit for q in b.quantities}
    for unit in units:
        mine = [q for q in a.quantities if q.unit == unit]
        theirs = [q for q in b.quantities if q.unit == unit]
        if not any(x.agrees(y) for x in mine for y in theirs):
            return True
    return False


def _different_dates(a: _Reading, b: _Reading) -> bool:
    if not a.dates or not b.dates:
        return False
    return not any(x.within(y) or y.within(x) for x in a.dates for y in b.dates)
