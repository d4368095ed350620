"""OpenTelemetry both ways over real HTTP: their SDK sends to us, we send to a receiver that reads with their protobuf."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import random
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mainstay.access.keys import Permission
from mainstay.telemetry import _put
from mainstay.web.otlp import MAX_BODY, read
from tests.support.processes import Said, Serving
from tests.support.services import open_service, people, sync
from tests.support.upstream import Upstream, answering, cites

DOCUMENTS = {"gates.md": "# Gates\n\nGate 7 of the terminal opens at 6 o'clock in the morning.\n"}
SETTINGS = """\
name: Desk
identity: {{anonymous: allow}}
sources:
  - {{name: docs, folder: documents, access: [public]}}
models:
  answer: one
  providers:
    one: {{base_url: '{url}', model: one, price: {{input: "1", output: "1"}}}}
records: {{content: {content}}}
telemetry: {telemetry}
"""


class Collector:
    """A receiver of OTLP/HTTP that keeps what it was sent; ``statuses`` are given out first."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        left = list(statuses)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = left.pop(0) if left else 200
                if status == 200:
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait(self, until: Any) -> None:
        end = time.monotonic() + 30
        while not until(self.spans) and time.monotonic() < end:
            time.sleep(0.05)
        assert until(self.spans), self.spans

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, dict[str, str], Upstream, Collector]]:
    folder = tmp_path_factory.mktemp("otlp")
    with Upstream(always=answering(cites)) as upstream, Collector(503) as collector:
        telemetry = json.dumps({"otlp": {"endpoint": collector.address, "headers": {"x-team": "desk"}}})
        written = SETTINGS.format(url=upstream.base_url, content="none", telemetry=telemetry)
        with open_service(folder, DOCUMENTS, settings=written) as app:
            people(app, {"alice": ()})
            sync(app)
            writer = app.keyring.create(
                "service:app", name="w", scopes=[Permission.TRACES_WRITE, Permission.TRACES_READ]
            )[1]
            asker = app.keyring.create("user:alice", name="a")[1]
        with Serving.on(folder) as serving:
            yield serving, {"writer": writer, "asker": asker}, upstream, collector


World = tuple[Serving, dict[str, str], Upstream, Collector]


def send(
    serving: Serving, key: str | None, body: bytes, *, media: str = "application/x-protobuf", **headers: str
) -> Said:
    sent = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    call = urllib.request.Request(serving.address + "/v1/traces", data=body, headers=sent, method="POST")
    try:
        with urllib.request.urlopen(call, timeout=30) as said:
            return Said(said.status, {k.lower(): v for k, v in said.headers.items()}, said.read())
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def announced(serving: Serving, key: str, length: int) -> int:
    """What is answered to a body of this length before any of it is sent."""
    client = http.client.HTTPConnection(serving.address.removeprefix("http://"), timeout=30)
    client.putrequest("POST", "/v1/traces")
    told = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-protobuf", "Content-Length": str(length)}
    for name, value in told.items():
        client.putheader(name, value)
    client.endheaders()
    try:
        return client.getresponse().status
    finally:
        client.close()


