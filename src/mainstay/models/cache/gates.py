"""Whether two questions may share an answer at all: what a likeness of vectors does not see.

A question and its reversal, its negation or the same one about another year are near each other in every vector
space. So before any score counts, both questions are read as a sequence of what carries meaning, and the sequences must be
equal: the kind of question, numbers, dates, negations, names, content words and their order. What may differ is named here,
and nothing else may: articles, the form of a verb's help ("is" and "are"), number, who asks in "how do I" and "how do you",
the order of what "and" and "or" join. English has these licences; in every other language all words but articles must agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from mainstay.models.cache.ports import Wording
from mainstay.text.language import language as language_of
from mainstay.text.words import STOPWORDS, dates, fold, names, negations, quantities, stem, word_set


class Gate(StrEnum):
    """Why two questions may not share an answer."""

    LANGUAGE = "language"
    NUMBER = "number"
    DATE = "date"
    NEGATION = "negation"
    NAME = "name"
    SYMBOL = "symbol"
    ASKED = "asked"
    CONTENT = "content"
    ORDER = "order"
    FUNCTION = "function"


# --- the same question -----------------------------------------------------------------------------------------------

_INSIDE = frozenset(".,:'-/_")  # part of a word or a number when it stands between two letters or digits
_MEANT = frozenset("+#&%$€£¥@=<>*/^~°§|\\±×÷√")  # never mere punctuation: C, C# and C++ are three things
_APOSTROPHES = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "＇": "'", "‐": "-", "‑": "-", "−": "-", "–": "-", "—": "-"}
)


@lru_cache(maxsize=4096)
def normalised(question: str) -> str:
    """The question without case, hidden characters, surplus white space and punctuation: equal texts ask the same."""
    text = unicodedata.normalize("NFC", question).casefold().translate(_APOSTROPHES)
    text = "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Cc", "Mn"} or c in "\n\t " or _mark(c))
    kept = (c if _telling(c, text[i - 1 : i], text[i + 1 : i + 2]) else " " for i, c in enumerate(text))
    return " ".join("".join(kept).split())


def _telling(char: str, before: str, after: str) -> bool:
    """Whether a character is more than white space and punctuation where it stands."""
    if char.isalnum() or char in _MEANT or unicodedata.category(char) in {"So", "Mc", "Mn"}:
        return True
    if char in _INSIDE and before.isalnum() and after.isalnum():
        return True
    return char in "-.," and after.isdigit() and not before.isalnum()  # a sign, or the point of .5


def _mark(char: str) -> bool:
    """A combining mark that spells something; variation selectors do not."""
    return unicodedata.category(char) == "Mn" and not ("\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100")


# --- reading a question ----------------------------------------------------------------------------------------------

_ARTICLES = {
    "en": word_set("a an the"),
    "de": word_set("der die das den dem des ein eine einer eines einem einen"),
    "fr": word_set("le la les l un une des"),
    "es": word_set("el la los las un una unos unas"),
    "it": word_set("il lo la gli i le un una uno"),
    "nl": word_set("de het een"),
    "pt": word_set("o a os as um uma uns umas"),
}
_EXPANDED = {
    "what's": "what is", "who's": "who is", "where's": "where is", "how's": "how is", "when's": "when is",
    "why's": "why is", "that's": "that is", "there's": "there is", "it's": "it is", "he's": "he is", "she's": "she is",
    "let's": "let us", "i'm": "i am", "you're": "you are", "we're": "we are", "they're": "they are",
    "i've": "i have", "you've": "you have", "we've": "we have", "they've": "they have", "i'll": "i will",
    "you'll": "you will", "we'll": "we will", "they'll": "they will", "i'd": "i would", "you'd": "you would",
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "gonna": "going to",
    "wanna": "want to", "whats": "what is", "dont": "do not", "doesnt": "does not", "isnt": "is not", "cant": "can not",
}  # fmt: skip
_SAME = {
    "are": "is", "am": "is", "were": "was", "does": "do", "has": "have", "which": "what", "whichever": "what",
}  # fmt: skip
_PERSONS = word_set("i you we one")
_OWN = word_set("my your our one's")
_HOW_TO = word_set("do can could should would to")
_AUXILIARIES = word_set(
    "is was do did have had will would shall should can could may might must not"
)  # after what _SAME made equal
_ASKING = word_set("what who whom whose when where why how")
_KNOWING = r"(?=(?:what|who|whom|whose|which|when|where|why|how|if|whether)\b)"
_POLITE = re.compile(
    r"^(?:hi|hello|hey|please|kindly|ok|okay)\s+"
    r"|^(?:(?:can|could|would|will) (?:you|someone|anyone|somebody) (?:please )?(?:tell|explain to|let) (?:me|us)(?: know)?"
    rf"|i (?:want|would like|need) to know|do you know|please tell me|tell me)\s+{_KNOWING}"
    r"|\s+(?:please|thanks|thank you|many thanks)$"
)
_IN_TURN = word_set("first then before after than from to")  # with these the order around "and" tells something
_MOST_JOINED = 4  # words on each side of an "and" that may change places
_TOKEN = re.compile(r"[^\W_]+(?:['./:,_-][^\W_]+)*[+#]*|[-+]?[.]?\d+|[^\w\s]|_")
_PLACES = {Wording.SAME: 0, Wording.FORMS: 1, Wording.LICENCE: 2}


@dataclass(frozen=True)
class Reading:
    """One question as the gates see it. ``lines`` hold everything that must agree, in order: in the very words, then their
    stems, then with the licences of the language used."""

    normal: str
    lines: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    asked: str
    content: tuple[str, ...]
    denied: int
    numbers: tuple[tuple[frozenset[Decimal], str], ...]
    dates: tuple[frozenset[tuple[int | None, int | None, int | None]], ...]
    symbols: tuple[str, ...]
    text: str
    language: str


@lru_cache(maxsize=4096)
def read(question: str, language: str) -> Reading:
    """What of a question is compared."""
    english = language in {"", "en"}
    normal = plain = normalised(question)
    while english and (shorter := _POLITE.sub("", plain).strip()) != plain and shorter:
        plain = shorter
    line = tuple(_worded(plain, language or "en"))
    stems = tuple(word if word in STOPWORDS else stem(word, language or "en") for word in line)
    free = _licensed(stems) if english else stems
    return Reading(
        normal=normal,
        lines=(line, stems, free),
        asked=_asked(free),
        content=tuple(token for token in free if token not in STOPWORDS and any(c.isalnum() for c in token)),
        denied=len(negations(question, language or "en")),
        numbers=tuple((q.values, q.unit) for q in quantities(question) if q.sure),
        dates=tuple(d.options for d in dates(question)),
        symbols=tuple(token for token in free if not any(c.isalnum() for c in token)),
        text=question,
        language=language or "en",
    )


def _worded(plain: str, language: str) -> Iterator[str]:
    """The words without articles, contractions written out, forms of the same small word made one."""
    articles = _ARTICLES.get(language, frozenset())
    before = ""
    for raw in _TOKEN.findall(plain):
        written = raw
        if language == "en":
            written = _EXPANDED.get(raw) or (f"{raw[:-3]} not" if raw.endswith("n't") else raw)
        for word in written.split():
            folded = fold(word)
            if folded in articles:
                continue
            if language == "en":
                folded = folded.removesuffix("'s") if len(folded) > 3 else folded
                folded = _SAME.get(folded, folded)
                if folded == "some" and before in {"is", "what"}:  # "what are some examples"
                    before = "some"
                    continue
                if folded == "of" and before == "some":
                    before = "of"
                    continue
            before = folded
            yield folded


def _licensed(stems: tuple[str, ...]) -> tuple[str, ...]:
    """The licences of English: how one, you or I can, should, would or may do something is one question."""
    if len(stems) >= 3 and stems[0] == "how" and stems[1] in _HOW_TO:
        if stems[1] == "to":
            return ("how", "to", *(word for word in stems[2:] if word not in _OWN))
        if stems[2] in _PERSONS:
            return ("how", "to", *(word for word in stems[3:] if word not in _OWN))
    return stems


def _asked(line: tuple[str, ...]) -> str:
    """What kind of question it is: its first asking word, with what follows a "how"; or that it asks for yes or no."""
    for i, word in enumerate(line):
        if word in _ASKING:
            following = line[i + 1] if i + 1 < len(line) else ""
            return f"how {following}" if word == "how" else word
    return "whether" if line and line[0] in _AUXILIARIES else ""


# --- the gates -------------------------------------------------------------------------------------------------------


def gates(question_a: str, question_b: str, language: str) -> Gate | None:
    """The first reason why an answer to one question must not serve the other; None when there is none.

    ``language`` is the ISO code both are taken to be in, or "" when unsure (then read as English).
    """
    spoken = {language_of(question_a), language_of(question_b)} - {""}
    if len(spoken) > 1:
        return Gate.LANGUAGE
    found = compare(read(question_a, language), read(question_b, language))
    return found if isinstance(found, Gate) else None


def compare(a: Reading, b: Reading) -> Gate | Wording:
    """The first gate that is shut between two questions of one language, or how near their words are when none is."""
    if a.normal == b.normal:
        return Wording.EXACT
    if a.numbers != b.numbers:
        return Gate.NUMBER
    if a.dates != b.dates:
        return Gate.DATE
    if a.denied != b.denied:
        return Gate.NEGATION
    if a.symbols != b.symbols:
        return Gate.SYMBOL
    if a.asked != b.asked:
        return Gate.ASKED
    for wording, i in _PLACES.items():
        if a.lines[i] == b.lines[i] or _joined_in_another_order(a.lines[i], b.lines[i]):
            return wording
    if sorted(a.content) != sorted(b.content):
        different = set(a.content) ^ set(b.content)
        return Gate.NAME if different & (_names(a) | _names(b)) else Gate.CONTENT
    return Gate.ORDER if a.content != b.content else Gate.FUNCTION


def _names(read_: Reading) -> set[str]:
    return {stem(part, read_.language) for name in names(read_.text) for part in name.parts}


def _joined_in_another_order(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether b is a with what one "and" or "or" joins the other way round."""
    if len(a) != len(b) or sorted(a) != sorted(b) or _IN_TURN & set(a):
        return False
    for at, word in enumerate(a):
        if word not in {"and", "or", "&"}:
            continue
        for left in range(1, min(_MOST_JOINED, at) + 1):
            for right in range(1, min(_MOST_JOINED, len(a) - at - 1) + 1):
                swapped = (*a[: at - left], *a[at + 1 : at + 1 + right], word, *a[at - left : at], *a[at + 1 + right :])
                if swapped == b:
                    return True
    return False
