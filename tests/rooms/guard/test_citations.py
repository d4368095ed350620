from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.guard.citations import UNSUPPORTED, check, check_draft, contradictions, exact
from mainstay.text.sentences import sentences
from mainstay.types import Passage

HANDBOOK = (
    "Full-time employees receive 30 days of paid vacation per calendar year. "
    "Unused days expire on 31 March 2025. "
    "The registration fee of $1,200 is not refundable. "
    "Anna Schmidt approves travel above 500 euros. "
    "Device A-113 must be returned within two weeks. "
    "Sales increased by 12.5% in 2023. "
    "Contractors are not allowed to enter the laboratory without a badge."
)


def passage(text: str, *, document: str = "d1", start: int = 100, title: str = "Handbook") -> Passage:
    return Passage(
        chunk="c", document=document, version="v1", title=title, uri="", text=text, start=start, end=start + len(text)
    )


@pytest.mark.parametrize(
    "claim",
    [
        "Employees receive 30 days of vacation per year.",
        "Full-time employees receive thirty days of paid vacation.",
        "Unused days expire on March 31, 2025.",
        "Unused days expire on 2025-03-31.",
        "Unused days expire on 31.03.2025.",
        "Unused vacation days expire in March 2025.",
        "The fee of 1200 dollars is not refundable.",
        "The registration fee isn't refundable.",
        "Anna Schmidt approves travel above EUR 500.",
        "Travel above 500 euros is approved by Schmidt.",
        "Device A-113 must be returned within 2 weeks.",
        "Sales increased by 12.5 percent in 2023.",
        "Contractors may not enter the laboratory without a badge.",
        "The registration fee is $1,200 [1].",
    ],
)
def test_supported(claim: str) -> None:
    assert check(claim, [HANDBOOK]).supported, check(claim, [HANDBOOK])


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("Employees receive 25 days of vacation per year.", "number 25"),
        ("Employees receive 30 weeks of vacation per year.", "number 30"),
        ("Unused days expire on March 30, 2025.", "date"),
        ("Unused days expire on 31 March 2026.", "date"),
        ("The registration fee of $1,200 is refundable.", "says 'not'"),
        ("Unused days do not expire on 31 March 2025.", "not"),
        ("Unused days never expire.", "never"),
        ("Bernd Schmidt approves travel above 500 euros.", "name Bernd Schmidt"),
        ("Anna Schmidt approves travel above 500 dollars.", "number 500"),
        ("Device A-114 must be returned within two weeks.", "name A-114"),
        ("Sales decreased by 12.5% in 2023.", "increas"),
        ("Sales increased by 1.25% in 2023.", "number 1.25"),
        ("Anna Schmidt approves travel below 500 euros.", "abov"),
        ("Employees of Siemens receive 30 days of paid vacation.", "name Siemens"),
        ("The cafeteria opens at noon on working days.", "words"),
        ("Yes.", "nothing to check"),
        ("", "nothing to check"),
    ],
)
def test_not_supported(claim: str, reason: str) -> None:
    verdict = check(claim, [HANDBOOK])
    assert not verdict.supported
    assert any(reason in r for r in verdict.reasons), verdict


@pytest.mark.parametrize(
    ("claim", "span", "supported"),
    [
        ("Mitarbeiter haben 30 Tage Urlaub.", "Alle Mitarbeiter haben Anspruch auf 30 Tage Urlaub.", True),
        ("Mitarbeiter haben 28 Tage Urlaub.", "Alle Mitarbeiter haben Anspruch auf 30 Tage Urlaub.", False),
        ("Die Gebühr wird erstattet.", "Die Gebühr wird nicht erstattet.", False),
        ("Die Gebühr wird nicht erstattet.", "Die Gebühr wird nicht erstattet.", True),
        ("Rauchen ist hier erlaubt.", "Rauchen ist hier verboten.", False),
        ("Les frais sont remboursés.", "Les frais ne sont pas remboursés.", False),
        ("Les frais ne sont jamais remboursés.", "Les frais sont remboursés.", False),
        ("Der Betrag ist 1.200 Euro.", "Der Betrag ist 1200 Euro.", True),
        ("Stichtag ist der 1. März 2024.", "Stichtag ist 2024-03-01.", True),
        ("The WHO recommends it.", "The World Health Organization recommends it.", True),
        ("Not only staff but also guests may park.", "Staff and guests may park.", True),
    ],
)
def test_other_forms(claim: str, span: str, supported: bool) -> None:
    assert check(claim, [span]).supported is supported, check(claim, [span])


