"""Tokens of an identity provider: the right one opens, every wrong one is told apart and refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from mainstay.access.directory import UNKNOWN_GROUPS
from mainstay.access.identity import Identity
from mainstay.access.oidc import Oidc, OidcSettings
from mainstay.errors import Invalid, Refused, Unauthenticated, Unavailable
from mainstay.types import ADMINISTRATORS

ISSUER, AUDIENCE = "https://id.example.com/realm", "mainstay"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
NEW = ECKey.generate_key("P-256", {"kid": "new"})
REGISTRY = jws.JWSRegistry(algorithms=["RS256", "PS256", "ES256", "EdDSA", "HS256"], strict_check_header=False)


class Provider:
    """An identity provider: its documents, how often they were fetched, and whether it answers."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys) or [RSA, EC, ED]
        self.issuer, self.jwks_uri = ISSUER, f"{ISSUER}/keys"
        self.fetched: list[str] = []
        self.up = True
        self.body: bytes | None = None

    def fetch(self, address: str) -> bytes:
        self.fetched.append(address)
        if not self.up:
            raise Unavailable("no route")
        if address.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.issuer, "jwks_uri": self.jwks_uri}).encode()
        if self.body is not None:
            return self.body
        return json.dumps(
            {"keys": [key.as_dict(private=False) if hasattr(key, "as_dict") else key for key in self.keys]}
        ).encode()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def claims(room: Any) -> dict[str, Any]:
    now = int(room.clock.now().timestamp())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "groups": ["finance"],
    }


def oidc(room: Any, provider: Provider, **changes: Any) -> Oidc:
    return Oidc(OidcSettings(**{"issuer": ISSUER, "audience": AUDIENCE, **changes}), provider.fetch, room.clock)


def sign(claims: Any, key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    header = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **header}
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.serialize_compact(
        {name: value for name, value in header.items() if value is not None}, payload, key, registry=REGISTRY
    )


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


pytestmark = pytest.mark.filterwarnings(
    "ignore::joserfc.errors.SecurityWarning"
)  # of signing here; verifying gives none


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_good_token(room: Any, provider: Provider, claims: dict[str, Any], key: Any, algorithm: str) -> None:
    verifier = oidc(room, provider)
    token = verifier.verify(sign({**claims, "name": "Alice A.", "email": "a@example.com"}, key, algorithm, x5t="extra"))
    assert (token.principal, token.groups, token.display, token.email) == (
        "user:alice",
        ("group:finance",),
        "Alice A.",
        "a@example.com",
    )
    assert token.notes == ()
    verifier.verify(sign({**claims, "aud": ["other", AUDIENCE]}, key, algorithm, typ="at+jwt"))
    assert provider.fetched == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]


WRONG_CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("another issuer", {"iss": "https://id.example.com/other"}),
    ("another issuer", {"iss": ISSUER + "/"}),
    ("another issuer", {"iss": None}),
    ("another audience", {"aud": "other"}),
    ("another audience", {"aud": ["other"]}),
    ("another audience", {"aud": None}),
    ("another audience", {"aud": {AUDIENCE: 1}}),
    ("has expired", {"exp": -61}),
    ("does not say when", {"exp": None}),
    ("that is no time", {"exp": "tomorrow"}),
    ("that is no time", {"exp": True}),
    ("that is no time", {"exp": float("inf")}),
    ("that is no time", {"exp": float("nan")}),
    ("not valid yet", {"nbf": 61}),
    ("not valid yet", {"iat": 61}),
    ("kind that is not accepted", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
    ("no claim sub", {"sub": None}),
    ("no claim sub", {"sub": ""}),
    ("no claim sub", {"sub": ["alice"]}),
    ("can not be a name", {"sub": "al\u200bice"}),
    ("can not be a name", {"sub": "a" * 300}),
]


@pytest.mark.parametrize(("reason", "changed"), WRONG_CLAIMS)
def test_a_wrong_claim(
    room: Any, provider: Provider, claims: dict[str, Any], reason: str, changed: dict[str, Any]
) -> None:
    now = room.clock.now().timestamp()
    for name, value in changed.items():
        relative = name in ("exp", "nbf", "iat") and isinstance(value, int) and not isinstance(value, bool)
        claims[name] = now + value if relative else value
    with pytest.raises(Unauthenticated, match=reason):
        oidc(room, provider).verify(sign({name: value for name, value in claims.items() if value is not None}))


