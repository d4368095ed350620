from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstay.agreement.terms import (
    Agreement,
    Budget,
    CacheRules,
    DataClass,
    Governance,
    HandOver,
    Measure,
    ModeRule,
    Objective,
    PriorityClass,
    RequestLimits,
    Topic,
    Traffic,
)
from mainstay.agreement.versions import PREFIX, content, difference, digest, restored
from mainstay.agreement.wording import WORDS, described
from mainstay.errors import Invalid
from mainstay.types import Mode

LATENCY = Objective(name="latency", measure="latency_p95_ms", target=8000)


def shapes(shape: type, seen: dict[type, None] | None = None) -> dict[type, None]:
    """Every dataclass below this one."""
    seen = {} if seen is None else seen
    seen[shape] = None
    for hint in get_type_hints(shape).values():
        for choice in (hint, *get_args(hint)):
            if is_dataclass(choice) and isinstance(choice, type) and choice not in seen:
                shapes(choice, seen)
    return seen


NAMES = st.text("abcxyz", min_size=1, max_size=3)
LANGUAGES = st.dictionaries(
    st.sampled_from(["de", "en", "fr"]), st.sampled_from(["Hello.", "Well.", "Ha."]), max_size=2
)
AMOUNTS = st.sampled_from(["0.01", "0.010000", "0.02", "1", "250"])
LENGTHS = st.sampled_from(["30s", "60s", "1m", "24h", "1d", "28d"])


