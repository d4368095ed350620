"""Words and what can be compared in them: stems, numbers, dates, negations, names.

Everything is by rule and list, for seven languages at a basic level and English a little better. Comparison goes by
values: ``1,200`` is ``1200``, ``March 1, 2024`` is ``2024-03-01``. Where a notation has two readings (``01/02/2024``,
``1.200``) both are kept, and two mentions are equal when they share one.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache


def word_set(words: str) -> frozenset[str]:
    """The words of a string parted by white space."""
    return frozenset(words.split())


LONGEST_KEPT = 1_000
"""Characters: what was read in longer texts is not kept in memory."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it stands in a text; ``folded`` is for comparison: no case, no accents."""

    text: str
    folded: str
    start: int
    end: int


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")

STOPWORDS = word_set(
    """
    a an the this that these those it its he she they them his her their theirs we us our ours you your yours i me my
    mine who whom whose which what when where why how is are was were be been being am do does did done doing have has
    had having will would shall should can could may might must ought of in on at by for from to with within into onto
    about against between through during before after above below up down out off over under again further then once
    here there all any both each few more most many much other some such only own same so than too very and or but if as until
    while because also just not no nor never without there's it's that's what's let yes please according per via
    however therefore thus hence moreover although though whether either neither since upon among amongst across
    der die das den dem des ein eine einer eines einem einen und oder aber nicht kein keine ist sind war waren wird
    werden wurde wurden hat haben hatte von vom zu zum zur im in am an auf aus bei mit nach fur uber unter vor wie was
    wer wann wo warum welche welcher welches wieviel viele viel ich du er sie es wir ihr sich auch noch nur als wenn
    dass ob man kann konnen muss mussen soll sollen darf durfen
    le la les un une des du de et ou mais ne pas est sont etait ete sera a ont avait au aux dans sur sous par pour avec
    sans ce cet cette ces qui que quoi quel quelle quels quelles quand comment pourquoi combien il elle ils elles nous
    vous je tu on se sa son ses leur leurs plus moins tres peut doit
    el los las una unos unas y o pero es son fue era ser esta estan ha han con por para sin sobre entre cuando donde
    quien cual cuales cuanto cuantos como se su sus lo al del
    il lo gli i uno e o ma non sono era stato sia ha hanno nel nella con per tra fra su dove quando chi che quale quali
    quanto quanti come si suo sua loro al alla dei delle della del
    het een en of maar niet geen zijn was waren wordt worden heeft hebben van naar met voor door over onder tussen wie
    wat waar wanneer waarom welke hoe hoeveel ik jij hij zij wij u dit dat deze die ook nog dan als kan moet mag
    os as um uma e ou mas nao sao foi era ser esta tem com por para sem sobre entre quando onde quem qual quais quanto
    quantos como se seu sua no na nos nas do da dos das ao
    """
)


