"""Filters that a question states, and those it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from mainstay.errors import Invalid
from mainstay.retrieval.filters import named_years, parse_filter, value_filters, year_filter
from mainstay.types import Filter, Passage

VALUES = {
    "folder": ["legal", "finance", "operations"],
    "tags": ["reefer", "travel", "cold store"],
    "company": ["Northquay", "Frostline Foods", "Genoa"],
    "priority": ["high", "low"],
}
POLICY = Passage(
    chunk="c",
    document="d",
    version="v",
    title="Travel policy 2023",
    uri="u",
    text="t",
    start=0,
    end=1,
    metadata={"year": 2023},
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How quickly after a reefer alarm?", {}),
        ("what about travel", {}),
        ("What does the legal department say about cameras?", {"folder": "legal"}),
        ("what is the department of finance doing", {"folder": "finance"}),
        ("How much does Northquay charge?", {"company": "Northquay"}),
        ("how much does northquay charge?", {}),
        ("Which frostline foods invoices are open?", {"company": "Frostline Foods"}),
        ("Is the cold store full?", {"tags": "cold store"}),
        ("tickets of high priority", {"priority": "high"}),
        ("how high is the wall", {}),
        ("Wie Hoch ist der Preis in Genoa für Kunden im Hafen", {}),
        ("", {}),
        ("\x00\ud800 [(", {}),
    ],
)
def test_values_that_a_question_names(question: str, expected: dict[str, str]) -> None:
    assert {found.key: found.any_of[0] for found in value_filters(question, VALUES)} == expected


@pytest.mark.parametrize(
    ("question", "year"),
    [
        ("What did a hotel cost under the 2023 travel policy?", 2023),
        ("hotel in the travel policy of 2023", 2023),
        ("the travel policy (2023)", 2023),
        ("How large is the salary budget for 2026?", None),
        ("What happened in 2023?", None),
        ("travel", None),
    ],
)
def test_a_year_beside_a_documents_name(question: str, year: int | None) -> None:
    found, missing = year_filter(
        question, [POLICY, replace(POLICY, title="Travel policy 2024", metadata={"year": 2024})]
    )
    assert (found.any_of[0] if found else None) == year
    assert missing is None


def test_a_year_of_which_there_is_no_such_document() -> None:
    found, missing = year_filter("the 2021 travel policy", [POLICY])
    assert found is None
    assert missing is not None
    assert missing.year == 2021


def test_years_need_words_beside_them() -> None:
    assert named_years("2023") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year=2023", Filter(key="year", any_of=(2023,))),
        ("year=2023,2024", Filter(key="year", any_of=(2023, 2024))),
        ("year>=2023", Filter(key="year", at_least=2023)),
        ("date<=2024-12-31", Filter(key="date", at_most=date(2024, 12, 31))),
        ("date=2024-01-01..2024-12-31", Filter(key="date", at_least=date(2024, 1, 1), at_most=date(2024, 12, 31))),
        ("owner = Alice Moreau", Filter(key="owner", any_of=("Alice Moreau",))),
        ("rate>=0.5", Filter(key="rate", at_least=0.5)),
    ],
)
def test_filters_as_people_write_them(text: str, expected: Filter) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize("text", ["", "year", "=2023", "year=", "a b=1", "year>2023", "x" * 70 + "=1", "\x00=1"])
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(Invalid, match="key=value"):
        parse_filter(text)
