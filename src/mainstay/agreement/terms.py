"""The content of ``agreement.yaml``: one typed tree, every clause with the default that is right for most.

Amounts of money are US dollars as decimal text, kept as whole nano-dollars; windows and times are texts like ``30s``,
``10m``, ``24h``, ``28d``. A clause checks itself here; clauses that contradict each other are found in ``sense``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from mainstay.errors import Invalid
from mainstay.types import Mode

_FORBID: Any = {"extra": "forbid"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Measure = Literal[
    "latency_p50_ms",
    "latency_p95_ms",
    "first_token_p95_ms",
    "availability",
    "error_rate",
    "groundedness",
    "citation_coverage",
    "cost_per_request_usd",
    "wrong_cache_rate",
]
Payer = Literal["service", "team", "user", "key"]
Period = Literal["day", "month", "total"]


def nanodollars(amount: str, what: str) -> int:
    """Decimal dollars as whole nano-dollars. Errors: Invalid, naming ``what``."""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise Invalid(f"{what} is {amount!r}, not an amount", fix='write it like "0.01"') from None
    if not value.is_finite() or not 0 <= value <= 1_000_000_000:
        raise Invalid(f"{what} is {amount!r}, not an amount of 0 to 1000000000")
    nano = value.scaleb(9)
    if nano != int(nano):
        raise Invalid(f"{what} is {amount!r}, finer than a billionth of a dollar", fix='write it like "0.000001"')
    return int(nano)


def seconds(text: str, what: str) -> float:
    """``90s``, ``10m``, ``24h``, ``28d`` in seconds. Errors: Invalid, naming ``what``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise Invalid(f"{what} is {text!r}, not a length of time", fix="write it like 30s, 10m, 24h, 28d")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Of one request: the most it may cost (US dollars as decimal text) and the seconds it may take."""

    __pydantic_config__ = _FORBID

    cap_usd: str = "0.010000"
    deadline_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.deadline_s <= 3600:
            raise Invalid(f"request.deadline_s is {self.deadline_s}, it must be more than 0 and at most 3600")
        self.cap_nanodollars  # noqa: B018 - raises when the text is no amount of money

    @property
    def cap_nanodollars(self) -> int:
        return nanodollars(self.cap_usd, "request.cap_usd")


@dataclass(frozen=True, kw_only=True)
class CitationRules:
    """What happens to a sentence that no source supports: it is dropped, or shown and marked."""

    __pydantic_config__ = _FORBID

    unsupported: Literal["drop", "mark"] = "drop"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One promise that is measured: a ``measure``, its ``target`` and the rolling ``window`` it holds over.

    Latencies, cost and rates of what is bad are upper bounds; availability, groundedness and citation coverage are lower
    bounds; shares are 0 to 1. ``team`` and ``door`` (answers, chat, page, cli) narrow it down. What may go wrong before it is
    missed is its error budget (a p95 permits 0.05 of the requests): see ``attainment``. ``alert`` is who hears when it burns:
    somebody at once (``page``), somebody within days (``ticket``), nobody; ``auto`` pages where that may be (see ``burning``).
    """

    __pydantic_config__ = _FORBID

    name: str
    measure: Measure
    target: float
    window: str = "28d"
    team: str = ""
    door: str = ""
    enter_mode: Mode | None = None  # entered while the error budget is burnt up, or burns so fast that it pages
    alert: Literal["auto", "page", "ticket", "none"] = "auto"
    blocks_promotion: bool = False  # nothing new goes into service while the error budget is spent


@dataclass(frozen=True, kw_only=True)
class PriorityClass:
    """Who is served first when there is too much to do: the highest ``priority`` wins. ``who`` holds principals
    (``user:NAME``, ``group:NAME``, ``service:NAME``) or ids of keys."""

    __pydantic_config__ = _FORBID

    name: str
    priority: int
    who: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is let in. Rates are requests a minute with a burst of as many as come in ``burst_s``; 0 is no limit.

    ``concurrency`` requests are at work at once in one process, ``queue`` wait for at most ``queue_wait_s``; a ``spike``
    beyond that is refused at once with an honest Retry-After (``shed``), or first steps down a mode (``step_down``).
    """

    __pydantic_config__ = _FORBID

    service_per_minute: float = 0.0
    user_per_minute: float = 600.0
    key_per_minute: float = 0.0
    burst_s: float = 10.0
    concurrency: int = 16
    queue: int = 64
    queue_wait_s: float = 5.0
    spike: Literal["shed", "step_down"] = "shed"
    classes: tuple[PriorityClass, ...] = ()

    def __post_init__(self) -> None:
        for name in ("service_per_minute", "user_per_minute", "key_per_minute", "queue", "queue_wait_s"):
            if getattr(self, name) < 0:
                raise Invalid(f"traffic.{name} is {getattr(self, name)}, it must be 0 or more")
        if self.concurrency < 1:
            raise Invalid(f"traffic.concurrency is {self.concurrency}, it must be at least 1")
        if self.burst_s <= 0:
            raise Invalid(f"traffic.burst_s is {self.burst_s}, it must be more than 0")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that may be spent: by whom together (the service), or by each user, key or team, or by one (``name``), in
    each calendar day or month (UTC), or ever. ``enter_mode`` is what happens when it is spent: a mode that costs nothing."""

    __pydantic_config__ = _FORBID

    of: Payer
    per: Period
    usd: str
    name: str = ""
    enter_mode: Mode = Mode.SOURCES_ONLY

    def __post_init__(self) -> None:
        self.limit_nanodollars  # noqa: B018 - raises when the text is no amount of money

    @property
    def limit_nanodollars(self) -> int:
        return nanodollars(self.usd, "budgets.usd")


