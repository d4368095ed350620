"""API keys and the headers they come in."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstay.access.acl import PRIVATE
from mainstay.access.identity import Identity
from mainstay.access.keys import KEY_PATTERN, Keyring, Permission, permit
from mainstay.errors import Invalid, MainstayError, NotFound, Refused, Unauthenticated, Unavailable


def bearer(text: str) -> dict[str, str | None]:
    return {"authorization": f"Bearer {text}", "on_behalf_of": None}


def test_a_key_is_its_owner_within_its_scopes(room: Any) -> None:
    room.people.add_user("alice", display="Alice")
    key, text = room.keyring.create("user:alice", name="laptop", scopes=["ask"])
    assert re.fullmatch(KEY_PATTERN, text)
    actor = room.identity.authenticate(**bearer(text))
    assert (actor.principal, actor.display, actor.scopes) == ("user:alice", "Alice", {"ask"})
    assert (actor.key_id, actor.via, actor.admin, actor.groups) == (key.key_id, None, False, ())
    permit(actor, Permission.ASK)
    with pytest.raises(Refused):
        permit(actor, Permission.DOCUMENTS_WRITE)
    assert room.identity.authenticate(authorization=f"bEARER   {text} ", on_behalf_of=None) == actor


def test_only_a_hash_is_kept(room: Any) -> None:
    _, text = room.keyring.create("service:crm", name="crm")
    secret = text.split("_")[2]
    dump = "\n".join(sqlite3.connect(room.path).iterdump())
    assert "service:crm" in dump
    assert secret not in dump
    assert all(secret not in repr(key) for key in room.keyring.list("service:crm"))


def test_whatever_is_wrong_with_a_key_reads_the_same(room: Any) -> None:
    create = room.keyring.create
    _, good = create("service:crm", name="good")
    _, others = create("service:crm", name="other")
    revoked, revoked_text = create("service:crm", name="revoked")
    _, expired = create("service:crm", name="expired", expires=room.clock.now() + timedelta(hours=1))
    _, disabled = create("service:off", name="disabled")
    assert room.identity.authenticate(**bearer(expired)).principal == "service:crm"
    room.keyring.revoke(revoked.key_id)
    room.people.disable("service:off")
    room.clock.advance(timedelta(hours=1))
    mark, key_id, secret = good.split("_")
    wrong = {
        "expired": expired,
        "revoked": revoked_text,
        "disabled": disabled,
        "wrong secret": f"{mark}_{key_id}_{'A' * 44}",
        "other's secret": f"{mark}_{key_id}_{others.split('_')[2]}",
        "truncated": good[:-1],
        "longer": good + "A",
        "unknown": f"{mark}_{'0' * 26}_{secret}",
        "no secret": f"{mark}_{key_id}_",
        "four parts": f"{good}_x",
        "upper case in the id": f"{mark}_{key_id[:-1]}A_{secret}",
        "mark alone": "mst_",
    }
    said = set()
    for name, text in wrong.items():
        with pytest.raises(Unauthenticated) as raised:
            room.identity.authenticate(**bearer(text))
        said.add(raised.value.line())
        assert secret not in raised.value.line(), name
    assert len(said) == 1
    assert room.identity.authenticate(**bearer(good)).principal == "service:crm"


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "mst_x",
        "Bearer a b",
        "Bearer \x00",
        "Bearer é",
        "Bearer " + "a" * 16_384,
        "Bearer a.b.c",
        "Bearer\tx",
    ],
)
def test_bad_headers_are_never_taken_for_none(room: Any, header: str) -> None:
    identity = Identity(room.store, room.people, room.keyring, anonymous=True)
    with pytest.raises(Unauthenticated):
        identity.authenticate(authorization=header, on_behalf_of=None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.text(max_size=60)
    | st.text(max_size=60).map(lambda text: f"Bearer {text}")
    | st.text(max_size=60).map(lambda text: f"Bearer mst_{text}")
)
def test_no_header_breaks_it(room: Any, header: str) -> None:
    with pytest.raises(Unauthenticated):
        room.identity.authenticate(authorization=header, on_behalf_of=None)


def test_without_credentials(room: Any) -> None:
    with pytest.raises(Unauthenticated):
        room.identity.authenticate(authorization=None, on_behalf_of=None)
    open_door = Identity(room.store, room.people, room.keyring, anonymous=True)
    actor = open_door.authenticate(authorization=None, on_behalf_of=None)
    assert (actor.principal, actor.groups, actor.admin) == ("anonymous", (), False)
    assert room.gate.scope(actor).principals == {"public"}
    with pytest.raises(Unauthenticated):
        open_door.authenticate(authorization=None, on_behalf_of="alice")


def test_on_behalf_of(room: Any) -> None:
    room.people.add_group("crm")
    room.people.add_user("alice", display="Alice")
    room.people.add_user("gone")
    room.people.disable("user:gone")
    _, text = room.keyring.create("service:crm", name="crm", scopes=["ask", "on-behalf-of"])
    _, plain = room.keyring.create("service:crm", name="plain", scopes=["ask"])
    room.people.add_member("crm", "service:crm")
    actor = room.identity.authenticate(authorization=f"Bearer {text}", on_behalf_of="Alice")
    assert (actor.principal, actor.via, actor.scopes, actor.admin) == ("user:alice", "service:crm", {"ask"}, False)
    assert room.gate.scope(actor).principals == {"user:alice", "public"}  # nothing of the service's
    assert room.identity.authenticate(**bearer(text)).principal == "service:crm"
    said = set()
    for name in ("gone", "nobody"):
        with pytest.raises(Unauthenticated) as raised:
            room.identity.authenticate(authorization=f"Bearer {text}", on_behalf_of=name)
        said.add(raised.value.line())
    assert len(said) == 1
    for name in ("", " ", "group:crm", "service:crm", "public", "a\x00b", "a" * 5000):
        with pytest.raises((Invalid, Unauthenticated)):
            room.identity.authenticate(authorization=f"Bearer {text}", on_behalf_of=name)
    with pytest.raises(Refused):
        room.identity.authenticate(authorization=f"Bearer {plain}", on_behalf_of="alice")
    room.people.disable("service:crm")
    assert room.gate.scope(actor).classes == frozenset()
    assert room.gate.scope(actor).principals == frozenset()


def test_admin_takes_an_administrator_and_a_key_that_says_so(room: Any) -> None:
    room.people.add_user("root", admin=True)
    room.people.add_user("alice")
    with pytest.raises(Invalid):
        room.keyring.create("user:alice", name="x", scopes=["admin"])
    _, full = room.keyring.create("user:root", name="full", scopes=["admin"])
    _, small = room.keyring.create("user:root", name="small")
    _, proxy = room.keyring.create("service:crm", name="proxy", scopes=["ask", "on-behalf-of"])
    private = room.store.class_for("doc", PRIVATE)
    see = room.gate.scope
    assert room.identity.authenticate(**bearer(full)).admin
    assert private in see(room.identity.authenticate(**bearer(full))).classes
    for actor in (
        room.identity.authenticate(**bearer(small)),
        room.identity.authenticate(authorization=f"Bearer {proxy}", on_behalf_of="root"),
    ):
        assert not actor.admin
        assert see(actor).classes == frozenset()
    held = room.identity.authenticate(**bearer(full))
    room.people.set_admin("user:root", False)
    assert room.identity.authenticate(**bearer(full)).scopes == frozenset()
    assert see(held).classes == frozenset()  # an Actor made before the revoke


def test_last_use_is_seen_once_a_minute_and_never_in_the_way(room: Any) -> None:
    key, text = room.keyring.create("service:crm", name="crm")
    waiting: list[Any] = []
    keyring = Keyring(room.store, room.store, room.clock, waiting.append)
    first = room.clock.now()
    keyring.check(text)
    waiting.pop()()
    for step, writes in [(59, 0), (1, 1)]:
        room.clock.advance(timedelta(seconds=step))
        keyring.check(text)
        assert len(waiting) == writes
    assert keyring.list()[0].last_used == first
    waiting.pop()()
    assert keyring.list()[0].last_used == room.clock.now()

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(room.store, name)

        def mark_used(self, key_id: str, at: Any) -> None:
            raise Unavailable("busy")

    room.clock.advance(timedelta(hours=1))
    assert Keyring(Busy(), room.store, room.clock).check(text).key_id == key.key_id


def test_what_can_not_be_a_key(room: Any) -> None:
    create = room.keyring.create
    for wrong in (
        {"principal": "group:x", "name": "x"},
        {"principal": "public", "name": "x"},
        {"principal": "service:x", "name": ""},
        {"principal": "service:x", "name": "a\nb"},
        {"principal": "service:x", "name": "x", "scopes": []},
        {"principal": "service:x", "name": "x", "scopes": ["document:read"]},
        {"principal": "service:x", "name": "x", "expires": room.clock.now()},
        {"principal": "user:nobody", "name": "x"},
    ):
        with pytest.raises(MainstayError):
            create(**wrong)
    assert room.keyring.list() == []
    with pytest.raises(Invalid, match="write documents:read"):
        create("service:x", name="x", scopes=["document:read"])
    with pytest.raises(NotFound):
        room.keyring.revoke("key_nothing")
    create("service:x", name="x")
    room.people.delete("service:x")
    with pytest.raises(NotFound):
        create("service:x", name="again")
