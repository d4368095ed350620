"""Prices: what a call costs, in whole nano-dollars, always rounded up.

Two numbers decide about money before a call is made: an upper bound of the tokens that go in, and how many tokens may
come out before a cap is spent. Both err to the expensive side, so that a ceiling holds by construction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Protocol

from mainstay.errors import Invalid
from mainstay.types import Usage

MILLION = 1_000_000
NANO_PER_USD = 1_000_000_000
HIGHEST_USD_PER_MILLION = 1_000_000
"""A price above this is a typing error; it also keeps every sum within 64 bits."""
LONGEST = 60
FINEST = Decimal("0.000000001")

TOKENS_PER_REQUEST = 128
TOKENS_PER_MESSAGE = 32
"""Room for what a chat template adds: role names, separators, a built-in preamble."""


class Billable(Protocol):
    """What of a request decides about its cost."""

    @property
    def input_token_bound(self) -> int: ...

    @property
    def max_output_tokens(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Price:
    """Nano-dollars per million tokens. A free model says so with two zeros; for an unknown price there is no Price."""

    input_per_million_nanodollars: int
    output_per_million_nanodollars: int

    def __post_init__(self) -> None:
        for amount in (self.input_per_million_nanodollars, self.output_per_million_nanodollars):
            if not 0 <= amount <= HIGHEST_USD_PER_MILLION * NANO_PER_USD:
                raise Invalid(f"a price of {amount} nano-dollars per million tokens is not possible", where="price")

    @classmethod
    def from_usd(cls, *, input_per_million: str, output_per_million: str) -> Price:
        """From decimal dollars per million tokens ("0.0375"), exactly; finer than a nano-dollar is refused."""
        return cls(
            input_per_million_nanodollars=_nanodollars(input_per_million),
            output_per_million_nanodollars=_nanodollars(output_per_million),
        )

    def cost(self, usage: Usage) -> int:
        """What this usage costs: each line rounded up."""
        return self.input_cost(usage.input_tokens) + _line(usage.output_tokens, self.output_per_million_nanodollars)

    def input_cost(self, tokens: int) -> int:
        return _line(tokens, self.input_per_million_nanodollars)

    def ceiling(self, request: Billable) -> int:
        """What the request can cost at most."""
        return self.cost(Usage(input_tokens=request.input_token_bound, output_tokens=request.max_output_tokens))

    def max_output_for(self, cap_nanodollars: int, request: Billable) -> int:
        """How many tokens may come out so that the call stays within the cap: never more than the request wants.

        Zero means that the cap does not even pay for what goes in (or for one token more).
        """
        left = cap_nanodollars - self.input_cost(request.input_token_bound)
        if left < 0:
            return 0
        if self.output_per_million_nanodollars == 0:
            return request.max_output_tokens
        return min(request.max_output_tokens, left * MILLION // self.output_per_million_nanodollars)


def token_bound(texts: Iterable[str]) -> int:
    """At least as many tokens as a byte-level tokenizer makes of these messages: UTF-8 bytes and a constant each."""
    return TOKENS_PER_REQUEST + sum(len(text.encode("utf-8", "surrogatepass")) + TOKENS_PER_MESSAGE for text in texts)


def _line(tokens: int, per_million: int) -> int:
    if tokens < 0:
        raise Invalid(f"{tokens} tokens cannot be priced", where="usage")
    return -(-tokens * per_million // MILLION)


def _nanodollars(usd: str) -> int:
    """Decimal dollars as whole nano-dollars."""
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise Invalid(f"'{usd}' is not a decimal number of dollars", where="price", fix="write it like 0.15") from None
    if not amount.is_finite() or not 0 <= amount <= HIGHEST_USD_PER_MILLION:
        raise Invalid(
            f"a price of {usd} USD per million tokens is out of range", where="price", fix="give it per million tokens"
        )
    if len(usd) > LONGEST or Decimal(0) < amount < FINEST:
        raise Invalid(f"a price of {usd[:LONGEST]} USD is finer than a nano-dollar", where="price", fix="round it up")
    numerator, denominator = amount.as_integer_ratio()
    nano, rest = divmod(numerator * NANO_PER_USD, denominator)
    if rest:
        raise Invalid(f"a price of {usd} USD is finer than a nano-dollar", where="price", fix="round it up")
    return nano
