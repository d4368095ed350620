from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.errors import Invalid
from mainstay.models.chat import ChatRequest, Message
from mainstay.models.prices import LongPrompt, Price, nanodollars_of, token_bound, usd_per_million
from mainstay.types import Usage

amounts = st.integers(0, 10**12)


def ask(*texts: str, most: int = 1000) -> ChatRequest:
    return ChatRequest(
        messages=tuple(Message(role="user", content=text) for text in texts), max_output_tokens=most, deadline=0.0
    )


def test_dollars_become_nanodollars_exactly() -> None:
    price = Price.from_usd(input_per_million="0.0375", output_per_million="0.15")
    assert price == Price(input_per_million_nanodollars=37_500_000, output_per_million_nanodollars=150_000_000)


@given(st.decimals(0, 1000, allow_nan=False, allow_infinity=False, places=9))
def test_every_price_of_nine_decimals_is_exact(usd: Decimal) -> None:
    price = Price.from_usd(input_per_million=str(usd), output_per_million="0")
    assert Decimal(price.input_per_million_nanodollars) == usd * 10**9


@pytest.mark.parametrize("usd", ["", "free", "NaN", "Infinity", "-1", "0.0000000001", "1e30", "1,5", "1e-999999"])
def test_an_impossible_price_is_refused(usd: str) -> None:
    with pytest.raises(Invalid):
        Price.from_usd(input_per_million=usd, output_per_million="0")


def test_each_line_is_rounded_up() -> None:
    price = Price(input_per_million_nanodollars=1, output_per_million_nanodollars=1)
    assert price.cost(Usage(input_tokens=1, output_tokens=1)) == 2
    assert price.cost(Usage()) == 0


def test_a_negative_usage_has_no_price() -> None:
    with pytest.raises(Invalid):
        Price(input_per_million_nanodollars=1, output_per_million_nanodollars=1).cost(Usage(input_tokens=-1))


def test_a_free_model_is_limited_by_the_request_only() -> None:
    free = Price(input_per_million_nanodollars=0, output_per_million_nanodollars=0)
    assert free.max_output_for(0, ask("hello", most=77)) == 77
    assert free.ceiling(ask("hello")) == 0


@given(amounts, amounts, st.integers(0, 10**13), st.text(max_size=200), st.integers(1, 10**6))
def test_what_the_cap_allows_stays_within_the_cap_and_one_more_does_not(
    input_price: int, output_price: int, cap: int, text: str, most: int
) -> None:
    price = Price(input_per_million_nanodollars=input_price, output_per_million_nanodollars=output_price)
    request = ask(text, most=most)
    allowed = price.max_output_for(cap, request)
    assert 0 <= allowed <= most

    def cost(output: int) -> int:
        return price.cost(Usage(input_tokens=request.input_token_bound, output_tokens=output))

    if allowed:
        assert cost(allowed) <= cap
    if allowed < most:
        assert cost(allowed + 1) > cap


@given(st.lists(st.text(max_size=100), min_size=1, max_size=5))
def test_the_token_bound_counts_at_least_every_byte(texts: list[str]) -> None:
    assert token_bound(texts) >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def test_a_schema_counts() -> None:
    plain = ask("hello")
    schema = ChatRequest(
        messages=plain.messages, max_output_tokens=1, deadline=0.0, json_schema={"description": "x" * 1000}
    )
    assert schema.input_token_bound > plain.input_token_bound + 1000


# Lines, steps and fees

steps = st.lists(st.integers(1, 5000), max_size=3, unique=True).map(sorted)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """Any price: dear and cheap lines, lines told and untold, steps up and down."""
    line = st.one_of(st.integers(0, 5 * 10**6), amounts)
    told = st.none() | line
    return Price(
        input_per_million_nanodollars=draw(line),
        output_per_million_nanodollars=draw(line),
        cached_input_per_million_nanodollars=draw(told),
        cache_write_per_million_nanodollars=draw(told),
        per_request_nanodollars=draw(st.sampled_from([0, 1, 10**7])),
        long_prompts=tuple(
            LongPrompt(
                above=above,
                input_per_million_nanodollars=draw(line),
                output_per_million_nanodollars=draw(line),
                cached_input_per_million_nanodollars=draw(told),
                cache_write_per_million_nanodollars=draw(told),
            )
            for above in draw(steps)
        ),
    )