def fold(text: str) -> str:
    """The text for comparison: compatibility forms, no case, no accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).replace("’", "'")


def words(text: str) -> list[Word]:
    """All words; a run of characters of a script without spaces gives its pairs."""
    return list(_words_of(text) if len(text) <= LONGEST_KEPT else _words(text))


@lru_cache(maxsize=2_048)
def _words_of(text: str) -> tuple[Word, ...]:
    return tuple(_words(text))


def _words(text: str) -> Iterator[Word]:
    for match in _WORD.finditer(text):
        if match[0].isascii() or not _WIDE.search(match[0]):
            yield Word(match[0], _bare(fold(match[0])), match.start(), match.end())
            continue
        run, at = match[0], match.start()
        for i in range(max(1, len(run) - 1)):
            yield Word(run[i : i + 2], fold(run[i : i + 2]), at + i, at + i + len(run[i : i + 2]))


def _bare(folded: str) -> str:
    """Without the possessive or the elided article (``company's``, ``l'entreprise``)."""
    if "'" not in folded:
        return folded
    head, _, tail = folded.partition("'")
    if tail in {"s", ""}:
        return head
    if tail == "t":
        return folded
    return tail if len(head) <= 2 and len(tail) > 2 else folded.replace("'", "")


_ENDINGS: dict[str, tuple[str, ...]] = {
    "de": ("ungen", "ern", "em", "en", "er", "es", "e", "n", "s"),
    "nl": ("ingen", "en", "e", "s"),
    "fr": ("ements", "ement", "ees", "ee", "es", "er", "ez", "e", "s", "x"),
    "es": ("aciones", "amente", "os", "as", "es", "ar", "er", "ir", "o", "a", "e", "s"),
    "it": ("azioni", "amente", "are", "ere", "ire", "i", "e", "o", "a"),
    "pt": ("acoes", "amente", "os", "as", "es", "ar", "er", "ir", "o", "a", "e", "s"),
}


@lru_cache(maxsize=50_000)
def stem(folded: str, language: str = "en") -> str:
    """A light stem: enough to bring the forms of one word together, not more."""
    if len(folded) <= 3 or not folded.isalpha() or _WIDE.search(folded):
        return folded
    if language in _ENDINGS:
        for ending in _ENDINGS[language]:
            if folded.endswith(ending) and len(folded) - len(ending) >= 4:
                return folded[: -len(ending)]
        return folded
    return _english(folded)


def _english(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if len(word) > 5 else word
    else:
        for ending in ("ingly", "edly", "ing", "ed"):
            base = word[: -len(ending)]
            if word.endswith(ending) and len(base) >= 3 and any(c in "aeiouy" for c in base):
                word = base[:-1] if base[-1] == base[-2] and base[-1] not in "lsz" else base
                break
    for ending, base_length in (("ness", 4), ("ment", 4), ("ly", 4), ("ity", 5), ("ion", 4)):
        base = word[: -len(ending)]
        if word.endswith(ending) and len(base) >= base_length and (ending != "ion" or base[-1] in "st"):
            word = base
            break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    if word.endswith("ry") and len(word) > 5:  # expiry, delivery: as the verb
        word = word[:-1]
    elif word.endswith("y") and len(word) > 3:
        word = word[:-1] + "i"
    return word


def content(text: str, language: str = "en") -> list[str]:
    """The stems of the words that carry meaning, in order, with repeats."""
    return list(_content(text, language) if len(text) <= LONGEST_KEPT else _content.__wrapped__(text, language))


@lru_cache(maxsize=4_096)
def _content(text: str, language: str) -> tuple[str, ...]:
    """One sentence is compared with the question, with the draft and with other sentences: its words are the same each time."""
    if text.isascii():
        found = [_meant(word, language) for word in _WORD.findall(text.lower())]
    elif _WIDE.search(text):
        found = [stem(word.folded, language) if is_content(word.folded) else None for word in _words(text)]
    else:
        found = [_meant(word, language) for word in _WORD.findall(text)]
    return tuple([one for one in found if one is not None])


@lru_cache(maxsize=50_000)
def _meant(word: str, language: str) -> str | None:
    """The stem of one word of no wide script, None when it carries no meaning of its own."""
    folded = _bare(fold(word))
    return stem(folded, language) if is_content(folded) else None


def is_content(folded: str) -> bool:
    """Whether a word carries meaning of its own."""
    return folded not in STOPWORDS and (len(folded) > 1 or folded.isdigit()) and not folded.endswith("n't")


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as mentioned: its possible values and, where said, its unit."""

    values: frozenset[Decimal]
    unit: str
    text: str
    start: int
    end: int
    sure: bool = True  # a spelled "one" or "elf" may be another word: it can confirm a number, not demand one

    def agrees(self, other: Quantity) -> bool:
        """Whether both can mean the same."""
        return bool(self.values & other.values) and (not self.unit or not other.unit or self.unit == other.unit)


