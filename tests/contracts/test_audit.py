"""The audit log over both databases: it grows right whoever writes, and whatever is done to it afterwards is found.

Tampering is done with plain SQL, behind the program's back.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select, text, update
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.clock import FixedClock, SystemClock
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.records.audit import AuditEntry, By, Filters, Head, Signer, acting, because, merkle
from mainstay.records.audit.checking import Report
from mainstay.records.audit.heads import new_key
from mainstay.records.decisions import DecisionRecord
from mainstay.storage.audit import SqlAudit, SqlDecisions, SqlHeads, append, put_decisions, scrub
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.schema import (
    audit_event,
    audit_head,
    audit_key,
    audit_log,
    audit_node,
    decision,
    fact,
    legal_hold,
)

ANN, BOB = "user:ann.person", "user:bob.person"


class World:
    """A log in a database of its own."""

    def __init__(self, database: Database, clock: FixedClock | None = None) -> None:
        self.database = database
        self.clock = clock or FixedClock(step=timedelta(milliseconds=1))
        self.audit = SqlAudit(database, self.clock)
        self.signer = Signer(b"s" * 32)
        self.decisions = SqlDecisions(database)
        self.signing = self.heads()

    def heads(self, signer: Signer | None = None, **more: Any) -> SqlHeads:
        held = signer or self.signer
        return SqlHeads(self.database, self.clock, lambda: held, every_events=1000, every_s=60, **more)

    def entry(self, n: int, action: str = "group.member_added", **more: Any) -> AuditEntry:
        values: dict[str, Any] = {
            "subject": f"user:person{n}",
            "before": None,
            "after": {"group": "group:finance", "member": f"user:person{n}"},
            "details": {"group": "group:finance"},
            "by": By(principal=ANN, request_id=f"req_{n}", why="a new colleague"),
        }
        return AuditEntry(action=action, at=self.clock.now(), **{**values, **more})

    def add(self, count: int) -> None:
        self.audit.record(*(self.entry(n) for n in range(count)))

    def sign(self) -> Head:
        head = self.signing.sign_due(now=True)
        assert head is not None
        return head

    def tamper(self, *statements: Any) -> None:
        with self.database.write() as connection:
            for statement in statements:
                connection.execute(statement)

    def verify(self, *witnessed: Head) -> Report:
        return self.audit.verify(witnessed)


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("audit"))
    yield opened
    close()


@pytest.fixture
def world(database: Database) -> World:
    with database.write() as connection:
        for table in (audit_event, audit_node, audit_key, audit_head, audit_log, decision, legal_hold, fact):
            connection.execute(delete(table))
    return World(database)


def record(n: int, **more: Any) -> DecisionRecord:
    return replace(
        DecisionRecord(request_id=f"req_{n}", at=1_800_000_000_000_000 + n, asked_by=BOB, model="tiny"), **more
    )


# -- growing -----------------------------------------------------------------------------------------------------------
def test_what_is_written_is_read(world: World) -> None:
    with acting(By(principal="service:crm", via="key_1", request_id="req_9")), because("they asked for it"):
        (line,) = world.audit.record(
            AuditEntry(action="document.deleted", subject="document:doc_1", at=world.clock.now(), before={"v": 1})
        )
    world.add(2)
    first, last = world.audit.get(0), world.audit.get(2)
    assert first is not None
    assert last is not None
    assert (first.actor, first.via, first.request_id, first.why) == (
        "service:crm",
        "key_1",
        "req_9",
        "they asked for it",
    )
    assert (first.subject, first.action, first.erased, first.leaf) == (
        "document:doc_1",
        "document.deleted",
        False,
        line.leaf.hex(),
    )
    assert first.before
    assert not first.after
    assert (last.actor, last.subject, dict(last.details)) == (ANN, "user:person1", {"group": "group:finance"})
    assert world.audit.get(3) is None
    assert world.audit.size() == 3
    assert world.verify().right


def test_equal_states_have_equal_hashes_and_people_are_not_to_be_guessed(world: World) -> None:
    state = {"allow": [BOB, "group:finance"], "deny": []}
    for n in range(2):
        world.audit.record(world.entry(n, "access.rule", subject="rule:acl:/hr", before=state, after={"allow": []}))
    world.audit.record(world.entry(2, "access.rule", subject="rule:acl:/hr", before={"allow": []}, after=state))
    events = [world.audit.get(n) for n in range(3)]
    assert len({event.before for event in events[:2] if event}) == 1
    assert events[2] is not None
    assert events[1] is not None
    assert (events[2].before, events[2].after) == (events[1].after, events[1].before)
    with world.database.read() as connection:
        held = b"".join(bytes(row.body) for row in connection.execute(select(audit_event)))
    assert b"bob" not in held


def test_pages_and_filters(world: World) -> None:
    world.add(5)
    world.audit.record(world.entry(9, "document.deleted", subject="document:doc_1", by=By(principal=BOB)))
    with world.database.write() as connection:
        put_decisions(connection, [record(1)])
    assert [event.n for event in world.audit.list(Filters()).events] == [5, 4, 3, 2, 1, 0]
    page = world.audit.list(Filters(), limit=2)
    assert [event.n for event in page.events] == [5, 4]
    assert [event.n for event in world.audit.list(Filters(), page.next, 3).events] == [3, 2, 1]
    assert [event.n for event in world.audit.list(Filters(actor=BOB)).events] == [5]
    assert [event.n for event in world.audit.list(Filters(subject="user:person3")).events] == [3]
    assert [event.n for event in world.audit.list(Filters(action="group.")).events] == [4, 3, 2, 1, 0]
    assert [event.n for event in world.audit.list(Filters(action="document.deleted")).events] == [5]
    assert [event.subject for event in world.audit.list(Filters(decisions=True)).events] == ["request:req_1"]
    third = world.audit.get(2)
    assert third is not None
    assert [e.n for e in world.audit.list(Filters(since=third.at, until=third.at + timedelta(seconds=1))).events][
        -1
    ] == 2


def test_state_and_event_are_one(world: World) -> None:
    """An event that can not be written takes the change with it, and a change that fails takes its event."""

    def change(why: str, *, fails: bool) -> None:
        with world.database.write() as connection:
            connection.execute(fact.insert().values(name="changed", value="yes"))
            append(connection, world.entry(0, why=why))
            if fails:
                raise RuntimeError("the change failed")

    with pytest.raises(Invalid, match="reason"):
        change("x" * 3000, fails=False)
    with pytest.raises(RuntimeError):
        change("", fails=True)
    assert world.audit.size() == 0
    with world.database.read() as connection:
        assert connection.scalar(select(fact.c.value).where(fact.c.name == "changed")) is None
    assert world.verify().right


def test_many_threads(world: World) -> None:
    def write(worker: int) -> None:
        for n in range(20):
            with world.database.write(alone=n % 2 == 0) as connection:
                append(connection, *(world.entry(100 * worker + n + k) for k in range(1 + n % 3)))
                if n % 10 == 9:
                    put_decisions(connection, [record(1000 * worker + n), record(1000 * worker + n + 500)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert world.audit.size() == 4 * (7 * 1 + 7 * 2 + 6 * 3 + 4)
    head = world.sign()
    report = world.verify(head)
    assert report.right, report.findings
    for n in (0, 1, 57, head.size - 1):
        proof = world.audit.proof(n)
        path = [bytes.fromhex(one) for one in proof.path]
        assert merkle.included(n, proof.size, bytes.fromhex(proof.leaf), path, bytes.fromhex(head.root))


def test_two_processes(world: World) -> None:
    code = (
        "import sys\n"
        "from mainstay.clock import SystemClock\n"
        "from mainstay.records.audit import AuditEntry, By\n"
        "from mainstay.storage.audit import SqlAudit\n"
        "from mainstay.storage.database import Address, open_database\n"
        "opened = open_database(Address(url=sys.argv[1]))\n"
        "audit, clock = SqlAudit(opened, SystemClock()), SystemClock()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for n in range(40):\n"
        "    audit.record(AuditEntry(action='k', subject='user:shared', at=clock.now(), by=By(principal=sys.argv[2])))\n"
        "opened.close()\n"
    )
    url = getattr(world.database, "path", None) or world.database._address.url  # type: ignore[attr-defined]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(url), f"user:writer{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert world.audit.size() == 80
    assert world.verify().right
    assert len(world.audit.list(Filters(actor="user:writer0")).events) == 40


def test_decisions_in_one_step(world: World) -> None:
    with world.database.write() as connection:
        world.decisions.put_all(connection, [record(n, asked_by=f"user:asker{n % 3}") for n in range(50)])
    with world.database.write() as connection:
        world.decisions.put_all(connection, [record(3, model="another"), record(50), record(50)])
    assert world.audit.size() == 51
    held = world.decisions.get("req_3")
    assert held is not None
    assert held.record is not None
    assert (held.record.model, held.record.asked_by, held.n) == ("tiny", "user:asker0", 3)
    assert world.decisions.get("req_unknown") is None
    assert world.verify().right
    proof = world.decisions.proof("req_7")
    assert proof.line.leaf.hex() == proof.leaf
    with pytest.raises(NotFound):
        world.decisions.proof("req_unknown")


# -- heads -------------------------------------------------------------------------------------------------------------
def test_heads_come_when_due(world: World) -> None:
    signing = SqlHeads(world.database, world.clock, lambda: world.signer, every_events=5, every_s=60)
    assert signing.sign_due() is None
    world.add(1)
    world.clock.advance(timedelta(seconds=2))
    first = signing.sign_due()
    assert first is not None
    assert first.size == 2, "the first event, and the key's announcement"
    assert first.valid()
    world.add(1)
    world.clock.advance(timedelta(seconds=2))
    assert signing.sign_due() is None
    world.add(4)
    world.clock.advance(timedelta(seconds=2))
    second = signing.sign_due()
    assert second is not None
    assert second.size == 7
    world.add(1)
    world.clock.advance(timedelta(seconds=61))
    third = signing.sign_due()
    assert third is not None
    assert third.size == 8
    assert signing.sign_due(now=True) is None
    assert list(world.audit.heads()) == [first, second, third]
    for old, new in ((first, second), (first, third), (second, third)):
        path = [bytes.fromhex(one) for one in world.audit.consistency(old.size, new.size)]
        assert merkle.consistent(old.size, new.size, bytes.fromhex(old.root), bytes.fromhex(new.root), path)
    assert world.verify(first, second).right


def test_a_key_is_changed(world: World) -> None:
    world.add(3)
    world.sign()
    kept: list[Signer] = []
    fresh = new_key()
    announced = world.signing.rotate(fresh, kept.append)
    assert kept == [fresh]
    assert announced.key == world.signer.id
    world.add(1)
    later = world.heads(fresh).sign_due(now=True)
    assert later is not None
    assert later.key == fresh.id
    report = world.verify(announced, later)
    assert report.right, report.findings
    assert set(report.keys) == {world.signer.id, fresh.id}
    assert later.size == announced.size + 1, "a key that was announced is not announced again"


def test_a_proof_is_small(world: World) -> None:
    world.add(3)
    world.sign()
    proof = world.audit.proof(1)
    shown = {"n": proof.n, "size": proof.size, "line": proof.line.__dict__, "path": [*proof.path]}
    assert proof.head is not None
    more = 24 - len(proof.path)
    size = len(json.dumps({**shown, "path": [*proof.path, *["0" * 64] * more], "head": proof.head.view()}))
    assert size < 4096, f"{size} bytes as JSON at 10 million events"


# -- what is done to it afterwards -------------------------------------------------------------------------------------
EVENT = audit_event.c
TAMPERED: dict[str, tuple[list[Any], int | None, str]] = {
    "an action": ([update(audit_event).where(EVENT.n == 7).values(action="nothing.happened")], 7, "not what its leaf"),
    "a time": ([update(audit_event).where(EVENT.n == 7).values(at=EVENT.at - 1)], 7, "not what its leaf"),
    "a hash of the state": ([update(audit_event).where(EVENT.n == 7).values(after="00")], 7, "not what its leaf"),
    "whose it is": ([update(audit_event).where(EVENT.n == 7).values(owner="p_" + "0" * 40)], 7, "not what its leaf"),
    "a digest": ([update(audit_event).where(EVENT.n == 7).values(digest="00")], 7, "not what its leaf"),
    "a salt": ([update(audit_event).where(EVENT.n == 7).values(salt=b"0" * 16)], 7, "body of event 7 was changed"),
    "a body": ([update(audit_event).where(EVENT.n == 7).values(body=b"0" * 64)], 7, "body of event 7 was changed"),
    "a body that is gone": ([update(audit_event).where(EVENT.n == 7).values(body=None)], 7, "no erasure is in the log"),
    "a leaf": ([update(audit_event).where(EVENT.n == 7).values(leaf=b"0" * 32)], 7, "not what its leaf"),
    "an event in between": ([delete(audit_event).where(EVENT.n == 7)], 7, "event 7 is missing"),
    "the last event": ([delete(audit_event).where(EVENT.n == 20)], 20, "event 20 is missing"),
    "a node": ([update(audit_node).where(audit_node.c.level == 2).values(hash=b"0" * 32)], 0, "node 2/0"),
    "a node that is gone": (
        [delete(audit_node).where(audit_node.c.level == 1, audit_node.c.position == 3)],
        6,
        "node 1/3",
    ),
    "a node too many": ([audit_node.insert().values(level=9, position=9, hash=b"0" * 32)], None, "nodes"),
    "the edge": ([update(audit_log).values(peaks="ab" * 32 * 3)], None, "edge"),
    "a size that is no edge": ([update(audit_log).values(size=20)], 20, "after the end"),
    "a head's root": ([update(audit_head).values(root="ab" * 32)], None, "signature"),
    "a head's signature": ([update(audit_head).values(signature="ab" * 64)], None, "signature"),
    "a head's time": ([update(audit_head).values(at=audit_head.c.at + 1)], None, "signature"),
    "the log's name": ([update(audit_log).values(log_id="log_other")], None, "signature"),
    "who a pseudonym is": (
        [update(audit_key).where(audit_key.c.name == ANN).values(name="user:eve")],
        None,
        "the name kept",
    ),
    "a key": ([update(audit_key).where(audit_key.c.name == ANN).values(secret=b"0" * 32)], None, "the name kept"),
    "a key that is gone": (
        [delete(audit_key).where(audit_key.c.name == "user:person7")],
        7,
        "no erasure is in the log",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_changed_in_place_is_found(world: World, what: str) -> None:
    world.add(20)
    world.sign()
    assert world.verify().right
    statements, first, said = TAMPERED[what]
    world.tamper(*statements)
    report = world.verify()
    assert not report.right
    assert any(said in finding.what for finding in report.findings), report.findings
    if first is not None:
        assert report.first_wrong == first


def moved(connection: Connection, one: int, other: int) -> None:
    """Two events change places, numbers and all."""
    for before, after in ((one, -1), (other, one), (-1, other)):
        connection.execute(update(audit_event).where(EVENT.n == before).values(n=after))


def test_events_that_change_places_are_found(world: World) -> None:
    world.add(20)
    world.sign()
    with world.database.write() as connection:
        moved(connection, 5, 9)
    report = world.verify()
    assert report.first_wrong == 5
    assert any("event 5 is not what its leaf" in finding.what for finding in report.findings)


def test_an_event_that_stands_twice_is_found(world: World) -> None:
    world.add(20)
    world.sign()
    with world.database.write() as connection:
        row = connection.execute(select(audit_event).where(EVENT.n == 4)).one()
        connection.execute(audit_event.insert().values({**row._mapping, "n": 21}))
    report = world.verify()
    assert report.first_wrong == 21
    with world.database.write() as connection:
        connection.execute(delete(audit_event).where(EVENT.n == 21))
        connection.execute(delete(audit_event).where(EVENT.n == 9))
        connection.execute(audit_event.insert().values({**row._mapping, "n": 9}))
    assert world.verify().first_wrong == 9


def rewritten(world: World, keep: int, then: Callable[[World], None], *, heads: bool = True) -> None:
    """What somebody does who knows the program and holds the database: cut the log off, and go on as if nothing was."""
    with world.database.write() as connection:
        leaves = [
            bytes(row.leaf) for row in connection.execute(select(audit_event).order_by(EVENT.n)).all() if row.n < keep
        ]
        edge, made = merkle.Frontier().plus(leaves)
        connection.execute(delete(audit_event).where(EVENT.n >= keep))
        connection.execute(delete(decision).where(decision.c.n >= keep))
        connection.execute(delete(audit_node))
        if made:
            connection.execute(
                audit_node.insert(), [{"level": key[0], "position": key[1], "hash": held} for key, held in made]
            )
        peaks = "".join(peak.hex() for peak in edge.peaks)
        connection.execute(update(audit_log).values(size=edge.size, peaks=peaks))
        if heads:
            connection.execute(delete(audit_head).where(audit_head.c.size > keep))
    then(world)


def test_a_log_cut_off_after_a_signed_head_is_found(world: World) -> None:
    world.add(20)
    world.sign()
    rewritten(world, 12, lambda _: None, heads=False)
    report = world.verify()
    assert report.first_wrong == 12
    assert "cut off" in report.findings[0].what


def test_a_log_cut_off_with_its_heads_is_found_by_the_witness_alone(world: World) -> None:
    world.add(10)
    early = world.sign()
    world.add(10)
    head = world.sign()
    rewritten(world, 12, lambda _: None)
    assert world.verify().right, "without a witness nobody can know; the manual says so"
    assert any("no witness" in note for note in world.verify().notes)
    report = world.verify(early, head)
    assert report.first_wrong == 12
    assert "a witness holds a head of 21 events" in report.findings[0].what


def test_a_log_written_anew_is_found_by_the_witness(world: World) -> None:
    """A fork: the same length, properly signed with the service's own key, another history."""
    world.add(10)
    early = world.sign()
    world.add(10)
    head = world.sign()

    def other(held: World) -> None:
        held.audit.record(*(held.entry(n, "nothing.happened") for n in range(100, 109)))
        assert held.heads().sign_due(now=True) is not None

    rewritten(world, 12, other)
    assert world.audit.size() == head.size
    assert world.verify(early).right
    report = world.verify(early, head)
    assert not report.right
    assert report.first_wrong == early.size, "the first that may be meant"
    assert "another tree" in report.findings[0].what


