"""The console over plain HTTP: who sees which screen, what every page keeps to, Home, Ask and Settings."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mainstay.access.keys import ROLES, Permission
from mainstay.app import App, open_app
from mainstay.clock import FixedClock
from mainstay.errors import MainstayError
from mainstay.handover import State
from mainstay.records.measures import Measured
from mainstay.types import Mode
from mainstay.web.console import figures, words
from mainstay.web.console.home import FRESH_S, Scorecard
from mainstay.web.console.shell import HERE, screens
from mainstay.web.console.tables import Cell, Column, csv_text
from mainstay.web.server import create_api
from tests.road.conftest import SCRIPT, Service, build

PAGE = {"Accept": "text/html"}
OURS = {"Origin": "http://testserver"}
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}
QUESTION = "How much may a hotel cost a night?"
EVIL = '"><script>alert(5)</script>{{7*7777}}'
FIRST_LOAD = 60_000  # bytes of script and style, compressed
PAGE_WEIGHT = 150_000


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, name: str) -> list[str]:
        return [str(attributes[name]) for held, attributes in self.tags if held == tag and attributes.get(name)]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service where nobody is let in unknown, with somebody in every role."""
    built = build(tmp_path_factory.mktemp("console") / "service", "sources: [{name: files, folder: documents}]\n")
    for role in ROLES:
        built.app.people.add_user(role, display=f"The {role}", role=role)
    with built.app:
        yield built


def signed_in(service: Service, user: str) -> TestClient:
    browser = TestClient(service.client.app, headers=PAGE, follow_redirects=False)
    browser.cookies.set("mainstay", service.app.sessions.begin(f"user:{user}", "password"))
    return browser


def without_ids(page: Any) -> str:
    text = re.sub(r'nonce="[\w-]+"', "", page.text)
    return str(text.replace(page.headers["x-request-id"], ""))


# -- who sees what -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_navigation_shows_what_may_be_opened_and_the_rest_is_not_there(console: Service, role: str) -> None:
    browser = signed_in(console, role)
    actor = console.app.identity.actor_for(f"user:{role}")
    everything = screens(console.client.app)  # type: ignore[arg-type]  # TestClient calls it an ASGI app: it is ours
    missing = browser.get("/no-such-page")
    assert missing.status_code == 404
    open_here = [one.path for one in everything if one.open_to(actor)]
    shown = re.findall(r'<li><a href="([^"]+)"', missing.text)
    assert shown == (open_here if len(open_here) > 1 else [])
    for one in everything:
        page = browser.get(one.path)
        if one.open_to(actor):
            assert page.status_code == 200, one
            assert 'aria-current="page"' in page.text or len(open_here) == 1
        elif one.path != "/":
            assert page.status_code == 404
            assert without_ids(page) == without_ids(missing)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_at_the_http_door(console: Service, role: str) -> None:
    browser = signed_in(console, role)
    permissions = ROLES[role]

    def status(method: str, path: str, **more: Any) -> int:
        return browser.request(method, path, headers={**OURS, "Accept": "application/json"}, **more).status_code

    def expected(permission: Permission) -> int:
        return 200 if permission in permissions else 403

    assert status("POST", "/v1/answers", json={"question": QUESTION}) == expected(Permission.ASK)
    assert status("POST", "/v1/search", json={"query": "hotel"}) == expected(Permission.SEARCH)
    assert status("GET", "/v1/documents") == expected(Permission.DOCUMENTS_READ)
    assert status("GET", "/v1/agreement") == expected(Permission.TRACES_READ)
    document = {"content": "The oryx gate is green.", "access": "public"}
    assert status("PUT", "/v1/documents/oryx", json=document) == expected(Permission.DOCUMENTS_WRITE)


@pytest.mark.parametrize(
    ("role", "lands"), [("asker", "Ask your documents"), ("operator", "How the agreement is kept")]
)
def test_the_start_page_is_what_one_came_for(console: Service, role: str, lands: str) -> None:
    page = signed_in(console, role).get("/")
    assert f"<h1>{lands}</h1>" in page.text


