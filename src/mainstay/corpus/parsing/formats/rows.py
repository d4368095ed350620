"""Rows of tables as lines that stand on their own: ``Header: value | Header: value``.

A row is what a question is about, and it must be understood without the head of the table being near.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from mainstay.corpus.parsing.draft import Draft, one_line

_NUMBER = re.compile(r"[-+]?[\d.,%€$£\s:/-]+")


class Rows:
    """Turns rows of cells into lines, within the limits of rows and columns."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._head: list[str] | None = None

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """A line for each row that holds anything; the first such row is the head when it looks like one."""
        count = 0
        for row in rows:
            cells = [one_line(cell) for cell in row[: self.draft.limits.max_columns]]
            if len(row) > self.draft.limits.max_columns:
                self.draft.find("truncated", f"more than {self.draft.limits.max_columns} columns")
            if not any(cells):
                continue
            if self._head is None:
                self._head = cells if _looks_like_head(cells) else []
                if self._head:
                    continue
            count += 1
            if count > self.draft.limits.max_rows:
                self.draft.find("truncated", f"more than {self.draft.limits.max_rows} rows")
                return
            yield self._line(cells)
        if count == 0 and self._head:
            yield " | ".join(cell for cell in self._head if cell)

    def _line(self, cells: list[str]) -> str:
        head = self._head or []
        named = ((head[i] if i < len(head) else "", cell) for i, cell in enumerate(cells) if cell)
        return " | ".join(f"{name}: {cell}" if name else cell for name, cell in named)


def _looks_like_head(cells: list[str]) -> bool:
    """Two or more different short names, none of them a number."""
    named = [cell for cell in cells if cell]
    if len(named) < 2 or len(set(named)) < len(named):
        return False
    return all(len(cell) <= 80 and not _NUMBER.fullmatch(cell) for cell in named)