def test_a_head_of_another_log_or_key_is_found(world: World) -> None:
    world.add(5)
    head = world.sign()
    other = new_key()
    with world.database.read() as connection:
        edge = connection.scalar(select(audit_log.c.log_id))
    forged = other.sign(log=str(edge), size=head.size, root=bytes.fromhex(head.root), at=head.at)
    world.tamper(update(audit_head).values(key_id=forged.key, public=forged.public, signature=forged.signature))
    assert "does not announce" in world.verify().findings[0].what
    assert not world.verify(replace(head, log="log_other")).right
    assert not world.verify(replace(head, size=head.size - 1)).right


def test_an_older_state_of_the_database_is_found(tmp_path: Path) -> None:
    """SQLite's file put back: a running service refuses to sign on, and the witness tells what is missing."""
    opened, close = open_fresh("sqlite", tmp_path)
    world = World(opened)
    world.add(10)
    world.sign()
    with world.database.write() as connection:
        connection.execute(fact.insert().values(name="x", value="y"))
    shutil.copy(tmp_path / "mainstay.db", tmp_path / "old.db")
    shutil.copy(tmp_path / "mainstay.db-wal", tmp_path / "old.db-wal")
    world.add(10)
    head = world.sign()
    close()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"old.db{end}", tmp_path / f"mainstay.db{end}")
    (tmp_path / "mainstay.db-shm").unlink(missing_ok=True)
    opened, close = open_fresh("sqlite", tmp_path)
    back = World(opened)
    assert back.audit.size() == 11
    assert back.verify().right
    assert back.verify(head).first_wrong == 11
    back.signing._signed = head  # the same process, which remembers what it signed
    back.add(1)
    with pytest.raises(Conflict, match="12 events, and 21 were signed"):
        back.signing.sign_due(now=True)
    close()


