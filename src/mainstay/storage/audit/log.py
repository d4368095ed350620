"""The audit log in SQL: reading, checking and erasing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, literal_column, select, update

from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.records.audit import merkle
from mainstay.records.audit.checking import Checker, Report
from mainstay.records.audit.events import (
    DECISION,
    ERASED,
    EXPIRED,
    MAX_WHY,
    SERVICE,
    AuditEntry,
    Event,
    Filters,
    HeadLine,
    Page,
    Proof,
    Sent,
    whoever_acts,
)
from mainstay.records.audit.heads import Head
from mainstay.records.audit.sealing import Owner, is_person
from mainstay.storage.audit.appending import append, locked
from mainstay.storage.audit.holds import SqlHolds, holds_on
from mainstay.storage.audit.rows import (
    PAGE,
    Known,
    all_events,
    edge_of,
    heads_of,
    line_of,
    micros_of,
    moment_of,
    newest_head,
    nodes_of,
    proof_of,
    requests_at,
    root_of,
    size_of,
    some_of,
    stored,
)
from mainstay.storage.database import Database, upsert
from mainstay.storage.rows import micros
from mainstay.storage.schema import audit_event, audit_key, audit_log, audit_node, audit_sent, legal_hold
from mainstay.storage.sqlite import SqliteDatabase

_LOOKED_AT = 20_000  # events that one call of ``list`` looks through at most


class SqlAudit(SqlHolds):
    """``records.audit.Audit`` over SQL, and what is done to the log itself."""

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
        wanted = select(audit_event).order_by(audit_event.c.n.desc()).limit(PAGE)
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
                known = Known(connection, rows)
                for row in rows:
                    cursor = row.n
                    looked += 1
                    event = known.event(row)
                    if matches(event, filters):
                        found.append(event)
                        if len(found) == limit:
                            return Page(events=tuple(found), next=cursor)
                if len(rows) < PAGE:
                    return Page(events=tuple(found), next=None)
                if looked >= _LOOKED_AT:
                    return Page(events=tuple(found), next=cursor)

    def get(self, n: int) -> Event | None:
        if not 0 <= n < 1 << 62:
            return None
        with self._db.read() as connection:
            row = connection.execute(select(audit_event).where(audit_event.c.n == n)).first()
            return None if row is None else Known(connection, [row]).event(row)

    def proof(self, n: int, size: int | None = None) -> Proof:
        with self._db.read() as connection:
            return proof_of(connection, n, size)

    def consistency(self, old: int, size: int) -> Sequence[str]:
        with self._db.read() as connection:
            if size > size_of(connection):
                raise Invalid(f"the log has no {size} events", where="audit")
            ranges = merkle.consistency_ranges(old, size)
            path = merkle.proof(ranges, nodes_of(connection, merkle.needed(ranges)))
        return [one.hex() for one in path]

    def root(self, size: int) -> str:
        """The root (hex) of the tree of the first ``size`` events, as the nodes say. Errors: Invalid."""
        with self._db.read() as connection:
            if not 0 <= size <= size_of(connection):
                raise Invalid(f"the log has no {size} events", where="audit")
            return root_of(connection, size).hex()

    def head(self) -> Head | None:
        with self._db.read() as connection:
            return newest_head(connection)

    def heads(self) -> Sequence[Head]:
        """All of them, the oldest first."""
        with self._db.read() as connection:
            return heads_of(connection)

    # -- witnesses -----------------------------------------------------------------------------------------------------

    def sent(self) -> Mapping[str, Sent]:
        """What each witness has got last, by the way it goes."""
        with self._db.read() as connection:
            return {
                row.way: Sent(size=row.size, at=moment_of(row.at), trouble=row.trouble)
                for row in connection.execute(select(audit_sent))
            }

    def claim(self, way: str, size: int, at: datetime) -> bool:
        """Whether it is ours to send this head by this way: of several processes one gets it."""
        with self._db.write(alone=False) as connection:
            first = (
                upsert(connection, audit_sent)
                .values(way=way, size=size, at=micros_of(at), trouble="")
                .on_conflict_do_nothing()
            )
            if connection.execute(first).rowcount:
                return True
            ours = update(audit_sent).where(audit_sent.c.way == way, audit_sent.c.size < size)
            return connection.execute(ours.values(size=size, at=micros_of(at), trouble="")).rowcount > 0

    def unclaim(self, way: str, before: Sent | None, trouble: str, at: datetime) -> None:
        """It could not be sent: it has what it had before, and why is kept."""
        with self._db.write(alone=False) as connection:
            connection.execute(
                update(audit_sent)
                .where(audit_sent.c.way == way)
                .values(
                    size=0 if before is None else before.size,
                    at=micros_of(at if before is None else before.at),
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
                log="" if row is None else row.log_id, size=size, heads=heads_of(connection), witnessed=witnessed
            )
            owners = {
                held.owner: Owner(held.name, bytes(held.secret)) for held in connection.execute(select(audit_key))
            }
            checker.names(owners)
            for rows in all_events(connection):
                made = checker.events([stored(one) for one in rows])
                checker.nodes(made, nodes_of(connection, list(made)))
                checker.decisions(requests_at(connection, checker.decided.values()))
                if progress:
                    progress(min(rows[-1].n + 1, size), size, "")
            kept = int(connection.scalar(select(func.count()).select_from(audit_node)) or 0)
            edge = merkle.Frontier() if row is None else edge_of(row)
            checker.edge(edge, nodes=kept)
        return checker.report()

    def export(self) -> Iterator[dict[str, Any]]:
        """The whole log as JSON values, one a line, for ``verify_audit.py``: the log, its heads, the people whose keys are
        there, every event with its body in the clear. In one snapshot."""
        with self._db.read() as connection:
            row = connection.execute(select(audit_log)).first()
            if row is None:
                raise NotFound("the audit log is empty")
            heads = heads_of(connection)
            yield {"kind": "log", "format": 1, "log": row.log_id, "size": int(row.size)}
            for head in heads:
                yield {"kind": "head", **head.view()}
            for held in connection.execute(select(audit_key).order_by(audit_key.c.owner)):
                owner = Owner(held.name, bytes(held.secret))
                yield {"kind": "name", "pseudonym": held.owner, "name": held.name, "salt": owner.salt.hex()}
            for rows in all_events(connection):
                known = Known(connection, rows)
                for one in rows:
                    body = known.body(one)
                    salt = None if body is None or one.salt is None else bytes(one.salt).hex()
                    text = None if body is None else body.decode("utf-8", "surrogatepass")
                    yield {"kind": "event", **line_of(one).__dict__, "salt": salt, "text": text}

    # -- erasing -------------------------------------------------------------------------------------------------------

    def erase(self, name: str, why: str) -> int:
        """Delete the key of a person, and the bodies under it; the log says so. Returns how many bodies there were.

        Bodies about others that name the person in words are deleted too. Errors: NotFound, Conflict under a legal hold,
        Invalid without a reason.
        """
        if not why.strip():
            raise Invalid("an erasure needs a reason", where="why", fix="write: --why TEXT")
        with self._db.write() as connection:
            locked(connection)
            held = connection.execute(select(audit_key).where(audit_key.c.name == name)).first()
            if held is None or not is_person(name):
                raise NotFound("the log holds no key of this person", where=name[:60])
            on_hold = connection.scalar(holds_on([name]).limit(1))
            if on_hold is not None:
                raise Conflict("a legal hold stands on this person", where=on_hold, fix="see: mainstay audit holds")
            bodies = delete_bodies(connection, audit_event.c.owner == held.owner)
            plain, also = name.partition(":")[2], list[int]()
            for rows in all_events(connection):
                known = Known(connection, rows)
                also += [row.n for row in rows if row.body is not None and known.speaks_of(row, plain)]
            for some in some_of(also):
                bodies += delete_bodies(connection, audit_event.c.n.in_(some))
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
                locked(connection)
                numbers = list(connection.scalars(old.order_by(audit_event.c.at).limit(PAGE)))
                for some in some_of(numbers):
                    gone += delete_bodies(connection, audit_event.c.n.in_(some))
                details = {"action": DECISION, "before": micros(before), "bodies": len(numbers)}
                entry = AuditEntry(
                    action=EXPIRED, subject="log:decisions", at=self._clock.now(), details=details, owner=SERVICE
                )
                append(connection, entry)


def matches(event: Event, filters: Filters) -> bool:
    return (not filters.subject or event.subject == filters.subject) and (
        not filters.actor or filters.actor in (event.actor, event.via)
    )


def delete_bodies(connection: Connection, where: Any) -> int:
    gone = update(audit_event).where(where, audit_event.c.body.is_not(None)).values(body=None, salt=None)
    return connection.execute(gone).rowcount


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
