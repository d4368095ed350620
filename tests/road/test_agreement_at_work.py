"""The agreement in force, over HTTP and real models: routing, money, cache, data classes, topics, modes, traffic, persons."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from mainstay.app import App
from mainstay.text.phrases import phrase
from mainstay.types import Mode
from mainstay.web.server import create_api
from tests.support import upstream as up
from tests.support.services import open_service, people, sync

DOCUMENTS = {
    ".access.yaml": "allow: [group:staff]",
    "gate.md": "# Gate\n\nThe gate in Rotterdam opens at seven. The gate in Rotterdam closes at nine.\n",
    "plan.md": "---\ndata_class: confidential\naccess: [group:staff]\n---\n# Merger plan\n\n"
    "The merger with Vinterhavn costs 24 million euros.\n",
    "board/.access.yaml": "allow: [group:board]",
    "board/gate.md": "# Gate for the board\n\nThe private gate in Rotterdam opens at five for the board.\n",
}
GATE = "When does the gate in Rotterdam open?"
MERGER = "What does the merger with Vinterhavn cost?"


class Service:
    """A service with a small and a large model, asked over HTTP."""

    def __init__(self, app: App, client: TestClient) -> None:
        self.app, self.client = app, client
        app.people.add_user("root", admin=True)
        self.keys = {name: app.keyring.create(f"user:{name}", name="test")[1] for name in ("alice", "bram", "cleo")}
        scopes = ["admin", "ask", "search", "traces:read"]
        self.keys["root"] = app.keyring.create("user:root", name="root", scopes=scopes)[1]

    def post(self, path: str, body: dict[str, Any], who: str = "alice") -> httpx2.Response:
        said: httpx2.Response = self.client.post(path, json=body, headers=self.as_(who))
        return said

    def get(self, path: str, who: str = "root") -> Any:
        said = self.client.get(path, headers=self.as_(who))
        assert said.status_code == 200, said.text
        return said.json()

    def as_(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"}

    def ask(self, question: str = GATE, who: str = "alice", **more: Any) -> dict[str, Any]:
        said = self.post("/v1/answers", {"question": question, **more}, who)
        assert said.status_code == 200, said.text
        answer: dict[str, Any] = said.json()
        return answer


@contextmanager
def service(
    folder: Path,
    agreement: str = "",
    *,
    small: up.Behaviour | None = None,
    large: up.Behaviour | None = None,
) -> Iterator[tuple[Service, up.Upstream, up.Upstream]]:
    cites = up.answering(up.cites)
    with up.Upstream(always=small or cites) as one, up.Upstream(always=large or cites) as two:
        settings = f"""\
sources: [{{name: docs, folder: documents}}]
models:
  answer: [small, large]
  providers:
    small: {{base_url: "{one.base_url}", model: s, price: {{input: "0.1", output: "0.4"}}}}
    large: {{base_url: "{two.base_url}", model: l, price: {{input: "0.5", output: "2"}}}}
