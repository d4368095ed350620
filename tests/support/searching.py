"""A corpus in a database, searched by the embedded kernel and by PostgreSQL: what both must agree about."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mainstay.access.acl import Acl
from mainstay.access.ports import Account, Membership
from mainstay.access.scope import Gate
from mainstay.clock import FixedClock
from mainstay.corpus.following import IndexFollower
from mainstay.corpus.index import analyzer
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.models.embedders import EmbedderIdentity
from mainstay.retrieval.ports import Index
from mainstay.retrieval.search import Kernel
from mainstay.storage.access import AccessStore
from mainstay.storage.database import Address, open_database
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.postgres import PostgresDatabase
from mainstay.storage.postgres_index import K1, USUAL_LENGTH, B, PostgresIndex
from mainstay.storage.postgres_search import PostgresSearch
from mainstay.types import Actor, MetaValue, Scope
from tests.support.databases import server

DIMS = 24
MADE_BY = EmbedderIdentity(name="test", digest="0123456789abcdef" * 4, precision="fp32", dims=DIMS)
COMMON = "the of and to in for with on is by at from".split()
WORDS = [
    f"{a}{b}{c}"
    for a in ("bra", "cle", "dro", "fin", "gal", "hum")
    for b in ("ma", "ne", "ri", "to")
    for c in "klmnrst"
]
VALUES: tuple[MetaValue, ...] = ("HR", "hr", "Legal", "2023-02-03", 2022, 2022.5, 7, True, date(2023, 2, 3), ("hr", 7))
NOW = FixedClock().now()


@dataclass(eq=False)
class Service:
    """A PostgreSQL service with both ways to search it."""

    url: str
    database: PostgresDatabase
    documents: SqlDocuments
    index: PostgresIndex
    access: AccessStore
    texts: dict[int, str] = field(default_factory=dict)  # by chunk number
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    of: dict[int, str] = field(default_factory=dict)  # the document of a chunk
    _counts: dict[int, Counter[int]] = field(default_factory=dict)

    @classmethod
    def fresh(cls) -> Service:
        url = server().fresh()
        database = open_database(Address(url=url))
        assert isinstance(database, PostgresDatabase)
        index = PostgresIndex(database)
        return cls(
            url=url,
            database=database,
            documents=SqlDocuments(database, index=index),
            index=index,
            access=AccessStore(database, FixedClock()),
        )

    def close(self) -> None:
        self.database.close()
        server().drop(self.url)

    def put(self, documents: Sequence[Prepared]) -> None:
        """Keep documents, and note their chunks."""
        self.documents.put(documents, NOW)
        named = {prepared.doc_id: prepared for prepared in documents}
        with self.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT c.seq, c.text, d.doc_id FROM chunk AS c JOIN document AS d ON d.number = c.document"
            ).all()
        for seq, text, doc_id in rows:
            if doc_id in named:
                self.texts[seq], self.of[seq] = text, doc_id

    def embed(self, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """Keep vectors by chunk number."""
        seqs = sorted(vectors)
        for start in range(0, len(seqs), 500):
            some = seqs[start : start + 500]
            self.documents.put_vectors(MADE_BY, some, np.stack([vectors[seq] for seq in some]), NOW)
        self.vectors |= vectors

    def kernel(self) -> Index:
        return Kernel(index=IndexFollower(self.documents, MADE_BY, None).current())

    def search(self) -> PostgresSearch:
        return PostgresSearch(self.database, MADE_BY, patience=0.0)

    def scope(self, user: str) -> Scope:
        return Gate(self.access, self.access).scope(Actor(principal=f"user:{user}"))

    def seqs(self, scope: Scope) -> list[int]:
        """The chunks a scope may read, asked of the truth in another way: each document's class, one by one."""
        with self.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT c.seq, d.class_id FROM chunk AS c JOIN document AS d ON d.number = c.document ORDER BY c.seq"
            ).all()
        return [seq for seq, class_id in rows if class_id in scope.classes]

    def bm25(self, text: str, seqs: Sequence[int]) -> dict[int, float]:
        """Scores of these chunks with the statistics of all."""
        for seq in self.texts.keys() - self._counts.keys():
            self._counts[seq] = Counter(analyzer.keys(self.texts[seq]))
        counts = self._counts
        asked = Counter(analyzer.keys(text))
        having = {term: sum(term in held for held in counts.values()) for term in asked}
        scores: dict[int, float] = {}
        for seq in seqs:
            held, score = counts[seq], 0.0
            for term, times in asked.items():
                if held[term]:
                    rarity = math.log1p((len(counts) - having[term] + 0.5) / (having[term] + 0.5))
                    norm = K1 * (1 - B + B * sum(held.values()) / USUAL_LENGTH)
                    score += times * rarity * (K1 + 1) * held[term] / (held[term] + norm)
            if score:
                scores[seq] = score
        return scores


