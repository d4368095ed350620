"""A document being written down block by block.

Each block is cleaned *before* it is appended, so the offsets are true by construction and never need mapping back.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime

from mainstay.corpus.parsing.document import Block, BlockKind, Finding, Parsed
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.guard.hidden_text import SAMPLE_CHARS, Hidden, clean
from mainstay.types import MetaValue

_GAP = "\n\n"
_MAX_TITLE, _MAX_META, _MAX_TAGS, _MAX_FINDINGS = 500, 2_000, 200, 1_000
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n{3,}")
_SPACES = re.compile(r"\s+")
_SURROGATES = re.compile("[\ud800-\udfff]")

Hiding = dict[str, tuple[int, str]]


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return _SPACES.sub(" ", text).strip()


def tidy(text: str) -> str:
    """The text without outer white space, without spaces at line ends, and with one blank line at most."""
    if "\n" not in text:
        return text.strip()
    # Line by line and not by one pattern: `\\s+(?=\\n)` takes quadratic time on a long run of spaces.
    return _BLANK_LINES.sub(_GAP, "\n".join(line.rstrip() for line in text.split("\n"))).strip()


class Draft:
    """Collects what a format finds and hands out a ``Parsed``."""

    def __init__(self, media_type: str, limits: ParseLimits) -> None:
        self.media_type, self.limits = media_type, limits
        self.title = ""
        self.language = ""
        self.page: int | None = None
        self.full = False
        self.front_matter: Mapping[str, object] = {}
        self.metadata: dict[str, MetaValue] = {}
        self._pieces: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self._hidden: Hiding = {}
        self._findings: dict[Finding, None] = {}

    def add(self, kind: BlockKind, text: str, *, level: int = 0) -> None:
        """Append a block; empty ones and those past the text limit are left out, the latter with a finding."""
        if self.full:
            return
        visible = self.visible(text)
        if not visible:
            return
        start = self._length + (len(_GAP) if self._blocks else 0)
        if len(self._blocks) >= self.limits.max_blocks or start + len(visible) > self.limits.max_text_chars:
            visible = self._cut(visible, start)
            if not visible:
                return
        if self._blocks:
            self._pieces.append(_GAP)
        self._pieces.append(visible)
        self._length = start + len(visible)
        self._blocks.append(Block(kind, start, self._length, level, self.page))

    def _cut(self, visible: str, start: int) -> str:
        self.full = True
        self.find("truncated", f"after {self.limits.max_text_chars} characters or {self.limits.max_blocks} blocks")
        if len(self._blocks) >= self.limits.max_blocks:
            return ""
        return visible[: max(0, self.limits.max_text_chars - start)].rstrip()

    def visible(self, text: str) -> str:
        """The text as it will be stored: NFC, ``\\n``, no hidden characters, no outer white space."""
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)
            text = unicodedata.normalize("NFC", text)
        cleaned, hidden = clean(_LINE_ENDS.sub("\n", text))
        for found in hidden:
            self.hide(found.kind, found.sample, count=found.count)
        if hidden:
            cleaned = unicodedata.normalize("NFC", cleaned)
        return tidy(cleaned)

    def hide(self, kind: str, sample: str, *, count: int = 1) -> None:
        """Note text that readers do not see; it never enters the document's text."""
        before, shown = self._hidden.get(kind, (0, ""))
        room = SAMPLE_CHARS - len(shown)
        if room > 0:
            fresh = one_line(clean(_SURROGATES.sub("\ufffd", sample[: 4 * SAMPLE_CHARS]))[0])
            shown = f"{shown} … {fresh}"[:SAMPLE_CHARS] if shown and fresh else shown or fresh[:SAMPLE_CHARS]
        self._hidden[kind] = (before + count, shown)

    def find(self, kind: str, detail: str = "") -> None:
        """Note something odd; the same twice counts once."""
        if len(self._findings) < _MAX_FINDINGS:
            self._findings[Finding(kind, self.label(detail))] = None

    def meta(self, key: str, value: object) -> None:
        """Keep a metadata value if it is one we can type; the first value of a key stays."""
        name = re.sub(r"[\s-]+", "_", self.label(key).strip().casefold())[:100]
        typed = self._typed(value)
        if name and typed not in ("", (), None) and name not in self.metadata:
            self.metadata[name] = typed

    def meta_date(self, key: str, written: str) -> None:
        """Keep a date written as ISO 8601 (its first ten characters count) as a date, anything else as text."""
        try:
            self.meta(key, date.fromisoformat(written.strip()[:10]))
        except ValueError:
            self.meta(key, written)

    def label(self, text: str) -> str:
        """A short cleaned string for titles, names and values."""
        return one_line(clean(_SURROGATES.sub("\ufffd", text[: 4 * _MAX_META]))[0])[:_MAX_META]

    def _typed(self, value: object) -> MetaValue | None:
        if isinstance(value, list | tuple | set | frozenset):
            items = (self._scalar(item) for item in list(value)[:_MAX_TAGS])
            return tuple(item for item in items if item is not None and item != "")
        return self._scalar(value)

    def _scalar(self, value: object) -> str | int | float | bool | date | None:
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**63:
            return str(value)[:100] if abs(value) < 10**300 else None
        if isinstance(value, bool | int | float | date):
            return value
        return self.label(value) if isinstance(value, str) else None

    @property
    def blocks(self) -> int:
        """How many blocks there are so far."""
        return len(self._blocks)

    def finish(self, name: str) -> Parsed:
        """The document. Its title is the given one, else the first heading, else the file's name."""
        text = "".join(self._pieces)
        if not self._blocks:
            self.find("empty", "no visible text")
        return Parsed(
            media_type=self.media_type,
            title=(self.label(self.title) or self._first_heading(text) or self.label(name))[:_MAX_TITLE],
            text=text,
            blocks=tuple(self._blocks),
            pages=self._pages(),
            metadata=dict(self.metadata),
            front_matter=self.front_matter,
            hidden=tuple(Hidden(kind, count, sample) for kind, (count, sample) in self._hidden.items()),
            findings=tuple(self._findings),
            language=self.language,
        )

    def _first_heading(self, text: str) -> str:
        for block in self._blocks[:20]:
            if block.kind == "heading":
                return self.label(text[block.start : block.end])
        return ""

    def _pages(self) -> tuple[tuple[int, int, int], ...]:
        spans: dict[int, tuple[int, int]] = {}
        for block in self._blocks:
            if block.page is not None:
                start, _ = spans.get(block.page, (block.start, block.end))
                spans[block.page] = (start, block.end)
        return tuple((page, start, end) for page, (start, end) in spans.items())
