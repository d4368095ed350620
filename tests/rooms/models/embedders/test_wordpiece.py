"""The tokeniser: same ids as the Hugging Face library, on language and on rubbish."""

from __future__ import annotations

import random
import unicodedata

import pytest

from mainstay.models.embedders.wordpiece import WordPiece, split_words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HEADS = ["a", "b", "un", "play", "playing", *",.!-#'中国12", "cafe", "naive", "i", "σ"]
TAILS = ["##a", "##b", "##c", "##able", "##ing", "##2", "##σ"]
PIECES = [*SPECIAL, *HEADS, *TAILS]
VOCAB = {piece: i for i, piece in enumerate(PIECES)}


def pieces(text: str) -> list[str]:
    return [PIECES[i] for i in WordPiece(VOCAB, unknown=1).ids(text)]


def test_words_are_covered_by_the_longest_pieces_first() -> None:
    assert pieces("playing plays unable abc 122") == [
        "playing",
        "[UNK]",
        "un",
        "##able",
        "a",
        "##b",
        "##c",
        "1",
        "##2",
        "##2",
    ]


def test_case_accents_punctuation_and_cjk() -> None:
    assert pieces("Café, NAÏVE!") == ["cafe", ",", "naive", "!"]
    assert pieces("a中国b-a") == ["a", "中", "国", "b", "-", "a"]
    assert pieces("Σσ İ") == ["σ", "##σ", "i"]


def test_control_characters_vanish_and_split_nothing() -> None:
    assert pieces("pl\x00ay\x1cing\x85 pla\u200bying\ud800 \x0b\ufffd") == ["playing", "playing"]


def test_a_text_cannot_forge_a_control_token() -> None:
    assert pieces("[SEP] [CLS]") == ["[UNK]"] * 6


def test_a_word_of_more_than_a_hundred_characters_is_unknown() -> None:
    assert pieces("a" * 100) == ["a"] + ["##a"] * 99
    assert pieces("a" * 101) == ["[UNK]"]


def test_nothing_in_nothing_out() -> None:
    assert [pieces(text) for text in ("", "  \t\n", "\x00\x01", "\u200b")] == [[], [], [], []]


def test_the_caches_do_not_change_the_ids() -> None:
    wordpiece, rng = WordPiece(VOCAB, unknown=1), random.Random(3)
    texts = ["".join(rng.choice("ab ,中é2") for _ in range(rng.randrange(60))) for _ in range(500)]
    first = [wordpiece.ids(text) for text in texts]
    assert first == [wordpiece.ids(text) for text in texts]
    assert first == [WordPiece(VOCAB, unknown=1).ids(text) for text in texts]


def test_time_is_linear_in_hostile_text() -> None:
    assert split_words("a" * 1_000_000) == ["a" * 1_000_000]
    assert len(WordPiece(VOCAB, unknown=1).ids("," * 1_000_000)) == 1_000_000


def test_ids_equal_those_of_the_reference_library() -> None:
    """Characters that Unicode added or moved lately are left out: the library's tables are older than Python's."""
    tokenizers = pytest.importorskip("tokenizers")
    reference = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(VOCAB, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    reference.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    reference.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    wordpiece, rng = WordPiece(VOCAB, unknown=1), random.Random(20240607)
    for text in _texts(rng):
        assert wordpiece.ids(text) == reference.encode(text, add_special_tokens=False).ids, text.encode(
            "unicode_escape"
        )


def _texts(rng: random.Random) -> list[str]:
    old = [
        char for char in map(chr, range(0x3100)) if unicodedata.ucd_3_2_0.category(char) == unicodedata.category(char)
    ]
    alphabets = [
        list("abcun 12,.!-"),
        ["a", "play", "##", "[SEP]", "中", "国", "é", "Σ", "İ", " ", "\u3000", "\x85"],
        old,
    ]
    mixed = [rng.choice(alphabets) for _ in range(6_000)]
    singles = [f"a{char}b" for char in old]
    return singles + ["".join(rng.choices(alphabet, k=rng.randrange(1, 40))) for alphabet in mixed]
