"""Adding to the audit log.

``append`` is called inside the transaction that changes state: both are there, or neither. Whoever appends locks the one row of
``audit_log`` first, which holds the right edge of the tree; from then until the commit nobody else does, so that numbers have
no gaps and the tree is that of the events in their order. Call it last in a transaction that takes other locks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from mainstay.errors import Invalid
from mainstay.guard.redaction import Redactor
from mainstay.records.audit import merkle
from mainstay.records.audit.events import MAX_WHY, SERVICE, AuditEntry, HeadLine, canonical, whoever_acts
from mainstay.records.audit.sealing import (
    SALT_BYTES,
    Owner,
    body_digest,
    is_person,
    new_owner,
    owner_of,
    people_in,
    renamed,
)
from mainstay.storage.audit.rows import about, frontier_of, micros_of, some_of
from mainstay.storage.database import upsert
from mainstay.storage.hot import Hot
from mainstay.storage.schema import audit_event, audit_key, audit_log, audit_node

BODY_FORMAT = 1
_SECRETS = Redactor(personal=False)  # the log must know who; what nobody may know is not in it


_LOCK = Hot(select(audit_log.c.log_id, audit_log.c.size, audit_log.c.peaks).with_for_update())
_MOVE = Hot(update(audit_log).values(size=bindparam("new_size"), peaks=bindparam("new_peaks")))
_PUT_EVENT = Hot(insert(audit_event), columns=audit_event.c.keys())
_PUT_NODE = Hot(insert(audit_node), columns=audit_node.c.keys())
_PUT_KEY = Hot(insert(audit_key), columns=audit_key.c.keys())
_KEY_NAMED = Hot(select(audit_key.c.name, audit_key.c.secret).where(audit_key.c.name == bindparam("name")))


@dataclass(frozen=True)
class Said:
    """One event to be appended: its body as it is, with names, before anybody is renamed."""

    action: str
    at: int
    owner: str
    people: frozenset[str]
    body: Mapping[str, Any]
    before: object | None = None
    after: object | None = None
    states_of: str = SERVICE  # whose secret the hashes of the states are made with
    named_in: tuple[str, ...] = ()  # where in the body people stand, if that is known: else they are looked for


def said(entry: AuditEntry) -> Said:
    """What an entry says, with whoever acts."""
    by = entry.by or whoever_acts()
    why = entry.why or by.why
    if len(why) > MAX_WHY:
        raise Invalid(f"the reason has {len(why)} characters, at most {MAX_WHY} are kept", where="why")
    body = {
        "actor": by.principal,
        "details": renamed(_SECRETS.clean(entry.details), {}),
        "format": BODY_FORMAT,
        "request": by.request_id,
        "subject": entry.subject,
        "via": by.via,
        "why": _SECRETS.redact(why),
    }
    owner = entry.owner or owner_of(entry.subject, by.principal)
    people = people_in(body) | people_in(entry.before) | people_in(entry.after)
    return Said(
        action=entry.action,
        at=micros_of(entry.at),
        owner=owner,
        people=frozenset(people),
        body=body,
        before=entry.before,
        after=entry.after,
        # Equal states have equal hashes, so that they can be followed from event to event: those of a person under their
        # own secret, all others under the service's.
        states_of=entry.subject if is_person(entry.subject) else SERVICE,
    )


def append(connection: Connection, *entries: AuditEntry) -> list[HeadLine]:
    """Add events to the log in an open write transaction; they are there if it commits. An error here is one of the whole."""
    return append_said(connection, [said(entry) for entry in entries])


def append_said(connection: Connection, events: Sequence[Said]) -> list[HeadLine]:
    """The same, for what was put into the log's form before."""
    if not events:
        return []
    frontier = locked(connection)[1]
    names = {one.owner for one in events}.union(*(one.people for one in events))
    names |= {one.states_of for one in events if one.before is not None or one.after is not None}
    owners = _owners(connection, names, events[0].at)
    rows: list[dict[str, Any]] = []
    lines: list[HeadLine] = []
    for n, one in enumerate(events, frontier.size):
        owner = owners[one.owner]
        naming = {name: owners[name].pseudonym for name in one.people}
        if one.named_in:
            body = canonical({**one.body, **{key: naming.get(one.body[key], one.body[key]) for key in one.named_in}})
        else:
            body = canonical(renamed(one.body, naming) if naming else one.body)
        salt = secrets.token_bytes(SALT_BYTES)
        states = owners.get(one.states_of, owner)
        line = HeadLine(
            n=n,
            at=one.at,
            action=one.action,
            owner=owner.pseudonym,
            before=states.state(renamed(one.before, naming)),
            after=states.state(renamed(one.after, naming)),
            body=body_digest(salt, body),
        )
        leaf = line.leaf
        rows.append(
            {
                "n": n,
                "at": one.at,
                "action": one.action,
                "owner": line.owner,
                "before": line.before,
                "after": line.after,
                "digest": line.body,
                "leaf": leaf,
                "salt": salt,
                "body": owner.sealed(body, about(n)),
            }
        )
        lines.append(line)
    grown, made = frontier.plus([row["leaf"] for row in rows])
    _PUT_EVENT.run_many(connection, rows)
    if made:
        nodes = [{"level": level, "position": position, "hash": held} for (level, position), held in made]
        _PUT_NODE.run_many(connection, nodes)
    _MOVE.run(connection, {"new_size": grown.size, "new_peaks": _peaks(grown)})
    return lines


def locked(connection: Connection) -> tuple[str, merkle.Frontier]:
    """The log's id and the edge of its tree, locked until the transaction ends (SQLite: the whole database is)."""
    row = _LOCK.run(connection).first()
    if row is None:
        connection.execute(
            upsert(connection, audit_log)
            .values(one=1, log_id=f"log_{secrets.token_hex(16)}", size=0, peaks="")
            .on_conflict_do_nothing()
        )
        row = _LOCK.run(connection).first()
    assert row is not None
    return row.log_id, frontier_of(row)


def _peaks(frontier: merkle.Frontier) -> str:
    return "".join(peak.hex() for peak in frontier.peaks)


def _owners(connection: Connection, names: set[str], at: int) -> dict[str, Owner]:
    """Everybody's secret; who has none gets one. Under the log's lock, so that nobody else does at the same time."""
    found: dict[str, Owner] = {}
    if len(names) == 1:
        rows: Iterable[Any] = _KEY_NAMED.run(connection, {"name": next(iter(names))})
    else:
        wanted = [
            select(audit_key.c.name, audit_key.c.secret).where(audit_key.c.name.in_(some)) for some in some_of(names)
        ]
        rows = [row for one in wanted for row in connection.execute(one)]
    for row in rows:
        found[row.name] = Owner(row.name, bytes(row.secret))
    new = [new_owner(name) for name in sorted(names - found.keys())]
    if new:
        _PUT_KEY.run_many(
            connection, [{"owner": one.pseudonym, "name": one.name, "secret": one.secret, "created": at} for one in new]
        )
    return found | {one.name: one for one in new}
