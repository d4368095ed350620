"""The Gate: what an Actor sees now, and how soon a change is in force."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from mainstay.access.acl import PRIVATE, Acl
from mainstay.access.directory import UNKNOWN_GROUPS, People
from mainstay.access.ports import Stamps
from mainstay.access.scope import NOTHING, Gate, intersect, scope_of
from mainstay.errors import Invalid
from mainstay.storage.access import AccessStore
from mainstay.storage.database import Address, open_database
from mainstay.types import Actor, Scope

ALICE = Actor(principal="user:alice")
ANONYMOUS = Actor(principal="anonymous")
OPERATOR = Actor(principal="user:operator", admin=True)


@pytest.fixture
def classes(room: Any) -> dict[str, int]:
    for group in ("staff", "finance"):
        room.people.add_group(group)
    for user in ("alice", "bob"):
        room.people.add_user(user)
    room.people.add_member("staff", "user:alice")
    room.people.add_member("finance", "group:staff")
    rules = {
        "public": Acl(("public",), ()),
        "public but not alice": Acl(("public",), ("user:alice",)),
        "finance": Acl(("group:finance",), ()),
        "finance but not staff": Acl(("group:finance",), ("group:staff",)),
        "bob": Acl(("user:bob",), ()),
        "private": PRIVATE,
    }
    return {origin: room.store.class_for(origin, acl) for origin, acl in rules.items()}


def seen(scope: Scope, classes: dict[str, int]) -> set[str]:
    return {origin for origin, number in classes.items() if number in scope.classes}


@pytest.mark.parametrize(
    ("actor", "visible"),
    [
        (ALICE, {"public", "finance"}),
        (Actor(principal="user:bob"), {"public", "public but not alice", "bob"}),
        (
            Actor(principal="user:bob", groups=("group:Finance",)),
            {"public", "public but not alice", "bob", "finance", "finance but not staff"},
        ),
        (Actor(principal="user:bob", groups=(UNKNOWN_GROUPS,)), {"public", "public but not alice", "bob"}),
        (
            Actor(principal="user:new", groups=("group:finance", UNKNOWN_GROUPS)),
            {"public", "public but not alice", "finance"},
        ),
        (ANONYMOUS, {"public", "public but not alice"}),
        (Actor(principal="anonymous", groups=("group:finance",), admin=False), {"public", "public but not alice"}),
        (Actor(principal="user:alice", admin=True), {"public", "finance"}),
        (Actor(principal="user:operator", admin=True, key_id="key_1"), {"public", "public but not alice"}),
    ],
)
def test_who_sees_what(room: Any, classes: dict[str, int], actor: Actor, visible: set[str]) -> None:
    assert seen(room.gate.scope(actor), classes) == visible


def test_administrators_see_everything(room: Any, classes: dict[str, int]) -> None:
    everything = set(classes.values())
    assert room.gate.scope(OPERATOR).classes == everything
    assert room.gate.scope(ALICE).classes < everything
    room.people.add_member("administrators", "group:finance")
    assert room.gate.scope(ALICE).classes == everything
    assert "group:administrators" in room.gate.scope(ALICE).principals
    room.people.remove_member("administrators", "group:finance")
    assert room.gate.scope(ALICE).classes < everything
    room.people.set_admin("user:alice", True)
    assert room.gate.scope(ALICE).classes == everything
    room.people.disable("user:alice")
    assert room.gate.scope(ALICE) == NOTHING


def test_a_revoke_by_another_process_is_in_force_at_the_next_call(room: Any, classes: dict[str, int]) -> None:
    other = open_database(Address(url=str(room.path)))
    store = AccessStore(other, room.clock)
    people = People(store, room.clock)
    for change, lost in [
        (lambda: store.class_for("public", PRIVATE), "public"),
        (lambda: people.remove_member("staff", "user:alice"), "finance"),
    ]:
        assert lost in seen(room.gate.scope(ALICE), classes)
        change()
        assert lost not in seen(room.gate.scope(ALICE), classes)
    assert store.class_for("bob", Acl(("user:alice",), ())) == classes["bob"]
    assert seen(room.gate.scope(ALICE), classes) == {"bob"}
    people.disable("user:alice")
    assert room.gate.scope(ALICE) == NOTHING
    people.enable("user:alice")
    assert seen(room.gate.scope(ALICE), classes) == {"bob"}
    people.delete("user:alice")
    assert room.gate.scope(ALICE) == NOTHING
    other.close()


def test_a_call_after_no_change_reads_once(room: Any, classes: dict[str, int]) -> None:
    statements: list[str] = []
    first = room.gate.scope(ALICE)
    with room.store._database.read() as connection:
        engine = connection.engine

    @event.listens_for(engine, "before_cursor_execute")
    def _count(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    assert room.gate.scope(ALICE) is first
    assert len([text for text in statements if text.startswith("SELECT")]) == 1
    statements.clear()
    room.store.class_for("new", Acl(("user:bob",), ()))
    statements.clear()
    assert room.gate.scope(ALICE) == first
    assert len([text for text in statements if text.startswith("SELECT")]) <= 3
    event.remove(engine, "before_cursor_execute", _count)


def test_class_numbers_are_never_used_again(room: Any, classes: dict[str, int]) -> None:
    held = room.gate.scope(OPERATOR)
    assert room.store.prune() == len(classes)
    assert room.store.prune() == 0
    assert room.gate.scope(OPERATOR).classes == frozenset()
    assert room.store.class_for("private again", PRIVATE) not in held.classes


def test_explain_says_what_the_gate_does(room: Any, classes: dict[str, int]) -> None:
    rules = dict(room.store.classes(0))
    actors = [ALICE, ANONYMOUS, OPERATOR, Actor(principal="user:bob", groups=(UNKNOWN_GROUPS, "group:finance"))]
    for actor in actors:
        for number, acl in rules.items():
            assert room.gate.explain(actor, acl).visible == (number in room.gate.scope(actor).classes)
    room.people.disable("user:alice")
    assert not room.gate.explain(ALICE, Acl(("public",), ())).visible


@pytest.mark.parametrize(
    "actor",
    [
        Actor(principal="alice"),
        Actor(principal="user:alice", groups=("user:bob",)),
        Actor(principal="user:a", groups=("public",)),
    ],
)
def test_an_actor_that_can_not_be_is_refused(room: Any, classes: dict[str, int], actor: Actor) -> None:
    if actor.groups == ("public",):
        assert room.gate.scope(actor).principals == {"user:a", "public", "group:public"}
        return
    with pytest.raises(Invalid):
        room.gate.scope(actor)


def test_a_grant_made_while_reading_never_meets_an_old_membership(room: Any) -> None:
    """Alice leaves finance, then finance is granted the class; a Gate that reads between the two must not mix them."""
    room.people.add_group("finance")
    room.people.add_user("alice")
    room.people.add_member("finance", "user:alice")
    number = room.store.class_for("doc", PRIVATE)

    class Racing:
        once = True

        def stamps(self) -> Stamps:
            return room.store.stamps()

        def classes(self, since: int) -> Sequence[tuple[int, Acl]]:
            if since and self.once:
                self.once = False
                room.people.remove_member("finance", "user:alice")
                room.store.class_for("doc", Acl(("group:finance",), ()))
            return room.store.classes(since)

        def closure(self, starts: Collection[str]) -> frozenset[str]:
            return room.store.closure(starts)

    gate = Gate(room.store, Racing())
    assert number not in gate.scope(ALICE).classes
    room.store.class_for("other", PRIVATE)
    assert number not in gate.scope(ALICE).classes


SCOPES = st.builds(scope_of, st.frozensets(st.sampled_from("abcd")), st.frozensets(st.integers(1, 9)))


@given(st.lists(SCOPES, max_size=4))
def test_several_readers_see_what_each_of_them_sees(scopes: list[Scope]) -> None:
    shared = intersect(scopes)
    assert all(shared.classes <= scope.classes and shared.principals <= scope.principals for scope in scopes)
    assert shared == intersect(scopes[::-1]) == intersect([*scopes, shared])
    if len(scopes) == 1:
        assert shared == scopes[0]
    if not scopes:
        assert shared == NOTHING


@given(SCOPES, SCOPES)
def test_equal_digests_are_equal_scopes(one: Scope, two: Scope) -> None:
    assert (one.digest == two.digest) == (one == two)
