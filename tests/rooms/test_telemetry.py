"""Export of traces never stands in a request's way: bounded, counted, and gone quietly when nobody is there."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from mainstay.clock import FixedClock
from mainstay.models.providers.wire import Wire
from mainstay.records.otlp.settings import ExportSettings
from mainstay.records.traces import Journey, Trace
from mainstay.telemetry import Exporter, encoded
from mainstay.types import Actor


def trace() -> Trace:
    journey = Journey("req_1", Actor(principal="user:alice"), "answer", FixedClock())
    journey.span("verify", numbers=[1, 2.5], nested={"a": [True, None]}, ok=True)
    return journey.trace("answered")


def test_without_an_endpoint_nothing_begins() -> None:
    exporter = Exporter(ExportSettings(), service="Desk", wire=Wire)
    exporter.offer(trace())
    exporter.close()
    assert (exporter.sent, exporter.dropped) == (0, 0)


def test_a_collector_that_never_answers_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Wire() as wire:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        settings = ExportSettings(endpoint=address, timeout_s=0.2)
        exporter = Exporter(settings, service="Desk", wire=lambda: wire, capacity=5, every_s=0.01, pause_s=0.01)
        one = trace()
        for _ in range(1000):
            exporter.offer(one)
        until = time.monotonic() + 20
        while exporter.dropped < 900 and time.monotonic() < until:
            time.sleep(0.02)
        exporter.close()
    assert exporter.sent == 0
    assert exporter.dropped >= 995


def test_what_sampling_leaves_out_is_not_sent() -> None:
    exporter = Exporter(ExportSettings(endpoint="http://127.0.0.1:9/"), service="Desk", wire=Wire)
    exporter.offer(replace(trace(), kept="passing"))
    exporter.close()
    assert (exporter.sent, exporter.dropped) == (0, 0)


def test_nothing_is_encoded_to_nothing() -> None:
    assert encoded([]) == b""
