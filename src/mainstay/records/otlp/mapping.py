"""Between a span of OpenTelemetry, as plain values, and a step of ours.

What a field of ours says is taken out of the attributes and written again, in the words of the profile, when the step goes
out; everything else stays as it came, under its own name, so that it can go out as it came. What a span has besides
attributes (its kind, events, links, resource) lies among them under ``otel.``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mainstay.records.otlp.profiles import (
    FIELDS_IN,
    KINDS_IN,
    OWN,
    OWN_KIND,
    PROFILES,
    UNITS,
    Profile,
    is_text,
    is_text_event,
)
from mainstay.records.spans import ERROR, KINDS, OK, OTHER, ImportedSpan, Span
from mainstay.records.traces import Trace

ERROR_TYPE = "error.type"
STATUS_UNSET, STATUS_OK, STATUS_ERROR = 0, 1, 2
INTERNAL, SERVER, CLIENT = 1, 2, 3
MAX_TEXT = 20_000
_BESIDES = {
    "otel.kind": ("kind", 0),
    "otel.status": ("status", STATUS_UNSET),
    "otel.status_message": ("status_message", ""),
    "otel.trace_state": ("trace_state", ""),
    "otel.flags": ("flags", 0),
    "otel.scope": ("scope", {}),
    "otel.resource": ("resource", {}),
    "otel.events": ("events", []),
    "otel.links": ("links", []),
    "otel.dropped": ("dropped", {}),
}
"""What a span has besides attributes: our name for it, its own, and what it is when nothing is said."""
_FIELD_OF = {one: name for name, names in FIELDS_IN.items() for one in names}
_WRITTEN = frozenset((name, one) for profile in PROFILES.values() for name, one in profile.fields.items())
_WRITTEN_KINDS = frozenset(
    (name, said)
    for name, kinds in KINDS_IN.items()
    for said, kind in kinds.items()
    if all(profile.kinds.get(kind) == said for profile in PROFILES.values() if profile.kind_name == name)
)
"""What can be taken out of the attributes: every profile that speaks of it would write the same again."""


@dataclass(frozen=True, kw_only=True)
class OtelSpan:
    """A span of OTLP with values as JSON has them. Ids are hexadecimal, times nanoseconds since 1970 UTC.

    ``events`` and ``links`` are mappings (name, at, attributes; trace_id, span_id, attributes); ``scope`` is the library that
    made it (name, version), ``resource`` the program; ``dropped`` counts what its sender left out.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str = ""
    start_ns: int
    end_ns: int
    kind: int = 0
    status: int = STATUS_UNSET
    status_message: str = ""
    trace_state: str = ""
    flags: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    links: Sequence[Mapping[str, Any]] = ()
    scope: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


# -- in ----------------------------------------------------------------------------------------------------------------


def imported(span: OtelSpan, *, principal: str = "") -> ImportedSpan:
    """A span of somebody else as a step of ours, whatever dialect it speaks. Its texts are apart, in ``content``."""
    rest = dict(span.attributes)
    kind = _kind(rest)
    values = {name: _field(rest, name) for name in {_FIELD_OF[one] for one in rest if one in _FIELD_OF}}
    error = _error_class(span, rest)
    content = _texts(rest)
    events = []
    for n, event in enumerate(span.events):
        held = dict(event.get("attributes") or {})
        texts = _texts(held, all_=is_text_event(event.get("name", "")))
        content.update({f"event.{n}.{name}": text for name, text in texts.items()})
        events.append({**event, "attributes": held})
    besides = span.__dict__
    for ours, (theirs, _) in _BESIDES.items():
        if besides[theirs] and not (error is not None and ours == "otel.status"):  # where our field says it
            rest[ours] = besides[theirs]
    if events:
        rest["otel.events"] = events
    if span.links:
        rest["otel.links"] = list(span.links)
    duration_ns = max(0, span.end_ns - span.start_ns)
    start_us, duration_ms = span.start_ns // 1000, duration_ns / 1e6
    if start_us * 1000 != span.start_ns or span.start_ns + round(duration_ms * 1e6) != span.end_ns:
        rest["otel.time"] = [span.start_ns, span.end_ns]
    return ImportedSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        kind=kind,
        name=span.name,
        start_us=start_us,
        duration_ms=duration_ms,
        status=OK if error is None else ERROR,
        error_class=error or "",
        attributes=rest,
        content=content,
        principal=principal,
        service=_said(span.resource.get("service.name")),
        model=str(values.get("model") or ""),
        release=str(values.get("release") or ""),
        input_tokens=int(values.get("input_tokens") or 0),
        output_tokens=int(values.get("output_tokens") or 0),
        cost_nanodollars=int(values.get("cost_nanodollars") or 0),
        first_ms=values.get("first_ms"),
    )


