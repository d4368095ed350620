"""Measures the service as processes: requests per second with 1, 2 and 4 API processes, and how long a revoke takes.

    make bench NAME=serving
    make bench NAME=serving ARGS="--databases sqlite --seconds 5"

The sample company, the built-in model that quotes, one reader's key. Clients are eight connections in a process of their
own, so that their work is not counted as the service's. On a machine of two cores four processes can not be faster than
two: CPU milliseconds a request say what one more core would bring. ``revoke.ms`` is how long the call that removes
a member takes; ``revoke.late`` counts searches begun after that call had
returned that still showed it, and must be nought. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.databases import server
from tests.support.processes import Serving

from bench._data import machine, say
from mainstay.app import App, open_app
from mainstay.cli.demo import fill_demo, write_demo

CLIENTS = 8
QUESTIONS = ("How large is the salary increase budget for 2026?", "How long is parental leave?", "crane inspection")


def client(address: str, key: str, seconds: float, told: Any) -> None:
    """Ask one question after the other on one connection; put (requests, milliseconds each) into ``told``."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    took: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(took) < 100_000:
        begun = time.monotonic()
        body = json.dumps({"question": QUESTIONS[len(took) % len(QUESTIONS)]})
        connection.request("POST", "/v1/answers", body, headers)
        said = connection.getresponse()
        said.read()
        if said.status != 200:
            raise SystemExit(f"{said.status} {said.reason}")
        took.append((time.monotonic() - begun) * 1000)
    told.put(took)


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds these processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def backends() -> list[int]:
    """The processes of PostgreSQL that work for services."""
    with server().admin() as connection:
        rows = connection.run("SELECT pid FROM pg_stat_activity WHERE usename = 'mainstay_test'")
    return [pid for (pid,) in rows]


def load(folder: Path, key: str, processes: int, seconds: float, *, postgres: bool) -> dict[str, float]:
    """Requests a second, CPU milliseconds a request, and the median and 95th percentile of how long one takes."""
    with ExitStack() as stack:
        serving = [stack.enter_context(Serving.on(folder)) for _ in range(processes)]
        for one in serving:
            for question in QUESTIONS:
                one.ask(question, key)
        context = multiprocessing.get_context("spawn")
        told = context.Queue()
        clients = [
            context.Process(target=client, args=(serving[n % processes].address, key, seconds, told))
            for n in range(CLIENTS)
        ]
        pids = [one.popen.pid for one in serving]

        def working() -> dict[int, float]:
            return {pid: cpu_s([pid]) for pid in [*pids, *(backends() if postgres else [])]}

        before = working()
        for one in clients:
            one.start()
        took = [ms for _ in clients for ms in told.get(timeout=seconds + 120)]
        used = sum(spent - before.get(pid, 0.0) for pid, spent in working().items())
        for one in clients:
            one.join()
    rate = len(took) / seconds
    return {
        "requests_per_s": round(rate, 1),
        "cpu_ms": round(used / len(took) * 1000, 2),
        "p50_ms": round(statistics.median(took), 1),
        "p95_ms": round(statistics.quantiles(took, n=20)[18], 1),
    }


def revokes(app: App, folder: Path, rounds: int = 40) -> dict[str, float]:
    """How long after a revoke another process stops showing what it took away."""
    group, user = "group:bench", "user:bench"
    app.people.add_group("bench")
    app.people.add_user("bench")
    key = app.keyring.create(user, name="bench")[1]
    took: list[float] = []
    late = 0
    with Serving.on(folder) as serving:

        def sees() -> bool:
            return b"qzvbench" in serving.post("/v1/search", {"query": "a paper for revoking"}, key).body

        for _ in range(rounds):
            app.people.add_member(group, user)
            if not sees():
                raise SystemExit("the document is not found: nothing to revoke")
            begun = time.monotonic()
            app.people.remove_member(group, user)
            returned = time.monotonic()
            seen = sees()
            late += seen
            took.append((returned - begun) * 1000)
    return {"ms": round(statistics.median(took), 2), "max_ms": round(max(took), 2), "late": late, "rounds": rounds}


def prepared(folder: Path, database: str) -> App:
    """The sample company, with one more document that a group of its own may read."""
    write_demo(folder)
    settings = folder / "mainstay.yaml"
    if database == "postgresql":
        settings.write_text(f"{settings.read_text()}\ndatabase: '{server().fresh()}'\n")
    (folder / "company" / "bench.md").write_text(
        "---\naccess: [group:bench]\n---\n# A paper for revoking\n\nThe word is qzvbench.\n"
    )
    app = open_app(folder)
    fill_demo(app, folder)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args()
    figures: dict[str, float] = {}
    for database in chosen.databases.split(","):
        prefix = "pg." if database == "postgresql" else ""
        with tempfile.TemporaryDirectory() as folder:
            app = prepared(Path(folder), database)
            with app:
                key = app.keyring.create("user:alice", name="bench")[1]
                for processes in map(int, chosen.processes.split(",")):
                    said = load(Path(folder), key, processes, chosen.seconds, postgres=database == "postgresql")
                    say(f"{database} {processes} processes: {said}")
                    figures.update({f"{prefix}{processes}p.{name}": value for name, value in said.items()})
                said = revokes(app, Path(folder))
                say(f"{database} revoke: {said}")
                figures.update({f"{prefix}revoke.{name}": value for name, value in said.items()})
    for name, value in figures.items():
        print(f"{name:34} {value:>10}")
    print(json.dumps({"bench": "serving", "figures": figures, "peers": {}, "machine": machine()}))


if __name__ == "__main__":
    main()
