"""Learning whose answers are good from judged answers; keeping it; the rules until then."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.services import open_service, static_embedder

from mainstay.cli import cli
from mainstay.errors import Invalid
from mainstay.models.prices import Price
from mainstay.models.routing import Learned, Rules, Traits, Upkeep, Upkept, traits_of, unpacked
from mainstay.models.routing.features import NUMBERS, hashed, numbers
from mainstay.models.routing.quality import FACT, LARGEST, difficulty, kept_or
from mainstay.models.routing.training import (
    Example,
    TrainingReport,
    auc,
    examples_from_traces,
    read_examples,
    train,
)
from mainstay.records.traces import Attribute, Span, Trace
from mainstay.types import Passage

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = {
    "small": Price.from_usd(input_per_million="0.1", output_per_million="0.4"),
    "large": Price.from_usd(input_per_million="2.5", output_per_million="10"),
}
RULES = Rules(prices=PRICES)
SUMS = ("What is {} plus {}?", "Calculate {} times {} please.", "How much is {} minus {}?")
FACTS = (
    "Who founded town number {} in year {}?",
    "Where is street {} of district {}?",
    "When did king {} meet queen {}?",
)


def examples(count: int, seed: int = 5) -> list[Example]:
    """The small model is good at facts and bad at sums, the large one the other way about."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        sums = bool(n % 2)
        pattern = (SUMS if sums else FACTS)[int(rng.integers(3))]
        question = pattern.format(*rng.integers(10, 10_000, 2))
        good = {"small": 0.1 if sums else 0.9, "large": 0.9 if sums else 0.4}
        made.append(
            Example(
                traits=Traits(question=question),
                scores={model: float(rng.uniform() < share) for model, share in good.items()},
            )
        )
    return made


def learn(of: list[Example]) -> tuple[Learned, TrainingReport]:
    embedder = static_embedder()
    return train(of, otherwise=RULES, embedding=embedder, embedder=embedder.identity.digest, now=AT)


@pytest.fixture(scope="module")
def learned() -> tuple[Learned, TrainingReport]:
    return learn(examples(400))


def test_it_learns_who_is_good_at_what(learned: tuple[Learned, TrainingReport]) -> None:
    quality, report = learned
    sums, facts = Traits(question="What is 1234 plus 77?"), Traits(question="Who founded town number 5 in year 1200?")
    assert quality.estimate(sums, "large") > quality.estimate(sums, "small") + 0.3
    assert quality.estimate(facts, "small") > quality.estimate(facts, "large") + 0.2
    assert report.own_r2 > 0.2
    small = next(of for of in report.models if of.model == "small")
    assert small.auc > 0.8
    assert small.ece < 0.1
    assert small.r2 > 0.3


def test_it_is_kept_whole(learned: tuple[Learned, TrainingReport]) -> None:
    quality, report = learned
    text = quality.packed()
    assert len(text) == report.bytes < LARGEST
    embedder = static_embedder()
    again = unpacked(text, otherwise=RULES, embedding=embedder, embedder=embedder.identity.digest)
    assert again.version == quality.version
    for example in examples(20, seed=6):
        before, after = quality.estimates(example.traits), again.estimates(example.traits)
        assert all(abs(before[model] - after[model]) < 0.01 for model in before)


def test_the_same_examples_teach_the_same(learned: tuple[Learned, TrainingReport]) -> None:
    again, _ = learn(examples(400))
    assert again.version == learned[0].version
    assert again.estimates(Traits(question="What is 3 plus 4?")) == pytest.approx(
        learned[0].estimates(Traits(question="What is 3 plus 4?")), abs=1e-3
    )


def test_a_model_it_does_not_know_is_estimated_by_the_rules(learned: tuple[Learned, TrainingReport]) -> None:
    traits = Traits(question="What is 3 plus 4?")
    assert learned[0].estimate(traits, "other") == RULES.estimate(traits, "other")


