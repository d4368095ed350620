"""The access ports over every implementation: laws that hold for any nesting of groups and any set of rules.

The oracle is the naive reading: walk memberships until nothing new is reached, then decide rule by rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from tests.support.databases import open_fresh

from mainstay.access.acl import PRIVATE, Acl, decide
from mainstay.access.ports import Account, Key, Membership, State
from mainstay.access.scope import Gate
from mainstay.clock import FixedClock
from mainstay.errors import Invalid
from mainstay.storage import schema
from mainstay.storage.access import AccessStore, class_for, prune
from mainstay.storage.database import DIALECTS, Address, Database, open_database
from mainstay.types import Actor

CLOCK = FixedClock()
NOW = CLOCK.now()


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("access"))
    yield opened
    close()


@pytest.fixture
def store(database: Database) -> AccessStore:
    _fill(database, set(), [])
    return AccessStore(database, CLOCK)


def _fill(database: Database, edges: set[tuple[str, str]], rules: list[Acl]) -> list[int]:
    """Just these memberships and rules; the numbers of the rules."""
    with database.write() as connection:
        for table in (schema.membership, schema.principal, schema.api_key):
            connection.execute(delete(table))
        prune(connection, NOW)
        if edges:
            rows = [{"principal": group, "member": member, "source": "local", "since": 0} for group, member in edges]
            connection.execute(insert(schema.membership), rows)
        return [class_for(connection, f"rule {at}", rule, NOW) for at, rule in enumerate(rules)]


GROUPS = [f"group:{name}" for name in "abcdefgh"]
USERS = ["user:x", "user:y"]
EDGES = st.frozensets(st.tuples(st.sampled_from(GROUPS), st.sampled_from(GROUPS + USERS)), max_size=24)
PRINCIPALS = st.frozensets(st.sampled_from([*GROUPS, *USERS, "public"]), max_size=4)
RULES = st.lists(
    st.builds(lambda allow, deny: Acl(tuple(sorted(allow)), tuple(sorted(deny))), PRINCIPALS, PRINCIPALS), max_size=8
)
LAW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def naive_closure(edges: frozenset[tuple[str, str]], starts: set[str]) -> set[str]:
    reached = set(starts)
    while new := {group for group, member in edges if member in reached} - reached:
        reached |= new
    return reached


def visible(database: Database, actor: Actor, numbers: list[int]) -> set[int]:
    """Positions of the rules that a fresh Gate lets ``actor`` through."""
    store = AccessStore(database, CLOCK)
    classes = Gate(store, store).scope(actor).classes
    return {at for at, number in enumerate(numbers) if number in classes}


@LAW
@given(EDGES, RULES, st.frozensets(st.sampled_from(GROUPS), max_size=3))
def test_the_gate_equals_the_naive_reading(
    database: Database, edges: frozenset[tuple[str, str]], rules: list[Acl], asserted: frozenset[str]
) -> None:
    numbers = _fill(database, set(edges), rules)
    closure = naive_closure(edges, {"user:x", *asserted})
    assert AccessStore(database, CLOCK).closure({"user:x", *asserted}) == closure
    expected = {at for at, rule in enumerate(rules) if decide(rule, closure | {"public"}).visible}
    assert visible(database, Actor(principal="user:x", groups=tuple(asserted)), numbers) == expected


@LAW
@given(EDGES, RULES, st.sampled_from([*GROUPS, *USERS, "public"]), st.integers(0, 7))
def test_adding_a_deny_never_widens(
    database: Database, edges: frozenset[tuple[str, str]], rules: list[Acl], denied: str, at: int
) -> None:
    actor = Actor(principal="user:x")
    before = visible(database, actor, _fill(database, set(edges), rules))
    if rules:
        rule = rules[at % len(rules)]
        rules = [*rules]
        rules[at % len(rules)] = Acl(rule.allow, tuple(sorted({*rule.deny, denied})))
    assert visible(database, actor, _fill(database, set(edges), rules)) <= before


@LAW
@given(EDGES, RULES, st.sampled_from(GROUPS), st.sampled_from(GROUPS + USERS))
def test_joining_a_group_loses_only_what_is_denied(
    database: Database, edges: frozenset[tuple[str, str]], rules: list[Acl], group: str, member: str
) -> None:
    actor = Actor(principal="user:x")
    before = visible(database, actor, _fill(database, set(edges), rules))
    joined = edges | {(group, member)}
    gained = naive_closure(joined, {"user:x"}) - naive_closure(edges, {"user:x"})
    after = visible(database, actor, _fill(database, set(joined), rules))
    assert all(gained & set(rules[at].deny) for at in before - after)


def test_a_gate_that_follows_changes_equals_a_fresh_one(store: AccessStore, database: Database) -> None:
    gate, actor = Gate(store, store), Actor(principal="user:x")
    rules = [PRIVATE, Acl(("public",), ()), Acl(("user:x",), ()), Acl(("public",), ("user:x",)), PRIVATE]
    for at in range(40):
        store.class_for(f"place {at % 7}", rules[at % len(rules)])
        if at % 9 == 8:
            store.prune()
        assert gate.scope(actor) == Gate(store, store).scope(actor)


def test_a_class_is_one_place(store: AccessStore, database: Database) -> None:
    stamps = store.stamps()
    number = store.class_for("folder", Acl(("group:b", "GROUP:A"), ()))
    assert store.stamps().anything > stamps.anything
    assert (store.stamps().people, store.stamps().removed) == (stamps.people, stamps.removed)
    assert store.classes(stamps.anything) == [(number, Acl(("group:a", "group:b"), ()))]
    stamps = store.stamps()
    assert store.class_for("folder", Acl(("group:a", "group:b"), ())) == number
    assert store.stamps() == stamps
    assert store.classes(stamps.anything) == []
    assert store.class_for("folder", PRIVATE) == number
    assert store.class_for("other folder", PRIVATE) != number
    assert len(store.classes(stamps.anything)) == 2
    with pytest.raises(Invalid):
        store.class_for("folder", Acl(("finance",), ()))


def test_a_change_that_is_taken_back_leaves_no_trace(store: AccessStore, database: Database) -> None:
    stamps = store.stamps()

    def change() -> None:
        with database.write() as connection:
            class_for(connection, "folder", PRIVATE, NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert store.stamps() == stamps
    assert store.classes(stamps.anything) == []


def test_accounts(store: AccessStore) -> None:
    alice = Account(principal="user:alice", display="Alice", email="a@example.com", admin=True, created=NOW)
    assert store.account("user:alice") is None
    assert not store.change_account(alice)
    assert store.add_account(alice)
    assert not store.add_account(alice)
    assert store.account("user:alice") == alice
    disabled = Account(principal="user:alice", state=State.DISABLED, created=NOW)
    assert store.change_account(disabled)
    assert store.account("user:alice") == disabled
    store.set_password_hash("user:alice", "hash")
    assert store.password_hash("user:alice") == "hash"
    store.add_account(Account(principal="user_x:trap", created=NOW))
    assert [account.principal for account in store.accounts("user")] == ["user:alice"]
    assert store.remove_account("user:alice", NOW)
    assert not store.remove_account("user:nobody", NOW)
    left = store.account("user:alice")
    assert left is not None
    assert left.state is State.DELETED
    assert store.password_hash("user:alice") == ""
    assert store.accounts("user") == []
    assert store.add_account(alice)
    assert store.add_account(Account(principal="group:g", created=NOW))
    assert store.remove_account("group:g", NOW)
    assert store.account("group:g") is None


def test_every_change_of_people_is_stamped(store: AccessStore) -> None:
    joined = Membership(group="group:g", member="user:x", since=NOW)
    other = Membership(group="group:g", member="user:x", source="idp", since=NOW)
    account = Account(principal="user:x", created=NOW)
    for change in (
        lambda: store.add_account(account),
        lambda: store.change_account(account),
        lambda: store.add_membership(joined),
        lambda: store.add_membership(other),
        lambda: store.remove_membership("group:g", "user:x", "local"),
        lambda: store.remove_account("user:x", NOW),
    ):
        before = store.stamps()
        assert change()
        assert store.stamps().people == store.stamps().anything > before.anything
    assert store.members("group:g") == []


def test_a_membership_that_two_say_ends_when_both_take_it_back(store: AccessStore) -> None:
    for source in ("local", "idp"):
        store.add_membership(Membership(group="group:g", member="user:x", source=source, since=NOW))
    assert not store.add_membership(Membership(group="group:g", member="user:x", source="idp", since=NOW))
    assert [joined.source for joined in store.members("group:g")] == ["idp", "local"]
    assert store.remove_membership("group:g", "user:x", "local")
    assert store.closure({"user:x"}) == {"user:x", "group:g"}
    assert store.remove_membership("group:g", "user:x", "idp")
    assert store.closure({"user:x"}) == {"user:x"}


def test_a_closure_of_many_starts(store: AccessStore) -> None:
    starts = {f"group:{at}" for at in range(1700)}
    store.add_membership(Membership(group="group:top", member="group:1699", since=NOW))
    assert store.closure(starts) == starts | {"group:top"}
    assert store.closure(()) == frozenset()


def test_keys(store: AccessStore) -> None:
    later = NOW + timedelta(hours=1)
    key = Key(
        key_id="key_1", name="crm", principal="service:crm", scopes=frozenset({"ask"}), created=NOW, expires=later
    )
    store.add_key(key, "hash")
    store.add_key(Key(key_id="key_2", name="x", principal="service:x", scopes=frozenset(), created=later), "other")
    assert store.key("key_1") == (key, "hash")
    assert store.key("key_3") is None
    assert [found.key_id for found in store.list_keys(None)] == ["key_1", "key_2"]
    assert store.list_keys("service:crm") == [key]
    store.mark_used("key_1", later)
    store.mark_used("key_1", NOW)  # arrives late
    assert store.revoke_key("key_1", NOW)
    assert store.revoke_key("key_1", later)
    assert not store.revoke_key("key_3", NOW)
    found, _ = store.key("key_1") or (key, "")
    assert (found.last_used, found.revoked) == (later, NOW)


def test_a_database_of_another_path_knows_nothing(store: AccessStore, tmp_path: Path) -> None:
    fresh = open_database(Address(url=str(tmp_path / "fresh.db")))
    assert AccessStore(fresh, CLOCK).stamps().anything == 0
    fresh.close()
