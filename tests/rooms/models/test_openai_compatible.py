from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import upstream as up
from tests.support.faults import TOOL
from tests.support.tls import certificate
from tests.support.upstream import Behaviour, Upstream

from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.models.chat import (
    ChatModel,
    ChatRequest,
    Delta,
    Done,
    FailureKind,
    Message,
    ModelFailure,
    ModelRefused,
    ModelUnavailable,
    ToolCall,
    ToolSpec,
    collected,
    failure,
)
from mainstay.models.embedders import Embedder
from mainstay.models.prices import Price
from mainstay.models.providers.embeddings import EmbedderSettings, OpenAiCompatibleEmbedder
from mainstay.models.providers.endpoint import Endpoint
from mainstay.models.providers.openai_compatible import OpenAiCompatibleModel
from mainstay.models.providers.reading import ChatSettings, ToolCalls
from mainstay.models.providers.sse import Garbage, Unfinished, frames
from mainstay.models.providers.wire import Wire
from mainstay.types import Usage

KEY = "sk-verysecret-0123456789"
PROMPT = "What is the travel allowance for people in the Vienna office?"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


def model_at(base_url: str, wire: Wire, **settings: Any) -> OpenAiCompatibleModel:
    defaults: dict[str, Any] = {
        "name": "small",
        "model": "scripted",
        "endpoint": Endpoint(base_url=base_url, api_key=KEY),
        "price": Price(input_per_million_nanodollars=1, output_per_million_nanodollars=1),
        "context_tokens": 8000,
        "connect_s": 5.0,
        "first_token_s": 10.0,
        "idle_s": 10.0,
    }
    return OpenAiCompatibleModel(ChatSettings(**(defaults | settings)), wire)


def ask(text: str = PROMPT, *, seconds: float = 20.0, **more: Any) -> ChatRequest:
    messages = (Message(role="system", content="Be kind."), Message(role="user", content=text))
    return ChatRequest(**{
        "messages": messages, "max_output_tokens": 100, "deadline": time.monotonic() + seconds, **more
    })  # fmt: skip


def failing(behaviour: Behaviour, wire: Wire, request: ChatRequest | None = None, **settings: Any) -> ModelFailure:
    """The failure that a behaviour leads to; it must come within its limits, and never show the key."""
    with Upstream(behaviour) as upstream:
        began = time.monotonic()
        with pytest.raises(ModelFailure) as caught:
            collected(model_at(upstream.base_url, wire, **settings).stream(request or ask()))
        assert time.monotonic() - began < 8, "limits hold"
        assert len(upstream.calls) <= 1, "one call is one attempt"
    assert KEY not in caught.value.line()
    assert caught.value.__cause__ is None
    return caught.value


# Good answers


def test_a_stream_is_deltas_and_one_done(wire: Wire) -> None:
    with Upstream(up.good("Grüß Gott, Wien! 🎡")) as upstream:
        *deltas, done = list(model_at(upstream.base_url, wire).stream(ask()))
        assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
        assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == "Grüß Gott, Wien! 🎡"
        assert isinstance(done, Done)
        assert done.reason == "stop"
        assert done.usage is not None
        assert done.usage.input_tokens > 0


def test_the_request_is_what_the_settings_say(wire: Wire) -> None:
    with Upstream() as upstream:
        model_at(upstream.base_url, wire).complete(ask(stop=("END",), json_schema={"type": "object"}))
        model_at(
            upstream.base_url + "/",
            wire,
            output_limit_field="max_completion_tokens",
            json_dialect="json_object",
            system_role="developer",
            sends_usage=False,
            takes_temperature=False,
        ).complete(ask(json_schema={"type": "object"}))
        model_at(upstream.base_url, wire, json_dialect="none").complete(ask(json_schema={}, temperature=None))
        first, second, third = upstream.calls
    assert first.path == second.path == "/v1/chat/completions"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["accept-encoding"] == "identity"
    assert first.body == {
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": PROMPT}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
        "temperature": 0.0,
        "stop": ["END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
    }
    assert second.body["max_completion_tokens"] == 100
    assert second.body["response_format"] == {"type": "json_object", "schema": {"type": "object"}}
    assert second.body["messages"][0]["role"] == "developer"
    assert not second.body.keys() & {"max_tokens", "stream_options", "temperature"}
    assert not third.body.keys() & {"response_format", "temperature"}


def test_no_key_sends_no_authorization(wire: Wire) -> None:
    with Upstream() as upstream:
        model_at(upstream.base_url, wire, endpoint=Endpoint(base_url=upstream.base_url)).complete(ask())
        assert "authorization" not in upstream.calls[0].headers


def test_json_in_answer_to_a_stream_request_is_understood(wire: Wire) -> None:
    with Upstream(up.good_json("Hello.", usage={"prompt_tokens": 9, "completion_tokens": 3})) as upstream:
        completion = model_at(upstream.base_url, wire).complete(ask())
    assert completion.text == "Hello."
    assert completion.usage == Usage(input_tokens=9, output_tokens=3)


@pytest.mark.parametrize(
    ("told", "reason"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter")],
)
def test_end_reasons(wire: Wire, told: str, reason: str) -> None:
    with Upstream(up.good("Yes.", reason=told)) as upstream:
        assert model_at(upstream.base_url, wire).complete(ask()).reason == reason


def test_a_refusal_is_an_outcome_with_its_text(wire: Wire) -> None:
    spoken = up.streamed(up.framed({"refusal": "I would rather not."}), up.framed({}, "stop"), "data: [DONE]\n\n")
    with Upstream(spoken) as upstream:
        completion = model_at(upstream.base_url, wire).complete(ask())
    assert (completion.text, completion.reason) == ("I would rather not.", "content_filter")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 10**9, "completion_tokens": 2},
        {"prompt_tokens": "12", "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
        "absurd",
    ],
)
def test_a_missing_or_absurd_usage_is_none(wire: Wire, usage: object) -> None:
    with Upstream(up.good("Yes.", usage=usage)) as upstream:
        assert model_at(upstream.base_url, wire).complete(ask()).usage is None


