"""PDF: visible text in paragraphs, with the page of each.

Lines are joined to paragraphs by distance, size and punctuation; words cut at line ends are put together; lines
repeated at the top or bottom of most pages are left out; larger or bold lines on their own are headings. Text drawn
invisibly, white on white, tiny or beside the page goes to the hidden findings. A page without visible text is
reported, not guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from itertools import pairwise
from statistics import median

import pypdfium2 as pdfium

from mainstay.corpus.parsing.document import BlockKind, Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.pdf_page import Line, Page, TooComplex, read_page

_BULLET = re.compile(r"(?:[•●○▪■◦‣·–*\-\uf0b7\uf0a7\u2022]|o(?=\s+[A-Z]))\s+(?=\S)")
_NUMBER = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s+(?=\S)")
_TERMINAL = re.compile(r"[.!?:;。！？][\"”’')\]]*$")
_NOT_HEADING = re.compile(r"[.,;…]$")
# PDFium joins two lines when the first ends in a hyphen, and leaves this mark.
_SOFT_BREAK = re.compile(r"(\w*)[\ufffe\x02]\s*(\w*)")
_UNSAID = ("(unspecified)", "(anonymous)", "anonymous", "unspecified", "untitled")
_PAGE_FAILURES = 50
_LONGEST_HEADING = 200
_FEW_LINES = 8
_MARGIN = 0.12  # of the page's height, at top and bottom: where running lines stand


def read(data: bytes, draft: Draft) -> None:
    """Read a PDF. Raises Quarantined when it is encrypted or damaged beyond opening."""
    document = _open(data)
    try:
        _metadata(document, draft)
        pages = _pages(document, draft)
    finally:
        document.close()
    _drop_running_lines(pages, _Sizes(pages).body, draft)
    sizes = _Sizes(pages)
    words = _words(pages)
    for number, page in pages.items():
        draft.page = number
        _write(page, sizes, words, draft)
    draft.page = None


def _open(data: bytes) -> pdfium.PdfDocument:
    try:
        document = pdfium.PdfDocument(data)
        len(document)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise Quarantined("encrypted PDF: a password is needed to read it") from error
        raise Quarantined(f"damaged PDF: {error}") from error
    return document


def _metadata(document: pdfium.PdfDocument, draft: Draft) -> None:
    info = document.get_metadata_dict()
    title = info.get("Title", "").strip()
    # What a word processor writes when nobody gave a title says where the file lay, not what it is.
    if not re.match(r"(?i)microsoft \w+ - |\(?untitled|.*\.(?:docx?|pptx?|xlsx?|indd|tex)$", title):
        draft.title = title
    for key in ("Author", "Subject"):
        if (value := info.get(key, "")) not in _UNSAID:
            draft.meta(key, value)
    draft.meta("tags", [tag.strip() for tag in re.split("[,;]", info.get("Keywords", "")) if tag.strip()])
    draft.meta("date", _date(info.get("CreationDate", "")))
    draft.meta("modified", _date(info.get("ModDate", "")))
    draft.meta("pages", len(document))
    if attachments := document.count_attachments():
        draft.find("attachment", f"{attachments} embedded files are not read")


def _date(written: str) -> date | None:
    match = re.match(r"(?:D:)?(\d{4})(\d{2})?(\d{2})?", written)
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return None


def _pages(document: pdfium.PdfDocument, draft: Draft) -> dict[int, Page]:
    """The readable pages by number; the others become findings."""
    total = len(document)
    if total > draft.limits.max_pages:
        draft.find("truncated", f"read {draft.limits.max_pages} of {total} pages")
    pages: dict[int, Page] = {}
    failures = characters = 0
    for index in range(min(total, draft.limits.max_pages)):
        try:
            page = read_page(document, index)
        except (pdfium.PdfiumError, TooComplex) as error:
            draft.find("page-unreadable", f"page {index + 1}: {error or 'too many objects'}")
            failures += 1
            if failures > _PAGE_FAILURES:
                break
            continue
        _note_unseen(page, index + 1, draft)
        pages[index + 1] = page
        characters += sum(len(line.text) for line in page.lines)
        if characters > draft.limits.max_text_chars:
            break
    if total and not pages:
        raise Quarantined("damaged PDF: no page can be read")
    return pages


def _note_unseen(page: Page, number: int, draft: Draft) -> None:
    for kind, texts in page.unseen.items():
        if shown := " ".join(texts).strip():
            draft.hide(kind, shown)
    if not page.lines:
        invisible = "; it has an invisible text layer, which is not trusted" if page.unseen else ""
        draft.find("no-text-layer", f"page {number}{invisible}")


def _drop_running_lines(pages: dict[int, Page], body: float, draft: Draft) -> None:
    """Leave out lines that stand at the edge of most pages, whatever the number in them."""
    if len(pages) < 3:
        return
    seen = Counter(key for page in pages.values() for key in {_running(line, body) for line in _edge_lines(page)})
    running = {key for key, count in seen.items() if key and count >= 3 and count >= 0.5 * len(pages)}
    if not running:
        return
    for page in pages.values():
        edges = {id(line) for line in _edge_lines(page)}
        page.lines = [line for line in page.lines if id(line) not in edges or _running(line, body) not in running]
    draft.find("running-lines", "; ".join(sorted(running))[:300])


def _edge_lines(page: Page) -> list[Line]:
    low, high = _MARGIN * page.height, (1 - _MARGIN) * page.height
    return [line for line in page.lines if line.size > 0 and (line.y < low or line.y > high)]


def _running(line: Line, body: float) -> str:
    """What is compared: without numbers, which count pages; but a large line with another number is another chapter."""
    return line.text.casefold() if line.size > 1.12 * body else re.sub(r"\d+", "#", line.text.casefold())


class _Sizes:
    """The size of the body text and which sizes above it are headings of which level."""

    def __init__(self, pages: dict[int, Page]) -> None:
        weights: Counter[float] = Counter()
        bold = total = 0
        for line in (line for page in pages.values() for line in page.lines):
            weights[round(line.size, 1)] += len(line.text)
            total += len(line.text)
            bold += len(line.text) * line.bold
        self.body = max(weights, key=lambda size: (weights[size], -size), default=0.0)
        larger = sorted((size for size in weights if size > 1.12 * self.body), reverse=True)
        self.levels = {size: min(level, 4) for level, size in enumerate(_steps(larger), 1)}
        self.bold_level = min(5, max(self.levels.values(), default=0) + 1)
        self.bold_counts = bold < 0.4 * total  # in a text mostly bold, bold says nothing

    def level(self, line: Line) -> int:
        """The heading level of a line by its look, or 0."""
        text = line.text
        if not self.body or len(text) > 160 or _NOT_HEADING.search(text) or not any(c.isalpha() for c in text):
            return 0
        if line.size > 1.12 * self.body:
            return min((abs(size - line.size), level) for size, level in self.levels.items())[1]
        heading = self.bold_counts and line.bold and len(text) <= 100 and not text[0].islower()
        if not heading or _BULLET.match(text):
            return 0
        numbered = re.match(r"\d{1,2}((?:\.\d{1,2})*)\.?\s", text)
        return min(6, self.bold_level + (numbered[1].count(".") if numbered else 0))


def _steps(sizes: list[float]) -> list[float]:
    """Sizes, largest first, without those that differ by less than 6 % from the one before."""
    steps: list[float] = []
    for size in sizes:
        if not steps or size < 0.94 * steps[-1]:
            steps.append(size)
    return steps


def _words(pages: dict[int, Page]) -> frozenset[str]:
    """The words of the document, to decide what a word cut at a line end was."""
    joined = " ".join(line.text for page in pages.values() for line in page.lines)
    return frozenset(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", joined.casefold()))


def _write(page: Page, sizes: _Sizes, words: frozenset[str], draft: Draft) -> None:
    """Append a page's lines as blocks."""
    pitch = _pitch(page.lines)
    right = max((line.x1 for line in page.lines), default=0.0)
    group: list[Line] = []
    items: list[str] = []
    level = 0

    def close() -> None:
        nonlocal group
        if group:
            text = _join(group, words)
            if not level and (_BULLET.match(text) or (_NUMBER.match(text) and (items or len(text) < 300))):
                items.append(_BULLET.sub("- ", text, count=1).replace("\n", " "))
            else:
                close_list()
                heading = bool(level) and len(text) <= _LONGEST_HEADING
                kind: BlockKind = "heading" if heading else "paragraph"
                draft.add(kind, text.replace("\n", " ") if heading else text, level=level if heading else 0)
        group = []

    def close_list() -> None:
        if items:
            draft.add("list", "\n".join(items))
            items.clear()

    for line in page.lines:
        its_level = sizes.level(line)
        if group and (its_level != level or _parts(group[-1], line, pitch, right)):
            close()
        level = its_level
        group.append(line)
    close()
    close_list()