def prepared(
    name: str, texts: Sequence[str], acl: Acl, metadata: Mapping[str, MetaValue] | None = None, version: str = "1"
) -> Prepared:
    """A document with these chunks."""
    text, pieces = "", []
    for words in texts:
        start = len(text)
        text += words + "\n\n"
        pieces.append(
            Piece(
                chunk_id=f"chk_{name}_{version}_{start}",
                start=start,
                end=start + len(words),
                page=None,
                heading_path=(),
                section_start=0,
                section_end=0,
                prefix="",
                text=words,
            )
        )
    return Prepared(
        doc_id=f"doc_{name}",
        source="s",
        path=f"{name}.md",
        uri=f"file:///{name}.md",
        title=name,
        media_type="text/markdown",
        version=version,
        raw_digest=version,
        rule=AccessRule(origin=f"document:{name}", acl=acl),
        own_access=None,
        metadata=metadata or {},
        language="en",
        modified=None,
        size=len(text),
        recipe="1",
        text=text,
        pieces=tuple(pieces),
    )


def some_text(rng: random.Random) -> str:
    """Frequent words among rare ones."""
    rare = [WORDS[int(len(WORDS) * rng.random() ** 3)] for _ in range(rng.randint(3, 25))]
    every = rare + rng.choices(COMMON, k=rng.randint(2, 20))
    rng.shuffle(every)
    return " ".join(every)


def some_vector(rng: np.random.Generator, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    made = centres[rng.integers(len(centres))] + 0.4 * rng.standard_normal(DIMS)
    return np.asarray(made / np.linalg.norm(made), np.float32)


def some_acl(rng: random.Random) -> Acl:
    everybody = ["public", *(f"user:u{n}" for n in range(6)), *(f"group:g{n}" for n in range(8))]
    denied = rng.sample(everybody[1:], rng.randint(1, 2)) if rng.random() < 0.3 else []
    return Acl(tuple(sorted(rng.sample(everybody, rng.randint(0, 3)))), tuple(sorted(denied)))


def some_world(service: Service, seed: int, documents: int) -> list[str]:
    """People in nested groups, documents with random rules, metadata and vectors (some without); returns the users."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    users = [f"u{n}" for n in range(6)]
    for user in users:
        service.access.add_account(Account(principal=f"user:{user}", display="", email="", created=NOW))
    for n in range(8):
        service.access.add_account(Account(principal=f"group:g{n}", display="", email="", created=NOW))
        for member in rng.sample([*(f"user:{u}" for u in users), *(f"group:g{m}" for m in range(8) if m != n)], 2):
            service.access.add_membership(Membership(group=f"group:g{n}", member=member, source="local", since=NOW))
    made = []
    for n in range(documents):
        texts = [some_text(rng) for _ in range(rng.randint(1, 6))]
        metadata = {key: rng.choice(VALUES) for key in ("team", "year", "day") if rng.random() < 0.7}
        made.append(prepared(str(n), texts, some_acl(rng), metadata))
    service.put(made)
    centres = numbers.standard_normal((6, DIMS)).astype(np.float32)
    service.embed({seq: some_vector(numbers, centres) for seq in service.texts if rng.random() < 0.95})
    return users
