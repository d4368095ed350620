"""The audit log from end to end: what people do stands in it with who did it, and it is proved, sent, checked and explained."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import update
from starlette.testclient import TestClient

from mainstay.access.acl import Acl
from mainstay.access.keys import Permission
from mainstay.app import App
from mainstay.cli import main
from mainstay.corpus.ports import AccessRule
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.handover import State
from mainstay.records.audit import By, Filters, acting
from mainstay.records.audit.heads import Head, key_in, new_key
from mainstay.records.audit.settings import AuditSettings
from mainstay.records.decisions import DecisionRecord, visible_decision
from mainstay.records.explaining import explained
from mainstay.records.filters import ACTIONS
from mainstay.settings import load
from mainstay.storage.audit import SqlAudit
from mainstay.storage.schema import audit_event
from mainstay.types import Actor, Mode, Question
from mainstay.web.server import create_api
from mainstay.witness import read_heads
from tests.support.services import open_service, people, sync

FILES: dict[str, str | bytes] = {
    "hr/.access.yaml": "access: {allow: [group:hr], deny: [user:felix]}",
    "hr/leave.md": "# Leave\n\nA year has 28 days of leave for everybody in the harbour.\n",
    "open/.access.yaml": "access: public",
    "open/gate.md": "# The gate\n\nThe gate opens at seven o'clock on weekdays.\n",
}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with open_service(tmp_path / "service", FILES) as opened:
        yield opened


def actions(app: App, **filters: Any) -> list[str]:
    return [event.action for event in reversed(app.audit.list(Filters(**filters), limit=1000).events)]


def run(app: App, *args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(app.settings.folder), *args])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), out, err


# -- what is recorded --------------------------------------------------------------------------------------------------
def test_what_people_do_stands_in_the_log(app: App) -> None:
    by = By(principal="user:ann", request_id="req_1", why="a test")
    with acting(by):
        people(app, {"bob": ("hr",), "cleo": ()})
        app.people.set_password("bob", "a long enough pass phrase")
        app.people.set_admin("user:bob", True)
        app.people.remove_member("hr", "user:bob")
        key, _ = app.keyring.create("user:cleo", name="reader", expires=app.clock.now() + timedelta(days=1))
        app.keyring.revoke(key.key_id)
        app.keyring.revoke(key.key_id)
        app.people.delete("user:bob")
    assert actions(app) == [
        "user.added",
        "group.added",
        "member.added",
        "user.added",
        "user.password_set",
        "user.changed",
        "member.removed",
        "key.created",
        "key.revoked",
        "user.removed",
    ]
    events = {event.action: event for event in app.audit.list(Filters()).events}
    assert {event.actor for event in events.values()} == {"user:ann"}
    assert {event.why for event in events.values()} == {"a test"}
    assert events["member.added"].subject == "user:bob"
    assert events["member.added"].details == {"group": "group:hr", "source": "local"}
    assert events["user.changed"].details["changed"] == ["admin"]
    assert events["user.changed"].details["role"] == "admin"
    assert events["key.created"].details["principal"] == "user:cleo"
    assert events["user.removed"].details == {"memberships": 0, "keys": 0}
    assert app.audit.verify().right


def test_documents_and_their_access(app: App) -> None:
    sync(app)
    first = actions(app)
    assert sorted(first) == ["access.rule", "access.rule", "source.synced"]
    sync(app)
    assert actions(app) == first, "a run that changes nothing is no event"
    rules = {event.subject: event for event in app.audit.list(Filters(action="access.rule")).events}
    assert any(event.details == {"allow": ["group:hr"], "deny": ["user:felix"]} for event in rules.values())
    folder = app.settings.folder / "documents"
    (folder / "hr/.access.yaml").write_text("access: {allow: [group:hr, group:board]}")
    sync(app)
    changed = app.audit.list(Filters(action="access.rule")).events[0]
    assert changed.before == next(event.after for event in rules.values() if event.details["allow"] == ["group:hr"])
    (folder / "hr/leave.md").unlink()
    sync(app)
    deleted = app.audit.list(Filters(action="document.deleted")).events[0]
    assert deleted.details == {"path": "hr/leave.md", "source": "docs"}
    synced = app.audit.list(Filters(action="source.synced")).events[0]
    assert synced.details["removed"] == 1
    held = next(iter(app.documents.known("docs").values()))
    app.documents.set_access(held.doc_id, AccessRule(origin="own", acl=Acl(("user:ann",), ())), app.clock.now())
    access = app.audit.list(Filters(action="document.access")).events[0]
    assert (access.subject, access.details["allow"]) == (f"document:{held.doc_id}", ["user:ann"])
    assert app.audit.verify().right


def test_the_agreement_modes_and_hand_overs(app: App) -> None:
    app.agreements.seen("d1", "content")
    app.agreements.seen("d1", "content")
    app.agreements.seen("d2", "more")
    app.agreements.seen("d1", "content")
    app.agreements.approve("d1", "Ada Lovelace", "head of service", "read and found good")
    app.ladder.order(Mode.STATIC, by="ops", detail="a drill")
    app.ladder.order(None, by="ops")
    held = app.hand_over(Question(text="Who?"), Actor(principal="user:bob"), reason="asked for a person")
    app.close_handover(held.id, by="user:ann", note="done")
    assert app.handovers.set_state(held.id, State.CLOSED, detail="", at=app.clock.now(), only_from=(State.CLOSED,))
    assert actions(app) == [
        *["agreement.in_force"] * 3,
        "agreement.approved",
        *["mode.ordered"] * 2,
        "handover.closed",
    ]
    approved = app.audit.list(Filters(action="agreement.approved")).events[0]
    assert (approved.why, approved.details["name"]) == ("read and found good", "Ada Lovelace")
    ordered = app.audit.list(Filters(action="mode.ordered")).events[-1]
    assert (ordered.details["before"], ordered.details["after"], ordered.details["by"]) == ("full", "static", "ops")
    assert app.audit.list(Filters(action="handover.closed")).events[0].details == {"asked_by": "user:bob"}


def test_a_failing_audit_write_fails_the_action(app: App) -> None:
    app.people.add_user("bob")
    with app.database.write() as connection:  # the log's edge is damaged: nothing can be appended
        connection.exec_driver_sql("UPDATE audit_log SET peaks = 'zz'")
    with pytest.raises((Invalid, ValueError)):
        app.people.set_admin("user:bob", True)
    assert not app.people.get("user:bob").admin


# -- over HTTP ---------------------------------------------------------------------------------------------------------
def test_over_http(app: App) -> None:
    app.people.add_user("root", admin=True)
    app.people.add_user("vera")
    scopes = {"root": [Permission.ADMIN], "auditor": [Permission.AUDIT_READ], "reader": [Permission.ASK]}
    keys = {
        name: app.keyring.create("user:root" if name == "root" else f"service:{name}", name=name, scopes=held)[1]
        for name, held in scopes.items()
    }
    with TestClient(create_api(app)) as client:

        def get(path: str, who: str = "auditor") -> Any:
            return client.get(path, headers={"Authorization": f"Bearer {keys[who]}"})

        ordered = client.post(
            "/v1/mode",
            json={"mode": "static", "note": "a drill"},
            headers={"Authorization": f"Bearer {keys['root']}", "X-Request-Id": "req_order"},
        )
        assert ordered.status_code == 200, ordered.text
        event = get("/v1/audit?action=mode.").json()["events"][0]
        assert (event["actor"], event["details"]["detail"]) == ("user:root", "a drill")
        assert event["request_id"]
        assert get("/v1/audit", "reader").status_code == 403
        assert client.get("/v1/audit").status_code == 401
        app.auditing.look(now=True)
        head = get("/v1/audit/head").json()
        assert Head.read(head["head"]).valid()
        assert head["size"] == head["head"]["size"]
        page = get("/v1/audit?limit=2").json()
        assert len(page["events"]) == 2
        rest = get(f"/v1/audit?before={page['next']}").json()
        assert rest["events"][0]["n"] == page["next"] - 1
        assert rest["next"] is None
        proof = get(f"/v1/audit/{event['n']}/proof").json()
        assert proof["head"] == head["head"]
        assert get(f"/v1/audit/{event['n']}").json() == event
        for wrong, status in (
            ("/v1/audit/99999", 404),
            ("/v1/audit/-1", 404),
            ("/v1/audit/999999999999999999999999", 404),
            ("/v1/audit/99999/proof", 404),
            ("/v1/audit/0/proof?size=99999", 400),
            ("/v1/audit?since=tuesday", 400),
            ("/v1/audit?limit=0", 400),
            ("/v1/audit?action=bogus.", 400),
            ("/v1/audit?action=key", 400),
        ):
            assert get(wrong).status_code == status, wrong
        assert get("/v1/audit?action=decision").status_code == 200
        said = get("/v1/audit?action=key.creatd").json()["detail"]
        assert said == (
            "action: 'key.creatd' is not known here; did you mean 'key.created'? valid here: key.created, key.revoked, key."
        )


def test_every_action_is_known_and_in_the_manual() -> None:
    root = Path(__file__).parents[2]
    table = (root / "docs/howto/audit.md").read_text().partition("| what | actions |")[2].partition("\n\n")[0]
    written = {word for word in re.findall(r"`([a-z_.]+)`", table) if not word.endswith(".")}
    of_three = {f"{kind}.{what}" for kind in ("group", "service") for what in ("added", "changed", "removed")}
    assert set(ACTIONS) == written | of_three
    sources = "".join(file.read_text() for file in (root / "src/mainstay").rglob("*.py"))
    recorded = re.findall(r'(?:action=|_said\(|_silencing\()"([a-z_]+\.[a-z_]+)"', sources)
    assert len(recorded) > 10
    assert set(recorded) <= set(ACTIONS)


# -- heads and witnesses -----------------------------------------------------------------------------------------------
def test_the_key_is_made_once_for_its_owner_alone(app: App) -> None:
    app.people.add_user("bob")
    assert key_in(app.settings.data) is None
    head = app.auditing.look(now=True)
    assert head is not None
    assert head.valid()
    file = app.settings.data / "audit.key"
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    signed = app.auditing.rotate()
    assert signed.key == head.key
    assert file.read_bytes() != before
    app.people.add_user("cleo")
    later = app.auditing.look(now=True)
    assert later is not None
    assert later.key != head.key
    assert app.audit.verify([head, signed, later]).right
    file.write_text("no key")
    app.people.add_user("dora")
    with pytest.raises(Invalid, match="base64"):
        app.auditing.look(now=True)
    with pytest.raises(Invalid, match="base64"):
        AuditSettings(key="short")


def test_a_lost_key_is_told_and_the_log_goes_on(app: App) -> None:
    app.people.add_user("bob")
    app.auditing.look(now=True)
    (app.settings.data / "audit.key").unlink()
    app.people.add_user("cleo")
    head = app.auditing.look(now=True)
    assert head is not None
    report = app.audit.verify([head])
    assert report.right
    assert len(report.keys) == 2


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012 - one per test, emptied there
    answers: list[int] = []  # noqa: RUF012 - the same

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((dict(self.headers.items()), body))
        self.send_response(self.answers.pop(0) if self.answers else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


class Postbox:
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: object, session: object, envelope: Any
    ) -> str:
        self.messages.append(envelope.content.decode())
        return "250 taken"


def test_heads_leave_the_house(tmp_path: Path) -> None:
    Receiver.got, Receiver.answers = [], [503]
    web = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    box = Postbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mail = Controller(box, hostname="127.0.0.1", port=port)
    mail.start()
    witness = tmp_path / "outside" / "heads.jsonl"
    settings = f"""\
