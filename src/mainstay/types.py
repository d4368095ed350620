"""The nouns that cross rooms.

Values are frozen and take keywords; every time is an aware UTC ``datetime`` from a ``Clock``; offsets count characters
(Unicode code points) of the stored text of one document version; money is in integer nano-dollars (1e-9 USD).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

MetaValue = str | int | float | bool | date | tuple[str | int | float | bool | date, ...]
"""A typed metadata value: a scalar, a date, or a list of them."""

PUBLIC = "public"
ADMINISTRATORS = "group:administrators"


class Clock(Protocol):
    """Where times and ids come from: injected, so that the same run gives the same bytes."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def new_id(self, prefix: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts: the authenticated principal, and through which key.

    ``principal`` is ``user:NAME``, ``service:NAME`` or ``anonymous``. ``groups`` are those an identity provider asserted in
    this request; groups kept by Mainstay are added when the Scope is resolved. ``scopes`` are what the credential permits.
    """

    principal: str
    display: str = ""
    groups: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    admin: bool = False
    key_id: str | None = None
    via: str | None = None  # the service key that acts on behalf of this principal


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an Actor may read, resolved at one moment: the closure of principals and the visible ACL classes.

    Every read of document text takes a Scope as required keyword; there is no other way to it. ``digest`` names the
    decision in traces without telling its content.
    """

    principals: frozenset[str]
    classes: frozenset[int]
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One chunk of a document version, as found for one question.

    ``text`` is exactly ``document_text[start:end]``; ``section_start/end`` bound the section it stands in.
    """

    chunk: str
    document: str
    version: str
    title: str
    uri: str
    text: str
    start: int
    end: int
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    section_start: int = 0
    section_end: int = 0
    score: float = 0.0
    lexical: float = 0.0
    dense: float = 0.0
    language: str = ""
    modified: datetime | None = None
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A claim's source: ``quote`` is exactly the slice ``start:end`` of the stored text of ``version`` of ``document``."""

    n: int
    document: str
    version: str
    title: str
    uri: str
    quote: str
    start: int
    end: int
    page: int | None = None
    verified: bool = False


class Status(StrEnum):
    """How an answer ended."""

    ANSWERED = "answered"
    PARTIAL = "partial"
    CLARIFY = "clarify"
    HANDED_OFF = "handed_off"
    REFUSED = "refused"
    FAILED = "failed"


class Mode(StrEnum):
    """Which rung of the ladder the service stands on."""

    FULL = "full"
    ECONOMY = "economy"
    CACHED_ONLY = "cached_only"
    SOURCES_ONLY = "sources_only"
    STATIC = "static"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens as the provider reported them; zero when no model was called.

    ``input_tokens`` counts everything that went in, of which ``cached_input_tokens`` were read from the provider's prompt
    cache and ``cache_write_tokens`` written to it; ``output_tokens`` includes ``reasoning_tokens``.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One metadata condition: ``key`` equals any of ``any_of``, or lies in ``[at_least, at_most]`` (both inclusive)."""

    key: str
    any_of: tuple[str | int | float | bool | date, ...] = ()
    at_least: str | int | float | date | None = None
    at_most: str | int | float | date | None = None
    found_in_question: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, with the conversation before it (oldest first, as (role, text)). ``cache``: whether an answer that was
    given before may serve."""

    text: str
    history: tuple[tuple[str, str], ...] = ()
    filters: tuple[Filter, ...] = ()
    top_k: int = 8
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the service says, with everything needed to trust or doubt it. The shape of ``POST /v1/answers``."""

    id: str
    status: Status
    text: str
    language: str = ""
    citations: tuple[Citation, ...] = ()
    mode: Mode = Mode.FULL
    notice: str | None = None
    questions: tuple[str, ...] = ()
    review: str | None = None
    confidence: float = 0.0
    model: str = ""
    route: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost_nanodollars: int = 0
    cap_nanodollars: int = 0
    release: str = ""
    cache_hit: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[Passage, ...] = ()


def usd(nanodollars: int) -> str:
    """Nano-dollars as a decimal string of dollars, rounded up to the micro-dollar so that a cost never reads as zero."""
    micro = -(-nanodollars // 1000)
    return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"
