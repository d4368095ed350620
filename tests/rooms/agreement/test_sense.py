from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mainstay.agreement.sense import PLACEHOLDERS, Contradiction, ModelFacts, contradictions
from mainstay.agreement.terms import (
    Agreement,
    Budget,
    CacheRules,
    DataClass,
    Governance,
    HandOver,
    Ladder,
    ModeRule,
    Objective,
    PriorityClass,
    RequestLimits,
    Routing,
    Topic,
    Traffic,
)
from mainstay.handover import promise
from mainstay.resilience.ladder import mode_notice, static_text
from mainstay.types import Mode

WRITER = ModelFacts(name="writer", input_price=500_000_000, output_price=1_500_000_000, region="eu")
FREE = ModelFacts(name="free", input_price=0, output_price=0, local=True)
MODELS = {"writer": WRITER}
LATENCY = Objective(name="latency", measure="latency_p95_ms", target=8000)
PERSON = HandOver(email=("help@example.org",))


def found(models: dict[str, ModelFacts] | None = None, **clauses: Any) -> list[Contradiction]:
    return contradictions(Agreement(**clauses), MODELS if models is None else models)


def objective(**changes: Any) -> dict[str, Any]:
    return {"objectives": (replace(LATENCY, **changes),)}


def governance(**changes: Any) -> dict[str, Any]:
    return {"governance": Governance(**changes)}


def rungs(*held: ModeRule) -> dict[str, Any]:
    return {"modes": Ladder(rungs=held)}


def promised(*held: tuple[str, float], **changes: Any) -> dict[str, Any]:
    """Objectives by measure and target, each with a name of its own; ``changes`` are those of the last."""
    made = [replace(LATENCY, name=f"o{n}", measure=measure, target=target) for n, (measure, target) in enumerate(held)]  # type: ignore[arg-type]  # a table names measures
    return {"objectives": (*made[:-1], replace(made[-1], **changes))}


def budgets(*held: Budget) -> dict[str, Any]:
    return {"budgets": held}


