"""How good would each model's answer to this question be? A share of right answers, 0 to 1, before anything is paid.

``Rules`` needs no examples: harder questions gain more from dearer models. ``Learned`` is a linear map from the question's
text, its meaning and retrieval's figures, made by ``training`` and kept as JSON. ``Upkept`` moves either by outcomes seen
since, with forgetting, so that a model that got worse loses its place.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid
from mainstay.models.prices import Price
from mainstay.models.routing.calibration import Calibration
from mainstay.models.routing.features import NUMBERS, Traits, hashed, numbers, waves

Floats = npt.NDArray[np.float32]
FORMAT = 1
FACT = "router"
"""The name under which a service keeps its trained estimate; an empty text is none."""
FARTHEST = 3.0
"""Deviations from the mean: a number farther out counts as one this far."""
LARGEST = 1_000_000
"""Bytes of a kept estimate: it is read by every process and stands in one row of the database."""


class QualityModel(Protocol):
    """Estimates the share of right answers. Pure, and safe to use from several threads."""

    @property
    def version(self) -> str:
        """Names what estimated, for the trace."""
        ...

    def estimate(self, traits: Traits, model: str) -> float: ...


# --- without examples -------------------------------------------------------------------------------------------------


def difficulty(traits: Traits) -> float:
    """How hard a question looks, 0 to 1: long, in several parts, comparing, calculating, code; and what retrieval found is
    weak, spread over many documents, or missing."""
    text = dict(zip(NUMBERS, (float(value) for value in numbers(traits)), strict=True))
    score = -2.2
    score += 0.9 * max(0.0, text["words"] - 1.2)  # from ten words on
    score += 0.7 * text["compares"] + 0.6 * text["works_out"] + 0.35 * text["several"] + 0.9 * text["code"]
    score += 0.4 * max(0.0, text["question_marks"] - 1) + 0.4 * text["history"]
    if traits.passages:
        score += 1.2 * max(0.0, 0.7 - traits.top_score)
        score += 0.5 * traits.spread * min(traits.passages, 8) / 8
        score -= 1.0 * min(traits.score_gap, 0.5)
    return 1.0 / (1.0 + math.exp(-score))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The start: price stands for strength. A cheap model is nearly as good on easy questions and clearly worse on hard
    ones. ``known`` overrides the strength (0 weakest, 1 strongest) of a model by name; a free model counts as the
    weakest unless it is known."""

    prices: Mapping[str, Price]
    known: Mapping[str, float] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return "rules-1"

    def strength(self, model: str) -> float:
        """0 for the cheapest of all, 1 for the dearest, by the logarithm of the price."""
        if model in self.known:
            return min(max(self.known[model], 0.0), 1.0)
        paid = [worth for price in self.prices.values() if (worth := _worth(price)) > 0]
        mine = _worth(self.prices[model]) if model in self.prices else 0
        if not paid or mine <= 0:
            return 0.0
        low, high = math.log(min(paid)), math.log(max(paid))
        return 0.15 + 0.85 * (math.log(mine) - low) / (high - low) if high > low else 0.6

    def estimate(self, traits: Traits, model: str) -> float:
        hard = difficulty(traits)
        strong = self.strength(model)
        return round(0.92 - 0.05 * (1 - strong) - hard * (0.62 - 0.42 * strong), 6)


def _worth(price: Price) -> int:
    """A typical call, three tokens in for each out."""
    return 3 * price.input_per_million_nanodollars + price.output_per_million_nanodollars


# --- learned ----------------------------------------------------------------------------------------------------------


