"""Search is right (against naive oracles) and says nothing about what the asker may not read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tests.rooms.corpus.index import worlds
from tests.rooms.corpus.index.worlds import DIMS, FINGERPRINT, scope

from mainstay.corpus.index import Hits, PutDocument, RemoveDocument, Row, SearchIndex, SetClass, SetVectors
from mainstay.errors import Invalid
from mainstay.types import Filter, Scope


def empty(folder: Path | None = None) -> SearchIndex:
    return SearchIndex.open(folder, dims=DIMS, fingerprint=FINGERPRINT)


def agrees(hits: Hits, oracle: dict[int, float], k: int) -> None:
    """The hits are the oracle's best k, up to the rounding of sums made in another order."""
    best = sorted(oracle.items(), key=lambda item: (-item[1], item[0]))
    assert len(hits) == min(k, len(best))
    assert np.allclose(hits.scores, [score for _, score in best[: len(hits)]], rtol=0, atol=1e-9)
    assert np.allclose(hits.scores, [oracle[seq] for seq in hits.seqs.tolist()], rtol=0, atol=1e-9)
    assert len(set(hits.seqs.tolist())) == len(hits)
    order = list(zip((-hits.scores).tolist(), hits.seqs.tolist(), strict=True))
    assert order == sorted(order)


@pytest.mark.parametrize("lot", range(8))
def test_nothing_forbidden_has_an_influence(lot: int, tmp_path: Path) -> None:
    """In 320 random worlds: the bits of every result equal those of a world without the forbidden documents."""
    for seed in range(lot * 40, lot * 40 + 40):
        rng = random.Random(seed)
        world = worlds.make(rng, steps=rng.randrange(5, 45), lots=rng.choice([0.1, 0.5]))
        folder = tmp_path / str(seed) if seed % 4 == 0 else None
        index = worlds.fill(empty(folder), world)
        if folder is not None:
            index.save()
            index = empty(folder)
        classes = frozenset(rng.sample(range(4), rng.randrange(0, 4)))
        asked = Scope(principals=frozenset(), classes=classes)
        other, renumbered = worlds.twin(world, classes, rng)
        alone = worlds.fill(empty(), other)
        for _ in range(3):
            text, vector, k = worlds.some_text(rng), worlds.some_vector(rng, []), rng.choice([1, 3, 100])
            filters = [worlds.some_filter(rng) for _ in range(rng.choice([0, 0, 1, 2]))]
            mine = worlds.bits(index, asked, text, vector, filters, k)
            for at in (3, 4, 6):
                mine[at] = [renumbered[seq] for seq in mine[at]]
            assert mine == worlds.bits(alone, asked, text, vector, filters, k), f"world {seed}"


@pytest.mark.parametrize("lot", range(4))
def test_results_are_those_of_naive_oracles(lot: int) -> None:
    for seed in range(1000 + lot * 20, 1020 + lot * 20):
        rng = random.Random(seed)
        world = worlds.make(rng)
        index = worlds.fill(empty(), world)
        classes = frozenset(rng.sample(range(4), rng.randrange(0, 5)))
        permitted = index.permitted(Scope(principals=frozenset(), classes=classes))
        for k in (1, 4, 50):
            text, vector = worlds.some_text(rng), worlds.some_vector(rng, [])
            agrees(index.lexical(text, permitted, k), worlds.bm25(world, classes, text), k)
            if vector.any():
                agrees(index.dense(vector, permitted, k), worlds.dots(world, classes, vector), k)
            else:
                assert len(index.dense(vector, permitted, k)) == 0


