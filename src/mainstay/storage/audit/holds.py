"""Legal holds: nothing of their subject is erased or forgotten while they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, insert, or_, select, update

from mainstay.errors import Invalid, NotFound
from mainstay.records.audit.events import HELD, MAX_WHY, RELEASED, AuditEntry, whoever_acts
from mainstay.storage.audit.appending import append
from mainstay.storage.audit.rows import moment_of
from mainstay.storage.database import Database
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import legal_hold
from mainstay.types import Clock


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A legal hold: nothing of its subject is erased or forgotten while it stands."""

    id: str
    subject: str
    why: str
    by: str
    placed: datetime
    lifted: datetime | None


class SqlHolds:
    """Legal holds over SQL; the log says who placed and lifted them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

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
                    placed=moment_of(row.placed),
                    lifted=moment(row.lifted),
                )
                for row in connection.execute(wanted)
            ]

    def on_hold(self, *subjects: str) -> bool:
        """Whether a legal hold stands on any of them: who erases or forgets asks first."""
        with self._db.read() as connection:
            return connection.scalar(holds_on(subjects).limit(1)) is not None


def holds_on(subjects: Sequence[str]) -> Any:
    return select(legal_hold.c.hold_id).where(legal_hold.c.subject.in_(subjects), legal_hold.c.lifted.is_(None))


def bound(*subjects: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a legal hold stands on any of these subjects of a row: what forgets by age leaves such rows."""
    return exists().where(legal_hold.c.lifted.is_(None), or_(*(legal_hold.c.subject == one for one in subjects)))
