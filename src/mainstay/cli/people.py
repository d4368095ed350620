"""users, keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from mainstay.access.keys import READER, ROLES
from mainstay.access.ports import State
from mainstay.app import App
from mainstay.cli.common import as_json, opened, put_json, table
from mainstay.errors import Invalid
from mainstay.people_file import import_people
from mainstay.types import ADMINISTRATORS


@click.group(help="People and groups.")
def users() -> None:
    pass


@users.command("list", help="Everybody, with their groups.")
@as_json
def users_list(json_: bool) -> None:
    with opened() as app:
        rows: list[dict[str, Any]] = [
            {
                "name": account.principal,
                "display": account.display,
                "email": account.email,
                "admin": account.admin,
                "role": account.acts_as if kind == "user" else "",
                "disabled": account.state is not State.ACTIVE,
                "groups": app.groups_of(account.principal),
            }
            for kind in ("user", "service")
            for account in app.people.list(kind)
        ]
    if json_:
        put_json(rows)
    else:
        shown = [
            (
                row["name"],
                row["display"],
                ", ".join(row["groups"]),
                "administrator" if row["admin"] else row["role"],
                "disabled" if row["disabled"] else "",
            )
            for row in rows
        ]
        table(shown, ("name", "display", "groups, nested ones too", "role", ""))


@users.command("add", help="Add a user.")
@click.argument("name")
@click.option("--display", default="", help="Full name.")
@click.option("--email", default="")
@click.option("--group", "groups", multiple=True, help="A group to join; made if it is new. Repeatable.")
@click.option("--admin", is_flag=True, help="The same as --role admin: administrators read everything.")
@click.option(
    "--role", type=click.Choice(list(ROLES)), default="asker", show_default=True, help="What the user may do here."
)
def users_add(name: str, display: str, email: str, groups: tuple[str, ...], admin: bool, role: str) -> None:
    with opened() as app:
        account = app.people.add_user(name, display=display, email=email, admin=admin, role=role)
        for group in groups:
            _ensure_group(app, group)
            app.people.add_member(_group(group), account.principal)
    click.echo(f"added {account.principal}")


@users.command("role", help="Say what a user may do here; in force at the next request.")
@click.argument("name")
@click.argument("role", type=click.Choice(list(ROLES)))
def users_role(name: str, role: str) -> None:
    with opened() as app:
        account = app.people.set_role(_user(name), role)
        still = role != "admin" and ADMINISTRATORS in app.groups_of(account.principal)
    click.echo(f"{account.principal} is {role}")
    if still:
        click.echo(f"{ADMINISTRATORS} still makes it an administrator", err=True)


@users.command("remove", help="Delete a user and all memberships.")
@click.argument("name")
def users_remove(name: str) -> None:
    with opened() as app:
        app.people.delete(_user(name))
    click.echo(f"removed {_user(name)}")


@users.command("disable", help="The user may not act any more; at once.")
@click.argument("name")
def users_disable(name: str) -> None:
    with opened() as app:
        app.people.disable(_user(name))
    click.echo(f"disabled {_user(name)}")


@users.command("enable", help="The user may act again.")
@click.argument("name")
def users_enable(name: str) -> None:
    with opened() as app:
        app.people.enable(_user(name))
    click.echo(f"enabled {_user(name)}")


@users.command("password", help="Set a user's password for the page; signs the user out everywhere.")
@click.argument("name")
@click.password_option()
def users_password(name: str, password: str) -> None:
    with opened() as app:
        app.people.set_password(name, password)
        app.sessions.end_all(app.people.get(_user(name)).principal)
    click.echo("set")


@users.command("add-group", help="Make a group.")
@click.argument("name")
def users_add_group(name: str) -> None:
    with opened() as app:
        account = app.people.add_group(_group(name))
    click.echo(f"added {account.principal}")


@users.command("join", help="Put a user or a group into a group, which is made if it is new.")
@click.argument("member")
@click.argument("group")
def users_join(member: str, group: str) -> None:
    with opened() as app:
        _ensure_group(app, group)
        changed = app.people.add_member(_group(group), _user(member))
    click.echo(f"{_user(member)} is in {_group(group)}" + ("" if changed else " already"))


@users.command("leave", help="Take a user or a group out of a group; effective at the next question.")
@click.argument("member")
@click.argument("group")
def users_leave(member: str, group: str) -> None:
    with opened() as app:
        changed = app.people.remove_member(_group(group), _user(member))
    click.echo(f"{_user(member)} left {_group(group)}" if changed else f"{_user(member)} was not in {_group(group)}")
    if not changed:
        click.get_current_context().exit(1)


@users.command("import", help="Add the users and groups of a YAML file; what is there already stays.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def users_import(file: Path) -> None:
    with opened() as app:
        added = import_people(app.people, file)
    click.echo(f"{added.users} users, {added.groups} groups, {added.memberships} memberships added")


def _ensure_group(app: App, group: str) -> None:
    if not any(account.principal == _group(group) for account in app.people.list("group")):
        app.people.add_group(_group(group))


def _user(name: str) -> str:
    return name if ":" in name else f"user:{name}"


def _group(name: str) -> str:
    return name if ":" in name else f"group:{name}"


@click.group(help="API keys: shown once, stored hashed, scoped, expiring.")
def keys() -> None:
    pass


@keys.command("create", help="Make a key and show it once.")
@click.argument("principal")
@click.option("--name", default="key", show_default=True, help="What will use it.")
@click.option(
    "--scope", "scopes", multiple=True, help=f"What it permits; repeatable [default: {', '.join(sorted(READER))}]."
)
@click.option(
    "--expires",
    "days",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    help="Days until it expires.",
)
@as_json
def keys_create(principal: str, name: str, scopes: tuple[str, ...], days: float, json_: bool) -> None:
    if not days <= 3660:  # not a number counts as too long
        raise Invalid("a key may live ten years at most", where="--expires")
    with opened() as app:
        expires = app.clock.now() + timedelta(days=days)
        key, text = app.keyring.create(_user(principal), name=name, scopes=scopes or READER, expires=expires)
    if json_:
        put_json(
            {
                "key": text,
                **{field: getattr(key, field) for field in ("key_id", "name", "principal", "scopes", "expires")},
            }
        )
    else:
        click.echo(text)
        click.echo(
            f"{key.key_id} for {key.principal}, expires {key.expires:%Y-%m-%d}. It is not shown again.", err=True
        )


@keys.command("list", help="All keys, without their secrets.")
@as_json
def keys_list(json_: bool) -> None:
    with opened() as app:
        held = app.keyring.list()
        now = app.clock.now()
    if json_:
        put_json(held)
        return
    rows = []
    for key in held:
        state = "revoked" if key.revoked else "expired" if key.expires and key.expires <= now else "in force"
        used = f"{key.last_used:%Y-%m-%d %H:%M}" if key.last_used else "never"
        rows.append((key.key_id, key.name, key.principal, " ".join(sorted(key.scopes)), state, used))
    table(rows, ("key", "name", "principal", "scopes", "state", "last used"))


@keys.command("revoke", help="The key is refused from the next request on.")
@click.argument("key_id")
def keys_revoke(key_id: str) -> None:
    with opened() as app:
        app.keyring.revoke(key_id)
    click.echo(f"revoked {key_id}")
