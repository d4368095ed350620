"""The rules for Prometheus and the dashboard for Grafana, read by a parser of PromQL and held against a scrape of a service
in which everything has happened that they ask for."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from mainstay.access.keys import Permission
from mainstay.agreement.burning import Severity
from mainstay.app import App
from mainstay.cli import main
from mainstay.errors import MainstayError
from mainstay.records.alerts import Alert
from mainstay.types import Actor, Question
from mainstay.web.server import create_api
from tests.road.conftest import serving
from tests.support import upstream as up
from tests.support.services import open_service, people, sync

OBJECTIVE = 'there "and" {{back}} \\ é'
AGREEMENT = f"""\
traffic: {{user_per_minute: 2}}
objectives:
  - {{name: {json.dumps(OBJECTIVE)}, measure: availability, target: 0.99, window: 30d}}
  - {{name: quick, measure: latency_p95_ms, target: 8000, window: 7d}}
  - {{name: begins, measure: first_token_p95_ms, target: 2000, window: 28d}}
  - {{name: founded, measure: groundedness, target: 0.9, window: 30d}}
  - {{name: cheap, measure: cost_per_request_usd, target: 0.005, window: 1d}}
budgets:
  - {{of: service, per: month, usd: "10"}}
"""
DOCUMENTS = {
    ".access.yaml": "allow: [group:staff]",
    "gate.md": "# Gate\n\nThe gate in Rotterdam opens at seven. The gate in Rotterdam closes at nine.\n",
}
GATE = "When does the gate in Rotterdam open?"


@dataclass
class Scraped:
    """Each series that was told, as the values of its labels, by its name."""

    series: dict[str, list[Mapping[str, str]]]

    def labels(self, name: str) -> set[str]:
        return {label for one in self.series[name] for label in one}

    def values(self, name: str, label: str) -> set[str]:
        return {one[label] for one in self.series[name]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def scraped(folder: Path) -> Scraped:
    """Over a socket, as Prometheus does it."""
    with up.Upstream(always=up.answering(up.cites)) as model:
        settings = f"""\
sources: [{{name: docs, folder: documents}}]
metrics: {{open: true}}
models:
  answer: [small]
  providers:
    small: {{base_url: "{model.base_url}", model: s, price: {{input: "0.1", output: "0.4"}}}}
"""
        (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
        with open_service(folder, DOCUMENTS, settings=settings) as app:
            people(app, {"alice": ("staff",)})
            sync(app)
            with serving(app) as address:
                _everything_happens(app)
                with urllib.request.urlopen(f"{address}/metrics", timeout=30) as said:
                    text = said.read().decode()
    series: dict[str, list[Mapping[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            series.setdefault(one.name, []).append(one.labels)
    return Scraped(series)


def _everything_happens(app: App) -> None:
    client = TestClient(create_api(app))
    key = app.keyring.create("user:alice", name="test", scopes=[str(Permission.ASK)])[1]
    for more, code in (({}, 200), ({"stream": True}, 200), ({}, 429)):
        said = client.post("/v1/answers", json={"question": GATE, **more}, headers={"Authorization": f"Bearer {key}"})
        assert said.status_code == code, said.text
    app.people.add_user("dora")
    _named(app, "membership", "gone")
    with pytest.raises(MainstayError):  # one that fails through our fault: nobody can say what she may read
        app.answering.answer(Question(text=GATE), Actor(principal="user:dora"), door="page")
    _named(app, "gone", "membership")
    now = app.clock.now()
    assert app.alarming.store.begin(
        Alert(id="alr_1", objective="quick", severity=Severity.PAGE, opened=now, looked=now)
    )
    app.ask_for_sync("docs", requested_by="user:alice")


def _named(app: App, table: str, name: str) -> None:
    with app.database.write() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def exported(folder: Path, capsys: pytest.CaptureFixture[str], what: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["-C", str(folder), "export", what])
    assert not ended.value.code
    return capsys.readouterr().out


# -- reading PromQL ----------------------------------------------------------------------------------------------------


class Reading:
    """What an expression asks for, and which labels its result has (None: all those of its series)."""

    def __init__(self, scraped: Scraped, recorded: Mapping[str, set[str]]) -> None:
        self.scraped, self.recorded = scraped, recorded
        self.faults: list[str] = []
        self.asked: set[str] = set()

    def read(self, text: str) -> set[str]:
        try:
            parsed = promql.parse(text)
        except ValueError as error:
            self.faults.append(f"is no PromQL: {error}: {text}")
            return set()
        before = len(self.faults)
        found = self.labels(parsed)
        self.faults[before:] = [f"{fault}: {text}" for fault in self.faults[before:]]
        return found

    def labels(self, expr: Any) -> set[str]:
        if isinstance(expr, promql.MatrixSelector):
            return self.labels(expr.vector_selector)
        if isinstance(expr, promql.VectorSelector):
            return self._of_series(expr)
        if isinstance(expr, promql.AggregateExpr):
            below = self.labels(expr.expr)
            if expr.modifier is None:
                return set()
            assert expr.modifier.type == promql.AggModifierType.By
            named = set(expr.modifier.labels)
            if missing := named - below:
                self.faults.append(f"sums by {sorted(missing)}, which its series lack")
            return named
        if isinstance(expr, promql.BinaryExpr):
            return self._of_two(expr)
        if isinstance(expr, promql.Call):
            below = set().union(*(self.labels(one) for one in expr.args))
            return below - {"le"} if expr.func.name == "histogram_quantile" else below
        if isinstance(expr, promql.ParenExpr | promql.UnaryExpr):
            return self.labels(expr.expr)
        assert isinstance(expr, promql.NumberLiteral), type(expr)
        return set()

    def _of_series(self, selector: Any) -> set[str]:
        name = selector.name
        self.asked.add(name)
        if name in self.recorded:
            have = self.recorded[name]
        elif name in self.scraped.series:
            have = self.scraped.labels(name)
        else:
            self.faults.append(f"{name} is told by nobody")
            return set()
        for one in selector.matchers.matchers:
            if one.name not in have:
                self.faults.append(f"{name} has no label {one.name}")
            elif name in self.scraped.series:
                wanted = one.value.split("|") if one.op == promql.MatchOp.Re else [one.value]
                if missing := set(wanted) - self.scraped.values(name, one.name):
                    self.faults.append(f"{name} never has {sorted(missing)} as its {one.name}")
        return set(have)

    def _of_two(self, expr: Any) -> set[str]:
        left, right = self.labels(expr.lhs), self.labels(expr.rhs)
        scalars = [isinstance(side, promql.NumberLiteral) for side in (expr.lhs, expr.rhs)]
        if any(scalars):
            return right if scalars[0] else left
        matching = expr.modifier.matching if expr.modifier is not None else None
        if matching is not None:
            assert matching.type == promql.LabelModifierType.Exclude
            ignored = set(matching.labels)
            if missing := ignored - (left | right):
                self.faults.append(f"ignores {sorted(missing)}, which neither side has")
        else:
            ignored = set()
        if left - ignored != right - ignored:
            self.faults.append(f"its sides never match: {sorted(left)} and {sorted(right)}")
        return left


def recorded_of(rules: Mapping[str, Any]) -> dict[str, set[str]]:
    """The series that recording rules make: summed by the objective, with the rule's own labels."""
    return {
        one["record"]: {"objective", *one["labels"]}
        for group in rules["groups"]
        for one in group["rules"]
        if "record" in one
    }