_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>(?<![\w)])[-−–]\s?)?"
    r"(?P<before>[$€£¥₹]|(?:USD|EUR|GBP|CHF|JPY|US\$|usd|eur|gbp|chf)\s?\$?)?\s?"
    r"(?P<digits>\d{1,3}(?:[,.'’\u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
    r"(?P<ordinal>st|nd|rd|th)?(?P<tight>%|‰|\s?°\s?[CF]\b|[$€£¥]|[A-Za-zµ]{1,3}\b)?(?![\w])"
)
_SPACED = re.compile(r"(?<![\w.,])\d{1,3}(?: \d{3})+(?![\w])")
_MAGNITUDE = {
    **dict.fromkeys(("hundred", "hundert", "cent", "cien"), 100),
    **dict.fromkeys(("thousand", "thousands", "tausend", "mille", "mil", "mila", "duizend", "k"), 1_000),
    **dict.fromkeys(("million", "millions", "millionen", "mio", "mn", "millones", "millon", "milioni"), 1_000_000),
    **dict.fromkeys(("milione", "miljoen", "milhoes"), 1_000_000),
    **dict.fromkeys(("billion", "billions", "bn", "milliarden", "milliarde", "mrd", "milliard"), 1_000_000_000),
    **dict.fromkeys(("milliards", "miliardi", "miljard"), 1_000_000_000),
    **dict.fromkeys(("trillion", "trillions", "tn"), 1_000_000_000_000),
}
_UNITS = {
    **dict.fromkeys(("%", "percent", "percents", "prozent", "procent", "percentage", "pct"), "%"),
    **dict.fromkeys(("$", "us$", "usd", "dollar", "dollars"), "usd"),
    **dict.fromkeys(("€", "eur", "euro", "euros"), "eur"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds"), "gbp"),
    **dict.fromkeys(("¥", "jpy", "yen"), "jpy"),
    **dict.fromkeys(("chf", "franken", "francs"), "chf"),
    **dict.fromkeys(("second", "seconds", "sekunden", "sekunde", "secondes", "sec", "s"), "second"),
    **dict.fromkeys(("minute", "minutes", "minuten", "min", "mins", "minutos", "minuti"), "minute"),
    **dict.fromkeys(("hour", "hours", "stunde", "stunden", "heure", "heures", "horas", "uur", "h", "hrs"), "hour"),
    **dict.fromkeys(("day", "days", "tag", "tage", "tagen", "jour", "jours", "dias", "dia", "giorni", "dagen"), "day"),
    **dict.fromkeys(("week", "weeks", "woche", "wochen", "semaine", "semaines", "semanas", "weken"), "week"),
    **dict.fromkeys(("month", "months", "monat", "monate", "monaten", "mois", "meses", "mesi", "maanden"), "month"),
    **dict.fromkeys(("year", "years", "jahr", "jahre", "jahren", "ans", "annees", "anos", "anni", "jaar"), "year"),
    **dict.fromkeys(("kg", "kilogram", "kilograms", "kilogramm", "kilos"), "kg"),
    **dict.fromkeys(("mg", "milligram", "milligrams"), "mg"),
    **dict.fromkeys(("g", "gram", "grams", "gramm"), "g"),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), "km"),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), "cm"),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), "mm"),
    **dict.fromkeys(("metre", "metres", "meter", "meters"), "metre"),
    **dict.fromkeys(("mile", "miles", "mi"), "mile"),
    **dict.fromkeys(("feet", "foot", "ft"), "foot"),
    **dict.fromkeys(("kb", "mb", "gb", "tb"), ""),
    "°c": "°c",
    "°f": "°f",
}
_UNITS.update({u: u for u in ("kb", "mb", "gb", "tb")})
_MONEY = frozenset({"%", "usd", "eur", "gbp", "jpy", "chf"})
_FOLLOWING = re.compile(r"[\s-]*(%|€|\$|£|[^\W\d_]+)\.?")
_CENT = re.compile(r"\s*cent[oi]?\b", re.IGNORECASE)
_NUMERALS: dict[str, int] = {}
for _list in (
    "one two three four five six seven eight nine ten eleven twelve",
    "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "un deux trois quatre cinq six sept huit neuf dix onze douze",
    "uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "uno due tre quattro cinque sei sette otto nove dieci undici dodici",
    "een twee drie vier vijf zes zeven acht negen tien elf twaalf",
    "um dois tres quatro cinco seis sete oito nove dez onze doze",
):
    for _n, _w in enumerate(_list.split(), 1):
        _NUMERALS.setdefault(fold(_w), _n)
