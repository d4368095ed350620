"""Users, groups, keys and access rules in SQL.

Each change of a rule, a membership or an account writes its stamp into ``fact`` in its own transaction: a number that
only grows, made of the clock's microseconds. A class row carries the stamp of its last change, so that a process
reads only what changed since. Writers meet at the stamp's row first and so commit in the order of their stamps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, insert, or_, select, true, update

from mainstay.access.acl import Acl, canonical
from mainstay.access.ports import Account, Key, Membership, Stamps, State
from mainstay.access.roles import ASKER
from mainstay.records.audit import AuditEntry
from mainstay.storage.audit import append
from mainstay.storage.database import Database
from mainstay.storage.facts import Facts, read_facts
from mainstay.storage.rows import dumps, micros, moment
from mainstay.storage.schema import (
    acl_class,
    acl_grant,
    api_key,
    document,
    fact,
    membership,
    principal,
    session,
)
from mainstay.storage.sessions import ended
from mainstay.types import Clock

_ANYTHING = "acl_generation"
_PEOPLE = "acl_people"
_REMOVED = "acl_removed"
_LAST_CLASS = "acl_last_class"

_STATES = {0: State.ACTIVE, 1: State.DISABLED, 2: State.DELETED}
_DISABLED = {state: number for number, state in _STATES.items()}
_STARTS_AT_ONCE = 500


class AccessStore:
    """The ports Directory, Keys and AclClasses over one Database."""

    def __init__(
        self, database: Database, clock: Clock, *, facts: Facts | None = None, along: Collection[str] = ()
    ) -> None:
        """``along`` names facts that are read with the stamps, which each request reads first, and told to ``facts``."""
        self._database = database
        self._clock = clock
        self._facts, self._along = facts, tuple(along)

    # -- Directory -----------------------------------------------------------------------------------------------------
    def account(self, name: str) -> Account | None:
        with self._database.read() as connection:
            row = connection.execute(_ACCOUNTS.where(principal.c.name == name)).one_or_none()
        return None if row is None else _account(row)

    def accounts(self, kind: str) -> Sequence[Account]:
        wanted = and_(
            principal.c.name.startswith(f"{kind}:", autoescape=True), principal.c.disabled != _DISABLED[State.DELETED]
        )
        with self._database.read() as connection:
            found = [_account(row) for row in connection.execute(_ACCOUNTS.where(wanted))]
        return sorted(found, key=lambda account: account.principal)

    def add_account(self, account: Account) -> bool:
        with self._database.write() as connection:
            state = connection.scalar(select(principal.c.disabled).where(principal.c.name == account.principal))
            if state is not None and _STATES[state] is not State.DELETED:
                return False
            self._people_changed(connection)
            connection.execute(delete(principal).where(principal.c.name == account.principal))
            connection.execute(
                insert(principal).values(name=account.principal, created=micros(account.created), **_fields(account))
            )
            append(connection, self._said("added", account.principal, after=account))
            return True

    def change_account(self, account: Account) -> bool:
        with self._database.write() as connection:
            self._people_changed(connection)
            before = connection.execute(_ACCOUNTS.where(principal.c.name == account.principal)).first()
            if before is None:
                return False
            connection.execute(
                update(principal).where(principal.c.name == account.principal).values(**_fields(account))
            )
            append(
                connection,
                self._said("changed", account.principal, before=_account(before), after=account),
                *self._signed_out(connection, _account(before), account),
            )
            return True

    def remove_account(self, name: str, at: datetime) -> bool:
        with self._database.write() as connection:
            self._people_changed(connection)
            before = connection.execute(_ACCOUNTS.where(principal.c.name == name)).first()
            memberships = connection.execute(
                delete(membership).where(or_(membership.c.principal == name, membership.c.member == name))
            ).rowcount
            keys = connection.execute(
                update(api_key)
                .where(api_key.c.principal == name, api_key.c.revoked.is_(None))
                .values(revoked=micros(at))
            ).rowcount
            if before is not None:
                gone = {"memberships": memberships, "keys": keys}
                over = ended(connection, session.c.principal == name, "removed", at)
                append(connection, self._said("removed", name, before=_account(before), details=gone), *over)
            if name.startswith("group:"):
                return connection.execute(delete(principal).where(principal.c.name == name)).rowcount > 0
            barred = {
                "display": "",
                "email": "",
                "password_hash": "",
                "admin": 0,
                "role": ASKER,
                "disabled": _DISABLED[State.DELETED],
            }
            return connection.execute(update(principal).where(principal.c.name == name).values(**barred)).rowcount > 0

    def password_hash(self, name: str) -> str:
        with self._database.read() as connection:
            return connection.scalar(select(principal.c.password_hash).where(principal.c.name == name)) or ""

    def set_password_hash(self, name: str, password_hash: str, *, same: bool = False) -> None:
        with self._database.write() as connection:
            changed = update(principal).where(principal.c.name == name).values(password_hash=password_hash)
            if connection.execute(changed).rowcount:
                its = (session.c.principal == name) & (session.c.credential == "password")
                over = [] if same else ended(connection, its, "password", self._clock.now())
                append(connection, self._said("password_set", name), *over)

    def add_membership(self, joined: Membership) -> bool:
        with self._database.write() as connection:
            there = select(membership.c.since).where(_is(joined.group, joined.member, joined.source))
            if connection.scalar(there) is not None:
                return False
            self._people_changed(connection)
            row = {
                "principal": joined.group,
                "member": joined.member,
                "source": joined.source,
                "since": micros(joined.since),
            }
            connection.execute(insert(membership).values(**row))
            append(connection, self._joined("added", joined.group, joined.member, joined.source))
            return True

    def remove_membership(self, group: str, member: str, source: str) -> bool:
        with self._database.write() as connection:
            self._people_changed(connection)
            there = connection.execute(delete(membership).where(_is(group, member, source))).rowcount > 0
            if there:
                append(connection, self._joined("removed", group, member, source))
            return there

    def members(self, group: str) -> Sequence[Membership]:
        with self._database.read() as connection:
            rows = connection.execute(select(membership).where(membership.c.principal == group)).all()
        found = [
            Membership(group=row.principal, member=row.member, source=row.source, since=_time(row.since))
            for row in rows
        ]
        return sorted(found, key=lambda one: (one.member, one.source))

    def closure(self, starts: Collection[str]) -> frozenset[str]:
        reached, ordered = set(starts), sorted(starts)
        with self._database.read() as connection:
            for at in range(0, len(ordered), _STARTS_AT_ONCE):
                reached.update(connection.scalars(_CLOSURE, {"starts": ordered[at : at + _STARTS_AT_ONCE]}))
        return frozenset(reached)

    # -- Keys ----------------------------------------------------------------------------------------------------------
    def add_key(self, key: Key, secret_hash: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                insert(api_key).values(
                    key_id=key.key_id,
                    name=key.name,
                    principal=key.principal,
                    secret_hash=secret_hash,
                    scopes=dumps(sorted(key.scopes)),
                    created=micros(key.created),
                    expires=micros(key.expires),
                )
            )
            details = {"principal": key.principal, "name": key.name, "scopes": sorted(key.scopes)}
            if key.expires is not None:
                details["expires"] = key.expires.isoformat()
            append(connection, self._of_key("created", key.key_id, key.principal, details, at=key.created))

    def key(self, key_id: str) -> tuple[Key, str] | None:
        with self._database.read() as connection:
            row = connection.execute(select(api_key).where(api_key.c.key_id == key_id)).one_or_none()
        return None if row is None else (_key(row), row.secret_hash)

    def list_keys(self, owner: str | None) -> Sequence[Key]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(api_key).where(true() if owner is None else api_key.c.principal == owner)
            ).all()
        return sorted((_key(row) for row in rows), key=lambda key: (key.created, key.key_id))

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        with self._database.write() as connection:
            revoked = connection.execute(
                update(api_key)
                .where(api_key.c.key_id == key_id, api_key.c.revoked.is_(None))
                .values(revoked=micros(at))
            ).rowcount
            owner = connection.scalar(select(api_key.c.principal).where(api_key.c.key_id == key_id))
            if revoked and owner is not None:
                over = ended(connection, session.c.key_id == key_id, "key_revoked", at)
                append(connection, self._of_key("revoked", key_id, owner, {"principal": owner}, at=at), *over)
            return owner is not None

    def mark_used(self, key_id: str, at: datetime) -> None:
        later = or_(api_key.c.last_used.is_(None), api_key.c.last_used < micros(at))
        with self._database.write(alone=False, durable=False) as connection:
            connection.execute(update(api_key).where(api_key.c.key_id == key_id, later).values(last_used=micros(at)))

    # -- AclClasses ----------------------------------------------------------------------------------------------------
    def stamps(self) -> Stamps:
        begun = 0 if self._facts is None else self._facts.begin()
        with self._database.read() as connection:
            found = read_facts(connection, (*_STAMPS, *self._along))
        if self._facts is not None:
            self._facts.saw(begun, [(name, found.get(name)) for name in self._along])
        anything, people, removed = (int(found.get(name) or 0) for name in _STAMPS)
        return Stamps(anything=anything, people=people, removed=removed)

    def classes(self, since: int) -> Sequence[tuple[int, Acl]]:
        changed = select(acl_class.c.class_id, acl_class.c.allow, acl_class.c.deny).where(acl_class.c.updated > since)
        read: dict[str, tuple[str, ...]] = {"[]": ()}
        with self._database.read() as connection:
            return [
                (number, Acl(_read(allow, read), _read(deny, read)))
                for number, allow, deny in connection.execute(changed)
            ]

    def class_for(self, origin: str, acl: Acl) -> int:
        with self._database.write() as connection:
            return class_for(connection, origin, acl, self._clock.now())

    def prune(self) -> int:
        with self._database.write() as connection:
            return prune(connection, self._clock.now())

    def _people_changed(self, connection: Connection) -> None:
        _stamp(connection, self._clock.now(), _PEOPLE)

    # -- what the audit log hears --------------------------------------------------------------------------------------
    def _said(
        self,
        what: str,
        name: str,
        *,
        before: Account | None = None,
        after: Account | None = None,
        details: dict[str, int] | None = None,
    ) -> AuditEntry:
        said: dict[str, Any] = dict(details or {})
        if after is not None:  # names and addresses are about the person alone: that they changed is enough
            said |= {"role": after.acts_as, "state": str(after.state)}
        if before is not None and after is not None:
            said["changed"] = sorted(name for name, value in _fields(after).items() if value != _fields(before)[name])
        return AuditEntry(
            action=f"{name.partition(':')[0]}.{what}",
            subject=name,
            at=self._clock.now(),
            before=None if before is None else _fields(before),
            after=None if after is None else _fields(after),
            details=said,
        )

    def _signed_out(self, connection: Connection, before: Account, after: Account) -> list[AuditEntry]:
        """Who may not act any more is signed out. Another role is in force at the next request, without that."""
        if before.state is not after.state and after.state is not State.ACTIVE:
            return ended(connection, session.c.principal == after.principal, "disabled", self._clock.now())
        return []

    def _joined(self, what: str, group: str, member: str, source: str) -> AuditEntry:
        return AuditEntry(
            action=f"member.{what}", subject=member, at=self._clock.now(), details={"group": group, "source": source}
        )

    def _of_key(self, what: str, key_id: str, owner: str, details: dict[str, Any], *, at: datetime) -> AuditEntry:
        person = owner if owner.startswith("user:") else ""
        return AuditEntry(action=f"key.{what}", subject=f"key:{key_id}", at=at, details=details, owner=person)


def class_for(connection: Connection, origin: str, acl: Acl, at: datetime, said: list[AuditEntry] | None = None) -> int:
    """The class of the place ``origin``, made or changed so that it says ``acl``, inside an open write transaction.

    Its number was never used before and never will be again. What the audit log is to hear of it goes into ``said``, for the
    caller to append last, or is appended here. Raises Invalid for a principal that can be none.
    """
    rule = canonical(acl, origin)
    told = {"allow": dumps(rule.allow), "deny": dumps(rule.deny)}
    row = connection.execute(select(acl_class).where(acl_class.c.origin == origin)).one_or_none()
    if row is not None and told == {"allow": row.allow, "deny": row.deny}:
        return int(row.class_id)
    stamp = _stamp(connection, at)
    if row is not None:
        connection.execute(update(acl_class).where(acl_class.c.class_id == row.class_id).values(updated=stamp, **told))
        connection.execute(delete(acl_grant).where(acl_grant.c.class_id == row.class_id))
        number = int(row.class_id)
    else:
        number = _count(connection, _LAST_CLASS) + 1
        _set_count(connection, _LAST_CLASS, number)
        connection.execute(insert(acl_class).values(class_id=number, origin=origin, updated=stamp, **told))
    _grant(connection, number, rule)
    before = None if row is None else {"allow": json.loads(row.allow), "deny": json.loads(row.deny)}
    after = {"allow": list(rule.allow), "deny": list(rule.deny)}
    entry = AuditEntry(action="access.rule", subject=f"rule:{origin}", at=at, before=before, after=after, details=after)
    if said is None:
        append(connection, entry)
    else:
        said.append(entry)
    return number


def _grant(connection: Connection, number: int, rule: Acl) -> None:
    rows = [
        {"class_id": number, "principal": name, "denies": denies}
        for denies, names in enumerate((rule.allow, rule.deny))
        for name in names
    ]
    if rows:
        connection.execute(insert(acl_grant), rows)


def prune(connection: Connection, at: datetime) -> int:
    """Removes the classes no document belongs to, inside an open write transaction; returns how many."""
    unused = ~exists().where(document.c.class_id == acl_class.c.class_id)
    if connection.scalar(select(acl_class.c.class_id).where(unused).limit(1)) is None:
        return 0
    _stamp(connection, at, _REMOVED)
    return connection.execute(delete(acl_class).where(unused)).rowcount


def _closure() -> Any:
    """The groups that hold any of ``starts``. UNION drops what was reached before, so that a cycle of groups ends."""
    direct = select(membership.c.principal.label("name")).where(
        membership.c.member.in_(bindparam("starts", expanding=True))
    )
    groups = direct.cte("groups", recursive=True)
    groups = groups.union(select(membership.c.principal).join(groups, membership.c.member == groups.c.name))
    return select(groups.c.name)


_CLOSURE = _closure()
_ACCOUNTS = select(
    principal.c.name,
    principal.c.display,
    principal.c.email,
    principal.c.admin,
    principal.c.role,
    principal.c.disabled,
    principal.c.created,
)
_STAMPS = (_ANYTHING, _PEOPLE, _REMOVED)


def _stamp(connection: Connection, at: datetime, *also: str) -> int:
    """The next stamp, written as that of the newest change of anything, and of what ``also`` names."""
    stamp = max(_count(connection, _ANYTHING) + 1, micros(at) or 0)
    for name in (_ANYTHING, *also):
        _set_count(connection, name, stamp)
    return stamp


def _count(connection: Connection, name: str) -> int:
    """A counter, locked until the transaction ends (SQLite: the whole database is)."""
    return int(connection.scalar(select(fact.c.value).where(fact.c.name == name).with_for_update()) or 0)


def _set_count(connection: Connection, name: str, value: int) -> None:
    if not connection.execute(update(fact).where(fact.c.name == name).values(value=str(value))).rowcount:
        connection.execute(insert(fact).values(name=name, value=str(value)))


def _is(group: str, member: str, source: str) -> Any:
    return and_(membership.c.principal == group, membership.c.member == member, membership.c.source == source)


def _account(row: Any) -> Account:
    return Account(
        principal=row.name,
        display=row.display,
        email=row.email,
        admin=bool(row.admin),
        role=row.role,
        state=_STATES[row.disabled],
        created=_time(row.created),
    )


def _fields(account: Account) -> dict[str, str | int]:
    return {
        "display": account.display,
        "email": account.email,
        "admin": int(account.admin),
        "role": account.role,
        "disabled": _DISABLED[account.state],
    }


def _key(row: Any) -> Key:
    return Key(
        key_id=row.key_id,
        name=row.name,
        principal=row.principal,
        scopes=frozenset(json.loads(row.scopes)),
        created=_time(row.created),
        expires=moment(row.expires),
        revoked=moment(row.revoked),
        last_used=moment(row.last_used),
    )


def _read(text: str, read: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A list of principals; equal ones become one object, since most classes repeat a few lists."""
    found = read.get(text)
    if found is None:
        found = read[text] = tuple(json.loads(text))
    return found


def _time(microseconds: int) -> datetime:
    time = moment(microseconds)
    assert time is not None
    return time
