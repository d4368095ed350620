"""Measures the answer cache: how often it serves, and how often what it serves is wrong.

    make bench NAME=cache
    python -m bench.cache [--embedder NAME] [--quick]

20,000 pairs of questions with a judgement each, whether both ask the same. In every pair the first question has been
answered; the second is asked. A hit on a pair that was judged different is a wrong hit. The words and steps of the gates
were fitted on one half of the pairs (by a hash of their number); figures without a prefix are of the other half,
``all.`` of both. Nothing is known at the start: judgements are revealed one by one, only where the product would have
answered anew beside. Thresholds on the plain cosine, of the same vectors and of character TF-IDF, see the same pairs.
``zipf.`` is a stream in which some pairs are asked again and again, either way round. The judgements are people's and are
not all right: of questions that differ in a comma some count as different. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench._data import EMBEDDERS, data_folder, embedder, machine, say
from mainstay.access.acl import Acl
from mainstay.agreement.intervals import clopper_pearson, clopper_pearson_upper
from mainstay.agreement.terms import CacheRules
from mainstay.clock import FixedClock
from mainstay.corpus.ports import AccessRule, Prepared
from mainstay.models.cache import Asked, CachedAnswer, Hit, Partition, SemanticCache, Source, Wording
from mainstay.models.cache.bound import LEAST
from mainstay.models.cache.gates import compare, read
from mainstay.models.cache.ports import Entry, Label, Near
from mainstay.models.embedders import Embedder
from mainstay.storage.access import AccessStore
from mainstay.storage.cache import SqlCache
from mainstay.storage.database import Address, open_database
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Citation, Scope

THRESHOLDS = (0.8, 0.95)
SEEDS = 3
LIMITS = (0.05, 0.1)  # beside the default
ENTRIES = 10_000
PARTITION = Partition(release="r", agreement="a", language="en", embedder="e", model_class="m")
NOBODY = Scope(principals=frozenset(), classes=frozenset())
ANSWER = CachedAnswer(text="-")
NOW = FixedClock().now()
SOURCE = Source(document="doc_bench", version="v1")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether they were judged to ask the same."""

    number: str
    a: str
    b: str
    same: bool

    @property
    def fits(self) -> bool:
        """Whether it is of the half that the gates were fitted on."""
        return hashlib.sha256(self.number.encode()).digest()[0] % 2 == 0


def pairs(data: Path) -> list[Pair]:
    with gzip.open(data / "qqp_sample" / "qqp_sample_20000.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Pair(str(row["id"]), row["text_a"], row["text_b"], bool(int(row["label"]))) for row in rows]


# --- likeness --------------------------------------------------------------------------------------------------------


def embedded(made: Embedder, asked: Sequence[Pair]) -> tuple[Floats, Floats]:
    return made.embed_passages([pair.a for pair in asked]), made.embed_passages([pair.b for pair in asked])


def tfidf(asked: Sequence[Pair]) -> npt.NDArray[np.float64]:
    """Cosines of character n-grams of 2 to 4 inside words, counts dampened: the usual cheap likeness."""
    texts = [text for pair in asked for text in (pair.a, pair.b)]
    grams = [Counter(_grams(text)) for text in texts]
    seen = Counter(gram for counted in grams for gram in counted)
    rows = []
    for counted in grams:
        row = {g: (1 + math.log(n)) * (math.log((1 + len(texts)) / (1 + seen[g])) + 1) for g, n in counted.items()}
        length = math.sqrt(sum(v * v for v in row.values())) or 1.0
        rows.append({g: v / length for g, v in row.items()})
    return np.array([sum(v * b.get(g, 0.0) for g, v in a.items()) for a, b in zip(rows[::2], rows[1::2], strict=True)])


def _grams(text: str) -> Iterator[str]:
    for word in text.lower().split():
        padded = f" {word} "
        for n in (2, 3, 4):
            yield from (padded[i : i + n] for i in range(max(1, len(padded) - n + 1)))


# --- the stream ------------------------------------------------------------------------------------------------------


# ruff: noqa: ARG002 - the port has more to say than pairs in memory need
class OnePair:
    """A store in memory in which a question meets the other one of its pair alone: only those two were judged.

    Who may read what is of no matter here.
    """

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Entry]] = {}
        self.learnt: list[Label] = []

    def exact(self, place: str, exact: str, *, at: datetime, scope: Scope) -> Entry | None:
        return next((e for e in self.entries.get(place, {}).values() if e.exact == exact), None)

    def near(self, place: str, read_set: str, vector: Floats, *, least: float, limit: int, at: datetime) -> list[Near]:
        found = [
            Near(entry_id=e.entry_id, question=e.question, similarity=min(1.0, float(e.vector @ vector)))
            for e in self.entries.get(place, {}).values()
            if e.vector is not None
        ]
        return sorted((near for near in found if near.similarity >= least), key=lambda near: -near.similarity)[:limit]

    def open(self, entry_id: str, *, at: datetime, scope: Scope) -> Entry | None:
        return next((held[entry_id] for held in self.entries.values() if entry_id in held), None)

    def still_good(self, entry_id: str, *, scope: Scope) -> bool:
        return True

    def current(self, sources: Sequence[Source], *, scope: Scope) -> bool:
        return True

    def put(self, entry: Entry, sources: Sequence[Source], *, most: int) -> bool:
        self.entries.setdefault(entry.place, {})[entry.entry_id] = entry
        return True

    def used(self, entry_id: str) -> None:
        pass

    def add_label(self, label: Label) -> None:
        self.learnt.insert(0, label)

    def labels(self, family: str, *, limit: int) -> list[Label]:
        return self.learnt[:limit]

    def labels_of(self, entry_id: str) -> list[Label]:
        return [label for label in self.learnt if label.entry_id == entry_id]

    def forget(self, entry_id: str) -> None:
        pass

    def forget_person(self, principal: str) -> int:
        return 0

    def clear(self) -> int:
        return 0

    def prune(self, *, at: datetime, labels_before: datetime) -> int:
        return 0

    def counts(self) -> Mapping[str, int]:
        return {}


