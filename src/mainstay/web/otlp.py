"""Steps of other programs come in: OTLP/HTTP, as protobuf and as JSON (OpenTelemetry protocol 1.x, section OTLP/HTTP).

What is answered with 200 is on the disk. Nothing is decoded before its size is known to be small, and what one sender can
send in one request is bounded in every direction.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic_core import to_json
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.errors import Invalid, TooLarge
from mainstay.guard.redaction import clean, redact
from mainstay.records.otlp import OtelSpan, imported
from mainstay.records.spans import MAX_BATCH, MAX_NAME, MAX_SPAN_BYTES, ImportedSpan, Ingested
from mainstay.records.traces import Traces
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.problems import Problem

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATH = "/v1/traces"
MAX_BODY = 8 * 1024 * 1024
"""Bytes as they come; see ``server._body_limit``."""
MAX_UNPACKED = 32 * 1024 * 1024
MAX_ATTRIBUTES = 256
MAX_EVENTS = 128
MAX_VALUE = 16_000
"""Characters of one value; more is cut."""
MAX_DEPTH = 12
MAX_NS = 2**63 - 1
PROTOBUF, JSON_ = "application/x-protobuf", "application/json"
_INVALID_ARGUMENT = 3
_CODES = {401: 16, 403: 7, 429: 8, 500: 13, 503: 14}
"""Codes of google.rpc.Status by that of HTTP; what is not here is an invalid argument."""


class _Unsupported(Invalid):
    """A form of body that is not spoken here."""

    http_status = 415


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Requests"])

    @router.post(
        PATH,
        summary="Send spans (OTLP/HTTP)",
        openapi_extra={
            **needs(Permission.TRACES_WRITE),
            "requestBody": {
                "required": True,
                "content": {
                    PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
                    JSON_: {"schema": {"type": "object"}},
                },
            },
        },
        responses={
            200: {
                "description": "Kept; with `partialSuccess` where some were not.",
                "content": {JSON_: {"schema": {"type": "object"}}},
            }
        },
    )
    async def traces(request: Request, actor: Asker) -> Response:
        """Spans of any OpenTelemetry SDK or collector, protobuf or JSON, plain or gzip. They are kept when this answers 200.

        Texts of questions and answers among them are dropped unless the service keeps content; secrets and personal data are
        taken out of everything.
        """
        media, encoding = (request.headers.get(name, "") for name in ("content-type", "content-encoding"))
        packed = await request.body()
        ingested = await run_in_threadpool(_taken, desk.app.traces, packed, media, encoding, actor.principal)
        return _answered(ingested, binary=_kind(media) == PROTOBUF)

    return router


def _taken(traces: Traces, packed: bytes, media: str, encoding: str, principal: str) -> Ingested:
    batch = read(packed, media, encoding, principal)
    if not batch.spans:
        return Ingested(refused=batch.refused, why=batch.why)
    kept = traces.ingest(batch.spans)
    return replace(kept, refused=kept.refused + batch.refused, why=batch.why or kept.why)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What of a request can be kept, and what can not, and why."""

    spans: list[ImportedSpan]
    refused: int = 0
    why: str = ""


def read(packed: bytes, media: str, encoding: str, principal: str) -> Batch:
    """The spans of one request's body. Errors: Invalid (400, 415) and TooLarge (413); nothing else, whatever comes."""
    kind = _kind(media)
    if kind not in (PROTOBUF, JSON_):
        raise _Unsupported("the body is neither protobuf nor JSON", where="content-type", fix=f"send {PROTOBUF}")
    body = _unpacked(packed, encoding.strip().lower())
    return _batch(_from_json(body) if kind == JSON_ else _from_protobuf(body), principal)


def _kind(media: str) -> str:
    return media.partition(";")[0].strip().lower()


