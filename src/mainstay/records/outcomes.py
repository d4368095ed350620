"""What came of an answer: it was used, put right, thrown away, it closed a ticket or opened one again.

Outcomes arrive by request id, late and more than once. All are kept; of one kind the newest counts. Whether a case is solved
is said by the newest of the kinds that decide it: a case that is closed and then opened again is not solved. What people
say by thumb, and that they changed a text, is shown and decides nothing: those who press a button are not those who asked.

So is who tells us at all: every rate stands beside how many requests have any outcome.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol, get_args

from mainstay.access.directory import ANONYMOUS
from mainstay.agreement.intervals import wilson
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.types import Actor, Clock

MAX_COMMENT, MAX_WORD, MAX_FIELDS, MAX_FIELD = 2000, 64, 16, 200  # characters; fields by number
AHEAD = timedelta(minutes=5)
"""How far another machine's clock may be ahead of ours."""
FEEDBACK = "feedback"
RESAMPLES, BLOCKS, SEED = 2000, 4096, 20260101

Axis = Literal["release", "model", "prompt", "route", "mode"]
AXES: tuple[Axis, ...] = get_args(Axis)
Value = str | int | float | bool


class Kind(StrEnum):
    """What can come of an answer."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"
    REOPENED = "reopened"
    TICKET_CLOSED = "ticket_closed"
    ESCALATED = "escalated"
    UNDONE = "undone"
    COMPLAINT = "complaint"
    SOLVED = "solved"
    THUMBS = "thumbs"  # value 1 is up, 0 is down


SOLVING = frozenset({Kind.ACCEPTED, Kind.TICKET_CLOSED, Kind.SOLVED})
UNSOLVING = frozenset({Kind.REJECTED, Kind.REOPENED, Kind.ESCALATED, Kind.UNDONE, Kind.COMPLAINT})
_WORD = re.compile(r"[\w .:/%-]*")
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One outcome of one request. ``value`` is a number in ``unit`` (minutes to resolve; of thumbs 1 or 0); ``source`` is the
    program or place it comes from, ``by`` the principal who reported it; ``at`` is when it happened. ``mark`` is the
    reporter's own name for it: the same one again is a repetition. ``comment`` and ``fields`` are redacted."""

    id: str
    request_id: str
    kind: Kind
    at: datetime
    recorded: datetime
    by: str
    mark: str
    value: float | None = None
    unit: str = ""
    source: str = ""
    comment: str = ""
    fields: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a report knows of one request with outcomes: what it cost (nano-dollars), and the newest of each kind."""

    name: str
    cost_n: int
    newest: Mapping[Kind, tuple[datetime, float | None]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a report. ``requests`` are all, ``reported`` those with any outcome, ``decided`` those whose outcome says
    whether they are solved; ``rate`` is solved among decided with its 95 % interval (Wilson). A solved case costs what all
    decided ones cost, in nano-dollars, with a 95 % bootstrap interval; None where it has no bound, or nothing is solved.
    ``kinds`` counts requests by kind, ``up`` those of the thumbs that point up."""

    name: str
    requests: int
    reported: int = 0
    decided: int = 0
    solved: int = 0
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    cost_n: int | None = None
    cost_low_n: int | None = None
    cost_high_n: int | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    up: int = 0


class Store(Protocol):
    """Outcomes over a database, beside what was measured of the same requests."""

    def add(self, outcome: Outcome) -> Outcome:
        """Keep it; the one that is there when this request has one of this mark."""
        ...

    def of(self, request_id: str) -> Sequence[Outcome]:
        """All of a request, the newest first."""
        ...

    def asker(self, request_id: str) -> str | None:
        """Who asked; None when nothing is known of such a request."""
        ...

    def requests(self, by: Axis, since: datetime, until: datetime) -> Mapping[str, int]:
        """How many answers were given, by release, model, prompt, route or mode."""
        ...

    def cases(self, by: Axis, since: datetime, until: datetime) -> Iterable[Case]:
        """Those of them with an outcome, in the order of their ids."""
        ...

    def prune(self, before: datetime) -> int:
        """Forget those recorded before; how many."""
        ...

    def unsay(self, by: str, at: datetime) -> int:
        """Take away what this principal wrote, and the name; how many outcomes. The numbers stay: they are about answers. What
        a legal hold binds stays as it is."""
        ...


