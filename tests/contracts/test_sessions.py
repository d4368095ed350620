"""Who is signed in, over every database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.access.directory import People
from mainstay.access.keys import Keyring
from mainstay.access.sessions import IDLE, LIFETIME, MOST_OF_ONE, Sessions
from mainstay.clock import FixedClock
from mainstay.records.audit import By, Filters, acting
from mainstay.storage.access import AccessStore
from mainstay.storage.audit import SqlAudit
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.schema import audit_log
from mainstay.storage.schema import session as table
from mainstay.storage.sessions import SqlSessions


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("sessions"))
    yield opened
    close()


@pytest.fixture
def clock(database: Database) -> FixedClock:
    with database.write() as connection:
        connection.execute(delete(table))
    return FixedClock()


def test_every_process_knows_a_session(database: Database, clock: FixedClock) -> None:
    here, there = (Sessions(SqlSessions(database), clock) for _ in range(2))
    token = here.begin("user:pat", "provider", display="Pat", groups=("group:a", "group:?"))
    held = there.of(token)
    assert held is not None
    assert (held.principal, held.credential, held.display) == ("user:pat", "provider", "Pat")
    assert held.groups == ("group:a", "group:?")
    assert (held.created, held.expires) == (clock.now(), clock.now() + LIFETIME)
    there.end(token)
    assert here.of(token) is None
    here.end(token)
    here.end("")


def test_groups_that_nobody_asked_for_are_not_no_groups(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    by_password, by_token = sessions.begin("user:pat", "password"), sessions.begin("user:pat", "token", groups=())
    found = [sessions.of(token) for token in (by_password, by_token)]
    assert [held and held.groups for held in found] == [None, ()]


def test_only_a_hash_of_the_token_is_kept(database: Database, clock: FixedClock) -> None:
    token = Sessions(SqlSessions(database), clock).begin("user:pat", "key", key_id="key_1")
    with database.read() as connection:
        row = connection.execute(select(table)).one()
    assert token not in str(row)
    assert len(row.token_hash) == 64
    assert row.key_id == "key_1"


def test_a_session_ends_when_nobody_uses_it(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    token = sessions.begin("user:pat", "password")
    for _ in range(3):
        clock.advance(IDLE - timedelta(minutes=1))
        assert sessions.of(token) is not None
    clock.advance(IDLE + timedelta(seconds=1))
    assert sessions.of(token) is None
    with database.read() as connection:
        assert connection.execute(select(table)).all() == []


def test_a_page_that_looks_by_itself_keeps_no_session_alive(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    token = sessions.begin("user:pat", "password")
    for _ in range(2):
        clock.advance(IDLE / 2)
        assert sessions.of(token, used=False) is not None
    clock.advance(timedelta(seconds=1))
    assert sessions.of(token, used=False) is None


def test_a_session_ends_after_its_lifetime_however_busy(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    token = sessions.begin("user:pat", "password")
    for _ in range(11):
        clock.advance(timedelta(hours=1))
        assert sessions.of(token) is not None
    clock.advance(timedelta(hours=1))
    assert sessions.of(token) is None


def test_a_session_ends_with_the_token_that_began_it(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    short = sessions.begin("user:pat", "token", groups=(), until=clock.now() + timedelta(minutes=5))
    long = sessions.begin("user:pat", "token", groups=(), until=clock.now() + timedelta(days=5))
    clock.advance(timedelta(minutes=5))
    assert sessions.of(short) is None
    held = sessions.of(long)
    assert held is not None
    assert held.expires - held.created == LIFETIME


def test_the_oldest_sessions_of_one_person_go_first(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    other = sessions.begin("user:kim", "password")
    tokens = []
    for _ in range(MOST_OF_ONE + 2):
        clock.advance(timedelta(seconds=1))
        tokens.append(sessions.begin("user:pat", "password"))
    assert [sessions.of(token) is None for token in tokens] == [True, True] + [False] * MOST_OF_ONE
    assert sessions.of(other) is not None
    assert sessions.end_all("user:pat") == MOST_OF_ONE
    assert sessions.of(tokens[-1]) is None
    assert sessions.of(other) is not None


def test_beginning_one_forgets_what_has_expired(database: Database, clock: FixedClock) -> None:
    sessions = Sessions(SqlSessions(database), clock)
    sessions.begin("user:pat", "password")
    clock.advance(LIFETIME)
    sessions.begin("user:kim", "password")
    with database.read() as connection:
        assert connection.scalars(select(table.c.principal)).all() == ["user:kim"]


@pytest.mark.parametrize("token", ["", "x", "é\0", "a" * 100_000, "' OR 1=1 --"])
def test_what_is_no_token_finds_nothing(database: Database, clock: FixedClock, token: str) -> None:
    assert Sessions(SqlSessions(database), clock).of(token) is None


# -- what the audit log hears ------------------------------------------------------------------------------------------
def heard(database: Database, clock: FixedClock, since: int) -> list[tuple[str, str, str, object]]:
    """(action, of whom, by whom, why it ended or with what it began) of each event since then, the oldest first."""
    found = SqlAudit(database, clock).list(Filters(action="session."), limit=1000).events
    return [
        (one.action, one.subject, one.actor, one.details.get("because", one.details["with"]))
        for one in reversed(found)
        if one.n >= since
    ]


def test_beginning_and_end_are_events_of_the_same_transaction(database: Database, clock: FixedClock) -> None:
    log = SqlAudit(database, clock)
    sessions, since = Sessions(SqlSessions(database), clock), log.size()
    with acting(By(principal="service:mainstay", request_id="req_1")):
        token = sessions.begin("user:pat", "key", key_id="key_1")
    first = log.get(since)
    assert first is not None
    assert (first.via, first.request_id) == ("key_1", "req_1")
    assert first.details == {"with": "key", "until": (clock.now() + LIFETIME).isoformat()}
    sessions.end(token)
    sessions.end(token)  # it is over: nothing more is heard
    again, idle = sessions.begin("user:pat", "password"), sessions.begin("user:kim", "password")
    sessions.end(again, "signed_in_anew")
    clock.advance(IDLE + timedelta(seconds=1))
    assert sessions.of(idle) is None
    with acting(By(principal="user:ada")):
        sessions.begin("user:pat", "password")
        assert sessions.end_all("user:pat") == 1
        assert sessions.end_all("user:pat") == 0
    assert heard(database, clock, since) == [
        ("session.started", "user:pat", "user:pat", "key"),
        ("session.ended", "user:pat", "user:pat", "signed_out"),
        ("session.started", "user:pat", "user:pat", "password"),
        ("session.started", "user:kim", "user:kim", "password"),
        ("session.ended", "user:pat", "user:pat", "signed_in_anew"),
        ("session.ended", "user:kim", "service:mainstay", "unused"),
        ("session.started", "user:pat", "user:pat", "password"),
        ("session.ended", "user:pat", "user:ada", "ended_for_them"),
    ]
    assert log.verify([]).right


def test_neither_the_row_nor_its_event_is_there_without_the_other(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        peaks = connection.execute(select(audit_log.c.peaks)).scalar_one()
        connection.execute(update(audit_log).values(peaks="zz"))  # the log's edge is damaged: nothing can be appended
    try:
        with pytest.raises(ValueError, match="hexadecimal"):
            Sessions(SqlSessions(database), clock).begin("user:pat", "password")
    finally:
        with database.write() as connection:
            connection.execute(update(audit_log).values(peaks=peaks))
    with database.read() as connection:
        assert connection.execute(select(table)).all() == []


def test_what_ends_a_right_ends_its_sessions(database: Database, clock: FixedClock) -> None:
    store, sessions = AccessStore(database, clock), Sessions(SqlSessions(database), clock)
    people, keyring = People(store, clock), Keyring(store, store, clock)
    for name in ("rob", "sue", "tim", "una"):
        people.add_user(name, password="correct horse battery")
    key, _ = keyring.create("user:sue", name="laptop")
    tokens = {
        "rob": sessions.begin("user:rob", "password"),
        "sue": sessions.begin("user:sue", "key", key_id=key.key_id),
        "sue too": sessions.begin("user:sue", "password"),
        "tim": sessions.begin("user:tim", "password"),
        "una": sessions.begin("user:una", "password"),
    }
    since = SqlAudit(database, clock).size()
    with acting(By(principal="user:ada")):
        people.set_role("user:rob", "operator")  # in force at the next request: nobody is signed out
        people.disable("user:rob")
        keyring.revoke(key.key_id)
        keyring.revoke(key.key_id)
        people.set_password("tim", "another correct horse")
        people.delete("user:una")
    assert [name for name, token in tokens.items() if sessions.of(token) is not None] == ["sue too"]
    assert heard(database, clock, since) == [
        ("session.ended", "user:rob", "user:ada", "disabled"),
        ("session.ended", "user:sue", "user:ada", "key_revoked"),
        ("session.ended", "user:tim", "user:ada", "password"),
        ("session.ended", "user:una", "user:ada", "removed"),
    ]


def test_many_sessions_that_end_together_are_one_event(database: Database, clock: FixedClock) -> None:
    sessions, log = Sessions(SqlSessions(database), clock), SqlAudit(database, clock)
    for _ in range(3):
        sessions.begin("user:pat", "password")
    sessions.end_all("user:pat")
    newest = log.list(Filters(action="session.ended"), limit=1).events[0]
    assert newest.details["sessions"] == 3
