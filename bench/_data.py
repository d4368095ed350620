"""What several benchmarks need: the folder of data sets, the sets themselves, embedders, the machine they run on.

Data sets are never part of this repository. ``MAINSTAY_DATA`` names their folder (default ``../shared/data``). What is costly to
make (weights, vectors) is kept under ``.bench``, which git ignores.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mainstay.errors import MainstayError
from mainstay.models.embedders import Embedder, EmbedderIdentity
from mainstay.models.embedders.minilm import MiniLmEmbedder
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.models.embedders.weights import add_minilm

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".bench"
DATA_VARIABLE = "MAINSTAY_DATA"
EMBEDDERS = ("static", "minilm")
CHUNKING_TEXTS = ("chatlogs", "finance", "pubmed", "state_of_the_union", "wikitexts")

T = TypeVar("T")


def say(text: str) -> None:
    """Progress, to standard error: standard output holds the result alone."""
    print(text, file=sys.stderr, flush=True)


def watched(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a line of progress every ten seconds."""
    shown = time.monotonic()
    for n, item in enumerate(items):
        if time.monotonic() - shown > 10:
            say(f"  {what}: {n} of {len(items)}")
            shown = time.monotonic()
        yield item


def data_folder(*needed: str) -> Path:
    """The folder of data sets. Ends the program with a clear line when it or one of the sets is not there."""
    folder = Path(os.environ.get(DATA_VARIABLE) or ROOT / ".." / "shared" / "data").resolve()
    missing = [name for name in needed if not (folder / name).is_dir()] if folder.is_dir() else list(needed)
    if missing or not folder.is_dir():
        what = f"no {', '.join(missing)} in" if folder.is_dir() else "there is no folder"
        sys.exit(f"{what} {folder}: this benchmark needs data sets; name their folder in {DATA_VARIABLE}")
    return folder