@pytest.mark.parametrize(
    "details",
    [
        {"prompt_tokens_details": {"cached_tokens": 10}},
        {"prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 5}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": "many"},
        {"completion_tokens_details": {"reasoning_tokens": 4}},
    ],
)
def test_details_that_cannot_be_make_the_usage_absurd(wire: Wire, details: dict[str, object]) -> None:
    with Upstream(up.good("Yes.", usage={"prompt_tokens": 9, "completion_tokens": 3, **details})) as upstream:
        assert model_at(upstream.base_url, wire).complete(ask()).usage is None


def test_the_details_of_usage_are_read(wire: Wire) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    plain = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None}
    with Upstream(up.good("Yes.", usage=usage), up.good("Yes.", usage=plain)) as upstream:
        model = model_at(upstream.base_url, wire)
        assert model.complete(ask()).usage == Usage(
            input_tokens=9, output_tokens=3, cached_input_tokens=5, cache_write_tokens=2, reasoning_tokens=3
        )
        assert model.complete(ask()).usage == Usage(input_tokens=9, output_tokens=3)


# Tools


def piece(index: int | None, id_: str | None = None, name: str | None = None, arguments: str | None = None) -> str:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    told = {"index": index, "id": id_, "type": "function", "function": function}
    return up.framed({"tool_calls": [{key: value for key, value in told.items() if value is not None}]})


def test_a_conversation_with_tools_goes_there_and_back(wire: Wire) -> None:
    asked = ToolCall(id="call_0", name=TOOL.name, arguments_json='{"word": "mainstay"}')
    other = ToolCall(id="call_1", name=TOOL.name, arguments_json="{}")
    calls = [(asked.id, asked.name, ['{"word": ', '"mainstay"}']), (other.id, other.name, [])]
    with Upstream(up.good("I look.", reason="tool", calls=calls)) as upstream:
        model = model_at(upstream.base_url, wire)
        completion = model.complete(ask(tools=(TOOL,)))
        assert (completion.text, completion.reason, completion.tool_calls) == ("I look.", "tool", (asked, other))
        messages = (
            Message(role="user", content="What is it?"),
            Message(role="assistant", content="I look.", tool_calls=completion.tool_calls),
            Message(role="tool", content="A rope.", tool_call_id="call_0"),
        )
        model.complete(ask(messages=messages, tools=(TOOL,)))
        body = upstream.calls[1].body
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": TOOL.name, "description": TOOL.description, "parameters": TOOL.schema},
        }
    ]
    assert body["messages"][1]["tool_calls"][0] == {
        "id": "call_0",
        "type": "function",
        "function": {"name": TOOL.name, "arguments": '{"word": "mainstay"}'},
    }
    assert body["messages"][2] == {"role": "tool", "content": "A rope.", "tool_call_id": "call_0"}


@pytest.mark.parametrize(
    "frames",
    [
        [piece(0, "a", TOOL.name, "{}")],
        [piece(None, "a", TOOL.name, "{}")],  # sent whole, without index
        [piece(0, "a", TOOL.name), piece(0, "a", TOOL.name, "{"), piece(0, "a", None, "}")],  # id repeated
        [piece(0, "a", TOOL.name)],  # no arguments
    ],
)
@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_dialects_of_tool_calls(wire: Wire, frames: list[str], reason: str) -> None:
    with Upstream(up.streamed(*frames, up.framed({}, reason), "data: [DONE]\n\n")) as upstream:
        completion = model_at(upstream.base_url, wire).complete(ask(tools=(TOOL,)))
    assert (completion.reason, completion.tool_calls) == (
        "tool",
        (ToolCall(id="a", name=TOOL.name, arguments_json="{}"),),
    )


