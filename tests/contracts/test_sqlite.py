"""SQLite: commits that are shared, a disk that is full, files that are damaged, processes that are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, insert, select
from tests.contracts.worlds import fill

from mainstay.cli import main
from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.storage import migrations
from mainstay.storage import sqlite as module
from mainstay.storage.database import Address, open_database
from mainstay.storage.schema import fact
from mainstay.storage.sqlite import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(str(tmp_path / "mainstay.db"))
    yield opened
    opened.close()


def names(database: SqliteDatabase) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(select(fact.c.name)))


def put(database: SqliteDatabase, name: str, value: str = "x", *, durable: bool = True) -> None:
    with database.write(durable=durable) as connection:
        connection.execute(insert(fact).values(name=name, value=value))


def at_once(*work: Callable[[], object]) -> list[BaseException | None]:
    """Runs these in threads of their own, and tells how each ended."""
    ends: list[BaseException | None] = [None] * len(work)

    def run(n: int) -> None:
        try:
            work[n]()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ends[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a writer hangs"
    return ends


class Queued:
    """Holds the turn until so many writers wait for it, so that they share a group without any luck."""

    def __init__(self, database: SqliteDatabase, *, durable: bool = True) -> None:
        self._database, self._durable = database, durable
        self.ends: list[BaseException | None] = []

    def run(self, *work: Callable[[], object], durable: int | None = None, other: int = 0) -> None:
        wanted = {True: len(work) if durable is None else durable, False: other}
        holding = threading.Event()

        def first() -> None:
            with self._database.write(durable=self._durable) as connection:
                connection.execute(insert(fact).values(name="first", value="x"))
                holding.set()
                while self._database._waiting != wanted:
                    threading.Event().wait(0.001)

        def after(task: Callable[[], object]) -> Callable[[], object]:
            def run() -> object:
                holding.wait(30)
                return task()

            return run

        self.ends = at_once(first, *map(after, work))


@pytest.fixture
def commits(database: SqliteDatabase) -> list[str]:
    """One entry for each commit, saying how it was synchronised."""
    seen: list[str] = []

    @event.listens_for(database._engine, "commit")
    def _counted(connection: object) -> None:
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()  # type: ignore[attr-defined]  # a Connection
        seen.append({1: "normal", 2: "full"}[level])

    return seen


# -- group commit ------------------------------------------------------------------------------------------------------


def test_writers_that_wait_together_share_a_commit(
    database: SqliteDatabase, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)
    queued = Queued(database)
    queued.run(*(lambda n=n: put(database, f"fact {n}") for n in range(20)))
    assert queued.ends == [None] * 21
    assert names(database) >= {f"fact {n}" for n in range(20)}
    assert commits == ["full"], "twenty-one writers, one commit"


def test_a_group_has_a_largest_size(
    database: SqliteDatabase, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)
    monkeypatch.setattr(module, "MAX_GROUP", 4)
    Queued(database).run(*(lambda n=n: put(database, f"fact {n}") for n in range(11)))
    assert len(commits) == 3
    assert len(names(database)) == 12


def test_many_threads_at_their_own_pace(database: SqliteDatabase, commits: list[str]) -> None:
    """No choreography: every write arrives, each once, and contention is what makes commits fewer."""

    def work(n: int) -> None:
        for m in range(40):
            put(database, f"{n}/{m}", durable=bool((n + m) % 3))

    assert at_once(*(lambda n=n: work(n) for n in range(8))) == [None] * 8
    assert names(database) == {f"{n}/{m}" for n in range(8) for m in range(40)}
    assert len(commits) < 320


def test_the_failure_of_one_takes_nobody_else_back(
    database: SqliteDatabase, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)

    def fails(n: int) -> None:
        with database.write() as connection:
            connection.execute(insert(fact).values(name=f"gone {n}", value="x"))
            if n % 2:
                raise ValueError(n)
            connection.execute(insert(fact).values(name="first", value="taken already"))  # breaks a constraint

    queued = Queued(database)
    queued.run(*(lambda n=n: fails(n) if n % 3 == 0 else put(database, f"fact {n}") for n in range(12)))
    assert [n for n, end in enumerate(queued.ends[1:]) if end is not None] == [0, 3, 6, 9]
    assert names(database) == {"first", *(f"fact {n}" for n in range(12) if n % 3)}
    assert len(commits) == 1


def test_durable_writers_never_join_a_group_that_is_not(
    database: SqliteDatabase, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)
    Queued(database, durable=False).run(*(lambda n=n: put(database, f"fact {n}") for n in range(5)))
    assert commits == ["normal", "full"]
    commits.clear()
    with database.write() as connection:
        connection.execute(fact.delete())
    commits.clear()
    Queued(database).run(*(lambda n=n: put(database, f"fact {n}", durable=False) for n in range(5)), durable=0, other=5)
    assert commits == ["full"], "who need not be durable may join one that is"


def test_nobody_is_told_before_the_commit(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer returns only when its change can be read by others."""
    unseen: list[str] = []

    def work(n: int) -> None:
        for m in range(20):
            put(database, f"{n}/{m}")
            if f"{n}/{m}" not in names(database):
                unseen.append(f"{n}/{m}")

    assert at_once(*(lambda n=n: work(n) for n in range(6))) == [None] * 6
    assert unseen == []


