from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.errors import Invalid
from mainstay.models.chat import ChatRequest, Message
from mainstay.models.prices import Price, token_bound
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
