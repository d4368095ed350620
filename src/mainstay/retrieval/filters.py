"""Metadata filters that a question states in passing: "the 2023 travel policy", "invoices of Northquay".

A filter is taken only from values that exist inside the asker's scope, so that what a question can select never tells of documents
outside it. A year counts when it stands at a document's name ("the 2023 travel policy"), not when it is what the question is about
("the budget for 2026"): many a document of 2025 decides about 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from mainstay.errors import Invalid
from mainstay.text.words import content
from mainstay.types import Filter, MetaValue, Passage

MIN_VALUE_CHARS = 4
_YEAR = r"(?:19|20)\d\d"
# "2023 travel policy" and "2023 version of the travel policy"; then "travel policy 2023", "... of 2023", "... (2023)"
_YEAR_FIRST = re.compile(rf"\b({_YEAR})(?:'s)?\s+((?:[^\W\d_][\w-]*\s*){{1,5}})")
_YEAR_LAST = re.compile(rf"((?:[^\W\d_][\w-]*\s+){{1,4}})(?:of\s+|from\s+|in\s+its\s+|\()?({_YEAR})\b")


@dataclass(frozen=True, kw_only=True)
class NamedYear:
    """A year with the words that stand at it, as content words."""

    year: int
    words: frozenset[str]
    first: bool


def named_years(question: str) -> list[NamedYear]:
    """Years in the question that may name a document, with the words at their side."""
    found = [
        NamedYear(year=int(match[1]), words=frozenset(content(match[2])), first=True)
        for match in _YEAR_FIRST.finditer(question)
    ]
    found += [
        NamedYear(year=int(match[2]), words=frozenset(content(match[1])), first=False)
        for match in _YEAR_LAST.finditer(question)
    ]
    return [named for named in found if named.words]


def year_filter(question: str, candidates: Iterable[Passage]) -> tuple[Filter | None, NamedYear | None]:
    """A filter on ``year`` if a candidate's title carries the words beside the year; (None, named) if only other years do.

    The second value says that documents of that name exist, but none of that year: worth asking back.
    """
    passages = list(candidates)
    for named in named_years(question):
        bearers = [passage for passage in passages if _names(passage.title, named)]
        if any(passage.metadata.get("year") == named.year for passage in bearers):
            return Filter(key="year", any_of=(named.year,), found_in_question=True), None
        if named.first and bearers and all("year" in passage.metadata for passage in bearers):
            return None, named
    return None, None


def _names(title: str, named: NamedYear) -> bool:
    words = set(content(title))
    shared = words & named.words
    return len(shared) >= 2 or (len(shared) == 1 and len(words - {str(named.year)}) <= 2 and named.first)


def value_filters(question: str, values: Mapping[str, Sequence[MetaValue]]) -> list[Filter]:
    """Filters for text values that the question *names*, the longest value of each key.

    A common word is not a name: "after a reefer alarm" does not ask for documents tagged ``reefer``. A value counts
    when it has several
    words or a digit, when it is written like a name, or when it stands beside its key ("high priority", "the legal department").
    """
    found = []
    for key, known in sorted(values.items()):
        named = [str(value) for value in known if isinstance(value, str) and _named(value, key, question)]
        if named:
            longest = max(map(len, named))
            any_of = tuple(sorted(value for value in named if len(value) == longest))
            found.append(Filter(key=key, any_of=any_of, found_in_question=True))
    return found


_GROUPING_WORDS = r"department|team|office|abteilung|service|equipe|dipartimento|afdeling|departamento"


def _named(value: str, key: str, question: str) -> bool:
    words = _plain(value)
    if len(words) < MIN_VALUE_CHARS or f" {words} " not in f" {_plain(question)} ":
        return False
    if " " in words or any(c.isdigit() for c in words):
        return True
    beside = rf"{re.escape(key)}|{_GROUPING_WORDS}" if key in ("folder", "department") else re.escape(key)
    if re.search(
        rf"\b{re.escape(words)}\s+(?:{beside})\b|\b(?:{beside})\s+(?:of\s+)?{re.escape(words)}\b",
        question,
        re.IGNORECASE,
    ):
        return True
    written_as_name: bool = re.search(rf"(?<=\w )\b{re.escape(words.capitalize())}\b", question) is not None
    return written_as_name and not _many_capitals(question)


def _many_capitals(question: str) -> bool:
    """Whether capitals say nothing: German nouns, headlines, shouting."""
    words: list[str] = re.findall(r"[^\W\d_]{3,}", question)[1:]
    return sum(word[0].isupper() for word in words) * 3 > len(words)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


_CONDITION = re.compile(r"(?P<key>[\w.-]{1,64})\s*(?P<op>>=|<=|=)\s*(?P<value>.{1,500})", re.DOTALL)


def parse_filter(text: str) -> Filter:
    """``key=value``, ``key=a,b``, ``key>=2023``, ``key<=2024-12-31`` or ``key=2023..2024`` as a typed filter.

    Errors: Invalid for anything else.
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            f"not a filter: {text[:80]!r}", fix="write key=value, key=a,b, key>=number-or-date or key=from..to"
        )
    key, value = match["key"], match["value"].strip()
    if match["op"] == ">=":
        return Filter(key=key, at_least=_scalar(value))
    if match["op"] == "<=":
        return Filter(key=key, at_most=_scalar(value))
    low, dots, high = value.partition("..")
    if dots and low and high:
        return Filter(key=key, at_least=_scalar(low), at_most=_scalar(high))
    return Filter(key=key, any_of=tuple(_scalar(part.strip()) for part in value.split(",") if part.strip()))


def _scalar(text: str) -> str | int | float | date:
    for kind in (int, float, date.fromisoformat):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
