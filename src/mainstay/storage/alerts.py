"""Alerts and silences in SQL. What people change is written into the audit log in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from mainstay.agreement.burning import Severity
from mainstay.records.alerts import Alert, Burn, Kind, Silence
from mainstay.records.audit import AuditEntry, By
from mainstay.storage.audit import append
from mainstay.storage.database import Database, put_fact, upsert
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import alert as table
from mainstay.storage.schema import fact
from mainstay.storage.schema import silence as silence_table

LOOKED = "alerts:looked"
SET_BACK = timedelta(seconds=5)  # a look that is this much later than the clock tells that the clock was set back


class SqlAlerts:
    """``records.alerts.Store`` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def claim(self, at: datetime, every: timedelta) -> datetime | None:
        """The read comes first: nine times in ten somebody has looked already, and no writer is kept out for that."""
        if not self._due(self._last(), at, every):
            return None
        with self._db.write() as connection:  # alone: of two who both saw it due the second sees the first's
            value = connection.scalar(select(fact.c.value).where(fact.c.name == LOOKED))
            last = _moment(value)
            if not self._due(last, at, every):
                return None
            put_fact(connection, LOOKED, str(micros(at)))
        return last or datetime.fromtimestamp(0, at.tzinfo)

    def _last(self) -> datetime | None:
        with self._db.read() as connection:
            return _moment(connection.scalar(select(fact.c.value).where(fact.c.name == LOOKED)))

    @staticmethod
    def _due(last: datetime | None, at: datetime, every: timedelta) -> bool:
        return last is None or at - last >= every or last > at + SET_BACK

    def open_alerts(self) -> Sequence[Alert]:
        wanted = select(table).where(table.c.resolved.is_(None)).order_by(table.c.opened, table.c.alert_id)
        with self._db.read() as connection:
            return [_alert(row) for row in connection.execute(wanted)]

    def list(self, *, since: datetime | None = None, limit: int = 100) -> Sequence[Alert]:
        wanted = select(table)
        if since is not None:
            wanted = wanted.where(or_(table.c.resolved.is_(None), table.c.resolved >= micros(since)))
        order = (table.c.resolved.is_not(None), table.c.opened.desc(), table.c.alert_id.desc())
        with self._db.read() as connection:
            return [_alert(row) for row in connection.execute(wanted.order_by(*order).limit(limit))]

    def get(self, alert_id: str) -> Alert | None:
        if not _can_be(alert_id):
            return None
        with self._db.read() as connection:
            row = connection.execute(select(table).where(table.c.alert_id == alert_id)).first()
        return None if row is None else _alert(row)

    def begin(self, alert: Alert) -> bool:
        with self._db.write() as connection:
            made = connection.execute(
                upsert(connection, table).values(**_columns(alert)).on_conflict_do_nothing().returning(table.c.alert_id)
            ).first()
            if made is not None:
                append(connection, _said("alert.opened", alert, alert.opened))
        return made is not None

    def looked(self, alert: Alert) -> None:
        values = {
            "looked": micros(alert.looked),
            "windows": _burns(alert.burns),
            "quiet_since": micros(alert.quiet_since),
            "resolved": micros(alert.resolved),
        }
        with self._db.write() as connection:
            changed = connection.execute(
                update(table).where(table.c.alert_id == alert.id, table.c.resolved.is_(None)).values(values)
            ).rowcount
            if changed and alert.resolved is not None:
                append(connection, _said("alert.resolved", alert, alert.resolved))

    def to_tell_over(self) -> Sequence[Alert]:
        wanted = select(table).where(
            table.c.resolved.is_not(None), table.c.told.is_not(None), table.c.resolved_told == 0
        )
        with self._db.read() as connection:
            return [_alert(row) for row in connection.execute(wanted.order_by(table.c.opened, table.c.alert_id))]

    def told(self, alerts: Sequence[Alert], at: datetime, kind: Kind) -> None:
        values: dict[Any, Any] = {"resolved_told": 1} if kind == "resolved" else {"told": micros(at)}
        with self._db.write(alone=False) as connection:
            connection.execute(
                update(table)
                .where(table.c.alert_id.in_([alert.id for alert in alerts]))
                .values(values | {"notices": table.c.notices + 1})
            )

    def acknowledge(self, alert_id: str, *, by: str, note: str, at: datetime) -> Alert | None:
        if not _can_be(alert_id):
            return None
        with self._db.write() as connection:
            row = connection.execute(
                update(table)
                .where(table.c.alert_id == alert_id, table.c.resolved.is_(None))
                .values(acknowledged=micros(at), acknowledged_by=by, note=note)
                .returning(table)
            ).first()
            if row is None:
                return None
            held = _alert(row)
            append(connection, _said("alert.acknowledged", held, at, by=by, why=note))
        return held

    def silence(self, silence: Silence) -> None:
        with self._db.write() as connection:
            connection.execute(
                insert(silence_table).values(
                    silence_id=silence.id,
                    objective=silence.objective,
                    severity=silence.severity,
                    since=micros(silence.since),
                    until=micros(silence.until),
                    by_whom=silence.by,
                    note=silence.note,
                )
            )
            append(connection, _silencing("alert.silenced", silence, silence.since, by=silence.by, why=silence.note))

    def silences(self, at: datetime) -> Sequence[Silence]:
        wanted = select(silence_table).where(silence_table.c.until > micros(at))
        with self._db.read() as connection:
            found = connection.execute(wanted.order_by(silence_table.c.until, silence_table.c.silence_id))
            return [_silence(row) for row in found]

    def unsilence(self, silence_id: str, *, by: str, at: datetime) -> Silence | None:
        if not _can_be(silence_id):
            return None
        with self._db.write() as connection:
            row = connection.execute(
                update(silence_table)
                .where(silence_table.c.silence_id == silence_id, silence_table.c.until > micros(at))
                .values(until=micros(at))
                .returning(silence_table)
            ).first()
            if row is None:
                return None
            held = _silence(row)
            append(connection, _silencing("alert.unsilenced", held, at, by=by))
        return held

    def prune(self, before: datetime) -> int:
        with self._db.write(alone=False) as connection:
            gone = connection.execute(delete(table).where(table.c.resolved < micros(before))).rowcount
            connection.execute(delete(silence_table).where(silence_table.c.until < micros(before)))
        return int(gone)