# what is written, the key that is blamed, what the message must say
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"request": RequestLimits(cap_usd="0.0001")}, "request.cap_usd", "cheapest model, writer: $0.000198"),
    ({"objectives": (LATENCY, LATENCY)}, "objectives.1.name", "two objectives"),
    (objective(name=" "), "objectives.0.name", "without a name"),
    (objective(target=-5), "objectives.0.target", "always be missed"),
    (objective(target=30_000), "objectives.0.target", "never be missed"),
    (objective(target=float("nan")), "objectives.0.target", "no number"),
    (objective(measure="availability", target=99), "objectives.0.target", "no share"),
    (objective(measure="availability", target=0), "objectives.0.target", "at least 0 %"),
    (objective(measure="error_rate", target=1), "objectives.0.target", "at most 100 %"),
    (objective(measure="cost_per_request_usd", target=0.05), "objectives.0.target", "cap of $0.01"),
    (objective(measure="cost_per_request_usd", target=-1), "objectives.0.target", "can not cost"),
    (objective(window="soon"), "objectives.0.window", "'soon'"),
    (objective(window="400d"), "objectives.0.window", "longer than a year"),
    (objective(door="window"), "objectives.0.door", "'window'"),
    (objective(team="sales"), "objectives.0.team", "'sales'"),
    (objective(enter_mode=Mode.FULL), "objectives.0.enter_mode", "full is no limited mode"),
    (
        {**objective(enter_mode=Mode.STATIC), **rungs(ModeRule(mode=Mode.ECONOMY))},
        "objectives.0.enter_mode",
        "not on the ladder",
    ),
    (
        {**objective(enter_mode=Mode.CACHED_ONLY), "cache": CacheRules(enabled=False)},
        "objectives.0.enter_mode",
        "cache is off",
    ),
    ({**objective(), **governance(retention_days=7)}, "objectives.0.window", "kept for 7 days"),
    (
        {**objective(measure="wrong_cache_rate", target=0.05), "cache": CacheRules(enabled=False)},
        "objectives.0.measure",
        "cache is off",
    ),
    (
        {**objective(measure="wrong_cache_rate", target=0.05), "cache": CacheRules(audit=0)},
        "objectives.0.measure",
        "cache.audit is 0",
    ),
    (objective(measure="wrong_cache_rate", target=0.01), "objectives.0.measure", "permits 2 %"),
    (objective(measure="wrong_cache_rate", target=0.05, door="chat"), "objectives.0.measure", "team or door"),
    (
        {**objective(measure="groundedness", target=0.9), **governance(citations_required=False)},
        "objectives.0.measure",
        "nobody measures groundedness",
    ),
    (
        {**objective(measure="citation_coverage", target=0.9), **governance(citations_required=False)},
        "objectives.0.measure",
        "nobody measures citation_coverage",
    ),
    ({"traffic": Traffic(queue_wait_s=60)}, "traffic.queue_wait_s", "longer than the deadline"),
    ({"traffic": Traffic(service_per_minute=60)}, "traffic.service_per_minute", "less than one user"),
    (
        {"traffic": Traffic(service_per_minute=130, key_per_minute=200)},
        "traffic.service_per_minute",
        "less than one key",
    ),
    ({"traffic": Traffic(user_per_minute=float("nan"))}, "traffic.user_per_minute", "no number"),
    (
        {"traffic": Traffic(classes=tuple(PriorityClass(name="a", priority=1, who=(f"user:{n}",)) for n in "xy"))},
        "traffic.classes.1.name",
        "two priority classes",
    ),
    ({"traffic": Traffic(classes=(PriorityClass(name="a", priority=1),))}, "traffic.classes.0", "nobody is in"),
    (
        {"traffic": Traffic(classes=(PriorityClass(name="a", priority=1, who=("alice",)),))},
        "traffic.classes.0.who",
        "names nobody",
    ),
    (
        {
            "traffic": Traffic(
                classes=tuple(PriorityClass(name=n, priority=1, who=("user:alice",)) for n in ("one", "two"))
            )
        },
        "traffic.classes.1.who",
        "'one' and 'two'",
    ),
    ({"budgets": (Budget(of="user", per="day", usd="0.005"),)}, "budgets.0.usd", "a single request"),
    ({"budgets": (Budget(of="service", per="day", usd="5", name="x"),)}, "budgets.0.name", "'x'"),
    ({"budgets": (Budget(of="team", per="day", usd="5", name="user:a"),)}, "budgets.0.name", "names no team"),
    ({"budgets": (Budget(of="key", per="day", usd="5", name="a"),)}, "budgets.0.name", "names no key"),
    ({"budgets": (Budget(of="user", per="day", usd="5"),) * 2}, "budgets.1", "two budgets"),
    (
        {"budgets": (Budget(of="user", per="day", usd="5", enter_mode=Mode.ECONOMY),)},
        "budgets.0.enter_mode",
        "still costs money",
    ),
    (
        {"budgets": (Budget(of="user", per="day", usd="5", enter_mode=Mode.FULL),)},
        "budgets.0.enter_mode",
        "full is no limited mode",
    ),
    (
        {"budgets": (Budget(of="service", per="month", usd="10"), Budget(of="service", per="day", usd="20"))},
        "budgets.1.usd",
        "never be spent",
    ),
    (
        {"budgets": (Budget(of="service", per="day", usd="10"), Budget(of="user", per="day", usd="20"))},
        "budgets.1.usd",
        "never be spent",
    ),
    (
        promised(("latency_p50_ms", 9000), ("latency_p95_ms", 8000)),
        "objectives.0.target",
        "of 9 s is above latency_p95_ms",
    ),
    (promised(("latency_p95_ms", 900), ("latency_p50_ms", 901), door=""), "objectives.1.target", "('o0')"),
    (
        promised(("first_token_p95_ms", 3000), ("latency_p95_ms", 2000), window="672h"),
        "objectives.0.target",
        "begins before it ends",
    ),
    (
        promised(("error_rate", 0.1), ("error_rate", 0.2)),
        "objectives.1.measure",
        "'o1' and 'o0' both promise error_rate",
    ),
    (promised(("error_rate", 0.1), ("error_rate", 0.2), window="672h"), "objectives.1.measure", "10 % and 20 %"),
    (
        promised(("latency_p95_ms", 800), ("latency_p95_ms", 900), enter_mode=Mode.ECONOMY),
        "objectives.1.measure",
        "800 ms and 900 ms",
    ),
    ({"traffic": Traffic(spike="step_down"), **rungs()}, "traffic.spike", "leads nowhere"),
    (
        {"traffic": Traffic(spike="step_down"), **rungs(ModeRule(mode=Mode.STATIC))},
        "traffic.spike",
        "straight to static",
    ),
    (
        budgets(Budget(of="user", per="day", usd="20"), Budget(of="service", per="month", usd="10")),
        "budgets.0.usd",
        "the service a month has only $10",
    ),
    (
        budgets(Budget(of="user", per="day", usd="1"), Budget(of="user", per="day", usd="2", name="alice")),
        "budgets.1.usd",
        "each user a day has only $1",
    ),
    (
        budgets(
            Budget(of="user", per="month", usd="2", name="alice"),
            Budget(of="user", per="day", usd="3", name="user:alice"),
        ),
        "budgets.1.usd",
        "alice a month has only $2",
    ),
    (
        budgets(Budget(of="team", per="day", usd="2", name="group:a"), Budget(of="team", per="day", usd="3", name="a")),
        "budgets.1",
        "two budgets of a a day",
    ),
    (governance(languages=("de", "german")), "governance.languages.1", "'german'"),
    (governance(languages=("de", "en", "de")), "governance.languages.2", "de stands there twice"),
    (governance(disclosure={"en": "By {model}."}), "governance.disclosure.en", "{model} is nothing that is filled in"),
    (governance(disclosure={"en": " "}), "governance.disclosure.en", "disclosure in en is empty"),
    (governance(retention_days=36_526), "governance.retention_days", "more than a hundred years"),
    (governance(disclosure={"xx": "AI"}), "governance.disclosure.xx", "'xx'"),
    (governance(retention_days=-1), "governance.retention_days", "-1"),
    (governance(prohibited_topics=(Topic(name="law", words=()),)), "governance.prohibited_topics.0.words", "no words"),
    (
        governance(prohibited_topics=(Topic(name="law", words=("?!",)),)),
        "governance.prohibited_topics.0.words",
        "can not be found",
    ),
    (
        governance(prohibited_topics=(Topic(name="", words=("law",)),)),
        "governance.prohibited_topics.0.name",
        "without a name",
    ),
    (
        governance(prohibited_topics=(Topic(name="law", words=("a",)), Topic(name="law", words=("b",)))),
        "governance.prohibited_topics.1.name",
        "two topics",
    ),
    (
        {
            **governance(
                prohibited_topics=(Topic(name="law", words=("sue",)),), person_for=(Topic(name="law", words=("x",)),)
            ),
            "handover": PERSON,
        },
        "governance.person_for.0.name",
        "both prohibited and for a person",
    ),
    (
        {
            **governance(
                prohibited_topics=(Topic(name="law", words=("Sue",)),), person_for=(Topic(name="b", words=("sue",)),)
            ),
            "handover": PERSON,
        },
        "governance.person_for.0.words",
        "is refused as 'law'",
    ),
    (governance(data_classes=(DataClass(name="x", models=("gpt",)),)), "governance.data_classes.0.models", "'gpt'"),
    (governance(data_classes=(DataClass(name="x"),) * 2), "governance.data_classes.1.name", "twice"),
    (governance(data_classes=(DataClass(name=""),)), "governance.data_classes.0.name", "without a name"),
    (governance(regions=("us",)), "governance.regions", "writer (eu)"),
    (rungs(ModeRule(mode=Mode.ECONOMY, models=("small",))), "modes.rungs.0.models", "'small'"),
    (rungs(ModeRule(mode=Mode.FULL)), "modes.rungs.0.mode", "full is no rung"),
    (rungs(ModeRule(mode=Mode.STATIC), ModeRule(mode=Mode.STATIC)), "modes.rungs.1.mode", "twice"),
    (rungs(ModeRule(mode=Mode.STATIC), ModeRule(mode=Mode.ECONOMY)), "modes.rungs.1.mode", "stands below static"),
    (rungs(ModeRule(mode=Mode.STATIC, models=("writer",))), "modes.rungs.0.models", "asks no model"),
    (rungs(ModeRule(mode=Mode.ECONOMY, text={"en": "Later."})), "modes.rungs.0.text", "only static"),
    (rungs(ModeRule(mode=Mode.STATIC, notice={"english": "Later."})), "modes.rungs.0.notice.english", "'english'"),
    (rungs(ModeRule(mode=Mode.STATIC, notice={"en": "{Cause}!"})), "modes.rungs.0.notice.en", "{Cause} is nothing"),
    (rungs(ModeRule(mode=Mode.STATIC, text={"en": "Until {until}."})), "modes.rungs.0.text.en", "{until} is nothing"),
    (
        rungs(ModeRule(mode=Mode.ECONOMY, notice={"en": "{} {{cause}}"})),
        "modes.rungs.0.notice.en",
        "{{cause}} is nothing",
    ),
    ({"modes": Ladder(hold_down="367d")}, "modes.hold_down", "367 days"),
    ({"cache": CacheRules(keep="36526d")}, "cache.keep", "36526 days"),
    ({"routing": Routing(escalations=3)}, "routing.escalations", "need 4 models"),
    ({"routing": Routing(below="person")}, "routing.below", "nobody is told"),
    ({**governance(retention_days=3)}, "cache.keep", "longer than the retention"),
    ({"handover": HandOver(webhook="http://help.example.org/x")}, "handover.webhook", "http://help.example.org"),
    ({"handover": HandOver(webhook="help.example.org")}, "handover.webhook", "no scheme"),
    ({"handover": HandOver(webhook="https://[")}, "handover.webhook", "no scheme"),
    ({"handover": HandOver(email=("help",))}, "handover.email.0", "'help'"),
    ({"handover": HandOver(promise={"en": "See {refrence}."})}, "handover.promise.en", "{refrence} is nothing"),
    ({"handover": HandOver(promise={"deutsch": "bald"})}, "handover.promise.deutsch", "'deutsch'"),
    (governance(person_for=(Topic(name="grief", words=("grief",)),)), "governance.person_for.0", "nobody is told"),
    (
        governance(prohibited_topics=(Topic(name="law", words=("sue",), then="person"),)),
        "governance.prohibited_topics.0",
        "nobody is told",
    ),
]


@pytest.mark.parametrize(("clauses", "key", "said"), WRONG, ids=[f"{key}-{n}" for n, (_, key, _) in enumerate(WRONG)])
def test_each_contradiction_is_told_where_it_stands(clauses: dict[str, Any], key: str, said: str) -> None:
    there = [one for one in found(**clauses) if one.key == key]
    assert any(said in one.what for one in there), found(**clauses)
    assert all(one.fix for one in there)


def test_each_has_its_own_message() -> None:
    said = [one.what for clauses, key, _ in WRONG for one in found(**clauses) if one.key == key]
    assert len(set(said)) >= len(WRONG) - 6  # a few cases reach the same rule by another way


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert not found()
    assert not found(models={})
    assert not found(models={"writer": replace(WRITER, region="")})


RIGHT: list[dict[str, Any]] = [
    objective(measure="wrong_cache_rate", target=0.02),
    objective(measure="availability", target=1),
    objective(measure="error_rate", target=0),
    objective(team="group:sales", door="chat", window="1h", enter_mode=Mode.ECONOMY),
    {"request": RequestLimits(deadline_s=2)},
    {"traffic": Traffic(service_per_minute=600)},
    {"budgets": (Budget(of="user", per="day", usd="0.01", name="alice"), Budget(of="team", per="total", usd="9"))},
    governance(languages=("de", "en"), regions=("eu",)),
    promised(("latency_p50_ms", 2000), ("first_token_p95_ms", 8000), ("latency_p95_ms", 8000)),
    promised(("latency_p50_ms", 9000), ("latency_p95_ms", 8000), team="group:sales"),
    promised(("latency_p50_ms", 9000), ("latency_p95_ms", 8000), window="1h"),
    promised(("error_rate", 0.1), ("error_rate", 0.2), window="1h"),
    promised(("error_rate", 0.1), ("error_rate", 0.2), door="chat"),
    {
        "objectives": (
            replace(LATENCY, name="slow", target=4000, enter_mode=Mode.ECONOMY),
            replace(LATENCY, name="very slow", enter_mode=Mode.STATIC),
        )
    },
    {"traffic": Traffic(spike="step_down")},
    {"traffic": Traffic(spike="step_down"), **rungs(ModeRule(mode=Mode.SOURCES_ONLY))},
    rungs(ModeRule(mode=Mode.STATIC, text={"en": "Closed: {cause}. See {the desk}."}, notice={"en": "{cause}"})),
    {"handover": HandOver(promise={"en": "Soon, under {reference}."})},
    budgets(
        Budget(of="user", per="day", usd="2", name="user:bob"),
        Budget(of="user", per="day", usd="1", name="service:bob"),
    ),
    budgets(Budget(of="user", per="month", usd="1", name="bob"), Budget(of="user", per="day", usd="2")),
    budgets(Budget(of="team", per="month", usd="1"), Budget(of="user", per="day", usd="2")),
    governance(data_classes=(DataClass(name="secret", models=("extractive",)), DataClass(name="none"))),
    {**governance(person_for=(Topic(name="grief", words=("grief",)),)), "handover": PERSON},
    {"handover": HandOver(webhook="http://127.0.0.1:9/x")},
    {"handover": HandOver(webhook="https://help.example.org/x")},
    rungs(),
    {**governance(retention_days=7), "cache": CacheRules(keep="7d")},
]


