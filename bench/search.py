"""Measures the embedded search kernel: CPU per query by visible share, recall, start, memory, build; peers beside it.

    python bench/search.py [--quick]

All corpora are made from a seed. Times are CPU times (``time.process_time``), so a busy machine changes them little.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numkong
import numpy as np
from numpy.typing import NDArray

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
    vectors = unit(vectors + unit(rng.standard_normal((n, DIMS), dtype=np.float32)) * np.float32(0.9))
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


def documents(corpus: Corpus) -> Iterator[PutDocument]:
    for number, start in enumerate(range(0, len(corpus.texts), ROWS_PER_DOCUMENT)):
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
        if len(lot) == 1000:
            start = cpu()
            index.apply(lot, applied=n)
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
        figures[f"recall.{corpus.name}.{label}"] = recall(index, corpus, asking[0])
    return figures


def recall(index: SearchIndex, corpus: Corpus, scope: Scope, k: int = 20, queries: int = 20) -> float:
    """Share of the exact float32 top k that the dense search gives, rows with equal scores counted as equal."""
    permitted = index.permitted(scope)
    rows = permitted.seqs() - 1
    if not len(rows):
        return 1.0
    got = []
    for vector in corpus.asked[:queries]:
        exact = corpus.vectors[rows] @ vector
        least = np.sort(exact)[-min(k, len(rows))]
        found = index.dense(vector, permitted, k).seqs - 1
        got.append(np.count_nonzero(corpus.vectors[found] @ vector >= least - 1e-6) / min(k, len(rows)))
    return statistics.fmean(got)


# --- start and memory, in a fresh process ----------------------------------------------------------------------------


def fresh(folder: Path, questions: Path) -> dict[str, float]:
    """What a new process needs to open the index, and its memory before and after a hundred queries."""
    command = [sys.executable, __file__, "--open", str(folder), str(questions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
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
    for label in ("v1", "v10"):
        asking = [sorted(scope.classes) for scope in scopes(SHARES[label], 5)]
        values = []
        for i in range(queries):
            start = cpu()
            ask(corpus.questions[i], corpus.asked[i], asking[i % 5])
            values.append(1e3 * (cpu() - start))
        out[f"{name}.cpu_ms.{corpus.name}.{label}"] = statistics.median(values)
    return out


def sqlite_peer(corpus: Corpus, queries: int) -> dict[str, float]:
    """FTS5 (always there), and sqlite-vec where this Python can load it; permission as a predicate on both."""
    db = sqlite3.connect(":memory:")
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
    if not hasattr(db, "enable_load_extension"):
        print("sqlite-vec: not measured, this Python is built without loadable SQLite extensions")
        return out
    import sqlite_vec

    db.enable_load_extension(True)
    sqlite_vec.load(db)
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


def run(quick: bool, with_peers: bool) -> dict[str, Any]:
    figures: dict[str, float] = {}
    beside: dict[str, float] = {}
    sizes = {"2k": 2_000} if quick else {"10k": 10_000, "100k": 100_000}
    for name, n in sizes.items():
        corpus = make(name, n, 10 if quick else 60)
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at) / "index"
            index, spent = build(corpus, folder)
            figures[f"build_rows_per_cpu_s.{name}"] = n / spent
            figures[f"index_mb.{name}"] = index.stats()["file_bytes"] / 1e6
            figures[f"index_mb_beside_float32.{name}"] = index.stats()["file_bytes"] / 1e6 - n * DIMS * 4 / 1e6
            del index
            index = SearchIndex.open(folder, dims=DIMS, fingerprint="bench")
            figures |= measure(index, corpus)
            questions = Path(at) / "questions.npz"
            np.savez(questions, questions=np.array(corpus.questions), asked=corpus.asked)
            figures |= {f"{key}.{name}": value for key, value in fresh(folder, questions).items()}
        if with_peers:
            beside |= peers(corpus, 5 if quick else 15)
    figures["yardstick.int8_scan_100k.cpu_ms"] = yardstick()
    machine = {"processor": processor(), "cores": os.cpu_count() or 0, "python": platform.python_version()}
    return {"bench": "search", "figures": figures, "peers": beside, "machine": machine}


def yardstick() -> float:
    """CPU of one plain scan of 100,000 int8 rows: 3.4 ms on a quiet EPYC 7003 core. A busy machine shows here too."""
    rows = np.random.default_rng(0).integers(-127, 128, (100_000, DIMS), dtype=np.int8)
    values = []
    for _ in range(15):
        start = cpu()
        numkong.cdist(rows[:1], rows, metric="dot")
        values.append(1e3 * (cpu() - start))
    return statistics.median(values)


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two thousand rows, few queries")
    parser.add_argument("--no-peers", action="store_true", help="the kernel only")
    parser.add_argument("--open", nargs=2, metavar=("FOLDER", "QUESTIONS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        print(json.dumps(open_only(*map(Path, given.open))))
        return
    result = run(given.quick, not given.no_peers)
    for name, value in {**result["figures"], **result["peers"]}.items():
        print(f"{name:44} {value:12.3f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
