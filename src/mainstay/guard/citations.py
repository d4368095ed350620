"""Whether a source says what a draft says it says.

A claim is supported when everything checkable in it (numbers, dates, names, negation, direction) is in the cited span
and enough of its other words are too. Rules only: no model, no network, the same verdict every time. It errs on the
side of "not supported": a dropped true sentence costs less than a false one with a citation.

What this cannot see: a claim that swaps who did what to whom with the same words, or that holds only by inference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from typing import TypeAlias

from mainstay.text.contradictions import contradictions
from mainstay.text.sentences import sentences
from mainstay.text.words import (
    LONGEST_KEPT,
    Dated,
    Name,
    Negation,
    Quantity,
    content,
    dates,
    fold,
    is_content,
    is_unit,
    names,
    negations,
    opener,
    quantities,
    stem,
    within,
    word_set,
    words,
)
from mainstay.types import Citation, Passage

__all__ = ["CheckedDraft", "CheckedSentence", "Verdict", "check", "check_draft", "contradictions", "exact"]

ENOUGH = 0.6
"""The share of a claim's content words its span must hold. On SciFact's training claims no claim passes against a random
abstract's evidence from 0.4 up (0 of 300); 0.6 leaves room for additions that a source does not make."""

TRIED = 4
"""Of the spans of one width in one source, so many of the most promising are read in full."""

WIDEST = 3
"""At most this many neighbouring sentences make one cited span."""

LONGEST_READ = 4_000
"""Characters: what was read in longer sources is not kept in memory."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the claim is supported, how much of it (0 to 1), and what is missing."""

    supported: bool
    score: float
    reasons: tuple[str, ...] = ()


def exact(text: str, start: int, end: int, quote: str) -> bool:
    """Whether the quote is exactly that slice of the text."""
    return 0 <= start < end <= len(text) and text[start:end] == quote


def check(
    claim: str, spans: Sequence[str], question: str = "", context: str = "", *, enough: float = ENOUGH
) -> Verdict:
    """Compare a claim with the text it cites.

    ``question`` and ``context`` (title and headings of the passage) may supply words the span takes for granted, never
    numbers, dates or negations.
    """
    return _judge(_Claim.read(claim, question), [_Evidence.read(s) for s in spans], context, enough)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim, read once and compared with many spans."""

    text: str
    flat: str
    stems: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    names: tuple[Name, ...]
    negations: tuple[Negation, ...]
    asked: frozenset[str]
    asked_folded: str
    asked_names: frozenset[str]

    @classmethod
    def read(cls, text: str, question: str = "") -> _Claim:
        bare = _MARKER.sub(" ", text)
        return cls(
            text=bare,
            flat=_flat(bare),
            stems=tuple(_telling(bare)),
            quantities=tuple(q for q in quantities(bare) if q.sure),
            names=tuple(names(bare)),
            negations=tuple(negations(bare)),
            asked=frozenset(content(question)),
            asked_folded=fold(question),
            asked_names=frozenset(part for name in names(question) for part in name.parts),
        )


def _telling(text: str) -> list[str]:
    """The stems of the content words that are not part of a number or a date: those are compared by value."""
    dated = within((d.start, d.end) for d in dates(text))
    numbers = {at for q in quantities(text) if q.sure for at in range(q.start, q.end)}
    return [
        stem(w.folded)
        for w in words(text)
        if is_content(w.folded) and not is_unit(w.folded) and w.start not in numbers and not dated(w.start)
    ]


@dataclass(frozen=True)
class _Evidence:
    """A cited text, read once, as far as somebody asks."""

    text: str

    @classmethod
    def read(cls, text: str) -> _Evidence:
        return _evidence(text) if len(text) <= LONGEST_KEPT else cls(text)

    @cached_property
    def folded(self) -> str:
        return fold(self.text)

    @cached_property
    def flat(self) -> str:
        return _flat(self.text)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Of its content words."""
        return frozenset(content(self.text))

    @cached_property
    def words(self) -> frozenset[str]:
        """All its words, folded."""
        return frozenset(w.folded for w in words(self.text))

    @cached_property
    def word_stems(self) -> frozenset[str]:
        return frozenset(stem(w) for w in self.words)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(quantities(self.text))

    @cached_property
    def dates(self) -> tuple[Dated, ...]:
        return tuple(dates(self.text))

    @cached_property
    def negations(self) -> tuple[Negation, ...]:
        return tuple(negations(self.text))

    @cached_property
    def names(self) -> frozenset[str]:
        """The parts of its names."""
        return frozenset(part for name in names(self.text) for part in name.parts)

    @cached_property
    def initials(self) -> frozenset[str]:
        """Acronyms that its capitalised runs would make."""
        return _initials(self.text)


