"""Embeddings over the OpenAI wire format, as hosted and local servers speak it. Failures are classified as those of chat."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx2
import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid
from mainstay.models.chat import FailureKind, ModelFailure, failure
from mainstay.models.embedders import EmbedderIdentity
from mainstay.models.providers.endpoint import Endpoint
from mainstay.models.providers.errors import refusal
from mainstay.models.providers.wire import Allowance, Wire

Floats: TypeAlias = npt.NDArray[np.float32]

MAX_EMBEDDINGS = 64 << 20


@dataclass(frozen=True, kw_only=True)
class EmbedderSettings:
    """One embedding model on one server.

    `dims` is the length its vectors have; with `ask_dims` the server is told to make them so long. Texts are sent
    `batch` at a time. Prefixes are for models that tell queries and passages apart.

    Whether a vector is the same to the last bit in any company is up to the server; `batch=1` makes sure.
    """

    name: str
    model: str
    endpoint: Endpoint
    dims: int
    ask_dims: bool = False
    batch: int = 32
    batch_bytes: int = 200_000
    query_prefix: str = ""
    passage_prefix: str = ""
    connect_s: float = 3.0
    timeout_s: float = 30.0


class OpenAiCompatibleEmbedder:
    """An Embedder. A failed call raises ModelFailure; nothing is returned in part."""

    weight = 0.7  # nothing is known of it: that of the built-in ones
    related = 0.45  # nothing is known of it: that of the built-in ones

    def __init__(self, settings: EmbedderSettings, wire: Wire) -> None:
        self._where = f"embedder {settings.name}"
        if settings.dims < 1 or settings.batch < 1:
            raise Invalid("dims and batch must be at least 1", where=self._where)
        self._endpoint = settings.endpoint.checked(self._where)
        self._settings, self._wire = settings, wire
        self._identity = EmbedderIdentity(
            name=settings.name, digest=_digest(settings, self._endpoint), precision="remote", dims=settings.dims
        )

    def __repr__(self) -> str:
        return f"OpenAiCompatibleEmbedder({self._settings.name!r} at {self._endpoint.base_url!r})"

    @property
    def identity(self) -> EmbedderIdentity:
        """The server's weights cannot be seen: host, model and length stand for them."""
        return self._identity

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        return self._embedded([self._settings.passage_prefix + t if _has_token(t) else "" for t in texts])

    def embed_query(self, text: str) -> Floats:
        row: Floats = self._embedded([self._settings.query_prefix + text if _has_token(text) else ""])[0]
        return row

    def _embedded(self, texts: Sequence[str]) -> Floats:
        """A row for each text; empty ones stay zero and are not sent."""
        rows = np.zeros((len(texts), self._settings.dims), dtype=np.float32)
        for batch in self._batches(texts):
            rows[batch] = self._asked([texts[i] for i in batch])
        return rows

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        batch: list[int] = []
        size = 0
        for i, text in enumerate(texts):
            if not text:
                continue
            length = len(text.encode("utf-8", "replace"))
            if batch and (len(batch) == self._settings.batch or size + length > self._settings.batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(i)
            size += length
        if batch:
            yield batch

    def _asked(self, texts: list[str]) -> Floats:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "input": texts, "encoding_format": "float"}
        if settings.ask_dims:
            body["dimensions"] = settings.dims
        deadline = time.monotonic() + settings.timeout_s
        allowance = Allowance(
            deadline=deadline, connect_s=settings.connect_s, first_token_s=settings.timeout_s, idle_s=settings.timeout_s
        )
        call = self._wire.post(
            f"{self._endpoint.base_url}/embeddings",
            headers={**self._endpoint.sent_headers(), "accept": "application/json"},
            secret=bool(self._endpoint.secrets),
            body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            allowance=allowance,
            where=self._where,
        )
        with call as reply:
            if reply.status != 200:
                raise refusal(reply, self._endpoint, self._where, texts)
            allowance.until_deadline()
            content = reply.body(MAX_EMBEDDINGS)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise self._malformed("it is not JSON") from None
        return self._rows(document, len(texts))

    def _rows(self, document: object, count: int) -> Floats:
        """The vectors in the order of the texts, each checked and of unit length."""
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, list) or len(data) != count or not all(isinstance(entry, dict) for entry in data):
            raise self._malformed(f"it does not hold {count} vectors")
        by_index = {i: entry.get("embedding") for entry in data if type(i := entry.get("index")) is int}
        if set(by_index) != set(range(count)):
            raise self._malformed("its vectors are not numbered from 0")
        rows = np.empty((count, self._settings.dims), dtype=np.float64)
        for i in range(count):
            vector = by_index[i]
            if not isinstance(vector, list) or not all(type(x) in (float, int) for x in vector):
                raise self._malformed("a vector is not a list of numbers")
            if len(vector) != self._settings.dims:
                raise self._malformed(f"a vector has {len(vector)} dimensions instead of {self._settings.dims}")
            try:
                rows[i] = vector
            except OverflowError:
                raise self._malformed("a vector holds a number out of range") from None
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._malformed("a vector is zero or not finite")
        unit: Floats = (rows / norms).astype(np.float32)
        return unit

    def _malformed(self, what: str) -> ModelFailure:
        return failure(FailureKind.MALFORMED, f"the answer breaks the protocol: {what}", where=self._where)


def _digest(settings: EmbedderSettings, endpoint: Endpoint) -> str:
    url = httpx2.URL(endpoint.base_url)
    parts = [url.host, settings.model, settings.dims]
    if settings.query_prefix or settings.passage_prefix:
        parts += [settings.query_prefix, settings.passage_prefix]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _has_token(text: str) -> bool:
    """Not blank, and not control characters only."""
    return any(c.isprintable() and not c.isspace() for c in text)