@pytest.mark.parametrize(
    "frames",
    [
        [piece(0, "a", TOOL.name, "{}"), piece(0, "b", TOOL.name, "{}")],  # two calls under one index
        [piece(0, "a", TOOL.name, "{}"), piece(2, "b", TOOL.name, "{}")],  # a gap
        [piece(0, "a", TOOL.name, "{}"), piece(1, "a", TOOL.name, "{}")],  # one call twice
        [piece(0, None, TOOL.name, "{}")],
        [piece(0, "a", None, "{}")],
        [piece(None, None, None, "{}")],
        [piece(0, "a", "other", "{}")],
        [piece(0, "a", TOOL.name, "[]")],
        [piece(0, "a", TOOL.name, '{"a": NaN}')],
        [piece(0, "a", TOOL.name, '{"a": 1}'), piece(0, None, None, '{"a": 1}')],
        [up.framed({"tool_calls": {"index": 0}})],
        [up.framed({"tool_calls": [{"index": 0, "id": "a", "function": {"name": 7}}]})],
        [up.framed({}, "tool_calls"), piece(0, "a", TOOL.name, "{}")],
    ],
)
def test_tool_calls_that_do_not_hold_together_are_malformed(wire: Wire, frames: list[str]) -> None:
    error = failing(up.streamed(*frames, up.framed({}, "tool_calls"), "data: [DONE]\n\n"), wire, ask(tools=(TOOL,)))
    assert error.kind is FailureKind.MALFORMED


def test_a_tool_call_that_was_cut_short_is_none(wire: Wire) -> None:
    spoken = up.streamed(piece(0, "a", TOOL.name, '{"wor'), up.framed({}, "length"), "data: [DONE]\n\n")
    with Upstream(spoken) as upstream:
        completion = model_at(upstream.base_url, wire).complete(ask(tools=(TOOL,)))
    assert (completion.reason, completion.tool_calls) == ("length", ())


@given(st.lists(st.integers(1, 40), max_size=6))
def test_arguments_do_not_depend_on_how_they_are_cut(cuts: list[int]) -> None:
    text = json.dumps({"word": 'Grüße "x"', "n": [1, 2]}, ensure_ascii=False)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    calls = ToolCalls([TOOL.name], lambda what: failure(FailureKind.MALFORMED, what, where="here"))
    calls.begin("a", TOOL.name)
    for part in pieces:
        calls.add(0, part)
    assert calls.whole() == (ToolCall(id="a", name=TOOL.name, arguments_json=text),)


def test_tools_count_in_the_bound_and_are_checked() -> None:
    assert ask(tools=(TOOL,)).input_token_bound > ask().input_token_bound + len(json.dumps(TOOL.schema))
    with pytest.raises(Invalid):
        ask(tools=(TOOL, TOOL))
    with pytest.raises(Invalid):
        ask(tools=(ToolSpec(name="two words", description="", schema={}),))
    with pytest.raises(Invalid):
        ask(tools=(TOOL,), json_schema={})
    with pytest.raises(Invalid):
        ask(messages=(Message(role="tool", content="whose?"),))
    with pytest.raises(Invalid):
        ask(messages=(Message(role="user", content="", tool_calls=(ToolCall(id="a", name="b", arguments_json="{}"),)),))


def test_thinking_is_progress_but_no_text(wire: Wire) -> None:
    def behave(call: up.Call) -> None:
        call.head()
        for _ in range(10):
            call.frame({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]})
            call.wait(0.1)
        call.chunk(up.framed({"content": "Yes."}) + up.framed({}, "stop"))
        call.end()

    with Upstream(behave) as upstream:
        assert model_at(upstream.base_url, wire, first_token_s=5, idle_s=0.5).complete(ask()).text == "Yes."


def test_a_slow_reader_is_not_a_stalled_provider(wire: Wire) -> None:
    with Upstream(up.slow("Take your time, please.", gap=0.15)) as upstream:
        events = []
        for event in model_at(upstream.base_url, wire, idle_s=0.5).stream(ask()):
            events.append(event)
            time.sleep(0.6 if len(events) == 2 else 0)
        assert isinstance(events[-1], Done)


def test_a_server_without_an_end_frame_may_be_declared(wire: Wire) -> None:
    with Upstream(up.cut("All of it.", reason="stop")) as upstream:
        assert model_at(upstream.base_url, wire, sends_end_frame=False).complete(ask()).text == "All of it."


