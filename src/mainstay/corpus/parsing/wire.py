"""A ``Parsed`` as bytes between the child that reads files and the parent that trusts nothing it says.

JSON and not pickle: loading a pickle runs code, and the child may have been taken over by the file it read. Decoding
checks every type, every offset and that the text is as clean as promised.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from typing import BinaryIO

from mainstay.corpus.parsing.document import BLOCK_KINDS, Block, Finding, Parsed
from mainstay.corpus.parsing.limits import MIB, ParseLimits
from mainstay.guard.hidden_text import Hidden, clean
from mainstay.types import MetaValue

_DATE = "$date"
_LENGTH = struct.Struct(">Q")
_MAX_DEPTH, _MAX_STRING, _MAX_ENTRIES = 30, 50_000, 5_000


class BadReply(ValueError):
    """What came is not a document as promised."""


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write a payload behind its length."""
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO, most: int) -> bytes:
    """Read one payload. Raises EOFError when the other side is gone, BadReply when it says more than ``most`` bytes."""
    length = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    if length > most:
        raise BadReply(f"a reply of {length} bytes, more than {most}")
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def most_reply_bytes(limits: ParseLimits) -> int:
    """No honest reply is larger."""
    return 16 * MIB + 6 * limits.max_text_chars + 64 * limits.max_blocks


def encode(parsed: Parsed) -> dict[str, object]:
    """The document as JSON values."""
    return {
        "media_type": parsed.media_type,
        "title": parsed.title,
        "text": parsed.text,
        "blocks": [[BLOCK_KINDS.index(b.kind), b.start, b.end, b.level, b.page] for b in parsed.blocks],
        "pages": parsed.pages,
        "metadata": {key: _plain(value) for key, value in parsed.metadata.items()},
        "front_matter": _plain(parsed.front_matter),
        "hidden": [[h.kind, h.count, h.sample] for h in parsed.hidden],
        "findings": [[f.kind, f.detail] for f in parsed.findings],
        "language": parsed.language,
    }


def to_bytes(message: Mapping[str, object]) -> bytes:
    """JSON as UTF-8; lone surrogates, which UTF-8 cannot hold, become question marks."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def from_bytes(payload: bytes) -> dict[str, object]:
    """A JSON object. Raises BadReply for anything else."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadReply("not an object")
    return message


def _plain(value: object, depth: int = 0) -> object:
    """The value as JSON can say it; dates are marked, whatever else is written out as text."""
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def decode(message: Mapping[str, object], limits: ParseLimits) -> Parsed:
    """The document, checked. Raises BadReply."""
    text = _string(message.get("text"), limits.max_text_chars)
    if not unicodedata.is_normalized("NFC", text) or clean(text)[1] or "\r" in text:
        raise BadReply("the text is not clean")
    front = message.get("front_matter")
    metadata = message.get("metadata")
    if not isinstance(front, dict) or not isinstance(metadata, dict):
        raise BadReply("metadata of the wrong type")
    return Parsed(
        media_type=_string(message.get("media_type")),
        title=_string(message.get("title")),
        text=text,
        blocks=_blocks(message.get("blocks"), text, limits),
        pages=_pages(message.get("pages"), len(text)),
        metadata={_string(key): _meta(value) for key, value in metadata.items()},
        front_matter={_string(key): _dated(value) for key, value in front.items()},
        hidden=tuple(Hidden(_string(k), _count(n), _string(s)) for k, n, s in _rows(message.get("hidden"), 3)),
        findings=tuple(Finding(_string(k), _string(d)) for k, d in _rows(message.get("findings"), 2)),
        language=_string(message.get("language")),
    )


def _string(value: object, most: int = _MAX_STRING) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise BadReply("a text of the wrong type or length")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise BadReply("a number of the wrong type")
    return value


def _rows(value: object, width: int, most: int = _MAX_ENTRIES) -> list[list[object]]:
    if not isinstance(value, list) or len(value) > most:
        raise BadReply("a list of the wrong type or length")
    if any(not isinstance(row, list) or len(row) != width for row in value):
        raise BadReply("an entry of the wrong shape")
    return value


def _blocks(value: object, text: str, limits: ParseLimits) -> tuple[Block, ...]:
    blocks = []
    last = 0
    for kind, start, end, level, page in _rows(value, 5, limits.max_blocks):
        first, stop = _count(start), _count(end)
        if not last <= first < stop <= len(text) or text[last:first].strip() or _count(kind) >= len(BLOCK_KINDS):
            raise BadReply("blocks that overlap, leave text out or lie outside of it")
        number = None if page is None else _count(page)
        blocks.append(Block(BLOCK_KINDS[_count(kind)], first, stop, min(6, _count(level)), number))
        last = stop
    if text[last:].strip():
        raise BadReply("text outside of every block")
    return tuple(blocks)


def _pages(value: object, length: int) -> tuple[tuple[int, int, int], ...]:
    pages = [(_count(page), _count(start), _count(end)) for page, start, end in _rows(value, 3, 1_000_000)]
    if any(not start <= end <= length for _, start, end in pages):
        raise BadReply("pages outside of the text")
    return tuple(pages)


def _meta(value: object) -> MetaValue:
    value = _dated(value)
    if isinstance(value, list):
        return tuple(_scalar(item) for item in value[:_MAX_ENTRIES])
    return _scalar(value)


def _scalar(value: object) -> str | int | float | bool | date:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool | int | float | date):
        return value
    raise BadReply("a metadata value of the wrong type")


def _dated(value: object) -> object:
    """Marked dates as dates, at any depth; the decoder has bounded the depth."""
    if isinstance(value, list):
        return [_dated(item) for item in value]
    if not isinstance(value, dict):
        return value
    written = value.get(_DATE)
    if len(value) == 1 and isinstance(written, str):
        try:
            return date.fromisoformat(written)
        except ValueError:
            return dict(value)
    return {key: _dated(item) for key, item in value.items()}
