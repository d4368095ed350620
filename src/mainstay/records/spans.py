"""One step of a journey, ours or imported: a fixed set of kinds, and what every step says of itself.

The kinds are Mainstay's own and stay what they are; the names that standards use live where traces come in and go out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Attribute = str | int | float | bool | None | list[str] | list[int] | list[float]

REQUEST, INGEST, STEP, OTHER = "request", "ingest", "step", "other"
KINDS = (
    REQUEST,
    "admit",
    "guard",
    "cache",
    "filter",
    "retrieve",
    "graph",
    "critic",
    "prompt",
    "route",
    "generate",
    "verify",
    "tool",
    "consistency",
    "judge",
    "review",
    INGEST,
    STEP,
    OTHER,
)
"""Every kind of step. What is imported and is none of these is ``other`` and keeps its name."""
OK, ERROR = "ok", "error"

IMPORTED = "trace_"
"""What the id of an imported trace begins with; the 32 digits of its trace id follow."""

# What one imported span may hold; more is cut or refused where it comes in, so that one sender can not fill the disk.
MAX_NAME = 200
MAX_SPAN_BYTES = 64 * 1024
MAX_BATCH = 10_000
MAX_TRACE_SPANS = 50_000


@dataclass(frozen=True, kw_only=True)
class Span:
    """One step. ``start_ms`` counts from the beginning of the trace.

    ``span_id`` is 16 hexadecimal digits, ``parent_id`` that of the step it is part of (empty: nobody's, or unknown).
    ``status`` is ok or error, and ``error_class`` says in one word of which kind.
    """

    kind: str
    start_ms: float
    duration_ms: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    span_id: str = ""
    parent_id: str = ""
    name: str = ""
    status: str = OK
    error_class: str = ""

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.duration_ms


@dataclass(frozen=True, kw_only=True)
class ImportedSpan:
    """A step of another program's trace, as it came in, in our words.

    ``start_us`` is microseconds since 1970 UTC. ``attributes`` is what JSON can hold, everything that the sender said and
    no other field has, so that it can go out again as it came. ``content`` are texts (questions, answers, messages) by name:
    kept only where the service keeps content. ``principal`` is whose key brought it.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    kind: str = OTHER
    name: str = ""
    start_us: int
    duration_ms: float
    status: str = OK
    error_class: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    content: Mapping[str, str] = field(default_factory=dict)
    principal: str = ""
    service: str = ""
    model: str = ""
    release: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanodollars: int = 0
    first_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What became of a batch: spans that are kept now, those that were there already, those that were refused and why."""

    kept: int = 0
    known: int = 0
    refused: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a request stands in a trace (W3C Trace Context): the trace, our own root span, and the caller's span, if any.

    ``trace_state`` is what the tracing systems before us wrote about it, and is passed on as it is.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    trace_state: str = ""


def context_of(request_id: str) -> Context:
    """The place of a request that nobody called from within a trace: spread evenly, and the same for the same request."""
    made = hashlib.blake2b(request_id.encode(), digest_size=24).hexdigest()
    return Context(trace_id=made[:32], span_id=made[32:])


MAX_TRACE_STATE, MAX_TRACE_STATES = 512, 32  # characters, members
_STATE_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_STATE = re.compile(rf"({_STATE_KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")


def trace_state_of(told: str) -> str:
    """The ``tracestate`` of a request as it is passed on (W3C Trace Context, section 3.3): as many of its members, from the
    left, as fit; nothing at all of one that is malformed, has a name twice or too many members."""
    members = [member for member in (one.strip(" \t") for one in told.split(",")) if member]
    found = [_STATE.fullmatch(member) for member in members]
    names = {one[1] for one in found if one is not None}
    if len(members) > MAX_TRACE_STATES or len(names) != len(members):
        return ""
    while len(",".join(members)) > MAX_TRACE_STATE:
        members.pop()
    return ",".join(members)


def numbered(root: int, n: int) -> str:
    """The id of a request's n-th span, counted on from its root's."""
    return f"{(root + n) & 0xFFFFFFFFFFFFFFFF or 1:016x}"


def is_trace_id(text: str) -> bool:
    return len(text) == 32 and _hexadecimal(text) and text != "0" * 32


def is_span_id(text: str) -> bool:
    return len(text) == 16 and _hexadecimal(text) and text != "0" * 16


def _hexadecimal(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def known_kind(kind: str) -> str:
    """The kind itself, or ``other``."""
    return kind if kind in _KNOWN else OTHER


_KNOWN = frozenset(KINDS)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a waterfall: a step, how deep it lies, and the time it spent itself, not in its parts."""

    span: Span
    depth: int
    self_ms: float
    last: tuple[bool, ...] = ()  # for each level: whether nothing of that level follows


def waterfall(spans: Sequence[Span]) -> list[Line]:
    """Steps as a tree, in order of their beginning. A step whose parent is not here stands at the top; parents that go in a
    circle are cut open. Takes n log n for n steps, whatever their shape, and no recursion."""
    order = sorted(range(len(spans)), key=[span.start_ms for span in spans].__getitem__)
    here = {spans[n].span_id: n for n in reversed(order) if spans[n].span_id}
    parts: dict[int, list[int]] = {}  # of each in order of their beginning
    tops: list[int] = []
    for n in order:
        parent = here.get(spans[n].parent_id, n) if spans[n].parent_id else n
        (tops if parent == n else parts.setdefault(parent, [])).append(n)
    lines: list[Line] = []
    seen = [False] * len(spans)
    for top in (*tops, *order):  # what no top leads to hangs in a circle: its earliest step becomes a top
        stack: list[tuple[int, int, tuple[bool, ...]]] = [] if seen[top] else [(top, 0, ())]
        while stack:
            n, depth, last = stack.pop()
            if seen[n]:
                continue
            seen[n] = True
            span = spans[n]
            below = [part for part in parts.get(n, ()) if not seen[part]]
            own = own_ms(span, [spans[part] for part in below]) if below else span.duration_ms
            lines.append(Line(span=span, depth=depth, self_ms=own, last=last))
            stack += [
                (part, depth + 1, (*last, part == below[-1]) if depth < _DRAWN else last) for part in reversed(below)
            ]
    return lines


_DRAWN = 40  # deeper levels are not drawn as lines any more


def own_ms(span: Span, parts: Sequence[Span]) -> float:
    """The time of a step that none of its parts covers; parts may overlap each other and outlast it."""
    covered, until = 0.0, span.start_ms
    for part in parts:  # in order of their beginning
        begin, end = max(part.start_ms, until), min(part.end_ms, span.end_ms)
        if end > begin:
            covered += end - begin
            until = end
    return round(max(0.0, span.duration_ms - covered), 3)
