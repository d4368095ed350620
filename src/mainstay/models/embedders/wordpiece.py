"""BERT's uncased WordPiece tokeniser in plain Python.

Owns the way from a text to token ids: clean, lower-case, strip accents, cut at white space, punctuation and CJK
characters, then cover each word greedily by the longest known pieces. Every step works on one character or one word, so
each is looked up in a table that fills as texts come in.

Source: Devlin et al., "BERT" (arXiv 1810.04805), section 3; Wu et al., "Google's Neural Machine Translation System"
(arXiv 1609.08144), section 4.1. The ids equal those of the Hugging Face `tokenizers` library (a test holds them side by
side), with one wanted difference: the letters "[SEP]" in a text are letters. A document cannot forge a control token.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

__all__ = ["WordPiece", "split_words"]

MAX_WORD_CHARS = 100
"""Longer words become one unknown token, as in BERT."""

CACHED_TEXTS, CACHED_CHARS = 65_536, 40
"""Each of the two caches is emptied when it is full (about 15 MB) and takes short texts only, so rubbish cannot grow it."""

_SPLIT_BUT_DROPPED = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
"""Control characters at which `str.split` cuts, although BERT drops them."""

_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class _CharTable(dict[int, str]):
    """Code point -> what takes its place, worked out on first sight; the form `str.translate` reads."""

    def __missing__(self, code: int) -> str:
        replacement = _replace(chr(code))
        self[code] = replacement
        return replacement


def _replace(char: str) -> str:
    """Clean, separate, strip and lower-case one character."""
    if char in "\t\n\r" or (char.isspace() and unicodedata.category(char)[0] == "Z"):
        return " "
    if char == "\ufffd" or unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co"}:
        return ""
    if _is_cjk(ord(char)):
        return "".join(f" {part} " for part in unicodedata.normalize("NFD", char))
    return "".join(_separate(part) for part in unicodedata.normalize("NFD", char))


def _separate(part: str) -> str:
    """One character of a decomposition: nothing for an accent, set apart when punctuation, else lower case."""
    category = unicodedata.category(part)
    if category == "Mn":
        return ""
    if part in _ASCII_PUNCTUATION or category[0] == "P":
        return f" {part} "
    return part.lower()


def _is_cjk(code: int) -> bool:
    return any(low <= code <= high for low, high in _CJK)


_CHARS = _CharTable()


def split_words(text: str) -> list[str]:
    """Cut a text into lower-case words, single punctuation marks and single CJK characters.

    Time is linear in the text. No text is refused: control characters, lone surrogates and NUL are dropped.
    """
    return text.translate(_CHARS).split()


class WordPiece:
    """A vocabulary and the greedy cover of words by its pieces.

    `vocab` maps a piece to its id; pieces inside a word start with "##". `unknown` is the id for a word that cannot be
    covered. The caches fill as texts come in; they change the time a text takes, never its ids.
    """

    def __init__(self, vocab: Mapping[str, int], *, unknown: int) -> None:
        self._heads = {piece: i for piece, i in vocab.items() if not piece.startswith("##")}
        self._tails = {piece[2:]: i for piece, i in vocab.items() if piece.startswith("##")}
        self._unknown = (unknown,)
        self._longest = max(map(len, vocab), default=1)
        self._chunks: dict[str, tuple[int, ...]] = {}
        self._words: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without control tokens; empty for a text without words."""
        if _SPLIT_BUT_DROPPED.search(text):
            text = _SPLIT_BUT_DROPPED.sub("", text)
        known, ids = self._chunks.get, list[int]()
        for chunk in text.split():
            ids += known(chunk) or self._learn(chunk)
        return ids

    def _learn(self, chunk: str) -> tuple[int, ...]:
        """Ids of a run of characters between white space."""
        known, ids = self._words.get, list[int]()
        for word in split_words(chunk):
            ids += known(word) or _keep(self._words, word, self._cover(word))
        return _keep(self._chunks, chunk, tuple(ids))

    def _cover(self, word: str) -> tuple[int, ...]:
        """The longest known head, then the longest known tails; one gap makes the whole word unknown."""
        if len(word) > MAX_WORD_CHARS:
            return self._unknown
        ids: list[int] = []
        start, pieces = 0, self._heads
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and word[start:end] not in pieces:
                end -= 1
            if end == start:
                return self._unknown
            ids.append(pieces[word[start:end]])
            start, pieces = end, self._tails
        return tuple(ids)


def _keep(cache: dict[str, tuple[int, ...]], text: str, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Remember short texts, for language repeats itself; start afresh when full."""
    if len(cache) >= CACHED_TEXTS:
        cache.clear()
    if len(text) <= CACHED_CHARS:
        cache[text] = ids
    return ids
