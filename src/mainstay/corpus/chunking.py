"""Where a document is cut into the passages that are searched and cited.

Every chunk is an exact slice of the text and all slices together hold every visible character exactly once, so a
citation never depends on how a chunk was made. Cuts follow the author: sections first, then blocks, then sentences
and rows. Within a section the cuts with the least total cost are chosen: chunks near the wanted size, whole
paragraphs rather than halves, a list with the sentence that leads it in. What stands around a chunk (title, headings,
date, the head of its table) goes into ``prefix``, which is indexed and never cited.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from mainstay.corpus.parsing.document import Block, Parsed
from mainstay.text.sentences import sentences

Path = tuple[str, ...]

_TINY = 0.35  # of max_chars: sections smaller than that may share a chunk with their neighbour
_PIECE = 4_000  # characters of one paragraph looked at together for sentences; keeps hostile text from quadratic time
_LINE_JOIN = 0.1  # of target_chars: shorter rows and code lines are taken together before cutting
_SENTENCE_JOIN = 0.03
_MOST_UNITS = 150  # in one chunk: bounds the search for cuts
_HEADING_IN_PATH = 120
_MID_BLOCK, _AFTER_LEAD_IN, _IN_LINES = 0.12, 0.5, 0.03  # costs of a cut, against 1 for a chunk of no length


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A passage ``text[start:end]``, offsets in characters.

    ``ord`` counts from 0 in reading order. Pages count from 1 and are None without pages. ``section_start`` and
    ``section_end`` bound the text from the nearest heading above to the next heading after; they always hold the chunk.
    ``prefix`` is for the index only.
    """

    ord: int
    start: int
    end: int
    page_from: int | None
    page_to: int | None
    heading_path: Path
    section_start: int
    section_end: int
    prefix: str


def chunk_id(document: str, version: str, start: int, end: int) -> str:
    """A stable name for a slice of a document version: the same wherever and whenever it is computed."""
    digest = hashlib.sha256("\0".join((document, version, str(start), str(end))).encode()).hexdigest()
    return f"chk_{digest[:24]}"


@dataclass(slots=True)
class _Unit:
    """What is never cut: a sentence, a row, a few short lines. ``cut`` is what a cut after it costs; None forbids
    it."""

    start: int
    end: int
    cut: float | None
    block: int


@dataclass(slots=True)
class _Section:
    """Headings and the text up to the next heading."""

    path: Path
    level: int
    units: list[_Unit] = field(default_factory=list)
    has_text: bool = False

    @property
    def start(self) -> int:
        return self.units[0].start

    @property
    def end(self) -> int:
        return self.units[-1].end


def chunk(
    parsed: Parsed,
    *,
    max_chars: int = 1000,
    target_chars: int = 875,
    title: str | None = None,
    date: date | None = None,
) -> tuple[Chunk, ...]:
    """Cut a document. No chunk is longer than ``max_chars``; most are near ``target_chars``.

    ``title`` defaults to the document's; ``date`` goes into the prefix when given.
    """
    if not 0 < target_chars <= max_chars:
        raise ValueError("target_chars must be positive and not above max_chars")
    sections = _sections(parsed, max_chars, target_chars)
    name = parsed.title if title is None else title
    spans = [span for group in _groups(sections, max_chars) for span in _cut(group, max_chars, target_chars)]
    places = _Places(parsed, sections, name, date)
    return tuple(places.chunk(number, start, end) for number, (start, end) in enumerate(spans))


def _sections(parsed: Parsed, max_chars: int, target_chars: int) -> list[_Section]:
    """The document as sections of units. A heading directly below another heading opens the same section."""
    sections: list[_Section] = []
    trail: list[tuple[int, str]] = []
    for number, block in enumerate(parsed.blocks):
        if block.kind == "heading" and _lead(sections, block) <= max_chars // 2:
            trail = [(level, text) for level, text in trail if level < block.level]
            trail.append((block.level, " ".join(parsed.text[block.start : block.end].split())[:_HEADING_IN_PATH]))
            path = tuple(text for _, text in trail)
            if not sections or sections[-1].has_text or block.level <= sections[-1].level:
                sections.append(_Section(path, block.level))
            else:
                sections[-1].path, sections[-1].level = path, block.level
            sections[-1].units.append(_Unit(block.start, block.end, None, number))
            continue
        if not sections:
            sections.append(_Section((), 0))
        sections[-1].units.extend(_units(parsed, number, max_chars, target_chars))
        sections[-1].has_text = True
    kept = _with_text(sections, max_chars)
    for section in kept:
        _fit_lead(parsed.text, section, max_chars)
    return kept


