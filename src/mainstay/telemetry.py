"""Sends finished traces to a collector, beside the requests they belong to: no request waits for it, none fails by it.

What waits is bounded. When the collector does not keep up, or is away for longer than the tries last, traces are dropped and
counted; our own database has them all the same. Encoding is OTLP/HTTP with protobuf.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainstay import __version__
from mainstay.errors import MainstayError
from mainstay.records.otlp import PROFILES, OtelSpan, of_trace
from mainstay.records.otlp.settings import ExportSettings
from mainstay.records.traces import PASSING, Trace

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire

CAPACITY = 2000
BATCH = 200
EVERY_S = 1.0
TRIES = 4
PAUSE_S = 1.0
MOST_PAUSE_S = 30.0
CLOSE_S = 3.0
RETRYABLE = frozenset({429, 502, 503, 504})
"""Which answers are worth another try: OTLP/HTTP, section Failures."""
MAX_REPLY = 64 * 1024

_log = logging.getLogger(__name__)


class Exporter:
    """One per process; its thread begins with the first trace. ``sent`` and ``dropped`` count traces."""

    def __init__(
        self,
        settings: ExportSettings,
        *,
        service: str,
        wire: Callable[[], Wire],
        capacity: int = CAPACITY,
        every_s: float = EVERY_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._settings, self._service, self._wire = settings, service, wire
        self._profile = PROFILES[settings.profile]
        self._waiting: queue.Queue[Trace] = queue.Queue(capacity)
        self._every_s, self._pause_s = every_s, pause_s
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._in_trouble = False
        self.sent = self.dropped = 0

    def offer(self, trace: Trace) -> None:
        """Take a finished trace, already redacted, if there is room. Returns at once, and raises nothing."""
        if not self._settings.endpoint or trace.kept == PASSING:
            return
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            self.dropped += 1
            return
        with self._starting:
            if self._thread is None and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="otlp-export", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send what waits, for a few seconds at most; what is left is counted as dropped."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
        self.dropped += self._waiting.qsize()

    def _run(self) -> None:
        while True:
            batch = self._taken()
            if batch:
                self._deliver(batch)
            elif self._ending.is_set():
                return

    def _taken(self) -> list[Trace]:
        """What has come within the next moment, at most a batch of it."""
        batch: list[Trace] = []
        until = time.monotonic() + self._every_s
        while len(batch) < BATCH:
            left = 0.0 if self._ending.is_set() else max(0.0, until - time.monotonic())
            try:
                batch.append(self._waiting.get(timeout=min(left, 0.25)) if left else self._waiting.get_nowait())
            except queue.Empty:
                if left <= 0:
                    break
        return batch

    def _deliver(self, batch: Sequence[Trace]) -> None:
        try:
            body = encoded(
                span
                for one in batch
                for span in of_trace(one, self._profile, service=self._service, version=__version__)
            )
        except Exception:  # noqa: BLE001 - its thread may not die of one bad trace
            _log.exception("traces can not be written as OTLP")
            self.dropped += len(batch)
            return
        for n in range(TRIES):
            wrong, again_s = self._post(body)
            if not wrong:
                self.sent += len(batch)
                if self._in_trouble:
                    self._in_trouble = False
                    _log.warning("the collector takes traces again; %s were dropped so far", self.dropped)
                return
            if again_s is None or n == TRIES - 1 or self._ending.is_set():
                break
            pause = max(again_s, self._pause_s * 2**n * (0.5 + random.random()))  # noqa: S311 - jitter
            self._ending.wait(min(pause, MOST_PAUSE_S))
        self.dropped += len(batch)
        if not self._in_trouble:
            self._in_trouble = True
            _log.warning("the collector does not take traces: %s", wrong)

    def _post(self, body: bytes) -> tuple[str, float | None]:
        """What went wrong (empty: nothing), and after how many seconds another try may help (None: it does not)."""
        # They bring the HTTP client, which only services pay that export.
        from mainstay.models.chat import ModelFailure
        from mainstay.models.providers.errors import retry_after
        from mainstay.models.providers.wire import Allowance

        timeout_s = self._settings.timeout_s
        allowance = Allowance(
            deadline=time.monotonic() + timeout_s, connect_s=timeout_s, first_token_s=timeout_s, idle_s=timeout_s
        )
        headers = {"user-agent": f"mainstay/{__version__}", **self._settings.headers}
        try:
            with self._wire().post(
                self._settings.endpoint,
                headers={**headers, "content-type": "application/x-protobuf"},
                secret=bool(self._settings.headers),
                body=body,
                allowance=allowance,
                where="telemetry.otlp",
            ) as reply:
                reply.body(MAX_REPLY)
                if 200 <= reply.status < 300:
                    return "", None
                wrong = f"it answered {reply.status}"
                return wrong, (retry_after(reply.headers) or 0.0) if reply.status in RETRYABLE else None
        except ModelFailure as failure:
            return failure.what, 0.0
        except (MainstayError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}", 0.0


def encoded(spans: Iterable[OtelSpan]) -> bytes:
    """An ExportTraceServiceRequest, spans grouped by the program and library that made them."""
    # Takes 0.1 s of CPU and 6 MB, which only services pay that export.
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resources: dict[str, Any] = {}
    scopes: dict[tuple[str, str], Any] = {}
    for span in spans:
        about, made_by = json.dumps(span.resource, sort_keys=True), json.dumps(span.scope, sort_keys=True)
        if about not in resources:
            resources[about] = request.resource_spans.add()
            _put(resources[about].resource.attributes, span.resource)
        if (about, made_by) not in scopes:
            scopes[about, made_by] = resources[about].scope_spans.add()
            scopes[about, made_by].scope.name = str(span.scope.get("name", ""))
            scopes[about, made_by].scope.version = str(span.scope.get("version", ""))
        _write(scopes[about, made_by].spans.add(), span)
    return bytes(request.SerializeToString())


def _write(made: Any, span: OtelSpan) -> None:
    made.trace_id, made.span_id = bytes.fromhex(span.trace_id), bytes.fromhex(span.span_id)
    made.parent_span_id = bytes.fromhex(span.parent_id)
    made.name, made.kind, made.trace_state, made.flags = span.name, span.kind, span.trace_state, span.flags
    made.start_time_unix_nano, made.end_time_unix_nano = span.start_ns, span.end_ns
    made.status.code, made.status.message = span.status, span.status_message
    _put(made.attributes, span.attributes)
    for event in span.events:
        told = made.events.add()
        told.name, told.time_unix_nano = str(event.get("name", "")), int(event.get("at", 0))
        _put(told.attributes, event.get("attributes") or {})
    for link in span.links:
        linked = made.links.add()
        linked.trace_id = bytes.fromhex(str(link.get("trace_id", "")))
        linked.span_id = bytes.fromhex(str(link.get("span_id", "")))
        _put(linked.attributes, link.get("attributes") or {})
    made.dropped_attributes_count = span.dropped.get("attributes", 0)
    made.dropped_events_count = span.dropped.get("events", 0)
    made.dropped_links_count = span.dropped.get("links", 0)


def _put(made: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        _fill(made.add(key=str(name)).value, value)


def _fill(made: Any, value: Any) -> None:
    """An AnyValue; what the door wrote for values that JSON lacks becomes them again."""
    match value:
        case None:
            return
        case bool():
            made.bool_value = value
        case int() if -(2**63) <= value < 2**63:
            made.int_value = value
        case float() if math.isfinite(value):
            made.double_value = value
        case str():
            made.string_value = value
        case {"otel.double": str(text)} if len(value) == 1:
            made.double_value = float(text)
        case {"otel.bytes": str(text)} if len(value) == 1:
            made.bytes_value = base64.b64decode(text)
        case {"otel.bytes_text": str(text)} if len(value) == 1:
            made.bytes_value = text.encode("utf-8", "replace")
        case Mapping():
            made.kvlist_value.SetInParent()
            _put(made.kvlist_value.values, value)
        case list() | tuple():
            made.array_value.SetInParent()
            for one in value:
                _fill(made.array_value.values.add(), one)
        case _:
            made.string_value = str(value)
