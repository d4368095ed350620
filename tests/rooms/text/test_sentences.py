from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.text.sentences import sentences

ALPHABET = "aB c. .!?\n\n\t|-*1.2)(\"'„“。！é中 ;:…\u2028\f\\n#"


def pieces(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


@given(st.one_of(st.text(max_size=300), st.text(alphabet=ALPHABET, max_size=300)))
@settings(max_examples=400, deadline=None)
def test_spans_are_ordered_disjoint_trimmed_and_cover_all_but_white_space(text: str) -> None:
    spans = sentences(text)
    last = 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert not text[last:start].strip()
        assert text[start:end] == text[start:end].strip()
        last = end
    assert not text[last:].strip()


@given(st.text(alphabet=ALPHABET, max_size=200))
@settings(max_examples=100, deadline=None)
def test_the_same_text_gives_the_same_spans(text: str) -> None:
    assert sentences(text) == sentences(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   \n ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("It costs $3.50 at Acme Inc. The rest is free.", ["It costs $3.50 at Acme Inc.", "The rest is free."]),
        ("Acme Inc. Zurich pays.", ["Acme Inc. Zurich pays."]),
        ("J. R. R. Tolkien wrote it. He did.", ["J. R. R. Tolkien wrote it.", "He did."]),
        ("See Fig. 3 and e.g. Table 2. Done.", ["See Fig. 3 and e.g. Table 2.", "Done."]),
        ("In 2016. The rest came later.", ["In 2016.", "The rest came later."]),
        ("He lives in the U.S. The weather is mild.", ["He lives in the U.S.", "The weather is mild."]),
        ("The U.S. Army left.", ["The U.S. Army left."]),
        ("Version 2.3.1 is out. Get it.", ["Version 2.3.1 is out.", "Get it."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ("- first item\n- second item", ["- first item", "- second item"]),
        ("1. Log in to the shop.\n2. Click Save.", ["1. Log in to the shop.", "2. Click Save."]),
        ("Steps:\n* one\n* two", ["Steps:", "* one", "* two"]),
        ("| a | b |\n|---|---|\n| 1. x | 2 |", ["| a | b |", "|---|---|", "| 1. x | 2 |"]),
        ("debt | 5. x | 7\nequity | 8 | 9", ["debt | 5. x | 7", "equity | 8 | 9"]),
        ("# Title\nText follows here.", ["# Title", "Text follows here."]),
        ("Title\n\nText follows here.", ["Title", "Text follows here."]),
        (
            "A hard-wrapped paragraph that goes on in the next\nline of the text. And then ends.",
            ["A hard-wrapped paragraph that goes on in the next\nline of the text.", "And then ends."],
        ),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("Er kam am 3. Mai 2024 an. Das war gut.", ["Er kam am 3. Mai 2024 an.", "Das war gut."]),
        ("Das gilt z. B. für Hunde, d. h. Tiere. Ende.", ["Das gilt z. B. für Hunde, d. h. Tiere.", "Ende."]),
        ("M. Dupont est venu. Il est parti.", ["M. Dupont est venu.", "Il est parti."]),
        ("all lower case here. the next one follows. etc.", ["all lower case here.", "the next one follows.", "etc."]),
        ("of approx. 5.3 million. the rest.", ["of approx. 5.3 million.", "the rest."]),
        ("released in 2011 . The game sold .", ["released in 2011 .", "The game sold ."]),
        ("First step.\\n\\nSecond step.", ["First step.\\n\\n", "Second step."]),
        ("C:\\new folder is used. Yes.", ["C:\\new folder is used.", "Yes."]),
        ("The name is et al. 2003 and works. Yes.", ["The name is et al. 2003 and works.", "Yes."]),
        ("Is it allowed? Yes, on request.", ["Is it allowed?", "Yes, on request."]),
        ("Yahoo! is a company.", ["Yahoo! is a company."]),
    ],
)
def test_boundaries(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_a_very_long_sentence_is_cut_at_semicolons() -> None:
    text = "; ".join(f"clause number {n} of a list that never seems to end for any reason" for n in range(20)) + "."
    assert len(pieces(text)) > 5
    assert all(len(p) <= 600 for p in pieces(text))
