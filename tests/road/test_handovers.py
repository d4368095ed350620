"""A question that goes to a person, from end to end: kept, delivered by real servers on loopback, seen by whom it concerns."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from mainstay import delivery
from mainstay.access.keys import Permission
from mainstay.agreement.terms import HandOver as Rules
from mainstay.app import HANDOVER, App
from mainstay.cli import main
from mainstay.errors import Conflict, Invalid, NotFound, Unavailable
from mainstay.handover import HandOver, SigningSettings, SmtpSettings, State, hand_over
from mainstay.settings import load
from mainstay.storage.schema import handover, job
from mainstay.types import Actor, Citation, Question
from mainstay.web.server import create_api
from mainstay.workflows.ports import JobState
from mainstay.workflows.worker import Ended
from tests.support.services import open_service
from tests.support.tls import certificate

KEY = b"a signing key of the tests alone"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PASSWORD = "hunter2-not-a-secret"
TOKEN = "path-token-7f3a"
QUESTION = Question(
    text="Who may lift with crane 7?\r\nBcc: everybody@example.org",
    history=(("user", "Is the quay open?"), ("assistant", "Yes, until seven.")),
)
SOURCES = [
    Citation(n=1, document="doc_1", version="v2", title="Cranes", uri="cranes.md", quote="Crane 7", start=4, end=11),
    Citation(n=2, document="doc_2", version="v1", title="Quay", uri="quay.pdf", quote="Quay", start=0, end=4, page=3),
]
ALICE = Actor(principal="user:alice")


# -- a receiver, and a service that names it ---------------------------------------------------------------------------
@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A webhook's receiver: answers with the next of ``answers``, then with 204."""

    answers: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{TOKEN}?to=desk"

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "13")
                self.end_headers()
                self.wfile.write(b"said by them\n")
                receiver.arrived.set()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as listening:
        yield listening


@dataclass
class Service:
    """An open service without documents: the App, a client, and keys by name."""

    app: App
    folder: Path

    def __post_init__(self) -> None:
        self.client = TestClient(create_api(self.app))
        self.keys: dict[str, str] = {}

    def headers(self, who: str | None) -> dict[str, str]:
        if who is None:
            return {}
        if who not in self.keys:
            more: dict[str, Any] = {"scopes": _SCOPES[who]} if who in _SCOPES else {}
            kind = "service" if who == "portal" else "user"
            self.keys[who] = self.app.keyring.create(f"{kind}:{who}", name="test", **more)[1]
        return {"Authorization": f"Bearer {self.keys[who]}"}


_SCOPES = {
    "hugo": [str(held) for held in Permission if held is not Permission.ON_BEHALF_OF],
    "portal": ["ask", "on-behalf-of"],
    "olga": ["traces:read"],
}


def service_with(folder: Path, agreement: dict[str, Any], settings: str = "", governance: str = "") -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agreement.yaml").write_text(f"handover: {json.dumps(agreement)}\n{governance}", encoding="utf-8")
    wanted = f"name: Harbour Test\nidentity: {{anonymous: allow}}\nhandover: {{secret: {SECRET}}}\n{settings}"
    service = Service(open_service(folder, settings=wanted), folder)
    for name in ("alice", "bram", "olga", "hugo", "nora"):
        email = "nora@example.org" if name == "nora" else ""
        service.app.people.add_user(name, admin=name == "hugo", email=email)
    return service


@pytest.fixture
def desk(tmp_path: Path, receiver: Receiver) -> Iterator[Service]:
    built = service_with(tmp_path / "service", {"webhook": receiver.url})
    with built.app:
        yield built


def handed(app: App, actor: Actor = ALICE) -> HandOver:
    return app.hand_over(
        QUESTION,
        actor,
        reason="topic: cranes",
        sources=SOURCES,
        draft="Perhaps the foreman.",
        request_id="req_7",
        language="en",
    )


def now(app: App, held: HandOver) -> HandOver:
    found = app.handovers.get(held.id)
    assert found is not None
    return found


def attempt(app: App, held: HandOver) -> Ended:
    """The next attempt, without waiting until it is due."""
    worker = app.worker([HANDOVER])
    waiting = next(one for one in app.queue.recent(kind=HANDOVER) if one.payload["handover"] == held.id)
    taken = worker.take(waiting.job_id)
    assert taken is not None
    return worker.work(taken[0], asked_at=taken[1]).ended


