"""What the page of a long trace costs: a trace of 10,000 steps, opened in the console by an administrator who is signed in.

    make bench NAME=pages
    make bench NAME=pages ARGS="--spans 50000"

The whole of the server's work in one process, without a network: session, permission, reading, tree, HTML. ``page_ms`` is the
median time to the first view (the upper levels; what is closed says how much it holds), ``page_cpu_ms`` its CPU, ``page_kb``
its HTML; ``part_ms`` the same for the view of one step half way down; ``json_ms`` is ``GET /v1/requests/ID?attributes=false``,
which gives every step at once. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from httpx2 import Response
from starlette.testclient import TestClient

from bench._data import machine, say
from bench.spans import spans
from mainstay.access.keys import Permission
from mainstay.app import open_app
from mainstay.storage.rows import micros
from mainstay.web.server import create_api

TIMES = 9
SETTINGS = "name: Bench\nsources: []\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "mainstay.yaml").write_text(SETTINGS, encoding="utf-8")
        figures = measured(folder, asked.spans)
    say(machine())
    print(json.dumps(figures))


def measured(folder: Path, count: int) -> dict[str, float]:
    with open_app(folder) as app:
        app.people.add_user("ada", role="admin", password="correct horse battery")
        key = app.keyring.create("user:ada", name="bench", scopes=[str(Permission.TRACES_READ)])[1]
        began = (micros(app.clock.now()) or 0) - 60_000_000
        held = spans(0, count, began=began)
        for at in range(0, count, 10_000):
            app.traces.ingest(held[at : at + 10_000])
        path = f"/requests/trace_{held[0].trace_id}"
        client = TestClient(create_api(app), headers={"Accept": "text/html"})
        client.post(
            "/sign-in",
            data={"name": "ada", "password": "correct horse battery"},
            headers={"Origin": "http://testserver"},
        ).raise_for_status()
        page = timed(lambda: client.get(path))
        part = timed(lambda: client.get(path, params={"step": f"{min(100, count // 2):016x}"}))
        json_ms = timed(lambda: client.get(f"/v1{path}?attributes=false", headers={"Authorization": f"Bearer {key}"}))
    name = "10k" if count == 10_000 else str(count)
    return {
        f"page_ms.{name}": page[0],
        f"page_cpu_ms.{name}": page[1],
        f"page_kb.{name}": page[2],
        f"part_ms.{name}": part[0],
        f"json_ms.{name}": json_ms[0],
    }


def timed(work: Callable[[], Response]) -> tuple[float, float, float]:
    """Medians of the time and the CPU in milliseconds, and the kilobytes of the answer."""
    walls, cpus, size = [], [], 0
    for _ in range(TIMES):
        wall, cpu = time.perf_counter(), time.process_time()
        said = work()
        walls.append(1000 * (time.perf_counter() - wall))
        cpus.append(1000 * (time.process_time() - cpu))
        said.raise_for_status()
        size = len(said.content)
    return round(sorted(walls)[TIMES // 2], 1), round(sorted(cpus)[TIMES // 2], 1), round(size / 1000, 1)


if __name__ == "__main__":
    main()
