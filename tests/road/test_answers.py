"""Questions over HTTP: the contract's Answer, streams, permissions in force at the next question, traces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mainstay.web.views import AnswerView, RequestView, SearchView
from tests.road.conftest import Service

HOTEL = "How much may a hotel cost a night?"
SALARY = "What is the salary budget of the harbour in 2026?"
CANTEEN = "When does the canteen serve soup?"


def test_answer_is_the_contract(service: Service) -> None:
    answer = service.ask(HOTEL)
    assert set(answer) == set(AnswerView.model_fields)
    AnswerView.model_validate(answer, strict=True)
    assert answer["status"] == "answered"
    assert "140 euros" in answer["text"]
    assert answer["cost_usd"] == "0.000000"
    assert answer["cap_usd"] == "0.010000"
    assert answer["cache"] == {"hit": False}
    assert answer["id"].startswith("req_")


def test_quote_is_the_exact_slice(service: Service) -> None:
    for citation in service.ask(HOTEL)["citations"]:
        at = {"version": citation["version"], "start": citation["start"], "end": citation["end"]}
        text = service.client.get(f"/v1/documents/{citation['document']}/text", params=at).json()
        assert text["text"] == citation["quote"]
        whole = service.client.get(f"/v1/documents/{citation['document']}/text").json()
        assert whole["text"][citation["start"] : citation["end"]] == citation["quote"]


def test_stream_says_the_same(service: Service) -> None:
    events = streamed(service, HOTEL)
    names = [name for name, _ in events]
    assert names[-1] == "done"
    assert set(names) <= {"delta", "citation", "notice", "done"}
    done = events[-1][1]
    AnswerView.model_validate(done, strict=True)
    assert "".join(data["text"] for name, data in events if name == "delta") == done["text"]
    assert [data for name, data in events if name == "citation"] == done["citations"]


def test_stream_of_a_refusal_has_its_text(service: Service) -> None:
    events = streamed(service, "Which wombat repairs the submarine?")
    assert "".join(data["text"] for name, data in events if name == "delta") == events[-1][1]["text"] != ""


def test_stream_that_breaks_says_so_and_never_done(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = service.app.answering

    def broken(*given: Any, **named: Any) -> Any:
        yield next(original(*given, **named))
        raise RuntimeError("a secret of the inside")

    original = answering.stream
    monkeypatch.setattr(answering, "stream", broken)
    events = streamed(service, HOTEL)
    assert [name for name, _ in events][-1] == "error"
    assert "done" not in [name for name, _ in events]
    assert events[-1][1]["status"] == 500
    assert "secret" not in json.dumps(events[-1])


def test_search(service: Service) -> None:
    said = service.client.post("/v1/search", json={"query": "hotel night", "top_k": 2})
    view = SearchView.model_validate(said.json(), strict=True)
    assert view.passages[0].title == "Travel policy 2024"
    assert len(view.passages) <= 2


@pytest.mark.parametrize(
    "filters",
    [
        [{"key": "year", "any_of": [2024]}],
        [{"key": "date", "at_least": "2024-01-01", "at_most": "2024-12-31"}],
        ["year>=2024", "year<=2024"],
        {"year": 2024},
        {"year": [2023, 2024]},
        {"year": {"at_least": 2024}},
    ],
)
def test_filters(service: Service, filters: Any) -> None:
    found = service.client.post("/v1/search", json={"query": "hotel helmet canteen", "filters": filters}).json()
    assert {passage["title"] for passage in found["passages"]} == {"Travel policy 2024"}


def test_nobody_sees_more_than_their_own(service: Service) -> None:
    assert service.ask(SALARY)["citations"] == []
    assert service.ask(SALARY, "bram")["citations"] == []
    assert "5.2 million" in service.ask(SALARY, "alice")["text"]
    assert "soup" in service.ask(CANTEEN, "bram")["text"]
    assert service.ask(CANTEEN, "felix")["citations"] == []


def test_forbidden_documents_change_no_byte(fresh: Service) -> None:
    before = [fresh.found(query, "bram") for query in ("salary budget", "soup", "hotel", "year 2026")]
    listed = fresh.client.get("/v1/documents", headers=fresh.headers("bram")).text
    for n in range(5):
        (fresh.folder / f"documents/finance/plan-{n}.md").write_text(
            f"# Salary {n}\n\nsalary budget soup hotel 2026 {n}\n"
        )
    fresh.sync()
    assert [fresh.found(query, "bram") for query in ("salary budget", "soup", "hotel", "year 2026")] == before
    assert fresh.client.get("/v1/documents", headers=fresh.headers("bram")).text == listed


def test_changes_of_access_are_in_force_at_the_next_question(fresh: Service) -> None:
    assert "soup" in fresh.ask(CANTEEN, "bram")["text"]
    fresh.app.people.remove_member("staff", "user:bram")
    assert fresh.ask(CANTEEN, "bram")["citations"] == []
    fresh.app.people.add_member("staff", "user:bram")
    assert fresh.ask(CANTEEN, "bram")["citations"] != []
    (fresh.folder / "documents/staff/.access.yaml").write_text("access: {allow: [group:staff], deny: [user:bram]}")
    fresh.sync()
    assert fresh.ask(CANTEEN, "bram")["citations"] == []
    (fresh.folder / "documents/staff/canteen.md").rename(fresh.folder / "documents/public/canteen.md")
    fresh.sync()
    assert fresh.ask(CANTEEN)["citations"] != []
    (fresh.folder / "documents/public/canteen.md").unlink()
    fresh.sync()
    assert fresh.ask(CANTEEN, "alice")["citations"] == []


def test_a_disabled_user_and_a_revoked_key_are_out_at_once(fresh: Service) -> None:
    fresh.app.people.disable("user:bram")
    assert (
        fresh.client.post("/v1/answers", json={"question": CANTEEN}, headers=fresh.headers("bram")).status_code == 401
    )
    key = next(key for key in fresh.app.keyring.list("user:alice"))
    fresh.app.keyring.revoke(key.key_id)
    assert (
        fresh.client.post("/v1/answers", json={"question": CANTEEN}, headers=fresh.headers("alice")).status_code == 401
    )


def test_on_behalf_of(service: Service) -> None:
    named = {**service.headers("portal"), "X-Mainstay-User": "alice"}
    said = service.client.post("/v1/answers", json={"question": SALARY}, headers=named)
    assert "5.2 million" in said.json()["text"]
    assert service.ask(SALARY, "portal")["citations"] == []
    refused = service.client.post(
        "/v1/answers", json={"question": SALARY}, headers={**service.headers("bram"), "X-Mainstay-User": "alice"}
    )
    assert refused.status_code == 403
    alone = service.client.post("/v1/answers", json={"question": SALARY}, headers={"X-Mainstay-User": "alice"})
    assert alone.status_code == 401


def test_a_key_does_what_it_permits_and_no_more(service: Service) -> None:
    assert (
        service.client.post("/v1/search", json={"query": "soup"}, headers=service.headers("searcher")).status_code
        == 200
    )
    refused = service.client.post("/v1/answers", json={"question": "soup?"}, headers=service.headers("searcher"))
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert (
        service.client.put("/v1/documents/x", json={"content": "y"}, headers=service.headers("alice")).status_code
        == 403
    )
    assert service.client.put("/v1/documents/x", json={"content": "y"}).status_code == 403


def test_wrong_credentials_are_not_taken_for_none(service: Service) -> None:
    for header in ("Bearer mst_wrong", "Bearer", "Basic YTpi", "Bearer a b", "Bearer \x7f"):
        said = service.client.post("/v1/answers", json={"question": HOTEL}, headers={"Authorization": header})
        assert said.status_code == 401
        assert said.headers["www-authenticate"].startswith("Bearer")


def test_request_ids(service: Service) -> None:
    headers = {"X-Request-Id": "my-own.id_1"}
    first = service.client.post(
        "/v1/answers", json={"question": HOTEL}, headers={**headers, **service.headers("alice")}
    )
    assert first.headers["x-request-id"] == first.json()["id"] == "my-own.id_1"
    second = service.client.post(
        "/v1/answers", json={"question": HOTEL}, headers={**headers, **service.headers("bram")}
    )
    assert second.headers["x-request-id"] == second.json()["id"] != "my-own.id_1"
    held = service.client.get("/v1/requests/my-own.id_1", headers=service.headers("alice"))
    assert held.json()["asker"] == "user:alice"
    for bad in ("", "a b", "x" * 65, "a\tb"):
        said = service.client.get("/livez", headers={"X-Request-Id": bad})
        assert said.headers["x-request-id"].startswith("req_")


def test_traceparent(service: Service) -> None:
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    back = service.client.get("/livez", headers={"traceparent": sent}).headers["traceparent"]
    assert back[:36] == sent[:36]
    assert back[36:52] != sent[36:52]
    assert back.endswith("-01")
    for bad in ("rubbish", "ff-" + sent[3:], sent.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32)):
        made = service.client.get("/livez", headers={"traceparent": bad}).headers["traceparent"]
        assert len(made) == 55
        assert made[3:35] != bad[3:35]


def test_traces_are_ones_own(service: Service) -> None:
    mine = service.ask(SALARY, "alice")["id"]
    own = service.client.get(f"/v1/requests/{mine}", headers=service.headers("alice"))
    RequestView.model_validate(own.json())
    assert "operator" not in own.json()
    assert SALARY not in own.text
    for other in ("bram", "crawler"):
        missing = service.client.get(f"/v1/requests/{mine}", headers=service.headers(other))
        assert missing.status_code == 404
        nothing = service.client.get("/v1/requests/req_nothing", headers=service.headers(other))
        assert missing.json()["detail"].replace(mine, "") == nothing.json()["detail"].replace("req_nothing", "")
    assert "operator" in service.client.get(f"/v1/requests/{mine}", headers=service.headers("hugo")).json()
    assert service.client.get(f"/v1/requests/{mine}").status_code == 401


def test_list_of_requests_pages(service: Service) -> None:
    operators = service.ask(CANTEEN, "hugo")["id"]
    ids = [service.ask(CANTEEN, "felix")["id"] for _ in range(3)]
    first = service.client.get("/v1/requests?limit=2", headers=service.headers("felix")).json()
    assert [one["id"] for one in first["requests"]] == ids[:0:-1]
    rest = service.client.get("/v1/requests", params={"before": first["next"]}, headers=service.headers("felix")).json()
    assert rest["requests"][0]["id"] == ids[0]
    assert all(one["asker"] == "user:felix" for one in rest["requests"])
    everybody = service.client.get("/v1/requests", headers=service.headers("hugo")).json()["requests"]
    assert [one["id"] for one in everybody[:4]] == [*ids[::-1], operators]


def test_follow_up_uses_the_conversation(service: Service) -> None:
    history = [{"role": "user", "content": HOTEL}, {"role": "assistant", "content": "140 euros."}]
    assert "travel desk" in service.ask("And flights?", history=history)["text"]


def streamed(service: Service, question: str, who: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    said = service.client.post("/v1/answers", json={"question": question, "stream": True}, headers=service.headers(who))
    assert said.status_code == 200
    assert said.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in said.text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events
