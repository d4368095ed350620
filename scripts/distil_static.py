"""Distil MiniLM into the static embedder: `static.npy`, `static.txt` and `static.json` beside `static.py`.

A static embedder holds one vector per word piece and adds them up. This script finds those vectors in four steps; the
first two keep their results in the work folder and are skipped when these are there.

1. texts: plain text out of Debian packages (`PACKAGES`) and of Debian's package descriptions. No benchmark data and no
   scraped pages; anyone can fetch the same text. Definitions, paragraphs, titles, short questions, and windows of several
   sentences, shuffled.
2. teacher: MiniLM over every piece alone and over the first `TEACHER_TEXTS` texts. Kept are the unit vector of each text
   and, per piece, the sum of its contextual vectors (Bommasani et al., "Interpreting Pretrained Contextualized
   Representations via Reductions to Static Embeddings", ACL 2020): for least squares the mean of a piece's contextual
   vectors is the best single vector it can have, and it already makes empty words short.
3. fit: start from these means, centred and with frequent pieces shortened (Arora et al., "A Simple but Tough-to-Beat
   Baseline for Sentence Embeddings", ICLR 2017), in the space of the teacher's first principal components; then turn
   the sum of each text's vectors towards the teacher's vector (mean of 1 - cosine) with Adam (arXiv 1412.6980), pulled
   back to the start so that rare pieces keep their place.
4. write: int8 with one scale per dimension, and the digests.

Tried once and left out: vectors for the 8,000 most telling whole words that WordPiece cuts. They lowered the loss on
held-out texts (.1275 against .1303) but did not help retrieval (SciFact training queries, nDCG@10 of the vectors alone
.534 against .538, one fit each, a difference within chance), and there is no room for them in 8 MB at 256 dimensions.

Run: `python scripts/distil_static.py MINILM_FOLDER WORK_FOLDER` on a Debian machine, with numpy, scipy, onnx and
onnxruntime; about half an hour of one processor. All chance comes from `SEED`, and nothing depends on the clock.
"""

from __future__ import annotations

import hashlib
import html
import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mainstay.models.embedders.weights import VOCAB_FILE, check_minilm
from mainstay.models.embedders.wordpiece import WordPiece

SEED = 20240607
PACKAGES = ("wordnet-base", "r-bioc-go.db", "postgresql-doc-15", "python3.11-doc", "sqlite3-doc")
SHARES = {"wordnet": 60_000, "genes": 18_000, "debian": 16_000, "docs": 9_000, "short": 14_000}
WINDOWS = 7_000
TEACHER_TEXTS = 72_000
HELD_OUT = 2_000
MAX_PIECES = 254

DIMS = 256
EPOCHS, BATCH, RATE, PULL = 5, 1024, 0.004, 3.0
FREQUENT = 1e-2
CLIP_QUANTILE = 0.9995
UNKNOWN = 100
OUT = Path(__file__).resolve().parent.parent / "src/mainstay/models/embedders"

Floats = npt.NDArray[np.float32]


# 1. Texts


def fetch_packages(work: Path) -> tuple[Path, str]:
    """Unpack the packages into `work`/root; also return the text of Debian's package descriptions."""
    root, debs, lists = work / "root", work / "debs", work / "lists"
    for folder in (root, debs, lists / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=debs, check=True)
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    subprocess.run(["apt-get", "-o", "Acquire::Languages=en", "-o", f"Dir::State::lists={lists}", "update"], check=True)
    found = max(lists.glob("*debian_dists_*_main_i18n_Translation-en*"), key=lambda path: path.stat().st_size)
    cat = ["/usr/lib/apt/apt-helper", "cat-file", str(found)]
    return root, subprocess.run(cat, capture_output=True, text=True, check=True).stdout


