"""Build `src/mainstay/models/embedders/minilm.onnx`, the forward pass of all-MiniLM-L6-v2 without its weights.

The graph takes the ids of one text (int64, shape (tokens,), control tokens included) and gives its unit vector (float32,
shape (384,)). Every initialiser that is a weight points by offset into the published `model.safetensors`, so the file
stays as it was published and its digest can be checked. One text at a time means no padding and no attention mask, and
that the vector cannot depend on another text.

Traps this graph steps around, all met with onnxruntime: positions are a slice of the position table (a
Shape-Gather-Range chain breaks a fusion); matrices stay as PyTorch stores them (out, in) and are read with `transB`;
external data must be a real file, never a link, in the folder named by the session option
`session.model_external_initializers_file_folder_path`.

Run: `python scripts/build_minilm_graph.py FOLDER_WITH_MODEL_SAFETENSORS [OUT.onnx]` (needs `onnx`). Only the header of
the weights is read. The same input gives the same bytes.

Source of the architecture: Devlin et al., "BERT" (arXiv 1810.04805); Reimers and Gurevych, "Sentence-BERT" (arXiv
1908.10084) for mean pooling; Wang et al., "MiniLM" (arXiv 2002.10957).
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

LAYERS, HEADS, DIMS, HEAD_DIMS = 6, 12, 384, 32
EPSILON = 1e-12
WEIGHTS = "model.safetensors"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "src/mainstay/models/embedders/minilm.onnx"


class Graph:
    """Collects nodes and initialisers while the forward pass is written down step by step."""

    def __init__(self, header: Mapping[str, Any], data_start: int) -> None:
        self._header = header
        self._data_start = data_start
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        """An initialiser that lies in the weights file."""
        if name not in self.initializers:
            self.initializers[name] = self._pointer(name)
        return name

    def ints(self, name: str, values: list[int]) -> str:
        self.initializers[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def number(self, name: str, value: float) -> str:
        self.initializers[name] = helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        return name

    def linear(self, x: str, prefix: str) -> str:
        return self.node("Gemm", x, self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias"), transB=1)

    def norm(self, x: str, prefix: str) -> str:
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)

    def _pointer(self, name: str) -> onnx.TensorProto:
        entry = self._header[name]
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} is {entry['dtype']}, expected F32")
        start, end = entry["data_offsets"]
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", self._data_start + start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def embed(g: Graph) -> str:
    """Words + positions + segment 0, then a norm: (tokens, 384)."""
    words = g.node("Gather", g.weight("embeddings.word_embeddings.weight"), "ids", axis=0)
    zero, axis = g.ints("zero", [0]), g.ints("axis0", [0])
    positions = g.node("Slice", g.weight("embeddings.position_embeddings.weight"), zero, g.node("Shape", "ids"), axis)
    segment = g.node("Gather", g.weight("embeddings.token_type_embeddings.weight"), zero, axis=0)
    return g.norm(g.node("Add", g.node("Add", words, positions), segment), "embeddings.LayerNorm")


def attend(g: Graph, x: str, prefix: str) -> str:
    """Multi-head self attention and its residual norm."""

    def heads(part: str, order: list[int]) -> str:
        flat = g.linear(x, f"{prefix}.self.{part}")
        return g.node("Transpose", g.node("Reshape", flat, "split_heads"), perm=order)

    query, key, value = heads("query", [1, 0, 2]), heads("key", [1, 2, 0]), heads("value", [1, 0, 2])
    scores = g.node("Mul", g.node("MatMul", query, key), "head_scale")
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), value)
    joined = g.node("Reshape", g.node("Transpose", mixed, perm=[1, 0, 2]), "join_heads")
    return g.norm(g.node("Add", g.linear(joined, f"{prefix}.output.dense"), x), f"{prefix}.output.LayerNorm")


def feed_forward(g: Graph, x: str, prefix: str) -> str:
    """Two linear maps with an exact GELU between, and the residual norm."""
    inner = g.node("Gelu", g.linear(x, f"{prefix}.intermediate.dense"), approximate="none")
    return g.norm(g.node("Add", g.linear(inner, f"{prefix}.output.dense"), x), f"{prefix}.output.LayerNorm")


def pool(g: Graph, x: str) -> str:
    """Mean over the tokens, then unit length."""
    axis = g.ints("pool_axis", [0])
    mean = g.node("ReduceMean", x, axis, keepdims=0)
    length = g.node("ReduceL2", mean, axis, keepdims=1)
    return g.node("Div", mean, g.node("Max", length, g.number("tiny", 1e-12)), out="vector")


def build(header: Mapping[str, Any], data_start: int) -> onnx.ModelProto:
    """The whole graph, as a model of opset 20."""
    g = Graph(header, data_start)
    g.ints("split_heads", [-1, HEADS, HEAD_DIMS])
    g.ints("join_heads", [-1, DIMS])
    g.number("head_scale", HEAD_DIMS**-0.5)
    x = embed(g)
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        x = feed_forward(g, attend(g, x, f"{prefix}.attention"), prefix)
    pool(g, x)
    graph = helper.make_graph(
        g.nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [DIMS])],
        initializer=list(g.initializers.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, producer_name="mainstay")


def read_header(weights: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and the offset at which its data begin."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size)), 8 + size


def main() -> None:
    """Write the graph and print its size."""
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_OUT
    model = build(*read_header(folder / WEIGHTS))
    out.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{out}: {out.stat().st_size} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main()
