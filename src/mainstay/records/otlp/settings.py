"""Where finished traces go besides our own database, and whether those we call are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mainstay.errors import Invalid
from mainstay.records.otlp.profiles import DEFAULT, PROFILES

_FORBID: Any = {"extra": "forbid", "strict": False}


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """A collector that is sent every kept trace over OTLP/HTTP. ``endpoint`` is the whole address (it usually ends in
    ``/v1/traces``); empty: none is. ``headers`` are taken for secrets."""

    __pydantic_config__ = _FORBID

    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    profile: str = DEFAULT
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise Invalid(
                f"telemetry.otlp.profile is {self.profile!r}, which is none", fix=f"write one of {', '.join(PROFILES)}"
            )
        if not 0 < self.timeout_s <= 60:
            raise Invalid(f"telemetry.otlp.timeout_s is {self.timeout_s}, not more than 0 and at most 60")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
                raise Invalid(
                    "telemetry.otlp.endpoint is no address of a collector",
                    fix="write https://collector.example/v1/traces",
                )


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """``propagate``: model providers are told the trace that a call belongs to (W3C Trace Context)."""

    __pydantic_config__ = _FORBID

    otlp: ExportSettings = ExportSettings()
    propagate: bool = True
