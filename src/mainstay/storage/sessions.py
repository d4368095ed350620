"""Who is signed in, in SQL."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from mainstay.access.sessions import Session
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
            connection.execute(delete(table).where(table.c.expires <= micros(session.created)))
            kept = connection.scalars(newest).all()
            if len(kept) == most:
                connection.execute(
                    delete(table).where(table.c.principal == session.principal, table.c.token_hash.not_in(kept))
                )

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

    def remove(self, token_hash: str) -> None:
        with self._db.write(alone=False) as connection:
            connection.execute(delete(table).where(table.c.token_hash == token_hash))

    def remove_of(self, principal: str) -> int:
        with self._db.write(alone=False) as connection:
            return connection.execute(delete(table).where(table.c.principal == principal)).rowcount


def _time(microseconds: int) -> datetime:
    at = moment(microseconds)
    assert at is not None
    return at
