"""The journey of one request: what was found, ranked, sent, checked and spent.

A trace holds ids, counts, scores and times, never the text of questions, documents or answers: those are kept apart, and only
where a service asks for it (``content.py``). What permission cut off is kept apart too (``operator``) and shown to
operators alone: nothing in ``visible`` depends on documents outside the asker's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from mainstay.errors import NotFound
from mainstay.records.measures import Measured
from mainstay.records.spans import (
    ERROR,
    IMPORTED,
    OK,
    REQUEST,
    Attribute,
    Context,
    ImportedSpan,
    Ingested,
    Span,
    context_of,
    is_trace_id,
    numbered,
)
from mainstay.types import Actor, Clock, Passage

__all__ = ["Attribute", "Context", "ImportedSpan", "Ingested", "Journey", "Search", "Span", "Texts", "Trace", "Traces"]

TRACES_READ = "traces:read"
PASSING = "passing"
"""Why a journey is kept that sampling leaves out: for a short time, until somebody has said what came of it."""
MAX_CHILDREN = 1000
Order = Literal["cost", "time"]
"""By what requests are put in order, the greatest first; without it, the newest first."""
LIMITED = "limited"
"""As the mode that a search wants: any but full service."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A finished journey: what it came to, and its steps. ``operator`` is empty for anybody but operators.

    Lists carry no steps (``span_count`` says how many there are). ``root_id`` is the span of the request itself and
    ``parent_id`` that of the caller, both in the W3C trace ``trace_id``. Times are milliseconds. ``kept`` is why its
    steps are kept (``all``, ``sampled``, ``error``, ``degraded``, ``expensive``, ``review``, ``feedback``; ``passing``:
    for a short time; ``dropped``: they are gone). ``held`` is why it may not be deleted, empty when it may.
    """

    request_id: str
    at: datetime
    asker: str
    kind: str
    status: str
    spans: tuple[Span, ...]
    facts: Mapping[str, Attribute] = field(default_factory=dict)
    operator: Mapping[str, Attribute] = field(default_factory=dict)
    trace_id: str = ""
    root_id: str = ""
    parent_id: str = ""
    name: str = ""
    door: str = ""
    mode: str = ""
    model: str = ""
    release: str = ""
    failed: bool = False
    duration_ms: float = 0.0
    first_ms: float | None = None
    cost_nanodollars: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    span_count: int = 0
    kept: str = "all"
    held: str = ""

    @property
    def imported(self) -> bool:
        """Whether another program made it."""
        return self.request_id == IMPORTED + self.trace_id

    @property
    def whole(self) -> tuple[Span, ...]:
        """Every step with the request itself before them, as standards count."""
        if self.imported or not self.root_id:
            return self.spans
        root = Span(
            kind=REQUEST if self.kind == "answer" else self.kind,
            name=self.name or self.kind,
            start_ms=0.0,
            duration_ms=self.duration_ms,
            span_id=self.root_id,
            parent_id=self.parent_id,
            status=ERROR if self.failed else OK,
            error_class=str(self.facts.get("error") or ""),
            attributes=self.facts,
        )
        return (root, *self.spans)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which traces are wanted, the newest first; an empty field wants all.

    ``after`` is the cursor that the page before gave. Money is nano-dollars, time milliseconds. ``outcome`` is one that was
    reported for it. ``trace_id`` finds every request of one trace.
    """

    asker: str = ""
    status: str = ""
    mode: str = ""
    model: str = ""
    release: str = ""
    door: str = ""
    kind: str = ""
    trace_id: str = ""
    outcome: str = ""
    failed: bool | None = None
    min_cost: int = 0
    min_ms: float = 0.0
    since: datetime | None = None
    before: datetime | None = None
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class Page:
    """Traces without their steps; ``next`` is the cursor of what follows, empty at the end.

    A page may hold fewer than were asked for, none even, and still have a next one: a search looks at a bounded number of
    traces at a time.
    """

    traces: tuple[Trace, ...]
    next: str = ""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted, or would be (dry run): journeys, steps of journeys that sampling left out, imported steps, texts,
    and how many journeys a hold kept."""

    traces: int = 0
    dropped: int = 0
    spans: int = 0
    contents: int = 0
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One finished journey, as it is written: with what it is measured by, its decision's record, its texts."""

    trace: Trace
    measured: Measured | None = None
    decision: object | None = None
    content: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What was asked and said, and the classes of data (None: none) of every passage that went into it."""

    question: str = ""
    answer: str = ""
    data_classes: frozenset[str | None] = frozenset()


class Reading(Protocol):
    """Where traces are read from, ours and imported ones as the same nouns."""

    def get(self, request_id: str) -> Trace | None:
        """One journey with its steps; also by the id of a trace, or what an imported trace is called."""

    def skeleton(self, request_id: str) -> Trace | None:
        """The same without the attributes of its steps: quick for the longest."""

    def span(self, request_id: str, span_id: str) -> Span | None:
        """One step with everything."""

    def recent(self, *, asker: str | None, limit: int, before: datetime | None = None) -> list[Trace]:
        """The newest first, with their steps, of one asker or of all."""

    def search(self, wanted: Search) -> Page: ...

    def ranked(self, wanted: Search, by: Order) -> Sequence[Trace]:
        """The dearest, or the slowest, of the newest that a page of a search looks at; without their steps."""

    def content(self, request_id: str) -> Mapping[str, str] | None:
        """The texts that were kept of a request; None where there are none."""

    def ingest(self, batch: Sequence[ImportedSpan]) -> Ingested:
        """Keep steps of other programs, each once however often it comes; they are on the disk when this returns.

        Errors: Invalid for more than ``MAX_BATCH``; Unavailable when they can not be written: nothing of the batch was.
        """

    def mark(self, request_id: str, kept: str) -> bool:
        """Its steps stay, because of what became known about it later; whether there were any left to stay."""

    def hold(self, request_id: str, case: str, *, at: datetime, why: str = "") -> bool:
        """Nothing of it is deleted until it is released, whatever its age; an empty ``case`` releases it. ``why`` is the reason
        that the audit log gets, the case unless told. Whether there is such a request."""


class Traces(Reading, Protocol):
    """Where traces are kept, too."""

    def keep(
        self,
        trace: Trace,
        measured: Measured | None = None,
        *,
        decision: object | None = None,
        texts: Texts | None = None,
    ) -> None:
        """Write a finished journey, what it is measured by, and the record of its decision: all or none.

        ``texts`` are written as far as the service wants them. Errors: Unavailable when nothing can be written nor wait.
        """


_Part = tuple[str, float, float, str, str, Mapping[str, Any]]


class Journey:
    """Collects the steps of one request as it goes along the road. Parts of a step may be told from other threads."""

    def __init__(
        self, request_id: str, actor: Actor, kind: str, clock: Clock, *, context: Context | None = None
    ) -> None:
        """``context`` is the place in a trace that the door has given the request."""
        self.request_id = request_id
        self.context = context or context_of(request_id)
        self._actor, self._kind, self._clock = actor, kind, clock
        self._at, self._began = clock.now(), clock.monotonic()
        self._step = self._began
        self._spans: list[Span] = []
        self._parts: list[_Part] = []
        self._root, self._numbers = int(self.context.span_id, 16), 0
        self.facts: dict[str, Attribute] = {}
        self.operator: dict[str, Attribute] = {}
        if self.context.trace_state:
            self.operator["trace_state"] = self.context.trace_state
        self.door = self.team = self.mode = self.model = self.release = ""
        self.cost_nanodollars = self.input_tokens = self.output_tokens = 0
        self.failed = False
        self.data_classes: set[str | None] = set()  # of everything that was found
        self.found: Sequence[Passage] = ()  # in the order of rank: for the decision record
        self.first_ms: float | None = None

    @property
    def principal(self) -> str:
        return self._actor.principal

    @property
    def via(self) -> str:
        """The service that speaks for the asker, if any."""
        return self._actor.via or ""

    @property
    def at(self) -> datetime:
        return self._at

    @property
    def traceparent(self) -> str:
        """What those are told who are called within the step that is running (W3C Trace Context): its id is the next one."""
        return f"00-{self.context.trace_id}-{numbered(self._root, self._numbers + 1)}-01"

    def spoke(self) -> None:
        """The first words of the answer were let out."""
        if self.first_ms is None:
            self.first_ms = self.total_ms()

    def span(self, kind: str, *, name: str = "", error: str = "", **attributes: Any) -> None:
        """Close the step that ran since the last one; parts told meanwhile are its own. ``error`` is of which kind it was."""
        now = self._clock.monotonic()
        own = self._closed(kind, self.context.span_id, self._step, now, name, error, attributes)
        if self._parts:
            parts, self._parts = self._parts, []
            self._attach(parts, own)
        self._step = now

    def part(self, kind: str, began: float, *, name: str = "", error: str = "", **attributes: Any) -> None:
        """A part of the step that is running, from ``began`` (by the clock's ``monotonic``) until now: an attempt, a second
        copy of a call. Safe from any thread; what is told after its step was closed belongs to the next one."""
        if len(self._parts) < MAX_CHILDREN:
            self._parts.append((kind, began, self._clock.monotonic(), name, error, attributes))

    def _attach(self, parts: Sequence[_Part], parent: str) -> None:
        for kind, began, ended, name, error, attributes in parts:
            self._closed(kind, parent, began, ended, name, error, attributes)

    def _closed(
        self, kind: str, parent: str, began: float, ended: float, name: str, error: str, attributes: Mapping[str, Any]
    ) -> str:
        self._numbers += 1
        own = numbered(self._root, self._numbers)
        self._spans.append(
            Span(
                span_id=own,
                parent_id=parent,
                kind=kind,
                name=name,
                start_ms=round((began - self._began) * 1000, 3),
                duration_ms=round((ended - began) * 1000, 3),
                status=ERROR if error else OK,
                error_class=error,
                attributes=attributes,
            )
        )
        return own

    def took_ms(self, kind: str) -> float:
        """Time spent so far in steps of this kind."""
        root = self.context.span_id
        return round(sum(span.duration_ms for span in self._spans if span.kind == kind and span.parent_id == root), 3)

    def total_ms(self) -> float:
        return round((self._clock.monotonic() - self._began) * 1000, 3)

    def trace(self, status: str) -> Trace:
        root = self.context.span_id
        parts, self._parts = self._parts, []
        self._attach(parts, root)
        spans = tuple(self._spans)
        return Trace(
            request_id=self.request_id,
            at=self._at,
            asker=self._actor.principal,
            kind=self._kind,
            status=status,
            spans=spans,
            facts=dict(self.facts),
            operator=dict(self.operator),
            trace_id=self.context.trace_id,
            root_id=root,
            parent_id=self.context.parent_id,
            door=self.door,
            mode=self.mode,
            model=self.model,
            release=self.release,
            failed=self.failed,
            duration_ms=self.total_ms(),
            first_ms=self.first_ms,
            cost_nanodollars=self.cost_nanodollars,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            span_count=len(spans),
        )


def may_see_all(actor: Actor) -> bool:
    """Whether somebody may look at everybody's requests."""
    return actor.admin or TRACES_READ in actor.scopes


def visible_trace(traces: Reading, request_id: str, actor: Actor, *, attributes: bool = True) -> Trace:
    """The trace as this actor may see it: their own without the operators' part, everything for operators.

    Without ``attributes`` its steps come without them. Errors: NotFound for a request that does not exist and for somebody
    else's alike.
    """
    trace = traces.get(request_id) if attributes else traces.skeleton(request_id)
    if trace is None or not (may_see_all(actor) or trace.asker == actor.principal):
        raise NotFound("no such request", where=request_id)
    return trace if may_see_all(actor) else replace(trace, operator={}, held="")


def visible_span(traces: Reading, request_id: str, span_id: str, actor: Actor) -> Span:
    """One step of a request. Errors: NotFound, alike for what is not there and for somebody else's."""
    visible_trace(traces, request_id, actor, attributes=False)
    span = traces.span(request_id, span_id)
    if span is None:
        raise NotFound("no such step", where=span_id)
    return span


def own_name(request_id: str) -> str:
    """How a trace is called here: what is given, but for the bare id of a trace."""
    return IMPORTED + request_id if is_trace_id(request_id) else request_id