def test_what_was_changed_is_not_signed_over(world: World) -> None:
    world.add(20)
    world.sign()
    world.tamper(update(audit_node).where(audit_node.c.level == 4).values(hash=b"0" * 32))
    world.add(1)
    with pytest.raises(Conflict, match="not the one that was signed"):
        world.sign()


def test_a_clock_that_went_back_is_told(world: World) -> None:
    world.add(3)
    world.sign()
    world.clock.advance(timedelta(hours=-2))
    world.add(1)
    world.sign()
    report = world.verify()
    assert report.right, "a clock that was set is no proof of anything"
    assert "the clock went back 7200 s at event 4" in report.notes[0]
    assert any("before the head of 5 events was signed" in note for note in report.notes)


def test_a_decision_that_is_found_under_another_request_is_found(world: World) -> None:
    with world.database.write() as connection:
        put_decisions(connection, [record(1), record(2)])
    world.tamper(update(decision).where(decision.c.request_id == "req_1").values(request_id="req_9"))
    assert world.verify().first_wrong == 0


# -- erasing -----------------------------------------------------------------------------------------------------------
def everything(world: World) -> bytes:
    """Every byte of the database's files, or of every table, once it was scrubbed."""
    scrub(world.database)
    if world.database.dialect == "sqlite":
        folder = Path(world.database.where).parent
        return b"".join(file.read_bytes() for file in folder.glob("mainstay.db*"))
    with world.database.read() as connection:
        names = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
        ).scalars()
        return repr([connection.execute(text(f'SELECT * FROM "{name}"')).all() for name in names]).encode()


