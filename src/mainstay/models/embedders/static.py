"""The static embedder: one learnt vector per word piece, added up. Always there, needs numpy only.

Owns the reading of its three files and the sum. `static.npy` holds a row of int8 per entry of `static.txt`, `static.json`
the scale of each dimension and the digests of the other two files. `scripts/distil_static.py` makes them from MiniLM.

The rule that decides the arithmetic: sums of int8 rows are taken in exact numbers (integers below 2**24 are exact in
float32), so neither order nor neighbours nor the number of threads can move a bit of the result.

Source of the idea: Reimers and Gurevych, "Sentence-BERT" (arXiv 1908.10084) for the vectors that are imitated; Bommasani
et al., "Interpreting Pretrained Contextualized Representations via Reductions to Static Embeddings" (ACL 2020); Arora et
al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings" (ICLR 2017).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid, Unavailable
from mainstay.models.embedders import EmbedderIdentity
from mainstay.models.embedders.wordpiece import WordPiece

__all__ = ["StaticEmbedder"]

Floats = npt.NDArray[np.float32]

_EXACT_TOKENS = 65_536
"""Rows added in one go: 127 * 65,536 is below 2**24, so float32 holds every partial sum exactly."""


@dataclass(frozen=True, kw_only=True)
class _Tables:
    identity: EmbedderIdentity
    wordpiece: WordPiece
    rows: npt.NDArray[np.int8]  # (entries, dims), mapped from the file
    scale: Floats  # (dims,)


class StaticEmbedder:
    """Unit vectors from the sum of the word vectors of a text; thousands of texts a second on one processor.

    `folder` holds `static.npy`, `static.txt` and `static.json` (default: the ones shipped with the package). The files
    are read on first use and the vectors stay on disk, mapped. Raises `Unavailable` when a file is missing and `Invalid`
    when a file does not match its digest.
    """

    weight = 0.7  # docs/benchmarks.md: SciFact training queries
    related = 0.452  # scripts/fit_abstention.py

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(__file__).parent if folder is None else folder

    @property
    def identity(self) -> EmbedderIdentity:
        """Name, digest of all three files, "int8", dimensions."""
        return self._tables.identity

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dims) unit rows; a text without a known token gives zeros. Long texts count in full."""
        tables = self._tables
        sums = np.zeros((len(texts), tables.identity.dims), dtype=np.float32)
        for row, text in zip(sums, texts, strict=True):
            _add_up(tables.rows, tables.wordpiece.ids(text), row)
        return _to_unit_length(sums * tables.scale)

    def embed_query(self, text: str) -> Floats:
        """(dims,) unit vector; queries and passages are treated alike."""
        row: Floats = self.embed_passages([text])[0]
        return row

    @cached_property
    def _tables(self) -> _Tables:
        return _load(self._folder)


def _add_up(rows: npt.NDArray[np.int8], ids: list[int], out: Floats) -> None:
    """Add the int8 rows of `ids` to `out`, exactly while a text has fewer than 130,000 tokens."""
    for start in range(0, len(ids), _EXACT_TOKENS):
        block = rows[ids[start : start + _EXACT_TOKENS]].astype(np.float32)
        out += np.ones(len(block), dtype=np.float32) @ block


def _to_unit_length(vectors: Floats) -> Floats:
    """Divide each row by its length; rows of zeros stay."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def _load(folder: Path) -> _Tables:
    matrix, entries, about = (folder / f"static.{kind}" for kind in ("npy", "txt", "json"))
    for path in (matrix, entries, about):
        if not path.is_file():
            raise Unavailable("a file of the static embedder is missing", where=str(path), fix="reinstall mainstay")
    facts = json.loads(about.read_bytes())
    if (_sha256(matrix), _sha256(entries)) != (facts["npy_sha256"], facts["txt_sha256"]):
        raise Invalid("the files of the static embedder do not match", where=str(folder), fix="reinstall mainstay")
    rows = np.asarray(np.load(matrix, mmap_mode="r", allow_pickle=False))
    digest = hashlib.sha256(about.read_bytes()).hexdigest()
    return _Tables(
        identity=EmbedderIdentity(name=facts["name"], digest=digest, precision="int8", dims=rows.shape[1]),
        wordpiece=_read_entries(entries),
        rows=rows,
        scale=np.array(facts["scale"], dtype=np.float32),
    )


def _read_entries(path: Path) -> WordPiece:
    """One word piece per line, its row is the line number. Row 0 stands for what is unknown and holds zeros."""
    pieces = path.read_text("utf-8").split("\n")[:-1]
    return WordPiece({piece: i for i, piece in enumerate(pieces)}, unknown=0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
