"""CSV and its kin: each record is a line that stands on its own."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.plain import decode, read_text
from mainstay.corpus.parsing.formats.rows import Rows

_DELIMITERS = (",", ";", "\t", "|")
_MAX_FIELD = 1_000_000
_LOOKED_AT = 60


def read(data: bytes, draft: Draft) -> None:
    """Read a CSV or TSV file; what turns out to have no columns is read as plain text."""
    text = decode(data, draft).replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    delimiter = _delimiter(text)
    if not delimiter:
        read_text(text, draft)
        return
    draft.add("table", "\n".join(Rows(draft).lines(_records(text, delimiter, draft))))


def _records(text: str, delimiter: str, draft: Draft) -> Iterator[list[str]]:
    # An odd number of quotes means one is never closed and would swallow the rest of the file as a single field.
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    if text.count('"') % 2:
        draft.find("unbalanced-quote", "quotes are read as ordinary characters")
        quoting = csv.QUOTE_NONE
    before = csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting, skipinitialspace=True)
    try:
        yield from reader
    except csv.Error as error:
        draft.find("truncated", f"line {reader.line_num}: {error}")
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str) -> str:
    """The delimiter that stands most evenly in the first lines, outside quotes; empty when none does."""
    lines = [line for line in text[:200_000].split("\n")[:_LOOKED_AT] if line.strip()]
    best, best_score = "", 0.0
    for delimiter in _DELIMITERS:
        counts = Counter(_outside_quotes(line).count(delimiter) for line in lines)
        counts.pop(0, None)
        if counts:
            usual, times = max(counts.items(), key=lambda item: (item[1], item[0]))
            score = times / len(lines) + 0.001 * min(usual, 50)
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])
