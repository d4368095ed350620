"""What ``mainstay.yaml`` says of the audit log, under ``audit:``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mainstay.errors import Invalid
from mainstay.records.audit.heads import signer_of

_FORBID: Any = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class WitnessSettings:
    """Who keeps the signed heads outside: a ``file`` that each is appended to (on another machine's disk, best one that can
    only be added to), a ``webhook`` (signed with ``handover.secret``), addresses that get one ``email`` a day."""

    __pydantic_config__ = _FORBID

    file: str = ""
    webhook: str = field(default="", repr=False)  # its path may be a secret
    email: tuple[str, ...] = ()
    email_every_s: float = 86_400.0

    def __bool__(self) -> bool:
        return bool(self.file or self.webhook or self.email)


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """The log is signed after ``every_events`` or ``every_s``, whichever comes first, with ``key``: 32 bytes in base64, as
    ``${NAME}``. Without one a key is made in the data folder (``audit.key``)."""

    __pydantic_config__ = _FORBID

    key: str = field(default="", repr=False)
    every_events: int = 1000
    every_s: float = 60.0
    witness: WitnessSettings = WitnessSettings()

    def __post_init__(self) -> None:
        if self.key:
            signer_of(self.key, "audit.key")
        for value, what in (
            (self.every_events, "audit.every_events"),
            (self.every_s, "audit.every_s"),
            (self.witness.email_every_s, "audit.witness.email_every_s"),
        ):
            if not 1 <= value <= 10**9:
                raise Invalid(f"{what} is {value}, it must be at least 1")
