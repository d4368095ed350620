"""Tables of a page: one description makes the HTML and the CSV alike.

CSV follows RFC 4180 and is safe to open in a spreadsheet: a text that would be taken for a formula gets an apostrophe in
front (OWASP, CSV injection). Values stay machine-readable: times in ISO 8601, money in decimal dollars, durations in
milliseconds, shares of 1.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainstay.errors import NotFound
from mainstay.types import usd
from mainstay.web.console import words

Kind = Literal["text", "path", "code", "time", "duration", "money", "share", "count", "size", "score"]

_SHOW: Mapping[str, Callable[[Any], str | Markup]] = {
    "text": words.plain,
    "path": words.plain,
    "code": words.plain,
    "time": words.when,
    "duration": words.duration,
    "money": words.money,
    "share": words.share,
    "count": words.count,
    "size": words.size,
    "score": words.score,
}
_UNITS = {"duration": "ms", "money": "usd", "size": "bytes", "time": "utc"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, kw_only=True)
class Column:
    """``key`` names the value in a row and heads the CSV; ``head`` heads the page. ``sorted`` says which way it is sorted."""

    key: str
    head: str
    kind: Kind = "text"
    sorted: Literal["", "ascending", "descending"] = ""

    @property
    def numeric(self) -> bool:
        return self.kind in ("duration", "money", "share", "count", "size", "score")

    @property
    def csv_head(self) -> str:
        unit = _UNITS.get(self.kind)
        return f"{self.key}_{unit}" if unit and not self.key.endswith(f"_{unit}") else self.key


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value with more to it on the page: an address of ours to go to, a class for its look (``good``, ``bad``, ``soft``),
    a drawing that stands in its place, a note behind it."""

    value: Any
    href: str = ""
    look: str = ""
    figure: Markup | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """``rows`` map the keys of columns to values or Cells; what a row lacks reads as nothing. The first column heads its row.
    ``more`` is the address of the next page of rows; ``export`` says whether the CSV is offered."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    empty: str = "Nothing here yet."
    more: str = ""
    first: str = ""
    export: bool = True
    hide_caption: bool = False

    def cells(self, row: Mapping[str, Any]) -> Iterator[tuple[Column, Cell, Any]]:
        """Column, cell and what is shown of each value of a row, in order."""
        for column in self.columns:
            held = row.get(column.key)
            cell = held if isinstance(held, Cell) else Cell(value=held)
            shown = cell.figure if cell.figure is not None else _SHOW[column.kind](cell.value)
            yield column, cell, shown


def wants_csv(request: Request) -> bool:
    return request.query_params.get("format") == "csv"


def csv_of(request: Request, *tables: Table) -> Response:
    """The table that the address names (``table``), or the first one. Errors: NotFound for one that is not on the page."""
    wanted = request.query_params.get("table", tables[0].name)
    for table in tables:
        if table.name == wanted:
            return csv_answer(table.name, table.columns, table.rows)
    raise NotFound("there is no such table on this page")


def csv_answer(name: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Response:
    """Rows as a file to be saved, row by row as they come."""
    file = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "table"
    headers = {
        "Content-Disposition": f'attachment; filename="{file}.csv"',
        "Vary": "HX-Request, HX-Request-Type",
    }
    return StreamingResponse(
        _lines(columns, rows), media_type="text/csv; charset=utf-8; header=present", headers=headers
    )


def csv_text(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> str:
    """The same at once."""
    return b"".join(_lines(columns, rows)).decode()


def _lines(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    held = io.StringIO(newline="")
    writer = csv.writer(held, lineterminator="\r\n")
    writer.writerow([column.csv_head for column in columns])
    for row in rows:
        writer.writerow([_csv(column, row.get(column.key)) for column in columns])
        if held.tell() > 32_768:
            yield _taken(held)
    yield _taken(held)


def _taken(held: io.StringIO) -> bytes:
    text = held.getvalue()
    held.seek(0)
    held.truncate()
    return text.encode("utf-8", "replace")


def _csv(column: Column, value: Any) -> str:
    if isinstance(value, Cell):
        value = value.value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if column.kind == "money" and isinstance(value, int):
        return f"-{usd(-value)}" if value < 0 else usd(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value)
    return safe(str(value))


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
