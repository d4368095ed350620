"""Fit when the extractive answerer abstains: words and meaning together (see ``mainstay.models.extractive``).

    python scripts/fit_abstention.py DATA [--embedder static|minilm] [--weights FOLDER]

DATA is a folder with chunking_evaluation, clinc_oos and hotpotqa_subset. Answerable questions are 180 of the fitting half of
chunking_evaluation (first byte of the question's SHA-256 even); the others are 90 of clinc's out-of-scope
questions and 90 of HotpotQA.
Prints the logistic regression and, by threshold, the share of each kind that is left unanswered. Needs mainstay alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mainstay.app import App
from mainstay.cli.common import OPERATOR
from mainstay.models import extractive
from mainstay.settings import load
from mainstay.types import Passage, Question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--embedder", default="static")
    parser.add_argument("--weights", type=Path, help="folder of `mainstay models add minilm`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = service(Path(folder), given.data, given.embedder, given.weights)
        measured = {kind: [signals(app, text) for text in texts] for kind, texts in questions(given.data).items()}
        app.close()
    by_words = np.array([row[0] for rows in measured.values() for row in rows])
    meaning = np.array([row[1] for rows in measured.values() for row in rows])
    wanted = np.array([kind == "answerable" for kind, rows in measured.items() for _ in rows], dtype=float)
    words_share, meaning_share, bias = fitted(np.stack([by_words, meaning], axis=1), wanted)
    print(f"WORDS_SHARE {words_share:.3f}, MEANING_SHARE {meaning_share:.3f}, related {-bias / meaning_share:.3f}")
    chance = 1 / (1 + np.exp(-(words_share * by_words + meaning_share * meaning + bias)))
    kinds = np.array([kind for kind, rows in measured.items() for _ in rows])
    for threshold in (0.15, 0.2, 0.25, 0.3):
        shares = {kind: round(float(np.mean(chance[kinds == kind] < threshold)), 3) for kind in measured}
        print(f"below {threshold}: {shares}")


def service(folder: Path, data: Path, embedder: str, weights: Path | None) -> App:
    """The five texts of chunking_evaluation as one service."""
    (folder / "documents").mkdir()
    for text in (data / "chunking_evaluation" / "corpora").glob("*.md"):
        shutil.copyfile(text, folder / "documents" / f"{text.stem}.txt")
    settings = f"sources: [{{name: texts, folder: documents}}]\nmodels: {{embedder: {embedder}}}\n"
    (folder / "mainstay.yaml").write_text(settings, encoding="utf-8")
    if weights is not None:
        shutil.copytree(weights, folder / "data" / "models" / "minilm")
    app = App(load(folder, {}))
    app.synchronise(app.source("texts"))
    app.embed_waiting()
    return app


def questions(data: Path) -> dict[str, list[str]]:
    with (data / "chunking_evaluation" / "questions_df.csv").open(encoding="utf-8", newline="") as rows:
        asked = [row["question"] for row in csv.DictReader(rows)]
    fitting = [text for text in asked if hashlib.sha256(text.encode()).digest()[0] % 2 == 0]
    clinc = json.loads((data / "clinc_oos" / "data_oos_plus.json").read_text(encoding="utf-8"))
    hotpot = json.loads((data / "hotpotqa_subset" / "hotpotqa_train.json").read_text(encoding="utf-8"))
    return {
        "answerable": fitting[:180],
        "out of scope": [text for text, _ in clinc["oos_val"]][:90],
        "about other things": [one["question"] for one in hotpot][:90],
    }


def signals(app: App, question: str) -> tuple[float, float]:
    """The log-odds by words alone, and the best cosine of a passage."""
    found = app.searcher.search(Question(text=question), scope=app.gate.scope(OPERATOR))
    words_only = [without_meaning(passage) for passage in found.passages]
    confidence = extractive.extract(question, words_only, language="en").confidence
    odds = np.clip(confidence, 1e-6, 1 - 1e-6)
    return float(np.log(odds / (1 - odds))), max((passage.dense for passage in found.passages), default=0.0)


def without_meaning(passage: Passage) -> Passage:
    return replace(passage, dense=0.0)


def fitted(rows: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float]:
    """Logistic regression by gradient descent on standardised columns, a little ridge."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    columns = np.column_stack([(rows - mean) / spread, np.ones(len(rows))])
    weights = np.zeros(3)
    for _ in range(5000):
        chance = 1 / (1 + np.exp(-columns @ weights))
        weights -= 0.5 * (columns.T @ (chance - wanted) / len(wanted) + 1e-3 * np.append(weights[:2], 0.0))
    shares = weights[:2] / spread
    return float(shares[0]), float(shares[1]), float(weights[2] - (shares * mean).sum())


if __name__ == "__main__":
    main()
