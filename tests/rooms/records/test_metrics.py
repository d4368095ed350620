"""What scrapers are told: Prometheus' own parser reads it, nobody's words become labels, objectives are counted as elsewhere."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mainstay.agreement.terms import Agreement, Objective
from mainstay.errors import Unavailable
from mainstay.exporting import counted, duration, grafana_dashboard, prometheus_rules
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.records.metrics import Build, Figure, Metrics, Sources, badness, buckets, figures
from mainstay.resilience.admission import AdmissionStanding
from mainstay.types import Mode, Status
from mainstay.workflows.ports import JobState, Standing

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = 'x"} 1\nmainstay_up{user="alice'
AGREEMENT = Agreement(
    objectives=(
        Objective(name="up", measure="availability", target=0.99),
        Objective(name="chat is quick", measure="latency_p95_ms", target=4321, door="chat"),
        Objective(name="begins", measure="first_token_p95_ms", target=900, team="group:sales"),
        Objective(name="founded", measure="groundedness", target=0.9),
        Objective(name="cheap", measure="cost_per_request_usd", target=0.001),
        Objective(name="loose", measure="error_rate", target=0.1, window="7d"),
    )
)


def made(agreement: Agreement = AGREEMENT) -> Metrics:
    return Metrics(agreement, models=("writer", "extractive"), build=Build(version="9.9", agreement="agr_1"))


def request(**more: Any) -> Measured:
    held = {"request_id": "req_1", "at": NOW, "door": "answers", "status": "answered", "mode": "full"}
    return Measured(**{**held, "model": "writer", "principal": "user:alice", "total_ms": 1200.0, **more})


def read(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels, as Prometheus' own parser reads them."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(samples: Mapping[Any, float], **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for held, value in samples.items() if wanted <= set(held))


def test_requests_are_counted() -> None:
    metrics = made()
    metrics.observe(request(), input_tokens=100, output_tokens=20)
    metrics.observe(request(door="chat", first_ms=300.0, cost_nanodollars=2_000_000))
    metrics.observe(request(status="failed", failed=True, mode="static"), error="Unavailable")
    metrics.observe(request(status=TURNED_AWAY, mode="", model=""))
    metrics.observe(request(kind="audit"))
    seen = read(metrics)
    assert sum(seen["mainstay_requests_total"].values()) == 4, "an audit is nobody's request"
    assert total(seen["mainstay_requests_total"], door="chat", model="writer", mode="full", status="answered") == 1
    assert total(seen["mainstay_requests_total"], status=TURNED_AWAY, mode="none", model="none") == 1
    assert seen["mainstay_errors_total"] == {(("class", "Unavailable"),): 1}
    assert total(seen["mainstay_answer_seconds_count"]) == 2, "a failure is no time"
    assert total(seen["mainstay_first_words_seconds_count"], door="chat") == 1
    assert seen["mainstay_tokens_total"] == {
        (("model", "writer"), ("way", "in")): 100,
        (("model", "writer"), ("way", "out")): 20,
    }
    assert total(seen["mainstay_cost_usd_total"]) == pytest.approx(0.002)
    assert seen["mainstay_build_info"][("agreement", "agr_1"), ("python", _python()), ("version", "9.9")] == 1


def _python() -> str:
    import platform  # only here

    return platform.python_version()


def test_nobodys_words_become_labels() -> None:
    """Whatever a request carries, labels come from the lists that are known before."""
    metrics = made()
    for name in ("door", "status", "mode", "model", "team", "principal", "release", "request_id"):
        metrics.observe(request(**{name: HOSTILE}))
    metrics.observe(request(failed=True, status="failed"), error=HOSTILE)
    text = metrics.render().decode()
    assert "alice" not in text
    assert "req_1" not in text
    known = {
        *("answers", "chat", "page", "cli", "other", "none", "writer", "extractive", "in", "out", TURNED_AWAY),
        *map(str, Mode),
        *map(str, Status),
        *(held.name for held in AGREEMENT.objectives),
    }
    for name, samples in read(metrics).items():
        for labels in samples:
            for label, value in labels:
                assert label in ("le", "python", "version", "agreement") or value in known, (name, label, value)


def test_hostile_names_in_the_settings_stay_within_their_quotes() -> None:
    agreement = Agreement(objectives=(Objective(name=HOSTILE, measure="availability", target=0.9),))
    metrics = Metrics(agreement, models=(HOSTILE,), build=Build(version=HOSTILE))
    metrics.observe(request(model=HOSTILE))
    seen = read(metrics)
    assert "mainstay_up" not in seen
    assert total(seen["mainstay_objective_events_total"], objective=HOSTILE) == 1
    assert total(seen["mainstay_requests_total"], model=HOSTILE) == 1


def test_buckets_stand_at_the_targets() -> None:
    found = buckets(AGREEMENT, "total_ms")
    assert {4.321, 2.1605, 8.642} <= set(found)
    assert 0.9 not in found, "that is about first words"
    assert {0.45, 0.9, 1.8} <= set(buckets(AGREEMENT, "first_ms"))
    assert list(found) == sorted(set(found))


def test_what_within_a_target_means_is_counted_not_guessed() -> None:
    metrics = made()
    for ms in (100.0, 4320.9, 4321.0, 4321.1, 9000.0):
        metrics.observe(request(door="chat", total_ms=ms))
    seen = read(metrics)
    assert total(seen["mainstay_answer_seconds_bucket"], le="4.321") == 3
    assert total(seen["mainstay_objective_events_total"], objective="chat is quick") == 5
    assert total(seen["mainstay_objective_bad_total"], objective="chat is quick") == 2


def test_objectives_are_there_before_anything_happens() -> None:
    """Else the first failure would be no increase."""
    seen = read(made())
    assert {dict(labels)["objective"] for labels in seen["mainstay_objective_events_total"]} == {
        held.name for held in counted(AGREEMENT)
    }
    assert set(seen["mainstay_objective_bad_total"].values()) == {0.0}


def test_badness_is_what_attainment_counts() -> None:
    up, chat, begins, founded, _, _ = AGREEMENT.objectives
    assert badness(up, request(failed=True)) == 1
    assert badness(up, request(status=TURNED_AWAY, failed=True)) is None
    assert badness(chat, request(total_ms=5000)) is None, "through another door"
    assert badness(chat, request(door="chat", total_ms=5000, failed=True)) is None, "a failure is no late answer"
    assert badness(begins, request(team="group:sales", first_ms=901.0)) == 1
    assert badness(begins, request(team="group:sales")) is None
    assert badness(founded, request(grounded=0.75)) == 0.25
    assert badness(founded, request()) is None


def test_many_threads_count() -> None:
    metrics = made()

    def count() -> None:
        for _ in range(500):
            metrics.observe(request())

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(read(metrics)["mainstay_requests_total"]) == 2000


# -- figures that are looked up ----------------------------------------------------------------------------------------


def sources(**more: Any) -> Sources:
    held: dict[str, Any] = {
        "mode": lambda: "economy",
        "breakers": lambda: {"writer": "open", HOSTILE: "closed"},
        "admission": lambda: AdmissionStanding(
            in_flight=3, waiting=2, expected_wait_s=0, service_s=0, pressure=0, overload=False, shed={"queue": 4}
        ),
        "cache": lambda: SimpleNamespace(looks=10, hits=4, similar_hits=1, kept=5, store_failures=0),
        "audits": lambda: (20, 1),
        "money": lambda: [("service", "month", "held", 5_000_000_000), ("user", "day", "settled", 250_000_000)],
        "jobs": lambda: Standing(jobs=dict.fromkeys(JobState, 1), oldest_due_s=7.5),
        "recorder": lambda: (12, 1),
        "index": lambda: {"documents": 3, "chunks": 40, "vectors": 40},
        "alerts": lambda: [("up", "page", False), (HOSTILE, "page", False)],
        "models": ("writer",),
        "objectives": frozenset({"up"}),
    }
    return Sources(**{**held, **more})


def test_figures_of_a_running_service() -> None:
    metrics = made()
    metrics.add(*figures(sources()))
    seen = read(metrics)
    assert seen["mainstay_mode"][("mode", "economy"),] == 1
    assert total(seen["mainstay_mode"]) == 1
    assert total(seen["mainstay_breaker_state"], model="writer", state="open") == 1
    assert total(seen["mainstay_requests_refused_total"], reason="queue") == 4
    assert total(seen["mainstay_cache_total"], what="misses") == 6
    assert total(seen["mainstay_cache_audits"], found="wrong") == 1
    assert total(seen["mainstay_ledger_usd"], scope="user", per="day", state="settled") == pytest.approx(0.25)
    assert total(seen["mainstay_jobs"], state="dead") == 1
    assert seen["mainstay_traces_waiting"] == {(): 12}
    assert total(seen["mainstay_index"], what="chunks") == 40
    assert list(seen["mainstay_alert"]) == [(("objective", "up"), ("quiet", "no"), ("severity", "page"))]
    assert seen["mainstay_figures_missing"] == {(): 0}
    assert "alice" not in metrics.render().decode()


def test_a_figure_that_can_not_be_had_keeps_no_other_away() -> None:
    def away() -> Iterable[Any]:
        raise Unavailable("the database does not answer")

    metrics = made()
    metrics.add(*figures(sources(money=away, jobs=away)))
    seen = read(metrics)
    assert "mainstay_ledger_usd" not in seen
    assert seen["mainstay_figures_missing"] == {(): 3}
    assert "mainstay_mode" in seen


def test_the_text_is_as_prometheus_wants_it() -> None:
    """Names and units as its guide has them; every family is described, no sample comes twice."""
    metrics = made()
    metrics.add(*figures(sources()), Figure(name="mainstay_more", words="More.", labels=(), rows=lambda: [((), 1.0)]))
    metrics.observe(request(failed=True), error="Unavailable")
    names, seen = set(), set()
    for line in metrics.render().decode().splitlines():
        if line.startswith("# HELP"):
            name = line.split()[2]
            assert name not in names
            assert line.endswith(".")
            names.add(name)
        elif not line.startswith("#"):
            sample = line.rpartition(" ")[0]
            assert sample not in seen
            seen.add(sample)
            assert re.match(r"mainstay_[a-z_]+", sample)
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation
        if family.type == "counter":
            assert all(one.name.endswith(("_total", "_created")) for one in family.samples)


# -- what others make of it --------------------------------------------------------------------------------------------


def told(metrics: Metrics) -> set[str]:
    """Every name that a scraper may see."""
    metrics.observe(request(first_ms=1.0, cost_nanodollars=5), input_tokens=1)
    metrics.observe(request(failed=True))
    metrics.add(*figures(sources()))
    return {name for name in read(metrics) if not name.endswith("_created")}


def named(expr: str) -> set[str]:
    return set(re.findall(r"\bmainstay_[a-z_]+", expr))


def test_rules_for_prometheus() -> None:
    rules = prometheus_rules(AGREEMENT)
    known = told(made())
    recorded = {one["record"] for group in rules["groups"] for one in group["rules"] if "record" in one}
    alerts = [one for group in rules["groups"] for one in group["rules"] if "alert" in one]
    for group in rules["groups"]:
        assert set(group) == {"name", "interval", "rules"}
        for one in group["rules"]:
            assert named(one["expr"]) <= known
            assert set(re.findall(r"mainstay:[a-z_:]+", one["expr"])) <= recorded
            for opening, closing in ("()", "{}", "[]"):
                assert one["expr"].count(opening) == one["expr"].count(closing)
    assert {one["labels"]["objective"] for one in alerts} == {"up", "chat is quick", "begins", "founded", "loose"}
    assert {one["labels"]["severity"] for one in alerts if one["labels"]["objective"] == "founded"} == {"ticket"}
    page = next(one for one in alerts if one["labels"] | {"long_window": "1h", "objective": "up"} == one["labels"])
    assert '"up",window="1h"} > 0.1344 and' in page["expr"]
    assert '"up",window="5m"} > 0.1344 or' in page["expr"]
    assert page["labels"]["severity"] == "page"
    assert prometheus_rules(Agreement()) == {"groups": []}


def test_hostile_names_stay_within_the_rules() -> None:
    name = 'a"} or vector(1) {{ .Labels }} \\ \n'
    rules = prometheus_rules(Agreement(objectives=(Objective(name=name, measure="availability", target=0.9),)))
    alert = rules["groups"][1]["rules"][0]
    assert 'objective="a\\"} or vector(1) {{ .Labels }} \\\\ \\n"' in alert["expr"]
    assert "{{" not in alert["annotations"]["summary"]


def test_durations() -> None:
    assert [duration(timedelta(minutes=held)) for held in (5, 60, 1440, 4320)] == ["5m", "1h", "1d", "3d"]
    assert duration(timedelta(seconds=90)) == "90s"


def test_a_dashboard_for_grafana() -> None:
    board = grafana_dashboard(AGREEMENT, "Harbour")
    known = told(made())
    assert board["schemaVersion"] >= 30
    assert board["title"] == "Harbour: Mainstay"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            assert named(target["expr"])
            assert named(target["expr"]) <= known, target["expr"]
            assert target["datasource"]["uid"] == "${datasource}"
    titles = " ".join(panel["title"] for panel in board["panels"])
    assert "chat is quick" in titles


def test_random_requests_count_as_a_simple_program_does() -> None:
    source = random.Random(3)
    print("seed 3")
    metrics = made()
    bad = dict.fromkeys((held.name for held in counted(AGREEMENT)), 0.0)
    for _ in range(400):
        one = request(
            door=source.choice(["answers", "chat"]),
            team=source.choice(["", "group:sales"]),
            failed=source.random() < 0.1,
            total_ms=source.uniform(0, 9000),
            first_ms=source.choice([None, source.uniform(0, 2000)]),
            grounded=source.choice([None, source.random()]),
        )
        metrics.observe(one)
        for held in counted(AGREEMENT):
            bad[held.name] += badness(held, one) or 0.0
    seen = read(metrics)["mainstay_objective_bad_total"]
    assert {dict(labels)["objective"]: value for labels, value in seen.items()} == pytest.approx(bad)
