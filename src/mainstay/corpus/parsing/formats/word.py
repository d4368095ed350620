"""Word documents: headings, paragraphs, lists and tables in order; the state with all changes accepted.

Not in the text and reported as hidden: runs marked as hidden (also by their style), white or one-point text, comments,
deleted text, alternative texts. Foot- and endnotes follow the body, as they would on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import docx

from mainstay.corpus.parsing.document import BlockKind
from mainstay.corpus.parsing.draft import Draft, one_line
from mainstay.corpus.parsing.formats.package import Package, core_properties, texts

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_DOC_PROPERTIES = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_TEXT_BOX = f"{_W}txbxContent"
_DELETED = frozenset((f"{_W}del", f"{_W}moveFrom"))
_OFF = ("0", "false", "off", "none")
_ON = None  # an on/off element without a value is on


def read(data: bytes, draft: Draft) -> None:
    """Read a .docx, .docm or .dotx."""
    package = Package(data, draft.limits)
    core_properties(package, draft)
    document = docx.Document(io.BytesIO(package.without_macros(data, draft)))
    body = _Body(document, draft)
    body.write(document.element.body)
    for part in ("footnotes", "endnotes"):
        _notes(package, part, draft)
    for name in package.names():
        if re.fullmatch(r"word/comments[^/]*\.xml", name) and (said := texts(package.xml(name))):
            draft.hide("docx-comment", said)


def _notes(package: Package, part: str, draft: Draft) -> None:
    root = package.xml(f"word/{part}.xml")
    for note in root if root is not None else ():
        if note.get(f"{_W}type") in (None, "normal"):
            draft.add("paragraph", " ".join(t.text or "" for t in note.iter(f"{_W}t")))


def _value(properties: Any, name: str) -> str | None:
    """An attribute ``w:val`` of a child; None when the child is missing, empty when it has no value."""
    found = properties.find(f"{_W}{name}") if properties is not None else None
    return None if found is None else (found.get(f"{_W}val") or "")


def _on(properties: Any, name: str) -> bool | None:
    value = _value(properties, name)
    return None if value is None else value not in _OFF


class _Body:
    """Walks the body in order and collects lists over their paragraphs."""

    def __init__(self, document: Any, draft: Draft) -> None:
        self.draft = draft
        self.styles = {s.get(f"{_W}styleId"): s for s in document.styles.element.iter(f"{_W}style")}
        self.items: list[str] = []
        self.depth = 0

    def write(self, body: Any) -> None:
        self._parts(body)
        self._end_list()

    def _parts(self, parent: Any) -> None:
        self.depth += 1
        for element in parent if self.depth < self.draft.limits.max_depth else ():
            if element.tag == f"{_W}p":
                self._paragraph(element)
            elif element.tag == f"{_W}tbl":
                self._end_list()
                self.draft.add("table", "\n".join(self._rows(element)))
            elif element.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}moveTo"):
                self._parts(element)
        self.depth -= 1

    def _paragraph(self, element: Any) -> None:
        text = self._text(element)
        properties = element.find(f"{_W}pPr")
        style = self._style_chain(_value(properties, "pStyle"))
        names = [_value(s, "name") or "" for s in style]
        level = _heading_level(properties, names, style)
        if level:
            self._end_list()
            self.draft.add("heading", one_line(text), level=level)
        elif self._numbered(properties, style, names) and text.strip():
            indent = _value(properties.find(f"{_W}numPr") if properties is not None else None, "ilvl") or "0"
            self.items.append("  " * min(8, int(indent) if indent.isdigit() else 0) + "- " + text.strip())
        else:
            self._end_list()
            quoted = any("quote" in name.lower() for name in names[:1])
            kind: BlockKind = "quote" if quoted else "paragraph"
            self.draft.add(kind, text)
        for box in element.iter(_TEXT_BOX):
            if not any(a.tag == _FALLBACK for a in box.iterancestors()):
                self._end_list()
                self._parts(box)

    def _numbered(self, properties: Any, style: list[Any], names: list[str]) -> bool:
        own = properties.find(f"{_W}numPr") if properties is not None else None
        if own is not None:
            return _value(own, "numId") != "0"
        inherited = any(s.find(f"{_W}pPr/{_W}numPr") is not None for s in style)
        return inherited or any(name.lower().startswith("list ") for name in names[:1])

    def _end_list(self) -> None:
        if self.items:
            self.draft.add("list", "\n".join(self.items))
            self.items = []

    def _rows(self, table: Any) -> Iterator[str]:
        for row in table.iter(f"{_W}tr"):
            cells = (one_line(" ".join(self._text(p) for p in cell.iter(f"{_W}p"))) for cell in row.iter(f"{_W}tc"))
            line = " | ".join(cells)
            if line.strip(" |"):
                yield line

    def _style_chain(self, style_id: str | None) -> list[Any]:
        chain: list[Any] = []
        while style_id and style_id in self.styles and len(chain) < 20:
            chain.append(self.styles[style_id])
            style_id = _value(chain[-1], "basedOn")
        return chain

    def _text(self, paragraph: Any) -> str:
        pieces: list[str] = []
        paragraph_style = self._style_chain(_value(paragraph.find(f"{_W}pPr"), "pStyle"))
        for run, deleted in _runs(paragraph):
            text = _run_text(run)
            kind = "docx-deleted" if deleted else self._hidden(run, paragraph_style)
            if kind and text.strip():
                self.draft.hide(kind, text)
            elif not kind:
                pieces.append(text)
            for properties in run.iter(_DOC_PROPERTIES):
                if described := properties.get("descr"):
                    self.draft.hide("alt-text", described)
        return "".join(pieces)

    def _hidden(self, run: Any, paragraph_style: list[Any]) -> str:
        """How a run is hidden, or an empty string: by itself, else by its character style, else by the paragraph's."""
        own = run.find(f"{_W}rPr")
        chain = [own, *(s.find(f"{_W}rPr") for s in [*self._style_chain(_value(own, "rStyle")), *paragraph_style])]
        looks = [p for p in chain if p is not None]
        if next((on for p in looks for name in ("vanish", "webHidden") if (on := _on(p, name)) is not None), False):
            return "docx-vanish"
        size = next((v for p in looks if (v := _value(p, "sz"))), "")
        if re.fullmatch(r"\d+", size) and int(size) <= 2:  # in half-points
            return "docx-tiny"
        colour = next((v for p in looks if (v := _value(p, "color"))), "").upper()
        shaded = any(p.find(f"{_W}shd") is not None or p.find(f"{_W}highlight") is not None for p in looks)
        if re.fullmatch(r"(?:F[0-9A-F]){3}", colour) and not shaded and not _in_shade(run):
            return "docx-white"
        return ""