@lru_cache(maxsize=512)
def _evidence(text: str) -> _Evidence:
    """The same sentence is cited again and again, and says the same each time."""
    return _Evidence(text)


_MARKER = re.compile(r"\s?\[\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*\]")
_QUOTE_MARKS = re.compile(r"[\"“”„«»‘’'`*_]+")
_NOT_WORD = re.compile(r"[^\w%$€£.,]+")


def _flat(text: str) -> str:
    """The text for verbatim comparison: no case, marks or spacing differences."""
    return _NOT_WORD.sub(" ", _QUOTE_MARKS.sub(" ", fold(text))).strip(" .,")


def _judge(claim: _Claim, evidence: Sequence[_Evidence], context: str, enough: float) -> Verdict:
    if not claim.stems and not claim.quantities:
        return Verdict(False, 0.0, ("nothing to check",))
    if not evidence:
        return Verdict(False, 0.0, ("no source",))
    if _quotes_whole_sentences(claim, evidence):
        return Verdict(True, 1.0)
    reasons = [
        *_missing_numbers(claim, evidence),
        *_missing_dates(claim, evidence),
        *_missing_names(claim, evidence, context),
        *_negation(claim, evidence),
        *_direction(claim, evidence),
    ]
    covered = _covered(claim, evidence, context)
    if covered < enough:
        reasons.append(f"only {covered:.0%} of its words are in the source")
    score = covered * (0.5 ** len(reasons) if reasons else 1.0)
    return Verdict(not reasons, round(score, 4), tuple(reasons))


def _quotes_whole_sentences(claim: _Claim, evidence: Sequence[_Evidence]) -> bool:
    """Whether the claim repeats whole sentences of the source and nothing else."""
    for source in evidence:
        if claim.flat == source.flat:
            return True
        if len(claim.flat) >= 12 and claim.flat in source.flat:
            spans = sentences(source.text)
            for i in range(len(spans)):
                for j in range(i, min(len(spans), i + WIDEST)):
                    if _flat(source.text[spans[i][0] : spans[j][1]]) == claim.flat:
                        return True
    return False


def _missing_numbers(claim: _Claim, evidence: Sequence[_Evidence]) -> list[str]:
    said = [q for e in evidence for q in e.quantities]
    parts = {str(p) for e in evidence for d in e.dates for o in d.options for p in o if p is not None}
    return [
        f"number {q.text} is not in the source"
        for q in claim.quantities
        if not any(q.agrees(s) for s in said) and not (q.unit in {"", "year"} and {str(v) for v in q.values} & parts)
    ]


def _missing_dates(claim: _Claim, evidence: Sequence[_Evidence]) -> list[str]:
    said = [d for e in evidence for d in e.dates]
    years = {int(v) for e in evidence for q in e.quantities for v in q.values if v == int(v) and 1000 <= v <= 2999}
    out = []
    for date in dates(claim.text):
        if any(date.within(s) for s in said):
            continue
        # The year may stand elsewhere in the source ("Fiscal year 2024 ... on 1 March").
        loose = any(
            (y in years or y is None)
            and any(b[0] is None and b[1] == m and (d is None or d == b[2]) for s in said for b in s.options)
            for y, m, d in date.options
        )
        if not loose:
            out.append(f"date {date.text} is not in the source")
    return out