def test_an_erasure_leaves_proofs_and_nothing_of_the_person(world: World) -> None:
    world.add(4)
    world.audit.record(world.entry(0, "user.added", subject=BOB, details={"email": "bob.person@example.org"}))
    world.audit.record(world.entry(1, "access.rule", subject="rule:acl:/hr", details={"allow": [BOB, ANN]}))
    world.audit.record(world.entry(2, "note", subject="group:x", why="on the wish of Bob.Person himself"))
    world.audit.record(world.entry(3, "document.deleted", subject="document:d", by=By(principal=BOB)))
    with world.database.write() as connection:
        put_decisions(connection, [record(n) for n in range(3)])
    head = world.sign()
    before = [world.audit.proof(n) for n in range(head.size)]
    with world.database.read() as connection:
        (secret, pseudonym) = connection.execute(
            select(audit_key.c.secret, audit_key.c.owner).where(audit_key.c.name == BOB)
        ).one()
    held = everything(world)
    assert b"bob.person" in held
    with acting(By(principal=ANN)):
        assert world.audit.erase(BOB, "an erasure that bob.person asked for") == 6
    after = everything(world)
    assert b"bob.person" not in after.lower()
    assert bytes(secret) not in after
    assert repr(bytes(secret)).encode() not in after
    report = world.verify(head)
    assert report.right, report.findings
    assert report.erased == 6
    for proof in before:
        path = [bytes.fromhex(one) for one in proof.path]
        now = world.audit.proof(proof.n, proof.size)
        assert (now.leaf, now.path) == (proof.leaf, proof.path)
        assert merkle.included(proof.n, proof.size, now.line.leaf, path, bytes.fromhex(head.root))
    gone, rule, erased = (world.audit.get(n) for n in (4, 5, world.audit.size() - 1))
    assert gone is not None
    assert rule is not None
    assert erased is not None
    assert (gone.erased, gone.subject, gone.actor, gone.action, gone.after != "") == (True, "", "", "user.added", True)
    assert rule.details["allow"] == [pseudonym, ANN]
    assert (erased.action, erased.actor, erased.details["bodies"]) == ("audit.erased", ANN, 6)
    decided = world.decisions.get("req_1")
    assert decided is not None
    assert decided.record is None
    with pytest.raises(NotFound):
        world.audit.erase(BOB, "again")
    # The same name later is somebody new.
    world.audit.record(world.entry(5, "user.added", subject=BOB))
    with world.database.read() as connection:
        assert connection.scalar(select(audit_key.c.owner).where(audit_key.c.name == BOB)) != pseudonym
    assert world.verify(head).right