def wordnet(root: Path) -> Iterator[tuple[list[str], str, list[str]]]:
    """Each synset: its words, its definition, its examples."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (root / f"usr/share/wordnet/data.{part}").read_text("utf-8").splitlines():
            if line.startswith("  "):
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = [re.sub(r"\(.*\)", "", fields[4 + 2 * i]).replace("_", " ") for i in range(int(fields[3], 16))]
            definition, *examples = re.split(r'; (?=")', gloss.strip())
            yield words, definition.strip(), [text.strip().strip('"; ') for text in examples if text.startswith('"')]


def genes(root: Path) -> list[tuple[str, str]]:
    """Terms of the Gene Ontology and their definitions."""
    with sqlite3.connect(root / "usr/lib/R/site-library/GO.db/extdata/GO.sqlite") as connection:
        found = connection.execute("select term, definition from go_term where definition is not null order by go_id")
        return [(term, re.sub(r"\s*\[.*?\]\s*$", "", text)) for term, text in found]


def descriptions(raw: str) -> Iterator[tuple[str, list[str]]]:
    """Package descriptions without repetitions: the title and the longer paragraphs."""
    seen = set()
    for stanza in raw.split("\n\n"):
        match = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", stanza, re.MULTILINE)
        if match is None:
            continue
        paragraphs = [" ".join(part.split()) for part in re.split(r"^ \.$", match[2], flags=re.MULTILINE)]
        paragraphs = [part for part in paragraphs if len(part) > 40]
        first = paragraphs[0] if paragraphs else match[1]
        if first not in seen:
            seen.add(first)
            yield match[1], paragraphs


def manuals(root: Path) -> list[str]:
    """Headings and paragraphs of the HTML manuals, each once."""
    found: dict[str, None] = {}
    for path in sorted(root.rglob("*.html")):
        page = path.read_text("utf-8", "replace")
        for part in re.findall(r"<(?:p|h[1-4]|dd)\b[^>]*>(.*?)</(?:p|h[1-4]|dd)>", page, re.DOTALL):
            text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", part)).split())
            if len(text) > 15:
                found[text] = None
    return list(found)


def compose(root: Path, raw_descriptions: str) -> list[str]:
    """The training texts in their final order."""
    rng = random.Random(SEED)
    pool: dict[str, list[str]] = {name: [] for name in SHARES}
    for words, definition, examples in wordnet(root):
        pool["wordnet"].append(f"{', '.join(words)}: {definition}" if rng.random() < 0.6 else definition)
        pool["wordnet"] += [text for text in examples if rng.random() < 0.5]
        if rng.random() < 0.3:
            one, other = rng.choice(words), rng.choice(words)
            ask = [f"{one}", f"what is {one}?", f"{one} and {other}"]
            ask += [f"define {one}", f"which {one} was the first?", f"who or what is {one}"]
            pool["short"].append(rng.choice(ask))
    for term, definition in genes(root):
        pool["genes"].append(f"{term}: {definition}" if rng.random() < 0.6 else definition)
        if rng.random() < 0.3:
            ask = [term, f"how does {term} work", f"effect of {term}", f"{term} is increased in patients"]
            pool["short"].append(rng.choice(ask))
    for title, paragraphs in descriptions(raw_descriptions):
        if rng.random() < 0.3:
            pool["short"].append(title)
        if paragraphs:
            pool["debian"].append(_excerpt(rng, title, paragraphs))
    for text in manuals(root):
        pool["short" if len(text) < 60 else "docs"].append(text[:900])
    for texts in pool.values():
        rng.shuffle(texts)
    chosen = [text for name, count in SHARES.items() for text in pool[name][:count]]
    kinds = ["wordnet", "wordnet", "genes"]
    chosen += [". ".join(rng.sample(pool[rng.choice(kinds)], rng.randrange(2, 5))) for _ in range(WINDOWS)]
    rng.shuffle(chosen)
    return chosen


def _excerpt(rng: random.Random, title: str, paragraphs: list[str]) -> str:
    """Title and first paragraph, or the beginning of everything, or any paragraph."""
    if rng.random() < 0.5:
        return f"{title}. {paragraphs[0]}"
    return " ".join(paragraphs)[:800] if rng.random() < 0.4 else rng.choice(paragraphs)


# 2. Teacher


def open_teacher(folder: Path) -> Any:
    """An onnxruntime session that gives the unit vector and, besides, the vector of every token."""
    import onnx
    import onnxruntime

    model = onnx.load(str(OUT / "minilm.onnx"), load_external_data=False)
    (tokens,) = (node.input[0] for node in model.graph.node if node.op_type == "ReduceMean")
    model.graph.output.append(onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, ["tokens", 384]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_teacher(folder: Path, texts: list[str], vocab: dict[str, int]) -> dict[str, npt.NDArray[Any]]:
    """Unit vector per text; per piece the sum of its contextual vectors, their count, and its vector alone."""
    session, wordpiece = open_teacher(folder), WordPiece(vocab, unknown=UNKNOWN)

    def run(ids: list[int]) -> tuple[Floats, Floats]:
        unit, tokens = session.run(None, {"ids": np.array([101, *ids, 102], dtype=np.int64)})
        return unit, tokens[1:-1]

    alone = np.array([run([i])[1][0] for i in range(len(vocab))])
    sums, counts = np.zeros_like(alone), np.zeros(len(vocab), dtype=np.int64)
    units = np.zeros((len(texts), alone.shape[1]), dtype=np.float16)
    for row, text in zip(units, texts, strict=True):
        ids = wordpiece.ids(text)[:MAX_PIECES]
        row[:], tokens = run(ids)
        np.add.at(sums, ids, tokens)
        np.add.at(counts, ids, 1)
    return {"units": units, "sums": sums, "counts": counts, "alone": alone}


# 3. Fit


def start_vectors(sums: Floats, counts: npt.NDArray[np.int64], alone: Floats) -> Floats:
    """The mean contextual vector of each piece (its vector alone counts once), centred, frequent pieces shortened."""
    share = (counts / counts.sum()).astype(np.float32)[:, None]
    means = (sums + alone) / (counts + 1)[:, None].astype(np.float32)
    centred: Floats = (means - (means * share).sum(axis=0)) * (FREQUENT / (FREQUENT + share))
    return centred


def principal(units: Floats) -> Floats:
    """(384, DIMS): the directions in which the teacher's vectors lie, the strongest first."""
    _, directions = np.linalg.eigh(units.T @ units)
    return np.ascontiguousarray(directions[:, ::-1][:, :DIMS], dtype=np.float32)


