"""Documents' metadata as columns: for each key the distinct values, and which document has which.

Values keep their type. Strings are equal regardless of letter case; whole numbers and fractions compare with each
other; a date compares with a date, or with a string that spells one (YYYY-MM-DD). Ranges include both ends. Whatever
has the wrong type does not match, and nothing here raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainstay.types import Filter, MetaValue

Scalar = str | int | float | bool | date
Tagged = tuple[str, str | int | float | bool]
"""A value with the letter of its type, so that 1, 1.0 and True stay three values: what is stored."""


def tagged(value: object) -> Tagged | None:
    """The value as stored, or None when it is of no type metadata may have."""
    match value:
        case bool():
            return "b", value
        case int():
            return "i", value
        case float():
            return ("f", value) if math.isfinite(value) else None
        case str():
            return "s", value
        case datetime():
            return "d", value.date().isoformat()
        case date():
            return "d", value.isoformat()
        case _:
            return None


def plain(value: Tagged) -> Scalar:
    """The value as the caller gave it."""
    return date.fromisoformat(str(value[1])) if value[0] == "d" else value[1]


def values_of(value: MetaValue | object) -> list[Tagged]:
    """The distinct values a document has under one key, in order."""
    many: Iterable[object] = value if isinstance(value, (tuple, list)) else (value,)
    return list(dict.fromkeys(t for t in map(tagged, many) if t is not None))


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One key: ``documents[i]`` (place in the segment, ascending) has the value number ``codes[i]``."""

    documents: NDArray[np.int32]
    codes: NDArray[np.int32]
    spelled: NDArray[np.uint8]  # JSON of the distinct values, read when first needed

    @cached_property
    def values(self) -> list[Tagged]:
        return [(tag, value) for tag, value in json.loads(self.spelled.tobytes())]

    @cached_property
    def _equal(self) -> dict[Tagged, list[int]]:
        found: dict[Tagged, list[int]] = {}
        for number, value in enumerate(self.values):
            for form in _forms(value):
                found.setdefault(form, []).append(number)
        return found

    @cached_property
    def _numbers(self) -> NDArray[np.float64]:
        return np.array([_number(value) for value in self.values], np.float64)

    @cached_property
    def _days(self) -> NDArray[np.float64]:
        return np.array([_day(value) for value in self.values], np.float64)

    def matching(self, wanted: Filter, n: int) -> NDArray[np.bool_]:
        """Which of the segment's ``n`` documents satisfy the filter."""
        out = np.zeros(n, np.bool_)
        out[self.documents[self._fitting(wanted)[self.codes]]] = True
        return out

    def _fitting(self, wanted: Filter) -> NDArray[np.bool_]:
        """Which of the distinct values satisfy the filter."""
        ranged = wanted.at_least is not None or wanted.at_most is not None
        if not wanted.any_of and not ranged:
            return np.ones(len(self.values), np.bool_)
        fits = self._within(wanted) if ranged else np.zeros(len(self.values), np.bool_)
        for value in map(tagged, wanted.any_of):
            for form in _forms(value) if value is not None else ():
                fits[self._equal.get(form, [])] = True
        return fits

    def _within(self, wanted: Filter) -> NDArray[np.bool_]:
        low = tagged(wanted.at_least) if wanted.at_least is not None else None
        high = tagged(wanted.at_most) if wanted.at_most is not None else None
        given = [bound for bound in (low, high) if bound is not None]
        out = np.zeros(len(self.values), np.bool_)
        if not given or len(given) < (wanted.at_least is not None) + (wanted.at_most is not None):
            return out
        if all(not math.isnan(_number(bound)) for bound in given):
            out |= _between(self._numbers, low, high, _number)
        if all(not math.isnan(_day(bound)) for bound in given):
            out |= _between(self._days, low, high, _day)
        if all(bound[0] == "s" for bound in given):
            first = str(low[1]).casefold() if low else None
            last = str(high[1]).casefold() if high else None
            out |= np.array([value[0] == "s" and _in(str(value[1]).casefold(), first, last) for value in self.values])
        return out

    def counts(self, documents: NDArray[np.bool_]) -> dict[Tagged, int]:
        """How many of the given documents have each value."""
        seen = np.bincount(self.codes[documents[self.documents]], minlength=len(self.values))
        return {self.values[i]: int(seen[i]) for i in np.flatnonzero(seen)}

    def any(self, documents: NDArray[np.bool_]) -> bool:
        """Whether any of the given documents has the key."""
        return bool(documents[self.documents].any())


