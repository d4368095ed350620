"""What a scraper is told: counters of this process, and figures that are looked up when it asks.

Labels come from short lists that are known before: doors, statuses, modes, the models and objectives of the settings. What is
in none of them counts as ``other``, so that nobody who asks, and nothing they ask, can become a label. Users, questions,
documents and request ids never are any.

An objective's events are counted here as they are elsewhere, good and bad, so that another alert manager can keep the same
rules (``exporting`` writes them).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mainstay.agreement.burning import COST
from mainstay.agreement.terms import Agreement, Objective
from mainstay.errors import MainstayError
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.types import Mode, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER, NONE = "other", "none"
DOORS = ("answers", "chat", "page", "cli", "otlp")
STATUSES = (*map(str, Status), TURNED_AWAY)
MODES = tuple(map(str, Mode))
ERRORS = ("Invalid", "TooLarge", "Refused", "NotFound", "Conflict", "Exhausted", "Unavailable", "ModelFailure")
BUCKETS_MS = (50, 100, 200, 400, 800, 1500, 3000, 5000, 8000, 12_000, 20_000, 30_000, 60_000)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure that is looked up when somebody asks: rows of label values with a number. ``kind`` says whether it only
    grows."""

    name: str
    words: str
    labels: tuple[str, ...]
    rows: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    kind: str = "gauge"


@dataclass(frozen=True, kw_only=True)
class Build:
    """What runs: the program's version and the agreement's digest."""

    version: str
    agreement: str = ""


