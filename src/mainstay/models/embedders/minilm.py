"""MiniLM: a small sentence transformer, run here on the processor.

Owns the forward pass of all-MiniLM-L6-v2 in two forms that agree to a cosine above .99999: a prepared graph for
onnxruntime (`minilm.onnx`, built by `scripts/build_minilm_graph.py`) and plain numpy, which is the fallback and the
test oracle. The weights come from a folder the operator filled (see `weights`); their digests are checked on every load.

Texts run one at a time and on one thread. So there is no padding, and a vector cannot depend on the other texts of a
batch; to use more processors, run more workers.

Source: Devlin et al., "BERT" (arXiv 1810.04805); Reimers and Gurevych, "Sentence-BERT" (arXiv 1908.10084); Wang et al.,
"MiniLM" (arXiv 2002.10957).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid, Unavailable
from mainstay.models.embedders import EmbedderIdentity
from mainstay.models.embedders.weights import MINILM_FILES, VOCAB_FILE, WEIGHTS_FILE, check_minilm
from mainstay.models.embedders.wordpiece import WordPiece

__all__ = ["Backend", "MiniLmEmbedder"]

Backend: TypeAlias = Literal["auto", "numpy", "onnx"]
Floats: TypeAlias = npt.NDArray[np.float32]
Forward: TypeAlias = Callable[[npt.NDArray[np.int64]], Floats]

DIMS, LAYERS, HEADS = 384, 6, 12
MAX_TOKENS = 256
"""The model's limit, control tokens included; the rest of a longer text is not seen (about 190 words are)."""

_UNKNOWN, _START, _END = 100, 101, 102
_EPSILON = np.float32(1e-12)
_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"


class MiniLmEmbedder:
    """384-dimensional unit vectors from all-MiniLM-L6-v2, fp32.

    `folder` holds the weights; `backend` is "onnx", "numpy" or "auto" (onnxruntime if it is installed, else numpy).
    Raises `Unavailable` when weights or the wanted backend are missing, `Invalid` when a weights file was changed.
    """

    weight = 0.75  # docs/benchmarks.md: SciFact training queries
    related = 0.36  # scripts/fit_abstention.py: as many answerable questions are left unanswered as with static

    def __init__(self, folder: Path, backend: Backend = "auto") -> None:
        check_minilm(folder)
        self._identity = _identity()
        self._wordpiece = WordPiece(_read_vocab(folder / VOCAB_FILE), unknown=_UNKNOWN)
        self._forward = _forward(folder, backend)

    @property
    def identity(self) -> EmbedderIdentity:
        """Both backends share it: they differ in the last bits only."""
        return self._identity

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(len(texts), 384) unit rows; a text without a token gives zeros."""
        rows = np.zeros((len(texts), DIMS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self.embed_query(text)
        return rows

    def embed_query(self, text: str) -> Floats:
        """(384,) unit vector; the model treats queries and passages alike."""
        ids = self._wordpiece.ids(text)[: MAX_TOKENS - 2]
        if not ids:
            return np.zeros(DIMS, dtype=np.float32)
        return self._forward(np.array([_START, *ids, _END], dtype=np.int64))


def _identity() -> EmbedderIdentity:
    recipe = {"files": dict(MINILM_FILES), "max_tokens": MAX_TOKENS, "pooling": "mean", "unit_length": True}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return EmbedderIdentity(name="all-MiniLM-L6-v2", digest=digest, precision="fp32", dims=DIMS)


def _read_vocab(path: Path) -> dict[str, int]:
    """One piece per line, its id is the line number."""
    return {piece: i for i, piece in enumerate(path.read_text("utf-8").split("\n")) if piece}


def _forward(folder: Path, backend: Backend) -> Forward:
    if backend == "numpy" or (backend == "auto" and find_spec("onnxruntime") is None):
        return NumpyForward(folder / WEIGHTS_FILE)
    return _onnx_forward(folder)


def _onnx_forward(folder: Path) -> Forward:
    """The prepared graph in an onnxruntime session of one thread; ids (tokens,) -> unit vector (384,)."""
    try:
        import onnxruntime
    except ImportError:
        fix = "install mainstay[minilm], or choose the backend numpy"
        raise Unavailable("onnxruntime is not installed", where="minilm", fix=fix) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(_FOLDER_OPTION, str(folder.resolve()))
    graph = files(__package__).joinpath("minilm.onnx").read_bytes()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(ids: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(session.run(["vector"], {"ids": ids})[0], dtype=np.float32)

    return run


class NumpyForward:
    """The forward pass in plain numpy over memory-mapped weights; ids (tokens,) -> unit vector (384,)."""

    def __init__(self, weights: Path) -> None:
        self._tensors = _read_tensors(weights)

    def __call__(self, ids: npt.NDArray[np.int64]) -> Floats:
        """Embed the words, run the layers, take the mean, make it unit length."""
        x = self._embed(ids)
        for layer in range(LAYERS):
            prefix = f"encoder.layer.{layer}"
            x = self._norm(x + self._attend(x, f"{prefix}.attention"), f"{prefix}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{prefix}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
        mean = x.mean(axis=0)
        unit: Floats = mean / np.maximum(np.sqrt((mean * mean).sum()), _EPSILON)
        return unit

    def _embed(self, ids: npt.NDArray[np.int64]) -> Floats:
        t = self._tensors
        words = t["embeddings.word_embeddings.weight"][ids]
        positions = t["embeddings.position_embeddings.weight"][: len(ids)]
        return self._norm(words + positions + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")

    def _attend(self, x: Floats, prefix: str) -> Floats:
        query, key, value = (self._heads(x, f"{prefix}.self.{part}") for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) * np.float32(math.sqrt(HEADS / DIMS))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        return self._linear(mixed.transpose(1, 0, 2).reshape(-1, DIMS), f"{prefix}.output.dense")

    def _heads(self, x: Floats, prefix: str) -> Floats:
        return self._linear(x, prefix).reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    def _linear(self, x: Floats, prefix: str) -> Floats:
        product: Floats = x @ self._tensors[f"{prefix}.weight"].T + self._tensors[f"{prefix}.bias"]
        return product

    def _norm(self, x: Floats, prefix: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + _EPSILON)
        scaled: Floats = centred / spread * self._tensors[f"{prefix}.weight"] + self._tensors[f"{prefix}.bias"]
        return scaled


def _gelu(x: Floats) -> Floats:
    """x * Phi(x) with the error function of Abramowitz and Stegun, formula 7.1.26 (off by at most 1.5e-7)."""
    size = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * np.exp(-size * size)
    smooth: Floats = x * np.where(x > 0, 1 - tail / 2, tail / 2)
    return smooth


def _read_tensors(weights: Path) -> Mapping[str, Floats]:
    """The float32 tensors of a safetensors file by name, mapped and not read (the header is JSON of a stated size)."""
    raw = np.memmap(weights, dtype=np.uint8, mode="r")
    start = 8 + int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8:start].tobytes())
    header.pop("__metadata__", None)
    try:
        return {
            name: raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
            .view("<f4")
            .reshape(entry["shape"])
            for name, entry in header.items()
            if entry["dtype"] == "F32"
        }
    except (KeyError, ValueError) as odd:
        raise Invalid(f"the weights file has an unknown layout: {odd}", where=str(weights)) from None
