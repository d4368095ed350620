"""Versions of the agreement: its content in one form, the digest that names it, and a change in words.

Two files that promise the same have one digest, however they are written: the order of keys, values that equal the defaults,
``0.01`` or ``0.010000``, ``24h`` or ``1d``. Values that were not written count as well: what is approved is what is in force.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from mainstay.agreement.terms import (
    Agreement,
    DataClass,
    Governance,
    HandOver,
    Objective,
    PriorityClass,
    Topic,
    Traffic,
    nanodollars,
    seconds,
)
from mainstay.agreement.wording import UPPER, WORDS, Clause, Effect, opposite, row, said, target
from mainstay.errors import Invalid, MainstayError

PREFIX = "agr_"
_AMOUNTS = frozenset({"cap_usd", "usd", "value_usd"})
_LENGTHS = frozenset({"window", "keep", "hold_down"})
# Lists whose order says nothing. Of the others (models of a rung, rungs) the order is content.
_SETS = frozenset(
    {
        (Agreement, "objectives"),
        (Agreement, "budgets"),
        (Traffic, "classes"),
        (PriorityClass, "who"),
        (Governance, "languages"),
        (Governance, "prohibited_topics"),
        (Governance, "person_for"),
        (Governance, "allowed_tools"),
        (Governance, "data_classes"),
        (Governance, "regions"),
        (Topic, "words"),
        (DataClass, "models"),
        (HandOver, "email"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference: the key (``request.cap_usd``), a sentence, and what it does to the promise."""

    key: str
    sentence: str
    effect: Effect