def test_whoever_erases_themselves_is_not_named_by_it(world: World) -> None:
    world.audit.record(world.entry(0, subject=BOB))
    with acting(By(principal=BOB)):
        world.audit.erase(BOB, "my own wish")
    assert b"bob.person" not in everything(world)
    assert world.verify().right


def test_a_legal_hold_beats_an_erasure(world: World) -> None:
    world.audit.record(world.entry(0, subject=BOB))
    with acting(By(principal=ANN)):
        hold = world.audit.hold(BOB, "case 12")
        with pytest.raises(Conflict, match="legal hold"):
            world.audit.erase(BOB, "they asked for it")
        assert [held.id for held in world.audit.holds()] == [hold.id]
        assert world.audit.on_hold("user:x", BOB)
        with pytest.raises(Invalid):
            world.audit.lift(hold.id, " ")
        world.audit.lift(hold.id, "the case is closed")
        assert not world.audit.on_hold(BOB)
        with pytest.raises(NotFound):
            world.audit.lift(hold.id, "again")
        assert world.audit.erase(BOB, "they asked for it") == 3
    assert [event.action for event in world.audit.list(Filters()).events] == [
        "audit.erased",
        "hold.lifted",
        "hold.placed",
        "group.member_added",
    ]
    assert world.verify().right