def _unpacked(packed: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return packed
    if encoding not in ("gzip", "deflate"):
        raise _Unsupported("this compression is not known here", where="content-encoding", fix="send gzip")
    unpacker = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        body = unpacker.decompress(packed, MAX_UNPACKED)
    except zlib.error:
        raise Invalid(f"the body is not {encoding}", where="body") from None
    if unpacker.unconsumed_tail:
        raise TooLarge(f"the body unpacks to more than {MAX_UNPACKED} bytes", where="body", fix="send smaller batches")
    if not unpacker.eof or unpacker.unused_data:
        raise Invalid(f"the body is not one whole {encoding} stream", where="body")
    return body


def _from_protobuf(body: bytes) -> ExportTraceServiceRequest:
    # Takes 0.1 s of CPU and 6 MB, which only services pay that are sent spans.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        made: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise Invalid("the body is not an ExportTraceServiceRequest", where="body") from None
    return made


def _from_json(body: bytes) -> ExportTraceServiceRequest:
    # As above.
    from google.protobuf.json_format import ParseDict, ParseError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        held = json.loads(body)
        if not isinstance(held, dict):
            raise Invalid("the body is not a JSON object", where="body")
        _ids_as_protobuf(held)
        made = ExportTraceServiceRequest()
        ParseDict(held, made, ignore_unknown_fields=True, max_recursion_depth=40)
    except (ParseError, ValueError, RecursionError, TypeError, AttributeError, KeyError, SystemError):
        # SystemError: what protobuf 7.36 raises for half a surrogate pair where it wants the name of an enumeration.
        raise Invalid("the body is not an ExportTraceServiceRequest in JSON", where="body") from None
    return made


def _ids_as_protobuf(held: dict[str, Any]) -> None:
    """OTLP writes ids in hexadecimal, where JSON of protobuf has base64."""
    for resource in _list(held, "resourceSpans", "resource_spans"):
        for scope in _list(resource, "scopeSpans", "scope_spans"):
            for span in _list(scope, "spans"):
                for one in (span, *_list(span, "links")):
                    for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                        if isinstance(one.get(name), str):
                            one[name] = base64.b64encode(_bytes_of(one[name])).decode()


def _bytes_of(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return b"?"  # no id has one byte: the span is refused, not the batch


def _list(held: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    value = next((held[name] for name in names if name in held), None) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("not a list of objects")
    return value


def _batch(request: ExportTraceServiceRequest, principal: str) -> Batch:
    count = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    if count > MAX_BATCH:
        raise TooLarge(
            f"{count} spans at once, at most {MAX_BATCH} are taken", where="body", fix="send smaller batches"
        )
    spans: list[ImportedSpan] = []
    refused, why = 0, ""
    for span in _spans(request):
        wrong = _wrong(span)
        one = imported(span, principal=principal) if not wrong else None
        if one is not None and _bytes(one) > MAX_SPAN_BYTES:
            wrong = f"a span has more than {MAX_SPAN_BYTES} bytes of attributes"
        if wrong or one is None:
            refused, why = refused + 1, why or wrong
        else:
            spans.append(one)
    return Batch(spans=spans, refused=refused, why=why)


def _spans(request: ExportTraceServiceRequest) -> Iterator[OtelSpan]:
    for resource in request.resource_spans:
        about = _attributes(resource.resource.attributes)[0]
        for scope in resource.scope_spans:
            made_by = {"name": _text(scope.scope.name, MAX_NAME), "version": _text(scope.scope.version, MAX_NAME)}
            library = {name: value for name, value in made_by.items() if value}
            for span in scope.spans:
                attributes, left_out = _attributes(span.attributes)
                events, links, status = span.events, span.links, span.status
                dropped = {
                    "attributes": span.dropped_attributes_count + left_out,
                    "events": span.dropped_events_count + max(0, len(events) - MAX_EVENTS),
                    "links": span.dropped_links_count + max(0, len(links) - MAX_EVENTS),
                }
                yield OtelSpan(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=_text(span.name, MAX_NAME),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    kind=span.kind,
                    status=status.code,
                    status_message=_text(status.message, MAX_VALUE),
                    trace_state=span.trace_state[:512],
                    flags=span.flags,
                    attributes=attributes,
                    events=[
                        {
                            "name": _text(event.name, MAX_NAME),
                            "at": event.time_unix_nano,
                            "attributes": _attributes(event.attributes)[0],
                        }
                        for event in events[:MAX_EVENTS]
                    ],
                    links=[
                        {
                            "trace_id": link.trace_id.hex(),
                            "span_id": link.span_id.hex(),
                            "attributes": _attributes(link.attributes)[0],
                        }
                        for link in links[:MAX_EVENTS]
                    ],
                    scope=library,
                    resource=about,
                    dropped={name: number for name, number in dropped.items() if number},
                )


_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


def _wrong(span: OtelSpan) -> str:
    """Why a span can not be kept; empty when it can."""
    if len(span.trace_id) != 32 or span.trace_id == _NO_TRACE:
        return "a trace id is not 16 bytes"
    if len(span.span_id) != 16 or span.span_id == _NO_SPAN:
        return "a span id is not 8 bytes"
    if span.parent_id and len(span.parent_id) != 16:
        return "a parent's id is not 8 bytes"
    if not 0 < span.start_ns <= MAX_NS or span.end_ns > MAX_NS:
        return "a span has no time"
    return ""


def _bytes(span: ImportedSpan) -> int:
    return len(to_json(span.attributes)) + len(to_json(span.content))


def _attributes(pairs: Iterable[Any]) -> tuple[dict[str, Any], int]:
    """Key-values as JSON has them, and how many were too many. Texts and whole numbers, which nearly all are, on the spot."""
    made: dict[str, Any] = {}
    left_out = 0
    for pair in pairs:
        if len(made) >= MAX_ATTRIBUTES:
            left_out += 1
        elif key := pair.key:
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                held = value.string_value
                said: Any = held if len(held) <= MAX_VALUE and "\0" not in held else _text(held, MAX_VALUE)
            elif kind == "int_value":
                said = value.int_value
            else:
                said = _value(value, 0, key)
            if len(key) > MAX_NAME or "\0" in key:
                key, said = _named(key, said)
            made[key] = said
    return made, left_out


def _value(value: Any, depth: int, name: str) -> Any:
    """An AnyValue of this name. Numbers that JSON does not have, and bytes, go under a name that says what they were."""
    which = value.WhichOneof("value")
    if which is None or depth > MAX_DEPTH:
        return None
    held = getattr(value, which)
    match which:
        case "string_value":
            return _text(held, MAX_VALUE)
        case "double_value":
            return held if math.isfinite(held) else {"otel.double": repr(held)}
        case "bytes_value":
            return _of_bytes(held, name)
        case "array_value":
            return [_value(one, depth + 1, name) for one in held.values[:MAX_ATTRIBUTES]]
        case "kvlist_value":
            pairs = held.values[:MAX_ATTRIBUTES]
            return dict(_named(one.key, _value(one.value, depth + 1, one.key)) for one in pairs)
        case "bool_value" | "int_value":
            return held
        case _:
            return None


def _of_bytes(held: bytes, name: str) -> dict[str, Any]:
    """Bytes, without what may not be kept: base64 hides a secret from every later look, so it is looked for here. Text that
    holds one is kept as text, redacted; of what is no text nobody can say what it holds, so its length and digest are."""
    try:
        text = held.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # so has text in UTF-16
        return {"otel.bytes_length": len(held), "otel.bytes_sha256": hashlib.sha256(held).hexdigest()}
    (said,) = clean({name: text}).values()
    if said == text:
        return {"otel.bytes": base64.b64encode(text[:MAX_VALUE].encode()).decode()}
    return {"otel.bytes_text": said[:MAX_VALUE]}


def _text(text: str, most: int) -> str:
    """A text as both databases take it: PostgreSQL keeps no NUL. Of a longer one the beginning, redacted before it is cut: a
    piece of a secret would not be known for what it is."""
    if len(text) > most:
        text = redact(text)[:most]
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _named(name: str, value: Any) -> tuple[str, Any]:
    """A name as it may be kept, and what stands under it: whether that is a secret, the whole name says."""
    if len(name) > MAX_NAME:
        ((name, value),) = clean({name: value}).items()
    return _text(name, MAX_NAME), value


# -- answers -----------------------------------------------------------------------------------------------------------


def _answered(ingested: Ingested, *, binary: bool) -> Response:
    """ExportTraceServiceResponse: empty when everything was kept."""
    if not binary:
        said: dict[str, Any] = {}
        if ingested.refused:
            said = {"partialSuccess": {"rejectedSpans": str(ingested.refused), "errorMessage": ingested.why}}
        return Response(json.dumps(said), media_type=JSON_)
    body = b""
    if ingested.refused:
        inner = b"\x08" + _varint(ingested.refused) + _field(2, ingested.why)
        body = b"\x0a" + _varint(len(inner)) + inner
    return Response(body, media_type=PROTOBUF)


def refused(problem: Problem, media: str) -> tuple[bytes, str]:
    """A refusal as google.rpc.Status, in the form that was sent, as the protocol wants it, and its media type. Whoever sent
    neither form gets JSON."""
    code = _CODES.get(problem.status, _INVALID_ARGUMENT)
    if _kind(media) == PROTOBUF:
        return b"\x08" + _varint(code) + _field(2, problem.detail), PROTOBUF
    return json.dumps({"code": code, "message": problem.detail}).encode(), JSON_


def _field(number: int, text: str) -> bytes:
    held = text.encode()
    return bytes([number << 3 | 2]) + _varint(len(held)) + held if held else b""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
