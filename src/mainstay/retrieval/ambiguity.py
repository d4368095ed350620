"""When a question has several answers because it leaves open whom or what it is about, and what to ask back.

Two cases. Retrieval *splits*: documents of one kind (the gate procedures of two sites) say the same about what was asked, but
for their numbers, and the question names none of them. Or a filter is *missing* that the service wants named (``required``).

A question too many is worse than an answer with two sources, so each doubt means None: the passages must be about equally
good, cover the same words of the question, stand in documents whose names or metadata differ in one point, and disagree in
a number or a date in sentences that are otherwise alike. Only passages found inside the asker's scope are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import combinations
from typing import Literal

from mainstay.retrieval.search import NOT_IN_QUESTIONS, Found
from mainstay.text.phrases import phrase
from mainstay.text.sentences import sentences
from mainstay.text.words import Word, content, dates, fold, quantities, word_set, words
from mainstay.types import Filter, Passage, Question

MOST_CHOICES = 4
CLOSE = 0.85
"""Of the best passage's score: below that a passage is no rival."""
COVERED = 0.5
"""Of the question's words, in the sentence and the names it stands under: below that retrieval found something else."""
ALIKE_SMALLER, ALIKE_UNION = 0.7, 0.5
"""Words that two sentences share, of the smaller one's and of both: below that they speak of different things."""
LABEL_WORDS = 4
NO_ENTITY = NOT_IN_QUESTIONS | {
    "date",
    "modified",
    "created",
    "status",
    "type",
    "owner",
    "tags",
    "keywords",
    "language",
    "id",
}
"""Metadata that tells how a document came about, not what it is about: nobody is asked to choose by it."""
_YEAR = re.compile(r"(?:19|20)\d\d")
_PAST = word_set(
    """was were did had been war waren hatte hatten wurde wurden etait etaient avait avaient fut furent fue fueron era eran
    hubo estaba stato stata erano aveva furono werd werden hadden foi foram tinha houve"""
)
_KINDS = word_set(
    """procedure procedures policy policies card cards guide guides manual handbook faq checklist draft copy summary minutes
    overview version notes note template form report memo notice announcement leaflet poster instruction instructions rules
    plan schedule list appendix annex part volume chapter section old new pocket short long final
    richtlinie anweisung verfahren handbuch leitfaden karte merkblatt entwurf kopie bericht protokoll plan anhang teil kurz
    politique fiche manuel brouillon copie rapport resume annexe partie liste modele avis
    politica procedimiento guia informe borrador copia anexo procedura manuale bozza allegato beleid handleiding verslag"""
)
"""Words that say what kind of document it is: two kinds that speak of one thing are sources, not meanings."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """One thing the question may mean: its name, the question in full with it, and the filter that stands for it, if any."""

    label: str
    question: str
    filter: Filter | None = None


@dataclass(frozen=True, kw_only=True)
class Ambiguity:
    """What to ask back. ``kind`` is ``split`` or ``missing``; ``by`` the metadata key, ``title`` or ``heading``; ``documents``
    those that the meanings rest on. ``meanings`` has two to four entries."""

    kind: Literal["split", "missing"]
    by: str
    text: str
    meanings: tuple[Meaning, ...]
    documents: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[str, ...]:
        """The choices as questions that can be asked as they are."""
        return tuple(meaning.question for meaning in self.meanings)


def ambiguity(
    question: Question, found: Found, *, required: Sequence[str] = (), language: str = ""
) -> Ambiguity | None:
    """What to ask back before answering, or None. ``required`` names metadata keys that a question must settle."""
    return _missing(question, found, required, language) or _split(question, found, language)


# --- a filter that must be named --------------------------------------------------------------------------------------


def _missing(question: Question, found: Found, required: Sequence[str], language: str) -> Ambiguity | None:
    given = {condition.key for condition in (*question.filters, *found.filters)}
    for key in required:
        values = _values(found.passages, key)
        if key in given or len(values) < 2 or _named(values, question.text):
            continue
        shown = list(values)[:MOST_CHOICES]
        return Ambiguity(
            kind="missing",
            by=key,
            text=phrase("which_one", language or "en", choices=", ".join(shown)),
            meanings=tuple(_meaning(question.text, label, key, values[label]) for label in shown),
            documents=tuple(dict.fromkeys(passage.document for passage in found.passages)),
        )
    return None


def _values(passages: Sequence[Passage], key: str) -> dict[str, str | int]:
    """The distinct values of a key among passages, as they are written, best passage first."""
    held: dict[str, str | int] = {}
    for passage in passages:
        value = passage.metadata.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            held.setdefault(str(value), value)
    return held


def _meaning(question: str, label: str, key: str, value: str | int) -> Meaning:
    return Meaning(label=label, question=_with(question, label), filter=Filter(key=key, any_of=(value,)))


def _with(question: str, label: str) -> str:
    """The question in full with what it left open: short, in any language, and fit to be asked."""
    text = question.strip()
    end = text[-1] if text and text[-1] in "?？." else "?"
    return f"{text.rstrip('?？. ')} ({label}){end}"


# --- documents of one kind that disagree ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Rival:
    """A passage that may be the answer: the sentence in it that fits best, its words, numbers and dates."""

    passage: Passage
    sentence: str
    covers: frozenset[str]  # of the question's words: in the sentence, the title or the headings
    stems: frozenset[str]

    @property
    def figures(self) -> frozenset[str]:
        """The sentence's numbers and dates, read only when it comes to them."""
        return _figures(self.sentence)


