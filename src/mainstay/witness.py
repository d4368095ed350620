"""How signed heads of the audit log leave the house: appended to a file, by a signed webhook, by e-mail.

A witness that holds a head can show later that the log was changed before it. So the newest head goes to each of them, soon
after it is signed; one that can not be reached is tried again, and its trouble is kept for operators to see.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mainstay.delivery import Sender, composed, post_signed, send_mail
from mainstay.errors import Conflict, Invalid, MainstayError, Unavailable
from mainstay.records.audit import Head
from mainstay.records.audit.events import Sent
from mainstay.records.audit.settings import WitnessSettings

FILE, WEBHOOK, EMAIL = "file", "webhook", "email:"
EVENT = "audit.head"
AGAIN_S = (5.0, 30.0, 120.0, 600.0)
MAX_LINE = 4096


class Heads(Protocol):
    """The heads of a log, and what each witness has got."""

    def head(self) -> Head | None: ...

    def root(self, size: int) -> str: ...

    def sent(self) -> Mapping[str, Sent]: ...

    def claim(self, way: str, size: int, at: datetime) -> bool:
        """Whether it is ours to send this head by this way: nobody else has or does."""
        ...

    def unclaim(self, way: str, before: Sent | None, trouble: str, at: datetime) -> None:
        """It could not be sent."""
        ...


class Witnesses:
    """Sends the newest head to every witness that has not got it. Called now and then by one thread, never by a request."""

    def __init__(self, settings: WitnessSettings, folder: Path, heads: Heads, sender: Sender) -> None:
        """``folder`` is where a relative path of ``file`` starts; ``sender`` is as for hand-overs."""
        self._settings, self._folder, self._heads, self._sender = settings, folder, heads, sender
        self._clock = sender.clock
        self._failed: dict[str, int] = {}
        self._again: dict[str, float] = {}

    @property
    def ways(self) -> tuple[str, ...]:
        """``file``, ``webhook``, ``email:ADDRESS``: those that the settings name."""
        held = self._settings
        named = [way for way, value in ((FILE, held.file), (WEBHOOK, held.webhook)) if value]
        return (*named, *(f"{EMAIL}{address}" for address in dict.fromkeys(held.email)))

    def send_due(self, *, now: bool = False) -> Sequence[str]:
        """Send what is due; returns the ways it went. What fails is kept, and tried again later. ``now``: do not wait for it."""
        head = self._heads.head() if self.ways else None
        if head is None:
            return ()
        sent, went = self._heads.sent(), []
        for way in self.ways:
            before = sent.get(way)
            if not self._due(way, head, before, now=now):
                continue
            at = self._clock.now()
            if not self._heads.claim(way, head.size, at):
                continue
            try:
                self._send(way, head)
            except MainstayError as error:
                self._heads.unclaim(way, before, error.line(), at)
                strikes = self._failed[way] = self._failed.get(way, 0) + 1
                self._again[way] = self._clock.monotonic() + AGAIN_S[min(strikes, len(AGAIN_S)) - 1]
            else:
                self._failed.pop(way, None)
                went.append(way)
        return went

    def _due(self, way: str, head: Head, before: Sent | None, *, now: bool) -> bool:
        if before is not None and before.size >= head.size:
            return False
        if now:
            return True
        if self._clock.monotonic() < self._again.get(way, float("-inf")):
            return False
        if way.startswith(EMAIL) and before is not None and not before.trouble:
            return (self._clock.now() - before.at).total_seconds() >= self._settings.email_every_s
        return True

    def _send(self, way: str, head: Head) -> None:
        if way == FILE:
            self._append(head)
        elif way == WEBHOOK:
            document = {"type": EVENT, "timestamp": head.time.isoformat(), "data": head.view()}
            body = json.dumps(document, separators=(",", ":")).encode()
            post_signed(self._settings.webhook, body, f"{head.log}.{head.size}", self._sender)
        else:
            self._mail(head, way.removeprefix(EMAIL))

    def _append(self, head: Head) -> None:
        """One line more, if the log goes on from the last one. Errors: Conflict when it does not: nothing is written then."""
        file = self._folder / self._settings.file
        try:
            last = last_head(file)
            if last is not None and last.log == head.log:
                if last.size > head.size or self._heads.root(last.size) != last.root:
                    raise Conflict(
                        f"the log does not go on from the head of {last.size} events in it",
                        where=str(file),
                        fix=f"run: mainstay audit verify --witness {file}",
                    )
                if last.size == head.size:
                    return  # another process was quicker
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, json.dumps(head.view(), sort_keys=True).encode() + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Unavailable(f"can not be written ({error.strerror})", where=str(file)) from None

    def _mail(self, head: Head, to: str) -> None:
        text = (
            f"Keep this message: with it anybody can show whether the audit log of {self._sender.name} was changed\n"
            "before this moment. Save the line below into a file, and run:\n\n"
            "  mainstay audit verify --witness FILE\n\n"
            f"{json.dumps(head.view(), sort_keys=True)}\n"
        )
        made = composed(
            self._sender,
            to,
            subject=f"Audit head {head.size}",
            at=self._clock.now(),
            message_id=f"{head.log}.{head.size}",
            text=text,
        )
        send_mail(made, to, self._sender)


def last_head(file: Path) -> Head | None:
    """The last head of a witness's file. Errors: Invalid for what is none; OSError."""
    try:
        with file.open("rb") as held:
            held.seek(max(0, held.seek(0, os.SEEK_END) - MAX_LINE))
            lines = held.read().splitlines()
    except FileNotFoundError:
        return None
    return _head(lines[-1], str(file)) if lines else None


def read_heads(file: Path) -> list[Head]:
    """All heads of a witness's file: one JSON value a line, as we write them, or as a webhook sent them.

    Errors: Invalid for what is none, Unavailable.
    """
    try:
        lines = [line.strip() for line in file.read_bytes().splitlines()]
    except OSError as error:
        raise Unavailable(f"can not be read ({error.strerror})", where=str(file)) from None
    found = [_head(line, f"{file}:{n}") for n, line in enumerate(lines, 1) if line.startswith(b"{")]
    if not found:
        raise Invalid("there is no signed head in it", where=str(file), fix="name the file that the witness keeps")
    return found


def _head(line: bytes, where: str) -> Head:
    try:
        held = json.loads(line)
    except ValueError:
        raise Invalid("this is no signed head", where=where) from None
    if isinstance(held, dict) and held.get("type") == EVENT:
        held = held.get("data")
    if not isinstance(held, dict):
        raise Invalid("this is no signed head", where=where)
    return Head.read(held, where)
