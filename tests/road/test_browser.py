"""The page in a real browser: it streams, opens sources, complains about nothing, and can be read in the dark."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.road.browser import CHROMIUM, Browser
from tests.road.conftest import PASSWORD, SCRIPT, Service

if CHROMIUM is None:
    if os.environ.get("CI"):
        pytest.fail("CI has no Chromium", pytrace=False)
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)

# Text against what is painted behind it, for every text on the page.
CONTRAST = """(() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
  }
  return poor;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    browser.said.clear()
    yield
    assert browser.said == []


def ask(browser: Browser, question: str) -> None:
    browser.run(f"document.getElementById('q').value = {question!r}; document.getElementById('ask').requestSubmit(); 1")
    browser.until("document.querySelector('.answer:not(.busy) .facts') !== null")


def test_ask_streams_and_opens_the_source(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.run("window.kept = true")
    ask(browser, "How much may a hotel cost a night?")
    assert browser.run("window.kept") is True  # the page was not loaded anew
    assert "140 euros" in browser.run("document.querySelector('.answer .text').textContent")
    assert browser.run("location.search").startswith("?q=How")
    streamed = browser.run(
        "document.querySelector('.answer').innerText.replace(/req_\\w+|\\d+ ms|Copy/g, '').replace(/\\s+/g, ' ')"
    )
    browser.open(browser.run("location.href"))
    served = browser.run(
        "document.querySelector('.answer').innerText.replace(/req_\\w+|\\d+ ms|Copy/g, '').replace(/\\s+/g, ' ')"
    )
    assert streamed == served
    browser.open(browser.run("document.querySelector('.sources a').href"))
    assert "140 euros" in browser.run("document.querySelector('mark').textContent")
    top, height = browser.run(
        "(() => { const r = document.querySelector('mark').getBoundingClientRect(); return [r.top, innerHeight]; })()"
    )
    assert 0 <= top < height


def test_stored_script_does_not_run(browser: Browser, address: str) -> None:
    browser.open(address)
    ask(browser, f"Who wears a yellow helmet {SCRIPT}?")
    assert "<script>" in browser.run("document.querySelector('.answer').textContent")
    browser.open(browser.run("document.querySelector('.sources a').href"))
    assert "<img src=x onerror" in browser.run("document.querySelector('.source-text').textContent")


def test_sign_in_ask_and_sign_out(browser: Browser, address: str) -> None:
    browser.open(f"{address}/sign-in")
    browser.run(
        f"document.getElementById('name').value = 'alice'; document.getElementById('password').value = {PASSWORD!r}; 1"
    )
    browser.run("document.querySelector('form[action=\"/sign-in\"] button').click()")
    browser.until("document.querySelector('.who')?.textContent === 'Alice'")
    ask(browser, "What is the salary budget of the harbour in 2026?")
    assert "5.2 million" in browser.run("document.querySelector('.answer .text').textContent")
    browser.run("document.querySelector('form[action=\"/sign-out\"] button').click()")
    browser.until("document.querySelector('.who')?.textContent === 'Public documents only'")
    ask(browser, "What is the salary budget of the harbour in 2026?")
    assert "5.2 million" not in browser.run("document.querySelector('.answer .text').textContent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=How+much+may+a+hotel+cost+a+night%3F",
        "/sign-in",
        "/docs",
        "/documents/public%2Ftravel-2024.md?start=5&end=40",
    ],
)
def test_contrast_and_width(browser: Browser, address: str, scheme: str, path: str) -> None:
    browser.emulate(prefers_color_scheme=scheme)
    for width in (1200, 320):
        browser.size(width, 900)
        browser.open(address + path)
        assert browser.run(CONTRAST) == []
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.size(1200, 900)


def test_every_control_has_a_name_and_keyboard_reaches_it(browser: Browser, address: str, service: Service) -> None:
    for path in ("/", "/sign-in"):
        browser.open(address + path)
        nameless = "[...document.querySelectorAll('input:not([type=hidden]), textarea')].filter((e) => !e.labels.length).length"
        assert browser.run(nameless) == 0
        assert browser.run("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0
        assert browser.run("document.documentElement.lang") == "en"
        assert browser.run("document.querySelectorAll('h1').length") == 1
