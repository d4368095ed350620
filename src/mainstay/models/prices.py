"""Prices: what a call costs, in whole nano-dollars, always rounded up.

Two numbers decide about money before a call is made: an upper bound of the tokens that go in, and how many tokens may
come out before a cap is spent. Both err to the expensive side, so that a ceiling holds by construction, whatever share of
the prompt turns out to be read from a cache or written to it, and on whichever side of a long-prompt step it falls.
"""

from __future__ import annotations

from collections import Counter
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
class LongPrompt:
    """What a call costs whose prompt has more than `above` tokens: all of it, not the part above. In nano-dollars per million
    tokens; a line that is not told costs what it costs in shorter prompts or as the input here, whichever is more."""

    above: int
    input_per_million_nanodollars: int
    output_per_million_nanodollars: int
    cached_input_per_million_nanodollars: int | None = None
    cache_write_per_million_nanodollars: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """The prices in force for prompts of one length."""

    input: int
    cached: int
    write: int
    output: int

    @property
    def inputs(self) -> frozenset[int]:
        return frozenset((self.input, self.cached, self.write))

    def input_cost(self, usage: Usage) -> int:
        """Each line rounded up; lines of one price are one line."""
        fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        if min(fresh, usage.cached_input_tokens, usage.cache_write_tokens) < 0:
            raise Invalid("parts of the input that are negative or exceed it cannot be priced", where="usage")
        lines: Counter[int] = Counter()
        for price, tokens in (
            (self.input, fresh),
            (self.cached, usage.cached_input_tokens),
            (self.write, usage.cache_write_tokens),
        ):
            lines[price] += tokens
        return sum(_line(tokens, price) for price, tokens in lines.items())

    def most_for(self, tokens: int) -> int:
        """No division of so many input tokens among the lines costs more: the dearest line, and a rounding for each other."""
        return _line(tokens, max(self.inputs)) + len(self.inputs) - 1


@dataclass(frozen=True, kw_only=True)
class Price:
    """Nano-dollars per million tokens, and per request. A free model says so with zeros; for an unknown price there is no
    Price. Cached input and cache writes cost what input costs unless told. `version` names where the price is from."""

    input_per_million_nanodollars: int
    output_per_million_nanodollars: int
    cached_input_per_million_nanodollars: int | None = None
    cache_write_per_million_nanodollars: int | None = None
    per_request_nanodollars: int = 0
    long_prompts: tuple[LongPrompt, ...] = ()
    version: str = "settings"

    def __post_init__(self) -> None:
        lines = [self.per_request_nanodollars]
        parts: list[Price | LongPrompt] = [self, *self.long_prompts]
        for part in parts:
            lines += [
                part.input_per_million_nanodollars,
                part.output_per_million_nanodollars,
                part.cached_input_per_million_nanodollars or 0,
                part.cache_write_per_million_nanodollars or 0,
            ]
        for amount in lines:
            if not 0 <= amount <= HIGHEST_USD_PER_MILLION * NANO_PER_USD:
                raise Invalid(f"a price of {amount} nano-dollars per million tokens is not possible", where="price")
        steps = [part.above for part in self.long_prompts]
        if any(step < 1 for step in steps) or steps != sorted(set(steps)):
            raise Invalid("the steps of long prompts must be positive and grow", where="price")

    @classmethod
    def from_usd(
        cls,
        *,
        input_per_million: str,
        output_per_million: str,
        cached_input_per_million: str | None = None,
        cache_write_per_million: str | None = None,
        per_request: str = "0",
        long_prompts: tuple[LongPrompt, ...] = (),
        version: str = "settings",
    ) -> Price:
        """From decimal dollars per million tokens ("0.0375"), exactly; finer than a nano-dollar is refused."""
        return cls(
            input_per_million_nanodollars=nanodollars_of(input_per_million),
            output_per_million_nanodollars=nanodollars_of(output_per_million),
            cached_input_per_million_nanodollars=_perhaps(cached_input_per_million),
            cache_write_per_million_nanodollars=_perhaps(cache_write_per_million),
            per_request_nanodollars=nanodollars_of(per_request),
            long_prompts=long_prompts,
            version=version,
        )

    @property
    def free(self) -> bool:
        """Whether no call can cost anything."""
        return self.per_request_nanodollars == 0 and not any(
            max(lines.inputs) or lines.output for lines in self._reachable(None)
        )

    def cost(self, usage: Usage) -> int:
        """What this usage costs: each line rounded up. Errors: Invalid for counts that can not be."""
        lines = self._in_force(usage.input_tokens)
        return self.per_request_nanodollars + lines.input_cost(usage) + _line(usage.output_tokens, lines.output)

    def ceiling(self, request: Billable) -> int:
        """What the request can cost at most."""
        bound, most = request.input_token_bound, request.max_output_tokens
        return self.per_request_nanodollars + max(
            lines.most_for(bound) + _line(most, lines.output) for lines in self._reachable(bound)
        )

    def max_output_for(self, cap_nanodollars: int, request: Billable) -> int:
        """How many tokens may come out so that the call stays within the cap: never more than the request wants.

        Zero means that the cap does not even pay for what goes in (or for one token more).
        """
        bound = request.input_token_bound
        allowed = request.max_output_tokens
        for lines in self._reachable(bound):
            left = cap_nanodollars - self.per_request_nanodollars - lines.most_for(bound)
            if left < 0:
                return 0
            if lines.output:
                allowed = min(allowed, left * MILLION // lines.output)
        return allowed

    def _in_force(self, input_tokens: int) -> _Lines:
        """The lines for a prompt of exactly so many tokens."""
        lines = self._reachable(None)
        return lines[sum(part.above < input_tokens for part in self.long_prompts)]

    def _reachable(self, at_most: int | None) -> list[_Lines]:
        """The lines that a prompt of at most so many tokens may be billed by; None: all."""
        short = _Lines(
            input=self.input_per_million_nanodollars,
            cached=_or(self.cached_input_per_million_nanodollars, self.input_per_million_nanodollars),
            write=_or(self.cache_write_per_million_nanodollars, self.input_per_million_nanodollars),
            output=self.output_per_million_nanodollars,
        )
        return [short, *(_long(part, short) for part in self.long_prompts if at_most is None or part.above < at_most)]


def _long(part: LongPrompt, short: _Lines) -> _Lines:
    price = part.input_per_million_nanodollars
    return _Lines(
        input=price,
        cached=_or(part.cached_input_per_million_nanodollars, max(short.cached, price)),
        write=_or(part.cache_write_per_million_nanodollars, max(short.write, price)),
        output=part.output_per_million_nanodollars,
    )


def token_bound(texts: Iterable[str]) -> int:
    """At least as many tokens as a byte-level tokenizer makes of these messages: UTF-8 bytes and a constant each."""
    return TOKENS_PER_REQUEST + sum(len(text.encode("utf-8", "surrogatepass")) + TOKENS_PER_MESSAGE for text in texts)


def usd_per_million(nanodollars: int) -> str:
    """A price as exact decimal dollars, without trailing zeros: for people."""
    whole, rest = divmod(nanodollars, NANO_PER_USD)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def nanodollars_of(usd: str) -> int:
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


def _perhaps(usd: str | None) -> int | None:
    return None if usd is None else nanodollars_of(usd)


def _or(told: int | None, otherwise: int) -> int:
    return otherwise if told is None else told


def _line(tokens: int, per_million: int) -> int:
    if tokens < 0:
        raise Invalid(f"{tokens} tokens cannot be priced", where="usage")
    return -(-tokens * per_million // MILLION)
