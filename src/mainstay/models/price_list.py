"""What models cost: what the operator says, else the price list that comes with `genai-prices`.

The list is data in the installed package; nothing is fetched. It counts only where it names exactly this model at exactly
this address: a price that is likely is a guess, and money is never guessed. What it gives is fixed when the service starts
and named in every record (`Price.version`).

Not taken from the list: a price of zero (whether a model is free is for the operator to say), charges that do not follow
from the tokens of a text, and models at addresses where everybody names his own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from mainstay.errors import Invalid
from mainstay.models.prices import LongPrompt, Price, nanodollars_of

if TYPE_CHECKING:
    from genai_prices import types as listed

PACKAGE = "genai-prices"
OWN_NAMES = frozenset({"azure", "baseten", "databricks", "modal"})
"""Providers whose customers name their deployments: there the name says nothing about the model behind it."""
_DATE = re.compile(r"[-@]?(?:20\d{6}|20\d\d-\d\d-\d\d)")
_LINES = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
_REASONING = "output_reasoning_mtok"
_REQUESTS = "requests_kcount"
_OTHER_MODALITY = re.compile(r"audio|image|video|pages|pixels")  # never sent here
_ON_DEMAND = re.compile(r"_searches_|_executions_|_1h_|^cache_write_5m_")  # never asked for here


class LongPromptTold(Protocol):
    """The step of the settings."""

    @property
    def above(self) -> int: ...
    @property
    def input(self) -> str: ...
    @property
    def output(self) -> str: ...


class PriceTold(Protocol):
    """US dollars per million tokens (`request`: per call), as decimal text, as settings have them."""

    @property
    def input(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def cached_input(self) -> str | None: ...
    @property
    def cache_write(self) -> str | None: ...
    @property
    def request(self) -> str: ...
    @property
    def long_prompt(self) -> LongPromptTold | None: ...


class Priced(Protocol):
    """What of a provider's settings decides about its price."""

    @property
    def base_url(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def dims(self) -> int | None: ...
    @property
    def price(self) -> PriceTold | None: ...


def price_of(name: str, provider: Priced, *, at: datetime | None = None) -> Price:
    """The price of models.providers.NAME: the operator's, else the list's.

    Errors: Invalid when it is known to neither: a model without a price is not called.
    """
    if provider.price is not None:
        return told_price(provider.price)
    found = known_price(provider.model, provider.base_url, embeds=provider.dims is not None, at=at)
    if found is None:
        raise Invalid(
            f"models.providers.{name} has no price, and the price list does not know {provider.model!r} there",
            where="mainstay.yaml",
            fix='add price: {input: "0.15", output: "0.60"} in US dollars per million tokens, "0" if it is free',
        )
    return found


def told_price(told: PriceTold) -> Price:
    """The operator's price."""
    step = told.long_prompt
    long_prompts = () if step is None else (
        LongPrompt(
            above=step.above,
            input_per_million_nanodollars=nanodollars_of(step.input),
            output_per_million_nanodollars=nanodollars_of(step.output),
        ),
    )  # fmt: skip
    return Price.from_usd(
        input_per_million=told.input,
        output_per_million=told.output,
        cached_input_per_million=told.cached_input,
        cache_write_per_million=told.cache_write,
        per_request=told.request,
        long_prompts=long_prompts,
        version="settings",
    )


def known_price(model: str, base_url: str, *, embeds: bool = False, at: datetime | None = None) -> Price | None:
    """The price of exactly this model at exactly this address, if the list has one and no more than one.

    `embeds`: the model makes vectors, so that it has no price for output. `at` is the day the price must be in force, by
    default today; of prices by time of day the dearest counts.
    """
    from genai_prices import data  # costs 0.2 s, needed where the settings tell no price

    found: list[Price | None] = []
    for provider in data.providers:
        if provider.id in OWN_NAMES or not re.match(provider.api_pattern, base_url, re.IGNORECASE):
            continue
        named = [entry for entry in provider.models if _is_named(entry, model.lower())]
        found += [_price(entry, embeds, at or datetime.now(UTC)) for entry in named]
    prices = set(found)
    return prices.pop() if len(prices) == 1 else None


@cache
def list_version() -> str:
    """Names the list, as records have it."""
    return f"{PACKAGE} {version(PACKAGE)}"


def _is_named(entry: listed.ModelInfo, model: str) -> bool:
    """Whether the entry is about this very model: its id or one of its names, with or without the date of a snapshot."""
    if model == entry.id.lower() or any(model == name for name, whole in _names(entry.match) if whole):
        return True
    return entry.match.is_match(model) and any(
        model.startswith(name) and _DATE.fullmatch(model[len(name) :]) for name, _ in _names(entry.match)
    )


def _names(match: Any) -> Iterator[tuple[str, bool]]:
    """The names in a rule of the list, each with whether it is the whole name or how it begins. Rules by parts of a name or
    by pattern tell no name."""
    if (whole := getattr(match, "equals", None)) is not None:
        yield whole.lower(), True
    elif (beginning := getattr(match, "starts_with", None)) is not None:
        yield beginning.lower(), False
    for part in getattr(match, "or_", None) or ():
        yield from _names(part)


def _price(entry: listed.ModelInfo, embeds: bool, at: datetime) -> Price | None:
    """The entry's price, if it is of a kind that this service can keep."""
    dearest: dict[int, dict[str, Decimal]] = {}  # by the step from which it counts
    per_request = Decimal(0)
    for lines in _in_force(entry, at):
        unknown = [
            key
            for key in lines
            if key not in (*_LINES, _REASONING, _REQUESTS)
            and not _OTHER_MODALITY.search(key)
            and not _ON_DEMAND.search(key)
        ]
        if unknown or "input_mtok" not in lines or ("output_mtok" not in lines and not embeds):
            return None
        per_request = max(per_request, _at(lines.get(_REQUESTS), 0) / 1000)
        steps = {0} | {tier.start for line in lines.values() for tier in getattr(line, "tiers", ())}
        for step in steps:
            by_key = {key: _at(lines[key], step) for key in (*_LINES, _REASONING) if key in lines}
            by_key["output_mtok"] = max(by_key.get("output_mtok", Decimal(0)), by_key.pop(_REASONING, Decimal(0)))
            held = dearest.setdefault(step, {})
            for key, amount in by_key.items():
                held[key] = max(amount, held.get(key, Decimal(0)))
    if not any(amount for held in dearest.values() for amount in held.values()):
        return None
    first, *more = (_nano(dearest[step]) for step in sorted(dearest))
    return Price(
        **first,
        per_request_nanodollars=_up(per_request),
        long_prompts=tuple(
            LongPrompt(above=step, **lines) for step, lines in zip(sorted(dearest)[1:], more, strict=True)
        ),
        version=list_version(),
    )


def _in_force(entry: listed.ModelInfo, at: datetime) -> list[dict[str, Any]]:
    """The prices of that day: one, or one for each time of the day."""
    if not isinstance(entry.prices, list):
        return [_told(entry.prices)]
    found: list[dict[str, Any]] = []
    for conditional in reversed(entry.prices):  # the later wins
        constraint = conditional.constraint
        by_day = getattr(constraint, "start_date", None)
        if constraint is None or (by_day is not None and constraint.active(at)):
            return [*found, _told(conditional.prices)]
        if by_day is None:
            found.append(_told(conditional.prices))
    return [*found, _told(entry.prices[0].prices)]


def _told(prices: listed.ModelPrice) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _at(line: Any, step: int) -> Decimal:
    """A line's price for prompts above this step."""
    if line is None or isinstance(line, Decimal):
        return line or Decimal(0)
    price: Decimal = line.base
    for tier in line.tiers:
        if tier.start <= step and step > 0:
            price = tier.price
    return price


def _nano(lines: Mapping[str, Decimal]) -> dict[str, Any]:
    written, cached = lines.get("cache_write_mtok"), lines.get("cache_read_mtok")
    return {
        "input_per_million_nanodollars": _up(lines["input_mtok"]),
        "output_per_million_nanodollars": _up(lines["output_mtok"]),
        "cached_input_per_million_nanodollars": None if cached is None else _up(cached),
        "cache_write_per_million_nanodollars": None if written is None else _up(written),
    }


def _up(usd: Decimal) -> int:
    """Dollars as nano-dollars, rounded up: the list has some that are finer."""
    return int((usd * 1_000_000_000).to_integral_value(rounding=ROUND_CEILING))
