"""Objectives as OpenSLO documents, and back: https://github.com/OpenSLO/OpenSLO, apiVersion ``openslo/v1``.

Three shapes match: a time with a threshold (``thresholdMetric``), good of all requests, bad of all requests
(``ratioMetric``). Everything else an agreement holds has no shape there, and is named as left out. What OpenSLO has no field
for but tools may carry along (team, door, mode) stands in the metric's ``spec`` and in annotations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

from mainstay.agreement.terms import Agreement, Measure, Objective, seconds
from mainstay.agreement.wording import TIMES, promise
from mainstay.errors import Invalid
from mainstay.types import Mode

VERSION = "openslo/v1"
SOURCE = "mainstay"
MODE, ALERT, BLOCKS = "mainstay/enter-mode", "mainstay/alert", "mainstay/blocks-promotion"
NAME = "mainstay/name"
_TARGETS = {"latency_p50_ms": "0.5", "latency_p95_ms": "0.95", "first_token_p95_ms": "0.95"}
_BAD = frozenset({"error_rate", "wrong_cache_rate"})
_RATIOS = frozenset({"availability", *_BAD})
_WINDOW = re.compile(r"([1-9]\d{0,5})([mhdwMQY])")


@dataclass(frozen=True, kw_only=True)
class Translated:
    """What could be said in the other language, and what could not, each in a sentence."""

    documents: tuple[dict[str, Any], ...] = ()
    objectives: tuple[Objective, ...] = ()
    left_out: tuple[str, ...] = ()


def exported(agreement: Agreement, service: str) -> Translated:
    """A Service, then an SLI and an SLO for each objective that has a shape there."""
    name = _label(service) or "mainstay"
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": VERSION,
            "kind": "Service",
            "metadata": {"name": name, "displayName": service},
            "spec": {"description": "Answers questions from an organisation's documents."},
        }
    ]
    left_out: list[str] = []
    used: set[str] = set()
    for held in agreement.objectives:
        fault = _no_shape(held)
        if fault:
            left_out.append(f"objective {held.name}: {fault}")
        else:
            label = _label(held.name) or "objective"
            label = next(one for one in (label, *(f"{label[:55]}-{n}" for n in range(2, 10_000))) if one not in used)
            used.add(label)
            documents.extend((_indicator(held, label), _slo(held, label, name)))
    others = (one.name for one in fields(Agreement) if one.name != "objectives" and getattr(agreement, one.name))
    left_out.extend(f"{name}: OpenSLO has no shape for it" for name in others)
    return Translated(documents=tuple(documents), left_out=tuple(left_out))


def _no_shape(held: Objective) -> str:
    if held.measure not in TIMES and held.measure not in _RATIOS:
        return f"{held.measure} is a mean, not a share of events"
    if held.measure in _RATIOS and not 0 <= _good(held) < 1:
        return "OpenSLO's targets lie below 1"
    try:
        _duration(held.window)
    except Invalid as error:
        return error.what
    return ""


def _good(held: Objective) -> float:
    """The share of good events that a ratio promises, in as many digits as were written."""
    told = Decimal(repr(float(held.target)))
    return float(1 - told if held.measure in _BAD else told)


def _indicator(held: Objective, label: str) -> dict[str, Any]:
    spec: dict[str, Any]
    if held.measure in TIMES:
        timing = "first_ms" if held.measure == "first_token_p95_ms" else "total_ms"
        spec = {"thresholdMetric": _source(held, timing)}
    else:
        count = {"availability": "served", "error_rate": "failed", "wrong_cache_rate": "wrong_cache_hits"}[held.measure]
        total = "checked_cache_hits" if held.measure == "wrong_cache_rate" else "requests"
        spec = {
            "ratioMetric": {
                "counter": False,
                "bad" if held.measure in _BAD else "good": _source(held, count),
                "total": _source(held, total),
            }
        }
    return {"apiVersion": VERSION, "kind": "SLI", "metadata": {"name": f"{label}-sli"}, "spec": spec}


def _source(held: Objective, what: str) -> dict[str, Any]:
    narrowed = {name: value for name, value in (("team", held.team), ("door", held.door)) if value}
    return {"metricSource": {"type": SOURCE, "spec": {"measure": held.measure, "value": what, **narrowed}}}


def _slo(held: Objective, label: str, service: str) -> dict[str, Any]:
    annotations = {NAME: held.name}
    if held.enter_mode is not None:
        annotations[MODE] = str(held.enter_mode)
    if held.alert != "auto":
        annotations[ALERT] = held.alert
    if held.blocks_promotion:
        annotations[BLOCKS] = "true"
    objective: dict[str, Any] = {"displayName": held.name}
    if held.measure in TIMES:
        objective |= {"op": "lte", "value": held.target, "target": float(_TARGETS[held.measure])}
    else:
        objective |= {"target": _good(held)}
    return {
        "apiVersion": VERSION,
        "kind": "SLO",
        "metadata": {"name": label, "displayName": held.name[:200], "annotations": annotations},
        "spec": {
            "description": f"{promise(held)}."[:1050],
            "service": service,
            "indicatorRef": f"{label}-sli",
            "timeWindow": [{"duration": _duration(held.window), "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [objective],
        },
    }


def _duration(window: str) -> str:
    """A window in whole minutes, hours or days. Errors: Invalid when it has a finer part."""
    held = seconds(window, "window")
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if held % size == 0:
            return f"{held / size:.0f}{unit}"
    raise Invalid(f"a window of {window} is finer than a minute")


def _label(name: str) -> str:
    """A name as RFC 1123 allows it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:59].strip("-")