class Outcomes:
    """What came of answers: taken in, shown, counted."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        redact: Callable[[str], str],
        settled: Callable[[], object] = lambda: None,
        noted: Callable[[str], object] = lambda _request_id: None,
    ) -> None:
        """``redact`` takes secrets and personal data out of a text. ``settled`` writes what of a request just answered still
        waits to be written; ``noted`` is told of a request that has an outcome now."""
        self.store, self._clock, self._redact = store, clock, redact
        self._settled, self._noted = settled, noted

    def record(
        self,
        request_id: str,
        kind: Kind,
        *,
        by: str,
        value: float | None = None,
        unit: str = "",
        source: str = "",
        at: datetime | None = None,
        comment: str = "",
        fields: Mapping[str, Value] | None = None,
        mark: str = "",
    ) -> Outcome:
        """Keep one outcome. Told again under the same ``mark`` it is kept once.

        Errors: Invalid; NotFound for a request that nothing is known of; Conflict for a mark that said something else.
        """
        now = self._clock.now()
        new = Outcome(
            id=self._clock.new_id("out"),
            request_id=request_id,
            kind=kind,
            at=now if at is None else _past(at, now),
            recorded=now,
            by=by,
            mark="",
            value=_number(kind, value),
            unit=_word(unit, "unit"),
            source=_word(source, "source"),
            comment=self._clean(comment, MAX_COMMENT, "comment"),
            fields=self._fields(fields or {}),
        )
        new = replace(new, mark=_mark(mark) if mark else new.id)
        self._known(request_id)
        held = self.store.add(new)
        if held.id != new.id and _content(held) != _content(replace(new, at=held.at if at is None else new.at)):
            raise Conflict(
                "this key was used for another outcome of the request", where=mark[:128], fix="use a key of its own"
            )
        self._noted(request_id)
        return held

    def feedback(self, actor: Actor, request_id: str, *, up: bool, comment: str = "") -> Outcome:
        """What the asker thinks of an answer of their own. They may change their mind: the newest counts.

        Errors: Invalid; NotFound for somebody else's request and for one that never was.
        """
        if self._known(request_id) != actor.principal:
            raise _unknown(request_id)
        return self.record(
            request_id,
            Kind.THUMBS,
            by=actor.principal,
            value=1.0 if up else 0.0,
            source=FEEDBACK,
            comment=comment,
        )

    def of(self, request_id: str, actor: Actor, *, all_of: bool) -> Sequence[Outcome]:
        """The outcomes of one request, the newest first: of one's own, or of anybody's for whoever may see ``all_of`` them.

        Errors: NotFound, alike for somebody else's and for what never was.
        """
        asker = self._known(request_id)
        if not all_of and (asker != actor.principal or asker == ANONYMOUS):
            raise _unknown(request_id)
        held = self.store.of(request_id)
        return held if all_of else [one for one in held if one.by == actor.principal]

    def report(self, by: Axis, *, since: datetime, until: datetime) -> list[Row]:
        """What came of the answers of this time, a row each, the most requests first."""
        return rows(self.store.requests(by, since, until), self.store.cases(by, since, until))

    def _known(self, request_id: str) -> str:
        asker = self.store.asker(request_id)
        if asker is None:
            self._settled()
            asker = self.store.asker(request_id)
        if asker is None:
            raise _unknown(request_id)
        return asker

    def _fields(self, fields: Mapping[str, Value]) -> dict[str, Value]:
        if len(fields) > MAX_FIELDS:
            raise Invalid(f"{len(fields)} fields, at most {MAX_FIELDS} are kept", where="fields")
        kept: dict[str, Value] = {}
        for name, value in fields.items():
            if not _FIELD.fullmatch(name):
                raise Invalid(f"{name[:64]!a} can not name a field", where="fields", fix="use letters, digits, - . _")
            if isinstance(value, float) and not math.isfinite(value):
                raise Invalid("a number without end", where=f"fields.{name}")
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
                value = str(value)
            kept[name] = self._clean(value, MAX_FIELD, f"fields.{name}") if isinstance(value, str) else value
        return kept

    def _clean(self, text: str, most: int, where: str) -> str:
        if len(text) > most:
            raise Invalid(f"{len(text)} characters, at most {most} are kept", where=where)
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        return self._redact(text) if text else ""


# -- counting ----------------------------------------------------------------------------------------------------------


def solved(newest: Mapping[Kind, tuple[datetime, float | None]]) -> bool | None:
    """Whether a case is solved; None while nothing decides it. Of two at one moment the bad news counts."""
    deciding = [(at, kind not in SOLVING) for kind, (at, _) in newest.items() if kind in SOLVING | UNSOLVING]
    return not max(deciding)[1] if deciding else None


class _Tally:
    """What a report counts of one name. Costs and solved cases are added up in blocks of requests, so that a million takes
    no more memory than a few thousand."""

    def __init__(self) -> None:
        self.reported = self.decided = self.solved = self.up = 0
        self.kinds: dict[str, int] = {}
        self.costs: list[int] = []
        self.good: list[int] = []

    def add(self, case: Case) -> None:
        self.reported += 1
        for kind in case.newest:
            self.kinds[str(kind)] = self.kinds.get(str(kind), 0) + 1
        thumbs = case.newest.get(Kind.THUMBS)
        self.up += thumbs is not None and bool(thumbs[1])
        good = solved(case.newest)
        if good is None:
            return
        n = self.decided % BLOCKS
        if n == len(self.costs):
            self.costs.append(0)
            self.good.append(0)
        self.costs[n] += case.cost_n
        self.good[n] += good
        self.decided += 1
        self.solved += good


def rows(requests: Mapping[str, int], cases: Iterable[Case]) -> list[Row]:
    """The report's rows."""
    tallies = {name: _Tally() for name in requests}
    for case in cases:
        tallies.setdefault(case.name, _Tally()).add(case)
    order = sorted(tallies, key=lambda name: (-requests.get(name, 0), name))
    return [_row(name, max(requests.get(name, 0), tallies[name].reported), tallies[name]) for name in order]


