"""The answerer that needs no model: up to three quotations from the passages found, each a sentence with its neighbours.

Each sentence of each passage is scored by what it shares with the question (words weighted by how rare they are
*within the given passages*, so that nothing outside the asker's scope has a say), by whether it holds the kind of thing
asked for (a date for "when"), and by where it stands. The best are quoted as they are. It never says "the answer is":
it says what the documents say, and whether that answers is for the reader to judge.

It abstains when the passages do not speak of what was asked. It can not tell a near miss (right subject, missing fact)
from an answer: ``scripts/fit_extractive.py`` measures how often it abstains then (about one time in seven).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mainstay.text.contradictions import contradictions
from mainstay.text.sentences import sentences
from mainstay.text.words import content, dates, fold, names, quantities, word_set, words
from mainstay.types import Passage

NAME = "extractive"
"""The model name in answers and traces."""

MAX_CHARS = 900
"""A sentence longer than this is not quoted: it is a table, a dump or a text without punctuation."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
DocumentText = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """One verbatim sentence: ``text`` is exactly the document version's text at ``start:end``."""

    passage_index: int
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What was found. ``abstained`` says why nothing is quoted; ``disagreement`` pairs quotes by position."""

    sentences: tuple[Quoted, ...] = ()
    confidence: float = 0.0
    abstained: str | None = None
    disagreement: tuple[tuple[int, int], ...] = ()


GROWN = 400
"""A quote takes the sentence that follows along when both together are at most this long."""

ENOUGH_CHARS = 1000
"""Quotes together this long are not grown any further."""

# Weights of the features of a sentence, in the order of ``_row``. Fitted by ``scripts/fit_extractive.py``: conditional
# logit (within each question, the sentences that overlap a gold span against the others) on the fitting half of
# chunking_evaluation (first byte of the question's SHA-256 even), BM25 top 6 chunks. No bias: only order matters.
_WEIGHTS = {
    "coverage": 3.423,  # weighted share of the question's words in the sentence
    "bm25": 1.386,
    "pairs": 0.876,  # of the question's neighbouring words, those that are neighbours here too
    "rank": 0.557,
    "relevance": 2.531,
    "kind": 1.02,  # holds the kind of thing asked for
    "kind_missed": -0.862,
    "heading": 1.0,  # words of the question in title and headings; by hand, the fitting texts have none
    "short": -0.924,
    "long": -0.315,
    "row": 3.114,
    "title": -1.28,
    "asks": -2.745,
    "opens": 0.572,  # begins with a pronoun
    "passage": 1.571,  # coverage by the whole passage
    "soft": 2.714,  # words that only share their beginning
    "density": 0.572,
    "rarest": 2.013,
    "plain": 0.809,  # coverage without the question's names
    "early": 0.423,
    "found": 0.169,
    "size": 0.226,
    "window": 1.068,  # coverage together with both neighbours
}
FEATURES = tuple(_WEIGHTS)
WEIGHTS: tuple[float, ...] = tuple(_WEIGHTS.values())
DENSE_WEIGHT = 3.0
"""Of the cosine between question and sentence, when there is an embedder."""

EMBEDDED = 16
"""So many sentences, the best by words, are embedded."""

REDUNDANT = 0.5
"""Taken off the second and third choice for full overlap with one chosen before."""

WEAK = 0.3
"""A further quote whose chance is below this share of the best one's is left out."""

SCALE, SHIFT = 0.467, -6.126
"""From a sentence's score to the chance that it is one of those looked for."""

