"""Access: users with their roles, groups with their members, keys without their secrets. To be read; the command line changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.access.ports import Account, Key
from mainstay.access.roles import ROLES
from mainstay.app import App
from mainstay.types import ADMINISTRATORS
from mainstay.web.console.shell import Screen, enter, filters, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Access", path="/access", needs=(Permission.ADMIN, Permission.AUDIT_READ))
SHOWN, MEMBERS = 500, 20


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(SCREEN.path, include_in_schema=False)
    def access(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        asked = filters(request, "name")
        named = asked.get("name", "").casefold()
        users, groups, keys, roles = _users(app, named), _groups(app, named), _keys(app, named), _roles()
        if wants_csv(request):
            return csv_of(request, users, groups, keys, roles)
        return page(
            request, "access.html", actor=actor, asked=asked, users=users, groups=groups, keys=keys, roles=roles
        )


def _fits(named: str, *texts: str) -> bool:
    return not named or any(named in text.casefold() for text in texts)


def _users(app: App, named: str) -> Table:
    accounts = [*app.people.list("user"), *app.people.list("service")]
    found = [held for held in accounts if _fits(named, held.principal, held.display, held.email, held.acts_as)][:SHOWN]
    asked = app.lookups.last_asked([held.principal for held in found])
    groups = {held.principal: app.groups_of(held.principal) for held in found}
    return Table(
        name="users",
        caption="Users and services",
        columns=[
            Column(key="principal", head="Who"),
            Column(key="role", head="Role"),
            Column(key="state", head="State"),
            Column(key="groups", head="Groups, through groups too"),
            Column(key="email", head="E-mail"),
            Column(key="created", head="Since", kind="time"),
            Column(key="asked", head="Asked last", kind="time"),
        ],
        rows=[_user(held, groups[held.principal], asked.get(held.principal)) for held in found],
        empty="Nobody is kept here." if not named else "Nobody fits.",
    )


def _user(held: Account, groups: list[str], asked: datetime | None) -> dict[str, Any]:
    return {
        "principal": Cell(
            value=held.principal, note=held.display, href=f"/requests?asker={quote(held.principal, safe='')}"
        ),
        "role": Cell(
            value=held.acts_as if held.principal.startswith("user:") else "by its keys",
            note="by a group as well" if ADMINISTRATORS in groups else "",
        ),
        "state": Cell(value=held.state, look="bad" if held.state != "active" else ""),
        "groups": ", ".join(group.removeprefix("group:") for group in groups),
        "email": held.email,
        "created": held.created,
        "asked": asked,
    }


def _groups(app: App, named: str) -> Table:
    rows = []
    names = dict.fromkeys([*(held.principal for held in app.people.list("group")), ADMINISTRATORS])
    for name in [name for name in names if _fits(named, name)][:SHOWN]:
        members = app.people.members(name)
        more = f" and {len(members) - MEMBERS} more" if len(members) > MEMBERS else ""
        sources = sorted({joined.source for joined in members} - {"local"})
        rows.append(
            {
                "group": name,
                "count": len(members),
                "members": ", ".join(joined.member for joined in members[:MEMBERS]) + more,
                "kept": ", ".join(sources) or "here",
            }
        )
    return Table(
        name="groups",
        caption="Groups",
        columns=[
            Column(key="group", head="Group"),
            Column(key="count", head="Members", kind="count"),
            Column(key="members", head="Who is in it directly"),
            Column(key="kept", head="Kept"),
        ],
        rows=rows,
        empty="No group is kept here." if not named else "No group fits.",
    )


def _keys(app: App, named: str) -> Table:
    now = app.clock.now()
    found = [held for held in app.keyring.list() if _fits(named, held.principal, held.name, held.key_id)]
    return Table(
        name="keys",
        caption="Keys, without their secrets",
        columns=[
            Column(key="key", head="Key", kind="code"),
            Column(key="name", head="Name"),
            Column(key="principal", head="Whose"),
            Column(key="scopes", head="Permits"),
            Column(key="state", head="State"),
            Column(key="created", head="Since", kind="time"),
            Column(key="expires", head="Until", kind="time"),
            Column(key="used", head="Used last", kind="time"),
        ],
        rows=[_key(held, now) for held in reversed(found)][:SHOWN],
        empty="There is no key." if not named else "No key fits.",
    )


def _key(held: Key, now: datetime) -> dict[str, Any]:
    state, look = "in force", ""
    if held.revoked is not None:
        state, look = "revoked", "soft"
    elif held.expires is not None and held.expires <= now:
        state, look = "expired", "soft"
    return {
        "key": held.key_id,
        "name": held.name,
        "principal": held.principal,
        "scopes": ", ".join(sorted(held.scopes)),
        "state": Cell(value=state, look=look),
        "created": held.created,
        "expires": held.expires,
        "used": held.last_used,
    }


def _roles() -> Table:
    return Table(
        name="roles",
        caption="Roles, and what they permit",
        columns=[Column(key="role", head="Role"), Column(key="permits", head="Permits")],
        rows=[
            {"role": role, "permits": ", ".join(sorted(map(str, permissions)))} for role, permissions in ROLES.items()
        ],
    )