def test_a_name_from_the_question_counts_only_when_the_source_speaks_of_nobody_else() -> None:
    asked = "How many days does Acme give?"
    assert check("Acme gives 30 days of vacation.", ["We give 30 days of vacation."], asked).supported
    assert not check(
        "Bob gets 30 days of vacation.", ["For example Alice gets 30 days of vacation."], "Does Bob get it?"
    ).supported


def test_exact() -> None:
    assert exact("abcdef", 1, 3, "bc")
    assert not exact("abcdef", 1, 3, "bd")
    assert not exact("abcdef", -1, 3, "")
    assert not exact("abcdef", 4, 9, "ef")


WORDS = st.sampled_from(
    ["staff", "guests", "visitors", "parking", "fee", "garage", "laboratory", "badge", "office", "report", "manager"]
)
VERBS = st.sampled_from(["receive", "need", "return", "submit", "approve"])


@st.composite
def facts(draw: st.DrawFn) -> tuple[str, int]:
    number = draw(st.integers(min_value=13, max_value=9_999))
    a, b, c = draw(st.lists(WORDS, min_size=3, max_size=3, unique=True))
    return f"The {a} {draw(VERBS)} {number} {b} for the {c}.", number


@given(st.lists(facts(), min_size=1, max_size=5), st.data())
@settings(max_examples=120, deadline=None)
def test_a_quoted_sentence_is_always_supported(found: list[tuple[str, int]], data: st.DataObject) -> None:
    text = " ".join(f for f, _ in found)
    quote, _ = data.draw(st.sampled_from(found))
    verdict = check(quote, [text])
    assert verdict.supported
    assert verdict.score == 1.0
    assert check(f"“{quote}”", [text]).supported


@given(facts(), st.integers(min_value=13, max_value=9_999))
@settings(max_examples=120, deadline=None)
def test_another_number_is_never_supported(fact: tuple[str, int], other: int) -> None:
    text, number = fact
    changed = text.replace(str(number), str(other))
    assert check(changed, [text]).supported is (other == number)


@given(facts(), st.integers(min_value=1, max_value=6), st.sampled_from(["not", "never", "without"]))
@settings(max_examples=120, deadline=None)
def test_an_added_negation_is_never_supported(fact: tuple[str, int], at: int, word: str) -> None:
    parts = fact[0].split()
    changed = " ".join([*parts[:at], word, *parts[at:]])
    assert not check(changed, [fact[0]]).supported
    assert not check(fact[0], [changed]).supported


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_gets_the_same_verdict_twice(claim: str, span: str) -> None:
    first = check(claim, [span])
    assert first == check(claim, [span])
    assert 0.0 <= first.score <= 1.0


def test_every_sentence_of_real_prose_supports_itself() -> None:
    for start, end in sentences(HANDBOOK):
        assert check(HANDBOOK[start:end], [HANDBOOK]).supported


DRAFT = """According to the documents:

- Employees get 30 days of paid vacation per year. [3] The registration fee is $1,300 [3].
- The registration fee is not refundable [9][3]. Travel above 800 francs needs a second signature.

The moon is made of cheese [5]."""
TRAVEL = "Flights are booked by the office. Travel costs above 800 francs need a second signature."


def test_a_draft_keeps_only_what_its_sources_support() -> None:
    sources = {3: passage(HANDBOOK), 5: passage(TRAVEL, document="d2", start=7)}
    checked = check_draft(DRAFT, sources)
    assert checked.text == (
        "According to the documents:\n\n"
        "- Employees get 30 days of paid vacation per year [1].\n"
        "- The registration fee is not refundable [2]. Travel above 800 francs needs a second signature [3]."
    )
    assert checked.invented == (9,)
    assert [c.n for c in checked.citations] == [1, 2, 3]
    for citation in checked.citations:
        source = HANDBOOK if citation.document == "d1" else TRAVEL
        offset = 100 if citation.document == "d1" else 7
        assert exact(source, citation.start - offset, citation.end - offset, citation.quote)
        assert citation.verified
    assert checked.citations[0].quote.startswith("Full-time employees receive 30 days")
    assert len(sentences(checked.citations[0].quote)) == 1
    assert 0 < checked.supported_share < 1