# --- data sets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Text:
    """One document of a data set."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question and the ids of the documents that answer it."""

    text: str
    wanted: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Documents, and questions about them. ``training`` questions are the only ones anything may be tuned on."""

    name: str
    texts: tuple[Text, ...]
    asked: tuple[Asked, ...]
    training: tuple[Asked, ...] = ()


def scifact(data: Path) -> Retrieval:
    folder = data / "scifact"
    texts = [Text(id=str(d["_id"]), title=d["title"], text=d["text"]) for d in _lines(folder / "corpus.jsonl")]
    splits = []
    for suffix in ("", "_train"):
        wanted: dict[str, set[str]] = {}
        for line in (folder / f"qrels{suffix}.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            query, document, _ = line.split("\t")
            wanted.setdefault(query, set()).add(document)
        queries = _lines(folder / f"queries{suffix}.jsonl")
        splits.append(
            tuple(
                Asked(text=q["text"], wanted=frozenset(wanted[str(q["_id"])]))
                for q in queries
                if str(q["_id"]) in wanted
            )
        )
    return Retrieval(name="scifact", texts=tuple(texts), asked=splits[0], training=splits[1])


def hotpotqa(data: Path) -> Retrieval:
    folder = data / "hotpotqa_subset"
    corpus = json.loads((folder / "hotpotqa_train_corpus.json").read_text(encoding="utf-8"))
    questions = json.loads((folder / "hotpotqa_train.json").read_text(encoding="utf-8"))
    return Retrieval(
        name="hotpotqa",
        texts=tuple(Text(id=title, title=title, text="".join(sentences)) for title, sentences in corpus.items()),
        asked=tuple(
            Asked(text=q["question"], wanted=frozenset(title for title, _ in q["supporting_facts"])) for q in questions
        ),
    )


def limit_small(data: Path) -> Retrieval:
    folder = data / "limit_small"
    wanted: dict[str, set[str]] = {}
    for row in _lines(folder / "qrels.jsonl"):
        wanted.setdefault(row["query-id"], set()).add(row["corpus-id"])
    return Retrieval(
        name="limit",
        texts=tuple(Text(id=d["_id"], title=d["title"], text=d["text"]) for d in _lines(folder / "corpus.jsonl")),
        asked=tuple(
            Asked(text=q["text"], wanted=frozenset(wanted[q["_id"]])) for q in _lines(folder / "queries.jsonl")
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Spans:
    """A question and the spans of one text that answer it, as characters of the text as it was published.

    ``fits`` marks the half of the questions that the extractive answerer was fitted on.
    """

    text: str
    document: str
    gold: tuple[tuple[int, int], ...]

    @property
    def fits(self) -> bool:
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 0


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """Five long texts and questions with the exact spans that answer them."""

    texts: tuple[Text, ...]
    asked: tuple[Spans, ...] = field(repr=False)


def chunking(data: Path) -> Chunking:
    folder = data / "chunking_evaluation"
    texts = []
    for name in CHUNKING_TEXTS:
        with (folder / "corpora" / f"{name}.md").open(encoding="utf-8", newline="") as file:
            texts.append(Text(id=name, title="", text=file.read()))
    with (folder / "questions_df.csv").open(encoding="utf-8", newline="") as file:
        asked = [
            Spans(
                text=row["question"],
                document=row["corpus_id"],
                gold=tuple((int(r["start_index"]), int(r["end_index"])) for r in json.loads(row["references"])),
            )
            for row in csv.DictReader(file)
        ]
    return Chunking(texts=tuple(texts), asked=tuple(asked))


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


# --- embedders -------------------------------------------------------------------------------------------------------


def embedder(name: str) -> Embedder | None:
    """A local embedder; None, with the reason said, when it cannot be had here."""
    if name == "static":
        return StaticEmbedder()
    try:
        made: Embedder = MiniLmEmbedder(add_minilm(KEPT / "minilm"))
    except MainstayError as error:
        say(f"{name}: not measured ({error})")
        return None
    return Remembered(made, KEPT / "vectors")


class Remembered:
    """An embedder that asks another one only for texts it has not seen. Its memory is a file named after the digest."""

    def __init__(self, inner: Embedder, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._inner = inner
        self._db = sqlite3.connect(folder / f"{inner.identity.digest[:16]}.db", timeout=60, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("create table if not exists vector (text blob primary key, e blob not null) without rowid")

    @property
    def identity(self) -> EmbedderIdentity:
        return self._inner.identity

    @property
    def weight(self) -> float:
        return self._inner.weight

    @property
    def related(self) -> float:
        return self._inner.related

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._embed(texts, self._inner.embed_passages, b"p")

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        row: npt.NDArray[np.float32] = self._embed([text], lambda some: self._inner.embed_query(some[0])[None], b"q")[0]
        return row

    def _embed(
        self, texts: Sequence[str], make: Callable[[Sequence[str]], npt.NDArray[np.float32]], kind: bytes
    ) -> npt.NDArray[np.float32]:
        rows = np.zeros((len(texts), self.identity.dims), np.float32)
        names = [hashlib.sha256(kind + text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
        unseen = []
        for at, name in enumerate(names):
            held = self._db.execute("select e from vector where text = ?", (name,)).fetchone()
            if held is None:
                unseen.append(at)
            else:
                rows[at] = np.frombuffer(held[0], "<f4")
        shown = time.monotonic()
        for start in range(0, len(unseen), 32):
            some = unseen[start : start + 32]
            rows[some] = make([texts[at] for at in some])
            kept = [(names[at], rows[at].astype("<f4").tobytes()) for at in some]
            with self._db:
                self._db.executemany("insert or replace into vector values (?, ?)", kept)
            if time.monotonic() - shown > 20:
                say(f"  embedding: {start + len(some)} of {len(unseen)}")
                shown = time.monotonic()
        return rows


# --- the machine -----------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"processor": processor(), "cores": os.cpu_count() or 0, "python": platform.python_version()}


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
