"""Nothing an asker gets depends on documents the asker may not read: bytes are equal with and without them.

Random worlds of people, nested groups, allow and deny rules, documents that share words, years and numbers. Each world is built
twice, once with everything and once without what the asker may not read, and asked the same things.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mainstay.access.acl import Acl
from mainstay.access.directory import ANONYMOUS
from mainstay.agreement import Agreement
from mainstay.app import App
from mainstay.cli.common import plain
from mainstay.clock import FixedClock
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.corpus.sources import origin_of
from mainstay.errors import MainstayError
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.records.traces import visible_trace
from mainstay.settings import ServiceFile, Settings
from mainstay.types import Actor, Filter, Question

SEED = 20261121
WORDS = (
    "budget travel crane invoice audit salary harbour customs reefer ticket contract liability pallet deposit camera gate "
    "inspection forklift supplier penalty insurance overtime apprentice terminal container allowance receipt approval"
).split()
NAMES = ["Northquay", "Vinterhavn", "Osprey", "Frostline", "Velo", "Rotterdam", "Hamburg", "Genoa"]
DEPARTMENTS = ("finance", "people", "legal")
PRINCIPALS = ("public", "user:alice", "user:bob", "group:a", "group:b", "group:c", "group:d")
START = datetime(2026, 1, 1, tzinfo=UTC)
STATIC = StaticEmbedder()


@dataclass(frozen=True)
class World:
    members: tuple[tuple[str, str], ...]
    documents: tuple[Prepared, ...]
    questions: tuple[Question, ...]


def sentence(rng: random.Random) -> str:
    words = rng.sample(WORDS, rng.randint(4, 8))
    name, number = rng.choice(NAMES), rng.randint(2, 900)
    return f"The {words[0]} {words[1]} of {name} is {number} euros for each {words[2]} and {' '.join(words[3:])}."


def document(rng: random.Random, n: int) -> Prepared:
    text = "\n\n".join(" ".join(sentence(rng) for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 3)))
    if rng.random() < 0.2:
        text = "The travel budget of Osprey is 450 euros for each terminal and gate."  # copies across permissions
    acl = Acl(
        tuple(sorted(rng.sample(PRINCIPALS, rng.randint(0, 2)))),
        tuple(sorted(rng.sample(PRINCIPALS[1:], 1))) if rng.random() < 0.3 else (),
    )
    year = rng.choice((2023, 2024, 2025))
    topic = rng.choice(("Travel policy", "Crane manual", "Invoice rules"))
    pieces, at = [], 0
    for block in text.split("\n\n"):
        start = text.index(block, at)
        at = start + len(block)
        pieces.append(
            Piece(
                chunk_id=f"chk_{n}_{start}",
                start=start,
                end=at,
                page=None,
                heading_path=(),
                section_start=0,
                section_end=len(text),
                prefix=f"{topic} {year}",
                text=block,
            )
        )
    return Prepared(
        doc_id=f"doc_{n}",
        source="world",
        path=f"d{n}.md",
        uri=f"d{n}.md",
        title=f"{topic} {year}",
        media_type="text/markdown",
        version="v1",
        raw_digest=str(n),
        rule=AccessRule(origin=origin_of(acl), acl=acl),
        own_access=None,
        metadata={"year": year, "department": rng.choice(DEPARTMENTS), "company": rng.choice(NAMES)},
        language="en",
        modified=START,
        size=len(text),
        recipe="1",
        text=text,
        pieces=tuple(pieces),
    )


def world(rng: random.Random) -> World:
    members = tuple(
        (f"group:{group}", member)
        for group in "abcd"
        for member in rng.sample(
            ("user:alice", "user:bob", "group:a", "group:b", "group:c", "group:d"), rng.randint(0, 2)
        )
        if member != f"group:{group}"
    )
    documents = tuple(document(rng, n) for n in range(rng.randint(3, 9)))
    asked = [
        Question(text=" ".join(rng.sample(WORDS, 3))),
        Question(text=f"What is the {rng.choice(WORDS)} {rng.choice(WORDS)} of {rng.choice(NAMES)}?", top_k=3),
        Question(text=f"How many euros in the {rng.choice((2022, 2023, 2024))} travel policy?"),
        Question(
            text=f"the {rng.choice(WORDS)} of {rng.choice(DEPARTMENTS)}", filters=(Filter(key="year", at_least=2024),)
        ),
    ]
    return World(members=members, documents=documents, questions=tuple(asked))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty service: copied for each world, which is faster than migrating each."""
    folder = tmp_path_factory.mktemp("empty")
    with service(folder):
        pass
    return folder


