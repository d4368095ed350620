"""Measures routing: what quality costs when each question goes to the model that is worth it.

    python -m bench.router [--quick]

Data: nine models' correctness on questions of public sets (llmrouter). The router is trained by the product on the training
questions without those that occur in the test (``train_clean``); the weight of price is swept on a third of the training
questions, whole clusters of like ones that the router was not trained on, as in training itself; then the router is trained on
all of them and looks at the test once. Two tests: the 381 questions that were never in
the published training file (``unseen``), and the 500 as shipped (``shipped``). Two ways to count cost, both as a share of
what the best single model costs: list price times the question's length (``by_length``, as the data's publishers do), and
list price alone (``by_price``: each call as long as any other, as when passages outweigh the question).

``ours.cost`` and ``ours.gain`` are read at the weight that was the cheapest with the best single model's quality on the
validation questions; ``at_40`` at the one with the best quality there within 40 % of its cost. Intervals are 95 % of 2,000
bootstrap samples of the test questions, the router held fixed. ``curve_cost`` is where the test's own curve first
reaches the best single model: swept on the test, so only to compare curves. A cascade proper cannot be measured here: the
data holds no drafts. ``threshold`` is its nearest relative, two models and a bar on the forecast gain.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import _data
from bench._data import say
from mainstay.agreement.terms import Routing
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.models.prices import Price
from mainstay.models.routing import Candidate, Constraints, Learned, Router, Rules, Traits, calibration_error
from mainstay.models.routing.features import hashed
from mainstay.models.routing.quality import QualityModel
from mainstay.models.routing.training import Example, folds_apart, train

Array = npt.NDArray[np.float64]
SEED = 20_260_101
SAMPLES = 2000
NEIGHBOURS = 40
SHARE = 0.40
AIM_COST, AIM_GAIN = 0.40, 0.0
AT = datetime(2026, 1, 1, tzinfo=UTC)
GRID = np.linspace(0.15, 1.0, 18)  # of the best single model's cost: where the area under the curve is taken
CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Asked:
    """Questions with each model's score: rows are questions, columns models in the order of ``models``."""

    questions: tuple[str, ...]
    scores: Array

    def __len__(self) -> int:
        return len(self.questions)

    def part(self, here: npt.NDArray[np.int64]) -> Asked:
        return Asked(tuple(self.questions[n] for n in here), self.scores[here])


@dataclass(frozen=True)
class World:
    """The data, its models and their prices (USD per million tokens)."""

    models: tuple[str, ...]
    prices: Mapping[str, Price]
    usd: Array
    train: Asked
    tests: Mapping[str, Asked]


