"""Steps as a tree, ids, journeys whose parts come from other threads."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest

from mainstay.clock import FixedClock
from mainstay.records.spans import (
    KINDS,
    OTHER,
    Context,
    Span,
    context_of,
    is_span_id,
    is_trace_id,
    known_kind,
    numbered,
    waterfall,
)
from mainstay.records.traces import MAX_CHILDREN, Journey
from mainstay.types import Actor

ALICE = Actor(principal="user:alice")


def step(name: str, parent: str = "", start: float = 0.0, took: float = 1.0) -> Span:
    return Span(kind="step", name=name, span_id=name, parent_id=parent, start_ms=start, duration_ms=took)


def drawn(spans: list[Span]) -> list[tuple[str, int, float]]:
    return [(line.span.name, line.depth, line.self_ms) for line in waterfall(spans)]


def test_a_tree_in_order_of_time_with_the_time_of_each() -> None:
    spans = [
        step("late", "root", 60, 30),
        step("part", "early", 12, 5),
        step("early", "root", 10, 20),
        step("overlaps", "root", 20, 20),
        step("root", "somebody-elsewhere", 0, 100),
        step("alone", "", 5, 1),
    ]
    assert drawn(spans) == [
        ("root", 0, 40.0),
        ("early", 1, 15.0),
        ("part", 2, 5.0),
        ("overlaps", 1, 20.0),
        ("late", 1, 30.0),
        ("alone", 0, 1.0),
    ]


def test_parts_that_outlast_their_step_take_no_more_than_all_of_it() -> None:
    assert drawn([step("a", "", 10, 10), step("b", "a", 0, 100)])[0] == ("a", 0, 0.0)


@pytest.mark.parametrize("circle", [1, 2, 5])
def test_circles_are_cut_open(circle: int) -> None:
    spans = [step(f"s{n}", f"s{(n + 1) % circle}", n) for n in range(circle)]
    lines = drawn([*spans, step("below", "s0", 9)])
    assert sorted(name for name, _, _ in lines) == sorted([*(f"s{n}" for n in range(circle)), "below"])
    assert lines[0][:2] == ("s0", 0)


def test_two_steps_of_one_id_are_both_shown() -> None:
    assert len(drawn([step("a"), step("a"), step("b", "a")])) == 3


def test_steps_without_ids_stand_one_below_the_other() -> None:
    spans = [Span(kind="admit", start_ms=n, duration_ms=1) for n in range(3)]
    assert [line.depth for line in waterfall(spans)] == [0, 0, 0]


def test_any_forest_is_drawn_whole() -> None:
    print(seed := 5)
    rng = random.Random(seed)
    for _ in range(200):
        count = rng.randrange(1, 30)
        spans = [
            step(
                f"s{n}", f"s{rng.randrange(count)}" if rng.random() < 0.9 else "", rng.randrange(50), rng.randrange(50)
            )
            for n in range(count)
        ]
        lines = waterfall(spans)
        assert sorted(line.span.name for line in lines) == sorted(span.name for span in spans)
        assert all(0 <= line.self_ms <= line.span.duration_ms for line in lines)


def test_ten_thousand_in_a_chain_and_in_a_row() -> None:
    chain = [step(f"s{n}", f"s{n - 1}", n) for n in range(10_000)]
    assert waterfall(chain)[-1].depth == 9_999
    row = [step("top", "", 0, 1e6), *(step(f"s{n}", "top", n) for n in range(10_000))]
    assert waterfall(row)[0].self_ms == 1e6 - 10_000


def test_ids() -> None:
    made = context_of("req_1")
    assert made == context_of("req_1")
    assert made != context_of("req_2")
    assert is_trace_id(made.trace_id)
    assert is_span_id(made.span_id)
    assert numbered(0xFF, 1) == "0000000000000100"
    assert numbered(2**64 - 1, 1) == "0000000000000001", "zero is no id"
    for odd in ("", "0" * 32, "G" * 32, "A" * 32, "é" * 32, "1" * 31):
        assert not is_trace_id(odd)


def test_kinds_are_fixed() -> None:
    assert [known_kind(kind) for kind in KINDS] == list(KINDS)
    assert known_kind("LLM") == OTHER


def test_a_journey_stands_where_its_caller_says() -> None:
    clock = FixedClock(step=timedelta(milliseconds=1))
    place = Context(trace_id="a" * 32, span_id="b" * 16, parent_id="c" * 16)
    journey = Journey("req_1", ALICE, "answer", clock, context=place)
    clock.now()
    began = clock.monotonic()
    clock.now()
    journey.part("step", began, name="attempt", error="rate", model="small")
    journey.span("generate", model="small")
    trace = journey.trace("answered")
    assert (trace.trace_id, trace.root_id, trace.parent_id) == ("a" * 32, "b" * 16, "c" * 16)
    generate, attempt = trace.spans
    assert (generate.kind, attempt.parent_id, attempt.error_class) == ("generate", generate.span_id, "rate")
    assert (generate.start_ms, generate.duration_ms) == (0.0, 2.0)
    assert (attempt.start_ms, attempt.duration_ms) == (1.0, 1.0)
    assert trace.whole[0].duration_ms == trace.duration_ms == 2.0
    assert journey.took_ms("generate") == 2.0


def test_what_is_told_late_is_not_lost() -> None:
    journey = Journey("req_1", ALICE, "answer", FixedClock())
    journey.span("generate")
    journey.part("step", 0.0, name="hedge")
    trace = journey.trace("answered")
    assert trace.spans[-1].parent_id == trace.root_id
    assert trace.span_count == 2


def test_parts_from_many_threads() -> None:
    journey = Journey("req_1", ALICE, "answer", FixedClock())

    def tell() -> None:
        for _ in range(50):
            journey.part("step", 0.0)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journey.span("generate")
    trace = journey.trace("answered")
    assert len(trace.spans) == 401
    assert len({span.span_id for span in trace.whole}) == 402


def test_parts_are_bounded() -> None:
    journey = Journey("req_1", ALICE, "answer", FixedClock())
    for _ in range(MAX_CHILDREN + 10):
        journey.part("step", 0.0)
    assert journey.trace("answered").span_count == MAX_CHILDREN
