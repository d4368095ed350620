"""Whether two drafts of one model say the same: words may differ, facts may not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.models.routing import AGREES, Said, agreement
from mainstay.models.routing.router import CLEARLY_ALIKE, CLEARLY_APART
from mainstay.types import Citation

SENTENCES = (
    "A hotel in Paris may cost at most 180 euros a night.",
    "Anna Berg signs the contract on 3 May 2024.",
    "Visitors are not allowed on the quay.",
    "The canteen serves soup and bread.",
    "The terminal has 1,150 reefer plugs.",
    "Refrigerated cargo is checked every six hours.",
)


def said(text: str, *places: int, document: str = "doc") -> Said:
    """A draft that quotes the hundred characters from each of these places on."""
    return Said(
        text=text,
        citations=tuple(
            Citation(
                n=n, document=document, version="v1", title="t", uri="u", quote="q", start=start, end=start + 100,
                verified=True,
            )
            for n, start in enumerate(places, 1)
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("The gate in Rotterdam opens at seven.", "In Rotterdam the gate opens at 7."),
        ("A hotel may cost at most 140 euros a night.", "At most 140 EUR a night may be spent on a hotel."),
        ("Anna Berg signs the contract on 3 May 2024.", "The contract is signed by Anna Berg on 2024-05-03."),
        ("Visitors must not enter the quay.", "Visitors may not enter the quay."),
        ("Das Tor öffnet um sieben Uhr.", "Um 7 Uhr öffnet das Tor."),
    ],
)
def test_other_words_for_the_same_facts_agree(a: str, b: str) -> None:
    assert agreement(said(a, 0), said(b, 0)) >= CLEARLY_ALIKE


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("The gate in Rotterdam opens at seven.", "The gate in Rotterdam opens at nine."),
        ("A hotel may cost at most 140 euros a night.", "A hotel may cost at most 180 euros a night."),
        ("The contract ends on 3 May 2024.", "The contract ends on 4 June 2024."),
        ("Visitors may enter the quay.", "Visitors may not enter the quay."),
    ],
)
def test_one_other_fact_is_a_disagreement_however_alike_the_words(a: str, b: str) -> None:
    assert agreement(said(a, 0), said(b, 0)) <= CLEARLY_APART


def test_another_person_or_another_source_is_no_agreement() -> None:
    anna, karl = "The contract is signed by Anna Berg.", "The contract is signed by Karl Weiss."
    assert agreement(said(anna, 0), said(karl, 0)) < AGREES
    assert agreement(said("The canteen serves soup.", 0), said("The quay is closed.", 500)) <= CLEARLY_APART
    text = "The canteen serves soup and bread."
    assert agreement(said(text, 0), said(text, 0, document="another")) < agreement(said(text, 0), said(text, 50))


def test_a_detail_that_only_one_adds_contradicts_nothing() -> None:
    short = "A hotel may cost at most 140 euros a night."
    longer = short + " That was decided on 3 May 2024."
    assert AGREES <= agreement(said(short, 0), said(longer, 0)) < 1


def test_a_draft_without_a_source_agrees_only_with_another_one() -> None:
    none, some = said("The documents do not say."), said("The gate opens at seven.", 0)
    assert agreement(none, some) == agreement(some, none) == 0.0
    assert agreement(none, none) == 1.0


def test_what_the_question_names_is_no_fact_of_the_answer() -> None:
    a, b = said("In 2024 the limit was 140 euros.", 0), said("The limit was 140 euros.", 0)
    assert agreement(a, b, "What was the limit in 2024?") > agreement(a, b)
    wrong = said("In 2024 the limit was 180 euros.", 0)
    assert agreement(a, wrong, "What was the limit in 2024?") <= CLEARLY_APART, "a shared year makes no agreement"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    a=st.lists(st.sampled_from(SENTENCES), max_size=4),
    b=st.lists(st.sampled_from(SENTENCES), max_size=4),
    places=st.tuples(
        st.lists(st.integers(0, 400), max_size=3, unique=True), st.lists(st.integers(0, 400), max_size=3, unique=True)
    ),
)
def test_it_is_a_share_the_same_both_ways_and_whole_with_itself(
    a: list[str], b: list[str], places: tuple[list[int], list[int]]
) -> None:
    one, two = said(" ".join(a), *places[0]), said(" ".join(b), *places[1])
    assert agreement(one, two) == agreement(two, one)
    assert 0.0 <= agreement(one, two) <= 1.0
    assert agreement(one, one) == 1.0
