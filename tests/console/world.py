"""A service with something on every screen: traffic, money, an incident, people, and hostile text in whatever others write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from mainstay.access.keys import Permission
from mainstay.agreement.burning import Severity
from mainstay.app import App, open_app
from mainstay.errors import MainstayError
from mainstay.records.alerts import Alert, Burn
from mainstay.records.decisions import DecisionRecord, Retrieved
from mainstay.records.spans import ImportedSpan
from mainstay.resilience.ports import ModeEvent
from mainstay.storage.audit import put_decisions
from mainstay.types import Mode, Question
from tests.support import upstream as up
from tests.support.databases import database_line

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = '<img src="http://198.51.100.7/leak.png" onerror="document.title=\'owned\'">'
LINK = "[click](javascript:alert(1)) http://198.51.100.7/?q=secret"
HOSTILE = f"{SCRIPT} {IMAGE} {LINK}"
PASSWORD = "correct horse battery"
USERS = {"ada": "admin", "olga": "operator", "audrey": "auditor", "alice": "asker", "bram": "asker", "vic": "viewer"}
MANY = 1200
TRACE = "0af7651916cd43dd8448eb211c80319c"
SETTINGS = """\
name: Harbour Console
sources: [{{name: files, folder: documents}}]
models:
  answer: [small]
  providers:
    small: {{base_url: "{url}", model: s, price: {{input: "0.5", output: "2"}}}}
records: {{content: all}}
"""
AGREEMENT = """\
traffic: {user_per_minute: 0}
objectives:
  - {name: quick, measure: latency_p95_ms, target: 8000, window: 7d}
  - {name: there, measure: availability, target: 0.99, window: 28d}
  - {name: cheap, measure: cost_per_request_usd, target: 0.005, window: 1d}
budgets:
  - {of: service, per: month, usd: "10"}
  - {of: user, per: day, usd: "0.5"}
