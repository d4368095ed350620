"""What stands in the tables of the audit log: events, nodes, proofs and heads, read in an open transaction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select

from mainstay.errors import Invalid, NotFound
from mainstay.records.audit import merkle
from mainstay.records.audit.checking import Stored
from mainstay.records.audit.events import DECISION, KEY, Event, HeadLine, Proof
from mainstay.records.audit.heads import Head
from mainstay.records.audit.sealing import Owner, is_person, pseudonyms_in, renamed
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import audit_event, audit_head, audit_key, audit_log, audit_node, decision

PAGE = 1000  # events that are read at a time
_MANY = 400  # bound parameters of a statement


class Known:
    """The bodies of some events, and who the people in them are."""

    def __init__(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        self._owners: dict[str, Owner] = {}
        self._look_up(connection, {row.owner for row in rows if row.body is not None})
        self._bodies = {row.n: self._opened(row) for row in rows}
        self._values = {n: json.loads(body) for n, body in self._bodies.items() if body is not None}
        spoken_of = set().union(*(pseudonyms_in(value) for value in self._values.values()))
        self._look_up(connection, spoken_of - self._owners.keys())
        self._naming = {pseudonym: owner.name for pseudonym, owner in self._owners.items() if is_person(owner.name)}

    def _look_up(self, connection: Connection, pseudonyms: set[str]) -> None:
        for some in some_of(pseudonyms):
            for row in connection.execute(select(audit_key).where(audit_key.c.owner.in_(some))):
                self._owners[row.owner] = Owner(row.name, bytes(row.secret))

    def _opened(self, row: Row[Any]) -> bytes | None:
        owner = self._owners.get(row.owner)
        return None if owner is None or row.body is None else owner.opened(bytes(row.body), about(row.n))

    def body(self, row: Row[Any]) -> bytes | None:
        return self._bodies[row.n]

    def named(self, value: Any) -> Any:
        return renamed(value, self._naming)

    def speaks_of(self, row: Row[Any], plain: str) -> bool:
        """Whether a body names somebody in words, not under their pseudonym."""
        body = self._bodies[row.n]
        return body is not None and _mentions(json.loads(body), plain.casefold())

    def event(self, row: Row[Any]) -> Event:
        held = self._values.get(row.n)
        value = {} if held is None else self.named(held)
        if row.action == DECISION:
            request, actor = str(value.get("request_id", "")), str(value.get("asked_by", ""))
            value = {
                "request": request,
                "actor": actor,
                "via": value.get("on_behalf_of", ""),
                "subject": f"request:{request}",
            }
        return Event(
            n=row.n,
            at=moment_of(row.at),
            action=row.action,
            subject=value.get("subject", ""),
            actor=value.get("actor", ""),
            via=value.get("via", ""),
            why=value.get("why", ""),
            request_id=value.get("request", ""),
            details=value.get("details", {}),
            before=row.before,
            after=row.after,
            erased=held is None,
            leaf=bytes(row.leaf).hex(),
        )


def _mentions(value: Any, plain: str) -> bool:
    if isinstance(value, str):
        return re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", value.casefold()) is not None
    if isinstance(value, Mapping):
        return any(_mentions(one, plain) for pair in value.items() for one in pair)
    return isinstance(value, list) and any(_mentions(one, plain) for one in value)


def all_events(connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    after = -1 << 62
    while True:
        wanted = select(audit_event).where(audit_event.c.n > after).order_by(audit_event.c.n).limit(PAGE)
        rows = connection.execute(wanted).all()
        if not rows:
            return
        yield rows
        after = rows[-1].n


def stored(row: Row[Any]) -> Stored:
    return Stored(
        line=line_of(row),
        leaf=bytes(row.leaf),
        salt=None if row.salt is None else bytes(row.salt),
        body=None if row.body is None else bytes(row.body),
    )


def line_of(row: Row[Any]) -> HeadLine:
    return HeadLine(
        n=row.n, at=row.at, action=row.action, owner=row.owner, before=row.before, after=row.after, body=row.digest
    )


def frontier_of(row: Any) -> merkle.Frontier:
    width = 2 * merkle.HASH_BYTES
    return merkle.Frontier(
        int(row.size), tuple(bytes.fromhex(row.peaks[at : at + width]) for at in range(0, len(row.peaks), width))
    )


def edge_of(row: Any) -> merkle.Frontier | None:
    try:
        return frontier_of(row)
    except (Invalid, ValueError):
        return None


def size_of(connection: Connection) -> int:
    return int(connection.scalar(select(audit_log.c.size)) or 0)


def proof_of(connection: Connection, n: int, size: int | None) -> Proof:
    there = size_of(connection)
    row = connection.execute(select(audit_event).where(audit_event.c.n == n)).first() if 0 <= n < there else None
    if row is None:
        raise NotFound(f"no event {n}", where="audit", fix=f"there are {there}, from 0 on")
    head = newest_head(connection)
    if size is None:
        size = head.size if head is not None and head.size > n else there
    if not n < size <= there:
        raise Invalid(f"event {n} is in no tree of {size}", where="audit", fix=f"give a size from {n + 1} to {there}")
    ranges = merkle.inclusion_ranges(n, size)
    path = merkle.proof(ranges, nodes_of(connection, merkle.needed(ranges)))
    signed = head if head is not None and head.size == size else next(iter(heads_of(connection, size)), None)
    return Proof(
        n=n,
        size=size,
        root=root_of(connection, size).hex() if signed is None else signed.root,
        leaf=bytes(row.leaf).hex(),
        line=line_of(row),
        path=tuple(one.hex() for one in path),
        head=signed,
    )


def root_of(connection: Connection, size: int) -> bytes:
    keys = merkle.cover_of(size)
    nodes = nodes_of(connection, keys)
    if len(nodes) < len(keys):
        raise Invalid("nodes of the tree are missing", where="audit", fix="run: mainstay audit verify")
    return merkle.folded([nodes[key] for key in keys])


def nodes_of(connection: Connection, keys: Sequence[merkle.Key]) -> dict[merkle.Key, bytes]:
    """Those of these complete subtrees that are there; leaves stand with their events."""
    found: dict[merkle.Key, bytes] = {}
    leaves = [position for level, position in keys if level == 0]
    for some in some_of(leaves):
        wanted = select(audit_event.c.n, audit_event.c.leaf).where(audit_event.c.n.in_(some))
        found.update({(0, row.n): bytes(row.leaf) for row in connection.execute(wanted)})
    by_level: dict[int, list[int]] = {}
    for level, position in keys:
        if level:
            by_level.setdefault(level, []).append(position)
    if len(keys) <= _MANY // 4:  # a proof: few of each level, so all at once
        wanted_nodes = [
            and_(audit_node.c.level == level, audit_node.c.position.in_(at)) for level, at in by_level.items()
        ]
        batches = [or_(*wanted_nodes)] if wanted_nodes else []
    else:
        batches = [
            and_(audit_node.c.level == level, audit_node.c.position.between(min(at), max(at)))
            for level, at in by_level.items()
        ]
    for where in batches:
        for row in connection.execute(select(audit_node).where(where)):
            found[(row.level, row.position)] = bytes(row.hash)
    return found


def requests_at(connection: Connection, request_ids: Iterable[str]) -> dict[int, str]:
    """Where the decisions of these requests are said to be."""
    found: dict[int, str] = {}
    for some in some_of(request_ids):
        wanted = select(decision.c.n, decision.c.request_id).where(decision.c.request_id.in_(some))
        found.update({int(row.n): row.request_id for row in connection.execute(wanted)})
    return found


def announced(connection: Connection) -> set[str]:
    """The ids of the keys that the log has announced."""
    rows = connection.execute(select(audit_event).where(audit_event.c.action == KEY)).all()
    known = Known(connection, rows)
    return {str(known.event(row).details.get("key")) for row in rows}


def newest_head(connection: Connection) -> Head | None:
    """The newest signed head."""
    log = connection.scalar(select(audit_log.c.log_id)) or ""
    row = connection.execute(select(audit_head).order_by(audit_head.c.size.desc()).limit(1)).first()
    return None if row is None else _head(row, log)


def heads_of(connection: Connection, size: int | None = None) -> list[Head]:
    log = connection.scalar(select(audit_log.c.log_id)) or ""
    wanted = select(audit_head).order_by(audit_head.c.size)
    if size is not None:
        wanted = wanted.where(audit_head.c.size == size)
    return [_head(row, log) for row in connection.execute(wanted)]


def _head(row: Row[Any], log: str) -> Head:
    return Head(
        log=log, size=row.size, root=row.root, at=row.at, key=row.key_id, public=row.public, signature=row.signature
    )


def about(n: int) -> bytes:
    return b"event %d" % n


def some_of(items: Iterable[Any]) -> Iterator[list[Any]]:
    held = sorted(items)
    return (held[at : at + _MANY] for at in range(0, len(held), _MANY))


def micros_of(at: datetime) -> int:
    value = micros(at)
    assert value is not None
    return value


def moment_of(value: int) -> datetime:
    at = moment(value)
    assert at is not None
    return at
