"""Alarm from end to end: objectives that burn, people who are told by real servers on loopback, and what they do about it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from starlette.testclient import TestClient

from mainstay.agreement.burning import Severity
from mainstay.app import ALERT, App
from mainstay.cli import main
from mainstay.clock import FixedClock
from mainstay.errors import Invalid, NotFound
from mainstay.records.alerts import LOOK_EVERY, Alert
from mainstay.records.audit import Filters
from mainstay.records.measures import Measured
from mainstay.settings import load
from mainstay.web.server import create_api
from mainstay.workflows.ports import JobState
from tests.support.services import open_service

KEY = b"a signing key of the tests alone"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
AGREEMENT = """
objectives:
  - {name: up, measure: availability, target: 0.99, window: 30d, blocks_promotion: true}
  - {name: fast, measure: latency_p95_ms, target: 8000, window: 30d}
  - {name: founded, measure: groundedness, target: 0.9, window: 30d}
"""
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


# -- who listens -------------------------------------------------------------------------------------------------------
@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server that answers with the next of ``answers``, then with 200; what it got stands in ``calls``."""

    answers: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.checked(self.path, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def checked(self, path: str, body: bytes) -> int:
        return self.answers.pop(0) if self.answers else 200


class Alertmanager(Receiver):
    """Takes what ``postAlerts`` of Alertmanager's API v2 takes, and refuses the rest with 400, as it does."""

    def checked(self, path: str, body: bytes) -> int:
        if self.answers:
            return self.answers.pop(0)
        try:
            assert path == "/prefix/api/v2/alerts"
            alerts = json.loads(body)
            assert isinstance(alerts, list)
            for one in alerts:
                assert set(one) <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
                assert one["labels"]["alertname"]
                for name, value in {**one["labels"], **one.get("annotations", {})}.items():
                    assert name.isidentifier()
                    assert isinstance(value, str)
                    assert value
                for name in ("startsAt", "endsAt"):
                    assert datetime.fromisoformat(one[name]).tzinfo is not None
        except (AssertionError, ValueError, KeyError, TypeError):
            return 400
        return 200


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as listening:
        yield listening


@pytest.fixture
def manager() -> Iterator[Receiver]:
    with Alertmanager().listening() as listening:
        yield listening


class Post:
    """A mailbox behind a real mail server."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - what the server calls
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    held = Post()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    controller = Controller(held, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield held, port
    finally:
        controller.stop()


# -- a service ---------------------------------------------------------------------------------------------------------
@dataclass
class Service:
    app: App
    clock: FixedClock
    folder: Path
    number: int = 0

    def requests(self, count: int, *, failed: int = 0, ms: float = 100.0, grounded: float | None = None) -> None:
        """So many in the last minute, the first of them failed."""
        rows = []
        for n in range(count):
            self.number += 1
            rows.append(
                Measured(
                    request_id=f"req_{self.number}",
                    at=self.clock.now() - timedelta(seconds=50 * n / count),
                    principal="user:alice",
                    status="failed" if n < failed else "answered",
                    failed=n < failed,
                    total_ms=ms,
                    grounded=grounded,
                )
            )
        self.app.measures.keep_all(rows)

    def look(self, after: timedelta = LOOK_EVERY) -> None:
        """The next look, and everything that leaves because of it."""
        self.clock.advance(after)
        assert self.app.alarming.alerts.look()
        self.work()

    def work(self) -> None:
        worker = self.app.worker([ALERT])
        while worker.run_next() is not None:
            pass

    @property
    def alerts(self) -> list[Alert]:
        return [alert for alert, _ in self.app.alarming.alerts.standing()]


def service_with(folder: Path, settings: str) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
    clock = FixedClock(START)
    wanted = f"name: Harbour Test\nhandover: {{secret: {SECRET}}}\n{settings}"
    return Service(open_service(folder, settings=wanted, clock=clock), clock, folder)


@pytest.fixture
def service(tmp_path: Path, receiver: Receiver) -> Iterator[Service]:
    built = service_with(
        tmp_path / "service",
        f"alerts: {{webhook: 'http://127.0.0.1:{receiver.port}/hook?t=1', group_wait: 60s, repeat: 1h}}\n",
    )
    with built.app:
        yield built


def told(call: Call) -> dict[str, Any]:
    """What a receiver does by Standard Webhooks, in its own words."""
    signed = b".".join([call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.body])
    version, _, given = call.headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert base64.b64decode(given) == hmac.new(KEY, signed, hashlib.sha256).digest()
    document: dict[str, Any] = json.loads(call.body)
    return document


# -- opening, telling, ending ------------------------------------------------------------------------------------------
def test_an_outage_opens_one_alert_and_tells_once(service: Service, receiver: Receiver) -> None:
    service.look()
    assert service.alerts == []
    service.requests(60, failed=30)
    service.look()
    opened = service.alerts
    assert {(one.objective, one.severity) for one in opened} >= {("up", Severity.PAGE)}
    assert receiver.calls == [], "what fires together is told together: the first waits for the others"
    service.requests(30, failed=15)
    service.look(timedelta(seconds=61))
    assert len(receiver.calls) == 1
    said = told(receiver.calls[0])
    assert said["type"] == "alerts.firing"
    assert {one["objective"] for one in said["data"]["alerts"]} == {"up"}
    page = next(one for one in said["data"]["alerts"] if one["severity"] == "page")
    assert page["burns"][0]["long_burn"] > 14.4
    assert "times as fast as permitted" in page["summary"]
    service.requests(30, failed=15)
    service.look()
    assert len(receiver.calls) == 1, "not again before it is time"
    assert len([one for one in service.alerts if one.severity is Severity.PAGE]) == 1


def test_repeated_until_taken_and_told_when_over(service: Service, receiver: Receiver) -> None:
    service.requests(60, failed=40)
    service.look()
    service.requests(60, failed=40)
    service.look(timedelta(minutes=2))
    assert len(receiver.calls) == 1
    service.requests(60, failed=40)
    service.look(timedelta(minutes=61))
    assert [told(call)["type"] for call in receiver.calls] == ["alerts.firing"] * 2
    assert receiver.calls[0].headers["webhook-id"] != receiver.calls[1].headers["webhook-id"]
    for one in service.alerts:
        service.app.alarming.alerts.acknowledge(one.id, by="user:olga", note="the crane is down\nBcc: x")
    service.requests(60, failed=40)
    service.look(timedelta(minutes=61))
    assert len(receiver.calls) == 2, "somebody has it in hand"
    for _ in range(80):  # hours without a failure
        service.requests(40)
        service.look(timedelta(minutes=10))
    page = next(one for one in service.alerts if one.severity is Severity.PAGE)
    assert not page.open
    over = [told(call) for call in receiver.calls[2:]]
    assert {one["type"] for one in over} == {"alerts.resolved"}
    assert page.id in {one["id"] for said in over for one in said["data"]["alerts"]}


def test_it_does_not_flap(service: Service) -> None:
    service.requests(60, failed=40)
    service.look()
    first = {one.id for one in service.alerts if one.severity is Severity.PAGE}
    assert len(first) == 1
    for _ in range(6):  # good and bad minutes in turn
        service.requests(200)
        service.look()
        service.requests(60, failed=30)
        service.look()
    assert {one.id for one in service.alerts if one.severity is Severity.PAGE} == first


def test_what_is_judged_writes_tickets_alone(service: Service) -> None:
    for _ in range(5):
        service.requests(40, grounded=0.2)
        service.look(timedelta(minutes=11))
    assert {(one.objective, one.severity) for one in service.alerts} == {("founded", Severity.TICKET)}


def test_a_clause_that_is_no_longer_promised_alarms_nobody(tmp_path: Path) -> None:
    with service_with(tmp_path / "one", "").app as app:
        service = Service(app, app.clock, tmp_path)  # type: ignore[arg-type]  # it was given that one
        service.requests(60, failed=40)
        service.look()
        assert any(one.open for one in service.alerts)
    (tmp_path / "one" / "agreement.yaml").write_text("objectives: []\n", encoding="utf-8")
    again = open_service(tmp_path / "one", clock=FixedClock(START + timedelta(hours=1)))
    with again:
        assert again.alarming.alerts.look()
        assert not any(alert.open for alert, _ in again.alarming.alerts.standing())


def test_only_one_of_many_processes_looks(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    with service_with(folder, "").app, service_with(folder, "").app as other:
        first = other.alarming.alerts
        assert [first.look() for _ in range(3)] == [True, False, False]
        again = open_service(folder, clock=FixedClock(START))
        with again:
            assert not again.alarming.alerts.look()
            assert again.alarming.alerts.look(force=True)


# -- silence -----------------------------------------------------------------------------------------------------------
def test_a_silence_keeps_messages_back_and_nothing_else(service: Service, receiver: Receiver) -> None:
    alerts = service.app.alarming.alerts
    alerts.silence(by="user:olga", length_s=1800, objective="fast")
    held = alerts.silence(by="user:olga", length_s=7200, objective="up", note="moving house")
    service.requests(60, failed=40)
    service.look()
    service.requests(60, failed=40)
    service.look(timedelta(minutes=5))
    assert any(one.open for one in service.alerts)
    assert receiver.calls == []
    alerts.unsilence(held.id, by="user:olga")
    service.requests(60, failed=40)
    service.look()
    assert len(receiver.calls) == 1
    with pytest.raises(NotFound):
        alerts.unsilence(held.id, by="user:olga")
    for wrong in ({"objective": "upp"}, {"severity": "nightmare"}, {"length_s": 0}, {"length_s": 91 * 86_400}):
        with pytest.raises(Invalid):
            alerts.silence(**{"by": "user:olga", "length_s": 60, **wrong})  # type: ignore[arg-type]  # as above


def test_what_people_do_is_in_the_audit_log(service: Service) -> None:
    alerts = service.app.alarming.alerts
    service.requests(60, failed=40)
    service.look()
    page = next(one for one in service.alerts if one.severity is Severity.PAGE)
    alerts.acknowledge(page.id, by="user:olga", note="on it")
    alerts.unsilence(alerts.silence(by="user:olga", length_s=60).id, by="user:hugo")
    found = service.app.audit.list(Filters(action="alert."))
    said = [(event.action, event.actor) for event in found.events]
    assert ("alert.acknowledged", "user:olga") in said
    assert ("alert.silenced", "user:olga") in said
    assert ("alert.unsilenced", "user:hugo") in said
    assert "alert.opened" in {action for action, _ in said}


# -- other ways --------------------------------------------------------------------------------------------------------
def test_mail_says_what_and_how_to_take_it(tmp_path: Path, post: tuple[Post, int]) -> None:
    box, port = post
    settings = f"""
alerts: {{email: [olga@example.org, night@example.org], group_wait: 1s}}
smtp: {{host: 127.0.0.1, port: {port}, tls: none, sender: Harbour <mainstay@example.org>}}
"""
    built = service_with(tmp_path / "service", settings)
    with built.app:
        built.requests(60, failed=40)
        built.look()
        built.look()
    assert sorted(str(one["To"]) for one in box.messages) == ["night@example.org", "olga@example.org"]
    message = box.messages[0]
    assert "firing: up (page)" in message["Subject"]
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content()
    assert "mainstay alerts ack alr_" in text
    assert "docs/howto/alerts.md" in text


def test_an_alert_manager_is_told_again_and_again(tmp_path: Path, manager: Receiver) -> None:
    built = service_with(
        tmp_path / "service", f"alerts: {{alertmanager: 'http://127.0.0.1:{manager.port}/prefix/', group_wait: 1s}}\n"
    )
    with built.app:
        built.look()
        assert manager.calls == [], "nothing to tell"
        built.requests(60, failed=40)
        built.look()
        built.requests(60, failed=40)
        built.look()
        assert len(manager.calls) == 2
        first, second = (json.loads(call.body) for call in manager.calls)
        page = next(one for one in first if one["labels"]["severity"] == "page")
        assert page["labels"]["objective"] == "up"
        assert page["labels"]["service"] == "Harbour Test"
        again = next(one for one in second if one["labels"] == page["labels"])
        assert again["startsAt"] == page["startsAt"]
        assert datetime.fromisoformat(again["endsAt"]) > datetime.fromisoformat(page["endsAt"])
        assert datetime.fromisoformat(again["endsAt"]) > built.clock.now(), "should we fall silent it ends by itself"
        assert all(job.state is JobState.DONE for job in built.app.queue.recent(kind=ALERT))
        built.app.alarming.store.looked(
            Alert(
                **{
                    **vars(next(one for one in built.alerts if one.severity is Severity.PAGE)),
                    "resolved": built.clock.now(),
                }
            )
        )
        built.look()
        ended = [one for one in json.loads(manager.calls[-1].body) if one["labels"] == page["labels"]]
        assert not ended or datetime.fromisoformat(ended[0]["endsAt"]) <= built.clock.now()


def test_a_receiver_that_is_down_is_tried_again(service: Service, receiver: Receiver) -> None:
    receiver.answers = [503, 200]
    service.requests(60, failed=40)
    service.look()
    service.requests(60, failed=40)
    service.look(timedelta(minutes=2))
    assert len(receiver.calls) == 1
    worker = service.app.worker([ALERT])
    waiting = next(job for job in service.app.queue.recent(kind=ALERT) if job.state is JobState.READY)
    taken = worker.take(waiting.job_id)
    assert taken is not None
    worker.work(taken[0], asked_at=taken[1])
    assert len(receiver.calls) == 2
    assert receiver.calls[0].headers["webhook-id"] == receiver.calls[1].headers["webhook-id"]
    assert receiver.calls[0].body == receiver.calls[1].body


# -- doors -------------------------------------------------------------------------------------------------------------
def test_over_http(service: Service) -> None:
    app = service.app
    for name in ("olga", "alice"):
        app.people.add_user(name)
    client = TestClient(create_api(app))
    olga = app.keyring.create("user:olga", name="t", scopes=["traces:read", "operate"])[1]
    alice = app.keyring.create("user:alice", name="t")[1]
    mine = {"Authorization": f"Bearer {olga}"}
    service.requests(60, failed=40)
    service.look()
    said = client.get("/v1/alerts", headers=mine)
    assert said.status_code == 200, said.text
    page = next(one for one in said.json()["alerts"] if one["severity"] == "page")
    assert (page["state"], page["silenced_until"]) == ("firing", None)
    taken = client.post(f"/v1/alerts/{page['id']}/ack", json={"note": "on it"}, headers=mine)
    assert taken.json()["acknowledged_by"] == "user:olga"
    quiet = client.post("/v1/silences", json={"for": "2h", "objective": "up"}, headers=mine)
    assert quiet.status_code == 201
    shown = client.get("/v1/alerts", headers=mine).json()
    assert shown["alerts"][0]["silenced_until"] == quiet.json()["until"] == shown["silences"][0]["until"]
    assert client.delete(f"/v1/silences/{quiet.json()['id']}", headers=mine).status_code == 200
    assert client.delete(f"/v1/silences/{quiet.json()['id']}", headers=mine).status_code == 404
    assert client.post("/v1/alerts/alr_no/ack", json={}, headers=mine).status_code == 404
    assert client.post("/v1/silences", json={"for": "soon"}, headers=mine).status_code == 400
    assert client.post("/v1/alerts/test", headers=mine).json()["ways"] == ["webhook"]
    for method, path in (("get", "/v1/alerts"), ("post", f"/v1/alerts/{page['id']}/ack"), ("post", "/v1/silences")):
        refused = client.request(method, path, headers={"Authorization": f"Bearer {alice}"})
        assert refused.status_code == 403


def run(service: Service, *args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["-C", str(service.folder), *args])
    return int(ended.value.code or 0)


def test_on_the_command_line(tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    built = service_with(
        tmp_path / "service", f"alerts: {{webhook: 'http://127.0.0.1:{receiver.port}/hook', group_wait: 1s}}\n"
    )
    with built.app:
        assert run(built, "alerts", "list") == 0
        assert "no alerts" in capsys.readouterr().out
        assert run(built, "alerts", "test") == 0
        assert "webhook: sent" in capsys.readouterr().out
        assert told(receiver.calls[0])["type"] == "alerts.test"
        assert run(built, "agreement", "gate") == 0
        capsys.readouterr()
        built.requests(60, failed=40)
        built.look()
        page = next(one for one in built.alerts if one.severity is Severity.PAGE)
        # The command's own clock is the machine's: to it the alert is old and open.
        assert run(built, "alerts", "list", "--json") == 1
        assert page.id in {one["id"] for one in json.loads(capsys.readouterr().out)["alerts"]}
        assert run(built, "alerts", "ack", page.id, "--as", "olga", "--note", "on it") == 0
        assert run(built, "alerts", "silence", "--for", "1h", "--objective", "up", "--as", "olga", "--json") == 0
        out = capsys.readouterr().out
        made = json.loads(out[out.index("{") :])
        assert run(built, "alerts", "list") == 1
        assert "taken by olga: on it" in capsys.readouterr().out
        assert run(built, "alerts", "unsilence", made["id"], "--as", "olga") == 0
        receiver.answers = [400]
        assert run(built, "alerts", "test") == 1


def test_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
    app = open_service(tmp_path / "s")
    with app:
        service = Service(app, FixedClock(app.clock.now()), tmp_path / "s")
        service.requests(60, failed=40)
        assert run(service, "agreement", "gate") == 1
        assert "up: its error budget is spent: 40 of 60 were bad" in capsys.readouterr().out
        assert run(service, "agreement", "gate", "--json") == 1
        assert json.loads(capsys.readouterr().out)["blocked"][0]["objective"] == "up"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("alerts: {webhook: 'https://hooks.example/x'}", "handover.secret is missing"),
        ("alerts: {email: [olga@example.org]}", "smtp.host or smtp.sender is missing"),
        ("alerts: {alertmanager: 'alertmanager:9093'}", "alerts.alertmanager is no address"),
        ("alerts: {repeat: 1m}", "at least 5m"),
        ("alerts: {group_wait: 2h}", "at most 1h"),
        ("alerts: {repeat: 300}", "300s"),
        ("alerts: {emial: [x@y]}", "did you mean 'email'"),
    ],
)
def test_mistakes_in_the_settings_are_told(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "mainstay.yaml").write_text(f"name: X\n{settings}\n", encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        load(tmp_path, {})
    assert said in caught.value.line()
