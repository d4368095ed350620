"""Chunks are exact slices that hold every visible character once, cut where the author cut."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.corpus.chunking import Chunk, chunk, chunk_id
from mainstay.corpus.parsing.document import BlockKind, Parsed
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.limits import ParseLimits

SENTENCE = "The harbour office opens at seven in the morning and closes at six. "
Part = tuple[str, str]  # kind (h1 to h6 for headings) and text


def document(*parts: Part, title: str = "Handbook") -> Parsed:
    draft = Draft("text/plain", ParseLimits())
    draft.title = title
    kinds: dict[str, BlockKind] = {"p": "paragraph", "l": "list", "t": "table", "c": "code", "q": "quote"}
    for number, (kind, text) in enumerate(parts):
        draft.page = 1 + number // 4
        if kind.startswith("h"):
            draft.add("heading", text, level=int(kind[1]))
        else:
            draft.add(kinds[kind], text)
    return draft.finish("file")


def texts(parsed: Parsed, chunks: tuple[Chunk, ...]) -> list[str]:
    return [parsed.text[c.start : c.end] for c in chunks]


LINES = st.lists(st.text(st.sampled_from("ab .!?:;|-1\u4e00\u3002\n"), max_size=60), max_size=8).map("\n".join)
PARTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["h1", "h2", "h3"]), st.text("Hx ", min_size=1, max_size=40)),
        st.tuples(st.sampled_from(["p", "l", "t", "c", "q"]), LINES | st.text(max_size=300)),
        st.tuples(st.sampled_from(["p", "l", "t"]), st.integers(1, 12).map(lambda n: SENTENCE * n)),
        st.tuples(st.sampled_from(["p", "t"]), st.integers(1, 900).map(lambda n: "x" * n)),
    ),
    max_size=14,
)


@given(PARTS, st.integers(60, 400), st.floats(0.3, 1.0))
def test_every_visible_character_is_in_exactly_one_chunk(parts: list[Part], most: int, share: float) -> None:
    parsed = document(*parts)
    chunks = chunk(parsed, max_chars=most, target_chars=max(1, int(most * share)))
    assert [c.ord for c in chunks] == list(range(len(chunks)))
    position = 0
    for c in chunks:
        assert position <= c.start < c.end <= len(parsed.text)
        assert not parsed.text[position : c.start].strip()
        piece = parsed.text[c.start : c.end]
        assert piece == piece.strip()
        assert len(piece) <= most
        assert c.section_start <= c.start
        assert c.end <= c.section_end
        position = c.end
    assert not parsed.text[position:].strip()


@given(PARTS)
def test_no_chunk_is_one_heading_alone(parts: list[Part]) -> None:
    parsed = document(*parts)
    headings = {(b.start, b.end) for b in parsed.blocks if b.kind == "heading"}
    if len(headings) < len(parsed.blocks):
        assert not [c for c in chunk(parsed) if (c.start, c.end) in headings]


@given(PARTS)
def test_the_same_document_gives_the_same_chunks(parts: list[Part]) -> None:
    assert chunk(document(*parts)) == chunk(document(*parts))


def test_sections_are_not_mixed_unless_tiny() -> None:
    parsed = document(("h1", "One"), ("p", SENTENCE * 8), ("h1", "Two"), ("p", SENTENCE * 8))
    assert [c.heading_path for c in chunk(parsed)] == [("One",), ("Two",)]
    small = document(("h1", "One"), ("p", SENTENCE), ("h1", "Two"), ("p", SENTENCE))
    [together] = chunk(small)
    assert together.heading_path == ()


def test_a_small_subsection_stays_with_its_section() -> None:
    parsed = document(("h1", "One"), ("p", SENTENCE * 5), ("h2", "Inner"), ("p", SENTENCE * 4))
    [together] = chunk(parsed)
    assert together.heading_path == ("One",)


def test_headings_go_with_what_follows_and_form_the_path() -> None:
    parsed = document(("h1", "One"), ("h2", "Inner"), ("p", SENTENCE * 12), ("h2", "Other"), ("p", SENTENCE * 12))
    chunks = chunk(parsed)
    first = texts(parsed, chunks)[0]
    assert first.startswith("One\n\nInner\n\nThe harbour")
    assert [c.heading_path for c in chunks] == [("One", "Inner")] * 1 + [("One", "Other")] * 1
    assert chunks[0].prefix == "Handbook › One › Inner"


def test_sentences_are_whole() -> None:
    parsed = document(("p", SENTENCE * 60))
    assert all(piece.endswith(".") and piece.startswith("The") for piece in texts(parsed, chunk(parsed)))


def test_a_sentence_longer_than_a_chunk_is_cut_at_spaces() -> None:
    parsed = document(("p", "word " * 1_000))
    pieces = texts(parsed, chunk(parsed))
    assert all(re.fullmatch(r"word(?: word)*", piece) for piece in pieces)
    assert max(map(len, pieces)) <= 1_000


def test_rows_are_whole_and_the_head_of_a_table_is_in_the_prefix_only() -> None:
    rows = "\n".join(f"lane {n} | {n} slots | free" for n in range(100))
    parsed = document(("h1", "Lanes"), ("t", f"lane | slots | state\n{rows}"))
    chunks = chunk(parsed)
    assert len(chunks) > 2
    for c, piece in zip(chunks[1:], texts(parsed, chunks)[1:], strict=True):
        assert c.prefix == "Handbook › Lanes\nlane | slots | state"
        assert piece.startswith("lane ")
        assert piece.endswith("free")
        assert "state" not in piece


def test_rows_that_name_their_cells_need_no_head() -> None:
    parsed = document(("t", "\n".join(f"lane: {n} | slots: {n}" for n in range(200))))
    assert all(c.prefix == "Handbook" for c in chunk(parsed))


def test_a_list_stays_with_the_sentence_that_leads_it_in() -> None:
    items = "\n".join(f"- item number {n} of the list of things to bring" for n in range(8))
    parsed = document(("p", SENTENCE * 10), ("p", "Visitors bring the following:"), ("l", items))
    pieces = texts(parsed, chunk(parsed))
    assert [piece.startswith("Visitors bring") for piece in pieces] == [False, True]


def test_places() -> None:
    parsed = document(
        ("h1", "One"), ("p", SENTENCE * 10), ("p", SENTENCE * 10), ("p", SENTENCE * 10), ("p", SENTENCE * 10)
    )
    chunks = chunk(parsed, title="Rules", date=date(2024, 5, 17))
    assert chunks[0].prefix == "Rules › One (2024-05-17)"
    assert chunks[0].page_from == 1
    assert chunks[-1].page_to == 2
    assert all((c.section_start, c.section_end) == (0, len(parsed.text)) for c in chunks)
    assert chunk(document(("h1", "Rules"), ("p", "x")), title="Rules")[0].prefix == "Rules"


def test_a_document_of_headings_only_is_one_chunk() -> None:
    parsed = document(("h1", "One"), ("h2", "Two"))
    assert texts(parsed, chunk(parsed)) == ["One\n\nTwo"]
    assert chunk(document()) == ()


def test_a_last_heading_goes_with_the_text_before() -> None:
    parsed = document(("h1", "One"), ("p", SENTENCE * 13), ("h1", "Appendix"))
    assert texts(parsed, chunk(parsed))[-1].endswith("six.\n\nAppendix")


def test_names_are_stable_and_different() -> None:
    assert chunk_id("d", "v", 0, 10) == "chk_d2d0a75c92d3c6b3df81957f"  # kept in databases: it must never change
    names = {chunk_id(d, v, a, b) for d in ("d", "d1") for v in ("v", "1v") for a, b in pairwise(range(20))}
    assert len(names) == 4 * 19


@pytest.mark.parametrize("limits", [(0, 0), (100, 0), (100, 200)])
def test_senseless_limits_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="target_chars"):
        chunk(document(("p", "x")), max_chars=limits[0], target_chars=limits[1])
