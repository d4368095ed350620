"""What is kept of an answer comes back as it was; what must not serve again is not kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.models.cache.answers import (
    cached,
    dumps,
    loads,
    read_set,
    same_answer,
    served,
    sources_of,
    why_not_kept,
)
from mainstay.models.cache.ports import CachedAnswer, Source
from mainstay.types import Answer, Citation, Mode, Passage, Status

LAW = settings(max_examples=60, deadline=None, derandomize=True)
CITED = Citation(n=1, document="d", version="v", title="T", uri="u", quote="q", start=3, end=4, page=2, verified=True)
ANSWER = Answer(
    id="req_1",
    status=Status.ANSWERED,
    text="It is 30 days [1].",
    language="en",
    citations=(CITED,),
    confidence=0.75,
    model="m",
    route=("cache:miss", "m:answered"),
    release="r",
)
TEXT = st.text(max_size=20)
CITATIONS = st.builds(
    Citation,
    n=st.integers(1, 9),
    document=TEXT,
    version=TEXT,
    title=TEXT,
    uri=TEXT,
    quote=TEXT,
    start=st.integers(0, 99),
    end=st.integers(0, 99),
    page=st.none() | st.integers(1, 9),
    verified=st.booleans(),
)
KEPT = st.builds(
    CachedAnswer,
    text=TEXT,
    language=TEXT,
    citations=st.lists(CITATIONS, max_size=4).map(tuple),
    confidence=st.floats(0, 1),
    model=TEXT,
    notice=st.none() | TEXT,
    review=st.none() | TEXT,
    release=TEXT,
)


@LAW
@given(KEPT)
def test_an_answer_comes_back_as_it_was(kept: CachedAnswer) -> None:
    assert loads(dumps(kept)) == kept
    assert same_answer(kept, kept)


def test_what_serves_again_carries_the_askers_own_id() -> None:
    again = served(cached(ANSWER), Answer(id="req_2", status=Status.FAILED, text="", cap_nanodollars=5))
    assert again.id == "req_2"
    assert again.cache_hit
    assert (again.text, again.citations, again.release) == (ANSWER.text, ANSWER.citations, ANSWER.release)
    assert (again.cost_nanodollars, again.cap_nanodollars) == (0, 5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"status": Status.REFUSED}, "refused"),
        ({"status": Status.PARTIAL}, "partial"),
        ({"status": Status.CLARIFY}, "clarify"),
        ({"status": Status.FAILED}, "failed"),
        ({"status": Status.HANDED_OFF}, "handed_off"),
        ({"mode": Mode.ECONOMY}, "limited mode"),
        ({"cache_hit": True}, "from the cache"),
        ({"route": ("m:cut_short",)}, "not whole"),
        ({"route": ("m:broke_off",)}, "not whole"),
        ({"citations": ()}, "no source"),
        ({"text": "  "}, "no source"),
    ],
)
def test_what_is_not_kept(change: dict[str, object], reason: str) -> None:
    assert why_not_kept(replace(ANSWER, **change)) == reason  # type: ignore[arg-type]  # names of its fields


def test_sources_are_all_that_was_read_and_cited() -> None:
    passages = [
        Passage(chunk=f"c{n}", document=f"d{n % 2}", version="v", title="", uri="", text="", start=0, end=0)
        for n in range(4)
    ]
    expected = (
        Source(document="d", version="v"),
        Source(document="d0", version="v"),
        Source(document="d1", version="v"),
    )
    assert sources_of(passages, ANSWER) == expected
    assert read_set(passages) == {("d0", "v"), ("d1", "v")}


KEPT_ONE = cached(ANSWER)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"text": "it is 30 days [1]!"}, True),
        ({"text": "You have 30 days [1]."}, True),  # the same place of the same document
        ({"text": "It is 60 days [1]."}, False),
        ({"text": "It is not 30 days [1]."}, False),
        ({"text": "You have 30 days [1].", "citations": (replace(CITED, start=9),)}, False),
        ({"text": "You have 30 days [1].", "citations": (replace(CITED, version="w"),)}, False),
        ({"text": "You have 30 days [1].", "citations": ()}, False),
        ({"text": "You have 30 days [1].", "citations": (CITED, replace(CITED, n=2, start=1))}, False),
    ],
)
def test_answers_agree_when_places_and_numbers_do(change: dict[str, object], same: bool) -> None:
    other = replace(KEPT_ONE, **change)  # type: ignore[arg-type]  # names of its fields
    assert same_answer(KEPT_ONE, other) is same
    assert same_answer(other, KEPT_ONE) is same