def verified(call: Call) -> dict[str, Any]:
    """What a receiver does by the specification, in its own words."""
    signed = b".".join([call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.body])
    version, _, given = call.headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert base64.b64decode(given) == hmac.new(KEY, signed, hashlib.sha256).digest()
    document: dict[str, Any] = json.loads(call.body)
    return document


# -- webhook -----------------------------------------------------------------------------------------------------------
def test_a_question_reaches_a_person(desk: Service, receiver: Receiver) -> None:
    held = handed(desk.app, Actor(principal="user:nora"))
    assert held.state is State.WAITING
    desk.app.worker().run(until_idle=True)
    assert now(desk.app, held).state is State.DELIVERED
    (call,) = receiver.calls
    document = verified(call)
    assert call.headers["content-type"] == "application/json"
    assert call.headers["webhook-id"] == held.id
    assert abs(int(call.headers["webhook-timestamp"]) - held.at.timestamp()) < 3600
    assert document["type"] == "handover.created"
    data = document["data"]
    assert (data["id"], data["request_id"], data["principal"], data["contact"]) == (
        held.id,
        "req_7",
        "user:nora",
        "nora@example.org",
    )
    assert (data["question"], data["reason"], data["draft"]) == (QUESTION.text, held.reason, held.draft)
    assert data["history"][1] == {"role": "assistant", "content": "Yes, until seven."}
    assert {"document", "version", "title", "uri", "start", "end", "page"} == set(data["sources"][0])
    desk.app.worker().run(until_idle=True)
    assert len(receiver.calls) == 1
    (done,) = desk.app.queue.recent(kind=HANDOVER)
    assert (done.state, done.result, dict(done.payload)) == (JobState.DONE, {"ways": 1}, {"handover": held.id})


def test_a_receiver_that_is_not_well_is_asked_again(desk: Service, receiver: Receiver) -> None:
    answers = [500, 503, 302, 408, 409, 425, 429]
    receiver.answers = [*answers]
    held = handed(desk.app)
    for answer in answers:
        assert attempt(desk.app, held) is Ended.RETRY
        waits = now(desk.app, held)
        assert (waits.state, waits.sent) == (State.WAITING, ())
        assert f"the receiver answered {answer}" in waits.detail
    assert attempt(desk.app, held) is Ended.DONE
    assert (now(desk.app, held).state, now(desk.app, held).detail) == (State.DELIVERED, "")
    assert len({(call.headers["webhook-id"], call.body) for call in receiver.calls}) == 1, "to a receiver it is one"
    assert len(receiver.calls) == len(answers) + 1
    assert {call.path for call in receiver.calls} == {f"/{TOKEN}?to=desk"}, "redirects are not followed"


def test_a_receiver_that_is_away(desk: Service, receiver: Receiver, tmp_path: Path) -> None:
    away = Receiver()
    with away.listening():
        pass
    with service_with(tmp_path / "other", {"webhook": away.url}).app as app:
        held = handed(app)
        assert attempt(app, held) is Ended.RETRY
        assert now(app, held).state is State.WAITING
        with away.listening():
            assert attempt(app, held) is Ended.DONE
        assert len(away.calls) == 1


def test_what_of_a_receiver_is_final(desk: Service, receiver: Receiver) -> None:
    answers = [401, 404, 410, 413, 422]
    receiver.answers = [*answers]
    for answer in answers:
        with pytest.raises(Conflict, match=f"answered {answer}"):
            deliver(handed(desk.app), desk.app, Rules(webhook=receiver.url))


def test_a_receiver_that_says_no(desk: Service, receiver: Receiver) -> None:
    answer = 400
    receiver.answers = [answer]
    held = handed(desk.app)
    assert attempt(desk.app, held) is Ended.DEAD
    failed = now(desk.app, held)
    assert failed.state is State.FAILED
    assert f"the receiver answered {answer}" in failed.detail
    assert "said by them" not in failed.detail, "its words may hold the conversation"
    (dead,) = desk.app.queue.recent(state=JobState.DEAD)
    assert dead.error == failed.detail
    assert desk.app.health().checks["jobs"].startswith("1 dead")
    desk.app.worker().run(until_idle=True)
    assert len(receiver.calls) == 1, "looking around begins nothing anew that was given up on"
    assert desk.app.retry_handover(held.id, by="user:hugo").state is State.WAITING
    desk.app.worker().run(until_idle=True)
    assert now(desk.app, held).state is State.DELIVERED
    assert [one.state for one in desk.app.queue.recent(kind=HANDOVER)] == [JobState.DONE]