"""
        folder.mkdir(exist_ok=True)
        if "cache:" not in agreement:
            agreement += "cache: {audit: 0}\n"  # which hits are audited is drawn; here calls are counted
        (folder / "agreement.yaml").write_text(agreement, encoding="utf-8")
        with open_service(folder, DOCUMENTS, settings=settings) as app:
            people(app, {"alice": ("staff",), "bram": ("staff",), "cleo": ("board",)})
            sync(app)
            yield Service(app, TestClient(create_api(app))), one, two


# -- routing ---------------------------------------------------------------------------------------------------------


def test_the_cheapest_capable_model_answers_and_every_step_is_written(tmp_path: Path) -> None:
    with service(tmp_path) as (held, small, large):
        answer = held.ask()
        assert answer["status"] == "answered"
        assert answer["model"] == "small"
        assert answer["route"] == ["cache:miss", "small:answered"]
        assert 0 < answer["confidence"] <= 1
        assert float(answer["cost_usd"]) > 0
        assert (len(small.calls), len(large.calls)) == (1, 0)
        spans = held.get(f"/v1/requests/{answer['id']}")["spans"]
        assert [span["kind"] for span in spans][:4] == ["admit", "retrieve", "cache", "route"]
        assert held.app.ledger.check() == []


def test_a_poor_draft_is_escalated_and_paid_for_twice(tmp_path: Path) -> None:
    with service(tmp_path, small=up.answering(up.saying("I do not know anything about it."))) as (held, _, _):
        answer = held.ask()
        assert answer["route"] == ["cache:miss", "small:escalated", "large:answered"]
        assert answer["status"] == "answered"
        assert answer["model"] == "large"
        costs = {row["name"]: row for row in held.get("/v1/costs?by=model")["rows"]}
        assert set(costs) == {"small", "large"}
        total = sum(row["calls"] for row in costs.values())
        assert total == 2
        assert answer["usage"]["output_tokens"] > 0
        assert held.app.ledger.check() == []


def test_confidential_passages_go_only_to_the_models_the_agreement_names(tmp_path: Path) -> None:
    rules = "governance: {data_classes: [{name: confidential, models: [large]}]}\n"
    with service(tmp_path, rules) as (held, small, large):
        answer = held.ask(MERGER)
        assert "24" in answer["text"]
        assert answer["model"] == "large"
        assert "small:left_out" in answer["route"]
        assert small.calls == []
        assert len(large.calls) == 1


def test_an_unknown_data_class_goes_to_no_model_at_all(tmp_path: Path) -> None:
    rules = "governance: {data_classes: [{name: internal, models: [small, large]}]}\n"
    with service(tmp_path, rules) as (held, small, large):
        answer = held.ask(MERGER)
        assert "24" in answer["text"]
        assert answer["model"] == "extractive"
        assert answer["mode"] == "economy"
        assert "No language model may be asked" in answer["notice"]
        assert small.calls == large.calls == []


def test_a_refusal_of_a_content_filter_is_not_routed_around_unless_agreed(tmp_path: Path) -> None:
    refusing = up.status(400, code="content_filter", message="no")
    with service(tmp_path / "a", small=refusing) as (held, _, large):
        answer = held.ask()
        assert answer["status"] == "refused"
        assert answer["route"][-1] == "small:content_filter"
        assert large.calls == []
    around = "governance: {route_around_content_filter: true}\n"
    with service(tmp_path / "b", around, small=refusing) as (held, _, large):
        assert held.ask()["model"] == "large"


# -- a draft in doubt ------------------------------------------------------------------------------------------------

DOUBT = "routing: {accept: 0.9}\ncache: {enabled: false}\n"
UNSURE = "When does the gate in Rotterdam open on Mondays for visitors from Norway?"  # of which the sources say a part
AGREES = "In Rotterdam the gate opens at seven [1]."
DIFFERS = "The gate in Rotterdam closes at nine [1]."


def twice(second: up.Behaviour) -> up.Behaviour:
    """A model that answers well when asked coldly, and like this when asked once more, warmer."""

    def behave(call: up.Call) -> None:
        (second if call.seen.body.get("temperature", 0) > 0 else up.answering(up.cites))(call)

    return behave


def by_purpose(held: Service) -> dict[str, Any]:
    return {row["name"]: row for row in held.get("/v1/costs?by=purpose")["rows"]}


def spans(held: Service, answer: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    told = held.get(f"/v1/requests/{answer['id']}")["spans"]
    return [span["attributes"] for span in told if span["kind"] == kind]


def settled(held: Service) -> bool:
    return held.app.ledger.check() == [] and held.app.ledger.standing().open_n == 0


def test_a_draft_that_its_model_repeats_is_accepted_without_the_dear_one(tmp_path: Path) -> None:
    with service(tmp_path, DOUBT, small=twice(up.answering(up.saying(AGREES)))) as (held, small, large):
        answer = held.ask(UNSURE)
        assert answer["route"] == ["cache:off", "small:consistent", "small:answered"]
        assert (len(small.calls), len(large.calls)) == (2, 0)
        assert [call.body["temperature"] > 0 for call in small.calls] == [False, True]
        assert small.calls[1].messages == small.calls[0].messages
        assert "The gate in Rotterdam opens at seven" in answer["text"], "the first draft is shown, not the second"
        [span] = spans(held, answer, "consistency")
        assert 0.85 <= span["agreement"] <= 1
        costs = by_purpose(held)
        assert {name: row["calls"] for name, row in costs.items()} == {"answer": 1, "consistency": 1}
        assert costs["consistency"]["cost_nanodollars"] > 0
        facts = held.get(f"/v1/requests/{answer['id']}")["facts"]
        assert facts["cost_nanodollars"] == sum(row["cost_nanodollars"] for row in costs.values())
        assert answer["usage"]["output_tokens"] == sum(row["output_tokens"] for row in costs.values())
        assert settled(held)
        held.post("/v1/mode", {"mode": "economy"}, "root")
        limited = held.ask(UNSURE)
        assert len(small.calls) == 3, "in a limited mode nothing is asked twice"
        assert spans(held, limited, "consistency") == []


def test_a_draft_that_its_model_contradicts_goes_to_the_dear_one(tmp_path: Path) -> None:
    with service(tmp_path, DOUBT, small=twice(up.answering(up.saying(DIFFERS)))) as (held, small, large):
        answer = held.ask(UNSURE)
        assert answer["route"][:3] == ["cache:off", "small:inconsistent", "small:escalated"]
        assert (len(small.calls), len(large.calls)) == (2, 1)
        [span] = spans(held, answer, "consistency")
        assert span["agreement"] <= 0.3
        assert "nine" not in answer["text"], "the second draft is never shown"
        costs = by_purpose(held)
        assert {name: row["calls"] for name, row in costs.items()} == {"answer": 2, "consistency": 1}
        facts = held.get(f"/v1/requests/{answer['id']}")["facts"]
        assert facts["cost_nanodollars"] == sum(row["cost_nanodollars"] for row in costs.values())
        assert settled(held)


@pytest.mark.parametrize(
    ("second", "failed"),
    [
        (up.status(500, message="broken"), "server"),
        (up.status(429, message="slow down", retry_after="60"), "rate"),
        (up.status(400, code="content_filter", message="no"), "content_filter"),
        (up.cut("In Rotterdam the gate"), "cut"),
    ],
)
def test_a_second_draft_that_fails_harms_nothing(tmp_path: Path, second: up.Behaviour, failed: str) -> None:
    with service(tmp_path, DOUBT, small=twice(second)) as (held, _, large):
        answer = held.ask(UNSURE)
        assert answer["status"] == "answered"
        assert answer["route"][:2] == ["cache:off", "small:escalated"], "as if nobody had thought of a second"
        assert len(large.calls) == 1
        [span] = spans(held, answer, "consistency")
        assert span["failed"] == failed
        assert settled(held), "what was held for it is free again, or paid once"


@pytest.mark.parametrize("rule", ["consistency: false", "escalations: 0"])  # forbidden; let out while it is written
def test_no_second_draft_where_it_is_forbidden_or_the_first_is_shown_already(tmp_path: Path, rule: str) -> None:
    rules = DOUBT.replace("{accept", f"{{{rule}, accept")
    with service(tmp_path, rules, small=twice(up.answering(up.saying(AGREES)))) as (held, small, _):
        answer = held.ask(UNSURE)
        assert len(small.calls) == 1
        assert spans(held, answer, "consistency") == []
        assert set(by_purpose(held)) == {"answer"}


def test_a_budget_that_is_nearly_spent_goes_to_the_answer(tmp_path: Path) -> None:
    rules = DOUBT + 'budgets: [{of: user, per: day, usd: "0.003"}]\nrequest: {cap_usd: "0.003"}\n'
    with service(tmp_path, rules, small=twice(up.answering(up.saying(AGREES)))) as (held, _, _):
        seen = set()
        for _ in range(40):
            answer = held.ask(UNSURE)
            if answer["mode"] != "full":
                break
            seen |= {span["skipped"] for span in spans(held, answer, "consistency") if "skipped" in span}
        assert seen, "before the budget is spent there is a time when it pays for one of both"
        assert all("budget" in why or "money" in why for why in seen)
        assert sum(row["cost_nanodollars"] for row in held.get("/v1/costs?by=user")["rows"]) <= 3_000_000
        assert settled(held)


# -- money -----------------------------------------------------------------------------------------------------------


def test_a_user_budget_is_never_overspent_and_the_rest_of_the_day_is_sources(tmp_path: Path) -> None:
    rules = 'request: {cap_usd: "0.0005"}\nbudgets: [{of: user, per: day, usd: "0.001"}]\ncache: {enabled: false}\n'
    rules += "traffic: {user_per_minute: 0}\n"
    with service(tmp_path, rules) as (held, _, _):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: held.ask(f"{GATE} ({n})"), range(60)))
        modes = {answer["mode"] for answer in answers}
        assert modes == {"full", "sources_only"}, [answer["route"] for answer in answers if answer["mode"] == "economy"]
        limited = next(answer for answer in answers if answer["mode"] == "sources_only")
        assert limited["sources"]
        assert limited["text"] == ""
        assert "budget" in limited["notice"]
        spent = sum(row["cost_nanodollars"] for row in held.get("/v1/costs?by=user")["rows"])
        assert 0 < spent <= 1_000_000
        assert held.ask(who="bram")["mode"] == "full", "the budget is each user's own"
        assert held.app.ledger.check() == []


def test_a_spent_service_budget_moves_the_ladder(tmp_path: Path) -> None:
    rules = (
        'request: {cap_usd: "0.0002"}\nbudgets: [{of: service, per: day, usd: "0.0002", enter_mode: sources_only}]\n'
        "cache: {enabled: false}\nmodes: {hold_down: 1s}\n"
    )
    with service(tmp_path, rules) as (held, small, _):
        for n in range(40):
            if held.ask(f"{GATE} ({n})")["mode"] != "full":
                break
        else:
            pytest.fail("the budget was never spent")
        called = len(small.calls)
        assert held.app.ladder.current().mode is Mode.SOURCES_ONLY
        assert held.ask(who="bram")["mode"] == "sources_only"
        assert len(small.calls) == called


# -- cache -----------------------------------------------------------------------------------------------------------


def test_the_same_question_costs_nothing_again(tmp_path: Path) -> None:
    with service(tmp_path) as (held, small, _):
        first, again = held.ask(), held.ask("when does the gate in rotterdam open")
        assert (first["cache"]["hit"], again["cache"]["hit"]) == (False, True)
        assert again["route"] == ["cache:hit"]
        assert again["text"] == first["text"]
        assert again["citations"] == first["citations"]
        assert again["cost_usd"] == "0.000000"
        assert len(small.calls) == 1
        assert held.ask(cache=False)["cache"]["hit"] is False
        streamed = held.post("/v1/answers", {"question": GATE, "stream": True}).text
        assert "event: citation" in streamed
        assert '"hit":true' in streamed


def test_a_hit_never_crosses_a_permission_line_and_ends_with_a_revoke_or_an_edit(tmp_path: Path) -> None:
    with service(tmp_path) as (held, _, _):
        secret = held.ask("When does the private gate in Rotterdam open for the board?", "cleo")
        assert "five" in secret["text"]
        other = held.ask("When does the private gate in Rotterdam open for the board?", "alice")
        assert other["cache"]["hit"] is False
        assert "five" not in json.dumps(other)
        assert held.ask(GATE, "alice")["cache"]["hit"] is False
        assert held.ask(GATE, "bram")["cache"]["hit"] is True, "shared by those who may read the same"
        held.app.people.remove_member("group:staff", "user:bram")
        revoked = held.ask(GATE, "bram")
        assert revoked["cache"]["hit"] is False
        assert "seven" not in revoked["text"]
        (tmp_path / "documents" / "gate.md").write_text("# Gate\n\nThe gate in Rotterdam opens at eight.\n")
        sync(held.app)
        edited = held.ask(GATE, "alice")
        assert edited["cache"]["hit"] is False
        assert "eight" in edited["text"]


def test_identical_questions_in_the_air_are_asked_once(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(call: up.Call) -> None:
        gate.wait(10)
        up.answering(up.cites)(call)

    with service(tmp_path, small=slow) as (held, small, _), ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(held.ask) for _ in range(6)]
        until = time.monotonic() + 10
        while not small.calls and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        gate.set()
        answers = [one.result() for one in asked]
        assert len({answer["text"] for answer in answers}) == 1
        assert len(small.calls) == 1
        assert sum(answer["cache"]["hit"] for answer in answers) == 5


# -- governance ------------------------------------------------------------------------------------------------------


def test_topics_and_languages_the_agreement_does_not_permit(tmp_path: Path) -> None:
    rules = (
        "governance: {languages: [en], prohibited_topics: [{name: dismissals, words: [dismissal, fire somebody]}]}\n"
    )
    with service(tmp_path, rules) as (held, small, _):
        refused = held.ask("How do I fire  somebody at the gate in Rotterdam?")
        assert refused["status"] == "refused"
        assert "dismissals" in refused["text"]
        german = held.ask("Wann öffnet das Tor in Rotterdam morgens für die Besucher?")
        assert german["status"] == "refused"
        assert "en" in german["text"]
        assert small.calls == []
        assert held.ask()["status"] == "answered"


def test_a_risky_question_goes_to_a_person(tmp_path: Path) -> None:
    rules = (
        "governance: {person_for: [{name: legal, words: [liable, lawsuit]}]}\n"
        "handover: {webhook: 'http://127.0.0.1:9/hook'}\n"
    )
    settings_secret = "handover: {secret: whsec_bm90LWEtc2VjcmV0LWF0LWFsbC1qdXN0LWEtdGVzdA==}\n"
    with service_with(tmp_path, rules, settings_secret) as (held, small, _):
        answer = held.ask("Who is liable when the gate in Rotterdam opens at seven?")
        assert answer["status"] == "handed_off"
        assert answer["review"]
        assert answer["review"] in answer["text"]
        assert small.calls == []
        shown = held.get(f"/v1/handovers/{answer['review']}")
        assert shown["question"].startswith("Who is liable")
        assert shown["operator"]["sources"]
        other = held.client.get(f"/v1/handovers/{answer['review']}", headers=held.as_("bram"))
        assert other.status_code == 404


@contextmanager
def service_with(folder: Path, agreement: str, more: str) -> Iterator[tuple[Service, up.Upstream, up.Upstream]]:
    """The same, with more lines in mainstay.yaml."""
    cites = up.answering(up.cites)
    with up.Upstream(always=cites) as one:
        folder.mkdir(exist_ok=True)
        (folder / "agreement.yaml").write_text(agreement, encoding="utf-8")
        settings = f"""\