# The abstention rule: see ``_confidence``; fitted by the same script against questions about other things.
_SIGNALS = {
    "covered": 0.996,  # weighted share of the question's words anywhere in the passages
    "covered_best": 2.786,  # by the best single passage
    "covered_quotes": -0.175,
    "covered_sentence": 1.657,  # by the best single sentence
    "matches": 5.127,  # how many words the best passage holds, up to five
    "together": 5.337,  # how many the best sentence holds, up to four
    "whole": 2.774,  # the best sentence holds every word
    "top": 1.429,
    "names_missing": -1.0,  # by hand: the fitting questions never name what is nowhere
}
SIGNALS = tuple(_SIGNALS)
SIGNAL_WEIGHTS: tuple[float, ...] = tuple(_SIGNALS.values())
SIGNAL_BIAS = -9.358
# Words and meaning together: logistic regression on 180 questions of the same fitting half against 180 questions
# about other things,
# searched with the static embedder. At the threshold 2.8 % of the former and 88 % of the latter are left unanswered.
WORDS_SHARE, MEANING_SHARE = 0.592, 10.23
RELATED = 0.452  # of the static embedder
ABSTAIN_BELOW = 0.25
ABSTAIN_BELOW_BY_WORDS = 0.15  # where no passage has a vector yet


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question, read once."""

    stems: tuple[str, ...]
    pairs: frozenset[tuple[str, str]]
    kind: str
    names: frozenset[str]
    quantities: frozenset[str]


_FILLER = frozenset(
    content(
        """
        specific mentioned described discussed text document according main key significant primary various particular
        certain example role purpose used type kind stated referred provided given addressed outlined question answer
        article passage notable following related regarding
        """
    )
)
"""Words that questions are made of rather than about: they count a quarter."""


@dataclass(slots=True)
class _Candidate:
    """One sentence that may be quoted, with what is needed to score it."""

    passage: int
    position: int
    start: int
    end: int
    text: str
    stems: tuple[str, ...]
    score: float = 0.0
    by_words: float = 0.0  # the score before the embedder had its say: what chance and confidence are counted from
    found: frozenset[str] = field(default_factory=frozenset)


def extract(
    question: str,
    passages: Sequence[Passage],
    *,
    document_text: DocumentText | None = None,
    embed: Embed | None = None,
    related: float = RELATED,
    language: str | None = None,
    max_sentences: int = 3,
) -> Extraction:
    """Quote up to ``max_sentences`` sentences that answer, or abstain.

    ``document_text`` gives the stored text of a document version: a passage that is not its exact slice is left out.
    ``embed`` gives unit vectors; without it the words decide alone. ``related`` is what the passages'
    embedder says of its cosines.
    """
    kept = [(i, p) for i, p in enumerate(passages) if document_text is None or _current(p, document_text)]
    asked = _ask(question, language or "en")
    if not kept:
        return Extraction(abstained="no passage was found")
    if not asked.stems:
        return Extraction(abstained="the question names nothing to look for")
    candidates = [c for i, p in kept for c in _candidates(i, p, language or "en")]
    if not candidates:
        return Extraction(abstained="no passage holds a sentence")
    weights = _term_weights(asked, candidates)
    _score(asked, candidates, passages, weights, question, embed)
    chosen = _choose(candidates, weights, max_sentences, [p.document for p in passages])
    meaning = max((p.dense for _, p in kept), default=0.0)
    confidence = _confidence(_signals(asked, candidates, chosen, passages, weights), meaning, related)
    if not chosen or confidence < (ABSTAIN_BELOW if meaning else ABSTAIN_BELOW_BY_WORDS):
        return Extraction(confidence=confidence, abstained="the passages do not speak of what was asked")
    quoted = tuple(
        Quoted(
            passage_index=c.passage,
            start=passages[c.passage].start + c.start,
            end=passages[c.passage].start + c.end,
            text=passages[c.passage].text[c.start : c.end],
            score=round(c.chance, 6),
        )
        for c in chosen
    )
    pairs = contradictions(
        [c.core for c in chosen],
        lambda i, j: passages[quoted[i].passage_index].document == passages[quoted[j].passage_index].document,
    )
    return Extraction(sentences=quoted, confidence=confidence, disagreement=tuple(pairs))


def _current(passage: Passage, document_text: DocumentText) -> bool:
    return document_text(passage.document, passage.version)[passage.start : passage.end] == passage.text


def _ask(question: str, language: str) -> _Asked:
    stems = tuple(dict.fromkeys(content(question, language)))
    in_order = content(question, language)
    return _Asked(
        stems=stems,
        pairs=frozenset(pairwise(in_order)),
        kind=_kind(question),
        names=frozenset(part for name in names(question) for part in name.parts),
        quantities=frozenset(str(v) for q in quantities(question) if q.sure for v in q.values),
    )


_KINDS: tuple[tuple[str, str], ...] = (
    ("duration", r"\b(?:how long|wie lange|combien de temps|cuanto tiempo|quanto tempo|hoe lang)\b"),
    (
        "money",
        r"\b(?:how much|prices?|costs?|amounts?|fees?|salary|teuer|preis|kosten|betrag|prix|cout|precio|prezzo|prijs)\b",
    ),
    ("share", r"\b(?:percentage|percent|what share|proportion|prozent|pourcentage|porcentaje|percentuale)\b"),
    (
        "count",
        r"\b(?:how many|how often|number of|wie ?viele?|wie oft|combien|cuant[oa]s|quant[iea]|quant[oa]s|hoeveel)\b",
    ),
    (
        "time",
        r"\b(?:when|(?:what|which) (?:year|date|time|day|month)|deadline|wann|quand|cuando|quando|wanneer)\b",
    ),
    ("place", r"\b(?:where|wo|wohin|woher|donde|dove|waar|onde)\b"),
    ("person", r"^(?:who|whom|whose|wer|wen|wem|qui|quien|chi|quem)\b|\b(?:by whom|which person|name of)\b"),
    ("reason", r"\b(?:why|reasons?|causes?|warum|weshalb|pourquoi|por que|perche|waarom)\b"),
    ("manner", r"^(?:how (?:do|does|did|can|is|are|was|were|to|should)|wie|comment|como|come|hoe)\b"),
    ("yesno", r"^(?:is|are|was|were|do|does|did|can|could|may|must|has|have|will|should|ist|sind|darf|kann|muss)\b"),
)
_KIND_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


def _kind(question: str) -> str:
    """What kind of thing is asked for; ``""`` when the form does not tell."""
    folded = fold(question).strip(" ¿¡\"'")
    return next((kind for kind, pattern in _KIND_PATTERNS if pattern.search(folded)), "")


_REASON = re.compile(
    r"\b(?:because|due to|since|therefore|thus|as a result|in order to|so that|owing to|reason|caused|leads? to"
    r"|weil|da|deshalb|wegen|parce que|car|afin|porque|debido|perche|poiche|omdat|want)\b"
)
_MANNER = re.compile(
    r"\b(?:by|through|using|via|with|steps?|click|select|go to|durch|mit|indem|en|par|mediante|door)\b|^\d+[.)]"
)
_TIME = re.compile(
    r"\b(?:(?:19|20)\d\d|\d{1,2}:\d\d|monday|tuesday|wednesday|thursday|friday|saturday|sunday|today|yesterday)\b"
)
_LENGTHS = frozenset({"second", "minute", "hour", "day", "week", "month", "year"})
_MONEY = frozenset({"usd", "eur", "gbp", "jpy", "chf"})


def _answers_kind(kind: str, text: str, asked: _Asked) -> bool:
    """Whether the sentence holds the kind of thing asked for, beyond what the question itself says."""
    if kind in {"duration", "money", "share", "count"}:
        return any(_counts(kind, q.unit) for q in quantities(text) if not {str(v) for v in q.values} & asked.quantities)
    if kind == "time":
        return bool(dates(text)) or bool(_TIME.search(fold(text)))
    if kind in {"person", "place"}:
        return any(set(name.parts) - asked.names for name in names(text))
    if kind == "reason":
        return bool(_REASON.search(fold(text)))
    return kind == "manner" and bool(_MANNER.search(fold(text)))


def _counts(kind: str, unit: str) -> bool:
    if kind == "duration":
        return unit in _LENGTHS
    if kind == "share":
        return unit == "%"
    if kind == "money":
        return unit in _MONEY or unit in {"", "%"}
    return unit not in _MONEY


def _candidates(index: int, passage: Passage, language: str) -> list[_Candidate]:
    found = []
    orders = _orders(passage.text)
    for position, (start, end) in enumerate(sentences(passage.text)):
        if any(end > first and start < last for first, last in orders):
            continue
        text = passage.text[start:end]
        stems = tuple(content(text, language))
        if stems and end - start <= MAX_CHARS:
            found.append(_Candidate(index, position, start, end, text, stems))
    return found


def _orders(text: str) -> list[tuple[int, int]]:
    """From where a text begins to talk to a machine ("ignore previous instructions") to the paragraph's end: not quoted."""
    spans = []
    for match in _ORDERS.finditer(text):
        end = text.find("\n\n", match.end())
        spans.append((match.start(), len(text) if end < 0 else end))
    return spans


