"""Where sentences begin and end.

Spans are exact slices of the text, ordered, disjoint, without outer white space, and together hold every character that
is not white space. A list item, a heading and a table row each count as a sentence. Two steps: lines are joined to
blocks (a hard-wrapped paragraph is one block), then each block is cut after its closing punctuation.

When in doubt a full stop does *not* end a sentence: a quote that is too long is still true, one cut short may not be.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache

from mainstay.text.words import word_set

Span = tuple[int, int]

LONGEST_KEPT = 4_000
"""Characters: the cuts of longer texts are not kept in memory."""

LONG = 600
"""A sentence longer than this is cut at semicolons when it has any."""

WRAPPED = 50
"""A line at least this long that does not end in punctuation is taken to go on in the next line."""

# A full stop after these never ends a sentence.
_ALWAYS = word_set(
    """
    mr mrs ms dr prof st mt ft rev hon gen col capt lt sgt sen rep gov messrs mme mlle mgr vs cf viz e.g i.e eg ie
    al fig figs eq eqs sec secs no nos vol vols pp pg ch chap art arts ed eds approx ca circa est dept univ ser
    par para lit nr str abs bzw z.b d.h u.a s.o s.u vgl evtl ggf inkl exkl zzgl sog hrsg bd bspw hl tel ziff p.ex
    p.e env av boul n° núm pág sr sra dña d dott sig ing avv jan feb mar apr jun jul aug sep sept oct nov dec okt
    dez mrz
    """
)
_ALSO_WORDS = word_set("no am pm inc co ing may mar par art est sec")  # words in their own right
# These may also close a sentence: look at the word that follows.
_OFTEN = word_set(
    """
    inc ltd llc corp co plc gmbh jr sr bros etc usw u.s.w a.m p.m am pm u.s u.k u.n e.u d.c ph.d m.d b.a m.a esq
    ave blvd rd sq
    """
)
_STARTERS = word_set(
    """
    the a an this that these those it its he she they we i you there here in on at for from by with when while if
    as after before since although however but and or so our their his her my your all some many most each every
    both no not what who how why where which one during under over among additionally moreover furthermore thus
    therefore then also such another please der die das ein eine es er sie wir ich im am bei mit nach für wenn als
    auch aber und dies diese dieser dieses le la les un une il elle ils elles nous vous ce cette ces dans pour
    avec el los las una en por con para se lo gli uno de het een dit deze o os um uma
    """
)
_MONTHS = word_set(
    """
    january february march april may june july august september october november december januar jänner februar
    märz mai juni juli oktober dezember januari februari maart mei augustus
    """
)
_ORDINAL_BEFORE = word_set(
    """
    am im der den des dem die das vom zum zur ab bis seit jeder jede jedes dieser diese
    """
)

_STOP = re.compile(
    r"(?<![.!?…‽])(?P<latin>[.!?…‽]+)(?P<close>(?:\s?[\"”’'»)\]}*_]+)?)(?=\s|$)"
    r"|(?P<wide>[。！？｡．؟।॥۔]+)(?P<wclose>[」』）”’\")\]]*)"
    r"|(?P<escaped>(?:(?:\\r)?\\n(?![a-z]))+)"
)
_WORD_BEFORE = re.compile(r"[^\s(\[{\"“‘'«]+$")
_NEXT = re.compile(r"[\s\"“‘'«(\[*_]*([^\W_]+(?:['’][^\W_]+)?)?")
_MARKER = re.compile(
    r"\s*(?:[-*+•‣◦▪●○–—]\s+|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s+|\(\d{1,3}\)\s|#{1,6}\s|>|\||```|~~~|={3,}|-{3,})"
)
_ROW = re.compile(r"\|.*\||\S\s+\|\s+\S|\S\t+\S")
_TERMINAL = re.compile(r"[.!?…:;。！？][\"”’'»)\]*_]*\s*$")


def sentences(text: str) -> list[Span]:
    """All sentences of the text as (start, end)."""
    return list(_sentences(text) if len(text) <= LONGEST_KEPT else _sentences.__wrapped__(text))


@lru_cache(maxsize=1_024)
def _sentences(text: str) -> tuple[Span, ...]:
    """A passage is found for many questions, and its sentences are the same each time."""
    return tuple([span for start, end in _blocks(text) for span in _cut(text, start, end)])


def _blocks(text: str) -> list[Span]:
    """Runs of lines that belong together."""
    blocks: list[Span] = []
    open_at = -1
    last_end = 0
    last_line = ""
    for start, end in _lines(text):
        line = text[start:end]
        if not line.strip():
            if open_at >= 0:
                blocks.append((open_at, last_end))
                open_at = -1
            continue
        if open_at >= 0 and _breaks(last_line, line):
            blocks.append((open_at, last_end))
            open_at = -1
        if open_at < 0:
            open_at = start
        last_end, last_line = end, line
    if open_at >= 0:
        blocks.append((open_at, last_end))
    return blocks


def _lines(text: str) -> list[Span]:
    spans: list[Span] = []
    position = 0
    for line in text.splitlines(keepends=True):
        spans.append((position, position + len(line)))
        position += len(line)
    return spans


def _breaks(line: str, following: str) -> bool:
    """Whether a new block begins with the following line."""
    if _MARKER.match(following) or _ROW.search(line) or _ROW.search(following):
        return True
    if re.match(r"\s*(?:#{1,6}\s|```|~~~|={3,}|-{3,})", line) or _TERMINAL.search(line):
        return True
    if line.endswith("\f"):
        return True
    first = following.lstrip()[0]
    if first.islower():
        return False
    return len(line.strip()) < WRAPPED


def _cut(text: str, start: int, end: int) -> list[Span]:
    """One block, cut into sentences."""
    block = text[start:end]
    if _ROW.search(block) and "\n" not in block.strip() and block.count("|") + block.count("\t") > 0:
        return _trimmed(text, [(start, end)])
    cased = any(c.isupper() for c in block)
    cuts = [start]
    for stop in _STOP.finditer(block):
        if stop["escaped"] or stop["wide"] or _ends(block, stop, cuts[-1] - start, cased):
            cuts.append(start + stop.end())
    cuts.append(end)
    spans = _trimmed(text, itertools.pairwise(cuts))
    spans = _joined(text, spans)
    return [piece for span in spans for piece in _shorter(text, span)]


def _ends(block: str, stop: re.Match[str], sentence_start: int, cased: bool) -> bool:
    """Whether this punctuation closes the sentence that began at ``sentence_start``."""
    match = _NEXT.match(block, stop.end())
    following = (match[1] or "") if match else ""
    starter = following.casefold() in _STARTERS
    if cased and following[:1].islower():
        return False
    if stop["latin"] != ".":
        return True
    before_text = block[max(sentence_start, stop.start() - 80) : stop.start()].rstrip()
    word = _WORD_BEFORE.search(before_text)
    before = word[0].casefold() if word else ""
    if not before_text:
        return True
    if not cased:
        return _ends_uncased(before, before_text, stop.start() - sentence_start)
    if before in _ALWAYS:
        return before in _ALSO_WORDS and starter
    if before in _OFTEN:
        return starter or not following
    if re.fullmatch(r"(?:[^\W\d_]\.)*[^\W\d_]", before):  # an initial or a dotted abbreviation
        return starter or not following
    if re.fullmatch(r"\(?(?:\d{1,3}|[ivx]{1,4})", before):
        if before_text.strip("([ \t-*•").casefold() == before.strip("("):  # "1." opens a list item
            return False
        if re.fullmatch(r"\d{1,2}", before):
            words = before_text.split()
            ordinal = len(words) > 1 and words[-2].casefold() in _ORDINAL_BEFORE
            return not (following.casefold() in _MONTHS or (ordinal and not starter))
    return True


def _ends_uncased(before: str, before_text: str, length: int) -> bool:
    """The same for text without capitals, where the next word tells nothing."""
    if before in _ALWAYS or before in _OFTEN:
        return before in _ALSO_WORDS and length > 80
    if re.fullmatch(r"(?:[^\W\d_]\.)*[^\W\d_]", before):
        return False
    return not (re.fullmatch(r"\d{1,3}", before) and before_text.strip("([ -") == before)


def _trimmed(text: str, spans: Iterable[Span]) -> list[Span]:
    """The spans without outer white space, empty ones left out."""
    out: list[Span] = []
    for start, end in spans:
        piece = text[start:end]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if left < right:
            out.append((start + left, start + right))
    return out


def _joined(text: str, spans: list[Span]) -> list[Span]:
    """Spans without a letter or digit (a stray quote mark, a dash) joined to the sentence before them."""
    out: list[Span] = []
    for start, end in spans:
        bare = not any(c.isalnum() for c in text[start:end])
        if bare and out:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def _shorter(text: str, span: Span) -> list[Span]:
    """A very long sentence cut at its semicolons."""
    start, end = span
    if end - start <= LONG:
        return [span]
    cuts = [start, *(start + m.end() for m in re.finditer(r";(?=\s)", text[start:end])), end]
    kept = [start]
    for cut in cuts[1:-1]:
        if cut - kept[-1] >= WRAPPED and end - cut >= WRAPPED:
            kept.append(cut)
    kept.append(end)
    return _trimmed(text, itertools.pairwise(kept))