def test_a_dead_job_may_be_tried_again_as_any_other(desk: Service, receiver: Receiver) -> None:
    receiver.answers = [400, 500]
    held = handed(desk.app)
    assert attempt(desk.app, held) is Ended.DEAD
    (dead,) = desk.app.queue.recent(state=JobState.DEAD)
    desk.app.queue.retry(dead.job_id)
    assert attempt(desk.app, held) is Ended.RETRY
    assert now(desk.app, held).state is State.WAITING
    assert attempt(desk.app, held) is Ended.DONE


def test_the_last_attempt(desk: Service, receiver: Receiver) -> None:
    receiver.answers = [503]
    held = handed(desk.app)
    with desk.app.database.write() as connection:
        connection.execute(update(job).values(attempts=job.c.max_attempts - 1))
    assert attempt(desk.app, held) is Ended.DEAD
    assert now(desk.app, held).state is State.FAILED


def test_nothing_is_lost_between_keeping_and_asking(desk: Service, receiver: Receiver) -> None:
    """As when the process dies in between: a worker that looks around finds that no job is about it."""
    held = hand_over(desk.app.handovers, desk.app.clock, question=QUESTION, principal="user:alice", reason="r")
    assert desk.app.queue.recent(kind=HANDOVER) == []
    desk.app.worker().run(until_idle=True)
    assert now(desk.app, held).state is State.DELIVERED
    assert len(receiver.calls) == 1


def test_a_job_that_was_put_away(desk: Service, receiver: Receiver) -> None:
    held = handed(desk.app)
    (waiting,) = desk.app.queue.recent(kind=HANDOVER)
    desk.app.queue.cancel(waiting.job_id)
    desk.app.worker().run(until_idle=True)
    assert (now(desk.app, held).state, now(desk.app, held).detail) == (State.FAILED, "its job is cancelled")
    assert receiver.calls == []


def test_the_service_delivers_by_itself(desk: Service, receiver: Receiver) -> None:
    if desk.app.database.dialect != "sqlite":
        pytest.skip("there a worker does it")
    desk.app.start()
    held = handed(desk.app)
    assert receiver.arrived.wait(30)
    desk.app.close()
    with open_service(desk.folder) as app:
        assert now(app, held).state in (State.DELIVERED, State.WAITING)  # it may have been ended between the two
        assert len(receiver.calls) == 1


def test_what_a_link_local_or_public_address_gets(desk: Service) -> None:
    for url, why in (("http://169.254.169.254/latest", "never called"), ("http://8.8.8.8/", "in the clear")):
        with pytest.raises(Unavailable, match=why):
            deliver(handed(desk.app), desk.app, Rules(webhook=url))