@pytest.mark.parametrize("seed", range(2))
def test_long_lists_give_the_same_as_short_ones(seed: int) -> None:
    """Thousands of rows: frequent terms are skipped, estimates are grouped, rare scopes are gathered; results stay."""
    rng = random.Random(seed)
    world = worlds.make(rng, steps=2500, documents=2200, classes=12, longest=7, lots=0.02)
    index = worlds.fill(empty(), world)
    for classes in (frozenset({0}), frozenset(range(4)), frozenset(range(11))):
        asked = Scope(principals=frozenset(), classes=classes)
        permitted = index.permitted(asked)
        other, renumbered = worlds.twin(world, classes, rng)
        alone = worlds.fill(empty(), other)
        for text in ("the of policy word3 INV-2023/004", "the of and word1 word2 word9 word20 leave"):
            vector = worlds.some_vector(rng, [])
            agrees(index.lexical(text, permitted, 5), worlds.bm25(world, classes, text), 5)
            if vector.any():
                agrees(index.dense(vector, permitted, 3), worlds.dots(world, classes, vector), 3)
            mine = worlds.bits(index, asked, text, vector, [], 3)
            for at in (3, 4, 6):
                mine[at] = [renumbered[seq] for seq in mine[at]]
            assert mine == worlds.bits(alone, asked, text, vector, [], 3)


def test_one_frequent_word_among_rare_ones_is_skipped_without_a_trace() -> None:
    """The road where the heaviest terms decide (MaxScore) gives the bits of scores looked up row by row."""
    rng = random.Random(5)
    texts = [
        f"common also {' '.join(rng.choices(worlds.WORDS[9:], k=6))}" + (" rare" * (i % 50 == 0)) for i in range(9000)
    ]
    index = empty()
    puts = [
        PutDocument(document=i, class_id=i % 3, metadata={}, rows=[Row(seq=i + 1, text=text)])
        for i, text in enumerate(texts)
    ]
    index.apply(puts, applied=1)
    permitted = index.permitted(scope(0, 1))
    for text in ("common rare", "common also rare word3", "rare common word1 word2 word4 word7 also"):
        hits = index.lexical(text, permitted, 20)
        everything = index.lexical_scores(permitted.seqs(), text, permitted)
        order = np.lexsort((permitted.seqs(), -everything))[:20]
        assert hits.seqs.tolist() == permitted.seqs()[order].tolist()
        assert hits.scores.tobytes() == everything[order].tobytes()


def test_exact_scores_do_not_depend_on_where_a_row_lies() -> None:
    from mainstay.corpus.index.vectors import code, probe

    rng = np.random.default_rng(0)
    for dims in (1, 7, 129, 384, 768, 1536):
        rows = rng.standard_normal((300, dims)).astype(np.float32)
        block = code(np.arange(300, dtype=np.int32), rows)
        asked = probe(rows[0])
        assert asked is not None
        whole = block.scores(asked, np.arange(300))
        for at in ([5], [299, 5], list(range(5, 90)), rng.permutation(300)[:150].tolist()):
            assert block.scores(asked, np.array(at)).tobytes() == whole[at].tobytes()
        estimates = block.estimates(asked, None)
        bound = block.error * asked.norm + block.norm * asked.residual
        assert (np.abs(estimates - whole) <= bound + 1e-9).all()
        sums = asked.codes[0].astype(np.int64) @ block.codes.astype(np.int64).T
        assert (estimates == sums * (block.scale * asked.scale)).all(), "the SIMD sums are not exact"


def test_code_sums_are_exact_at_the_extremes() -> None:
    from mainstay.corpus.index.vectors import code, probe

    for dims in (31, 384, 1536, 4096):
        rows = np.array([[1.0] * dims, [-1.0] * dims, [1.0, *[-1.0] * (dims - 1)]], np.float32)
        block = code(np.arange(3, dtype=np.int32), rows)
        asked = probe(rows[0])
        assert asked is not None
        assert np.allclose(block.estimates(asked, None), rows.astype(np.float64) @ rows[0], rtol=1e-6)


def test_everything_equal_is_still_ordered_and_complete() -> None:
    index = empty()
    same = np.ones(DIMS, np.float32) / np.sqrt(np.float32(DIMS))
    puts = [
        PutDocument(document=i, class_id=i % 2, metadata={}, rows=[Row(seq=i + 1, text="same words", vector=same)])
        for i in range(2000)
    ]
    index.apply(puts, applied=1)
    permitted = index.permitted(scope(1))
    assert index.dense(same, permitted, 5).seqs.tolist() == [2, 4, 6, 8, 10]
    assert index.lexical("same", permitted, 5).seqs.tolist() == [2, 4, 6, 8, 10]


