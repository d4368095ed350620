"""The console in a real browser: parts load by themselves under the strict policy, and focus stays where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.road.browser import CHROMIUM, Browser
from tests.road.conftest import PASSWORD, Service, build, serving
from tests.road.test_browser import CONTRAST

if CHROMIUM is None:
    if os.environ.get("CI"):
        pytest.fail("CI has no Chromium", pytrace=False)
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    built = build(tmp_path_factory.mktemp("console") / "service", "sources: [{name: files, folder: documents}]\n")
    built.app.people.set_role("user:alice", "operator")
    with built.app:
        yield built


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service.app) as at:
        yield at


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    """Signed in as an operator."""
    with Browser() as opened:
        opened.open(f"{address}/sign-in")
        fill = {"name": "alice", "password": PASSWORD}
        for field, value in fill.items():
            opened.run(f"document.getElementById('{field}').value = {json.dumps(value)}")
        opened.run("document.querySelector('form[action=\"/sign-in\"] button').click()")
        opened.until("document.querySelector('.who')?.textContent === 'Alice'")
        yield opened


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    browser.said.clear()
    yield
    assert browser.said == []


def test_home_refreshes_itself_and_focus_stays(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.until("typeof htmx === 'object'")
    link = "document.querySelector('#table-agreement figcaption a')"
    browser.run(f"window.kept = {link}; window.kept.focus(); 1")
    before = browser.run("document.querySelector('#scorecard').getAttribute('hx-nonce')")
    browser.run("window.swapped = 0; document.addEventListener('htmx:after:swap', () => { window.swapped += 1; }); 1")
    browser.run("htmx.trigger(document.querySelector('#scorecard'), 'every'); 1")
    browser.until("window.swapped > 0")
    assert browser.run(f"document.activeElement === {link}") is True
    after = browser.run("document.querySelector('#scorecard').getAttribute('hx-nonce')")
    assert before == after, "the fragment carries the page's own nonce now"
    browser.run("htmx.trigger(document.querySelector('#scorecard'), 'every'); 1")
    browser.until("window.swapped > 1")


def test_times_are_the_readers_own(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.until("document.querySelector('time[data-local]') !== null")
    assert browser.run("document.querySelector('time').title").endswith("UTC")


def test_an_injected_element_gets_no_behaviour(browser: Browser, address: str) -> None:
    """What would slip through as markup still carries no nonce: htmx strips it, and nothing is asked for."""
    browser.open(address)
    browser.until("typeof htmx === 'object'")
    browser.run(
        "(() => { const e = document.createElement('div'); e.id = 'evil'; e.setAttribute('hx-get', '/settings');"
        " e.setAttribute('hx-trigger', 'load'); document.querySelector('main').append(e); htmx.process(e); return 1; })()"
    )
    browser.until("document.querySelector('#evil').attributes.length === 1")
    assert any("hx-csp" in said for said in browser.said)
    browser.said.clear()


def test_who_may_no_longer_look_is_told_so(browser: Browser, address: str, service: Service) -> None:
    browser.open(address)
    browser.until("typeof htmx === 'object'")
    service.app.people.set_role("user:alice", "reviewer")
    try:
        browser.run("htmx.trigger(document.querySelector('#scorecard'), 'every'); 1")
        browser.until("document.querySelector('main [role=alert]')?.textContent.startsWith('Not found.')")
    finally:
        service.app.people.set_role("user:alice", "operator")
        browser.said.clear()  # the browser notes the status


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/ask?q=How+much+may+a+hotel+cost+a+night%3F", "/settings", "/no-such-page"])
def test_contrast_width_and_keyboard(browser: Browser, address: str, scheme: str, path: str, tmp_path: Path) -> None:
    browser.emulate(prefers_color_scheme=scheme)
    for width in (1200, 800, 320):
        browser.size(width, 900)
        browser.open(address + path)
        assert browser.run(CONTRAST) == []
        assert browser.run("document.documentElement.scrollWidth") <= width
        small = (
            "[...document.querySelectorAll('button, nav a, .quiet, .go')].filter((e) => {"
            " const r = e.getBoundingClientRect(); return r.width && (r.height < 24 || r.width < 24); }).length"
        )
        assert browser.run(small) == 0
    browser.size(1200, 900)
    browser.said.clear() if path == "/no-such-page" else None  # the browser notes the status


def test_the_answer_offers_the_same_with_and_without_a_script(browser: Browser, address: str) -> None:
    browser.open(f"{address}/ask")
    browser.run(
        "document.getElementById('q').value = 'How much may a hotel cost a night?';"
        " document.getElementById('ask').requestSubmit(); 1"
    )
    browser.until("document.querySelector('.answer:not(.busy) .facts') !== null")
    said = "document.querySelector('.tools').innerHTML.replace(/req_\\w+/g, '').replace(/\\s+/g, '')"
    streamed = browser.run(said)
    browser.open(browser.run("location.href"))
    assert browser.run(said) == streamed
    browser.run("document.querySelector('form[action=\"/ask/hand-over\"] button').click()")
    browser.until("document.querySelector('h1')?.textContent === 'A person will look at it'")


def test_who_was_signed_out_meanwhile_is_led_to_sign_in(browser: Browser, address: str, service: Service) -> None:
    """The last one here: nobody is signed in any more."""
    browser.open(address)
    browser.until("typeof htmx === 'object'")
    service.app.sessions.end_all("user:alice")
    browser.run("htmx.trigger(document.querySelector('#scorecard'), 'every'); 1")
    browser.until("location.pathname === '/sign-in'")
    browser.said.clear()  # the browser notes the status
