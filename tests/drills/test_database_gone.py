"""PostgreSQL is stopped, started, or slow under a running service: honest refusals, no pile-up, recovery by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support.databases import ROLE, Server
from tests.support.processes import Process, Serving, until
from tests.support.services import open_service, people, sync

DEADLINE_S = 20.0
SETTINGS = """\
name: Drill
sources:
  - {{name: docs, folder: documents}}
database: {{url: '{url}', pool: 4, statement_timeout_s: 3, lock_timeout_s: 1}}
"""
DOCUMENTS = {"hours.md": "---\naccess: [group:staff]\n---\n# Hours\n\nThe gate in Rotterdam opens at seven.\n"}
QUESTION = "When does the gate in Rotterdam open?"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: this one gets hurt."""
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def served(server: Server, tmp_path: Path) -> Iterator[tuple[Serving, str, str]]:
    """A running service, a reader's key, and the database's address."""
    url = server.fresh()
    folder = tmp_path / "service"
    with open_service(folder, DOCUMENTS, settings=SETTINGS.format(url=url)) as app:
        (folder / "agreement.yaml").write_text(f"request: {{deadline_s: {DEADLINE_S:.0f}}}\n")
        people(app, {"alice": ("staff",)})
        sync(app)
        key = app.keyring.create("user:alice", name="drill")[1]
    with Serving.on(folder) as serving:
        assert "seven" in serving.ask(QUESTION, key).json()["text"]
        yield serving, key, url


def test_stopped_and_started(server: Server, served: tuple[Serving, str, str]) -> None:
    serving, key, _ = served
    server.halt()
    down = serving.get("/readyz")
    assert down.status == 503
    assert int(down.headers["retry-after"]) > 0
    assert "does not answer" in down.json()["checks"]["database"]
    # Probes are answered to anybody: nothing in them says where the database is.
    time.sleep(1.0)  # the background work has noticed as well
    said = serving.get("/readyz").body.decode()
    assert not any(secret in said for secret in (ROLE, "postgres-", "service", "not-a-secret")), said
    assert serving.get("/livez").status == 200
    for path, body in (("/v1/answers", {"question": QUESTION}), ("/v1/search", {"query": "gate"})):
        said = serving.post(path, body, key)
        assert said.status == 503, said.body
        assert int(said.headers["retry-after"]) > 0
        assert said.took_s < DEADLINE_S
        assert "drill" not in said.json()["detail"]
    server.start()
    until(lambda: serving.get("/readyz").status == 200, within_s=30, what="ready again")
    assert "seven" in serving.ask(QUESTION, key).json()["text"]
    assert serving.popen.poll() is None


def test_a_restart_between_two_requests_is_not_noticed(server: Server, served: tuple[Serving, str, str]) -> None:
    serving, key, _ = served
    server.halt()
    server.start()
    answers = [serving.ask(QUESTION, key).status for _ in range(8)]
    assert answers == [200] * 8


def test_a_lock_that_is_held(server: Server, served: tuple[Serving, str, str]) -> None:
    serving, key, url = served
    with server.admin(urlsplit(url).path.lstrip("/")) as holder:
        holder.run("BEGIN")
        holder.run("LOCK TABLE mainstay.fact, mainstay.document IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        with ThreadPoolExecutor(24) as many:
            waiting = [many.submit(serving.ask, QUESTION, key) for _ in range(24)]
            time.sleep(0.5)
            connections = holder.run("SELECT count(*) FROM pg_stat_activity WHERE usename = :role", role=ROLE)[0][0]
            said = [one.result() for one in waiting]
        assert time.monotonic() - begun < DEADLINE_S
        assert connections <= 4 + 2 + 1  # readers, writers, one that listens
        assert {one.status for one in said} == {503}, [one.body for one in said]
        assert all(int(one.headers["retry-after"]) > 0 for one in said)
        assert serving.get("/readyz").status == 503
        holder.run("ROLLBACK")
    until(lambda: serving.get("/readyz").status == 200, within_s=15, what="ready again")
    until(lambda: "seven" in serving.ask(QUESTION, key).json()["text"], within_s=15, what="answers again")


def test_no_database_at_the_start_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mainstay.yaml").write_text("database: postgresql://nobody:wrong@127.0.0.1:1/none\n")
    with Process.start(tmp_path, "serve", "--port", "0") as process:
        assert process.popen.wait(timeout=60) == 3
    assert len(process.lines) == 1
    assert "does not answer" in process.lines[0]
    assert "wrong" not in process.lines[0]
