"""Why somebody may read something: the same answer as the Gate's, and a way that leads to it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mainstay.access.acl import PRIVATE, Acl
from mainstay.access.directory import UNKNOWN_GROUPS
from mainstay.access.explaining import explain
from mainstay.types import ADMINISTRATORS, Actor


@pytest.fixture
def world(room: Any) -> Any:
    for group in ("staff", "finance", "board"):
        room.people.add_group(group)
    for user in ("alice", "bob"):
        room.people.add_user(user)
    room.people.add_member("staff", "user:alice")
    room.people.add_member("finance", "group:staff")
    room.people.add_member("board", "user:alice")
    return room


def test_the_way_through_groups_of_groups(world: Any) -> None:
    said = explain(world.store, Acl(("group:finance",), ()), "user:alice")
    assert said.visible
    assert [(step.member, step.group) for step in said.path] == [
        ("user:alice", "group:staff"),
        ("group:staff", "group:finance"),
    ]
    assert said.lines() == [
        "user:alice is in group:staff (kept here)",
        "group:staff is in group:finance (kept here)",
        "the rule allows group:finance",
        "user:alice may read it: allowed to group:finance",
    ]


def test_why_not(world: Any) -> None:
    said = explain(world.store, Acl(("group:finance", "user:eve"), ()), "user:bob")
    assert not said.visible
    assert said.missing == ("group:finance", "user:eve")
    assert said.lines()[-2:] == [
        "user:bob stands for none of those it allows",
        "user:bob may not read it: allowed to none of the asker's principals",
    ]
    denied = explain(world.store, Acl(("public",), ("group:finance",)), "user:alice")
    assert not denied.visible
    assert denied.decided_by == "group:finance"
    assert [step.group for step in denied.path] == ["group:staff", "group:finance"]


def test_whom_the_directory_does_not_hold(world: Any) -> None:
    said = explain(world.store, Acl(("group:finance",), ()), "user:new", ("group:finance",))
    assert said.visible
    assert not said.known
    assert "identity provider" in said.lines()[0]
    assert said.path[0].source == "identity provider"
    unsure = explain(world.store, Acl(("public",), ("group:finance",)), "user:new", (UNKNOWN_GROUPS,))
    assert not unsure.visible


def test_administrators_and_those_who_may_not_act(world: Any) -> None:
    world.people.add_member("administrators", "group:board")
    said = explain(world.store, PRIVATE, "user:alice")
    assert said.visible
    assert said.decided_by == ADMINISTRATORS
    assert [step.group for step in said.path] == ["group:board", ADMINISTRATORS]
    assert not explain(world.store, PRIVATE, "user:alice", sees_all=False).visible
    world.people.disable("user:alice")
    assert explain(world.store, Acl(("public",), ()), "user:alice").reason == "the account may not act"


def test_it_says_what_the_gate_does(room: Any) -> None:
    rng = random.Random(20260731)
    users = [f"user:u{n}" for n in range(6)]
    groups = [f"group:g{n}" for n in range(6)]
    for user in users[:5]:  # the last one has no account
        room.people.add_user(user, admin=user == "user:u0")
    for group in groups:
        room.people.add_group(group)
    for _ in range(14):
        group, member = rng.choice(groups), rng.choice(users[:5] + groups)
        if group != member:
            room.people.add_member(group, member)
    room.people.add_member("administrators", groups[5])
    room.people.disable(users[4])
    names = [*users, *groups, "public"]
    for _ in range(400):
        rule = Acl(
            tuple(sorted(rng.sample(names, rng.randrange(4)))), tuple(sorted(rng.sample(names, rng.randrange(3))))
        )
        asserted = tuple(rng.sample([*groups, UNKNOWN_GROUPS], rng.randrange(3)))
        actor = Actor(principal=rng.choice([*users, "anonymous"]), groups=asserted)
        said = explain(room.store, rule, actor.principal, () if actor.principal == "anonymous" else asserted)
        told = room.gate.explain(actor, rule)
        if actor.principal == "anonymous" and UNKNOWN_GROUPS in asserted:
            continue  # nobody asserts groups of somebody unknown
        assert (said.visible, said.reason) == (told.visible, told.reason), (actor, rule)
        here = actor.principal
        for step in said.path:
            assert step.member == here
            here = step.group
        if said.path:
            assert here == said.decided_by