@pytest.mark.parametrize("clauses", RIGHT, ids=[str(n) for n in range(len(RIGHT))])
def test_what_makes_sense_is_left_alone(clauses: dict[str, Any]) -> None:
    assert not found(**clauses)


def test_what_is_filled_in_is_what_may_be_written() -> None:
    """The texts are filled in elsewhere: this holds both together."""
    every = " ".join(sorted({held for known in PLACEHOLDERS.values() for held in known}))
    held = {"en": every}
    ladder = Ladder(rungs=(ModeRule(mode=Mode.STATIC, notice=held, text=held),))
    for name, shown in (
        ("notice", mode_notice(Mode.STATIC, "budget", "en", ladder)),
        ("text", static_text("en", ladder, "budget")),
        ("promise", promise(HandOver(promise=held), "en", "ho_1")),
    ):
        assert {one for one in every.split() if one not in shown} == set(PLACEHOLDERS[name]), name


def test_the_nearest_placeholder_is_named() -> None:
    (one,) = found(handover=HandOver(promise={"en": "See {refrence}."}))
    assert one.fix == "did you mean {reference}? known here: {reference}"
    (one,) = found(handover=HandOver(promise={"en": "See {x}."}))
    assert one.fix == "known here: {reference}"
    (one,) = found(**governance(disclosure={"en": "By {x}."}))
    assert one.fix == "nothing is filled in in a disclosure: take it out"


