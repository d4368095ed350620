from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.text.words import content, dates, fold, names, negations, quantities, stem, words


def values(text: str) -> list[tuple[str, str]]:
    return [(str(min(q.values).normalize().__format__("f")), q.unit) for q in quantities(text) if q.sure]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,200", [("1200", "")]),
        ("1200 and 1'200 and 1 200", [("1200", "")] * 3),
        ("1.200,50 EUR", [("1200.5", "eur")]),
        ("$1,200.50", [("1200.5", "usd")]),
        ("US$ 5", [("5", "usd")]),
        ("5.5% and 5,5 Prozent and 6 per cent", [("5.5", "%"), ("5.5", "%"), ("6", "%")]),
        ("3 million dollars", [("3000000", "usd")]),
        ("4 Mrd. Euro", [("4000000000", "eur")]),
        ("3k", [("3000", "")]),
        ("twelve people", [("12", "")]),
        ("zwei Wochen", [("2", "week")]),
        ("30 working days", [("30", "day")]),
        ("-5 °C", [("-5", "°c")]),
        ("the 21st", [("21", "")]),
        ("one of them", []),
        ("one week", [("1", "week")]),
        ("room A12b and 12ab", []),
        ("due on 2024-03-01", []),
    ],
)
def test_quantities(text: str, expected: list[tuple[str, str]]) -> None:
    assert values(text) == expected


def test_a_dot_before_three_digits_has_two_readings() -> None:
    (quantity,) = quantities("1.200")
    assert {str(v) for v in quantity.values} == {"1.200", "1200"}


@given(st.integers(min_value=0, max_value=10**12))
@settings(max_examples=100, deadline=None)
def test_a_number_is_the_same_in_each_notation(number: int) -> None:
    forms = [str(number), f"{number:,}", f"{number:,}".replace(",", "'")]
    read = [quantities(f)[0] for f in forms]
    assert all(a.agrees(b) for a in read for b in read)


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-01",
        "2024/03/01",
        "March 1, 2024",
        "March 1st, 2024",
        "Mar. 1, 2024",
        "1 March 2024",
        "1st of March 2024",
        "01.03.2024",
        "1.3.2024",
        "1. März 2024",
        "le 1er mars 2024",
        "1 de marzo de 2024",
        "1 maart 2024",
        "01/03/2024",
    ],
)
def test_dates(text: str) -> None:
    (date,) = dates(text)
    assert (2024, 3, 1) in date.options


def test_a_date_is_within_one_that_says_more() -> None:
    month, day = dates("March 2024")[0], dates("1 March 2024")[0]
    assert month.within(day)
    assert not day.within(month)
    assert dates("31.02 and 99.99.2024 and version 1.2.3") == []


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        ("It is not allowed.", ["not"]),
        ("They don't and cannot.", ["don't", "cannot"]),
        ("never without a badge", ["never", "without"]),
        ("not only here", []),
        ("no later than Monday", []),
        ("No. 5 is open", []),
        ("Das gilt nicht.", ["nicht"]),
        ("kein Anspruch", ["kein"]),
        ("ce n'est pas permis", ["pas"]),
    ],
)
def test_negations(text: str, cues: list[str]) -> None:
    assert [n.cue for n in negations(text)] == cues


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna Schmidt met Dr. Wu in New York.", ["Anna Schmidt", "Dr. Wu", "New York"]),
        ("Device A-113 runs v2.3.1.", ["A-113", "v2.3.1"]),
        ("The WHO agreed.", ["WHO"]),
        ("Employees agreed in March.", []),
        ("Die Mitarbeiter der Firma haben Anspruch auf Urlaub in Bad Homburg.", ["Bad Homburg"]),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert [n.text for n in names(text)] == expected


@pytest.mark.parametrize(
    "forms",
    [
        ["policy", "policies"],
        ["expire", "expires", "expired", "expiry"],
        ["regulate", "regulated", "regulation", "regulations"],
        ["run", "running", "runs"],
        ["employee", "employees"],
        ["refundable"],
    ],
)
def test_stems(forms: list[str]) -> None:
    assert len({stem(f) for f in forms}) == 1


def test_folding_and_content() -> None:
    assert fold("Größe CAFÉ") == "grosse cafe"
    assert content("The company's policy is not for the employees.") == ["compani", "polici", "employe"]
    assert [w.folded for w in words("休暇日数")] == ["休暇", "暇日", "日数"]


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_nothing_fails_and_offsets_are_exact(text: str) -> None:
    for w in words(text):
        assert text[w.start : w.end] == w.text
    for found in (*quantities(text), *dates(text)):
        assert 0 <= found.start < found.end <= len(text)
    negations(text)
    for name in names(text):
        assert text[name.start : name.end] == name.text


@pytest.mark.parametrize("piece", ["1,", "1 ", "a.", "A ", "-", "A1.", "1.1.", "jan ", "no ", "1 234 ", "n't", "° "])
def test_long_hostile_text_takes_no_long_time(piece: str) -> None:
    text = piece * 3_000
    quantities(text)
    dates(text)
    names(text)
    negations(text)