def test_a_viewer_is_led_to_what_is_open(console: Service) -> None:
    browser = signed_in(console, "viewer")
    assert browser.get("/").status_code in (303, 404)
    assert browser.get("/", params={"q": QUESTION}).status_code in (303, 404)
    assert browser.get("/ask", params={"q": QUESTION}).status_code == 404
    assert browser.post("/ask/hand-over", data={"q": QUESTION}, headers=OURS).status_code == 403


def test_who_is_not_known_signs_in_first(console: Service) -> None:
    nobody = TestClient(console.client.app, headers=PAGE, follow_redirects=False)
    for one in screens(console.client.app):  # type: ignore[arg-type]  # as above
        led = nobody.get(one.path)
        assert led.status_code == 303
        assert led.headers["location"].startswith("/sign-in?to=")


def test_a_new_role_is_in_force_at_the_next_click(console: Service) -> None:
    console.app.people.add_user("dora")
    browser = signed_in(console, "dora")
    assert browser.get("/settings").status_code == 404
    console.app.people.set_role("user:dora", "operator")
    assert browser.get("/settings").status_code == 200
    console.app.people.disable("user:dora")
    assert browser.get("/settings").status_code == 303


# -- what every page keeps to --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/ask", f"/ask?q={QUESTION}", "/settings", "/sign-in", "/docs", "/no-such-page"])
def test_every_page(console: Service, path: str) -> None:
    page = signed_in(console, "admin").get(path)
    seen = Seen(page.text)
    policy = page.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce is not None
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert page.headers["vary"] == "HX-Request, HX-Request-Type"
    assert page.headers["cache-control"] == "no-store"
    assert page.text.count("<h1") == 1
    assert page.text.index('class="skip"') < page.text.index("<header")
    assert len(page.text) < PAGE_WEIGHT
    for tag, attributes in seen.tags:
        assert "style" not in attributes
        assert not any(name.startswith(("on", "hx-on", "hx-vals")) for name in attributes)
        if tag == "script":
            assert attributes["nonce"] == nonce[1]
            assert attributes["src"]
        if any(name.startswith("hx-") for name in attributes):
            assert attributes["hx-nonce"] == nonce[1]
        for name in ("src", "href", "action", "hx-get"):
            assert re.match(r"[/?#](?!/)", attributes.get(name) or "/#")
    tables = [attributes for tag, attributes in seen.tags if tag == "table" and attributes.get("class") == "dense"]
    assert page.text.count("<caption") == len(tables)
    for tag, attributes in seen.tags:
        if tag == "th" and tables:
            assert attributes["scope"] in ("col", "row")
    loaded = [*seen.all("script", "src"), *(one for one in seen.all("link", "href") if ".css" in one)]
    assert loaded
    browser = TestClient(console.client.app)
    weight = sum(len(gzip.compress(browser.get(one).content, 9)) for one in loaded)
    assert weight < FIRST_LOAD, f"{path}: {weight} bytes"


def test_titles_tell_pages_apart(console: Service) -> None:
    browser = signed_in(console, "admin")
    paths = ["/", "/ask", "/settings", "/sign-in", "/docs", "/no-such-page"]
    titles = [re.search("<title>(.*?)</title>", browser.get(path).text) for path in paths]
    assert len({title and title[1] for title in titles}) == len(paths)


def test_vendored_files_are_those_of_their_makers() -> None:
    folder = HERE / "static" / "vendor"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    said = {name: digest for digest, name in map(str.split, lines)}
    held = {file.name for file in folder.iterdir()} - {"README.md", "SHA256SUMS"}
    assert set(said) == held
    for name, digest in said.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_limited_mode_is_said_on_every_page(console: Service) -> None:
    browser = signed_in(console, "admin")
    console.app.ladder.order(Mode.SOURCES_ONLY, "user:admin", detail="a drill")
    try:
        for path in ("/", "/ask", "/settings", "/docs", "/sign-in", "/no-such-page"):
            text = browser.get(path).text
            assert '<div class="mode" role="status"><p>' in text, path
        home = browser.get("/").text
        assert "Sources only, no answers" in home
        assert "by user:admin" in home
    finally:
        console.app.ladder.order(None, "user:admin")
    assert '<div class="mode"' not in browser.get("/ask").text