def _missing_names(claim: _Claim, evidence: Sequence[_Evidence], context: str) -> list[str]:
    around = _Evidence.read(context)
    there = around.words.union(*(e.words for e in evidence))
    stems_there = around.word_stems.union(*(e.word_stems for e in evidence))
    raw = " ".join([*(e.folded for e in evidence), around.folded])
    initials = around.initials.union(*(e.initials for e in evidence))
    own = frozenset().union(*(e.names for e in evidence))
    mentioned = {part for n in claim.names for part in n.parts}
    rivals = bool(own - mentioned)
    out = []
    for name in claim.names:
        missing = [p for p in name.parts if p not in there and stem(p) not in stems_there and p not in raw]
        if missing and len(name.parts) == 1 and missing[0] in initials:
            continue
        if missing and all(p in claim.asked_folded for p in missing) and not rivals:
            continue
        if missing:
            out.append(f"name {name.text} is not in the source")
    first = opener(claim.text)
    if not out and rivals and first in claim.asked_names and first not in there and stem(first) not in stems_there:
        out.append(f"name {first} is not in the source, which speaks of others")
    return out


def _initials(text: str) -> frozenset[str]:
    """Acronyms that the capitalised runs of a text would make."""
    found: set[str] = set()
    for run in re.findall(r"\b[A-Z]\w*(?:[\s-]+(?:(?:of|and|the|for)\s+)?[A-Z]\w*)+", text):
        letters = "".join(re.findall(r"\b[A-Z]", run)).lower()
        found.update(letters[i:] for i in range(len(letters) - 1))
    return frozenset(found)


def _negation(claim: _Claim, evidence: Sequence[_Evidence]) -> list[str]:
    """Every negation of the claim has its own counterpart in the source, and the other way round where they overlap."""
    source = [n for e in evidence for n in e.negations]
    claim_stems = set(claim.stems)
    free = list(source)
    for mine in claim.negations:
        match = next((n for n in free if not mine.scope or _touch(mine.scope, n.scope)), None)
        if match is None:
            return [f"'{mine.cue}' is not in the source"]
        free.remove(match)
    closest = max(evidence, key=lambda e: _share(claim.stems, e.stems))
    spans = [closest.text[a:b] for a, b in sentences(closest.text)]
    best = max(spans, key=lambda s: _share(claim.stems, frozenset(content(s))), default="")
    unmatched = [n for n in negations(best) if any(n.cue == f.cue and n.scope == f.scope for f in free)]
    for theirs in unmatched:
        if theirs.denied and len(theirs.denied & claim_stems) >= 0.5 * len(theirs.denied):
            return [f"the source says '{theirs.cue}'"]
    return []


def _touch(a: frozenset[str], b: frozenset[str]) -> bool:
    return any(_near(x, b) for x in a)


