"""From text to index terms: the one rule used for both what is indexed and what is asked.

Unicode NFKC and casefold; words and numbers; a light plural stemmer; pairs of characters for scripts written without
spaces. A compound held together by joiners, such as ``INV-2023/004``, ``a.b@c.org`` or ``os.path``, gives its parts
*and* itself whole, so that codes are found exactly and by any part. There is no stop list: rare words decide the
ranking by themselves, and the search skips frequent ones without changing the result.

Changing anything here changes what is stored: rename ``ANALYZER``, which belongs in the index's fingerprint.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import chain
from typing import Final, TypeVar

ANALYZER: Final = "words-1"

_T = TypeVar("_T")

_CACHED = 1 << 17
_LONGEST = 256  # characters of one term: longer runs are cut, so that rubbish cannot make keys of a megabyte

# Scripts without spaces between words (Thai, Lao, Myanmar, Khmer, kana, Han), and Hangul: its particles stick to words.
_RUN = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
)
# Vowel signs and accents are part of a word, but Python's \w leaves them out.
_MARK = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0966-\u0dff\u0f18-\u0fbc\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
)
_LETTER = rf"(?:[^\W_{_RUN}]|[{_MARK}])"
_TOKEN = re.compile(rf"{_LETTER}+(?:[-_.,/:@&'#+\\]{_LETTER}+)*|[{_RUN}]+")
_PART = re.compile(rf"{_LETTER}+")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_IN_RUN = re.compile(rf"[{_RUN}]")
_WHOLE = frozenset("_.@/:#\\")
_BLANKS = {ord(c): " " for c in map(chr, range(128)) if not (c.isalnum() or c in "-_.,/:@&'#+\\")}
_QUOTES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-"})


def tokens(text: str) -> list[str]:
    """The terms of a text, in order of appearance; any string is fine, nothing in it gives an error."""
    return list(chain.from_iterable(map(_words.__getitem__, _raw(text))))


def keys(text: str) -> array[int]:
    """The terms as 64-bit numbers, which is how the index keeps them.

    Two terms sharing a number would read as one word (chance 3e-8 among a million terms); it could not show a forbidden
    row, because postings are masked by row, whatever word they are under.
    """
    return array("Q", chain.from_iterable(map(_keys.__getitem__, _raw(text))))


def key(term: str) -> int:
    """The number of one term."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def stem(word: str) -> str:
    """The word without a plural ending (Harman's S-stemmer: the first rule that fits decides)."""
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


def _raw(text: str) -> list[str]:
    """Pieces of text to look up: from plain ASCII by white space (much faster), else by the pattern of a token."""
    if text.isascii():
        return text.lower().translate(_BLANKS).split()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_QUOTES)
    return _TOKEN.findall(folded)


def _analyse(raw: str) -> tuple[str, ...]:
    """The terms of one piece."""
    if raw.isascii() and raw.isalnum():
        return (stem(raw[:_LONGEST]),)
    return tuple(chain.from_iterable(map(_terms, _TOKEN.findall(raw))))


def _terms(raw: str) -> tuple[str, ...]:
    """The terms of one token."""
    if _IN_RUN.match(raw):
        return (raw,) if len(raw) == 1 else tuple(raw[i : i + 2] for i in range(len(raw) - 1))
    parts = _PART.findall(raw)
    if len(parts) == 1:
        return (stem(raw[:_LONGEST]),)
    if len(parts) == 2 and parts[1] == "s" and raw[-2] == "'":
        return (stem(parts[0][:_LONGEST]),)
    terms = [stem(part[:_LONGEST]) for part in parts]
    if _THOUSANDS.fullmatch(raw):
        return (raw.replace(",", "")[:_LONGEST], *terms)
    if len(raw) <= _LONGEST and (not _WHOLE.isdisjoint(raw) or any(map(str.isdigit, raw))):
        terms.append(raw)
    return tuple(terms)


class _Remembered(dict[str, _T]):
    """Piece -> what it comes to. When full it keeps what it has, since frequent words come early; now and then anew."""

    def __init__(self, work_out: Callable[[str], _T]) -> None:
        super().__init__()
        self._work_out, self._misses = work_out, 0

    def __missing__(self, raw: str) -> _T:
        value = self._work_out(raw)
        self._misses += 1
        if self._misses > 16 * _CACHED:
            self.clear()
            self._misses = 0
        if len(self) < _CACHED and len(raw) < 64:
            self[raw] = value
        return value


def _numbers(raw: str) -> tuple[int, ...]:
    if raw.isascii() and raw.isalnum():  # most misses are plain words
        return (key(stem(raw[:_LONGEST])),)
    return tuple(map(key, _analyse(raw)))


_words = _Remembered(_analyse)
_keys = _Remembered(_numbers)


def distinct(numbers: Iterable[int]) -> dict[int, int]:
    """How often each term stands in a question, in order of first appearance."""
    counts: dict[int, int] = {}
    for number in numbers:
        counts[number] = counts.get(number, 0) + 1
    return counts