@dataclass
class Tally:
    """Hits, those that were judged different, and everything asked."""

    asked: int = 0
    hits: int = 0
    wrong: int = 0
    similar: int = 0
    similar_wrong: int = 0

    def add(self, *, hit: bool, wrong: bool, similar: bool = False) -> None:
        self.asked += 1
        self.hits += hit
        self.wrong += hit and wrong
        self.similar += hit and similar
        self.similar_wrong += hit and similar and wrong

    def figures(self, prefix: str) -> dict[str, float]:
        low, high = clopper_pearson(self.wrong, self.hits)
        return {
            f"{prefix}hit_rate": self.hits / self.asked,
            f"{prefix}hits": self.hits,
            f"{prefix}similar_hits": self.similar,
            f"{prefix}wrong_hits": self.wrong,
            f"{prefix}wrong_hit": self.wrong / self.hits if self.hits else 0.0,
            f"{prefix}wrong_hit_low95": low,
            f"{prefix}wrong_hit_high95": high,
            f"{prefix}wrong_hit_upper95": clopper_pearson_upper(self.wrong, self.hits) if self.hits else 1.0,
        }


@dataclass(frozen=True)
class Turn:
    """One question of a stream: of which pair, and which side."""

    at: int
    second: bool


class Simulation:
    """The product's cache over pairs, with judgements for what would have been answered anew."""

    def __init__(self, asked: Sequence[Pair], vectors: tuple[Floats, Floats], rules: CacheRules, seed: int) -> None:
        self._asked, self._vectors = asked, vectors
        self.store = OnePair()
        self.cache = SemanticCache(self.store, rules, FixedClock(), draw=random.Random(seed).random)

    def question(self, turn: Turn) -> Asked:
        pair = self._asked[turn.at]
        return Asked(
            question=pair.b if turn.second else pair.a,
            partition=PARTITION,
            filters=(pair.number,),
            vector=self._vectors[turn.second][turn.at],
        )

    def ask(self, turn: Turn, tally: Tally | None) -> None:
        asked = self.question(turn)
        found = self.cache.look(asked, scope=NOBODY)
        pair = self._asked[turn.at]
        if isinstance(found, Hit):
            other = self.store.open(found.entry_id, at=NOW, scope=NOBODY)
            assert other is not None
            wrong = not pair.same and other.question != asked.question
            if found.audit:
                self.cache.judged(found.candidate, agreed=not wrong, served=True)
            if tally is not None:
                tally.add(hit=True, wrong=wrong, similar=not found.exact)
            return
        if tally is not None:
            tally.add(hit=False, wrong=False)
        if found.explore is not None:
            self.cache.judged(found.explore, agreed=pair.same, served=False)
        self.cache.keep(asked, ANSWER, [SOURCE])