_OPPOSITES: tuple[tuple[str, str], ...] = (
    ("increase rise grow gain climb raise", "decrease fall decline drop reduce shrink lower"),
    ("higher greater larger above exceed", "lower smaller below"),
    ("more", "less fewer"),
    ("allow permit authorise authorize", "forbid prohibit ban disallow"),
    ("allowed permitted permissible", "forbidden prohibited banned"),
    ("accept approve", "reject deny decline refuse"),
    ("include", "exclude"),
    ("enable", "disable"),
    ("activate", "deactivate inhibit"),
    ("promote", "inhibit prevent suppress"),
    ("before", "after"),
    ("maximum", "minimum"),
    ("most", "least"),
    ("positive", "negative"),
    ("positively", "negatively"),
    ("required mandatory compulsory", "optional voluntary"),
    ("internal", "external"),
    ("always", "never"),
    ("all", "none"),
    ("buy purchase", "sell"),
    ("start begin", "stop end"),
    ("profit", "loss"),
    ("improve", "worsen"),
    ("succeed success", "fail failure"),
    ("public", "private"),
    ("first", "last"),
    ("earlier", "later"),
    ("early", "late"),
    ("legal", "illegal"),
    ("safe", "unsafe"),
    ("true", "false"),
    ("open", "closed"),
    ("paid", "unpaid"),
    ("possible", "impossible"),
    ("upper", "lower"),
    ("employer", "employee"),
    ("steigen zunehmen erhohen", "sinken abnehmen senken"),
    ("erlaubt gestattet zulassig", "verboten untersagt unzulassig"),
    ("mehr", "weniger"),
    ("vor", "nach"),
    ("augmenter", "diminuer reduire"),
    ("autorise permis", "interdit"),
    ("avant", "apres"),
)
_SIDES: dict[str, list[tuple[frozenset[str], frozenset[str]]]] = {}
for _a, _b in _OPPOSITES:
    _left, _right = frozenset(stem(w) for w in _a.split()), frozenset(stem(w) for w in _b.split())
    for _w in _left:
        _SIDES.setdefault(_w, []).append((_left, _right))
    for _w in _right:
        _SIDES.setdefault(_w, []).append((_right, _left))


def _direction(claim: _Claim, evidence: Sequence[_Evidence]) -> list[str]:
    """A word of the claim whose opposite, and not itself nor a synonym, is in the source."""
    mine = {stem(w.folded) for w in words(claim.text)}
    theirs = frozenset().union(*(e.word_stems for e in evidence))
    if claim.negations:
        return []
    for word in sorted(mine & _SIDES.keys()):
        for side, other in _SIDES[word]:
            if other & theirs and not side & theirs and not other & mine:
                return [f"the source says '{min(other & theirs)}', not '{word}'"]
    return []


def _covered(claim: _Claim, evidence: Sequence[_Evidence], context: str) -> float:
    """The weighted share of the claim's content words that the source holds; a word of the question counts half."""
    there = _Evidence.read(context).stems.union(*(e.stems for e in evidence))
    total = found = 0.0
    for word in dict.fromkeys(claim.stems):
        near = _near(word, there)
        weight = (0.5 if word in claim.asked and not near else 1.0) * (1.0 if len(word) > 3 else 0.7)
        if word in _LEAD_STEMS and not near:
            continue
        total += weight
        found += weight * near
    return found / total if total else (1.0 if claim.quantities else 0.0)


def _share(stems: Sequence[str], there: frozenset[str]) -> float:
    return sum(s in there for s in stems) / len(stems) if stems else 0.0


def _near(word: str, there: frozenset[str]) -> float:
    """1 for the same stem, 0.8 for one that shares most of its beginning, else 0."""
    if word in there:
        return 1.0
    if len(word) < 5 or not word.isalpha():
        return 0.0
    for other in there:
        if other[:4] != word[:4]:
            continue
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False)))
        if shared >= 5 and shared >= 0.65 * max(len(word), len(other)):
            return 0.8
    return 0.0


# --- a whole draft ---------------------------------------------------------------------------------------------------