def _kind(rest: dict[str, Any]) -> str:
    """Which step it is. What says so is taken out where every profile that speaks of it would write the same again."""
    own = rest.get(OWN_KIND)
    if own is not None and own in KINDS:
        del rest[OWN_KIND]
        for profile in PROFILES.values():
            if profile.kind_name in rest and rest[profile.kind_name] == profile.kinds.get(own):
                del rest[profile.kind_name]
        return str(own)
    for name, kinds in KINDS_IN.items():
        said = rest.get(name)
        if not isinstance(said, str) or said not in kinds:
            continue
        if (name, said) in _WRITTEN_KINDS:
            del rest[name]
        return kinds[said]
    return OTHER


_NUMBERS = frozenset({"input_tokens", "output_tokens", "cost_nanodollars", "first_ms"})
_MOST = 2**62


def _field(rest: dict[str, Any], name: str) -> Any:
    """A field by the first of its names; taken out when it can be said again in full."""
    there = [one for one in FIELDS_IN[name] if one in rest]
    for one in there:
        value = rest[one]
        unit = UNITS.get(one)
        if name not in _NUMBERS:
            if not isinstance(value, str):
                continue
            made: Any = value
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
            continue
        elif name == "first_ms":
            made = value / unit if unit else float(value)
        else:
            made = round(value / unit) if unit else int(value)
            if made != value and not unit:
                continue
        if (name, one) in _WRITTEN and len(there) == 1 and made and _unit(made, one) == value:
            del rest[one]
        return made
    return None


def _unit(value: Any, name: str) -> Any:
    """A value of ours in the unit of an attribute."""
    unit = UNITS.get(name)
    return value if unit is None else round(value * unit, 12)


def _error_class(span: OtelSpan, rest: dict[str, Any]) -> str | None:
    """Of which kind the error was; empty when nobody says so, None when there was none."""
    said = rest.get(ERROR_TYPE)
    if span.status != STATUS_ERROR:
        return None
    if isinstance(said, str) and said:
        del rest[ERROR_TYPE]
        return said
    for event in span.events:
        if event.get("name") == "exception":
            return _said((event.get("attributes") or {}).get("exception.type"))
    return ""


def _texts(held: dict[str, Any], *, all_: bool = False) -> dict[str, str]:
    """Take the texts out of attributes."""
    names = [name for name in held if all_ or is_text(name)]
    if not names:
        return {}
    values = {name: held.pop(name) for name in names}
    return {
        name: (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:MAX_TEXT]
        for name, value in values.items()
    }


def _said(value: object) -> str:
    return value if isinstance(value, str) else ""


# -- out ---------------------------------------------------------------------------------------------------------------