def test_connections_are_used_again_and_cookies_are_not_kept(wire: Wire) -> None:
    connections = set()

    def behave(call: up.Call) -> None:
        connections.add(call._handler.client_address)
        call.head(headers={"Set-Cookie": "who=alice"})
        call.chunk(up.framed({"content": "Yes."}) + up.framed({}, "stop"))
        call.end()

    with Upstream(always=behave) as upstream:
        for _ in range(5):
            model_at(upstream.base_url, wire).complete(ask())
        assert len(connections) == 1
        assert not any("cookie" in call.headers for call in upstream.calls)


def test_closing_the_stream_ends_the_call(wire: Wire) -> None:
    gone = threading.Event()

    def behave(call: up.Call) -> None:
        try:
            up.endless()(call)
        finally:
            gone.set()

    with Upstream(behave) as upstream:
        stream = model_at(upstream.base_url, wire).stream(ask())
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert gone.wait(3)


def test_many_threads_share_one_model(wire: Wire) -> None:
    with Upstream(always=up.answering(up.echo)) as upstream:
        model = model_at(upstream.base_url, wire, first_token_s=10)
        texts: dict[int, str] = {}

        def run(n: int) -> None:
            texts[n] = model.complete(ask(f"number {n}")).text

        threads = [threading.Thread(target=run, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(texts[n].endswith(f"number {n}") for n in range(20))


# Failures: each class, one kind


LIMITS: dict[FailureKind, dict[str, Any]] = {
    FailureKind.SILENT: {"first_token_s": 0.3},
    FailureKind.SLOW_FIRST_TOKEN: {"first_token_s": 1.0},
    FailureKind.STALLED: {"idle_s": 0.4},
}


def web_page(call: up.Call) -> None:
    call.head(media="text/html")
    call.chunk("<html>Please log in to the network</html>")
    call.end(done=False)


def not_http(call: up.Call) -> None:
    call.raw(b"SSH-2.0-hello\r\n\r\n")
    call.hang_up()


LATE_OR_BROKEN: list[tuple[str, Behaviour, FailureKind]] = [
    ("silent", up.silent(), FailureKind.SILENT),
    ("dripping head", up.dripping_head(), FailureKind.SLOW_FIRST_TOKEN),
    ("comments only", up.no_text(), FailureKind.SLOW_FIRST_TOKEN),
    ("slow first token", up.slow("Late.", first=5), FailureKind.SLOW_FIRST_TOKEN),
    ("stalled", up.stalled("It is"), FailureKind.STALLED),
    ("stalled behind comments", up.stalled("It is", comments=True), FailureKind.STALLED),
    ("cut, nothing said", up.cut("It is"), FailureKind.CUT),
    ("cut, end reason only", up.cut("It is.", reason="stop"), FailureKind.CUT),
    ("cut, connection broken", up.cut("It is", clean=False), FailureKind.CUT),
    ("cut in a line", up.streamed(up.framed({"content": "It"}), 'data: {"choi'), FailureKind.CUT),
    ("end frame only", up.streamed(up.framed({"content": "It"}), "data: [DONE]\n\n"), FailureKind.CUT),
    ("hangs up", up.hangs_up(), FailureKind.NETWORK),
    ("garbage", up.garbage(), FailureKind.MALFORMED),
    ("half JSON", up.half_json(), FailureKind.MALFORMED),
    ("empty", up.empty(), FailureKind.MALFORMED),
    ("not UTF-8", up.streamed(b'data: {"choices": "\xff"}\n\n'), FailureKind.MALFORMED),
    ("huge line", up.huge_line(), FailureKind.MALFORMED),
    ("NaN", up.streamed('data: {"choices": NaN}\n\n'), FailureKind.MALFORMED),
    ("deep", up.streamed("data: " + "[" * 100_000 + "\n\n"), FailureKind.MALFORMED),
    ("list", up.streamed("data: []\n\n"), FailureKind.MALFORMED),
    ("no choices", up.streamed("data: {}\n\n"), FailureKind.MALFORMED),
    ("number as text", up.streamed(up.framed({"content": 7})), FailureKind.MALFORMED),
    ("unknown end", up.streamed(up.framed({"content": "It"}, "because")), FailureKind.MALFORMED),
    ("two ends", up.streamed(up.framed({}, "stop"), up.framed({}, "length")), FailureKind.MALFORMED),
    ("text after the end", up.streamed(up.framed({}, "stop"), up.framed({"content": "x"})), FailureKind.MALFORMED),
    ("more after", up.streamed(up.framed({}, "stop"), "data: [DONE]\n\n", "data: x\n\n"), FailureKind.MALFORMED),
    ("other answer", up.streamed('data: {"choices": [{"index": 1, "delta": {}}]}\n\n'), FailureKind.MALFORMED),
    ("a web page", web_page, FailureKind.MALFORMED),
    ("not HTTP", not_http, FailureKind.MALFORMED),
    ("gave up", up.streamed(up.framed({"content": "It"}, "error")), FailureKind.SERVER),
    ("error in stream", up.error_in_stream(), FailureKind.SERVER),
    ("overload in stream", up.error_in_stream("overloaded_error"), FailureKind.OVERLOAD),
    ("rate in stream", up.error_in_stream("rate_limit_exceeded"), FailureKind.RATE),
    ("error in JSON", lambda call: call.whole(200, {"error": {"code": "overloaded"}}), FailureKind.OVERLOAD),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "kind"), [c[1:] for c in LATE_OR_BROKEN], ids=[c[0] for c in LATE_OR_BROKEN])
def test_a_broken_answer_has_one_kind(wire: Wire, behaviour: Behaviour, kind: FailureKind) -> None:
    error = failing(behaviour, wire, **LIMITS.get(kind, {}))
    assert error.kind is kind
    assert isinstance(error, ModelUnavailable)
    assert error.blames_provider
    assert error.elsewhere
    assert error.maybe_paid


STATUSES: list[tuple[Behaviour, FailureKind]] = [
    (up.status(400), FailureKind.CALLER),
    (up.status(422), FailureKind.CALLER),
    (up.status(401, code="invalid_api_key"), FailureKind.AUTH),
    (up.status(402), FailureKind.AUTH),
    (up.status(403), FailureKind.AUTH),
    (up.status(404, code="model_not_found"), FailureKind.NOT_FOUND),
    (up.status(400, code="context_length_exceeded"), FailureKind.CONTEXT_TOO_LONG),
    (up.status(400, message="This model's maximum context length is 8192 tokens."), FailureKind.CONTEXT_TOO_LONG),
    (up.status(413), FailureKind.CONTEXT_TOO_LONG),
    (up.status(400, code="content_filter"), FailureKind.CONTENT_FILTER),
    (up.status(429, retry_after="2"), FailureKind.RATE),
    (up.status(429, code="insufficient_quota"), FailureKind.AUTH),
    (up.status(429, code="engine_overloaded"), FailureKind.OVERLOAD),
    (up.status(503), FailureKind.OVERLOAD),
    (up.status(529), FailureKind.OVERLOAD),
    (up.status(500), FailureKind.SERVER),
    (up.status(502), FailureKind.SERVER),
    (up.status(408), FailureKind.SERVER),
    (up.redirect("http://127.0.0.1:1/elsewhere"), FailureKind.NOT_FOUND),
    (lambda call: call.whole(500, "<html>" + "x" * 200_000), FailureKind.SERVER),
    (lambda call: call.whole(418, "[" * 10_000), FailureKind.CALLER),
    (lambda call: call.whole(400, {"detail": "n_ctx is too small"}), FailureKind.CONTEXT_TOO_LONG),
    (lambda call: call.whole(404, {"error": "model not found, try pulling it first"}), FailureKind.NOT_FOUND),
    (lambda call: call.whole(204, ""), FailureKind.MALFORMED),
]


@pytest.mark.parametrize(("behaviour", "kind"), STATUSES)
def test_a_refusal_has_one_kind(wire: Wire, behaviour: Behaviour, kind: FailureKind) -> None:
    error = failing(behaviour, wire)
    assert error.kind is kind
    of_the_request = kind in {FailureKind.CALLER, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTER}
    assert isinstance(error, ModelRefused if of_the_request else ModelUnavailable)
    assert isinstance(error, Invalid if of_the_request else Unavailable)
    of_the_operator = kind in {FailureKind.AUTH, FailureKind.NOT_FOUND}
    assert error.blames_provider is not (of_the_request or of_the_operator)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "2"}, 2, 2),
        ({"Retry-After": "0.5"}, 0.5, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5, 1.5),
        ({"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}, 0, 0),
    ],
)
def test_retry_after_is_passed_on(wire: Wire, headers: dict[str, str], low: float, high: float) -> None:
    error = failing(up.status(429, headers=headers), wire)
    assert error.retry_after_given
    assert low <= error.retry_after_s <= high