def test_times_have_a_leeway(room: Any, provider: Provider, claims: dict[str, Any]) -> None:
    now = room.clock.now().timestamp()
    oidc(room, provider).verify(sign({**claims, "exp": now - 59, "nbf": now + 60, "iat": now + 60}))


def wrong_tokens(claims: dict[str, Any]) -> dict[str, str]:
    good = sign(claims)
    head, body, signature = good.split(".")
    none = b64(json.dumps({"alg": "none", "kid": "rsa"}).encode())
    hs = b64(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    confused = {}
    for name, secret in (("pem", RSA.as_pem(private=False)), ("jwk", json.dumps(RSA.as_dict(private=False)).encode())):
        confused[f"HS256 with the public {name}"] = (
            f"{hs}.{body}.{b64(hmac.digest(secret, f'{hs}.{body}'.encode(), hashlib.sha256))}"
        )
    stranger = RSAKey.generate_key(2048, {"kid": "rsa"})
    return {
        "alg none": f"{none}.{body}.",
        "alg none, old signature": f"{none}.{body}.{signature}",
        **confused,
        "HS256": sign(claims, OctKey.generate_key(256, {"kid": "rsa"}), "HS256"),
        "algorithm not chosen": sign(claims, RSA, "PS256"),
        "another's key": sign(claims, stranger),
        "its own key in the header": sign(claims, stranger, jwk=stranger.as_dict(private=False)),
        "its own key set": sign(claims, stranger, jku="https://evil.example/keys"),
        "key of another kind": sign(claims, EC, "ES256", kid="rsa"),
        "unknown key": sign(claims, stranger, kid="unknown"),
        "no key named": sign(claims, stranger, kid=None),
        "key named by a list": b64(b'{"alg": "RS256", "kid": ["rsa"]}') + f".{body}.{signature}",
        "changed claims": f"{head}.{b64(json.dumps({**claims, 'sub': 'root'}).encode())}.{signature}",
        "changed signature": f"{head}.{body}.{'A' * len(signature)}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.x",
        "no JSON": sign(b"claims"),
        "no object": sign(b"[1]"),
        "deep": sign(b"[" * 4000 + b"]" * 4000),
        "a logout token": sign(claims, typ="logout+jwt"),
        "critical header": b64(b'{"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false}')
        + f".{body}.{signature}",
        "garbage": "a.b.c",
        "header is no object": f"{b64(b'[]')}.{body}.{signature}",
        "not base64": f"*.{body}.{signature}",
    }


def test_wrong_tokens(room: Any, provider: Provider, claims: dict[str, Any]) -> None:
    verifier = oidc(room, provider)
    verifier.verify(sign(claims))
    for name, text in wrong_tokens(claims).items():
        with pytest.raises(Unauthenticated) as raised:
            verifier.verify(text)
        assert raised.value.line().isprintable(), name
    assert "https://evil.example/keys" not in provider.fetched


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    st.text(alphabet="abcXYZ019-_.=*", max_size=60)
    | st.binary(max_size=60).map(lambda data: f"{b64(data)}.{b64(data)}.{b64(data)}")
)
def test_no_text_breaks_it(room: Any, text: str) -> None:
    with pytest.raises(Unauthenticated):
        oidc(room, Provider()).verify(text)


def test_keys_rotate(room: Any, provider: Provider, claims: dict[str, Any]) -> None:
    verifier = oidc(room, provider, jwks_uri=f"{ISSUER}/keys", refetch_s=30)
    verifier.verify(sign(claims))
    provider.keys = [EC, NEW]
    with pytest.raises(Unauthenticated):  # fetched a moment ago: not again so soon, however many ask
        verifier.verify(sign(claims, NEW, "ES256"))
    assert len(provider.fetched) == 1
    room.clock.advance(timedelta(seconds=30))
    verifier.verify(sign(claims, NEW, "ES256"))
    assert len(provider.fetched) == 2
    with pytest.raises(Unauthenticated):  # withdrawn
        verifier.verify(sign(claims))
    assert len(provider.fetched) == 2