def world(data: Path, quick: bool) -> World:
    folder = data / "llmrouter"
    rows = {name: _rows(folder / f"{name}.json.gz") for name in ("train", "train_clean", "test")}
    models = tuple(sorted(rows["train"][0]["scores"]))
    listed = json.loads((folder / "default_llm.json").read_text(encoding="utf-8"))
    published = {row["question"] for row in rows["train"]}
    learnt = rows["train_clean"][:: 4 if quick else 1]
    return World(
        models=models,
        prices={
            model: Price.from_usd(
                input_per_million=str(listed[model]["input_price"]),
                output_per_million=str(listed[model]["output_price"]),
            )
            for model in models
        },
        usd=np.array([float(listed[model]["input_price"]) for model in models]),
        train=_asked(learnt, models),
        tests={
            "unseen": _asked([row for row in rows["test"] if row["question"] not in published], models),
            "shipped": _asked(rows["test"], models),
        },
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as text:
        rows: list[dict[str, Any]] = json.load(text)
    return rows


def _asked(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Asked:
    return Asked(
        tuple(row["question"] for row in rows),
        np.array([[float(row["scores"][model]) for model in models] for row in rows]),
    )


# --- those who choose -------------------------------------------------------------------------------------------------


def trained(of: Asked, there: World) -> Learned:
    """The product's estimate, made by the product's training."""
    embedder = StaticEmbedder()
    learned, report = train(
        [
            Example(traits=Traits(question=question), scores=dict(zip(there.models, map(float, scores), strict=True)))
            for question, scores in zip(of.questions, of.scores, strict=True)
        ],
        otherwise=Rules(prices=there.prices),
        embedding=embedder,
        embedder=embedder.identity.digest,
        now=AT,
    )
    say(
        f"  trained on {report.questions}: held back {report.held_back}, own r2 {report.own_r2:.3f}, {report.bytes} bytes"
    )
    return learned


def estimated(quality: QualityModel, of: Asked, there: World) -> Array:
    """What a quality model of the product says of each question and model."""
    if isinstance(quality, Learned):
        told = [quality.estimates(Traits(question=question)) for question in of.questions]
        return np.array([[row[model] for model in there.models] for row in told])
    return np.array([[quality.estimate(Traits(question=q), model) for model in there.models] for q in of.questions])


def neighbours(of: Asked, learnt: Asked) -> Array:
    """The mean score of the nearest training questions by words and character n-grams, near ones counting more."""
    known, asked = _weighed(learnt.questions, of.questions)
    near = asked @ known.T
    best = np.argpartition(-near, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    likeness = np.take_along_axis(near, best, axis=1)
    weights = np.exp(8.0 * (likeness - likeness.max(axis=1, keepdims=True)))
    told: Array = (learnt.scores[best] * weights[..., None]).sum(axis=1) / weights.sum(axis=1)[:, None]
    return told


def _weighed(learnt: Sequence[str], asked: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    out = []
    for questions in (learnt, asked):
        rows = np.zeros((len(questions), 4096), np.float32)
        for row, question in zip(rows, questions, strict=True):
            places, weights = hashed(question, 4096)
            row[places] = weights
        out.append(rows)
    rarity = np.log((1 + len(learnt)) / (1 + (out[0] != 0).sum(axis=0))) + 1
    unit = [rows * rarity / np.maximum(np.linalg.norm(rows * rarity, axis=1, keepdims=True), 1e-9) for rows in out]
    return unit[0].astype(np.float32), unit[1].astype(np.float32)


# --- curves -----------------------------------------------------------------------------------------------------------


def costs(of: Asked, there: World, way: str) -> Array:
    lengths = np.array([len(question) for question in of.questions], np.float64) / CHARS_PER_TOKEN
    return np.outer(lengths if way == "by_length" else np.ones(len(of)), there.usd)


@dataclass(frozen=True)
class Curve:
    """Choices at each weight of price: per weight and question, what it cost and how good it was."""

    cost: Array  # (weights, questions)
    quality: Array

    def points(self, best: float, here: npt.NDArray[np.int64] | slice = slice(None)) -> tuple[Array, Array]:
        return self.cost[:, here].mean(axis=1) / best, self.quality[:, here].mean(axis=1)


def swept(estimates: Array, of: Asked, cost: Array, weights: Array) -> Curve:
    """The choice ``argmax estimate - weight * cost`` at each weight."""
    rows = np.arange(len(of))
    chosen = np.array([(estimates - weight * cost).argmax(axis=1) for weight in weights])
    return Curve(cost[rows, chosen], of.scores[rows, chosen])


def area(share: Array, quality: Array) -> float:
    """The mean of the best quality reached within each share of the best single model's cost."""
    order = np.argsort(share, kind="stable")
    return float(np.interp(GRID, share[order], np.maximum.accumulate(quality[order])).mean())


def reaching(share: Array, quality: Array, wanted: float) -> float:
    """The least share of cost with this quality; 9 when it is never reached."""
    there = share[quality >= wanted]
    return float(there.min()) if len(there) else 9.0


def weights_for(cost: Array) -> Array:
    return np.concatenate([[0.0], np.geomspace(1e-5, 10.0, 241)]) / float(np.median(cost))


def within(share: Array, quality: Array, most: float) -> int:
    """The weight with the best quality within a share of cost; the cheapest when none is."""
    fits = np.flatnonzero(share <= most)
    return int(fits[quality[fits].argmax()]) if len(fits) else int(share.argmin())


def cheapest_with(share: Array, quality: Array, wanted: float) -> int:
    """The cheapest weight with this quality; the best one when none has it."""
    fits = np.flatnonzero(quality >= wanted)
    return int(fits[share[fits].argmin()]) if len(fits) else int(quality.argmax())


def interval(values: Array) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, (0.025, 0.975))]


# --- the run ----------------------------------------------------------------------------------------------------------


def run(quick: bool) -> dict[str, Any]:
    there = world(_data.data_folder("llmrouter"), quick)
    rng = np.random.default_rng(SEED)
    folds = folds_apart(StaticEmbedder().embed_passages(there.train.questions))
    validation, fit = (there.train.part(np.flatnonzero(here)) for here in (folds == 0, folds != 0))
    best = int(there.train.scores.mean(axis=0).argmax())
    cheap = min(range(len(there.models)), key=lambda m: (there.usd[m], -there.train.scores[:, m].mean()))
    say(f"seed {SEED}; {len(fit)} + {len(validation)} training questions; best single {there.models[best]}")
    first, began = trained(fit, there), time.monotonic()
    final = trained(there.train, there)
    say(f"  the second training took {time.monotonic() - began:.0f} s")
    means = there.train.scores.mean(axis=0)
    choosers: dict[str, Callable[[Asked, bool], Array]] = {
        "ours": lambda of, testing: estimated(final if testing else first, of, there),
        "knn": lambda of, testing: neighbours(of, there.train if testing else fit),
        "rules": lambda of, _: estimated(Rules(prices=there.prices), of, there),
        "means": lambda of, _: np.tile(means, (len(of), 1)),
    }
    seen = {name: choose(validation, False) for name, choose in choosers.items()}
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    for test, of in there.tests.items():
        told = {name: choose(of, True) for name, choose in choosers.items()}
        ece = [
            calibration_error(told["ours"][:, m].tolist(), of.scores[:, m].tolist()) for m in range(len(there.models))
        ]
        figures[f"{test}.ours.ece"] = round(float(np.mean(ece)), 4)
        for way in ("by_length", "by_price"):
            measured = _measured(there, validation, of, seen, told, way, best, cheap, rng)
            for name, value in measured.pop("curves").items():
                curves[f"{test}.{way}.{name}"] = value
            for name, value in measured.items():
                into = figures if name.startswith("ours") else peers
                into[f"{test}.{way}.{name}"] = value
    agreed = _same_as_router(final, there, there.tests["unseen"])
    return {
        "bench": "router",
        "figures": figures,
        "peers": peers,
        "curves": curves,
        "router_agrees": agreed,
        "machine": _data.machine(),
    }


def _measured(
    there: World,
    validation: Asked,
    of: Asked,
    seen: Mapping[str, Array],
    told: Mapping[str, Array],
    way: str,
    best: int,
    cheap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """All figures of one test and one way to count cost."""
    paid, paid_before = costs(of, there, way), costs(validation, there, way)
    weights = weights_for(paid_before)
    top, before = float(of.scores[:, best].mean()), float(validation.scores[:, best].mean())
    most, most_before = float(paid[:, best].mean()), float(paid_before[:, best].mean())
    samples = rng.integers(0, len(of), (SAMPLES, len(of)))
    out: dict[str, Any] = {
        "best_single.quality": round(top, 4),
        "cheapest.quality": round(float(of.scores[:, cheap].mean()), 4),
        "cheapest.cost": round(float(paid[:, cheap].mean() / most), 4),
    }
    curves: dict[str, list[tuple[float, float]]] = {}
    oracle = swept(of.scores, of, paid, np.array([1e-9]))
    out["oracle.quality"], out["oracle.cost"] = (
        round(float(oracle.quality.mean()), 4),
        round(float(oracle.cost.mean() / most), 4),
    )
    mix = float(of.scores[:, cheap].mean()), float(paid[:, cheap].mean() / most)
    out["random.quality_at_40"] = round(mix[0] + (top - mix[0]) * (SHARE - mix[1]) / (1 - mix[1]), 4)
    for name in told:
        curve, earlier = swept(told[name], of, paid, weights), swept(seen[name], validation, paid_before, weights)
        share, quality = curve.points(most)
        share_before, quality_before = earlier.points(most_before)
        at = cheapest_with(share_before, quality_before, before)
        within_40 = within(share_before, quality_before, SHARE)
        for label, chosen in (("", at), ("at_40.", within_40)):
            gains = curve.quality[chosen] - of.scores[:, best]
            sampled_cost = curve.cost[chosen][samples].mean(axis=1) / paid[:, best][samples].mean(axis=1)
            out[f"{name}.{label}cost"] = round(float(share[chosen]), 4)
            out[f"{name}.{label}cost.interval"] = interval(sampled_cost)
            out[f"{name}.{label}quality"] = round(float(quality[chosen]), 4)
            out[f"{name}.{label}gain"] = round(float(gains.mean()), 4)
            out[f"{name}.{label}gain.interval"] = interval(gains[samples].mean(axis=1))
        out[f"{name}.reached_before"] = bool(quality_before[at] >= before)
        out[f"{name}.auc"] = round(area(share, quality), 4)
        out[f"{name}.curve_cost"] = round(reaching(share, quality, top), 4)
        if name == "ours":
            drawn = [curve.points(float(paid[:, best][here].mean()), here) for here in samples[:500]]
            reached = [
                reaching(s, q, float(of.scores[here, best].mean()))
                for (s, q), here in zip(drawn, samples[:500], strict=True)
            ]
            out["ours.auc.interval"] = interval(np.array([area(s, q) for s, q in drawn]))
            out["ours.curve_cost.interval"] = interval(np.array(reached))
        curves[name] = _thinned(share, quality)
    strong_gain = told["ours"][:, best] - told["ours"][:, _second(there, best)]
    bars = np.quantile(strong_gain, np.linspace(0, 1, 41))
    picked = np.array([np.where(strong_gain >= bar, best, _second(there, best)) for bar in bars])
    rows = np.arange(len(of))
    two = Curve(paid[rows, picked], of.scores[rows, picked]).points(most)
    out["threshold.auc"], out["threshold.curve_cost"] = round(area(*two), 4), round(reaching(*two, top), 4)
    out["curves"] = {**curves, "threshold": _thinned(*two)}
    return out


def _second(there: World, best: int) -> int:
    """The best model that costs at most 40 % of the best single one, by the training questions."""
    less = [m for m in range(len(there.models)) if there.usd[m] <= SHARE * there.usd[best]]
    return max(less, key=lambda m: float(there.train.scores[:, m].mean()))


def _thinned(share: Array, quality: Array) -> list[tuple[float, float]]:
    """A curve's points, each share of cost once."""
    points = sorted({(round(float(s), 3), round(float(q), 4)) for s, q in zip(share, quality, strict=True)})
    return points[:: max(1, len(points) // 20)]


def _same_as_router(final: Learned, there: World, of: Asked) -> float:
    """How often ``Router.plan`` puts first whom the sums of this file choose, at what a right answer is worth by default."""
    value = 0.0005
    router = Router(Routing(value_usd=f"{value:.6f}"), final)
    candidates = [Candidate(name=model, price=there.prices[model], context_tokens=1_000_000) for model in there.models]
    agreed = 0
    for question in of.questions:
        tokens = max(1, len(question) // CHARS_PER_TOKEN)
        traits = Traits(question=question)
        needs = Constraints(
            needs_tokens=4 * tokens,
            max_output_tokens=1,
            cap_left_n=10**12,
            likely_input_tokens=tokens,
            likely_output_tokens=1,
        )
        plan = router.plan(traits, candidates, needs)
        told = final.estimates(traits)
        worth = {m: told[m] * value - (tokens + 1) * usd / 1e6 for m, usd in zip(there.models, there.usd, strict=True)}
        agreed += plan.first is not None and worth[plan.first.name] >= max(worth.values()) - 1e-8
    return round(agreed / len(of), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the training questions")
    given = parser.parse_args()
    began = time.monotonic()
    result = run(given.quick)
    for title in ("figures", "peers"):
        for name, value in result[title].items():
            print(f"{name:46} {value}")
    for test in ("unseen", "shipped"):
        for way in ("by_length", "by_price"):
            cost, gain = (result["figures"][f"{test}.{way}.ours.{key}"] for key in ("cost", "gain"))
            met = cost <= AIM_COST and gain >= AIM_GAIN
            print(f"aim, {test}, {way}: cost {cost:.3f} of {AIM_COST}, gain {gain:+.4f}: {'met' if met else 'MISSED'}")
    say(f"took {time.monotonic() - began:.0f} s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
