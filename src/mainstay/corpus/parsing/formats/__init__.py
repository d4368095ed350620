"""One module for each kind of file. A reader takes bytes and a draft, appends blocks, and raises Quarantined."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from mainstay.corpus.parsing import detect
from mainstay.corpus.parsing.draft import Draft

Reader = Callable[[bytes, Draft], None]

# By name and not by import: a process that reads only Markdown need not hold the libraries of every Office format.
_READERS = {
    detect.MARKDOWN: ("markdown", "read"),
    detect.PLAIN: ("plain", "read"),
    detect.HTML: ("web", "read"),
    detect.PDF: ("pdf", "read"),
    detect.DOCX: ("word", "read"),
    detect.PPTX: ("slides", "read"),
    detect.XLSX: ("sheets", "read"),
    detect.CSV: ("delimited", "read"),
    detect.JSON: ("records", "read"),
    detect.JSON_LINES: ("records", "read_lines"),
    detect.MAIL: ("mail", "read"),
}


def reader_of(media_type: str) -> Reader:
    """The reader for a media type from ``detect``."""
    module, name = _READERS[media_type]
    return cast("Reader", getattr(import_module(f"{__name__}.{module}"), name))
