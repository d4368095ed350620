"""What the service promises and permits: the limits every request lives under."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from mainstay.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Of one request: the most it may cost (US dollars as decimal text) and the seconds it may take."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which wants a plain dict

    cap_usd: str = "0.010000"
    deadline_s: float = 30.0

    def __post_init__(self) -> None:
        if self.deadline_s <= 0:
            raise Invalid("request.deadline_s must be more than 0")
        self.cap_nanodollars  # noqa: B018 - raises when the text is no amount of money

    @property
    def cap_nanodollars(self) -> int:
        try:
            amount = Decimal(self.cap_usd)
        except InvalidOperation:
            raise Invalid(f"request.cap_usd is {self.cap_usd!r}, not an amount", fix='write it like "0.01"') from None
        if not amount.is_finite() or amount < 0:
            raise Invalid(f"request.cap_usd is {self.cap_usd!r}, not an amount of 0 or more")
        return int(amount * 1_000_000_000)


@dataclass(frozen=True, kw_only=True)
class CitationRules:
    """What happens to a sentence that no source supports: it is dropped, or shown and marked."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - as above

    unsupported: str = "drop"

    def __post_init__(self) -> None:
        if self.unsupported not in ("drop", "mark"):
            raise Invalid(f"citations.unsupported is {self.unsupported!r}", fix="write drop or mark")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The content of ``agreement.yaml``."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - as above

    request: RequestLimits = RequestLimits()
    citations: CitationRules = CitationRules()