class Metrics:
    """The counters of one process. ``observe`` is called once for each request, from many threads."""

    def __init__(
        self, agreement: Agreement, *, models: Sequence[str], build: Build, extra: Iterable[Figure] = ()
    ) -> None:
        self._models = frozenset(models)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._watched = [held for held in agreement.objectives if held.measure not in (COST, "wrong_cache_rate")]
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "mainstay_requests",
            "Requests that ended, by how.",
            ("status", "mode", "door", "model"),
            registry=self.registry,
        )
        self._errors = Counter(
            "mainstay_errors", "Requests that failed through our fault, by class.", ("class",), registry=self.registry
        )
        self._latency = self._histogram(
            "mainstay_answer_seconds", "Time to the whole answer, of requests that did not fail.", "total_ms", agreement
        )
        self._first = self._histogram(
            "mainstay_first_words_seconds", "Time to the first words, where they were streamed.", "first_ms", agreement
        )
        self._tokens = Counter(
            "mainstay_tokens", "Tokens of answers, as the provider told.", ("model", "way"), registry=self.registry
        )
        self._cost = Counter("mainstay_cost_usd", "Dollars settled for answers.", ("model",), registry=self.registry)
        self._events = Counter(
            "mainstay_objective_events",
            "Events that an objective is about.",
            ("objective",),
            registry=self.registry,
        )
        self._bad = Counter(
            "mainstay_objective_bad", "How much of them was bad.", ("objective",), registry=self.registry
        )
        for held in self._watched:  # there from the start, so that a rate is one from the first failure on
            self._events.labels(held.name)
            self._bad.labels(held.name)
        self._figures = [*extra]
        self.registry.register(_Looked(self._figures, build))

    def add(self, *figures: Figure) -> None:
        """Figures of rooms that were opened later."""
        self._figures.extend(figures)

    def _histogram(self, name: str, words: str, timing: str, agreement: Agreement) -> Histogram:
        return Histogram(name, words, ("door",), registry=self.registry, buckets=buckets(agreement, timing))

    def observe(self, measured: Measured, *, input_tokens: int = 0, output_tokens: int = 0, error: str = "") -> None:
        """Count one request of an asker."""
        if measured.kind != "answer":
            return
        model = self.model(measured.model)
        door = measured.door if measured.door in DOORS else OTHER
        status = measured.status if measured.status in STATUSES else OTHER
        mode = measured.mode if measured.mode in MODES else NONE
        self._child(self._requests, status, mode, door, model).inc()
        if measured.status != TURNED_AWAY:
            if measured.failed:
                self._child(self._errors, error if error in ERRORS else OTHER).inc()
            else:
                self._child(self._latency, door).observe(measured.total_ms / 1000)
                if measured.first_ms is not None:
                    self._child(self._first, door).observe(measured.first_ms / 1000)
        if input_tokens or output_tokens:
            self._child(self._tokens, model, "in").inc(input_tokens)
            self._child(self._tokens, model, "out").inc(output_tokens)
        if measured.cost_nanodollars:
            self._child(self._cost, model).inc(measured.cost_nanodollars / 1e9)
        for held in self._watched:
            bad = badness(held, measured)
            if bad is not None:
                self._child(self._events, held.name).inc()
                if bad:
                    self._child(self._bad, held.name).inc(bad)

    def model(self, name: str) -> str:
        """The label of a model: its name in the settings."""
        return name if name in self._models else OTHER if name else NONE

    def render(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def _child(self, metric: Any, *labels: str) -> Any:
        """``labels`` takes a lock and makes texts of what it is given: each child is looked up once."""
        key = (id(metric), *labels)
        held = self._children.get(key)
        if held is None:
            held = self._children[key] = metric.labels(*labels)
        return held


def badness(held: Objective, measured: Measured) -> float | None:
    """How much of this request is bad for an objective, 0 to 1; None when it is none of its events. As
    ``attainment.budgeted`` counts."""
    if measured.status == TURNED_AWAY:
        return None
    if (held.team and measured.team != held.team) or (held.door and measured.door != held.door):
        return None
    if held.measure in ("availability", "error_rate"):
        return float(measured.failed)
    if held.measure in ("groundedness", "citation_coverage"):
        share = measured.grounded if held.measure == "groundedness" else measured.covered
        return None if share is None else min(1.0, max(0.0, 1 - share))
    time = measured.first_ms if held.measure == "first_token_p95_ms" else measured.total_ms
    if time is None or measured.failed:
        return None
    return float(time > held.target)


def buckets(agreement: Agreement, timing: str) -> tuple[float, ...]:
    """Bounds in seconds: the objectives' own targets among them, so that the share within a target is counted and not
    guessed, and their halves and doubles to see where they are going."""
    wanted = set(BUCKETS_MS)
    for held in agreement.objectives:
        if held.measure.endswith("_ms") and (held.measure == "first_token_p95_ms") == (timing == "first_ms"):
            wanted |= {held.target / 2, held.target, 2 * held.target}  # type: ignore[arg-type]  # numbers, whole or not
    return tuple(sorted({float(f"{bound / 1000:.6g}") for bound in wanted}))


class _Looked(Collector):
    """Looks figures up when it is asked. One that can not be had is left out, and the others are told."""

    def __init__(self, figures: list[Figure], build: Build) -> None:
        self._figures, self._build = figures, build

    def collect(self) -> Iterable[Any]:
        info = GaugeMetricFamily("mainstay_build_info", "What runs.", labels=("version", "python", "agreement"))
        info.add_metric((self._build.version, platform.python_version(), self._build.agreement), 1)
        yield info
        missing = 0
        for figure in self._figures:
            family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
            made = family(figure.name, figure.words, labels=figure.labels)
            try:
                for labels, value in figure.rows():
                    made.add_metric(labels, value)
            except MainstayError:
                missing += 1
                continue
            yield made
        lost = GaugeMetricFamily("mainstay_figures_missing", "Figures that could not be looked up just now.")
        lost.add_metric((), missing)
        yield lost

    def describe(self) -> Iterable[Any]:
        return ()


# -- the figures of rooms ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where figures come from. Each gives what it holds now; names that are not in the settings never leave here."""

    mode: Callable[[], str]
    breakers: Callable[[], Mapping[str, str]]
    admission: Callable[[], Any]
    cache: Callable[[], Any | None]
    audits: Callable[[], tuple[int, int]]
    money: Callable[[], Iterable[tuple[str, str, str, int]]]
    jobs: Callable[[], Any]
    recorder: Callable[[], tuple[int, int]]
    index: Callable[[], Mapping[str, int]]
    alerts: Callable[[], Iterable[tuple[str, str, bool]]]
    models: Sequence[str] = ()
    objectives: frozenset[str] = field(default_factory=frozenset)


STATES = ("closed", "half_open", "open")


def figures(held: Sources) -> list[Figure]:
    """The figures of a running service."""
    return [
        Figure(
            name="mainstay_mode",
            words="The mode in force is 1, all others 0.",
            labels=("mode",),
            rows=lambda: [((mode,), float(mode == held.mode())) for mode in MODES],
        ),
        Figure(
            name="mainstay_breaker_state",
            words="The state of a model's breaker is 1, all others 0.",
            labels=("model", "state"),
            rows=lambda: _breakers(held),
        ),
        Figure(
            name="mainstay_requests_at_work",
            words="Requests at work now.",
            labels=(),
            rows=lambda: [((), float(held.admission().in_flight))],
        ),
        Figure(
            name="mainstay_requests_waiting",
            words="Requests in the queue now.",
            labels=(),
            rows=lambda: [((), float(held.admission().waiting))],
        ),
        Figure(
            name="mainstay_requests_refused",
            words="Requests refused before they were worked on, by reason.",
            labels=("reason",),
            rows=lambda: [((str(why),), float(count)) for why, count in sorted(held.admission().shed.items())],
            kind="counter",
        ),
        Figure(
            name="mainstay_cache",
            words="What the cache of answers did.",
            labels=("what",),
            rows=lambda: _cache(held),
            kind="counter",
        ),
        Figure(
            name="mainstay_cache_audits",
            words="Answers from the cache that were checked in the last 28 days.",
            labels=("found",),
            rows=lambda: _audits(*held.audits()),
        ),
        Figure(
            name="mainstay_ledger_usd",
            words="Dollars of the budgets' windows that run now, all purses of a kind together.",
            labels=("scope", "per", "state"),
            rows=lambda: [((kind, per, state), amount / 1e9) for kind, per, state, amount in held.money()],
        ),
        Figure(
            name="mainstay_jobs",
            words="Background jobs by state.",
            labels=("state",),
            rows=lambda: [((str(state),), float(count)) for state, count in held.jobs().jobs.items()],
        ),
        Figure(
            name="mainstay_jobs_oldest_due_seconds",
            words="How long the job that is due longest has waited.",
            labels=(),
            rows=lambda: [((), float(held.jobs().oldest_due_s))],
        ),
        Figure(
            name="mainstay_traces_waiting",
            words="Journeys that are not written yet.",
            labels=(),
            rows=lambda: [((), float(held.recorder()[0]))],
        ),
        Figure(
            name="mainstay_traces_lost",
            words="Journeys that could not be written.",
            labels=(),
            rows=lambda: [((), float(held.recorder()[1]))],
            kind="counter",
        ),
        Figure(
            name="mainstay_index",
            words="What is kept to be searched: documents, chunks, vectors.",
            labels=("what",),
            rows=lambda: [((what,), float(count)) for what, count in sorted(held.index().items())],
        ),
        Figure(
            name="mainstay_alert",
            words="1 while an objective's alert is open; acknowledged or silenced ones too.",
            labels=("objective", "severity", "quiet"),
            rows=lambda: [
                ((name, severity, "yes" if quiet else "no"), 1.0)
                for name, severity, quiet in held.alerts()
                if name in held.objectives
            ],
        ),
    ]


def _breakers(held: Sources) -> Iterable[tuple[tuple[str, ...], float]]:
    for key, state in held.breakers().items():
        name = key if key in held.models else OTHER
        for one in STATES:
            yield (name, one), float(one == state)


def _cache(held: Sources) -> Iterable[tuple[tuple[str, ...], float]]:
    counts = held.cache()
    if counts is not None:
        yield from (
            (("looks",), float(counts.looks)),
            (("hits",), float(counts.hits)),
            (("similar_hits",), float(counts.similar_hits)),
            (("misses",), float(max(0, counts.looks - counts.hits))),
            (("kept",), float(counts.kept)),
            (("store_failures",), float(counts.store_failures)),
        )


def _audits(checked: int, wrong: int) -> list[tuple[tuple[str, ...], float]]:
    return [(("right",), float(checked - wrong)), (("wrong",), float(wrong))]
