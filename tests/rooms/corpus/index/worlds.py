"""Random worlds: documents that come, go, move between ACL classes and get vectors late; and what is true of them."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import Change, PutDocument, RemoveDocument, Row, SearchIndex, SetClass, SetVectors
from mainstay.corpus.index.analyzer import tokens
from mainstay.types import Filter, MetaValue, Scope

DIMS = 24
FINGERPRINT = "test"
WORDS = [
    *["the", "of", "and", "policy", "policies", "travel", "cost", "budget", "leave"],
    *(f"word{i}" for i in range(25)),
    "INV-2023/004",
]
VALUES: dict[str, list[MetaValue]] = {
    "team": ["HR", "hr", "Legal", ("HR", "Legal")],
    "year": [2021, 2022, 2023.0, "2023"],
    "day": [date(2023, 1, 1), date(2024, 6, 30), "2023-01-01"],
    "open": [True, False, 1],
}


@dataclass
class Chunk:
    seq: int
    text: str
    vector: NDArray[np.float32] | None


@dataclass
class Document:
    class_id: int
    metadata: dict[str, MetaValue]
    chunks: list[Chunk]


@dataclass
class World:
    """The truth, and the changes that led to it, in lots as they were applied."""

    documents: dict[int, Document] = field(default_factory=dict)
    lots: list[list[Change]] = field(default_factory=list)


def scope(*classes: int) -> Scope:
    return Scope(principals=frozenset(), classes=frozenset(classes))


def some_text(rng: random.Random, longest: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(0, longest)))


def some_vector(rng: random.Random, likely: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A unit vector; often one that is already there, so that scores tie."""
    if likely and rng.random() < 0.3:
        return rng.choice(likely)
    raw = np.array([rng.gauss(0, 1) for _ in range(DIMS)])
    vector = np.zeros(DIMS, np.float32) if rng.random() < 0.03 else (raw / np.linalg.norm(raw)).astype(np.float32)
    likely.append(vector)
    return vector


def make(
    rng: random.Random, *, steps: int = 40, documents: int = 16, classes: int = 4, longest: int = 12, lots: float = 0.4
) -> World:
    """A world after some random steps."""
    world, vectors, seq, lot = World(), list[NDArray[np.float32]](), 0, list[Change]()
    for _ in range(steps):
        number = rng.randrange(documents)
        known = world.documents.get(number)
        what = rng.random()
        if known is None or what < 0.45:
            chunks = []
            for _ in range(rng.randrange(0, 5)):
                seq += rng.randrange(1, 4)
                vector = some_vector(rng, vectors) if rng.random() < 0.8 else None
                chunks.append(Chunk(seq=seq, text=some_text(rng, longest), vector=vector))
            metadata = {key: rng.choice(held) for key, held in VALUES.items() if rng.random() < 0.6}
            new = Document(class_id=rng.randrange(classes), metadata=metadata, chunks=chunks)
            world.documents[number] = new
            lot.append(put(number, new))
        elif what < 0.6:
            del world.documents[number]
            lot.append(RemoveDocument(document=number))
        elif what < 0.8:
            known.class_id = rng.randrange(classes)
            lot.append(SetClass(document=number, class_id=known.class_id))
        elif known.chunks:
            late = rng.sample(known.chunks, rng.randrange(1, len(known.chunks) + 1))
            for chunk in late:
                chunk.vector = some_vector(rng, vectors)
            rows = np.array([chunk.vector for chunk in late])
            lot.append(SetVectors(seqs=[chunk.seq for chunk in late], vectors=rows))
        if rng.random() < lots:
            world.lots.append(lot)
            lot = []
    world.lots.append(lot)
    return world


def put(number: int, document: Document) -> PutDocument:
    rows = [Row(seq=chunk.seq, text=chunk.text, vector=chunk.vector) for chunk in document.chunks]
    return PutDocument(document=number, class_id=document.class_id, metadata=dict(document.metadata), rows=rows)


