"""Whatever is read, the promises of ``Parsed`` hold, and the way over the wire changes nothing."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.corpus.parsing import wire
from mainstay.corpus.parsing.document import BLOCK_KINDS, Parsed, Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.reading import read_document
from mainstay.guard.hidden_text import clean

LIMITS = ParseLimits(max_text_chars=5_000, max_blocks=50)
WORDS = st.sampled_from(
    [
        "#",
        "|-|\n*",
        "-",
        "1.",
        ">",
        "```",
        "\n\n",
        "<b>",
        "</b>",
        "<p",
        "hidden>",
        "</p>",
        "<ul><li>",
        "<table><tr><td>",
        "<td>",
        "</table>",
        "<h2>",
        "word",
        "é",
        "\u200b",
        "😀️",
        ";",
        ",",
        '"',
        "a,b",
        "c;d",
        '{"k":1}',
        "\r\n",
        "\t",
        "\x0c",
        "\u2028",
        "<pre>",
        "</pre>",
        "<br>",
        "&amp;",
        "\xad",
        "<style>p{color:white}</style>",
        "Key:",
        "value",
    ]
)
SOURCES = st.lists(WORDS, max_size=80).map(" ".join) | st.lists(WORDS, max_size=40).map("".join) | st.text()
NAMES = st.sampled_from(["a.md", "a.txt", "a.html", "a.csv", "a.json", "a.jsonl", "a.eml", "a"])


def check(parsed: Parsed) -> None:
    text = parsed.text
    assert unicodedata.is_normalized("NFC", text)
    assert clean(text) == (text, ())
    assert "\r" not in text
    assert len(text) <= LIMITS.max_text_chars
    position = 0
    for block in parsed.blocks:
        assert block.kind in BLOCK_KINDS
        assert position <= block.start < block.end
        assert not text[position : block.start].strip()
        piece = text[block.start : block.end]
        assert piece == piece.strip()
        position = block.end
    assert position == len(text)
    assert len(parsed.blocks) <= LIMITS.max_blocks


@given(SOURCES, NAMES)
def test_promises_of_a_parsed_document(source: str, name: str) -> None:
    try:
        parsed = read_document(source.encode("utf-8", "replace"), name, LIMITS)
    except Quarantined:
        return
    check(parsed)
    assert wire.decode(wire.from_bytes(wire.to_bytes(wire.encode(parsed))), LIMITS) == parsed


@given(st.lists(st.tuples(st.sampled_from(BLOCK_KINDS), st.text(), st.none() | st.integers(1, 5)), max_size=60))
def test_promises_of_a_draft(parts: list[tuple[str, str, int | None]]) -> None:
    draft = Draft("text/plain", LIMITS)
    for kind, text, page in parts:
        draft.page = page
        draft.add(kind, text)  # type: ignore[arg-type]
    parsed = draft.finish("x")
    check(parsed)
    assert all(0 <= start <= end <= len(parsed.text) for _, start, end in parsed.pages)


def test_every_kind_of_metadata_survives_the_wire() -> None:
    draft = Draft("text/plain", LIMITS)
    draft.add("paragraph", "Text.")
    for key, value in {
        "day": date(2024, 5, 17),
        "moment": datetime(2024, 5, 17, 12, 30),  # noqa: DTZ001
        "List": ["a", 1, date(2024, 1, 1), {"left": "out"}],
        "whole": 3,
        "part": 0.5,
        "yes": True,
        "nothing": None,
        "mapping": {"left": "out"},
        "huge": 10**400,
    }.items():
        draft.meta(key, value)
    draft.front_matter = {"day": date(2024, 5, 17), "deep": {"day": [date(2024, 5, 18)], 3: None}}
    parsed = wire.decode(wire.from_bytes(wire.to_bytes(wire.encode(draft.finish("x")))), LIMITS)
    assert parsed.metadata == {
        "day": date(2024, 5, 17),
        "moment": date(2024, 5, 17),
        "list": ("a", 1, date(2024, 1, 1)),
        "whole": 3,
        "part": 0.5,
        "yes": True,
    }
    assert parsed.front_matter == {"day": date(2024, 5, 17), "deep": {"day": [date(2024, 5, 18)], "3": None}}


GOOD = {
    "media_type": "text/plain",
    "title": "t",
    "text": "ab cd",
    "blocks": [[1, 0, 2, 0, None], [1, 3, 5, 0, 1]],
    "pages": [[1, 3, 5]],
    "metadata": {},
    "front_matter": {},
    "hidden": [],
    "findings": [],
    "language": "",
}


def test_an_honest_reply_is_taken() -> None:
    assert wire.decode(GOOD, LIMITS).text == "ab cd"


@pytest.mark.parametrize(
    "change",
    [
        {"text": None},
        {"text": "x" * 6_000},
        {"text": "ab c\u200b"},
        {"text": "ab ce\u0301", "blocks": [[1, 0, 6, 0, None]]},
        {"text": "ab\rd"},
        {"blocks": None},
        {"blocks": [[1, 0, 2, 0]]},
        {"blocks": [[9, 0, 5, 0, None]]},
        {"blocks": [[1, 0, 9, 0, None]]},
        {"blocks": [[1, 0, 3, 0, None], [1, 2, 5, 0, None]]},
        {"blocks": [[1, 3, 5, 0, None]]},
        {"blocks": [[1, 0, 2, 0, None]]},
        {"blocks": [[1, True, 5, 0, None]]},
        {"blocks": [[1, -1, 5, 0, None]]},
        {"blocks": [[1, 0, 5, 0, "1"]]},
        {"pages": [[1, 3, 50]]},
        {"metadata": []},
        {"metadata": {"k": {"a": 1}}},
        {"metadata": {"k": [["a"]]}},
        {"front_matter": "x"},
        {"hidden": [["k", "1", "s"]]},
        {"hidden": [["k", 1]]},
        {"findings": [[1, 2]]},
        {"title": "t" * 60_000},
        {"language": 3},
    ],
    ids=str,
)
def test_a_reply_that_is_not_as_promised_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(wire.BadReply):
        wire.decode(GOOD | change, LIMITS)
