"""What filters of requests and of the audit log may say: a word that nothing can ever have is a mistake to be told, for an
empty list would read as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import get_args

from mainstay.errors import Invalid
from mainstay.records import outcomes
from mainstay.records.audit.events import DECISION, ERASED, EXPIRED, HELD, KEY, RELEASED
from mainstay.records.audit.refusals import REFUSED
from mainstay.records.spans import ERROR, INGEST, OK, is_trace_id
from mainstay.records.traces import LIMITED, Order, Search
from mainstay.types import Mode, Status

DOORS = ("answers", "chat", "page", "cli", "otlp")
CHOICES = {
    "status": (*map(str, Status), "done", OK, ERROR),  # of answers; of a source's run; of what other programs sent
    "mode": (*map(str, Mode), LIMITED),
    "door": DOORS,
    "kind": ("answer", INGEST, "imported"),
    "outcome": (*map(str, outcomes.Kind), "any"),
}
"""The words that a request can have there."""

ACTIONS = (
    "access.rule",
    "agreement.approved",
    "agreement.in_force",
    "alert.acknowledged",
    "alert.opened",
    "alert.resolved",
    "alert.silenced",
    "alert.unsilenced",
    ERASED,
    EXPIRED,
    KEY,
    DECISION,
    "document.access",
    "document.deleted",
    "documents.access",
    "export.audit",
    "export.backup",
    "export.decision",
    "group.added",
    "group.changed",
    "group.removed",
    "handover.closed",
    "handover.delivered",
    "handover.failed",
    "handover.waiting",
    RELEASED,
    HELD,
    "key.created",
    "key.revoked",
    "member.added",
    "member.removed",
    "mode.changed",
    "mode.ordered",
    "outcomes.erased",
    "service.added",
    "service.changed",
    "service.removed",
    "session.ended",
    REFUSED,
    "session.started",
    "source.forgotten",
    "source.synced",
    "user.added",
    "user.changed",
    "user.password_set",
    "user.removed",
)
"""Everything that the audit log records."""
GROUPS = tuple(dict.fromkeys(action.partition(".")[0] + "." for action in ACTIONS if "." in action))


ORDERS: tuple[Order, ...] = get_args(Order)


def possible(wanted: Search, named: Callable[[str], str] = str) -> Search:
    """The search. Errors: Invalid for a word that no request can have; ``named`` is how the door calls a parameter."""
    for wrong in mistakes(wanted, named).values():
        raise wrong
    return wanted


def mistakes(wanted: Search, named: Callable[[str], str] = str) -> dict[str, Invalid]:
    """What no request can have, by the name of its filter: a form says all of them at once."""
    found: dict[str, Invalid] = {}
    for name, known in CHOICES.items():
        try:
            among(getattr(wanted, name), known, named(name))
        except Invalid as wrong:
            found[name] = wrong
    if wanted.trace_id and not is_trace_id(wanted.trace_id):
        found["trace_id"] = Invalid(
            f"{wanted.trace_id[:40]!a} is no trace id",
            where=named("trace_id"),
            fix="write its 32 hexadecimal digits in lower case",
        )
    return found


def possible_action(text: str, where: str) -> str:
    """An action, or with a dot at its end all that begin with it. Errors: Invalid when the log knows none."""
    if text.endswith(".") and any(action.startswith(text) for action in ACTIONS):
        return text
    group = text.partition(".")[0] + "."
    inside = [action for action in ACTIONS if action.startswith(group)]
    among(text, ACTIONS, where, shown=(*inside, group) if inside else (*GROUPS, DECISION))
    return text


def among(value: str, known: Sequence[str], where: str, *, shown: Sequence[str] = ()) -> None:
    """Nothing for a word that is known, or for none. Errors: Invalid with the nearest of those that are, and which they are."""
    if not value or value in known:
        return
    listed = shown or known
    near = get_close_matches(value.casefold(), [*listed, *known], 1, 0.6)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise Invalid(f"{value[:40]!a} is not known here", where=where, fix=f"{meant}valid here: {', '.join(listed)}")