def test_a_commit_that_fails_is_heard_by_every_writer_of_the_group(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)

    def refuses(_: object) -> None:
        raise OSError("the disk is gone")

    event.listen(database._engine, "commit", refuses)
    queued = Queued(database)
    queued.run(*(lambda n=n: put(database, f"fact {n}") for n in range(4)))
    assert all(isinstance(end, Unavailable) for end in queued.ends), queued.ends
    event.remove(database._engine, "commit", refuses)
    assert names(database) == set()
    put(database, "later")
    assert names(database) == {"later"}


def test_a_full_disk_in_the_middle_of_a_group(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was told "done" is there; whoever is not there was told; readers go on, and so does writing afterwards."""
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)
    put(database, "before")
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @event.listens_for(database._engine, "begin")
    def _bounded(connection: object) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 40}")  # type: ignore[attr-defined]  # a Connection

    queued = Queued(database)
    sizes = [10, 10, 30_000, 10, 400_000, 10, 30_000, 10]
    queued.run(*(lambda n=n: put(database, f"fact {n}", "x" * sizes[n]) for n in range(8)))
    told = {f"fact {n}" for n, end in enumerate(queued.ends[1:]) if end is None}
    if queued.ends[0] is None:
        told.add("first")
    assert names(database) == {"before", *told}
    failed = [end for end in queued.ends if end is not None]
    assert failed, "400 kB do not fit"
    for end in failed:
        assert isinstance(end, Unavailable)
        assert "free disk space" in end.line()
    event.remove(database._engine, "begin", _bounded)
    database._engine.dispose()  # connections remember the bound
    put(database, "after", "x" * 400_000)
    assert database.integrity() == "ok"


def test_a_transaction_that_sqlite_ended_behind_a_writer_who_did_not_notice(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may end the whole transaction. The next writer's savepoint must not begin a new one that passes for it."""
    monkeypatch.setattr(module, "MAX_GROUP_S", 60.0)

    def careless() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("ROLLBACK")  # as SQLite does

    queued = Queued(database)
    queued.run(careless, *(lambda n=n: put(database, f"fact {n}") for n in range(3)))
    told = {f"fact {n}" for n, end in enumerate(queued.ends[2:]) if end is None}
    assert isinstance(queued.ends[0], Unavailable), "its change is gone, and it hears of it"
    assert isinstance(queued.ends[1], Unavailable)
    assert names(database) == told


def test_an_interrupted_wait_for_the_turn_strands_nobody(database: SqliteDatabase) -> None:
    """Ctrl-C in a thread that waits for its turn: the group it was to commit is committed all the same."""

    class Interrupted(BaseException):
        """As KeyboardInterrupt, for one thread of a test."""

    turn, waiting, holding = database._turn, threading.Event(), threading.Event()

    class Turn:
        """The lock, whose second taker is interrupted."""

        taken = 0

        def acquire(self) -> bool:
            if threading.current_thread().name == "interrupted":
                waiting.set()
                holding.wait(30)
                raise Interrupted
            return turn.acquire()

        def release(self) -> None:
            turn.release()

        def __enter__(self) -> bool:
            return turn.acquire()

        def __exit__(self, *_: object) -> None:
            turn.release()

    database._turn = Turn()  # type: ignore[assignment]  # a lock as far as it goes
    ended: list[BaseException] = []

    def interrupted() -> None:
        try:
            put(database, "never")
        except Interrupted as error:
            ended.append(error)

    other = threading.Thread(target=interrupted, name="interrupted")

    def first() -> None:
        with database.write() as connection:
            connection.execute(insert(fact).values(name="first", value="x"))
            other.start()
            waiting.wait(30)
        # Left to the one who waits, which is interrupted now.

    writer = threading.Thread(target=first)
    writer.start()
    waiting.wait(30)
    threading.Event().wait(0.05)
    holding.set()
    writer.join(30)
    other.join(30)
    assert not writer.is_alive()
    assert len(ended) == 1
    assert names(database) == {"first"}
    put(database, "later")


# -- killed ------------------------------------------------------------------------------------------------------------

_WRITERS = """
import os, sys, threading
from sqlalchemy import insert
from mainstay.storage.schema import fact
from mainstay.storage.sqlite import SqliteDatabase
database = SqliteDatabase(sys.argv[1])
def work(n):
    for m in range(100_000):
        with database.write() as connection:
            connection.execute(insert(fact).values(name=f"{sys.argv[2]}/{n}/{m}", value="x" * 200))
        os.write(1, f"{sys.argv[2]}/{n}/{m}\\n".encode())
for n in range(8):
    threading.Thread(target=work, args=(n,), daemon=True).start()
threading.Event().wait()
"""


def test_killed_writers_keep_what_they_were_told_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mainstay.db"
    SqliteDatabase(str(path)).close()
    acknowledged: set[str] = set()
    for life, lines in enumerate((30, 200, 500)):
        command = [sys.executable, "-c", _WRITERS, str(path), str(life)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read().splitlines(keepends=True)
        child.wait()
        child.stdout.close()
        acknowledged |= {line.decode().strip() for line in said if line.endswith(b"\n")}
        database = SqliteDatabase(str(path))
        assert acknowledged <= names(database)
        assert database.integrity() == "ok"
        put(database, f"life {life}")
        database.close()
    assert len(acknowledged) >= 730


# -- files that are not as they should be ------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "mainstay.db"
    database = SqliteDatabase(str(path))
    fill(database, documents=300)
    database.close()
    return path


def spoil_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(100))


def spoil_rest_of_header(path: Path) -> None:
    """The magic words stand, what follows is rubbish."""
    with path.open("r+b") as file:
        file.seek(16)
        file.write(random.Random(2).randbytes(84))


def spoil_middle(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(3, path.stat().st_size // 4096, 2):
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(4096))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("name: not a database\n" * 500)


def short_text(path: Path) -> None:
    path.write_text("oops")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def log_alone(path: Path) -> None:
    path.rename(path.with_name("mainstay.db-wal"))


def no_tables(path: Path) -> None:
    """Copied while it was young and without its log: nothing but a first page had arrived in it."""
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA user_version=7")
    connection.close()


def other_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoices (number INTEGER)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_revision SET number = 999")
    connection.close()


def two_numbers(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_revision VALUES (3)")
    connection.close()


DAMAGES: dict[Callable[[Path], None], str] = {
    spoil_header: "damaged, or not a database",
    spoil_rest_of_header: "damaged",
    empty: "empty file",
    text: "not a database",
    short_text: "not a database",
    folder: "a folder",
    log_alone: "is gone, but its mainstay.db-wal is here",
    no_tables: "holds no tables",
    other_program: "some other program",
    newer: "newer Mainstay",
    two_numbers: "schema_revision",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_file_that_can_not_be_used(
    good: Path, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what to do; the file stays as it is, whichever command meets it."""
    path = tmp_path / "data" / "mainstay.db"
    path.parent.mkdir()
    shutil.copyfile(good, path)
    damage(path)
    (tmp_path / "mainstay.yaml").write_text("name: x\n")
    before = contents(tmp_path)
    for command in (
        ["migrate"],
        ["migrate", "--check"],
        ["documents", "list"],
        ["backup", str(tmp_path)],
        ["ask", "x"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["-C", str(tmp_path), *command])
        out, err = capsys.readouterr()
        assert stopped.value.code == 2, (command, out, err)
        assert err.count("\n") == 1, err
        assert DAMAGES[damage] in err
        assert ";" in err, "it says what to do"
        assert contents(tmp_path) == before
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(tmp_path), "doctor"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert DAMAGES[damage] in out
    assert "Traceback" not in out + err


@pytest.mark.parametrize("damage", [spoil_middle, cut], ids=lambda damage: damage.__name__)
def test_a_file_that_is_damaged_inside(
    good: Path, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may open. Doctor finds it, a backup refuses to keep it, and no command ends in a traceback."""
    path = tmp_path / "data" / "mainstay.db"
    path.parent.mkdir()
    shutil.copyfile(good, path)
    damage(path)
    (tmp_path / "mainstay.yaml").write_text("name: x\n")
    for command, code in ((["doctor"], 1), (["backup", str(tmp_path / "b")], 2), (["documents", "list"], 2)):
        with pytest.raises(SystemExit) as stopped:
            main(["-C", str(tmp_path), *command])
        out, err = capsys.readouterr()
        assert stopped.value.code == code, (command, out, err)
        said = out if command == ["doctor"] else err
        assert "damaged" in said or "malformed" in said or "btree" in said.lower() or "Tree" in said, said
        assert "Traceback" not in out + err
    assert not (tmp_path / "b").exists()


def test_a_folder_that_can_only_be_read(good: Path) -> None:
    with tempfile.TemporaryDirectory() as made:  # where others may look, too
        check_read_only(good, Path(made))


def check_read_only(good: Path, service: Path) -> None:
    service.chmod(0o755)
    path = service / "data" / "mainstay.db"
    path.parent.mkdir()
    shutil.copyfile(good, path)
    (service / "mainstay.yaml").write_text("name: x\n")
    path.chmod(0o444)
    path.parent.chmod(0o555)
    before = contents(service)
    # Root may write anywhere, so it becomes somebody else, once everything is imported that others might not read.
    code = (
        "import os, sys\n"
        "import mainstay.cli.documents, mainstay.storage.sqlite, sqlalchemy.dialects.sqlite\n"
        "if os.geteuid() == 0:\n"
        "    os.setegid(65534)\n"
        "    os.seteuid(65534)\n"
        "mainstay.cli.main(sys.argv[1:])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, "-C", str(service), "documents", "list"], capture_output=True, text=True
    )
    path.parent.chmod(0o755)
    assert said.returncode == 3, said.stderr
    assert said.stderr.count("\n") == 1, said.stderr
    assert "writable" in said.stderr
    assert contents(service) == before


def test_a_copy_without_its_log_is_an_older_state_not_a_broken_one(tmp_path: Path) -> None:
    """What was not yet folded into the file is in the log alone. Nobody can tell; it must at least open."""
    path = tmp_path / "mainstay.db"
    database = SqliteDatabase(str(path))
    put(database, "in the log")
    shutil.copyfile(path, tmp_path / "copy.db")
    copy = SqliteDatabase(str(tmp_path / "copy.db"))
    assert copy.integrity() == "ok"
    assert names(copy) == set()
    copy.close()
    assert names(database) == {"in the log"}
    database.close()


def test_a_new_database_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed or failing while it is made: there is no file that the next start would stumble over."""

    def stopped(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "migrate", stopped)
        with pytest.raises(KeyboardInterrupt):
            SqliteDatabase(str(tmp_path / "mainstay.db"))
    assert list(tmp_path.iterdir()) == []
    SqliteDatabase(str(tmp_path / "mainstay.db")).close()
    assert [path.name for path in tmp_path.iterdir()] == ["mainstay.db"]


def test_a_service_opens_beside_a_writer(database: SqliteDatabase) -> None:
    """Opening only reads when the schema is today's."""
    with database.write() as connection:
        connection.execute(insert(fact).values(name="a", value="x"))
        opened = open_database(Address(url=database.where))
        with opened.read() as other:
            assert other.scalar(select(func.count()).select_from(fact)) == 0
        opened.close()


def test_another_process_that_does_not_let_go(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.2)
    other = SqliteDatabase(database.where)
    with database.write():
        with pytest.raises(Unavailable, match="locked"):
            put(other, "x")
        assert names(other) == set(), "reading goes on"
    put(other, "x")
    other.close()


def test_many_open_a_new_database_at_once(tmp_path: Path) -> None:
    def work() -> None:
        database = SqliteDatabase(str(tmp_path / "mainstay.db"))
        try:
            put(database, threading.current_thread().name)
        finally:
            database.close()

    ends = at_once(*[work] * 6)
    assert ends == [None] * 6
    database = SqliteDatabase(str(tmp_path / "mainstay.db"))
    assert len(names(database)) == 6
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mainstay.db"]


def test_errors_are_our_own(tmp_path: Path) -> None:
    with pytest.raises(MainstayError):
        SqliteDatabase(str(tmp_path))
    with pytest.raises(Invalid):
        SqliteDatabase(f"sqlite:///{tmp_path}")
