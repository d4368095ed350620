"""Reads of the road: what stands beside a chunk, passages put together late, facts as last seen."""

from __future__ import annotations

import threading
from dataclasses import replace

from tests.contracts.test_documents import CLOSED, NOW, everything, prepared

from mainstay.access.scope import scope_of
from mainstay.clock import FixedClock
from mainstay.corpus.ports import AccessRule, Prepared
from mainstay.storage.access import AccessStore
from mainstay.storage.database import Database
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.facts import Facts

CHUNKS = ["one#40#0", "one#40#1", "one#40#2", "one#40#3"]
TEXT = "Ünïcödé 🚢 ships: ten, 10. Then the rest."


def one(text: str = TEXT) -> Prepared:
    made = prepared("one", text=text, pieces=4)
    return replace(
        made,
        pieces=tuple(
            # The last piece stands in a section of its own.
            replace(piece, section_start=0 if n < 3 else piece.start, section_end=30 if n < 3 else len(text))
            for n, piece in enumerate(made.pieces)
        ),
    )


def test_what_stands_around_a_chunk_is_a_slice_of_its_section(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([one()], NOW)
    anyone = everything(opened)
    found = documents.around([*CHUNKS, "gone"], 1, most_chars=1000, scope=anyone)
    assert {name: (held.start, held.end) for name, held in found.items()} == {
        CHUNKS[0]: (0, 20),
        CHUNKS[1]: (0, 30),
        CHUNKS[2]: (10, 30),
        CHUNKS[3]: (30, 40),
    }
    assert all(held.text == TEXT[held.start : held.end] and held.version == "v40" for held in found.values())
    assert documents.around(CHUNKS, 1, most_chars=20, scope=anyone).keys() == {CHUNKS[0], CHUNKS[2], CHUNKS[3]}
    assert documents.around([], 1, most_chars=20, scope=anyone) == {}


def test_around_a_chunk_as_its_passages_is_what_the_scope_may_read_now(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([one()], NOW)
    before = everything(opened)
    assert len(documents.passages([1, 2, 3, 4], scope=before)) == 4
    assert documents.around(CHUNKS, 1, most_chars=1000, scope=scope_of((), ())) == {}
    documents.set_access("doc_one", AccessRule(origin="closed", acl=CLOSED), NOW)
    assert documents.around(CHUNKS, 1, most_chars=1000, scope=before) == {}
    assert documents.passages([1, 2, 3, 4], scope=before) == {}


def test_passages_are_those_that_are_there_and_each_time_the_same(opened: Database) -> None:
    documents = SqlDocuments(opened)
    documents.put([one()], NOW)
    found = documents.passages([4, 2, 9], scope=everything(opened))
    assert set(found) == {2, 4}
    assert 9 not in found
    assert found[2] == found[2]
    assert [held.text for held in documents.chunks_of("doc_one", scope=everything(opened))][1] == found[2].text
    assert found[2].metadata == {"year": 2024, "tags": ("a", "b"), "day": NOW.date()}
    assert found[2].heading_path == ("one", "Überschrift")


def test_a_fact_of_another_process_is_seen_once_the_stamps_are_read(opened: Database) -> None:
    ours, theirs = Facts(opened), SqlDocuments(opened)
    store = AccessStore(opened, FixedClock(), facts=ours, along=("embedder",))
    assert ours.seen("embedder") is None
    theirs.set_fact("embedder", "new")
    assert ours.seen("embedder") is None  # nobody has looked
    store.stamps()
    assert ours.seen("embedder") == "new"
    assert ours.read("embedder", "nothing") == {"embedder": "new", "nothing": None}


def test_of_two_readings_at_the_same_time_that_differ_none_is_believed(opened: Database) -> None:
    facts = Facts(opened)
    SqlDocuments(opened).set_fact("name", "in the database")
    early, late = facts.begin(), facts.begin()
    facts.saw(late, [("name", "one")])
    assert facts.seen("name") == "one"
    facts.saw(early, [("name", "two")])
    assert facts.seen("name") == "in the database"
    early, late = facts.begin(), facts.begin()
    facts.saw(early, [("name", "in the database")])
    facts.saw(late, [("name", "in the database")])
    assert facts.seen("name") == "in the database"


def test_who_has_read_never_sees_anything_older(opened: Database) -> None:
    facts, writer = Facts(opened), SqlDocuments(opened)
    wrong: list[tuple[str, str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            mine = facts.read("count")["count"] or "0"
            then = facts.seen("count") or "0"
            if int(then) < int(mine):
                wrong.append((mine, then))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        writer.set_fact("count", str(number))
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong
