"""Users, services and nested groups kept by Mainstay, and the closure of principals a person stands for.

Passwords are kept as argon2id. Checking one takes the same work whether or not the name exists, may sign in, or has a
password.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mainstay.access.acl import parse_named, parse_principal
from mainstay.access.ports import Account, Directory, Membership, State
from mainstay.access.roles import ADMIN, ASKER, parse_role
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.types import ADMINISTRATORS, PUBLIC, Clock

ANONYMOUS = "anonymous"
UNKNOWN_GROUPS = "group:?"
"""Among asserted groups: there may be more that nobody told us. Every deny of a group then counts as hit."""
LOCAL = "local"
MIN_PASSWORD, MAX_PASSWORD = 12, 1024


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one asker stands for now: nothing at all unless ``active``."""

    active: bool
    admin: bool
    principals: frozenset[str]
    account: Account | None = None


NOBODY = Standing(active=False, admin=False, principals=frozenset())


def standing(directory: Directory, principal: str, groups: Collection[str] = ()) -> Standing:
    """Resolve a principal and the groups asserted of it. A name the directory does not hold stands for itself."""
    if principal == ANONYMOUS:
        return Standing(active=True, admin=False, principals=frozenset({PUBLIC}))
    principal = parse_principal(principal, "actor")
    account = directory.account(principal)
    if account is not None and account.state is not State.ACTIVE:
        return NOBODY
    asserted = {parse_named("group", group, "actor.groups") for group in groups}
    closure = directory.closure({principal, *asserted}) | {PUBLIC}
    admin = ADMINISTRATORS in closure or (account is not None and account.admin)
    return Standing(active=True, admin=admin, principals=closure, account=account)


def principals_of(directory: Directory, principal: str, extra_groups: Collection[str] = ()) -> frozenset[str]:
    """The closure: the principal, ``public``, and its groups through any nesting; empty for a disabled or deleted
    account.
    """
    return standing(directory, principal, extra_groups).principals


