"""From credentials to an Actor. Every door authenticates here.

A credential that is present and wrong is refused, never taken for none. A wrong key and an unknown key read the same,
and so do a user nobody knows and one that is disabled.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from mainstay.access.acl import parse_named, parse_principal
from mainstay.access.directory import ANONYMOUS, UNKNOWN_GROUPS, People, Standing, standing
from mainstay.access.keys import ADMINISTRATOR, MARK, READER, Keyring, Permission, withheld
from mainstay.access.oidc import Oidc
from mainstay.access.ports import Account, Directory, Key
from mainstay.access.roles import ADMIN, ASKER, permitted
from mainstay.errors import Invalid, Refused, Unauthenticated
from mainstay.types import Actor

MAX_HEADER = 16_384

_log = logging.getLogger(__name__)


class Identity:
    """Who asks. Without a credential: refused, unless ``anonymous`` is allowed (then only what is public).

    With an identity provider that asserts groups, a person known by other means than its token has groups nobody told
    us: denies of groups then count as hit (see ``UNKNOWN_GROUPS``).
    """

    def __init__(
        self,
        directory: Directory,
        people: People,
        keyring: Keyring,
        oidc: Oidc | None = None,
        *,
        anonymous: bool = False,
    ) -> None:
        self._directory = directory
        self._people = people
        self._keyring = keyring
        self._oidc = oidc
        self._anonymous = anonymous

    @property
    def oidc(self) -> Oidc | None:
        """The identity provider whose tokens count, if there is one."""
        return self._oidc

    def authenticate(self, *, authorization: str | None, on_behalf_of: str | None) -> Actor:
        """The Actor behind the headers ``Authorization`` and ``X-Mainstay-User``.

        Errors: Unauthenticated; Refused when the credential may not speak for others; Invalid for a user's name that
        can be none; Unavailable when the identity provider's keys can not be had.
        """
        if authorization is None:
            if on_behalf_of is not None or not self._anonymous:
                raise Unauthenticated("no credentials", fix="send `Authorization: Bearer` with an API key or a token")
            return Actor(principal=ANONYMOUS, display="anonymous", scopes=frozenset(map(str, READER)))
        bearer = _bearer(authorization)
        if bearer.startswith(MARK):
            return self._by_key(bearer, on_behalf_of)
        if on_behalf_of is not None:
            raise Refused(
                "a token speaks for its own bearer only",
                where="X-Mainstay-User",
                fix="use a key with the scope on-behalf-of",
            )
        return self._by_token(bearer)

    def sign_in(self, name: str, password: str) -> Actor:
        """The user whose password this is; raises Unauthenticated, in the same words whatever is wrong. Limit tries
        at the door.
        """
        account = self._people.check_password(name, password)
        if account is None:
            raise Unauthenticated("the name or the password is wrong", fix="try again, or ask an administrator")
        return self.actor_for(account.principal)

    def actor_for(self, principal: str, groups: tuple[str, ...] | None = None) -> Actor:
        """The Actor of a user or service authenticated before: a session, a queued run, ``--as`` at the command line.

        ``groups`` are those an identity provider asserted at sign-in. Raises Unauthenticated when the account may not
        act now or, unless groups were asserted of it, is not known here.
        """
        principal = parse_principal(principal, "actor")
        found = standing(self._directory, principal, _told(groups or ()))
        if not found.active or (found.account is None and groups is None):
            raise Unauthenticated(
                f"{principal} is not known here, or may not act", fix="sign in again, or ask an administrator"
            )
        return Actor(
            principal=principal,
            display=_display(found.account, principal),
            groups=self._unasserted(principal) if groups is None else groups,
            scopes=frozenset(map(str, self._permitted(found, groups or ()))),
            admin=found.admin,
        )

    def actor_of_key(self, key_id: str) -> Actor:
        """The Actor of a key that was shown before: a session. Raises Unauthenticated once the key is not in force."""
        return self._of_key(self._keyring.in_force(key_id), None)

    def roles(self, actor: Actor) -> tuple[str, ...]:
        """The roles behind an Actor who is signed in in person."""
        return self._roles(standing(self._directory, actor.principal, _told(actor.groups)), actor.groups)

    def _roles(self, found: Standing, groups: tuple[str, ...]) -> tuple[str, ...]:
        """By the account, or by the groups that an identity provider asserted; who has neither is an asker."""
        if found.admin:
            return (ADMIN,)
        mapped = self._oidc.settings.roles_of(groups) if self._oidc is not None else ()
        own = () if found.account is None else (found.account.role,)
        return tuple(dict.fromkeys((*mapped, *(held for held in own if held != ASKER or not mapped)))) or (ASKER,)

    def _permitted(self, found: Standing, groups: tuple[str, ...]) -> frozenset[Permission]:
        return ADMINISTRATOR if found.admin else permitted(self._roles(found, groups))

    def _by_key(self, text: str, on_behalf_of: str | None) -> Actor:
        return self._of_key(self._keyring.check(text), on_behalf_of)

    def _of_key(self, key: Key, on_behalf_of: str | None) -> Actor:
        owner = standing(self._directory, key.principal)
        if not owner.active or owner.account is None:
            raise Unauthenticated("the API key is not valid", fix="use a key in force: `mainstay keys create`")
        if on_behalf_of is not None:
            return self._on_behalf(key.principal, key.key_id, key.scopes, on_behalf_of)
        admin = owner.admin and Permission.ADMIN in key.scopes
        scopes = key.scopes - withheld(ADMIN if owner.admin else owner.account.role)
        return Actor(
            principal=key.principal,
            display=_display(owner.account, key.principal),
            groups=self._unasserted(key.principal),
            scopes=scopes if admin else scopes - {Permission.ADMIN},
            admin=admin,
            key_id=key.key_id,
        )

    def _on_behalf(self, service: str, key_id: str, scopes: frozenset[str], name: str) -> Actor:
        """The rights of the user alone, and no more than the key permits: what the service may see adds nothing."""
        if Permission.ON_BEHALF_OF not in scopes:
            raise Refused(
                "the key may not speak for others", where="X-Mainstay-User", fix="use a key with the scope on-behalf-of"
            )
        user = parse_named("user", _plain_header(name, "X-Mainstay-User"), "X-Mainstay-User")
        found = standing(self._directory, user)
        if not found.active or found.account is None:
            raise Unauthenticated(
                "this user is not known here, or may not act",
                where="X-Mainstay-User",
                fix="look at `mainstay users list`",
            )
        admin = found.admin and Permission.ADMIN in scopes
        return Actor(
            principal=user,
            display=_display(found.account, user),
            groups=self._unasserted(user),
            scopes=scopes
            - {Permission.ON_BEHALF_OF}
            - (set() if admin else {Permission.ADMIN})
            - withheld(ADMIN if found.admin else found.account.role),
            admin=admin,
            key_id=key_id,
            via=service,
        )

    def _by_token(self, text: str) -> Actor:
        if self._oidc is None:
            raise Unauthenticated("the credential is neither an API key nor a token we accept", fix="send an API key")
        token = self._oidc.verify(text)
        for note in token.notes:
            _log.warning("token of %s: %s", token.principal, note)
        actor = self.actor_for(token.principal, token.groups)
        return replace(actor, display=token.display) if token.display and actor.display == actor.principal else actor

    def _unasserted(self, principal: str) -> tuple[str, ...]:
        asserts = self._oidc is not None and self._oidc.settings.groups_claim is not None
        return (UNKNOWN_GROUPS,) if asserts and principal.startswith("user:") else ()


def _told(groups: tuple[str, ...]) -> list[str]:
    return [group for group in groups if group != UNKNOWN_GROUPS]


def _bearer(header: str) -> str:
    """The credential in the header; Unauthenticated for any other scheme or form."""
    if len(header) > MAX_HEADER or not header.isascii() or not header.isprintable():
        raise Unauthenticated(
            "the Authorization header can not be read", fix="send `Authorization: Bearer` with an API key or a token"
        )
    scheme, _, credential = header.strip().partition(" ")
    credential = credential.strip()
    if scheme.casefold() != "bearer" or not credential or " " in credential:
        raise Unauthenticated(
            "the Authorization header is not of the scheme Bearer",
            fix="send `Authorization: Bearer` with an API key or a token",
        )
    return credential


def _plain_header(text: str, where: str) -> str:
    if not text.strip() or len(text) > 1024:
        raise Invalid("names no user", where=where, fix="write the user's name, or leave the header out")
    return text


def _display(account: Account | None, principal: str) -> str:
    return (account.display if account else "") or principal
