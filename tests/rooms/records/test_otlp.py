"""Steps in OpenTelemetry's words: every dialect is read, goes out as it came, and our own come back as what they were."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.clock import FixedClock
from mainstay.records.otlp import PROFILES, OtelSpan, imported, of_imported, of_trace
from mainstay.records.otlp.settings import ExportSettings
from mainstay.records.spans import KINDS, MAX_TRACE_STATE, trace_state_of
from mainstay.records.traces import Journey
from mainstay.types import Actor

TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "53995c3f42cd8ad8"
STARTED = 1_790_000_000_123_456_000


def span(attributes: dict[str, Any], **more: Any) -> OtelSpan:
    given_ = {"trace_id": TRACE, "span_id": SPAN, "parent_id": PARENT, "name": "work", "kind": 3} | more
    return OtelSpan(start_ns=STARTED, end_ns=STARTED + 1_250_000_000, attributes=attributes, **given_)


LLM = {
    "otel-genai-1.41": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.request.temperature": 0.2,
    },
    "otel-genai-next": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_write.input_tokens": 5,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.retrieval.top_k": 8,
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-x",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 20,
        "llm.cost.total": 0.0015,
        "session.id": "s1",
        "unheard.of": {"a": [1, 2.5, None, True]},
    },
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_call_of_a_model_in_every_dialect(name: str) -> None:
    came = span(LLM[name])
    one = imported(came, principal="service:app")
    assert (one.kind, one.model, one.input_tokens, one.output_tokens) == ("generate", "gpt-x", 100, 20)
    assert (one.trace_id, one.span_id, one.parent_id, one.principal) == (TRACE, SPAN, PARENT, "service:app")
    assert (one.start_us, one.duration_ms) == (STARTED // 1000, 1250.0)
    if name == "openinference":
        assert one.cost_nanodollars == 1_500_000
    if name == "otel-genai-next":
        assert one.first_ms == 250.0
    assert of_imported(_kept(one), PROFILES[name]) == came


def _kept(one: Any) -> Any:
    """As it comes back from the database."""
    return replace(one, attributes=json.loads(json.dumps(one.attributes)))


@pytest.mark.parametrize("name", PROFILES)
def test_texts_are_apart_and_can_go_out_again(name: str) -> None:
    texts = {
        "gen_ai.input.messages": '[{"role": "user"}]',
        "input.value": "what?",
        "llm.output_messages.0.message.content": "that",
        "retrieval.documents.0.document.content": "a passage",
    }
    stays = {"retrieval.documents.0.document.id": "d1", "retrieval.documents.0.document.score": 0.5}
    events = (
        {"name": "gen_ai.user.message", "at": STARTED, "attributes": {"content": "hi"}},
        {"name": "exception", "at": STARTED, "attributes": {"exception.type": "KeyError", "exception.message": "k"}},
    )
    came = span({**LLM[name], **texts, **stays}, events=events)
    one = imported(came)
    assert set(one.content) == {*texts, "event.0.content"}
    assert not any(text in json.dumps(one.attributes) for text in ("what?", "a passage", '"hi"', "that"))
    assert all(one.attributes[key] == value for key, value in stays.items())
    assert of_imported(_kept(one), PROFILES[name]) == came
    without = of_imported(replace(one, content={}), PROFILES[name])
    assert not set(texts) & set(without.attributes)


def test_a_dialect_can_be_changed_on_the_way() -> None:
    out = of_imported(imported(span(LLM["otel-genai-1.41"])), PROFILES["openinference"])
    assert out.attributes["openinference.span.kind"] == "LLM"
    assert out.attributes["llm.model_name"] == "gpt-x"
    assert out.attributes["llm.token_count.prompt"] == 100
    assert out.attributes["gen_ai.provider.name"] == "openai"


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "retrieval"}, "retrieve"),
        ({"gen_ai.operation.name": "text_completion"}, "generate"),
        ({"gen_ai.operation.name": "something new"}, "other"),
        ({"openinference.span.kind": "GUARDRAIL"}, "guard"),
        ({"openinference.span.kind": "UNKNOWN"}, "other"),
        ({"mainstay.kind": "verify"}, "verify"),
        ({"mainstay.kind": 7}, "other"),
        ({"http.request.method": "GET"}, "other"),
        ({"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": -3, "gen_ai.request.model": 5}, "other"),
    ],
)
def test_kinds(attributes: dict[str, Any], kind: str) -> None:
    came = span(attributes)
    one = imported(came)
    assert (one.kind, one.name) == (kind, "work")
    for profile in PROFILES.values():
        assert attributes.items() <= of_imported(one, profile).attributes.items() or profile.kind_name not in attributes


def test_errors() -> None:
    told = imported(span({"error.type": "timeout"}, status=2, status_message="late"))
    assert (told.status, told.error_class) == ("error", "timeout")
    raised = imported(
        span({}, status=2, events=[{"name": "exception", "at": 1, "attributes": {"exception.type": "Oops"}}])
    )
    assert (raised.status, raised.error_class) == ("error", "Oops")
    assert imported(span({"error.type": "timeout"}, status=1)).status == "ok"


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_known = st.sampled_from(
    sorted({key for profile in LLM.values() for key in profile} | {"mainstay.kind", "error.type", "input.value"})
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        _known | st.text(max_size=12), _values | st.sampled_from(["chat", "LLM", "TOOL", "verify"]), max_size=8
    ),
    st.sampled_from(sorted(PROFILES)),
    st.integers(0, 10**15),
    st.integers(0, 2),
)
def test_nothing_unknown_is_lost(attributes: dict[str, Any], profile: str, lasted: int, status: int) -> None:
    attributes = {name: value for name, value in attributes.items() if not name.startswith("otel.")}
    came = replace(span(attributes, status=status), end_ns=STARTED + lasted)
    one = imported(came)
    out = of_imported(_kept(one), PROFILES[profile])
    assert (out.start_ns, out.end_ns, out.status) == (came.start_ns, came.end_ns, came.status)
    for name, value in attributes.items():
        if name not in one.attributes and name not in one.content:
            continue  # a field of ours says it: in the profile's words
        said = out.attributes[name]
        assert said == value or (name in one.content and said in (value, json.dumps(value, ensure_ascii=False)))
    again = imported(out)
    assert (again.kind, again.model, again.input_tokens, again.status) == (
        one.kind,
        one.model,
        one.input_tokens,
        one.status,
    )


@pytest.mark.parametrize("name", PROFILES)
def test_a_request_of_ours_goes_out_and_is_read_again_as_what_it_was(name: str) -> None:
    clock = FixedClock()
    journey = Journey("req_1", Actor(principal="user:alice"), "answer", clock)
    for kind in KINDS:
        if kind != "request":
            journey.part(kind, clock.monotonic(), name="inside", model="m1", input_tokens=3)
            journey.span(kind, model="m1" if kind == "generate" else "", input_tokens=7, passages=["a", "b"])
    journey.model, journey.cost_nanodollars = "m1", 12
    trace = journey.trace("answered")
    out = of_trace(trace, PROFILES[name], service="Desk", version="9", content={"question": "what?"})
    assert [one.span_id for one in out] == [one.span_id for one in trace.whole]
    assert [one.parent_id for one in out] == [one.parent_id for one in trace.whole]
    assert len({one.span_id for one in out}) == len(out) == 1 + 2 * (len(KINDS) - 1)
    back = [imported(one) for one in out]
    assert [one.kind for one in back] == [one.kind for one in trace.whole]
    assert back[0].content == {PROFILES[name].texts["question"]: "what?"}
    call = next(one for one in back if one.kind == "generate")
    assert (call.model, call.input_tokens, call.service) == ("m1", 7, "Desk")
    assert out[0].attributes["mainstay.request_id"] == "req_1"


def test_settings_are_checked() -> None:
    assert ExportSettings(endpoint="https://c.example/v1/traces").profile in PROFILES
    for wrong in ({"endpoint": "ftp://x"}, {"endpoint": "https://u:p@x/"}, {"profile": "other"}, {"timeout_s": 0}):
        with pytest.raises(Exception, match=r"telemetry\.otlp"):
            ExportSettings(**wrong)  # type: ignore[arg-type] # on purpose


@pytest.mark.parametrize(
    ("told", "passed"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" rojo=1 ,\t, congo=a b:c;d/e ", "rojo=1,congo=a b:c;d/e"),
        ("0tenant@sys-tem=x", "0tenant@sys-tem=x"),
        ("", ""),
        (",,", ""),
        ("rojo", ""),
        ("=1", ""),
        ("rojo=", ""),
        ("Rojo=1", ""),
        ("1rojo=1", ""),
        ("ro jo=1", ""),
        ("rojo=a=b", ""),
        ("rojo=ä", ""),
        ("rojo=a\r\nx: y", ""),
        ("rojo=1,rojo=2", ""),
        ("rojo=1,nonsense", ""),
        ("a" * 256 + "=1", "a" * 256 + "=1"),
        ("a" * 257 + "=1", ""),
        ("rojo=" + "v" * 256, "rojo=" + "v" * 256),
        ("rojo=" + "v" * 257, ""),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        (",".join(f"k{n}={'v' * 200}" for n in range(5)), ",".join(f"k{n}={'v' * 200}" for n in range(2))),
    ],
)
def test_what_others_say_of_a_trace_is_passed_on_in_bounds(told: str, passed: str) -> None:
    assert trace_state_of(told) == passed
    assert len(passed) <= MAX_TRACE_STATE
