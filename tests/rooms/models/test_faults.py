"""Every fault of the scripted upstream, in both wire formats: one kind, in time, and nothing of it passes for complete."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support import upstream as up
from tests.support.faults import FAULTS, TOOL, Fault
from tests.support.formats import FORMATS
from tests.support.upstream import Upstream

from mainstay.errors import Invalid
from mainstay.models.chat import (
    ChatModel,
    ChatRequest,
    Delta,
    Done,
    Event,
    FailureKind,
    Message,
    ModelFailure,
    Reason,
    failure,
)
from mainstay.models.prices import Price
from mainstay.models.providers import build_model
from mainstay.models.providers.wire import Wire
from mainstay.models.rules import RULES, Then, rule_of
from mainstay.settings import ProviderSettings

FREE = Price(input_per_million_nanodollars=0, output_per_million_nanodollars=0)
PAGE = Path(__file__).parents[3] / "docs" / "howto" / "providers.md"
BOUND_S = 10.0


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


def model_at(upstream: Upstream, wire: Wire, kind: str, **settings: Any) -> ChatModel:
    provider = ProviderSettings(
        base_url=upstream.base_url, model="scripted", kind=kind, api_key="sk-secret-0123456789", **settings
    )
    return build_model("writer", provider, wire, FREE)


def ask(*, tools: bool = False, seconds: float = 20.0) -> ChatRequest:
    return ChatRequest(
        messages=(Message(role="system", content="Be kind."), Message(role="user", content="What is it?")),
        max_output_tokens=100,
        deadline=time.monotonic() + seconds,
        tools=(TOOL,) if tools else (),
    )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_has_one_kind_in_every_format(wire: Wire, fault: Fault, kind: str) -> None:
    with Upstream(fault.behaviour) as upstream:
        model = model_at(upstream, wire, kind, **fault.limits)
        events: list[Event] = []
        error: ModelFailure | None = None
        began = time.monotonic()
        try:
            for event in model.stream(ask(tools=fault.tools)):
                events += [event]  # what came before a failure counts
        except ModelFailure as caught:
            error = caught
        assert time.monotonic() - began < BOUND_S, "limits hold"
        assert len(upstream.calls) == 1, "one call is one attempt"
    dones = [event for event in events if isinstance(event, Done)]
    if fault.kind is None:
        assert error is None
        assert [done.reason for done in dones] == [fault.ends]
        assert (dones[0].usage is not None) is fault.usage
        return
    assert error is not None
    assert error.kind is fault.kind
    assert not dones, "what failed never ends well"
    assert any(isinstance(event, Delta) for event in events) is fault.said
    assert "sk-secret" not in error.line()
    assert error.retry_after_given is (fault.retry_after_s is not None)
    if fault.retry_after_s is not None:
        assert error.retry_after_s == fault.retry_after_s


@pytest.mark.long
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_the_same_twenty_times_at_once(wire: Wire, fault: Fault, kind: str) -> None:
    with Upstream(always=fault.behaviour) as upstream:
        model = model_at(upstream, wire, kind, **{"idle_s": 5, **{name: 3 * s for name, s in fault.limits.items()}})

        def outcome(_: int) -> FailureKind | Reason:
            try:
                return model.complete(ask(tools=fault.tools)).reason
            except ModelFailure as error:
                return error.kind

        with ThreadPoolExecutor(20) as threads:
            assert set(threads.map(outcome, range(20))) == {fault.kind or fault.ends}


def test_the_faults_cover_every_kind() -> None:
    assert {fault.kind for fault in FAULTS.values()} >= set(FailureKind) - {FailureKind.DEADLINE}


@pytest.mark.parametrize("kind", FORMATS)
def test_an_endless_answer_ends_at_the_deadline(wire: Wire, kind: str) -> None:
    with Upstream(up.endless()) as upstream, pytest.raises(ModelFailure) as caught:
        model_at(upstream, wire, kind).complete(ask(seconds=1.5))
    assert caught.value.kind is FailureKind.DEADLINE


# Rules


def test_every_kind_has_exactly_one_rule() -> None:
    assert set(RULES) == set(FailureKind)
    for kind, rule in RULES.items():
        error = failure(kind, "no", where="here")
        assert rule_of(error) is rule
        assert error.blames_provider is rule.breaker
        assert error.elsewhere is (Then.ELSEWHERE in (rule.then, rule.otherwise))
        assert isinstance(error, Invalid) is (
            kind in {FailureKind.CALLER, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTER}
        )
        assert not (rule.alarm and rule.breaker), "what an operator must mend is no outage"
        assert not rule.waits or rule.then is Then.RETRY_HERE


def test_what_was_declined_is_not_routed_around() -> None:
    assert {kind for kind, rule in RULES.items() if Then.PASS_ON in (rule.then, rule.otherwise)} == {
        FailureKind.CONTENT_FILTER
    }


def test_the_manual_has_the_same_rules() -> None:
    lines = PAGE.read_text("utf-8").partition("## When a call fails")[2].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:]] for line in lines if re.match(r"\| `\w+` \|", line)]
    told = {row[0].strip("`"): tuple(row[2:6]) for row in rows}
    assert len(rows) == len(told)
    assert told == {
        str(kind): (
            str(rule.then),
            str(rule.otherwise) if rule.otherwise is not rule.then else "",
            "yes" if rule.breaker else "",
            "yes" if rule.alarm else "",
        )
        for kind, rule in RULES.items()
    }
