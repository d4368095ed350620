"""Fit and measure the extractive answerer (src/mainstay/models/extractive.py).

    python scripts/fit_extractive.py DATA [--fit] [--top 6]

DATA holds ``chunking_evaluation`` and ``hotpotqa_subset`` (never part of this repository). The questions are parted by the
first byte of their SHA-256: even fits, odd reports. All five texts are one index: paragraph chunks of at most 1,000
characters, BM25. ``--fit`` prints new constants and reports with them; without it the constants of the module are used.

A question counts when a gold span lies wholly inside the quotes (neighbouring quotes joined); "partial" asks for half of
one. Questions about other things must abstain: the signals are fitted against HotpotQA questions and against questions of
one text asked of the others; reported on the fifty below.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mainstay.models import extractive
from mainstay.text.sentences import sentences
from mainstay.text.words import content, is_content, stem, words
from mainstay.types import Passage

NAMES = ("chatlogs", "finance", "pubmed", "state_of_the_union", "wikitexts")

OFF_TOPIC = """
How do I bake a sourdough bread?
What is the boiling point of ethanol?
Who painted the ceiling of the Sistine Chapel?
How tall is Mount Kilimanjaro?
What is the capital of Mongolia?
How many strings does a cello have?
Which planet has the most moons?
What is the recipe for pesto alla genovese?
When was the Eiffel Tower built?
How do I change a bicycle tyre?
What are the rules of cricket?
Who wrote War and Peace?
How long does it take to boil an egg?
What is the speed of sound in water?
Which language is spoken in Suriname?
How do I prune an apple tree?
What is the offside rule in football?
Where do penguins live?
How do I tie a bow tie?
What breeds of dogs are hypoallergenic?
How is Roquefort cheese made?
Who discovered penicillin?
What is the tallest waterfall on Earth?
How do I remove red wine stains from a carpet?
Which countries border Paraguay?
What is the plot of Hamlet?
How do noise-cancelling headphones work?
When is the cherry blossom season in Kyoto?
What is the best chess opening for beginners?
How often should I water a cactus?
What does a sommelier do?
How deep is the Mariana Trench?
Who composed The Magic Flute?
How do I set up a tent in the rain?
What is the wingspan of an albatross?
How many players are in a volleyball team?
What causes a rainbow?
How do you say thank you in Finnish?
Which tyre pressure is right for a caravan?
What is the parking fee at Heathrow airport?
How can I train my cat to use a scratching post?
What is the dress code at Ascot?
Where was Mozart born?
How do I knit a scarf?
What is the difference between a crocodile and an alligator?
How many calories are in an avocado?
What is the half-life of plutonium?
Which wood is used for violins?
How do I descale my kettle?
What are the visiting hours of the Louvre?
""".strip().splitlines()

FRESH = """
How do I unclog a kitchen drain?
What is the national flower of Japan?
Who invented the telephone?
How far is the Moon from the Earth?
What does a barometer measure?
Which spices go into garam masala?
When did the Titanic sink?
How many legs does a lobster have?
What is the currency of Vietnam?
How do I fold a paper crane?
Where is the Great Barrier Reef?
Who won the first Tour de France?
What is the freezing point of mercury?
How do bees make honey?
Which instrument has 88 keys?
How long is a marathon?
What is the best way to grill salmon?
Who sculpted the statue of David?
How do I whiten sneakers?
What is the population of Iceland?
Which mountain range separates France and Spain?
How do I get rid of slugs in the garden?
What is the oldest university in Europe?
How many bones does an adult human have?
What is the meaning of the Swedish word lagom?
How do I park a trailer backwards?
When does ski season start in the Alps?
Who played the lead role in Casablanca?
What is the difference between jam and marmalade?
How is olive oil pressed?
""".strip().splitlines()
"""Written after the signals were chosen; none of these shaped a weight."""


@dataclass(frozen=True)
class Case:
    question: str
    references: tuple[tuple[int, int], ...]
    corpus: str

    @property
    def fits(self) -> bool:
        return hashlib.sha256(self.question.encode()).digest()[0] % 2 == 0


class World:
    """The five texts, chunked and indexed."""

    def __init__(self, data: Path) -> None:
        folder = data / "chunking_evaluation"
        self.texts = {n: (folder / "corpora" / f"{n}.md").open(newline="", encoding="utf-8").read() for n in NAMES}
        self.chunks = [(n, a, b) for n in NAMES for a, b in chunk(self.texts[n])]
        self.counts = [Counter(content(self.texts[n][a:b])) for n, a, b in self.chunks]
        self.lengths = [sum(c.values()) for c in self.counts]
        self.mean = sum(self.lengths) / len(self.lengths)
        self.postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, counts in enumerate(self.counts):
            for word, count in counts.items():
                self.postings[word].append((i, count))
        with (folder / "questions_df.csv").open(newline="", encoding="utf-8") as file:
            self.cases = [
                Case(
                    r["question"],
                    tuple(self._bare(r["corpus_id"], x) for x in json.loads(r["references"])),
                    r["corpus_id"],
                )
                for r in csv.DictReader(file)
            ]
        hotpot = json.loads((data / "hotpotqa_subset" / "hotpotqa_train.json").read_text(encoding="utf-8"))
        self.elsewhere = [str(h["question"]) for h in hotpot]
        clinc = json.loads((data / "clinc_oos" / "data_oos_plus.json").read_text(encoding="utf-8"))
        domains = json.loads((data / "clinc_oos" / "domains.json").read_text(encoding="utf-8"))
        intents = {i for d in ("kitchen_and_dining", "travel", "auto_and_commute", "home") for i in domains[d]}
        self.chat = [str(q) for q, intent in clinc["val"] if intent in intents][::3]

    def _bare(self, corpus: str, reference: dict[str, Any]) -> tuple[int, int]:
        start, end = int(reference["start_index"]), int(reference["end_index"])
        piece = self.texts[corpus][start:end]
        return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())

    def search(self, question: str, top: int, without: str = "", hidden: Case | None = None) -> list[Passage]:
        scores: dict[int, float] = defaultdict(float)
        for word in set(content(question)):
            postings = self.postings.get(word, [])
            idf = math.log(1 + (len(self.chunks) - len(postings) + 0.5) / (len(postings) + 0.5))
            for i, count in postings:
                scores[i] += idf * count * 2.2 / (count + 1.2 * (0.4 + 0.6 * self.lengths[i] / self.mean))
        ranked = sorted(scores.items(), key=lambda x: (-x[1], x[0]))
        ranked = [(i, s) for i, s in ranked if self.chunks[i][0] != without and not self._holds(i, hidden)][:top]
        return [self._passage(i, s) for i, s in ranked]

    def _holds(self, i: int, case: Case | None) -> bool:
        name, start, end = self.chunks[i]
        return case is not None and name == case.corpus and any(a < end and start < b for a, b in case.references)

    def _passage(self, i: int, score: float) -> Passage:
        name, start, end = self.chunks[i]
        text = self.texts[name][start:end]
        return Passage(
            chunk=f"c{i}", document=name, version="1", title="", uri="", text=text, start=start, end=end, score=score
        )


def chunk(text: str, limit: int = 1_000) -> list[tuple[int, int]]:
    """Sentences grouped to chunks, rather ending at a paragraph."""
    out: list[tuple[int, int]] = []
    for start, end in sentences(text):
        pieces = [(at, min(at + limit, end)) for at in range(start, end, limit)]
        for a, b in pieces:
            if (
                not out
                or b - out[-1][0] > limit
                or (_paragraph(text[out[-1][1] : a]) and out[-1][1] - out[-1][0] > limit / 2)
            ):
                out.append((a, b))
            else:
                out[-1] = (out[-1][0], b)
    return out


def _paragraph(gap: str) -> bool:
    return gap.count("\n") >= 2


def prepared(question: str, passages: Sequence[Passage]) -> tuple[Any, list[Any], dict[str, float]]:
    asked = extractive._ask(question, "en")
    candidates = [c for i, p in enumerate(passages) for c in extractive._candidates(i, p, "en")]
    return asked, candidates, extractive._term_weights(asked, candidates) if candidates else {}


def is_gold(candidate: Any, passages: Sequence[Passage], case: Case) -> bool:
    passage = passages[candidate.passage]
    start, end = passage.start + candidate.start, passage.start + candidate.end
    return passage.document == case.corpus and any(
        min(end, b) - max(start, a) >= 0.5 * min(end - start, b - a) for a, b in case.references
    )


def conditional_logit(groups: list[tuple[np.ndarray, np.ndarray]], penalty: float = 5.0) -> np.ndarray:
    """Weights that make the gold sentences likely among the sentences of their own question (damped Newton)."""
    beta = np.zeros(groups[0][0].shape[1])
    for _ in range(80):
        gradient, hessian = penalty * beta, penalty * np.eye(len(beta))
        for rows, gold in groups:
            score = rows @ beta
            p = np.exp(score - score.max())
            p /= p.sum()
            q = p * gold / (p * gold).sum()
            mean = rows.T @ p
            gradient = gradient + mean - rows.T @ q
            hessian = hessian + (rows * p[:, None]).T @ rows - np.outer(mean, mean)
        step = np.linalg.solve(hessian, gradient)
        beta = beta - 0.7 * step
        if abs(step).max() < 1e-6:
            break
    return beta


def logistic(rows: np.ndarray, gold: np.ndarray, weight: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    """Plain logistic regression; the last coefficient is the bias."""
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    ridge = np.diag([penalty] * (rows.shape[1] - 1) + [1e-6])
    beta = np.zeros(rows.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-rows @ beta))
        step = np.linalg.solve(
            (rows * (weight * p * (1 - p))[:, None]).T @ rows + ridge, rows.T @ (weight * (p - gold)) + ridge @ beta
        )
        beta = beta - step
        if abs(step).max() < 1e-8:
            break
    return beta


def fit_sentences(world: World, top: int) -> None:
    groups = []
    for case in world.cases:
        if not case.fits:
            continue
        passages = world.search(case.question, top)
        asked, candidates, weights = prepared(case.question, passages)
        gold = np.array([is_gold(c, passages, case) for c in candidates], dtype=float)
        if gold.any():
            groups.append((np.array(extractive._features(asked, candidates, passages, weights)), gold))
    every = np.vstack([g[0] for g in groups])
    spread = every.std(axis=0) + 1e-6
    beta = conditional_logit([((rows - every.mean(axis=0)) / spread, gold) for rows, gold in groups]) / spread
    by_name = zip(extractive.FEATURES, beta, strict=True)
    extractive.WEIGHTS = tuple(1.0 if name == "heading" else round(float(b), 3) for name, b in by_name)
    scores = every @ np.array(extractive.WEIGHTS)
    gold = np.concatenate([g[1] for g in groups])
    scale, shift = logistic(scores[:, None], gold, np.ones(len(gold)))
    extractive.SCALE, extractive.SHIFT = round(float(scale), 3), round(float(shift), 3)
    print("WEIGHTS =", dict(zip(extractive.FEATURES, extractive.WEIGHTS, strict=True)))
    print("SCALE, SHIFT =", extractive.SCALE, extractive.SHIFT)


def signals(question: str, passages: Sequence[Passage]) -> list[float] | None:
    asked, candidates, weights = prepared(question, passages)
    if not candidates:
        return None
    extractive._score(asked, candidates, passages, weights, question, None)
    chosen = extractive._choose(candidates, weights, 3)
    return extractive._signals(asked, candidates, chosen, passages, weights)


def shortened(world: World, case: Case) -> str:
    """The question as somebody in a hurry asks it: one to four of its words that its answer holds."""
    held = {x for a, b in case.references for x in content(world.texts[case.corpus][a:b])}
    kept = [w.text for w in words(case.question) if is_content(w.folded) and stem(w.folded) in held]
    size = 1 + hashlib.sha256(case.question.encode()).digest()[1] % 4
    return " ".join(kept[-size:]) + "?" if kept else ""


def fit_abstention(world: World, top: int) -> None:
    rows, gold, weight = [], [], []
    for case in world.cases:
        if case.fits:
            rows.append(signals(case.question, world.search(case.question, top)))
            gold.append(1.0)
            weight.append(2.0)
            rows.append(signals(case.question, world.search(case.question, top, without=case.corpus)))
            gold.append(0.0)
            weight.append(0.25)
            short = shortened(world, case)
            if short:
                rows.append(signals(short, world.search(short, top)))
                gold.append(1.0)
                weight.append(1.0)
    for question in [*world.elsewhere, *world.chat]:
        rows.append(signals(question, world.search(question, top)))
        gold.append(0.0)
        weight.append(1.0)
    kept = [(r, g, w) for r, g, w in zip(rows, gold, weight, strict=True) if r is not None]
    # The last signal (names missing) keeps its weight set by hand.
    beta = logistic(
        np.array([k[0][:-1] for k in kept]), np.array([k[1] for k in kept]), np.array([k[2] for k in kept]), 0.3
    )
    extractive.SIGNAL_WEIGHTS = (*(round(float(b), 3) for b in beta[:-1]), extractive.SIGNAL_WEIGHTS[-1])
    extractive.SIGNAL_BIAS = round(float(beta[-1]), 3)
    answerable = sorted(extractive._confidence(r) for r, g, w in kept if g == 1.0 and w == 2.0)
    extractive.ABSTAIN_BELOW = round(answerable[int(0.03 * len(answerable))], 3)
    print("SIGNAL_WEIGHTS =", dict(zip(extractive.SIGNALS, extractive.SIGNAL_WEIGHTS, strict=True)))
    print("SIGNAL_BIAS, ABSTAIN_BELOW =", extractive.SIGNAL_BIAS, extractive.ABSTAIN_BELOW)


def joined(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and not text[out[-1][1] : start].strip():
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def measure(world: World, top: int, *, fits: bool) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    per: dict[str, list[bool]] = defaultdict(list)
    chars = 0
    for case in world.cases:
        if case.fits != fits:
            continue
        passages = world.search(case.question, top)
        found = extractive.extract(case.question, passages)
        quotes = [(q.start, q.end) for q in found.sentences if passages[q.passage_index].document == case.corpus]
        runs = joined(world.texts[case.corpus], quotes)
        whole = [any(x <= a and b <= y for x, y in runs) for a, b in case.references]
        half = [sum(max(0, min(y, b) - max(x, a)) for x, y in runs) >= 0.5 * (b - a) for a, b in case.references]
        reach = any(
            p.document == case.corpus and p.start <= a and b <= p.end for p in passages for a, b in case.references
        )
        counts.update(
            questions=1,
            whole=any(whole),
            partial=any(half),
            all=all(whole),
            abstained=found.abstained is not None,
            reach=reach,
        )
        per[case.corpus].append(any(whole))
        chars += sum(q.end - q.start for q in found.sentences)
    n = counts.pop("questions")
    shares = {k: round(counts[k] / n, 3) for k in ("whole", "partial", "all", "reach", "abstained")}
    return {
        "questions": n,
        **shares,
        "chars": round(chars / n),
        "per": {k: round(np.mean(v), 3) for k, v in per.items()},
    }


def abstained(world: World, questions: Sequence[str], top: int) -> tuple[float, list[str]]:
    answered = [q for q in questions if extractive.extract(q, world.search(q, top)).abstained is None]
    return round(1 - len(answered) / len(questions), 3), answered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--top", type=int, default=6)
    options = parser.parse_args()
    world = World(options.data)
    if options.fit:
        fit_sentences(world, options.top)
        fit_abstention(world, options.top)
    print("fitting half  ", json.dumps(measure(world, options.top, fits=True)))
    print("reporting half", json.dumps(measure(world, options.top, fits=False)))
    share, answered = abstained(world, OFF_TOPIC, options.top)
    print("off topic, abstained", share, "answered:", answered)
    print("off topic, fresh, abstained", *abstained(world, FRESH, options.top))
    print("hotpot, abstained", abstained(world, world.elsewhere, options.top)[0])
    print("clinc, abstained", abstained(world, world.chat, options.top)[0])
    shorts = [s for s in (shortened(world, c) for c in world.cases if not c.fits) if s]
    print("shortened answerable (reporting half), abstained", abstained(world, shorts, options.top)[0])
    other = [c for c in world.cases if not c.fits]
    for name, given in (
        ("own text withheld", [world.search(c.question, options.top, without=c.corpus) for c in other]),
        ("near miss (gold chunks withheld)", [world.search(c.question, options.top, hidden=c) for c in other]),
    ):
        found = [extractive.extract(c.question, p) for c, p in zip(other, given, strict=True)]
        print(f"{name} (reporting half), abstained", round(sum(x.abstained is not None for x in found) / len(found), 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
