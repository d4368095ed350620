"""A service is copied from one kind of database to another: whole, verified, resumable; never over another's data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from tests.contracts.worlds import NOW, address, fill, filled, held
from tests.support.databases import skip_without_postgres

from mainstay.errors import Conflict, Unavailable
from mainstay.storage import transfer as module
from mainstay.storage.database import DIALECTS, UNFINISHED, Address, Database, open_database
from mainstay.storage.schema import acl_grant, api_key, document_version, fact, job, metadata, trace, vector
from mainstay.storage.transfer import transfer

WAYS = [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "sqlite")]


class Interrupted(Exception):
    """Somebody pulled the plug."""


def after(count: int) -> module.Progress:
    """Interrupts a copy after so many reports of progress."""
    left = iter(range(count))

    def progress(done: int, _total: int, _what: str) -> None:
        if next(left, None) is None:
            raise Interrupted(done)

    return progress


@pytest.fixture(params=DIALECTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    """Where to copy to."""
    skip_without_postgres(request.param)
    with address(request.param, tmp_path, "target") as at:
        yield at


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Database]:
    with filled("sqlite", tmp_path) as database:
        yield database


def arriving(at: Address) -> Database:
    return open_database(at, unfinished=True)


@pytest.mark.parametrize(("here", "there"), WAYS)
def test_everything_arrives(here: str, there: str, tmp_path: Path) -> None:
    skip_without_postgres("postgresql")
    with filled(here, tmp_path) as source, address(there, tmp_path, "target") as at:
        target = arriving(at)
        done = transfer(source, target)
        assert done.tables == held(source) == held(target)
        assert set(done.tables) == set(metadata.tables)
        assert all(total.rows for total in done.tables.values()), "the world of this test has a row in every table"
        assert not done.resumed
        target.close()
        open_database(at).close()  # a service like any other


def test_the_types_arrive(service: Database, place: Address) -> None:
    """Equal sums could be equally wrong: the values themselves."""
    target = arriving(place)
    transfer(service, target)
    for table in metadata.sorted_tables:
        keys = list(table.primary_key.columns)
        with service.read() as one, target.read() as other:
            rows = [
                {tuple(row) for row in connection.execute(select(table).order_by(*keys))} for connection in (one, other)
            ]
        assert rows[0] == rows[1]
    target.close()


@pytest.mark.parametrize("reports", [1, 3, 8, 20, 35])
def test_interrupted_and_resumed(
    service: Database, place: Address, reports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    target = arriving(place)
    with pytest.raises(Interrupted) as interrupted:
        transfer(service, target, progress=after(reports))
    target.close()
    with pytest.raises(Unavailable, match="being copied"):
        open_database(place)
    target = arriving(place)
    seen: list[int] = []
    done = transfer(service, target, progress=lambda now, _all, _what: seen.append(now))
    assert done.resumed
    assert held(target) == held(service)
    copied = min(interrupted.value.args[0], sum(total.rows for total in done.tables.values()))
    assert seen[0] >= copied > 0, "what was copied is not copied again"
    assert seen == sorted(seen)
    target.close()
    open_database(place).close()


def test_killed_and_resumed(tmp_path: Path, place: Address) -> None:
    with filled("sqlite", tmp_path, documents=300) as source:
        code = (
            "import sys, time\n"
            "from mainstay.storage import transfer as module\n"
            "from mainstay.storage.database import Address, open_database\n"
            "module.BATCH_ROWS = 20\n"
            "def progress(done, total, what):\n"
            "    print(done, flush=True)\n"
            "source, target = open_database(Address(url=sys.argv[1])), open_database(Address(url=sys.argv[2]), unfinished=True)\n"
            "module.transfer(source, target, progress=progress)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code, source.where, place.url], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(9):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        target = arriving(place)
        done = transfer(source, target)
        assert done.resumed
        assert held(target) == held(source)
        target.close()


def test_a_target_with_a_service_is_left_alone(service: Database, place: Address) -> None:
    target = arriving(place)
    fill(target, documents=3)
    before = held(target)
    with pytest.raises(Conflict, match="there is a service already"):
        transfer(service, target)
    assert held(target) == before
    target.close()


@pytest.mark.parametrize("what", ["trace", "job", "key", "grant", "vector"])
def test_a_source_in_use_is_found_out_and_copied_anew(
    service: Database, place: Address, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes while the copy runs: the copy says what changed, and the next run brings it over."""
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    changes = {
        "trace": insert(trace).values(
            request_id="req_new", at=NOW, asker="a", kind="search", status="ok", visible="{}", operator="{}"
        ),
        "job": update(job).where(job.c.job_id == "job_1").values(state="done"),
        "key": update(api_key).values(revoked=NOW),
        "grant": delete(acl_grant).where(acl_grant.c.denies == 0),
        "vector": update(vector).where(vector.c.seq == 3).values(e=b"other"),
    }
    written: list[str] = []

    def progress(_done: int, _total: int, _what: str) -> None:
        if not written:
            written.append(what)
            with service.write() as connection:
                connection.execute(changes[what])

    target = arriving(place)
    with pytest.raises(Conflict, match="written to while it was copied"):
        transfer(service, target, progress=progress)
    target.close()
    with pytest.raises(Unavailable):
        open_database(place)
    target = arriving(place)
    assert not transfer(service, target).resumed
    assert held(target) == held(service)
    target.close()