def _row(name: str, requests: int, tally: _Tally) -> Row:
    row = Row(
        name=name,
        requests=requests,
        reported=tally.reported,
        decided=tally.decided,
        solved=tally.solved,
        kinds=dict(sorted(tally.kinds.items())),
        up=tally.up,
    )
    if tally.decided:
        low, high = wilson(tally.solved, tally.decided)
        row = replace(row, rate=tally.solved / tally.decided, low=low, high=high)
    if tally.solved:
        cost_low, cost_high = bootstrap(tally.costs, tally.good)
        row = replace(row, cost_n=round(sum(tally.costs) / tally.solved), cost_low_n=cost_low, cost_high_n=cost_high)
    return row


def bootstrap(costs: Sequence[int], solved_: Sequence[int]) -> tuple[int | None, int | None]:
    """The 95 % percentile interval of all costs over all solved, by drawing the blocks again with replacement (Efron and
    Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13). None: without bound, because draws without a solved case
    are among the dearest. Of fewer than two blocks nothing is known."""
    import numpy as np  # only a report needs it

    n = len(costs)
    if n < 2:
        return None, None
    cost, good = np.asarray(costs, np.float64), np.asarray(solved_, np.float64)
    random = np.random.default_rng(SEED)
    ratios = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        drawn = random.integers(0, n, n)
        right = good[drawn].sum()
        ratios[k] = cost[drawn].sum() / right if right else np.inf
    ratios.sort()
    low, high = ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES)]
    return tuple(None if not math.isfinite(bound) else round(bound) for bound in (float(low), float(high)))  # type: ignore[return-value]  # two of them


# -- what comes in -----------------------------------------------------------------------------------------------------


def _unknown(request_id: str) -> NotFound:
    return NotFound("no such request", where=request_id[:60])


def _content(held: Outcome) -> tuple[object, ...]:
    return (held.request_id, held.kind, held.value, held.unit, held.source, held.at, held.comment, dict(held.fields))


def _past(at: datetime, now: datetime) -> datetime:
    if at.tzinfo is None:
        raise Invalid("a time without its zone", where="at", fix="write it like 2026-03-01T12:00:00Z")
    if at > now + AHEAD:
        raise Invalid("it has not happened yet", where="at", fix="send the time at which it happened")
    if at.year < 2000:
        raise Invalid("before the year 2000", where="at", fix="send the time at which it happened")
    return min(at, now)


def _number(kind: Kind, value: float | None) -> float | None:
    if value is None:
        if kind is Kind.THUMBS:
            raise Invalid("thumbs need a value", where="value", fix="send 1 for up, 0 for down")
        return None
    if not math.isfinite(value) or abs(value) > 1e15:
        raise Invalid("not a number to count with", where="value")
    if kind is Kind.THUMBS and value not in (0, 1):
        raise Invalid(f"{value:g} is neither up nor down", where="value", fix="send 1 for up, 0 for down")
    return float(value)


def _word(text: str, where: str) -> str:
    if len(text) > MAX_WORD or not _WORD.fullmatch(text):
        raise Invalid(
            f"a {where} has at most {MAX_WORD} letters, digits, spaces and . : / % - _", where=where, fix="shorten it"
        )
    return text


def _mark(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise Invalid(
            "a key has 1 to 128 letters, digits and _ . : -", where="key", fix="use the ticket's id, or a UUID"
        )
    return text
