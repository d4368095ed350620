"""Makers of real files for the tests of parsing: each returns the bytes of one file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import docx
import openpyxl
import pptx
from docx.oxml import OxmlElement
from docx.shared import Pt, RGBColor
from pptx.util import Inches
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from mainstay.corpus.parsing.document import Block, Parsed

WHEN = datetime(2024, 5, 17, 12, tzinfo=UTC)
STORY = (
    "The harbour office opens at seven in the morning and closes at six in the evening. Visitors report at the gate "
    "with a passport and wear a yellow vest at all times. Lorries wait in the outer lane until a slot is free."
)


def pdf(draw: Callable[[Canvas], None], *, password: str = "", compress: int = 1) -> bytes:
    """A PDF that ``draw`` draws."""
    out = io.BytesIO()
    lock = StandardEncryption(password, ownerPassword="owner", strength=128) if password else None
    canvas = Canvas(out, pagesize=A4, encrypt=lock, pageCompression=compress)
    draw(canvas)
    canvas.save()
    return out.getvalue()


def pdf_lines(lines: Sequence[str], *, top: float = 780, size: float = 11, lead: float = 14, **options: Any) -> bytes:
    """A one-page PDF with the lines as they are."""

    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", size)
        for number, line in enumerate(lines):
            canvas.drawString(72, top - number * lead, line)
        canvas.showPage()

    return pdf(draw, **options)


def word(fill: Callable[[Any], None]) -> bytes:
    """A .docx that ``fill`` fills."""
    document = docx.Document()
    core = document.core_properties
    core.author, core.title, core.created, core.keywords = "Ada Winter", "Gate rules", WHEN, "gate, safety"
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def word_run(
    paragraph: Any, text: str, *, hidden: bool = False, white: bool = False, size: float | None = None
) -> None:
    """Append a run with a look."""
    run = paragraph.add_run(text)
    run.font.hidden = True if hidden else None
    if white:
        run.font.color.rgb = RGBColor(255, 255, 255)
    if size:
        run.font.size = Pt(size)


def word_deleted(paragraph: Any, text: str) -> None:
    """Append text deleted under change tracking."""
    deleted, run, content = OxmlElement("w:del"), OxmlElement("w:r"), OxmlElement("w:delText")
    content.text = text
    run.append(content)
    deleted.append(run)
    paragraph._p.append(deleted)


def slides(fill: Callable[[Any], None]) -> bytes:
    """A .pptx that ``fill`` fills."""
    presentation = pptx.Presentation()
    presentation.core_properties.author = "Ada Winter"
    presentation.core_properties.created = WHEN
    fill(presentation)
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def slide(presentation: Any, title: str, lines: Sequence[str], notes: str = "") -> Any:
    """Append a slide with a title and a list."""
    made = presentation.slides.add_slide(presentation.slide_layouts[1])
    made.shapes.title.text = title
    made.placeholders[1].text = "\n".join(lines)
    if notes:
        made.notes_slide.notes_text_frame.text = notes
    return made


def text_box(on: Any, text: str, *, left: float = 1, top: float = 5) -> Any:
    """Add a text box; places in inches."""
    box = on.shapes.add_textbox(Inches(left), Inches(top), Inches(3), Inches(1))
    box.text_frame.text = text
    return box


def workbook(fill: Callable[[Any], None]) -> bytes:
    """An .xlsx that ``fill`` fills."""
    book = openpyxl.Workbook()
    book.properties.creator = "Ada Winter"
    book.properties.created = WHEN.replace(tzinfo=None)
    fill(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def archive(entries: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as target:
        for name, data in entries.items():
            target.writestr(name, data)
    return out.getvalue()


def changed(package: bytes, changes: dict[str, bytes]) -> bytes:
    """A package with some entries replaced or added."""
    with zipfile.ZipFile(io.BytesIO(package)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    return archive(entries | changes)


def entry(package: bytes, name: str) -> bytes:
    """One entry of a package."""
    with zipfile.ZipFile(io.BytesIO(package)) as source:
        return source.read(name)


def blocks(parsed: Parsed) -> list[tuple[str, str]]:
    """The blocks as (kind or h1 to h6, text)."""
    return [(_name(b), parsed.text[b.start : b.end]) for b in parsed.blocks]


def _name(block: Block) -> str:
    return f"h{block.level}" if block.kind == "heading" else block.kind