@dataclass(frozen=True, kw_only=True)
class DataClass:
    """Documents whose metadata say ``data_class: NAME``, and which models may be shown their text. The built-in
    ``extractive`` answerer never sends text anywhere, so it is always allowed."""

    __pydantic_config__ = _FORBID

    name: str
    models: tuple[str, ...] = ()
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic that is not answered, known by its words or phrases (any of them, in any case, as whole words)."""

    __pydantic_config__ = _FORBID

    name: str
    words: tuple[str, ...]
    then: Literal["refuse", "person"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class Governance:
    """What is permitted at all. Empty lists restrict nothing."""

    __pydantic_config__ = _FORBID

    languages: tuple[str, ...] = ()
    prohibited_topics: tuple[Topic, ...] = ()
    person_for: tuple[Topic, ...] = ()  # risk classes: answered by a person
    allowed_tools: tuple[str, ...] = ()
    data_classes: tuple[DataClass, ...] = ()
    regions: tuple[str, ...] = ()
    citations_required: bool = True
    route_around_content_filter: bool = False
    retention_days: int = 0  # of traces, measures and hand-overs; 0 keeps them
    disclosure: Mapping[str, str] = field(default_factory=dict)  # by language: that one is talking to AI


@dataclass(frozen=True, kw_only=True)
class ModeRule:
    """A rung of the ladder: which models it may use (none named: the cheapest), and the notice it shows by language (none
    given: the built-in one)."""

    __pydantic_config__ = _FORBID

    mode: Mode
    models: tuple[str, ...] = ()
    notice: Mapping[str, str] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)  # of static: what is said instead of an answer


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How limited modes are entered and left. A rung that is not listed is skipped on the way down; ``full`` is always there.
    A mode is left after nothing has asked for it for ``hold_down``."""

    __pydantic_config__ = _FORBID

    rungs: tuple[ModeRule, ...] = (
        ModeRule(mode=Mode.ECONOMY),
        ModeRule(mode=Mode.CACHED_ONLY),
        ModeRule(mode=Mode.SOURCES_ONLY),
        ModeRule(mode=Mode.STATIC),
    )
    hold_down: str = "60s"

    def __post_init__(self) -> None:
        seconds(self.hold_down, "modes.hold_down")


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How a model is chosen: the weight of quality against price (``value_usd`` is what one right answer is worth), when a
    draft is good enough (``accept``: calibrated confidence), and what happens below (``below``). ``consistency``: a draft in
    doubt is written once more by the same model where that is clearly cheaper than a better one."""

    __pydantic_config__ = _FORBID

    value_usd: str = "0.010000"
    accept: float = 0.6
    escalations: int = 1
    consistency: bool = True
    clarify: bool = True
    below: Literal["show", "person"] = "show"
    hedge_share: float = 0.0  # extra calls allowed, as a share of calls: 0.05 hedges one in twenty

    def __post_init__(self) -> None:
        for name, most in (("accept", 1), ("hedge_share", 0.2), ("escalations", 5)):
            if not 0 <= getattr(self, name) <= most:
                raise Invalid(f"routing.{name} is {getattr(self, name)}, it must be 0 to {most}")
        self.value_nanodollars  # noqa: B018 - raises when the text is no amount of money

    @property
    def value_nanodollars(self) -> int:
        return nanodollars(self.value_usd, "routing.value_usd")


@dataclass(frozen=True, kw_only=True)
class CacheRules:
    """Answers that serve again. ``wrong_hits`` is the most wrong answers among hits; ``audit`` the share of hits answered
    anew beside, to know. ``similar: false`` keeps to questions that are the same."""

    __pydantic_config__ = _FORBID

    enabled: bool = True
    similar: bool = True
    wrong_hits: float = 0.02
    audit: float = 0.02
    keep: str = "7d"
    entries: int = 20_000

    def __post_init__(self) -> None:
        seconds(self.keep, "cache.keep")
        if not 0 < self.wrong_hits < 1:
            raise Invalid(f"cache.wrong_hits is {self.wrong_hits}, it must be more than 0 and less than 1")
        if not 0 <= self.audit <= 1:
            raise Invalid(f"cache.audit is {self.audit}, it must be 0 to 1")
        if not 1 <= self.entries <= 1_000_000_000:
            raise Invalid(f"cache.entries is {self.entries}, it must be 1 to 1000000000")


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """Where questions for a person go. ``webhook`` gets a signed JSON document, ``email`` a message through ``smtp`` of
    mainstay.yaml; ``promise`` says by language what happens next."""

    __pydantic_config__ = _FORBID

    webhook: str = ""
    email: tuple[str, ...] = ()
    promise: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The content of ``agreement.yaml``."""

    __pydantic_config__ = _FORBID

    request: RequestLimits = RequestLimits()
    citations: CitationRules = CitationRules()
    objectives: tuple[Objective, ...] = ()
    traffic: Traffic = Traffic()
    budgets: tuple[Budget, ...] = ()
    governance: Governance = Governance()
    modes: Ladder = Ladder()
    routing: Routing = Routing()
    cache: CacheRules = CacheRules()
    handover: HandOver = HandOver()
