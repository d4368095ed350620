"""What came of answers, through the doors; and what a scraper sees of it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mainstay.access.keys import Permission
from mainstay.cli import main
from mainstay.web.outcomes import OutcomeReportView, OutcomesView, OutcomeView
from tests.road.conftest import SETTINGS, Service, build

SECRET = "mst_" + "a1" * 13 + "_" + "Zz9x" * 11
QUESTION = "When is the service desk open?"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    built = build(tmp_path_factory.mktemp("outcomes"))
    with built.app:
        built.app.people.add_user("crm-owner")
        scopes = [str(Permission.OUTCOMES_WRITE)]
        built.keys["crm"] = built.app.keyring.create("service:crm", name="crm", scopes=scopes)[1]
        built.keys["watch"] = built.app.keyring.create("service:prometheus", name="p", scopes=["traces:read"])[1]
        yield built


def post(desk: Service, path: str, who: str | None, **body: Any) -> Any:
    return desk.client.post(path, json=body, headers=desk.headers(who))


def test_from_question_to_report(desk: Service) -> None:
    answer = desk.ask(QUESTION, "bram")
    told = post(
        desk,
        "/v1/outcomes",
        "crm",
        request_id=answer["id"],
        kind="solved",
        value=12.5,
        unit="minutes",
        source="helpdesk",
        comment=f"the key {SECRET} helped",
        fields={"ticket": "T-7", "stars": 4, "said": SECRET},
        key="T-7",
    )
    assert told.status_code == 201, told.text
    view = OutcomeView.model_validate(told.json())
    assert (view.kind, view.value, view.by) == ("solved", 12.5, "service:crm")
    assert SECRET not in told.text
    again = post(
        desk,
        "/v1/outcomes",
        "crm",
        request_id=answer["id"],
        kind="solved",
        value=12.5,
        unit="minutes",
        source="helpdesk",
        comment=f"the key {SECRET} helped",
        fields={"ticket": "T-7", "stars": 4, "said": SECRET},
        key="T-7",
    )
    assert again.json()["id"] == view.id
    other = post(desk, "/v1/outcomes", "crm", request_id=answer["id"], kind="rejected", key="T-7")
    assert other.status_code == 409
    report = desk.client.get("/v1/outcomes?by=mode", headers=desk.headers("watch"))
    row = next(row for row in OutcomeReportView.model_validate(report.json()).rows if row.reported)
    assert row.solved == row.decided == 1
    assert row.requests >= 1
    listed = desk.client.get(f"/v1/requests/{answer['id']}/outcomes", headers=desk.headers("watch"))
    assert [one.id for one in OutcomesView.model_validate(listed.json()).outcomes] == [view.id]
    found = desk.client.get("/v1/requests?outcome=solved", headers=desk.headers("watch")).json()
    assert answer["id"] in {one["id"] for one in found["requests"]}


def test_a_thumb_for_ones_own(desk: Service) -> None:
    answer = desk.ask(QUESTION, "bram")
    assert post(desk, "/v1/feedback", "bram", request_id=answer["id"], thumbs="down", comment="old").status_code == 201
    assert post(desk, "/v1/feedback", "bram", request_id=answer["id"], thumbs="up").status_code == 201
    others = post(desk, "/v1/feedback", "felix", request_id=answer["id"], thumbs="up")
    never = post(desk, "/v1/feedback", "felix", request_id="req_never", thumbs="up")
    assert others.status_code == never.status_code == 404
    assert others.json()["detail"].replace(answer["id"], "X") == never.json()["detail"].replace("req_never", "X")
    own = desk.client.get(f"/v1/requests/{answer['id']}/outcomes", headers=desk.headers("bram")).json()
    assert [one["value"] for one in own["outcomes"]] == [1.0, 0.0]
    theirs = desk.client.get(f"/v1/requests/{answer['id']}/outcomes", headers=desk.headers("felix"))
    assert theirs.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"request_id": "r", "kind": "liked"},
        {"request_id": "r", "kind": "solved", "value": "many"},
        {"request_id": "r", "kind": "solved", "at": "2026-01-01T00:00:00"},
        {"request_id": "r", "kind": "solved", "fields": {"a": [1]}},
        {"request_id": "r", "kind": "solved", "more": 1},
        {"request_id": "r\ud800", "kind": "solved"},
    ],
    ids=str,
)
def test_what_is_no_outcome(desk: Service, body: dict[str, Any]) -> None:
    said = desk.client.post(
        "/v1/outcomes",
        content=json.dumps(body),
        headers={**desk.headers("crm"), "Content-Type": "application/json"},
    )
    assert said.status_code == 400, said.text


def test_who_may(desk: Service) -> None:
    for who, code in ((None, 401), ("bram", 403), ("watch", 403)):
        assert post(desk, "/v1/outcomes", who, request_id="r", kind="solved").status_code in (code, 403)
    assert desk.client.get("/v1/outcomes", headers=desk.headers("crm")).status_code == 403
    assert desk.client.get("/metrics").status_code in (401, 403)
    assert desk.client.get("/metrics", headers=desk.headers("bram")).status_code == 403


def test_what_a_scraper_sees(desk: Service) -> None:
    answer = desk.ask(QUESTION, "bram")
    said = desk.client.get("/metrics", headers=desk.headers("watch"))
    assert said.status_code == 200
    assert said.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(said.text)}
    counted = sum(one.value for one in found["mainstay_requests"].samples if one.name.endswith("_total"))
    assert counted >= 1
    assert {one.labels["mode"] for one in found["mainstay_mode"].samples if one.value} == {"full"}
    assert next(one.value for one in found["mainstay_index"].samples if one.labels["what"] == "documents") > 0
    assert next(one.value for one in found["mainstay_figures_missing"].samples) == 0
    for secret in ("bram", answer["id"], "desk open", "opening-hours"):
        assert secret not in said.text


def test_open_to_scrapers_without_a_key(tmp_path: Path) -> None:
    built = build(tmp_path, SETTINGS + "metrics: {open: true}\n")
    with built.app:
        assert built.client.get("/metrics").status_code == 200


def test_on_the_command_line(desk: Service, capsys: pytest.CaptureFixture[str]) -> None:
    answer = desk.ask(QUESTION, "bram")

    def run(*args: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["-C", str(desk.folder), *args])
        return int(ended.value.code or 0), capsys.readouterr().out

    capsys.readouterr()
    code, out = run(
        *("outcome", "record", answer["id"], "--kind", "solved", "--value", "12", "--unit", "minutes"),
        *("--at", "2026-01-01", "--field", "ticket=T-1", "--key", "T-1", "--json"),
    )
    assert code == 0
    assert json.loads(out)["fields"] == {"ticket": "T-1"}
    assert run("outcome", "record", "req_no", "--kind", "solved")[0] == 1
    assert run("outcome", "record", answer["id"], "--kind", "solved", "--field", "ticket")[0] == 2
    for axis in ("release", "model", "prompt", "route", "mode"):
        code, out = run("outcome", "report", "--by", axis)
        assert code == 0
        assert "USD per solved" in out
    code, out = run("outcome", "report", "--json")
    assert {"requests", "reported", "rate", "cost_per_solved_usd"} <= set(json.loads(out)["rows"][0])
    code, out = run("export", "prometheus-rules")
    assert code == 0
    assert yaml.safe_load(out) == {"groups": []}
    code, out = run("export", "grafana")
    assert json.loads(out)["panels"]


def test_mistakes_are_told_in_words_for_people(desk: Service) -> None:
    def detail(**body: Any) -> str:
        told = post(desk, "/v1/outcomes", "crm", **{"request_id": "req_x", "kind": "solved", **body})
        assert told.status_code == 400, told.text
        return str(told.json()["detail"])

    assert detail(fields={"a": {"b": 1}}) == "fields.a: must be a text, a number, true or false"
    assert detail(fields={"a": [1]}) == "fields.a: must be a text, a number, true or false"
    assert detail(comment="x" * 2001) == "comment: 2001 characters, at most 2000 are taken"
    assert detail(request_id="") == "request_id: is empty"