def _lead(sections: list[_Section], heading: Block) -> int:
    """How long the run of headings would be that this heading goes on."""
    above = sections[-1] if sections and not sections[-1].has_text else None
    return heading.end - (above.start if above else heading.start)


def _fit_lead(text: str, section: _Section, max_chars: int) -> None:
    """Cut the first sentence of a section where it and the headings before it do not fit into one chunk."""
    first = next((i for i, unit in enumerate(section.units) if unit.cut is not None), None)
    if first is None or section.units[first].end - section.start <= max_chars:
        return
    unit = section.units[first]
    room = max_chars - (unit.start - section.start)
    pieces = list(_pieces(text, (unit.start, unit.end), max(1, room)))
    section.units[first : first + 1] = [_Unit(a, b, _MID_BLOCK, unit.block) for a, b in pieces]
    section.units[first + len(pieces) - 1].cut = unit.cut


def _with_text(sections: list[_Section], max_chars: int) -> list[_Section]:
    """Sections of headings only joined to the section after, or to the last one: a heading alone is no passage."""
    kept: list[_Section] = []
    waiting: list[_Unit] = []
    for section in sections:
        if waiting and section.start - waiting[0].start > max_chars // 2:
            kept.append(_Section(section.path[:-1], section.level, waiting))
            waiting = []
        if section.has_text:
            section.units[:0] = waiting
            kept.append(section)
            waiting = []
        else:
            waiting += section.units
    if waiting and kept:
        kept[-1].units[-1].cut = None
        kept[-1].units += waiting
    elif waiting:
        kept.append(_Section(sections[0].path, sections[0].level, waiting))
    return kept


def _units(parsed: Parsed, number: int, max_chars: int, target_chars: int) -> list[_Unit]:
    """The units of one block, each with the cost of a cut after it."""
    block = parsed.blocks[number]
    lined = block.kind in ("list", "table", "code")
    if lined:
        spans = _joined(_lines(parsed.text, block), int(_LINE_JOIN * target_chars))
    else:
        spans = _joined(_sentences(parsed.text, block), int(_SENTENCE_JOIN * target_chars))
    pieces = [piece for span in spans for piece in _pieces(parsed.text, span, max_chars)]
    units = [_Unit(start, end, _IN_LINES if lined else _MID_BLOCK, number) for start, end in pieces]
    units[-1].cut = _after(parsed, number)
    return units


def _after(parsed: Parsed, number: int) -> float:
    """What a cut after a block costs: nothing, unless it leads in the next one."""
    block = parsed.blocks[number]
    following = parsed.blocks[number + 1] if number + 1 < len(parsed.blocks) else None
    if following is None or block.kind == "heading":
        return 0.0
    leads = parsed.text[block.end - 1] in ":：" or (block.end - block.start < 120 and block.kind == "paragraph")
    return _AFTER_LEAD_IN if leads and following.kind in ("list", "table", "code") else 0.0


def _lines(text: str, block: Block) -> Iterator[tuple[int, int]]:
    position = block.start
    for line in text[block.start : block.end].split("\n"):
        if line.strip():
            yield position + len(line) - len(line.lstrip()), position + len(line.rstrip())
        position += len(line) + 1


