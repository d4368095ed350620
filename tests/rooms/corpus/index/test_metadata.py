"""Metadata filters: typed, inclusive, and silent about what does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from tests.rooms.corpus.index.worlds import scope

from mainstay.corpus.index import PutDocument, Row, SearchIndex
from mainstay.types import Filter

HELD: dict[int, dict[str, Any]] = {
    1: {"team": "HR", "year": 2021, "day": date(2021, 5, 1)},
    2: {"team": ("hr", "Legal"), "year": 2022.5, "day": date(2022, 12, 31)},
    3: {"team": "Straße", "year": "2023", "day": "2023-02-03"},
    4: {"team": True, "year": True, "day": datetime(2024, 1, 1, 23, 59, tzinfo=UTC)},
    5: {"team": 7, "year": 10**400, "day": "soon", "odd": None, "none": (), "deep": {"a": 1}},
    6: {},
}


def index() -> SearchIndex:
    made = SearchIndex.open(None, dims=2, fingerprint="m")
    puts = [
        PutDocument(document=n, class_id=1 + n % 2, metadata=held, rows=[Row(seq=n, text="w")])
        for n, held in HELD.items()
    ]
    for n, put in enumerate(puts):
        made.apply([put], applied=n + 1)
    return made


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(key="team", any_of=("hR",)), [1, 2]),
        (Filter(key="team", any_of=("legal", "strasse")), [2, 3]),
        (Filter(key="team", any_of=(True,)), [4]),
        (Filter(key="team", any_of=(7.0,)), [5]),
        (Filter(key="team", any_of=("7", 1)), []),
        (Filter(key="team", at_least="i", at_most="m"), [2]),
        (Filter(key="year", at_least=2021, at_most=2022.5), [1, 2]),
        (Filter(key="year", at_least=2022), [2]),
        (Filter(key="year", at_most=2021), [1]),
        (Filter(key="year", any_of=(10**400,)), [5]),
        (Filter(key="year", at_least=10**400), []),
        (Filter(key="year", at_least=2021, at_most="2023"), []),
        (Filter(key="day", at_least=date(2021, 5, 1), at_most=date(2022, 12, 31)), [1, 2]),
        (Filter(key="day", at_least=date(2023, 1, 1)), [3, 4]),
        (Filter(key="day", at_least="2022-12-31", at_most="2023-12-31"), [2, 3]),
        (Filter(key="day", any_of=("2021-05-01", date(2023, 2, 3), date(2024, 1, 1))), [1, 3, 4]),
        (Filter(key="day", any_of=(2021,)), []),
        (Filter(key="day"), [1, 2, 3, 4, 5]),
        (Filter(key="odd"), []),
        (Filter(key="none"), []),
        (Filter(key="deep"), []),
        (Filter(key="nowhere", at_least=1), []),
        (Filter(key="year", any_of=(float("nan"),), at_least=float("nan")), []),
    ],
)
def test_filters(wanted: Filter, found: list[int]) -> None:
    assert index().permitted(scope(1, 2), [wanted]).seqs().tolist() == found


def test_filters_narrow_the_results_but_not_the_statistics() -> None:
    held = index()
    everything, few = held.permitted(scope(1, 2)), held.permitted(scope(1, 2), [Filter(key="team", any_of=("hr",))])
    assert (few.count, few.scope_count, everything.count) == (2, 6, 6)
    assert held.lexical("w", few, 9).scores.tolist() == held.lexical("w", everything, 9).scores.tolist()[:2]


def test_values_and_keys_are_those_of_the_scope() -> None:
    held = index()
    assert held.metadata_keys(scope(1)) == ["day", "team", "year"]
    assert held.metadata_values(scope(1), "team") == {True: 1, "Legal": 1, "hr": 1}
    assert held.metadata_values(scope(2), "day") == {date(2021, 5, 1): 1, "2023-02-03": 1, "soon": 1}
    assert held.metadata_values(scope(9), "team") == {}
    assert len(held.metadata_values(scope(1, 2), "team", limit=2)) == 2
