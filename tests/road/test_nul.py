"""U+0000, which PostgreSQL can not keep, at every place where outside text comes in: the same answer on both databases."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from mainstay.errors import Invalid
from mainstay.storage.database import DIALECTS
from mainstay.storage.schema import metadata
from tests.road.conftest import Service, build
from tests.support.databases import skip_without_postgres

FRONT = '---\ntitle: "a\\0b"\ntag: "x\\0y"\n"k\\0": v\n---\n# Heading\n\nThe crane lifts forty tonnes.\n'
# what, method, address, body, status
CALLS: list[tuple[str, str, str, Any, int]] = [
    ("question", "POST", "/v1/answers", {"question": "What\0 hours?"}, 200),
    ("history", "POST", "/v1/answers", {"question": "What?", "history": [{"role": "user", "content": "a\0"}]}, 200),
    ("search", "POST", "/v1/search", {"query": "desk\0"}, 200),
    ("filter", "POST", "/v1/search", {"query": "desk", "filters": {"source": "a\0"}}, 400),
    ("filter as text", "POST", "/v1/search", {"query": "desk", "filters": ["source=a\0"]}, 400),
    ("filter's key", "POST", "/v1/search", {"query": "desk", "filters": {"a\0": "x"}}, 400),
    (
        "chat",
        "POST",
        "/v1/chat/completions",
        {"model": "mainstay", "messages": [{"role": "user", "content": "desk\0"}]},
        200,
    ),
    ("id", "PUT", "/v1/documents/a%00b", {"content": "x"}, 400),
    ("text", "PUT", "/v1/documents/n1", {"content": "hello\0world"}, 422),
    ("JSON", "PUT", "/v1/documents/n2.json", {"content": '{"title": "t\\u0000x", "text": "a\\u0000b"}'}, 200),
    ("title", "PUT", "/v1/documents/n3", {"content": "x", "title": "a\0b"}, 400),
    ("uri", "PUT", "/v1/documents/n3", {"content": "x", "uri": "a\0b"}, 400),
    ("name", "PUT", "/v1/documents/n3", {"content": "x", "name": "a\0b.md"}, 400),
    ("media type", "PUT", "/v1/documents/n3", {"content": "x", "media_type": "a\0b"}, 400),
    ("metadata", "PUT", "/v1/documents/n3", {"content": "x", "metadata": {"k": "a\0b"}}, 400),
    ("metadata in a list", "PUT", "/v1/documents/n3", {"content": "x", "metadata": {"k": ["a\0b"]}}, 400),
    ("metadata's key", "PUT", "/v1/documents/n3", {"content": "x", "metadata": {"k\0": "a"}}, 400),
    ("access", "PUT", "/v1/documents/n3", {"content": "x", "access": ["user:a\0"]}, 400),
    ("front matter", "PUT", "/v1/documents/n4.md", {"content": FRONT}, 200),
    ("HTML", "PUT", "/v1/documents/n5.html", {"content": "<title>a&#0;b</title><h1>H&#0;</h1><p>x&#0;y</p>"}, 200),
    (
        "UTF-16",
        "PUT",
        "/v1/documents/n6.txt",
        {"content_base64": base64.b64encode("hello\0world and more".encode("utf-16")).decode()},
        200,
    ),
    ("mail", "PUT", "/v1/documents/n7.eml", {"content": "Subject: =?utf-8?q?a=00b?=\nFrom: x@y\n\nbody\n"}, 200),
    ("change access", "PATCH", "/v1/documents/n4.md", {"access": ["group:\0"]}, 400),
    ("look", "GET", "/v1/documents/a%00b", None, 404),
    ("look by our id", "GET", "/v1/documents/doc_a%00b", None, 404),
    ("version", "GET", "/v1/documents/n4.md/text?version=a%00", None, 404),
    ("delete", "DELETE", "/v1/documents/a%00b", None, 404),
    ("list of a source", "GET", "/v1/documents?source=a%00", None, 200),
    ("list after", "GET", "/v1/documents?after=a%00", None, 200),
    ("trace", "GET", "/v1/requests/a%00", None, 404),
    ("page", "GET", "/documents/a%00b", None, 404),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nul_at_every_door(dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_postgres(dialect)
    monkeypatch.setenv("MAINSTAY_TEST_DATABASE", dialect)
    service = build(tmp_path / "service")
    with service.app:
        for what, method, path, body, status in CALLS:
            said = service.client.request(method, path, json=body, headers=service.headers("hugo"))
            assert said.status_code == status, (what, said.text)
            assert "postgresql" not in said.text, "where the database is concerns nobody outside"
        batch = [{"op": "delete", "id": "a\0"}, {"op": "put", "id": "a\0", "content": "x"}]
        said = service.client.post("/v1/documents:batch", json=batch, headers=service.headers("hugo"))
        assert [one["problem"]["status"] for one in said.json()["results"]] == [404, 400]
        check_people(service)
        check_what_is_kept(service)
        if dialect == "postgresql":
            with pytest.raises(Invalid, match=r"U\+0000"):  # what no door has thought of
                service.app.documents.set_fact("a", "b\0")


def check_people(service: Service) -> None:
    people = service.app.people
    for add in (
        lambda: people.add_user("eve\0"),
        lambda: people.add_user("eve", display="a\0"),
        lambda: people.add_user("eve", email="a\0@b"),
        lambda: people.add_group("g\0"),
        lambda: service.app.keyring.create("user:alice", name="k\0"),
    ):
        with pytest.raises(Invalid):
            add()
    people.add_user("eve", password="long enough password \0")  # kept as a hash


def check_what_is_kept(service: Service) -> None:
    with service.app.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)):
                for name, value in row._mapping.items():
                    assert not isinstance(value, str) or ("\0" not in value and "\\u0000" not in value), (table, name)