def test_a_moved_document_is_gone_at_the_next_query_and_back_when_it_returns() -> None:
    index = empty()
    index.apply([PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="secret plan")])], applied=1)
    before = index.permitted(scope(1))
    index.apply([SetClass(document=1, class_id=2)], applied=2)
    assert len(index.lexical("plan", index.permitted(scope(1)), 5)) == 0
    assert len(index.lexical("plan", index.permitted(scope(2)), 5)) == 1
    assert len(index.lexical("plan", before, 5)) == 1, "a reader keeps the snapshot it started with"
    index.apply([SetClass(document=1, class_id=1), RemoveDocument(document=7)], applied=3)
    assert len(index.lexical("plan", index.permitted(scope(1)), 5)) == 1
    assert index.applied == 3


def test_the_last_change_of_a_document_in_one_lot_counts() -> None:
    one, two = np.eye(DIMS, dtype=np.float32)[:2]
    first = PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="old")])
    second = PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=2, text="new", vector=one)])
    index = empty()
    late = SetVectors(seqs=[2, 99], vectors=np.array([two, one]))
    index.apply([first, RemoveDocument(document=1), second, SetClass(document=1, class_id=5), late], applied=1)
    permitted = index.permitted(scope(5))
    assert permitted.seqs().tolist() == [2]
    assert index.dense(two, permitted, 3).scores.tolist() == [1.0]
    assert len(index.lexical("old", permitted, 3)) == 0
    assert (len(index), index.vectors_missing(), permitted.cut_off) == (1, 0, 0)


def test_a_refused_change_changes_nothing() -> None:
    index = empty()
    index.apply([PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="kept")])], applied=1)
    short, broken = np.zeros(DIMS - 1, np.float32), np.full(DIMS, np.nan, np.float32)
    for vector in (short, broken):
        bad = PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=2, text="x", vector=vector)])
        with pytest.raises(Invalid):
            index.apply([RemoveDocument(document=1), bad], applied=2)
    with pytest.raises(Invalid):
        index.apply([PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=0, text="x")])], applied=2)
    with pytest.raises(Invalid):
        index.dense(short, index.permitted(scope(1)), 3)
    assert (index.applied, len(index)) == (1, 1)


def test_an_empty_index_and_an_empty_question_find_nothing() -> None:
    index = empty()
    permitted = index.permitted(scope(1), [Filter(key="year", any_of=(2023,))])
    assert (permitted.count, permitted.seqs().tolist(), len(index.lexical("word", permitted, 5))) == (0, [], 0)
    assert len(index.dense(np.ones(DIMS, np.float32), permitted, 5)) == 0
    index.apply([PutDocument(document=1, class_id=1, metadata={}, rows=[Row(seq=1, text="")])], applied=1)
    permitted = index.permitted(scope(1))
    assert [len(index.lexical(text, permitted, 5)) for text in ("", "?!", "word")] == [0, 0, 0]
    assert len(index.lexical("word", permitted, 0)) == 0


def test_half_of_a_hundred_thousand_classes() -> None:
    """A class per document and a scope of fifty thousand of them: an ordinary scope."""
    import time

    index = empty()
    puts = [
        PutDocument(document=i, class_id=i + 1, metadata={}, rows=[Row(seq=i + 1, text="w")]) for i in range(100_000)
    ]
    index.apply(puts, applied=1)
    asked = Scope(principals=frozenset(), classes=frozenset(range(2, 100_002, 2)))
    start = time.thread_time()
    assert index.permitted(asked).count == 50_000
    first = time.thread_time() - start
    start = time.thread_time()
    assert index.permitted(Scope(principals=frozenset(), classes=asked.classes)).count == 50_000
    again = time.thread_time() - start
    print(f"first {first * 1e3:.1f} ms, again {again * 1e3:.2f} ms")
    assert first < 1.0, "not a benchmark: only that nothing grows with the square"
