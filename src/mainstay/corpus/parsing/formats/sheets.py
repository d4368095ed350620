"""Excel workbooks: a visible sheet is a heading, each of its rows a line that stands on its own.

Stored values are read, formulas are not computed and nothing outside the file is asked. Hidden sheets, rows and
columns and cell comments are reported and left out.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

import openpyxl
from openpyxl.utils import column_index_from_string

from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.package import Package, core_properties, texts
from mainstay.corpus.parsing.formats.rows import Rows

_ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*)>")
_COLUMN = re.compile(rb"<(?:\w+:)?col\b([^>]*)>")
_HIDDEN = re.compile(rb"""\b(?:hidden\s*=\s*["'](?:1|true)["']|(?:ht|width)\s*=\s*["']0(?:\.0+)?["'])""")
_FAR = 1_000  # a row of more empty rows than this ends the sheet


def read(data: bytes, draft: Draft) -> None:
    """Read an .xlsx or .xlsm."""
    package = Package(data, draft.limits)
    core_properties(package, draft)
    if any(name.endswith("vbaProject.bin") for name in package.names()):
        draft.find("macros-ignored")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl warns of every extension it does not know
        workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        try:
            for number, sheet in enumerate(workbook.worksheets, 1):
                draft.page = number
                _sheet(sheet, package, draft)
        finally:
            workbook.close()
    draft.page = None
    for name in package.names():
        if re.match(r"xl/(?:comments|threadedComments)", name) and (said := texts(package.xml(name))):
            draft.hide("xlsx-comment", said)


def _sheet(sheet: Any, package: Package, draft: Draft) -> None:
    if sheet.sheet_state != "visible":
        shown = " ".join(
            cell for _, row in zip(range(20), _cells(sheet, frozenset(), None), strict=False) for cell in row
        )
        draft.hide("xlsx-hidden-sheet", f"{sheet.title}: {shown}")
        return
    # openpyxl's reading mode that does not fill the memory knows nothing of hidden rows and columns.
    source = package.read(str(getattr(sheet, "_worksheet_path", "")).lstrip("/"))
    columns, rows = _hidden_columns(source), _hidden_rows(source)
    draft.add("heading", sheet.title, level=1)
    lines = Rows(draft).lines(_visible(sheet, rows, columns, draft))
    draft.add("table", "\n".join(lines))


def _visible(sheet: Any, rows: frozenset[int], columns: frozenset[int], draft: Draft) -> Iterator[list[str]]:
    for number, cells in enumerate(_cells(sheet, columns, draft), 1):
        if number not in rows:
            yield cells
        elif any(cells):
            draft.hide("xlsx-hidden-row", " | ".join(cell for cell in cells if cell))


def _cells(sheet: Any, columns: frozenset[int], draft: Draft | None) -> Iterator[list[str]]:
    """The rows as text, without hidden columns; ends where only emptiness follows."""
    empty = 0
    most = draft.limits.max_columns + 1 if draft else 50
    for row in sheet.iter_rows(values_only=True, max_col=min(sheet.max_column or most, most)):
        cells = [_shown(value) for value in row]
        empty = 0 if any(cells) else empty + 1
        if empty > _FAR:
            return
        if draft and columns:
            for place in (p for p in columns if p <= len(cells) and cells[p - 1]):
                draft.hide("xlsx-hidden-column", cells[place - 1])
        yield [cell for place, cell in enumerate(cells, 1) if place not in columns]


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _number(attributes: bytes, name: bytes) -> int:
    match = re.search(rb"\b" + name + rb"\s*=\s*[\"'](\d{1,7})[\"']", attributes)
    return int(match[1]) if match else 0


def _hidden_rows(source: bytes) -> frozenset[int]:
    """The numbers of hidden rows. A row without a number follows the one before."""
    hidden: set[int] = set()
    last = 0
    for match in _ROW.finditer(source):
        last = _number(match[1], b"r") or last + 1
        if _HIDDEN.search(match[1]):
            hidden.add(last)
    return frozenset(hidden)


def _hidden_columns(source: bytes) -> frozenset[int]:
    hidden: set[int] = set()
    for match in _COLUMN.finditer(source[:1_000_000]):
        if _HIDDEN.search(match[1]):
            first, last = _number(match[1], b"min"), _number(match[1], b"max")
            hidden.update(range(first, min(last, column_index_from_string("XFD")) + 1))
    return frozenset(hidden)