def fill(index: SearchIndex, world: World) -> SearchIndex:
    for lot in world.lots:
        index.apply(lot, applied=index.applied + 1)
    return index


def visible(world: World, classes: frozenset[int]) -> dict[int, Document]:
    return {number: held for number, held in world.documents.items() if held.class_id in classes}


def twin(world: World, classes: frozenset[int], rng: random.Random) -> tuple[World, dict[int, int]]:
    """The world in which nothing but the visible documents ever was, numbered without gaps; and old seq -> new seq."""
    seen = visible(world, classes)
    renumbered = {seq: n for n, seq in enumerate(sorted(c.seq for held in seen.values() for c in held.chunks), 1)}
    out = World()
    for number, held in rng.sample(sorted(seen.items()), len(seen)):
        chunks = [Chunk(seq=renumbered[c.seq], text=c.text, vector=c.vector) for c in held.chunks]
        out.documents[number] = Document(class_id=held.class_id, metadata=held.metadata, chunks=chunks)
        if not out.lots or rng.random() < 0.3:
            out.lots.append([])
        out.lots[-1].append(put(number, out.documents[number]))
    return out, renumbered


def bm25(world: World, classes: frozenset[int], text: str, k1: float = 0.9, b: float = 0.4) -> dict[int, float]:
    """BM25 as written in the books, over the scope's rows alone."""
    rows = {c.seq: Counter(tokens(c.text)) for held in visible(world, classes).values() for c in held.chunks}
    mean = sum(sum(row.values()) for row in rows.values()) / max(len(rows), 1)
    scores: dict[int, float] = {}
    for term, asked in Counter(tokens(text)).items():
        having = sum(term in row for row in rows.values())
        rarity = math.log(1 + (len(rows) - having + 0.5) / (having + 0.5))
        for seq, row in rows.items():
            if row[term]:
                norm = k1 * (1 - b + b * sum(row.values()) / mean)
                scores[seq] = scores.get(seq, 0.0) + asked * rarity * row[term] * (k1 + 1) / (row[term] + norm)
    return scores


def dots(world: World, classes: frozenset[int], vector: NDArray[np.float32]) -> dict[int, float]:
    """Dot products in float64."""
    wide = vector.astype(np.float64)
    return {
        c.seq: float(sum(c.vector.astype(np.float64) * wide))
        for held in visible(world, classes).values()
        for c in held.chunks
        if c.vector is not None
    }


def some_filter(rng: random.Random) -> Filter:
    key = rng.choice([*VALUES, "nothing"])
    if rng.random() < 0.6:
        return Filter(key=key, any_of=tuple(rng.sample(["hr", "LEGAL", 2023, 2022.0, True, date(2023, 1, 1), "x"], 2)))
    bounds: list[tuple[Any, Any]] = [
        (2022, None),
        (None, 2022.5),
        (date(2023, 1, 1), date(2023, 12, 31)),
        ("a", "i"),
        ("2023-01-01", None),
        (2021, "z"),
    ]
    least, most = rng.choice(bounds)
    return Filter(key=key, at_least=least, at_most=most)


def bits(
    index: SearchIndex, asked: Scope, text: str, vector: NDArray[np.float32], filters: list[Filter], k: int
) -> list[Any]:
    """Everything a reader can get to see, with scores as bytes."""
    permitted = index.permitted(asked, filters)
    words, meaning = index.lexical(text, permitted, k), index.dense(vector, permitted, k)
    both = np.union1d(words.seqs, meaning.seqs)
    return [
        permitted.count,
        permitted.scope_count,
        permitted.without_vector,
        permitted.seqs().tolist(),
        words.seqs.tolist(),
        words.scores.tobytes(),
        meaning.seqs.tolist(),
        meaning.scores.tobytes(),
        index.lexical_scores(both, text, permitted).tobytes(),
        index.dense_scores(both, vector, permitted).tobytes(),
        index.metadata_keys(asked),
        [list(index.metadata_values(asked, key).items()) for key in VALUES],
    ]