def test_names_and_questions_of_others_stay_text(console: Service) -> None:
    console.app.people.add_user("mallory", display=EVIL.replace('"', ""), role="admin")
    console.app.agreements.seen("agr_evil", "{}")
    console.app.agreements.approve("agr_evil", EVIL, EVIL, EVIL)
    console.app.ladder.order(Mode.ECONOMY, f"user:{SCRIPT}", detail=EVIL)
    console.app.ladder.order(None, "user:admin")
    service = signed_in(console, "mallory")
    document = {"content": f"The tapir pier {EVIL} is short.", "title": EVIL, "access": "public"}
    service.put("/v1/documents/evil", json=document, headers=OURS)
    answered = service.get("/ask", params={"q": f"How short is the tapir pier {EVIL}?"})
    request_id = answered.headers["x-request-id"]
    handed = service.post("/ask/hand-over", data={"q": EVIL, "answer": request_id}, headers=OURS)
    for path in (
        "/",
        "/ask",
        "/settings",
        f"/ask/why/{request_id}",
        handed.headers["location"],
        "/?format=csv&table=changes",
    ):
        page = service.get(path)
        assert page.status_code == 200, path
        if "csv" not in path:
            assert "<script>alert" not in page.text
            assert "alert(5)" in page.text
            assert "54439" not in re.sub(
                r'nonce="[\w-]+"|v=\w+|\d+ ms|req_\w+|ho_\w+|\d\d:\d\d|T[\d:.]+Z', "", page.text
            )


def test_a_part_of_a_page_says_what_went_wrong_in_a_sentence(console: Service) -> None:
    said = signed_in(console, "admin").get("/no-such-page", headers=PART)
    assert said.status_code == 404
    assert said.text.startswith('<div class="state banner wrong" role="alert">')
    assert "<html" not in said.text


# -- tables --------------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["=1+1", "+1", "-1", "@x", "\t=x", "\r=x", "a\nb", 'a"b', "a,b", "＝1", ""]
)


@given(rows=st.lists(st.tuples(TEXTS, st.integers(-(10**15), 10**15), st.floats(allow_nan=False)), max_size=8))
def test_csv_reads_back_and_opens_as_data(rows: list[tuple[str, int, float]]) -> None:
    columns = [
        Column(key="name", head="x"),
        Column(key="cost", head="x", kind="money"),
        Column(key="n", head="x", kind="count"),
    ]
    text = csv_text(columns, [dict(zip(("name", "cost", "n"), row, strict=True)) for row in rows])
    assert text.endswith("\r\n")
    head, *read = csv.reader(io.StringIO(text, newline=""))
    assert head == ["name", "cost_usd", "n"]
    assert len(read) == len(rows)
    for (name, cost, number), said in zip(rows, read, strict=True):
        sent = name.encode("utf-8", "replace").decode()
        assert said[0] in (sent, f"'{sent}")
        assert not said[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert abs(float(said[1]) * 1e9 - cost) <= 1000
        assert float(said[2]) == number


def test_csv_of_times_and_cells() -> None:
    at = FixedClock().now()
    columns = [Column(key="at", head="At", kind="time"), Column(key="took", head="Took", kind="duration")]
    text = csv_text(columns, [{"at": at, "took": Cell(value=1.5, note="slow")}, {}])
    assert text == f"at_utc,took_ms\r\n{at:%Y-%m-%dT%H:%M:%S.000Z},1.5\r\n,\r\n"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (words.duration(0.4), "0.4 ms"),
        (words.duration(999.6), "1000 ms"),
        (words.duration(1500), "1.50 s"),
        (words.duration(125_000), "2 min 5 s"),
        (words.duration(3 * 3_600_000 + 60_000), "3 h 1 min"),
        (words.money(0), "$0.00"),
        (words.money(1), "$0.000001"),
        (words.money(-1_500_000), "-$0.001500"),
        (words.money(12_345_678_900_000), "$12,345.68"),
        (words.share(0.9996), "99.960 %"),
        (words.share(1.0), "100.0 %"),
        (words.count(1234567), "1,234,567"),
        (words.size(1_500_000), "1.5 MB"),
    ],
)
def test_values_carry_their_unit(shown: str, said: str) -> None:
    assert str(shown) == said


@pytest.mark.parametrize(
    "show", [words.duration, words.money, words.share, words.count, words.size, words.when, words.score]
)
def test_nothing_measured_is_not_zero(show: Any) -> None:
    assert "nothing measured" in show(None)


