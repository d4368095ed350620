"""What a person may ask for: by role, by the groups of an identity provider, through a key, through a service."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.rooms.access.test_oidc import AUDIENCE, ISSUER, Provider, oidc, sign

from mainstay.access.identity import Identity
from mainstay.access.keys import ADMINISTRATOR, READER, ROLES, Permission, permit
from mainstay.access.roles import permitted
from mainstay.errors import Conflict, Invalid, Refused, Unauthenticated
from mainstay.types import ADMINISTRATORS


def may(actor: Any) -> set[str]:
    """What the door lets this actor do."""
    allowed = set()
    for permission in Permission:
        try:
            permit(actor, permission)
        except Refused:
            continue
        allowed.add(str(permission))
    return allowed


def texts(permissions: Any) -> set[str]:
    return {str(one) for one in permissions}


@pytest.mark.parametrize("role", ROLES)
def test_a_person_may_do_what_the_role_says(room: Any, role: str) -> None:
    account = room.people.add_user("pat", role=role)
    assert account.acts_as == role
    actor = room.identity.actor_for("user:pat")
    assert may(actor) == texts(ROLES[role])
    assert actor.admin == (role == "admin")
    assert room.identity.roles(actor) == (role,)


def test_roles_are_what_was_agreed() -> None:
    assert texts(ROLES["viewer"]) == {"documents:read", "search"}
    assert ROLES["asker"] == READER
    assert ROLES["admin"] == ADMINISTRATOR == frozenset(Permission) - {Permission.ON_BEHALF_OF}
    assert texts(ROLES["operator"] - READER) == {"traces:read", "operate", "outcomes:write"}
    assert texts(ROLES["reviewer"] - READER) == {"review"}
    assert texts(ROLES["auditor"]) == {"traces:read", "audit:read", "documents:read"}
    assert permitted(["viewer", "auditor"]) == ROLES["viewer"] | ROLES["auditor"]
    assert permitted(["from a newer program"]) == frozenset()


def test_a_role_changes_at_the_next_request(room: Any) -> None:
    room.people.add_user("pat")
    assert room.people.set_role("user:pat", "operator").acts_as == "operator"
    assert "traces:read" in may(room.identity.actor_for("user:pat"))
    assert room.people.set_role("user:pat", "admin").admin
    assert room.people.set_admin("user:pat", False).acts_as == "asker"
    assert room.people.set_role("user:pat", "viewer").acts_as == "viewer"
    assert may(room.identity.actor_for("user:pat")) == {"documents:read", "search"}
    with pytest.raises(Invalid, match="write viewer"):
        room.people.set_role("user:pat", "viewr")
    room.keyring.create("service:crm", name="crm")
    with pytest.raises(Invalid, match="no user"):
        room.people.set_role("service:crm", "operator")


def test_a_deleted_name_starts_anew_as_an_asker(room: Any) -> None:
    room.people.add_user("pat", role="operator")
    room.people.delete("user:pat")
    assert room.people.add_user("pat").acts_as == "asker"
    with pytest.raises(Conflict):
        room.people.add_user("pat", role="admin")


def test_who_administers_through_a_group_administers_whatever_the_role(room: Any) -> None:
    room.people.add_user("pat", role="viewer")
    room.people.add_member(ADMINISTRATORS, "user:pat")
    actor = room.identity.actor_for("user:pat")
    assert (actor.admin, may(actor)) == (True, texts(ADMINISTRATOR))
    _, key = room.keyring.create("user:pat", name="k", scopes=["ask"])
    assert may(room.identity.authenticate(authorization=f"Bearer {key}", on_behalf_of=None)) == {"ask"}


def test_a_key_does_not_ask_for_a_viewer(room: Any) -> None:
    """What every key permits, the role may withhold; what somebody granted to the key beyond that stays granted."""
    room.people.add_user("pat", role="viewer")
    _, key = room.keyring.create("user:pat", name="k", scopes=["ask", "search", "documents:write"])
    header = {"authorization": f"Bearer {key}", "on_behalf_of": None}
    assert may(room.identity.authenticate(**header)) == {"search", "documents:write"}
    room.people.set_role("user:pat", "asker")
    assert may(room.identity.authenticate(**header)) == {"ask", "search", "documents:write"}


def test_a_service_does_not_ask_for_a_viewer(room: Any) -> None:
    room.people.add_user("pat", role="viewer")
    room.people.add_user("kim", role="operator")
    _, key = room.keyring.create("service:portal", name="k", scopes=["ask", "search", "on-behalf-of"])

    def through(name: str) -> set[str]:
        return may(room.identity.authenticate(authorization=f"Bearer {key}", on_behalf_of=name))

    assert through("pat") == {"search"}
    assert through("kim") == {"ask", "search"}  # no more than the key permits


def test_a_key_that_was_shown_before(room: Any) -> None:
    room.people.add_user("pat", role="viewer")
    key, text = room.keyring.create("user:pat", name="k", expires=room.clock.now() + timedelta(hours=1))
    shown = room.identity.authenticate(authorization=f"Bearer {text}", on_behalf_of=None)
    assert room.identity.actor_of_key(key.key_id) == shown
    room.clock.advance(timedelta(hours=1))
    for gone in (key.key_id, "key_unknown", ""):
        with pytest.raises(Unauthenticated):
            room.identity.actor_of_key(gone)
    other, _ = room.keyring.create("user:pat", name="other")
    room.keyring.revoke(other.key_id)
    with pytest.raises(Unauthenticated):
        room.identity.actor_of_key(other.key_id)


# -- an identity provider ------------------------------------------------------------------------------------------------

MAPPED = {"operator": ["group:oncall", "sre"], "auditor": ["group:Internal Audit"], "admin": ["group:platform"]}


def provided(room: Any, groups: list[str], **changes: Any) -> Any:
    """The Actor behind a token of these groups."""
    checking = oidc(room, Provider(), roles=MAPPED, **changes)
    now = int(room.clock.now().timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "pat", "iat": now, "exp": now + 600, "groups": groups}
    identity = Identity(room.store, room.people, room.keyring, checking)
    return identity.authenticate(authorization=f"Bearer {sign(claims)}", on_behalf_of=None)


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        ([], ["asker"]),
        (["staff"], ["asker"]),
        (["oncall"], ["operator"]),
        (["staff", "sre"], ["operator"]),
        (["internal audit"], ["auditor"]),
        (["oncall", "Internal Audit"], ["operator", "auditor"]),
        (["platform"], ["admin"]),
        (["administrators"], ["asker"]),
    ],
)
def test_groups_of_a_token_stand_for_roles(room: Any, groups: list[str], roles: list[str]) -> None:
    actor = provided(room, groups)
    assert may(actor) == texts(permitted(roles))
    assert actor.admin == (roles == ["admin"])


def test_a_mapped_group_counts_as_mainstay_names_it(room: Any) -> None:
    actor = provided(room, ["oncall"], group_prefix="corp/")
    assert may(actor) == texts(READER)


def test_the_account_and_the_groups_permit_together(room: Any) -> None:
    room.people.add_user("pat", role="reviewer")
    assert may(provided(room, ["Internal Audit"])) == texts(ROLES["reviewer"] | ROLES["auditor"])
    room.people.set_role("user:pat", "asker")
    assert may(provided(room, ["Internal Audit"])) == texts(ROLES["auditor"]), "what nobody chose is not added"
    room.people.disable("user:pat")
    with pytest.raises(Unauthenticated):
        provided(room, ["platform"])


@pytest.mark.parametrize("roles", [{"operater": ["group:x"]}, {"operator": ["user:x"]}, {"operator": [""]}])
def test_a_mapping_that_can_not_be_is_refused(room: Any, roles: Any) -> None:
    with pytest.raises(Invalid):
        oidc(room, Provider(), roles=roles)
