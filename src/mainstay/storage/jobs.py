"""The queue of jobs in SQL: ``SKIP LOCKED`` between claimers, a token that grows with each claim, leases by one clock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, literal, or_, select, update
from sqlalchemy.exc import IntegrityError

from mainstay.errors import Conflict, NotFound, Unavailable
from mainstay.storage.database import Database, upsert
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import job as table
from mainstay.types import Clock
from mainstay.workflows.ports import Fence, Job, JobState, Standing

TOPIC = "job"
LIVE = (JobState.READY, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.CANCELLED, JobState.DEAD)
SET_BACK_US = 5_000_000  # a row that is this much later than the clock tells that the clock was set back
_TRIES = 100
_FREE: dict[str, Any] = {"owner": "", "lease_until": None, "heartbeat_at": None}


class SqlQueue:
    """``workflows.ports.Queue`` over either database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """``clock`` makes ids; times are the database's."""
        self._db, self._clock = database, clock
        self._ear = threading.Lock()  # a database has one ear: whose turn it is listens for the other threads too
        self._heard = threading.Condition()

    def add(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        key: str = "",
        priority: int = 100,
        delay_s: float = 0.0,
        max_attempts: int = 5,
        requested_by: str = "",
        again: bool = False,
    ) -> Job:
        wanted = {
            "kind": kind,
            "key": key,
            "payload": dumps(payload),
            "priority": priority,
            "max_attempts": max_attempts,
            "requested_by": requested_by,
        }
        for _ in range(_TRIES):
            try:
                with self._db.write(alone=False) as connection:
                    row = self._added(connection, wanted, delay_s=delay_s, again=again)
            except IntegrityError:
                continue  # another made this key live while we began a dead one anew: take that one
            if row is not None:
                return _job(row)
        raise Conflict(f"the key {key} is never free and never held", where="job")

    def add_due(
        self, kind: str, payload: Mapping[str, Any], *, key: str, every_s: float, since: datetime | None
    ) -> Job | None:
        with self._db.read() as connection:
            if not self._due(connection, key, every_s, since):
                return None
        wanted = {
            "kind": kind,
            "key": key,
            "payload": dumps(payload),
            "priority": 100,
            "max_attempts": 5,
            "requested_by": "schedule",
        }
        try:
            with self._db.write() as connection:  # alone: of two who both saw it due, the second sees the first's job
                if not self._due(connection, key, every_s, since):
                    return None
                row = self._added(connection, wanted, delay_s=0.0, again=False)
        except IntegrityError:
            return None
        return None if row is None else _job(row)

    def _due(self, connection: Connection, key: str, every_s: float, since: datetime | None) -> bool:
        """By jobs first: they carry the database's time, where ``since`` carries that of the machine that ran one."""
        live, last = connection.execute(
            select(func.count(case((table.c.state.in_(LIVE), 1))), func.max(table.c.updated)).where(table.c.key == key)
        ).one()
        last = micros(since) if last is None else last
        now = self._db.now(connection)
        return not live and (last is None or last + every_s * 1_000_000 <= now or last > now + SET_BACK_US)

    def _added(self, connection: Connection, wanted: dict[str, Any], *, delay_s: float, again: bool) -> Row[Any] | None:
        """The job, or None when another writer came between: then it is to be tried once more."""
        now = self._db.now(connection)
        values = {
            **wanted,
            **_FREE,
            "state": JobState.READY,
            "attempts": 0,
            "run_at": now + _micros(delay_s),
            "progress": "{}",
            "result": "{}",
            "error": "",
            "updated": now,
        }
        if wanted["key"]:
            same = select(table).where(table.c.key == wanted["key"])
            live = connection.execute(same.where(table.c.state.in_(LIVE))).first()
            if live is not None:
                return live
            ended = (JobState.DEAD, JobState.DONE) if again else (JobState.DEAD,)
            last = same.where(table.c.state.in_(ended)).order_by(table.c.updated.desc(), table.c.job_id.desc()).limit(1)
            if (held := connection.execute(last).first()) is not None:
                begun = connection.execute(
                    update(table)
                    .where(table.c.job_id == held.job_id, table.c.state == held.state)
                    .values(values)
                    .returning(table)
                ).first()
                self._db.notify(connection, TOPIC)
                return begun
        row = connection.execute(
            upsert(connection, table)
            .values(job_id=self._clock.new_id("job"), token=0, created=now, **values)
            .on_conflict_do_nothing()
            .returning(table)
        ).first()
        self._db.notify(connection, TOPIC)
        return row

    def claim(self, owner: str, kinds: Sequence[str], *, lease_s: float, job_id: str | None = None) -> Job | None:
        if not kinds:
            return None
        while True:
            # SQLite has one writer: who only looks does not take the turn from one who has something to write.
            if self._db.dialect == "sqlite" and not self._anything(kinds, job_id):
                return None
            with self._db.write(alone=False) as connection:
                row = claim_within(connection, self._db, owner, kinds, lease_s=lease_s, job_id=job_id)
            if row is None:
                return None
            if row.state == JobState.RUNNING:
                return _job(row)

    def _anything(self, kinds: Sequence[str], job_id: str | None) -> bool:
        with self._db.read() as connection:
            wanted = _takeable(table, self._db.now(connection), kinds, job_id)
            return connection.execute(select(table.c.job_id).where(wanted).limit(1)).first() is not None

    def heartbeat(self, fence: Fence, *, lease_s: float, progress: Mapping[str, Any] | None = None) -> JobState:
        # A lost heartbeat does no harm, so none waits for the disk.
        with self._db.write(alone=False, durable=False) as connection:
            now = self._db.now(connection)
            values: dict[str, Any] = {"lease_until": now + _micros(lease_s), "heartbeat_at": now, "updated": now}
            if progress is not None:
                values["progress"] = dumps(progress)
            if connection.execute(update(table).where(_held(fence)).values(values)).rowcount:
                return JobState.RUNNING
            row = connection.execute(
                select(table.c.token, table.c.state).where(table.c.job_id == fence.job_id)
            ).one_or_none()
        if row is not None and (row.token, row.state) == (fence.token, JobState.CANCELLED):
            return JobState.CANCELLED
        raise _not_yours(fence)

    def finish(self, fence: Fence, result: Mapping[str, Any]) -> None:
        with self._db.write(alone=False) as connection:
            now = self._db.now(connection)
            values: dict[str, Any] = {"state": JobState.DONE, "result": dumps(result), "progress": "{}", "error": ""}
            values |= {"lease_until": None, "updated": now}
            if not connection.execute(update(table).where(_held(fence)).values(values)).rowcount:
                raise _not_yours(fence)
            self._db.notify(connection, TOPIC)

    def fail(self, fence: Fence, error: str, *, retry_s: float | None) -> Job:
        with self._db.write(alone=False) as connection:
            now = self._db.now(connection)
            left = literal(retry_s is not None) & (table.c.attempts < table.c.max_attempts)
            row = connection.execute(
                update(table)
                .where(_held(fence))
                .values(
                    state=case((left, JobState.READY), else_=JobState.DEAD),
                    run_at=now + _micros(retry_s or 0.0),
                    error=error,
                    lease_until=None,
                    updated=now,
                )
                .returning(table)
            ).first()
            if row is None:
                raise _not_yours(fence)
            self._db.notify(connection, TOPIC)
        return _job(row)

    def release(self, fence: Fence) -> None:
        with self._db.write(alone=False) as connection:
            now = self._db.now(connection)
            values = {
                **_FREE,
                "state": JobState.READY,
                "attempts": table.c.attempts - 1,
                "run_at": now,
                "updated": now,
            }
            if not connection.execute(update(table).where(_held(fence)).values(values)).rowcount:
                raise _not_yours(fence)
            self._db.notify(connection, TOPIC)

    def retry(self, job_id: str) -> Job:
        if not _can_be(job_id):
            raise _unknown(job_id)
        try:
            with self._db.write(alone=False) as connection:
                now = self._db.now(connection)
                row = connection.execute(
                    update(table)
                    .where(table.c.job_id == job_id, table.c.state.in_((JobState.DEAD, JobState.CANCELLED)))
                    .values(**_FREE, state=JobState.READY, attempts=0, run_at=now, updated=now)
                    .returning(table)
                ).first()
                if row is None:
                    raise self._other(connection, job_id, "only a dead or cancelled job is tried again")
                self._db.notify(connection, TOPIC)
        except IntegrityError:
            raise Conflict(
                "the same work is waiting or running already", where=job_id, fix="see: mainstay jobs list"
            ) from None
        return _job(row)

    def cancel(self, job_id: str) -> Job:
        if not _can_be(job_id):
            raise _unknown(job_id)
        with self._db.write(alone=False) as connection:
            now = self._db.now(connection)
            row = connection.execute(
                update(table)
                .where(table.c.job_id == job_id, table.c.state.in_((*LIVE, JobState.DEAD)))
                .values(state=JobState.CANCELLED, lease_until=None, updated=now)
                .returning(table)
            ).first()
            if row is None:
                raise self._other(connection, job_id, "nothing is left to be cancelled")
            self._db.notify(connection, TOPIC)
        return _job(row)

    def _other(self, connection: Connection, job_id: str, why: str) -> Conflict | NotFound:
        state = connection.scalar(select(table.c.state).where(table.c.job_id == job_id))
        if state is None:
            return _unknown(job_id)
        return Conflict(f"it is {state}: {why}", where=job_id, fix="see: mainstay jobs show ID")

    def get(self, job_id: str) -> Job | None:
        if not _can_be(job_id):
            return None
        with self._db.read() as connection:
            row = connection.execute(select(table).where(table.c.job_id == job_id)).first()
            return None if row is None else _job(row)

    def recent(self, *, state: JobState | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        if kind is not None and not _can_be(kind):
            return []
        wanted = select(table).order_by(table.c.created.desc(), table.c.job_id.desc()).limit(limit)
        if state is not None:
            wanted = wanted.where(table.c.state == state)
        if kind is not None:
            wanted = wanted.where(table.c.kind == kind)
        with self._db.read() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def standing(self) -> Standing:
        with self._db.read() as connection:
            now = self._db.now(connection)
            rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
            counted = {JobState(state): count for state, count in rows}
            oldest = connection.scalar(
                select(func.min(table.c.run_at)).where(table.c.state == JobState.READY, table.c.run_at <= now)
            )
        waited = 0.0 if oldest is None else (now - oldest) / 1_000_000
        return Standing(jobs={state: counted.get(state, 0) for state in JobState}, oldest_due_s=waited)

    def wait(self, timeout_s: float) -> None:
        if not self._ear.acquire(blocking=False):
            with self._heard:
                self._heard.wait(timeout_s)
            return
        try:
            self._db.wait(TOPIC, timeout_s)
        except Unavailable:
            time.sleep(min(timeout_s, 1.0))  # a hint is not to be had; who looks for a job next says what is wrong
        finally:
            self._ear.release()
            with self._heard:
                self._heard.notify_all()

    def prune(self, *, before: datetime) -> int:
        old = and_(table.c.state.in_((JobState.DONE, JobState.CANCELLED)), table.c.updated < (micros(before) or 0))
        with self._db.write(alone=False) as connection:
            return int(connection.execute(delete(table).where(old)).rowcount)


def claim_within(
    connection: Connection, database: Database, owner: str, kinds: Sequence[str], *, lease_s: float, job_id: str | None
) -> Row[Any] | None:
    """One claim inside an open transaction: the job, now ``running``, or ``dead`` when its attempts are used up.

    One statement: between choosing a row and taking it nobody else can choose it. ``SKIP LOCKED`` passes over rows that
    another claimer holds, or that a fenced write is holding on to. (SQLite's writers come one by one.)
    """
    now = database.now(connection)
    waiting = table.alias("waiting")
    chosen = (
        select(waiting.c.job_id)
        .where(_takeable(waiting, now, kinds, job_id))
        .order_by(waiting.c.priority, waiting.c.run_at, waiting.c.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    used_up = and_(table.c.state == JobState.RUNNING, table.c.attempts >= table.c.max_attempts)
    silent = literal("worker ") + table.c.owner + literal(" fell silent, and every attempt is used up")
    return connection.execute(
        update(table)
        .where(table.c.job_id == chosen)
        .values(
            state=case((used_up, JobState.DEAD), else_=JobState.RUNNING),
            error=case((used_up, silent), else_=table.c.error),
            attempts=case((used_up, table.c.attempts), else_=table.c.attempts + 1),
            owner=case((used_up, table.c.owner), else_=owner),
            token=table.c.token + 1,
            lease_until=case((used_up, None), else_=now + _micros(lease_s)),
            heartbeat_at=case((used_up, table.c.heartbeat_at), else_=now),
            updated=now,
        )
        .returning(table)
    ).first()


def _takeable(rows: Any, now: int, kinds: Sequence[str], job_id: str | None) -> ColumnElement[bool]:
    set_back = rows.c.updated > now + SET_BACK_US
    lapsed = and_(rows.c.state == JobState.RUNNING, or_(rows.c.lease_until <= now, set_back))
    ready = rows.c.state == JobState.READY
    if job_id is not None:
        return and_(rows.c.job_id == job_id, rows.c.kind.in_(kinds), or_(ready, lapsed))
    due = and_(ready, or_(rows.c.run_at <= now, set_back))
    return and_(rows.c.state.in_(LIVE), rows.c.kind.in_(kinds), or_(due, lapsed))


def _held(fence: Fence) -> ColumnElement[bool]:
    return and_(table.c.job_id == fence.job_id, table.c.token == fence.token, table.c.state == JobState.RUNNING)


def _not_yours(fence: Fence) -> Conflict:
    return Conflict(f"job {fence.job_id} belongs to another worker now", fix="nothing to do: that one goes on with it")


def _can_be(name: str) -> bool:
    """Whether a text from outside can name anything here: no database takes every character in a statement."""
    return name.isascii() and name.isprintable()


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"no job {job_id[:60]!a}", fix="see: mainstay jobs list")


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _job(row: Row[Any]) -> Job:
    run_at, created, updated = moment(row.run_at), moment(row.created), moment(row.updated)
    assert run_at is not None
    assert created is not None
    assert updated is not None
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        key=row.key,
        payload=json.loads(row.payload),
        state=JobState(row.state),
        priority=row.priority,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        token=row.token,
        owner=row.owner,
        run_at=run_at,
        lease_until=moment(row.lease_until),
        heartbeat_at=moment(row.heartbeat_at),
        progress=json.loads(row.progress),
        result=json.loads(row.result),
        error=row.error,
        requested_by=row.requested_by,
        created=created,
        updated=updated,
    )