def test_a_withdrawn_key_ends_within_the_refresh_time(room: Any, provider: Provider, claims: dict[str, Any]) -> None:
    claims["exp"] += 10_000
    verifier = oidc(room, provider)
    verifier.verify(sign(claims))
    provider.keys = [EC]
    room.clock.advance(timedelta(seconds=3_600))
    with pytest.raises(Unauthenticated):
        verifier.verify(sign(claims))


def test_old_keys_serve_while_the_provider_is_silent_but_not_for_ever(
    room: Any, provider: Provider, claims: dict[str, Any]
) -> None:
    claims["exp"] += 1_000_000
    verifier = oidc(room, provider)
    verifier.verify(sign(claims))
    provider.up = False
    room.clock.advance(timedelta(hours=23))
    verifier.verify(sign(claims))
    calls = len(provider.fetched)
    for _ in range(10):
        verifier.verify(sign(claims))
    assert len(provider.fetched) == calls
    room.clock.advance(timedelta(hours=1))
    with pytest.raises(Unavailable):
        verifier.verify(sign(claims))
    provider.up = True
    room.clock.advance(timedelta(seconds=30))
    verifier.verify(sign(claims))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda provider: setattr(provider, "up", False),
        lambda provider: setattr(provider, "issuer", "https://evil.example"),
        lambda provider: setattr(provider, "jwks_uri", "http://id.example.com/keys"),
        lambda provider: setattr(provider, "jwks_uri", None),
        lambda provider: setattr(provider, "body", b"<html>"),
        lambda provider: setattr(provider, "body", b'{"keys": {}}'),
        lambda provider: setattr(provider, "body", b'{"keys": []}'),
        lambda provider: setattr(provider, "body", b" " * 1_000_001),
        lambda provider: setattr(provider, "body", b"[" * 100_000),
    ],
)
def test_without_the_providers_keys_nobody_can_be_told(
    room: Any, provider: Provider, claims: dict[str, Any], spoil: Callable[[Provider], None]
) -> None:
    spoil(provider)
    with pytest.raises(Unavailable):
        oidc(room, provider).verify(sign(claims))


def test_keys_that_can_not_be_used_leave_the_others(room: Any, claims: dict[str, Any]) -> None:
    odd: list[Any] = [
        7,
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": "*", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    ]
    odd += [
        {"kty": ["EC"]},
        {"kty": "EC", "crv": [], "x": 1, "y": None},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
        {"kty": "AKP", "kid": "pq"},
    ]
    odd += [OctKey.generate_key(256).as_dict(private=True), {**EC.as_dict(private=False), "use": "enc", "kid": "rsa"}]
    small = RSAKey.generate_key(1024, {"kid": "small"})
    verifier = oidc(room, Provider(*odd, small, RSA))
    verifier.verify(sign(claims))
    with pytest.raises(Unauthenticated):
        verifier.verify(sign(claims, small))


def test_a_key_serves_only_the_algorithm_it_names(room: Any, claims: dict[str, Any]) -> None:
    provider = Provider({**RSA.as_dict(private=False), "alg": "RS256"})
    verifier = oidc(room, provider, algorithms=("RS256", "PS256"))
    verifier.verify(sign(claims))
    verifier.verify(sign(claims, kid=None))  # one key: nothing to choose
    with pytest.raises(Unauthenticated):
        verifier.verify(sign(claims, RSA, "PS256"))


@pytest.mark.parametrize(
    ("changed", "settings", "groups"),
    [
        ({"groups": ["Finance", "HR Team"]}, {}, ("group:finance", "group:hr team")),
        ({"groups": "finance"}, {}, ("group:finance",)),
        ({"groups": []}, {}, ()),
        ({"groups": ["finance"]}, {"group_prefix": "idp/"}, ("group:idp/finance",)),
        ({"groups": ["finance"]}, {"groups_claim": None}, ()),
        ({"groups": None}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": None, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": ["finance"], "hasgroups": True}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": ["finance", 7]}, {}, (UNKNOWN_GROUPS, "group:finance")),
        ({"groups": ["finance", "a\u200bb"]}, {}, (UNKNOWN_GROUPS, "group:finance")),
        ({"groups": [""]}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": {"finance": 1}}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": ["g"] * 2_001}, {}, (UNKNOWN_GROUPS,)),
        ({"groups": ["Administrators", "finance"]}, {}, ("group:finance",)),
        ({"groups": ["ops"]}, {"admin_groups": ("ops",)}, (ADMINISTRATORS, "group:ops")),
        ({"groups": ["administrators"]}, {"admin_groups": ("administrators",)}, (ADMINISTRATORS,)),
        ({"realm_access": {"roles": ["hr"]}}, {"groups_claim": "realm_access.roles"}, ("group:hr",)),
        ({"https://x.example/groups": ["hr"]}, {"groups_claim": "https://x.example/groups"}, ("group:hr",)),
    ],
)
def test_groups(
    room: Any,
    provider: Provider,
    claims: dict[str, Any],
    changed: dict[str, Any],
    settings: dict[str, Any],
    groups: tuple[str, ...],
) -> None:
    told = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    token = oidc(room, provider, **settings).verify(sign(told))
    assert token.groups == tuple(sorted(groups))
    left_out = UNKNOWN_GROUPS in groups or "Administrators" in (changed.get("groups") or ())
    assert bool(token.notes) == left_out


