"""API keys: ``mst_<id>_<secret>``, shown once and kept as a hash.

The secret has 262 random bits, so nobody can guess it however fast the hash is: SHA-256 costs microseconds per
request, where argon2 (which slows down guesses at what people choose) would cost 50 ms and 64 MiB and buy nothing.
Neither part holds ``_``, so the text splits in one way only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches

from mainstay.access.acl import parse_principal
from mainstay.access.directory import standing
from mainstay.access.ports import Account, Directory, Key, Keys
from mainstay.access.roles import ADMINISTRATOR as ADMINISTRATOR  # this module is where the doors look for them
from mainstay.access.roles import READER as READER
from mainstay.access.roles import ROLES as ROLES
from mainstay.access.roles import Permission as Permission
from mainstay.access.roles import permitted
from mainstay.errors import Invalid, NotFound, Refused, Unauthenticated, Unavailable
from mainstay.types import PUBLIC, Actor, Clock

MARK = "mst_"
KEY_PATTERN = r"mst_[0-9a-z]{26}_[0-9A-Za-z]{44}"
"""How a key looks in a text: for those who redact."""
USED_EVERY = timedelta(minutes=1)

_KEY = re.compile(KEY_PATTERN)
_SECRET_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 44
_NO_HASH = "0" * 64


def permit(actor: Actor, *any_of: Permission) -> None:
    """Raises Refused unless the actor's credential permits one of these; ``admin`` permits everything but ``on-behalf-of``."""
    admin = Permission.ADMIN in actor.scopes
    if any(one in actor.scopes or (admin and one is not Permission.ON_BEHALF_OF) for one in any_of):
        return
    named = " or ".join(any_of)
    fix = f"use a key with the scope {named}" if actor.key_id else "ask an administrator"
    raise Refused(f"needs the permission {named}", where=actor.principal, fix=fix)


def parse_permissions(texts: Iterable[str], where: str) -> frozenset[Permission]:
    """The permissions named; raises Invalid with the nearest one."""
    known = [str(permission) for permission in Permission]
    found = set()
    for text in texts:
        if text not in known:
            near = get_close_matches(text, known, n=1)
            raise Invalid(
                f"{text[:40]!a} is not a scope", where=where, fix=f"write {near[0] if near else ', '.join(known)}"
            )
        found.add(Permission(text))
    if not found:
        raise Invalid("a key needs a scope", where=where, fix=f"choose from {', '.join(known)}")
    return frozenset(found)


class Keyring:
    """Makes, checks, lists and revokes API keys.

    ``later`` runs the small write that says when a key was last used; the door gives something that does not let a
    request wait for it.
    """

    def __init__(
        self,
        keys: Keys,
        directory: Directory,
        clock: Clock,
        later: Callable[[Callable[[], None]], object] = lambda work: work(),
    ) -> None:
        self._keys = keys
        self._directory = directory
        self._clock = clock
        self._later = later

    def create(
        self, principal: str, *, name: str, scopes: Iterable[str] = READER, expires: datetime | None = None
    ) -> tuple[Key, str]:
        """The key and its text, which nobody can show again. A service is made by its first key; a user must exist.

        Errors: Invalid, or NotFound for a user that is not there or may not act.
        """
        permissions, now = parse_permissions(scopes, "scopes"), self._clock.now()
        principal = parse_principal(principal, "principal")
        if principal == PUBLIC or principal.startswith("group:"):
            raise Invalid(f"a key belongs to a user or a service, not to {principal}", where="principal")
        if expires is not None and expires <= now:
            raise Invalid("expires in the past", where="expires", fix="give a later time")
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise Invalid(
                "a key needs a name of at most 100 characters on one line", where="name", fix="name what will use it"
            )
        self._owner(principal, permissions, now)
        key_id, secret = (
            self._clock.new_id("key"),
            "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH)),
        )
        key = Key(
            key_id=key_id,
            name=name.strip(),
            principal=principal,
            scopes=frozenset(map(str, permissions)),
            created=now,
            expires=expires,
        )
        self._keys.add_key(key, _hash(secret))
        return key, f"{MARK}{key_id.removeprefix('key_')}_{secret}"

    def check(self, text: str) -> Key:
        """The key this text is, in force now; raises Unauthenticated, in the same words whatever is wrong."""
        key_id, secret = _split(text)
        key, known = self._keys.key(key_id) or (None, _NO_HASH)
        right = hmac.compare_digest(_hash(secret), known)
        now = self._clock.now()
        if not right or key is None or not _valid(key, now):
            raise Unauthenticated("the API key is not valid", fix="use a key in force: `mainstay keys create`")
        if key.last_used is None or now - key.last_used >= USED_EVERY:
            self._later(lambda: self._used(key.key_id, now))
        return key

    def in_force(self, key_id: str) -> Key:
        """The key of this id, for whoever showed it before; raises Unauthenticated once it is revoked or expired."""
        held = self._keys.key(key_id)
        if held is None or not _valid(held[0], self._clock.now()):
            raise Unauthenticated("the API key is not valid", fix="use a key in force: `mainstay keys create`")
        return held[0]

    def list(self, principal: str | None = None) -> Sequence[Key]:
        """Keys without their secrets, revoked and expired ones too, oldest first."""
        return self._keys.list_keys(None if principal is None else parse_principal(principal, "principal"))

    def revoke(self, key_id: str) -> None:
        """In force at the next request; raises NotFound."""
        if not self._keys.revoke_key(key_id, self._clock.now()):
            raise NotFound(f"no key {key_id[:60]!a}", where="keys", fix="look at `mainstay keys list`")

    def _owner(self, principal: str, permissions: frozenset[Permission], now: datetime) -> None:
        if principal.startswith("service:") and self._directory.account(principal) is None:
            self._directory.add_account(Account(principal=principal, created=now))
        owner = standing(self._directory, principal)
        if not owner.active or owner.account is None:
            raise NotFound(f"{principal} is not known here, or may not act", where="principal", fix="add it first")
        if Permission.ADMIN in permissions and not owner.admin:
            raise Invalid(
                f"{principal} is no administrator", where="scopes", fix="make it one first, or leave out admin"
            )

    def _used(self, key_id: str, at: datetime) -> None:
        try:
            self._keys.mark_used(key_id, at)
        except Unavailable:
            return  # a busy database must not turn a good key away; the next request tells it


def withheld(role: str) -> frozenset[Permission]:
    """What everybody's key permits and this role does not. What a key permits beyond that, somebody granted on purpose."""
    return READER - permitted([role])


def _valid(key: Key, now: datetime) -> bool:
    return key.revoked is None and (key.expires is None or key.expires > now)


def _split(text: str) -> tuple[str, str]:
    """The id and the secret; of a text that is no key, ones that match nothing."""
    if not _KEY.fullmatch(text):
        return "", text
    _, key_id, secret = text.split("_")
    return f"key_{key_id}", secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
