"""Signing in at the console, with a real identity provider behind HTTP, and sessions that outlive the process."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from mainstay.app import open_app
from mainstay.records.audit import Filters
from mainstay.web.server import create_api
from tests.road.conftest import PASSWORD, Service, build
from tests.support.identity_provider import CLIENT, SECRET, Faults, IdentityProvider

PAGE = {"Accept": "text/html"}
OURS = {"Origin": "http://testserver", **PAGE}
PEOPLE = {
    "pat": {"name": "Pat Example", "groups": ["oncall"]},
    "ann": {"name": "Ann", "groups": ["finance"]},
    "rex": {"name": '"><script>alert(1)</script>', "groups": []},
}


def settings(issuer: str, **more: str) -> str:
    held = {"client_secret": f'"{SECRET}"', **more}
    extra = ", ".join(f"{name}: {value}" for name, value in held.items() if value)
    return (
        "identity:\n  anonymous: deny\n"
        f"  oidc: {{issuer: '{issuer}', client_id: {CLIENT}, roles: {{operator: ['group:oncall']}}, {extra}}}\n"
        "sources: [{name: files, folder: documents}]\n"
    )


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider(PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def service(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    built = build(tmp_path_factory.mktemp("signing") / "service", settings(provider.issuer))
    with built.app:
        yield built


@pytest.fixture(autouse=True)
def sound(provider: IdentityProvider) -> None:
    provider.faults = Faults()


def browse(service: Service, base: str = "http://testserver") -> TestClient:
    return TestClient(service.client.app, base_url=base, headers=PAGE, follow_redirects=False)


def approve(address: str, name: str) -> str:
    """What a person does at the provider: open the page, say who they are; returns where they are sent back to."""
    with httpx2.Client() as person:
        page = person.get(address)
        assert page.status_code == 200
        fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page.text.replace("&amp;", "&")))
        back = person.post(address, data={**fields, "name": name})
    assert back.status_code == 302
    return str(back.headers["location"])


def sign_in(browser: TestClient, name: str, to: str = "/") -> Any:
    away = browser.get("/sign-in/provider", params={"to": to})
    assert away.status_code == 303
    return browser.get(approve(away.headers["location"], name))


def test_sign_in_and_out(service: Service, provider: IdentityProvider) -> None:
    browser = browse(service)
    assert "Sign in with your organisation" in browser.get("/sign-in").text
    away = browser.get("/sign-in/provider", params={"to": "/ask?q=x"})
    asked = {name: values[0] for name, values in parse_qs(urlsplit(away.headers["location"]).query).items()}
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://testserver/sign-in/back"
    assert asked["scope"].split()[0] == "openid"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 32
    back = browser.get(approve(away.headers["location"], "pat"))
    assert (back.status_code, back.headers["location"]) == (303, "/ask?q=x")
    assert 43 <= len(provider.redeemed[-1]["code_verifier"]) <= 128
    home = browser.get("/")
    assert "Pat Example" in home.text
    assert "How the agreement is kept" in home.text, "her group makes her an operator"
    assert [cookie.name for cookie in browser.cookies.jar] == ["mainstay"]
    gone = browser.post("/sign-out", headers=OURS)
    assert "Signed out" in gone.text
    assert f"{provider.issuer}/logout?client_id=console" in gone.text.replace("&amp;", "&")
    assert browser.get("/").status_code == 303


def test_groups_of_the_provider_open_documents_and_no_more(service: Service) -> None:
    browser = browse(service)
    sign_in(browser, "ann")
    page = browser.get("/", params={"q": "What is the salary budget of the harbour in 2026?"})
    assert "5.2 million" in page.text, "group:finance"
    assert "How the agreement is kept" not in browser.get("/").text
    assert browser.get("/settings").status_code == 404


def test_a_name_from_the_provider_stays_text(service: Service) -> None:
    browser = browse(service)
    sign_in(browser, "rex")
    text = browser.get("/").text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


def test_https_binds_the_cookies_to_the_host(service: Service) -> None:
    browser = browse(service, "https://testserver")
    away = browser.get("/sign-in/provider")
    kept = away.headers["set-cookie"]
    assert kept.startswith("__Host-mainstay-sign-in=")
    assert all(word in kept for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"))
    back = browser.get(approve(away.headers["location"], "pat"))
    cookies = back.headers.get_list("set-cookie")
    assert cookies[0].startswith("__Host-mainstay=")
    assert all("Secure" in cookie and "HttpOnly" in cookie for cookie in cookies)


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_way_back_leads_nowhere_else(service: Service, to: str) -> None:
    assert sign_in(browse(service), "pat", to).headers["location"] == "/"


def refused(back: Any, status: int, words: str) -> None:
    assert back.status_code == status, back.text
    assert words in back.text
    assert "<h1>Sign in</h1>" in back.text
    assert not any(cookie.startswith("mainstay=") for cookie in back.headers.get_list("set-cookie"))


def test_an_answer_to_nobodys_question(service: Service, provider: IdentityProvider) -> None:
    browser = browse(service)
    refused(browser.get("/sign-in/back", params={"code": "c", "state": "s"}), 400, "not begun in this browser")
    first = browser.get("/sign-in/provider").headers["location"]
    browser.get("/sign-in/provider")
    refused(browser.get(approve(first, "pat")), 400, "begun anew")
    others = browse(service)
    others.get("/sign-in/provider")
    refused(others.get(approve(first, "pat")), 400, "not begun in this browser")
    for broken in ("", "x", "e30=", "é"):
        other = browse(service)
        other.cookies.set("mainstay-sign-in", broken.encode("unicode_escape").decode())
        refused(other.get("/sign-in/back", params={"code": "c", "state": ""}), 400, "not begun")


def test_a_code_serves_once(service: Service) -> None:
    browser = browse(service)
    away = browser.get("/sign-in/provider")
    kept = browser.cookies.get("mainstay-sign-in")
    back = approve(away.headers["location"], "pat")
    assert browser.get(back).status_code == 303
    again = browse(service)
    again.cookies.set("mainstay-sign-in", kept or "")
    refused(again.get(back), 401, "invalid_grant")


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"nonce": "another"}, "another sign-in"),
        ({"nonce": None}, "another sign-in"),
        ({"nonce": 7}, "another sign-in"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"aud": "another"}, "another audience"),
        ({"aud": ["another", CLIENT]}, "another client"),
        ({"aud": ["another", CLIENT], "azp": "another"}, "another client"),
        ({"azp": "another"}, "another client"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "when it expires"),
        ({"sub": ""}, "no claim sub"),
        ({"events": {}}, "a kind that is not accepted"),
    ],
)
def test_an_id_token_that_is_not_for_us(
    service: Service, provider: IdentityProvider, claims: dict[str, Any], words: str
) -> None:
    provider.faults = Faults(claims=claims)
    refused(sign_in(browse(service), "pat"), 401, words)


def test_an_access_token_signs_nobody_in(service: Service, provider: IdentityProvider) -> None:
    provider.faults = Faults(header={"typ": "at+jwt"})
    refused(sign_in(browse(service), "pat"), 401, "a kind that is not accepted")


def test_several_audiences_with_ours_in_charge(service: Service, provider: IdentityProvider) -> None:
    provider.faults = Faults(claims={"aud": ["another", CLIENT], "azp": CLIENT})
    assert sign_in(browse(service), "pat").status_code == 303


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({"iss": "https://evil.example"}, 401, "another identity provider"),
        ({"iss": ""}, 401, "another identity provider"),
        ({"error": "access_denied", "code": ""}, 403, "access_denied"),
        ({"error": "<script>alert(1)</script>", "code": ""}, 403, "does not name"),
        ({"code": ""}, 400, "no code"),
        ({"code": "made-up"}, 401, "invalid_grant"),
        ({"state": "another"}, 400, "not begun in this browser"),
    ],
)
def test_an_answer_that_is_not_good(
    service: Service, provider: IdentityProvider, answer: dict[str, str], status: int, words: str
) -> None:
    provider.faults = Faults(answer=answer)
    back = sign_in(browse(service), "pat")
    refused(back, status, words)
    assert "<script>alert" not in back.text


@pytest.mark.parametrize(
    ("faults", "status", "words"),
    [
        (Faults(token_status=500), 503, "answers 500"),
        (Faults(token_body=b"<html>"), 401, "status 200"),
        (Faults(token_body=b"[]"), 401, "status 200"),
        (Faults(token_body=b"{}"), 401, "no ID token"),
        (Faults(token_body=b'{"id_token": 7}'), 401, "no ID token"),
        (Faults(token_body=b'{"id_token": "a.b.c"}'), 401, "not a signed token"),
        (Faults(token_status=400, token_body=b'{"error": "invalid_client"}'), 401, "invalid_client"),
    ],
)
def test_a_token_endpoint_that_answers_otherwise(
    service: Service, provider: IdentityProvider, faults: Faults, status: int, words: str
) -> None:
    provider.faults = faults
    refused(sign_in(browse(service), "pat"), status, words)


def test_a_parameter_that_stands_twice_counts_as_none(service: Service) -> None:
    browser = browse(service)
    back = approve(browser.get("/sign-in/provider").headers["location"], "pat")
    refused(browser.get(f"{back}&code=another"), 400, "no code")


def test_a_disabled_account_is_not_revived_by_the_provider(service: Service) -> None:
    service.app.people.add_user("ann")
    service.app.people.disable("user:ann")
    try:
        refused(sign_in(browse(service), "ann"), 401, "may not act")
    finally:
        service.app.people.delete("user:ann")
    refused(sign_in(browse(service), "ann"), 401, "may not act")
    service.app.people.add_user("ann")
    assert sign_in(browse(service), "ann").status_code == 303


def test_a_provider_that_can_not_be_reached(tmp_path: Path) -> None:
    with IdentityProvider(PEOPLE) as gone:
        issuer = gone.issuer
    built = build(tmp_path / "service", settings(issuer))
    with built.app:
        page = browse(built).get("/sign-in/provider")
        assert page.status_code == 503
        assert "<h1>Sign in</h1>" in page.text
        assert issuer not in page.text, "where the provider stands is the operator's business"


def test_a_client_without_a_secret(tmp_path: Path) -> None:
    with IdentityProvider(PEOPLE, public=True) as public:
        built = build(
            tmp_path / "service",
            settings(public.issuer, client_secret="", redirect_uri="https://help.example.org/sign-in/back"),
        )
        with built.app:
            browser = browse(built)
            away = browser.get("/sign-in/provider").headers["location"]
            assert "redirect_uri=https%3A%2F%2Fhelp.example.org%2Fsign-in%2Fback" in away
            back = urlsplit(approve(away, "pat"))
            assert back.netloc == "help.example.org"
            assert browser.get(f"{back.path}?{back.query}").status_code == 303
            assert public.redeemed[-1]["client_id"] == CLIENT


def test_without_a_client_there_is_no_such_door(tmp_path: Path, provider: IdentityProvider) -> None:
    built = build(
        tmp_path / "service",
        f"identity: {{oidc: {{issuer: '{provider.issuer}', audience: x}}}}\nsources: [{{name: files, folder: documents}}]\n",
    )
    with built.app:
        browser = browse(built)
        assert "your organisation" not in browser.get("/sign-in").text
        assert browser.get("/sign-in/provider").status_code == 404
        assert browser.get("/sign-in/back").status_code == 404


# -- sessions ------------------------------------------------------------------------------------------------------------


def test_a_restart_signs_nobody_out_and_any_process_serves(service: Service) -> None:
    browser = browse(service)
    sign_in(browser, "pat")
    by_password = browse(service)
    by_password.post("/sign-in", data={"name": "alice", "password": PASSWORD}, headers=OURS)
    with open_app(service.folder) as again:
        there = create_api(again)
        for before, name in ((browser, "Pat Example"), (by_password, "Alice")):
            other = TestClient(there, headers=PAGE, follow_redirects=False)
            other.cookies.set("mainstay", before.cookies.get("mainstay") or "")
            assert name in other.get("/").text
            other.post("/sign-out", headers=OURS)
            assert before.get("/").status_code == 303, "signed out there is signed out here"


def test_the_key_itself_is_not_kept_and_has_to_stay_in_force(service: Service) -> None:
    browser = browse(service)
    key, text = service.app.keyring.create("user:bram", name="page")
    assert browser.post("/sign-in", data={"key": text}, headers=OURS).status_code == 303
    assert "Bram" in browser.get("/").text
    if service.app.database.dialect == "sqlite":
        dump = "\n".join(sqlite3.connect(service.app.settings.database).iterdump())
        assert key.key_id in dump
        assert text.split("_")[2] not in dump
        assert str(browser.cookies.get("mainstay")) not in dump
    service.app.keyring.revoke(key.key_id)
    assert browser.get("/").status_code == 303


def test_signing_in_again_leaves_the_earlier_session_behind(service: Service) -> None:
    browser = browse(service)
    sign_in(browser, "pat")
    first = browser.cookies.get("mainstay") or ""
    sign_in(browser, "ann")
    assert browser.cookies.get("mainstay") != first
    other = browse(service)
    other.cookies.set("mainstay", first)
    assert other.get("/").status_code == 303


def test_a_part_of_a_page_leads_the_whole_page_to_sign_in(service: Service) -> None:
    said = browse(service).get("/settings?x=1", headers={"HX-Request": "true", "HX-Request-Type": "partial"})
    assert said.status_code == 401
    assert said.headers["hx-redirect"] == "/sign-in?to=%2Fsettings%3Fx%3D1"
    assert said.text == ""


# -- what the audit log hears ------------------------------------------------------------------------------------------
def heard(service: Service, since: int) -> list[tuple[str, str, dict[str, Any]]]:
    """What the log says of signing in since then, the oldest first."""
    found = service.app.audit.list(Filters(action="session."), limit=1000).events
    return [(one.action, one.subject, dict(one.details)) for one in reversed(found) if one.n >= since]


def test_each_way_in_and_out_is_an_event(service: Service) -> None:
    since = service.app.audit.size()
    browser = browse(service)
    shown = browser.post("/sign-in", data={"name": "alice", "password": PASSWORD}, headers=OURS)
    assert shown.status_code == 303
    shown = browser.post("/sign-in", data={"key": service.keys["alice"]}, headers=OURS)  # anew, in the same browser
    assert shown.status_code == 303
    assert browser.post("/sign-out", headers=OURS).status_code == 303
    assert sign_in(browse(service), "pat").status_code == 303
    said = heard(service, since)
    assert [(action, who, held.get("because", held["with"])) for action, who, held in said] == [
        ("session.started", "user:alice", "password"),
        ("session.started", "user:alice", "key"),
        ("session.ended", "user:alice", "signed_in_anew"),
        ("session.ended", "user:alice", "signed_out"),
        ("session.started", "user:pat", "provider"),
    ]
    newest = service.app.audit.list(Filters(action="session.started"), limit=2).events
    assert all(event.request_id.startswith("req_") for event in newest)
    assert newest[1].via.startswith("key_")
    everything = str(said)
    assert PASSWORD not in everything
    assert service.keys["alice"] not in everything


def test_what_failed_is_an_event_without_what_was_typed(service: Service) -> None:
    service.app.refusals.close()  # what other tests left to be told
    since, browser = service.app.audit.size(), browse(service)
    for name, password, key in (
        ("alice", "wrong", ""),
        ("alice", "wrong again", ""),
        ("my secret passphrase", "alice", ""),
        ("", "", "mst_nothing"),
        ("", "", service.keys["alice"][:-1] + "x"),
    ):
        tried = browser.post("/sign-in", data={"name": name, "password": password, "key": key}, headers=OURS)
        assert tried.status_code == 401
    assert browser.get("/sign-in/back?code=x&state=y").status_code == 400
    assert heard(service, since) == []  # the thread that signs the log writes it, a second later at most
    service.app.auditing.look()
    assert "user:alice" in [who for _, who, _ in heard(service, since)]
    service.app.refusals.close()  # the others are told every ten minutes
    (_, who, hers), (_, others, theirs) = heard(service, since)
    assert (who, hers["tries"], hers["with"]) == ("user:alice", 2, ["password"])
    assert (others, theirs["tries"], theirs["unknown"]) == ("sign-in:others", 4, 4)
    assert theirs["with"] == ["key", "password", "provider"]
    everything = str([vars(event) for event in service.app.audit.list(Filters(), limit=1000).events])
    for secret in ("wrong", "my secret passphrase", "mst_"):
        assert secret not in everything


def test_somebody_who_was_disabled_and_one_who_tries_too_often(service: Service) -> None:
    service.app.refusals.close()
    since, browser = service.app.audit.size(), browse(service)
    service.app.people.add_user("deb", password=PASSWORD)
    signed = browse(service)
    assert signed.post("/sign-in", data={"name": "deb", "password": PASSWORD}, headers=OURS).status_code == 303
    service.app.people.disable("user:deb")
    assert signed.get("/").status_code == 303
    statuses = [
        browser.post("/sign-in", data={"name": "deb", "password": PASSWORD}, headers=OURS).status_code
        for _ in range(12)
    ]
    assert statuses == [401] * 10 + [429] * 2
    service.app.refusals.close()
    told = heard(service, since)
    assert [(action, held.get("because")) for action, _, held in told[:2]] == [
        ("session.started", None),
        ("session.ended", "disabled"),
    ]
    assert [(who, held["tries"], held.get("limited")) for _, who, held in told[2:]] == [
        ("user:deb", 10, None),
        ("sign-in:others", 2, 2),
    ]
