"""Server-sent events, read strictly.

Bytes in, frames out. Lines and frames are bounded; a line that is no field of the format, bytes that are not UTF-8 and
an end in the middle of a line are told apart from a clean end. Work is linear in the bytes, however small the pieces
are.

Format: WHATWG HTML, section 9.2 "Server-sent events".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FIELDS = frozenset({"data", "event", "id", "retry"})
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Garbage(Exception):
    """The bytes are no server-sent events; the text says why and holds nothing of them."""


class Unfinished(Exception):
    """The bytes end in the middle of a line."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One event."""

    data: str
    event: str = ""


def frames(chunks: Iterable[bytes], *, max_line: int) -> Iterator[Frame]:
    """Frames as they complete. A last frame whose blank line is missing still counts when its own line is whole."""
    data: list[str] = []
    event = ""
    size = 0
    for line in _lines(chunks, max_line):
        if not line:
            if data:
                yield Frame(data="\n".join(data), event=event)
            data, event, size = [], "", 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            continue
        if name not in FIELDS:
            raise Garbage("a line that is no field of an event stream")
        if name == "event":
            event = value
        elif name == "data":
            size += len(value)
            if size > max_line:
                raise Garbage(f"an event longer than {max_line} bytes")
            data.append(value)
    if data:
        yield Frame(data="\n".join(data), event=event)


def _lines(chunks: Iterable[bytes], max_line: int) -> Iterator[str]:
    """Lines without their ends. The end of the last one may be missing only if it is the end frame's."""
    pieces: list[bytes] = []
    held = 0
    first, after_return = True, False
    for chunk in chunks:
        if after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            after_return = False
        if chunk:
            after_return = chunk.endswith(b"\r")
        *whole, rest = _LINE_END.split(chunk)
        for part in whole:
            line = b"".join([*pieces, part])
            pieces, held = [], 0
            if first:
                line, first = line.removeprefix(_BOM), False
            yield _text(line, max_line)
        if rest:
            pieces.append(rest)
            held += len(rest)
            if held > max_line:
                raise Garbage(f"a line longer than {max_line} bytes")
    if pieces:
        line = b"".join(pieces)
        if line.replace(b" ", b"") != b"data:[DONE]":
            raise Unfinished
        yield line.decode()


def _text(line: bytes, max_line: int) -> str:
    if len(line) > max_line:
        raise Garbage(f"a line longer than {max_line} bytes")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise Garbage("bytes that are not UTF-8") from None
