"""The second wall: statements that name no permitted class see the scope's rows all the same.

As the role the service runs under, over every table that holds content, with the predicate left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pg8000.native
import pytest
from sqlalchemy import text
from tests.support.databases import ROLE, server, skip_without_postgres
from tests.support.searching import DIMS, MADE_BY, NOW, Service, prepared, some_world

from mainstay.access.acl import Acl
from mainstay.errors import Unavailable
from mainstay.records.traces import Trace
from mainstay.storage import postgres_search
from mainstay.storage.postgres_index import table_of
from mainstay.storage.traces import SqlTraces
from mainstay.types import Scope

VECTORS = table_of(MADE_BY)
# Each table with content: how its rows are found by the document's class, asked by one who sees all.
CONTENT = {
    "document": "SELECT t.number AS key, t.class_id FROM document AS t",
    "document_version": "SELECT t.doc_id || t.version AS key, d.class_id FROM document_version AS t"
    " JOIN document AS d ON d.doc_id = t.doc_id WHERE t.class_id = d.class_id",
    "chunk": "SELECT t.seq AS key, d.class_id FROM chunk AS t JOIN document AS d ON d.number = t.document",
    "vector": "SELECT t.seq AS key, d.class_id FROM vector AS t JOIN chunk AS c ON c.seq = t.seq"
    " JOIN document AS d ON d.number = c.document",
    "search_words": "SELECT t.seq AS key, d.class_id FROM search_words AS t JOIN document AS d ON d.number = t.document",
    VECTORS: f"SELECT t.seq AS key, d.class_id FROM {VECTORS} AS t JOIN document AS d ON d.number = t.document",
    "search_fact": "SELECT t.document AS key, d.class_id FROM search_fact AS t JOIN document AS d ON d.number = t.document",
}
UNSEEN = ("search_posting", "search_part")  # rows of many documents at once: no asker sees one
KEYS = {"document": "number", "document_version": "doc_id || version", "search_fact": "document"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    skip_without_postgres("postgresql")
    made = Service.fresh()
    some_world(made, 11, 60)
    SqlTraces(made.database).keep(_trace("user:u1"))
    SqlTraces(made.database).keep(_trace("user:u2"))
    yield made
    made.close()


def _trace(asker: str) -> Trace:
    return Trace(
        request_id=f"req_{asker}",
        at=NOW,
        asker=asker,
        kind="answer",
        status="answered",
        spans=(),
        facts={},
        operator={},
    )


def _naked(service: Service) -> pg8000.native.Connection:
    """A connection of the service's role that nothing was said on."""
    made = pg8000.native.Connection(
        ROLE, database=service.url.rpartition("@/")[2].partition("?")[0], unix_sock=f"{server().folder}/.s.PGSQL.5432"
    )
    made.run('SET search_path = "mainstay", public')
    return made


@pytest.mark.parametrize("table", CONTENT)
@pytest.mark.parametrize("user", [*(f"u{n}" for n in range(6)), "nobody"])
def test_without_the_predicate_exactly_the_scope_is_seen(service: Service, user: str, table: str) -> None:
    scope = service.scope(user)
    with service.database.read() as connection:
        every = connection.exec_driver_sql(CONTENT[table]).all()
    with service.database.read(scope) as connection:
        seen = connection.exec_driver_sql(f"SELECT {KEYS.get(table, 'seq')} FROM {table}").scalars().all()
    assert sorted(seen) == sorted(row.key for row in every if row.class_id in scope.classes)
    assert len(every) > 20


@pytest.mark.parametrize("table", [*CONTENT, *UNSEEN, "trace"])
def test_with_nothing_said_nothing_is_seen(service: Service, table: str) -> None:
    connection = _naked(service)
    try:
        assert connection.run(f"SELECT count(*) FROM {table}") == [[0]]
        connection.run("BEGIN")
        connection.run("SELECT set_config('mainstay.access', 'scope', true)")
        assert connection.run(f"SELECT count(*) FROM {table}") == [[0]]
        connection.run("COMMIT")
        assert connection.run(f"SELECT count(*) FROM {table}") == [[0]]  # a setting of a transaction ends with it
        connection.run("SELECT set_config('mainstay.access', 'ALL', false)")
        assert connection.run(f"SELECT count(*) FROM {table}") == [[0]]
    finally:
        connection.close()


@pytest.mark.parametrize("table", UNSEEN)
def test_postings_are_seen_by_no_asker(service: Service, table: str) -> None:
    with service.database.read(service.scope("u1")) as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0
    with service.database.read() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() > 0


