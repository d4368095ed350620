"""A question that goes to a person: what is kept of it, who may see it, and what its asker is told.

It holds the question and the conversation, as people must read them to answer; the sources are named by document,
version and span, without their text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission
from mainstay.agreement.terms import HandOver as Rules
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.text.phrases import phrase
from mainstay.types import Actor, Citation, Clock, Passage, Question

_FORBID: Any = {"extra": "forbid"}

WEBHOOK, EMAIL = "webhook", "email:"
MAX_DRAFT, MAX_NOTE = 20_000, 2_000  # characters
MAX_SOURCES = 50
KEY_BYTES = (24, 64)
REFERENCE = "{reference}"
_URL = re.compile(r"https?://[^/\s@?#]+(?:[/?][^\s#]*)?")
_ADDRESS = re.compile(r"[^\s@<>(),;:\\\"\[\]]+@[^\s@<>(),;:\\\"\[\]]+")


@dataclass(frozen=True, kw_only=True)
class SmtpSettings:
    """The mail server that takes messages. ``starttls`` encrypts after the greeting (RFC 3207), ``tls`` from the first byte
    (RFC 8314), ``none`` not at all: to this machine and private networks alone."""

    __pydantic_config__ = _FORBID

    host: str = ""
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""
    tls: Literal["starttls", "tls", "none"] = "starttls"


@dataclass(frozen=True, kw_only=True)
class SigningSettings:
    """The key that webhooks are signed with: ``whsec_`` and 24 to 64 bytes in base64. Two of them, with a space between,
    while it is being changed."""

    __pydantic_config__ = _FORBID

    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.keys  # noqa: B018 - raises when the text holds something that is no key

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(_key(text) for text in self.secret.split())


class State(StrEnum):
    """``waiting`` to be delivered, ``delivered`` to everybody named, ``failed``: given up on, ``closed`` by a person."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What was found for the question: a span of a document version, without its text."""

    document: str
    version: str
    title: str
    uri: str
    start: int
    end: int
    page: int | None = None


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """One question for a person. ``sent`` names the ways by which it has arrived already, so that none is used twice."""

    id: str
    request_id: str
    at: datetime
    principal: str
    reason: str
    question: str
    history: tuple[tuple[str, str], ...] = ()
    sources: tuple[Source, ...] = ()
    draft: str = ""
    language: str = ""
    state: State = State.WAITING
    sent: tuple[str, ...] = ()
    detail: str = ""  # why it is not delivered yet or never was; what was noted when it was closed


class HandOvers(Protocol):
    """Hand-overs over a database."""

    def create(self, held: HandOver) -> None: ...

    def get(self, handover_id: str) -> HandOver | None: ...

    def list(
        self,
        *,
        state: State | None = None,
        principal: str | None = None,
        request_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[HandOver]:
        """The newest first."""
        ...

    def set_state(
        self, handover_id: str, state: State, *, detail: str, at: datetime, only_from: Sequence[State]
    ) -> bool:
        """Whether it was in one of these states, and so is in ``state`` now."""
        ...

    def mark_sent(self, handover_id: str, way: str, *, at: datetime) -> None:
        """It has arrived by this way."""
        ...

    def adrift(self, *, limit: int = 100) -> Sequence[tuple[str, str | None]]:
        """Those that wait and that no job is about: each with why its last job was given up on, None if none was."""
        ...

    def prune(self, *, before: datetime) -> int:
        """Forget those made before, whatever became of them; returns how many."""
        ...


def ways(rules: Rules) -> tuple[str, ...]:
    """By which ways a hand-over leaves: ``webhook``, and ``email:ADDRESS`` for each address once."""
    return (*((WEBHOOK,) if rules.webhook else ()), *dict.fromkeys(f"{EMAIL}{address}" for address in rules.email))


def hand_over(
    handovers: HandOvers,
    clock: Clock,
    *,
    question: Question,
    principal: str,
    reason: str,
    sources: Sequence[Passage | Citation] = (),
    draft: str = "",
    request_id: str = "",
    language: str = "",
) -> HandOver:
    """Keep a question for a person. ``draft`` is what the service would have said, if anything."""
    held = HandOver(
        id=clock.new_id("ho"),
        request_id=_text(request_id),
        at=clock.now(),
        principal=_text(principal),
        reason=_text(reason),
        question=_text(question.text),
        history=tuple((_text(role), _text(said)) for role, said in question.history),
        sources=tuple(
            Source(
                document=source.document,
                version=source.version,
                title=_text(source.title),
                uri=_text(source.uri),
                start=source.start,
                end=source.end,
                page=source.page,
            )
            for source in sources[:MAX_SOURCES]
        ),
        draft=_text(draft[:MAX_DRAFT]),
        language=language,
    )
    handovers.create(held)
    return held


def promise(rules: Rules, language: str, reference: str) -> str:
    """What the asker is told happens next: the agreement's words in their language, else in English, else our own.

    ``{reference}`` in the agreement's words becomes the id under which the asker can ask after it.
    """
    said = rules.promise.get(language) or rules.promise.get("en")
    return said.replace(REFERENCE, reference) if said else phrase("handed_over", language, reference=reference)


def visible(handovers: HandOvers, handover_id: str, actor: Actor) -> HandOver:
    """The hand-over, if the actor asked the question or is an operator.

    Errors: NotFound for one that does not exist and for somebody else's alike.
    """
    held = handovers.get(handover_id)
    own = held is not None and held.principal == actor.principal != ANONYMOUS
    if held is None or not (own or operates(actor)):
        raise NotFound("no such hand-over")
    return held


def operates(actor: Actor) -> bool:
    """Whether the actor may see everybody's, with the reasons and the conversation."""
    return actor.admin or Permission.TRACES_READ in actor.scopes


def close(handovers: HandOvers, clock: Clock, handover_id: str, *, by: str, note: str = "") -> HandOver:
    """A person has taken care of it. Errors: NotFound, Conflict when it is closed already."""
    note = _text(note[:MAX_NOTE])
    detail = f"{by}: {note}" if note else by
    before = tuple(state for state in State if state is not State.CLOSED)
    done = handovers.set_state(handover_id, State.CLOSED, detail=detail, at=clock.now(), only_from=before)
    held = handovers.get(handover_id)
    if held is None:
        raise NotFound("no such hand-over", fix="see: mainstay handovers list")
    if not done:
        raise Conflict("it is closed already", where=held.id)
    return held


def checked_webhook(url: str, what: str = "handover.webhook of agreement.yaml") -> str:
    """The address of a receiver. Errors: Invalid, naming ``what``, without the address: its path may be a secret."""
    if not _URL.fullmatch(url) or not url.isascii() or not url.isprintable():
        raise Invalid(f"{what} is no address of http(s) without user and fragment")
    return url


def checked_address(text: str, what: str) -> str:
    """The e-mail address of one person. Errors: Invalid, naming ``what``."""
    if not _ADDRESS.fullmatch(text) or not text.isascii() or not text.isprintable() or len(text) > 254:
        raise Invalid(f"{what} is {text[:60]!a}, not an e-mail address", fix="write it like help@example.org")
    return text


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise Invalid(
            "handover.secret is no key of 24 to 64 bytes in base64",
            fix="write whsec_ followed by what `openssl rand -base64 32` prints, by way of ${MAINSTAY_WEBHOOK_SECRET}",
        )
    return key


def _text(said: str) -> str:
    """Text that every database takes: without U+0000 and halves of surrogate pairs."""
    return said.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
