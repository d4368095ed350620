"""Services to test with: a folder, people, documents; real parsing, real database, real index."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mainstay.app import App
from mainstay.clock import FixedClock, SystemClock
from mainstay.corpus.ingest import Report
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.settings import load
from mainstay.types import Actor, Answer, Clock, Passage, Question
from tests.support.databases import database_line

SETTINGS = """\
name: Test service
sources:
  - {name: docs, folder: documents}
"""


@cache
def static_embedder() -> StaticEmbedder:
    """One for all tests of a process: its tables take a while to read."""
    return StaticEmbedder()


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files by relative path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")


def open_service(
    folder: Path,
    documents: Mapping[str, str | bytes] | None = None,
    *,
    settings: str = SETTINGS,
    clock: Clock | None = None,
    dialect: str | None = None,
) -> App:
    """An open service over ``folder``, its settings and documents written if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "documents").mkdir(exist_ok=True)
    if not (folder / "mainstay.yaml").exists():
        (folder / "mainstay.yaml").write_text(settings + database_line(dialect), encoding="utf-8")
    write(folder / "documents", documents or {})
    return App(load(folder, {}), clock=clock or SystemClock(), embedders={"static": static_embedder()})


def sync(app: App, source: str = "docs") -> Report:
    """Synchronise and embed."""
    report = app.synchronise(app.source(source))
    app.embed_waiting()
    return report


def people(app: App, users: Mapping[str, tuple[str, ...]]) -> None:
    """Users with the groups they are in; groups are made as they come."""
    known: set[str] = set()
    for name, groups in users.items():
        app.people.add_user(name)
        for group in groups:
            if group not in known:
                app.people.add_group(group)
                known.add(group)
            app.people.add_member(f"group:{group}", f"user:{name}")


def search(app: App, words: str, user: str, **more: object) -> tuple[Passage, ...]:
    """What a user finds."""
    scope = app.gate.scope(Actor(principal=f"user:{user}"))
    return app.searcher.search(Question(text=words, **more), scope=scope).passages  # type: ignore[arg-type]  # tests name fields


def ask(app: App, question: str, user: str) -> Answer:
    """What a user is told."""
    return app.answer_as(question, user)


def fixed_clock() -> FixedClock:
    return FixedClock()
