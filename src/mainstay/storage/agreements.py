"""Versions of the agreement and who approved them, in SQL. Nothing here is ever changed or deleted: it is a record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from mainstay.errors import Invalid, NotFound
from mainstay.records.audit import AuditEntry
from mainstay.storage.audit import append
from mainstay.storage.database import Database, put_fact, upsert
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import agreement_approval, agreement_version, fact
from mainstay.types import Clock

MAX_NAME, MAX_NOTE = 200, 2000
IN_FORCE = "agreement:in_force"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One content the agreement has had, and when it was first met."""

    digest: str
    content: str
    first_seen: datetime


@dataclass(frozen=True, kw_only=True)
class Approval:
    """Somebody stands for one version, in a role."""

    approval_id: str
    digest: str
    name: str
    role: str
    note: str
    at: datetime


class SqlAgreements:
    """What is remembered of the agreement."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

    def seen(self, digest: str, content: str) -> None:
        """This version is in force from now on: called when a service starts with it. A new one is remembered."""
        in_force = select(fact.c.value).where(fact.c.name == IN_FORCE)
        with self._db.read() as connection:
            if connection.scalar(in_force) == digest:
                return
        now = self._clock.now()
        with self._db.write() as connection:
            connection.execute(
                upsert(connection, agreement_version)
                .values(digest=digest, content=content, first_seen=micros(now))
                .on_conflict_do_nothing()
            )
            before = connection.scalar(in_force)
            if before != digest:
                put_fact(connection, IN_FORCE, digest)
                said = {"before": before or "", "after": digest}
                entry = AuditEntry(
                    action="agreement.in_force",
                    subject=f"agreement:{digest}",
                    at=now,
                    before=before,
                    after=digest,
                    details=said,
                )
                append(connection, entry)

    def version(self, digest: str) -> Version | None:
        with self._db.read() as connection:
            wanted = select(agreement_version).where(agreement_version.c.digest == digest)
            row = connection.execute(wanted).first()
        return None if row is None else _version(row)

    def find(self, start: str) -> Version:
        """The version whose digest begins like this. Errors: NotFound; Invalid when there are several."""
        found = [version for version in self.versions() if version.digest.startswith(start)]
        if not found or not start:
            raise NotFound(f"no version {start[:60]!r} of the agreement", fix="see: mainstay agreement show")
        if len(found) > 1:
            raise Invalid(f"{start[:60]!r} begins {len(found)} versions of the agreement", fix="write more of it")
        return found[0]

    def versions(self) -> list[Version]:
        """All of them, the newest first."""
        newest = (agreement_version.c.first_seen.desc(), agreement_version.c.digest)
        with self._db.read() as connection:
            return [_version(row) for row in connection.execute(select(agreement_version).order_by(*newest))]

    def approve(self, digest: str, name: str, role: str, note: str = "") -> Approval:
        """Record that somebody stands for this version. Errors: NotFound for one never seen, Invalid without a name."""
        for value, what, most in (
            (name, "the name", MAX_NAME),
            (role, "the role", MAX_NAME),
            (note, "the note", MAX_NOTE),
        ):
            if len(value) > most or not value.isprintable():
                raise Invalid(f"{what} is longer than {most} characters, or has some that can not be printed")
            if not value.strip() and what != "the note":
                raise Invalid(f"{what} is empty", fix='write: --as "Ada Lovelace" --role "head of service"')
        if self.version(digest) is None:
            raise NotFound(f"no version {digest[:60]!r} of the agreement")
        approval = Approval(
            approval_id=self._clock.new_id("apv"),
            digest=digest,
            name=name.strip(),
            role=role.strip(),
            note=note.strip(),
            at=self._clock.now(),
        )
        with self._db.write(alone=False) as connection:
            connection.execute(
                insert(agreement_approval).values(
                    approval_id=approval.approval_id,
                    digest=digest,
                    name=approval.name,
                    role=approval.role,
                    note=approval.note,
                    at=micros(approval.at),
                )
            )
            entry = AuditEntry(
                action="agreement.approved",
                subject=f"agreement:{digest}",
                at=approval.at,
                after=digest,
                why=approval.note,
                details={"approval": approval.approval_id, "name": approval.name, "role": approval.role},
            )
            append(connection, entry)
        return approval

    def approvals(self, digest: str | None = None) -> list[Approval]:
        """The newest first, of one version or of all."""
        wanted = select(agreement_approval).order_by(
            agreement_approval.c.at.desc(), agreement_approval.c.approval_id.desc()
        )
        if digest is not None:
            wanted = wanted.where(agreement_approval.c.digest == digest)
        with self._db.read() as connection:
            return [_approval(row) for row in connection.execute(wanted)]


def _version(row: Row[Any]) -> Version:
    return Version(digest=row.digest, content=row.content, first_seen=_at(row.first_seen))


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        approval_id=row.approval_id, digest=row.digest, name=row.name, role=row.role, note=row.note, at=_at(row.at)
    )


def _at(value: int) -> datetime:
    at = moment(value)
    assert at is not None
    return at
