"""Decision records: the events of the audit log that say how an answer came to be, found by request id."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, select

from mainstay.errors import NotFound
from mainstay.records.audit.events import DECISION, SERVICE, Proof
from mainstay.records.audit.sealing import is_person
from mainstay.records.decisions import Decision, DecisionRecord, checked_request_id
from mainstay.storage.audit.appending import Said, append_said, locked
from mainstay.storage.audit.rows import Known, line_of, proof_of, some_of
from mainstay.storage.database import Database
from mainstay.storage.hot import Hot
from mainstay.storage.schema import audit_event, decision

_PUT_DECISION = Hot(insert(decision), columns=decision.c.keys())


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
            known = Known(connection, [row])
            body = known.body(row)
            record = None if body is None else DecisionRecord.read(known.named(json.loads(body)))
            return Decision(request_id=request_id, n=row.n, line=line_of(row), record=record)

    def proof(self, request_id: str) -> Proof:
        with self._db.read() as connection:
            n = connection.scalar(select(decision.c.n).where(decision.c.request_id == checked_request_id(request_id)))
            if n is None:
                raise NotFound("no such decision", where=request_id[:60])
            return proof_of(connection, int(n), None)


def put_decisions(connection: Connection, records: Sequence[DecisionRecord]) -> None:
    """See ``SqlDecisions.put_all``."""
    if not records:
        return
    locked(connection)
    wanted = list({record.request_id: record for record in reversed(records)}.values())[::-1]
    taken: set[str] = set()
    for some in some_of([record.request_id for record in wanted]):
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
