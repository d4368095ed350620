"""Tokens of an identity provider: signature, issuer, audience and times checked, then read as a principal and groups.

Only asymmetric algorithms exist here, so a public key can never serve as a shared secret, and ``none`` has no
meaning. Keys come from the provider's key set through an injected ``fetch`` and never from the token's own header.

Groups fail closed: when the token does not tell all of them (overage, a missing claim, a name that can not be one)
the marker ``UNKNOWN_GROUPS`` joins them, and every deny of a group counts as hit.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import math
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from mainstay.access.acl import parse_named, parse_principal
from mainstay.access.directory import UNKNOWN_GROUPS
from mainstay.access.roles import ADMIN, ROLES, parse_role
from mainstay.errors import Invalid, MainstayError, Unauthenticated, Unavailable
from mainstay.types import ADMINISTRATORS, Clock

Fetch = Callable[[str], bytes]
"""Reads one address of the identity provider within a deadline; raises Unavailable."""

_KEY_TYPE = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
_TYPES = {"jwt", "at+jwt", "application/at+jwt", "application/jwt"}
_ID_TYPES = {"jwt", "application/jwt"}
_MAX_DOCUMENT = 1_000_000
_MAX_KEYS = 200
_MAX_GROUPS = 2_000
_MAX_PART = 16_384
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, kw_only=True)
class OidcSettings:
    """Whose tokens count, and how they name people.

    ``groups_claim`` None: groups are kept by Mainstay alone. ``admin_groups`` (as the token writes them) make
    administrators; no other group does, whatever its name. A claim may be a path (``realm_access.roles``). ``roles`` says
    which groups (as Mainstay names them: ``group:platform``) stand for which role. With a ``client_id`` people sign in at
    the provider; ``redirect_uri`` is where it sends them back, when this service can not see its own address.
    """

    issuer: str
    audience: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    jwks_uri: str | None = None
    user_claim: str = "sub"
    user_prefix: str = ""
    groups_claim: str | None = "groups"
    group_prefix: str = ""
    admin_groups: tuple[str, ...] = ()
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    redirect_uri: str | None = None
    leeway_s: float = 60.0
    refetch_s: float = 30.0
    refresh_s: float = 3_600.0
    max_stale_s: float = 86_400.0

    def __post_init__(self) -> None:
        checked_address(self.issuer, "identity.issuer")
        if self.jwks_uri is not None:
            checked_address(self.jwks_uri, "identity.jwks_uri")
        if not self.accepted_audience:
            raise Invalid(
                "no audience", where="identity.audience", fix="write the client id or API name that tokens are made for"
            )
        for role, groups in self.roles.items():
            parse_role(role, "identity.oidc.roles")
            for group in groups:
                parse_named("group", group, f"identity.oidc.roles.{role}")
        if self.redirect_uri is not None:
            checked_address(self.redirect_uri, "identity.oidc.redirect_uri")
        if self.client_id and "openid" not in self.scopes:
            raise Invalid(
                "openid is missing", where="identity.oidc.scopes", fix="add openid: without it nobody signs in"
            )
        if not self.algorithms:
            raise Invalid("no algorithm", where="identity.algorithms", fix=f"choose from {', '.join(_KEY_TYPE)}")
        for name in self.algorithms:
            if name not in _KEY_TYPE:
                raise Invalid(
                    f"{name!r} is not accepted", where="identity.algorithms", fix=f"choose from {', '.join(_KEY_TYPE)}"
                )

    @property
    def accepted_audience(self) -> str:
        """Whom tokens must be made for: the one named, else the client that people sign in with."""
        return self.audience or self.client_id

    def roles_of(self, groups: Collection[str]) -> tuple[str, ...]:
        """The roles these groups stand for, in the order of ``ROLES``."""
        return tuple(role for role in ROLES if not self._groups_of(role).isdisjoint(groups))

    def _groups_of(self, role: str) -> set[str]:
        return {parse_named("group", group, "identity.oidc.roles") for group in self.roles.get(role, ())}


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a valid token says of its bearer. ``notes`` tell an operator what was left out, and why."""

    principal: str
    display: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    expires: datetime | None = None


