"""What reading how the agreement is kept costs, with a million requests in its windows.

    make bench NAME=status
    make bench NAME=status ARGS="--requests 100000 --database postgresql"

The rows are made up, spread evenly over 28 days, in four teams and three doors; no trace lies beside them. ``status_cpu_ms``
is the CPU of ``mainstay agreement status`` (without starting a program), ``home_cpu_ms`` that of the console's Home when
nothing of it is known, ``burn_cpu_ms`` that of one look for alerts and for modes, where one error budget is spent, so that its
whole window is read. ``.raw`` is the same row by row. All are medians of ``--turns``, after all hours were added up, which takes
``add_up_cpu_us`` of each row, once, and ``mb`` on the disk beside ``mb.rows`` of the rows. ``keep_cpu_us`` is writing one row,
twenty a transaction; ``.late`` those of an hour that was added up. Both ways of reading must say the same, or the bench fails.
On PostgreSQL the server's CPU is counted too (prefix ``pg.``). The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from bench._data import machine, say
from bench._load import cpu_s
from mainstay.agreement.attainment import ClauseStanding, standing
from mainstay.app import App, open_app
from mainstay.app.agreement import burning
from mainstay.clock import SystemClock
from mainstay.records.alerts import Alerts
from mainstay.records.measures import Measured
from mainstay.storage import hours
from mainstay.storage.database import Database
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.rows import micros
from mainstay.web.console.home import Scorecard

DAYS = 28
AT_ONCE = 50_000
AGREEMENT = """
objectives:
  - {name: latency, measure: latency_p95_ms, target: 8000, window: 28d}
  - {name: first words, measure: first_token_p95_ms, target: 2000, window: 28d}
  - {name: availability, measure: availability, target: 0.99, window: 28d}
  - {name: errors, measure: error_rate, target: 0.001, window: 28d, enter_mode: economy}
  - {name: grounded, measure: groundedness, target: 0.9, window: 7d}
  - {name: cost, measure: cost_per_request_usd, target: 0.001, window: 28d}
  - {name: sales, measure: latency_p95_ms, target: 4000, window: 28d, team: "group:t1", door: chat}
"""
# Tails as times and costs have them, from whole numbers that each database computes alike.
ROWS = """
INSERT INTO measure (request_id, at, kind, door, principal, team, status, mode, model, release, failed, cached, total_ms, first_ms,
  cost_n, grounded, covered)
WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last} - 1)
SELECT 'req_' || n || '_0123456789abcdef0123', {begin} + CAST(n AS BIGINT) * {step}, 'answer',
  CASE n % 3 WHEN 0 THEN 'answers' WHEN 1 THEN 'chat' ELSE 'page' END, 'user:u' || (n % 500),
  CASE (n * 7) % 11 % 4 WHEN 0 THEN '' WHEN 1 THEN 'group:t1' WHEN 2 THEN 'group:t2' ELSE 'group:t3' END,
  CASE WHEN n % 401 = 0 THEN 'turned_away' ELSE 'answered' END, 'full', 'small', 'rel_0123456789ab',
  CASE WHEN n % 251 = 0 THEN 1 ELSE 0 END, CASE WHEN n % 7 = 0 THEN 1 ELSE 0 END,
  400 + 3000000.0 / (1 + (CAST(n AS BIGINT) * 7919) % 10007),
  CASE WHEN n % 2 = 0 THEN 100 + 900000.0 / (1 + (CAST(n AS BIGINT) * 7907) % 10007) END,
  (CAST(n AS BIGINT) * 104729) % 1000003, 1.0 - (n % 5) * 0.0625, CASE WHEN n % 20 = 0 THEN 0.5 ELSE 1.0 END FROM numbers
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    said = parser.parse_args()
    say(f"{machine()}")
    with tempfile.TemporaryDirectory(prefix="mainstay-status-") as name:
        folder = Path(name)
        settings = "name: Bench\n"
        server = 0
        if said.database == "postgresql":
            from tests.support.databases import server as postgres  # a server in a package, for this database alone

            settings += f"database: {{url: '{postgres().fresh()}', statement_timeout_s: 600}}\n"
            server = int((postgres().folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        (folder / "mainstay.yaml").write_text(settings, encoding="utf-8")
        (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
        with open_app(folder) as app:
            figures = measured(app, said.requests, said.turns, server)
    prefix = "pg." if server else ""
    figures = {f"{prefix}{name}": value for name, value in figures.items()}
    print(json.dumps({"bench": "status", "machine": machine(), "figures": figures}))


def measured(app: App, requests: int, turns: int, server: int) -> dict[str, float]:
    """All figures of one service."""

    def cpu() -> float:
        return time.process_time() + (cpu_s(server) if server else 0.0)

    def cost(work: Callable[[], object], times: int = turns) -> float:
        """Median CPU ms."""
        took = []
        for _ in range(times):
            began = cpu()
            work()
            took.append(1000 * (cpu() - began))
        return round(median(took), 1)

    size = {1_000_000: "1m", 100_000: "100k"}.get(requests, str(requests))
    fill(app.database, requests)
    rows_mb = megabytes(app.database, "measure")
    agreement, now = app.settings.agreement, app.clock.now()
    by_row, by_hour = SqlMeasures(app.database, by_hours=False), SqlMeasures(app.database)
    began = cpu()
    while lacks(app.database):
        by_hour.keep_up()
    add_up = cpu() - began
    say(f"added up in {add_up:.1f} CPU s")
    for one, other in zip(
        standing(agreement, by_hour, by_row, now), standing(agreement, by_row, by_row, now), strict=True
    ):
        if not alike(one, other):
            raise SystemExit(f"the two ways of reading differ: {one} and {other}")

    def look(measures: SqlMeasures) -> None:
        quiet = Alerts(
            app.alarming.store, measures, agreement, app.settings.service.alerts, app.clock, send=int, refresh=int
        )
        quiet.look(force=True)
        burning(agreement, measures, app.clock)

    few = min(3, turns)
    figures = {
        f"status_cpu_ms.{size}": cost(lambda: standing(agreement, by_hour, by_hour, now)),
        f"status_cpu_ms.{size}.raw": cost(lambda: standing(agreement, by_row, by_row, now), few),
        f"home_cpu_ms.{size}": cost(lambda: Scorecard(app).read()),
        f"burn_cpu_ms.{size}": cost(lambda: look(by_hour)),
        f"burn_cpu_ms.{size}.raw": cost(lambda: look(by_row), few),
        "add_up_cpu_us": round(1e6 * add_up / requests, 2),
        "mb": megabytes(app.database, "measure_hour", "measure_times"),
        "mb.rows": rows_mb,
    }
    for name, at in (("keep_cpu_us", None), ("keep_cpu_us.late", now - timedelta(days=3))):
        batches = [batch(f"{name}_{n}", at) for n in range(100)]
        began = cpu()
        for held in batches:
            by_hour.keep_all(held)
        figures[name] = round(1e6 * (cpu() - began) / (len(batches) * len(batches[0])), 1)
    return figures


def alike(one: ClauseStanding, other: ClauseStanding) -> bool:
    """Whether two standings are equal but for the last digits, which the order of adding up changes."""
    pairs = [(getattr(one, part.name), getattr(other, part.name)) for part in fields(one)]
    numbers = [(mine, yours) for mine, yours in pairs if isinstance(mine, float) and isinstance(yours, float)]
    numbers += [(one.burn[name] or 0.0, other.burn[name] or 0.0) for name in one.burn]
    return all(math.isclose(mine, yours, rel_tol=1e-9, abs_tol=1e-12) for mine, yours in numbers) and all(
        mine == yours for mine, yours in pairs if not isinstance(mine, float | dict)
    )


def fill(database: Database, requests: int) -> None:
    """So many rows, up to now."""
    now = micros(SystemClock().now()) or 0
    span = timedelta(days=DAYS) // timedelta(microseconds=1)
    for first in range(0, requests, AT_ONCE):
        said = {"first": first, "last": min(requests, first + AT_ONCE), "begin": now - span, "step": span // requests}
        with database.write(durable=False) as connection:
            connection.exec_driver_sql(ROWS.format(**said))
    if database.dialect == "postgresql":
        with database.write() as connection:
            connection.exec_driver_sql("ANALYZE measure")
    say(f"{requests} requests are there")


def lacks(database: Database) -> bool:
    with database.read() as connection:
        return bool(hours.lacking(connection, hours.closed()))


def megabytes(database: Database, *tables: str) -> float:
    """What tables take on the disk with their indexes, 0 where SQLite was built without the means to say."""
    total = 0
    with suppress(Exception), database.read() as connection:  # the means is optional in SQLite
        for table in tables:
            total += connection.exec_driver_sql(
                f"SELECT pg_total_relation_size('{table}')"
                if database.dialect == "postgresql"
                else "SELECT sum(pgsize) FROM dbstat WHERE name IN"
                f" (SELECT name FROM sqlite_master WHERE tbl_name = '{table}')"
            ).scalar_one()
    return round(total / 1e6, 1)


def batch(name: str, at: datetime | None) -> list[Measured]:
    return [
        Measured(
            request_id=f"req_{name}_{n}",
            at=at or SystemClock().now(),
            door="chat",
            team="group:t1",
            status="answered",
            total_ms=900.0,
            cost_nanodollars=1000,
        )
        for n in range(20)
    ]


if __name__ == "__main__":
    main()