def test_a_source_that_changed_before_the_copy_was_resumed(service: Database, place: Address) -> None:
    target = arriving(place)
    with pytest.raises(Interrupted):
        transfer(service, target, progress=after(9))
    with service.write() as connection:
        connection.execute(update(fact).where(fact.c.name == "salt").values(value="cd" * 32))
    assert not transfer(service, target).resumed
    assert held(target) == held(service)
    target.close()


def test_a_damaged_copy_is_found_out(service: Database, place: Address) -> None:
    target = arriving(place)

    def progress(_done: int, _total: int, what: str) -> None:
        if what == "vector":
            with target.write() as connection:
                connection.execute(update(vector).where(vector.c.seq == 2).values(e=b"\0"))

    with pytest.raises(Conflict, match=r"the copy differs \(vector\)"):
        transfer(service, target, progress=progress)
    transfer(service, target)
    assert held(target) == held(service)
    target.close()


def test_two_copies_at_once(service: Database, place: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    first, second = arriving(place), arriving(place)
    done: list[int] = []

    def progress(now: int, _total: int, _what: str) -> None:
        if not done:
            done.append(now)
            transfer(service, second)

    with pytest.raises(Conflict, match="another copy"):
        transfer(service, first, progress=progress)
    assert held(second) == held(service)
    first.close()
    second.close()


def test_nul_becomes_what_postgresql_can_keep(tmp_path: Path, service: Database) -> None:
    """Old files may hold U+0000 in a text. Offsets stay true, and the report says so."""
    skip_without_postgres("postgresql")
    here = document_version.c.doc_id == "doc_0002"
    with service.write() as connection:
        connection.execute(update(document_version).where(here).values(text="a\0b"))
    with address("postgresql", tmp_path) as at:
        target = arriving(at)
        assert transfer(service, target).mended == {"document_version": 1}
        with target.read() as connection:
            assert connection.scalar(select(document_version.c.text).where(here)) == "a\N{REPLACEMENT CHARACTER}b"
        target.close()


def test_memory_is_bounded_by_batches(tmp_path: Path, service: Database) -> None:
    """A batch ends when it is heavy, not only when it is long."""
    pages = iter([[(n, "x" * 1_500_000) for n in range(7)]])
    assert [len(batch) for batch in module._batches(pages)] == [3, 3, 1]


def test_a_source_that_is_a_copy_itself_is_refused(service: Database, tmp_path: Path) -> None:
    at = Address(url=str(tmp_path / "half.db"))
    target = arriving(at)
    with pytest.raises(Interrupted):
        transfer(service, target, progress=after(5))
    with target.read() as connection:
        assert connection.scalar(select(fact.c.name).where(fact.c.name == UNFINISHED))
    target.close()
    with pytest.raises(Unavailable, match="being copied"):
        open_database(at)
