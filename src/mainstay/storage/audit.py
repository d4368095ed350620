"""The audit log in SQL.

``append`` is called inside the transaction that changes state: both are there, or neither. Whoever appends locks the one row of
``audit_log`` first, which holds the right edge of the tree; from then until the commit nobody else does, so that numbers have
no gaps and the tree is that of the events in their order. Call it last in a transaction that takes other locks.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.guard.redaction import Redactor
from mainstay.records.audit import merkle
from mainstay.records.audit.checking import Checker, Report, Stored
from mainstay.records.audit.events import (
    DECISION,
    ERASED,
    EXPIRED,
    HELD,
    KEY,
    MAX_WHY,
    RELEASED,
    SERVICE,
    AuditEntry,
    Event,
    Filters,
    HeadLine,
    Page,
    Proof,
    Sent,
    canonical,
    whoever_acts,
)
from mainstay.records.audit.heads import Head, Signer
from mainstay.records.audit.sealing import (
    SALT_BYTES,
    Owner,
    body_digest,
    is_person,
    new_owner,
    owner_of,
    people_in,
    pseudonyms_in,
    renamed,
)
from mainstay.records.decisions import Decision, DecisionRecord, checked_request_id
from mainstay.storage.database import Database, upsert
from mainstay.storage.hot import Hot
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import (
    audit_event,
    audit_head,
    audit_key,
    audit_log,
    audit_node,
    audit_sent,
    decision,
    legal_hold,
)
from mainstay.storage.sqlite import SqliteDatabase
from mainstay.types import Clock

BODY_FORMAT = 1
_PAGE = 1000  # events that are read at a time
_LOOKED_AT = 20_000  # events that one call of ``list`` looks through at most
_MANY = 400  # bound parameters of a statement
_SECRETS = Redactor(personal=False)  # the log must know who; what nobody may know is not in it

_LOCK = Hot(select(audit_log.c.log_id, audit_log.c.size, audit_log.c.peaks).with_for_update())
_MOVE = Hot(update(audit_log).values(size=bindparam("new_size"), peaks=bindparam("new_peaks")))
_PUT_EVENT = Hot(insert(audit_event), columns=audit_event.c.keys())
_PUT_NODE = Hot(insert(audit_node), columns=audit_node.c.keys())
_PUT_KEY = Hot(insert(audit_key), columns=audit_key.c.keys())
_KEY_NAMED = Hot(select(audit_key.c.name, audit_key.c.secret).where(audit_key.c.name == bindparam("name")))


@dataclass(frozen=True)
class Said:
    """One event to be appended: its body as it is, with names, before anybody is renamed."""

    action: str
    at: int
    owner: str
    people: frozenset[str]
    body: Mapping[str, Any]
    before: object | None = None
    after: object | None = None
    states_of: str = SERVICE  # whose secret the hashes of the states are made with
    named_in: tuple[str, ...] = ()  # where in the body people stand, if that is known: else they are looked for


def said(entry: AuditEntry) -> Said:
    """What an entry says, with whoever acts."""
    by = entry.by or whoever_acts()
    why = entry.why or by.why
    if len(why) > MAX_WHY:
        raise Invalid(f"the reason has {len(why)} characters, at most {MAX_WHY} are kept", where="why")
    body = {
        "actor": by.principal,
        "details": renamed(_SECRETS.clean(entry.details), {}),
        "format": BODY_FORMAT,
        "request": by.request_id,
        "subject": entry.subject,
        "via": by.via,
        "why": _SECRETS.redact(why),
    }
    owner = entry.owner or owner_of(entry.subject, by.principal)
    people = people_in(body) | people_in(entry.before) | people_in(entry.after)
    return Said(
        action=entry.action,
        at=_micros(entry.at),
        owner=owner,
        people=frozenset(people),
        body=body,
        before=entry.before,
        after=entry.after,
        # Equal states have equal hashes, so that they can be followed from event to event: those of a person under their
        # own secret, all others under the service's.
        states_of=entry.subject if is_person(entry.subject) else SERVICE,
    )


def append(connection: Connection, *entries: AuditEntry) -> list[HeadLine]:
    """Add events to the log in an open write transaction; they are there if it commits. An error here is one of the whole."""
    return append_said(connection, [said(entry) for entry in entries])


def append_said(connection: Connection, events: Sequence[Said]) -> list[HeadLine]:
    """The same, for what was put into the log's form before."""
    if not events:
        return []
    frontier = _locked(connection)[1]
    names = {one.owner for one in events}.union(*(one.people for one in events))
    names |= {one.states_of for one in events if one.before is not None or one.after is not None}
    owners = _owners(connection, names, events[0].at)
    rows: list[dict[str, Any]] = []
    lines: list[HeadLine] = []
    for n, one in enumerate(events, frontier.size):
        owner = owners[one.owner]
        naming = {name: owners[name].pseudonym for name in one.people}
        if one.named_in:
            body = canonical({**one.body, **{key: naming.get(one.body[key], one.body[key]) for key in one.named_in}})
        else:
            body = canonical(renamed(one.body, naming) if naming else one.body)
        salt = secrets.token_bytes(SALT_BYTES)
        states = owners.get(one.states_of, owner)
        line = HeadLine(
            n=n,
            at=one.at,
            action=one.action,
            owner=owner.pseudonym,
            before=states.state(renamed(one.before, naming)),
            after=states.state(renamed(one.after, naming)),
            body=body_digest(salt, body),
        )
        leaf = line.leaf
        rows.append(
            {
                "n": n,
                "at": one.at,
                "action": one.action,
                "owner": line.owner,
                "before": line.before,
                "after": line.after,
                "digest": line.body,
                "leaf": leaf,
                "salt": salt,
                "body": owner.sealed(body, _about(n)),
            }
        )
        lines.append(line)
    grown, made = frontier.plus([row["leaf"] for row in rows])
    _PUT_EVENT.run_many(connection, rows)
    if made:
        nodes = [{"level": level, "position": position, "hash": held} for (level, position), held in made]
        _PUT_NODE.run_many(connection, nodes)
    _MOVE.run(connection, {"new_size": grown.size, "new_peaks": _peaks(grown)})
    return lines


