"""What the audit log says: who did what to whom, when and why, and the state before and after as hashes.

Each event has two parts. Its **head line** stays for ever: number, time, action, hashes of the state before and after, and the
digest of its body. It is what the tree's leaf is made of, and names nobody. Its **body** says who, whom and why; people stand
in it under a pseudonym, and it is kept encrypted under the key of whom it is about (``sealing``). With that key it goes,
and every proof still holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from mainstay.records.audit.heads import Head
from mainstay.records.audit.merkle import leaf_hash
from mainstay.types import Actor

DECISION = "decision"
"""The action of what an answer was made of: see ``records.decisions``."""
ERASED, EXPIRED, KEY, HELD, RELEASED = "audit.erased", "audit.expired", "audit.key", "hold.placed", "hold.lifted"
MAX_WHY, MAX_LIST = 2000, 500
SERVICE = "service:mainstay"
NOTHING = ""


@dataclass(frozen=True, kw_only=True)
class By:
    """Who acts: the principal, through whom (a service that speaks for it, a key, a job), and for which request."""

    principal: str
    via: str = ""
    request_id: str = ""
    why: str = ""


def by_actor(actor: Actor, request_id: str = "") -> By:
    """An Actor, as the log names it."""
    return By(principal=actor.principal, via=actor.via or actor.key_id or "", request_id=request_id)


_NOBODY = By(principal=SERVICE)
_ACTING: ContextVar[By | None] = ContextVar("acting", default=None)


@contextmanager
def acting(by: By) -> Iterator[None]:
    """Whatever is recorded inside was done by them. Doors say so; threads and jobs that nobody told act for the service."""
    token = _ACTING.set(by)
    try:
        yield
    finally:
        _ACTING.reset(token)


@contextmanager
def because(why: str) -> Iterator[None]:
    """The reason that whoever acts has given, for what is recorded inside."""
    with acting(replace(whoever_acts(), why=why)):
        yield


def whoever_acts() -> By:
    return _ACTING.get() or _NOBODY


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Something that changes state, as whoever changes it says it.

    ``subject`` is what was changed, with its kind: ``user:alice``, ``document:doc_...``, ``agreement:DIGEST``. ``before`` and
    ``after`` are states as JSON values, of which hashes alone are kept: None where there was nothing. ``details`` are JSON
    values; people in them are written as principals (``user:NAME``). ``by``: None for whoever acts (``acting``). ``owner`` is
    whose key the body gets: empty for the person it is about, else who acted, else the service.
    """

    action: str
    subject: str
    at: datetime
    before: object | None = None
    after: object | None = None
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    by: By | None = None
    owner: str = ""


@dataclass(frozen=True, kw_only=True)
class HeadLine:
    """What stays of an event for ever, and what its leaf is made of. ``at`` is in microseconds since 1970 UTC; ``before`` and
    ``after`` are hex, or empty; ``owner`` is the pseudonym of whom the body is about; ``body`` the hex of its digest."""

    n: int
    at: int
    action: str
    owner: str
    before: str
    after: str
    body: str

    def data(self) -> bytes:
        """The leaf's data."""
        return canonical(
            {
                "action": self.action,
                "after": self.after,
                "at": self.at,
                "before": self.before,
                "body": self.body,
                "n": self.n,
                "owner": self.owner,
            }
        )

    @property
    def leaf(self) -> bytes:
        return leaf_hash(self.data())


def canonical(value: object) -> bytes:
    """One way to write a JSON value: keys sorted, no spaces, UTF-8; numbers are integers, or text."""
    return _ENCODE(value).encode("utf-8", "surrogatepass")


# Made once: there are two for each answer.
_ENCODE = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as it is shown. What was erased is empty, and ``erased`` says so; people whose key is gone stand under their
    pseudonym (``p_...``). ``actor`` is whose rights it was done with, ``via`` the service or key that spoke for them."""

    n: int
    at: datetime
    action: str
    subject: str
    actor: str
    via: str
    why: str
    request_id: str
    details: Mapping[str, Any]
    before: str
    after: str
    erased: bool
    leaf: str  # hex


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which events: by action (exactly, or all that begin with it when it ends with a dot), by person or thing (whoever acted
    or was acted on), by time. ``decisions`` asks for what answers were made of instead."""

    action: str = ""
    subject: str = ""
    actor: str = ""
    since: datetime | None = None
    until: datetime | None = None
    decisions: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """Events, the newest first; ``next`` is the cursor of the page that follows, None at the end."""

    events: tuple[Event, ...]
    next: int | None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That event ``n`` is in the tree of ``size`` whose root is ``root``: its head line and the hashes beside its way up (hex).
    ``head`` is a signed head of that size, where there is one."""

    n: int
    size: int
    root: str
    leaf: str
    line: HeadLine
    path: tuple[str, ...]
    head: Head | None = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a witness has got last: the size of the head, when, and why it has not got a newer one."""

    size: int
    at: datetime
    trouble: str = ""


class Audit(Protocol):
    """The audit log, to be read."""

    def list(self, filters: Filters, cursor: int | None = None, limit: int = 100) -> Page:
        """The newest first, from before ``cursor`` on."""
        ...

    def get(self, n: int) -> Event | None: ...

    def proof(self, n: int, size: int | None = None) -> Proof:
        """For the newest signed head that holds it, or for the tree of ``size``. Errors: NotFound, Invalid."""
        ...

    def consistency(self, old: int, size: int) -> Sequence[str]:
        """The proof (hex) that the tree of ``old`` events begins that of ``size``. Errors: Invalid."""
        ...

    def size(self) -> int: ...

    def head(self) -> Head | None:
        """The newest signed head."""
        ...