def test_unsupported_sentences_are_marked_on_request() -> None:
    checked = check_draft("The fee is $1,300 [1].", {1: passage(HANDBOOK)}, mark=True)
    assert checked.text == f"The fee is $1,300. {UNSUPPORTED}"
    assert checked.citations == ()


def test_nothing_supported_leaves_nothing() -> None:
    checked = check_draft("According to the documents: The moon is made of cheese [1].", {1: passage(HANDBOOK)})
    assert (checked.text, checked.citations) == ("", ())
    assert check_draft("", {1: passage(HANDBOOK)}).text == ""
    assert check_draft("Employees receive 30 days.", {}).text == ""


def test_a_dropped_first_sentence_leaves_its_list_mark_to_the_next() -> None:
    checked = check_draft("- The fee is $7. Unused days expire on 31 March 2025.", {1: passage(HANDBOOK)})
    assert checked.text == "- Unused days expire on 31 March 2025 [1]."


def test_two_sources_together_and_the_same_span_twice() -> None:
    sources = {1: passage("Berlin staff receive 30 days."), 2: passage("Munich staff receive 28 days.", document="d2")}
    draft = "Berlin staff receive 30 days, Munich staff receive 28 days [1, 2]. Berlin staff receive 30 days [1]."
    checked = check_draft(draft, sources)
    assert checked.text == (
        "Berlin staff receive 30 days, Munich staff receive 28 days [1][2]. Berlin staff receive 30 days [1]."
    )
    assert len(checked.citations) == 2


def test_a_claim_over_two_sentences_gets_one_span_of_both() -> None:
    text = "It rains. The garage opens at 6:00 daily. Visitors pay 5 euros there. It snows."
    checked = check_draft("The garage opens at 6:00 and visitors pay 5 euros [1].", {1: passage(text, start=0)})
    assert [c.quote for c in checked.citations] == ["The garage opens at 6:00 daily. Visitors pay 5 euros there."]


@given(st.text(alphabet="ab Staff need 30 days. not[1]12\n-:", max_size=200))
@settings(max_examples=150, deadline=None)
def test_citations_are_numbered_by_first_use_and_exact(draft: str) -> None:
    source = passage("Staff need 30 days. Staff need not ask. 12 days remain for ab.", start=11)
    checked = check_draft(draft, {1: source})
    assert [c.n for c in checked.citations] == list(range(1, len(checked.citations) + 1))
    for c in checked.citations:
        assert exact(source.text, c.start - 11, c.end - 11, c.quote)
        assert f"[{c.n}]" in checked.text


@pytest.mark.parametrize(
    ("quotes", "pairs"),
    [
        (
            ["Employees receive 30 days of vacation per year.", "Employees receive 25 days of vacation a year."],
            [(0, 1)],
        ),
        (["Employees receive 30 days of vacation.", "Employees receive thirty days of vacation."], []),
        (["The fee is refundable.", "The fee is not refundable."], [(0, 1)]),
        (["The lease ends on 1 March 2024.", "The lease ends on 2024-04-01."], [(0, 1)]),
        (["The lease ends on 1 March 2024.", "The lease ends on 2024-03-01."], []),
        (["Berlin staff get 30 days.", "Munich staff get 28 days."], []),
        (["Travel is free for staff.", "The cafeteria opens at 8."], []),
    ],
)
def test_contradictions(quotes: list[str], pairs: list[tuple[int, int]]) -> None:
    assert contradictions(quotes) == pairs


def test_contradictions_leave_out_one_document() -> None:
    quotes = ["The fee is 5 euros per day.", "The fee is 6 euros per day."]
    assert contradictions(quotes, lambda _i, _j: True) == []


@pytest.mark.parametrize("piece", ["[1]", "a. ", "not ", "1, ", "[1-999]", "The fee is 5. ", "- x\n"])
def test_long_hostile_drafts_take_no_long_time(piece: str) -> None:
    check_draft(piece * 100, {1: passage(HANDBOOK), 2: passage("not a fee. " * 80, document="d2")})