UNSUPPORTED = "[unsupported]"


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """One sentence of the draft after the check; ``numbers`` are its markers in the new count."""

    text: str
    kept: bool
    numbers: tuple[int, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CheckedDraft:
    """The draft with only what the sources support; ``citations`` are numbered 1..n in the order of first use."""

    text: str
    citations: tuple[Citation, ...]
    sentences: tuple[CheckedSentence, ...]
    invented: tuple[int, ...] = ()

    @property
    def supported_share(self) -> float:
        """The share of the checkable sentences that a source supports; 1 when there is none."""
        checked = [s for s in self.sentences if s.verdict.reasons != _CONNECTIVE.reasons]
        return sum(s.verdict.supported for s in checked) / len(checked) if checked else 1.0


_CONNECTIVE = Verdict(True, 0.0, ("connective",))
_ONE_MARKER = re.compile(r"\[\s*(\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*)\s*\]")
_MARKERS_FIRST = re.compile(r"(?:\s*\[\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*\])+[.,;]?")
_LEAD_WORDS = word_set(
    """
    according document documents source sources policy policies passage passages provided information following summary
    answer question based says say states stated mentions mentioned describes described context text here found find
    relevant details detail summarise summarize overview conclusion short regarding
    laut dokument dokumente dokumenten quelle quellen folgende folgendes zusammenfassung
    selon document documents voici suivant suivante resume segun documentos fuentes siguiente secondo documenti fonti
    volgens documenten bronnen segundo fontes seguinte
    """
)
_LEAD_STEMS = frozenset(stem(w) for w in _LEAD_WORDS)


def check_draft(
    text: str,
    sources: Mapping[int, Passage],
    question: str = "",
    *,
    mark: bool = False,
    enough: float = ENOUGH,
) -> CheckedDraft:
    """Keep of a model's draft what its sources support.

    ``sources`` maps the numbers the model was given to passages. A sentence's own markers are tried first, then every
    other passage; one without support is dropped, or with ``mark`` kept and marked ``[unsupported]``. Markers that name
    no source are removed.
    """
    book = _Book(sources)
    pieces: list[str] = []
    checked: list[CheckedSentence] = []
    invented: list[int] = []
    held = ""  # the line break and list mark of a dropped sentence, for the next one on its line
    for start, end, gap in _draft_sentences(text):
        raw = text[start:end]
        said = _numbers(raw)
        invented += [n for n in said if n not in sources]
        bare = re.sub(r"\s+([.,;:!?])", r"\1", _ONE_MARKER.sub("", raw)).strip()
        verdict: Verdict = _CONNECTIVE
        numbers: tuple[int, ...] = ()
        if not _is_connective(bare):
            verdict, numbers = _support(bare, [n for n in said if n in sources], book, question, enough)
        checked.append(CheckedSentence(bare, verdict.supported, numbers, verdict))
        lead = held if held and "\n" not in gap else gap
        held = ""
        if verdict.supported:
            pieces.append(lead + _with_markers(bare, numbers))
        elif mark:
            pieces.append(f"{lead}{bare} {UNSUPPORTED}")
        else:
            held = lead + _list_mark(bare) if "\n" in lead or not pieces else ""
    checked, pieces = _without_idle_connectives(checked, pieces, mark=mark)
    return CheckedDraft("".join(pieces).strip(), tuple(book.citations), tuple(checked), tuple(dict.fromkeys(invented)))


def _without_idle_connectives(
    checked: list[CheckedSentence], pieces: list[str], *, mark: bool
) -> tuple[list[CheckedSentence], list[str]]:
    """Drop lead-ins when nothing that they lead to was kept."""
    if mark or any(s.kept and s.verdict is not _CONNECTIVE for s in checked):
        return checked, pieces
    return [CheckedSentence(s.text, False, (), s.verdict) for s in checked], []


def _list_mark(sentence: str) -> str:
    match = re.match(r"(?:[-*+•]|\d{1,3}[.)])\s+", sentence)
    return match[0] if match else ""


class _Book:
    """The citations given so far, and the sources read sentence by sentence, each only once."""

    def __init__(self, sources: Mapping[int, Passage]) -> None:
        self.sources = sources
        self.citations: list[Citation] = []
        self._read: dict[int, _Parts] = {}
        self._evidence: dict[tuple[int, int, int], _Evidence] = {}

    def promising(self, claim: _Claim, n: int, width: int, least: float) -> list[tuple[int, int]]:
        """The runs of ``width`` neighbouring sentences of source ``n`` that share most with the claim, best first.

        Runs that share less than ``least`` of it are left out.
        """
        if n not in self._read:
            text = self.sources[n].text
            self._read[n] = _parts(text) if len(text) <= LONGEST_READ else _parts.__wrapped__(text)
        spans, held = self._read[n]
        wanted = _beginnings(claim.stems)
        shared = [(len(wanted & frozenset().union(*held[i : i + width])), i) for i in range(len(spans) - width + 1)]
        given = len(wanted & _beginnings(content(_context(self.sources[n]))))
        enough = [(count, i) for count, i in shared if count + given >= least * len(wanted)]
        best = sorted(enough, key=lambda x: (-x[0], x[1]))
        return [(spans[i][0], spans[i + width - 1][1]) for _, i in best[:TRIED]]

    def evidence(self, n: int, start: int, end: int) -> _Evidence:
        """That slice of source ``n``, read."""
        if (n, start, end) not in self._evidence:
            self._evidence[n, start, end] = _Evidence.read(self.sources[n].text[start:end])
        return self._evidence[n, start, end]

    def cite(self, n: int, start: int, end: int) -> int:
        """The number of the citation for this slice of source ``n``, a new one when there is none yet."""
        passage = self.sources[n]
        at = (passage.start + start, passage.start + end)
        for known in self.citations:
            if (known.document, known.version, known.start, known.end) == (passage.document, passage.version, *at):
                return known.n
        self.citations.append(
            Citation(
                n=len(self.citations) + 1,
                document=passage.document,
                version=passage.version,
                title=passage.title,
                uri=passage.uri,
                quote=passage.text[start:end],
                start=at[0],
                end=at[1],
                page=passage.page,
                verified=True,
            )
        )
        return len(self.citations)


_Parts: TypeAlias = tuple[list[tuple[int, int]], list[frozenset[str]]]
"""The sentences of a text, and the beginnings of the content words of each."""


@lru_cache(maxsize=512)
def _parts(text: str) -> _Parts:
    """A passage is a source of many answers, and its sentences are the same each time. To be read, not changed."""
    spans = sentences(text)
    return spans, [_beginnings(content(text[a:b])) for a, b in spans]


def _draft_sentences(text: str) -> list[tuple[int, int, str]]:
    """Sentences of the draft with the space before each; markers after a full stop belong to the sentence before."""
    spans: list[tuple[int, int]] = []
    for start, end in sentences(text):
        lead = _MARKERS_FIRST.match(text, start)
        if lead and lead.end() <= end and spans and "\n" not in text[spans[-1][1] : start]:
            spans[-1] = (spans[-1][0], lead.end())
            start = lead.end() + len(text[lead.end() : end]) - len(text[lead.end() : end].lstrip())
            if start >= end:
                continue
        spans.append((start, end))
    gaps = ["", *(text[a[1] : b[0]] for a, b in pairwise(spans))][: len(spans)]
    return [(a, b, gap) for (a, b), gap in zip(spans, gaps, strict=True)]


def _numbers(sentence: str) -> list[int]:
    """The numbers in its markers; a range names every number in it, at most ten."""
    found: list[int] = []
    for match in _ONE_MARKER.finditer(sentence):
        for part in re.split(r"\s*[,;]\s*", match[1]):
            ends = [int(x) for x in re.split(r"\s*[–-]\s*", part)]
            found += range(ends[0], min(ends[-1], ends[0] + 9) + 1) if ends[-1] >= ends[0] else ends
    return list(dict.fromkeys(found))


def _is_connective(sentence: str) -> bool:
    """A lead-in without a claim: 'According to the documents:'. Anything that ends as a statement needs support."""
    if not any(c.isalnum() for c in sentence):
        return True
    if any(c.isdigit() for c in sentence) or negations(sentence) or len(sentence) > 120:
        return False
    if re.match(r"#{1,6}\s", sentence) and not sentence.rstrip().endswith("."):
        return len(content(sentence)) <= 6
    rest = [s for s in content(sentence) if s not in _LEAD_STEMS]
    words_of_weight = [w for w in words(sentence) if is_content(w.folded)]
    return not rest and (bool(words_of_weight) and sentence.rstrip().endswith((":", ".", "*")))


def _support(
    sentence: str, said: Sequence[int], book: _Book, question: str, enough: float
) -> tuple[Verdict, tuple[int, ...]]:
    """The verdict for one sentence and the citations that carry it."""
    claim = _Claim.read(sentence, question)
    own = [_best(claim, n, book, enough, least=0.1) for n in said]  # even a poor one may carry its part, see _joint
    good = [(n, found) for n, found in zip(said, own, strict=True) if found is not None and found[0].supported]
    if good:
        return good[0][1][0], tuple(dict.fromkeys(book.cite(n, f[1], f[2]) for n, f in good))
    joint = _joint(claim, said, own, book, enough)
    if joint is not None:
        return joint
    others = [n for n in sorted(book.sources) if n not in said]
    best: tuple[Verdict, int, int] | None = None
    for n in others:
        found = _best(claim, n, book, enough, least=enough - 0.2)
        if found is not None and found[0].supported:
            return found[0], (book.cite(n, found[1], found[2]),)
        best = max((x for x in (best, found) if x), key=lambda x: x[0].score, default=None)
    tried = [x for x in [*own, best] if x]
    verdict = max(tried, key=lambda x: x[0].score)[0] if tried else Verdict(False, 0.0, ("no source",))
    return verdict, ()


def _joint(
    claim: _Claim,
    said: Sequence[int],
    own: Sequence[tuple[Verdict, int, int] | None],
    book: _Book,
    enough: float,
) -> tuple[Verdict, tuple[int, ...]] | None:
    """A sentence that cites several sources may rest on their best spans together."""
    parts = [(n, f) for n, f in zip(said, own, strict=True) if f is not None and f[0].score > 0]
    if len(parts) < 2:
        return None
    evidence = [_Evidence.read(book.sources[n].text[f[1] : f[2]]) for n, f in parts]
    context = " ".join(_context(book.sources[n]) for n, _ in parts)
    verdict = _judge(claim, evidence, context, enough)
    if not verdict.supported:
        return None
    return verdict, tuple(dict.fromkeys(book.cite(n, f[1], f[2]) for n, f in parts))


def _best(claim: _Claim, n: int, book: _Book, enough: float, *, least: float) -> tuple[Verdict, int, int] | None:
    """The tightest run of sentences of source ``n`` that supports the claim, or the one that comes closest."""
    context = _context(book.sources[n])
    best: tuple[Verdict, int, int] | None = None
    for width in range(1, WIDEST + 1):
        for start, end in book.promising(claim, n, width, least):
            verdict = _judge(claim, [book.evidence(n, start, end)], context, enough)
            if best is None or (verdict.supported, verdict.score) > (best[0].supported, best[0].score):
                best = (verdict, start, end)
            if verdict.supported and verdict.score >= 1.0:
                break  # no other can be better
        if best is not None and best[0].supported:
            break  # the shortest run that carries the claim
    return best


def _beginnings(stems: Sequence[str]) -> frozenset[str]:
    """Stems cut to five letters: what shares none of these can not be near (see ``_near``)."""
    return frozenset(s[:5] for s in stems)


def _context(passage: Passage) -> str:
    return " ".join((passage.title, *passage.heading_path))


def _with_markers(sentence: str, numbers: Sequence[int]) -> str:
    """The sentence with its markers before the closing punctuation: ``... text [1][2].``"""
    if not numbers:
        return sentence
    marks = "".join(f"[{n}]" for n in numbers)
    match = re.search(r"[.!?。！？]+[\"”’')*_]*$", sentence)
    if match and match[0][-1] in ".!?。！？":
        return f"{sentence[: match.start()]} {marks}{match[0]}"
    return f"{sentence} {marks}"
