"""Two ways to search one service, the embedded kernel and PostgreSQL itself, and what both promise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date

import numpy as np
import pytest
from tests.support.databases import skip_without_postgres
from tests.support.searching import COMMON, DIMS, MADE_BY, NOW, WORDS, Service, prepared, some_text, some_world

from mainstay.access.acl import Acl
from mainstay.models.embedders import EmbedderIdentity
from mainstay.retrieval.ports import Index
from mainstay.storage import postgres_index, postgres_search
from mainstay.types import Filter, Scope

FILTERS = [
    Filter(key="team", any_of=("hR",)),
    Filter(key="team", any_of=("legal", 7.0)),
    Filter(key="team", any_of=(True,)),
    Filter(key="team", any_of=(1, "7")),
    Filter(key="year", at_least=7, at_most=2022.5),
    Filter(key="year", at_least=2022),
    Filter(key="year", at_most="hr"),
    Filter(key="year", at_least=2021, at_most="z"),
    Filter(key="day", any_of=(date(2023, 2, 3),)),
    Filter(key="day", at_least="2023-01-01", at_most="2023-12-31"),
    Filter(key="day", at_least=date(2023, 2, 3)),
    Filter(key="day"),
    Filter(key="day", at_least="i"),
    Filter(key="nothing", at_least=1),
    Filter(key="year", any_of=(float("nan"),)),
    Filter(key="year", any_of=(10**40, "\0 it's :odd %s \\")),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    skip_without_postgres("postgresql")
    made = Service.fresh()
    some_world(made, 5, 150)
    yield made
    made.close()


@pytest.fixture(params=["few", "many"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way of searching is also tried on a corpus this small."""
    if request.param == "many":
        monkeypatch.setattr(postgres_search, "_FEW", 0)
        monkeypatch.setattr(postgres_search, "_SORTED", 0)
        monkeypatch.setattr(postgres_search, "_ALWAYS", 0)
        monkeypatch.setattr(postgres_search, "_READ", 50)
    return str(request.param)


def indexes(service: Service) -> list[Index]:
    return [service.kernel(), service.search()]


def asked(seed: int) -> tuple[str, np.ndarray]:
    rng = random.Random(seed)
    vector = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    return some_text(rng) if seed % 4 else " ".join(rng.sample(COMMON, 3)), vector / np.linalg.norm(vector)


@pytest.mark.parametrize("user", [f"u{n}" for n in range(6)])
def test_sizes_and_filters_are_the_same(service: Service, user: str) -> None:
    scope = service.scope(user)
    kernel, database = indexes(service)
    for filters in ([], *([wanted] for wanted in FILTERS), FILTERS[4:6]):
        one, other = kernel.permitted(scope, filters), database.permitted(scope, filters)
        assert (one.count, one.without_vector, one.cut_off) == (other.count, other.without_vector, other.cut_off), (
            filters
        )
        text, vector = asked(3)
        found = [inside.lists(text, vector, 1000) for inside in (one, other)]
        assert set(found[0].words.seqs) == set(found[1].words.seqs)
        assert set(found[0].meaning.seqs) == set(found[1].meaning.seqs)


@pytest.mark.parametrize("user", ["u0", "u3"])
def test_metadata_is_that_of_the_scope(service: Service, user: str) -> None:
    scope = service.scope(user)
    kernel, database = indexes(service)
    assert list(kernel.metadata_keys(scope)) == list(database.metadata_keys(scope))
    for key in ("team", "year", "day", "nothing"):
        assert kernel.metadata_values(scope, key) == database.metadata_values(scope, key)
        assert dict(kernel.metadata_values(scope, key, limit=3)) == dict(database.metadata_values(scope, key, limit=3))


@pytest.mark.parametrize("seed", range(12))
def test_meaning_is_that_of_the_kernel_but_for_half_precision(service: Service, way: str, seed: int) -> None:
    text, vector = asked(seed)
    scope = service.scope(f"u{seed % 6}")
    one, other = (index.permitted(scope).lists(text, vector, 20) for index in indexes(service))
    assert len(one.meaning) == len(other.meaning)
    if way == "few":
        assert other.meaning.scores == pytest.approx(one.meaning.scores, abs=2e-3)
    else:  # a graph may miss a row; that it hardly ever does is measured, by bench/search.py
        assert len(set(one.meaning.seqs) & set(other.meaning.seqs)) >= 15
    exact = {seq: float(service.vectors[seq] @ vector) for seq in other.meaning.seqs.tolist()}
    assert list(exact.values()) == pytest.approx(other.meaning.scores.tolist(), abs=2e-3)