# -- tests -------------------------------------------------------------------------------------------------------------


def test_every_rule_is_promql_about_what_is_told(
    scraped: Scraped, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = yaml.safe_load(exported(folder, capsys, "prometheus-rules"))
    recorded = recorded_of(rules)
    reading = Reading(scraped, recorded)
    windows: dict[str, set[str]] = {}
    for group in rules["groups"]:
        for one in group["rules"]:
            labels = reading.read(one["expr"])
            if "record" in one:
                assert labels | set(one["labels"]) == recorded[one["record"]]
                windows.setdefault(one["record"], set()).add(one["labels"]["window"])
            else:
                assert promql.parse_duration(one["keep_firing_for"]).total_seconds() > 0
                assert labels == {"objective", "window"}
    assert reading.faults == []
    for name, window in re.findall(r'(mainstay:[a-z_:]+)\{[^}]*window="(\w+)"', json.dumps(rules).replace('\\"', '"')):
        assert window in windows[name], (name, window)  # nothing waits for a window that nobody records
    assert {"mainstay_objective_events_total", "mainstay_objective_bad_total"} <= reading.asked
    alerted = {one["labels"]["objective"] for group in rules["groups"] for one in group["rules"] if "alert" in one}
    assert alerted == {OBJECTIVE, "quick", "begins", "founded"}
    assert alerted <= scraped.values("mainstay_objective_events_total", "objective")


def test_every_query_of_the_dashboard_is_promql_about_what_is_told(
    scraped: Scraped, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = json.loads(exported(folder, capsys, "grafana"))
    reading = Reading(scraped, {})
    for panel in board["panels"]:
        for target in panel["targets"]:
            labels = reading.read(target["expr"].replace("$__rate_interval", "1m"))
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown == labels, (panel["title"], target["legendFormat"], labels)
    assert reading.faults == []
    assert len(reading.asked) > 12


def test_the_reader_finds_what_is_wrong(scraped: Scraped) -> None:
    for wrong, why in {
        "sum by (status (x)": "is no PromQL",
        "mainstay_request_total": "told by nobody",
        "sum by (user) (rate(mainstay_requests_total[1m]))": "its series lack",
        'mainstay_requests_total{user="alice"}': "no label user",
        'mainstay_breaker_state{state="ajar"}': "never has",
        "mainstay_mode / mainstay_requests_waiting": "never match",
    }.items():
        reading = Reading(scraped, {})
        reading.read(wrong)
        assert why in " ".join(reading.faults), (wrong, reading.faults)
