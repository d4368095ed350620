"""The child process that reads files: bytes in by a pipe, a document as JSON out by another, nothing else.

Started by ``sandbox`` only. First frame in: the limits. First frame out: the guards in force. Then for each file two
frames in (its name, its bytes) and one out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import BinaryIO

from mainstay.corpus.parsing import wire
from mainstay.corpus.parsing.confinement import allow_cpu, confine
from mainstay.corpus.parsing.detect import BY_EXTENSION
from mainstay.corpus.parsing.document import Parsed, Quarantined
from mainstay.corpus.parsing.formats import reader_of
from mainstay.corpus.parsing.limits import MIB, ParseLimits
from mainstay.corpus.parsing.reading import read_document

Read = Callable[[bytes, str, ParseLimits], Parsed]
_MAX_HEAD = MIB


def serve(read: Read) -> None:
    """Answer until the parent closes the pipe."""
    source, sink = _take_pipes()
    limits = _limits(wire.from_bytes(wire.read_frame(source, _MAX_HEAD)))
    _preload()
    wire.write_frame(sink, wire.to_bytes({"guards": list(confine(limits))}))
    while True:
        try:
            name = wire.read_frame(source, _MAX_HEAD).decode("utf-8", "replace")
            data = wire.read_frame(source, limits.max_bytes)
        except EOFError:
            return
        allow_cpu(limits.cpu_s)
        wire.write_frame(sink, _answer(read, data, name, limits))


def _answer(read: Read, data: bytes, name: str, limits: ParseLimits) -> bytes:
    try:
        return wire.to_bytes({"parsed": wire.encode(read(data, name, limits))})
    except Quarantined as error:
        return wire.to_bytes({"quarantined": error.reason})
    except MemoryError:
        # Said as "spent", so that the parent starts a fresh child: this one's memory may be in pieces.
        mib = limits.memory_bytes // MIB
        return wire.to_bytes({"quarantined": f"reading it needs more than {mib} MiB of memory", "spent": True})


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Own the two pipes and point the usual streams nowhere: a library that prints must not break the frames."""
    source, sink = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for usual in (0, 1, 2):
        os.dup2(nowhere, usual)
    os.close(nowhere)
    return os.fdopen(source, "rb"), os.fdopen(sink, "wb")


def _limits(message: dict[str, object]) -> ParseLimits:
    known = {name: message[name] for name in ParseLimits.__dataclass_fields__ if name in message}
    return ParseLimits(**known)  # type: ignore[arg-type]  # the parent wrote them from the same class


def _preload() -> None:
    """Import every parser while files can still be opened; afterwards their places may be out of reach."""
    # openpyxl loads numpy when it finds it, only to know its numbers when writing: a third of the time to start.
    sys.modules["numpy"] = None  # type: ignore[assignment]  # Python's own way to say that a module is not there
    for media_type in dict.fromkeys(BY_EXTENSION.values()):
        reader_of(media_type)


if __name__ == "__main__":
    serve(read_document)
