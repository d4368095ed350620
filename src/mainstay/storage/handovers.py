"""Questions for a person, in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, exists, insert, literal, select, update

from mainstay.handover import HandOver, Source, State
from mainstay.records.audit import AuditEntry
from mainstay.storage.audit import append, bound
from mainstay.storage.database import Database
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import handover as table
from mainstay.storage.schema import job
from mainstay.workflows.ports import Fence, JobState

KIND = "handover"
_LIVE = (JobState.READY, JobState.RUNNING)
_GIVEN_UP = (JobState.DEAD, JobState.CANCELLED)


def job_key(handover_id: str) -> str:
    """The key of the job that delivers it."""
    return f"{KIND}:{handover_id}"


class SqlHandOvers:
    """``handover.HandOvers`` over SQL."""

    def __init__(self, database: Database, *, fence: Fence | None = None) -> None:
        self._db, self._fence = database, fence

    def under(self, fence: Fence) -> SqlHandOvers:
        """The same hand-overs, written to only while the fence holds: Conflict afterwards."""
        return SqlHandOvers(self._db, fence=fence)

    def create(self, held: HandOver) -> None:
        at = micros(held.at)
        with self._db.write(alone=False, fence=self._fence) as connection:
            connection.execute(
                insert(table).values(
                    handover_id=held.id,
                    request_id=held.request_id,
                    at=at,
                    principal=held.principal,
                    reason=held.reason,
                    state=held.state,
                    content=_content(held),
                    detail=held.detail,
                    updated=at,
                )
            )

    def get(self, handover_id: str) -> HandOver | None:
        if not _can_be(handover_id):
            return None
        with self._db.read() as connection:
            row = connection.execute(select(table).where(table.c.handover_id == handover_id)).first()
        return None if row is None else _handover(row)

    def list(
        self,
        *,
        state: State | None = None,
        principal: str | None = None,
        request_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[HandOver]:
        wanted = select(table).order_by(table.c.at.desc(), table.c.handover_id.desc()).limit(limit)
        if state is not None:
            wanted = wanted.where(table.c.state == state)
        if principal is not None:
            wanted = wanted.where(table.c.principal == principal)
        if request_id is not None:
            if not _can_be(request_id):
                return []
            wanted = wanted.where(table.c.request_id == request_id)
        with self._db.read() as connection:
            return [_handover(row) for row in connection.execute(wanted)]

    def set_state(
        self, handover_id: str, state: State, *, detail: str, at: datetime, only_from: Sequence[State]
    ) -> bool:
        if not _can_be(handover_id):
            return False
        with self._db.write(alone=False, fence=self._fence) as connection:
            standing = select(table.c.state, table.c.principal).where(
                table.c.handover_id == handover_id, table.c.state.in_(only_from)
            )
            held = connection.execute(standing.with_for_update()).first()
            if held is None:
                return False
            connection.execute(
                update(table)
                .where(table.c.handover_id == handover_id)
                .values(state=state, detail=detail, updated=micros(at))
            )
            if held.state != state:
                entry = AuditEntry(
                    action=f"handover.{state}",
                    subject=f"handover:{handover_id}",
                    at=at,
                    before=held.state,
                    after=str(state),
                    details={"asked_by": held.principal},
                    owner=held.principal if held.principal.startswith("user:") else "",
                )
                append(connection, entry)
            return True

    def mark_sent(self, handover_id: str, way: str, *, at: datetime) -> None:
        with self._db.write(alone=False, fence=self._fence) as connection:
            content = connection.scalar(
                select(table.c.content).where(table.c.handover_id == handover_id).with_for_update()
            )
            if content is None:
                return
            held = json.loads(content)
            held["sent"] = list(dict.fromkeys([*held["sent"], way]))
            connection.execute(
                update(table).where(table.c.handover_id == handover_id).values(content=dumps(held), updated=micros(at))
            )

    def adrift(self, *, limit: int = 100) -> Sequence[tuple[str, str | None]]:
        key = literal(f"{KIND}:") + table.c.handover_id
        # In the words of the index over what is waiting and running, so that it is used.
        cared_for = exists().where(job.c.key == key, job.c.key != "", job.c.state.in_(_LIVE))
        wanted = (
            select(table.c.handover_id)
            .where(table.c.state == State.WAITING, ~cared_for)
            .order_by(table.c.at, table.c.handover_id)
            .limit(limit)
        )
        with self._db.read() as connection:
            found = list(connection.scalars(wanted))
            last = {
                handover_id: connection.execute(
                    select(job.c.state, job.c.error)
                    .where(job.c.key == job_key(handover_id))
                    .order_by(job.c.updated.desc(), job.c.job_id.desc())
                    .limit(1)
                ).first()
                for handover_id in found
            }
        return [
            (one, (row.error or f"its job is {row.state}") if row is not None and row.state in _GIVEN_UP else None)
            for one, row in last.items()
        ]

    def prune(self, *, before: datetime) -> int:
        with self._db.write(alone=False, fence=self._fence) as connection:
            free = ~bound(table.c.principal, "request:" + table.c.request_id)
            return int(connection.execute(delete(table).where(table.c.at < (micros(before) or 0), free)).rowcount)


def _can_be(name: str) -> bool:
    """Whether a text from outside can name anything here: no database takes every character in a statement."""
    return name.isascii() and name.isprintable()


def _content(held: HandOver) -> str:
    return dumps(
        {
            "question": held.question,
            "history": held.history,
            "sources": [asdict(source) for source in held.sources],
            "draft": held.draft,
            "language": held.language,
            "sent": held.sent,
        }
    )


def _handover(row: Row[Any]) -> HandOver:
    content = json.loads(row.content)
    at = moment(row.at)
    assert at is not None
    return HandOver(
        id=row.handover_id,
        request_id=row.request_id,
        at=at,
        principal=row.principal,
        reason=row.reason,
        question=content["question"],
        history=tuple((role, said) for role, said in content["history"]),
        sources=tuple(Source(**source) for source in content["sources"]),
        draft=content["draft"],
        language=content["language"],
        state=State(row.state),
        sent=tuple(content["sent"]),
        detail=row.detail,
    )