def _in(value: str, first: str | None, last: str | None) -> bool:
    return (first is None or value >= first) and (last is None or value <= last)


def _between(
    values: NDArray[np.float64], low: Tagged | None, high: Tagged | None, measure: Callable[[Tagged], float]
) -> NDArray[np.bool_]:
    """Range test; what has no measure is NaN and compares false."""
    least = measure(low) if low is not None else -math.inf
    most = measure(high) if high is not None else math.inf
    return np.asarray((values >= least) & (values <= most))


def _number(value: Tagged) -> float:
    if value[0] not in "if":
        return math.nan
    try:
        return float(value[1])
    except OverflowError:
        return math.nan


def _day(value: Tagged) -> float:
    if value[0] not in "ds":
        return math.nan
    text = str(value[1])
    if len(text) != 10 or text[4] != "-":
        return math.nan
    try:
        return float(date.fromisoformat(text).toordinal())
    except ValueError:
        return math.nan


def _forms(value: Tagged) -> list[Tagged]:
    """What the value is equal by."""
    tag, held = value
    match tag:
        case "s":
            day = _day(value)
            spelled: list[Tagged] = [("s", str(held).casefold())]
            return spelled if math.isnan(day) else [*spelled, ("d", day)]
        case "d":
            return [("d", _day(value))]
        case "b":
            return [("b", held)]
        case _:
            return [("n", held)]


def columns(documents: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """The columns of these documents, in place order."""
    pairs: dict[str, tuple[list[int], list[int], dict[Tagged, int]]] = {}
    for place, metadata in enumerate(documents):
        for name, value in metadata.items():
            at, codes, numbers = pairs.setdefault(str(name), ([], [], {}))
            for one in values_of(value):
                at.append(place)
                codes.append(numbers.setdefault(one, len(numbers)))
    return {name: column(np.array(at, np.int32), np.array(codes, np.int32), numbers)
            for name, (at, codes, numbers) in sorted(pairs.items()) if at}  # fmt: skip


def column(documents: NDArray[np.int32], codes: NDArray[np.int32], values: Iterable[Tagged]) -> Column:
    """A column, from its arrays and its distinct values in the order of their numbers."""
    spelled = json.dumps(list(values), separators=(",", ":")).encode()
    return Column(documents=documents, codes=codes, spelled=np.frombuffer(spelled, np.uint8))


def joined(parts: Sequence[tuple[Mapping[str, Column], NDArray[np.int32]]]) -> dict[str, Column]:
    """The columns of a merge: each part's columns with the new place of each of its documents (below zero: dropped)."""
    names = sorted({name for held, _ in parts for name in held})
    out = {name: _joined([(held[name], places) for held, places in parts if name in held]) for name in names}
    return {name: held for name, held in out.items() if len(held.documents)}


def _joined(parts: Sequence[tuple[Column, NDArray[np.int32]]]) -> Column:
    numbers: dict[Tagged, int] = {}
    at, codes = [], []
    for held, places in parts:
        new = places[held.documents]
        kept = new >= 0
        used = np.unique(held.codes[kept])
        renumbered = np.zeros(len(held.values), np.int32)
        renumbered[used] = [numbers.setdefault(held.values[i], len(numbers)) for i in used]
        at.append(new[kept])
        codes.append(renumbered[held.codes[kept]])
    documents = np.concatenate(at)
    order = np.argsort(documents, kind="stable")
    return column(documents[order], np.concatenate(codes)[order], numbers)
