"""What a router sees of a question before any model has been asked: its text, and how the search for it went.

``Traits`` is the value every decision starts from. ``numbers`` and ``hashed`` turn it into figures for the learned estimate;
both are the same in every process and on every machine, because a trained estimate is kept and read by others.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mainstay.types import Passage

Floats = npt.NDArray[np.float32]

LONGEST = 4000
"""Characters of a question that are looked at; a question is never longer unless a limit was raised."""
GRAMS = (3, 4, 5)
_WORD = re.compile(r"[^\W_]+")
_SPACE = re.compile(r"\s+")
_COMPARES = re.compile(
    r"\b(compar\w*|versus|vs|differ\w*|better|worse|rather than|more than|less than|which of|pros and cons|trade-?offs?|"
    r"vergleich\w*|unterschied\w*|gegenüber|différence\w*|compara\w*|diferencia\w*|verschil\w*|confront\w*)\b"
)
_WORKS_OUT = re.compile(
    r"\b(how many|how much|calculat\w*|comput\w*|sum|total|average|percent\w*|solve|prove|derive|steps?|explain why|"
    r"why|wie viele?|warum|berechne\w*|combien|pourquoi|cuánt\w*|por qué|hoeveel|waarom|quant\w*|perché)\b"
)
_SEVERAL = re.compile(r"\b(and|as well as|also|und|sowie|et|ainsi que|y|además|en|e|anche|também)\b")
_CODE = re.compile(r"```|\bdef \w+\(|\bclass \w+[:({]|\breturn\b|[{};]\s*$|</?\w+>|#include|\bimport \w+", re.MULTILINE)
_CHOICE = re.compile(r"(?m)^\s*(?:\(?[A-Ea-e][).:]|\d+[).])\s+\S")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """A question and how retrieval went. Scores are those of the fused list (0 to 1, best first); ``score_gap`` is the
    first less the second, ``spread`` the share of different documents among the passages, ``by_words`` and ``by_meaning``
    how many candidates each side brought. Without retrieval they stay 0. ``chars`` is the question's length where its text is
    not known (traces keep none)."""

    question: str = ""
    chars: int = 0
    language: str = ""
    passages: int = 0
    top_score: float = 0.0
    score_gap: float = 0.0
    spread: float = 0.0
    by_words: int = 0
    by_meaning: int = 0
    history: int = 0
    filters: int = 0


def traits_of(
    question: str,
    passages: Sequence[Passage] = (),
    *,
    language: str = "",
    by_words: int = 0,
    by_meaning: int = 0,
    history: int = 0,
    filters: int = 0,
) -> Traits:
    """The traits of a question with the passages found for it, best first."""
    scores = [passage.score for passage in passages]
    return Traits(
        question=question,
        language=language,
        passages=len(passages),
        top_score=scores[0] if scores else 0.0,
        score_gap=scores[0] - scores[1] if len(scores) > 1 else 0.0,
        spread=len({passage.document for passage in passages}) / len(passages) if passages else 0.0,
        by_words=by_words,
        by_meaning=by_meaning,
        history=history,
        filters=filters,
    )


NUMBERS = (
    "chars",
    "words",
    "word_length",
    "lines",
    "digits",
    "symbols",
    "capitals",
    "question_marks",
    "compares",
    "works_out",
    "several",
    "code",
    "choices",
    "passages",
    "top_score",
    "score_gap",
    "spread",
    "by_words",
    "by_meaning",
    "history",
    "filters",
)
"""The names of what ``numbers`` gives, in its order; a kept estimate carries them and is refused when they differ."""


def numbers(traits: Traits) -> Floats:
    """Figures of a question, on scales of about 0 to 5. The first thirteen are of its text, the rest of retrieval."""
    text = traits.question[:LONGEST]
    folded = text.casefold()
    words = _WORD.findall(folded)
    size = max(len(text), 1)
    return np.array(
        [
            np.log1p(len(text) or traits.chars) / 2,
            np.log1p(len(words)) / 2,
            sum(map(len, words)) / max(len(words), 1) / 5,
            np.log1p(text.count("\n")),
            5 * sum(c.isdigit() for c in text) / size,
            5 * sum(not (c.isalnum() or c.isspace()) for c in text) / size,
            5 * sum(c.isupper() for c in text) / size,
            min(text.count("?"), 3),
            min(len(_COMPARES.findall(folded)), 3),
            min(len(_WORKS_OUT.findall(folded)), 3),
            min(len(_SEVERAL.findall(folded)), 5) / 2,
            min(len(_CODE.findall(text)), 3),
            min(len(_CHOICE.findall(text)), 5) / 2,
            min(traits.passages, 20) / 5,
            traits.top_score,
            traits.score_gap,
            traits.spread,
            np.log1p(traits.by_words) / 2,
            np.log1p(traits.by_meaning) / 2,
            min(traits.history, 6) / 2,
            min(traits.filters, 4) / 2,
        ],
        dtype=np.float32,
    )


WAVES = 128


def waves(told: Floats) -> Floats:
    """Numbers on one scale (together about as long as 1) as ``WAVES`` cosines whose products fall off as a bell with distance:
    what a straight line through the numbers can not say. The directions are the same for ever.

    Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (NIPS 2007).
    """
    directions, phases = _directions(len(told))
    made: Floats = (np.cos(directions @ told + phases) * np.sqrt(2.0 / WAVES)).astype(np.float32)
    return made


@lru_cache(maxsize=4)
def _directions(count: int) -> tuple[Floats, Floats]:
    """Normal numbers (Box and Muller, 1958) and angles out of counted keys: no generator whose stream might change."""
    keys = _mixed(np.arange(1, (2 * count + 1) * WAVES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    even = ((keys >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    first, second, angles = even[: count * WAVES], even[count * WAVES : 2 * count * WAVES], even[2 * count * WAVES :]
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return (1.8 * normal.reshape(WAVES, count)).astype(np.float32), (2.0 * np.pi * angles).astype(np.float32)


def hashed(text: str, dims: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places (sorted, distinct) and weights of a text among ``dims``: character 3- to 5-grams, words and pairs of
    words, each hashed to a place and a sign; 1 + log of how often. Not yet weighed by rarity, not of unit length.

    Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (arXiv 0902.2206).
    """
    folded = f" {_SPACE.sub(' ', text[:LONGEST].casefold()).strip()} "
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    keys = [_windows(codes, n) for n in GRAMS if len(codes) >= n]
    words = np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(folded)], np.uint64)
    keys.append(_mixed(words + np.uint64(0x51ED27)))
    keys.append(_mixed(words[:-1] * np.uint64(0x9E3779B1) + words[1:]))
    every, counts = np.unique(np.concatenate(keys), return_counts=True)
    signs = np.where((every >> np.uint64(40)) & np.uint64(1), 1.0, -1.0)
    places, back = np.unique((every % np.uint64(dims)).astype(np.int64), return_inverse=True)
    weights = np.bincount(back, weights=signs * (1.0 + np.log(counts)), minlength=len(places))
    return places, weights.astype(np.float32)


def _windows(codes: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.uint64]:
    """One key for each run of n characters."""
    key = np.full(len(codes) - n + 1, n, np.uint64)
    for at in range(n):
        key = key * np.uint64(1_000_003) + codes[at : len(codes) - n + 1 + at]
    return _mixed(key)


def _mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Bits well stirred (the end of splitmix64, Steele et al., OOPSLA 2014); whole numbers wrap on purpose."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