def _about(n: int) -> bytes:
    return b"event %d" % n


def _locked(connection: Connection) -> tuple[str, merkle.Frontier]:
    """The log's id and the edge of its tree, locked until the transaction ends (SQLite: the whole database is)."""
    row = _LOCK.run(connection).first()
    if row is None:
        connection.execute(
            upsert(connection, audit_log)
            .values(one=1, log_id=f"log_{secrets.token_hex(16)}", size=0, peaks="")
            .on_conflict_do_nothing()
        )
        row = _LOCK.run(connection).first()
    assert row is not None
    return row.log_id, _frontier(row)


def _frontier(row: Any) -> merkle.Frontier:
    width = 2 * merkle.HASH_BYTES
    return merkle.Frontier(
        int(row.size), tuple(bytes.fromhex(row.peaks[at : at + width]) for at in range(0, len(row.peaks), width))
    )


def _peaks(frontier: merkle.Frontier) -> str:
    return "".join(peak.hex() for peak in frontier.peaks)


def _owners(connection: Connection, names: set[str], at: int) -> dict[str, Owner]:
    """Everybody's secret; who has none gets one. Under the log's lock, so that nobody else does at the same time."""
    found: dict[str, Owner] = {}
    if len(names) == 1:
        rows: Iterable[Any] = _KEY_NAMED.run(connection, {"name": next(iter(names))})
    else:
        wanted = [
            select(audit_key.c.name, audit_key.c.secret).where(audit_key.c.name.in_(some)) for some in _some(names)
        ]
        rows = [row for one in wanted for row in connection.execute(one)]
    for row in rows:
        found[row.name] = Owner(row.name, bytes(row.secret))
    new = [new_owner(name) for name in sorted(names - found.keys())]
    if new:
        _PUT_KEY.run_many(
            connection,
            [{"owner": one.pseudonym, "name": one.name, "secret": one.secret, "created": at} for one in new],
        )
    return found | {one.name: one for one in new}


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A legal hold: nothing of its subject is erased or forgotten while it stands."""

    id: str
    subject: str
    why: str
    by: str
    placed: datetime
    lifted: datetime | None


class SqlAudit:
    """``records.audit.Audit`` over SQL, and what is done to the log itself."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

    def record(self, *entries: AuditEntry) -> list[HeadLine]:
        """Events of their own: for what changes no row here, an export or a sign-in."""
        with self._db.write(alone=False) as connection:
            return append(connection, *entries)

    # -- reading -------------------------------------------------------------------------------------------------------

    def size(self) -> int:
        with self._db.read() as connection:
            return int(connection.scalar(select(audit_log.c.size)) or 0)

    def log_id(self) -> str:
        """Names this log; empty before its first event."""
        with self._db.read() as connection:
            return connection.scalar(select(audit_log.c.log_id)) or ""

    def list(self, filters: Filters, cursor: int | None = None, limit: int = 100) -> Page:
        wanted = select(audit_event).order_by(audit_event.c.n.desc()).limit(_PAGE)
        if filters.decisions or filters.action == DECISION:
            wanted = wanted.where(audit_event.c.action == DECISION)
        elif filters.action.endswith("."):
            wanted = wanted.where(audit_event.c.action.startswith(filters.action, autoescape=True))
        elif filters.action:
            wanted = wanted.where(audit_event.c.action == filters.action)
        else:
            wanted = wanted.where(audit_event.c.action != DECISION)
        if filters.since is not None:
            wanted = wanted.where(audit_event.c.at >= micros(filters.since))
        if filters.until is not None:
            wanted = wanted.where(audit_event.c.at < micros(filters.until))
        found: list[Event] = []
        looked = 0
        with self._db.read() as connection:
            while True:
                rows = connection.execute(wanted if cursor is None else wanted.where(audit_event.c.n < cursor)).all()
                known = _Known(connection, rows)
                for row in rows:
                    cursor = row.n
                    looked += 1
                    event = known.event(row)
                    if _matches(event, filters):
                        found.append(event)
                        if len(found) == limit:
                            return Page(events=tuple(found), next=cursor)
                if len(rows) < _PAGE:
                    return Page(events=tuple(found), next=None)
                if looked >= _LOOKED_AT:
                    return Page(events=tuple(found), next=cursor)

    def get(self, n: int) -> Event | None:
        if not 0 <= n < 1 << 62:
            return None
        with self._db.read() as connection:
            row = connection.execute(select(audit_event).where(audit_event.c.n == n)).first()
            return None if row is None else _Known(connection, [row]).event(row)

    def proof(self, n: int, size: int | None = None) -> Proof:
        with self._db.read() as connection:
            return _proof(connection, n, size)

    def consistency(self, old: int, size: int) -> Sequence[str]:
        with self._db.read() as connection:
            if size > _size(connection):
                raise Invalid(f"the log has no {size} events", where="audit")
            ranges = merkle.consistency_ranges(old, size)
            path = merkle.proof(ranges, _nodes(connection, merkle.needed(ranges)))
        return [one.hex() for one in path]

    def root(self, size: int) -> str:
        """The root (hex) of the tree of the first ``size`` events, as the nodes say. Errors: Invalid."""
        with self._db.read() as connection:
            if not 0 <= size <= _size(connection):
                raise Invalid(f"the log has no {size} events", where="audit")
            return _root(connection, size).hex()

    def head(self) -> Head | None:
        with self._db.read() as connection:
            return newest_head(connection)

    def heads(self) -> Sequence[Head]:
        """All of them, the oldest first."""
        with self._db.read() as connection:
            return _heads(connection)

    # -- witnesses -----------------------------------------------------------------------------------------------------

    def sent(self) -> Mapping[str, Sent]:
        """What each witness has got last, by the way it goes."""
        with self._db.read() as connection:
            return {
                row.way: Sent(size=row.size, at=_at(row.at), trouble=row.trouble)
                for row in connection.execute(select(audit_sent))
            }

    def claim(self, way: str, size: int, at: datetime) -> bool:
        """Whether it is ours to send this head by this way: of several processes one gets it."""
        with self._db.write(alone=False) as connection:
            first = (
                upsert(connection, audit_sent)
                .values(way=way, size=size, at=_micros(at), trouble="")
                .on_conflict_do_nothing()
            )
            if connection.execute(first).rowcount:
                return True
            ours = update(audit_sent).where(audit_sent.c.way == way, audit_sent.c.size < size)
            return connection.execute(ours.values(size=size, at=_micros(at), trouble="")).rowcount > 0

    def unclaim(self, way: str, before: Sent | None, trouble: str, at: datetime) -> None:
        """It could not be sent: it has what it had before, and why is kept."""
        with self._db.write(alone=False) as connection:
            connection.execute(
                update(audit_sent)
                .where(audit_sent.c.way == way)
                .values(
                    size=0 if before is None else before.size,
                    at=_micros(at if before is None else before.at),
                    trouble=trouble[:MAX_WHY],
                )
            )

    # -- checking ------------------------------------------------------------------------------------------------------

    def verify(
        self, witnessed: Sequence[Head] = (), *, progress: Callable[[int, int, str], None] | None = None
    ) -> Report:
        """Check everything: bodies, leaves, nodes, heads, and heads that somebody else kept. Reads the whole log once."""
        with self._db.read() as connection:
            row = connection.execute(select(audit_log)).first()
            size = 0 if row is None else int(row.size)
            checker = Checker(
                log="" if row is None else row.log_id, size=size, heads=_heads(connection), witnessed=witnessed
            )
            owners = {
                held.owner: Owner(held.name, bytes(held.secret)) for held in connection.execute(select(audit_key))
            }
            checker.names(owners)
            for rows in _all_events(connection):
                made = checker.events([_stored(one) for one in rows])
                checker.nodes(made, _nodes(connection, list(made)))
                checker.decisions(_requests(connection, checker.decided.values()))
                if progress:
                    progress(min(rows[-1].n + 1, size), size, "")
            kept = int(connection.scalar(select(func.count()).select_from(audit_node)) or 0)
            edge = merkle.Frontier() if row is None else _edge(row)
            checker.edge(edge, nodes=kept)
        return checker.report()

    def export(self) -> Iterator[dict[str, Any]]:
        """The whole log as JSON values, one a line, for ``verify_audit.py``: the log, its heads, the people whose keys are
        there, every event with its body in the clear. In one snapshot."""
        with self._db.read() as connection:
            row = connection.execute(select(audit_log)).first()
            if row is None:
                raise NotFound("the audit log is empty")
            heads = _heads(connection)
            yield {"kind": "log", "format": 1, "log": row.log_id, "size": int(row.size)}
            for head in heads:
                yield {"kind": "head", **head.view()}
            for held in connection.execute(select(audit_key).order_by(audit_key.c.owner)):
                owner = Owner(held.name, bytes(held.secret))
                yield {"kind": "name", "pseudonym": held.owner, "name": held.name, "salt": owner.salt.hex()}
            for rows in _all_events(connection):
                known = _Known(connection, rows)
                for one in rows:
                    body = known.body(one)
                    salt = None if body is None or one.salt is None else bytes(one.salt).hex()
                    text = None if body is None else body.decode("utf-8", "surrogatepass")
                    yield {"kind": "event", **_line(one).__dict__, "salt": salt, "text": text}

    # -- erasing -------------------------------------------------------------------------------------------------------

    def erase(self, name: str, why: str) -> int:
        """Delete the key of a person, and the bodies under it; the log says so. Returns how many bodies there were.

        Bodies about others that name the person in words are deleted too. Errors: NotFound, Conflict under a legal hold,
        Invalid without a reason.
        """
        if not why.strip():
            raise Invalid("an erasure needs a reason", where="why", fix="write: --why TEXT")
        with self._db.write() as connection:
            _locked(connection)
            held = connection.execute(select(audit_key).where(audit_key.c.name == name)).first()
            if held is None or not is_person(name):
                raise NotFound("the log holds no key of this person", where=name[:60])
            on_hold = connection.scalar(_holds_on([name]).limit(1))
            if on_hold is not None:
                raise Conflict("a legal hold stands on this person", where=on_hold, fix="see: mainstay audit holds")
            bodies = _delete_bodies(connection, audit_event.c.owner == held.owner)
            plain, also = name.partition(":")[2], list[int]()
            for rows in _all_events(connection):
                known = _Known(connection, rows)
                also += [row.n for row in rows if row.body is not None and known.speaks_of(row, plain)]
            for some in _some(also):
                bodies += _delete_bodies(connection, audit_event.c.n.in_(some))
            connection.execute(delete(audit_key).where(audit_key.c.owner == held.owner))
            by = whoever_acts()
            entry = AuditEntry(
                action=ERASED,
                subject=held.owner,
                at=self._clock.now(),
                why=re.sub(re.escape(plain), "...", why, flags=re.IGNORECASE),
                details={"also": also, "bodies": bodies, "owner": held.owner},
                owner=SERVICE,
                # Whoever erases themselves is not named again by doing so.
                by=replace(by, principal=held.owner) if by.principal == name else by,
            )
            append(connection, entry)
        return bodies

    def expire(self, before: datetime) -> int:
        """Delete the bodies of decision records made before, but for those under a legal hold; the log says so. Returns how
        many."""
        kept = select(audit_key.c.owner).join(
            legal_hold, and_(legal_hold.c.subject == audit_key.c.name, legal_hold.c.lifted.is_(None))
        )
        old = select(audit_event.c.n).where(
            audit_event.c.action == literal_column(f"'{DECISION}'"),  # in the words of the index over what is kept
            audit_event.c.body.is_not(None),
            audit_event.c.at < micros(before),
            audit_event.c.owner.not_in(kept),
        )
        gone = 0
        while True:  # in steps: whoever appends waits meanwhile
            with self._db.write(alone=False) as connection:
                if connection.execute(old.limit(1)).first() is None:
                    return gone
                _locked(connection)
                numbers = list(connection.scalars(old.order_by(audit_event.c.at).limit(_PAGE)))
                for some in _some(numbers):
                    gone += _delete_bodies(connection, audit_event.c.n.in_(some))
                details = {"action": DECISION, "before": micros(before), "bodies": len(numbers)}
                entry = AuditEntry(
                    action=EXPIRED, subject="log:decisions", at=self._clock.now(), details=details, owner=SERVICE
                )
                append(connection, entry)

    # -- legal holds ---------------------------------------------------------------------------------------------------

    def hold(self, subject: str, why: str) -> Hold:
        """Nothing of this subject is erased or forgotten from now on. Errors: Invalid without a reason or a subject."""
        if not why.strip() or ":" not in subject or len(subject) > MAX_WHY or not subject.isprintable():
            raise Invalid("a legal hold needs a subject and a reason", fix="write: user:NAME --why TEXT")
        at = self._clock.now()
        held = Hold(
            id=self._clock.new_id("hold"), subject=subject, why=why, by=whoever_acts().principal, placed=at, lifted=None
        )
        with self._db.write() as connection:
            connection.execute(
                insert(legal_hold).values(
                    hold_id=held.id, subject=subject, why=why, placed_by=held.by, placed=micros(at), lifted=None
                )
            )
            append(connection, AuditEntry(action=HELD, subject=subject, at=at, why=why, details={"hold": held.id}))
        return held

    def lift(self, hold_id: str, why: str) -> None:
        """The hold ends. Errors: NotFound for one that does not stand, Invalid without a reason."""
        if not why.strip():
            raise Invalid("lifting a legal hold needs a reason", fix="write: --why TEXT")
        at = self._clock.now()
        with self._db.write() as connection:
            standing = and_(legal_hold.c.hold_id == hold_id, legal_hold.c.lifted.is_(None))
            subject = connection.scalar(select(legal_hold.c.subject).where(standing))
            if subject is None:
                raise NotFound("no such legal hold stands", where=hold_id[:60], fix="see: mainstay audit holds")
            connection.execute(update(legal_hold).where(standing).values(lifted=micros(at)))
            append(connection, AuditEntry(action=RELEASED, subject=subject, at=at, why=why, details={"hold": hold_id}))

    def holds(self) -> Sequence[Hold]:
        """Those that stand, the newest first."""
        wanted = select(legal_hold).where(legal_hold.c.lifted.is_(None)).order_by(legal_hold.c.placed.desc())
        with self._db.read() as connection:
            return [
                Hold(
                    id=row.hold_id,
                    subject=row.subject,
                    why=row.why,
                    by=row.placed_by,
                    placed=_at(row.placed),
                    lifted=moment(row.lifted),
                )
                for row in connection.execute(wanted)
            ]

    def on_hold(self, *subjects: str) -> bool:
        """Whether a legal hold stands on any of them: who erases or forgets asks first."""
        with self._db.read() as connection:
            return connection.scalar(_holds_on(subjects).limit(1)) is not None