def _term_weights(asked: _Asked, candidates: Sequence[_Candidate]) -> dict[str, float]:
    """How telling each word of the question is: its rarity among the sentences given, and nothing else."""
    held = Counter(stem for c in candidates for stem in set(c.stems))
    n = len(candidates)
    return {
        t: math.log(1 + (n - held[t] + 0.5) / (held[t] + 0.5)) * (0.25 if t in _FILLER else 1.0) for t in asked.stems
    }


def _score(
    asked: _Asked,
    candidates: Sequence[_Candidate],
    passages: Sequence[Passage],
    weights: Mapping[str, float],
    question: str,
    embed: Embed | None,
) -> None:
    """Give every candidate its score and the question words it holds."""
    for candidate, row in zip(candidates, _features(asked, candidates, passages, weights), strict=True):
        candidate.score = candidate.by_words = float(np.dot(WEIGHTS, row))
    if embed is not None:
        _add_dense(question, candidates, embed)


def _add_dense(question: str, candidates: Sequence[_Candidate], embed: Embed) -> None:
    """Let the vectors speak too, for the best by words only: embedding every sentence would cost most of a second."""
    best = sorted(candidates, key=lambda c: (-c.score, c.passage, c.position))[:EMBEDDED]
    vectors = embed([question, *(c.text for c in best)])
    for candidate, cosine in zip(best, vectors[1:] @ vectors[0], strict=True):
        candidate.score += DENSE_WEIGHT * float(cosine)