def test_models_judged_on_different_questions_can_be_learned_together() -> None:
    half = [
        Example(
            traits=example.traits, scores={name: example.scores[name] for name in (("small",), ("large",))[n // 2 % 2]}
        )
        for n, example in enumerate(examples(600))
    ]
    quality, report = learn(half)
    assert {of.model: of.examples for of in report.models} == {"small": 300, "large": 300}
    sums = Traits(question="What is 1234 plus 77?")
    assert quality.estimate(sums, "large") > quality.estimate(sums, "small") + 0.2


def test_noise_teaches_nothing_but_means() -> None:
    print("seed 8")
    rng = np.random.default_rng(8)
    noise = [
        Example(
            traits=example.traits, scores={"small": float(rng.uniform() < 0.3), "large": float(rng.uniform() < 0.7)}
        )
        for example in examples(300)
    ]
    quality, report = learn(noise)
    told = [quality.estimates(example.traits) for example in noise[:50]]
    assert report.own_r2 < 0.03
    assert all(row["large"] > row["small"] for row in told)


@pytest.mark.parametrize("count", [0, 20, 90])
def test_too_little_is_refused(count: int) -> None:
    with pytest.raises(Invalid, match="too few"):
        learn(examples(count))


def test_a_model_with_few_examples_is_left_out() -> None:
    of = examples(150)
    of[0] = Example(traits=of[0].traits, scores={**of[0].scores, "rare": 1.0})
    quality, report = learn(of)
    assert "rare" not in quality.models
    assert "1 examples" in report.left_out["rare"]


def test_a_labelled_file() -> None:
    lines = [
        '{"question": "q", "model": "a", "score": 1}',
        "",
        '{"question": "q", "model": "a", "score": 0}',
        '{"question": "q", "scores": {"b": 0.5, "c": 1.0}}',
        '{"question": "q", "model": "a", "score": 1, "traits": {"passages": 3, "language": "en"}}',
        '{"question": "r", "model": "a", "score": 1, "draft": {"supported_share": 1, "coverage": 0.5, "citations": 2}}',
    ]
    read = read_examples(lines, "file")
    assert [dict(example.scores) for example in read] == [{"a": 0.5, "b": 0.5, "c": 1.0}, {"a": 1.0}, {"a": 1.0}]
    assert read[1].traits.passages == 3
    assert len(read[2].drafts) == 1


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"model": "a", "score": 1}',
        '{"question": " ", "model": "a", "score": 1}',
        '{"question": "q", "score": 1}',
        '{"question": "q", "model": "a", "score": 2}',
        '{"question": "q", "model": "a", "score": true}',
        '{"question": "q", "model": "a", "score": NaN}',
        '{"question": "q", "model": "a", "score": 1, "traits": {"colour": 1}}',
        '{"question": "q", "model": "a", "score": 1, "traits": {"passages": "many"}}',
        '{"question": "q", "model": "a", "score": 1, "draft": {"coverage": 1}}',
        '{"question": "q", "scores": {}}',
    ],
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(Invalid, match="file:2"):
        read_examples(['{"question": "q", "model": "a", "score": 1}', line], "file")


def trace(n: int, *, status: str = "answered", model: str = "small", kind: str = "answer") -> Trace:
    strong = n % 2
    checked: dict[str, Attribute] = {"citations": 3, "unsupported": 0} if strong else {"citations": 1, "unsupported": 3}
    spans = (
        Span(kind="admit", start_ms=0, duration_ms=1, attributes={"question_chars": 40 + n % 7, "language": "en"}),
        Span(
            kind="retrieve",
            start_ms=1,
            duration_ms=1,
            attributes={
                "documents": ["a", "b", "a"],
                "scores": [0.9 if strong else 0.3, 0.2, 0.1],
                "filters": [],
                "by_words": 60,
                "by_meaning": 60,
            },
        ),
        Span(kind="generate", start_ms=2, duration_ms=1, attributes={"model": model}),
        Span(kind="verify", start_ms=3, duration_ms=1, attributes=checked),
    )
    return Trace(
        request_id=f"req_{n}", at=AT, asker="user:a", kind=kind, status=status, spans=spans, facts={"model": model}
    )


def test_traces_teach_by_their_figures_alone() -> None:
    made = examples_from_traces(
        [
            *(trace(n) for n in range(150)),
            trace(1, status="clarify"),
            trace(1, status="failed"),
            trace(1, model=""),
            trace(1, kind="search"),
        ]
    )
    assert len(made) == 150
    quality, report = train(made, otherwise=RULES, embedding=None, embedder="", now=AT, source="traces")
    assert report.source == "traces"
    shown = Traits(question="x" * 43, passages=3, spread=2 / 3, by_words=60, by_meaning=60)
    strong, weak = (replace(shown, top_score=top, score_gap=top - 0.2) for top in (0.9, 0.3))
    assert quality.estimate(strong, "small") > quality.estimate(weak, "small") + 0.3


def test_what_cannot_be_read_is_refused_and_the_rules_go_on(learned: tuple[Learned, TrainingReport]) -> None:
    embedder = static_embedder()
    held = json.loads(learned[0].packed())
    broken = [
        "{",
        "[]",
        "null",
        json.dumps({**held, "format": 99}),
        json.dumps({**held, "numbers": ["chars"]}),
        json.dumps({**held, "weights": ["?"]}),
        json.dumps({**held, "weights": held["weights"][:1]}),
        json.dumps({**held, "mean": held["rarity"]}),
    ]
    for text in broken:
        quality, why = kept_or(text, otherwise=RULES, embedding=embedder, embedder=embedder.identity.digest)
        assert quality is RULES
        assert "train again" in why
    quality, why = kept_or(learned[0].packed(), otherwise=RULES, embedding=embedder, embedder="another")
    assert quality is RULES
    assert "embedder" in why
    assert kept_or("", otherwise=RULES, embedding=None, embedder="") == (RULES, "")