def test_every_table_that_holds_content_has_the_wall_forced(service: Service) -> None:
    with service.database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class AS c"
                " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE nspname = current_schema() AND relkind = 'r'"
            )
        ).all()
        walled = {row[0] for row in rows if row[1]}
        assert walled == {*CONTENT, *UNSEEN, "trace"}
        named = {row[0] for row in rows if row[0].startswith("search_")}
        assert named <= walled
        owner, bypass = connection.exec_driver_sql(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).one()
    assert not owner
    assert not bypass


@pytest.mark.parametrize("way", ["few", "many"])
@pytest.mark.parametrize("user", ["u0", "u2", "nobody"])
def test_search_with_its_predicate_removed_finds_the_scope_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch, user: str, way: str
) -> None:
    if way == "many":
        monkeypatch.setattr(postgres_search, "_FEW", 0)
        monkeypatch.setattr(postgres_search, "_SORTED", 0)
        monkeypatch.setattr(postgres_search, "_ALWAYS", 0)
    scope = service.scope(user)
    with service.database.read() as connection:
        every = frozenset(connection.exec_driver_sql("SELECT class_id FROM acl_class").scalars())
    careless = Scope(principals=scope.principals, classes=every)
    monkeypatch.setattr(postgres_search._InDatabase, "_permitted", lambda _: "true")
    vector = np.eye(DIMS, dtype=np.float32)[0]
    found = service.search().permitted(careless).lists("the of bramak", vector, 1000)
    permitted = set(service.seqs(scope))
    assert set(found.words.seqs.tolist()) | set(found.meaning.seqs.tolist()) <= permitted
    assert set(found.meaning.seqs.tolist()) == permitted & set(service.vectors)
    keys = service.search().metadata_values(careless, "team")
    assert sum(keys.values()) == sum(service.kernel().metadata_values(scope, "team").values())


@pytest.mark.parametrize("table", ["document", "chunk", "vector", "search_words", "search_fact", "trace"])
def test_a_scope_may_not_write(service: Service, table: str) -> None:
    scope = service.scope("u1")
    column = {"trace": "asker", "document": "title", "chunk": "text", "vector": "seq", "search_words": "document"}
    name = column.get(table, "key")
    with service.database.write() as connection:
        connection.execute(
            text(
                "SELECT set_config('mainstay.access', 'scope', true), set_config('mainstay.principals', :names, true)"
            ),
            {"names": "{" + ",".join(f'"{one}"' for one in sorted(scope.principals)) + "}"},
        )
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() > 0
        assert connection.exec_driver_sql(f"UPDATE {table} SET {name} = {name}").rowcount == 0
        assert connection.exec_driver_sql(f"DELETE FROM {table}").rowcount == 0
    with pytest.raises(Unavailable, match="not permitted"):
        _insert_narrowed(service)


def _insert_narrowed(service: Service) -> None:
    with service.database.write() as connection:
        connection.execute(text("SELECT set_config('mainstay.access', 'scope', true)"))
        connection.exec_driver_sql("INSERT INTO trace VALUES ('x', 1, 'user:u1', 'a', 'b', '{}', '{}')")


def test_a_journey_is_its_askers(service: Service) -> None:
    for user, seen in (("u1", ["req_user:u1"]), ("nobody", [])):
        with service.database.read(service.scope(user)) as connection:
            assert connection.exec_driver_sql("SELECT request_id FROM trace").scalars().all() == seen


def test_an_old_version_is_seen_where_it_might_be_read_as_it_was(service: Service) -> None:
    service.put([prepared("secret", ["for few"], Acl(("user:u1",), ()))])
    service.put([prepared("secret", ["for all"], Acl(("public",), ()), version="2")])
    # The first version stands where it stood while the document was restricted.
    with service.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE document_version SET class_id = (SELECT class_id FROM acl_grant WHERE principal = 'user:u5' LIMIT 1)"
            " WHERE doc_id = 'doc_secret' AND version = '1'"
        )
        held = (
            connection.exec_driver_sql("SELECT class_id FROM document_version WHERE doc_id = 'doc_secret'")
            .scalars()
            .all()
        )
    for user in ("u1", "u5", "nobody"):
        scope = service.scope(user)
        with service.database.read(scope) as connection:
            seen = connection.exec_driver_sql(
                "SELECT count(*) FROM document_version WHERE doc_id = 'doc_secret'"
            ).scalar_one()
        assert seen == sum(class_id in scope.classes for class_id in held)
