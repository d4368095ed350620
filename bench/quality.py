"""Measures what people get: retrieval, chunks, quotes and abstention, with each local embedder, beside words or vectors alone.

    python -m bench.quality [--embedder NAME] [--set NAME] [--quick]

Everything goes through the product: its reader, its chunks, its database, its index, its search with the settings it ships, its
answers. One document of a data set is one document of a service; a document is ranked by its best chunk. Peers use the same index
and the same road with the weight of meaning at 0 (``bm25``) and at 1 (``NAME.vectors``). Parameters were tuned on the training
questions of SciFact alone; the quotes are reported on the half of chunking_evaluation that the extractive answerer was not fitted
on. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import _data
from bench._data import Asked, Chunking, Retrieval, Spans, Text, say, watched
from mainstay.access.acl import Acl
from mainstay.app import App
from mainstay.cli.demo import fill_demo, write_demo
from mainstay.corpus.chunking import chunk, chunk_id
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.reading import read_document
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.evaluation import Outcome, load_queries, run_queries
from mainstay.models.embedders import Embedder
from mainstay.retrieval.search import HybridSearch
from mainstay.settings import load
from mainstay.types import Actor, Question, Scope

SETS = ("scifact", "hotpotqa", "limit", "chunking", "demo")
ASKER = "user:bench"
EVERYBODY = AccessRule(origin="bench", acl=Acl(("public",), ()))
DEEP = 50  # passages asked for, so that ten documents come out of them
SHOWN = 5  # chunks in the span measures
AT = datetime(2026, 1, 1, tzinfo=UTC)
# What is aimed at. ``static`` shall be within 0.02 of ``minilm`` as well.
TARGETS = {
    "minilm.scifact.ndcg@10": 0.70,
    "minilm.hotpotqa.r@5": 0.82,
    "minilm.limit.r@2": 0.98,
    "minilm.chunking.span_recall@5": 0.84,
    "static.chunking.gold_in_quotes": 0.70,
    "minilm.chunking.gold_in_quotes": 0.70,
    "demo.answerable_cited": 1.0,
    "demo.off_topic_abstained": 1.0,
}
CLOSE = 0.02
CLOSE_ON = ("scifact.ndcg@10", "hotpotqa.r@5", "limit.r@2", "chunking.span_recall@5")

Figures = dict[str, float]


# --- a service over texts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """An open service that holds the texts of a data set, and its only reader."""

    app: App
    scope: Scope
    chunks: int
    documents: Mapping[str, str]  # the product's id -> the data set's

    def search(self, question: str, top: int, *, weight: float | None = None) -> list[Any]:
        """Passages, best first, with the settings of the product or another weight of meaning."""
        settings = self.app.settings.service.search
        if weight is not None:
            settings = replace(settings, weight=weight)
        searcher = HybridSearch(self.app.documents, self.app.serving, settings)
        return list(searcher.search(Question(text=question, top_k=top), scope=self.scope).passages)

    def ranking(self, question: str, *, weight: float | None = None) -> list[str]:
        """Documents by their best chunk, by the ids of the data set."""
        found = self.search(question, DEEP, weight=weight)
        return list(dict.fromkeys(self.documents[passage.document] for passage in found))


@contextlib.contextmanager
def service(texts: Sequence[Text], embedder_name: str, embedder: Embedder) -> Iterator[Service]:
    """A service in a folder of its own, filled and indexed."""
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as at:
        folder = Path(at)
        settings = f"name: Bench\nmodels: {{embedder: {embedder_name}}}\n"
        (folder / "mainstay.yaml").write_text(settings, encoding="utf-8")
        with App(load(folder, {}), embedders={embedder_name: embedder}) as app:
            app.people.add_user(ASKER.partition(":")[2])
            kept = [_prepared(text) for text in watched(texts, "reading")]
            for start in range(0, len(kept), 500):
                app.documents.put(kept[start : start + 500], AT)
            app.embed_waiting()
            app.follower().current()
            yield Service(
                app=app,
                scope=app.gate.scope(Actor(principal=ASKER)),
                chunks=sum(len(document.pieces) for document in kept),
                documents={document.doc_id: text.id for document, text in zip(kept, texts, strict=True)},
            )


def _prepared(text: Text) -> Prepared:
    """The text read and cut as ingestion does it, without the separate process that guards against hostile files."""
    parsed = read_document(text.text.encode(), f"{text.id}.txt", ParseLimits())
    title = text.title or parsed.title
    doc_id = "doc_" + hashlib.sha256(text.id.encode()).hexdigest()[:24]
    version = hashlib.sha256(parsed.text.encode()).hexdigest()[:16]
    pieces = tuple(
        Piece(
            chunk_id=chunk_id(doc_id, version, cut.start, cut.end),
            start=cut.start,
            end=cut.end,
            page=cut.page_from,
            heading_path=cut.heading_path,
            section_start=cut.section_start,
            section_end=cut.section_end,
            prefix=cut.prefix,
            text=parsed.text[cut.start : cut.end],
        )
        for cut in chunk(parsed, title=title)
    )
    return Prepared(
        doc_id=doc_id,
        source="bench",
        path=text.id,
        uri=text.id,
        title=title,
        media_type=parsed.media_type,
        version=version,
        raw_digest=version,
        rule=EVERYBODY,
        own_access=None,
        metadata={"source": "bench"},
        language="en",
        modified=None,
        size=len(text.text),
        recipe="bench",
        text=parsed.text,
        pieces=pieces,
    )


# --- retrieval -------------------------------------------------------------------------------------------------------


def ndcg(ranked: Sequence[str], wanted: frozenset[str], k: int = 10) -> float:
    gain = sum(1 / math.log2(n + 2) for n, one in enumerate(ranked[:k]) if one in wanted)
    return gain / sum(1 / math.log2(n + 2) for n in range(min(k, len(wanted))))


def recall(ranked: Sequence[str], wanted: frozenset[str], k: int) -> float:
    return len(wanted.intersection(ranked[:k])) / len(wanted)


def retrieval_figures(rankings: Sequence[list[str]], asked: Sequence[Asked]) -> Figures:
    """Means over the questions."""
    pairs = list(zip(rankings, asked, strict=True))
    figures = {f"r@{k}": statistics.fmean(recall(r, q.wanted, k) for r, q in pairs) for k in (2, 5, 10)}
    return {"ndcg@10": statistics.fmean(ndcg(r, q.wanted) for r, q in pairs), **figures}


KEEP = {"scifact": ("ndcg@10", "r@10"), "hotpotqa": ("r@2", "r@5", "r@10"), "limit": ("r@2", "r@10")}


def measure_retrieval(held: Retrieval, name: str, embedder: Embedder, quick: bool) -> tuple[Figures, Figures]:
    """Figures of the product and of its peers on one set of documents."""
    figures: Figures = {}
    peers: Figures = {}
    asked = held.asked[:: max(1, len(held.asked) // 50)] if quick else held.asked
    with service(held.texts, name, embedder) as open_:
        say(f"{name}.{held.name}: {len(held.texts)} documents in {open_.chunks} chunks, {len(asked)} questions")
        for label, weight, into in (
            (f"{name}.{held.name}", None, figures),
            (f"bm25.{held.name}", 0.0, peers),
            (f"{name}.vectors.{held.name}", 1.0, peers),
        ):
            rankings = [open_.ranking(q.text, weight=weight) for q in watched(asked, label)]
            made = retrieval_figures(rankings, asked)
            into.update({f"{label}.{key}": made[key] for key in KEEP[held.name]})
    return figures, peers


# --- chunks and quotes -----------------------------------------------------------------------------------------------

Run = tuple[int, int]


def translation(published: str, read: str) -> npt.NDArray[np.int64]:
    """For each character as published its place in the text as read: readers change white space alone."""
    at = np.array([i for i, c in enumerate(published) if not c.isspace()], np.int64)
    to = np.array([i for i, c in enumerate(read) if not c.isspace()], np.int64)
    if len(at) != len(to) or any(published[i] != read[j] for i, j in zip(at, to, strict=True)):
        raise ValueError("the reader changed more than white space")
    places = np.searchsorted(at, np.arange(len(published) + 1))
    return np.append(to, len(read))[places]


def moved(gold: Run, places: npt.NDArray[np.int64], read: str) -> Run:
    """A published span as a span of the text as read, without outer white space."""
    start, end = int(places[gold[0]]), int(places[gold[1]])
    return start, start + len(read[start:end].rstrip())


def joined(runs: Sequence[Run], read: str) -> list[Run]:
    """Runs in order, those with nothing but white space between them as one."""
    out: list[Run] = []
    for start, end in sorted(runs):
        if out and not read[out[-1][1] : start].strip():
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def shared(runs: Sequence[Run], gold: Sequence[Run]) -> int:
    """Characters that both have; neither overlaps itself."""
    return sum(max(0, min(b, d) - max(a, c)) for a, b in runs for c, d in gold)


@dataclass(frozen=True)
class Case:
    """A question with its gold spans in the text as the product keeps it."""

    asked: Spans
    gold: tuple[Run, ...]


def measure_chunking(held: Chunking, name: str, embedder: Embedder, quick: bool) -> tuple[Figures, Figures]:
    with service(held.texts, name, embedder) as open_:
        read = {text.id: _read(open_, text.id) for text in held.texts}
        places = {text.id: translation(text.text, read[text.id]) for text in held.texts}
        cases = [
            Case(q, tuple(moved(gold, places[q.document], read[q.document]) for gold in q.gold))
            for q in (held.asked[::10] if quick else held.asked)
        ]
        longest = max(len(p.text) for case in cases[:50] for p in open_.search(case.asked.text, SHOWN))
        say(f"{name}.chunking: {open_.chunks} chunks, {len(cases)} questions, longest chunk seen {longest} characters")
        figures = {f"{name}.chunking.{key}": value for key, value in span_figures(open_, cases, None).items()}
        figures |= {f"{name}.chunking.{key}": value for key, value in quote_figures(open_, cases, read).items()}
        peers = {f"bm25.chunking.{key}": value for key, value in span_figures(open_, cases, 0.0).items()}
        peers |= {f"{name}.vectors.chunking.{key}": value for key, value in span_figures(open_, cases, 1.0).items()}
    return figures, peers


def _read(open_: Service, text_id: str) -> str:
    """The text of a document as the service keeps it."""
    doc_id = next(held for held, name in open_.documents.items() if name == text_id)
    record = open_.app.documents.record(doc_id, scope=open_.scope)
    found = record and open_.app.documents.text(doc_id, record.version, scope=open_.scope)
    assert found, "the document was put a moment ago"
    return found[0]


def span_figures(open_: Service, cases: Sequence[Case], weight: float | None) -> Figures:
    """Share of the gold characters inside the first five chunks, and intersection over union of characters."""
    recalls, overlaps = [], []
    for case in watched(cases, "spans"):
        found = open_.search(case.asked.text, SHOWN, weight=weight)
        runs = [(p.start, p.end) for p in found if open_.documents[p.document] == case.asked.document]
        both, gold = shared(runs, case.gold), sum(b - a for a, b in case.gold)
        shown = sum(p.end - p.start for p in found)
        recalls.append(both / gold)
        overlaps.append(both / (shown + gold - both))
    return {f"span_recall@{SHOWN}": statistics.fmean(recalls), f"iou@{SHOWN}": statistics.fmean(overlaps)}


def quote_figures(open_: Service, cases: Sequence[Case], read: Mapping[str, str]) -> Figures:
    """Answers without a model, end to end: is a gold span wholly inside what is quoted; on the half not fitted on."""
    whole: dict[bool, list[bool]] = {True: [], False: []}
    relevant: list[bool] = []
    silent, length = [], []
    for case in watched(cases, "answers"):
        answer = open_.app.answer_as(case.asked.text, ASKER)
        here = case.asked.document
        spans = [(c.start, c.end) for c in answer.citations if open_.documents[c.document] == here]
        runs = joined(spans, read[here])
        whole[case.asked.fits].append(any(a <= c and d <= b for a, b in runs for c, d in case.gold))
        if not case.asked.fits:
            silent.append(not answer.citations)
            length.append(sum(c.end - c.start for c in answer.citations))
            relevant += [
                open_.documents[c.document] == here and shared([(c.start, c.end)], case.gold) > 0
                for c in answer.citations
            ]
    return {
        "gold_in_quotes": statistics.fmean(whole[False]),
        "gold_in_quotes.fitted_half": statistics.fmean(whole[True]),
        "quotes_with_gold": statistics.fmean(relevant),
        "quoted_characters": statistics.fmean(length),
        "abstained": statistics.fmean(silent),
    }


# --- the sample company ----------------------------------------------------------------------------------------------

RATES = {
    "answerable_cited": ("answerable", "filter"),
    "contradiction_both_cited": ("contradiction",),
    "off_topic_abstained": ("off_topic",),
    "forbidden_abstained": ("forbidden",),
    "near_miss_abstained": ("near_miss",),
}


def measure_demo(name: str, embedder: Embedder) -> Figures:
    """The sample questions of the sample company, asked as their askers."""
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as at:
        folder = Path(at)
        write_demo(folder)
        with (folder / "mainstay.yaml").open("a", encoding="utf-8") as file:
            file.write(f"models: {{embedder: {name}}}\n")
        with App(load(folder, {}), embedders={name: embedder}) as app:
            with contextlib.redirect_stderr(io.StringIO()):
                fill_demo(app, folder)
            outcomes = run_queries(load_queries(folder / "queries"), app.answer_as)
    for outcome in outcomes:
        if not outcome.ok or outcome.why:
            kind = f"{outcome.query.kind}, as {outcome.query.asker}"
            say(f"  {outcome.query.id} ({kind}): {'' if outcome.ok else 'NOT '}ok: {outcome.why}")
    prefix = "demo" if name == "static" else f"{name}.demo"
    rates = {f"{prefix}.{rate}": share(outcomes, kinds) for rate, kinds in RATES.items()}
    # What a page without a text layer says cannot be found before there is text recognition.
    cited = [o.query.id for o in outcomes if o.query.kind in RATES["answerable_cited"] and not o.ok]
    if cited:
        say(f"  {prefix}: not cited: {', '.join(cited)}")
    return rates


def share(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> float:
    return statistics.fmean(outcome.ok for outcome in outcomes if outcome.query.kind in kinds)


# --- the run ---------------------------------------------------------------------------------------------------------

LOADERS = {"scifact": _data.scifact, "hotpotqa": _data.hotpotqa, "limit": _data.limit_small}
FOLDERS = {
    "scifact": "scifact",
    "hotpotqa": "hotpotqa_subset",
    "limit": "limit_small",
    "chunking": "chunking_evaluation",
}


def run(embedders: Sequence[str], sets: Sequence[str], quick: bool) -> dict[str, Any]:
    figures: Figures = {}
    peers: Figures = {}
    needed = [FOLDERS[name] for name in sets if name in FOLDERS]
    data = _data.data_folder(*needed) if needed else Path()
    for name in embedders:
        embedder = _data.embedder(name)
        if embedder is None:
            continue
        for held in sets:
            if held == "demo":
                say(f"{name}.demo")
                figures |= measure_demo(name, embedder)
                continue
            measured, beside = (
                measure_chunking(_data.chunking(data), name, embedder, quick)
                if held == "chunking"
                else measure_retrieval(LOADERS[held](data), name, embedder, quick)
            )
            figures |= measured
            peers |= beside
    return {"bench": "quality", "figures": figures, "peers": peers, "machine": _data.machine()}


def table(result: Mapping[str, Any]) -> Iterator[str]:
    """The figures a line each, with the aim where there is one."""
    figures = result["figures"]
    for title, part in (("figure", figures), ("beside it", result["peers"])):
        yield f"{title:42} {'value':>9}  aim"
        for name, value in part.items():
            aim = TARGETS.get(name)
            met = "" if aim is None else f"{aim:.2f} {'met' if value >= aim else 'MISSED'}"
            yield f"{name:42} {value:9.4f}  {met}"
    for name in CLOSE_ON:
        if f"static.{name}" in figures and f"minilm.{name}" in figures:
            less = figures[f"minilm.{name}"] - figures[f"static.{name}"]
            yield f"{'minilm - static: ' + name:42} {less:9.4f}  {CLOSE:.2f} {'met' if less <= CLOSE else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", action="append", choices=_data.EMBEDDERS, help="only this one (repeatable)")
    parser.add_argument("--set", action="append", choices=SETS, dest="sets", help="only this set (repeatable)")
    parser.add_argument("--quick", action="store_true", help="about fifty questions a set")
    given = parser.parse_args()
    result = run(given.embedder or _data.EMBEDDERS, given.sets or SETS, given.quick)
    for line in table(result):
        print(line)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