# -- and back ----------------------------------------------------------------------------------------------------------


def imported(documents: Sequence[Any], *, unit_ms: float = 1.0) -> Translated:
    """The objectives of these documents. OpenSLO states no unit: ``unit_ms`` milliseconds are one of a foreign threshold.

    Errors: Invalid when there is no OpenSLO among them.
    """
    known = [one for one in documents if isinstance(one, Mapping) and str(one.get("apiVersion")).startswith("openslo/")]
    if not known:
        raise Invalid("there is no OpenSLO document", fix=f"each begins with apiVersion: {VERSION}")
    indicators = {
        str(_map(one.get("metadata")).get("name")): _map(one.get("spec")) for one in known if one.get("kind") == "SLI"
    }
    objectives: list[Objective] = []
    left_out: list[str] = []
    for one in known:
        kind, name = one.get("kind"), str(_map(one.get("metadata")).get("name") or "without a name")
        if one.get("apiVersion") != VERSION:
            left_out.append(f"{kind} {name}: {one.get('apiVersion')} is not {VERSION}")
        elif kind == "SLO":
            try:
                objectives.extend(_objectives(one, name, indicators, unit_ms))
            except Invalid as error:
                left_out.append(f"SLO {name}: {error.what}")
        elif kind not in ("SLI", "Service"):
            left_out.append(f"{kind} {name}: an agreement has no shape for it")
    return Translated(objectives=tuple(objectives), left_out=tuple(left_out))


def _objectives(
    document: Mapping[str, Any], name: str, indicators: Mapping[str, Mapping[str, Any]], unit_ms: float
) -> list[Objective]:
    spec = _map(document.get("spec"))
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise Invalid(f"budgetingMethod {spec.get('budgetingMethod')}: requests are counted, not slices of time")
    if "indicator" in spec:
        indicator = _map(_map(spec["indicator"]).get("spec"))
    else:
        reference = str(spec.get("indicatorRef"))
        if reference not in indicators:
            raise Invalid(f"its SLI {reference!r} is not in the file")
        indicator = indicators[reference]
    notes = _map(_map(document.get("metadata")).get("annotations"))
    told = spec.get("objectives")
    if not isinstance(told, list) or not told:
        raise Invalid("it has no objectives")
    named = str(notes.get(NAME) or name)
    mode = notes.get(MODE)
    if mode is not None and mode not in list(Mode):
        raise Invalid(f"{mode!r} is no mode")
    alert = notes.get(ALERT, "auto")
    if alert not in ("auto", "page", "ticket", "none"):
        raise Invalid(f"{alert!r} is nobody to hear of it")
    found = []
    for n, one in enumerate(told):
        measure, target, source = _measured(indicator, _map(one), unit_ms)
        found.append(
            Objective(
                name=named if len(told) == 1 else f"{named}-{n + 1}",
                measure=measure,
                target=target,
                window=_rolling(spec.get("timeWindow")),
                team=str(source.get("team") or ""),
                door=str(source.get("door") or ""),
                enter_mode=None if mode is None else Mode(mode),
                alert=alert,
                blocks_promotion=notes.get(BLOCKS) == "true",
            )
        )
    return found