sources: [{{name: docs, folder: documents}}]
models: {{answer: small, providers: {{small: {{base_url: "{one.base_url}", model: s, price: {{input: "1", output: "1"}}}}}}}}
{more}"""
        with open_service(folder, DOCUMENTS, settings=settings) as app:
            people(app, {"alice": ("staff",), "bram": ("staff",), "cleo": ("board",)})
            sync(app)
            yield Service(app, TestClient(create_api(app))), one, one


def test_the_asker_is_told_that_it_is_ai(tmp_path: Path) -> None:
    rules = "governance: {disclosure: {en: 'An AI wrote this.'}}\n"
    with service(tmp_path, rules) as (held, _, _):
        assert "An AI wrote this." in held.ask()["notice"]


# -- modes -----------------------------------------------------------------------------------------------------------


def test_every_mode_by_order_says_so_and_is_an_event(tmp_path: Path) -> None:
    with service(tmp_path) as (held, _, _):
        full = held.ask()
        expected = {
            "economy": ("answered", "cache:off"),
            "cached_only": ("answered", "cache:hit"),
            "sources_only": ("partial", "cache:off"),
            "static": ("failed", "cache:off"),
        }
        for mode, (status, first) in expected.items():
            said = held.post("/v1/mode", {"mode": mode, "note": "drill"}, "root")
            assert said.status_code == 200, said.text
            fresh = mode == "economy"  # an answer that was kept is no smaller there, and says so
            answer = held.ask(cache=not fresh)
            assert (answer["mode"], answer["status"], answer["route"][0]) == (mode, status, first)
            assert answer["notice"], mode
            chat = {
                "model": "mainstay",
                "messages": [{"role": "user", "content": GATE}],
                "mainstay": {"cache": not fresh},
            }
            assert held.post("/v1/chat/completions", chat).json()["mainstay"]["notice"] == answer["notice"]
            streamed = held.post("/v1/answers", {"question": GATE, "stream": True, "cache": not fresh}).text
            assert "event: notice" in streamed
            if fresh:
                assert (held.ask()["mode"], held.ask()["notice"]) == ("full", None)
        held.post("/v1/mode", {"mode": "sources_only"}, "root")
        fresh = held.ask("At what hour does the gate in Rotterdam close?")
        assert fresh["mode"] == "sources_only"
        assert fresh["sources"]
        assert fresh["text"] == ""
        assert held.post("/v1/mode", {"mode": "static"}, "alice").status_code == 403
        assert held.post("/v1/mode", {"mode": None}, "root").json()["mode"] == "full"
        assert held.ask()["text"] == full["text"]
        events = held.get("/v1/mode")["events"]
        assert [event["after"] for event in events][::-1] == [*expected, "sources_only", "full"]
        assert {event["by"] for event in events} == {"user:root"}


def test_the_agreements_own_text_of_static_says_why(tmp_path: Path) -> None:
    rules = "modes: {rungs: [{mode: static, text: {en: 'Closed: {cause}. Call 112.'}}]}\n"
    with service(tmp_path, rules) as (held, _, _):
        held.post("/v1/mode", {"mode": "static"}, "root")
        answer = held.ask()
        assert answer["status"] == "failed"
        assert "{" not in answer["text"]
        assert answer["text"].startswith("Closed: ")
        assert phrase("cause_order", "en") in answer["text"]


def test_dead_models_open_their_breakers_and_quotations_remain(tmp_path: Path) -> None:
    dead = up.status(500, message="broken")
    with service(tmp_path, "cache: {enabled: false}\n", small=dead, large=dead) as (held, small, large):
        answers = [held.ask(f"{GATE} ({n})") for n in range(8)]
        assert {answer["model"] for answer in answers} == {"extractive"}
        assert {answer["mode"] for answer in answers} == {"economy"}
        assert all("not answering" in answer["notice"] for answer in answers)
        calls = len(small.calls) + len(large.calls)
        for n in range(5):
            held.ask(f"{GATE} ({n + 100})")
        assert len(small.calls) + len(large.calls) == calls, "a dead model is left alone"
        held.app.watch.look()
        assert held.get("/v1/mode")["reasons"][0]["reason"] == "breaker"
        assert held.app.ledger.check() == []


# -- traffic ---------------------------------------------------------------------------------------------------------


def test_a_user_over_the_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    with service(tmp_path, "traffic: {user_per_minute: 30, burst_s: 4}\n") as (held, _, _):
        said = [held.post("/v1/search", {"query": "gate"}) for _ in range(6)]
        assert [one.status_code for one in said].count(429) >= 2
        refused = next(one for one in said if one.status_code == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert held.post("/v1/search", {"query": "gate"}, "bram").status_code == 200
        chat = {"model": "mainstay", "messages": [{"role": "user", "content": GATE}]}
        assert held.post("/v1/chat/completions", chat).json()["error"]["type"] == "rate_limit_error"


def test_places_are_given_back_however_a_request_ends(tmp_path: Path) -> None:
    with service(tmp_path, "traffic: {concurrency: 2, queue: 0, user_per_minute: 0}\n") as (held, _, _):
        for body in ({"question": GATE}, {"question": GATE, "stream": True}, {"question": ""}, {"nonsense": 1}):
            for _ in range(4):
                assert held.post("/v1/answers", body).status_code in (200, 400)
        assert held.app.admission.standing().in_flight == 0


def test_the_standing_of_the_agreement_is_shown(tmp_path: Path) -> None:
    rules = (
        "objectives:\n  - {name: fast, measure: latency_p95_ms, target: 8000}\n"
        "  - {name: up, measure: availability, target: 0.99}\n"
    )
    with service(tmp_path, rules) as (held, _, _):
        for n in range(5):
            held.ask(f"{GATE} ({n})")
        shown = held.get("/v1/agreement")
        assert shown["digest"].startswith("agr_")
        clauses = {clause["clause"]: clause for clause in shown["clauses"]}
        assert clauses["objectives.fast"]["events"] == 5
        assert clauses["objectives.up"]["value"] == 1.0
        assert held.client.get("/v1/agreement", headers=held.as_("alice")).status_code == 403


def test_modes_are_known_by_name() -> None:
    assert [str(mode) for mode in Mode] == ["full", "economy", "cached_only", "sources_only", "static"]