def run_pairs(
    asked: Sequence[Pair], vectors: tuple[Floats, Floats], rules: CacheRules, seed: int, before: Sequence[int] = ()
) -> Tally:
    """Every pair once in random order, not counting the pairs numbered ``before``, which come first."""
    simulation = Simulation(asked, vectors, rules, seed)
    first = set(before)
    order = [at for at in range(len(asked)) if at not in first]
    random.Random(seed).shuffle(order)
    tally = Tally()
    for counted, some in ((False, before), (True, order)):
        for at in some:
            simulation.cache.keep(simulation.question(Turn(at, False)), ANSWER, [SOURCE])
            simulation.ask(Turn(at, True), tally if counted else None)
    return tally


def run_stream(
    asked: Sequence[Pair], vectors: tuple[Floats, Floats], rules: CacheRules, turns: Sequence[Turn]
) -> Tally:
    simulation, tally = Simulation(asked, vectors, rules, 0), Tally()
    for turn in turns:
        simulation.ask(turn, tally)
    return tally


def run_stream_static(
    asked: Sequence[Pair], likeness: Sequence[float], threshold: float, turns: Sequence[Turn]
) -> Tally:
    """A cache that serves whatever is at least this alike."""
    held: dict[int, set[bool]] = {}
    tally = Tally()
    for turn in turns:
        there = held.setdefault(turn.at, set())
        exact = turn.second in there
        hit = exact or (bool(there) and likeness[turn.at] >= threshold)
        tally.add(hit=hit, wrong=hit and not exact and not asked[turn.at].same, similar=hit and not exact)
        if not hit:
            there.add(turn.second)
    return tally


def zipf(count: int, requests: int, seed: int) -> list[Turn]:
    """Requests over pairs of which the n-th is asked 1/n as often as the first."""
    draw = random.Random(seed)
    order = list(range(count))
    draw.shuffle(order)
    weights = [1 / n for n in range(1, count + 1)]
    return [Turn(at, draw.random() < 0.5) for at in draw.choices(order, weights, k=requests)]


def static(asked: Sequence[Pair], likeness: Sequence[float], threshold: float) -> Tally:
    tally = Tally()
    for pair, value in zip(asked, likeness, strict=True):
        tally.add(hit=bool(value >= threshold), wrong=not pair.same, similar=True)
    return tally


# --- the cost of a look ----------------------------------------------------------------------------------------------


def cost(asked: Sequence[Pair], made: Embedder) -> dict[str, float]:
    """CPU milliseconds of one look over SQLite, with ``ENTRIES`` answers of one place and one read set: the worst case."""
    questions = list(dict.fromkeys(pair.a for pair in asked))[:ENTRIES]
    vectors = made.embed_passages(questions)
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as folder:
        database = open_database(Address(url=str(Path(folder) / "bench.db")))
        clock = FixedClock()
        SqlDocuments(database).put([_document()], clock.now())
        classes = frozenset(class_id for class_id, _ in AccessStore(database, clock).classes(0))
        scope = Scope(principals=frozenset({"public"}), classes=classes)
        cache = SemanticCache(SqlCache(database, clock), CacheRules(audit=0.0, entries=2 * ENTRIES), clock)
        answer = replace(ANSWER, citations=(_citation(),))
        read_set = frozenset({(SOURCE.document, SOURCE.version)})

        def one(at: int, question: str) -> Asked:
            return Asked(question=question, partition=PARTITION, vector=vectors[at], read=read_set)

        for at, question in enumerate(questions):
            clock.advance(timedelta(seconds=1))
            cache.keep(one(at, question), answer, [SOURCE])
        assert cache.counts.kept == len(questions)
        cache.look(one(0, "-"), scope=scope)  # brings the vectors into memory
        some = random.Random(0).sample(range(len(questions)), 200)
        exact = [one(at, questions[at]) for at in some]
        unknown = [one(at, f"{questions[at]} {at}") for at in some]
        figures = {
            "look_exact_cpu_ms": _cpu(lambda asked: cache.look(asked, scope=scope), exact),
            "look_similar_miss_cpu_ms": _cpu(lambda asked: cache.look(asked, scope=scope), unknown),
            "look_entries": len(questions),
        }
        assert cache.counts.hits == len(exact)
        database.close()
        return figures