def _sentences(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """The sentences of a block, looked for window by window; a sentence that a window cuts is looked at again."""
    start = block.start
    while start < block.end:
        stop = min(block.end, start + _PIECE)
        spans = [(start + a, start + b) for a, b in sentences(text[start:stop])]
        if stop < block.end and len(spans) > 1:
            stop = spans.pop()[0]
        yield from spans
        start = stop


def _joined(spans: Iterator[tuple[int, int]], least: int) -> list[tuple[int, int]]:
    """Neighbouring short lines as one span."""
    out: list[tuple[int, int]] = []
    for start, end in spans:
        if out and out[-1][1] - out[-1][0] < least and end - start < least:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def _pieces(text: str, span: tuple[int, int], max_chars: int) -> Iterator[tuple[int, int]]:
    """The span, or if it is longer than a chunk may be, parts of it, cut at sentences, else at spaces."""
    start, end = span
    while end - start > max_chars:
        window = text[start : start + max_chars]
        stop = max((a for a, _ in sentences(window)[1:]), default=0)
        if stop < max_chars // 2:
            stop = max(window.rfind(" "), window.rfind("\n")) + 1
        if stop < max_chars // 2:
            stop = max_chars
        yield start, start + len(window[:stop].rstrip())
        start += stop
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _groups(sections: Sequence[_Section], max_chars: int) -> Iterator[list[_Unit]]:
    """Sections that are cut together: a tiny one shares with the next when both fit into one chunk."""
    group: list[_Section] = []
    for section in sections:
        if group and not _share(group, section, max_chars):
            yield [unit for member in group for unit in member.units]
            group = []
        group.append(section)
    if group:
        yield [unit for member in group for unit in member.units]


def _share(group: list[_Section], section: _Section, max_chars: int) -> bool:
    if section.end - group[0].start > max_chars:
        return False
    below = section.level > group[0].level > 0 and section.path[: len(group[0].path)] == group[0].path
    tiny = _TINY * max_chars
    return below or group[-1].end - group[0].start < tiny or section.end - section.start < tiny


def _cut(units: list[_Unit], max_chars: int, target_chars: int) -> list[tuple[int, int]]:
    """The spans of least total cost. Units that may not be parted are, when they do not fit into one chunk together."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(units) + 1):
        choice = (float("inf"), stop - 1)
        end = units[stop - 1].end
        for start in range(stop - 1, max(-1, stop - 1 - _MOST_UNITS), -1):
            length = end - units[start].start
            if length > max_chars and start < stop - 1:
                break
            cost = best[start][0] + _size_cost(length, max_chars, target_chars) + _cut_cost(units, start)
            if cost < choice[0]:
                choice = (cost, start)
        best.append(choice)
    spans: list[tuple[int, int]] = []
    stop = len(units)
    while stop > 0:
        start = best[stop][1]
        spans.append((units[start].start, units[stop - 1].end))
        stop = start
    return spans[::-1]


def _size_cost(length: int, max_chars: int, target_chars: int) -> float:
    if length <= target_chars:
        return ((target_chars - length) / target_chars) ** 2
    return 0.5 * ((length - target_chars) / max(1, max_chars - target_chars)) ** 2


def _cut_cost(units: list[_Unit], at: int) -> float:
    """The cost of a cut before unit ``at``."""
    if at == 0:
        return 0.0
    cost = units[at - 1].cut
    return 1_000.0 if cost is None else cost


class _Places:
    """Says of a span where in the document it stands."""

    def __init__(self, parsed: Parsed, sections: list[_Section], title: str, day: date | None) -> None:
        self._parsed, self._title, self._day = parsed, title, day
        self._sections = sections
        self._section = self._block = 0  # spans are asked for in order, so both only move on

    def chunk(self, number: int, start: int, end: int) -> Chunk:
        """The chunk of a span; spans must come in order."""
        inside = self._sections_of(start, end)
        path = _common([section.path for section in inside])
        first, last = self._blocks_of(start, end)
        pages = [page for page in (first.page, last.page) if page is not None]
        return Chunk(
            ord=number,
            start=start,
            end=end,
            page_from=min(pages, default=None),
            page_to=max(pages, default=None),
            heading_path=path,
            section_start=inside[0].start,
            section_end=inside[-1].end,
            prefix=self._prefix(path, first, start),
        )

    def _sections_of(self, start: int, end: int) -> list[_Section]:
        while self._sections[self._section].end <= start:
            self._section += 1
        last = self._section
        while last + 1 < len(self._sections) and self._sections[last + 1].start < end:
            last += 1
        return self._sections[self._section : last + 1]

    def _blocks_of(self, start: int, end: int) -> tuple[Block, Block]:
        blocks = self._parsed.blocks
        while blocks[self._block].end <= start:
            self._block += 1
        last = self._block
        while last + 1 < len(blocks) and blocks[last + 1].start < end:
            last += 1
        return blocks[self._block], blocks[last]

    def _prefix(self, path: Path, first: Block, start: int) -> str:
        names = [self._title, *path] if path[:1] != (self._title,) else list(path)
        head = " › ".join(name for name in names if name)
        if self._day is not None:
            head = f"{head} ({self._day.isoformat()})" if head else self._day.isoformat()
        if first.kind == "table" and start > first.start:
            stop = self._parsed.text.find("\n", first.start, first.end)
            row = self._parsed.text[first.start : stop if stop >= 0 else first.end]
            # Rows that name their cells stand on their own; others need the head of the table.
            if not re.match(r"[^|]{1,80}: ", row):
                head = f"{head}\n{row[:300]}"
        return head


def _common(paths: Sequence[Path]) -> Path:
    """The beginning that all paths share."""
    shared = paths[0]
    for path in paths[1:]:
        length = next(
            (i for i, (a, b) in enumerate(zip(shared, path, strict=False)) if a != b), min(len(shared), len(path))
        )
        shared = shared[:length]
    return shared
