"""Access rules as people write them, and the one decision they lead to.

A rule names principals: ``public``, ``user:NAME``, ``group:NAME``, ``service:NAME``. Names are compared without
regard to case and in one Unicode form (NFC): were ``user:Bob`` and ``user:bob`` two people, a deny spelt the other
way would fail open.

Deny beats allow. A rule that allows nobody is private to administrators; a deny does not bind administrators, who
could lift it anyway.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from difflib import get_close_matches

from mainstay.errors import Invalid, TooLarge
from mainstay.types import PUBLIC

KINDS = ("user", "group", "service")
MAX_NAME = 256
MAX_PRINCIPALS = 10_000
_EVERYBODY = {"anonymous", "all", "any", "anyone", "everybody", "everyone", "world", "*"}
_SECOND_PRINCIPAL = re.compile(r"[,;]\s*(?:(?:user|group|service)\s*:|public\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Acl:
    """Who may see something: a hit in ``allow`` and none in ``deny``. Principals are canonical, sorted, without
    repeats.

    ``inherits`` marks a rule as written that says nothing about ``allow`` and leaves that to the rule above it; a
    rule in force never inherits. ``Acl((), ())`` allows nobody: private to administrators.
    """

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    inherits: bool = False


PRIVATE = Acl((), ())


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether something is visible, and the one reason why."""

    visible: bool
    reason: str


def decide(acl: Acl, principals: AbstractSet[str]) -> Decision:
    """The law, for one rule and one closure of principals. The Gate computes the same for all rules at once."""
    for denied in acl.deny:
        if denied in principals:
            return Decision(visible=False, reason=f"denied to {denied}")
    for allowed in acl.allow:
        if allowed in principals:
            return Decision(visible=True, reason=f"allowed to {allowed}")
    return Decision(
        visible=False, reason="allowed to none of the asker's principals" if acl.allow else "private to administrators"
    )


def inherit(chain: Sequence[Acl | None]) -> Acl:
    """The rule in force below a chain of rules from root to leaf: the nearest ``allow`` wins, every ``deny`` adds."""
    said = [acl for acl in chain if acl is not None]
    allow = next((acl.allow for acl in reversed(said) if not acl.inherits), ())
    return Acl(allow, tuple(sorted({principal for acl in said for principal in acl.deny})))


def parse_acl(value: object, where: str) -> Acl:
    """The rule in a front matter, ``.access.yaml``, settings file or API body: a principal, a list, or ``allow`` and
    ``deny``.

    ``[]`` is private to administrators; ``{deny: [...]}`` alone leaves ``allow`` to the rule above.

    Errors: Invalid with the nearest valid form, TooLarge beyond ``MAX_PRINCIPALS``.
    """
    if not isinstance(value, dict):
        return Acl(_principals(value, where), ())
    if unknown := [key for key in value if key not in ("allow", "deny")]:
        raise _unknown_key(unknown[0], value, where)
    if not value:
        raise _empty(where)
    deny = _principals(value["deny"], f"{where}.deny") if "deny" in value else ()
    if "allow" not in value:
        return Acl((), deny, inherits=True)
    return Acl(_principals(value["allow"], f"{where}.allow"), deny)


def canonical(acl: Acl, where: str = "access") -> Acl:
    """The same rule in force: parsed again and sorted, so that a rule made by hand compares like one that was read."""
    return Acl(_principals(list(acl.allow), where), _principals(list(acl.deny), where))


def parse_principal(text: object, where: str) -> str:
    """The canonical principal that ``text`` names; raises Invalid with the nearest valid form."""
    if not isinstance(text, str):
        raise Invalid(f"{_shown(text)} is not a principal", where=where, fix=_near(text))
    kind, colon, name = (part.strip() for part in _plain(text, where).partition(":"))
    kind = kind.casefold()
    if kind == PUBLIC and not colon:
        return PUBLIC
    if not colon or kind not in KINDS or not name:
        raise Invalid(f"{_shown(text)} is not a principal", where=where, fix=_near(text))
    if _SECOND_PRINCIPAL.search(name):
        raise Invalid(f"{_shown(text)} holds several principals in one text", where=where, fix="write a list of them")
    return f"{kind}:{_folded(name, where)}"


def parse_named(kind: str, text: object, where: str) -> str:
    """The principal of one ``kind`` that a person names with or without the kind in front: ``alice`` or
    ``user:alice``.
    """
    if isinstance(text, str) and ":" not in text:
        text = f"{kind}:{text}"
    principal = parse_principal(text, where)
    if not principal.startswith(f"{kind}:"):
        raise Invalid(f"{_shown(text)} is not a {kind}", where=where, fix=f"write {kind}:NAME")
    return principal


def _principals(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        raise _empty(where)
    if not isinstance(value, list | tuple | set | frozenset):
        value = [value]
    if len(value) > MAX_PRINCIPALS:
        raise TooLarge(f"{len(value)} principals (at most {MAX_PRINCIPALS})", where=where, fix="grant to a group")
    return tuple(sorted({parse_principal(text, where) for text in value}))


def _plain(text: str, where: str) -> str:
    """NFC with single spaces, or Invalid: characters nobody can see or type would make two names look like one."""
    if len(text) > 4 * MAX_NAME:
        raise TooLarge("a principal's name is too long", where=where, fix=f"use at most {MAX_NAME} characters")
    plain = unicodedata.normalize("NFC", " ".join(part for part in text.split(" ") if part))
    if plain.isascii() and plain.isprintable():
        return plain
    for character in plain:
        if unicodedata.category(character) in _UNSEEN and character != " ":
            raise Invalid(
                f"U+{ord(character):04X} can not stand in a principal", where=where, fix="write its name again by hand"
            )
    return plain


_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"}


def _folded(name: str, where: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    if len(folded) > MAX_NAME:
        raise TooLarge("a principal's name is too long", where=where, fix=f"use at most {MAX_NAME} characters")
    return folded


def _near(value: object) -> str:
    """What the writer most likely meant."""
    if isinstance(value, dict) and len(value) == 1:  # YAML reads `group: finance` as a map
        ((kind, name),) = value.items()
        if kind in KINDS and isinstance(name, str):
            return f"write {kind}:{name} without a space after the colon"
    if not isinstance(value, str):
        return "write public, user:NAME, group:NAME or service:NAME"
    kind, colon, name = (part.strip() for part in value.partition(":"))
    if kind.casefold() in _EVERYBODY or (not colon and get_close_matches(kind.casefold(), [PUBLIC], cutoff=0.7)):
        return "write public"
    if colon and name and (near := get_close_matches(kind.casefold(), KINDS, n=1, cutoff=0.4)):
        return f"write {near[0]}:{_shown(name).strip(chr(39))}"
    if not colon and kind:
        return f"write user:{kind[:40]} or group:{kind[:40]}"
    return "write public, user:NAME, group:NAME or service:NAME"


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _empty(where: str) -> Invalid:
    return Invalid("access is empty", where=where, fix="write [] for administrators only, or remove the line")


def _unknown_key(key: object, value: dict[object, object], where: str) -> Invalid:
    if key in KINDS:
        return Invalid(f"unknown key {_shown(key)}", where=where, fix=_near({key: value[key]}))
    near: Iterable[str] = get_close_matches(str(key), ["allow", "deny"], n=1) or ["allow or deny"]
    return Invalid(f"unknown key {_shown(key)}", where=where, fix=f"write {next(iter(near))}")
