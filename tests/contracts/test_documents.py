"""The ports Documents and IndexFeed over every database: the same story told twice ends in the same state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.databases import open_fresh

from mainstay.access.acl import Acl, decide
from mainstay.access.scope import Gate, scope_of
from mainstay.clock import FixedClock
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.errors import Conflict, Invalid
from mainstay.models.embedders import EmbedderIdentity
from mainstay.storage.access import AccessStore
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Actor, Scope
from mainstay.workflows.ports import Fence

CLOCK = FixedClock()
NOW = CLOCK.now()
MADE_BY = EmbedderIdentity(name="test", digest="d" * 64, precision="float32", dims=4)
OPEN, STAFF, CLOSED = Acl(("public",), ()), Acl(("group:staff",), ("user:felix",)), Acl((), ())


def prepared(name: str, *, rule: Acl = OPEN, text: str = "", pieces: int = 2, source: str = "docs") -> Prepared:
    text = text or f"{name} first part. {name} second part."
    half = len(text) // pieces
    return Prepared(
        doc_id=f"doc_{name}",
        source=source,
        path=f"{name}.md",
        uri=f"file:{name}",
        title=name.title(),
        media_type="text/markdown",
        version=f"v{len(text)}",
        raw_digest=f"digest of {text}",
        rule=AccessRule(origin=f"place {rule}", acl=rule),
        own_access=None,
        metadata={"year": 2024, "tags": ("a", "b"), "day": NOW.date()},
        language="en",
        modified=NOW,
        size=len(text),
        recipe="1",
        text=text,
        pages=((1, 0, len(text)),),
        pieces=tuple(
            Piece(
                chunk_id=f"{name}#{len(text)}#{n}",
                start=n * half,
                end=(n + 1) * half,
                page=1,
                heading_path=(name, "Überschrift"),
                section_start=0,
                section_end=len(text),
                prefix=f"About {name}",
                text=text[n * half : (n + 1) * half],
            )
            for n in range(pieces)
        ),
        findings=(("hidden-text", "removed"),),
    )


def scope_for(database: Database, principal: str, *, admin: bool = False) -> Scope:
    store = AccessStore(database, CLOCK)
    return Gate(store, store).scope(Actor(principal=principal, admin=admin))


def everything(database: Database) -> Scope:
    return scope_for(database, "user:operator", admin=True)


def test_put_and_read_back(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("one"), prepared("two", rule=CLOSED)], NOW)
    scope = everything(opened)
    record = documents.record("doc_one", scope=scope)
    assert record is not None
    assert (record.title, record.chunks, record.language, record.modified) == ("One", 2, "en", NOW)
    assert record.metadata == {"year": 2024, "tags": ("a", "b"), "day": NOW.date()}
    assert record.findings == (("hidden-text", "removed"),)
    assert documents.text("doc_one", record.version, scope=scope) == (
        "one first part. one second part.",
        ((1, 0, 32),),
    )
    anyone = scope_for(opened, "anonymous")
    assert [held.doc_id for held in documents.records(scope=anyone)] == ["doc_one"]
    assert documents.text("doc_two", "v32", scope=anyone) is None
    assert documents.find("two.md", scope=anyone) == []
    assert documents.known("docs").keys() == {"one.md", "two.md"}
    assert documents.known("docs", "two.md")["two.md"].acl == CLOSED


def test_a_changed_document_keeps_its_number_and_loses_its_old_pieces(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("one")], NOW)
    first = documents.newest_change()
    [number] = [line.document for line in documents.changes_after(0)]
    documents.put([prepared("one", text="Something else altogether, in three pieces.", pieces=3)], NOW)
    held = documents.indexed([number])[number]
    assert len(held.rows) == 3
    assert min(seq for seq, _ in held.rows) > 2  # numbers are never given again
    assert [line.kind for line in documents.changes_after(first)] == ["put"]
    passages = documents.passages([seq for seq, _ in held.rows], scope=everything(opened))
    assert [passages[seq].text for seq, _ in held.rows] == [
        "Something else altogether, in three pieces."[n * 14 : n * 14 + 14] for n in range(3)
    ]


def test_vectors_belong_to_their_maker(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("one")], NOW)
    waiting = documents.without_vector(MADE_BY, 10)
    assert [words for _, words in waiting] == ["About one\none first part. ", "About one\none second part."]
    seqs = [seq for seq, _ in waiting]
    rows = np.arange(8, dtype=np.float32).reshape(2, 4) / 3
    documents.put_vectors(MADE_BY, [*seqs, 99_999], np.vstack([rows, rows[:1]]), NOW)
    kept = documents.vectors(MADE_BY, [1])
    assert np.array_equal(np.vstack([kept[seq] for seq in seqs]), rows)
    assert documents.embedding_progress(MADE_BY) == (2, 2)
    assert documents.without_vector(MADE_BY, 10) == []
    other = EmbedderIdentity(name="test", digest="d" * 64, precision="float16", dims=4)
    with pytest.raises(Conflict, match="kept as"):
        documents.put_vectors(other, seqs, rows, NOW)
    documents.drop_vectors(keep=EmbedderIdentity(name="new", digest="e" * 64, precision="float32", dims=8))
    assert documents.embedders() == []
    assert documents.embedding_progress(MADE_BY) == (0, 2)


def test_remove_takes_everything_along(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("one"), prepared("two")], NOW)
    documents.put_vectors(MADE_BY, [1, 2], np.ones((2, 4), np.float32), NOW)
    assert documents.remove(["doc_one", "doc_never"], NOW) == 1
    scope = everything(opened)
    assert documents.record("doc_one", scope=scope) is None
    assert documents.text("doc_one", "v32", scope=scope) is None
    assert documents.passages([1, 2, 3, 4], scope=scope).keys() == {3, 4}
    assert documents.vectors(MADE_BY, [1, 2]) == {}
    assert documents.count_by_source() == {"docs": 1}


def test_access_is_one_row(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared(f"n{n}", rule=STAFF) for n in range(5)], NOW)
    before = documents.newest_change()
    opener = AccessRule(origin=f"place {STAFF}", acl=OPEN)
    assert documents.apply_access("docs", {f"n{n}.md": opener for n in range(5)}, NOW) == 0
    assert documents.newest_change() == before  # no document was touched
    assert len(documents.records(scope=scope_for(opened, "anonymous"))) == 5
    documents.set_access("doc_n3", AccessRule(origin="its own", acl=CLOSED), NOW)
    documents.move("doc_n4", path="x/n4.md", uri="file:x/n4", rule=AccessRule(origin="x", acl=CLOSED), at=NOW)
    assert len(documents.records(scope=scope_for(opened, "anonymous"))) == 3


def test_an_old_version_keeps_its_old_rule(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("plan", rule=CLOSED, text="The secret plan of the harbour.")], NOW)
    documents.put([prepared("plan", rule=OPEN, text="The plan.")], NOW)
    anyone = scope_for(opened, "anonymous")
    assert documents.text("doc_plan", "v9", scope=anyone) is not None
    assert documents.text("doc_plan", "v31", scope=anyone) is None


def test_neighbours_stay_in_their_document(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([prepared("one", pieces=4), prepared("two", pieces=4)], NOW)
    found = documents.neighbours("one#32#1", 1, scope=everything(opened))
    assert [passage.chunk for passage in found] == ["one#32#0", "one#32#1", "one#32#2"]
    assert documents.neighbours("one#32#1", 1, scope=scope_of((), ())) == []
    assert len(documents.chunks_of("doc_two", scope=everything(opened))) == 4


def test_sources_and_facts(opened: Database) -> None:
    documents = SqlDocuments(opened)
    for state in ("partial", "complete"):
        documents.note_sync("docs", kind="folder", root="/x", state=state, detail="one\ntwo", at=NOW)
    [source] = documents.sources()
    assert (source["name"], source["state"], source["synced_at"]) == ("docs", "complete", NOW)
    documents.set_fact("source:docs", "{}")
    documents.set_fact("source:docs", '{"a": 1}')
    assert documents.fact("source:docs") == '{"a": 1}'
    documents.forget_source("docs", NOW)
    assert (documents.sources(), documents.fact("source:docs")) == ([], None)
    assert documents.salt() == SqlDocuments(opened).salt()


def test_a_batch_is_kept_whole_or_not_at_all(opened: Database) -> None:
    documents = SqlDocuments(opened)
    spoilt = prepared("two", rule=Acl(("nobody:known",), ()))
    with pytest.raises(Invalid):
        documents.put([prepared("one"), spoilt], NOW)
    assert documents.records(scope=everything(opened)) == []
    assert documents.newest_change() == 0


def test_nothing_is_written_past_a_fence(opened: Database) -> None:
    documents = SqlDocuments(opened).under(Fence(job_id="job_gone", token=3))
    with pytest.raises(Conflict, match="another worker"):
        documents.put([prepared("one")], NOW)
    assert SqlDocuments(opened).newest_change() == 0


# -- the two databases tell the same story ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Database]]:
    made = [open_fresh(dialect, tmp_path_factory.mktemp(dialect)) for dialect in DIALECTS]
    yield [database for database, _ in made]
    for _, close in made:
        close()


STEPS = st.lists(
    st.tuples(st.sampled_from("put put put remove access move vectors".split()), st.integers(0, 5)), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_the_same_story_ends_in_the_same_state(both: list[Database], steps: list[tuple[str, int]], seed: int) -> None:
    ends = []
    for database in both:
        documents = SqlDocuments(database)
        documents.remove([record.doc_id for record in documents.records(scope=everything(database))], NOW)
        start = documents.newest_change()
        rng = random.Random(seed)
        for n, (step, at) in enumerate(steps):
            rule = rng.choice((OPEN, STAFF, CLOSED))
            moment = NOW + timedelta(seconds=n)
            if step == "put":
                text = f"Text {at} {rng.randrange(3)} " * rng.randint(1, 3)
                documents.put([prepared(f"n{at}", rule=rule, text=text)], moment)
            elif step == "remove":
                documents.remove([f"doc_n{at}"], moment)
            elif step == "access":
                documents.set_access(f"doc_n{at}", AccessRule(origin=f"own {at}", acl=rule), moment)
            elif step == "move":
                documents.move(f"doc_n{at}", path=f"m{n}.md", uri="", rule=AccessRule(origin="m", acl=rule), at=moment)
            elif waiting := documents.without_vector(MADE_BY, at + 1):
                rows = np.full((len(waiting), 4), at, np.float32)
                documents.put_vectors(MADE_BY, [seq for seq, _ in waiting], rows, moment)
        numbers: dict[int, int] = {}
        log = [(line.kind, numbers.setdefault(line.document, len(numbers))) for line in documents.changes_after(start)]
        records = documents.records(scope=everything(database))
        ends.append(
            (
                log,
                records,
                [decide(record.acl, {"public", "group:staff"}) for record in records],
                [documents.chunks_of(record.doc_id, scope=everything(database)) for record in records],
                [record.doc_id for record in documents.records(scope=scope_for(database, "anonymous"))],
                documents.embedding_progress(MADE_BY),
            )
        )
    assert ends[0] == ends[1]
