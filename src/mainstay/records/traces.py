"""The journey of one request: what was found, ranked, sent, checked and spent.

A trace holds ids, counts, scores and times, never the text of questions, documents or answers. What permission cut off is kept
apart (``operator``) and shown to operators alone: nothing in ``visible`` depends on documents outside the asker's scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mainstay.errors import NotFound
from mainstay.records.measures import Measured
from mainstay.types import Actor, Clock

Attribute = str | int | float | bool | None | list[str] | list[int] | list[float]


@dataclass(frozen=True, kw_only=True)
class Span:
    """One step: its kind (``admit``, ``retrieve``, ``generate``, ``verify``, ...), when it began and how long it took, in ms."""

    kind: str
    start_ms: float
    duration_ms: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A finished journey. ``operator`` is empty for anybody but operators."""

    request_id: str
    at: datetime
    asker: str
    kind: str
    status: str
    spans: tuple[Span, ...]
    facts: Mapping[str, Attribute] = field(default_factory=dict)
    operator: Mapping[str, Attribute] = field(default_factory=dict)


class Traces(Protocol):
    """Where traces are kept."""

    def keep(self, trace: Trace, measured: Measured | None = None) -> None:
        """Write a finished journey, and what it is measured by, both or neither."""

    def get(self, request_id: str) -> Trace | None: ...

    def recent(self, *, asker: str | None, limit: int, before: datetime | None = None) -> list[Trace]: ...


class Journey:
    """Collects the spans of one request as it goes along the road."""

    def __init__(self, request_id: str, actor: Actor, kind: str, clock: Clock) -> None:
        self.request_id = request_id
        self._actor, self._kind, self._clock = actor, kind, clock
        self._at, self._began = clock.now(), clock.monotonic()
        self._step = self._began
        self._spans: list[Span] = []
        self.facts: dict[str, Attribute] = {}
        self.operator: dict[str, Attribute] = {}
        self.door = self.team = ""
        self.first_ms: float | None = None

    @property
    def principal(self) -> str:
        return self._actor.principal

    @property
    def at(self) -> datetime:
        return self._at

    def spoke(self) -> None:
        """The first words of the answer were let out."""
        if self.first_ms is None:
            self.first_ms = self.total_ms()

    def span(self, kind: str, **attributes: Attribute) -> None:
        """Close the step that ran since the last one."""
        now = self._clock.monotonic()
        self._spans.append(
            Span(
                kind=kind,
                start_ms=round((self._step - self._began) * 1000, 3),
                duration_ms=round((now - self._step) * 1000, 3),
                attributes=attributes,
            )
        )
        self._step = now

    def took_ms(self, kind: str) -> float:
        """Time spent so far in steps of this kind."""
        return round(sum(span.duration_ms for span in self._spans if span.kind == kind), 3)

    def total_ms(self) -> float:
        return round((self._clock.monotonic() - self._began) * 1000, 3)

    def trace(self, status: str) -> Trace:
        return Trace(
            request_id=self.request_id,
            at=self._at,
            asker=self._actor.principal,
            kind=self._kind,
            status=status,
            spans=tuple(self._spans),
            facts=dict(self.facts),
            operator=dict(self.operator),
        )


def visible_trace(traces: Traces, request_id: str, actor: Actor) -> Trace:
    """The trace as this actor may see it: their own without the operators' part, everything for operators.

    Errors: NotFound for a request that does not exist and for somebody else's alike.
    """
    trace = traces.get(request_id)
    operator = actor.admin or "traces:read" in actor.scopes
    if trace is None or not (operator or trace.asker == actor.principal):
        raise NotFound("no such request", where=request_id)
    if operator:
        return trace
    return Trace(
        request_id=trace.request_id,
        at=trace.at,
        asker=trace.asker,
        kind=trace.kind,
        status=trace.status,
        spans=trace.spans,
        facts=trace.facts,
    )