def _in_shade(run: Any) -> bool:
    """Whether a run stands in a shaded paragraph or table cell, or in a shape: white text is seen there."""
    for ancestor in run.iterancestors():
        if ancestor.tag == _TEXT_BOX:
            return True
        for name in ("pPr", "tcPr", "tblPr"):
            properties = ancestor.find(f"{_W}{name}")
            if properties is not None and properties.find(f"{_W}shd") is not None:
                return True
    # A table style may shade; which cell is too involved, and tables with white heads are common.
    return any(a.tag == f"{_W}tbl" and a.find(f"{_W}tblPr/{_W}tblStyle") is not None for a in run.iterancestors())


def _runs(paragraph: Any) -> Iterator[tuple[Any, bool]]:
    """The runs of a paragraph, not those of text boxes in it, and whether each is deleted."""
    stack = [(child, False) for child in reversed(paragraph)]
    while stack:
        element, deleted = stack.pop()
        if element.tag == f"{_W}r":
            yield element, deleted
        elif element.tag != f"{_W}p" and element.tag != f"{_W}pPr":
            gone = deleted or element.tag in _DELETED
            stack.extend((child, gone) for child in reversed(element))


def _run_text(run: Any) -> str:
    pieces = []
    for element in run:
        if element.tag in (f"{_W}t", f"{_W}delText"):
            pieces.append(element.text or "")
        elif element.tag in (f"{_W}tab", f"{_W}ptab"):
            pieces.append("\t")
        elif element.tag in (f"{_W}br", f"{_W}cr"):
            pieces.append("\n")
        elif element.tag == f"{_W}noBreakHyphen":
            pieces.append("-")
    return "".join(pieces)


def _heading_level(properties: Any, names: list[str], style: list[Any]) -> int:
    for name in names:
        if match := re.fullmatch(r"(?i)heading (\d)", name):
            return min(6, int(match[1])) or 1
        if name.lower() == "title":
            return 1
    for place in (properties, *(s.find(f"{_W}pPr") for s in style)):
        outline = _value(place, "outlineLvl")
        if outline is not None and outline.isdigit():
            return int(outline) + 1 if int(outline) < 6 else 0
    return 0
