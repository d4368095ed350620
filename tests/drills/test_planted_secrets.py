"""Secrets and personal data planted at every door, then looked for in every byte that is kept and in every log line.

What stands in a document may be found where documents are kept, and nowhere else; everything else nowhere.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import LargeBinary, cast, select
from sqlalchemy import Text as SqlText
from tests.support.processes import Process, Serving
from tests.support.services import open_service, people, sync
from tests.support.upstream import Call, Messages, Upstream, answering, cites, error_in_stream, status

from mainstay.access.keys import Permission
from mainstay.settings import load
from mainstay.storage.database import address_of, open_database
from mainstay.storage.schema import metadata

OF_DOCUMENTS = {"document", "document_version", "chunk", "search_words", "search_fact", "search_vectors", "vector"}
SETTINGS = """\
name: Drill
sources:
  - {{name: docs, folder: documents, access: [public]}}
models:
  answer: one
  providers:
    one: {{base_url: '{url}', model: one, price: {{input: "1", output: "1"}}}}
records: {{content: all}}
"""


@dataclass
class Planted:
    """Values that occur nowhere by chance, each named by where it was planted."""

    values: dict[str, str] = field(default_factory=dict)

    def key(self, where: str) -> str:
        return self._kept(where, f"sk-live{len(self.values):02d}Qx7Zr9Tk2Lm4Wv8Np{_letters(where)}")

    def mail(self, where: str) -> str:
        return self._kept(where, f"planted.{len(self.values):02d}{_letters(where).lower()}@harbour-mail.example")

    def password(self, where: str) -> str:
        return self._kept(where, f"Pw{len(self.values):02d}!{_letters(where)}x7")

    def card(self, where: str) -> str:
        return self._kept(where, _with_luhn(f"411122{len(self.values):02d}3344556"))

    def _kept(self, where: str, value: str) -> str:
        self.values[f"{where} {len(self.values)}"] = value
        return value


def _letters(where: str) -> str:
    return "".join(c for c in where.title() if c.isalpha())[:12]


def _with_luhn(digits: str) -> str:
    total = sum(sum(divmod(int(c) * (2 - n % 2), 10)) for n, c in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def said(serving: Serving, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> tuple[int, bytes]:
    """One request with exactly these headers."""
    client = http.client.HTTPConnection(urlsplit(serving.address).netloc, timeout=60)
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers}
    try:
        client.request(method, path, data, sent)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_nothing_planted_is_kept(tmp_path: Path, dialect: str) -> None:
    planted, in_documents = Planted(), Planted()
    document = in_documents.mail("document")
    documents = {
        "gates.md": f"# Gates\n\nGate 7 of the terminal opens at 6 o'clock; ask {document} about gate 7.\n\n"
        f"The key of the old gate 8 is {in_documents.key('document')}, its password: {in_documents.password('document')}\n",
        f"contract {in_documents.mail('file name')} {in_documents.key('file name')}.md": "# Contract\n\nIt ends in 2031.\n",
        f"broken {in_documents.mail('broken file')}.pdf": b"%PDF-1.4 broken",
    }
    replies = iter(
        [
            answering(cites),
            answering(lambda _: f"Gate 7 opens at 6. Use {planted.key('reply')} or {planted.mail('reply')} [1]."),
            status(401, code="invalid_api_key", message=f"Incorrect key provided: {planted.key('error 401')}"),
            status(
                500, message=f"worker of {planted.mail('error 500')} with password={planted.password('error 500')} died"
            ),
            error_in_stream(
                "server_error", f"token {planted.key('error in stream')} for {planted.mail('error in stream')}"
            ),
        ]
    )

    def behave(call: Call) -> None:
        next(replies, answering(_plain))(call)

    with Upstream(always=behave) as upstream:
        with open_service(tmp_path, documents, settings=SETTINGS.format(url=upstream.base_url), dialect=dialect) as app:
            people(app, {"alice": ()})
            sync(app)
            alice = app.keyring.create("user:alice", name="a")[1]
            scopes = [Permission.TRACES_WRITE, Permission.OUTCOMES_WRITE, Permission.OPERATE, Permission.ON_BEHALF_OF]
            robot = app.keyring.create("service:robot", name="r", scopes=[*scopes, Permission.ASK])[1]
        with Serving.on(tmp_path) as serving:
            _at_every_door(serving, planted, alice, robot)
            logged = "".join(serving.lines)
        logged += "".join(serving.lines)
        logged += "".join(_commands(tmp_path, planted))
    kept = dict(_tables(tmp_path)) if dialect == "postgresql" else dict(_sqlite(tmp_path))
    values = {**planted.values, **in_documents.values}
    found = [
        (where, table)
        for table, text in kept.items()
        for where, value in values.items()
        if value in text and not (where in in_documents.values and table in OF_DOCUMENTS)
    ]
    assert not found, "\n".join(f"{where}: in {table}" for where, table in found)
    assert [where for where, value in values.items() if value in logged] == []
    # The search above finds what is there: what was planted in documents lies where documents are.
    assert document in kept["document_version"]
    assert set(_files(tmp_path, planted.values)) == set()
    assert "[redacted:" in kept["mode_event"]
    assert "[redacted:" in kept["span_detail"]
    assert "[redacted:" in kept["trace_content"]


def _plain(_messages: Messages) -> str:
    return "Gate 7 opens at 6 [1]."


def _at_every_door(serving: Serving, planted: Planted, alice: str, robot: str) -> None:
    own = {"Authorization": f"Bearer {alice}"}
    ids = []
    for question in (
        "When does gate 7 of the terminal open?",
        f"When does gate 7 open? My key is {planted.key('question')} and I am {planted.mail('question')}",
        f"When does gate 7 open, password: {planted.password('question')}",
        f"Who pays for gate 7 with card {planted.card('question')}?",
        "At which hour does gate 7 of the terminal open in the morning?",
        "Who knows about gate 7 of the terminal?",
        "Who can be asked about gate 7?",
    ):
        code, body = said(serving, "POST", "/v1/answers", own, {"question": question})
        assert code == 200, body
        ids.append(json.loads(body)["id"])
    chat = {"model": "mainstay", "messages": [{"role": "user", "content": f"gate 7 for {planted.mail('chat')}?"}]}
    history = [
        {"role": "user", "content": f"I am {planted.mail('history')}"},
        {"role": "assistant", "content": f"Noted: {planted.key('history')}"},
    ]
    assert said(serving, "POST", "/v1/chat/completions", own, chat)[0] == 200
    chat["messages"] = [*history, {"role": "user", "content": "When does gate 7 open?"}]
    assert said(serving, "POST", "/v1/chat/completions", own, chat)[0] == 200
    assert said(serving, "POST", "/v1/search", own, {"query": f"gate {planted.mail('search')}"})[0] == 200
    filters = [{"key": "owner", "any_of": [planted.mail("filter")]}]
    said(serving, "POST", "/v1/answers", own, {"question": "When does gate 7 open?", "filters": filters})
    # Headers.
    for headers in (
        {"Authorization": f"Bearer mst_{'a' * 26}_{'Zk4' * 14}q{len(planted.values) % 10}"},
        {"Authorization": f"Bearer {planted.key('authorization')}"},
        {"Authorization": f"Basic {planted.password('basic')}"},
        {**own, "traceparent": f"00-{planted.key('traceparent')}-1-01", "tracestate": f"a={planted.key('tracestate')}"},
        {**own, "User-Agent": f"bot {planted.mail('agent')} {planted.key('agent')}"},
        {**own, "X-Request-Id": planted.key("request id")},
        {"Authorization": f"Bearer {robot}", "X-Mainstay-User": f"user:{planted.mail('on behalf')}"},
        {**own, "Cookie": f"mainstay={planted.key('cookie')}", "Referer": f"http://x/?q={planted.key('referer')}"},
    ):
        said(serving, "POST", "/v1/answers", headers, {"question": "When does gate 7 open?"})
    said(serving, "GET", f"/v1/requests/{planted.key('path')}?asker={planted.mail('query')}", own)
    # What programs send.
    attributes = {
        "gen_ai.input.messages": f"the user {planted.mail('otlp text')} said {planted.key('otlp text')}",
        "gen_ai.tool.call.arguments": json.dumps({"api_key": planted.password("otlp arguments")}),
        "http.request.header.authorization": f"Bearer {planted.password('otlp header')}",
        "db.connection": f"postgresql://u:{planted.password('otlp url')}@db/x",
        "note": f"card {planted.card('otlp attribute')}",
        planted.mail("otlp attribute name"): "1",
    }
    span = {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7",
        "name": f"work for {planted.mail('otlp name')}",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000500000000",
        "status": {"code": 2, "message": f"refused {planted.key('otlp status')}"},
        "attributes": [{"key": name, "value": {"stringValue": value}} for name, value in attributes.items()],
        "events": [
            {
                "name": "exception",
                "timeUnixNano": "1790000000100000000",
                "attributes": [
                    {"key": "exception.message", "value": {"stringValue": f"no mailbox {planted.mail('otlp event')}"}}
                ],
            }
        ],
    }
    resource = {
        "attributes": [{"key": "service.name", "value": {"stringValue": f"of {planted.mail('otlp resource')}"}}]
    }
    batch = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    code, body = said(serving, "POST", "/v1/traces", {"Authorization": f"Bearer {robot}"}, batch)
    assert (code, body) == (200, b"{}")
    rubbish = f'{{"resourceSpans": "{planted.key("otlp rubbish")}"}}'.encode()
    assert said(serving, "POST", "/v1/traces", {"Authorization": f"Bearer {robot}"}, rubbish)[0] == 400
    # What people say afterwards.
    told = {
        "request_id": ids[0],
        "thumbs": "down",
        "comment": f"write to {planted.mail('feedback')}, {planted.key('feedback')}",
    }
    assert said(serving, "POST", "/v1/feedback", own, told)[0] == 201
    outcome = {
        "request_id": ids[0],
        "kind": "rejected",
        "comment": f"password={planted.password('outcome')}",
        "fields": {"who": planted.mail("outcome")},
    }
    code, body = said(serving, "POST", "/v1/outcomes", {"Authorization": f"Bearer {robot}"}, outcome)
    assert code in (200, 201), body


def _commands(folder: Path, planted: Planted) -> Iterator[str]:
    """What an operator writes down, by the command line."""
    for arguments in (
        (
            "mode",
            "set",
            "economy",
            "--as",
            "drill",
            "--note",
            f"told by {planted.mail('mode')} with {planted.key('mode')}",
        ),
        ("mode", "clear", "--as", "drill"),
        ("sync",),
    ):
        with Process.start(folder, *arguments) as process:
            process.popen.wait(timeout=120)
        yield from process.lines


def _sqlite(folder: Path) -> Iterator[tuple[str, str]]:
    """Every value of every table, whatever its type, the search tables' shadows too."""
    with sqlite3.connect(folder / "data" / "mainstay.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.text_factory = bytes
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            table = name.decode()
            rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
            yield table, b"\n".join(_bytes(value) for row in rows for value in row).decode("utf-8", "replace")
    connection.close()


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _tables(folder: Path) -> Iterator[tuple[str, str]]:
    """The same over PostgreSQL: every table of the schema, every column as text."""
    database = open_database(address_of(load(folder, {})))
    try:
        with database.read() as connection:
            for table in metadata.sorted_tables:
                columns = [
                    cast(column, SqlText) if not isinstance(column.type, LargeBinary) else column for column in table.c
                ]
                rows = connection.execute(select(*columns)).fetchall()
                held = b"\n".join(_bytes(bytes(v) if isinstance(v, memoryview) else v) for row in rows for v in row)
                yield table.name, held.decode("utf-8", "replace")
    finally:
        database.close()


def _files(folder: Path, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where bytes of a value lie in the data folder, free pages of the database among them."""
    for path in sorted((folder / "data").rglob("*")):
        if path.is_file():
            held = path.read_bytes()
            yield from ((where, path.name) for where, value in values.items() if value.encode() in held)
