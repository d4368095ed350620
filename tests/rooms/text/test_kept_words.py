"""What is kept of texts in memory says the same as reading them anew, and belongs to nobody."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.text import words as words_module
from mainstay.text.words import LONGEST_KEPT, content, dates, is_content, quantities, stem, words

PIECES = st.sampled_from(
    [
        *(
            "The",
            "company's",
            "don't",
            "L'entreprise",
            "l’eau",
            "O'Neill's",
            "Straße",
            "naïve",
            "ﬁle",
            "İstanbul",
            "東京都",
        ),
        *(
            "ไทย",
            "한국어",
            "x_y",
            "12ab",
            "1,200",
            "1.200 euros",
            "March 1, 2024",
            "01/02/2024",
            "٣ مارس",
            "2024-03-01",
        ),
        *(
            "thirty days",
            "not",
            "can't",
            "''",
            "a'b'c",
            "’s",
            "e-mail",
            "GROSS",
            "ß",
            "K",
            "Å",
            "\u0130i'S",
            "running",
            "\n",
        ),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=60),
    st.lists(PIECES, max_size=12).map(" ".join),
    st.lists(PIECES, max_size=12).map("".join),
)


@settings(max_examples=600, derandomize=True, deadline=None)
@given(text=TEXTS, language=st.sampled_from(["en", "de", "fr", "it"]))
def test_the_words_with_a_meaning_are_those_of_all_words(text: str, language: str) -> None:
    slow = [stem(word.folded, language) for word in words_module._words(text) if is_content(word.folded)]
    assert content(text, language) == slow
    assert content(text, language) == slow  # from memory


@settings(max_examples=300, derandomize=True, deadline=None)
@given(text=TEXTS)
def test_numbers_dates_and_words_come_back_the_same(text: str) -> None:
    for read, anew in (
        (words, lambda: list(words_module._words(text))),
        (dates, lambda: list(words_module._dates.__wrapped__(text))),
        (quantities, lambda: list(words_module._quantities.__wrapped__(text))),
    ):
        assert read(text) == anew()
        assert read(text) == anew()


def test_what_a_caller_does_to_its_list_stays_there() -> None:
    text = "Payment is due within 30 days of March 1, 2024."
    for read in (words, dates, quantities, content):
        first = list(read(text))
        read(text).clear()
        assert read(text) == first


def test_long_texts_are_read_and_not_kept() -> None:
    text = "Payment is due within 30 days. " * (LONGEST_KEPT // 20)
    before = words_module._content.cache_info().currsize
    assert len(text) > LONGEST_KEPT
    assert content(text)[:2] == ["payment", "due"]
    assert sum(held.unit == "day" for held in quantities(text)) == LONGEST_KEPT // 20
    assert words_module._content.cache_info().currsize == before