class People:
    """What an administrator does with users, services and groups. Names are given with or without their kind.

    Errors: Invalid for a name or value that can not be, NotFound for one that is not there, Conflict for one that
    already is.
    """

    def __init__(self, directory: Directory, clock: Clock, hasher: PasswordHasher | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._hasher = hasher or PasswordHasher()

    @cached_property
    def _nobodys_hash(self) -> str:
        return self._hasher.hash("nobody's password")

    def add_user(
        self,
        name: str,
        *,
        display: str = "",
        email: str = "",
        admin: bool = False,
        role: str = ASKER,
        password: str | None = None,
    ) -> Account:
        """A user who may sign in here when ``password`` is given, through an identity provider or by key otherwise.
        The role ``admin`` and ``admin`` say the same."""
        password_hash = self._hashed(password) if password is not None else ""
        account = self._add("user", name, display=display, email=email, **_position(role, admin=admin))
        if password_hash:
            self._directory.set_password_hash(account.principal, password_hash)
        return account

    def add_service(self, name: str, *, display: str = "", admin: bool = False) -> Account:
        return self._add("service", name, display=display, admin=admin)

    def add_group(self, name: str, *, display: str = "") -> Account:
        return self._add("group", name, display=display)

    def get(self, principal: str) -> Account:
        account = self._directory.account(parse_principal(principal, "principal"))
        if account is None or account.state is State.DELETED:
            raise NotFound(f"{principal!r} is not known here", where="directory", fix="look at `mainstay users list`")
        return account

    def known(self, name: str) -> str:
        """The principal of the user of this name; empty when there is none, or the name can be none."""
        try:
            return self.get(parse_named("user", name, "user")).principal
        except (Invalid, NotFound):
            return ""

    def list(self, kind: str = "user") -> Sequence[Account]:
        return self._directory.accounts(kind)

    def disable(self, principal: str) -> Account:
        """Cuts sign-in, keys, tokens and runs at their next step; reversible by ``enable``."""
        return self._change(self._person(principal), state=State.DISABLED)

    def enable(self, principal: str) -> Account:
        return self._change(self._person(principal), state=State.ACTIVE)

    def set_admin(self, principal: str, admin: bool) -> Account:
        return self._change(self._person(principal), admin=admin)

    def set_role(self, principal: str, role: str) -> Account:
        """In force at the next request. Who stops being ``admin`` stops being an administrator, unless a group makes one."""
        account = self._person(principal)
        if not account.principal.startswith("user:"):
            raise Invalid(
                f"{account.principal} is no user", where="role", fix="a service may do what its keys permit: scopes"
            )
        return self._change(account, **_position(role))

    def describe(self, principal: str, *, display: str, email: str = "") -> Account:
        return self._change(self.get(principal), display=_line(display, 200), email=_line(email, 320))

    def delete(self, principal: str) -> None:
        """Removes the account with its memberships, members, password and keys. The name of a user or service stays
        barred, even to a valid token of an identity provider, until somebody adds it anew.
        """
        self._directory.remove_account(self.get(principal).principal, self._clock.now())

    def set_password(self, name: str, password: str) -> None:
        account = self.get(parse_named("user", name, "user"))
        self._directory.set_password_hash(account.principal, self._hashed(password))

    def check_password(self, name: str, password: str) -> Account | None:
        """The active account whose password this is. Whatever is wrong takes the same work and reads the same: None."""
        nobodys = self._nobodys_hash  # made at the first try of all, whoever tries
        try:
            account = self._directory.account(parse_named("user", name, "user"))
        except Invalid:
            account = None
        known = self._directory.password_hash(account.principal) if account else ""
        right = self._verify(known or nobodys, password)
        if account is None or not known or not right or account.state is not State.ACTIVE:
            return None
        if self._hasher.check_needs_rehash(known):
            self._directory.set_password_hash(account.principal, self._hasher.hash(_normal(password)), same=True)
        return account

    def add_member(self, group: str, member: str) -> bool:
        """False when it was a member already. ``group:administrators`` always exists."""
        holder, joining = self._group(group), self._member(member)
        if holder == joining:
            raise Invalid(f"{holder} can not be its own member", where="directory")
        return self._directory.add_membership(
            Membership(group=holder, member=joining, source=LOCAL, since=self._clock.now())
        )

    def remove_member(self, group: str, member: str) -> bool:
        """False when it was no member. Memberships that a directory of its own keeps are not ours to remove."""
        return self._directory.remove_membership(self._group(group), parse_principal(member, "member"), LOCAL)

    def members(self, group: str) -> Sequence[Membership]:
        return self._directory.members(self._group(group))

    def _add(
        self, kind: str, name: str, *, display: str = "", email: str = "", admin: bool = False, role: str = ASKER
    ) -> Account:
        account = Account(
            principal=parse_named(kind, name, kind),
            display=_line(display, 200),
            email=_line(email, 320),
            admin=admin,
            role=role,
            created=self._clock.now(),
        )
        if account.principal == UNKNOWN_GROUPS:
            raise Invalid(f"{UNKNOWN_GROUPS} is a name we need ourselves", where=kind, fix="choose another")
        if not self._directory.add_account(account):
            raise Conflict(f"{account.principal} exists already", where="directory", fix="choose another name")
        return account

    def _change(
        self,
        account: Account,
        *,
        state: State | None = None,
        admin: bool | None = None,
        role: str | None = None,
        display: str | None = None,
        email: str | None = None,
    ) -> Account:
        changed = replace(
            account,
            state=account.state if state is None else state,
            admin=account.admin if admin is None else admin,
            role=account.role if role is None else role,
            display=account.display if display is None else display,
            email=account.email if email is None else email,
        )
        if changed != account and not self._directory.change_account(changed):
            raise NotFound(f"{account.principal} is not known here any more", where="directory")
        return changed

    def _person(self, principal: str) -> Account:
        account = self.get(principal)
        if account.principal.startswith("group:"):
            raise Invalid(f"{account.principal} is a group", where="directory", fix="remove its members instead")
        return account

    def _group(self, name: str) -> str:
        group = parse_named("group", name, "group")
        if group != ADMINISTRATORS and self._directory.account(group) is None:
            raise NotFound(
                f"{group} is not known here", where="directory", fix=f"add it first: `mainstay users add-group {group}`"
            )
        return group

    def _member(self, name: str) -> str:
        member = parse_principal(name, "member")
        if member == PUBLIC:
            raise Invalid("public can not be a member", where="directory", fix="grant to public instead")
        return member if member == ADMINISTRATORS else self.get(member).principal

    def _hashed(self, password: str) -> str:
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise Invalid(
                f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters", where="password", fix="use a phrase"
            )
        return self._hasher.hash(_normal(password))

    def _verify(self, known: str, password: str) -> bool:
        try:
            self._hasher.verify(known, _normal(password[:MAX_PASSWORD]))
        except (VerificationError, InvalidHashError):
            return False
        return len(password) <= MAX_PASSWORD


class _Position(TypedDict):
    admin: bool
    role: str


def _position(role: str, *, admin: bool = False) -> _Position:
    """The two fields that keep a role: the flag is the truth for administrators."""
    role = parse_role(role, "role")
    return _Position(admin=admin or role == ADMIN, role=ASKER if role == ADMIN else role)


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _line(text: str, limit: int) -> str:
    if len(text) > limit or not text.isprintable():
        raise Invalid(f"{text[:40]!a} is not one line of at most {limit} characters", where="directory")
    return text.strip()
