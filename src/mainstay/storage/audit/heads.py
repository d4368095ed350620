"""Signed heads of the audit log."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, insert

from mainstay.errors import Conflict
from mainstay.records.audit import merkle
from mainstay.records.audit.events import KEY, SERVICE, AuditEntry
from mainstay.records.audit.heads import Head, Signer
from mainstay.storage.audit.appending import append, locked
from mainstay.storage.audit.rows import announced, micros_of, newest_head, root_of, size_of
from mainstay.storage.database import Database
from mainstay.storage.schema import audit_head
from mainstay.types import Clock


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
            size, last = size_of(connection), newest_head(connection)
        if not self._due(size, last, now=now):
            return None
        signer = self._signer()
        with self._db.write(alone=False) as connection:  # durable: with it, everything it covers has reached the disk
            log, frontier = locked(connection)
            last = newest_head(connection)
            if not self._due(frontier.size, last, now=now):
                return None
            self._goes_on(connection, frontier, last)
            if (last is None or last.key != signer.id) and signer.id not in announced(connection):
                details = {"key": signer.id, "public": signer.public.hex(), "before": last.key if last else ""}
                append(
                    connection,
                    AuditEntry(
                        action=KEY, subject=f"key:{signer.id}", at=self._clock.now(), details=details, owner=SERVICE
                    ),
                )
                frontier = locked(connection)[1]
            head = signer.sign(log=log, size=frontier.size, root=frontier.root, at=micros_of(self._clock.now()))
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
        return (micros_of(self._clock.now()) - last.at) / 1_000_000 >= self._every_s

    def _goes_on(self, connection: Connection, frontier: merkle.Frontier, last: Head | None) -> None:
        """O(log n): whether the tree still begins with what was signed last, by the database's word and by our own."""
        for known in {held.size: held for held in (last, self._signed) if held is not None}.values():
            if known.size > frontier.size:
                raise Conflict(
                    f"the audit log has {frontier.size} events, and {known.size} were signed",
                    where="audit",
                    fix="an older state of the database was brought back, or events were deleted: mainstay audit verify",
                )
            if root_of(connection, known.size).hex() != known.root:
                raise Conflict(
                    f"the audit log is not the one that was signed at {known.size} events",
                    where="audit",
                    fix="run: mainstay audit verify",
                )
