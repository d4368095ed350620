"""The page, without a browser: what it shows, to whom, and that nothing written by others becomes active."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from mainstay.web.console.ask import cut
from mainstay.web.console.sign_in import local
from mainstay.web.server import create_api
from tests.road.conftest import PASSWORD, SCRIPT, Service, build

PAGE = {"Accept": "text/html"}
OURS = {"Origin": "http://testserver", **PAGE}


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def browse(service: Service) -> TestClient:
    return TestClient(create_api(service.app), headers=PAGE, follow_redirects=False)


def test_ask_and_open_the_source(service: Service) -> None:
    browser = browse(service)
    page = browser.get("/", params={"q": "How much may a hotel cost a night?"})
    assert page.status_code == 200
    assert "140 euros" in page.text
    assert "Quoted word for word" in page.text
    assert page.headers["x-request-id"] in page.text
    links = [
        attributes["href"]
        for tag, attributes in Seen(page.text).tags
        if tag == "a" and "/documents/" in (attributes.get("href") or "")
    ]
    opened = browser.get(str(links[0]))
    marked = re.search(r'<mark id="cited"[^>]*>(.*?)</mark>', opened.text, re.DOTALL)
    assert marked is not None
    assert "140 euros" in marked[1]
    assert "Travel policy 2024" in opened.text


def test_empty_page_and_question_too_long(service: Service) -> None:
    browser = browse(service)
    assert browser.get("/").status_code == 200
    assert browser.get("/", params={"q": "  "}).status_code == 200
    page = browser.get("/", params={"q": "x" * 5000})
    assert page.status_code == 413
    assert "at most 4000" in page.text


def test_a_link_on_another_site_does_not_ask(service: Service) -> None:
    page = browse(service).get("/", params={"q": "hotel cost"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert "Press Ask" in page.text
    assert 'class="answer' not in page.text


def test_headers_of_pages(service: Service) -> None:
    browser = browse(service)
    for path in ("/", "/docs", "/sign-in", "/nothing-here", "/?q=hotel"):
        page = browser.get(path)
        policy = page.headers["content-security-policy"]
        nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
        assert nonce is not None
        assert "default-src 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        for tag, attributes in Seen(page.text).tags:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            assert tag != "style"
            if tag == "script":
                assert attributes["nonce"] == nonce[1]
            for name in ("src", "href", "action"):
                assert re.match(r"[/?#]", attributes.get(name) or "/")
                assert not (attributes.get(name) or "").startswith("//")
    assert browser.get("/").headers["content-security-policy"] != browser.get("/").headers["content-security-policy"]
    kept = browser.get(
        next(str(a["href"]) for t, a in Seen(browser.get("/").text).tags if t == "link" and a["rel"] == "stylesheet")
    )
    assert "max-age" in kept.headers["cache-control"]


@pytest.mark.parametrize(
    "question",
    [
        f"Who wears a yellow helmet {SCRIPT}?",
        "What is written on the old helmet sign?",
        f'"{SCRIPT}"><img src=x onerror=alert(1)>',
    ],
)
def test_nothing_written_becomes_active(service: Service, question: str) -> None:
    browser = browse(service)
    page = browser.get("/", params={"q": question})
    pages = [page.text]
    for tag, attributes in Seen(page.text).tags:
        if tag == "a" and (attributes.get("href") or "").startswith("/documents/"):
            pages.append(browser.get(str(attributes["href"])).text)
    for text in pages:
        assert "<script>alert" not in text
        tags = Seen(text).tags
        assert [attributes for tag, attributes in tags if tag == "script" and "src" not in attributes] == []
        assert [attributes for tag, attributes in tags if tag == "img" and attributes.get("src") == "x"] == []
        assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


def test_stored_script_in_every_field_stays_text(service: Service) -> None:
    evil = '"><script>alert(3)</script>'
    body = {
        "content": f"The ibex quay {evil} is narrow.",
        "title": evil,
        "uri": f"javascript:alert(4)//{evil}",
        "access": "public",
    }
    put = service.client.put("/v1/documents/ibex", json=body, headers=service.headers("crawler"))
    assert put.status_code == 200
    browser = browse(service)
    for page in (
        browser.get("/", params={"q": "How narrow is the ibex quay?"}),
        browser.get(f"/documents/{put.json()['id']}"),
    ):
        assert page.status_code == 200
        assert "alert(3)" in page.text
        assert "<script>alert" not in page.text
        for _, attributes in Seen(page.text).tags:
            assert "javascript:" not in (attributes.get("href") or "")


def test_missing_and_forbidden_pages_read_the_same(service: Service) -> None:
    listed = service.client.get("/v1/documents", headers=service.headers("hugo")).json()["documents"]
    salary = next(one for one in listed if one["path"] == "finance/salary-plan.md")
    browser = browse(service)
    texts = []
    for name in (salary["id"], "doc_aaaaaaaaaaaaaaaaaaaaaaaa", "finance/salary-plan.md"):
        page = browser.get(f"/documents/{name}", params={"version": salary["version"], "start": 1, "end": 2})
        assert page.status_code == 404
        text = re.sub(r'nonce="[\w-]+"', "", page.text)
        texts.append(text.replace(page.headers["x-request-id"], "").replace(name, ""))
    assert texts[0] == texts[1] == texts[2]


def test_sign_in_by_password_and_out(service: Service) -> None:
    browser = browse(service)
    question = {"q": "What is the salary budget of the harbour in 2026?"}
    assert "5.2 million" not in browser.get("/", params=question).text
    came = browser.post("/sign-in", data={"name": "alice", "password": PASSWORD, "to": "/?q=x"}, headers=OURS)
    assert came.status_code == 303
    assert came.headers["location"] == "/?q=x"
    cookie = came.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "5.2 million" in browser.get("/", params=question).text
    assert "Alice" in browser.get("/").text
    gone = browser.post("/sign-out", headers=OURS)
    assert gone.status_code == 303
    assert "5.2 million" not in browser.get("/", params=question).text


def test_cookie_over_https_is_bound_to_the_host(service: Service) -> None:
    browser = TestClient(create_api(service.app), base_url="https://testserver", headers=PAGE, follow_redirects=False)
    came = browser.post(
        "/sign-in", data={"name": "alice", "password": PASSWORD}, headers={"Origin": "https://testserver"}
    )
    cookie = came.headers["set-cookie"]
    assert cookie.startswith("__Host-mainstay=")
    assert "secure" in cookie.lower()
    assert "strict-transport-security" in came.headers


def test_sign_in_by_key_ends_with_the_key(fresh: Service) -> None:
    browser = browse(fresh)
    came = browser.post("/sign-in", data={"key": fresh.keys["alice"]}, headers=OURS)
    assert came.status_code == 303
    assert "Alice" in browser.get("/").text
    fresh.app.keyring.revoke(fresh.app.keyring.list("user:alice")[0].key_id)
    assert "Alice" not in browser.get("/").text


def test_forms_of_other_sites_are_refused(service: Service) -> None:
    browser = browse(service)
    for headers in (
        PAGE,
        {**PAGE, "Origin": "https://evil.example"},
        {**PAGE, "Origin": "null"},
        {**OURS, "Sec-Fetch-Site": "cross-site"},
    ):
        said = browser.post("/sign-in", data={"name": "alice", "password": PASSWORD}, headers=headers)
        assert said.status_code == 403
        assert "set-cookie" not in said.headers


def test_a_cookie_speaks_for_our_own_page_alone(service: Service) -> None:
    browser = browse(service)
    browser.post("/sign-in", data={"key": service.keys["alice"]}, headers=OURS)
    question = {"question": "What is the salary budget of the harbour in 2026?"}

    def ask(headers: dict[str, str]) -> Any:
        return browser.post("/v1/answers", json=question, headers=headers).json()["text"]

    assert "5.2 million" in ask({"Sec-Fetch-Site": "same-origin"})
    assert "5.2 million" in ask({"Origin": "http://testserver"})
    for headers in (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ):
        assert "5.2 million" not in ask(headers)


def test_guessing_is_slowed_down(fresh: Service) -> None:
    browser = browse(fresh)
    tries = [
        browser.post("/sign-in", data={"name": "alice", "password": f"wrong {n}"}, headers=OURS) for n in range(11)
    ]
    assert [said.status_code for said in tries] == [401] * 10 + [429]
    assert int(tries[-1].headers["retry-after"]) > 0
    unknown = browser.post("/sign-in", data={"name": "nobody", "password": "wrong"}, headers=OURS)
    message = re.compile(r'role="alert">(.*?)</div>')
    assert message.findall(unknown.text) == message.findall(tries[0].text)
    assert browser.post("/sign-in", data={"name": "alice", "password": PASSWORD}, headers=OURS).status_code == 429


def test_without_anonymous_the_page_leads_to_sign_in(tmp_path: Any) -> None:
    closed = build(tmp_path / "closed", "sources: [{name: files, folder: documents}]\n")
    with closed.app:
        browser = browse(closed)
        led = browser.get("/?q=hotel")
        assert led.status_code == 303
        assert led.headers["location"] == "/sign-in?to=%2F%3Fq%3Dhotel"
        assert browser.get("/documents/doc_x").status_code == 303
        assert browser.post("/v1/answers", json={"question": "hotel"}).status_code == 401
        assert browser.get("/v1/models").json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/\x00", "/ü\nx", "evil"],
)
def test_sign_in_leads_nowhere_else(to: str) -> None:
    assert local(to) == "/"


def test_markers_without_a_source_stay_text() -> None:
    assert cut("a [1] b [2] c [99].", {1}) == (("a ", 1), (" b [2] c [99].", 0))


def test_a_long_document_is_shown_around_the_cited_words(service: Service) -> None:
    text = "filler words here. " * 8000 + "The yak bridge carries 3 tonnes. " + "more filler. " * 8000
    put = service.client.put(
        "/v1/documents/yak", json={"content": text, "access": "public"}, headers=service.headers("crawler")
    ).json()
    whole = service.client.get("/v1/documents/yak/text").json()["text"]
    start = whole.index("The yak bridge")
    page = browse(service).get(
        f"/documents/{put['id']}", params={"version": put["version"], "start": start, "end": start + 32}
    )
    assert '<mark id="cited" tabindex="-1">The yak bridge carries 3 tonnes.</mark>' in page.text
    assert len(page.text) < 60_000
    later = re.search(r'href="(\?[^"]*)">Later', page.text)
    assert later is not None
    assert browse(service).get(f"/documents/{put['id']}{later[1].replace('&amp;', '&')}").status_code == 200


def test_reference_page(service: Service) -> None:
    page = browse(service).get("/docs").text
    for path in ("/v1/answers", "/v1/documents:batch", "/v1/chat/completions", "/readyz"):
        assert path in page
    assert "cdn" not in page.lower()