def content(agreement: Agreement) -> str:
    """The agreement as canonical JSON. Of a webhook only the host is written, and a digest that tells two of them apart:
    its path may be a secret."""
    return json.dumps(_canonical(agreement), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(agreement: Agreement) -> str:
    """``agr_`` and 16 hexadecimal digits of the content's SHA-256."""
    return PREFIX + hashlib.sha256(content(agreement).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def restored(text: str) -> Agreement:
    """The agreement that this content is. Errors: Invalid when another version of the program wrote what we do not know."""
    try:
        return _shape().validate_python(json.loads(text))
    except (ValidationError, ValueError, MainstayError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise Invalid(f"a version of the agreement that this program can not read: {first}") from None


@cache
def _shape() -> TypeAdapter[Agreement]:
    return TypeAdapter(Agreement)  # costs a tenth of a second to make


def difference(old: Agreement, new: Agreement) -> list[Change]:
    """What changed, in words, in the order of the keys."""
    return list(_group("", "", old, new))


# -- one form ----------------------------------------------------------------------------------------------------------


def _canonical(value: Any, owner: type | None = None, name: str = "") -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        held = type(value)
        return {one.name: _canonical(getattr(value, one.name), held, one.name) for one in fields(held)}
    if isinstance(value, Mapping):
        return {str(key): str(held) for key, held in value.items()}
    if isinstance(value, tuple):
        listed = [_canonical(held) for held in value]
        return sorted(listed, key=_text) if (owner, name) in _SETS else listed
    if isinstance(value, str):
        return _normal(str(value), name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _normal(value: str, name: str) -> str:
    try:
        if name in _AMOUNTS:
            whole, rest = divmod(nanodollars(value, name), 1_000_000_000)
            return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
        if name in _LENGTHS:
            held = seconds(value, name)
            for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
                if held % size == 0:
                    return f"{held / size:.0f}{unit}"
            return f"{held!r}s".replace(".0s", "s")
    except Invalid:  # a window is checked in ``sense``: what is wrong there still has a content
        return value
    if name == "webhook" and value and not re.fullmatch(r"[a-z]*://[^/]*/#[0-9a-f]{12}", value):
        try:
            parts = urlsplit(value)
            scheme, host = parts.scheme, parts.hostname or ""
        except ValueError:  # no address at all, which ``sense`` says
            scheme, host = "", ""
        told = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{scheme}://{host}/#{told}"
    return value


# -- in words ----------------------------------------------------------------------------------------------------------


def _group(key: str, label: str, old: Any, new: Any) -> Iterator[Change]:
    held = type(old)
    for one in fields(held):
        before, after = getattr(old, one.name), getattr(new, one.name)
        if _canonical(before, held, one.name) == _canonical(after, held, one.name):
            continue
        clause, path = WORDS[held][one.name], f"{key}.{one.name}" if key else one.name
        if clause.kind == "group":
            yield from _group(path, "", before, after)
        elif clause.kind == "rows":
            yield from _rows(path, label, clause, before, after)
        elif held is Objective and one.name == "target":
            yield from _target(path, label, old, new)
        else:
            yield from _value(path, label, clause, before, after)


def _rows(key: str, label: str, clause: Clause, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Change]:
    before, after = _named(clause, old), _named(clause, new)
    told = False
    for name, held in before.items():
        if name not in after:
            told = True
            sentence = f"{label}{clause.each} {row(clause, held)} was removed."
            yield Change(key=key, sentence=sentence, effect=opposite(clause.more))
    for name, held in after.items():
        if name not in before:
            told = True
            yield Change(key=key, sentence=f"{label}{clause.each} {row(clause, held)} was added.", effect=clause.more)
        else:
            inner = list(_group(f"{key}.{name[0]}", f"{label}{clause.each} {name[0]}: ", before[name], held))
            told = told or bool(inner)
            yield from inner
    if not told:
        order = ", ".join(clause.key(held) for held in new)
        yield Change(key=key, sentence=f"{label}{clause.words} have another order: {order}.", effect="changes")


def _named(clause: Clause, rows: Sequence[Any]) -> dict[tuple[str, int], Any]:
    """Rows by their name; a name that stands there twice (which ``sense`` refuses) is told apart by its turn."""
    seen: Counter[str] = Counter()
    named = {}
    for held in rows:
        name = clause.key(held)
        named[name, seen[name]] = held
        seen[name] += 1
    return named


def _value(key: str, label: str, clause: Clause, old: Any, new: Any) -> Iterator[Change]:
    words = clause.words if not label else clause.words[0].lower() + clause.words[1:]
    if clause.kind == "number":
        yield _number(key, f"{label}{words}", clause, old, new)
    elif clause.kind == "switch":
        effect = clause.more if new else opposite(clause.more)
        yield Change(key=key, sentence=f"{label}“{clause.words}” {'now' if new else 'no longer'} holds.", effect=effect)
    elif clause.kind == "choice":
        ranks = list(clause.ranks)
        effect = clause.more if ranks.index(new) > ranks.index(old) else opposite(clause.more)
        sentence = f"{label}{words}: {clause.ranks[new]}, no longer: {clause.ranks[old]}."
        yield Change(key=key, sentence=sentence, effect=effect)
    elif clause.kind == "names":
        yield from _names(key, f"{label}{words}", clause, old, new)
    elif clause.kind == "texts":
        yield from _texts(key, f"{label}{words}", clause, old, new)
    else:
        before, after = said(clause, old), said(clause, new)
        if before == after:  # a webhook whose secret part changed
            sentence = f"{label}{words} changes in a part that is not shown, at {after}."
        else:
            sentence = f"{label}{words} changes from {before} to {after}."
        yield Change(key=key, sentence=sentence, effect=clause.more)


def _number(key: str, words: str, clause: Clause, old: Any, new: Any) -> Change:
    try:
        sizes = [clause.size(held) for held in (old, new)]
    except Invalid:  # a window that is no length of time
        return Change(
            key=key, sentence=f"{words} changes from {said(clause, old)} to {said(clause, new)}.", effect="changes"
        )
    before, after = (float("inf") if clause.zero and size == 0 else size for size in sizes)
    rises = after > before
    sentence = f"{words} {'rises' if rises else 'falls'} from {said(clause, old)} to {said(clause, new)}."
    return Change(key=key, sentence=sentence, effect=clause.more if rises else opposite(clause.more))


def _target(key: str, label: str, old: Objective, new: Objective) -> Iterator[Change]:
    before, after = target(old.measure, old.target), target(new.measure, new.target)
    rises = new.target > old.target
    effect: Effect = "changes"
    if old.measure == new.measure:
        effect = "loosens" if rises == (new.measure in UPPER) else "tightens"
    sentence = f"{label}the target {'rises' if rises else 'falls'} from {before} to {after}."
    yield Change(key=key, sentence=sentence, effect=effect)


def _names(key: str, words: str, clause: Clause, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    before, after = said(clause, tuple(old)), said(clause, tuple(new))
    if not old or not new:
        # An empty list is its own case: it restricts nothing, or it permits nothing.
        wider = (not new) == (clause.empty == "any")
        yield Change(
            key=key,
            sentence=f"{words} change from {before} to {after}.",
            effect=clause.more if wider else opposite(clause.more),
        )
        return
    added = list((Counter(new) - Counter(old)).elements())
    gone = list((Counter(old) - Counter(new)).elements())
    if added:
        yield Change(key=key, sentence=f"{words}: {', '.join(added)} was added; now {after}.", effect=clause.more)
    if gone:
        sentence = f"{words}: {', '.join(gone)} was removed; now {after}."
        yield Change(key=key, sentence=sentence, effect=opposite(clause.more))
    if not added and not gone:
        yield Change(key=key, sentence=f"{words} have another order: {after}.", effect="changes")


def _texts(key: str, words: str, clause: Clause, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for language in sorted({*old, *new}):
        if language not in old:
            change, effect = f"was added: {_quoted(new[language])}", clause.more
        elif language not in new:
            change, effect = "was removed", opposite(clause.more)
        elif old[language] != new[language]:
            change, effect = f"now reads {_quoted(new[language])}", "changes"
        else:
            continue
        yield Change(key=f"{key}.{language}", sentence=f"{words} ({language}) {change}.", effect=effect)


def _quoted(text: str) -> str:
    shown = " ".join(text.split())
    return f"“{shown if len(shown) <= 120 else shown[:119] + '…'}”"