def _split(question: Question, found: Found, language: str) -> Ambiguity | None:
    if question.filters or found.filters or not found.passages or found.passages[0].score <= 0:
        return None
    asked = frozenset(content(question.text))
    near = [passage for passage in found.passages if passage.score >= CLOSE * found.passages[0].score]
    if len(asked) < 2 or len(near) < 2:
        return None
    rivals = [_rival(passage, asked) for passage in near]
    most = max((len(rival.covers) for rival in rivals), default=0)
    if most < 2 or most < COVERED * len(asked):
        return None
    rivals = [rival for rival in rivals if len(rival.covers) == most]
    if len({rival.covers for rival in rivals}) > 1:
        return None  # each fits another part of the question: that is one answer with several sources
    for by, groups in _groupings(rivals):
        if not 2 <= len(groups) <= MOST_CHOICES or _named(groups, question.text):
            continue
        years = all(_YEAR.fullmatch(label) for label in groups)
        if years and not _about_the_past(question.text):
            continue  # who names no year means the present
        if _disagree(groups):
            return _asked_back(question, by, groups, language)
    return None


def _asked_back(question: Question, by: str, groups: Mapping[str, Sequence[_Rival]], language: str) -> Ambiguity:
    meanings = []
    for label, rivals in groups.items():
        value = rivals[0].passage.metadata.get(by)
        if isinstance(value, str | int):
            meanings.append(_meaning(question.text, label, by, value))
        else:
            meanings.append(Meaning(label=label, question=_with(question.text, label)))
    return Ambiguity(
        kind="split",
        by=by,
        text=phrase("which_one", language or "en", choices=", ".join(groups)),
        meanings=tuple(meanings),
        documents=tuple(dict.fromkeys(rival.passage.document for rivals in groups.values() for rival in rivals)),
    )


def _rival(passage: Passage, asked: frozenset[str]) -> _Rival:
    names = frozenset(content(" ".join((passage.title, *passage.heading_path))))
    best, its, most = "", frozenset[str](), -1
    for sentence, stems in _sentences(passage.text):
        covers = len(asked & (names | stems))
        if covers > most or (covers == most and not _figures(best) and _figures(sentence)):
            best, its, most = sentence, stems, covers
    return _Rival(
        passage=passage,
        sentence=best,
        covers=asked & (names | its),
        stems=frozenset(stem for stem in its if not any(c.isdigit() for c in stem)),
    )