def values(shape: type, name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Values of one key: valid ones, few enough that equal ones happen."""
    if name in ("cap_usd", "usd", "value_usd"):
        return AMOUNTS
    if name in ("window", "keep", "hold_down"):
        return LENGTHS
    if hint is bool:
        return st.booleans()
    if hint is str:
        return (
            NAMES | st.just("https://example.org/a") | st.just("https://example.org/b") if name == "webhook" else NAMES
        )
    if hint is int:
        return st.integers(1, 4)
    if hint is float:
        return st.sampled_from([0.1, 0.15, 0.2])
    if isinstance(hint, type) and issubclass(hint, Mode):
        return st.sampled_from(list(Mode))
    if is_dataclass(hint) and isinstance(hint, type):
        return made(hint)
    if name in ("notice", "text", "disclosure") or (shape is HandOver and name == "promise"):
        return LANGUAGES
    inner = get_args(hint)
    if type(None) in inner:
        return st.none() | st.sampled_from(list(Mode))
    if inner and inner[-1] is ...:
        return st.lists(values(shape, "", inner[0]), max_size=2).map(tuple)
    return st.sampled_from(inner)  # a Literal


@cache
def made(shape: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(shape)
    return st.builds(shape, **{one.name: values(shape, one.name, hints[one.name]) for one in fields(shape)})


TOPIC = Topic(name="law", words=("sue",))
# One of everything, so that every key is there to be changed.
FULL = Agreement(
    objectives=(LATENCY,),
    traffic=Traffic(classes=(PriorityClass(name="staff", priority=1, who=("group:staff",)),)),
    budgets=(Budget(of="user", per="day", usd="1"),),
    governance=Governance(
        prohibited_topics=(TOPIC,), person_for=(TOPIC,), data_classes=(DataClass(name="secret", models=("writer",)),)
    ),
)
KEYS = [(shape, one.name) for shape in shapes(Agreement) for one in fields(shape)]


def test_every_key_has_words() -> None:
    for shape in shapes(Agreement):
        assert set(WORDS[shape]) == {one.name for one in fields(shape)}, shape


@pytest.mark.parametrize(("shape", "name"), KEYS, ids=[f"{shape.__name__}.{name}" for shape, name in KEYS])
@settings(derandomize=True, deadline=None, max_examples=6, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_key_that_changes_is_told_in_words(shape: type, name: str, data: st.DataObject) -> None:
    """Whatever key gets whatever other value: there is a sentence exactly when there is another digest; what is kept comes
    back the same."""
    drawn = values(shape, name, get_type_hints(shape)[name])
    old = changed_at(FULL, shape, name, data.draw(drawn))
    new = changed_at(FULL, shape, name, data.draw(drawn))
    changes = difference(old, new)
    assert bool(changes) == (digest(old) != digest(new)) == bool(difference(new, old))
    for change in changes:
        assert change.sentence.endswith(".")
        assert change.effect in ("loosens", "tightens", "changes")
        assert change.key.split(".")[0] in WORDS[Agreement]
    assert content(restored(content(new))) == content(new)
    assert not difference(restored(content(new)), new)
    assert [section for section, _ in described(new)] == [clause.words for clause in WORDS[Agreement].values()]


def changed_at(held: Any, shape: type, name: str, value: Any) -> Any:
    """The first dataclass of this shape in the tree gets another value at the key."""
    if type(held) is shape:
        return replace(held, **{name: value})
    for one in fields(held):
        inner = getattr(held, one.name)
        if is_dataclass(inner) and shape in shapes(type(inner)):
            return replace(held, **{one.name: changed_at(inner, shape, name, value)})
        if isinstance(inner, tuple) and inner and is_dataclass(inner[0]) and shape in shapes(type(inner[0])):
            return replace(held, **{one.name: (changed_at(inner[0], shape, name, value), *inner[1:])})
    raise AssertionError(f"FULL has no {shape}")


SAME: list[tuple[Agreement, Agreement]] = [
    (Agreement(), Agreement(request=RequestLimits(cap_usd="0.01", deadline_s=30))),
    (Agreement(cache=CacheRules(keep="7d")), Agreement(cache=CacheRules(keep="168h"))),
    (
        Agreement(objectives=(LATENCY, replace(LATENCY, name="b"))),
        Agreement(objectives=(replace(LATENCY, name="b"), replace(LATENCY, target=8000.0, window="672h"))),
    ),
    (
        Agreement(governance=Governance(languages=("de", "en"))),
        Agreement(governance=Governance(languages=("en", "de"))),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=[str(n) for n in range(len(SAME))])
def test_how_it_is_written_makes_no_version(one: Agreement, other: Agreement) -> None:
    assert digest(one) == digest(other)
    assert not difference(one, other)


def test_a_digest_is_short_and_stable() -> None:
    assert digest(Agreement()).startswith(PREFIX)
    assert len(digest(Agreement())) == len(PREFIX) + 16
    assert json.loads(content(Agreement()))["request"] == {"cap_usd": "0.01", "deadline_s": 30}


def test_a_webhook_is_kept_without_its_secret_part() -> None:
    one = Agreement(handover=HandOver(webhook="https://chat.example.org/hooks/T0KEN"))
    other = Agreement(handover=HandOver(webhook="https://chat.example.org/hooks/OTHER"))
    assert "T0KEN" not in content(one)
    assert digest(one) != digest(other)
    said = difference(one, other)
    assert [change.effect for change in said] == ["changes"]
    assert "T0KEN" not in said[0].sentence
    assert "chat.example.org" in said[0].sentence
    assert not any("T0KEN" in line for _, lines in described(one) for line in lines)


def said(old: Agreement, new: Agreement) -> list[tuple[str, str]]:
    return [(change.effect, change.sentence) for change in difference(old, new)]


SENTENCES: list[tuple[Agreement, Agreement, str, str]] = [
    (
        Agreement(),
        Agreement(request=RequestLimits(cap_usd="0.05")),
        "loosens",
        "The most one request may cost rises from $0.01 to $0.05.",
    ),
    (
        Agreement(objectives=(LATENCY,)),
        Agreement(),
        "loosens",
        "Objective latency (95 % of the answers come within 8 s, over 28 days) was removed.",
    ),
    (
        Agreement(objectives=(LATENCY,)),
        Agreement(objectives=(replace(LATENCY, target=900),)),
        "tightens",
        "Objective latency: the target falls from 8 s to 900 ms.",
    ),
    (
        Agreement(objectives=(Objective(name="up", measure="availability", target=0.99),)),
        Agreement(objectives=(Objective(name="up", measure="availability", target=0.999),)),
        "tightens",
        "Objective up: the target rises from 99 % to 99.9 %.",
    ),
    (
        Agreement(),
        Agreement(traffic=Traffic(user_per_minute=0)),
        "loosens",
        "Requests a minute of one user rises from 600 to no limit.",
    ),
    (
        Agreement(budgets=(Budget(of="user", per="day", usd="1"),)),
        Agreement(budgets=(Budget(of="user", per="day", usd="2"),)),
        "loosens",
        "Budget of each user a day: the amount rises from $1.00 to $2.00.",
    ),
    (
        Agreement(),
        Agreement(governance=Governance(citations_required=False)),
        "loosens",
        "“Every answer must carry a citation” no longer holds.",
    ),
    (
        Agreement(),
        Agreement(governance=Governance(regions=("eu",))),
        "tightens",
        "The regions where models may run change from any to eu.",
    ),
    (
        Agreement(governance=Governance(prohibited_topics=(Topic(name="law", words=("sue",)),))),
        Agreement(governance=Governance(prohibited_topics=(Topic(name="law", words=("sue", "court")),))),
        "tightens",
        "Prohibited topic law: the words it is known by: court was added; now sue, court.",
    ),
    (
        Agreement(governance=Governance(data_classes=(DataClass(name="secret"),))),
        Agreement(governance=Governance(data_classes=(DataClass(name="secret", models=("writer",)),))),
        "loosens",
        "Data class secret: the models that may see it change from the built-in answerer alone to writer.",
    ),
    (
        Agreement(governance=Governance(retention_days=30)),
        Agreement(),
        "loosens",
        "Days that traces, measures and hand-overs are kept rises from 30 to for good.",
    ),
    (
        Agreement(governance=Governance(disclosure={"en": "A machine."})),
        Agreement(governance=Governance(disclosure={"en": "An AI."})),
        "changes",
        "The disclosure that one is talking to AI (en) now reads “An AI.”.",
    ),
]


@pytest.mark.parametrize(("old", "new", "effect", "sentence"), SENTENCES, ids=[s[3][:40] for s in SENTENCES])
def test_sentences(old: Agreement, new: Agreement, effect: str, sentence: str) -> None:
    assert said(old, new) == [(effect, sentence)]


def test_names_that_stand_twice_and_windows_that_are_none_are_told_too() -> None:
    twice = Agreement(objectives=(LATENCY, replace(LATENCY, target=5)))
    assert said(twice, Agreement(objectives=(LATENCY,)))[0][1].endswith("was removed.")
    odd = Agreement(objectives=(replace(LATENCY, window="soon"),))
    assert "'soon'" in said(Agreement(objectives=(LATENCY,)), odd)[0][1]
    classes = (PriorityClass(name="a", priority=1), PriorityClass(name="b", priority=1))
    assert not said(Agreement(traffic=Traffic(classes=classes)), Agreement(traffic=Traffic(classes=classes[::-1])))


def test_the_order_of_rungs_counts() -> None:
    ladder = Agreement().modes
    turned = Agreement(modes=replace(ladder, rungs=ladder.rungs[::-1]))
    assert "another order: static, sources_only" in said(Agreement(), turned)[0][1]
    models = Agreement(modes=replace(ladder, rungs=(ModeRule(mode=Mode.ECONOMY, models=("a", "b")),)))
    other = Agreement(modes=replace(ladder, rungs=(ModeRule(mode=Mode.ECONOMY, models=("b", "a")),)))
    assert said(models, other) == [("changes", "Mode economy: its models have another order: b, a.")]


def test_every_measure_can_be_said() -> None:
    for measure in get_args(Measure):
        held = Agreement(objectives=(Objective(name="x", measure=measure, target=0.5),))
        assert dict(described(held))["Objectives"][0].startswith("x (")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"request": {"cap": 1}}', '{"request": {"cap_usd": "free"}}'])
def test_a_content_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="can not read"):
        restored(text)