def service(folder: Path) -> App:
    settings = Settings(folder=folder, service=ServiceFile(), agreement=Agreement())
    return App(settings, clock=FixedClock(), embedders={"static": STATIC})


def built(folder: Path, members: tuple[tuple[str, str], ...], documents: tuple[Prepared, ...]) -> App:
    app = service(folder)
    for name in ("alice", "bob"):
        app.people.add_user(name)
    for name in "abcd":
        app.people.add_group(name)
    for group, member in members:
        app.people.add_member(group, member)
    for prepared in documents:
        app.documents.put([prepared], START)
    app.embed_waiting()
    return app


def seen(app: App, actor: Actor, questions: tuple[Question, ...]) -> Iterator[str]:
    """Everything the asker can see, as bytes: passages with scores, answers, traces, listings, errors."""
    scope = app.gate.scope(actor)
    for n, question in enumerate(questions):
        found = app.searcher.search(question, scope=scope)
        told = {name: value for name, value in plain(found).items() if name not in ("cut_off", "stale")}
        yield json.dumps(told, default=str)
        answer = app.answering.answer(question, actor, request_id=f"req_{n}")
        yield json.dumps(plain(answer), default=str)
        yield json.dumps(plain(visible_trace(app.traces, f"req_{n}", actor)), default=str)
    yield json.dumps([record.doc_id for record in app.documents.records(scope=scope)])
    for n in range(10):
        try:
            yield str(app.documents.record(f"doc_{n}", scope=scope) is not None)
            yield str(app.documents.text(f"doc_{n}", "v1", scope=scope))
        except MainstayError as error:
            yield error.line()


def check(seed: int, empty: Path, tmp_path: Path) -> int:
    rng = random.Random(seed)
    made = world(rng)
    actor = rng.choice(
        (
            Actor(principal="user:alice"),
            Actor(principal="user:bob"),
            Actor(principal=ANONYMOUS),
            Actor(principal="user:alice"),
        )
    )
    shutil.copytree(empty, tmp_path / "all")
    shutil.copytree(empty, tmp_path / "visible")
    with built(tmp_path / "all", made.members, made.documents) as app:
        scope = app.gate.scope(actor)
        visible = {record.doc_id for record in app.documents.records(scope=scope)}
        if rng.random() < 0.3:  # some of the forbidden ones come and go, and leave their traces inside
            hidden = [held for held in made.documents if held.doc_id not in visible]
            app.searcher.search(made.questions[0], scope=scope)
            app.documents.remove([held.doc_id for held in hidden[:1]], START + timedelta(days=1))
        with_all = list(seen(app, actor, made.questions))
    remaining = tuple(held for held in made.documents if held.doc_id in visible)
    with built(tmp_path / "visible", made.members, remaining) as app:
        without = list(seen(app, actor, made.questions))
    assert with_all == without, f"seed {seed}: what {actor.principal} sees depends on forbidden documents"
    return len(made.documents) - len(visible)


def _run(first: int, count: int, empty: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}, worlds {first} to {first + count - 1}")
    hidden = 0
    for n in range(first, first + count):
        hidden += check(SEED + n, empty, tmp_path / str(n))
        shutil.rmtree(tmp_path / str(n))
    assert hidden > count  # the worlds do hide something


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.long)])
def test_nothing_depends_on_forbidden_documents(part: int, empty: Path, tmp_path: Path) -> None:
    _run(part * 30, 30, empty, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_nothing_depends_on_forbidden_documents_in_a_thousand_worlds(part: int, empty: Path, tmp_path: Path) -> None:
    _run(1000 + part * 100, 100, empty, tmp_path)