def unit_rows(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def fit(bags: Any, targets: Floats, start: Floats) -> Floats:
    """Turn bags @ vectors towards the targets. `bags`: sparse (texts, pieces) counts; `targets`: unit rows."""
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(targets))
    held, train = order[:HELD_OUT], order[HELD_OUT:]
    vectors, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    steps, step = EPOCHS * (len(train) // BATCH), 0
    print(f"start: 1 - cosine on held-out texts {_loss(bags[held] @ vectors, targets[held]):.4f}")
    for epoch in range(EPOCHS):
        rng.shuffle(train)
        for at in range(0, len(train) - BATCH + 1, BATCH):
            batch = train[at : at + BATCH]
            bag = bags[batch].tocsc()
            seen = np.flatnonzero(np.diff(bag.indptr))
            bag = bag[:, seen]
            gradient = bag.T @ _gradient(bag @ vectors[seen], targets[batch])
            first[seen] = 0.9 * first[seen] + 0.1 * gradient
            second[seen] = 0.99 * second[seen] + 0.01 * gradient**2
            move = first[seen] / (np.sqrt(second[seen]) + 1e-8) + PULL * (vectors[seen] - start[seen])
            vectors[seen] -= RATE * (1 - step / steps) * move
            step += 1
        print(f"epoch {epoch}: {_loss(bags[held] @ vectors, targets[held]):.4f}", flush=True)
    return vectors


def _loss(sums: Floats, targets: Floats) -> float:
    return float(1 - (unit_rows(sums) * targets).sum(axis=1).mean())


def _gradient(sums: Floats, targets: Floats) -> Floats:
    """Of the mean of 1 - cosine with respect to the sums."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True) + 1e-6
    unit = sums / lengths
    slope: Floats = ((unit * targets).sum(axis=1, keepdims=True) * unit - targets) / lengths / len(sums)
    return slope


def count_pieces(texts: list[str], vocab: dict[str, int]) -> Any:
    """Sparse (texts, pieces) counts, cut where the teacher stopped reading."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    wordpiece = WordPiece(vocab, unknown=UNKNOWN)
    ids = [wordpiece.ids(text)[:MAX_PIECES] for text in texts]
    ends = np.cumsum([0, *map(len, ids)])
    flat = np.fromiter((i for row in ids for i in row), dtype=np.int64, count=ends[-1])
    return csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(texts), len(vocab)))


# 4. Write


def write(vectors: Floats, vocab: dict[str, int], out: Path) -> None:
    """Leave out control and unused pieces, make row 0 the unknown word (zeros), quantise, write the three files."""
    pieces = sorted(vocab, key=vocab.__getitem__)
    kept = [i for i, piece in enumerate(pieces) if piece == "[" or not piece.startswith("[")]
    scale = np.quantile(np.abs(vectors[kept]), CLIP_QUANTILE, axis=0) / 127
    rows = np.clip(np.rint(vectors[kept] / scale), -127, 127).astype(np.int8)
    np.save(out / "static.npy", np.concatenate([np.zeros((1, rows.shape[1]), dtype=np.int8), rows]))
    (out / "static.txt").write_text("\n".join(["[UNK]", *(pieces[i] for i in kept)]) + "\n", "utf-8")
    digests = [hashlib.sha256((out / f"static.{kind}").read_bytes()).hexdigest() for kind in ("npy", "txt")]
    facts = {
        "name": "mainstay-static-1",
        "base": "sentence-transformers/all-MiniLM-L6-v2",
        "npy_sha256": digests[0],
        "txt_sha256": digests[1],
        "scale": [float(f"{value:.6g}") for value in scale],
    }
    (out / "static.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    for kind in ("npy", "txt", "json"):
        print(f"static.{kind}: {(out / f'static.{kind}').stat().st_size} bytes")


def main() -> None:
    """All four steps."""
    folder, work = Path(sys.argv[1]), Path(sys.argv[2])
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else OUT
    check_minilm(folder)
    work.mkdir(parents=True, exist_ok=True)
    print(f"seed {SEED}")
    vocab = {piece: i for i, piece in enumerate((folder / VOCAB_FILE).read_text("utf-8").split("\n")) if piece}
    if not (work / "texts.json").exists():
        (work / "texts.json").write_text(json.dumps(compose(*fetch_packages(work))), "utf-8")
    texts = json.loads((work / "texts.json").read_text("utf-8"))[:TEACHER_TEXTS]
    if not (work / "teacher.npz").exists():
        np.savez(work / "teacher.npz", allow_pickle=False, **run_teacher(folder, texts, vocab))
    seen = np.load(work / "teacher.npz")
    units = seen["units"].astype(np.float32)
    basis = principal(units)
    start = start_vectors(seen["sums"], seen["counts"], seen["alone"]) @ basis
    start /= np.median(np.linalg.norm(start, axis=1))
    write(fit(count_pieces(texts, vocab), unit_rows(units @ basis), start), vocab, out)


if __name__ == "__main__":
    main()
