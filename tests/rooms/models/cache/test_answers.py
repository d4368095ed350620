"""What is kept of an answer comes back as it was; answers agree when they say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.models.cache.answers import dumps, loads, read_set, same_answer
from mainstay.models.cache.ports import CachedAnswer
from mainstay.types import Citation, Passage

LAW = settings(max_examples=60, deadline=None, derandomize=True)
CITED = Citation(n=1, document="d", version="v", title="T", uri="u", quote="q", start=3, end=4, page=2, verified=True)
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
    citations=st.lists(CITATIONS, max_size=4).map(tuple),
    confidence=st.floats(0, 1),
    model=TEXT,
    notice=st.none() | TEXT,
)


@LAW
@given(KEPT)
def test_an_answer_comes_back_as_it_was(kept: CachedAnswer) -> None:
    assert loads(dumps(kept)) == kept
    assert same_answer(kept, kept)


def test_the_read_set_is_every_document_version_once() -> None:
    passages = [
        Passage(chunk=f"c{n}", document=f"d{n % 2}", version="v", title="", uri="", text="", start=0, end=0)
        for n in range(4)
    ]
    assert read_set(passages) == {("d0", "v"), ("d1", "v")}


KEPT_ONE = CachedAnswer(text="It is 30 days [1].", citations=(CITED,), confidence=0.75, model="m")


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