def test_figures_say_what_they_show() -> None:
    bar = figures.interval_bar(low=1.0, value=2.0, high=3.0, target=2.5, title="2 s <b>")
    assert bar is not None
    assert "<title>2 s &lt;b&gt;</title>" in bar
    assert "style=" not in bar
    assert figures.interval_bar(low=None, value=None, high=None, target=1.0, title="") is None
    assert figures.interval_bar(low=None, value=0.0, high=None, target=None, title="x") is not None
    assert 'class="over"' in str(figures.budget_bar(-0.3, title="x"))
    assert 'class="over"' in str(figures.budget_bar(float("-inf"), title="x"))
    assert 'class="left"' in str(figures.budget_bar(0.4, title="x"))
    line = str(figures.sparkline([None, 1.0, 2.0, None, 3.0], title="x", target=2.0))
    assert line.count("<polyline") == 1
    assert line.count("<circle") == 2, "one point alone, and the last one marked"
    assert figures.sparkline([None], title="x") is None


# -- Home ----------------------------------------------------------------------------------------------------------------

AGREEMENT = """
traffic: {user_per_minute: 0}
objectives:
  - {name: quick, measure: latency_p95_ms, target: 2000, window: 28d}
  - {name: up, measure: availability, target: 0.99, window: 28d}
  - {name: cheap, measure: cost_per_request_usd, target: 0.001, window: 28d}
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, FixedClock]]:
    """A service with a week behind it: quick, but with more failures than the agreement allows."""
    folder = tmp_path_factory.mktemp("home") / "service"
    build(folder, "sources: [{name: files, folder: documents}]\n").app.close()
    (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
    clock = FixedClock()
    with open_app(folder, clock=clock) as app:
        keep(app, clock)
        yield app, clock


def keep(app: App, clock: FixedClock, *, days: int = 6) -> None:
    app.measures.keep_all(
        [
            Measured(
                request_id=clock.new_id("req"),
                at=clock.now() - timedelta(days=day, minutes=n + 1),
                door="answers",
                principal="user:bram",
                status="failed" if n == 0 else "answered",
                failed=n == 0,
                total_ms=100.0 + n,
                cost_nanodollars=200_000,
            )
            for day in range(days)
            for n in range(20)
        ]
    )


def test_home_is_the_agreement_as_a_scorecard(measured: tuple[App, FixedClock]) -> None:
    app, _ = measured
    browser = TestClient(create_api(app), headers=PAGE)
    browser.cookies.set("mainstay", app.sessions.begin("user:hugo", "password"))
    text = browser.get("/").text
    assert "missed: up: at least 99 % of the requests are served, over 28 days." in text
    assert text.count('class="figure interval"') == 3
    assert text.count('class="figure sparkline"') == 3
    assert text.count('class="figure budget"') == 3
    assert "overspent" in text
    assert "Last 7 days, share within the promise, oldest first: " in text
    assert "95.0 %" in text
    assert "Full service" in text
    rows = list(csv.DictReader(io.StringIO(browser.get("/?format=csv").text)))
    up = next(row for row in rows if row["clause"] == "objectives.up")
    assert (up["state"], up["events"]) == ("missed", "120")
    assert float(up["value"]) == pytest.approx(0.95)
    assert float(up["low"]) < 0.95 < float(up["high"])
    assert browser.get("/?format=csv&table=none").status_code == 404
    part = browser.get("/", headers=PART)
    assert part.text.lstrip().startswith('<div id="scorecard"')
    nonce = re.search(r"'nonce-([\w-]+)'", part.headers["content-security-policy"])
    assert nonce is not None
    assert f'hx-nonce="{nonce[1]}"' in part.text


def test_home_is_read_anew_every_ten_seconds(measured: tuple[App, FixedClock]) -> None:
    app, clock = measured
    card = Scorecard(app)
    first = card.read()
    keep(app, clock, days=1)
    clock.advance(timedelta(seconds=FRESH_S - 1))
    assert card.read() is first
    clock.advance(timedelta(seconds=1))
    second = card.read()
    assert second is not first
    events = [next(held for held in one.clauses if held.clause == "objectives.up").events for one in (first, second)]
    assert events[1] == events[0] + 20


def test_home_shows_what_it_last_knew_when_it_can_not_look(tmp_path: Path) -> None:
    built = build(tmp_path / "service")
    clock = FixedClock()
    built.app.close()
    with open_app(built.folder, clock=clock) as app:
        card = Scorecard(app)
        first = card.read()
        with app.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE measure RENAME TO gone")
        clock.advance(timedelta(seconds=FRESH_S))
        second = card.read()
        assert second.stale
        assert (second.at, second.clauses) == (first.at, first.clauses)
        with pytest.raises(MainstayError):
            Scorecard(app).read()


def test_home_says_what_changed_last(measured: tuple[App, FixedClock]) -> None:
    app, clock = measured
    card = Scorecard(app)
    app.ladder.order(Mode.ECONOMY, "user:hugo", detail="we save")
    app.ladder.order(None, "user:hugo")
    clock.advance(timedelta(minutes=1))
    said = [(change.what, change.by) for change in card.read().changes]
    assert ("Full service → Economy: cheaper models: we save", "user:hugo") in said


# -- Ask -----------------------------------------------------------------------------------------------------------------


def test_why_these_sources(console: Service) -> None:
    browser = signed_in(console, "asker")
    page = browser.get("/ask", params={"q": QUESTION})
    assert "confidence" in page.text
    assert "cost $0.00" in page.text
    link = next(one for one in Seen(page.text).all("a", "href") if one.startswith("/ask/why/"))
    why = browser.get(link)
    assert "Travel policy 2024" in why.text
    assert "everybody may" in why.text
    rows = list(csv.DictReader(io.StringIO(browser.get(f"{link}?format=csv").text)))
    assert rows[0]["rank"] == "1"
    assert float(rows[0]["words"]) > 0
    assert signed_in(console, "viewer").get(link).status_code == 404, "somebody else's"
    assert signed_in(console, "operator").get(link).status_code == 200


def test_why_names_the_group_that_lets_one_in_and_no_other(console: Service) -> None:
    browser = signed_in(console, "alice")
    page = browser.get("/ask", params={"q": "What is the salary budget of the harbour in 2026?"})
    link = next(one for one in Seen(page.text).all("a", "href") if one.startswith("/ask/why/"))
    assert "you are in finance" in browser.get(link).text
    operator = signed_in(console, "operator").get(link).text
    assert "Salary plan" not in operator, "operators see the journey, not documents that are not theirs"
    console.app.people.remove_member("finance", "user:alice")
    try:
        assert "Salary plan" not in browser.get(link).text
    finally:
        console.app.people.add_member("finance", "user:alice")


def test_a_question_goes_to_a_person_once(console: Service) -> None:
    browser = signed_in(console, "asker")
    request_id = browser.get("/ask", params={"q": QUESTION}).headers["x-request-id"]
    data = {"q": QUESTION, "answer": request_id}
    assert browser.post("/ask/hand-over", data=data).status_code == 403, "not from our page"
    first = browser.post("/ask/hand-over", data=data, headers=OURS)
    assert first.status_code == 303
    assert browser.post("/ask/hand-over", data=data, headers=OURS).headers["location"] == first.headers["location"]
    page = browser.get(first.headers["location"])
    assert "A person will look at it" in page.text
    assert QUESTION in page.text
    held = console.app.handovers.get(first.headers["location"].rsplit("/", 1)[1])
    assert held is not None
    assert (held.principal, held.request_id, held.state) == ("user:asker", request_id, State.WAITING)
    other = signed_in(console, "reviewer")
    assert other.get(first.headers["location"]).status_code == 404
    assert other.post("/ask/hand-over", data=data, headers=OURS).status_code == 404, "somebody else's answer"
    assert browser.post("/ask/hand-over", data={"q": " "}, headers=OURS).status_code == 400


def test_what_an_asker_says_of_an_answer_is_kept(console: Service) -> None:
    browser = signed_in(console, "asker")
    request_id = browser.get("/ask", params={"q": QUESTION}).headers["x-request-id"]
    data = {"answer": request_id, "rating": "down", "comment": f" too short {EVIL} "}
    assert browser.post("/ask/feedback", data=data).status_code == 403, "not from our page"
    said = browser.post("/ask/feedback", data=data, headers=OURS)
    assert (said.status_code, said.headers["location"]) == (303, "/ask/thanks")
    assert "Thank you" in browser.get("/ask/thanks").text
    kept = browser.get(f"/v1/requests/{request_id}/outcomes", headers=OURS).json()["outcomes"]
    assert [(one["kind"], one["value"], one["comment"]) for one in kept] == [("thumbs", 0, f"too short {EVIL}")]
    assert signed_in(console, "reviewer").post("/ask/feedback", data=data, headers=OURS).status_code == 404
    assert browser.post("/ask/feedback", data={**data, "rating": "sideways"}, headers=OURS).status_code == 400


def test_forms_of_ask_work_without_a_script(console: Service) -> None:
    page = signed_in(console, "asker").get("/ask", params={"q": QUESTION}).text
    seen = Seen(page)
    assert 'method="get" action="/ask"' in page
    assert '<form method="post" action="/ask/hand-over">' in page
    assert QUESTION in seen.all("input", "value")
    for tag, attributes in seen.tags:
        if tag in ("input", "textarea") and attributes.get("type") != "hidden":
            assert f'<label for="{attributes["id"]}"' in page


# -- Settings ------------------------------------------------------------------------------------------------------------

SECRETS = {"key": "sk-very-secret", "header": "x-secret-header-value", "smtp": "smtp-secret", "hook": "/hook-secret"}


def test_settings_in_force_without_their_secrets(tmp_path: Path) -> None:
    signing = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
    yaml = f"""
