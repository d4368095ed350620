from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mainstay.agreement.openslo import exported, imported
from mainstay.agreement.terms import Agreement, Objective
from mainstay.errors import Invalid
from mainstay.types import Mode

OURS = (
    Objective(name="Latency of answers", measure="latency_p95_ms", target=8000.5),
    Objective(name="latency-of-answers", measure="latency_p50_ms", target=900, window="90m"),
    Objective(name="first words", measure="first_token_p95_ms", target=1500, team="group:sales", door="chat"),
    Objective(name="up", measure="availability", target=0.999, window="7d", enter_mode=Mode.ECONOMY),
    Objective(name="errors", measure="error_rate", target=0.01, window="24h"),
    Objective(name="cache", measure="wrong_cache_rate", target=0.02),
)


def test_what_was_exported_comes_back_the_same() -> None:
    said = exported(Agreement(objectives=OURS), "Our Help Desk")
    assert [one["kind"] for one in said.documents] == ["Service", *["SLI", "SLO"] * 6]
    names = [one["metadata"]["name"] for one in said.documents]
    assert len(set(names)) == len(names)
    assert names[0] == "our-help-desk"
    back = imported(said.documents)
    assert not back.left_out
    assert back.objectives == (*OURS[:4], replace(OURS[4], window="1d"), OURS[5])


def test_what_has_no_shape_is_named() -> None:
    means = tuple(
        Objective(name=name, measure=name, target=0.9)  # type: ignore[arg-type]  # they are measures
        for name in ("groundedness", "citation_coverage", "cost_per_request_usd")
    )
    odd = (
        Objective(name="never", measure="error_rate", target=0),
        Objective(name="fine", measure="availability", target=0.9, window="90s"),
    )
    said = exported(Agreement(objectives=(*means, *odd)), "")
    assert [one["kind"] for one in said.documents] == ["Service"]
    for held in (*means, *odd):
        assert any(held.name in sentence for sentence in said.left_out)
    assert any("governance" in sentence for sentence in said.left_out)


def slo(indicator: dict[str, Any], objectives: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": "web"},
        "spec": {
            "service": "web",
            "indicator": {"metadata": {"name": "x"}, "spec": indicator},
            "timeWindow": [{"duration": "4w", "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": objectives,
            **spec,
        },
    }


FOREIGN = {"metricSource": {"type": "Prometheus", "spec": {"query": "x"}}}
THRESHOLD = {"thresholdMetric": FOREIGN}
GOOD = {"ratioMetric": {"counter": True, "good": FOREIGN, "total": FOREIGN}}
BAD = {"ratioMetric": {"counter": True, "bad": FOREIGN, "total": FOREIGN}}
FAST = {"op": "lte", "value": 0.8, "target": 0.95}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (slo(THRESHOLD, [FAST]), Objective(name="web", measure="latency_p95_ms", target=800)),
        (
            slo(THRESHOLD, [{"op": "lt", "value": 0.5, "targetPercent": 50}]),
            Objective(name="web", measure="latency_p50_ms", target=500),
        ),
        (slo(GOOD, [{"targetPercent": 99.9}]), Objective(name="web", measure="availability", target=0.999)),
        (slo(BAD, [{"target": 0.99}]), Objective(name="web", measure="error_rate", target=0.01)),
        (slo(GOOD, [{"target": 0.9}], timeWindow=None), Objective(name="web", measure="availability", target=0.9)),
    ],
)
def test_foreign_objectives(document: dict[str, Any], wanted: Objective) -> None:
    said = imported([document], unit_ms=1000.0)
    assert not said.left_out
    assert said.objectives == (wanted,)


def test_several_objectives_of_one_and_an_indicator_of_its_own() -> None:
    document = slo(GOOD, [{"target": 0.9}, {"target": 0.99}])
    assert [one.name for one in imported([document]).objectives] == ["web-1", "web-2"]
    indicator = {"apiVersion": "openslo/v1", "kind": "SLI", "metadata": {"name": "ratio"}, "spec": GOOD}
    del document["spec"]["indicator"]
    document["spec"]["indicatorRef"] = "ratio"
    assert len(imported([document, indicator]).objectives) == 2
    assert "'ratio' is not in the file" in imported([document]).left_out[0]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (slo(THRESHOLD, [{**FAST, "target": 0.99}]), "not for 99"),
        (slo(THRESHOLD, [{**FAST, "op": "gte"}]), "at most"),
        (slo(THRESHOLD, [{**FAST, "value": "fast"}]), "not a number"),
        (slo(GOOD, [{"target": 99}]), "no share"),
        (slo(GOOD, [{}]), "not a number"),
        (slo(GOOD, []), "no objectives"),
        (slo({"ratioMetric": {"raw": FOREIGN, "rawType": "success"}}, [{"target": 0.9}]), "neither"),
        (slo(GOOD, [{"target": 0.9}], budgetingMethod="Timeslices"), "Timeslices"),
        (slo(GOOD, [{"target": 0.9}], timeWindow=[{"duration": "1M", "isRolling": True}]), "no fixed length"),
        (slo(GOOD, [{"target": 0.9}], timeWindow=[{"duration": "28d", "calendar": {}}]), "calendar"),
        (slo(GOOD, [{"target": 0.9}], timeWindow=[{"duration": "often", "isRolling": True}]), "'often'"),
        ({**slo(GOOD, [{"target": 0.9}]), "apiVersion": "openslo/v1alpha"}, "v1alpha"),
        ({"apiVersion": "openslo/v1", "kind": "AlertPolicy", "metadata": {"name": "page"}}, "AlertPolicy page"),
        ({"apiVersion": "openslo/v1", "kind": "SLO", "spec": [1], "metadata": "x"}, "SLO without a name"),
    ],
)
def test_what_can_not_be_read_is_named(document: dict[str, Any], reason: str) -> None:
    said = imported([document])
    assert not said.objectives
    assert len(said.left_out) == 1
    assert reason in said.left_out[0]


def test_a_file_of_something_else_is_refused() -> None:
    with pytest.raises(Invalid, match="no OpenSLO"):
        imported([{"kind": "Deployment"}, None, "text"])
