"""A service on PostgreSQL that changes who searches, or moves house: nothing is lost, nothing comes back."""

from __future__ import annotations

from pathlib import Path

from tests.support.databases import open_fresh, server
from tests.support.services import open_service, people, search, sync

from mainstay.app import App
from mainstay.storage.database import Address, open_database
from mainstay.storage.transfer import transfer

OPEN = "---\naccess: [group:staff]\ntopic: {topic}\n---\n# {name}\n\nThe {name} has {n} places in Rotterdam.\n"


def text(name: str, n: int, topic: str = "parking") -> str:
    return OPEN.format(name=name, n=n, topic=topic)


def engine(folder: Path, name: str) -> None:
    """Write into the settings who searches."""
    file = folder / "mainstay.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("search:")]
    file.write_text("\n".join([*lines, f"search: {name}", ""]))


def found(app: App, words: str = "places in Rotterdam") -> set[str]:
    return {passage.title for passage in search(app, words, "alice", top_k=20)}


def test_changing_the_engine_loses_nothing(tmp_path: Path) -> None:
    with open_service(tmp_path, {"garage.md": text("garage", 4)}, dialect="postgresql") as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        assert app.search_engine == "database"
        assert found(app) == {"garage"}
    engine(tmp_path, "exact")
    with open_service(tmp_path, {"bicycle.md": text("bicycle shed", 9)}) as app:
        sync(app)
        assert app.search_engine == "exact"
        assert found(app) == {"garage", "bicycle shed"}
        (tmp_path / "documents/garage.md").unlink()
        (tmp_path / "documents/bicycle.md").write_text(text("bicycle shed", 12, topic="sport"))
        sync(app)
    engine(tmp_path, "database")
    with open_service(tmp_path) as app:
        assert app.search_engine == "exact"  # until the tables are whole again
        assert found(app) == {"bicycle shed"}
        app.prepare_search()
        assert app.search_engine == "database"
        assert found(app) == {"bicycle shed"}
        scope = app.gate.scope(app.identity.actor_for("user:alice"))
        index, _ = app.searched()
        assert dict(index.metadata_values(scope, "topic")) == {"sport": 1}  # type: ignore[union-attr]  # asserted above


def test_one_process_in_another_mode_is_noticed(tmp_path: Path) -> None:
    """A rolling change of settings: the old process writes after the new one has said that all is there."""
    with open_service(tmp_path, {"garage.md": text("garage", 4)}, dialect="postgresql") as app:
        people(app, {"alice": ("staff",)})
    engine(tmp_path, "exact")
    with open_service(tmp_path) as old:
        engine(tmp_path, "auto")
        with open_service(tmp_path) as new:
            new.prepare_search()
            assert new.search_engine == "database"
            (tmp_path / "documents/late.md").write_text(text("late shed", 1))
            sync(old)
    with open_service(tmp_path) as app:
        assert found(app) == {"garage", "late shed"}
        app.prepare_search()
        assert app.search_engine == "database"
        assert found(app) == {"garage", "late shed"}


def test_there_and_back_again(tmp_path: Path) -> None:
    """From PostgreSQL to a file and to another PostgreSQL: what a database searches by is not taken along."""
    with open_service(tmp_path / "one", {"garage.md": text("garage", 4)}, dialect="postgresql") as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        lite, close = open_fresh("sqlite", tmp_path)
        transfer(app.database, lite)
    url = server().fresh()
    target = open_database(Address(url=url), unfinished=True)
    transfer(lite, target)
    target.close()
    close()
    (tmp_path / "two/documents").mkdir(parents=True)
    (tmp_path / "two/mainstay.yaml").write_text(f"sources: [{{name: docs, folder: documents}}]\ndatabase: '{url}'\n")
    with open_service(tmp_path / "two") as app:
        assert found(app) == {"garage"}
        app.prepare_search()
        assert app.search_engine == "database"
        assert found(app) == {"garage"}
    server().drop(url)
