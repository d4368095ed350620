"""What became of a request, through HTTP and the command line: steps, filters, texts and their rights, holds, imported traces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from mainstay.access.keys import READER
from mainstay.app import App
from mainstay.cli import cli
from mainstay.errors import Invalid
from mainstay.records.spans import ImportedSpan, is_span_id, is_trace_id
from mainstay.types import Actor, Question
from mainstay.web.server import create_api
from tests.road.conftest import Service
from tests.support.services import open_service, people, sync

SETTINGS = """\
name: Drill
sources:
  - {name: docs, folder: documents}
records: {content: all, classes: [internal]}
"""
FACT = "---\naccess: [group:staff]\n%s---\n# Gates\n\nGate seven of the terminal opens at six o'clock.\n"
QUESTION = "When does gate seven of the terminal open?"
SECRET = "sk-proj-Zk3Pq8Wv5Rt2Yx7Bn4Mc"


def get(service: Service, path: str, who: str, **params: Any) -> Any:
    said = service.client.get(path, params=params, headers=service.headers(who))
    assert said.status_code == 200, said.text
    return said.json()


def test_the_steps_of_a_request(service: Service) -> None:
    asked = service.ask("What may a hotel cost?", "alice")["id"]
    shown = get(service, f"/v1/requests/{asked}", "alice")
    assert is_trace_id(shown["trace_id"])
    assert (shown["mode"], shown["door"], shown["model"], shown["failed"]) == ("full", "answers", "extractive", False)
    assert shown["release"]
    assert (shown["root"]["kind"], shown["root"]["parent_id"]) == ("request", "")
    assert shown["span_count"] == len(shown["spans"])
    assert all(is_span_id(one["span_id"]) and one["parent_id"] == shown["root"]["span_id"] for one in shown["spans"])
    [found] = [one["attributes"] for one in shown["spans"] if one["kind"] == "retrieve"]
    count = len(found["passages"])
    assert count == len(found["documents"]) == len(found["versions"]) == len(found["reasons"]) > 0
    assert set(found["reasons"]) <= {"words", "meaning", "both"}
    step = shown["spans"][1]
    assert get(service, f"/v1/requests/{asked}/spans/{step['span_id']}", "alice")["attributes"] == step["attributes"]
    bare = get(service, f"/v1/requests/{asked}", "alice", attributes=False)
    assert [one["span_id"] for one in bare["spans"]] == [one["span_id"] for one in shown["spans"]]
    assert not any(one["attributes"] for one in bare["spans"])
    assert get(service, f"/v1/requests/{shown['trace_id']}", "alice")["id"] == asked


def test_what_is_not_ones_own_is_not_there(service: Service) -> None:
    asked = get(service, f"/v1/requests/{service.ask('Where is the canteen?', 'alice')['id']}", "alice")
    span = asked["spans"][0]["span_id"]

    def told(path: str, who: str) -> tuple[int, str]:
        said = service.client.get(path, headers=service.headers(who))
        return said.status_code, re.sub(r"req_\w+|[0-9a-f]{16,32}", "ID", said.json()["detail"])

    for other in ("bram", "felix"):
        for path in (f"{asked['id']}/spans/{span}", asked["trace_id"], f"{asked['id']}?content=true"):
            missing = re.sub(r"req_\w+", "req_nothing", path).replace(asked["trace_id"], "a" * 32)
            assert told(f"/v1/requests/{path}", other) == told(f"/v1/requests/{missing}", other)
            assert told(f"/v1/requests/{path}", other)[0] == 404
        listed = get(service, "/v1/requests", other, asker="user:alice")
        assert listed == {"requests": [], "next": None}
        mine = get(service, "/v1/requests", other, trace_id=asked["trace_id"])
        assert mine["requests"] == []
    assert get(service, "/v1/requests", "hugo", trace_id=asked["trace_id"])["requests"][0]["id"] == asked["id"]
    assert get(service, f"/v1/requests/{asked['id']}/spans/{span}", "hugo")["span_id"] == span


def test_filters(service: Service) -> None:
    ids = [service.ask(f"May a hotel cost {n} euros?", "alice")["id"] for n in range(3)]
    for params in ({"door": "answers"}, {"mode": "full"}, {"failed": False}, {"kind": "answer"}, {"min_ms": 0.0001}):
        found = [one["id"] for one in get(service, "/v1/requests", "alice", limit=500, **params)["requests"]]
        assert set(ids) <= set(found), params
    for params in ({"door": "chat"}, {"mode": "static"}, {"failed": True}, {"min_cost_usd": "1"}, {"min_ms": 1e9}):
        assert get(service, "/v1/requests", "alice", **params)["requests"] == [], params
    page = get(service, "/v1/requests", "alice", limit=1)
    assert page["requests"][0]["id"] == ids[-1]
    assert get(service, "/v1/requests", "alice", limit=1, cursor=page["next"])["requests"][0]["id"] == ids[-2]
    for odd in ({"cursor": "x"}, {"since": "soon"}, {"min_cost_usd": "much"}, {"min_ms": "-1"}, {"limit": 0}):
        assert service.client.get("/v1/requests", params=odd, headers=service.headers("alice")).status_code in (
            400,
            422,
        )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "status",
            "anwsered",
            "status: 'anwsered' is not known here; did you mean 'answered'? valid here: answered, partial",
        ),
        ("kind", "answers", "did you mean 'answer'? valid here: answer, ingest, imported"),
        ("mode", "bogus", "mode: 'bogus' is not known here; valid here: full, economy"),
        ("door", "chats", "did you mean 'chat'?"),
        ("outcome", "solve", "did you mean 'solved'?"),
        ("trace_id", "zz", "trace_id: 'zz' is no trace id"),
        ("min_cost_usd", "abc", "min_cost_usd is 'abc', not an amount"),
        ("min_cost_usd", "NaN", "min_cost_usd is 'NaN', not an amount"),
    ],
)
def test_a_filter_that_nothing_can_fit_is_refused(
    service: Service, tmp_path: Path, name: str, value: str, said: str
) -> None:
    told = service.client.get("/v1/requests", params={name: value}, headers=service.headers("alice"))
    assert (told.status_code, said in told.json()["detail"]) == (400, True), told.text
    option = {"min_cost_usd": "--min-cost"}.get(name, "--" + name.replace("_", "-"))
    typed = run(tmp_path, "trace", "search", option, value)  # before any service is looked for
    assert isinstance(typed.exception, Invalid)
    assert said.replace(name, option) in typed.exception.line()


def test_an_imported_trace(service: Service) -> None:
    trace_id = "5bf92f3577b34da6a3ce929d0e0e4736"
    root, part = "00f067aa0ba902b7", "00f067aa0ba902b8"
    at = 1_760_000_000_000_000
    agent = ImportedSpan(
        trace_id=trace_id,
        span_id=root,
        name="agent",
        start_us=at,
        duration_ms=5.0,
        attributes={"key": SECRET},
        principal="service:crawler",
    )
    chat = replace(agent, span_id=part, parent_id=root, name="chat", kind="generate", model="big", attributes={})
    service.app.traces.ingest([agent, chat])
    shown = get(service, f"/v1/requests/{trace_id}", "hugo")
    assert (shown["id"], shown["kind"], shown["door"], shown["root"]) == (f"trace_{trace_id}", "imported", "otlp", None)
    assert [(one["name"], one["parent_id"]) for one in shown["spans"]] == [("agent", ""), ("chat", root)]
    assert SECRET not in json.dumps(shown)
    assert service.client.get(f"/v1/requests/{trace_id}", headers=service.headers("alice")).status_code == 404


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[App]:
    """A service that keeps questions and answers, with documents of three classes."""
    documents = {
        "gates.md": FACT % "data_class: internal\n",
        "vault/vault.md": "---\naccess: [group:vault]\ndata_class: secret\n---\n# Vault\n\nThe vault code of the mole is 4711.\n",
    }
    with open_service(tmp_path, documents, settings=SETTINGS) as app:
        people(
            app, {"alice": ("staff",), "bram": ("staff",), "olga": (), "carl": ("staff",), "vera": ("staff", "vault")}
        )
        sync(app)
        yield app


def asked(app: App, text: str, who: str = "alice") -> str:
    return app.answering.answer(Question(text=text), Actor(principal=f"user:{who}")).id


def test_texts_are_redacted_and_of_permitted_classes_alone(recording: App, tmp_path: Path) -> None:
    fine = recording.traces.content(asked(recording, f"{QUESTION} My key is {SECRET}."))
    assert fine is not None
    assert "[redacted:key]" in fine["question"]
    recording.close()
    for file in (tmp_path / "data").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_an_answer_of_another_class_is_not_kept(recording: App) -> None:
    held = recording.traces.content(asked(recording, "What is the vault code of the mole?", "vera"))
    assert held is not None
    assert list(held) == ["question"]


def test_texts_are_for_whoever_may_read_what_they_quote(recording: App) -> None:
    client = TestClient(create_api(recording))
    keys = {who: recording.keyring.create(f"user:{who}", name="k")[1] for who in ("alice", "bram")}
    scopes = [*map(str, READER), "traces:read"]
    keys |= {who: recording.keyring.create(f"user:{who}", name="o", scopes=scopes)[1] for who in ("olga", "carl")}
    held = asked(recording, QUESTION)

    def read(who: str) -> Any:
        said = client.get(f"/v1/requests/{held}?content=true", headers={"Authorization": f"Bearer {keys[who]}"})
        return said.json() if said.status_code == 200 else said.status_code

    assert read("alice")["content"]["question"] == QUESTION
    assert "six o'clock" in read("alice")["content"]["answer"]
    assert read("bram") == 404
    assert read("carl")["content"]["question"] == QUESTION, "a reader of traces who may read the documents too"
    operator = read("olga")
    assert (operator["id"], operator["content"]) == (held, None)
    assert "reach" in operator["content_why"]
    recording.people.remove_member("group:staff", "user:alice")
    assert read("alice")["content"] is None, "rights count as they are now"


# -- the command line --------------------------------------------------------------------------------------------------


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--folder", str(folder), *arguments])


def test_the_waterfall_in_the_terminal(recording: App, tmp_path: Path) -> None:
    held = asked(recording, QUESTION)
    recording.close()
    said = run(tmp_path, "trace", "show", held)
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output, "colours are for terminals"
    lines = said.output.splitlines()
    assert lines[0].startswith(held)
    assert next(line for line in lines if "│" in line).split()[0] == "request"
    assert any(line.lstrip().startswith("├ admit") for line in lines)
    assert any(line.lstrip().startswith("└ ") for line in lines)
    assert "versions:" in said.output
    brief = run(tmp_path, "trace", "show", held, "--brief").output
    assert "versions:" not in brief
    assert "├ admit" in brief
    told = json.loads(run(tmp_path, "trace", "show", held, "--json").output)
    assert told["root"]["kind"] == "request"
    assert run(tmp_path, "trace", "show", "req_nothing").exit_code != 0


def test_searching_from_the_terminal(recording: App, tmp_path: Path) -> None:
    ids = [asked(recording, f"{QUESTION} {n}") for n in range(3)]
    recording.close()
    found = run(tmp_path, "trace", "search", "--status", "answered", "--kind", "answer", "--limit", "2", "--json")
    assert found.exit_code == 0, found.output
    cursor = re.search(r"--after '([^']+)'", found.stderr)
    assert cursor is not None
    assert [one["id"] for one in json.loads(found.stdout)] == ids[:0:-1]
    rest = run(tmp_path, "trace", "search", "--kind", "answer", "--after", cursor[1])
    assert ids[0] in rest.stdout
    assert run(tmp_path, "trace", "search", "--as", "bram", "--asker", "user:alice").exit_code != 0
    assert ids[0] not in run(tmp_path, "trace", "search", "--as", "bram").stdout
    ingest = json.loads(run(tmp_path, "trace", "search", "--kind", "ingest", "--json").stdout)
    assert all(one["asker"] == "service" for one in ingest)


def test_holds_and_what_is_due(recording: App, tmp_path: Path) -> None:
    held = asked(recording, QUESTION)
    recording.close()
    assert run(tmp_path, "trace", "hold", held).exit_code == 2, "it takes a reason"
    assert run(tmp_path, "trace", "hold", "req_nothing", "--why", "case 7").exit_code != 0
    assert run(tmp_path, "trace", "hold", held, "--why", "case 7").exit_code == 0
    assert "held: case 7" in run(tmp_path, "trace", "show", held).output
    assert "held" not in run(tmp_path, "trace", "show", held, "--as", "alice").output
    said = json.loads(run(tmp_path, "trace", "prune", "--dry-run", "--json").output)
    assert said == {"traces": 0, "dropped": 0, "spans": 0, "contents": 0, "held": 0}
    assert run(tmp_path, "trace", "prune").exit_code == 0
    assert run(tmp_path, "trace", "release", held, "--why", "closed").exit_code == 0
    assert "held:" not in run(tmp_path, "trace", "show", held).output