@pytest.mark.parametrize("told", ["soon", "-1", "nan", "inf", "99999999"])
def test_an_absurd_retry_after_is_none(wire: Wire, told: str) -> None:
    assert not failing(up.status(429, headers={"Retry-After": told}), wire).retry_after_given


def test_the_deadline_ends_an_answer_that_still_comes(wire: Wire) -> None:
    error = failing(up.endless(), wire, ask(seconds=1.5))
    assert error.kind is FailureKind.DEADLINE
    assert not error.blames_provider


def test_without_time_nothing_is_sent(wire: Wire) -> None:
    with Upstream() as upstream:
        with pytest.raises(ModelFailure) as caught:
            model_at(upstream.base_url, wire).complete(ask(seconds=-1))
        assert upstream.calls == []
    assert caught.value.kind is FailureKind.DEADLINE
    assert not caught.value.maybe_paid


def test_a_provider_that_was_given_no_time_is_not_to_blame(wire: Wire) -> None:
    assert failing(up.silent(), wire, ask(seconds=0.1)).kind is FailureKind.DEADLINE
    assert failing(up.silent(), wire, ask(seconds=3), first_token_s=9).kind is FailureKind.SILENT


def test_refused_connection_is_tried_once_more_and_was_not_paid(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ModelFailure) as caught:
        model_at(f"http://127.0.0.1:{port}/v1", wire, first_token_s=5).complete(ask())
    assert time.monotonic() - began >= 0.1
    assert caught.value.kind is FailureKind.NETWORK
    assert not caught.value.maybe_paid


