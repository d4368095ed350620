"""The agreement in words: how each key is called, how its values are said, and what a rise of it does to the promise.

One table for all keys, so that what ``show`` says and what ``diff`` says can not drift apart; a test walks every key of
``terms`` and finds it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from mainstay.agreement.terms import (
    Agreement,
    Budget,
    CacheRules,
    CitationRules,
    DataClass,
    Governance,
    HandOver,
    Ladder,
    ModeRule,
    Objective,
    PriorityClass,
    RequestLimits,
    Routing,
    Topic,
    Traffic,
    nanodollars,
    seconds,
)
from mainstay.errors import Invalid

Effect = Literal["loosens", "tightens", "changes"]
"""What a change does: more is permitted or less is promised; the reverse; or it is only different."""

UPPER = frozenset(
    {
        "latency_p50_ms",
        "latency_p95_ms",
        "first_token_p95_ms",
        "error_rate",
        "cost_per_request_usd",
        "wrong_cache_rate",
    }
)
"""Measures whose target is an upper bound; of the others it is a lower one."""
TIMES = frozenset({"latency_p50_ms", "latency_p95_ms", "first_token_p95_ms"})


def opposite(effect: Effect) -> Effect:
    return {"loosens": "tightens", "tightens": "loosens"}.get(effect, "changes")  # type: ignore[return-value]  # both are


def dollars(nano: int) -> str:
    """Nano-dollars, exactly: at least cents, no trailing zeros beyond them."""
    whole, rest = divmod(abs(nano), 1_000_000_000)
    return f"{'-' if nano < 0 else ''}${whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


def amount(usd: str) -> str:
    """An amount of the agreement; what is no amount is said as it stands."""
    try:
        return dollars(nanodollars(usd, "amount"))
    except Invalid:
        return repr(usd)


def number(value: float) -> str:
    """A number without needless digits."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.12g}"


def percent(share: float) -> str:
    """A share of 1 in per cent."""
    return f"{number(float(Decimal(repr(float(share))) * 100))} %" if abs(share) < 1e9 else f"{share}"


def length(value: str | float) -> str:
    """``28d`` or seconds, in words."""
    try:
        held = seconds(value, "length") if isinstance(value, str) else float(value)
    except Invalid:
        return repr(value)
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if held >= size and held % size == 0:
            return f"{held / size:.0f} {unit}{'' if held == size else 's'}"
    return f"{number(held)} s"


def milliseconds(value: float) -> str:
    return f"{number(value / 1000)} s" if value >= 1000 else f"{number(value)} ms"


def target(measure: str, value: float) -> str:
    """A target in the unit of its measure."""
    if measure in TIMES:
        return milliseconds(value)
    return f"${value:.6f}".rstrip("0") if measure == "cost_per_request_usd" else percent(value)


_PROMISES = {
    "latency_p50_ms": "half of the answers come within {}",
    "latency_p95_ms": "95 % of the answers come within {}",
    "first_token_p95_ms": "95 % of the answers begin within {}",
    "availability": "at least {} of the requests are served",
    "error_rate": "at most {} of the requests fail",
    "groundedness": "at least {} of what answers say is supported by sources",
    "citation_coverage": "at least {} of the sentences carry a citation",
    "cost_per_request_usd": "a request costs at most {} on average",
    "wrong_cache_rate": "at most {} of the answers from the cache are wrong",
}


def promise(held: Objective) -> str:
    """One objective as half a sentence."""
    said = _PROMISES[held.measure].format(target(held.measure, held.target))
    of = f", for {held.team}" if held.team else ""
    through = f", through {held.door}" if held.door else ""
    then = f"; when the error budget is spent: {held.enter_mode}" if held.enter_mode else ""
    heard = {"auto": "", "page": "; it pages", "ticket": "; it writes tickets", "none": "; it alerts nobody"}[
        held.alert
    ]
    gate = "; while it is spent nothing new goes into service" if held.blocks_promotion else ""
    return f"{said}{of}{through}, over {length(held.window)}{then}{heard}{gate}"


def purse(held: Budget) -> str:
    """Whose budget, and for how long."""
    each = {"day": " a day", "month": " a month", "total": " in all"}[held.per]
    whose = "the service" if held.of == "service" else held.name or f"each {held.of}"
    return f"{whose}{each}"