@lru_cache(maxsize=512)
def _sentences(text: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """A chunk's sentences with the stems of their words: the same for every question that finds the chunk."""
    found = (text[start:end] for start, end in sentences(text))
    return tuple((sentence, frozenset(content(sentence))) for sentence in found)


@lru_cache(maxsize=2_048)
def _figures(text: str) -> frozenset[str]:
    """Numbers and dates as they can be compared."""
    told = {f"{min(q.values)} {q.unit}" for q in quantities(text)}
    return frozenset(told | {str(min(map(str, dated.options))) for dated in dates(text)})


def _groupings(rivals: Sequence[_Rival]) -> Iterator[tuple[str, dict[str, list[_Rival]]]]:
    """The ways in which all rivals fall apart: by metadata, by what is different in their titles, in their last headings."""
    keys = set.intersection(*(set(rival.passage.metadata) for rival in rivals)) - NO_ENTITY if rivals else set()
    in_titles = _by_names([rival.passage.title for rival in rivals], rivals)
    for key in sorted(keys):
        labels = [_label(rival.passage.metadata[key]) for rival in rivals]
        if all(labels):
            yield key, _grouped(labels, rivals)
    if in_titles:
        yield "title", in_titles
    headings = [rival.passage.heading_path[-1] if rival.passage.heading_path else "" for rival in rivals]
    if all(headings):
        by_heading = _by_names(headings, rivals, framed=False)
        if by_heading:
            yield "heading", by_heading


def _label(value: object) -> str:
    """A metadata value as a choice; empty for what is no name."""
    if isinstance(value, bool | float | date | tuple) or not isinstance(value, str | int):
        return ""
    shown = str(value).strip()
    return shown if 0 < len(shown.split()) <= LABEL_WORDS else ""


def _by_names(names: Sequence[str], rivals: Sequence[_Rival], *, framed: bool = True) -> dict[str, list[_Rival]]:
    """Groups by the run of words in which the names differ, where the rest of the names is the same ("Gate procedure: ..."):
    empty unless that run is a name each time. ``framed``: there must be a rest, which says what they all are."""
    taken = [words(name) for name in names]
    shortest = min(map(len, taken))
    distinct = {tuple(word.folded for word in some) for some in taken}
    head = next((n for n in range(shortest) if len({key[n] for key in distinct}) > 1), shortest)
    tail = next((n for n in range(shortest - head) if len({key[-1 - n] for key in distinct}) > 1), shortest - head)
    same = taken[0][:head] + taken[0][len(taken[0]) - tail :]
    if framed and not any(word.folded.isalpha() for word in same):
        return {}
    labels = []
    for name, some in zip(names, taken, strict=True):
        own = some[head : len(some) - tail]
        if not _is_name(own):
            return {}
        labels.append(name[own[0].start : own[-1].end])
    return _grouped(labels, rivals)


def _is_name(own: Sequence[Word]) -> bool:
    """Whether these words may name somebody or something, and not a kind of document."""
    if not 0 < len(own) <= LABEL_WORDS:
        return False
    return not own[0].text[0].islower() and any(word.folded not in _KINDS and len(word.folded) > 1 for word in own)


def _grouped(labels: Sequence[str], rivals: Sequence[_Rival]) -> dict[str, list[_Rival]]:
    groups: dict[str, list[_Rival]] = {}
    for label, rival in zip(labels, rivals, strict=True):
        groups.setdefault(label, []).append(rival)
    return groups


def _named(labels: Mapping[str, object], question: str) -> bool:
    """Whether the question says any of the names, or a part of one."""
    asked = {word.folded for word in words(question)} | set(content(question))
    return any({fold(word.text) for word in words(label)} & asked or set(content(label)) & asked for label in labels)


def _about_the_past(question: str) -> bool:
    return any(word.folded in _PAST for word in words(question))


def _disagree(groups: Mapping[str, Sequence[_Rival]]) -> bool:
    """Whether each pair of groups has sentences that are alike but for the names and say other numbers or dates, and nobody
    disagrees inside a group: then it is the group that decides."""
    own = frozenset(stem for label in groups for stem in content(label))
    if any(_alike_but_numbers(a, b, own) for group in groups.values() for a, b in combinations(group, 2)):
        return False
    return all(
        any(_alike_but_numbers(a, b, own) for a in groups[one] for b in groups[other])
        for one, other in combinations(groups, 2)
    )


def _alike_but_numbers(a: _Rival, b: _Rival, names: frozenset[str]) -> bool:
    mine, theirs = a.stems - names, b.stems - names
    if a.passage.chunk == b.passage.chunk or min(len(mine), len(theirs)) < 2:
        return False
    shared = len(mine & theirs)
    if shared < ALIKE_SMALLER * min(len(mine), len(theirs)) or shared < ALIKE_UNION * len(mine | theirs):
        return False
    return bool(a.figures) and bool(b.figures) and a.figures != b.figures