def _cpu(call: Callable[[Asked], object], asked: Sequence[Asked]) -> float:
    spent = []
    for one in asked:
        start = time.thread_time()
        call(one)
        spent.append(1e3 * (time.thread_time() - start))
    return statistics.median(spent)


def _document() -> Prepared:
    return Prepared(
        doc_id=SOURCE.document,
        source="bench",
        path="bench",
        uri="bench",
        title="",
        media_type="text/plain",
        version=SOURCE.version,
        raw_digest="-",
        rule=AccessRule(origin="bench", acl=Acl(("public",), ())),
        own_access=None,
        metadata={},
        language="en",
        modified=None,
        size=1,
        recipe="1",
        text="-",
        pages=(),
        pieces=(),
        findings=(),
    )


def _citation() -> Citation:
    return Citation(n=1, document=SOURCE.document, version=SOURCE.version, title="", uri="", quote="-", start=0, end=1)


# --- the run ---------------------------------------------------------------------------------------------------------


def by_wording(asked: Sequence[Pair], likeness: Sequence[float]) -> dict[str, float]:
    """What the gates let through, whatever the learnt bounds say of it."""
    out: dict[str, float] = {}
    found = [compare(read(pair.a, "en"), read(pair.b, "en")) for pair in asked]
    for wording in Wording:
        some = [pair for pair, f, s in zip(asked, found, likeness, strict=True) if f is wording and s >= LEAST]
        out[f"gates.{wording}.pairs"] = len(some)
        out[f"gates.{wording}.wrong"] = sum(not pair.same for pair in some)
    return out


def measure(everything: Sequence[Pair], made: Embedder, seeds: int) -> dict[str, float]:
    rules = CacheRules()
    half = [pair for pair in everything if not pair.fits]
    vectors = embedded(made, half)
    likeness = (vectors[0] * vectors[1]).sum(axis=1).tolist()
    runs = [run_pairs(half, vectors, rules, seed) for seed in range(seeds)]
    out = runs[0].figures("")
    out["seeds.hit_rate_mean"] = statistics.mean(run.hits / run.asked for run in runs)
    out["seeds.wrong_hit_worst"] = max(run.wrong / run.hits if run.hits else 0.0 for run in runs)
    for limit in LIMITS:
        out |= run_pairs(half, vectors, replace(rules, wrong_hits=limit), 0).figures(f"limit_{limit}.")
    out |= by_wording(half, likeness)
    for threshold in THRESHOLDS:
        out |= static(half, likeness, threshold).figures(f"static_{threshold}.")
    turns = zipf(len(half), 2 * len(half), 0)
    out |= run_stream(half, vectors, rules, turns).figures("zipf.")
    for threshold in THRESHOLDS:
        out |= run_stream_static(half, likeness, threshold, turns).figures(f"zipf.static_{threshold}.")
    whole = embedded(made, everything)
    fitted = [at for at, pair in enumerate(everything) if pair.fits]
    out |= run_pairs(everything, whole, rules, 0, before=fitted).figures("after_the_other_half.")
    out |= run_pairs(everything, whole, rules, 0).figures("all.")
    return out


def run(names: Sequence[str], quick: bool) -> dict[str, Any]:
    everything = pairs(data_folder("qqp_sample"))
    if quick:
        everything = everything[:2000]
    half = [pair for pair in everything if not pair.fits]
    figures: dict[str, float] = {"pairs": len(half), "pairs_same": sum(pair.same for pair in half)}
    for name in names:
        made = embedder(name)
        if made is None:
            continue
        say(f"{name}: {len(everything)} pairs")
        found = measure(everything, made, 2 if quick else SEEDS)
        figures |= {key if name == names[0] else f"{name}.{key}": value for key, value in found.items()}
        if name == "static":
            say("the cost of a look")
            figures |= cost(everything, made)
    say("character TF-IDF")
    beside: dict[str, float] = {}
    likeness = tfidf(half).tolist()
    for threshold in THRESHOLDS:
        beside |= static(half, likeness, threshold).figures(f"tfidf.static_{threshold}.")
    return {"bench": "cache", "figures": figures, "peers": beside, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", choices=EMBEDDERS, help="one alone; without it all that can be had")
    parser.add_argument("--quick", action="store_true", help="two thousand pairs")
    given = parser.parse_args()
    result = run([given.embedder] if given.embedder else list(EMBEDDERS), given.quick)
    for name, value in {**result["figures"], **result["peers"]}.items():
        print(f"{name:44} {value:12.4f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
