"""Which two questions may share an answer: what vectors do not tell apart the gates do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.models.cache.gates import Gate, compare, gates, normalised, read
from mainstay.models.cache.ports import Wording

LAW = settings(max_examples=150, deadline=None, derandomize=True)
# Near each other in every vector space, and not the same.
DIFFERENT = [
    ("What is the limit of 100 euros?", "What is the limit of 200 euros?", Gate.NUMBER),
    ("Can I carry over 5 days?", "Can I carry over 5 weeks?", Gate.NUMBER),
    ("What was our revenue in 2023?", "What was our revenue in 2024?", Gate.NUMBER),
    ("What is due on 1 March 2024?", "What is due on 1 April 2024?", Gate.DATE),
    ("Do I pay in March 2024?", "Do I pay in May 2024?", Gate.DATE),
    ("May I work from home?", "May I not work from home?", Gate.NEGATION),
    ("Which countries have an embargo?", "Which countries do not have an embargo?", Gate.NEGATION),
    ("Why can't drivers refuel here?", "Why can drivers refuel here?", Gate.NEGATION),
    ("Can I travel with a visa?", "Can I travel without a visa?", Gate.NEGATION),
    ("How do I fly from Oslo to Rome?", "How do I fly from Rome to Oslo?", Gate.ORDER),
    ("Does Genoa supply Northquay?", "Does Northquay supply Genoa?", Gate.ORDER),
    ("How is apple better than pear?", "How is pear better than apple?", Gate.ORDER),
    ("Is it cheaper to hire first and buy later?", "Is it cheaper to buy first and hire later?", Gate.ORDER),
    ("Who reports to Anna Berg?", "Whom does Anna Berg report to?", Gate.ASKED),
    ("How many cranes are there?", "How old are cranes there?", Gate.ASKED),
    ("When was the dock built?", "Where was the dock built?", Gate.ASKED),
    ("Who is the supplier?", "What is the supplier?", Gate.ASKED),
    ("Why is the gate closed?", "Is the gate closed?", Gate.ASKED),
    ("What is the highest fee?", "What is the lowest fee?", Gate.CONTENT),
    ("What does the warehouse in Genoa cost?", "What does the warehouse in Trieste cost?", Gate.NAME),
    ("How do I install C?", "How do I install C++?", Gate.CONTENT),
    ("What is C# used for?", "What is C used for?", Gate.CONTENT),
    ("What is Z+ cover?", "What is Z cover?", Gate.CONTENT),
    ("What is 5 > 3?", "What is 5 < 3?", Gate.SYMBOL),
    ("Will it rain?", "Did it rain?", Gate.FUNCTION),
    ("Should I sign the form?", "Can I sign the form?", Gate.FUNCTION),
    ("What do I owe the bank?", "What do you owe the bank?", Gate.FUNCTION),
    ("Do employees get a bonus?", "Do some employees get a bonus?", Gate.FUNCTION),
    ("Wie hoch ist die Gebühr?", "How high is the fee?", Gate.LANGUAGE),
]
SAME = [
    ("What is the notice period?", "what is the  NOTICE period", Wording.EXACT),
    ("What’s the fee", "What's the fee?", Wording.EXACT),
    ("What is\u200b the fee\ufe0f?", "What is the fee?", Wording.EXACT),
    ("What is the notice period?", "What is notice period?", Wording.SAME),
    ("What's a reefer?", "What is a reefer?", Wording.SAME),
    ("Which form do I need?", "What form do I need?", Wording.SAME),
    ("What are some exceptions to the rule?", "What are the exceptions to the rule?", Wording.SAME),
    ("Please tell me what the notice period is", "What the notice period is", Wording.SAME),
    ("What is the difference between a lease and a loan?", "What is the difference between a loan and a lease?",
     Wording.SAME),
    ("Which part should I replace?", "Which parts should I replace?", Wording.FORMS),
    ("How do I reset my password?", "How can I reset a password?", Wording.LICENCE),
    ("How to reset the password?", "How should we reset our password?", Wording.LICENCE),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "gate"), DIFFERENT)
def test_different_questions_are_told_apart(first: str, second: str, gate: Gate) -> None:
    assert gates(first, second, "en") is gate
    assert gates(second, first, "en") is gate


@pytest.mark.parametrize(("first", "second", "wording"), SAME)
def test_the_same_question_in_other_words(first: str, second: str, wording: Wording) -> None:
    assert gates(first, second, "en") is None
    assert compare(read(first, "en"), read(second, "en")) is wording
    assert compare(read(second, "en"), read(first, "en")) is wording


@pytest.mark.parametrize(
    ("language", "first", "second", "same"),
    [
        ("de", "Wie lang ist die Kündigungsfrist?", "Wie lang ist Kündigungsfrist", True),
        ("de", "Wie lang ist die Kündigungsfrist?", "Wie kurz ist die Kündigungsfrist?", False),
        ("de", "Darf ich das Auto nutzen?", "Darf ich kein Auto nutzen?", False),
        ("de", "Wie kann ich kündigen?", "Wie kannst du kündigen?", False),  # no licences but in English
        ("fr", "Quel est le délai ?", "Quel est délai?", True),
        ("fr", "Quel est le délai ?", "Quel est le prix ?", False),
        ("ja", "納期はいつですか", "納期はいつですか。", True),
        ("ja", "納期はいつですか", "納期はどこですか", False),
    ],
)
def test_other_languages(language: str, first: str, second: str, same: bool) -> None:
    assert (gates(first, second, language) is None) is same


@LAW
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["", "en", "de", "ja"]))
def test_reading_any_text_is_symmetric(first: str, second: str, language: str) -> None:
    a, b = read(first, language), read(second, language)
    assert compare(a, b) is compare(b, a)
    assert compare(a, a) is Wording.EXACT


@LAW
@given(st.text(max_size=60))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@LAW
@given(
    st.lists(st.sampled_from("what is the fee for 5 cranes in Genoa not and A&B C++ .5 -3".split()), max_size=10),
    st.sampled_from(["?", " ", "!", "...", '"', "\u200b", "\ufeff", "\n"]),
)
def test_punctuation_and_hidden_characters_change_nothing(words: list[str], noise: str) -> None:
    plain = " ".join(words)
    noisy = f"{noise} ".join(words) + noise
    assert normalised(plain) == normalised(noisy.upper())


@pytest.mark.parametrize(
    ("first", "second"), [("1.5", "15"), ("-5", "5"), ("C", "C++"), ("a/b", "a b"), ("don't", "don t"), ("50%", "50")]
)
def test_what_normalising_keeps_apart(first: str, second: str) -> None:
    assert normalised(first) != normalised(second)