class Oidc:
    """Verifies tokens against one identity provider; one per process, for all threads."""

    def __init__(self, settings: OidcSettings, fetch: Fetch, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._keys = _KeySet(settings, fetch, clock)
        self._registry = _Registry(algorithms=settings.algorithms, strict_check_header=False)
        self._registry.max_header_length = _MAX_PART
        self._registry.max_payload_length = _MAX_PART
        self._admin_groups = frozenset(settings.admin_groups)
        self._admin_principals = frozenset(
            parse_named("group", group, "identity.oidc.roles") for group in settings.roles.get(ADMIN, ())
        )

    def verify(self, text: str) -> Token:
        """What the token says.

        Errors: Unauthenticated with the reason; Unavailable when the provider's keys can not be had.
        """
        claims = self._claims(text)
        self._check_times(claims)
        self._check_parties(claims, self.settings.accepted_audience)
        return self._read(claims)

    def signed_in(self, text: str, nonce: str) -> Token:
        """What an ID token says that was made for our own sign-in with this nonce (OpenID Connect Core 1.0, 3.1.3.7).

        Errors: as ``verify``.
        """
        client = self.settings.client_id
        claims = self._claims(text, _ID_TYPES)
        self._check_times(claims)
        self._check_parties(claims, client)
        audience = claims.get("aud")
        several = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", None if several else client) != client:
            raise _bad("is made for another client")
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode("utf-8", "replace"), nonce.encode()):
            raise _bad("belongs to another sign-in")
        return self._read(claims)

    def about(self) -> Mapping[str, object]:
        """The provider's discovery document, asked for when it is needed. Errors: Unavailable."""
        return self._keys.about()

    def _claims(self, text: str, kinds: Collection[str] = _TYPES) -> Mapping[str, object]:
        header = _header(text)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self.settings.algorithms:
            raise _bad("is signed with an algorithm that is not accepted")
        if key_id is not None and not isinstance(key_id, str):
            raise _bad("names its key in no readable way")
        if str(header.get("typ", "JWT")).casefold() not in kinds or "crit" in header:
            raise _bad("is of a kind that is not accepted")
        key = self._keys.find(key_id, algorithm)
        try:
            claims = json.loads(jws.deserialize_compact(text, key, registry=self._registry).payload or b"")
        except (JoseError, ValueError, RecursionError):
            raise _bad("does not verify") from None
        if not isinstance(claims, dict):
            raise _bad("does not verify")
        return claims

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now, leeway = self._clock.now().timestamp(), self.settings.leeway_s
        expires = _seconds(claims, "exp")
        if expires is None:
            raise _bad("does not say when it expires")
        if expires + leeway <= now:
            raise _bad("has expired")
        for claim in ("nbf", "iat"):
            if (since := _seconds(claims, claim)) is not None and since - leeway > now:
                raise _bad("is not valid yet")

    def _check_parties(self, claims: Mapping[str, object], wanted: str) -> None:
        if claims.get("iss") != self.settings.issuer:
            raise _bad("comes from another issuer")
        audience = claims.get("aud")
        if wanted not in (audience if isinstance(audience, list) else [audience]):
            raise _bad("is made for another audience")
        if "events" in claims:
            raise _bad("is of a kind that is not accepted")  # a logout or security event, signed with the same keys

    def _read(self, claims: Mapping[str, object]) -> Token:
        name = _claim(claims, self.settings.user_claim)
        if not isinstance(name, str) or not name.strip():
            raise _bad(f"has no claim {self.settings.user_claim}")
        if self.settings.user_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            raise _bad("has an e-mail address that was never verified")
        try:
            principal = parse_principal(f"user:{self.settings.user_prefix}{name}", "token")
        except Invalid:
            raise _bad(f"has a claim {self.settings.user_claim} that can not be a name") from None
        if (
            self.settings.user_claim == "sub"
            and principal.removeprefix("user:") != f"{self.settings.user_prefix}{name}"
        ):
            # Subjects differ by case alone at some providers; our names do not.
            principal += f"~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
        groups, notes = self._groups(claims)
        expires = _seconds(claims, "exp")
        return Token(
            principal=principal,
            display=_text(claims, "name") or _text(claims, "preferred_username"),
            email=_text(claims, "email"),
            groups=groups,
            notes=notes,
            expires=None if expires is None else datetime.fromtimestamp(expires, UTC),
        )

    def _groups(self, claims: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        claim = self.settings.groups_claim
        if claim is None:
            return (), ()
        if reason := _cut_short(claims, claim):
            return (UNKNOWN_GROUPS,), (reason,)
        named = _claim(claims, claim)
        found, notes = set[str](), set[str]()
        for name in named if isinstance(named, list) else [named]:
            if name in self._admin_groups if isinstance(name, str) else False:
                found.add(ADMINISTRATORS)
            try:
                group = parse_principal(
                    f"group:{self.settings.group_prefix}{name}" if isinstance(name, str) else name, "token"
                )
            except Invalid as error:
                found.add(UNKNOWN_GROUPS)
                notes.add(f"a group was left out: {error.what}")
                continue
            if group in self._admin_principals:
                found.add(ADMINISTRATORS)
            if group != ADMINISTRATORS:
                found.add(group)
            elif ADMINISTRATORS not in found:
                notes.add(f"{ADMINISTRATORS} was left out: only admin_groups make administrators")
        return tuple(sorted(found)), tuple(sorted(notes))


class _KeySet:
    """The provider's public keys: fetched when first needed, again each ``refresh_s``, and at once (but at most each
    ``refetch_s``) for a key id nobody knows. When fetching fails the old keys serve until they are ``max_stale_s``
    old.
    """

    def __init__(self, settings: OidcSettings, fetch: Fetch, clock: Clock) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: tuple[_PublicKey, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._failure = "they were never fetched"

    def find(self, key_id: str | None, algorithm: str) -> _Key:
        with self._lock:
            if self._older(self._fetched, self._settings.refresh_s):
                self._refresh()
            if (key := self._match(key_id, algorithm)) is None:
                self._refresh()
                key = self._match(key_id, algorithm)
            if self._older(self._fetched, self._settings.max_stale_s):
                raise Unavailable(
                    f"the identity provider's keys can not be had ({self._failure})",
                    where=self._settings.issuer,
                    fix="look whether it answers",
                    retry_after_s=self._settings.refetch_s,
                )
        if key is None:
            raise _bad("is signed with a key the identity provider does not publish")
        return key

    def _match(self, key_id: str | None, algorithm: str) -> _Key | None:
        fitting = [key for key in self._keys if key.serves(algorithm) and key_id in (None, key.key_id)]
        if key_id is None and len(fitting) != 1:
            return None  # a token that names no key is accepted only when there is nothing to choose
        return fitting[0].key if fitting else None

    def _refresh(self) -> None:
        if not self._older(self._tried, self._settings.refetch_s):
            return
        self._tried = self._clock.now().timestamp()
        try:
            keys = _public_keys(_document(self._fetch, self._address()))
            if not keys:
                raise Unavailable("it publishes no usable key")
        except MainstayError as error:
            self._failure = error.what
            return
        self._keys, self._fetched = keys, self._clock.now().timestamp()

    def _address(self) -> str:
        if self._settings.jwks_uri is not None:
            return self._settings.jwks_uri
        found = self.about()
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise Unavailable("its discovery document names no key set")
        return checked_address(address, "jwks_uri")

    def about(self) -> Mapping[str, object]:
        """The discovery document (OpenID Connect Discovery 1.0, 4)."""
        found = _document(self._fetch, f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._settings.issuer:
            raise Unavailable("its discovery document names another issuer")
        return found

    def _older(self, moment: float | None, than_s: float) -> bool:
        # A clock that was set back makes an age negative: then we do not know it.
        return moment is None or not 0 <= self._clock.now().timestamp() - moment < than_s


_Key = RSAKey | ECKey | OKPKey
_KEY_CLASSES: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


@dataclass(frozen=True, kw_only=True)
class _PublicKey:
    key: _Key
    key_id: str | None
    kind: str
    algorithm: str | None

    def serves(self, algorithm: str) -> bool:
        return self.kind == _KEY_TYPE[algorithm] and self.algorithm in (None, algorithm)


class _Registry(JWSRegistry):
    """joserfc's table of algorithms, cut down to the accepted ones; warns of none, since the settings chose them."""

    def get_alg(self, name: str) -> Any:  # joserfc does not export the type
        if name not in _KEY_TYPE or name not in (self.allowed or ()):
            raise JoseError(f"{name} is not accepted")
        return self.algorithms[name]


def _public_keys(document: Mapping[str, object]) -> tuple[_PublicKey, ...]:
    """The keys that may verify a signature; one we can not read leaves the others usable."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise Unavailable("its key set is not one")
    return tuple(key for data in listed if (key := _public_key(data)) is not None)


def _public_key(data: object) -> _PublicKey | None:
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    kind = data.get("kty")
    if not isinstance(kind, str) or kind not in _KEY_CLASSES:
        return None
    key_id, algorithm = data.get("kid"), data.get("alg")
    try:
        key = _KEY_CLASSES[kind].import_key({k: v for k, v in data.items() if k in _PUBLIC_PARTS})
        if isinstance(key, RSAKey) and key.public_key.key_size < _MIN_RSA_BITS:
            return None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        return None
    return _PublicKey(
        key=key,
        key_id=key_id if isinstance(key_id, str) else None,
        kind=kind,
        algorithm=algorithm if isinstance(algorithm, str) else None,
    )


_PUBLIC_PARTS = {"kty", "n", "e", "crv", "x", "y"}


def _document(fetch: Fetch, address: str) -> Mapping[str, object]:
    body = fetch(address)
    try:
        found = json.loads(body) if len(body) <= _MAX_DOCUMENT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"{address} answers with no JSON object")
    return found


def _header(text: str) -> Mapping[str, object]:
    """The token's header, of which nothing is believed before the signature is checked."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise _bad("is not a signed token")
    try:
        header = json.loads(urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _bad("is not a signed token")
    return header


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e12:
        raise _bad(f"has a claim {name} that is no time")
    return float(value)


def _claim(claims: Mapping[str, object], name: str) -> object:
    """A claim by its name, or by a path of names when no claim is called so."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _cut_short(claims: Mapping[str, object], claim: str) -> str:
    """Why the token does not tell all groups, or nothing."""
    elsewhere = claims.get("_claim_names")
    if (isinstance(elsewhere, dict) and claim in elsewhere) or claims.get("hasgroups") in (True, "true"):
        return "too many groups for the token: they count as unknown"
    named = _claim(claims, claim)
    if named is None:
        return f"the token has no claim {claim}: groups count as unknown"
    if isinstance(named, Collection) and len(named) > _MAX_GROUPS:
        return f"more than {_MAX_GROUPS} groups: they count as unknown"
    return ""


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    return value[:200] if isinstance(value, str) and value.isprintable() else ""


def checked_address(address: str, where: str) -> str:
    """An address keys may come from: https, or http on this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or not (
        parts.scheme == "https" or (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"))
    ):
        raise Invalid(f"{address[:100]!a} is not an https address", where=where, fix="write https://...")
    return address


def _bad(why: str) -> Unauthenticated:
    return Unauthenticated(f"the token {why}", fix="sign in again")
