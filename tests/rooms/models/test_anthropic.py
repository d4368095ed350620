"""The Anthropic wire format; its failures are in test_faults.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import upstream as up
from tests.support.faults import TOOL
from tests.support.formats import ANTHROPIC
from tests.support.upstream import Upstream

from mainstay.errors import Invalid
from mainstay.models.chat import ChatModel, ChatRequest, Delta, Done, FailureKind, Message, ModelFailure, ToolCall
from mainstay.models.prices import Price
from mainstay.models.providers import build_embedder, build_model
from mainstay.models.providers.wire import Wire
from mainstay.settings import ProviderSettings
from mainstay.types import Usage

KEY = "sk-ant-verysecret-0123"
FREE = Price(input_per_million_nanodollars=0, output_per_million_nanodollars=0)
SCHEMA = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


def model_at(upstream: Upstream, wire: Wire, **settings: Any) -> ChatModel:
    told = {"base_url": upstream.base_url, "model": "scripted", "kind": "anthropic", "api_key": KEY, **settings}
    return build_model("careful", ProviderSettings(**told), wire, FREE)


def ask(*messages: Message, **more: Any) -> ChatRequest:
    said = messages or (Message(role="system", content="Be kind."), Message(role="user", content="What is it?"))
    return ChatRequest(**{"messages": said, "max_output_tokens": 100, "deadline": time.monotonic() + 20, **more})


def test_a_stream_is_deltas_and_one_done(wire: Wire) -> None:
    with Upstream(up.good("Grüß Gott, Wien! 🎡", thoughts=1)) as upstream:
        *deltas, done = list(model_at(upstream, wire).stream(ask()))
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == "Grüß Gott, Wien! 🎡"
    assert isinstance(done, Done)
    assert (done.reason, done.streamed, done.end_frame) == ("stop", True, True)
    assert done.usage == Usage(input_tokens=5, output_tokens=5)


def test_the_request_is_what_the_settings_say(wire: Wire) -> None:
    with Upstream() as upstream:
        model_at(upstream, wire).complete(ask(stop=("END",), temperature=2.0))
        model_at(
            upstream, wire, takes_temperature=False, api_version="2026-10-21", auth_header="authorization"
        ).complete(ask(Message(role="user", content="Hello."), json_schema=SCHEMA))
        model_at(upstream, wire, json="none", headers={"x-team": "docs"}, api_key="").complete(ask(json_schema=SCHEMA))
        first, second, third = upstream.calls
    assert first.path == "/v1/messages"
    assert (first.headers["x-api-key"], first.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in first.headers
    assert first.body == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "What is it?"}],
        "system": "Be kind.",
        "max_tokens": 100,
        "stream": True,
        "temperature": 1.0,
        "stop_sequences": ["END"],
    }
    assert (second.headers["authorization"], second.headers["anthropic-version"]) == (f"Bearer {KEY}", "2026-10-21")
    assert not second.body.keys() & {"system", "temperature"}
    assert second.body["tools"][0]["input_schema"] == SCHEMA
    assert second.body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "tools" not in third.body
    assert third.headers["x-team"] == "docs"
    assert "x-api-key" not in third.headers


def test_a_conversation_with_tools_goes_there_and_back(wire: Wire) -> None:
    asked = ToolCall(id="call_0", name=TOOL.name, arguments_json='{"word": "mainstay"}')
    other = ToolCall(id="call_1", name=TOOL.name, arguments_json="{}")
    calls = [(asked.id, asked.name, ['{"word": ', '"mainstay"}']), (other.id, other.name, [])]
    with Upstream(up.good("I look.", reason="tool", calls=calls)) as upstream:
        model = model_at(upstream, wire)
        completion = model.complete(ask(tools=(TOOL,)))
        assert (completion.text, completion.reason, completion.tool_calls) == ("I look.", "tool", (asked, other))
        model.complete(
            ask(
                Message(role="user", content="What is it?"),
                Message(role="assistant", content="I look.", tool_calls=completion.tool_calls),
                Message(role="tool", content="A rope.", tool_call_id="call_0"),
                Message(role="tool", content="Nothing.", tool_call_id="call_1"),
                tools=(TOOL,),
            )
        )
        told = upstream.calls[1].body["messages"]
    assert [turn["role"] for turn in told] == ["user", "assistant", "user"]
    assert [block["type"] for block in told[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert told[1]["content"][1]["input"] == {"word": "mainstay"}
    assert [block["tool_use_id"] for block in told[2]["content"]] == ["call_0", "call_1"]


def filled(*pieces: str, reason: str = "tool") -> up.Behaviour:
    """A form filled in, after a few words beside it."""
    return up.good("Here it is.", reason=reason, calls=[("call_0", "answer", pieces)])


def test_json_is_a_form_that_is_filled_in(wire: Wire) -> None:
    with Upstream(filled('{"ready": ', "true}")) as upstream:
        completion = model_at(upstream, wire).complete(ask(json_schema=SCHEMA))
    assert (json.loads(completion.text), completion.reason, completion.tool_calls) == ({"ready": True}, "stop", ())


def test_a_form_that_is_not_filled_in_to_the_end_is_no_answer(wire: Wire) -> None:
    with Upstream(filled('{"ready": ')) as upstream, pytest.raises(ModelFailure) as caught:
        model_at(upstream, wire).complete(ask(json_schema=SCHEMA))
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize("form", [True, False])
def test_a_document_in_answer_to_a_stream_request_is_understood(wire: Wire, form: bool) -> None:
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes."}]
    if form:
        blocks.append({"type": "tool_use", "id": "a", "name": "answer", "input": {"ready": True}})  # type: ignore[dict-item] # JSON
    usage = {"input_tokens": 9, "cache_read_input_tokens": 90, "output_tokens": 3}
    document = {"type": "message", "content": blocks, "stop_reason": "tool_use" if form else "end_turn", "usage": usage}
    with Upstream(lambda call: call.whole(200, document)) as upstream:
        *deltas, done = list(model_at(upstream, wire).stream(ask(json_schema=SCHEMA if form else None)))
    assert deltas == [Delta(text='{"ready": true}' if form else "Yes.")]
    assert done == Done(
        reason="stop",
        usage=Usage(input_tokens=99, output_tokens=3, cached_input_tokens=90),
        streamed=False,
    )


def test_usage_adds_the_cache_and_takes_the_latest_count(wire: Wire) -> None:
    start = ANTHROPIC.opening().replace(
        '"input_tokens": 9', '"input_tokens": 7, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50'
    )
    middle = ANTHROPIC._event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}})
    usage = {"output_tokens": 20, "input_tokens": 10, "output_tokens_details": {"thinking_tokens": 15}}
    spoken = up.streamed(
        start, up.said("Yes."), ANTHROPIC.stopped(0), middle, ANTHROPIC.ending("stop", usage, close=False), up.end_frame
    )
    with Upstream(spoken) as upstream:
        completion = model_at(upstream, wire).complete(ask())
    assert completion.usage == Usage(
        input_tokens=100, output_tokens=20, cached_input_tokens=40, cache_write_tokens=50, reasoning_tokens=15
    )


@pytest.mark.parametrize(
    "usage",
    [
        {"output_tokens": -1},
        {"output_tokens": "3"},
        {"output_tokens": True},
        {"output_tokens": 10**9},
        {"output_tokens": 3, "input_tokens": 0},
        {"output_tokens": 3, "cache_read_input_tokens": -4},
        {"output_tokens": 3, "output_tokens_details": {"thinking_tokens": 4}},
        {},
        "absurd",
    ],
)
def test_an_absurd_usage_is_none(wire: Wire, usage: object) -> None:
    with Upstream(up.good("Yes.", usage=usage)) as upstream:
        assert model_at(upstream, wire).complete(ask()).usage is None


def test_what_is_not_known_is_progress_and_nothing_else(wire: Wire) -> None:
    spoken = up.streamed(
        ANTHROPIC._event({"type": "ping"}),
        up.opened,
        up.said("Yes"),
        ANTHROPIC._event({"type": "something_new"}),
        ANTHROPIC.delta(0, {"type": "citations_delta", "citation": {}}),
        ANTHROPIC.stopped(0),
        ANTHROPIC.begun(1, {"type": "redacted_thinking", "data": "x"}),
        ANTHROPIC.stopped(1),
        ANTHROPIC.ending("stop", close=False),
        ANTHROPIC._event({"type": "ping"}),
        up.end_frame,
    )
    with Upstream(spoken) as upstream:
        assert model_at(upstream, wire).complete(ask()).text == "Yes"


@pytest.mark.parametrize(
    ("told", "reason"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("pause_turn", "length"),
     ("refusal", "content_filter"), ("model_context_window_exceeded", "length")],
)  # fmt: skip
def test_end_reasons(wire: Wire, told: str, reason: str) -> None:
    with Upstream(up.good("Yes.", reason=told)) as upstream:
        assert model_at(upstream, wire).complete(ask()).reason == reason


PING, TEXTS = 1, (3, 4)
FRAMES = [
    ANTHROPIC.opening().split("\n\n")[0] + "\n\n",
    *(frame + "\n\n" for frame in ANTHROPIC.opening().split("\n\n")[1:-1]),
    ANTHROPIC.piece("It "),
    ANTHROPIC.piece("is."),
    ANTHROPIC.stopped(0),
    ANTHROPIC.ending("stop", {"output_tokens": 3}, close=False),
    ANTHROPIC.end_frame(),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@settings(deadline=None, derandomize=True)  # each example is a call
@given(st.lists(st.tuples(st.sampled_from(["drop", "double", "swap"]), st.integers(0, 20)), max_size=3))
def test_only_the_whole_in_its_order_is_complete(shared: Upstream, wire: Wire, edits: list[tuple[str, int]]) -> None:
    """Frames lost, doubled or out of order: what ends well has every frame but pings once, and says what was sent."""
    order = list(range(len(FRAMES)))
    for what, n in edits:
        place = n % max(1, len(order) - 1)
        if what == "drop":
            del order[place : place + 1]
        elif what == "double":
            order[place:place] = order[place : place + 1]
        else:
            order[place : place + 2] = order[place : place + 2][::-1]
    shared.script(up.streamed(*(FRAMES[i] for i in order)))
    error, completion = None, None
    try:
        completion = model_at(shared, wire).complete(ask())
    except ModelFailure as caught:
        error = caught
    if completion is None:
        assert error is not None
        assert error.kind in {FailureKind.CUT, FailureKind.MALFORMED}
        assert order != list(range(len(FRAMES)))
    else:
        assert completion.text == "".join({3: "It ", 4: "is."}.get(i, "") for i in order)
        marks = [i for i in order if i not in (PING, *TEXTS)]
        assert marks == [0, 2, 5, *[6] * max(1, marks.count(6)), 7], "the count so far may come again"


def test_it_has_no_embeddings_and_the_other_no_version(wire: Wire) -> None:
    with pytest.raises(Invalid, match="no embeddings"):
        build_embedder("e", ProviderSettings(base_url="https://a.example", model="m", kind="anthropic", dims=8), wire)
    with pytest.raises(Invalid, match="api_version"):
        build_model("m", ProviderSettings(base_url="https://a.example", model="m", api_version="1"), wire, FREE)
    with pytest.raises(Invalid, match="no dims"):
        build_embedder("e", ProviderSettings(base_url="https://a.example", model="m"), wire)