def _said(action: str, alert: Alert, at: datetime, *, by: str = "", why: str = "") -> AuditEntry:
    return AuditEntry(
        action=action,
        subject=f"alert:{alert.id}",
        at=at,
        why=why,
        details={"objective": alert.objective, "severity": str(alert.severity)},
        by=By(principal=by) if by else None,
    )


def _silencing(action: str, held: Silence, at: datetime, *, by: str, why: str = "") -> AuditEntry:
    return AuditEntry(
        action=action,
        subject=f"silence:{held.id}",
        at=at,
        why=why,
        details={"objective": held.objective, "severity": held.severity, "until": held.until.isoformat()},
        by=By(principal=by),
    )


def _can_be(name: str) -> bool:
    """Whether a text from outside can name anything here: no database takes every character in a statement."""
    return name.isascii() and name.isprintable()


def _moment(value: str | None) -> datetime | None:
    return None if value is None else moment(int(value))


def _burns(burns: Sequence[Burn]) -> str:
    return dumps([asdict(one) for one in burns])


def _columns(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.id,
        "objective": alert.objective,
        "severity": alert.severity,
        "opened": micros(alert.opened),
        "looked": micros(alert.looked),
        "windows": _burns(alert.burns),
        "quiet_since": micros(alert.quiet_since),
        "acknowledged": micros(alert.acknowledged),
        "acknowledged_by": alert.acknowledged_by,
        "note": alert.note,
        "told": micros(alert.told),
        "notices": alert.notices,
        "resolved": micros(alert.resolved),
        "resolved_told": int(alert.resolved_told),
    }


def _alert(row: Row[Any]) -> Alert:
    opened, looked = moment(row.opened), moment(row.looked)
    assert opened is not None
    assert looked is not None
    return Alert(
        id=row.alert_id,
        objective=row.objective,
        severity=Severity(row.severity),
        opened=opened,
        looked=looked,
        burns=tuple(Burn(**one) for one in json.loads(row.windows)),
        quiet_since=moment(row.quiet_since),
        acknowledged=moment(row.acknowledged),
        acknowledged_by=row.acknowledged_by,
        note=row.note,
        told=moment(row.told),
        notices=row.notices,
        resolved=moment(row.resolved),
        resolved_told=bool(row.resolved_told),
    )


def _silence(row: Row[Any]) -> Silence:
    since, until = moment(row.since), moment(row.until)
    assert since is not None
    assert until is not None
    return Silence(
        id=row.silence_id,
        objective=row.objective,
        severity=row.severity,
        since=since,
        until=until,
        by=row.by_whom,
        note=row.note,
    )
