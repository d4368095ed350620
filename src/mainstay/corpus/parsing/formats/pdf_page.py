"""One PDF page: its visible lines with their geometry, and the text on it that cannot be seen.

The quick way asks PDFium for the page's text and for the look of each text object. Only when an object turns out unseen
is the page read again character by character, leaving that object out.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdf

Box = tuple[float, float, float, float]  # left, bottom, right, top in points
Matrix = tuple[float, float, float, float, float, float]

MAX_OBJECTS = 100_000
_MAX_FORM_DEPTH = 8
_UNIT: Matrix = (1, 0, 0, 1, 0, 0)
_LIGHT = 232  # of 255 in each channel: on white paper such text cannot be read
_TINY_PT = 1.2


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text: its left and right edge, baseline side, height (points) and weight."""

    text: str
    x0: float
    x1: float
    y: float
    size: float
    bold: bool


@dataclass(slots=True)
class Page:
    """What one page holds."""

    lines: list[Line]
    unseen: dict[str, list[str]]
    height: float
    images: int = 0


class TooComplex(Exception):
    """The page has more objects than any page for people."""


def read_page(document: pdfium.PdfDocument, index: int) -> Page:
    """Read page ``index`` (from 0). Raises PdfiumError for a broken page and TooComplex."""
    page = document[index]
    try:
        textpage = page.get_textpage()
        try:
            return _read(page, textpage)
        finally:
            textpage.close()
    finally:
        page.close()


def _read(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage) -> Page:
    crop: Box = page.get_bbox()
    looks = _Looks(crop)
    looks.scan(page)
    unseen: dict[str, list[str]] = {}
    if looks.unseen:
        text, places = _without(textpage, looks.unseen, unseen)
    else:
        text, places = textpage.get_text_range(), None
    lines = []
    for start, end in _line_spans(text):
        line = _measure(textpage, text, start, end, places)
        lines.append(line or Line(text[start:end].strip(), 0, 0, 0, 0, False))
    return Page(lines, unseen, crop[3] - crop[1], looks.images)