def test_a_server_that_comes_up_after_the_first_refusal_is_reached(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n"

    def serve_late() -> None:
        time.sleep(0.05)
        with socket.create_server(("127.0.0.1", port)) as server:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve_late)
    thread.start()
    with pytest.raises(ModelFailure) as caught:
        model_at(f"http://127.0.0.1:{port}/v1", wire, first_token_s=5).complete(ask())
    thread.join()
    assert caught.value.kind is FailureKind.RATE


def test_a_host_that_never_accepts_is_a_network_failure(wire: Wire) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(8)]  # the queue is full: further connections hang
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        try:
            with pytest.raises(ModelFailure) as caught:
                model_at(f"http://127.0.0.1:{server.getsockname()[1]}", wire, connect_s=0.3, first_token_s=5).complete(
                    ask()
                )
        finally:
            for filler in fillers:
                filler.close()
    assert caught.value.kind is FailureKind.NETWORK
    assert not caught.value.maybe_paid


def test_a_name_that_does_not_exist(wire: Wire) -> None:
    with pytest.raises(ModelFailure) as caught:
        model_at("https://nowhere.invalid/v1", wire, first_token_s=5).complete(ask())
    assert caught.value.kind is FailureKind.NETWORK


def test_tls_with_a_server_that_speaks_none(wire: Wire) -> None:
    with Upstream() as upstream, pytest.raises(ModelFailure) as caught:
        model_at(upstream.base_url.replace("http:", "https:"), wire).complete(ask())
    assert caught.value.kind is FailureKind.NETWORK


def test_tls_with_the_operators_certificate_and_not_without(tmp_path: Path, wire: Wire) -> None:
    context, public = certificate(tmp_path)
    with Upstream(tls=context) as upstream:
        with Wire(ca_file=public) as trusting:
            model = model_at(upstream.base_url, trusting)
            assert [model.complete(ask()).text for _ in range(2)] == ["Hello there."] * 2
            upstream.script(up.stalled("It is"))
            with pytest.raises(ModelFailure, match="stalled"):
                model_at(upstream.base_url, trusting, idle_s=0.4).complete(ask())
        with pytest.raises(ModelFailure, match="certificate") as caught:
            model_at(upstream.base_url, wire).complete(ask())
        assert len(upstream.calls) == 3, "nothing is sent to a server that is not trusted"
    assert caught.value.kind is FailureKind.NETWORK
    with pytest.raises(Invalid):
        Wire(ca_file=tmp_path / "absent.pem")


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "224.0.0.1"])
def test_metadata_and_the_like_are_never_called(wire: Wire, host: str) -> None:
    with pytest.raises(ModelFailure, match="never called"):
        model_at(f"http://{host}/v1", wire).complete(ask())


def test_a_key_does_not_cross_a_public_network_in_the_clear(wire: Wire) -> None:
    with pytest.raises(ModelFailure, match="in the clear"):
        model_at("http://8.8.8.8/v1", wire).complete(ask())


# Settings and secrets


@pytest.mark.parametrize(
    "url",
    ["", "api.example.com", "ftp://example.com", "file:///etc/passwd", "http://", "https://me:pw@example.com/v1",
     "https://example.com/v1?key=1", "https://example.com/#x", "https://exa mple.com"],
)  # fmt: skip
def test_a_wrong_base_url_is_refused_at_once(wire: Wire, url: str) -> None:
    with pytest.raises(Invalid) as caught:
        model_at(url, wire)
    assert "pw" not in caught.value.line()


