"""Files of arrays: written once, checked by size and CRC-32, then memory-mapped.

One file is a magic line, a JSON header that names its arrays, and the arrays, each on a 64-byte boundary. The manifest
names the files that make up a state; it is replaced atomically and only after everything it names is on disk, so a kill
at any moment leaves the state before or the state after.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
_MAGIC: Final = b"mainstay index 1\n"
_ALIGN: Final = 64
_BUFFER: Final = 1 << 20


class DamagedError(Exception):
    """A file is not what the manifest says: the index is rebuilt from the truth (never seen outside this folder)."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file as the manifest knows it."""

    name: str
    size: int
    crc: int


def write(
    folder: Path, kind: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None = None
) -> Stored:
    """A new file with these arrays. It is not yet forced to disk: see ``sync``."""
    name = f"{kind}-{secrets.token_hex(8)}.bin"
    whole = {label: np.ascontiguousarray(values) for label, values in arrays.items()}
    header = _header(whole, facts or {})
    crc = size = 0
    with (folder / name).open("xb") as file:
        # Bytes are viewed, never copied: an array may be most of the memory there is.
        for piece in (memoryview(header), *(v.reshape(-1).view(np.uint8).data for v in whole.values())):
            for part in (piece, bytes(-len(piece) % _ALIGN)):
                file.write(part)
                crc, size = zlib.crc32(part, crc), size + len(part)
    return Stored(name=name, size=size, crc=crc)


def _header(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bytes:
    listed = {label: [values.dtype.str, list(values.shape)] for label, values in arrays.items()}
    body = json.dumps({"arrays": listed, "facts": facts}).encode()
    return _MAGIC + len(body).to_bytes(8, "little") + body


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A file's arrays, mapped and read-only, where in the file each begins, and its facts."""

    arrays: dict[str, NDArray[Any]]
    offsets: dict[str, int]
    facts: dict[str, Any]


class Handle:
    """An open file to read single pieces of, without mapping any page of it."""

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def pieces(self, offsets: list[int], sizes: list[int]) -> bytes:
        """The pieces at these places, one after the other."""
        return b"".join(map(os.pread, repeat(self._descriptor), sizes, offsets))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def read(folder: Path, stored: Stored) -> Opened:
    """The contents of a file. Call ``check`` first."""
    with (folder / stored.name).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = len(_MAGIC) + 8
    if mapped[: len(_MAGIC)] != _MAGIC:
        raise DamagedError(stored.name)
    end = start + int.from_bytes(mapped[len(_MAGIC) : start], "little")
    header = json.loads(mapped[start:end])
    arrays: dict[str, NDArray[Any]] = {}
    offsets: dict[str, int] = {}
    for label, (kind, shape) in header["arrays"].items():
        end += -end % _ALIGN
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(mapped, np.dtype(kind), count, end) if count else np.empty(0, np.dtype(kind))
        arrays[label], offsets[label] = flat.reshape(shape), end
        end += flat.nbytes
    return Opened(arrays=arrays, offsets=offsets, facts=header["facts"])


def check(folder: Path, stored: Stored) -> None:
    """The file has the size and the CRC it was written with, or ``DamagedError``. Reads without mapping it."""
    crc = size = 0
    buffer = memoryview(bytearray(_BUFFER))
    with (folder / stored.name).open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            crc, size = zlib.crc32(buffer[:n], crc), size + n
    if (size, crc) != (stored.size, stored.crc):
        raise DamagedError(stored.name)


def sync(path: Path) -> None:
    """Forces a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Makes this the state of the folder, durably."""
    body = json.dumps(content, sort_keys=True)
    draft = folder / f"{MANIFEST}.{secrets.token_hex(4)}.new"
    draft.write_text(f"{zlib.crc32(body.encode()):08x} {body}\n", encoding="utf-8")
    sync(draft)
    draft.replace(folder / MANIFEST)
    sync(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The state of the folder, or ``DamagedError``."""
    crc, _, body = (folder / MANIFEST).read_text(encoding="utf-8").removesuffix("\n").partition(" ")
    if f"{zlib.crc32(body.encode()):08x}" != crc:
        raise DamagedError(MANIFEST)
    content = json.loads(body)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedError(MANIFEST)
    return content


def sweep(folder: Path, keep: set[str]) -> None:
    """Removes what no manifest names: files of states that were replaced, or never finished."""
    for path in folder.iterdir():
        ours = path.suffix in {".bin", ".new"} and path.name.startswith(("segment-", "vectors-", "state-", MANIFEST))
        if ours and path.name not in keep:
            path.unlink(missing_ok=True)