class Embedding(Protocol):
    """What lends the meaning of a question: the static embedder that comes with Mainstay."""

    def embed_query(self, text: str) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class Space:
    """How traits become one row of figures: hashed text weighed by rarity and of unit length, the meaning, numbers on one scale,
    and waves of those numbers.

    ``shares`` weighs the four parts. ``embedder`` names (by digest) whose vectors the meaning is of; empty is none.
    """

    rarity: Floats  # (dims,)
    mean: Floats  # (numbers,)
    scale: Floats  # (numbers,); 0 leaves a number out
    shares: tuple[float, float, float, float]
    embedder: str = ""

    @property
    def dims(self) -> int:
        return len(self.rarity)

    def text(self, question: str) -> tuple[npt.NDArray[np.int64], Floats]:
        """The places of a question among the dims, and their weights."""
        places, weights = hashed(question, self.dims)
        weights = weights * self.rarity[places]
        length = float(np.sqrt((weights * weights).sum()))
        return places, (self.shares[0] * weights / length if length else weights)

    def beside(self, traits: Traits, embedding: Embedding | None) -> Floats:
        """The rest of the row: meaning, numbers, waves."""
        longest = FARTHEST / np.sqrt(max(int((self.scale > 0).sum()), 1))
        told = np.clip((numbers(traits) - self.mean) * self.scale, -longest, longest).astype(np.float32)
        parts = [self.shares[2] * told, self.shares[3] * waves(told)]
        if embedding is not None and self.embedder:
            parts.insert(0, self.shares[1] * embedding.embed_query(traits.question))
        return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A linear estimate per model over one Space. A model it was not trained on is estimated by ``otherwise``.

    There is no map per model on top: it made each model's estimate no truer on clusters of questions left out, and comparing
    models worse (docs/decisions/0010-routing.md).
    """

    version: str
    space: Space
    models: tuple[str, ...]
    weights: Floats  # (models, dims + meaning + numbers + waves)
    offsets: tuple[float, ...]
    facts: Mapping[str, Any]
    otherwise: QualityModel
    embedding: Embedding | None = None
    confidence: Calibration = field(default_factory=Calibration)  # of drafts, where examples told of them

    def estimate(self, traits: Traits, model: str) -> float:
        if model not in self.models:
            return self.otherwise.estimate(traits, model)
        return self.estimates(traits)[model]

    def estimates(self, traits: Traits) -> dict[str, float]:
        """All its models at once, which costs no more than one."""
        places, text = self.space.text(traits.question)
        rest = self.space.beside(traits, self.embedding)
        raw = self.weights[:, places] @ text + self.weights[:, self.space.dims :] @ rest
        return {
            name: round(min(max(float(score) + offset, 0.0), 1.0), 6)
            for name, score, offset in zip(self.models, raw, self.offsets, strict=True)
        }

    def packed(self) -> str:
        """The estimate as JSON text, smaller than LARGEST. Errors: Invalid when it is too large to keep."""
        text = json.dumps(
            {
                "format": FORMAT,
                "version": self.version,
                "numbers": list(NUMBERS),
                "rarity": _put(self.space.rarity),
                "mean": _put(self.space.mean),
                "scale": _put(self.space.scale),
                "shares": list(self.space.shares),
                "embedder": self.space.embedder,
                "models": list(self.models),
                "weights": [_put(row) for row in self.weights],
                "offsets": list(self.offsets),
                "confidence": _told(self.confidence),
                "facts": dict(self.facts),
            },
            sort_keys=True,
        )
        if len(text) > LARGEST:
            raise Invalid(f"the trained estimate has {len(text)} bytes, {LARGEST} are kept", fix="train fewer models")
        return text


def unpacked(text: str, *, otherwise: QualityModel, embedding: Embedding | None, embedder: str) -> Learned:
    """A kept estimate. ``embedder`` is the digest of the embedding at hand: another one's meaning is not understood.

    Errors: Invalid for what is no estimate of this version of Mainstay: train again.
    """
    fix = "train again: mainstay models train FILE"
    try:
        held = json.loads(text)
        if held["format"] != FORMAT or held["numbers"] != list(NUMBERS):
            raise Invalid("the trained router is of another version of Mainstay", where="router", fix=fix)
        if held["embedder"] and (embedding is None or held["embedder"] != embedder):
            raise Invalid("the trained router knows another embedder", where="router", fix=fix)
        space = Space(
            rarity=_got(held["rarity"]),
            mean=_got(held["mean"]),
            scale=_got(held["scale"]),
            shares=_four(held["shares"]),
            embedder=str(held["embedder"]),
        )
        learned = Learned(
            version=str(held["version"]),
            space=space,
            models=tuple(held["models"]),
            weights=np.stack([_got(row) for row in held["weights"]]),
            offsets=tuple(float(offset) for offset in held["offsets"]),
            confidence=_calibration(held["confidence"]),
            facts=held["facts"],
            otherwise=otherwise,
            embedding=embedding if held["embedder"] else None,
        )
        learned.estimates(Traits(question="a question"))  # shapes agree, or it is refused here and not on the road
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error) as error:
        raise Invalid(f"the trained router can not be read ({type(error).__name__})", where="router", fix=fix) from None
    return learned


def kept_or(
    text: str | None, *, otherwise: QualityModel, embedding: Embedding | None, embedder: str
) -> tuple[QualityModel, str]:
    """The kept estimate, or ``otherwise`` when none is kept or it can not be read; then the second value says why."""
    if not text:
        return otherwise, ""
    try:
        return unpacked(text, otherwise=otherwise, embedding=embedding, embedder=embedder), ""
    except Invalid as error:
        return otherwise, error.line()


def _four(told: Sequence[Any]) -> tuple[float, float, float, float]:
    a, b, c, d = (float(share) for share in told)
    return a, b, c, d


def _told(calibration: Calibration) -> list[Any]:
    scores = [round(score, 5) for score in calibration.scores]
    return [scores, [round(share, 5) for share in calibration.shares], calibration.examples]


def _calibration(told: Sequence[Any]) -> Calibration:
    scores, shares, examples = told
    return Calibration(scores=tuple(scores), shares=tuple(shares), examples=int(examples))


def _put(row: Floats) -> str:
    return base64.b64encode(row.astype("<f2").tobytes()).decode("ascii")


def _got(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float32)


# --- outcomes seen since ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Outcomes of one model with forgetting: how many count still, how many were right, how many were expected to be."""

    count: float = 0.0
    right: float = 0.0
    expected: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """Tallies by model. Each new outcome makes the older ones count ``keep`` of what they did: at 0.99 about the last hundred
    count, for ever (a tally that only adds up stops learning)."""

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    keep: float = 0.99

    def seen(self, model: str, right: float, expected: float) -> Upkeep:
        """The same with one outcome more (0 wrong to 1 right) beside what had been estimated."""
        old = self.tallies.get(model, Tally())
        new = Tally(
            count=self.keep * old.count + 1.0,
            right=self.keep * old.right + right,
            expected=self.keep * old.expected + expected,
        )
        return replace(self, tallies={**self.tallies, model: new})

    def shift(self, model: str, *, prior: float = 20.0) -> float:
        """How much better (or worse) the model has done than estimated, held back while little was seen."""
        tally = self.tallies.get(model, Tally())
        return (tally.right - tally.expected) / (tally.count + prior)


@dataclass(frozen=True, kw_only=True)
class Upkept:
    """An estimate moved by what was seen since."""

    inner: QualityModel
    upkeep: Upkeep

    @property
    def version(self) -> str:
        return f"{self.inner.version}+seen"

    def estimate(self, traits: Traits, model: str) -> float:
        return self.moved(model, self.inner.estimate(traits, model))

    def moved(self, model: str, quality: float) -> float:
        return min(max(quality + self.upkeep.shift(model), 0.0), 1.0)


def all_estimates(quality: QualityModel, traits: Traits, models: Sequence[str]) -> dict[str, float]:
    """Estimates of several models; a learned one looks at the question once."""
    if isinstance(quality, Upkept):
        return {name: quality.moved(name, told) for name, told in all_estimates(quality.inner, traits, models).items()}
    if isinstance(quality, Learned):
        known = quality.estimates(traits)
        return {name: known[name] if name in known else quality.estimate(traits, name) for name in models}
    return {name: quality.estimate(traits, name) for name in models}