@pytest.mark.parametrize("key", ["", "two\nlines", "sk-ü", " padded"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(wire: Wire, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        model_at("https://example.com", wire, endpoint=Endpoint(base_url="https://example.com", api_key=key))
    assert not key or key.strip() not in caught.value.line()


def test_the_key_is_shown_nowhere(wire: Wire) -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:9", api_key=KEY, headers={"x-other": "also-a-secret"})
    model = model_at("http://127.0.0.1:9", wire, endpoint=endpoint)
    shown = repr(endpoint) + repr(model) + str(model)
    assert KEY not in shown
    assert "also-a-secret" not in shown
    error = failing(up.status(401, code=KEY, message=f"Incorrect API key provided: {KEY}\x1b[31m"), wire)
    assert "***" in error.line()
    assert "\x1b" not in error.line()


def test_an_error_that_quotes_the_prompt_is_not_shown(wire: Wire) -> None:
    assert "Vienna" not in failing(up.status(400, message=f"cannot process '{PROMPT}'"), wire).line()
    assert "temperature" in failing(up.status(400, message="unsupported value of temperature"), wire).line()


def test_the_port_is_implemented(wire: Wire) -> None:
    model: ChatModel = model_at("http://127.0.0.1:9", wire)
    assert (model.name, model.context_tokens) == ("small", 8000)
    assert issubclass(ModelFailure, MainstayError)


def test_the_port_is_light() -> None:
    code = "import sys, mainstay.models.chat; print({'httpx2', 'numpy', 'jinja2', 'yaml'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("wrong", [{"messages": ()}, {"max_output_tokens": 0}, {"temperature": float("nan")}])
def test_an_impossible_request_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ask(**wrong)


def test_the_next_address_of_a_name_is_tried() -> None:
    with Upstream() as upstream, Wire(resolver=lambda *_: ["127.0.0.2", "127.0.0.1"]) as wire:
        there = upstream.base_url.replace("127.0.0.1", "models.example")
        assert model_at(there, wire).complete(ask()).text == "Hello there."
        assert upstream.calls[0].headers["host"].startswith("models.example:")


def test_a_name_server_that_hangs_is_a_network_failure() -> None:
    stop = threading.Event()
    with Wire(resolver=lambda *_: ["127.0.0.1"] * stop.wait(20)) as wire, pytest.raises(ModelFailure) as caught:
        model_at("https://models.example/v1", wire, connect_s=0.2).complete(ask())
    stop.set()
    assert caught.value.kind is FailureKind.NETWORK


def test_a_name_that_leads_to_metadata_is_not_called() -> None:
    with Wire(resolver=lambda *_: ["127.0.0.1", "169.254.169.254"]) as wire, pytest.raises(ModelFailure, match="never"):
        model_at("https://models.example/v1", wire).complete(ask())


# Event streams


def sse(data: bytes, cuts: list[int] | None = None, max_line: int = 1000) -> list[tuple[str, str]]:
    places = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts or [])})
    chunks = [data[a:b] for a, b in itertools.pairwise(places)]
    return [(frame.event, frame.data) for frame in frames(chunks, max_line=max_line)]


@given(st.lists(st.integers(0, 200)), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_frames_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int], end: bytes) -> None:
    text = "\ufeffdata: one\n\n: comment\nevent: error\ndata:zwei ü\ndata: three\nid: 7\n\ndata: last\n"
    data = text.encode().replace(b"\n", end)
    assert sse(data, cuts) == [("", "one"), ("error", "zwei ü\nthree"), ("", "last")]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_any_bytes_give_frames_or_one_of_two_errors(data: bytes, cuts: list[int]) -> None:
    def outcome(cuts: list[int]) -> object:
        try:
            return sse(data, cuts, max_line=100)
        except (Garbage, Unfinished) as error:
            return type(error)

    assert outcome(cuts) == outcome([])


def test_many_small_pieces_of_one_line_take_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(Garbage):
        list(frames((b"x" for _ in range(400_000)), max_line=300_000))
    assert time.process_time() - began < 3


# Embeddings


def embedder_at(upstream: Upstream, wire: Wire, **settings: Any) -> OpenAiCompatibleEmbedder:
    defaults: dict[str, Any] = {
        "name": "remote", "model": "embed-1", "dims": 8, "timeout_s": 10.0, "connect_s": 1.0,
        "endpoint": Endpoint(base_url=upstream.base_url, api_key=KEY),
    }  # fmt: skip
    return OpenAiCompatibleEmbedder(EmbedderSettings(**(defaults | settings)), wire)


