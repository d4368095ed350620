"""The agreement's objectives for other people's tools: rules for Prometheus, a dashboard for Grafana.

Both are made of what ``/metrics`` tells (``records.metrics``). The rules are those of ``agreement.burning`` as far as they can
be said in PromQL: windows, factors, the cap for loose targets, the least number of bad events and the lower confidence bound
are the same. Two things are not: a short window that holds too little is left out where ours is widened, and nothing keeps
an alert up near its threshold but ``keep_firing_for``. Costs and wrong answers from the cache are not counted there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mainstay.agreement import Agreement
from mainstay.agreement.burning import COST, ENOUGH, LEAST_BAD, QUIET, Fitted, fitted
from mainstay.agreement.terms import Objective
from mainstay.agreement.wording import length, promise
from mainstay.records.alerts import RUNBOOK

EVENTS, BAD = "mainstay_objective_events_total", "mainstay_objective_bad_total"
SHARE = "mainstay:objective_bad:share"
COUNT, WRONG, LOW = "mainstay:objective:events", "mainstay:objective:bad", "mainstay:objective_bad:low"
INTERVAL = "30s"
SCHEMA_VERSION = 39
"""Of Grafana's dashboards: versions from 9 on read it."""


def counted(agreement: Agreement) -> list[Objective]:
    """The objectives whose events ``/metrics`` counts."""
    return [held for held in agreement.objectives if held.measure not in (COST, "wrong_cache_rate")]


# -- Prometheus --------------------------------------------------------------------------------------------------------


def prometheus_rules(agreement: Agreement) -> dict[str, Any]:
    """A rules file: one group of recording rules for each window, one group of alerts."""
    held = counted(agreement)
    rules = [(one, rule) for one in held for rule in fitted(one)]
    windows = sorted({width for _, one in rules for width in (one.rule.long, one.rule.short)})
    groups: list[dict[str, Any]] = []
    if windows:
        groups.append({"name": "mainstay-windows", "interval": INTERVAL, "rules": [*_windows(windows)]})
    alerts = [_alert(objective, one) for objective, one in rules]
    if alerts:
        groups.append({"name": "mainstay-alerts", "interval": INTERVAL, "rules": alerts})
    return {"groups": groups}


def _windows(windows: Sequence[timedelta]) -> Iterator[dict[str, Any]]:
    for width in windows:
        window = duration(width)
        labels = {"window": window}
        yield {"record": COUNT, "expr": f"sum by (objective) (increase({EVENTS}[{window}]))", "labels": labels}
        yield {"record": WRONG, "expr": f"sum by (objective) (increase({BAD}[{window}]))", "labels": labels}
        bad, events = f'{WRONG}{{window="{window}"}}', f'{COUNT}{{window="{window}"}}'
        yield {"record": SHARE, "expr": f"{bad} / ({events} > 0)", "labels": labels}
        share = f'{SHARE}{{window="{window}"}}'
        # Wilson's lower bound, two standard errors below: as burning.lower_share.
        spread = f"sqrt(abs({share} * (1 - {share}) / {events}) + 1 / ({events} ^ 2))"
        yield {
            "record": LOW,
            "expr": f"({share} + 2 / {events} - 2 * {spread}) / (1 + 4 / {events})",
            "labels": labels,
        }


def _alert(objective: Objective, one: Fitted) -> dict[str, Any]:
    long, short = duration(one.rule.long), duration(one.rule.short)
    name = _quoted(objective.name)

    def of(metric: str, window: str) -> str:
        return f'{metric}{{objective={name},window="{window}"}}'

    share, sure = f"{one.share:.10g}", f"{one.sure:.10g}"
    expr = (
        f"{of(SHARE, long)} > {share}"
        f" and ignoring(window) {of(LOW, long)} > {sure}"
        f" and ignoring(window) {of(WRONG, long)} >= {LEAST_BAD:g}"
        f" and ignoring(window) ({of(SHARE, short)} > {share} or ignoring(window) {of(COUNT, short)} < {ENOUGH})"
    )
    return {
        "alert": "MainstayErrorBudgetBurn",
        "expr": expr,
        "keep_firing_for": duration(QUIET[one.rule.severity]),
        "labels": {
            "severity": str(one.rule.severity),
            "objective": objective.name,
            "long_window": long,
            "short_window": short,
        },
        "annotations": {
            "summary": f"{_told(objective.name)}: {one.rule.budget * 100:g} % of the error budget gone within"
            f" {length(one.rule.long.total_seconds())}",
            "description": f"Promised: {_told(promise(objective))}. It fires when {one.share * 100:.3g} % of the events are"
            f" bad, {one.burn:.3g} times what is permitted.",
            "runbook": RUNBOOK,
        },
    }


