"""What the ladder asks to be kept: the order of an operator, which all processes follow, and each change of mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mainstay.types import Mode


@dataclass(frozen=True, kw_only=True)
class Order:
    """A mode set by hand, in force in every process until it is withdrawn, or until ``until``."""

    mode: Mode
    by: str
    at: datetime
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ModeEvent:
    """One change of mode in one process, for the audit. ``before`` equals ``after`` when an order changed nothing at once."""

    event_id: str
    before: Mode
    after: Mode
    reason: str  # the reason that decides after the change; of a way back, the one that ended
    detail: str
    by: str  # the operator, or "automatic"
    at: datetime
    process: str


class ModeLog(Protocol):
    """Orders and events over a database. Errors: Unavailable."""

    def keep(self, event: ModeEvent) -> None:
        """Write one event; one whose id is known is written already."""

    def ordered(self) -> Order | None:
        """The order that stands, whoever gave it."""

    def order(self, order: Order | None, event: ModeEvent) -> None:
        """Replace the order (None withdraws it) and write the event, both or neither."""

    def events(self, limit: int) -> Sequence[ModeEvent]:
        """The newest first."""