def test_embeddings_are_unit_rows_in_the_order_of_the_texts(wire: Wire) -> None:
    with Upstream() as upstream:
        embedder: Embedder = embedder_at(upstream, wire, batch=2)
        texts = ["alpha", "", "beta", " \n\x00", "gamma", "delta"]
        rows = embedder.embed_passages(texts)
        assert [call.body["input"] for call in upstream.calls] == [["alpha", "beta"], ["gamma", "delta"]]
        assert rows.shape == (6, 8)
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        assert np.allclose(np.linalg.norm(rows, axis=1), [1, 0, 1, 0, 1, 1], atol=1e-6)
        for text, row in zip(texts, rows, strict=True):
            assert (embedder.embed_query(text) == row).all()
        assert embedder.embed_passages([]).shape == (0, 8)


def test_batches_are_bounded_in_bytes_and_dimensions_are_asked_for(wire: Wire) -> None:
    with Upstream() as upstream:
        embedder = embedder_at(upstream, wire, dims=4, ask_dims=True, batch_bytes=10, query_prefix="query: ")
        assert embedder.embed_passages(["x" * 8, "y" * 8, "z" * 30]).shape == (3, 4)
        assert [call.body["dimensions"] for call in upstream.calls] == [4, 4, 4]
        embedder.embed_query("hello")
        assert upstream.calls[-1].body["input"] == ["query: hello"]


def test_the_identity_depends_on_host_model_and_dims(wire: Wire) -> None:
    with Upstream() as upstream, Upstream() as other:
        digest = embedder_at(upstream, wire).identity.digest
        assert digest == embedder_at(other, wire).identity.digest
        assert digest != embedder_at(upstream, wire, model="embed-2").identity.digest
        assert digest != embedder_at(upstream, wire, dims=9).identity.digest
        assert digest != embedder_at(upstream, wire, query_prefix="query: ").identity.digest


def spoil(change: Callable[[dict[str, Any]], object]) -> Behaviour:
    return up.embeddings(shuffled=False, change=change)


@pytest.mark.parametrize(
    "behaviour",
    [
        spoil(lambda d: d["data"].pop()),
        spoil(lambda d: d["data"].append(d["data"][0])),
        spoil(lambda d: d["data"][1].update(index=0)),
        spoil(lambda d: d["data"][1].update(index=5)),
        spoil(lambda d: d["data"][1].update(embedding=[1.0] * 7)),
        spoil(lambda d: d["data"][1].update(embedding=[0.0] * 8)),
        spoil(lambda d: d["data"][1].update(embedding=[float("nan")] * 8)),
        spoil(lambda d: d["data"][1].update(embedding=[float("inf")] * 8)),
        spoil(lambda d: d["data"][1].update(embedding=["1"] * 8)),
        spoil(lambda d: d["data"][1].update(embedding=[10**400] * 8)),
        spoil(lambda d: d["data"][1].update(embedding="AAAA")),
        spoil(lambda d: d["data"][1].update(index=[1])),
        spoil(lambda d: d.pop("data")),
        lambda call: call.whole(200, "[" * 100_000),
        lambda call: call.whole(200, "{"),
    ],
)
def test_spoiled_embeddings_are_malformed(wire: Wire, behaviour: Behaviour) -> None:
    with Upstream(behaviour) as upstream, pytest.raises(ModelFailure) as caught:
        embedder_at(upstream, wire).embed_passages(["one", "two"])
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (up.status(429, retry_after="3"), FailureKind.RATE),
        (up.status(401), FailureKind.AUTH),
        (up.silent(), FailureKind.SILENT),
        (up.hangs_up(), FailureKind.NETWORK),
    ],
)
def test_embedding_failures_are_classified_alike(wire: Wire, behaviour: Behaviour, kind: FailureKind) -> None:
    with Upstream(behaviour) as upstream, pytest.raises(ModelFailure) as caught:
        embedder_at(upstream, wire, timeout_s=1.1).embed_query("hello")
    assert caught.value.kind is kind


# The scripted server itself speaks what a client of that wire format understands


def test_the_reference_client_understands_the_scripted_server() -> None:
    import openai

    with (
        Upstream(always=up.by_model({"echo": up.echo})) as upstream,
        openai.OpenAI(base_url=upstream.base_url, api_key="k", max_retries=0) as client,
    ):
        messages: Any = [{"role": "user", "content": "Say it back."}]
        whole = client.chat.completions.create(model="echo", messages=messages)
        assert whole.choices[0].message.content == "Say it back."
        options: Any = {"include_usage": True}
        stream = client.chat.completions.create(model="echo", messages=messages, stream=True, stream_options=options)
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "Say it back."
        assert chunks[-1].usage is not None
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=messages)
        upstream.script(up.status(429, retry_after="1"), up.embeddings())
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="echo", messages=messages)
        vectors = client.embeddings.create(model="e", input=["a", "b"], encoding_format="float")
        assert len(vectors.data) == 2