def test_names(room: Any, provider: Provider, claims: dict[str, Any]) -> None:
    def name(settings: dict[str, Any], **changed: Any) -> str:
        return oidc(room, provider, **settings).verify(sign({**claims, **changed})).principal

    assert name({"user_claim": "preferred_username"}, preferred_username="Alice") == "user:alice"
    assert name({"user_prefix": "idp/"}) == "user:idp/alice"
    assert len({name({}, sub=sub) for sub in ("00uAbC", "00uABC", "00uabc")}) == 3
    assert name({}, sub="00uabc") == "user:00uabc"
    assert name({"user_claim": "email"}, email="A@example.com", email_verified=True) == "user:a@example.com"
    with pytest.raises(Unauthenticated, match="never verified"):
        name({"user_claim": "email"}, email="a@example.com", email_verified=False)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://id.example.com"},
        {"issuer": "id.example.com"},
        {"issuer": "https://[bad"},
        {"jwks_uri": "file:///etc/passwd"},
        {"audience": ""},
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("RS256", "HS256")},
    ],
)
def test_settings_that_can_not_be(changed: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        OidcSettings(**{"issuer": ISSUER, "audience": AUDIENCE, **changed})
    OidcSettings(issuer="http://localhost:8080/realm", audience=AUDIENCE)


def test_a_token_becomes_an_actor(
    room: Any, provider: Provider, claims: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity(room.store, room.people, room.keyring, oidc(room, provider, admin_groups=("ops",)))

    def sent(claims: dict[str, Any], on_behalf_of: str | None = None) -> Any:
        return identity.authenticate(authorization=f"Bearer {sign(claims)}", on_behalf_of=on_behalf_of)

    actor = sent({**claims, "name": "Alice A."})
    assert (actor.principal, actor.groups, actor.display, actor.admin) == (
        "user:alice",
        ("group:finance",),
        "Alice A.",
        False,
    )
    assert room.gate.scope(actor).principals == {"user:alice", "group:finance", "public"}
    admin = sent({**claims, "groups": ["ops"]})
    assert admin.admin
    assert "admin" in admin.scopes
    assert "on-behalf-of" not in admin.scopes
    assert caplog.messages == []
    assert sent({**claims, "hasgroups": True}).groups == (UNKNOWN_GROUPS,)
    assert "groups" in caplog.text
    with pytest.raises(Refused):
        sent(claims, on_behalf_of="bob")
    room.people.add_user("alice")
    room.people.disable("user:alice")
    with pytest.raises(Unauthenticated):
        sent(claims)
    assert room.gate.scope(actor).principals == frozenset()
    room.people.delete("user:alice")
    with pytest.raises(Unauthenticated):
        sent(claims)


def test_groups_of_a_person_known_otherwise_are_unknown(room: Any, provider: Provider) -> None:
    room.people.add_user("bob", password="correct horse battery")
    _, text = room.keyring.create("user:bob", name="x")
    for asserts, groups in (
        (oidc(room, provider), (UNKNOWN_GROUPS,)),
        (oidc(room, provider, groups_claim=None), ()),
        (None, ()),
    ):
        identity = Identity(room.store, room.people, room.keyring, asserts)
        assert identity.authenticate(authorization=f"Bearer {text}", on_behalf_of=None).groups == groups
        assert identity.sign_in("bob", "correct horse battery").groups == groups
        assert identity.actor_for("user:Bob").groups == groups
