"""Jobs through every door: who may, what is refused, and that work asked for in one process is done in another."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from mainstay.app import App
from mainstay.cli import main
from mainstay.errors import Conflict, Invalid
from mainstay.settings import load
from mainstay.storage.schema import change
from mainstay.web.server import create_api
from mainstay.workflows.ports import JobState
from tests.road.conftest import Service
from tests.support.services import open_service, static_embedder, sync

ROUTES = [
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/job_x"),
    ("POST", "/v1/jobs/job_x/retry"),
    ("POST", "/v1/jobs/job_x/cancel"),
]


# -- HTTP --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_operators_alone(service: Service, method: str, path: str) -> None:
    for who in (None, "alice", "crawler", "portal"):
        said = service.client.request(
            method, path, json={"kind": "sync", "source": "files"}, headers=service.headers(who)
        )
        assert said.status_code == 403, (who, said.text)
    said = service.client.request(method, path, headers={"Authorization": "Bearer mst_wrong"})
    assert said.status_code == 401
    assert service.app.queue.recent() == []


def test_nobody_unknown_where_all_are_known(tmp_path: Path) -> None:
    with open_service(tmp_path) as app:
        client = TestClient(create_api(app))
        assert {client.request(method, path).status_code for method, path in ROUTES} == {401}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"kind": "sync"}', 400),
        (b'{"kind": "format the disk", "source": "files"}', 400),
        (b'{"kind": "sync", "source": "files", "owner": "me"}', 400),
        (b'{"kind": "sync", "source": "files", "delete_all": "yes"}', 400),
        (b'{"kind": "sync", "source": 5}', 400),
        (b'{"kind": "sync", "source": ""}', 400),
        (b'{"kind": "sync", "source": "../etc"}', 400),
        (b'{"kind": "sync", "source": "a\\u0000b"}', 400),
        (b'{"kind": "sync", "source": "\\ud800"}', 400),
        (b'{"kind": "sync", "source": "' + b"x" * 500 + b'"}', 400),
        (b'{"kind": "sync", "source": "nowhere"}', 404),
    ],
)
def test_a_wrong_body(service: Service, body: bytes, status: int) -> None:
    headers = service.headers("hugo") | {"Content-Type": "application/json"}
    said = service.client.post("/v1/jobs", content=body, headers=headers)
    assert (said.status_code, said.headers["content-type"]) == (status, "application/problem+json")
    assert service.app.queue.recent() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/jobs?state=asleep", 400),
        ("GET", "/v1/jobs?limit=0", 400),
        ("GET", "/v1/jobs?limit=99999", 400),
        ("GET", "/v1/jobs/job_nothing", 404),
        ("GET", "/v1/jobs/%ED%A0%80", 404),
        ("POST", "/v1/jobs/job_nothing/retry", 404),
        ("DELETE", "/v1/jobs/job_nothing", 405),
    ],
)
def test_a_wrong_address(service: Service, method: str, path: str, status: int) -> None:
    assert service.client.request(method, path, headers=service.headers("hugo")).status_code == status


def test_the_life_of_a_job_over_http(fresh: Service) -> None:
    client, hugo = fresh.client, fresh.headers("hugo")

    def at(path: str = "", method: str = "GET", **more: Any) -> Any:
        said = client.request(method, f"/v1/jobs{path}", headers=hugo, **more)
        assert said.status_code in (200, 202), said.text
        return said.json()

    body = {"kind": "sync", "source": "files"}
    said = client.post("/v1/jobs", json=body, headers=hugo)
    assert said.status_code == 202
    job = said.json()
    assert said.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["requested_by"], job["payload"]["source"]) == ("ready", "user:hugo", "files")
    assert at("", "POST", json=body)["id"] == job["id"]  # once is enough
    assert at(f"/{job['id']}/cancel", "POST")["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job['id']}/cancel", headers=hugo).status_code == 409
    assert at(f"/{job['id']}/retry", "POST")["state"] == "ready"
    (fresh.folder / "documents/public/late.md").write_text("# Late\n\nThe late tram leaves at 23:40 from the quay.\n")
    fresh.app.worker().run(until_idle=True)
    done = at(f"/{job['id']}")
    assert (done["state"], done["result"]["added"], done["error"]) == ("done", 1, "")
    assert "23:40" in fresh.found("late tram", "alice")
    assert {held["kind"] for held in at("")["jobs"]} == {"sync", "embed"}
    assert [held["id"] for held in at("?state=done&kind=sync&limit=5")["jobs"]] == [job["id"]]
    assert client.post(f"/v1/jobs/{job['id']}/retry", headers=hugo).status_code == 409


def test_dead_letters_show_and_do_not_stop_the_service(fresh: Service) -> None:
    def checks() -> tuple[int, str]:
        said = fresh.client.get("/readyz")
        return said.status_code, said.json()["checks"]["jobs"]

    assert checks() == (200, "ok")
    job = fresh.app.ask_for_sync("files")
    (fresh.folder / "documents").rename(fresh.folder / "unmounted")
    (fresh.folder / "documents").mkdir()
    fresh.app.worker(["sync"]).run_next()
    status, said = checks()
    assert status == 200
    assert said.startswith("1 dead")
    hugo = fresh.headers("hugo")
    dead = fresh.client.get("/v1/jobs?state=dead", headers=hugo).json()["jobs"]
    assert [held["id"] for held in dead] == [job.job_id]
    assert "the folder is empty but" in dead[0]["error"]
    fresh.client.post(f"/v1/jobs/{job.job_id}/cancel", headers=hugo)
    assert checks() == (200, "ok")


# -- command line ------------------------------------------------------------------------------------------------------
DOCUMENTS = {".access.yaml": "allow: [public]", "a.md": "# A\n\nThe first crane lifts nine tonnes of steel.\n"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with open_service(tmp_path, DOCUMENTS) as opened:
        yield opened


def run(app: App, *args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(app.settings.folder), *args])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), out, err


def test_sync_is_a_job_that_the_command_does_itself(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(app, "sync", "--json", capsys=capsys)
    assert (code, json.loads(out)[0]["added"]) == (0, 1)
    kept = {job.kind: job for job in app.queue.recent()}
    assert {kind: (str(job.state), job.attempts) for kind, job in kept.items()} == {
        "sync": ("done", 1),
        "embed": ("done", 1),
    }
    assert kept["sync"].requested_by == "service:command-line"


def test_detached_work_is_done_by_a_worker(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(app, "sync", "--detach", capsys=capsys)
    assert code == 0
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.md").write_text("# B\n\nThe second crane lifts four tonnes of grain.\n")
    code, said, _ = run(
        app, "ingest", str(tmp_path / "more"), "--access", "public", "--detach", "--json", capsys=capsys
    )
    assert code == 0
    waiting = [out.strip(), json.loads(said)[0]["id"]]
    assert [str(job.state) for job in app.queue.recent()] == ["ready", "ready"]
    code, out, _ = run(app, "worker", "--once", "--json", capsys=capsys)
    assert code == 0
    turns = [json.loads(line) for line in out.splitlines()]
    assert [(turn["id"], turn["ended"]) for turn in turns if turn["kind"] == "sync"] == [
        (id_, "done") for id_ in waiting
    ]
    code, out, _ = run(app, "jobs", "show", waiting[0], "--json", capsys=capsys)
    assert (code, json.loads(out)["state"]) == (0, "done")
    code, out, _ = run(app, "jobs", "list", "--state", "done", capsys=capsys)
    assert all(id_ in out for id_ in waiting)


def test_dead_letters_at_the_command_line(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    sync(app)
    (app.settings.folder / "documents").rename(app.settings.folder / "away")
    code, _, err = run(app, "sync", capsys=capsys)
    assert (code, len(err.splitlines())) == (3, 1)  # as it ever was: the person who asked is told
    run(app, "sync", capsys=capsys)
    code, out, _ = run(app, "jobs", "list", "--state", "dead", "--json", capsys=capsys)
    (dead,) = json.loads(out)  # one letter a chore, however often it fails
    assert "not mounted" in dead["error"]
    (app.settings.folder / "away").rename(app.settings.folder / "documents")
    assert run(app, "jobs", "retry", dead["id"], capsys=capsys)[0] == 0
    code, out, _ = run(app, "worker", "--once", capsys=capsys)
    assert code == 0
    assert f"{dead['id']} sync:docs done" in out
    for command, wanted in ((("show", "job_x"), 1), (("retry", dead["id"]), 1), (("cancel", dead["id"]), 1)):
        code, out, err = run(app, "jobs", *command, capsys=capsys)
        assert (code, out, len(err.splitlines())) == (wanted, "", 1)


def test_a_failed_job_tells_in_the_exit_code(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    (app.settings.folder / "documents").rename(app.settings.folder / "away")
    app.ask_for_sync("docs")
    code, out, _ = run(app, "worker", "--once", capsys=capsys)
    assert code == 1
    assert "retry" in out


# -- several processes -------------------------------------------------------------------------------------------------
def again(app: App) -> App:
    """A second process over the same service, as far as storage can tell."""
    return App(load(app.settings.folder, {}), embedders={"static": static_embedder()})


def test_a_command_follows_the_worker_that_is_at_it(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    with again(app) as other:
        worker = other.worker(["sync"])
        taken = worker.take(other.ask_for_sync("docs").job_id)
        assert taken is not None
        done: list[object] = []
        asks = threading.Thread(target=lambda: done.append(app.sync_now("docs")))
        asks.start()
        asks.join(timeout=0.5)
        assert asks.is_alive()
        worker.work(taken[0], asked_at=taken[1])
        asks.join(timeout=60)
        assert vars(done[0])["added"] == 1
    assert len(app.queue.recent(kind="sync")) == 1
    assert worker.owner in capsys.readouterr().err


def test_a_command_goes_on_when_the_worker_goes_home(app: App) -> None:
    with again(app) as other:
        taken = other.queue.claim("other", ["sync"], lease_s=600, job_id=other.ask_for_sync("docs").job_id)
        assert taken is not None
        other.queue.release(taken.fence)
        assert app.sync_now("docs").added == 1


def test_who_asks_for_something_else_gets_it_afterwards(app: App) -> None:
    sync(app)
    (app.settings.folder / "documents/a.md").unlink()
    app.ask_for_sync("docs")  # would refuse: everything is gone
    assert app.sync_now("docs", delete_all=True).removed == 1
    (app.settings.folder / "documents/a.md").write_text("# A\n\nIt is back again, for a moment only.\n")
    sync(app)
    (app.settings.folder / "documents/a.md").unlink()
    with pytest.raises(Conflict):
        app.sync_now("docs")


def test_of_many_processes_one_embeds(app: App) -> None:
    for n in range(40):
        (app.settings.folder / f"documents/n{n}.md").write_text(f"# N {n}\n\nThe note number {n} is about crane {n}.\n")
    app.synchronise(app.source("docs"))
    others = [again(app) for _ in range(3)]
    for one in (app, *others):
        one.start()
    try:
        identity = app.embedder().identity
        for _ in range(1200):
            done, total = app.documents.embedding_progress(identity)
            if done == total:
                break
            threading.Event().wait(0.05)
        assert done == total == 41
    finally:
        for one in others:
            one.close()
    with app.database.read() as connection:
        made = Counter(connection.scalars(select(change.c.document).where(change.c.kind == "vectors")))
    assert set(made.values()) == {1}


@pytest.mark.parametrize(("in_serve", "done"), [("yes", True), ("no", False)])
def test_the_server_does_jobs_itself_where_it_may(in_serve: str, done: bool, tmp_path: Path) -> None:
    settings = f"worker: {{in_serve: {in_serve}}}\nsources:\n  - {{name: docs, folder: documents}}\n"
    with open_service(tmp_path, DOCUMENTS, settings=settings) as app:
        app.start()
        job = app.ask_for_sync("docs")
        pause, ended = threading.Event(), False
        for _ in range(600 if done else 30):
            pause.wait(0.05)
            held = app.queue.get(job.job_id)
            assert held is not None
            if ended := held.state is JobState.DONE:
                break
        assert ended is done


def test_several_jobs_at_once_in_one_process(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(4):
        (tmp_path / f"s{n}").mkdir()
        (tmp_path / f"s{n}/note.md").write_text(f"# Note {n}\n\nThe note of source {n} names crane {n}.\n")
        assert run(app, "ingest", str(tmp_path / f"s{n}"), "--detach", capsys=capsys)[0] == 0
    many = "1" if app.database.dialect == "postgresql" else "3"  # the tests' pool there is small
    code, out, _ = run(app, "worker", "--once", "--concurrency", many, "--json", capsys=capsys)
    assert code == 0
    turns = [json.loads(line) for line in out.splitlines()]
    assert Counter(turn["key"] for turn in turns if turn["kind"] == "sync") == {f"sync:s{n}": 1 for n in range(4)}


EVERY = "name: Test service\nsources:\n  - {name: docs, folder: documents, every: 1h}\n"


def test_a_source_with_every_is_asked_for_once_by_many(tmp_path: Path) -> None:
    with open_service(tmp_path, DOCUMENTS, settings=EVERY) as app:
        workers = [app.worker(["sync"]) for _ in range(6)]
        threads = [threading.Thread(target=worker.run, kwargs={"until_idle": True}) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        jobs = app.queue.recent()
        assert [(job.kind, job.requested_by, job.state) for job in jobs] == [("sync", "schedule", JobState.DONE)]
        app.worker().run(until_idle=True)
        assert len(app.queue.recent(kind="sync")) == 1  # an hour has not passed


@pytest.mark.parametrize(
    "every", ["10", "1w", "0s", "31d", "-5m", "1h30m", "99999999999s", "\N{ARABIC-INDIC DIGIT ONE}h"]
)
def test_a_wrong_every_is_refused_with_its_line(every: str, tmp_path: Path) -> None:
    (tmp_path / "mainstay.yaml").write_text(EVERY.replace("1h", f"'{every}'"), encoding="utf-8")
    with pytest.raises(Invalid, match="every") as refused:
        load(tmp_path, {})
    assert refused.value.where.endswith("mainstay.yaml:3")