@pytest.mark.parametrize("seed", range(16))
def test_words_are_bm25_with_the_statistics_of_the_tenant(service: Service, way: str, seed: int) -> None:
    text, vector = asked(seed)
    scope = service.scope(f"u{seed % 6}")
    permitted = service.seqs(scope)
    oracle = service.bm25(text, permitted)
    for k in (1, 7, 60):
        found = service.search().permitted(scope).lists(text, vector, k)
        best = sorted(oracle.values(), reverse=True)[:k]
        assert found.words.scores.tolist() == pytest.approx(best, rel=1e-5)
        assert [oracle[seq] for seq in found.words.seqs.tolist()] == pytest.approx(best, rel=1e-5)
        both = np.union1d(found.words.seqs, found.meaning.seqs)
        assert found.word_scores(both).tolist() == pytest.approx([oracle.get(s, 0.0) for s in both.tolist()], rel=1e-5)
        exact = [float(service.vectors[s] @ vector) if s in service.vectors else np.nan for s in both.tolist()]
        assert found.meaning_scores(both).tolist() == pytest.approx(exact, abs=2e-3, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_outside_the_scope_in_random_worlds(way: str, seed: int) -> None:
    skip_without_postgres("postgresql")
    service = Service.fresh()
    try:
        users = some_world(service, 100 + seed, 40)
        for user in [*users, "nobody"]:
            scope = service.scope(user)
            permitted = set(service.seqs(scope))
            text, vector = asked(seed)
            for filters in ([], [FILTERS[0]], [FILTERS[5]]):
                found = service.search().permitted(scope, filters).lists(text, vector, 500)
                assert {*found.words.seqs.tolist(), *found.meaning.seqs.tolist()} <= permitted
                if not filters:
                    assert set(found.words.seqs.tolist()) == set(service.bm25(text, sorted(permitted)))
                    assert set(found.meaning.seqs.tolist()) == permitted & set(service.vectors)
    finally:
        service.close()


def test_short_answers_never(way: str) -> None:
    """One thousandth of the corpus is visible: all of it is found, though the nearest rows are others'."""
    skip_without_postgres("postgresql")
    service = Service.fresh()
    try:
        rng, numbers = random.Random(1), np.random.default_rng(1)
        hidden = [prepared(str(n), [some_text(rng) for _ in range(100)], Acl(("group:x",), ())) for n in range(30)]
        mine = prepared("mine", ["the gaton of"] * 3, Acl(("public",), ()))
        for n in range(0, 30, 10):
            service.put(hidden[n : n + 10])
        service.put([mine])
        toward = numbers.standard_normal(DIMS).astype(np.float32)
        for seq, name in service.of.items():
            sign = -1 if name == "doc_mine" else 1
            service.vectors[seq] = sign * toward + 0.3 * numbers.standard_normal(DIMS).astype(np.float32)
        service.embed(service.vectors)
        scope = service.scope("anybody")
        assert len(service.seqs(scope)) == 3
        search = service.search()
        for _ in range(20):
            found = search.permitted(scope).lists("the gaton", toward, 3)
            assert (len(found.words), len(found.meaning)) == (3, 3)
    finally:
        service.close()


def test_the_choice_follows_the_size_of_the_permitted_set(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Mixed orders of narrow and wide scopes: no plan of one is used for another."""
    sent: list[str] = []
    inner = postgres_search._sent
    monkeypatch.setattr(postgres_search, "_FEW", 20)
    monkeypatch.setattr(postgres_search, "_SORTED", 0)
    monkeypatch.setattr(postgres_search, "_ALWAYS", 40)

    def noted(connection: object, message: str) -> list[list[object]]:
        sent.append(message)
        return inner(connection, message)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres_search, "_sent", noted)
    search = service.search()
    for n in range(20):
        for user in [f"u{m}" for m in range(6)]:
            scope = service.scope(user)
            inside = search.permitted(scope)
            text, vector = asked(n)
            count = inside.count
            sent.clear()
            found = inside.lists(text, vector, 5)
            assert len(found.meaning) == min(5, count - inside.without_vector)
            assert any("ORDER BY s.e <#>" in message for message in sent) == (count > 40)
            classes = "'{" + ",".join(map(str, sorted(scope.classes))) + "}'"
            assert all(classes in message for message in sent if "search_words" in message)


def test_what_is_removed_or_moved_is_gone_at_the_next_query() -> None:
    skip_without_postgres("postgresql")
    service = Service.fresh()
    try:
        words = [f"{a} {b}" for a in WORDS[:20] for b in WORDS[20:25]]
        service.put([prepared(str(n), words[n : n + 5], Acl(("public",), ())) for n in range(20)])
        service.embed({seq: np.eye(DIMS, dtype=np.float32)[seq % DIMS] for seq in service.texts})
        scope, search = service.scope("a"), service.search()
        before = search.permitted(scope).lists(words[3], np.eye(DIMS, dtype=np.float32)[0], 500)
        assert set(before.words.seqs.tolist()) == set(service.bm25(words[3], service.seqs(scope)))
        service.documents.remove(["doc_3"], NOW)
        service.put([prepared("4", ["other words"], Acl(("public",), ()), {"year": 7}, version="2")])
        service.put([prepared("5", words[5:10], Acl(("group:x",), ()), version="2")])
        scope = service.scope("a")
        permitted = service.seqs(scope)
        assert len(permitted) == 100 - 3 * 5 + 1
        inside = search.permitted(scope)
        after = inside.lists(words[3], np.eye(DIMS, dtype=np.float32)[0], 500)
        assert set(after.words.seqs.tolist()) <= set(permitted)
        assert set(after.meaning.seqs.tolist()) == set(permitted) - {max(permitted)} - set(_without(service, permitted))
        assert (inside.count, inside.cut_off) == (86, 5)
        assert search.permitted(scope, [Filter(key="year", any_of=(7,))]).count == 1
        assert service.index.tidy(everything=True) > 0
        with service.database.read() as connection:
            held = connection.exec_driver_sql("SELECT sum(chunks) FROM search_part").scalar_one()
            assert held == connection.exec_driver_sql("SELECT count(*) FROM chunk").scalar_one() == 91
    finally:
        service.close()


def _without(service: Service, permitted: list[int]) -> list[int]:
    with service.database.read() as connection:
        having = set(connection.exec_driver_sql("SELECT seq FROM vector").scalars())
    return [seq for seq in permitted if seq not in having]


def test_filling_gives_what_writing_gave(service: Service) -> None:
    """A service that was searched in another way until now, or moved here, is made searchable by what it holds."""
    scope = service.scope("u1")
    text, vector = asked(2)
    before = service.search().permitted(scope).lists(text, vector, 30)
    with service.database.write() as connection:
        postgres_index._drop_all(connection)
        connection.exec_driver_sql("DELETE FROM fact WHERE name = 'search:made'")
    again = postgres_index.PostgresIndex(service.database)
    assert not again.complete()
    told: list[postgres_index.Filled] = []
    again.fill(MADE_BY, told.append)
    assert again.complete()
    assert {filled.what for filled in told} == {"words", "vectors"}
    again.fill(MADE_BY)  # nothing is missing: nothing is done twice
    after = service.search().permitted(scope).lists(text, vector, 30)
    assert after.words.seqs.tolist() == before.words.seqs.tolist()
    assert after.words.scores.tolist() == pytest.approx(before.words.scores.tolist(), rel=1e-6)
    assert after.meaning.seqs.tolist() == before.meaning.seqs.tolist()
    test_sizes_and_filters_are_the_same(service, "u1")


def test_many_small_writes_leave_few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_postgres("postgresql")
    monkeypatch.setattr(postgres_index, "SPAN", 64)  # numbers cross from one base to the next
    monkeypatch.setattr(postgres_search, "SPAN", 64)
    monkeypatch.setattr(postgres_search, "_FEW", 0)
    service = Service.fresh()
    try:
        rng = random.Random(9)
        for n in range(60):
            service.put([prepared(str(n), [some_text(rng) for _ in range(1 + n % 3)], Acl(("public",), ()))])
        scope = service.scope("a")
        with service.database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM search_part").scalar_one() < 40
        for seed in range(8):
            text, _ = asked(seed)
            found = service.search().permitted(scope).lists(text, None, 10)
            best = sorted(service.bm25(text, service.seqs(scope)).values(), reverse=True)[:10]
            assert found.words.scores.tolist() == pytest.approx(best, rel=1e-5)
            assert not len(found.meaning)
    finally:
        service.close()


def test_vectors_of_another_embedder_are_another_table(service: Service) -> None:
    other = EmbedderIdentity(name="other", digest="f" * 64, precision="fp32", dims=3)
    seqs = sorted(service.texts)[:4]
    search = postgres_search.PostgresSearch(service.database, other, patience=0.0)
    scope = Scope(principals=frozenset(["public"]), classes=service.scope("u0").classes)
    vector = np.ones(3, np.float32)
    assert not len(search.permitted(scope).lists("x", vector, 5).meaning)
    service.documents.put_vectors(other, seqs, np.ones((4, 3), np.float32), NOW)
    everybody = service.scope("u0")
    inside = search.permitted(everybody)
    assert set(inside.lists("x", vector, 5).meaning.seqs.tolist()) == set(seqs) & set(service.seqs(everybody))
    service.documents.drop_vectors(keep=MADE_BY)
    with service.database.read() as connection:
        assert postgres_index._vector_tables(connection) == [postgres_index.table_of(MADE_BY)]


def test_questions_of_any_kind(service: Service) -> None:
    inside = service.search().permitted(service.scope("u0"))
    vector = np.zeros(DIMS, np.float32)
    vector[0] = 1
    for text in ("", "   ", "'; DROP TABLE chunk; --", "\0", "wordnobodyhas", "x" * 10_000):
        found = inside.lists(text, vector, 5)
        assert len(found.meaning) == 5
        assert not len(found.words)
    assert not len(inside.lists("the", None, 0).words)
    assert not len(
        service.search().permitted(Scope(principals=frozenset(), classes=frozenset())).lists("the", vector, 5).words
    )