_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instruction|previous|above|prior|prompt)|\bsystem prompt\b"
    r"|\byou are (?:now|an? (?:ai|assistant))|\b(?:as an|dear) ai\b|\bdo not (?:tell|inform|reveal)\b.{0,30}\buser\b"
    r"|<\|?(?:system|im_start|assistant)",
    re.IGNORECASE | re.DOTALL,
)
_DEICTIC = word_set(
    """
    this these those they it he she such both his her their its dies diese dieser dieses sie er es ihr deren ce cette
    ces il elle ils elles esto este esta estos ellos questo questa questi essi dit deze zij hij isto eles
    """
)
_LENGTH_NORM = 0.4


def _features(
    asked: _Asked, candidates: Sequence[_Candidate], passages: Sequence[Passage], weights: Mapping[str, float]
) -> list[list[float]]:
    stems = frozenset(asked.stems)
    covered: dict[int, frozenset[str]] = {}
    for c in candidates:
        c.found = frozenset(c.stems) & stems
        covered[c.passage] = covered.get(c.passage, frozenset()) | c.found
    named = frozenset(content(" ".join(asked.names)))
    plain = {t: w for t, w in weights.items() if t not in named}
    world = _World(
        asked=asked,
        weights=weights,
        total=sum(weights.values()) or 1.0,
        plain=plain,
        plain_total=sum(plain.values()) or 1.0,
        mean=sum(len(c.stems) for c in candidates) / len(candidates),
        top=max(passages[c.passage].lexical for c in candidates),
        found={(c.passage, c.position): c.found for c in candidates},
        covered=covered,
    )
    return [_row(world, c, passages[c.passage]) for c in candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """What all sentences of one question have in common."""

    asked: _Asked
    weights: Mapping[str, float]
    total: float
    plain: Mapping[str, float]
    plain_total: float
    mean: float
    top: float
    found: Mapping[tuple[int, int], frozenset[str]]
    covered: Mapping[int, frozenset[str]]

    def share(self, stems: frozenset[str]) -> float:
        return sum(self.weights[t] for t in stems) / self.total


def _row(world: _World, c: _Candidate, passage: Passage) -> list[float]:
    asked, weights = world.asked, world.weights
    counts = Counter(c.stems)
    norm = 1.0 - _LENGTH_NORM + _LENGTH_NORM * len(c.stems) / world.mean
    bm25 = sum(weights[t] * counts[t] * 2.2 / (counts[t] + 1.2 * norm) for t in c.found)
    heading = frozenset(content(" ".join((passage.title, *passage.heading_path)))) & frozenset(asked.stems)
    before = world.found.get((c.passage, c.position - 1), frozenset[str]())
    after = world.found.get((c.passage, c.position + 1), frozenset[str]())
    soft = frozenset(t for t in asked.stems if t not in c.found and len(t) >= 5 and any(x[:5] == t[:5] for x in counts))
    fits = _answers_kind(asked.kind, c.text, asked)
    return [
        world.share(c.found),
        bm25 / (2.2 * world.total),
        len(asked.pairs & set(pairwise(c.stems))) / max(1, len(asked.pairs)),
        1.0 / (1.0 + c.passage),
        passage.lexical / world.top if world.top > 0 else 0.0,  # the weights were fitted on BM25 scores
        float(fits),
        float(bool(asked.kind)) - float(fits),
        world.share(heading - c.found),
        float(len(c.stems) < 5),
        max(0.0, math.log(len(c.text) / 150.0)),
        float("|" in c.text or "\t" in c.text),
        float(_is_title(c.text)),
        float(c.text.rstrip("\"'”) ").endswith("?")),
        float(_first_word(c.text) in _DEICTIC),
        world.share(world.covered[c.passage]),
        world.share(soft),
        len(c.found) / len(counts),
        max((weights[t] for t in c.found), default=0.0) / (max(weights.values()) or 1.0),
        sum(world.plain.get(t, 0.0) for t in c.found) / world.plain_total,
        1.0 / (1.0 + c.position),
        float(len(c.found)),
        math.log(len(c.stems)),
        world.share(before | c.found | after),
    ]


def _first_word(text: str) -> str:
    return next((w.folded for w in words(text[:40])), "")


def _is_title(text: str) -> bool:
    return text.startswith("#") or (len(text) < 80 and text.rstrip()[-1] not in ".!?:;。|" and "|" not in text)


@dataclass(frozen=True, slots=True)
class _Quote:
    """A run of neighbouring sentences of one passage, chosen for one of them."""

    passage: int
    position: int
    start: int
    end: int
    score: float
    found: frozenset[str]
    chance: float
    core: str  # the one sentence it was chosen for


def _choose(
    candidates: Sequence[_Candidate], weights: Mapping[str, float], limit: int, documents: Sequence[str]
) -> list[_Quote]:
    """The best sentences, each with the neighbour it leans on or that is short; passages in the order of choice.

    What another document says against the best one comes second, so that a disagreement is seen.
    """
    at = {(c.passage, c.position): c for c in candidates}
    pool = [c for c in candidates if (c.found or not weights) and not _is_title(c.text)]
    chosen: list[_Candidate] = []
    quotes: list[_Quote] = []
    while pool and len(quotes) < limit:
        rivals = [c for c in pool if _against(c, chosen[0], documents)] if len(quotes) == 1 else []
        best = max(rivals or pool, key=lambda c: (_gain(c, chosen), -c.passage, -c.position))
        chance = _logistic(SCALE * best.by_words + SHIFT)
        if quotes and not rivals and chance < WEAK * max(q.chance for q in quotes):
            break
        used = {(x.passage, x.position) for x in chosen}
        length = sum(q.end - q.start for q in quotes)
        run = _grown(best, at, used, room=length < ENOUGH_CHARS)
        chosen += run
        quotes.append(
            _Quote(
                best.passage,
                run[0].position,
                run[0].start,
                run[-1].end,
                best.score,
                frozenset().union(*(c.found for c in run)),
                chance,
                best.text,
            )
        )
        pool = [c for c in pool if not any(c is x or _repeats(c, x) for x in chosen)]
    first = {q.passage: i for i, q in reversed(list(enumerate(quotes)))}
    return sorted(quotes, key=lambda q: (first[q.passage], q.position))


def _against(c: _Candidate, best: _Candidate, documents: Sequence[str]) -> bool:
    """Whether a sentence of another document says something else about the same."""
    if documents[c.passage] == documents[best.passage] or len(c.found & best.found) * 2 < len(best.found):
        return False
    return bool(contradictions([best.text, c.text]))


def _gain(c: _Candidate, chosen: Sequence[_Candidate]) -> float:
    return c.score - REDUNDANT * max((_overlap(c, x) for x in chosen), default=0.0)


def _grown(
    best: _Candidate,
    at: Mapping[tuple[int, int], _Candidate],
    used: set[tuple[int, int]],
    *,
    room: bool,
) -> list[_Candidate]:
    """The sentence with what it needs: what a pronoun points back to, what a colon announces, a short next sentence."""
    run = [best]

    def neighbour(step: int) -> _Candidate | None:
        edge = run[-1] if step > 0 else run[0]
        other = at.get((edge.passage, edge.position + step))
        if other is None or (other.passage, other.position) in used or not room:
            return None
        return other if max(other.end, run[-1].end) - min(other.start, run[0].start) <= GROWN else None

    if best.text.rstrip("*_ ").endswith(":"):
        while (after := neighbour(1)) is not None:
            run.append(after)
        return run
    if _first_word(best.text) in _DEICTIC and (before := neighbour(-1)) is not None and not _is_title(before.text):
        run.insert(0, before)
    after = neighbour(1)
    if after is not None and not (_is_title(after.text) or _is_title(best.text)):
        run.append(after)
    return run


def _overlap(a: _Candidate, b: _Candidate) -> float:
    mine, theirs = set(a.stems), set(b.stems)
    return len(mine & theirs) / len(mine | theirs)


def _repeats(a: _Candidate, b: _Candidate) -> bool:
    """The same sentence again, or the same text from an overlapping passage."""
    return a.text == b.text or (_overlap(a, b) > 0.85 and Counter(a.stems) == Counter(b.stems))


def _signals(
    asked: _Asked,
    candidates: Sequence[_Candidate],
    quotes: Sequence[_Quote],
    passages: Sequence[Passage],
    weights: Mapping[str, float],
) -> list[float]:
    total = sum(weights.values()) or 1.0

    def share(found: frozenset[str]) -> float:
        return sum(weights[t] for t in found) / total

    by_passage: dict[int, frozenset[str]] = {}
    for c in candidates:
        by_passage[c.passage] = by_passage.get(c.passage, frozenset()) | c.found
    everywhere = frozenset[str]().union(*by_passage.values())
    quoted = frozenset[str]().union(*(q.found for q in quotes))
    text = " ".join(fold(passages[i].text + " " + passages[i].title) for i in by_passage)
    missing = sum(n not in text for n in asked.names) / len(asked.names) if asked.names else 0.0
    return [
        share(everywhere),
        max(share(f) for f in by_passage.values()),
        share(quoted),
        max(share(c.found) for c in candidates),
        min(5, max(len(f) for f in by_passage.values())) / 5,
        min(4, max(len(c.found) for c in candidates)) / 4,
        float(any(len(c.found) == len(asked.stems) for c in candidates)),
        max((q.chance for q in quotes), default=0.0),
        missing,
    ]


def _confidence(signals: Sequence[float], meaning: float, related: float = RELATED) -> float:
    """How surely the passages speak of what was asked, 0 to 1; ``meaning`` is the best cosine of a passage, 0 when unknown."""
    by_words = SIGNAL_BIAS + float(np.dot(SIGNAL_WEIGHTS, signals))
    if meaning == 0.0:
        return round(_logistic(by_words), 4)
    return round(_logistic(WORDS_SHARE * by_words + MEANING_SHARE * (meaning - related)), 4)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, x))))