sources: [{{name: files, folder: documents}}]
models:
  answer: main
  providers:
    main:
      base_url: https://models.example.org/v1
      model: large
      api_key: {SECRETS["key"]}
      headers: {{x-extra: {SECRETS["header"]}}}
      price: {{input: "2", output: "8"}}
    spare:
      base_url: https://user:{SECRETS["key"]}@spare.example.org/v1?token={SECRETS["key"]}
      model: small
smtp: {{host: mail.example.org, password: {SECRETS["smtp"]}, sender: m@example.org}}
handover: {{secret: {signing}}}
"""
    built = build(tmp_path / "service", yaml)
    built.app.close()
    (built.folder / "agreement.yaml").write_text(
        f"handover: {{webhook: 'https://hooks.example.org{SECRETS['hook']}'}}\n", encoding="utf-8"
    )
    with open_app(built.folder) as app:
        browser = TestClient(create_api(app), headers=PAGE)
        browser.cookies.set("mainstay", app.sessions.begin("user:hugo", "password"))
        page = browser.get("/settings")
        files = [browser.get(f"/settings?format=csv&table={name}").text for name in ("settings", "agreement", "models")]
        for text in (page.text, *files):
            for secret in (*SECRETS.values(), signing, "QUJDREVG"):
                assert secret not in text
        assert "https://models.example.org/v1" in page.text
        assert "$2.00" in page.text
        assert app.release in page.text
        values = {row["key"]: (row["value"], row["said"]) for row in csv.DictReader(io.StringIO(files[0]))}
        assert values["models.providers.main.api_key"] == ("set, not shown", "the file")
        assert values["models.providers.main.headers"] == ("set, not shown: x-extra", "the file")
        assert values["models.providers.spare.base_url"][0] == "https://spare.example.org/v1"
        assert values["smtp.password"][0] == "set, not shown"
        assert values["handover.secret"][0] == "set, not shown"
        assert values["listen.port"] == ("8080", "the default")
        assert values["sources[0].name"] == ("files", "the file")
        assert "has changed since" not in page.text
        (built.folder / "mainstay.yaml").write_text(yaml + "# later\n", encoding="utf-8")
        assert "mainstay.yaml has changed since this process started" in browser.get("/settings").text


def test_no_value_of_a_settings_shape_that_looks_secret_is_shown(console: Service) -> None:
    """A new setting with a telling name has to be kept out of ``repr``, as the screen asks the shape."""
    browser = signed_in(console, "admin")
    rows = csv.DictReader(io.StringIO(browser.get("/settings?format=csv&table=settings").text))
    for row in rows:
        if re.search(r"password|secret|api_key|token$", row["key"]):
            assert row["value"] in ("not set", "set, not shown") or urlsplit(row["value"]).scheme