def test_money_is_judged_by_known_prices_alone() -> None:
    small = {"request": RequestLimits(cap_usd="0.0001")}
    unknown = ModelFacts(name="other")
    assert found(**small)
    assert not found(models={**MODELS, "other": unknown}, **small), "what nobody told is not guessed"
    assert not found(models={**MODELS, "free": FREE}, **small)
    assert not found(models={"writer": replace(WRITER, answers=False)}, **small), "it is not asked"
    extractive = ModelFacts(name="extractive", local=True)
    assert not found(models={**MODELS, "extractive": extractive}, **small), "the built-in answerer is free"
    per_call = replace(WRITER, input_price=0, output_price=0, call_price=200_000)
    assert "$0.0002" in found(models={"writer": per_call}, **small)[0].what


def test_a_free_economy_may_be_entered_without_money() -> None:
    budget = {"budgets": (Budget(of="user", per="day", usd="5", enter_mode=Mode.ECONOMY),)}
    assert not found(models={"free": FREE}, **budget)
    assert not found(models={}, **budget)
    named = rungs(ModeRule(mode=Mode.ECONOMY, models=("extractive",)))
    assert not found(**budget, **named)
    assert found(**budget, **rungs(ModeRule(mode=Mode.ECONOMY, models=("writer",))))


def test_models_on_this_machine_are_in_every_region() -> None:
    assert not found(models={"free": FREE}, **governance(regions=("us",)))
    assert found(models={"writer": replace(WRITER, region="")}, **governance(regions=("us",)))


def test_all_are_found_in_the_order_of_the_file() -> None:
    keys = [
        one.key.split(".")[0]
        for one in found(**{key: value for clauses, _, _ in WRONG for key, value in clauses.items()})
    ]
    order = ["request", "objectives", "traffic", "budgets", "governance", "modes", "routing", "cache", "handover"]
    assert len(keys) > 5
    assert [order.index(key) for key in keys if key != "governance"] == sorted(
        order.index(key) for key in keys if key != "governance"
    )
