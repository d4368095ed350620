"""Prices of the operator and of the list."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from genai_prices import data
from genai_prices.types import ModelPrice

from mainstay.errors import Invalid
from mainstay.models.price_list import known_price, list_version, price_of
from mainstay.models.prices import MILLION, Price
from mainstay.settings import LongPromptSettings, PriceSettings, ProviderSettings
from mainstay.types import Usage

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def provider(**settings: Any) -> ProviderSettings:
    return ProviderSettings(**{"base_url": "http://127.0.0.1:8000/v1", "model": "scripted", **settings})


def test_the_operators_price_wins() -> None:
    told = PriceSettings(
        input="1",
        output="2",
        cached_input="0.1",
        cache_write="1.25",
        request="0.001",
        long_prompt=LongPromptSettings(above=1000, input="3", output="4"),
    )
    price = price_of("writer", provider(base_url=OPENAI, model="gpt-4o-mini", price=told))
    assert price.version == "settings"
    assert price.cost(Usage(input_tokens=MILLION, output_tokens=MILLION)) == 7_001_000_000
    assert price.cost(Usage(input_tokens=1000, cached_input_tokens=1000)) == 1000 * 100 + 1_000_000


def test_an_unknown_price_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(Invalid, match=r"models\.providers\.writer has no price.*add price"):
        price_of("writer", provider())


@pytest.mark.parametrize("amount", ["", "free", "-1", "0.0000000001"])
def test_a_price_that_is_none_is_refused(amount: str) -> None:
    with pytest.raises(Invalid):
        price_of("writer", provider(price=PriceSettings(input=amount, output="0")))


def test_the_list_knows_models_where_they_are_sold() -> None:
    price = known_price("gpt-4o-mini", OPENAI, at=NOW)
    assert price is not None
    assert price.version == list_version()
    assert price == price_of("writer", provider(base_url=OPENAI, model="gpt-4o-mini"), at=NOW)
    assert not price.free
    assert known_price("GPT-4o-mini", OPENAI, at=NOW) == price
    assert known_price("gpt-4o-mini-2024-07-18", OPENAI, at=NOW) is not None
    dated = known_price("claude-haiku-4-5-20251001", ANTHROPIC, at=NOW)
    assert dated == known_price("claude-haiku-4-5", ANTHROPIC, at=NOW)
    assert dated is not None
    assert (dated.cached_input_per_million_nanodollars or 0) < dated.input_per_million_nanodollars
    assert (dated.cache_write_per_million_nanodollars or 0) > dated.input_per_million_nanodollars


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("gpt-4o-mini", "http://127.0.0.1:8000/v1"),  # somebody else's server
        ("gpt-4o-mini", "https://gateway.example.org/v1"),
        ("gpt-4o-mini-extended", OPENAI),  # a name that only begins like it
        ("my-claude-haiku-4-5", ANTHROPIC),
        ("claude-haiku-4-5-turbo", ANTHROPIC),
        ("claude", ANTHROPIC),
        ("gpt-4o", "https://name.openai.azure.com/openai/v1"),  # the name of a deployment
        ("deepseek/deepseek-r1:free", "https://openrouter.ai/api/v1"),  # free is for the operator to say
        ("text-embedding-3-small", OPENAI),  # has no price for output
        ("", OPENAI),
    ],
)
def test_what_is_not_exactly_it_is_unknown(model: str, base_url: str) -> None:
    assert known_price(model, base_url, at=NOW) is None


def test_an_embedder_needs_no_price_for_output() -> None:
    price = known_price("text-embedding-3-small", OPENAI, embeds=True, at=NOW)
    assert price is not None
    assert price.output_per_million_nanodollars == 0


def test_of_prices_by_time_of_day_the_dearest_counts() -> None:
    base = "https://api.deepseek.com"
    assert known_price("deepseek-chat", base, at=NOW) == known_price("deepseek-chat", base, at=NOW.replace(hour=12))


def test_a_step_for_long_prompts_is_kept() -> None:
    price = known_price("claude-sonnet-4-5", ANTHROPIC, at=NOW)
    assert price is not None
    (step,) = price.long_prompts
    long, short = Usage(input_tokens=step.above + 1), Usage(input_tokens=step.above)
    assert price.cost(long) > 1.5 * price.cost(short)


def test_the_whole_list_reads_as_the_library_reckons_it() -> None:
    """Many models of some providers that have one plain price: ours is theirs, rounded up."""
    compared = 0
    for sold in data.providers:
        urls = {"openai": OPENAI, "anthropic": ANTHROPIC, "openrouter": "https://openrouter.ai/api/v1"}
        for entry in sold.models[:120] if sold.id in urls else ():
            price = known_price(entry.id, urls[sold.id], at=NOW)
            if price is None or not isinstance(entry.prices, ModelPrice) or "requests_kcount" in vars(entry.prices):
                continue
            usage = Usage(input_tokens=10_007, output_tokens=1_003, cached_input_tokens=5_001)
            theirs = entry.prices.calc_price(_Asked())["total_price"] * 10**9
            assert 0 <= price.cost(usage) - theirs <= 3, entry.id
            compared += 1
    assert compared > 150


class _Asked:
    input_tokens, output_tokens, cache_read_tokens = 10_007, 1_003, 5_001


def test_nothing_is_fetched_and_nothing_is_loaded_before_it_is_needed() -> None:
    code = (
        "import socket, sys\n"
        "def no(*_): raise AssertionError('connects')\n"
        "socket.socket.connect = no; socket.getaddrinfo = no\n"
        "import mainstay.models.price_list as list_\n"
        "assert not [m for m in sys.modules if m.startswith('genai_prices') or m == 'httpx2']\n"
        f"print(list_.known_price('gpt-4o-mini', {OPENAI!r}) is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"


def test_a_price_of_the_list_is_the_same_for_good() -> None:
    first, second = (known_price("gpt-5", OPENAI, at=NOW) for _ in range(2))
    assert isinstance(first, Price)
    assert first == second
