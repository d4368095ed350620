"""Learning the quality estimate from answers that were judged, with numpy alone.

Examples come from a file (one JSON document a line: ``question``, ``model``, ``score`` 0 to 1, optionally ``traits`` and
``draft``; or ``scores`` of several models at once) or from traces. Traces hold no text, so from them only retrieval's figures
and the question's length can be learned, and the label is the service's own check of citations: weaker in both.

The estimate is a ridge in two parts: how hard the question is for everybody, and how much better or worse than that each
model does. The second decides the route and is much noisier, so it is held back by its own measure: what the choices it leads to
are worth. Folds are made of whole clusters of like questions, because tomorrow's questions are not drawn from the
same templates; figures of the report are of questions whose cluster was left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid
from mainstay.models.routing.calibration import Calibration, brier, calibration_error, fitted
from mainstay.models.routing.features import Traits, hashed, numbers
from mainstay.models.routing.quality import Embedding, Learned, QualityModel, Space
from mainstay.models.routing.router import DraftLook, draft_score
from mainstay.records.traces import Span, Trace

Floats = npt.NDArray[np.float32]

DIMS = 4096
SHARES = (1.0, 0.55, 0.55, 0.55)  # text, meaning, numbers, waves: chosen on clusters of training questions left out
FOLDS = 3
HELD_BACK_SHARED = (4.0, 10.0, 25.0)
HELD_BACK_OWN = (10.0, 25.0, 60.0, 150.0)
CLUSTERS, ROUNDS = 40, 8
SHARPNESS = 0.03
"""Estimates this close are as good as equal when the worth of choices is weighed."""
FEWEST_QUESTIONS, FEWEST_PER_MODEL = 100, 60
MOST_QUESTIONS = 6000
"""The sums hold a number for each pair of questions: more would take a gigabyte. A sample is drawn, always the same."""
LONGEST_LINE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question and how good each model's answer was, 0 to 1; ``drafts`` are looks at answers, with how good they were."""

    traits: Traits
    scores: Mapping[str, float]
    drafts: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """How well one model's quality is foreseen on questions left out: share of variance (r2), how often the better of two
    questions is told (auc), how far off its probabilities are (ece, brier)."""

    model: str
    examples: int
    mean: float
    r2: float
    auc: float
    ece: float
    brier: float


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What was learned, measured on questions left out. ``own_r2`` is how much of what sets the models apart is foreseen:
    at or under 0 routing by this estimate is no better than by the models' means."""

    questions: int
    models: tuple[ModelReport, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    own_r2: float = 0.0
    held_back: tuple[float, float] = (0.0, 0.0)
    drafts: int = 0
    source: str = "file"
    bytes: int = 0


# --- examples ---------------------------------------------------------------------------------------------------------

_TRAITS = {known.name for known in fields(Traits)} - {"question"}
_DRAFT = ("supported_share", "coverage", "citations", "finish", "self_agreement")


def read_examples(lines: Iterable[str], where: str) -> list[Example]:
    """Examples of a labelled file; lines of one question are put together. Errors: Invalid with the line."""
    held: dict[Traits, dict[str, list[float]]] = {}
    drafts: dict[Traits, list[tuple[float, float]]] = {}
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        traits, scores, draft = _row(line, f"{where}:{n}")
        for model, score in scores.items():
            held.setdefault(traits, {}).setdefault(model, []).append(score)
        if draft is not None:
            drafts.setdefault(traits, []).append(draft)
    return [
        Example(
            traits=traits,
            scores={model: math.fsum(given) / len(given) for model, given in scores.items()},
            drafts=tuple(drafts.get(traits, ())),
        )
        for traits, scores in held.items()
    ]


def _row(line: str, where: str) -> tuple[Traits, dict[str, float], tuple[float, float] | None]:
    fix = 'write {"question": "...", "model": "...", "score": 0.0 to 1.0}'
    if len(line) > LONGEST_LINE:
        raise Invalid(f"a line of {len(line)} characters", where=where, fix=fix)
    try:
        row = json.loads(line)
    except ValueError:
        raise Invalid("not one JSON document", where=where, fix=fix) from None
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise Invalid("no question", where=where, fix=fix)
    told: dict[Any, Any] = (
        row["scores"] if isinstance(row.get("scores"), dict) else {row.get("model"): row.get("score")}
    )
    if not told or not all(isinstance(model, str) and model and _share(score) for model, score in told.items()):
        raise Invalid("no model with a score from 0 to 1", where=where, fix=fix)
    scores = {str(model): float(score) for model, score in told.items()}
    given = row.get("traits") or {}
    if not isinstance(given, dict) or not set(given) <= _TRAITS:
        raise Invalid(f"traits may be {', '.join(sorted(_TRAITS))}", where=where)
    if not all(isinstance(v, str if k == "language" else (int, float)) for k, v in given.items()):
        raise Invalid("traits are numbers, language a text", where=where)
    traits = Traits(question=row["question"], **given)
    draft = row.get("draft")
    if draft is None or len(scores) != 1:
        return traits, scores, None
    if not isinstance(draft, dict) or not set(draft) <= set(_DRAFT):
        raise Invalid(f"a draft tells {', '.join(_DRAFT)}", where=where)
    try:
        look = DraftLook(
            supported_share=float(draft["supported_share"]),
            coverage=float(draft["coverage"]),
            citations=int(draft["citations"]),
            finish=str(draft.get("finish", "stop")),
            self_agreement=None if draft.get("self_agreement") is None else float(draft["self_agreement"]),
            spent_n=0,
            left_n=0,
            deadline_left_s=0.0,
            tried=(),
        )
    except (KeyError, TypeError, ValueError):
        raise Invalid("a draft needs supported_share, coverage and citations", where=where) from None
    return traits, scores, (draft_score(look), next(iter(scores.values())))


def _share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def examples_from_traces(traces: Iterable[Trace]) -> list[Example]:
    """Examples of past requests that a model answered: 0 where nothing could be shown, else the share of its sentences that
    their sources carried. What came from the cache, was asked back or handed over is left out."""
    made = []
    for trace in traces:
        spans = {span.kind: span for span in trace.spans}
        model, status = trace.facts.get("model"), trace.status
        if trace.kind != "answer" or not isinstance(model, str) or not model or "retrieve" not in spans:
            continue
        if status not in ("answered", "partial", "refused") or "generate" not in spans:
            continue
        made.append(Example(traits=_traced(spans), scores={model: _traced_score(status, spans.get("verify"))}))
    return made


def _traced(spans: Mapping[str, Span]) -> Traits:
    found = spans["retrieve"].attributes
    scores = [float(score) for score in _listed(found.get("scores"))]
    documents = _listed(found.get("documents"))
    admitted = spans["admit"].attributes if "admit" in spans else {}
    return Traits(
        chars=_counted(admitted.get("question_chars")),
        passages=len(documents),
        top_score=scores[0] if scores else 0.0,
        score_gap=scores[0] - scores[1] if len(scores) > 1 else 0.0,
        spread=len(set(documents)) / len(documents) if documents else 0.0,
        by_words=_counted(found.get("by_words")),
        by_meaning=_counted(found.get("by_meaning")),
        filters=len(_listed(found.get("filters"))),
    )


def _traced_score(status: str, verify: Span | None) -> float:
    if status == "refused" or verify is None:
        return 0.0
    cited, unsupported = _counted(verify.attributes.get("citations")), _counted(verify.attributes.get("unsupported"))
    return cited / (cited + unsupported) if cited else 0.0


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _counted(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


# --- learning ---------------------------------------------------------------------------------------------------------


def train(
    examples: Sequence[Example],
    *,
    otherwise: QualityModel,
    embedding: Embedding | None,
    embedder: str,
    now: datetime,
    source: str = "file",
) -> tuple[Learned, TrainingReport]:
    """An estimate of each model's quality, and how good the estimate is. ``embedder`` is the digest of the embedding.

    Errors: Invalid when there are too few examples to learn anything.
    """
    examples, models, left_out = _enough(examples)
    with_text = any(example.traits.question for example in examples)
    embedding = embedding if with_text else None
    space = _space(examples, embedder if embedding else "", with_text)
    rows = _rows(space, examples, embedding)
    given = np.array([[example.scores.get(model, math.nan) for model in models] for example in examples])
    likeness = (rows @ rows.T).astype(np.float32)
    folds = folds_apart(rows)
    means = np.nanmean(given, axis=0)
    shared = _shared(given, means)
    seen_shared, back_shared = _foreseen(likeness, shared[:, None], folds, HELD_BACK_SHARED)
    own = given - means - np.where(np.isnan(given).any(axis=1), seen_shared[:, 0], shared)[:, None]
    seen_own, back_own = _foreseen(likeness, own, folds, HELD_BACK_OWN, _worth_of_choices(given, means))
    # Models are set apart only as far as that is foreseen at all.
    own_r2 = _explained(own, seen_own)
    keep_own = 1.0 if own_r2 > 0 and len(models) > 1 else 0.0
    raw = means + seen_shared + keep_own * seen_own
    weights = rows.T @ (_solved(likeness, shared[:, None], back_shared) + keep_own * _solved(likeness, own, back_own))
    drafts = [pair for example in examples for pair in example.drafts]
    learned = Learned(
        version=f"learned-{_digest(examples)}",
        space=space,
        models=tuple(models),
        weights=np.ascontiguousarray(weights.T, dtype=np.float32),
        offsets=tuple(float(mean) for mean in means),
        facts={
            "at": now.isoformat(),
            "source": source,
            "questions": len(examples),
            "held_back": [back_shared, back_own],
            "own_r2": round(own_r2, 5),
        },
        otherwise=otherwise,
        embedding=embedding,
        confidence=fitted(*zip(*drafts, strict=True)) if len(drafts) >= FEWEST_PER_MODEL else Calibration(),
    )
    report = TrainingReport(
        questions=len(examples),
        models=tuple(_reported(model, raw[:, m], given[:, m]) for m, model in enumerate(models)),
        left_out=left_out,
        own_r2=own_r2,
        held_back=(back_shared, back_own),
        drafts=len(drafts),
        source=source,
        bytes=len(learned.packed()),
    )
    return learned, report


def _enough(examples: Sequence[Example]) -> tuple[list[Example], list[str], dict[str, str]]:
    """The examples to learn from, the models with enough of them, and why others are left out."""
    counts: dict[str, int] = {}
    for example in examples:
        for model in example.scores:
            counts[model] = counts.get(model, 0) + 1
    models = sorted(model for model, count in counts.items() if count >= FEWEST_PER_MODEL)
    left_out = {
        model: f"{count} examples, {FEWEST_PER_MODEL} are needed"
        for model, count in sorted(counts.items())
        if model not in models
    }
    kept = [example for example in examples if any(model in models for model in example.scores)]
    if len(kept) < FEWEST_QUESTIONS or not models:
        raise Invalid(
            f"{len(kept)} questions with a model that has {FEWEST_PER_MODEL} examples: too few to learn from",
            where="examples",
            fix=f"bring {FEWEST_QUESTIONS} questions or more; until then the rules estimate",
        )
    if len(kept) > MOST_QUESTIONS:
        left_out["(questions)"] = f"{len(kept) - MOST_QUESTIONS} of {len(kept)} left out, a sample is learned from"
        kept = sorted(kept, key=_stable)[:MOST_QUESTIONS]
    return kept, models, left_out


def _stable(example: Example) -> bytes:
    return hashlib.sha256(repr(example.traits).encode("utf-8", "surrogatepass")).digest()


def folds_apart(rows: Floats) -> npt.NDArray[np.int64]:
    """The fold of each question: clusters of like questions (Lloyd, 1982), the largest first to the emptiest fold."""
    count = min(CLUSTERS, max(FOLDS, len(rows) // 5))
    centres = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    cluster = np.zeros(len(rows), np.int64)
    for _ in range(ROUNDS):
        cluster = (rows @ centres.T - (centres * centres).sum(axis=1) / 2).argmax(axis=1)
        for n in range(count):
            inside = np.flatnonzero(cluster == n)
            if len(inside):
                centres[n] = rows[inside].mean(axis=0)
    sizes = np.bincount(cluster, minlength=count)
    fold_of, loads = np.zeros(count, np.int64), np.zeros(FOLDS, np.int64)
    for n in np.argsort(-sizes, kind="stable"):
        fold_of[n] = int(loads.argmin())
        loads[fold_of[n]] += sizes[n]
    folds: npt.NDArray[np.int64] = fold_of[cluster]
    return folds


def _digest(examples: Sequence[Example]) -> str:
    told = sorted(_stable(example).hex() + json.dumps(sorted(example.scores.items())) for example in examples)
    return hashlib.sha256("".join(told).encode()).hexdigest()[:12]


def _space(examples: Sequence[Example], embedder: str, with_text: bool) -> Space:
    """Rarity of the hashed words over these questions, and the scale of the numbers; no label is looked at."""
    seen = np.zeros(DIMS)
    for example in examples:
        seen[hashed(example.traits.question, DIMS)[0]] += 1
    told = np.array([numbers(example.traits) for example in examples])
    deviation = told.std(axis=0)
    alive = deviation > 1e-4
    scale = np.where(alive, 1.0 / np.maximum(deviation, 1e-4), 0.0) / math.sqrt(max(int(alive.sum()), 1))
    return Space(
        rarity=_halved(np.log((1 + len(examples)) / (1 + seen)) + 1),
        mean=_halved(told.mean(axis=0)),
        scale=_halved(scale),
        shares=SHARES if with_text else (0.0, 0.0, 1.0, 1.0),
        embedder=embedder,
    )


def _halved(row: npt.NDArray[Any]) -> Floats:
    """As it will be kept, so that what is learned here fits what is read there."""
    return row.astype(np.float16).astype(np.float32)


def _rows(space: Space, examples: Sequence[Example], embedding: Embedding | None) -> Floats:
    beside = [space.beside(example.traits, embedding) for example in examples]
    rows = np.zeros((len(examples), space.dims + len(beside[0])), np.float32)
    for row, example, rest in zip(rows, examples, beside, strict=True):
        if space.shares[0]:
            places, weights = space.text(example.traits.question)
            row[places] = weights
        row[space.dims :] = rest
    return rows


def _shared(given: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much better than usual a question went, over the models that were asked."""
    mean: npt.NDArray[np.float64] = np.nanmean(given - means, axis=1)
    return mean


def _solved(likeness: Floats, targets: npt.NDArray[np.float64], back: float) -> Floats:
    """Ridge in its dual form for each column; a question without a target (NaN) has no say."""
    out = np.zeros(targets.shape, np.float32)
    columns: dict[bytes, list[int]] = {}
    for m in range(targets.shape[1]):
        columns.setdefault(np.isnan(targets[:, m]).tobytes(), []).append(m)
    for alike in columns.values():
        held = np.array(alike)
        here = np.flatnonzero(~np.isnan(targets[:, held[0]]))
        if not len(here):
            continue
        matrix: Floats = likeness[np.ix_(here, here)]
        matrix[np.diag_indices(len(here))] += np.float32(back)
        out[np.ix_(here, held)] = np.linalg.solve(matrix, targets[np.ix_(here, held)].astype(np.float32))
    return out


Loss = Callable[[npt.NDArray[np.float64]], float]


def _foreseen(
    likeness: Floats,
    targets: npt.NDArray[np.float64],
    folds: npt.NDArray[np.int64],
    choices: Sequence[float],
    loss: Loss | None = None,
) -> tuple[npt.NDArray[np.float64], float]:
    """The targets of each fold as learned from the others, with the strength of holding back that loses least."""
    best: npt.NDArray[np.float64] | None = None
    least, chosen = math.inf, choices[-1]
    for back in choices:
        seen = np.zeros(targets.shape)
        for fold in range(FOLDS):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            if len(outside):
                solved = _solved(likeness[np.ix_(outside, outside)], targets[outside], back)
                seen[inside] = likeness[np.ix_(inside, outside)] @ solved
        lost = float(np.nanmean((targets - seen) ** 2)) if loss is None else loss(seen)
        if lost < least:
            best, least, chosen = seen, lost, back
    assert best is not None
    return best, chosen


def _worth_of_choices(given: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> Loss | None:
    """What choosing among models by an estimate loses: the mean score of whom it chooses, at prices that make up for none,
    half or all of the models' means. None when no question was judged for two models: then squared error must do."""
    several = np.flatnonzero((~np.isnan(given)).sum(axis=1) > 1)
    if not len(several):
        return None
    scores = np.nan_to_num(given[several])
    absent = np.isnan(given[several])

    def lost(seen: npt.NDArray[np.float64]) -> float:
        total = 0.0
        for made_up in (0.0, 0.5, 1.0):
            estimate = (seen[several] + (1.0 - made_up) * means) / SHARPNESS
            estimate = np.where(absent, -np.inf, estimate)
            chance = np.exp(estimate - estimate.max(axis=1, keepdims=True))
            total -= float(((scores * chance).sum(axis=1) / chance.sum(axis=1)).mean())
        return total

    return lost


def _explained(targets: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> float:
    spread = float(np.nanmean((targets - np.nanmean(targets, axis=0)) ** 2))
    return 1.0 - float(np.nanmean((targets - seen) ** 2)) / spread if spread > 0 else 0.0


def _reported(model: str, raw: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> ModelReport:
    seen = np.clip(raw, 0.0, 1.0)
    here = ~np.isnan(given)
    told, came = seen[here], given[here]
    return ModelReport(
        model=model,
        examples=int(here.sum()),
        mean=float(came.mean()),
        r2=_explained(came[:, None], told[:, None]),
        auc=auc(told, came >= 0.5),
        ece=calibration_error(told.tolist(), came.tolist()),
        brier=brier(told.tolist(), came.tolist()),
    )


def auc(scores: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]) -> float:
    """How often a good one has the higher score than one that is not, ties counted half (0.5: a guess)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    yes = int(good.sum())
    no = len(good) - yes
    return float((ranks[good].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else 0.5