"""
DOCUMENTS = {
    ".access.yaml": "access: [group:staff]",
    "gate.md": "# Gate\n\nThe gate in Rotterdam opens at seven. The gate in Rotterdam closes at nine.\n",
    "helmet.md": f"---\ntitle: 'Helmets {SCRIPT.replace(chr(39), chr(34))}'\n---\n# Helmets\n\n"
    f"Every visitor in Rotterdam wears a yellow helmet {HOSTILE} on the quay.\n",
    f"{SCRIPT.replace('/', '%')}.md": "# Cranes\n\nThe crane in Rotterdam lifts forty tonnes.\n",
    "board/.access.yaml": "access: [group:board]",
    "board/plan.md": "# Plan of the board\n\nThe board of Rotterdam buys Vinterhavn for 24 million euros.\n",
    "broken.pdf": "%PDF-1.7\nand then nothing",
}
GATE = "When does the gate in Rotterdam open?"
HELMET = f"Who wears a yellow helmet in Rotterdam {SCRIPT}?"


@dataclass
class World:
    """An open service, and ids of what it holds."""

    app: App
    keys: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)  # request ids by who asked what
    documents: dict[str, str] = field(default_factory=dict)  # ids by path
    alert: str = ""

    def ask(self, question: str, who: str) -> str:
        actor = self.app.identity.actor_for(f"user:{who}")
        return self.app.answering.answer(Question(text=question), actor, door="page").id

    def screens(self) -> dict[str, str]:
        """The address of every screen by a name for it, as an administrator sees them."""
        gate, helmet = self.asked["alice gate"], self.asked["alice helmet"]
        doc = self.documents["helmet.md"]
        return {
            "home": "/",
            "ask": "/ask",
            "requests": "/requests",
            "requests-dearest": "/requests?order=cost",
            "requests-wrong": "/requests?cost=much&since=never",
            "request": f"/requests/{gate}",
            "request-hostile": f"/requests/{helmet}",
            "request-long": f"/requests/{TRACE}",
            "decision": f"/requests/{gate}/decision",
            "step": f"/requests/{gate}/steps/{self.span(gate, 'retrieve')}",
            "objectives": "/objectives",
            "alerts": "/alerts",
            "money": "/money",
            "money-by-user": "/money?by=user&days=7",
            "documents": "/documents",
            "documents-findings": "/documents?findings=yes",
            "document": f"/documents/{doc}",
            "document-access": f"/documents/{doc}/access?user=alice",
            "access": "/access",
            "audit": "/audit",
            "audit-event": "/audit/1",
            "handovers": "/handovers",
            "jobs": "/jobs",
            "settings": "/settings",
            "missing": "/requests/nothing-here",
        }

    def span(self, request_id: str, kind: str) -> str:
        trace = self.app.traces.get(request_id)
        assert trace is not None
        return next(span.span_id for span in trace.whole if span.kind == kind)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Built from nothing; what the model writes is as hostile as what the documents say."""
    with up.Upstream(always=up.answering(_writes)) as server:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mainstay.yaml").write_text(SETTINGS.format(url=server.base_url) + database_line(), encoding="utf-8")
        (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
        for name, text in DOCUMENTS.items():
            file = folder / "documents" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        with open_app(folder) as app:
            made = World(app=app)
            _people(made)
            app.synchronise(app.source("files"))
            app.embed_waiting()
            scope = app.gate.scope(app.identity.actor_for("user:ada"))
            made.documents = {held.path: held.doc_id for held in app.documents.records(scope=scope)}
            _traffic(made)
            _trouble(made)
            yield made


def _writes(messages: up.Messages) -> str:
    return f"{up.cites(messages)} {HOSTILE} [1]"


def _people(made: World) -> None:
    app = made.app
    for group in ("staff", "board"):
        app.people.add_group(group)
    for name, role in USERS.items():
        display = f"Alice {SCRIPT}" if name == "alice" else name.title()
        app.people.add_user(name, display=display, role=role, password=PASSWORD)
    for name in ("alice", "bram", "olga", "audrey", "vic"):
        app.people.add_member("staff", f"user:{name}")
    app.people.add_member("board", "user:bram")
    for name in USERS:
        wanted = [str(Permission.ASK), str(Permission.DOCUMENTS_READ)]
        made.keys[name] = app.keyring.create(f"user:{name}", name=f"test {SCRIPT}"[:90], scopes=wanted)[1]


def _traffic(made: World) -> None:
    app = made.app
    made.asked["alice gate"] = made.ask(GATE, "alice")
    made.asked["alice helmet"] = made.ask(HELMET, "alice")
    made.asked["bram plan"] = made.ask("What does the board of Rotterdam buy?", "bram")
    app.traces.settle()
    _decided(made, made.asked["alice gate"])
    app.outcomes.feedback(
        app.identity.actor_for("user:alice"), made.asked["alice helmet"], up=False, comment=f"wrong {HOSTILE}"
    )
    app.hand_over(
        Question(text=f"Who decides about helmets? {HOSTILE}"),
        app.identity.actor_for("user:alice"),
        reason="the asker wished it",
        request_id=made.asked["alice gate"],
    )
    app.ask_for_sync("files", requested_by="user:ada")
    start = app.clock.now() - timedelta(minutes=5)
    epoch = start.replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    began = (start - epoch) // timedelta(microseconds=1)
    root = ImportedSpan(
        trace_id=TRACE,
        span_id=f"{1:016x}",
        kind="request",
        name=f"agent {SCRIPT}",
        start_us=began,
        duration_ms=MANY * 2.0,
        principal="user:ada",
    )
    steps = [
        replace(
            root,
            span_id=f"{n:016x}",
            parent_id=f"{1 + (n - 2) // 6:016x}",
            kind=("tool", "generate", "retrieve")[n % 3],
            name=f"step {n} {IMAGE}",
            start_us=began + n * 2000,
            duration_ms=12.0,
            status="error" if n % 97 == 0 else "ok",
            error_class="timeout" if n % 97 == 0 else "",
        )
        for n in range(2, MANY)
    ]
    app.traces.ingest([root, *steps])


def _decided(made: World, request_id: str) -> None:
    """The record of a decision, unless the road has written it already."""
    app = made.app
    if app.decisions.get(request_id) is not None:
        return
    gate = made.documents["gate.md"]
    held = app.documents.record(gate, scope=app.gate.scope(app.identity.actor_for("user:alice")))
    assert held is not None
    passage = Retrieved(
        rank=1, chunk="chunk", document=gate, version=held.version, start=0, end=20, score="0.9", used=True
    )
    now = app.clock.now()
    record = DecisionRecord(
        request_id=request_id,
        at=int(now.timestamp() * 1_000_000),
        ended=int(now.timestamp() * 1_000_000) + 5000,
        asked_by="user:alice",
        status="answered",
        mode="full",
        passages=(passage,),
        route=("small:answered",),
    )
    with app.database.write() as connection:
        put_decisions(connection, [record])


def _trouble(made: World) -> None:
    app, now = made.app, made.app.clock.now()
    made.alert = "alr_browser"
    burn = Burn(
        long_s=3600, short_s=300, threshold=13.4, long_burn=22.5, short_burn=30.0, low_burn=15.0, events=400, bad=90
    )
    firing = Alert(
        id=made.alert,
        objective="there",
        severity=Severity.PAGE,
        opened=now - timedelta(hours=2),
        looked=now,
        burns=(burn,),
    )
    store = app.alarming.store
    assert store.begin(firing)
    over = replace(firing, id="alr_over", objective="quick", opened=now - timedelta(hours=30))
    assert store.begin(over)
    store.looked(replace(over, looked=now - timedelta(hours=29), resolved=now - timedelta(hours=29)))
    app.modes.keep(
        ModeEvent(
            event_id="mode_1",
            at=now - timedelta(hours=3),
            process="here",
            before=Mode.FULL,
            after=Mode.ECONOMY,
            reason="provider",
            detail=f"small is down {SCRIPT}",
            by="service",
        )
    )
    try:
        app.auditing.look(now=True)
    except MainstayError as error:
        raise AssertionError(error.line()) from error
