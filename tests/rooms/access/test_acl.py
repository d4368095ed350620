"""Rules as people write them: what is read, what is refused with which advice, and the laws they keep."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.access.acl import (
    MAX_PRINCIPALS,
    PRIVATE,
    Acl,
    canonical,
    decide,
    inherit,
    parse_acl,
    parse_named,
    parse_principal,
)
from mainstay.errors import Invalid, TooLarge


@pytest.mark.parametrize(
    ("text", "principal"),
    [
        ("public", "public"),
        (" Public ", "public"),
        ("user:alice", "user:alice"),
        ("User:Alice@Example.COM", "user:alice@example.com"),
        ("group: Finance  Team", "group:finance team"),
        ("group:/hr/eu", "group:/hr/eu"),
        ("group:CN=Finance,OU=Groups", "group:cn=finance,ou=groups"),
        ("user:urn:example:7", "user:urn:example:7"),
        ("group:Straße", "group:strasse"),
        ("user:Zoe\u0308", "user:zo\u00eb"),
        ("service:crm", "service:crm"),
    ],
)
def test_principals_have_one_form(text: str, principal: str) -> None:
    assert parse_principal(text, "here") == principal


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("finance", "write user:finance or group:finance"),
        ("grp:finance", "write group:finance"),
        ("groups:finance", "write group:finance"),
        ("usr:alice", "write user:alice"),
        ("everyone", "write public"),
        ("*", "write public"),
        ("pubic", "write public"),
        ("group:", "write public, user:NAME"),
        ("", "write public, user:NAME"),
        (False, "write public, user:NAME"),
        (7, "write public, user:NAME"),
        (None, "write [] for administrators only"),
        ({}, "write [] for administrators only"),
        ({"allow": None}, "write [] for administrators only"),
        ([{"group": "finance"}], "write group:finance without a space"),
        ({"group": "finance"}, "write group:finance without a space"),
        ({"alow": ["public"]}, "write allow"),
        ({"allow": ["public"], "denied": []}, "write deny"),
        ("group:finance, group:hr", "write a list"),
        ("group:finance; public", "write a list"),
        (["group:a", ["group:b"]], "write public, user:NAME"),
        ("user:al\u200bice", "again by hand"),
        ("user:alice\n", "again by hand"),
        ("user:al\x00ice", "again by hand"),
        ("user:\udc80", "again by hand"),
        ("group:a\u00a0b", "again by hand"),
    ],
)
def test_refused_with_the_nearest_valid_form(value: object, advice: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_acl(value, "handbook/.access.yaml: access")
    assert advice in raised.value.line()
    assert raised.value.line().startswith("handbook/.access.yaml: access")
    assert raised.value.line().isprintable()


def test_limits() -> None:
    with pytest.raises(TooLarge):
        parse_principal("user:" + "a" * 257, "here")
    with pytest.raises(TooLarge):
        parse_principal("user:" + "a" * 1_000_000, "here")
    with pytest.raises(TooLarge):
        parse_acl([f"user:{n}" for n in range(MAX_PRINCIPALS + 1)], "here")


@pytest.mark.parametrize(
    ("value", "acl"),
    [
        ("public", Acl(("public",), ())),
        (["group:b", "group:a", "GROUP:A"], Acl(("group:a", "group:b"), ())),
        ([], PRIVATE),
        ({"allow": "group:a", "deny": ["user:x"]}, Acl(("group:a",), ("user:x",))),
        ({"allow": [], "deny": ["user:x"]}, Acl((), ("user:x",))),
        ({"deny": "user:x"}, Acl((), ("user:x",), inherits=True)),
    ],
)
def test_forms_of_a_rule(value: object, acl: Acl) -> None:
    assert parse_acl(value, "here") == acl


def test_inheritance() -> None:
    root, folder = parse_acl(["group:staff"], "r"), parse_acl({"deny": ["group:interns"]}, "f")
    assert inherit([]) == inherit([None, None]) == PRIVATE
    assert inherit([root, None]) == root
    assert inherit([root, folder]) == Acl(("group:staff",), ("group:interns",))
    assert inherit([root, folder, parse_acl("public", "d")]) == Acl(("public",), ("group:interns",))
    assert inherit([root, folder, parse_acl([], "d")]) == Acl((), ("group:interns",))
    assert inherit([parse_acl({"deny": "user:x"}, "f")]) == Acl((), ("user:x",))


@pytest.mark.parametrize(
    ("acl", "principals", "visible", "reason"),
    [
        (PRIVATE, {"public", "user:a"}, False, "private to administrators"),
        (Acl(("public",), ()), {"public"}, True, "allowed to public"),
        (Acl(("public",), ("user:a",)), {"public", "user:a"}, False, "denied to user:a"),
        (Acl(("user:a",), ("group:g",)), {"public", "user:a", "group:g"}, False, "denied to group:g"),
        (Acl(("user:b",), ()), {"public", "user:a"}, False, "allowed to none of the asker's principals"),
        (Acl(("public",), ()), set(), False, "allowed to none of the asker's principals"),
    ],
)
def test_decisions_tell_why(acl: Acl, principals: set[str], visible: bool, reason: str) -> None:
    decision = decide(acl, principals)
    assert (decision.visible, decision.reason) == (visible, reason)


NAMES = st.sampled_from(["public", *(f"{kind}:{name}" for kind in ("user", "group") for name in "abcd")])
RULES = st.builds(
    lambda allow, deny, inherits: Acl(() if inherits else tuple(sorted(allow)), tuple(sorted(deny)), inherits),
    st.frozensets(NAMES, max_size=4),
    st.frozensets(NAMES, max_size=4),
    st.booleans(),
)
CHAINS = st.lists(st.none() | RULES, max_size=5)


@given(CHAINS, RULES, st.frozensets(NAMES))
def test_a_deny_anywhere_holds_below(chain: list[Acl | None], rule: Acl, principals: frozenset[str]) -> None:
    below = inherit([rule, *chain])
    assert set(below.deny) >= set(rule.deny)
    assert not below.inherits
    assert not (decide(below, principals).visible and set(rule.deny) & principals)


@given(CHAINS, NAMES, st.frozensets(NAMES), st.integers(0, 5))
def test_adding_a_deny_never_widens(chain: list[Acl | None], name: str, principals: frozenset[str], at: int) -> None:
    denied = [*chain[:at], Acl((), (name,), inherits=True), *chain[at:]]
    assert decide(inherit(chain), principals).visible or not decide(inherit(denied), principals).visible


@given(st.text(max_size=80))
def test_a_canonical_name_stays_as_it_is(name: str) -> None:
    try:
        principal = parse_principal(f"user:{name}", "here")
    except Invalid:
        return
    assert parse_principal(principal, "here") == principal
    assert unicodedata.is_normalized("NFC", principal)
    assert parse_principal(principal.upper(), "here") == parse_principal(principal.upper().lower(), "here")


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | NAMES
KEYS = st.sampled_from(["allow", "deny", "group", "alow"]) | st.text(max_size=4)


@given(
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
    )
)
def test_whatever_stands_there_is_a_rule_or_invalid(value: object) -> None:
    try:
        acl = parse_acl(value, "here")
    except Invalid:
        return
    assert canonical(acl) == Acl(acl.allow, acl.deny)


def test_names_with_or_without_their_kind() -> None:
    assert parse_named("user", "Alice", "here") == parse_named("user", "user:alice", "here") == "user:alice"
    with pytest.raises(Invalid):
        parse_named("user", "group:finance", "here")
    with pytest.raises(Invalid):
        parse_named("group", "public:x", "here")