def test_a_silent_receiver_holds_nobody_up(desk: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held = handed(desk.app)
        with pytest.raises(Unavailable, match="nothing was answered in time"):
            deliver(held, desk.app, Rules(webhook=f"http://127.0.0.1:{listening.getsockname()[1]}/"), answer_s=0.3)


def test_without_anybody_named_it_waits(tmp_path: Path, receiver: Receiver) -> None:
    with service_with(tmp_path / "service", {}).app as app:
        held = handed(app)
        app.worker().run(until_idle=True)
        assert app.queue.recent(kind=HANDOVER) == []
        assert now(app, held).state is State.WAITING
        with pytest.raises(Invalid, match="named"):
            app.retry_handover(held.id, by="x")
    (tmp_path / "service/agreement.yaml").write_text(f"handover: {{webhook: '{receiver.url}'}}")
    with open_service(tmp_path / "service") as app:
        app.worker().run(until_idle=True)
        assert now(app, held).state is State.DELIVERED


def test_it_is_kept_as_long_as_the_agreement_says(tmp_path: Path) -> None:
    built = service_with(tmp_path / "service", {}, governance="governance: {retention_days: 30}\n")
    with built.app as app:
        old, young = handed(app), handed(app)
        with app.database.write() as connection:
            back = int(timedelta(days=31).total_seconds() * 1_000_000)
            connection.execute(update(handover).where(handover.c.handover_id == old.id).values(at=handover.c.at - back))
        app.worker().run(until_idle=True)
        assert [one.id for one in app.handovers.list()] == [young.id]


# -- e-mail ------------------------------------------------------------------------------------------------------------
class Mailbox:
    """A mail server's handler: keeps what comes, refuses whom it is told to."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], bytes]] = []
        self.refuse: dict[str, str] = {}
        self.after_tls: list[bool] = []

    async def handle_RCPT(  # noqa: N802 - the name that the mail server calls
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - likewise
        self.letters.append((list(envelope.rcpt_tos), envelope.content))
        self.after_tls.append(session.ssl is not None)
        return "250 OK"

    def read(self) -> list[EmailMessage]:
        return [cast("EmailMessage", message_from_bytes(body, policy=policy.default)) for _, body in self.letters]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def mail_server(mailbox: Mailbox, **more: Any) -> Iterator[int]:
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **more)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with mail_server(box) as port:
        yield box, port


@pytest.fixture
def post(tmp_path: Path, mailbox: tuple[Mailbox, int], receiver: Receiver) -> Iterator[Service]:
    smtp = f"smtp: {{host: 127.0.0.1, port: {mailbox[1]}, sender: 'Harbour <mainstay@example.org>', tls: none}}\n"
    wanted = {"webhook": receiver.url, "email": ["olga@example.org", "desk@example.org"]}
    built = service_with(tmp_path / "service", wanted, smtp)
    with built.app:
        yield built


def deliver(held: HandOver, app: App, rules: Rules, smtp: SmtpSettings | None = None, **more: Any) -> list[str]:
    sender = delivery.Sender(
        name="Harbour Test\r\nBcc: x@example.org",
        rules=rules,
        signing=SigningSettings(secret=SECRET),
        smtp=smtp or SmtpSettings(),
        wire=app.wire,
        clock=app.clock,
        **more,
    )
    assert SECRET not in repr(sender)
    assert TOKEN not in repr(sender)
    return list(delivery.deliver(held, app.handovers, sender, contact="nobody at all\r\nBcc: y@example.org"))


def test_letters(post: Service, mailbox: tuple[Mailbox, int], receiver: Receiver) -> None:
    held = handed(post.app, Actor(principal="user:nora"))
    post.app.worker().run(until_idle=True)
    box = mailbox[0]
    assert [to for to, _ in box.letters] == [["olga@example.org"], ["desk@example.org"]]
    first = box.read()[0]
    assert first["From"] == "Harbour <mainstay@example.org>"
    assert (first["To"], first["Reply-To"]) == ("olga@example.org", "nora@example.org")
    assert first["Subject"] == f"[Harbour Test] A question for a person: {held.id}"
    assert first["Message-ID"] == f"<{held.id}@example.org>"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime.timestamp() == int(held.at.timestamp())
    assert first.get_content_type() == "text/plain"
    assert first["Bcc"] is None
    body = first.get_content().replace("\r\n", "\n")
    for said in ("Who may lift with crane 7?\nBcc: everybody@example.org", "Yes, until seven.", "Perhaps the", held.id):
        assert said in body
    assert held.sources[0].document in body
    assert now(post.app, held).sent == ("webhook", "email:olga@example.org", "email:desk@example.org")
    assert len(receiver.calls) == 1


def test_what_has_arrived_is_not_sent_again(post: Service, mailbox: tuple[Mailbox, int], receiver: Receiver) -> None:
    box = mailbox[0]
    box.refuse = {"desk@example.org": "451 later"}
    held = handed(post.app)
    assert attempt(post.app, held) is Ended.RETRY
    assert "(451)" in now(post.app, held).detail
    box.refuse = {"desk@example.org": "550 no such user here"}
    assert attempt(post.app, held) is Ended.DEAD
    failed = now(post.app, held)
    assert (failed.state, failed.sent) == (State.FAILED, ("webhook", "email:olga@example.org"))
    assert "email:desk@example.org: the mail server refused this address (550)" in failed.detail
    box.refuse = {}
    post.app.retry_handover(held.id, by="user:hugo")
    assert attempt(post.app, held) is Ended.DONE
    assert [to for to, _ in box.letters] == [["olga@example.org"], ["desk@example.org"]]
    assert len({letter["Message-ID"] for letter in box.read()}) == 1
    assert len(receiver.calls) == 1


def test_names_that_would_write_headers(desk: Service, mailbox: tuple[Mailbox, int]) -> None:
    smtp = SmtpSettings(host="127.0.0.1", port=mailbox[1], sender="mainstay@example.org", tls="none")
    assert deliver(handed(desk.app), desk.app, Rules(email=("olga@example.org",)), smtp) == ["email:olga@example.org"]
    (letter,) = mailbox[0].read()
    assert (letter["Bcc"], letter["Reply-To"]) == (None, None)
    assert letter["Subject"].startswith("[Harbour Test Bcc: x@example.org] ")
    for bad in ("olga@example.org\r\nBcc: z@example.org", "a@b, c@d", "Olga <olga@example.org>"):
        with pytest.raises(Invalid):
            deliver(handed(desk.app), desk.app, Rules(email=(bad,)), smtp)
    assert len(mailbox[0].letters) == 1


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_encrypted_and_logged_in(desk: Service, tmp_path: Path, tls: Any) -> None:
    theirs, public = certificate(tmp_path)
    seen: list[tuple[bytes, bytes]] = []

    def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        seen.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    box, rules = Mailbox(), Rules(email=("olga@example.org",))
    more: dict[str, Any] = {"authenticator": login, "auth_require_tls": tls == "starttls"}
    if tls == "starttls":
        more |= {"tls_context": theirs, "require_starttls": True, "auth_required": True}
    server = mail_server if tls == "starttls" else mail_server_over_tls(theirs)
    with server(box, **more) as port:
        smtp = SmtpSettings(
            host="127.0.0.1", port=port, user="mainstay", password=PASSWORD, sender="m@example.org", tls=tls
        )
        trusting = ssl.create_default_context(cafile=str(public))
        deliver(handed(desk.app), desk.app, rules, smtp, tls=trusting)
        assert seen == [(b"mainstay", PASSWORD.encode())]
        assert len(box.letters) == 1
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            deliver(handed(desk.app), desk.app, rules, smtp)
        wrong = SmtpSettings(
            host="127.0.0.1", port=port, user="mainstay", password="wrong", sender="m@example.org", tls=tls
        )
        with pytest.raises(Conflict, match="password") as caught:
            deliver(handed(desk.app), desk.app, rules, wrong, tls=trusting)
        assert "wrong" not in caught.value.line()
        assert len(box.letters) == 1


def mail_server_over_tls(theirs: ssl.SSLContext) -> Callable[..., Any]:
    return lambda box, **more: mail_server(box, ssl_context=theirs, **more)


def test_a_mail_server_that_does_not_encrypt(desk: Service, mailbox: tuple[Mailbox, int]) -> None:
    """Nobody in between gets a conversation by taking STARTTLS out of what the server says."""
    smtp = SmtpSettings(host="127.0.0.1", port=mailbox[1], sender="mainstay@example.org")
    with pytest.raises(Invalid, match="starttls"):
        deliver(handed(desk.app), desk.app, Rules(email=("olga@example.org",)), smtp)
    assert mailbox[0].letters == []


@pytest.mark.parametrize(("host", "why"), [("169.254.1.1", "never called"), ("8.8.8.8", "in the clear")])
def test_mail_servers_that_are_not_called(desk: Service, host: str, why: str) -> None:
    smtp = SmtpSettings(host=host, port=25, sender="mainstay@example.org", tls="none")
    with pytest.raises(Invalid, match=why):
        deliver(handed(desk.app), desk.app, Rules(email=("olga@example.org",)), smtp)


def test_a_mail_server_that_is_away_or_silent(desk: Service) -> None:
    rules = Rules(email=("olga@example.org",))
    smtp = SmtpSettings(host="127.0.0.1", port=free_port(), sender="mainstay@example.org", tls="none")
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        deliver(handed(desk.app), desk.app, rules, smtp)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = SmtpSettings(
            host="127.0.0.1", port=listening.getsockname()[1], sender="mainstay@example.org", tls="none"
        )
        with pytest.raises(Unavailable):
            deliver(handed(desk.app), desk.app, rules, silent, mail_s=0.3)


# -- who sees it -------------------------------------------------------------------------------------------------------
def test_who_sees_what_over_http(desk: Service) -> None:
    held = handed(desk.app)
    where = f"/v1/handovers/{held.id}"
    own = desk.client.get(where, headers=desk.headers("alice"))
    assert own.status_code == 200
    shown = own.json()
    assert (shown["id"], shown["state"], shown["question"]) == (held.id, "waiting", QUESTION.text)
    assert held.id in shown["promise"]
    assert "operator" not in shown
    assert "topic: cranes" not in own.text
    assert [
        one["id"] for one in desk.client.get("/v1/handovers", headers=desk.headers("alice")).json()["handovers"]
    ] == [held.id]
    strangers = [
        desk.client.get(path, headers=headers)
        for headers in (
            desk.headers("bram"),
            desk.headers("portal") | {"X-Mainstay-User": "bram"},
        )
        for path in (where, "/v1/handovers/ho_nothing")
    ]
    assert {said.status_code for said in strangers} == {404}
    assert len({re.sub("req_[0-9a-z]+", "", said.text) for said in strangers}) == 1
    assert desk.client.get("/v1/handovers", headers=desk.headers("bram")).json() == {"handovers": []}
    assert {desk.client.get(path).status_code for path in (where, "/v1/handovers")} == {401}
    asker = desk.headers("portal") | {"X-Mainstay-User": "alice"}
    assert desk.client.get(where, headers=asker).json() == shown
    inside = desk.client.get(where, headers=desk.headers("hugo")).json()["operator"]
    assert (inside["principal"], inside["reason"], inside["draft"]) == ("user:alice", held.reason, held.draft)
    assert inside["history"][0] == {"role": "user", "content": "Is the quay open?"}
    headers = desk.headers("olga")
    assert desk.client.get(where, headers=headers).json()["operator"] == inside
    assert desk.client.post(f"{where}/close", json={}, headers=headers).status_code == 403, "it reads, and no more"


def test_closing_over_http(desk: Service, receiver: Receiver) -> None:
    held = handed(desk.app)
    where = f"/v1/handovers/{held.id}/close"
    for who, status in ((None, 403), ("alice", 403), ("bram", 403)):
        assert desk.client.post(where, json={}, headers=desk.headers(who)).status_code == status
    hugo = desk.headers("hugo")
    for body in (b"", b"[]", b'{"note": 5}', b'{"note": "' + b"x" * 2001 + b'"}', b'{"by": "me"}'):
        headers = hugo | {"Content-Type": "application/json"}
        assert desk.client.post(where, content=body, headers=headers).status_code == 400, body
    closed = desk.client.post(where, json={"note": "called back"}, headers=hugo).json()
    assert (closed["state"], closed["promise"]) == ("closed", None)
    assert closed["operator"]["detail"] == "user:hugo: called back"
    assert desk.client.post(where, json={}, headers=hugo).status_code == 409
    assert desk.client.post("/v1/handovers/ho_nothing/close", json={}, headers=hugo).status_code == 404
    desk.app.worker().run(until_idle=True)
    assert receiver.calls == [], "what was closed is not delivered any more"
    assert now(desk.app, held).state is State.CLOSED
    assert desk.client.get("/v1/handovers?state=closed", headers=hugo).json()["handovers"] == [closed]
    for wrong in ("?state=lost", "?limit=0", "?limit=x"):
        assert desk.client.get(f"/v1/handovers{wrong}", headers=hugo).status_code == 400


def test_closing_what_failed_takes_its_dead_letter_along(desk: Service, receiver: Receiver) -> None:
    receiver.answers = [400]
    held = handed(desk.app)
    desk.app.worker().run(until_idle=True)
    assert desk.app.queue.standing().jobs[JobState.DEAD] == 1
    desk.app.close_handover(held.id, by="user:hugo")
    desk.app.worker().run(until_idle=True)
    assert desk.app.queue.standing().jobs[JobState.DEAD] == 0
    assert (now(desk.app, held).state, len(receiver.calls)) == (State.CLOSED, 1)
    with pytest.raises(Conflict):
        desk.app.retry_handover(held.id, by="user:hugo")
    with pytest.raises(NotFound):
        desk.app.retry_handover("ho_nothing", by="user:hugo")


def test_anonymous_askers_have_nothing_to_look_at(desk: Service) -> None:
    handed(desk.app, Actor(principal="anonymous"))
    assert desk.client.get("/v1/handovers").status_code == 401


# -- command line, secrets, settings -----------------------------------------------------------------------------------
def command(desk: Service, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["-C", str(desk.folder), "handovers", *args])
    said = capsys.readouterr()
    return int(str(ended.value.code or 0)), said.out + said.err


def test_the_command_line(desk: Service, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    receiver.answers = [404]
    held = handed(desk.app)
    desk.app.worker().run(until_idle=True)
    code, said = command(desk, capsys, "list", "--state", "failed")
    assert (code, held.id in said, "answered 404" in said) == (0, True, True)
    assert json.loads(command(desk, capsys, "list", "--state", "closed", "--json")[1]) == []
    code, said = command(desk, capsys, "show", held.id)
    assert code == 0
    for part in ("Who may lift", "user:alice", "topic: cranes", "Yes, until seven.", "Perhaps the foreman."):
        assert part in said
    assert json.loads(command(desk, capsys, "show", held.id, "--json")[1])["operator"]["reason"] == held.reason
    assert command(desk, capsys, "show", "ho_nothing")[0] == 1
    assert "waiting" in command(desk, capsys, "retry", held.id)[1]
    desk.app.worker().run(until_idle=True)
    assert "delivered" in command(desk, capsys, "show", held.id)[1]
    assert command(desk, capsys, "retry", held.id)[0] == 1
    assert "phoned" in command(desk, capsys, "close", held.id, "--note", "phoned")[1]
    assert command(desk, capsys, "close", held.id)[0] == 1


def test_secrets_are_told_to_nobody(
    post: Service, mailbox: tuple[Mailbox, int], receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [400, 503]
    mailbox[0].refuse = {"olga@example.org": "550 no", "desk@example.org": "451 later"}
    held, other = handed(post.app), handed(post.app)
    post.app.worker().run(until_idle=True)
    said = [*capfd.readouterr(), repr(post.app.settings.service), repr(held), repr(other)]
    with post.app.database.read() as connection:
        for table in (job, handover):
            said += [repr(row) for row in connection.execute(select(table))]
        assert connection.scalar(select(func.count()).select_from(job).where(job.c.error != "")) == 2
    said += [held.error for held in post.app.queue.recent()]
    for secret in (SECRET, base64.b64encode(KEY).decode(), TOKEN):
        assert not [text for text in said if secret in text]
    jobs = json.dumps(post.client.get("/v1/jobs", headers=post.headers("hugo")).json(), ensure_ascii=False)
    assert "crane 7" not in jobs, "jobs name the question by its id alone"


@pytest.mark.parametrize(
    ("agreement", "settings", "why"),
    [
        ({"webhook": "https://desk.example/x"}, "", "handover.secret is missing"),
        ({"webhook": "https://desk.example/x"}, "handover: {secret: short}", "no key of 24 to 64 bytes"),
        ({"webhook": "https://desk.example/x"}, f"handover: {SECRET}", "handover"),
        ({"webhook": f"https://me:{TOKEN}@desk.example"}, f"handover: {{secret: {SECRET}}}", "no address of http"),
        ({"email": ["olga@example.org"]}, "", "smtp.host or smtp.sender is missing"),
        ({"email": ["olga"]}, "smtp: {host: h, sender: a@b}", "not an e-mail address"),
        ({}, "smtp: {host: h, port: 99999}", "smtp.port"),
        ({}, "smtp: {host: h, tls: perhaps}", "smtp.tls"),
        ({}, f"smtp: {{host: h, password: [{PASSWORD}]}}", "smtp.password"),
    ],
)
def test_settings_that_can_not_work(tmp_path: Path, agreement: dict[str, Any], settings: str, why: str) -> None:
    (tmp_path / "mainstay.yaml").write_text(f"name: Test\n{settings}\n")
    (tmp_path / "agreement.yaml").write_text(f"handover: {json.dumps(agreement)}\n")
    with pytest.raises(Invalid, match=why) as caught:
        load(tmp_path, {})
    for secret in (SECRET, PASSWORD, TOKEN):
        assert secret not in caught.value.line()
