"""Vectors: words are searchable before there are any, embedders are never mixed, changing one needs no pause."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mainstay.app import App
from mainstay.errors import Conflict
from mainstay.models.embedders import EmbedderIdentity
from mainstay.settings import load
from tests.support import upstream as up
from tests.support.services import ask, open_service, people, search, static_embedder, sync

DOCUMENTS = {".access.yaml": "allow: [group:staff]", "hidden/.access.yaml": "allow: [group:board]"} | {
    f"{folder}d{n}.md": f"# Note {n}\n\nThe crane number {n} in Rotterdam was inspected in March and needs a new rope.\n"
    for n in range(12)
    for folder in ("", "hidden/")
}


class Reversed:
    """Another embedder: the static one's numbers, back to front."""

    weight = 0.3
    related = 0.45

    def __init__(self) -> None:
        inner = static_embedder().identity
        self.identity = EmbedderIdentity(name="reversed", digest="f" * 64, precision="float32", dims=inner.dims)

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(static_embedder().embed_passages(texts)[:, ::-1])

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(static_embedder().embed_query(text)[::-1])


def test_words_at_once_and_how_far_the_vectors_are(tmp_path: Path) -> None:
    with open_service(tmp_path, DOCUMENTS) as app:
        people(app, {"alice": ("staff",)})
        app.synchronise(app.source("docs"))  # no vectors yet
        assert search(app, "crane rope Rotterdam", "alice")
        answer = ask(app, "Which crane needs a new rope?", "alice")
        assert "0 %" in (answer.notice or "")
        app.embed_waiting()
        until = time.monotonic() + 30  # PostgreSQL counts again only after some multiple of what counting takes
        while (said := ask(app, "Which crane needs a new rope?", "alice").notice) and time.monotonic() < until:
            time.sleep(0.1)
        assert said is None


def test_how_far_it_is_counts_only_what_the_asker_may_read(tmp_path: Path) -> None:
    with open_service(
        tmp_path, {name: text for name, text in DOCUMENTS.items() if not name.startswith("hidden/d")}
    ) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
    with open_service(tmp_path, DOCUMENTS) as app:
        app.synchronise(app.source("docs"))  # what is hidden waits for vectors
        assert ask(app, "Which crane needs a new rope?", "alice").notice is None


def test_changing_the_embedder(tmp_path: Path) -> None:
    with open_service(tmp_path, DOCUMENTS) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        before = [p.dense for p in search(app, "crane rope", "alice")]
    settings = (tmp_path / "mainstay.yaml").read_text() + (
        "models:\n  embedder: other\n  providers:\n"
        "    other: {base_url: 'http://127.0.0.1:9/v1', model: m, dims: 256, price: {input: '0', output: '0'}}\n"
    )
    (tmp_path / "mainstay.yaml").write_text(settings)
    other = Reversed()
    with (
        App(load(tmp_path, {}), embedders={"static": static_embedder(), "other": other}) as app,
        App(load(tmp_path, {}), embedders={"static": static_embedder(), "other": other}) as serving,
    ):
        assert (
            app.embedder().identity.name == static_embedder().identity.name
        )  # in force until the new ones are complete
        assert [p.dense for p in search(serving, "crane rope", "alice")] == before
        app.reembed()
        assert app.embedder().identity == other.identity
        assert serving.embedder().identity == other.identity  # another process takes the change over
        after = [p.dense for p in search(serving, "crane rope", "alice")]
        assert np.allclose(after, before, atol=1e-6)
        assert app.documents.embedders() == [other.identity]


def test_vectors_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    with open_service(tmp_path, DOCUMENTS) as app:
        sync(app)
        with pytest.raises(Conflict):
            app.documents.put_vectors(Reversed().identity, [1], np.zeros((1, 3), dtype=np.float32), app.clock.now())


def test_an_endpoint_embeds_and_its_failure_leaves_words(tmp_path: Path) -> None:
    with up.Upstream(always=up.embeddings(dims=8)) as server:
        settings = f"""\
sources: [{{name: docs, folder: documents}}]
models:
  embedder: remote
  providers: {{remote: {{base_url: "{server.base_url}", model: e, dims: 8, price: {{input: "0", output: "0"}}}}}}
"""
        with open_service(tmp_path, DOCUMENTS, settings=settings) as app:
            people(app, {"alice": ("staff",)})
            sync(app)
            assert server.calls
            assert search(app, "crane rope Rotterdam", "alice")[0].dense != 0.0
    with open_service(tmp_path) as app:  # the endpoint is gone
        assert search(app, "crane rope Rotterdam", "alice")
        answer = ask(app, "Which crane needs a new rope?", "alice")
        assert answer.citations
        assert "words" in (answer.notice or "")
