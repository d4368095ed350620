"""PowerPoint presentations: a slide is a page, its title a heading, the rest in reading order.

Not in the text and reported as hidden, because an audience does not see it: hidden slides and shapes, speaker notes,
shapes beside the slide, one-point text, alternative texts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pptx

from mainstay.corpus.parsing.draft import Draft, one_line
from mainstay.corpus.parsing.formats.package import Package, core_properties

_TINY_PT = 1.5
_TITLES = (1, 3)  # PP_PLACEHOLDER.TITLE and CENTER_TITLE
_ANCHORED_TOP = (0, 0)


def read(data: bytes, draft: Draft) -> None:
    """Read a .pptx, .pptm or .potx."""
    package = Package(data, draft.limits)
    core_properties(package, draft)
    presentation = pptx.Presentation(io.BytesIO(package.without_macros(data, draft)))
    size = (presentation.slide_width or 0, presentation.slide_height or 0)
    for number, slide in enumerate(presentation.slides, 1):
        if number > draft.limits.max_pages:
            draft.find("truncated", f"read {draft.limits.max_pages} slides")
            break
        _slide(slide, number, size, draft)
    draft.page = None


def _slide(slide: Any, number: int, size: tuple[int, int], draft: Draft) -> None:
    shapes = list(_shapes(slide.shapes, draft.limits.max_depth))
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if notes is not None and (said := notes.text.strip()):
        draft.hide("pptx-notes", said)
    if slide._element.get("show") in ("0", "false"):
        draft.hide("pptx-hidden-slide", " ".join(_plain(shape) for shape in shapes))
        return
    draft.page = number
    before = draft.blocks
    for shape in sorted(shapes, key=_place):
        if kind := _unseen(shape, size):
            if text := _plain(shape):
                draft.hide(kind, text)
            continue
        _note_alternative(shape, draft)
        _shape(shape, draft)
    if draft.blocks == before:
        draft.find("no-text-layer", f"page {number}")


def _shapes(shapes: Any, depth: int) -> Iterator[Any]:
    """All shapes, those of groups too."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes, depth - 1) if depth > 0 else ()
        else:
            yield shape


def _is_title(shape: Any) -> bool:
    return bool(shape.is_placeholder) and int(shape.placeholder_format.type or 0) in _TITLES


def _place(shape: Any) -> tuple[int, int, int]:
    if _is_title(shape):
        return (0, *_ANCHORED_TOP)
    return (1, shape.top or 0, shape.left or 0)


def _unseen(shape: Any, size: tuple[int, int]) -> str:
    properties = shape._element.xpath(".//*[local-name()='cNvPr']")
    if properties and properties[0].get("hidden") in ("1", "true"):
        return "pptx-hidden-shape"
    grouped = shape._element.getparent().tag.endswith("}grpSp")  # then places are in the group's own space
    if grouped or shape.left is None or shape.width is None or not all(size):
        return ""
    outside_x = shape.left >= size[0] or shape.left + shape.width <= 0
    outside_y = shape.top >= size[1] or shape.top + shape.height <= 0
    return "pptx-off-slide" if outside_x or outside_y else ""


def _plain(shape: Any) -> str:
    if getattr(shape, "has_table", False):
        return one_line(" ".join(cell.text for row in shape.table.rows for cell in row.cells))
    return one_line(shape.text_frame.text) if shape.has_text_frame else ""


def _note_alternative(shape: Any, draft: Draft) -> None:
    properties = shape._element.xpath(".//*[local-name()='cNvPr']")
    if properties and (described := properties[0].get("descr")):
        draft.hide("alt-text", described)


def _shape(shape: Any, draft: Draft) -> None:
    if getattr(shape, "has_table", False):
        rows = (" | ".join(one_line(cell.text) for cell in row.cells) for row in shape.table.rows)
        draft.add("table", "\n".join(row for row in rows if row.strip(" |")))
    elif shape.has_text_frame:
        _frame(shape, draft)


def _frame(shape: Any, draft: Draft) -> None:
    lines = [(paragraph.level, _paragraph(paragraph, draft)) for paragraph in shape.text_frame.paragraphs]
    lines = [(level, text) for level, text in lines if text]
    if not lines:
        return
    if _is_title(shape):
        draft.add("heading", one_line(" ".join(text for _, text in lines)), level=1)
    elif len(lines) > 1:
        draft.add("list", "\n".join("  " * level + "- " + text for level, text in lines))
    else:
        draft.add("paragraph", lines[0][1])


def _paragraph(paragraph: Any, draft: Draft) -> str:
    pieces: list[str] = []
    for run in paragraph.runs:
        size = run.font.size
        if size is not None and size.pt <= _TINY_PT:
            draft.hide("pptx-tiny", run.text)
        else:
            pieces.append(run.text)
    return one_line("".join(pieces))
