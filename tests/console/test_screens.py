"""The console over plain HTTP: who sees which screen, filters and files, nothing of others, nothing active."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from mainstay.clock import FixedClock
from mainstay.web.console.objectives import PIECES, cuts
from mainstay.web.server import create_api
from tests.console.world import GATE, MANY, PASSWORD, SCRIPT, TRACE, USERS, World

PAGE = {"Accept": "text/html"}
OURS = {"Origin": "http://testserver", **PAGE}
LOOKED_AFTER = ("/objectives", "/alerts", "/money")
OPEN = {
    "/requests": set(USERS),
    "/handovers": set(USERS),
    "/documents": set(USERS),
    **{path: {"ada", "olga", "audrey"} for path in LOOKED_AFTER},
    "/access": {"ada", "audrey"},
    "/audit": {"ada", "audrey"},
    "/audit/1": {"ada", "audrey"},
    "/jobs": {"ada"},
}


def browse(made: World, who: str | None) -> TestClient:
    client = TestClient(create_api(made.app), headers=PAGE, follow_redirects=False)
    if who is not None:
        said = client.post("/sign-in", data={"name": who, "password": PASSWORD}, headers=OURS)
        assert said.status_code == 303
    return client


@pytest.fixture(scope="module")
def signed_in(made: World) -> dict[str, TestClient]:
    return {who: browse(made, who) for who in USERS}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_screen_is_open_to_whom_it_is_for(made: World, signed_in: dict[str, TestClient]) -> None:
    missing = re.sub(r"req_\w+", "", signed_in["vic"].get("/no/such/page").text)
    for path, permitted in OPEN.items():
        for who, client in signed_in.items():
            said = client.get(path)
            assert said.status_code == (200 if who in permitted else 404), (path, who)
            if who == "vic" and who not in permitted:
                assert said.text.count("There is nothing") == missing.count("There is nothing")
        shown = [who for who, client in signed_in.items() if f'href="{path}"' in client.get("/requests").text]
        if "/1" not in path:
            assert set(shown) == permitted, path
    assert browse(made, None).get("/requests").status_code == 303  # to the sign-in page


def test_one_sees_ones_own_requests(made: World, signed_in: dict[str, TestClient]) -> None:
    hers, his = made.asked["alice gate"], made.asked["bram plan"]
    listed = signed_in["alice"].get("/requests").text
    assert hers in listed
    assert his not in listed
    assert his not in signed_in["alice"].get("/requests?asker=bram&format=csv").text
    for name in (his, "req_never", TRACE):
        said = signed_in["alice"].get(f"/requests/{name}")
        assert said.status_code == 404
        assert re.sub(r"req_\w+|nonce\S+", "", said.text) == re.sub(
            r"req_\w+|nonce\S+", "", signed_in["alice"].get("/requests/req_other").text
        )
    assert signed_in["alice"].get(f"/requests/{his}/decision").status_code == 404
    assert signed_in["alice"].get(f"/requests/{his}/steps/{made.span(his, 'retrieve')}").status_code == 404
    assert his in signed_in["olga"].get("/requests").text


def test_filters_stand_in_the_address_and_in_the_file(made: World, signed_in: dict[str, TestClient]) -> None:
    client = signed_in["ada"]
    every = rows(client.get("/requests?format=csv").text)
    assert {row["request"] for row in every} == {*made.asked.values(), f"trace_{TRACE}"}
    mine = rows(client.get("/requests?asker=alice&door=page&format=csv").text)
    assert {row["request"] for row in mine} == {made.asked["alice gate"], made.asked["alice helmet"]}
    dearest = [float(row["cost_usd"]) for row in rows(client.get("/requests?order=cost&format=csv").text)]
    assert dearest == sorted(dearest, reverse=True)
    assert rows(client.get("/requests?mode=limited&format=csv").text) == []
    wrong = client.get("/requests?cost=much&since=never")
    assert wrong.status_code == 422
    assert wrong.text.count("aria-invalid") == 2
    to = client.get("/requests", params={"id": "req_a/../b"})
    assert to.headers["location"] == "/requests/req_a%2F..%2Fb"


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("status=answred", "&#39;answred&#39; is not known here; did you mean &#39;answered&#39;?"),
        ("mode=turbo", "&#39;turbo&#39; is not known here; valid here: full,"),
        ("door=window", "valid here: answers, chat, page, cli, otlp"),
        ("outcome=solvd", "did you mean &#39;solved&#39;?"),
        ("failed=maybe", "valid here: yes"),
        ("order=size", "valid here: cost, time"),
    ],
)
def test_a_word_that_no_request_can_have_is_refused_on_the_page(
    signed_in: dict[str, TestClient], filter_: str, said: str
) -> None:
    name, _, word = filter_.partition("=")
    page = signed_in["ada"].get(f"/requests?{filter_}&asker=alice&cost=0.01")
    assert page.status_code == 422
    assert said in page.text
    assert page.text.count('aria-invalid="true"') == 1
    assert f'value="{word}"' in page.text  # the form is as it was filled in
    assert 'name="asker" type="text" value="alice"' in page.text
    assert 'name="cost" type="text" value="0.01"' in page.text
    assert f'id="e-{name}"' in page.text
    file = signed_in["ada"].get(f"/requests?{filter_}&format=csv")
    assert file.status_code == 422  # no file that reads as if nothing had happened
    assert signed_in["ada"].get(f"/v1/requests?{filter_}", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 400


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("action=key.creatd", "did you mean &#39;key.created&#39;?"),
        ("action=nothing.", "is not known here"),
        ("decisions=maybe", "valid here: yes"),
        ("before=x", "&#39;x&#39; is not the number of an event"),
        ("since=never", "Write a time like"),
    ],
)
def test_a_word_that_no_event_can_have_is_refused_on_the_page(
    signed_in: dict[str, TestClient], filter_: str, said: str
) -> None:
    page = signed_in["audrey"].get(f"/audit?{filter_}&actor=user:ada")
    assert page.status_code == 422
    assert said in page.text
    assert f'value="{filter_.partition("=")[2]}"' in page.text
    assert 'value="user:ada"' in page.text
    assert signed_in["audrey"].get(f"/audit?{filter_}&format=csv").status_code == 422


@pytest.mark.parametrize(
    ("address", "valid", "others"),
    [
        ("/handovers?state=lost", "waiting", "/handovers?state=failed"),
        ("/jobs?state=lost", "ready, running", "/jobs?state=dead"),
        ("/money?by=planet&days=7", "day, user, team", "/money?days=30"),
        ("/money?days=x&by=user", "7, 30, 90", "/money?by=model"),
        ("/documents?source=fils&findings=yes", "files", "/documents?source=files"),
        ("/documents?after=zzz&source=files", "", "/documents?source=files"),
        ("/documents?after=doc_zzz", "", "/documents?source=files"),
    ],
)
def test_a_view_that_there_is_not_is_refused_on_the_page(
    signed_in: dict[str, TestClient], address: str, valid: str, others: str
) -> None:
    path, _, asked = address.partition("?")
    (name, word), *kept = (one.split("=") for one in asked.split("&"))
    page = signed_in["ada"].get(address)
    assert page.status_code == 422
    assert page.text.count('aria-invalid="true"') == 1
    said = page.text.partition(f'id="e-{name}">')[2].partition("</p>")[0]
    assert f"&#39;{word}&#39; is not" in said
    assert valid in said
    assert f'value="{word}"' in page.text  # the form is as it was filled in
    for other, value in kept:
        assert re.search(rf'name="{other}"[^>]* value="{value}"|value="{value}" selected', page.text), other
    assert f'href="{others}"' in page.text.replace("&amp;", "&")  # the way to what there is, without the mistake
    assert f'<form class="filters" method="get" action="{path}">' in page.text
    for untrue in ("No question is with a person", "No job is known", "No model was called", "There is no document"):
        assert untrue not in page.text
    assert signed_in["ada"].get(f"{address}&format=csv").status_code == 422
    assert "format=csv" not in page.text  # no link to a file that would be refused


@pytest.fixture
def outsider(made: World, signed_in: dict[str, TestClient]) -> Iterator[TestClient]:
    """Somebody who may read no document."""
    made.app.people.remove_member("staff", "user:vic")
    yield signed_in["vic"]
    made.app.people.add_member("staff", "user:vic")


def test_a_source_of_others_reads_like_one_that_there_is_not(
    made: World, signed_in: dict[str, TestClient], outsider: TestClient
) -> None:
    theirs, never = (outsider.get(f"/documents?source={name}") for name in ("files", "fleet"))
    assert theirs.status_code == never.status_code == 422
    one, other = (re.sub(r"req_\w+|nonce\S+", "", said.text) for said in (theirs, never))
    assert one.replace("files", "X") == other.replace("fleet", "X")
    assert "No document that you may read comes from" in one
    assert "did you mean" not in outsider.get("/documents?source=file").text
    assert signed_in["alice"].get("/documents?source=files").status_code == 200
    # A cursor is a place: whose document has it, if anybody's, makes no difference.
    plan = made.documents["board/plan.md"]
    for cursor in (plan, f"{plan[:-1]}{'b' if plan[-1] == 'a' else 'a'}"):
        said = outsider.get(f"/documents?after={cursor}")
        assert said.status_code == 200
        assert "No document that you may read comes after this place" in said.text
        assert 'href="/documents">' in said.text


def test_every_word_that_is_offered_is_taken(signed_in: dict[str, TestClient]) -> None:
    form = signed_in["ada"].get("/requests?cost=1").text
    for name in ("status", "mode", "door", "outcome", "failed"):
        offered = re.findall(r'<option value="([^"]+)"', form.partition(f'name="{name}"')[2].partition("</select>")[0])
        assert offered
        for word in offered:
            assert signed_in["ada"].get(f"/requests?{name}={word}").status_code == 200, (name, word)


def test_a_request_shows_its_way_and_evidence_within_the_scope(made: World, signed_in: dict[str, TestClient]) -> None:
    plan = made.asked["bram plan"]
    his = signed_in["bram"].get(f"/requests/{plan}").text
    assert "Plan of the board" in his
    seen = signed_in["olga"].get(f"/requests/{plan}").text  # an operator who is not on the board
    assert "Plan of the board" not in seen
    assert "out of your reach now" in seen
    assert "24 million" not in seen
    gate = signed_in["alice"].get(f"/requests/{made.asked['alice gate']}").text
    assert "retrieve" in gate
    assert "For operators alone" not in gate
    assert 'role="treegrid"' in gate
    ledger = rows(signed_in["ada"].get(f"/requests/{made.asked['alice gate']}?format=csv&table=ledger").text)
    assert [row["model"] for row in ledger] == ["small"]
    assert float(ledger[0]["spent_usd"]) > 0
    steps = rows(signed_in["ada"].get(f"/requests/{made.asked['alice gate']}?format=csv").text)
    assert {"request", "retrieve", "generate"} <= {row["kind"] for row in steps}
    assert signed_in["ada"].get(f"/requests/{plan}?format=csv&table=nothing").status_code == 404


def test_a_long_journey_shows_its_upper_steps_and_every_part_has_an_address(signed_in: dict[str, TestClient]) -> None:
    client = signed_in["ada"]
    first = client.get(f"/requests/{TRACE}")
    assert f"{MANY - 1:,} steps" in first.text
    assert len(first.content) < 150_000
    assert 'aria-expanded="false"' in first.text
    assert "timeout" in first.text  # errors have a word, and what holds one is opened first
    closed = re.findall(r'class="inside" href="([^"]*)">([0-9,]+) inside', first.text)
    shown = set(re.findall(r"/steps/([0-9a-f]{16})", first.text))
    assert len(shown) + sum(int(inside.replace(",", "")) for _, inside in closed) == MANY - 1
    for address, inside in closed[:3]:  # each by an address of its own, without a script
        part = client.get(address.replace("&amp;", "&"))
        below = set(re.findall(r"/steps/([0-9a-f]{16})", part.text))
        assert len(below) == 1 + int(inside.replace(",", ""))
        assert len(below & shown) == 1
    part = client.get(f"/requests/{TRACE}?step={2:016x}").text
    assert "Where these steps stand" in part
    assert client.get(f"/requests/{TRACE}?step={'f' * 16}").status_code == 404
    assert client.get(f"/requests/{TRACE}?page=7").status_code == 404
    assert len(rows(client.get(f"/requests/{TRACE}?format=csv").text)) == MANY - 1  # the file has them all


def test_a_step_that_a_request_has_not_is_told_from_a_request_that_there_is_not(
    made: World, signed_in: dict[str, TestClient]
) -> None:
    client, hers = signed_in["alice"], made.asked["alice gate"]
    for asked, status, told in (
        ("step=zzz", 404, "This request has no step &#39;zzz&#39;"),
        (f"step={'9' * 300}", 404, "This request has no step"),
        ("page=7", 404, "have no page 7"),
        ("page=999999999", 404, "have no page 999,999,999"),
        *(
            (f"page={odd}", 422, "is not the number of a page of steps")
            for odd in ("abc", "0", "-1", "1.5", "9" * 5000)
        ),
    ):
        said = client.get(f"/requests/{hers}?{asked}")
        assert (said.status_code, told in said.text) == (status, True), asked
        assert f'<a href="/requests/{hers}">Back to the request</a>' in said.text
        assert "not yours to read" not in said.text
        assert "valid integer" not in said.text
        other = client.get(f"/requests/{made.asked['bram plan']}?{asked}")
        assert (other.status_code, "not yours to read" in other.text) == (404, True), asked


def test_nothing_written_becomes_active(made: World, signed_in: dict[str, TestClient]) -> None:
    for name, path in made.screens().items():
        text = signed_in["ada"].get(path).text
        assert "<script>document" not in text, name
        assert "<img src=" not in text.replace('<img src="/static/', ""), name
        assert "javascript:alert" not in re.sub(r">[^<]*<", "><", text), name
        for address in re.findall(r'(?:href|src|action)="([^"]*)"', text):
            assert urlsplit(address.replace("&amp;", "&")).netloc == "", (name, address)
    assert (
        SCRIPT.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in signed_in["ada"].get("/access").text
    )


def test_what_changes_something_is_taken_from_our_page_and_by_operators_alone(
    made: World, signed_in: dict[str, TestClient]
) -> None:
    address = f"/alerts/{made.alert}/acknowledge"
    assert signed_in["olga"].post(address, data={"note": "x"}).status_code == 403  # from nowhere
    assert signed_in["olga"].post(address, headers={**PAGE, "Origin": "http://elsewhere"}).status_code == 403
    assert signed_in["audrey"].post(address, headers=OURS).status_code == 403
    assert signed_in["alice"].post(address, headers=OURS).status_code == 404
    quiet = {"objective": "quick", "for": "2h", "note": "known"}
    assert signed_in["olga"].post("/alerts/silences", data=quiet, headers=OURS).status_code == 303
    wrong = signed_in["olga"].post("/alerts/silences", data={**quiet, "objective": "none"}, headers=OURS)
    assert wrong.status_code == 400
    assert "known" in signed_in["audrey"].get("/alerts").text
    found = rows(signed_in["audrey"].get("/audit?action=alert.&format=csv").text)
    assert [row["actor"] for row in found if row["action"] == "alert.silenced"] == ["user:olga"]


def test_objectives_and_money_say_it_in_words_and_numbers(signed_in: dict[str, TestClient]) -> None:
    page = signed_in["ada"].get("/objectives").text
    assert "of the error budget is left" in page
    assert page.count('<svg role="img"') >= 3
    assert page.count("<title>") >= 4
    assert "change of mode" in page
    pieces = rows(signed_in["ada"].get("/objectives?format=csv&table=objective-there").text)
    assert len(pieces) <= PIECES
    assert sum(int(row["events"]) for row in pieces) == 3
    assert float(pieces[-1]["left"]) == 1.0
    money = signed_in["ada"].get("/money?by=user").text
    assert "called a model" in money
    spent = rows(signed_in["ada"].get("/money?by=user&format=csv").text)
    assert {row["name"] for row in spent} <= {"user:alice", "user:bram"}
    budgets = rows(signed_in["ada"].get("/money?format=csv&table=budgets").text)
    assert {row["whose"] for row in budgets} == {"the service", *(row["name"] for row in spent)}


def test_windows_are_cut_at_whole_hours_and_days() -> None:
    now = FixedClock().now()
    for window in (3600.0, 86_400.0, 7 * 86_400.0, 28 * 86_400.0, 400 * 86_400.0):
        found = cuts(now.fromtimestamp(now.timestamp() - window, now.tzinfo), now, window)
        assert 2 <= len(found) <= PIECES
        assert found[-1][1] == now
        assert all(left[1] == right[0] for left, right in pairwise(found))


def test_why_alice_may_see_it(made: World, signed_in: dict[str, TestClient]) -> None:
    board, gate = made.documents["board/plan.md"], made.documents["gate.md"]
    shown = signed_in["ada"].get(f"/documents/{board}/access?user=bram").text
    assert "user:bram is in group:board" in shown
    assert "board/.access.yaml" in shown
    assert "stands for none of those it allows" in signed_in["ada"].get(f"/documents/{board}/access?user=alice").text
    assert signed_in["ada"].get(f"/documents/{board}/access?user=group:board").status_code == 422
    assert signed_in["alice"].get(f"/documents/{board}/access").status_code == 404
    own = signed_in["alice"].get(f"/documents/{gate}/access").text
    assert "user:alice is in group:staff" in own
    assert "The rule in force" not in own
    assert signed_in["alice"].get(f"/documents/{gate}/access?user=bram").status_code == 422
    told = signed_in["ada"].get(f"/v1/documents/{board}/access?user=bram", headers={"Sec-Fetch-Site": "same-origin"})
    assert told.json()["path"] == [{"member": "user:bram", "group": "group:board", "source": "local"}]
    assert told.json()["access"] == {"allow": ["group:board"], "deny": []}
    hers = signed_in["alice"].get(f"/v1/documents/{gate}/access", headers={"Sec-Fetch-Site": "same-origin"}).json()
    assert hers["visible"]
    assert "access" not in hers
    others = signed_in["alice"].get(f"/v1/documents/{gate}/access?user=bram", headers={"Sec-Fetch-Site": "same-origin"})
    assert others.status_code == 403


def test_documents_and_sources(made: World, signed_in: dict[str, TestClient]) -> None:
    page = signed_in["ada"].get("/documents?findings=yes").text
    assert "broken.pdf" in page
    assert "Every file could be read" not in page
    assert "Findings about the documents" in page
    seen = signed_in["alice"].get("/documents").text
    assert "Plan of the board" not in seen
    assert "Sources" not in seen
    assert "Who may read it" not in seen


def test_an_event_and_its_proof(signed_in: dict[str, TestClient], tmp_path: Path) -> None:
    page = signed_in["audrey"].get("/audit/1").text
    assert "proved" in page
    proof = json.loads(signed_in["audrey"].get("/audit/1?format=proof").text)
    assert proof["n"] == 1
    assert proof["head"]["size"] == proof["size"]
    assert signed_in["audrey"].get("/audit/999999").status_code == 404
    assert signed_in["audrey"].get("/audit/x").status_code == 404
    only = rows(signed_in["audrey"].get("/audit?action=user.added&format=csv").text) or rows(
        signed_in["audrey"].get("/audit?action=user.&format=csv").text
    )
    assert only
    assert all(row["action"].startswith("user.") for row in only)


def test_an_event_that_nobody_gave_a_reason_for_says_it_itself(made: World, signed_in: dict[str, TestClient]) -> None:
    made.app.sessions.end(made.app.sessions.begin("user:bram", "key"))
    address = "/audit?action=session.ended&subject=user:bram"
    assert "because: signed_out; with: key" in signed_in["audrey"].get(address).text
    assert rows(signed_in["audrey"].get(f"{address}&format=csv").text)[0]["why"] == "because: signed_out; with: key"


def test_a_look_at_the_decision_of_somebody_else_leaves_a_trace(made: World, signed_in: dict[str, TestClient]) -> None:
    gate = made.asked["alice gate"]
    mine = signed_in["alice"].get(f"/requests/{gate}/decision")
    assert mine.status_code == 200
    before = len(rows(signed_in["audrey"].get("/audit?action=export.decision&format=csv").text))
    assert signed_in["audrey"].get(f"/requests/{gate}/decision").status_code == 200
    after = rows(signed_in["audrey"].get("/audit?action=export.decision&format=csv").text)
    assert len(after) == before + 1
    assert after[0]["actor"] == "user:audrey"
    assert GATE not in mine.text  # the record holds no text of the question


# -- what a screen shows, programs may ask for -------------------------------------------------------------------------
OURS_API = {"Sec-Fetch-Site": "same-origin"}
ROUTES = {
    "/v1/settings": {"ada", "olga", "audrey"},
    "/v1/objectives": {"ada", "olga", "audrey"},
    "/v1/budgets": {"ada", "olga", "audrey"},
    "/v1/prices": {"ada", "olga", "audrey"},
    "/v1/agreement": {"ada", "olga", "audrey"},
    "/v1/access": {"ada", "audrey"},
    "/v1/audit/head": {"ada", "audrey"},
    "/v1/sources": {"ada"},
}


def test_routes_are_open_to_whom_the_screen_is(signed_in: dict[str, TestClient]) -> None:
    for path, permitted in ROUTES.items():
        for who, client in signed_in.items():
            said = client.get(path, headers=OURS_API)
            assert said.status_code == (200 if who in permitted else 403), (path, who, said.text)
    refused = signed_in["vic"].get("/v1/settings", headers=OURS_API).json()
    assert "operate or audit:read" in refused["detail"]


def test_the_settings_in_force_for_programs(made: World, signed_in: dict[str, TestClient]) -> None:
    client = signed_in["audrey"]
    told = client.get("/v1/settings", headers=OURS_API).json()
    page = client.get("/settings").text
    assert told["release"] == made.app.release
    assert told["release"] in page
    assert told["changed_since_start"] == []
    (model,) = told["models"]
    assert (model["name"], model["input_per_million_usd"], told["trouble"]) == (
        "small",
        "0.500000",
        "",
    )
    held = {one["key"]: one for one in told["settings"]}
    assert held["name"] == {"key": "name", "value": "Harbour Console", "said": "the file"}
    assert held["smtp.password"]["value"] == "not set"
    shown = rows(client.get("/settings?format=csv&table=settings").text)
    assert [row["key"] for row in shown] == list(held)
    lines = [row["line"] for row in rows(client.get("/settings?format=csv&table=agreement").text)]
    assert [line for one in told["agreed"] for line in one["lines"]] == lines


def test_the_money_of_a_request(made: World, signed_in: dict[str, TestClient]) -> None:
    path = f"/v1/requests/{made.asked['alice gate']}/money"
    lines = signed_in["alice"].get(path, headers=OURS_API).json()["lines"]
    shown = rows(signed_in["alice"].get(f"/requests/{made.asked['alice gate']}?format=csv&table=ledger").text)
    assert len(lines) == len(shown) >= 1
    assert {line["state"] for line in lines} <= {"settled", "open", "cancelled"}
    assert signed_in["bram"].get(path, headers=OURS_API).status_code == 404
    assert signed_in["olga"].get(path, headers=OURS_API).json()["lines"] == lines


def test_objectives_budgets_prices_access_and_sources(made: World, signed_in: dict[str, TestClient]) -> None:
    client = signed_in["ada"]
    told = client.get("/v1/objectives", headers=OURS_API).json()
    assert [one["name"] for one in told["objectives"]] == ["quick", "there", "cheap"]
    for one in told["objectives"]:
        assert one["pieces"]
        assert one["events"] == sum(piece["events"] for piece in one["pieces"])
    assert {one["kind"] for one in told["happened"]} >= {"mode", "incident"}
    budgets = client.get("/v1/budgets", headers=OURS_API).json()["budgets"]
    assert {one["of"] for one in budgets} == {"service", "user"}
    assert budgets == sorted(budgets, key=lambda one: one["share_left"])
    (price,) = client.get("/v1/prices", headers=OURS_API).json()["models"]
    assert (price["name"], price["output_per_million_usd"]) == ("small", "2.000000")
    access = client.get("/v1/access", headers=OURS_API).json()
    users = {one["name"]: one for one in access["users"]}
    assert users["user:olga"]["role"] == "operator"
    assert users["user:alice"]["groups"] == ["group:staff"]
    assert users["user:alice"]["asked_last"] is not None
    assert {"group:staff", "group:board"} <= {one["name"] for one in access["groups"]}
    assert len(access["keys"]) == len(USERS)
    assert not any(key in str(access) for key in made.keys.values())
    assert access["roles"]["viewer"] == ["documents:read", "search"]
    (source,) = client.get("/v1/sources", headers=OURS_API).json()["sources"]
    assert (source["name"], source["documents"]) == ("files", len(made.documents))
    agreement = client.get("/v1/agreement", headers=OURS_API).json()
    assert {"versions", "approvals"} <= agreement.keys()
    alerts = client.get("/v1/alerts", headers=OURS_API).json()["alerts"]
    assert all(one["notices"] >= 0 for one in alerts)


def test_requests_in_order(signed_in: dict[str, TestClient]) -> None:
    found = signed_in["ada"].get("/v1/requests?order=cost", headers=OURS_API).json()
    costs = [float(one["cost_usd"]) for one in found["requests"]]
    assert costs == sorted(costs, reverse=True)
    assert found["next"] is None
    assert signed_in["ada"].get("/v1/requests?order=size", headers=OURS_API).status_code == 400


def test_an_answer_goes_to_a_person_once(made: World, signed_in: dict[str, TestClient]) -> None:
    asked = made.ask(GATE, "bram")
    path = f"/v1/requests/{asked}/handover"
    own, other, admin = (signed_in[name] for name in ("bram", "alice", "ada"))
    assert other.post(path, json={"question": GATE}, headers=OURS_API).status_code == 404
    assert (
        admin.post(path, json={"question": GATE}, headers=OURS_API).status_code == 404
    )  # nobody asks in another's name
    assert own.post("/v1/requests/req_nothing/handover", json={}, headers=OURS_API).status_code == 404
    long = own.post(path, json={"question": "x" * 100_000}, headers=OURS_API)
    assert long.status_code in (400, 413)
    assert "question" in long.json()["detail"]
    assert signed_in["vic"].post(path, json={"question": GATE}, headers=OURS_API).status_code == 403
    assert made.app.handovers.list(principal="user:bram", request_id=asked) == []
    first = own.post(path, json={}, headers=OURS_API)  # the service keeps texts: the question is known
    assert first.status_code == 201, first.text
    assert (first.json()["request_id"], first.json()["question"]) == (asked, GATE)
    again = own.post(path, json={"question": GATE}, headers=OURS_API)
    assert (again.status_code, again.json()) == (200, first.json())
    clicked = own.post("/ask/hand-over", data={"q": GATE, "answer": asked}, headers=OURS)
    assert clicked.headers["location"] == f"/ask/handed-over/{first.json()['id']}"
    assert len(made.app.handovers.list(principal="user:bram", request_id=asked)) == 1


def test_two_clicks_at_once_are_one_question_for_a_person(made: World, signed_in: dict[str, TestClient]) -> None:
    asked = made.ask(GATE, "bram")
    made.app.traces.settle()

    def click(_: int) -> str:
        said = signed_in["bram"].post(f"/v1/requests/{asked}/handover", json={"question": GATE}, headers=OURS_API)
        return str(said.json()["id"])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(click, range(6)))) == 1