_NUMERALS.update({"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80})
_NUMERALS.update({"ninety": 90, "zwanzig": 20, "dreissig": 30, "vingt": 20, "trente": 30, "twice": 2, "half": 50})
_UNSURE_NUMERALS = word_set("one un uno um een eins once elf due sei dix tre neuf nove tres half twice sept onze")


def quantities(text: str) -> list[Quantity]:
    """All numbers of the text, dates left out (see :func:`dates`), in order."""
    return list(_quantities(text) if len(text) <= LONGEST_KEPT else _quantities.__wrapped__(text))


@lru_cache(maxsize=2_048)
def _quantities(text: str) -> tuple[Quantity, ...]:
    dated = within((d.start, d.end) for d in dates(text))
    found = [*_spaced(text), *_digits(text), *_spelled(text)]
    return tuple(sorted((q for q in found if not dated(q.start)), key=lambda q: q.start))


def within(spans: Iterable[tuple[int, int]]) -> Callable[[int], bool]:
    """A test whether a position lies in one of the spans, which are ordered and disjoint."""
    ordered = list(spans)
    starts = [a for a, _ in ordered]

    def inside(at: int) -> bool:
        i = bisect_right(starts, at) - 1
        return i >= 0 and at < ordered[i][1]

    return inside


def is_unit(folded: str) -> bool:
    """Whether a word is a currency, a percentage or a magnitude: part of a number, not content."""
    return folded in _MAGNITUDE or _UNITS.get(folded) in _MONEY


def _digits(text: str) -> Iterator[Quantity]:
    spaced = within((m.start(), m.end()) for m in _SPACED.finditer(text))
    for match in _NUMBER.finditer(text):
        tight = fold(match["tight"] or "").replace(" ", "")
        if tight and tight not in _UNITS and tight not in _MAGNITUDE and tight not in {"m", "x", "pp"}:
            continue  # a code such as 12ab: compared as a name
        factor, unit = _after(text, match.end())
        before = fold(match["before"] or "").replace(" ", "")
        if before:
            unit = _UNITS.get(before, _UNITS.get(before.strip("$"), "usd" if "$" in before else unit))
        factors = {factor}
        if tight in _MAGNITUDE:
            factors = {factor * _MAGNITUDE[tight]}
        elif tight == "m":
            factors = {1, 1_000_000}
        elif tight in _UNITS:
            unit = _UNITS[tight]
        sign = -1 if match["sign"] else 1
        values = frozenset(sign * v * f for v in _readings(match["digits"]) for f in factors)
        at = match.start("digits")
        yield Quantity(values, unit, match[0].strip(), at, match.end(), sure=not spaced(at))


def _spaced(text: str) -> Iterator[Quantity]:
    for match in _SPACED.finditer(text):
        factor, unit = _after(text, match.end())
        value = Decimal(match[0].replace(" ", "")) * factor
        yield Quantity(frozenset({value}), unit, match[0], match.start(), match.end())


def _readings(digits: str) -> list[Decimal]:
    """What a run of digits and separators may mean."""
    plain = re.sub(r"['’\u00a0\u2009\u202f]", "", digits)
    marks = [c for c in plain if c in ",."]
    if not marks:
        return [Decimal(plain)]
    if len(set(marks)) == 2:  # the last one is the decimal mark
        last = max(plain.rfind(","), plain.rfind("."))
        return [Decimal(re.sub(r"[,.]", "", plain[:last]) + "." + plain[last + 1 :])]
    if len(marks) > 1:
        return [Decimal(re.sub(r"[,.]", "", plain))]
    whole, _, rest = plain.partition(marks[0])
    decimal = Decimal(f"{whole}.{rest}")
    if len(rest) == 3 and 1 <= len(whole) <= 3 and whole.strip("0"):
        together = Decimal(whole + rest)
        return [together] if marks[0] == "," else [decimal, together]
    return [decimal]


def _after(text: str, at: int) -> tuple[int, str]:
    """The magnitude and the unit said after a number, with at most one other word between (``30 working days``)."""
    factor, unit, skipped = 1, "", 0
    while True:
        match = _FOLLOWING.match(text, at)
        if not match:
            break
        word = fold(match[1])
        if word in _MAGNITUDE and skipped == 0 and len(word) > 1 and not (word == "cent" and unit):
            factor *= _MAGNITUDE[word]
        elif word in {"per", "pour", "por"} and _CENT.match(text, match.end()):
            return factor, "%"
        elif word in _UNITS and (len(word) > 1 or word in "%€$£"):
            return factor, _UNITS[word]
        elif skipped or word in STOPWORDS:
            break
        else:
            skipped += 1
        at = match.end()
    return factor, unit


def _spelled(text: str) -> Iterator[Quantity]:
    for word in words(text):
        value = _NUMERALS.get(word.folded)
        if value is None:
            continue
        factor, unit = _after(text, word.end)
        sure = word.folded not in _UNSURE_NUMERALS or bool(unit) or factor > 1
        yield Quantity(frozenset({Decimal(value * factor)}), unit, word.text, word.start, word.end, sure=sure)


# --- dates -----------------------------------------------------------------------------------------------------------

Day = tuple[int | None, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Dated:
    """A date as mentioned: its possible (year, month, day), each part None when not said."""

    options: frozenset[Day]
    text: str
    start: int
    end: int

    def within(self, other: Dated) -> bool:
        """Whether ``other`` says at least this date: every part said here is the same there."""
        return any(
            all(mine is None or mine == theirs for mine, theirs in zip(a, b, strict=True))
            for a in self.options
            for b in other.options
        )


_MONTHS: dict[str, int] = {}
for _list in (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jänner feber mrz apr mai jun jul aug sept okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
):
    for _n, _w in enumerate(_list.split(), 1):
        _MONTHS.setdefault(_w, _n)
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    r"(?<![\w.])(?:"
    r"(?P<y1>\d{4})[-/.](?P<m1>\d{1,2})[-/.](?P<d1>\d{1,2})(?![\d-])"
    r"|(?P<a2>\d{1,2})(?P<sep>[./-])\s?(?P<b2>\d{1,2})(?P=sep)\s?(?P<y2>\d{4}|\d{2})(?![\d.,]\d|\d)"
    rf"|(?P<d3>\d{{1,2}})(?:st|nd|rd|th|er|º|\.)?\s+(?:of\s+|de\s+)?(?P<m3>{_MONTH})\b\.?"
    r"(?:,?\s+(?:de\s+|of\s+|del\s+)?(?P<y3>\d{4})\b)?"
    rf"|(?P<m4>{_MONTH})\b\.?\s+(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?\b"
    r"(?![.:]\d|\s*(?:%|percent))(?:,?\s+(?:of\s+)?(?P<y4>\d{4})\b)?"
    rf"|(?P<m5>{_MONTH})\b\.?,?\s+(?:of\s+|de\s+)?(?P<y5>\d{{4}})\b"
    r")",
    re.IGNORECASE,
)
_NO_DIGIT = re.compile(r"\D*")  # then there is no date: each has a day or a year


def dates(text: str) -> list[Dated]:
    """All dates of the text in order. A year alone is a number, not a date."""
    if _NO_DIGIT.fullmatch(text):
        return []
    return list(_dates(text) if len(text) <= LONGEST_KEPT else _dates.__wrapped__(text))


@lru_cache(maxsize=2_048)
def _dates(text: str) -> tuple[Dated, ...]:
    found = []
    for m in _DATE.finditer(text):
        options = frozenset(o for o in _options(m) if _possible(o))
        if options:
            found.append(Dated(options, m[0], m.start(), m.end()))
    return tuple(found)


def _options(m: re.Match[str]) -> list[Day]:
    if m["y1"]:
        return [(int(m["y1"]), int(m["m1"]), int(m["d1"]))]
    if m["y2"]:
        year = int(m["y2"]) if len(m["y2"]) == 4 else 2000 + int(m["y2"])
        first, second = int(m["a2"]), int(m["b2"])
        day_first: Day = (year, second, first)
        return [day_first] if m["sep"] == "." else [day_first, (year, first, second)]
    if m["m3"]:
        return [(int(m["y3"]) if m["y3"] else None, _MONTHS[m["m3"].lower()], int(m["d3"]))]
    if m["m4"]:
        return [(int(m["y4"]) if m["y4"] else None, _MONTHS[m["m4"].lower()], int(m["d4"]))]
    return [(int(m["y5"]), _MONTHS[m["m5"].lower()], None)]


def _possible(option: Day) -> bool:
    _, month, day = option
    return (month is None or 1 <= month <= 12) and (day is None or 1 <= day <= 31)


# --- negation --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Negation:
    """A negating word and the stems near it that it may negate."""

    cue: str
    scope: frozenset[str]
    denied: frozenset[str]  # of the scope, what follows (or, when nothing does, what precedes)
    start: int


_NEGATIONS = word_set(
    """
    not no never without nor neither none nobody nothing nowhere cannot except excluding excepting unable hardly
    nicht kein keine keinen keinem keiner keines nie niemals ohne weder nichts niemand ausser ausgenommen
    pas jamais sans aucun aucune sauf rien personne ni
    nunca jamas ningun ninguna ninguno excepto salvo tampoco
    non senza nessun nessuno nessuna tranne niente
    niet geen nooit zonder behalve niets niemand
    nao sem nenhum nenhuma exceto nem
    """
)
_NOT_NEGATING = re.compile(
    r"(?:not|nicht|non|no|niet)\s+(?:only|just|nur|seulement|solo|alleen|so\b|least|merely)"
    r"|no\.?\s*\d|no\s+(?:later|earlier|more|less|fewer|longer than|sooner|doubt|matter)"
    r"|not\s+(?:more|less|later|fewer)\s+than|nothing\s+but",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.;:!?()]|\b(?:but|although|whereas|aber|sondern|mais|pero|ma|maar|mas)\b", re.IGNORECASE)


def negations(text: str, language: str = "en") -> list[Negation]:
    """All negations with their neighbourhood: four content words after, two before, within the clause."""
    kept = len(text) <= LONGEST_KEPT
    return list(_negations(text, language) if kept else _negations.__wrapped__(text, language))


@lru_cache(maxsize=2_048)
def _negations(text: str, language: str) -> tuple[Negation, ...]:
    all_words = words(text)
    found = []
    for i, word in enumerate(all_words):
        if not (word.folded in _NEGATIONS or word.folded.endswith("n't")):
            continue
        if _NOT_NEGATING.match(text, word.start):
            continue
        after = _near(text, all_words, i, 1, 4, language)
        before = _near(text, all_words, i, -1, 2, language)
        found.append(Negation(word.folded, frozenset(after + before), frozenset(after or before), word.start))
    return tuple(found)


def _near(text: str, all_words: list[Word], i: int, step: int, limit: int, language: str) -> list[str]:
    scope: list[str] = []
    at, last = i, all_words[i]
    while len(scope) < limit and 0 <= at + step < len(all_words) and abs(at - i) < 12:
        at += step
        word = all_words[at]
        gap = text[last.end : word.end] if step > 0 else text[word.start : last.start]
        if _CLAUSE_END.search(gap):
            break
        if is_content(word.folded) and not word.folded.isdigit():
            scope.append(stem(word.folded, language))
        last = word
    return scope


# --- names -----------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"\b(?=[\w./-]{0,40}\d)(?=[\w./-]{0,40}[A-Za-z])[A-Za-z0-9]+(?:[-./_][A-Za-z0-9]+)*\b")
_TITLES = word_set(
    "mr mrs ms dr prof sir president senator herr frau monsieur madame minister director sec section chapter"
)


def opener(text: str) -> str:
    """The first word, folded, when it may be a name: capitalised, no function word, no plural. Only a hint."""
    first = next(iter(_words(text)), None)
    if first is None or not first.text[0].isupper() or first.folded in STOPWORDS or first.text.lower() in _MONTHS:
        return ""
    return "" if first.folded.endswith("s") or first.folded in _TITLES else first.folded


@dataclass(frozen=True, slots=True)
class Name:
    """A run of capitalised words, an acronym or a code."""

    text: str
    parts: tuple[str, ...]  # folded
    start: int
    end: int


def names(text: str) -> list[Name]:
    """Names in the text. Where capitals are common (German, headlines) only runs of two, acronyms and codes count."""
    return list(_names(text) if len(text) <= LONGEST_KEPT else _names.__wrapped__(text))


@lru_cache(maxsize=2_048)
def _names(text: str) -> tuple[Name, ...]:
    all_words = [w for w in words(text) if not w.text.isdigit()]
    codes = [Name(m[0], (fold(m[0]),), m.start(), m.end()) for m in _CODE.finditer(text) if not _is_quantity(m[0])]
    if not all_words:
        return tuple(codes)
    capital = [w.text[0].isupper() for w in all_words]
    crowded = len(all_words) >= 5 and (2 * sum(capital[1:]) > len(all_words) or _german_like(all_words, capital))
    coded = within((c.start, c.end) for c in codes)
    runs: list[list[int]] = []
    for i, word in enumerate(all_words):
        if not capital[i] or coded(word.start):
            continue
        if runs and runs[-1][-1] == i - 1 and _one_name(text, all_words[i - 1], word):
            runs[-1].append(i)
        else:
            runs.append([i])
    found = [name for run in runs if (name := _name(text, all_words, run, crowded)) is not None]
    return tuple(sorted(found + codes, key=lambda n: n.start))


def _one_name(text: str, first: Word, second: Word) -> bool:
    gap = text[first.end : second.start]
    return gap in {" ", "-", " & "} or (gap == ". " and (first.folded in _TITLES or len(first.text) == 1))


def _german_like(all_words: list[Word], capital: list[bool]) -> bool:
    small = {w.folded for w in all_words}
    return bool(small & {"der", "die", "das", "und", "ist", "nicht", "fur", "mit"}) and sum(capital) >= 3


def _name(text: str, all_words: list[Word], run: list[int], crowded: bool) -> Name | None:
    def opens(i: int) -> bool:
        before = text[max(0, all_words[i].start - 20) : all_words[i].start].rstrip(" \t\n\"“‘'«([*_-•")
        return not before or before[-1] in ".!?:;…\n|"

    run = [i for i in run if not _plain(all_words[i])]
    if not run:
        return None
    first = all_words[run[0]]
    strong = any(_shouted(all_words[i].text) for i in run)
    if len(run) == 1 and not strong and (crowded or opens(run[0]) or len(first.text) < 2):
        return None
    parts = tuple(all_words[i].folded for i in run if all_words[i].folded not in _TITLES)
    last = all_words[run[-1]]
    return Name(text[first.start : last.end], parts, first.start, last.end) if parts else None


def _shouted(word: str) -> bool:
    return sum(c.isupper() for c in word) > 1


def _plain(word: Word) -> bool:
    """A capitalised word that is no name: a function word, a month, a currency."""
    if _shouted(word.text):
        return word.folded in _UNITS
    return word.folded in STOPWORDS or word.text.lower() in _MONTHS


def _is_quantity(code: str) -> bool:
    match = _NUMBER.fullmatch(code)
    if match is None:
        return bool(re.fullmatch(r"\d+(?:st|nd|rd|th|s)|\d[\d.,]*[-/][A-Za-z]+", code))
    tight = fold(match["tight"] or "")
    return bool(match["ordinal"]) or tight in _UNITS or tight in _MAGNITUDE or tight in {"m", "x", "pp"}