def _line_spans(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for line in text.split("\n"):
        end = position + len(line)
        if line.strip():
            yield position, end
        position = end + 1


class _Looks:
    """How the objects of a page look: which text objects are unseen, and on what grounds text stands."""

    def __init__(self, crop: Box) -> None:
        self.crop = crop
        self.unseen: dict[int, str] = {}
        self.images = 0
        self._grounds: list[tuple[Box, bool]] = []  # filled areas in drawing order: where, and whether light
        self._seen = 0

    def scan(self, page: pdfium.PdfPage) -> None:
        """Look at every object of the page, into form objects too."""
        objects = (pdf.FPDFPage_GetObject(page, i) for i in range(pdf.FPDFPage_CountObjects(page)))
        self._scan(objects, _UNIT, 0)

    def _scan(self, objects: Iterator[ctypes._Pointer[ctypes.Structure]], matrix: Matrix, depth: int) -> None:
        for found in objects:
            self._seen += 1
            if self._seen > MAX_OBJECTS:
                raise TooComplex
            kind = pdf.FPDFPageObj_GetType(found)
            if kind == pdf.FPDF_PAGEOBJ_TEXT:
                if hidden := self._text_is(found, matrix):
                    self.unseen[_address(found)] = hidden
            elif kind == pdf.FPDF_PAGEOBJ_FORM and depth < _MAX_FORM_DEPTH:
                inner = (pdf.FPDFFormObj_GetObject(found, i) for i in range(pdf.FPDFFormObj_CountObjects(found)))
                self._scan(inner, _times(_matrix(found), matrix), depth + 1)
            else:
                self._ground(found, kind, matrix)

    def _ground(self, found: ctypes._Pointer[ctypes.Structure], kind: int, matrix: Matrix) -> None:
        if kind == pdf.FPDF_PAGEOBJ_IMAGE:
            self.images += 1
        light = False
        if kind == pdf.FPDF_PAGEOBJ_PATH:
            fill, stroke = ctypes.c_int(), ctypes.c_int()
            pdf.FPDFPath_GetDrawMode(found, fill, stroke)
            colour = _colour(found)
            if not fill.value or colour is None or colour[3] < 40:
                return
            light = min(colour[:3]) >= _LIGHT
        if len(self._grounds) < 20_000:
            self._grounds.append((_placed(_bounds(found), matrix), light))

    def _text_is(self, found: ctypes._Pointer[ctypes.Structure], matrix: Matrix) -> str:
        """How this text is hidden, or an empty string."""
        mode = pdf.FPDFTextObj_GetTextRenderMode(found)
        if mode in (pdf.FPDF_TEXTRENDERMODE_INVISIBLE, pdf.FPDF_TEXTRENDERMODE_CLIP):
            return "pdf-invisible"
        strokes = mode in (pdf.FPDF_TEXTRENDERMODE_STROKE, pdf.FPDF_TEXTRENDERMODE_FILL_STROKE)
        box = _placed(_bounds(found), matrix)
        if not self._on_page(box):
            return "pdf-off-page"
        if 0 < _font_size(found, matrix) <= _TINY_PT:
            return "pdf-tiny"
        colour = None if strokes else _colour(found)
        if colour is not None and colour[3] <= 12:
            return "pdf-invisible"
        if colour is None or min(colour[:3]) < _LIGHT:
            return ""
        return "" if self._on_dark(box) else "pdf-white-on-white"

    def _on_page(self, box: Box) -> bool:
        left, bottom, right, top = self.crop
        return box[2] > left and box[0] < right and box[3] > bottom and box[1] < top

    def _on_dark(self, box: Box) -> bool:
        """Whether the last area painted under the middle of the box is a picture or not light."""
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        for (left, bottom, right, top), light in reversed(self._grounds):
            if left <= x <= right and bottom <= y <= top:
                return not light
        return False


def _address(found: ctypes._Pointer[ctypes.Structure]) -> int:
    return ctypes.cast(found, ctypes.c_void_p).value or 0


def _colour(found: ctypes._Pointer[ctypes.Structure]) -> tuple[int, int, int, int] | None:
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not pdf.FPDFPageObj_GetFillColor(found, red, green, blue, alpha):
        return None
    return red.value, green.value, blue.value, alpha.value


def _bounds(found: ctypes._Pointer[ctypes.Structure]) -> Box:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    pdf.FPDFPageObj_GetBounds(found, left, bottom, right, top)
    return left.value, bottom.value, right.value, top.value


def _matrix(found: ctypes._Pointer[ctypes.Structure]) -> Matrix:
    raw = pdf.FS_MATRIX()
    if not pdf.FPDFPageObj_GetMatrix(found, raw):
        return _UNIT
    return raw.a, raw.b, raw.c, raw.d, raw.e, raw.f


def _font_size(found: ctypes._Pointer[ctypes.Structure], matrix: Matrix) -> float:
    """The height of a letter in points as drawn: the font's size under all scaling."""
    size = ctypes.c_float()
    if not pdf.FPDFTextObj_GetFontSize(found, size):
        return 0.0
    _, _, c, d, _, _ = _times(_matrix(found), matrix)
    return abs(size.value) * math.hypot(c, d)


def _times(inner: Matrix, outer: Matrix) -> Matrix:
    a, b, c, d, e, f = inner
    g, h, i, j, k, m = outer
    return a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m


def _placed(box: Box, matrix: Matrix) -> Box:
    """The box in page space."""
    if matrix == _UNIT:
        return box
    a, b, c, d, e, f = matrix
    corners = [(x * a + y * c + e, x * b + y * d + f) for x in (box[0], box[2]) for y in (box[1], box[3])]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _without(
    textpage: pdfium.PdfTextPage, hidden: dict[int, str], unseen: dict[str, list[str]]
) -> tuple[str, list[int]]:
    """The page's text without the hidden objects, with the index of each character; the rest goes to ``unseen``."""
    kept: list[str] = []
    places: list[int] = []
    dropped: dict[str, list[str]] = {}
    for index in range(textpage.count_chars()):
        point = pdf.FPDFText_GetUnicode(textpage, index)
        char = chr(point) if 0 < point < 0x110000 else ""
        owner = pdf.FPDFText_GetTextObject(textpage, index)
        kind = hidden.get(_address(owner), "") if owner else ""
        if kind:
            dropped.setdefault(kind, []).append(char)
        elif char:
            kept.append(char)
            places.append(index)
    for kind, chars in dropped.items():
        unseen.setdefault(kind, []).append("".join(chars))
    return "".join(kept), places


def _measure(textpage: pdfium.PdfTextPage, text: str, start: int, end: int, places: list[int] | None) -> Line | None:
    """The line with its geometry; None where PDFium does not know it."""
    raw = text[start:end]
    stripped = raw.strip()
    first = start + len(raw) - len(raw.lstrip())
    ends = []
    for position in (first, first + len(stripped) - 1):
        index = places[position] if places else pdf.FPDFText_GetCharIndexFromTextIndex(textpage, position)
        box = pdf.FS_RECTF()
        if index < 0 or not pdf.FPDFText_GetLooseCharBox(textpage, index, box):
            return None
        ends.append((box.left, box.bottom, box.right, box.top, pdf.FPDFText_GetFontWeight(textpage, index)))
    (left, bottom, _, top, weight), (_, last_bottom, right, last_top, last_weight) = ends
    # The larger of the two: a bullet or a superscript is smaller than its line.
    size = max(abs(top - bottom), abs(last_top - last_bottom))
    baseline = min(bottom, last_bottom, top, last_top)
    return Line(stripped, left, max(left, right), baseline, size, weight >= 600 and last_weight >= 600)
