"""Measures the embedded search kernel: CPU per query by visible share, recall, start, memory, build, refresh; peers.

    python -m bench.search [--sizes 10k,100k,1m] [--no-peers]

All corpora are made from a seed. Times are CPU times (``time.process_time``), so a busy machine changes them little.
A figure is named ``WHAT.SIZE[.SHARE]``; another implementation that answers the same question over the same corpus
(see ``OTHERS``) has its figures in the same run under its own prefix. The last line printed is one JSON object.

A million rows want some six gigabytes of memory and five minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numkong
import numpy as np
from numpy.typing import NDArray

from bench import postgres_search
from bench._data import ROOT, machine, say
from mainstay.corpus.following import DOCUMENTS_AT_ONCE, LOTS_PER_MERGE
from mainstay.corpus.index import PutDocument, Row, SearchIndex
from mainstay.retrieval import fusion
from mainstay.retrieval.search import SearchSettings
from mainstay.types import MetaValue, Scope

DIMS = 384
CLASSES = 1000
ROWS_PER_DOCUMENT = 5
WORDS_PER_ROW = 120
VOCABULARY = 150_000
LISTED = SearchSettings().candidates  # what retrieval asks of each list
SIZES = {"2k": 2_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
# Peers stop here: a query of theirs that takes tens to hundreds of milliseconds at this size takes ten times that at the
# next one, and filling them takes longer than everything else together, to show nothing new.
LARGEST_FOR_PEERS = 100_000
SHARES = {"v0_1": 0.001, "v1": 0.01, "v10": 0.1, "v50": 0.5}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Rows with text, vector and class; and questions about them."""

    name: str
    texts: list[str]
    vectors: NDArray[np.float32]
    classes: NDArray[np.int64]  # per row
    questions: list[str]
    asked: NDArray[np.float32]


