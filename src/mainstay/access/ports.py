"""What the access room needs kept, in its own nouns. Storage implements all three; each change is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mainstay.access.acl import Acl


class State(StrEnum):
    """Whether an account may act. A deleted user leaves its name behind, so that a token still valid elsewhere does
    not revive it.
    """

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user, group or service known here by name."""

    principal: str
    display: str = ""
    email: str = ""
    admin: bool = False
    role: str = "asker"
    state: State = State.ACTIVE
    created: datetime

    @property
    def acts_as(self) -> str:
        """The role in force: ``admin`` says that somebody is an administrator, ``role`` what everybody else is."""
        return "admin" if self.admin else self.role


@dataclass(frozen=True, kw_only=True)
class Membership:
    """``member`` (user, service or group) belongs to ``group``; ``source`` said so: ``local`` or another directory."""

    group: str
    member: str
    source: str = "local"
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key without its secret."""

    key_id: str
    name: str
    principal: str
    scopes: frozenset[str]
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """Counters that grow with each change that is committed: what was worked out under the same counter still holds.

    ``anything`` grows with every change of a rule, a membership or an account; ``people`` is its value at the last
    change that was not one of rules; ``removed`` its value when rules were last removed.
    """

    anything: int
    people: int
    removed: int


class Directory(Protocol):
    """Users, groups, services and who belongs to what."""

    def account(self, name: str) -> Account | None: ...

    def accounts(self, kind: str) -> Sequence[Account]:
        """All accounts of one kind, sorted by name, deleted ones left out."""
        ...

    def add_account(self, account: Account) -> bool:
        """False, and nothing done, when the name is taken; a deleted account of the name starts anew."""
        ...

    def change_account(self, account: Account) -> bool:
        """Replaces display, email, admin, role and state; False when there is no such account. Who may not
        act any more has no session any more."""
        ...

    def remove_account(self, name: str, at: datetime) -> bool:
        """Removes memberships, members and password, revokes its keys, ends its sessions; the name stays, as deleted (a
        group's goes)."""
        ...

    def password_hash(self, name: str) -> str: ...

    def set_password_hash(self, name: str, password_hash: str, *, same: bool = False) -> None:
        """Another password ends the sessions that the one before began; ``same``: it is the same one, hashed anew."""
        ...

    def add_membership(self, joined: Membership) -> bool:
        """False when it was there already."""
        ...

    def remove_membership(self, group: str, member: str, source: str) -> bool: ...

    def members(self, group: str) -> Sequence[Membership]:
        """The direct members, sorted by name."""
        ...

    def closure(self, starts: Collection[str]) -> frozenset[str]:
        """``starts`` and every group that holds one of them, directly or through other groups."""
        ...


class Keys(Protocol):
    """API keys. What is kept of a secret is a hash."""

    def add_key(self, key: Key, secret_hash: str) -> None: ...

    def key(self, key_id: str) -> tuple[Key, str] | None:
        """The key and its hash."""
        ...

    def list_keys(self, owner: str | None) -> Sequence[Key]:
        """Oldest first; of one principal or of all."""
        ...

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        """False when there is no such key; revoking twice keeps the first time. Sessions that it began end."""
        ...

    def mark_used(self, key_id: str, at: datetime) -> None: ...


class AclClasses(Protocol):
    """The rules in force, one per place where a rule is stated."""

    def stamps(self) -> Stamps:
        """Cheap: asked at every request."""
        ...

    def classes(self, since: int) -> Sequence[tuple[int, Acl]]:
        """The classes that changed after the stamp ``since`` (0: all)."""
        ...

    def class_for(self, origin: str, acl: Acl) -> int:
        """The class of the place ``origin``, made or changed so that it says ``acl``. A class number is never used
        again.
        """
        ...

    def prune(self) -> int:
        """Removes the classes no document belongs to; returns how many."""
        ...