# --- the answer's words ----------------------------------------------------------------------------------------------

_SAYS = {
    "en": ("The documents say:", "The sources disagree:"),
    "de": ("In den Dokumenten steht:", "Die Quellen widersprechen sich:"),
    "fr": ("Les documents disent :", "Les sources se contredisent :"),
    "es": ("Los documentos dicen:", "Las fuentes no coinciden:"),
    "it": ("I documenti dicono:", "Le fonti non concordano:"),
    "nl": ("In de documenten staat:", "De bronnen spreken elkaar tegen:"),
    "pt": ("Os documentos dizem:", "As fontes não concordam:"),
}


_MARKER = re.compile(r"\[(\d{1,3})\]")  # in a quote it would read as a citation of ours


def compose(extraction: Extraction, titles: Sequence[str] = (), language: str = "en") -> str:
    """The answer's text: each quote with its marker ``[n]``, n counting the quotes from 1.

    ``titles`` (by passage) are added when the quotes come from more than one passage.
    """
    if not extraction.sentences:
        return ""
    says, disagree = _SAYS.get(language, _SAYS["en"])
    several = len({q.passage_index for q in extraction.sentences}) > 1
    parts = []
    for n, quote in enumerate(extraction.sentences, 1):
        title = titles[quote.passage_index] if several and quote.passage_index < len(titles) else ""
        shown = _MARKER.sub(r"(\1)", " ".join(quote.text.split()))
        parts.append(f"{title + ': ' if title else ''}“{shown}” [{n}]")
    lead = disagree if extraction.disagreement else says
    return f"{lead} " + " ".join(parts)