def duration(width: timedelta) -> str:
    """A length of time as PromQL writes it."""
    seconds = int(width.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _quoted(text: str) -> str:
    """A string of PromQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _told(text: str) -> str:
    """Text in an annotation, which is a template of Go: braces in a name fill in nothing."""
    return text.replace("{{", "{ {").replace("}}", "} }")


# -- Grafana -----------------------------------------------------------------------------------------------------------


def grafana_dashboard(agreement: Agreement, service: str) -> dict[str, Any]:
    """A dashboard to be imported: it asks for its Prometheus data source."""
    panels: list[dict[str, Any]] = []
    for title, unit, queries in [*_panels(agreement)]:
        n = len(panels)
        panels.append(
            {
                "id": n + 1,
                "type": "timeseries",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "gridPos": {"h": 8, "w": 12, "x": 12 * (n % 2), "y": 8 * (n // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "options": {
                    "legend": {"displayMode": "list", "placement": "bottom"},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                },
                "targets": [
                    {
                        "refId": chr(65 + k),
                        "expr": expr,
                        "legendFormat": legend,
                        "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    }
                    for k, (expr, legend) in enumerate(queries.items())
                ],
            }
        )
    return {
        "title": f"{service}: Mainstay",
        "uid": "mainstay-service",
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "tags": ["mainstay"],
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def _panels(agreement: Agreement) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    window = "$__rate_interval"
    yield "Requests by status", "reqps", {f"sum by (status) (rate(mainstay_requests_total[{window}]))": "{{status}}"}
    yield "Failures by class", "reqps", {f"sum by (class) (rate(mainstay_errors_total[{window}]))": "{{class}}"}
    for title, metric in (
        ("Time to the whole answer", "mainstay_answer_seconds"),
        ("Time to the first words", "mainstay_first_words_seconds"),
    ):
        yield (
            title,
            "s",
            {
                f"histogram_quantile({at}, sum by (le) (rate({metric}_bucket[{window}])))": f"p{at * 100:g}"
                for at in (0.5, 0.95, 0.99)
            },
        )
    for held in counted(agreement):
        allowed = next((one.allowed for one in fitted(held)), 0.0)
        if allowed > 0:
            name = _quoted(held.name)
            yield (
                f"{held.name}: how many times as fast as permitted",
                "none",
                {
                    f"sum(increase({BAD}{{objective={name}}}[{width}]))"
                    f" / (sum(increase({EVENTS}{{objective={name}}}[{width}])) > 0) / {allowed:.10g}": width
                    for width in ("1h", "6h", "3d")
                },
            )
    yield "Mode in force", "none", {"max by (mode) (mainstay_mode)": "{{mode}}"}
    yield "Open alerts", "none", {"max by (objective, severity) (mainstay_alert)": "{{objective}} {{severity}}"}
    yield (
        "At work, waiting, refused",
        "none",
        {
            "sum(mainstay_requests_at_work)": "at work",
            "sum(mainstay_requests_waiting)": "waiting",
            f"sum by (reason) (rate(mainstay_requests_refused_total[{window}]))": "refused a second: {{reason}}",
        },
    )
    yield "Breakers that are open", "none", {'max by (model) (mainstay_breaker_state{state="open"})': "{{model}}"}
    yield (
        "Tokens by model",
        "none",
        {f"sum by (model, way) (rate(mainstay_tokens_total[{window}]))": "{{model}} {{way}}"},
    )
    yield (
        "Dollars",
        "currencyUSD",
        {
            "sum(increase(mainstay_cost_usd_total[1h]))": "in an hour",
            'max by (scope, per) (mainstay_ledger_usd{state="settled"})': "{{scope}} this {{per}}",
        },
    )
    yield "Cache", "none", {f"sum by (what) (rate(mainstay_cache_total[{window}]))": "{{what}}"}
    yield (
        "Work that waits",
        "none",
        {
            'max by (state) (mainstay_jobs{state=~"ready|running|dead"})': "jobs {{state}}",
            "sum(mainstay_traces_waiting)": "journeys to be written",
        },
    )
