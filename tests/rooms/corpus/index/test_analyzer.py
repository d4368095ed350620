"""Text to terms: what is found by what, and that nothing gives an error."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.corpus.index.analyzer import key, keys, stem, tokens


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Policies, of travel!", ["the", "policy", "of", "travel"]),
        ("INV-2023/004", ["inv", "2023", "004", "inv-2023/004"]),
        ("see (INV-2023/004).", ["see", "inv", "2023", "004", "inv-2023/004"]),
        ("a well-known fact", ["a", "well", "known", "fact"]),
        ("the company's rules", ["the", "company", "rule"]),
        ("don\u2019t", ["don", "t"]),
        ("os.path.join and snake_case", ["os", "path", "join", "os.path.join", "and", "snake", "case", "snake_case"]),
        ("ann@example.org", ["ann", "example", "org", "ann@example.org"]),
        ("EUR 1,234,567.50", ["eur", "1234567.50", "1", "234", "567", "50"]),
        ("one--two ... three", ["one", "two", "three"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ﬁle Ｆｕｌｌ", ["file", "full"]),
        ("cafe\u0301s", ["caf\u00e9"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("日本語の本", ["日本", "本語", "語の", "の本"]),
        ("本", ["本"]),
        ("한국어", ["한국", "국어"]),
        ("GPT4 モデル", ["gpt4", "モデ", "デル"]),
        ("", []),
        (" \t\n-_.,/ ", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert tokens(text) == terms


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("policies", "policy"),
        ("invoices", "invoice"),
        ("cats", "cat"),
        ("glass", "glass"),
        ("status", "status"),
        ("shoes", "shoes"),
        ("gas", "gas"),
        ("s", "s"),
    ],
)
def test_plural_endings(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_gives_terms(text: str) -> None:
    found = tokens(text)
    assert all(found)
    assert list(keys(text)) == [key(term) for term in found]


@settings(max_examples=120, deadline=None)
@given(st.text("abs019 -_./,:'#@!()\\\t\n", max_size=40))
def test_plain_text_and_its_look_elsewhere_agree(text: str) -> None:
    """The fast way for ASCII gives what the general way gives (an unrelated accent forces the general one)."""
    assert tokens(text + " \u00e9") == [*tokens(text), "\u00e9"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_letter_case_and_form_do_not_matter(text: str) -> None:
    assert tokens(unicodedata.normalize("NFC", text)) == tokens(unicodedata.normalize("NFD", text))


def test_rubbish_stays_small() -> None:
    assert max(map(len, tokens("x" * 100_000))) <= 256
    assert max(map(len, tokens("a-1" * 100_000))) <= 256
    assert len(tokens("\x00\ud800\uffff" * 1000)) <= 1000