def test_the_rules() -> None:
    easy = Traits(question="What is the dress code?", passages=4, top_score=0.95, score_gap=0.3)
    hard = Traits(
        question="Compare both policies, explain why they differ and calculate the total for three people?",
        passages=8,
        top_score=0.4,
        spread=1.0,
    )
    assert difficulty(easy) < 0.25 < 0.6 < difficulty(hard)
    gain = [RULES.estimate(traits, "large") - RULES.estimate(traits, "small") for traits in (easy, hard)]
    assert 0 < gain[0] < 0.15 < gain[1]
    free = Rules(prices={**PRICES, "own": Price(input_per_million_nanodollars=0, output_per_million_nanodollars=0)})
    assert free.estimate(hard, "own") < free.estimate(hard, "large")
    assert Rules(prices=PRICES, known={"own": 1.0}).estimate(hard, "own") >= RULES.estimate(hard, "large")
    assert all(
        0 <= RULES.estimate(traits, name) <= 1 for traits in (easy, hard) for name in ("small", "large", "unheard")
    )


def test_outcomes_move_an_estimate_and_are_forgotten() -> None:
    upkeep = Upkeep()
    for _ in range(300):
        upkeep = upkeep.seen("small", 0.0, 0.8)
    assert upkeep.shift("small") < -0.5
    for _ in range(300):
        upkeep = upkeep.seen("small", 1.0, 0.8)
    assert upkeep.shift("small") > 0.1  # learning does not stop however much was seen
    assert upkeep.shift("large") == 0
    moved = Upkept(inner=RULES, upkeep=upkeep)
    traits = Traits(question="What is the dress code?")
    assert 1 >= moved.estimate(traits, "small") > RULES.estimate(traits, "small")
    assert moved.estimate(traits, "large") == RULES.estimate(traits, "large")


@pytest.mark.parametrize("text", ["", " ", "a", "Straße 日本語 \ud800 \x00", "x" * 10_000, "\n" * 50, "A) x\nB) y"])
def test_any_text_has_features(text: str) -> None:
    told = numbers(Traits(question=text))
    places, weights = hashed(text, 4096)
    assert told.shape == (len(NUMBERS),)
    assert np.isfinite(told).all()
    assert np.isfinite(weights).all()
    assert len(places) == len(set(places.tolist()))
    assert 0 <= difficulty(Traits(question=text)) <= 1


def test_hashing_is_the_same_for_ever() -> None:
    """A kept estimate is read by other processes and versions: the places must not move."""
    places, weights = hashed("What is the dress code?", 4096)
    assert (len(places), places[:4].tolist()) == (75, [4, 100, 241, 252])
    assert float(np.abs(weights).sum()) == pytest.approx(len(weights), abs=3)


def test_traits_of_what_was_found() -> None:
    def found(score: float, document: str) -> Passage:
        return Passage(
            chunk="c", document=document, version="v", title="t", uri="u", text="x", start=0, end=1, score=score
        )

    traits = traits_of("q", [found(0.9, "a"), found(0.5, "a")], by_words=3, history=1)
    assert (traits.passages, traits.top_score, traits.spread) == (2, 0.9, 0.5)
    assert traits.score_gap == pytest.approx(0.4)
    assert traits_of("q") == Traits(question="q")


def test_auc() -> None:
    good = np.array([True, False, True, False])
    assert auc(np.array([0.9, 0.1, 0.8, 0.2]), good) == 1.0
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), good) == 0.5
    assert auc(np.array([0.5, 0.6]), np.array([True, True])) == 0.5


def test_the_command(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("service")
    open_service(folder).close()
    file = folder / "judged.jsonl"
    rows = [{"question": e.traits.question, "scores": dict(e.scores)} for e in examples(200)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run = CliRunner()
    made = run.invoke(cli, ["--folder", str(folder), "models", "train", str(file), "--json"])
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert report["questions"] == 200
    with open_service(folder) as app:
        held = app.documents.fact(FACT)
    assert held is not None
    assert json.loads(held)["version"] == report["version"]
    assert run.invoke(cli, ["--folder", str(folder), "models", "train"]).exit_code == 2
    from_traces = run.invoke(cli, ["--folder", str(folder), "models", "train", "--from-traces"])
    assert from_traces.exit_code != 0
    assert run.invoke(cli, ["--folder", str(folder), "models", "train", "--forget"]).exit_code == 0
    with open_service(folder) as app:
        assert app.documents.fact(FACT) == ""
