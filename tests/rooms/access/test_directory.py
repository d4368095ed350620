"""Users, groups and passwords."""

from __future__ import annotations

from typing import Any

import pytest

from mainstay.access.directory import principals_of
from mainstay.access.ports import State
from mainstay.errors import Conflict, Invalid, NotFound, Unauthenticated

PASSWORD = "correct horse battery"


def test_nested_groups_and_cycles(room: Any) -> None:
    for group in ("staff", "finance", "payroll"):
        room.people.add_group(group)
    room.people.add_user("Alice")
    assert room.people.add_member("payroll", "user:alice")
    assert not room.people.add_member("group:payroll", "user:ALICE")
    room.people.add_member("finance", "group:payroll")
    room.people.add_member("staff", "group:finance")
    room.people.add_member("payroll", "group:staff")  # a cycle
    groups = {"group:staff", "group:finance", "group:payroll"}
    assert principals_of(room.store, "user:alice") == groups | {"user:alice", "public"}
    assert principals_of(room.store, "user:bob", ["group:finance"]) == groups | {"user:bob", "public"}
    assert principals_of(room.store, "anonymous", ["group:finance"]) == {"public"}
    assert [joined.member for joined in room.people.members("payroll")] == ["group:staff", "user:alice"]
    assert room.people.remove_member("payroll", "user:alice")
    assert not room.people.remove_member("payroll", "user:alice")
    assert principals_of(room.store, "user:alice") == {"user:alice", "public"}


def test_what_can_not_be(room: Any) -> None:
    room.people.add_user("alice")
    room.people.add_group("staff")
    for wrong, error in [
        (lambda: room.people.add_user("ALICE"), Conflict),
        (lambda: room.people.add_user("group:staff"), Invalid),
        (lambda: room.people.add_group("?"), Invalid),
        (lambda: room.people.add_user("bob", display="a\nb"), Invalid),
        (lambda: room.people.add_user("bob", password="short"), Invalid),
        (lambda: room.people.add_member("staff", "group:staff"), Invalid),
        (lambda: room.people.add_member("staff", "public"), Invalid),
        (lambda: room.people.add_member("staff", "user:nobody"), NotFound),
        (lambda: room.people.add_member("stuff", "user:alice"), NotFound),
        (lambda: room.people.disable("group:staff"), Invalid),
        (lambda: room.people.delete("user:nobody"), NotFound),
        (lambda: room.people.set_password("nobody", PASSWORD), NotFound),
    ]:
        with pytest.raises(error):
            wrong()
    assert [account.principal for account in room.people.list()] == ["user:alice"]


def test_a_password_opens_and_everything_else_reads_the_same(room: Any) -> None:
    room.people.add_user("alice", display="Alice A.", password=PASSWORD)
    room.people.add_user("keyless")
    room.people.add_user("gone", password=PASSWORD)
    room.people.disable("user:gone")
    actor = room.identity.sign_in("Alice", PASSWORD)
    assert (actor.principal, actor.display, actor.admin) == ("user:alice", "Alice A.", False)
    assert actor.scopes == {"ask", "search", "documents:read"}
    said = set()
    tries = [("alice", "wrong"), ("nobody", PASSWORD), ("keyless", ""), ("keyless", "nobody's password")]
    tries += [
        ("gone", PASSWORD),
        ("", PASSWORD),
        ("al\x00ice", PASSWORD),
        ("alice", PASSWORD + "x" * 2000),
        ("alice", "\udc80"),
    ]
    for name, password in tries:
        with pytest.raises(Unauthenticated) as raised:
            room.identity.sign_in(name, password)
        said.add(raised.value.line())
    assert len(said) == 1
    room.people.set_password("alice", "a new pass phrase")
    with pytest.raises(Unauthenticated):
        room.identity.sign_in("alice", PASSWORD)
    assert room.identity.sign_in("alice", "a new pass phrase").principal == "user:alice"


def test_a_deleted_user_keeps_nothing_and_comes_back_empty(room: Any) -> None:
    room.people.add_group("staff")
    room.people.add_user("alice", admin=True, password=PASSWORD)
    room.people.add_member("staff", "user:alice")
    key, text = room.keyring.create("user:alice", name="laptop")
    room.people.delete("user:alice")
    assert room.people.list() == []
    assert principals_of(room.store, "user:alice") == frozenset()
    assert room.keyring.list()[0].revoked == room.clock.now()
    for attempt in (
        lambda: room.identity.sign_in("alice", PASSWORD),
        lambda: room.identity.actor_for("user:alice", ()),
    ):
        with pytest.raises(Unauthenticated):
            attempt()
    account = room.people.add_user("alice")
    assert (account.admin, account.state) == (False, State.ACTIVE)
    assert principals_of(room.store, "user:alice") == {"user:alice", "public"}
    with pytest.raises(Unauthenticated):
        room.identity.authenticate(authorization=f"Bearer {text}", on_behalf_of=None)
    assert key.principal == "user:alice"