def _holds_on(subjects: Sequence[str]) -> Any:
    return select(legal_hold.c.hold_id).where(legal_hold.c.subject.in_(subjects), legal_hold.c.lifted.is_(None))


def bound(*subjects: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a legal hold stands on any of these subjects of a row: what forgets by age leaves such rows."""
    return exists().where(legal_hold.c.lifted.is_(None), or_(*(legal_hold.c.subject == one for one in subjects)))


def scrub(database: Database) -> None:
    """Have the database write anew what keys lay in, so that deleted ones are in no free page of its files.

    SQLite writes its whole file anew; PostgreSQL the one table that holds the keys (its log of changes, and backups, keep
    older pages until they expire).
    """
    if isinstance(database, SqliteDatabase):
        with database.read() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("COMMIT")  # neither can run inside a transaction
            driver.execute("VACUUM")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            driver.execute("BEGIN")
        return
    from mainstay.storage.postgres import PostgresDatabase  # its driver is an extra

    assert isinstance(database, PostgresDatabase)
    with database.maintenance() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f"VACUUM (FULL) {audit_key.name}")


class SqlDecisions:
    """``records.decisions.Decisions`` over SQL."""

    def __init__(self, database: Database, *, settled: Callable[[], object] = lambda: None) -> None:
        """``settled`` is called before each reading: what this process has still to write is written then."""
        self._db, self._settled = database, settled

    def put_all(self, connection: Connection, records: Sequence[DecisionRecord]) -> None:
        """Put these records into the log, in an open write transaction: one step of the tree for all. A request id that is
        taken keeps the record it has."""
        put_decisions(connection, records)

    def put(self, connection: Connection, record: DecisionRecord) -> None:
        """One alone: see ``put_all``."""
        put_decisions(connection, [record])

    def get(self, request_id: str) -> Decision | None:
        self._settled()
        with self._db.read() as connection:
            row = connection.execute(
                select(audit_event)
                .join(decision, decision.c.n == audit_event.c.n)
                .where(decision.c.request_id == checked_request_id(request_id))
            ).first()
            if row is None:
                return None
            known = _Known(connection, [row])
            body = known.body(row)
            record = None if body is None else DecisionRecord.read(known.named(json.loads(body)))
            return Decision(request_id=request_id, n=row.n, line=_line(row), record=record)

    def proof(self, request_id: str) -> Proof:
        with self._db.read() as connection:
            n = connection.scalar(select(decision.c.n).where(decision.c.request_id == checked_request_id(request_id)))
            if n is None:
                raise NotFound("no such decision", where=request_id[:60])
            return _proof(connection, int(n), None)


def put_decisions(connection: Connection, records: Sequence[DecisionRecord]) -> None:
    """See ``SqlDecisions.put_all``."""
    if not records:
        return
    _locked(connection)
    wanted = list({record.request_id: record for record in reversed(records)}.values())[::-1]
    taken: set[str] = set()
    for some in _some([record.request_id for record in wanted]):
        taken.update(connection.scalars(select(decision.c.request_id).where(decision.c.request_id.in_(some))))
    new = [record for record in wanted if record.request_id not in taken]
    events = []
    for record in new:
        names = [name for name in (record.asked_by, record.on_behalf_of) if is_person(name)]
        events.append(
            Said(
                action=DECISION,
                at=record.ended or record.at,
                owner=names[0] if names else SERVICE,
                people=frozenset(names),
                body=record.body(),
                named_in=("asked_by", "on_behalf_of"),
            )
        )
    lines = append_said(connection, events)
    if lines:
        rows = [{"request_id": record.request_id, "n": line.n} for record, line in zip(new, lines, strict=True)]
        _PUT_DECISION.run_many(connection, rows)


_PUT_DECISION = Hot(insert(decision), columns=decision.c.keys())


class SqlHeads:
    """Signs heads: every so many events or seconds, and never one that does not go on from the last."""

    def __init__(
        self, database: Database, clock: Clock, signer: Callable[[], Signer], *, every_events: int, every_s: float
    ) -> None:
        """``signer`` gives the key in force; it is asked for when there is something to sign."""
        self._db, self._clock, self._signer = database, clock, signer
        self._every_events, self._every_s = every_events, every_s
        self._signed: Head | None = None  # the newest this process has signed or seen
        self._looked = float("-inf")

    def sign_due(self, *, now: bool = False) -> Head | None:
        """Sign the log as it is, if that is due (``now``: if there is anything new); the head, if there is a new one.

        Errors: Conflict when the log does not go on from its last head: then something was changed or brought back.
        """
        time = self._clock.monotonic()
        if not now and time - self._looked < min(1.0, self._every_s):
            return None
        self._looked = time
        with self._db.read() as connection:
            size, last = _size(connection), newest_head(connection)
        if not self._due(size, last, now=now):
            return None
        signer = self._signer()
        with self._db.write(alone=False) as connection:  # durable: with it, everything it covers has reached the disk
            log, frontier = _locked(connection)
            last = newest_head(connection)
            if not self._due(frontier.size, last, now=now):
                return None
            self._goes_on(connection, frontier, last)
            if (last is None or last.key != signer.id) and signer.id not in _announced(connection):
                details = {"key": signer.id, "public": signer.public.hex(), "before": last.key if last else ""}
                append(
                    connection,
                    AuditEntry(
                        action=KEY, subject=f"key:{signer.id}", at=self._clock.now(), details=details, owner=SERVICE
                    ),
                )
                frontier = _locked(connection)[1]
            head = signer.sign(log=log, size=frontier.size, root=frontier.root, at=_micros(self._clock.now()))
            connection.execute(
                insert(audit_head).values(
                    size=head.size,
                    root=head.root,
                    at=head.at,
                    key_id=head.key,
                    public=head.public,
                    signature=head.signature,
                )
            )
        self._signed = head
        return head

    def rotate(self, fresh: Signer, keep: Callable[[Signer], object]) -> Head:
        """Change to another key: the log announces it, the old key signs the announcement, then the new one is kept."""
        old = self._signer()
        details = {"key": fresh.id, "public": fresh.public.hex(), "before": old.id}
        entry = AuditEntry(action=KEY, subject=f"key:{fresh.id}", at=self._clock.now(), details=details, owner=SERVICE)
        with self._db.write(alone=False) as connection:
            append(connection, entry)
        head = self.sign_due(now=True)
        assert head is not None  # there is something new: the announcement
        keep(fresh)
        return head

    def _due(self, size: int, last: Head | None, *, now: bool) -> bool:
        if self._signed is not None and size < self._signed.size:
            return True  # to be refused
        new = size - (last.size if last is not None else 0)
        if new <= 0:
            return False
        if now or new >= self._every_events or last is None:
            return True
        return (_micros(self._clock.now()) - last.at) / 1_000_000 >= self._every_s

    def _goes_on(self, connection: Connection, frontier: merkle.Frontier, last: Head | None) -> None:
        """O(log n): whether the tree still begins with what was signed last, by the database's word and by our own."""
        for known in {held.size: held for held in (last, self._signed) if held is not None}.values():
            if known.size > frontier.size:
                raise Conflict(
                    f"the audit log has {frontier.size} events, and {known.size} were signed",
                    where="audit",
                    fix="an older state of the database was brought back, or events were deleted: mainstay audit verify",
                )
            if _root(connection, known.size).hex() != known.root:
                raise Conflict(
                    f"the audit log is not the one that was signed at {known.size} events",
                    where="audit",
                    fix="run: mainstay audit verify",
                )


# -- rows --------------------------------------------------------------------------------------------------------------
class _Known:
    """The bodies of some events, and who the people in them are."""

    def __init__(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        self._owners: dict[str, Owner] = {}
        self._look_up(connection, {row.owner for row in rows if row.body is not None})
        self._bodies = {row.n: self._opened(row) for row in rows}
        self._values = {n: json.loads(body) for n, body in self._bodies.items() if body is not None}
        spoken_of = set().union(*(pseudonyms_in(value) for value in self._values.values()))
        self._look_up(connection, spoken_of - self._owners.keys())
        self._naming = {pseudonym: owner.name for pseudonym, owner in self._owners.items() if is_person(owner.name)}

    def _look_up(self, connection: Connection, pseudonyms: set[str]) -> None:
        for some in _some(pseudonyms):
            for row in connection.execute(select(audit_key).where(audit_key.c.owner.in_(some))):
                self._owners[row.owner] = Owner(row.name, bytes(row.secret))

    def _opened(self, row: Row[Any]) -> bytes | None:
        owner = self._owners.get(row.owner)
        return None if owner is None or row.body is None else owner.opened(bytes(row.body), _about(row.n))

    def body(self, row: Row[Any]) -> bytes | None:
        return self._bodies[row.n]

    def named(self, value: Any) -> Any:
        return renamed(value, self._naming)

    def speaks_of(self, row: Row[Any], plain: str) -> bool:
        """Whether a body names somebody in words, not under their pseudonym."""
        body = self._bodies[row.n]
        return body is not None and _mentions(json.loads(body), plain.casefold())

    def event(self, row: Row[Any]) -> Event:
        held = self._values.get(row.n)
        value = {} if held is None else self.named(held)
        if row.action == DECISION:
            request, actor = str(value.get("request_id", "")), str(value.get("asked_by", ""))
            value = {
                "request": request,
                "actor": actor,
                "via": value.get("on_behalf_of", ""),
                "subject": f"request:{request}",
            }
        return Event(
            n=row.n,
            at=_at(row.at),
            action=row.action,
            subject=value.get("subject", ""),
            actor=value.get("actor", ""),
            via=value.get("via", ""),
            why=value.get("why", ""),
            request_id=value.get("request", ""),
            details=value.get("details", {}),
            before=row.before,
            after=row.after,
            erased=held is None,
            leaf=bytes(row.leaf).hex(),
        )


def _mentions(value: Any, plain: str) -> bool:
    if isinstance(value, str):
        return re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", value.casefold()) is not None
    if isinstance(value, Mapping):
        return any(_mentions(one, plain) for pair in value.items() for one in pair)
    return isinstance(value, list) and any(_mentions(one, plain) for one in value)


def _matches(event: Event, filters: Filters) -> bool:
    return (not filters.subject or event.subject == filters.subject) and (
        not filters.actor or filters.actor in (event.actor, event.via)
    )


def _delete_bodies(connection: Connection, where: Any) -> int:
    gone = update(audit_event).where(where, audit_event.c.body.is_not(None)).values(body=None, salt=None)
    return connection.execute(gone).rowcount


def _all_events(connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    after = -1 << 62
    while True:
        wanted = select(audit_event).where(audit_event.c.n > after).order_by(audit_event.c.n).limit(_PAGE)
        rows = connection.execute(wanted).all()
        if not rows:
            return
        yield rows
        after = rows[-1].n


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        line=_line(row),
        leaf=bytes(row.leaf),
        salt=None if row.salt is None else bytes(row.salt),
        body=None if row.body is None else bytes(row.body),
    )


def _line(row: Row[Any]) -> HeadLine:
    return HeadLine(
        n=row.n, at=row.at, action=row.action, owner=row.owner, before=row.before, after=row.after, body=row.digest
    )


def _edge(row: Any) -> merkle.Frontier | None:
    try:
        return _frontier(row)
    except (Invalid, ValueError):
        return None


def _size(connection: Connection) -> int:
    return int(connection.scalar(select(audit_log.c.size)) or 0)


def _proof(connection: Connection, n: int, size: int | None) -> Proof:
    there = _size(connection)
    row = connection.execute(select(audit_event).where(audit_event.c.n == n)).first() if 0 <= n < there else None
    if row is None:
        raise NotFound(f"no event {n}", where="audit", fix=f"there are {there}, from 0 on")
    head = newest_head(connection)
    if size is None:
        size = head.size if head is not None and head.size > n else there
    if not n < size <= there:
        raise Invalid(f"event {n} is in no tree of {size}", where="audit", fix=f"give a size from {n + 1} to {there}")
    ranges = merkle.inclusion_ranges(n, size)
    path = merkle.proof(ranges, _nodes(connection, merkle.needed(ranges)))
    signed = head if head is not None and head.size == size else next(iter(_heads(connection, size)), None)
    return Proof(
        n=n,
        size=size,
        root=_root(connection, size).hex() if signed is None else signed.root,
        leaf=bytes(row.leaf).hex(),
        line=_line(row),
        path=tuple(one.hex() for one in path),
        head=signed,
    )


def _root(connection: Connection, size: int) -> bytes:
    keys = merkle.cover_of(size)
    nodes = _nodes(connection, keys)
    if len(nodes) < len(keys):
        raise Invalid("nodes of the tree are missing", where="audit", fix="run: mainstay audit verify")
    return merkle.folded([nodes[key] for key in keys])


def _nodes(connection: Connection, keys: Sequence[merkle.Key]) -> dict[merkle.Key, bytes]:
    """Those of these complete subtrees that are there; leaves stand with their events."""
    found: dict[merkle.Key, bytes] = {}
    leaves = [position for level, position in keys if level == 0]
    for some in _some(leaves):
        wanted = select(audit_event.c.n, audit_event.c.leaf).where(audit_event.c.n.in_(some))
        found.update({(0, row.n): bytes(row.leaf) for row in connection.execute(wanted)})
    by_level: dict[int, list[int]] = {}
    for level, position in keys:
        if level:
            by_level.setdefault(level, []).append(position)
    if len(keys) <= _MANY // 4:  # a proof: few of each level, so all at once
        wanted_nodes = [
            and_(audit_node.c.level == level, audit_node.c.position.in_(at)) for level, at in by_level.items()
        ]
        batches = [or_(*wanted_nodes)] if wanted_nodes else []
    else:
        batches = [
            and_(audit_node.c.level == level, audit_node.c.position.between(min(at), max(at)))
            for level, at in by_level.items()
        ]
    for where in batches:
        for row in connection.execute(select(audit_node).where(where)):
            found[(row.level, row.position)] = bytes(row.hash)
    return found


def _requests(connection: Connection, request_ids: Iterable[str]) -> dict[int, str]:
    """Where the decisions of these requests are said to be."""
    found: dict[int, str] = {}
    for some in _some(request_ids):
        wanted = select(decision.c.n, decision.c.request_id).where(decision.c.request_id.in_(some))
        found.update({int(row.n): row.request_id for row in connection.execute(wanted)})
    return found


def _announced(connection: Connection) -> set[str]:
    """The ids of the keys that the log has announced."""
    rows = connection.execute(select(audit_event).where(audit_event.c.action == KEY)).all()
    known = _Known(connection, rows)
    return {str(known.event(row).details.get("key")) for row in rows}


def newest_head(connection: Connection) -> Head | None:
    """The newest signed head."""
    log = connection.scalar(select(audit_log.c.log_id)) or ""
    row = connection.execute(select(audit_head).order_by(audit_head.c.size.desc()).limit(1)).first()
    return None if row is None else _head(row, log)


def _heads(connection: Connection, size: int | None = None) -> list[Head]:
    log = connection.scalar(select(audit_log.c.log_id)) or ""
    wanted = select(audit_head).order_by(audit_head.c.size)
    if size is not None:
        wanted = wanted.where(audit_head.c.size == size)
    return [_head(row, log) for row in connection.execute(wanted)]


def _head(row: Row[Any], log: str) -> Head:
    return Head(
        log=log, size=row.size, root=row.root, at=row.at, key=row.key_id, public=row.public, signature=row.signature
    )


def _some(items: Iterable[Any]) -> Iterator[list[Any]]:
    held = sorted(items)
    return (held[at : at + _MANY] for at in range(0, len(held), _MANY))


def _micros(at: datetime) -> int:
    value = micros(at)
    assert value is not None
    return value


def _at(value: int) -> datetime:
    at = moment(value)
    assert at is not None
    return at
