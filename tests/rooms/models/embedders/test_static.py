"""The static embedder that ships with the package."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import mainstay.models.embedders.static as static_module
from mainstay.errors import Invalid, Unavailable
from mainstay.models.embedders import Embedder
from mainstay.models.embedders.static import StaticEmbedder

SHIPPED = Path(static_module.__file__).parent
TEXTS = [
    "The mitochondria produce energy for the cell.",
    "",
    "Invoices are paid within thirty days of receipt.",
    "\x00\x01 \u200b",
    "naïve Café 中国 😀 zzzzqqqqxxxx",
    "word " * 5_000,
    "x" * 10_000,
    "the",
    "A1-B2/C3 <tag> {json: [1, 2]} \ud800",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return StaticEmbedder()


def likeness(embedder: Embedder, a: str, b: str) -> float:
    return float(embedder.embed_query(a) @ embedder.embed_query(b))


def test_rows_are_unit_float32_and_contiguous(embedder: Embedder) -> None:
    rows = embedder.embed_passages(TEXTS)
    assert rows.shape == (len(TEXTS), embedder.identity.dims)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    lengths = np.linalg.norm(rows, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    assert np.isfinite(rows).all()


def test_a_text_without_tokens_gives_zeros(embedder: Embedder) -> None:
    assert not embedder.embed_passages(["", " \n", "\x00\x01 \u200b"]).any()
    assert not embedder.embed_query("").any()
    assert embedder.embed_passages([]).shape == (0, embedder.identity.dims)


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    """Bit for bit: alone, in any company, in any order, after any other text."""
    alone = [embedder.embed_query(text).tobytes() for text in TEXTS]
    rng = random.Random(11)
    for _ in range(30):
        order = rng.choices(range(len(TEXTS)), k=rng.randrange(1, 40))
        rows = embedder.embed_passages([TEXTS[i] for i in order])
        assert [row.tobytes() for row in rows] == [alone[i] for i in order]
    assert [StaticEmbedder().embed_query(text).tobytes() for text in reversed(TEXTS)] == alone[::-1]


def test_word_order_and_repetition_of_the_whole_text_change_nothing(embedder: Embedder) -> None:
    assert likeness(embedder, "annual leave policy", "policy annual leave") == pytest.approx(1, abs=1e-6)
    assert likeness(embedder, "annual leave policy", "annual leave policy " * 50_000) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("car", "automobile", "banana"),
        ("physician", "doctor", "bridge"),
        ("how do I reset my password", "steps to recover a forgotten login credential", "the river floods in spring"),
        ("myocardial infarction", "heart attack", "stock market"),
        ("employee vacation days", "staff annual leave entitlement", "volcanic rock formation"),
        ("The company earned more money", "profits of the firm increased", "the cat sleeps on the sofa"),
    ],
)
def test_likeness_follows_meaning(embedder: Embedder, text: str, near: str, far: str) -> None:
    assert likeness(embedder, text, near) > likeness(embedder, text, far) + 0.1


def test_threads_get_the_same_bits() -> None:
    shared, found = StaticEmbedder(), list[bytes]()
    threads = [threading.Thread(target=lambda: found.append(shared.embed_passages(TEXTS).tobytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {StaticEmbedder().embed_passages(TEXTS).tobytes()}


def test_the_shipped_files_are_small_and_agree(embedder: Embedder) -> None:
    assert sum((SHIPPED / f"static.{kind}").stat().st_size for kind in ("npy", "txt", "json")) <= 8_000_000
    identity = embedder.identity
    assert (identity.precision, len(identity.digest)) == ("int8", 64)
    assert identity == StaticEmbedder().identity


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for kind in ("npy", "txt", "json"):
        shutil.copy(SHIPPED / f"static.{kind}", tmp_path)
    return tmp_path


def test_a_changed_file_is_refused(copy: Path) -> None:
    assert StaticEmbedder(copy).identity == StaticEmbedder().identity
    (copy / "static.txt").write_text("changed", "utf-8")
    with pytest.raises(Invalid, match="do not match"):
        StaticEmbedder(copy).embed_query("a")


def test_another_scale_is_another_identity(copy: Path) -> None:
    facts = json.loads((copy / "static.json").read_text("utf-8"))
    facts["scale"][0] *= 2
    (copy / "static.json").write_text(json.dumps(facts), "utf-8")
    assert StaticEmbedder(copy).identity != StaticEmbedder().identity


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "static.npy").unlink()
    with pytest.raises(Unavailable, match=r"static\.npy"):
        _ = StaticEmbedder(copy).identity


def test_the_port_imports_nothing_heavy() -> None:
    program = "import sys, mainstay.models.embedders; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
