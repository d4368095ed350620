"""MiniLM from the operator's folder; skipped unless MAINSTAY_TEST_MINILM names that folder."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from mainstay.errors import Invalid, Unavailable
from mainstay.models.embedders import Embedder
from mainstay.models.embedders.minilm import MAX_TOKENS, Backend, MiniLmEmbedder
from mainstay.models.embedders.weights import MINILM_FILES

FOLDER = Path(os.environ.get("MAINSTAY_TEST_MINILM", "/nonexistent"))
with_weights = pytest.mark.skipif(not FOLDER.is_dir(), reason="MAINSTAY_TEST_MINILM names no folder with the weights")

TEXTS = [
    "The mitochondria produce energy for the cell.",
    "",
    "Invoices are paid within thirty days of receipt. " * 3,
    "\x00\x01 \u200b",
    "naïve Café 中国 😀 zzzzqqqqxxxx \ud800",
    "the",
]


@pytest.fixture(scope="module", params=["onnx", "numpy"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    backend: Backend = request.param
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    return MiniLmEmbedder(FOLDER, backend)


@with_weights
def test_rows_are_unit_float32_and_contiguous(embedder: Embedder) -> None:
    rows = embedder.embed_passages(TEXTS)
    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((len(TEXTS), 384), np.float32, True)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 1, 0, 1, 1], abs=1e-5)
    assert embedder.embed_passages([]).shape == (0, 384)


@with_weights
def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    alone = [embedder.embed_query(text).tobytes() for text in TEXTS]
    rng = random.Random(11)
    for _ in range(5):
        order = rng.choices(range(len(TEXTS)), k=rng.randrange(1, 9))
        rows = embedder.embed_passages([TEXTS[i] for i in order])
        assert [row.tobytes() for row in rows] == [alone[i] for i in order]


@with_weights
def test_text_beyond_the_limit_is_not_seen(embedder: Embedder) -> None:
    full = "leave " * (MAX_TOKENS - 2)
    assert embedder.embed_query(full + "and a banana").tobytes() == embedder.embed_query(full).tobytes()
    assert embedder.embed_query(full[:-6] + "banana").tobytes() != embedder.embed_query(full).tobytes()


@with_weights
def test_likeness_follows_meaning(embedder: Embedder) -> None:
    car, automobile, banana = embedder.embed_passages(["car", "automobile", "banana"])
    assert car @ automobile > 0.8 > 0.5 > car @ banana


@with_weights
def test_both_backends_agree() -> None:
    pytest.importorskip("onnxruntime")
    texts = [text for text in TEXTS if text.isprintable() and text] + ["word " * 400, "a b c d " * 20]
    onnx, plain = (MiniLmEmbedder(FOLDER, backend) for backend in ("onnx", "numpy"))
    assert np.einsum("ij,ij->i", onnx.embed_passages(texts), plain.embed_passages(texts)).min() > 0.99999
    assert onnx.identity == plain.identity


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="mainstay models add minilm"):
        MiniLmEmbedder(tmp_path)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    for name in MINILM_FILES:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(Invalid, match="sha256 differs"):
        MiniLmEmbedder(tmp_path)


@with_weights
def test_linked_weights_are_refused(tmp_path: Path) -> None:
    """onnxruntime refuses them too, with a worse message."""
    for name in MINILM_FILES:
        shutil.copy(FOLDER / name, tmp_path) if name == "vocab.txt" else (tmp_path / name).symlink_to(FOLDER / name)
    with pytest.raises(Invalid, match="symbolic link"):
        MiniLmEmbedder(tmp_path)
