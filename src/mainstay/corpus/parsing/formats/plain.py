"""Plain text: paragraphs as blank lines part them, with the lists, tables and headings one can tell by their look."""

from __future__ import annotations

import codecs
import re

from mainstay.corpus.parsing.document import BlockKind, Quarantined
from mainstay.corpus.parsing.draft import Draft

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\r\x0b\x0c\x1b")
_ITEM = re.compile(r"\s*(?:[-*+•‣◦▪–]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s+\S")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})\.?\s+[^\W\d_].{0,90}")
_ENDS = (".", ",", ";", ":", "!", "?", "…")


def decode(data: bytes, draft: Draft, *, declared: str = "") -> str:
    """The bytes as text: by byte order mark, as declared, as UTF-8, else as Windows-1252 with a finding.

    Raises Quarantined for what is not text at all.
    """
    bom = next((encoding for mark, encoding in _BOMS if data.startswith(mark)), "")
    if not bom:
        _refuse_binary(data)
    for encoding in filter(None, (bom, declared, "utf-8")):
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except (UnicodeDecodeError, LookupError):
            continue
    draft.find("encoding-guessed", "not UTF-8; read as windows-1252")
    return data.decode("cp1252", "replace")


def _refuse_binary(data: bytes) -> None:
    head = data[:65_536]
    odd = len(head) - len(head.translate(None, _CONTROLS))
    if b"\x00" in data or odd > len(head) // 20:
        raise Quarantined("binary content in a file that should be text")


def read(data: bytes, draft: Draft) -> None:
    """Read a plain text file."""
    read_text(decode(data, draft), draft)


def read_text(text: str, draft: Draft) -> None:
    """Append plain text to the draft, paragraph by paragraph."""
    for paragraph in re.split(r"\n{2,}", draft.visible(text)):
        kind, level = _kind(paragraph)
        draft.add(kind, paragraph, level=level)


def _kind(paragraph: str) -> tuple[BlockKind, int]:
    lines = paragraph.split("\n", 200)[:200]  # the beginning tells; the rest of a huge paragraph is not looked at
    if len(lines) == 1:
        return _single(paragraph.strip())
    if all(" | " in line or "\t" in line for line in lines):
        return "table", 0
    items = sum(_ITEM.match(line) is not None for line in lines)
    if items >= 2 and items >= len(lines) // 3 and _ITEM.match(lines[0]):
        return "list", 0
    return "paragraph", 0


def _single(line: str) -> tuple[BlockKind, int]:
    """A line on its own is a heading when it is numbered or in capitals and does not end like a sentence."""
    if len(line) <= 100 and not line.endswith(_ENDS):
        numbered = _NUMBERED.fullmatch(line)
        if numbered:
            return "heading", min(6, numbered[1].count(".") + 1)
        if line.isupper() and sum(c.isalpha() for c in line) > 3 and len(line) <= 80:
            return "heading", 1
    return "paragraph", 0