def of_imported(span: ImportedSpan, profile: Profile) -> OtelSpan:
    """An imported step as it came, what our fields say of it in the words of the profile. Its texts go out as attributes."""
    rest = dict(span.attributes)
    besides = {theirs: rest.pop(ours, nothing) for ours, (theirs, nothing) in _BESIDES.items()}
    start_ns, end_ns = rest.pop("otel.time", None) or _times(span.start_us * 1000, span.duration_ms)
    events = []
    for n, event in enumerate(besides["events"]):
        back = {
            name.removeprefix(f"event.{n}."): text
            for name, text in span.content.items()
            if name.startswith(f"event.{n}.")
        }
        events.append({**event, "attributes": {**(event.get("attributes") or {}), **back}})
    besides["events"], besides["links"] = tuple(events), tuple(besides["links"])
    attributes = {**rest, **{name: text for name, text in span.content.items() if not name.startswith("event.")}}
    _name_kind(attributes, span.kind, profile)
    for name, written in profile.fields.items():
        value = getattr(span, name)
        if value and not any(one in attributes for one in FIELDS_IN[name]):
            attributes[written] = _unit(value, written)
    if span.status == ERROR:
        besides["status"] = STATUS_ERROR
        if span.error_class and not _told(events, span.error_class):
            attributes[ERROR_TYPE] = span.error_class
    return OtelSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=attributes,
        **besides,
    )


def _told(events: Iterable[Mapping[str, Any]], error_class: str) -> bool:
    return any((event.get("attributes") or {}).get("exception.type") == error_class for event in events)


def _times(start_ns: int, duration_ms: float) -> tuple[int, int]:
    return start_ns, start_ns + round(duration_ms * 1e6)


def _name_kind(attributes: dict[str, Any], kind: str, profile: Profile) -> None:
    """Write which step it is, unless it says so itself; in our own words too, where the profile's would be read as another."""
    if kind == OTHER or any(attributes.get(name) in kinds for name, kinds in KINDS_IN.items()):
        return
    said = profile.kinds.get(kind)
    if said is not None:
        attributes.setdefault(profile.kind_name, said)
    if said is None or KINDS_IN[profile.kind_name].get(said) != kind:
        attributes[OWN_KIND] = kind


def of_trace(
    trace: Trace, profile: Profile, *, service: str, version: str, content: Mapping[str, str] | None = None
) -> list[OtelSpan]:
    """One request of ours with all its steps, under the ids it has here. ``content`` are its texts, where they are to go out."""
    resource = {"service.name": service, "service.version": version}
    scope = {"name": "mainstay", "version": version}
    began_ns = round(trace.at.timestamp() * 1_000_000) * 1000
    return [_of_span(span, trace, profile, began_ns, resource, scope, content or {}) for span in trace.whole]


def _of_span(
    span: Span,
    trace: Trace,
    profile: Profile,
    began_ns: int,
    resource: Mapping[str, Any],
    scope: Mapping[str, Any],
    content: Mapping[str, str],
) -> OtelSpan:
    root = span.span_id == trace.root_id
    attributes: dict[str, Any] = {}
    for name, value in span.attributes.items():
        if value is not None and value != "":
            attributes[profile.attributes.get(name, OWN + name)] = value
    _name_kind(attributes, span.kind, profile)
    if root:
        said = {
            "request_id": trace.request_id,
            "status": trace.status,
            "mode": trace.mode,
            "door": trace.door,
            "release": trace.release,
            "cost_nanodollars": trace.cost_nanodollars,
            "first_ms": trace.first_ms,
        }
        attributes |= {OWN + name: value for name, value in said.items() if value not in (None, "")}
        attributes |= {profile.texts[name]: text for name, text in content.items() if name in profile.texts}
    failed = span.status == ERROR
    if failed:
        attributes[ERROR_TYPE] = span.error_class or "_OTHER"
    model = span.attributes.get("model")
    start_ns, end_ns = _times(began_ns + round(span.start_ms * 1e6), span.duration_ms)
    return OtelSpan(
        trace_id=trace.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=f"chat {model}" if span.kind == "generate" and model else (span.name or span.kind),
        start_ns=start_ns,
        end_ns=end_ns,
        kind=SERVER if root else CLIENT if span.kind == "generate" and model else INTERNAL,
        status=STATUS_ERROR if failed else STATUS_UNSET,
        trace_state=str(trace.operator.get("trace_state") or ""),
        attributes=attributes,
        scope=scope,
        resource=resource,
    )
