"""The answer cache over every database: nothing kept crosses a permission line or outlives a revoke, an edit, a deletion.

The oracle answers everything anew: whatever a hit shows must be what this asker's own search would have led to at that moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.access.acl import Acl
from mainstay.access.scope import Gate
from mainstay.agreement.terms import CacheRules
from mainstay.clock import FixedClock, SystemClock
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.models.cache import (
    Asked,
    CachedAnswer,
    Hit,
    Miss,
    Partition,
    SemanticCache,
    Source,
    Wording,
)
from mainstay.models.cache.ports import Label
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.storage import schema
from mainstay.storage.access import AccessStore
from mainstay.storage.cache import SqlCache
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Actor, Citation, Scope

PARTITION = Partition(release="r1", agreement="a1", language="en", embedder="static", model_class="chat")
LAW = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
EMBEDDER = StaticEmbedder()
ALWAYS = CacheRules(audit=0.0)


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("cache"))
    yield opened
    close()


def document(name: str, text: str, rule: Acl, origin: str = "") -> Prepared:
    return Prepared(
        doc_id=f"doc_{name}",
        source="s",
        path=name,
        uri=name,
        title=name,
        media_type="text/plain",
        version=f"v {text}",
        raw_digest=text,
        rule=AccessRule(origin=origin or f"acl:{sorted(rule.allow)}", acl=rule),
        own_access=None,
        metadata={},
        language="en",
        modified=None,
        size=len(text),
        recipe="1",
        text=text,
        pages=(),
        pieces=(
            Piece(
                chunk_id=f"chk_{name}_{text}",
                start=0,
                end=len(text),
                page=None,
                heading_path=(),
                section_start=0,
                section_end=len(text),
                prefix="",
                text=text,
            ),
        ),
        findings=(),
    )


@dataclass
class World:
    """Documents, people and a cache, and what an answer made anew would be."""

    database: Database
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        with self.database.write() as connection:
            for table in ("cached_answer", "cache_audit", "vector", "chunk", "document_version", "document"):
                connection.execute(delete(schema.metadata.tables[table]))
            for table in ("membership", "principal"):
                connection.execute(delete(schema.metadata.tables[table]))
        self.documents = SqlDocuments(self.database)
        self.access = AccessStore(self.database, self.clock)
        self.store = SqlCache(self.database, self.clock)
        self.cache = SemanticCache(self.store, ALWAYS, self.clock, draw=lambda: 0.5)

    def scope(self, principal: str, *groups: str) -> Scope:
        return Gate(self.access, self.access).scope(Actor(principal=principal, groups=groups))

    def visible(self, scope: Scope) -> list[Source]:
        records = self.documents.records(scope=scope)
        return [Source(document=r.doc_id, version=r.version) for r in records]

    def answer(self, sources: list[Source]) -> CachedAnswer:
        return CachedAnswer(
            text=" ".join(f"{source.document}={source.version}" for source in sources),
            citations=tuple(
                Citation(n=n, document=s.document, version=s.version, title="", uri="", quote=s.version, start=0, end=1)
                for n, s in enumerate(sources, 1)
            ),
        )

    def asked(self, question: str, sources: list[Source] | None, **more: object) -> Asked:
        made = Asked(
            question=question,
            partition=PARTITION,
            vector=EMBEDDER.embed_query(question),
            read=None if sources is None else frozenset((s.document, s.version) for s in sources),
        )
        return replace(made, **more)  # type: ignore[arg-type]  # names of its fields


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


PEOPLE = {"user:ann": ("group:red",), "user:bob": ("group:blue",), "user:cem": ("group:red", "group:blue")}
RULES = [Acl((group,), ()) for group in ("public", "group:red", "group:blue", "user:ann")] + [
    Acl(("public",), ("group:red",))
]
QUESTIONS = ("What is the notice period?", "what is notice period", "What is a notice period ?", "Who pays the fee?")
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(sorted(PEOPLE)), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("ask"), st.sampled_from(sorted(PEOPLE)), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(0, 2), st.integers(0, len(RULES) - 1)),
    st.tuples(st.just("rule"), st.sampled_from("abcd"), st.integers(0, len(RULES) - 1)),
    st.tuples(st.just("remove"), st.sampled_from("abcd")),
    st.tuples(st.just("join"), st.sampled_from(sorted(PEOPLE)), st.sampled_from(["group:red", "group:blue"])),
    st.tuples(st.just("leave"), st.sampled_from(sorted(PEOPLE)), st.sampled_from(["group:red", "group:blue"])),
)


@pytest.mark.parametrize("by_read_set", [True, False])
@LAW
@given(steps=st.lists(STEPS, min_size=12, max_size=24))
def test_no_answer_crosses_a_permission_line_or_survives_a_change(
    database: Database, steps: list[tuple[object, ...]], by_read_set: bool
) -> None:
    world = World(database)
    groups = {person: set(given) for person, given in PEOPLE.items()}
    world.documents.put([document("a", "t0", RULES[0]), document("b", "t0", RULES[1])], world.clock.now())
    for step in steps:
        world.clock.advance(timedelta(seconds=1))
        if step[0] == "put":
            _, name, text, rule = step
            world.documents.put([document(str(name), f"t{text}", RULES[int(str(rule))])], world.clock.now())
        elif step[0] == "rule":
            acl = RULES[int(str(step[2]))]
            world.documents.set_access(
                f"doc_{step[1]}", AccessRule(origin=f"own:{step[1]}:{sorted(acl.allow)}", acl=acl), world.clock.now()
            )
        elif step[0] == "remove":
            world.documents.remove([f"doc_{step[1]}"], world.clock.now())
        elif step[0] in ("join", "leave"):
            (groups[str(step[1])].add if step[0] == "join" else groups[str(step[1])].discard)(str(step[2]))
        else:
            scope = world.scope(str(step[1]), *groups[str(step[1])])
            seen = world.visible(scope)
            asked = world.asked(str(step[2]), seen if by_read_set else None)
            found = world.cache.look(asked, scope=scope)
            if isinstance(found, Hit):
                cited = {(c.document, c.version) for c in found.answer.citations}
                assert cited <= {(s.document, s.version) for s in seen}
                if by_read_set:  # more: it is what this asker would be told now
                    assert found.answer.text == world.answer(seen).text
            else:
                kept = world.cache.keep(asked, world.answer(seen), seen)
                assert kept == bool(seen)
                assert not seen or isinstance(world.cache.look(asked, scope=scope), Hit)


def ready(world: World) -> tuple[Asked, Scope, list[Source]]:
    """A world where one question is kept."""
    world.documents.put([document("a", "t0", RULES[0]), document("b", "t0", RULES[1])], world.clock.now())
    scope = world.scope("user:ann", "group:red")
    seen = world.visible(scope)
    assert len(seen) == 2
    asked = world.asked("What is the notice period?", seen)
    assert world.cache.keep(asked, world.answer(seen), seen)
    return asked, scope, seen


def why(found: Hit | Miss) -> str:
    return "hit" if isinstance(found, Hit) else found.why


def test_the_same_question_hits_and_comes_back_whole(world: World) -> None:
    asked, scope, seen = ready(world)
    for question in ("What is the notice period?", "  what is  the NOTICE\u200b period ", "What is the notice period!"):
        found = world.cache.look(replace(asked, question=question), scope=scope)
        assert isinstance(found, Hit)
        assert found.exact
        assert found.answer == world.answer(seen)


def test_same_words_serve_and_other_questions_do_not(world: World) -> None:
    _, scope, seen = ready(world)
    found = world.cache.look(world.asked("What's a notice period?", seen), scope=scope)
    assert isinstance(found, Hit)
    assert not found.exact
    for question in ("What is the notice fee?", "What is not the notice period?", "When is the notice period?"):
        assert isinstance(world.cache.look(world.asked(question, seen), scope=scope), Miss)


@pytest.mark.parametrize(
    "change",
    [
        {"partition": replace(PARTITION, release="r2")},
        {"partition": replace(PARTITION, agreement="a2")},
        {"partition": replace(PARTITION, language="de")},
        {"partition": replace(PARTITION, embedder="minilm")},
        {"partition": replace(PARTITION, model_class="big")},
        {"history_digest": "h"},
        {"filters": ("year=2024",)},
        {"top_k": 3},
        {"personal": "user:ann"},
        {"read": frozenset({("doc_a", "v t0")})},
        {"read": frozenset({("doc_a", "v t0"), ("doc_b", "v t0"), ("doc_new", "v1")})},
    ],
)
def test_nothing_is_shared_across(world: World, change: dict[str, object]) -> None:
    asked, scope, _ = ready(world)
    assert isinstance(world.cache.look(asked, scope=scope), Hit)
    assert why(world.cache.look(replace(asked, **change), scope=scope)) in ("new", "unlike")  # type: ignore[arg-type]


def test_an_answer_for_one_person_is_for_that_person(world: World) -> None:
    asked, scope, seen = ready(world)
    mine = replace(asked, personal="user:ann")
    world.cache.keep(mine, world.answer(seen), seen)
    assert isinstance(world.cache.look(mine, scope=scope), Hit)
    assert isinstance(world.cache.look(replace(asked, personal="user:bob"), scope=scope), Miss)
    assert world.store.forget_person("user:ann") == 1
    assert isinstance(world.cache.look(mine, scope=scope), Miss)


def test_switched_off_it_neither_finds_nor_keeps(world: World) -> None:
    asked, scope, seen = ready(world)
    off = SemanticCache(world.store, replace(ALWAYS, enabled=False), world.clock)
    assert why(off.look(asked, scope=scope)) == "off"
    assert not off.keep(asked, world.answer(seen), seen)
    exact_only = SemanticCache(world.store, replace(ALWAYS, similar=False), world.clock)
    assert isinstance(exact_only.look(asked, scope=scope), Hit)
    assert isinstance(exact_only.look(world.asked("What's a notice period?", seen), scope=scope), Miss)


def test_an_answer_ends_with_its_time(world: World) -> None:
    asked, scope, _ = ready(world)
    world.clock.advance(timedelta(days=7))
    assert isinstance(world.cache.look(asked, scope=scope), Miss)
    assert isinstance(world.cache.look(replace(asked, question="What's notice period?"), scope=scope), Miss)
    assert world.store.prune(at=world.clock.now(), labels_before=world.clock.now()) == 1
    assert world.store.counts()["entries"] == 0


def test_what_changed_while_it_was_answered_is_not_kept(world: World) -> None:
    _, _, seen = ready(world)
    asked = world.asked("Who pays the fee?", seen)
    world.documents.put([document("a", "t1", RULES[0])], world.clock.now())
    assert not world.cache.keep(asked, world.answer(seen), seen)
    world.documents.remove(["doc_a"], world.clock.now())
    assert not world.cache.keep(asked, world.answer(seen), seen)


def test_a_deleted_document_takes_its_answers_along(world: World) -> None:
    ready(world)
    world.documents.remove(["doc_b"], world.clock.now())
    with world.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.cached_answer)) == 0
        assert connection.scalar(select(func.count()).select_from(schema.cached_source)) == 0


def test_deleting_and_keeping_at_once_leaves_no_answer(database: Database) -> None:
    """Whoever comes first: afterwards nothing is kept that was made of a deleted document."""
    world = World(database)
    clock = SystemClock()
    cache = SemanticCache(SqlCache(database, clock), ALWAYS, clock)
    for turn in range(15):
        world.documents.put([document(f"x{turn}", "t0", RULES[0])], clock.now())
        sources = [Source(document=f"doc_x{turn}", version="v t0")]
        asked = world.asked(f"What is number {turn}?", sources)
        gate = threading.Barrier(2)

        def keep(asked: Asked = asked, sources: list[Source] = sources, gate: threading.Barrier = gate) -> None:
            gate.wait()
            cache.keep(asked, world.answer(sources), sources)

        thread = threading.Thread(target=keep)
        thread.start()
        gate.wait()
        world.documents.remove([f"doc_x{turn}"], clock.now())
        thread.join()
        with database.read() as connection:
            assert connection.scalar(select(func.count()).select_from(schema.cached_source)) == 0


def test_another_process_sees_what_was_kept(world: World) -> None:
    asked, scope, seen = ready(world)
    other = SemanticCache(SqlCache(world.database, world.clock), ALWAYS, world.clock)
    assert isinstance(other.look(world.asked("What's a notice period?", seen), scope=scope), Hit)
    late = world.asked("Who pays the fee?", seen)
    world.cache.keep(late, world.answer(seen), seen)
    assert isinstance(other.look(world.asked("Who pays a fee?", seen), scope=scope), Hit)
    assert world.store.clear() == 2
    assert isinstance(other.look(asked, scope=scope), Miss)
    assert isinstance(other.look(world.asked("What's a notice period?", seen), scope=scope), Miss)


def test_the_same_question_is_kept_once(world: World) -> None:
    asked, scope, seen = ready(world)
    newer = replace(world.answer(seen), text="newer")
    world.cache.keep(asked, newer, seen)
    found = world.cache.look(asked, scope=scope)
    assert isinstance(found, Hit)
    assert found.answer.text == "newer"
    assert world.store.counts()["entries"] == 1


def test_beyond_the_limit_the_least_used_go(database: Database) -> None:
    world = World(database)
    world.cache = SemanticCache(world.store, replace(ALWAYS, entries=40), world.clock, draw=lambda: 0.5)
    asked, scope, seen = ready(world)
    for n in range(100):
        world.clock.advance(timedelta(seconds=1))
        if n % 10 == 0:
            assert isinstance(world.cache.look(asked, scope=scope), Hit)  # used, so it stays
        world.cache.keep(world.asked(f"What is number {n}?", seen), world.answer(seen), seen)
    assert world.store.counts()["entries"] <= 40 + 32
    assert isinstance(world.cache.look(asked, scope=scope), Hit)


def test_labels_come_back(world: World) -> None:
    asked, scope, seen = ready(world)
    found = world.cache.look(world.asked("What's a notice period?", seen), scope=scope)
    assert isinstance(found, Hit)
    assert world.cache.compared(found.candidate, world.answer(seen), served=True)
    world.clock.advance(timedelta(seconds=1))
    assert not world.cache.compared(found.candidate, None, served=True)
    labels = world.store.labels(PARTITION.family, limit=10)
    assert [label.agreed for label in labels] == [False, True]
    assert labels == world.store.labels_of(found.entry_id)
    assert labels[0] == Label(
        entry_id=found.entry_id,
        family=PARTITION.family,
        asked=found.candidate.asked,
        wording=Wording.SAME,
        similarity=found.similarity,
        agreed=False,
        served=True,
        at=world.clock.now(),
    )
    assert why(world.cache.look(world.asked("What's a notice period?", seen), scope=scope)) == "unproven"
    assert isinstance(world.cache.look(asked, scope=scope), Hit)


def test_other_forms_serve_once_enough_labels_agree(world: World) -> None:
    _, scope, seen = ready(world)
    kept = world.asked("Which part should I replace on my old laptop?", seen)
    world.cache.keep(kept, world.answer(seen), seen)
    other = world.asked("Which parts should I replace on my old laptop?", seen)
    first = world.cache.look(other, scope=scope)
    assert isinstance(first, Miss)
    assert first.why == "unproven"
    assert first.explore is not None
    assert first.explore.wording is Wording.FORMS
    for n in range(149):
        if n % 37 == 0:
            assert isinstance(world.cache.look(other, scope=scope), Miss)
        world.cache.judged(replace(first.explore, asked=f"q{n}"), agreed=True, served=False)
    assert isinstance(world.cache.look(other, scope=scope), Hit)
    world.cache.judged(replace(first.explore, entry_id="another", asked="q"), agreed=False, served=True)
    assert isinstance(world.cache.look(other, scope=scope), Miss)


def test_a_store_that_fails_is_a_miss_and_left_alone(tmp_path: Path) -> None:
    database, close = open_fresh("sqlite", tmp_path)
    world = World(database)
    asked, scope, seen = ready(world)
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE cached_answer RENAME TO hidden")
    assert why(world.cache.look(asked, scope=scope)) == "store"
    assert not world.cache.keep(asked, world.answer(seen), seen)
    assert not world.cache.allowed(seen, scope=scope)
    assert world.cache.counts.store_failures == 1  # the others did not even try
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO cached_answer")
    world.clock.advance(timedelta(seconds=6))
    assert isinstance(world.cache.look(asked, scope=scope), Hit)
    close()


def test_an_entry_of_a_newer_program_is_a_miss(world: World) -> None:
    asked, scope, _ = ready(world)
    with world.database.write() as connection:
        connection.execute(schema.cached_answer.update().values(answer='{"citations":[],"text":"x","colour":"red"}'))
    assert why(world.cache.look(asked, scope=scope)) == "unlike"
    assert world.cache.counts.store_failures == 0


def test_the_second_wall_stands_behind_the_classes_of_a_scope(world: World) -> None:
    """Should a scope ever name classes that its principals may not read, PostgreSQL still says no."""
    asked, scope, seen = ready(world)
    if world.database.dialect == "sqlite":
        return  # it has no second wall
    mistaken = Scope(principals=world.scope("user:bob", "group:blue").principals, classes=scope.classes)
    assert isinstance(world.cache.look(asked, scope=mistaken), Miss)
    assert isinstance(world.cache.look(world.asked("What's a notice period?", seen), scope=mistaken), Miss)
    assert not world.cache.allowed(seen, scope=mistaken)
    assert not world.store.still_good(_only_entry(world), scope=mistaken)
    assert isinstance(world.cache.look(asked, scope=scope), Hit)


def test_allowed_looks_at_the_truth(world: World) -> None:
    _, scope, seen = ready(world)
    bob = world.scope("user:bob", "group:blue")
    assert world.cache.allowed(seen, scope=scope)
    assert not world.cache.allowed(seen, scope=bob)
    assert world.store.still_good(_only_entry(world), scope=scope)
    assert not world.store.still_good(_only_entry(world), scope=bob)
    assert not world.store.still_good("cac_none", scope=scope)
    world.documents.put([document("b", "t9", RULES[1])], world.clock.now())
    assert not world.cache.allowed(seen, scope=scope)
    assert not world.cache.allowed([], scope=scope)


def _only_entry(world: World) -> str:
    with world.database.read() as connection:
        return str(connection.scalars(select(schema.cached_answer.c.entry_id)).one())


def test_many_threads_look_and_keep(world: World) -> None:
    _, scope, seen = ready(world)
    cache = SemanticCache(SqlCache(world.database, SystemClock()), ALWAYS, SystemClock())
    failures: list[str] = []

    def work(number: int) -> None:
        for n in range(12):
            asked = world.asked(f"What is case {n} of {number % 2}?", seen)
            found = cache.look(asked, scope=scope)
            if isinstance(found, Miss):
                if found.why == "store":
                    failures.append(found.why)
                cache.keep(asked, world.answer(seen), seen)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.counts.store_failures == 0, failures
    assert np.isfinite(cache.counts.hits)