def _measured(
    indicator: Mapping[str, Any], told: Mapping[str, Any], unit_ms: float
) -> tuple[Measure, float, Mapping[str, Any]]:
    """The measure, its target, and what its metric says about team and door."""
    good = _decimal(told["targetPercent"], "targetPercent") / 100 if "targetPercent" in told else None
    if good is None:
        good = _decimal(told.get("target"), "target")
    if not 0 <= good <= 1:
        raise Invalid(f"a target of {good} is no share of 1")
    if "thresholdMetric" in indicator:
        ours, source = _ours(_map(indicator["thresholdMetric"]))
        if told.get("op") not in ("lte", "lt"):
            raise Invalid(f"op {told.get('op')}: a time is promised to be at most, not at least")
        bound = _decimal(told.get("value"), "value")
        if ours in TIMES and good == Decimal(_TARGETS[ours]):
            return _measure(ours), float(bound), source
        measure = {Decimal("0.5"): "latency_p50_ms", Decimal("0.95"): "latency_p95_ms"}.get(good)
        if measure is None:
            raise Invalid(f"times are promised for 50 % or 95 % of the answers, not for {good * 100:f} %")
        return _measure(measure), float(bound * Decimal(repr(unit_ms))), source
    ratio = _map(indicator.get("ratioMetric"))
    if "raw" in ratio or "total" not in ratio or not {"good", "bad"} & ratio.keys():
        raise Invalid("it is neither a threshold nor good or bad of a total")
    side = "good" if "good" in ratio else "bad"
    ours, source = _ours(_map(ratio[side]))
    measure = ours if ours in _RATIOS else "availability" if side == "good" else "error_rate"
    return _measure(measure), float(1 - good if measure in _BAD else good), source


def _measure(name: str) -> Measure:
    found: Measure = next(one for one in get_args(Measure) if one == name)
    return found


def _ours(metric: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The measure that a metric of ours names, and its spec; nothing of a foreign one."""
    source = _map(metric.get("metricSource"))
    if source.get("type") != SOURCE:
        return "", {}
    spec = _map(source.get("spec"))
    return str(spec.get("measure") or ""), spec


def _rolling(told: Any) -> str:
    if told is None:
        return "28d"
    if not isinstance(told, list) or len(told) != 1:
        raise Invalid("it has not exactly one timeWindow")
    window = _map(told[0])
    if "calendar" in window or not window.get("isRolling", False):
        raise Invalid("its window follows the calendar: ours roll")
    match = _WINDOW.fullmatch(str(window.get("duration")))
    if match is None:
        raise Invalid(f"duration {window.get('duration')!r} is none")
    if match[2] in "MQY":
        raise Invalid(f"a rolling window of {match[0]} has no fixed length: write days")
    return f"{int(match[1]) * 7}d" if match[2] == "w" else match[0]


def _decimal(value: Any, what: str) -> Decimal:
    try:
        held = Decimal(str(value))
    except InvalidOperation:
        raise Invalid(f"{what} is {value!r}, not a number") from None
    if not held.is_finite():
        raise Invalid(f"{what} is {value!r}, not a number")
    return held


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
