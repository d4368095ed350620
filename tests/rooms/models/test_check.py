"""What a check of a model finds out, in both wire formats."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import upstream as up
from tests.support.formats import FORMATS
from tests.support.upstream import Behaviour, Upstream

from mainstay.errors import Exhausted
from mainstay.models.chat import ChatModel
from mainstay.models.check import Checked, check
from mainstay.models.prices import Price
from mainstay.models.providers import build_model
from mainstay.models.providers.wire import Wire
from mainstay.settings import ProviderSettings

PRICE = Price.from_usd(input_per_million="1", output_per_million="2")
CAP = 10_000_000
READY = '{"ready": true}'


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


def model_at(upstream: Upstream, wire: Wire, kind: str, **settings: Any) -> ChatModel:
    told = ProviderSettings(base_url=upstream.base_url, model="scripted", kind=kind, **settings)  # type: ignore[arg-type] # of FORMATS
    return build_model("writer", told, wire, PRICE)


def checked(model: ChatModel, **more: Any) -> Checked:
    return check(model, cap_nanodollars=CAP, deadline=lambda: time.monotonic() + 20, **more)


def in_json(text: str = READY) -> Behaviour:
    """As the format gives JSON: in the text, or in a form."""

    def behave(call: up.Call) -> None:
        form = bool(call.seen.body.get("tools"))
        up.good(
            "" if form else text, reason="tool" if form else "stop", calls=[("a", "answer", [text])] if form else ()
        )(call)

    return behave


@pytest.mark.parametrize("kind", FORMATS)
def test_a_server_that_can_everything(wire: Wire, kind: str) -> None:
    with Upstream(in_json()) as upstream:
        found = checked(model_at(upstream, wire, kind))
        assert len(upstream.calls) == 1
    assert (found.ok, found.streaming, found.usage, found.end_frame, found.json) == (True, True, True, True, True)
    assert 0 < found.cost_nanodollars <= CAP


@pytest.mark.parametrize("kind", FORMATS)
def test_one_that_stumbles_over_json_is_asked_once_more(wire: Wire, kind: str) -> None:
    with Upstream(up.status(500), up.good("ready", usage=None)) as upstream:
        found = checked(model_at(upstream, wire, kind))
        assert len(upstream.calls) == 2
    assert (found.ok, found.json, found.usage) == (True, False, False)
    assert "server" in found.detail
    assert found.cost_nanodollars <= CAP, "what was not told is booked at its most, for both calls"


@pytest.mark.parametrize("kind", FORMATS)
def test_words_instead_of_json_are_seen(wire: Wire, kind: str) -> None:
    with Upstream(up.good("Certainly!")) as upstream:
        assert checked(model_at(upstream, wire, kind)).json is False


@pytest.mark.parametrize("kind", FORMATS)
def test_a_refused_key_is_a_result(wire: Wire, kind: str) -> None:
    with Upstream(up.status(401)) as upstream:
        found = checked(model_at(upstream, wire, kind))
        assert len(upstream.calls) == 1
    assert (found.ok, found.cost_nanodollars) == (False, 0)
    assert found.detail.startswith("auth: ")


def test_a_server_without_end_frame_and_one_without_stream(wire: Wire) -> None:
    with Upstream(up.cut(READY, reason="stop"), up.good_json(READY)) as upstream:
        first, second = (checked(model_at(upstream, wire, "openai-compatible", sends_end_frame=False)) for _ in "12")
    assert (first.streaming, first.end_frame, first.json) == (True, False, True)
    assert (second.streaming, second.end_frame) == (False, None)


def test_nothing_is_called_that_the_cap_does_not_pay(wire: Wire) -> None:
    with Upstream() as upstream:
        with pytest.raises(Exhausted, match="at least"):
            check(model_at(upstream, wire, "openai-compatible"), cap_nanodollars=1000, deadline=time.monotonic)
        assert not upstream.calls


def test_the_output_is_limited_to_what_the_cap_pays(wire: Wire) -> None:
    with Upstream() as upstream:
        model = model_at(upstream, wire, "openai-compatible")
        check(model, cap_nanodollars=600_000, deadline=lambda: time.monotonic() + 20, json_asked=False)
        assert 1 <= upstream.calls[0].body["max_tokens"] < 256
