"""Long journeys on one page: against the waterfall that shows them whole, and of shapes that try to break it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mainstay.records.outline import Outline, outline
from mainstay.records.spans import ERROR, Span, waterfall


def step(n: int, parent: int | None, *, at: float | None = None, status: str = "ok") -> Span:
    return Span(
        kind="step",
        name=f"s{n}",
        span_id=f"{n:016x}",
        parent_id="" if parent is None else f"{parent:016x}",
        start_ms=float(n) if at is None else at,
        duration_ms=5.0,
        status=status,
    )


def shown(held: Outline | None) -> list[tuple[str, int]]:
    assert held is not None
    return [(line.span.name, line.depth) for line in held.lines]


@given(st.lists(st.integers(min_value=-1, max_value=30), min_size=1, max_size=30), st.integers(1, 40))
def test_with_room_for_all_it_is_the_waterfall_and_else_it_counts_what_is_left(parents: list[int], most: int) -> None:
    spans = [step(n + 1, None if parent < 0 else parent) for n, parent in enumerate(parents)]
    lines = waterfall(spans)
    every = outline(spans, most=100)
    assert every is not None
    assert every.whole
    assert [(line.span, line.depth, line.self_ms) for line in every.lines] == [
        (line.span, line.depth, line.self_ms) for line in lines
    ]
    some = outline(spans, most=most)
    assert some is not None
    assert len(some.lines) <= most + 1
    assert some.count == len(spans)
    within = every if some.parts == some.last else None
    if within is not None:  # one page: what is shown and what is inside the closed ones is everything
        assert len(some.lines) + sum(line.inside for line in some.lines if not line.open) == len(spans)
    for line in every.lines:
        alone = outline(spans, top=line.span.span_id, most=100)
        assert alone is not None
        assert alone.count == 1 + line.inside
        assert [held.span for held in alone.lines][:1] == [line.span]


def test_ten_thousand_under_one_come_in_pages() -> None:
    spans = [step(1, None), *(step(n, 1) for n in range(2, 10_002))]
    first = outline(spans, most=200)
    assert first is not None
    assert (len(first.lines), first.first, first.last, first.parts) == (201, 1, 200, 10_000)
    last = outline(spans, page=50, most=200)
    assert shown(last)[0] == ("s1", 0)
    assert shown(last)[-1] == ("s10001", 1)
    assert outline(spans, page=51, most=200) is None
    assert outline(spans, top="f" * 16) is None
    tops = outline([step(n, None) for n in range(1, 301)], most=200, page=2)
    assert len(shown(tops)) == 100


def test_what_failed_is_opened_first() -> None:
    spans = [step(1, None), *(step(n, 1) for n in range(2, 102))]
    spans += [step(1000 + n, 2 + n % 100, status=ERROR if n == 457 else "ok") for n in range(500)]
    held = outline(spans, most=120)
    assert held is not None
    assert held.errors == 1
    assert [line.span.name for line in held.lines if line.open and line.inside] == ["s1", "s59"]
    assert "s1457" in dict(shown(held))
    closed = outline(spans, most=100)
    assert closed is not None
    assert [line.span.name for line in closed.lines if not line.open and line.failed] == ["s59"]


def test_the_way_up_and_the_axis_of_a_part() -> None:
    spans = [step(n, n - 1 or None, at=float(n)) for n in range(1, 2001)]
    held = outline(spans, top=f"{1500:016x}", most=50)
    assert held is not None
    assert [span.name for span in held.above] == [f"s{n}" for n in range(1, 1500)]
    assert (held.begin_ms, held.end_ms, held.count) == (1500.0, 2005.0, 501)
    assert len(held.lines) == 51
    assert (held.lines[-1].open, held.lines[-1].inside) == (False, 450)


def test_circles_are_cut_open() -> None:
    spans = [step(1, 3), step(2, 1), step(3, 2), step(4, 3), step(5, 5)]
    held = outline(spans)
    assert shown(held) == [("s5", 0), ("s1", 0), ("s2", 1), ("s3", 2), ("s4", 3)]
    source = random.Random(11)
    print("seed 11")
    for _ in range(50):
        tangled = [step(n, source.randrange(1, 20), at=source.random()) for n in range(1, 20)]
        found = outline(tangled)
        assert found is not None
        assert len(found.lines) == found.count == 19