def batch(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": list(spans)}]}]}


def one_span(**more: Any) -> dict[str, Any]:
    made = {"traceId": os.urandom(16).hex(), "spanId": os.urandom(8).hex(), "name": "step", "kind": 1}
    times = {"startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000000500000000"}
    return {**made, **times, **more}


def test_their_sdk_sends_and_we_show(world: World) -> None:
    serving, keys, _, _ = world
    exporter = OTLPSpanExporter(serving.address + "/v1/traces", headers={"Authorization": f"Bearer {keys['writer']}"})
    provider = TracerProvider(resource=Resource.create({"service.name": "assistant"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("their.library", "1.2")
    with tracer.start_as_current_span("invoke_agent helper") as root:
        root.set_attribute("gen_ai.operation.name", "invoke_agent")
        with tracer.start_as_current_span("chat gpt-x", kind=otel.SpanKind.CLIENT) as call:
            call.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt-x",
                    "gen_ai.usage.input_tokens": 120,
                    "gen_ai.usage.output_tokens": 30,
                    "gen_ai.input.messages": "what the user said",
                    "note": "write to joe@example.com",
                }
            )
        with pytest.raises(KeyError), tracer.start_as_current_span("execute_tool find"):
            raise KeyError("nothing")
    trace_id = f"{root.get_span_context().trace_id:032x}"
    assert provider.force_flush()
    provider.shutdown()
    shown = serving.get(f"/v1/requests/{trace_id}", keys["writer"]).json()
    steps = {step["name"]: step for step in shown["spans"]}
    assert set(steps) == {"invoke_agent helper", "chat gpt-x", "execute_tool find"}
    call_ = steps["chat gpt-x"]
    assert call_["kind"] == "generate"
    assert call_["parent_id"] == steps["invoke_agent helper"]["span_id"] == f"{root.get_span_context().span_id:016x}"
    assert steps["execute_tool find"]["status"] == "error"
    told = json.dumps(shown)
    assert "what the user said" not in told
    assert "joe@example.com" not in told
    assert "[redacted:email]" in told
    # Somebody else's, for whom it was never there.
    assert serving.get(f"/v1/requests/{trace_id}", keys["asker"]).status == 404


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("media", ["application/x-protobuf", "application/json"])
def test_forms(world: World, media: str, packed: bool) -> None:
    serving, keys, _, _ = world
    good, bad = one_span(attributes=[{"key": "n", "value": {"intValue": "7"}}]), one_span(traceId="00")
    held = batch(good, bad)
    if media == "application/json":
        body = json.dumps(held).encode()
    else:
        request = ExportTraceServiceRequest()
        for told in (good, bad):
            made = request.resource_spans.add().scope_spans.add().spans.add(name=told["name"])
            made.trace_id, made.span_id = bytes.fromhex(told["traceId"]), bytes.fromhex(told["spanId"])
            made.start_time_unix_nano, made.end_time_unix_nano = 1790000000000000000, 1790000000500000000
            made.attributes.add(key="n").value.int_value = 7
        body = request.SerializeToString()
    headers = {"Content_Encoding": "gzip"} if packed else {}
    said = send(serving, keys["writer"], gzip.compress(body) if packed else body, media=media, **headers)
    assert said.status == 200
    assert said.headers["content-type"] == media
    if media == "application/json":
        assert said.json()["partialSuccess"]["rejectedSpans"] == "1"
    else:
        assert ExportTraceServiceResponse.FromString(said.body).partial_success.rejected_spans == 1
    shown = serving.get(f"/v1/requests/{good['traceId']}", keys["writer"]).json()
    assert [(step["duration_ms"], step["attributes"]["n"]) for step in shown["spans"]] == [(500.0, 7)]


def test_what_is_refused(world: World) -> None:
    serving, keys, _, _ = world
    body = json.dumps(batch(one_span())).encode()
    assert send(serving, None, body, media="application/json").status in (401, 403)
    assert send(serving, keys["asker"], body, media="application/json").status == 403
    assert send(serving, keys["writer"], body, media="text/plain").status == 415
    assert send(serving, keys["writer"], body, media="application/json", Content_Encoding="br").status == 415
    assert send(serving, keys["writer"], b"{", media="application/json").status == 400
    assert send(serving, keys["writer"], b"[]", media="application/json").status == 400
    assert send(serving, keys["writer"], b"\xff\xff\xff").status == 400
    assert send(serving, keys["writer"], gzip.compress(b"")[:-4], Content_Encoding="gzip").status == 400
    assert announced(serving, keys["writer"], 8 * 1024 * 1024 + 1) == 413
    assert send(serving, keys["writer"], b"").status == 200
    many = batch(*([one_span()] * 10_001))
    assert send(serving, keys["writer"], json.dumps(many).encode(), media="application/json").status == 413
    large = one_span(attributes=[{"key": f"k{n}", "value": {"stringValue": "x" * 15_000}} for n in range(20)])
    said = send(serving, keys["writer"], json.dumps(batch(large)).encode(), media="application/json")
    assert "bytes" in said.json()["partialSuccess"]["errorMessage"]


@pytest.mark.parametrize("media", ["application/x-protobuf", "application/json", "text/plain"])
def test_every_refusal_is_a_status_in_the_form_that_was_sent(world: World, media: str) -> None:
    serving, keys, _, _ = world
    large = b"\0" * (MAX_BODY + 1)
    for key, body, status, code in (
        ("mst_nobody", b"{", 401, 16),
        (keys["asker"], b"{", 403, 7),
        (keys["writer"], b"{", 415 if media == "text/plain" else 400, 3),
        (keys["writer"], large, 413, 3),
    ):
        said = send(serving, key, body, media=media)
        assert said.status == status
        if media == "application/x-protobuf":
            assert said.headers["content-type"] == media
            told = Status.FromString(said.body)
            assert (told.code, bool(told.message)) == (code, True)
        else:
            assert said.headers["content-type"] == "application/json"
            assert (said.json()["code"], bool(said.json()["message"])) == (code, True)
        assert said.headers["x-request-id"]
    assert serving.get("/v1/traces", keys["writer"]).headers["content-type"] == "application/problem+json"  # 405


def test_bytes_hide_nothing() -> None:
    key = "mst_" + "a1b2" * 6 + "zz" + "_" + "Ab3dEf9hIj" * 4 + "K1m2"
    held = {
        "plain": b"caf\xc3\xa9",
        "said": f"the key is {key}".encode(),
        "db.password": b"hunter2",
        "picture": b"\x89PNG\xff" + key.encode(),
        "wide": key.encode("utf-16-le"),
    }
    attributes = [
        {"key": name, "value": {"bytesValue": base64.b64encode(value).decode()}} for name, value in held.items()
    ]
    listed = {"key": "list", "value": {"arrayValue": {"values": [attributes[1]["value"]]}}}
    body = json.dumps(batch(one_span(attributes=[*attributes, listed]))).encode()
    (span,) = read(body, "application/json", "", "service:app").spans
    kept = span.attributes
    assert base64.b64decode(kept["plain"]["otel.bytes"]) == held["plain"]
    assert kept["said"] == {"otel.bytes_text": "the key is [redacted:key]"}
    assert kept["list"] == [kept["said"]]
    assert kept["db.password"] == {"otel.bytes_text": "[redacted:password]"}
    for name in ("picture", "wide"):
        assert kept[name] == {
            "otel.bytes_length": len(held[name]),
            "otel.bytes_sha256": hashlib.sha256(held[name]).hexdigest(),
        }
    out = KeyValueList()
    _put(out.values, kept)
    sent = {pair.key: pair.value for pair in out.values}
    assert sent["plain"].bytes_value == held["plain"]
    assert sent["said"].bytes_value == b"the key is [redacted:key]"
    assert len(sent["picture"].kvlist_value.values) == 2


def test_what_is_cut_is_redacted_before(world: World) -> None:
    """A name tells a secret by its end, and a piece of a key is known for none."""
    serving, keys, _, _ = world
    key = "ghp_" + "aB3dE6gH9j" * 3 + "kL2mN5"
    held = {
        "q" * 195 + ".password": {"stringValue": "hunter-of-two"},
        "inside": {
            "kvlistValue": {"values": [{"key": "q" * 300 + "_secret", "value": {"stringValue": "hunter-of-two"}}]}
        },
        "long": {"stringValue": "f " * 7_980 + key + " and so on" * 2_000},
        "bytes": {"bytesValue": base64.b64encode(("f " * 7_980 + key).encode()).decode()},
    }
    attributes = [{"key": name, "value": value} for name, value in held.items()]
    span = one_span(attributes=attributes, name="s" * 180 + key)
    said = send(serving, keys["writer"], json.dumps(batch(span)).encode(), media="application/json")
    assert (said.status, said.json()) == (200, {})
    shown = serving.get(f"/v1/requests/{span['traceId']}", keys["writer"]).body.decode()
    assert "hunter-of-two" not in shown
    assert key[:12] not in shown
    assert "[redacted:key]" in shown


def test_no_field_of_a_span_is_left_out(world: World) -> None:
    serving, keys, _, _ = world
    key = "ghp_" + "aB3dE6gH9j" * 3 + "kL2mN5"
    held = {"error.type": f"Unauthorized: {key}", "gen_ai.request.model": f"m {key}", "mainstay.release": f"r {key}"}
    attributes = [{"key": name, "value": {"stringValue": value}} for name, value in held.items()]
    span = one_span(attributes=attributes, status={"code": 2, "message": f"no {key}"})
    send(serving, keys["writer"], json.dumps(batch(span)).encode(), media="application/json")
    shown = serving.get(f"/v1/requests/{span['traceId']}", keys["writer"]).body.decode()
    assert key not in shown
    assert "Unauthorized: [redacted:key]" in shown


def test_a_zip_bomb(world: World) -> None:
    serving, keys, _, _ = world
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(512)) + packer.flush()
    assert len(bomb) < 1024 * 1024
    assert send(serving, keys["writer"], bomb, Content_Encoding="gzip").status == 413


@pytest.mark.parametrize("announced", [True, False])
def test_who_sends_too_much_hears_it(world: World, announced: bool) -> None:
    """A plain client, which reads no answer before it has sent everything."""
    serving, keys = world[:2]
    piece = b"\0" * 65_536
    count = 3 * MAX_BODY // len(piece)
    headers = {"Authorization": f"Bearer {keys['writer']}", "Content-Type": "application/x-protobuf"}
    if announced:
        headers["Content-Length"] = str(count * len(piece))
    host, port = serving.address.removeprefix("http://").split(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
        connection.request("POST", "/v1/traces", (piece for _ in range(count)), headers, encode_chunked=not announced)
        said = connection.getresponse()
        assert (said.status, said.headers["connection"]) == (413, "close")
        assert said.headers["content-type"] == "application/x-protobuf"
        status = Status.FromString(said.read())
        assert (status.code, "the body has more than" in status.message) == (3, True)


def test_who_asks_before_sending_is_answered_before(world: World) -> None:
    serving, keys = world[:2]
    host, port = serving.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {keys['writer']}\r\n"
        connection.sendall(f"{head}Content-Length: {10 * MAX_BODY}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_depth(world: World) -> None:
    serving, keys, _, _ = world
    for depth in (30, 90, 100_000):
        body = b'{"resourceSpans":' + b"[" * depth + b"]" * depth + b"}"
        assert send(serving, keys["writer"], body, media="application/json").status == 400
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(12):
        value = {"arrayValue": {"values": [value]}}
    body = json.dumps(batch(one_span(attributes=[{"key": "deep", "value": value}]))).encode()
    assert send(serving, keys["writer"], body, media="application/json").status in (200, 400)


def test_rubbish(world: World) -> None:
    serving, keys, _, _ = world
    chance = random.Random(20261122)
    good = json.dumps(batch(one_span(attributes=[{"key": "a", "value": {"stringValue": "b"}}]))).encode()
    for n in range(150):
        kind = n % 3
        if kind == 0:
            body, media = chance.randbytes(chance.randrange(200)), "application/x-protobuf"
        elif kind == 1:
            body, media = bytearray(good), "application/json"
            for _ in range(chance.randrange(1, 6)):
                body[chance.randrange(len(body))] = chance.randrange(256)
        else:
            held = json.loads(good)
            spot = held["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
            spot[chance.choice(list(spot))] = chance.choice([None, 5, "x", [], {}, True, 1e300, ["a"], -1, "\ud800\0"])
            body, media = json.dumps(held).encode(), "application/json"
        said = send(serving, keys["writer"], bytes(body), media=media)
        assert said.status in (200, 400, 413), (n, bytes(body), said)
    assert serving.get("/readyz").status == 200


def test_our_requests_reach_a_collector_and_the_trace_context_is_kept(world: World) -> None:
    serving, keys, upstream, collector = world
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(collector.address)))
    with provider.get_tracer("caller").start_as_current_span("the caller") as caller:
        carrier = {"tracestate": "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"}
        TraceContextTextMapPropagator().inject(carrier)
        call = urllib.request.Request(
            serving.address + "/v1/answers",
            data=json.dumps({"question": "When does gate 7 of the terminal open?"}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {keys['asker']}", **carrier},
        )
        with urllib.request.urlopen(call, timeout=60) as said:
            answer, returned = json.loads(said.read()), said.headers["traceparent"]
    provider.shutdown()
    context = caller.get_span_context()
    trace_id = context.trace_id.to_bytes(16, "big")
    collector.wait(lambda spans: any(span.trace_id == trace_id and span.name == "verify" for span in spans))
    ours = {span.span_id: span for span in collector.spans if span.trace_id == trace_id and span.name != "the caller"}
    root = next(span for span in ours.values() if span.parent_span_id == context.span_id.to_bytes(8, "big"))
    assert returned.split("-")[1:3] == [trace_id.hex(), root.span_id.hex()]
    assert all(span is root or span.parent_span_id in ours for span in ours.values())
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in ours.values())
    assert all(span.end_time_unix_nano <= root.end_time_unix_nano + 1_000_000 for span in ours.values())
    attributes = {pair.key: pair.value for pair in root.attributes}
    assert attributes["mainstay.request_id"].string_value == answer["id"]
    generate = next(span for span in ours.values() if span.name == "chat one" and span.parent_span_id == root.span_id)
    # The provider was told the step that called it.
    told = upstream.calls[-1].headers["traceparent"].split("-")
    assert told[1:3] == [trace_id.hex(), generate.span_id.hex()]
    # What others say of the trace goes on with it, to the provider and with our spans.
    assert upstream.calls[-1].headers["tracestate"] == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert {span.trace_state for span in ours.values()} == {"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}
    assert any(told.get("x-team") == "desk" for told in collector.headers), "the caller's own export has none"
    shown = serving.get(f"/v1/requests/{answer['id']}", keys["asker"]).json()
    assert shown["trace_id"] == trace_id.hex()
    assert shown["root"]["parent_id"] == f"{context.span_id:016x}"
    assert shown["root"]["span_id"] == root.span_id.hex()