Search = Callable[[NDArray[np.float32], str, Scope], NDArray[np.int64]]
"""A hybrid query: (vector, text, scope) to row numbers, best first; row ``i`` of the corpus has the number ``i + 1``."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """Another implementation of the same search, to be measured beside the kernel.

    ``opened`` builds it over a corpus, in a folder of its own, and takes it down again. ``clock`` gives CPU seconds:
    one that works in another process adds that process's up.
    """

    opened: Callable[[Corpus, Path], AbstractContextManager[Search]]
    clock: Callable[[], float] = time.process_time
    largest: int = LARGEST_FOR_PEERS
    megabytes: Callable[[], Mapping[str, float]] = dict  # on disk, by kind, of what is open


# By the prefix of its figures.
OTHERS: Mapping[str, Other] = {
    "pg": Other(opened=postgres_search.opened, clock=postgres_search.clock, megabytes=lambda: postgres_search.SIZES)
}


def words() -> list[str]:
    """A vocabulary of pronounceable words, most frequent (and shortest) first."""
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ar", "en", "ol")]
    out: list[str] = []
    for n in range(VOCABULARY):
        word, left = syllables[n % len(syllables)], n // len(syllables)
        while left:
            word, left = word + syllables[left % len(syllables)], left // len(syllables)
        out.append(word)
    return out


def make(name: str, n: int, queries: int, seed: int = 7) -> Corpus:
    """Zipf text, clustered unit vectors, classes by document; questions from random rows with frequent words around."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(words(), object)
    shares = 1.0 / (np.arange(VOCABULARY) + 2.7) ** 1.05
    upto = np.cumsum(shares / shares.sum())
    texts = []
    for start in range(0, n, 10_000):
        drawn = np.minimum(np.searchsorted(upto, rng.random((min(10_000, n - start), WORDS_PER_ROW))), VOCABULARY - 1)
        texts += [" ".join(row) for row in vocabulary[drawn]]
    centres = unit(rng.standard_normal((max(20, n // 250), DIMS), dtype=np.float32))
    vectors = centres[rng.integers(0, len(centres), n)]
    for start in range(0, n, 10_000):
        part = vectors[start : start + 10_000]
        part[:] = unit(part + unit(rng.standard_normal(part.shape, dtype=np.float32)) * np.float32(0.9))
    classes = np.repeat(rng.integers(0, CLASSES, -(-n // ROWS_PER_DOCUMENT)), ROWS_PER_DOCUMENT)[:n]
    rows = rng.integers(0, n, queries)
    questions = []
    for row in rows:
        own = rng.choice(texts[row].split(), 5, replace=False)
        common = vocabulary[rng.integers(0, 12, 3)]
        questions.append(" ".join([*common, *own]))
    asked = unit(vectors[rows] + unit(rng.standard_normal((queries, DIMS), dtype=np.float32)) * np.float32(0.8))
    return Corpus(name=name, texts=texts, vectors=vectors, classes=classes, questions=questions, asked=asked)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def scopes(share: float, count: int) -> list[Scope]:
    """Scopes that see this share of the classes, each another one."""
    rng = np.random.default_rng(int(share * 1e6))
    size = max(1, round(share * CLASSES))
    drawn = [rng.choice(CLASSES, size, replace=False) for _ in range(count)]
    return [Scope(principals=frozenset(), classes=frozenset(classes.tolist())) for classes in drawn]


def documents(corpus: Corpus, *, every: int = 1) -> Iterator[PutDocument]:
    for number in range(0, -(-len(corpus.texts) // ROWS_PER_DOCUMENT), every):
        start = number * ROWS_PER_DOCUMENT
        rows = [
            Row(seq=i + 1, text=corpus.texts[i], vector=corpus.vectors[i])
            for i in range(start, min(start + ROWS_PER_DOCUMENT, len(corpus.texts)))
        ]
        facts: dict[str, MetaValue] = {
            "year": 2000 + number % 25,
            "department": f"department {number % 40}",
            "title": f"title {number}",
        }
        yield PutDocument(document=number, class_id=int(corpus.classes[start]), metadata=facts, rows=rows)


def cpu() -> float:
    return time.process_time()


def build(corpus: Corpus, folder: Path) -> tuple[SearchIndex, float]:
    """The saved index and the CPU seconds it took."""
    index = SearchIndex.open(folder, dims=DIMS, fingerprint="bench")
    spent, lot = 0.0, []
    for n, put in enumerate(documents(corpus), 1):
        lot.append(put)
        if len(lot) == DOCUMENTS_AT_ONCE:
            start = cpu()
            index.apply(lot, applied=n)
            if n // len(lot) % LOTS_PER_MERGE == 0:
                index.compact()  # as the follower of the change log does when there is much to do
            spent, lot = spent + cpu() - start, []
    start = cpu()
    index.apply(lot, applied=len(corpus.texts))
    index.save()
    return index, spent + cpu() - start


def hybrid(index: SearchIndex, scope: Scope, text: str, vector: NDArray[np.float32]) -> dict[str, float]:
    """One hybrid query; CPU milliseconds of its steps."""
    times = [cpu()]
    permitted = index.permitted(scope)
    _ = permitted.count
    times.append(cpu())
    by_words = index.lexical(text, permitted, LISTED)
    times.append(cpu())
    by_meaning = index.dense(vector, permitted, LISTED)
    times.append(cpu())
    fusion.convex(
        by_meaning,
        by_words,
        0.5,
        20,
        dense_scores=lambda seqs: index.dense_scores(seqs, vector, permitted),
        lexical_scores=lambda seqs: index.lexical_scores(seqs, text, permitted),
    )
    times.append(cpu())
    steps = dict(zip(("mask", "lexical", "dense", "fusion"), (1e3 * np.diff(times)).tolist(), strict=True))
    return steps | {"hybrid": 1e3 * (times[-1] - times[0])}


def measure(index: SearchIndex, corpus: Corpus) -> dict[str, float]:
    """CPU per query at every visible share: ten scopes taking turns, so that one query in six meets a new one."""
    figures: dict[str, float] = {}
    for label, share in SHARES.items():
        asking = scopes(share, 10)
        runs = []
        for i, (text, vector) in enumerate(zip(corpus.questions, corpus.asked, strict=True)):
            runs.append(hybrid(index, asking[i % len(asking)], text, vector))
        for step in runs[0]:
            values = [run[step] for run in runs]
            figures[f"{step}.cpu_ms.{corpus.name}.{label}"] = statistics.median(values)
            if step == "hybrid":
                figures[f"hybrid.cpu_ms_mean.{corpus.name}.{label}"] = statistics.fmean(values)

        def by_meaning(vector: NDArray[np.float32], _: str, scope: Scope) -> NDArray[np.int64]:
            return index.dense(vector, index.permitted(scope), 20).seqs

        figures[f"recall.{corpus.name}.{label}"] = recall(by_meaning, corpus, asking[0])
    return figures


def recall(search: Search, corpus: Corpus, scope: Scope, k: int = 20, queries: int = 20) -> float:
    """Share of the exact float32 top k that a search by vector gives, rows with equal scores counted as equal."""
    rows = np.flatnonzero(np.isin(corpus.classes, list(scope.classes)))
    if not len(rows):
        return 1.0
    exact = corpus.asked[:queries] @ corpus.vectors[rows].T
    got = []
    for vector, scores in zip(corpus.asked, exact, strict=False):
        least = np.sort(scores)[-min(k, len(rows))]
        found = search(vector, "", scope)[:k] - 1
        got.append(np.count_nonzero(corpus.vectors[found] @ vector >= least - 1e-5) / min(k, len(rows)))
    return statistics.fmean(got)


def measure_other(prefix: str, other: Other, corpus: Corpus) -> dict[str, float]:
    """What ``measure`` gives, for another implementation; its recall is that of the whole search asked without words."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = other.clock()
        with other.opened(corpus, Path(folder)) as search:
            figures[f"{prefix}.build_rows_per_cpu_s.{corpus.name}"] = len(corpus.texts) / (other.clock() - start)
            figures |= {f"{prefix}.mb.{what}.{corpus.name}": size for what, size in other.megabytes().items()}
            for label, share in SHARES.items():
                asking = scopes(share, 10)
                values = []
                for i, (text, vector) in enumerate(zip(corpus.questions, corpus.asked, strict=True)):
                    start = other.clock()
                    search(vector, text, asking[i % len(asking)])
                    values.append(1e3 * (other.clock() - start))
                figures[f"{prefix}.hybrid.cpu_ms.{corpus.name}.{label}"] = statistics.median(values)
                figures[f"{prefix}.recall.{corpus.name}.{label}"] = recall(search, corpus, asking[0])
    return figures


def refresh(folder: Path, corpus: Corpus) -> dict[str, float]:
    """CPU of keeping up: one document put again, the query after it, then all merging and saving that is left."""
    index = SearchIndex.open(folder, dims=DIMS, fingerprint="bench")
    held = list(documents(corpus, every=max(1, len(corpus.texts) // ROWS_PER_DOCUMENT // 200)))
    asking = scopes(0.1, 1)[0]
    taking, after, parts = [], [], []
    hybrid(index, asking, corpus.questions[0], corpus.asked[0])
    for n, put in enumerate(held):
        start = cpu()
        index.apply([put], applied=index.applied + 1)
        taking.append(1e3 * (cpu() - start))
        at = n % len(corpus.questions)
        after.append(hybrid(index, asking, corpus.questions[at], corpus.asked[at])["hybrid"])
        parts.append(float(index.stats()["parts"]))
    start = cpu()
    index.save()
    return {
        "change.cpu_ms": statistics.median(taking),
        "change.cpu_ms_worst": max(taking),
        "change.next_query_cpu_ms": statistics.median(after),
        "change.parts_most": max(parts),
        "change.save_cpu_ms": 1e3 * (cpu() - start),
    }


# --- start and memory, in a fresh process ----------------------------------------------------------------------------


def fresh(folder: Path, questions: Path) -> dict[str, float]:
    """What a new process needs to open the index, and its memory before and after a hundred queries."""
    command = [sys.executable, "-m", "bench.search", "--open", str(folder), str(questions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def open_only(folder: Path, questions: Path) -> dict[str, float]:
    held = np.load(questions, allow_pickle=True)
    start = cpu()
    index = SearchIndex.open(folder, dims=DIMS, fingerprint="bench")
    opened = cpu() - start
    assert index.applied, "the index did not open"
    at_start = resident_mb()
    asking = scopes(0.1, 10)
    for i in range(100):
        at = i % len(held["asked"])
        hybrid(index, asking[i % 10], str(held["questions"][at]), held["asked"][at])
    return {"start_s": opened, "rss_mb_at_start": at_start, "rss_mb": resident_mb()}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


# --- peers -----------------------------------------------------------------------------------------------------------

Ask = Callable[[str, NDArray[np.float32], list[int]], int]


def time_peer(name: str, corpus: Corpus, ask: Ask, queries: int) -> dict[str, float]:
    """Median CPU per query, without fusion, which is in the peers' favour."""
    out = {}
    for label in SHARES:
        asking = [sorted(scope.classes) for scope in scopes(SHARES[label], 5)]
        values = []
        for i in range(queries):
            start = cpu()
            ask(corpus.questions[i], corpus.asked[i], asking[i % 5])
            values.append(1e3 * (cpu() - start))
        out[f"{name}.cpu_ms.{corpus.name}.{label}"] = statistics.median(values)
    return out


def sqlite_with_vec() -> sqlite3.Connection:
    """A database in memory that has FTS5 and, where it can be had, sqlite-vec.

    A Python built without loadable extensions has no way to load one, but the SQLite library it stands on can be told
    to begin every connection with one.
    """
    try:
        import sqlite_vec

        if hasattr(sqlite3.Connection, "enable_load_extension"):
            db = sqlite3.connect(":memory:")
            db.enable_load_extension(True)
            sqlite_vec.load(db)
            return db
        core = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
        begin = ctypes.CDLL(f"{sqlite_vec.loadable_path()}.so").sqlite3_vec_init
        core.sqlite3_auto_extension.argtypes = [ctypes.c_void_p]
        core.sqlite3_auto_extension(ctypes.cast(begin, ctypes.c_void_p))
        try:
            return sqlite3.connect(":memory:")
        finally:
            core.sqlite3_reset_auto_extension()
    except (ImportError, OSError, AttributeError, TypeError) as error:
        say(f"sqlite-vec: not measured ({error})")
        return sqlite3.connect(":memory:")


def sqlite_peer(corpus: Corpus, queries: int) -> dict[str, float]:
    """FTS5 (always there), and sqlite-vec where it can be had; permission as a predicate on both."""
    db = sqlite_with_vec()
    db.execute("create virtual table words using fts5(text)")
    db.execute("create table acl (class integer, row integer, primary key (class, row)) without rowid")
    db.executemany("insert into words (rowid, text) values (?, ?)", enumerate(corpus.texts))
    db.executemany("insert into acl values (?, ?)", zip(corpus.classes.tolist(), range(len(corpus.texts)), strict=True))

    def allowed(classes: list[int]) -> str:
        return f"rowid in (select row from acl where class in ({','.join(map(str, classes))}))"

    def by_words(text: str, _: NDArray[np.float32], classes: list[int]) -> int:
        terms = " OR ".join(f'"{word}"' for word in text.split())
        asked = f"select rowid from words where words match ? and +{allowed(classes)} order by rank limit ?"
        return len(db.execute(asked, (terms, LISTED)).fetchall())

    def by_both(text: str, vector: NDArray[np.float32], classes: list[int]) -> int:
        asked = f"select rowid from vectors where e match ? and k = ? and {allowed(classes)}"
        return by_words(text, vector, classes) + len(db.execute(asked, (vector.tobytes(), LISTED)).fetchall())

    out = time_peer("fts5.lexical", corpus, by_words, queries)
    try:
        db.execute("select vec_version()")
    except sqlite3.OperationalError:
        return out
    db.execute(f"create virtual table vectors using vec0(e float[{DIMS}] distance_metric=cosine)")
    vectors = ((i, vector.tobytes()) for i, vector in enumerate(corpus.vectors))
    db.executemany("insert into vectors (rowid, e) values (?, ?)", vectors)
    return out | time_peer("fts5_vec.hybrid", corpus, by_both, queries)


def lance_peer(corpus: Corpus, queries: int) -> dict[str, float]:
    """LanceDB: native full text and exact vector search, permission as a prefilter on both."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb
    import lancedb.index
    import pyarrow as pa  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        flat = pa.array(corpus.vectors.reshape(-1))
        table = lancedb.connect(folder).create_table(
            "rows",
            pa.table(
                {
                    "text": corpus.texts,
                    "class": corpus.classes,
                    "vector": pa.FixedSizeListArray.from_arrays(flat, DIMS),
                }
            ),
        )
        table.create_index("class", config=lancedb.index.BTree())
        table.create_index("text", config=lancedb.index.FTS())

        def ask(text: str, vector: NDArray[np.float32], classes: list[int]) -> int:
            allowed = f"class in ({','.join(map(str, classes))})"
            by_words = table.search(text, query_type="fts").where(allowed, prefilter=True).limit(LISTED)
            by_meaning = table.search(vector).where(allowed, prefilter=True).limit(LISTED)
            return len(by_words.select(["class", "_score"]).to_arrow()) + len(
                by_meaning.select(["class", "_distance"]).to_arrow()
            )

        return time_peer("lancedb.hybrid", corpus, ask, queries)


def peers(corpus: Corpus, queries: int) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, peer in {"fts5_vec": sqlite_peer, "lancedb": lance_peer}.items():
        try:
            out |= peer(corpus, queries)
        except (ImportError, AttributeError, sqlite3.Error, OSError, ValueError, RuntimeError) as error:
            print(f"{name}: not measured ({error})")
    return out


# --- the run ---------------------------------------------------------------------------------------------------------


def run(sizes: Mapping[str, int], with_peers: bool, queries: int = 60) -> dict[str, Any]:
    figures: dict[str, float] = {}
    beside: dict[str, float] = {}
    for name, n in sizes.items():
        say(f"{name}: making the corpus")
        corpus = make(name, n, queries)
        say(f"{name}: building the index")
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at) / "index"
            index, spent = build(corpus, folder)
            figures[f"build_rows_per_cpu_s.{name}"] = n / spent
            figures[f"index_mb.{name}"] = index.stats()["file_bytes"] / 1e6
            figures[f"index_mb_beside_float32.{name}"] = index.stats()["file_bytes"] / 1e6 - n * DIMS * 4 / 1e6
            del index
            index = SearchIndex.open(folder, dims=DIMS, fingerprint="bench")
            figures |= measure(index, corpus)
            del index
            questions = Path(at) / "questions.npz"
            np.savez(questions, questions=np.array(corpus.questions), asked=corpus.asked)
            figures |= {f"{key}.{name}": value for key, value in fresh(folder, questions).items()}
            figures |= {f"{key}.{name}": value for key, value in refresh(folder, corpus).items()}
        for prefix, other in OTHERS.items():
            if n <= other.largest:
                say(f"{name}: {prefix}")
                figures |= measure_other(prefix, other, corpus)
        if with_peers and n <= LARGEST_FOR_PEERS:
            say(f"{name}: peers")
            beside |= peers(corpus, min(15, queries))
    figures["yardstick.int8_scan_100k.cpu_ms"] = yardstick()
    return {"bench": "search", "figures": figures, "peers": beside, "machine": machine()}


def yardstick() -> float:
    """CPU of one plain scan of 100,000 int8 rows: 3.4 ms on a quiet EPYC 7003 core. A busy machine shows here too."""
    rows = np.random.default_rng(0).integers(-127, 128, (100_000, DIMS), dtype=np.int8)
    values = []
    for _ in range(15):
        start = cpu()
        numkong.cdist(rows[:1], rows, metric="dot")
        values.append(1e3 * (cpu() - start))
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10k,100k", help=f"some of {','.join(SIZES)}, with commas between")
    parser.add_argument("--quick", action="store_true", help="two thousand rows, few queries")
    parser.add_argument("--no-peers", action="store_true", help="the kernel only")
    parser.add_argument("--open", nargs=2, metavar=("FOLDER", "QUESTIONS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        print(json.dumps(open_only(*map(Path, given.open))))
        return
    named = ["2k"] if given.quick else given.sizes.split(",")
    if unknown := [name for name in named if name not in SIZES]:
        parser.error(f"no such size: {', '.join(unknown)}")
    result = run({name: SIZES[name] for name in named}, not given.no_peers, 10 if given.quick else 60)
    for name, value in {**result["figures"], **result["peers"]}.items():
        print(f"{name:44} {value:12.3f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
