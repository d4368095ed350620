"""Sampling never loses what will be asked about; texts and times are kept as far as the settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mainstay.clock import FixedClock
from mainstay.errors import Invalid
from mainstay.records.content import DECISIONS_FLOOR_DAYS, MAX_CHARS, RecordSettings, documents_of, permitted
from mainstay.records.retention import Retention
from mainstay.records.sampling import ENOUGH, Sampling
from mainstay.records.spans import Span, context_of
from mainstay.records.traces import PASSING, Texts, Trace

NOW = FixedClock().now()


def made(n: int = 0, **changes: Any) -> Trace:
    trace = Trace(
        request_id=f"req_{n}",
        at=NOW,
        asker="user:alice",
        kind="answer",
        status="answered",
        spans=(Span(kind="admit", start_ms=0, duration_ms=1),),
        mode="full",
        trace_id=context_of(f"req_{n}").trace_id,
    )
    return replace(trace, **changes)


def test_everything_by_default() -> None:
    assert Sampling().reason(made()) == "all"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"failed": True}, "error"),
        ({"facts": {"error": "Unavailable"}}, "error"),
        ({"mode": "economy"}, "degraded"),
        ({"facts": {"notices": 1}}, "degraded"),
        ({"status": "handed_off"}, "review"),
        ({"spans": (Span(kind="review", start_ms=0, duration_ms=1),)}, "review"),
        ({"cost_nanodollars": 1000}, "expensive"),
        ({"cost_nanodollars": 999}, PASSING),
        ({}, PASSING),
    ],
)
def test_what_is_always_kept(changes: dict[str, Any], why: str) -> None:
    assert Sampling(0.0, expensive_n=1000).reason(made(**changes)) == why


def test_the_share_is_chosen_by_the_trace_alike_everywhere() -> None:
    here, there = Sampling(0.2), Sampling(0.2)
    said = [here.reason(made(n)) for n in range(2000)]
    assert said == [there.reason(made(n)) for n in range(2000)]
    assert 330 <= said.count("sampled") <= 470
    more = Sampling(0.5)
    assert all(more.reason(made(n)) == "sampled" for n, why in enumerate(said) if why == "sampled")


def test_the_dearest_hundredth_is_learnt() -> None:
    sampling = Sampling(0.0)
    for n in range(10 * ENOUGH):
        sampling.reason(made(n, cost_nanodollars=n % 100))
    assert sampling.reason(made(cost_nanodollars=100)) == "expensive"
    assert sampling.reason(made(cost_nanodollars=98)) == PASSING


def test_a_share_is_a_share() -> None:
    for odd in (-0.1, 1.1, float("nan")):
        with pytest.raises(Invalid):
            Sampling(odd)
        with pytest.raises(Invalid):
            RecordSettings(sample=odd)


def test_texts_are_kept_as_far_as_somebody_wants_them() -> None:
    texts = Texts(question="Why?", answer="So.", data_classes=frozenset({None, "internal"}))
    assert permitted(RecordSettings(), texts) == {}
    assert permitted(RecordSettings(content="questions"), texts) == {"question": "Why?"}
    assert permitted(RecordSettings(content="all"), texts) == {"question": "Why?"}, "a class that nobody named"
    both = {"question": "Why?", "answer": "So."}
    assert permitted(RecordSettings(content="all", classes=("internal",)), texts) == both
    secret = replace(texts, data_classes=frozenset({"internal", "secret"}))
    assert permitted(RecordSettings(content="all", classes=("internal",)), secret) == {"question": "Why?"}
    assert permitted(RecordSettings(content="all"), replace(texts, data_classes=frozenset({None}))) == both
    long = permitted(RecordSettings(content="questions"), Texts(question="x" * (MAX_CHARS + 1)))
    assert len(long["question"]) == MAX_CHARS


def test_the_documents_whose_rights_count() -> None:
    spans = (
        Span(kind="retrieve", start_ms=0, duration_ms=1, attributes={"documents": ["doc_1", "doc_2", "doc_1"]}),
        Span(kind="generate", start_ms=0, duration_ms=1, attributes={"documents": ["doc_9"]}),
        Span(kind="retrieve", start_ms=0, duration_ms=1),
    )
    assert documents_of(made(spans=spans)) == {"doc_1", "doc_2"}


def test_times_by_class() -> None:
    assert Retention.of(RecordSettings()) == Retention(traces=90, content=30, decisions=396)
    assert Retention.of(RecordSettings(), 14) == Retention(traces=14, content=14, decisions=396)
    assert Retention.of(RecordSettings(traces_days=60), 400).traces == 60
    for odd in (
        {"decisions_days": DECISIONS_FLOOR_DAYS - 1},
        {"traces_days": 0},
        {"content_days": 91},
        {"content_days": 0},
    ):
        with pytest.raises(Invalid):
            RecordSettings(**odd)  # type: ignore[arg-type]  # tests name fields
