"""Users and groups of a YAML file, as ``mainstay users import`` and the demo read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mainstay.access.directory import People
from mainstay.access.roles import parse_role
from mainstay.errors import Conflict, Invalid
from mainstay.text.yaml_lines import parse_yaml

MAX_BYTES = 8 * 1024 * 1024


class _User(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    display: str = ""
    email: str = ""
    groups: list[str] = []
    admin: bool = False
    role: str = "asker"
    title: str = ""  # for the reader of the file


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    members: list[str] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    users: list[_User] = []
    groups: list[_Group] = []


@dataclass(frozen=True, kw_only=True)
class Imported:
    """How many of each were new."""

    users: int
    groups: int
    memberships: int


def import_people(people: People, file: Path) -> Imported:
    """Add everybody of the file who is not there yet. Errors: Invalid with file and line."""
    if file.stat().st_size > MAX_BYTES:
        raise Invalid(f"larger than {MAX_BYTES} bytes", where=str(file))
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        value: Any = parse_yaml(file.read_text(encoding="utf-8"), str(file), lines)
        content = _File.model_validate(value if value is not None else {})
        for n, user in enumerate(content.users):
            parse_role(user.role, f"{file}:{lines.get(('users', n, 'role'), 1)}")
    except UnicodeDecodeError:
        raise Invalid("not UTF-8", where=str(file)) from None
    except ValidationError as error:
        first = error.errors()[0]
        path = first["loc"]
        line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)
        raise Invalid(f"{'.'.join(map(str, path))}: {first['msg']}", where=f"{file}:{line}") from None
    return _import(people, content)


def _import(people: People, content: _File) -> Imported:
    groups = {_named("group", group.name) for group in content.groups}
    groups |= {_named("group", name) for user in content.users for name in user.groups}
    groups |= {member for group in content.groups for member in group.members if member.startswith("group:")}
    users = {user.name: user for user in content.users}
    new_users = sum(_added(people, user) for user in users.values())
    new_groups = sum(_added(people, name) for name in sorted(groups))
    pairs = [(_named("group", name), _named("user", user.name)) for user in content.users for name in user.groups]
    pairs += [(_named("group", group.name), _named("user", held)) for group in content.groups for held in group.members]
    return Imported(
        users=new_users,
        groups=new_groups,
        memberships=sum(people.add_member(group, member) for group, member in pairs),
    )


def _added(people: People, new: _User | str) -> bool:
    try:
        if isinstance(new, str):
            people.add_group(new)
        else:
            people.add_user(new.name, display=new.display, email=new.email, admin=new.admin, role=new.role)
    except Conflict:
        return False
    return True


def _named(kind: str, name: str) -> str:
    return name if ":" in name else f"{kind}:{name}"
