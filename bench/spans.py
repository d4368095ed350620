"""What keeping traces costs: durable spans a second, the CPU of each, lists and long traces when there are a million.

    make bench NAME=spans
    make bench NAME=spans ARGS="--spans 200000 --seconds 5 --no-peers"

``spans_per_s`` are spans of 2 KB with the attributes that instrumented clients of models send, five a trace, 250 a request,
acknowledged only once they are on the disk: sent to the OTLP door of a served Mainstay on SQLite over loopback by four
clients, which share the machine with it; what they send was serialised before. ``cpu_ms_per_span`` is the CPU of its processes.
``port.`` are the same spans without HTTP: one writer calling the port, redaction included; ``port.bare.`` without redaction.
``list_p95_ms.1m`` is the 95th of a hundred searches, with every filter and none, among a million spans (half of them in
journeys of ours, half imported); ``skeleton_ms.10k`` is the median of reading a trace of 10,000 spans without what they say
of themselves. ``request_cpu_ms`` is the CPU of recording one request of ten steps, its writing included.

Peers run from folders of their own under ``.bench``, made by pip when they are not there: the same batches by the same
clients over OTLP/HTTP to Phoenix and MLflow, on SQLite, after one batch to warm up. They are sent a number of spans and given a
bounded time: not more than they can write, since one that answers before it has written only grows a queue. A span of theirs
counts once it can be read from their database file, whether or not a power cut would spare it; ``acknowledged_per_s`` is
how fast they said they had taken them.
A peer that can not be installed or does not start is left out, and said to be. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from string import ascii_letters, digits

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtobufSpan
from tests.support.processes import Serving

from bench._data import KEPT, machine, say
from bench._load import cpu_s, quantile
from mainstay.access.keys import Permission
from mainstay.app import open_app
from mainstay.clock import SystemClock
from mainstay.guard.redaction import clean
from mainstay.records.measures import Measured
from mainstay.records.recorder import Recorder
from mainstay.records.spans import ImportedSpan
from mainstay.records.traces import Journey, Kept, Search, Trace
from mainstay.storage.database import Address, Database, open_database
from mainstay.storage.rows import micros
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor
from mainstay.web.otlp import PROTOBUF, read

BATCH, PER_TRACE, BYTES = 250, 5, 2048
TRACES = BATCH // PER_TRACE
CLIENTS = 4
WARM = 4  # requests before it is measured: what is loaded at the first one, and what a service does when it starts
KINDS = ("request", "retrieve", "route", "generate", "verify")
MODELS = ("small", "large", "careful", "")
PEERS = {"phoenix": "arize-phoenix==20.26.*", "mlflow": "mlflow==3.17.*"}
CLOCK = SystemClock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000, help="how many there are when lists are measured")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sending, for each way")
    parser.add_argument("--peer-seconds", type=float, default=60.0, help="at most, for each peer")
    parser.add_argument("--peer-spans", type=int, default=2000, help="sent to each peer")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--seed", type=int, default=5)
    said = parser.parse_args()
    say(f"seed {said.seed}, {machine()}")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mainstay-spans-") as folder:
        figures |= request_cost(Path(folder) / "request")
        figures |= port(Path(folder) / "port", said.seconds)
        figures |= port(Path(folder) / "bare", said.seconds, bare=True)
        figures |= door(Path(folder) / "door", said.seconds)
        figures |= lists(Path(folder) / "lists", said.spans, said.seed)
        if not said.no_peers:
            for name, package in PEERS.items():
                figures |= peer(name, package, Path(folder) / name, said.peer_seconds, said.peer_spans)
    print(json.dumps({"bench": "spans", "machine": machine(), "figures": figures}))


# -- ours --------------------------------------------------------------------------------------------------------------


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    folder.mkdir(parents=True, exist_ok=True)
    opened = open_database(Address(url=str(folder / "mainstay.db")))
    try:
        yield opened
    finally:
        opened.close()


def request_cost(folder: Path, requests: int = 2000) -> dict[str, float]:
    """Ten steps, as the road tells them, kept and written."""
    with database(folder) as opened:
        recorder = Recorder(SqlTraces(opened), clean=clean)
        for n in range(200):
            keep(recorder, n)
        recorder.flush()
        began = time.process_time()
        for n in range(200, 200 + requests):
            keep(recorder, n)
            if n % 20 == 0:
                recorder.flush()  # as often as a busy service does
        recorder.close()
        spent = time.process_time() - began
    figure = round(1000 * spent / requests, 4)
    say(f"request_cpu_ms {figure}")
    return {"request_cpu_ms": figure}


def keep(recorder: Recorder, n: int) -> None:
    trace = journey(n)
    measured = Measured(request_id=trace.request_id, at=trace.at, model="small", status="answered", mode="full")
    recorder.keep(trace, measured)


def journey(n: int, rng: random.Random | None = None) -> Trace:
    """A request of ten steps with the attributes that the road gives them."""
    held = Journey(f"req_{n:026}", Actor(principal=f"user:u{n % 500}"), "answer", CLOCK)
    held.span("admit", question_chars=80, language="en", mode="full")
    held.span(
        "retrieve",
        passages=[f"chk_{n}_{i}" for i in range(8)],
        documents=[f"doc_{n}_{i}" for i in range(8)],
        versions=[f"{n:016x}" for _ in range(8)],
        reasons=["both"] * 8,
        scores=[0.5 + i / 100 for i in range(8)],
        lexical=[0.25] * 8,
        dense=[0.75] * 8,
        filters=["year=2026"],
        dropped_filters=[],
        by_words=12,
        by_meaning=20,
        readable=4000,
        waiting_for_vectors=0,
    )
    held.span("cache", hit=False, similarity=0.8125, why="below the threshold")
    held.span(
        "route", order=["small: cheapest that is good enough", "large: better"], excluded=[], estimated_by="rules"
    )
    held.span("guard", verdict="none", rules=[])
    held.span("prompt", prompt="answer", prompt_version="0123456789ab")
    began = CLOCK.monotonic()
    held.part("step", began, name="attempt", model="small")
    held.span("generate", model="small", finish="stop", passages=8, input_tokens=2100, output_tokens=180)
    held.span("verify", citations=3, unsupported=0, invented=[])
    held.span("route", decision="accept", confidence=0.93, why="good enough")
    held.facts |= {"status": "answered", "mode": "full", "model": "small", "route": ["cache:miss", "small:answered"]}
    held.mode, held.model, held.release, held.door = "full", "small", "rel_0123456789ab", "answers"
    trace = held.trace("answered")
    if rng is None:
        return trace
    return replace(
        trace,
        at=trace.at - timedelta(seconds=rng.randrange(30 * 86400)),
        status=rng.choices(["answered", "refused", "handed_off"], [90, 9, 1])[0],
        mode=rng.choices(["full", "economy", "static"], [97, 2, 1])[0],
        model=rng.choice(MODELS),
        failed=rng.random() < 0.002,
        cost_nanodollars=int(rng.lognormvariate(12, 1.5)),
        duration_ms=rng.lognormvariate(6, 0.8),
    )


def spans(trace: int, count: int = PER_TRACE, size: int = BYTES, began: int | None = None) -> list[ImportedSpan]:
    """A trace of another program: a root, and steps of which each is part of the one before."""
    at = (micros(CLOCK.now()) or 0) if began is None else began
    return [
        ImportedSpan(
            trace_id=f"{trace + 1:032x}",
            span_id=f"{n + 1:016x}",
            parent_id=f"{(n - 1) // 2 + 1:016x}" if n else "",
            kind=KINDS[n % len(KINDS)],
            name=f"step {n}",
            start_us=at + n * 100,
            duration_ms=5.0,
            attributes={"gen_ai.operation.name": "chat", "padding": padding(trace * 31 + n, size - 300)},
            principal="service:crm",
            service="crm",
            model=MODELS[n % len(MODELS)],
            input_tokens=100,
        )
        for n in range(count)
    ]


_WORDS = " ".join(
    f"The {colour} container waits at the {side} berth until crane {n} is free again, then it goes to the yard."
    for n in range(10)
    for colour in ("blue", "green", "orange", "grey")
    for side in ("northern", "southern", "eastern")
)


def padding(n: int, size: int) -> str:
    """Words, as messages have them: redaction has something to read."""
    start = n * 37 % 4000
    return _WORDS[start : start + max(0, size)]


def port(folder: Path, seconds: float, *, bare: bool = False) -> dict[str, float]:
    """One writer, the port itself, given what the door makes of a request."""
    name = "port.bare" if bare else "port"
    with database(folder) as opened:
        recorder = Recorder(SqlTraces(opened), clean=(lambda value: value) if bare else clean)
        sent = (body(range(n * TRACES, (n + 1) * TRACES)) for n in range(int(seconds * 40)))
        batches = [read(one, PROTOBUF, "", "service:crm").spans for one in sent]
        kept, cpu, began = 0, time.process_time(), time.perf_counter()
        for batch in batches:
            kept += recorder.ingest(batch).kept
            if time.perf_counter() - began > seconds:
                break
        took, spent = time.perf_counter() - began, time.process_time() - cpu
        recorder.close()
    figures = {f"{name}.spans_per_s": round(kept / took, 1), f"{name}.cpu_ms_per_span": round(1000 * spent / kept, 4)}
    say(f"port: {figures}")
    return figures


def door(folder: Path, seconds: float) -> dict[str, float]:
    """A served Mainstay, its OTLP door."""
    folder.mkdir(parents=True)
    (folder / "mainstay.yaml").write_text("name: Bench\n", encoding="utf-8")
    with open_app(folder) as app:
        key = app.keyring.create("service:crm", name="bench", scopes=[Permission.TRACES_WRITE])[1]
    bodies = [body(range(n * TRACES, (n + 1) * TRACES)) for n in range(int(seconds * 40) + WARM)]
    with Serving.on(folder) as serving:
        url, headers = f"{serving.address}/v1/traces", {"Authorization": f"Bearer {key}"}
        before, _ = send(url, bodies[:WARM], seconds, headers)
        cpu = cpu_s(serving.popen.pid)
        sent, took = send(url, bodies[WARM:], seconds, headers)
        spent = cpu_s(serving.popen.pid) - cpu
    with closing(sqlite3.connect(folder / "data" / "mainstay.db")) as held:
        (kept,) = held.execute("SELECT count(*) FROM span").fetchone()
    if not sent:
        say("the OTLP door takes nothing here: see the port's figures")
        return {}
    if kept != before + sent:
        raise SystemExit(f"{before + sent} spans were acknowledged and {kept} are there")
    figures = {"spans_per_s": round(sent / took, 1), "cpu_ms_per_span": round(1000 * spent / sent, 4)}
    say(f"door: {figures}")
    return figures


def body(traces: range) -> bytes:
    """An export request of OTLP, as SDKs send it: ids by chance, times in nanoseconds, calls of models, each 2 KB."""
    export = ExportTraceServiceRequest()
    resource = export.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "crm"
    scope = resource.scope_spans.add()
    scope.scope.name = "bench"
    rng = random.Random(traces.start)
    for trace in traces:
        trace_id, ids = rng.randbytes(16), [rng.randbytes(8) for _ in range(PER_TRACE)]
        for n, one in enumerate(spans(trace)):
            start_ns = one.start_us * 1000 + 123
            held = scope.spans.add(
                trace_id=trace_id,
                span_id=ids[n],
                parent_span_id=ids[(n - 1) // 2] if n else b"",
                name=one.name,
                kind=ProtobufSpan.SPAN_KIND_CLIENT,
                start_time_unix_nano=start_ns,
                end_time_unix_nano=start_ns + 5_000_456,
            )
            said: dict[str, str | int] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "gen_ai.response.id": "chatcmpl-" + "".join(rng.choices(ascii_letters + digits, k=29)),
                "gen_ai.usage.input_tokens": 1200 + n,
                "gen_ai.usage.output_tokens": 180,
                "server.address": "models.example.com",
                "server.port": 443,
                "http.response.status_code": 200,
                "session.id": f"session-{trace % 500}",
            }
            for name, value in said.items():
                pair = held.attributes.add(key=name).value
                if isinstance(value, int):
                    pair.int_value = value
                else:
                    pair.string_value = value
            filling = held.attributes.add(key="crm.note").value
            filling.string_value = padding(trace * 31 + n, BYTES - held.ByteSize() - 8)
    return bytes(export.SerializeToString())


def send(url: str, bodies: Sequence[bytes], seconds: float, headers: dict[str, str]) -> tuple[int, float]:
    """Send bodies by several clients until the time is over; how many spans were acknowledged, and how long it took."""
    waiting, lock = list(reversed(bodies)), threading.Lock()
    sent, failures = [0] * CLIENTS, [0] * CLIENTS
    began = time.perf_counter()

    def client(number: int) -> None:
        while time.perf_counter() - began < seconds and failures[number] < 20:
            with lock:
                if not waiting:
                    return
                held = waiting.pop()
            asked = urllib.request.Request(
                url, data=held, headers={"Content-Type": "application/x-protobuf", **headers}
            )
            try:
                with urllib.request.urlopen(asked, timeout=60) as response:
                    response.read()
                sent[number] += BATCH
            except (urllib.error.URLError, OSError) as error:
                failures[number] += 1
                if failures[number] == 1:
                    say(f"refused: {error}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent), time.perf_counter() - began


def lists(folder: Path, total: int, seed: int) -> dict[str, float]:
    """Half of the spans in journeys of ours, half imported; then every kind of search, and one long trace."""
    rng = random.Random(seed)
    with database(folder) as opened:
        store = SqlTraces(opened)
        own, foreign = total // 2 // 10, total // 2 // PER_TRACE
        say(f"writing {own} requests of ten steps and {foreign} traces of {PER_TRACE} spans")
        for start in range(0, own, 500):
            store.keep_all([Kept(trace=journey(n, rng)) for n in range(start, min(own, start + 500))])
        now = micros(CLOCK.now()) or 0
        for start in range(0, foreign, 500):
            some = range(start, min(foreign, start + 500))
            began = [now - rng.randrange(30 * 86400) * 1_000_000 for _ in some]
            store.ingest([span for n, at in zip(some, began, strict=True) for span in spans(n, size=600, began=at)])
        searches = [
            Search(),
            Search(asker="user:u7"),
            Search(asker="user:u7", status="handed_off"),
            Search(failed=True),
            Search(failed=True, model="large"),
            Search(status="handed_off"),
            Search(mode="static"),
            Search(model="careful", min_ms=3000.0),
            Search(min_cost=30_000_000),
            Search(release="of nobody"),
            Search(kind="imported", door="otlp", min_ms=10_000.0),
            Search(since=CLOCK.now() - timedelta(days=20), before=CLOCK.now() - timedelta(days=19)),
        ]
        took: list[tuple[float, str]] = []
        for turn in range(9):
            for n, wanted in enumerate(searches):
                after = ""
                if turn % 3 == 1:  # from somewhere in the middle
                    after = f"{now - rng.randrange(30 * 86400) * 1_000_000}~z"
                began_s = time.perf_counter()
                store.search(replace(wanted, after=after))
                took.append((1000 * (time.perf_counter() - began_s), f"search {n}"))
        slowest = max(took)
        p95 = quantile([one for one, _ in took], 0.95)
        say(f"lists: p95 {p95:.1f} ms, slowest {slowest[0]:.1f} ms ({slowest[1]})")
        store.ingest(spans(10_000_000, 10_000, began=now))
        name = f"trace_{10_000_001:032x}"
        long = sorted(timed(lambda: store.skeleton(name)) for _ in range(5))[2]
        one = sorted(timed(lambda: store.span(name, f"{5000:016x}")) for _ in range(5))[2]
        say(f"skeleton {long:.1f} ms, one span of it {one:.2f} ms")
    return {
        f"list_p95_ms.{'1m' if total == 1_000_000 else total}": round(p95, 2),
        "skeleton_ms.10k": round(long, 2),
        "span_ms.10k": round(one, 3),
    }


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


# -- others ------------------------------------------------------------------------------------------------------------


def peer(name: str, package: str, folder: Path, seconds: float, count: int) -> dict[str, float]:
    """Send the same to a peer, and count what is in its database when the time is over."""
    try:
        python = installed(name, package)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{name} is left out: {package} can not be installed here ({error})")
        return {}
    folder.mkdir()
    port = free_port()
    held, path, environment, command = PLACES[name](folder, port, python)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
    )
    headers = {"x-mlflow-experiment-id": "0"} if name == "mlflow" else {}
    try:
        if not answers(f"http://127.0.0.1:{port}/", process, 180):
            say(f"{name} is left out: it does not start (see its log: {(folder / 'log').read_text()[-300:]!r})")
            return {}
        url = f"http://127.0.0.1:{port}{path}"
        bodies = [body(range(n * TRACES, (n + 1) * TRACES)) for n in range(1 + count // BATCH)]
        warm, _ = send(url, bodies[:1], seconds, headers)
        before = counted(held, warm, seconds)
        if not before:
            say(
                f"{name} is left out: of {warm} spans that it acknowledged none is in its database after {seconds:.0f} s"
            )
            return {}
        cpu, began = cpu_s(process.pid), time.perf_counter()
        sent, sending = send(url, bodies[1:], seconds, headers)
        kept = counted(held, before + sent, seconds - sending) - before
        took = time.perf_counter() - began
        spent = cpu_s(process.pid) - cpu
        say(f"{name}: {sent} acknowledged in {sending:.1f} s, {kept} of them in its database after {took:.1f} s")
        if not kept:
            return {}
        return {
            f"{name}.spans_per_s": round(kept / took, 1),
            f"{name}.acknowledged_per_s": round(sent / sending, 1),
            f"{name}.cpu_ms_per_span": round(1000 * spent / kept, 4),
        }
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _phoenix(folder: Path, port: int, python: Path) -> tuple[Path, str, dict[str, str], list[str]]:
    environment = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    return folder / "phoenix.db", "/v1/traces", environment, [str(python.with_name("phoenix")), "serve"]


def _mlflow(folder: Path, port: int, python: Path) -> tuple[Path, str, dict[str, str], list[str]]:
    command = [str(python.with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    held = folder / "mlflow.db"
    command += ["--backend-store-uri", f"sqlite:///{held}"]
    return held, "/v1/traces", {"MLFLOW_DISABLE_TELEMETRY": "true"}, command


PLACES = {"phoenix": _phoenix, "mlflow": _mlflow}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def counted(held: Path, until: int, seconds: float) -> int:
    """The spans in a peer's file once they are so many, or after these seconds."""
    end = time.perf_counter() + seconds
    while (found := rows(held)) < until and time.perf_counter() < end:
        time.sleep(0.2)
    return found


def rows(held: Path) -> int:
    """The spans in a peer's file, seen from outside: those that are committed."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{held}?mode=ro", uri=True)) as opened:
        return int(opened.execute("SELECT count(*) FROM spans").fetchone()[0])
    return 0


def installed(name: str, package: str) -> Path:
    """The Python of the peer's own environment, made when it is not there."""
    folder = KEPT / name
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        say(f"installing {package} into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True, timeout=900)
        (folder / "done").touch()
    return python


def answers(url: str, process: subprocess.Popen[bytes], seconds: float) -> bool:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return True
    return False


if __name__ == "__main__":
    main()
