"""Who is signed in, in SQL. Each beginning and end is an audit event of the same transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from mainstay.access.sessions import End, Session
from mainstay.records.audit import AuditEntry, By, whoever_acts
from mainstay.storage.audit import append
from mainstay.storage.database import Database
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import session as table


class SqlSessions:
    """``access.sessions.SessionStore`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, token_hash: str, session: Session, *, most: int) -> None:
        newest = (
            select(table.c.token_hash)
            .where(table.c.principal == session.principal)
            .order_by(table.c.created.desc(), table.c.token_hash)
            .limit(most)
        )
        with self._db.write(alone=False) as connection:
            connection.execute(
                insert(table).values(
                    token_hash=token_hash,
                    principal=session.principal,
                    display=session.display,
                    asserted=None if session.groups is None else dumps(session.groups),
                    credential=session.credential,
                    key_id=session.key_id,
                    created=micros(session.created),
                    seen=micros(session.seen),
                    expires=micros(session.expires),
                )
            )
            old = ended(connection, table.c.expires <= micros(session.created), "expired", session.created)
            kept = connection.scalars(newest).all()
            over: list[AuditEntry] = []
            if len(kept) == most:
                others = (table.c.principal == session.principal) & table.c.token_hash.not_in(kept)
                over = ended(connection, others, "too_many", session.created)
            append(connection, *old, *over, _began(session))

    def get(self, token_hash: str) -> Session | None:
        with self._db.read() as connection:
            row = connection.execute(select(table).where(table.c.token_hash == token_hash)).one_or_none()
        if row is None:
            return None
        return Session(
            principal=row.principal,
            credential=row.credential,
            display=row.display,
            groups=None if row.asserted is None else tuple(json.loads(row.asserted)),
            key_id=row.key_id,
            created=_time(row.created),
            seen=_time(row.seen),
            expires=_time(row.expires),
        )

    def touch(self, token_hash: str, at: datetime) -> None:
        with self._db.write(alone=False, durable=False) as connection:
            connection.execute(
                update(table).where(table.c.token_hash == token_hash, table.c.seen < micros(at)).values(seen=micros(at))
            )

    def remove(self, token_hash: str, because: End, at: datetime) -> None:
        with self._db.write(alone=False) as connection:
            append(connection, *ended(connection, table.c.token_hash == token_hash, because, at))

    def remove_of(self, principal: str, because: End, at: datetime) -> int:
        with self._db.write(alone=False) as connection:
            found = ended(connection, table.c.principal == principal, because, at)
            append(connection, *found)
        return sum(int(one.details["sessions"]) for one in found)


def ended(connection: Connection, where: ColumnElement[bool], because: End, at: datetime) -> list[AuditEntry]:
    """Ends these sessions inside an open write transaction; returns what the audit log is to hear of it, one for each person,
    for the caller to append last."""
    gone: dict[str, list[str]] = {}
    for row in connection.execute(delete(table).where(where).returning(table.c.principal, table.c.credential)):
        gone.setdefault(row.principal, []).append(row.credential)
    return [
        AuditEntry(
            action="session.ended",
            subject=principal,
            at=at,
            details={"because": because, "sessions": len(shown), "with": sorted(set(shown))},
            by=_by(principal) if because in _BY_THEMSELVES else None,
        )
        for principal, shown in sorted(gone.items())
    ]


_BY_THEMSELVES: Sequence[End] = ("signed_out", "signed_in_anew", "too_many")


def _began(session: Session) -> AuditEntry:
    details: dict[str, Any] = {"with": session.credential, "until": session.expires.isoformat()}
    return AuditEntry(
        action="session.started",
        subject=session.principal,
        at=session.created,
        details=details,
        by=_by(session.principal, session.key_id),
    )


def _by(principal: str, via: str = "") -> By:
    return By(principal=principal, via=via, request_id=whoever_acts().request_id)


def _time(microseconds: int) -> datetime:
    at = moment(microseconds)
    assert at is not None
    return at