name: Witnessed
handover: {{secret: whsec_{"A" * 43}=}}
smtp: {{host: 127.0.0.1, port: {port}, sender: "Mainstay <mainstay@example.org>", tls: none}}
audit:
  every_events: 2
  witness: {{file: {witness}, webhook: "http://127.0.0.1:{web.server_port}/heads", email: [auditor@example.org]}}
"""
    try:
        with open_service(tmp_path / "service", settings=settings) as app:
            app.people.add_user("bob")
            first = app.auditing.look(now=True)
            assert first is not None
            assert app.auditing.witnesses.ways == ("file", "webhook", "email:auditor@example.org")
            sent = app.audit.sent()
            assert (sent["file"].size, sent["webhook"].size, sent["email:auditor@example.org"].size) == (2, 0, 2)
            assert "503" in sent["webhook"].trouble
            assert "503" in app.auditing.trouble
            assert not app.auditing.witnesses.send_due(), "it waits a little before it tries again"
            assert app.auditing.witnesses.send_due(now=True) == ["webhook"]
            app.people.add_user("cleo")
            app.people.add_user("dora")
            second = app.auditing.look(now=True)
            assert second is not None
            assert [json.loads(body)["data"] for _, body in Receiver.got] == [
                first.view(),
                first.view(),
                second.view(),
            ]
            headers = Receiver.got[-1][0]
            assert headers["webhook-id"] == f"{second.log}.{second.size}"
            assert headers["webhook-signature"].startswith("v1,")
            assert read_heads(witness) == [first, second]
            assert json.dumps(first.view(), sort_keys=True) in box.messages[0].replace("=\r\n", "").replace("=3D", "=")
            assert app.audit.verify(read_heads(witness)).right
            # A log that does not go on from what the witness holds is not written over it.
            lines = witness.read_bytes()
            forged = {**second.view(), "root": "ab" * 32}
            witness.write_text(json.dumps(forged) + "\n")
            app.people.add_user("emil")
            app.auditing.look(now=True)
            assert "does not go on" in app.audit.sent()["file"].trouble
            assert witness.read_text() == json.dumps(forged) + "\n"
            report = app.audit.verify(read_heads(witness))
            assert "signature is not right" in report.findings[0].what
            witness.write_bytes(lines)
            assert app.auditing.witnesses.send_due(now=True) == ["file"]
            assert app.auditing.trouble
            app.auditing.look(now=True)
            assert not app.auditing.trouble
            witness.write_text('{"type": "audit.head", "data": []}\n')
            with pytest.raises(Invalid, match="no signed head"):
                read_heads(witness)
    finally:
        web.shutdown()
        web.server_close()
        mail.stop()


def test_witnesses_that_can_not_be_reached_are_refused_in_the_settings(tmp_path: Path) -> None:
    for line, said in (
        ("audit: {witness: {webhook: 'https://example.org/x'}}", "handover.secret is missing"),
        ("audit: {witness: {webhook: 'ftp://example.org'}}", "audit.witness.webhook"),
        ("audit: {witness: {email: [a@example.org]}}", "smtp.host or smtp.sender is missing"),
        ("audit: {every_s: 0}", "must be at least 1"),
        ("audit: {key: SeCrEt}", "32 bytes in base64"),
    ):
        (tmp_path / "mainstay.yaml").write_text(f"name: X\n{line}\n")
        with pytest.raises(Invalid, match=said) as refused:
            load(tmp_path, {})
        assert "SeCrEt" not in str(refused.value)


def test_the_key_may_come_from_the_settings(tmp_path: Path) -> None:
    key = new_key()
    with open_service(tmp_path / "s", settings=f"name: X\naudit: {{key: '{key.written()}'}}\n") as app:
        app.people.add_user("bob")
        head = app.auditing.look(now=True)
        assert head is not None
        assert head.key == key.id
        assert not (app.settings.data / "audit.key").exists()
        assert key.written() not in repr(app.settings)
        with pytest.raises(Conflict, match="settings"):
            app.auditing.rotate()


def test_a_running_service_signs_by_itself(app: App) -> None:
    app.people.add_user("bob")
    stop = threading.Event()
    thread = threading.Thread(target=app.auditing.run, args=(stop,))
    thread.start()
    try:
        for _ in range(300):
            if app.audit.head() is not None:
                break
            stop.wait(0.1)
    finally:
        stop.set()
        thread.join()
    assert app.audit.head() is not None


# -- on the command line -----------------------------------------------------------------------------------------------
def test_the_commands(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "users", "add", "bob", capsys=capsys)[0] == 0
    assert run(app, "users", "add", "cleo", "--group", "hr", capsys=capsys)[0] == 0
    _, out, _ = run(app, "audit", "list", "--json", capsys=capsys)
    events = json.loads(out)["events"]
    assert [event["action"] for event in events] == ["member.added", "group.added", "user.added", "user.added"]
    assert events[0]["actor"].startswith("cli:")
    assert "user.added" in run(app, "audit", "list", "--action", "user.", capsys=capsys)[1]
    assert "user:cleo" in run(app, "audit", "show", "1", capsys=capsys)[1]
    assert run(app, "audit", "show", "77", capsys=capsys)[0] == 1
    code, _, err = run(app, "audit", "show", "x", capsys=capsys)
    assert (code, "'x' is not the number of an event" in err) == (2, True), err
    for rubbish in (
        ("proof", "x"),
        ("proof", "1.5"),
        ("proof", "9" * 30),
        ("list", "--before", "x"),
        ("list", "--before", "-1"),
        ("list", "--before", "٣"),
    ):
        code, _, err = run(app, "audit", *rubbish, capsys=capsys)
        assert (code, f"{rubbish[-1][:40]!a} is not the number of an event" in err) == (2, True), err
        assert "see: mainstay audit list" in err
    code, _, err = run(app, "audit", "proof", "1", "--size", "0", capsys=capsys)
    assert (code, "'0' is not how many events a tree can have" in err) == (2, True), err
    code, _, err = run(app, "audit", "proof", "77", capsys=capsys)
    assert (code, "no event 77" in err, "there are" in err) == (1, True, True), err
    code, _, err = run(app, "audit", "list", "--since", "tuesday", capsys=capsys)
    assert (code, "--since: 'tuesday' is no time" in err) == (2, True), err
    code, _, err = run(app, "audit", "list", "--action", "users.", capsys=capsys)
    assert (code, "--action" in err, "did you mean 'user.'?" in err) == (2, True, True), err
    assert "nothing signed yet" in run(app, "audit", "head", capsys=capsys)[1]
    assert "events signed at" in run(app, "audit", "head", "--sign", capsys=capsys)[1]
    assert "signed by ak_" in run(app, "audit", "proof", "1", capsys=capsys)[1]
    code, out, _ = run(app, "audit", "verify", capsys=capsys)
    assert (code, "everything is right" in out, "no witness" in out) == (0, True, True)
    head = app.audit.head()
    assert head is not None
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps(head.view()) + "\n")
    code, out, _ = run(app, "audit", "verify", "--witness", str(kept), capsys=capsys)
    assert (code, "1 of witnesses" in out) == (0, True)
    bundle = tmp_path / "audit.jsonl"
    code, out, _ = run(app, "audit", "export", str(bundle), "--why", "the yearly audit", capsys=capsys)
    assert (code, "events in" in out) == (0, True)
    assert bundle.stat().st_mode & 0o777 == 0o600
    assert app.audit.list(Filters(action="export.audit")).events[0].why == "the yearly audit"
    code, _, err = run(app, "audit", "export", str(bundle), "--why", "again", capsys=capsys)
    assert (code, "is there already" in err) == (1, True)
    verified = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "verify_audit.py"), str(bundle), "--witness", str(kept)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "everything is right" in verified.stdout
    _, out, _ = run(app, "audit", "proof", "1", "--json", capsys=capsys)
    (tmp_path / "proof.json").write_text(out)
    verified = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "verify_audit.py"), str(tmp_path / "proof.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0
    assert verified.stdout.startswith("right: the event is in the log that ")
    assert "nobody vouches" in verified.stdout
    code, out, _ = run(app, "audit", "hold", "cleo", "--why", "case 12", capsys=capsys)
    hold_id = out.split()[0]
    assert run(app, "audit", "erase", "cleo", "--why", "a wish", "--yes", capsys=capsys)[0] == 1
    for wrong, why, told in (
        ("cleo", "a wish", "a legal hold stands"),
        ("bob", " ", "needs a reason"),
        ("service:x", "x", "no person"),
    ):
        code, _, err = run(app, "audit", "erase", wrong, "--why", why, capsys=capsys)
        assert (code != 0, told in err, "for good" in err) == (True, True, False), err  # nobody is asked in vain
    assert hold_id in run(app, "audit", "holds", capsys=capsys)[1]
    assert run(app, "audit", "lift", hold_id, "--why", "closed", capsys=capsys)[0] == 0
    code, out, _ = run(app, "audit", "erase", "cleo", "--why", "a wish", "--yes", capsys=capsys)
    assert (code, "the key are gone" in out) == (0, True)
    assert run(app, "audit", "rotate-key", "--why", "a yearly change", capsys=capsys)[0] == 0
    assert run(app, "audit", "verify", "--witness", str(kept), capsys=capsys)[0] == 0
    with app.database.write() as connection:
        connection.execute(update(audit_event).where(audit_event.c.n == 1).values(action="nothing"))
    code, out, _ = run(app, "audit", "verify", "--json", capsys=capsys)
    assert (code, json.loads(out)["first_wrong"]) == (1, 1)
    assert "first at event 1" in run(app, "audit", "verify", capsys=capsys)[1]


def test_the_list_says_why_a_session_ended_and_how_often_one_was_refused(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    app.people.add_user("bob")
    for _ in range(3):
        app.sessions.begin("user:bob", "password")
    assert app.sessions.end_all("user:bob", "password") == 3
    for _ in range(400):
        app.refusals.failed("user:bob", "key")
    app.refusals.close()
    out = run(app, "audit", "list", "--action", "session.", capsys=capsys)[1]
    assert "because: password; 3 sessions; with: password" in out
    assert "tries: 400; with: key" in out


def test_a_person_who_is_forgotten_has_said_nothing(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.people.add_user("bob")
    app.people.add_user("cleo")
    answer = app.answer_as("When does the gate open?", "bob")
    other = app.answer_as("When does the gate open?", "cleo")
    app.outcomes.feedback(app.identity.actor_for("user:bob"), answer.id, up=False, comment="bob was here")
    app.outcomes.feedback(app.identity.actor_for("user:cleo"), other.id, up=True, comment="cleo was here")
    held = app.audit.hold("user:bob", "case 12")
    with pytest.raises(Conflict, match="legal hold"):
        app.forget("user:bob", "a wish")
    operator = Actor(principal="user:root", admin=True)
    assert app.outcomes.of(answer.id, operator, all_of=True)[0].comment == "bob was here"
    app.audit.lift(held.id, "closed")
    for wrong, why, error in (
        ("user:bob", " ", Invalid),
        ("service:crm", "x", NotFound),
        ("user:nobody", "x", NotFound),
    ):
        with pytest.raises(error):
            app.forget(wrong, why)
    code, out, err = run(app, "audit", "erase", "bob", "--why", "a wish", "--yes", capsys=capsys)
    assert (code, "1 outcome has lost its words and its name" in out) == (0, True), err
    erased = app.outcomes.of(answer.id, operator, all_of=True)[0]
    assert (erased.by, erased.comment, erased.value) == ("[taken back]", "", 0.0)
    assert app.outcomes.of(other.id, operator, all_of=True)[0].comment == "cleo was here"
    assert {"outcomes.erased", "audit.erased"} <= set(actions(app))
    assert app.audit.verify([]).right
    if app.database.dialect == "sqlite":
        kept = b"".join(file.read_bytes() for file in app.settings.data.glob("*.db*"))
        assert b"bob was here" not in kept
        assert b"cleo was here" in kept


# -- decisions ---------------------------------------------------------------------------------------------------------
def decided(app: App, question: str = "When does the gate open?", user: str = "bob") -> DecisionRecord:
    """The record that a real answer left."""
    answer = app.answer_as(question, user)
    held = app.decisions.get(answer.id)
    assert held is not None
    assert held.record is not None
    return held.record


def test_a_decision_is_explained_from_its_record(app: App, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sync(app)
    people(app, {"bob": ("hr",), "eve": ()})
    record = decided(app)
    assert record.passages
    assert any(one.used for one in record.passages)
    assert record.asked_by == "user:bob"
    assert record.permissions
    held = app.decisions.get(record.request_id)
    assert held is not None
    assert held.record == record
    assert "gate" not in json.dumps(record.view()).replace("seven", "").lower(), "no text of a question or a document"
    app.auditing.look(now=True)
    code, out, _ = run(app, "export", "decision", record.request_id, "--why", "a complaint", capsys=capsys)
    assert code == 0
    for said in (
        "By: user:bob",
        "The gate",
        "used in the answer",
        "event",
        "signed at",
        "$0.00",
    ):
        assert said in out, said
    entry = app.audit.list(Filters(action="export.decision")).events[0]
    assert (entry.why, entry.subject) == ("a complaint", f"request:{record.request_id}")
    target = tmp_path / "decision.json"
    assert run(app, "export", "decision", record.request_id, "--json", "--out", str(target), capsys=capsys)[0] == 0
    written = json.loads(target.read_text())
    assert DecisionRecord.read(written["record"]) == record
    assert written["proof"]["head"]
    assert run(app, "export", "decision", "req_unknown", capsys=capsys)[0] == 1
    with pytest.raises(NotFound):
        visible_decision(app.decisions, record.request_id, Actor(principal="user:eve"))
    own = visible_decision(app.decisions, record.request_id, Actor(principal="user:bob"))
    assert own.record is not None
    assert own.record.filtered is None
    assert "shown to operators alone" in explained(own, None)
    app.audit.erase("user:bob", "a wish")
    code, _, err = run(app, "export", "decision", record.request_id, capsys=capsys)
    assert (code, "erased or has expired" in err) == (1, True)


def test_a_decision_over_http(app: App) -> None:
    sync(app)
    people(app, {"bob": ("hr",), "eve": ()})
    record = decided(app)
    keys = {name: app.keyring.create(f"user:{name}", name="k")[1] for name in ("bob", "eve")}
    keys["auditor"] = app.keyring.create("service:a", name="a", scopes=[Permission.AUDIT_READ])[1]
    before = app.audit.size()
    with TestClient(create_api(app)) as client:

        def get(who: str, request_id: str = record.request_id) -> Any:
            return client.get(f"/v1/requests/{request_id}/decision", headers={"Authorization": f"Bearer {keys[who]}"})

        own = get("bob").json()
        assert own["record"]["filtered"] is None
        assert app.audit.size() == before, "one's own leaves no trace of being read"
        seen = get("auditor").json()
        assert seen["record"]["filtered"] == record.filtered
        assert seen["proof"]["n"] == seen["n"]
        assert app.audit.list(Filters(action="export.decision")).events[0].actor == "service:a"
        assert get("eve").status_code == 404
        told = [get("eve", name).json()["detail"].replace(name, "ID") for name in (record.request_id, "req_unknown")]
        assert told[0] == told[1]


def test_what_old_records_lack_and_new_ones_have_more(app: App) -> None:
    record = DecisionRecord(request_id="req_1", at=1, asked_by="user:bob")
    view = {**record.view(), "invented_later": 1}
    del view["door"]
    assert DecisionRecord.read(view) == record


# -- moving and keeping the service ------------------------------------------------------------------------------------
def test_a_backup_brings_the_log_back_and_the_witness_tells_what_is_missing(
    app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if app.database.dialect != "sqlite":
        pytest.skip("a backup of PostgreSQL needs its tools")
    app.people.add_user("bob")
    app.auditing.look(now=True)
    backup = tmp_path / "kept.mainstay-backup"
    assert run(app, "backup", str(backup), capsys=capsys)[0] == 0
    app.people.add_user("cleo")
    head = app.auditing.look(now=True)
    assert head is not None
    restored = tmp_path / "restored"
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(app.settings.folder), "restore", str(backup), "--into", str(restored)])
    assert stopped.value.code in (0, None)
    with open_service(restored) as back:
        assert back.audit.verify().right
        report = back.audit.verify([head])
        assert report.first_wrong == back.audit.size()
        assert "an older state brought back" in report.findings[0].what
        back.people.add_user("dora")
        assert back.auditing.look(now=True) is not None, "with a key of its own: the data folder is in no backup"
    shutil.rmtree(restored)


def test_the_log_moves_with_the_service(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app.people.add_user("bob")
    app.auditing.look(now=True)
    target = tmp_path / "other.db"
    code, _, err = run(app, "migrate", "--to", str(target), capsys=capsys)
    assert code == 0, err
    settings = app.settings.folder / "mainstay.yaml"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("database:")]
    moved = tmp_path / "moved"
    with open_service(moved, settings="\n".join(lines) + f"\ndatabase: {target}\n", dialect="sqlite") as there:
        assert SqlAudit(there.database, there.clock).verify().right
        assert there.audit.size() == app.audit.size()