def test_only_people_are_erased_and_only_with_a_reason(world: World) -> None:
    world.add(1)
    for name, why, error in (
        ("service:mainstay", "why", NotFound),
        ("user:nobody", "why", NotFound),
        (ANN, "  ", Invalid),
    ):
        with pytest.raises(error):
            world.audit.erase(name, why)


def test_old_decisions_expire_but_for_those_on_hold(world: World) -> None:
    with world.database.write() as connection:
        put_decisions(connection, [record(n, asked_by=f"user:asker{n % 2}") for n in range(6)])
    world.audit.hold("user:asker1", "case 12")
    held = world.decisions.get("req_4")
    assert held is not None
    assert held.record is not None
    assert world.audit.expire(held.record.time) == 2
    assert world.audit.expire(held.record.time) == 0
    kept = [world.decisions.get(f"req_{n}") for n in range(6)]
    assert [one is not None and one.record is not None for one in kept] == [False, True, False, True, True, True]
    assert world.verify().right
    world.tamper(update(audit_event).where(EVENT.n == 4).values(body=None, salt=None))
    assert world.verify().first_wrong == 4, "what was not to expire yet"


# -- the real clock, and readers beside writers -------------------------------------------------------------------------
def test_a_reader_sees_one_state(world: World) -> None:
    """Proofs are made while others write; each is right for the size it names."""
    stop = threading.Event()
    audit = SqlAudit(world.database, SystemClock())

    def write() -> None:
        while not stop.is_set() and audit.size() < 400:
            audit.record(world.entry(1), world.entry(2))

    writer = threading.Thread(target=write)
    audit.record(world.entry(0))
    writer.start()
    try:
        for _ in range(60):
            size = audit.size()
            proof = audit.proof(size // 2)
            path = [bytes.fromhex(one) for one in proof.path]
            root = bytes.fromhex(proof.root)
            assert merkle.included(proof.n, proof.size, proof.line.leaf, path, root)
    finally:
        stop.set()
        writer.join()
    assert world.verify().right