@st.composite
def usages(draw: st.DrawFn, most_in: int, most_out: int) -> Usage:
    tokens = draw(st.integers(0, most_in))
    cached = draw(st.integers(0, tokens))
    return Usage(
        input_tokens=tokens,
        output_tokens=draw(st.integers(0, most_out)),
        cached_input_tokens=cached,
        cache_write_tokens=draw(st.integers(0, tokens - cached)),
    )


@given(prices(), st.data(), st.text(max_size=200), st.integers(1, 10**6))
def test_no_usage_within_the_bounds_costs_more_than_the_ceiling(
    price: Price, data: st.DataObject, text: str, most: int
) -> None:
    request = ask(text * 10, most=most)
    usage = data.draw(usages(request.input_token_bound, most))
    assert price.cost(usage) <= price.ceiling(request)


@given(prices(), st.data(), st.text(max_size=200), st.integers(0, 10**13), st.integers(1, 10**6))
def test_no_usage_within_what_the_cap_allows_costs_more_than_the_cap(
    price: Price, data: st.DataObject, text: str, cap: int, most: int
) -> None:
    request = ask(text * 10, most=most)
    allowed = price.max_output_for(cap, request)
    assert 0 <= allowed <= most
    if allowed:
        assert price.cost(data.draw(usages(request.input_token_bound, allowed))) <= cap


@given(prices(), st.text(max_size=50))
def test_what_is_free_costs_nothing_and_the_rest_can_cost(price: Price, text: str) -> None:
    lengths = [1, *(part.above + 1 for part in price.long_prompts)]
    many = [Usage(input_tokens=n, output_tokens=10**12) for n in lengths]
    many += [Usage(input_tokens=n, cached_input_tokens=n) for n in lengths]
    many += [Usage(input_tokens=n, cache_write_tokens=n) for n in lengths]
    assert price.free == (max(map(price.cost, many)) == 0)
    if price.free:
        assert price.ceiling(ask(text)) == 0


def test_each_line_has_its_price() -> None:
    price = Price.from_usd(
        input_per_million="3",
        output_per_million="15",
        cached_input_per_million="0.3",
        cache_write_per_million="3.75",
        per_request="0.01",
    )
    usage = Usage(input_tokens=1000, cached_input_tokens=600, cache_write_tokens=100, output_tokens=10)
    assert price.cost(usage) == 10_000_000 + 300 * 3000 + 600 * 300 + 100 * 3750 + 10 * 15_000
    assert not price.free


def test_a_long_prompt_reprices_the_whole_call() -> None:
    price = Price.from_usd(
        input_per_million="1",
        output_per_million="2",
        cache_write_per_million="1.25",
        long_prompts=(
            LongPrompt(above=1000, input_per_million_nanodollars=2 * 10**9, output_per_million_nanodollars=3 * 10**9),
        ),
    )
    assert price.cost(Usage(input_tokens=1000, output_tokens=10)) == 1000 * 1000 + 10 * 2000
    assert price.cost(Usage(input_tokens=1001, output_tokens=10)) == 1001 * 2000 + 10 * 3000
    assert price.cost(Usage(input_tokens=1001, cached_input_tokens=1001)) == 1001 * 2000, "an untold line is the dearer"
    short, long = ask("x" * 700), ask("x" * 900)
    assert price.ceiling(short) == short.input_token_bound * 1250 + 1000 * 2000 + 1
    assert price.ceiling(long) == long.input_token_bound * 2000 + 1000 * 3000


@pytest.mark.parametrize("wrong", [(2, 2), (3, 2), (0,)])
def test_steps_must_grow(wrong: tuple[int, ...]) -> None:
    parts = tuple(LongPrompt(above=n, input_per_million_nanodollars=1, output_per_million_nanodollars=1) for n in wrong)
    with pytest.raises(Invalid):
        Price(input_per_million_nanodollars=1, output_per_million_nanodollars=1, long_prompts=parts)


@pytest.mark.parametrize("usage", [Usage(input_tokens=1, cached_input_tokens=2), Usage(cached_input_tokens=-1)])
def test_a_usage_whose_parts_exceed_it_has_no_price(usage: Usage) -> None:
    with pytest.raises(Invalid):
        Price(input_per_million_nanodollars=1, output_per_million_nanodollars=1).cost(usage)


@given(st.integers(0, 10**15))
def test_a_shown_price_reads_back(amount: int) -> None:
    assert nanodollars_of(usd_per_million(amount)) == amount