def website(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        return (urlsplit(url).hostname or "no address") if url else "none"
    except ValueError:
        return "no address"


def names(held: tuple[str, ...]) -> str:
    return ", ".join(held) or "none"


@dataclass(frozen=True, kw_only=True)
class Clause:
    """How one key is said. ``more`` is what a rise does, or an addition, or a yes, or a later one of ``ranks``.

    ``zero`` is what 0 means where it means no bound; ``key`` names a row of a table; ``row`` says one in half a sentence.
    """

    words: str
    kind: Literal["number", "switch", "choice", "text", "names", "texts", "rows", "group"] = "number"
    show: Callable[[Any], str] = number
    more: Effect = "changes"
    size: Callable[[Any], float] = float
    zero: str = ""
    empty: str = "none"
    ranks: Mapping[Any, str] = field(default_factory=dict)
    key: Callable[[Any], str] = str
    row: Callable[[Any], str] = str
    each: str = ""


def _usd(value: str) -> float:
    return nanodollars(value, "amount")


def _size_of_length(value: str) -> float:
    return seconds(value, "length")


def _rung(held: ModeRule) -> str:
    return f"with {names(held.models)}" if held.models else ""


def _topic(held: Topic) -> str:
    return f"{names(held.words)}, {'to a person' if held.then == 'person' else 'refused'}"


def _data_class(held: DataClass) -> str:
    cached = "" if held.cache else ", never cached"
    return f"shown to {', '.join(held.models) or 'the built-in answerer alone'}{cached}"


WORDS: dict[type, dict[str, Clause]] = {
    Agreement: {
        "request": Clause(words="One request", kind="group"),
        "citations": Clause(words="Citations", kind="group"),
        "objectives": Clause(
            words="Objectives",
            kind="rows",
            each="Objective",
            more="tightens",
            key=lambda held: held.name,
            row=promise,
        ),
        "traffic": Clause(words="Traffic", kind="group"),
        "budgets": Clause(
            words="Budgets",
            kind="rows",
            each="Budget of",
            more="tightens",
            key=purse,
            row=lambda held: f"{amount(held.usd)}, then {held.enter_mode}",
        ),
        "governance": Clause(words="Governance", kind="group"),
        "modes": Clause(words="Modes", kind="group"),
        "routing": Clause(words="Routing", kind="group"),
        "cache": Clause(words="Cache", kind="group"),
        "handover": Clause(words="Hand-over to a person", kind="group"),
    },
    RequestLimits: {
        "cap_usd": Clause(words="The most one request may cost", show=amount, more="loosens", size=_usd),
        "deadline_s": Clause(words="The time one request may take", show=length, more="loosens"),
    },
    CitationRules: {
        "unsupported": Clause(
            words="What happens to a sentence that no source supports",
            kind="choice",
            more="loosens",
            ranks={"drop": "it is dropped", "mark": "it is shown and marked"},
        ),
    },
    Objective: {
        "name": Clause(words="The name", kind="text"),
        "measure": Clause(words="The measure", kind="text"),
        "target": Clause(words="The target"),  # its unit and what a rise does depend on the measure: see versions
        "window": Clause(words="The window it holds over", show=length, size=_size_of_length),
        "team": Clause(words="The team it is about", kind="text", empty="everybody"),
        "door": Clause(words="The door it is about", kind="text", empty="every door"),
        "enter_mode": Clause(words="The mode when the error budget is spent", kind="text", empty="no change"),
        "alert": Clause(
            words="Who hears when its error budget burns fast",
            kind="choice",
            ranks={
                "none": "nobody",
                "ticket": "somebody within days",
                "auto": "whoever the measure calls for",
                "page": "somebody at once",
            },
            more="tightens",
        ),
        "blocks_promotion": Clause(
            words="Nothing new goes into service while its error budget is spent", kind="switch", more="tightens"
        ),
    },
    Traffic: {
        "service_per_minute": Clause(words="Requests a minute, all together", more="loosens", zero="no limit"),
        "user_per_minute": Clause(words="Requests a minute of one user", more="loosens", zero="no limit"),
        "key_per_minute": Clause(words="Requests a minute of one key", more="loosens", zero="no limit"),
        "burst_s": Clause(words="The time whose requests may come at once", show=length, more="loosens"),
        "concurrency": Clause(words="Requests at work at once in one process", more="loosens"),
        "queue": Clause(words="Requests that may wait in one process", more="loosens"),
        "queue_wait_s": Clause(words="The longest wait in the queue", show=length, more="loosens"),
        "spike": Clause(
            words="What happens when too much comes",
            kind="choice",
            ranks={"shed": "requests are refused at once", "step_down": "the service steps down a mode first"},
        ),
        "classes": Clause(
            words="Priority classes",
            kind="rows",
            each="Priority class",
            key=lambda held: held.name,
            row=lambda held: f"priority {held.priority}, {names(held.who)}",
        ),
    },
    PriorityClass: {
        "name": Clause(words="The name", kind="text"),
        "priority": Clause(words="The priority"),
        "who": Clause(words="Who is in it", kind="names"),
    },
    Budget: {
        "of": Clause(words="Who pays", kind="text"),
        "per": Clause(words="The period", kind="text"),
        "usd": Clause(words="The amount", show=amount, more="loosens", size=_usd),
        "name": Clause(words="The one it is about", kind="text", empty="each"),
        "enter_mode": Clause(words="The mode when it is spent", kind="text"),
    },
    Governance: {
        "languages": Clause(words="The languages answered in", kind="names", more="loosens", empty="any"),
        "prohibited_topics": Clause(
            words="Prohibited topics",
            kind="rows",
            each="Prohibited topic",
            more="tightens",
            key=lambda held: held.name,
            row=_topic,
        ),
        "person_for": Clause(
            words="Topics for a person",
            kind="rows",
            each="Topic for a person",
            more="tightens",
            key=lambda held: held.name,
            row=lambda held: names(held.words),
        ),
        "allowed_tools": Clause(words="The tools that may be used", kind="names", more="loosens", empty="any"),
        "data_classes": Clause(
            words="Data classes",
            kind="rows",
            each="Data class",
            more="tightens",
            key=lambda held: held.name,
            row=_data_class,
        ),
        "regions": Clause(words="The regions where models may run", kind="names", more="loosens", empty="any"),
        "citations_required": Clause(words="Every answer must carry a citation", kind="switch", more="tightens"),
        "route_around_content_filter": Clause(
            words="Another model is tried when one declines for content", kind="switch", more="loosens"
        ),
        "retention_days": Clause(
            words="Days that traces, measures and hand-overs are kept", more="loosens", zero="for good"
        ),
        "disclosure": Clause(words="The disclosure that one is talking to AI", kind="texts", more="tightens"),
    },
    Topic: {
        "name": Clause(words="The name", kind="text"),
        "words": Clause(words="The words it is known by", kind="names", more="tightens"),
        "then": Clause(
            words="What happens",
            kind="choice",
            ranks={"refuse": "the question is refused", "person": "a person answers"},
        ),
    },
    DataClass: {
        "name": Clause(words="The name", kind="text"),
        "models": Clause(
            words="The models that may see it", kind="names", more="loosens", empty="the built-in answerer alone"
        ),
        "cache": Clause(words="Its answers may be cached", kind="switch", more="loosens"),
    },
    Ladder: {
        "rungs": Clause(
            words="The ladder of limited modes",
            kind="rows",
            each="Mode",
            key=lambda held: str(held.mode),
            row=_rung,
        ),
        "hold_down": Clause(
            words="How long a limited mode stays after its reason is gone", show=length, size=_size_of_length
        ),
    },
    ModeRule: {
        "mode": Clause(words="The mode", kind="text"),
        "models": Clause(words="Its models", kind="names", empty="the cheapest"),
        "notice": Clause(words="Its notice", kind="texts", empty="the built-in one"),
        "text": Clause(words="What it says instead of an answer", kind="texts", empty="the built-in text"),
    },
    Routing: {
        "value_usd": Clause(words="What one right answer is worth", show=amount, size=_usd),
        "accept": Clause(words="The confidence from which a draft is good enough", show=percent, more="tightens"),
        "escalations": Clause(words="How often a better model may be asked"),
        "consistency": Clause(words="A draft in doubt is written twice before a dearer model is asked", kind="switch"),
        "clarify": Clause(words="The service asks back when a question is unclear", kind="switch"),
        "below": Clause(
            words="What happens to an answer that stays below that confidence",
            kind="choice",
            ranks={"show": "it is shown", "person": "a person answers"},
            more="tightens",
        ),
        "hedge_share": Clause(words="Extra calls against slow models, of all calls", show=percent),
    },
    CacheRules: {
        "enabled": Clause(words="Answers may serve again", kind="switch"),
        "similar": Clause(words="Answers may serve questions that are only similar", kind="switch", more="loosens"),
        "wrong_hits": Clause(words="The most wrong answers among those from the cache", show=percent, more="loosens"),
        "audit": Clause(words="Answers from the cache that are checked", show=percent, more="tightens"),
        "keep": Clause(words="How long an answer may serve again", show=length, more="loosens", size=_size_of_length),
        "entries": Clause(words="The most answers that are kept"),
    },
    HandOver: {
        "webhook": Clause(words="The webhook that gets the questions", kind="text", show=website),
        "email": Clause(words="The addresses that get the questions", kind="names"),
        "promise": Clause(words="What is promised to who waits for a person", kind="texts", empty="the built-in text"),
    },
}


def said(clause: Clause, value: Any) -> str:
    """A value as words."""
    if clause.kind == "switch":
        return "yes" if value else "no"
    if clause.kind == "choice":
        return clause.ranks[value]
    if clause.kind == "names":
        return ", ".join(value) or clause.empty
    if clause.kind == "texts":
        return ", ".join(sorted(value)) or clause.empty
    if clause.kind == "text":
        if clause.show is not number:
            return clause.show(value)
        return str(value) if value else clause.empty
    return clause.zero if clause.zero and value == 0 else clause.show(value)


def row(clause: Clause, held: Any) -> str:
    """One row of a table: its name, and the rest in brackets."""
    details = clause.row(held)
    return f"{clause.key(held)} ({details})" if details else clause.key(held)


def described(agreement: Agreement) -> list[tuple[str, list[str]]]:
    """The whole agreement in plain words: each section with its lines."""
    sections: list[tuple[str, list[str]]] = []
    for name, clause in WORDS[Agreement].items():
        value = getattr(agreement, name)
        lines = [row(clause, one) for one in value] if clause.kind == "rows" else _lines(value)
        sections.append((clause.words, lines or ["none"]))
    return sections


def _lines(held: Any) -> list[str]:
    lines = []
    for name, clause in WORDS[type(held)].items():
        value = getattr(held, name)
        if clause.kind == "rows":
            lines.append(f"{clause.words}: {'; '.join(row(clause, one) for one in value) or clause.empty}")
        else:
            lines.append(f"{clause.words}: {said(clause, value)}")
    return lines
