"""What may be asked for, and the roles that permit it to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum

from mainstay.errors import Invalid


class Permission(StrEnum):
    """What a credential permits its bearer to ask for. Seeing a document also takes a Scope that holds it."""

    ASK = "ask"
    SEARCH = "search"
    DOCUMENTS_READ = "documents:read"
    DOCUMENTS_WRITE = "documents:write"
    TRACES_READ = "traces:read"
    TRACES_WRITE = "traces:write"
    OUTCOMES_WRITE = "outcomes:write"
    OPERATE = "operate"
    AUDIT_READ = "audit:read"
    REVIEW = "review"
    ADMIN = "admin"
    ON_BEHALF_OF = "on-behalf-of"


READER = frozenset({Permission.ASK, Permission.SEARCH, Permission.DOCUMENTS_READ})
"""What a key may do unless said otherwise, and what most people may do."""
ADMINISTRATOR = frozenset(Permission) - {Permission.ON_BEHALF_OF}
"""What an administrator signed in in person may do: everything but speaking for others."""
ADMIN, ASKER = "admin", "asker"
ROLES: Mapping[str, frozenset[Permission]] = {
    "viewer": frozenset({Permission.SEARCH, Permission.DOCUMENTS_READ}),
    ASKER: READER,
    "reviewer": READER | {Permission.REVIEW},
    "operator": READER | {Permission.TRACES_READ, Permission.OPERATE, Permission.OUTCOMES_WRITE},
    "auditor": frozenset({Permission.TRACES_READ, Permission.AUDIT_READ, Permission.DOCUMENTS_READ}),
    ADMIN: ADMINISTRATOR,
}
"""What each role permits a person to do. Which documents they see is decided by a Scope, which no role but ``admin``
widens."""


def parse_role(text: str, where: str) -> str:
    """The role of this name; raises Invalid with the nearest one."""
    if text not in ROLES:
        near = get_close_matches(text, ROLES, n=1)
        raise Invalid(f"{text[:40]!a} is not a role", where=where, fix=f"write {near[0] if near else ', '.join(ROLES)}")
    return text


def permitted(roles: Iterable[str]) -> frozenset[Permission]:
    """What these roles permit together; a role nobody knows here (a newer program wrote it) permits nothing."""
    return frozenset[Permission]().union(*(ROLES.get(role, frozenset()) for role in roles))