def _pitch(lines: list[Line]) -> float:
    """The usual distance of two lines on this page, in points."""
    steps = [a.y - b.y for a, b in pairwise(lines) if 0 < a.y - b.y < 4 * max(a.size, 1)]
    if not steps:
        return 0.0
    # On a page with few lines the gaps between paragraphs may be the usual distance.
    return median(steps) if len(steps) >= _FEW_LINES else min(median(steps), 1.5 * median(line.size for line in lines))


def _parts(before: Line, line: Line, pitch: float, right: float) -> bool:
    """Whether a new paragraph begins with this line."""
    if _BULLET.match(line.text) or _NUMBER.match(line.text):
        return True
    if abs(before.size - line.size) > 0.12 * max(before.size, line.size):
        return True
    step = before.y - line.y
    goes_on = line.text[0].islower() and not _TERMINAL.search(before.text)
    if step < -0.5 * line.size:  # the next column, or the order of drawing
        return not goes_on
    if pitch and step > 1.35 * pitch and step > 1.2 * line.size:
        return not (goes_on and step < 2 * pitch)
    short = before.x1 < right - 0.2 * max(1.0, right - before.x0)
    return short and _TERMINAL.search(before.text) is not None and not line.text[0].islower()


def _join(lines: list[Line], words: frozenset[str]) -> str:
    """Lines as one text; after a line that stops far from the right edge the line end stays: rows, addresses."""
    text = lines[0].text
    widest = max(line.x1 for line in lines)
    for before, line in pairwise(lines):
        if text.endswith(("-", "\u2010")) and line.text[0].islower():
            text = _unbroken(text, line.text, words)
            continue
        full = before.x1 >= widest - 0.25 * max(1.0, widest - before.x0)
        text += (" " if full or line.text[0].islower() else "\n") + line.text
    return _SOFT_BREAK.sub(lambda cut: _unbroken(cut[1] + "-", cut[2], words), text)


def _unbroken(text: str, following: str, words: frozenset[str]) -> str:
    """Put a word cut at a line end together: without the hyphen, unless the document writes it with one elsewhere."""
    head = re.search(r"[^\W\d_]+$", text[:-1])
    tail = re.match(r"[^\W\d_]+", following)
    if head is None or tail is None or not tail[0][0].islower():
        return text[:-1] + "-" + following
    compound = f"{head[0]}-{tail[0]}".casefold()
    plain = f"{head[0]}{tail[0]}".casefold()
    keep = compound in words and plain not in words
    return text[:-1] + ("-" if keep else "") + following
