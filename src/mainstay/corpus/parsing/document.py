"""The nouns of parsing: a document's text, its parts, and what was odd about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mainstay.errors import MainstayError
from mainstay.guard.hidden_text import Hidden
from mainstay.types import MetaValue

BlockKind = Literal["heading", "paragraph", "list", "table", "code", "quote"]
BLOCK_KINDS: tuple[BlockKind, ...] = get_args(BlockKind)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the text: ``text[start:end]``, offsets in characters.

    ``level`` is 1 to 6 for headings and 0 otherwise; ``page`` counts from 1 and is None where a format has no pages.
    Tables have one row a line, cells parted by `` | ``; lists one item a line, begun by ``- `` or ``1. ``.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a curator should know about a file that was read all the same."""

    kind: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A document as its reader would see it.

    ``text`` is NFC, with ``\\n`` as line end and without hidden characters. ``blocks`` are ordered, disjoint, without
    outer white space, and hold everything in ``text`` that is not white space. ``pages`` are (page, start, end).
    ``metadata`` has lower-case keys and typed values; ``front_matter`` is what the author wrote on top of a Markdown
    file, unchanged. ``language`` is an ISO 639-1 code, or empty when there is too little text to tell.
    """

    media_type: str
    title: str
    text: str
    blocks: tuple[Block, ...]
    pages: tuple[tuple[int, int, int], ...] = ()
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    front_matter: Mapping[str, object] = field(default_factory=dict)
    hidden: tuple[Hidden, ...] = ()
    findings: tuple[Finding, ...] = ()
    language: str = ""


class Quarantined(MainstayError):
    """The file was not read and must not be indexed; ``reason`` is one line for the curator."""

    exit_code = 1
    http_status = 422

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.reason = " ".join(reason.split())[:500]
        super().__init__(self.reason, where=where)
