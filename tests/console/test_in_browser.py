"""The console in a real browser: every screen at three sizes, light and dark, is accessible, keeps its policy, stays itself.

Pictures of what was seen are kept in the folder that ``MAINSTAY_TEST_ARTEFACTS`` names.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.console.world import PASSWORD, World
from tests.road.browser import CHROMIUM

if CHROMIUM is None:
    if os.environ.get("CI"):
        pytest.fail("CI has no Chromium", pytrace=False)
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)

SIZES = {"small": (375, 800), "middle": (1024, 800), "large": (1600, 1000)}
SLOW_MS = 60_000
AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
ALWAYS = ("request-hostile", "objectives", "documents")
"""Screens that are looked at for barriers in the quick run too."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WATCH = """
window.broken = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.broken.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}:${event.lineNumber ?? ""}`);
});
"""


@dataclass
class Window:
    """A page of the browser, and what went wrong in it."""

    page: Page
    address: str
    said: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path, wait_until="load")

    def faults(self, *, missing: bool = False) -> list[str]:
        """What the browser complains about. The one thing it may say is that an address that is not there is not there."""
        broken = list(self.page.evaluate("window.broken"))
        told = [line for line in self.said if not (missing and "Failed to load resource" in line)]
        return [*broken, *told, *self.outside]


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    opened = driver.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=SLOW_MS, headless=True
    )
    yield opened
    opened.close()


@contextmanager
def window(
    browser: Browser, address: str, who: str | None = "ada", size: str = "middle", scheme: str = "light", **more: Any
) -> Iterator[Window]:
    """A window of its own, signed in."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)  # type: ignore[arg-type] # light or dark
    context.set_default_timeout(SLOW_MS)
    context.add_init_script(WATCH)
    page = context.new_page()
    shown = Window(page=page, address=address)
    page.on(
        "console", lambda message: shown.said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: shown.said.append(str(error)))
    page.on("request", lambda request: _noted(shown, request.url))
    if who is not None:
        shown.open("/sign-in")
        page.fill("#name", who)
        page.fill("#password", PASSWORD)
        page.click("form[action='/sign-in'] button")
        page.wait_for_selector("form[action='/sign-out']", state="attached")
    yield shown
    context.close()


def _noted(shown: Window, url: str) -> None:
    if urlsplit(url).hostname not in ("127.0.0.1", None):
        shown.outside.append(url)


def picture(shown: Window, name: str, folder: Path) -> None:
    wanted = os.environ.get("MAINSTAY_TEST_ARTEFACTS")
    target = (Path(wanted) if wanted else folder) / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    shown.page.screenshot(path=str(target), full_page=True, animations="disabled")


def barriers(page: Page) -> list[str]:
    """Serious and critical findings of axe-core, as lines."""
    page.evaluate(AXE)
    found = page.evaluate(
        "async (rules) => (await axe.run(document, {runOnly: rules, resultTypes: ['violations']})).violations", RULES
    )
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def looked_at(
    browser: Browser, address: str, made: World, size: str, scheme: str, folder: Path, *, thorough: bool
) -> None:
    """Open every screen, and collect what is wrong before failing. ``thorough``: a picture of each, and axe-core's opinion."""
    wrong: list[str] = []
    with window(browser, address, size=size, scheme=scheme) as shown:
        for name, path in made.screens().items():
            shown.said.clear()
            shown.outside.clear()
            shown.open(path)
            faults = shown.faults(missing=name in ("missing", "requests-wrong"))
            wide = shown.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{wide} px too wide")
            if shown.page.title().startswith("owned") or shown.page.locator("main script, main img").count():
                faults.append("a text became active")
            if shown.page.locator("h1").count() != 1:
                faults.append("not one heading")
            if thorough:
                picture(shown, f"{size}-{scheme}-{name}", folder)
            if thorough or name in ALWAYS:
                faults += barriers(shown.page)
            wrong += [f"{name}: {fault}" for fault in faults]
    assert wrong == [], "\n".join(wrong)


def test_every_screen(browser: Browser, address: str, made: World, tmp_path: Path) -> None:
    looked_at(browser, address, made, "middle", "light", tmp_path, thorough=False)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_screen_at_every_size(
    browser: Browser, address: str, made: World, tmp_path: Path, size: str, scheme: str
) -> None:
    looked_at(browser, address, made, size, scheme, tmp_path, thorough=True)


def test_findings_are_found(browser: Browser, address: str) -> None:
    """What the other tests rely on: axe-core and the listener speak up when there is something."""
    with window(browser, address, who=None) as shown:
        shown.open("/sign-in")
        shown.page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('beforeend', '<input><p style=\"color:#999\">x</p>')"
        )
        assert any(line.startswith("label") for line in barriers(shown.page))
        assert any("style-src" in line for line in shown.faults())


def test_by_keyboard(browser: Browser, address: str, made: World) -> None:
    with window(browser, address) as shown:
        page = shown.page
        shown.open(f"/requests/{made.asked['alice gate']}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(60):  # everything that takes the focus shows that it has it
            page.keyboard.press("Tab")
            drawn = page.evaluate(
                "(() => { const e = document.activeElement; if (e === document.body) return true;"
                " const s = getComputedStyle(e); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2; })()"
            )
            assert drawn, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        page.focus(".fall tbody tr:first-child a")
        page.keyboard.press("ArrowDown")
        second = page.evaluate("document.activeElement.getAttribute('href')")
        assert second == page.locator(".fall tbody tr:nth-child(2) a").get_attribute("href")
        page.keyboard.press("Enter")
        page.wait_for_selector("#step #step-title")
        page.wait_for_function("document.activeElement.id === 'step-title'")
        assert urlsplit(page.url).path == f"/requests/{made.asked['alice gate']}"  # a part of the page, not another one
        assert shown.faults() == []


def test_without_javascript(browser: Browser, address: str, made: World) -> None:
    with window(browser, address, java_script_enabled=False) as shown:
        page = shown.page
        shown.open("/requests")
        page.click("summary")
        page.select_option("#f-status", "answered")
        page.click(".filters button")
        assert "status=answered" in page.url
        page.click("main tbody th a >> nth=0")
        assert urlsplit(page.url).path.startswith("/requests/req_")
        page.click(".fall tbody tr:nth-child(2) a")
        assert "/steps/" in page.url
        assert page.locator("h2#step-title").count() == 1


def test_acknowledge_and_silence(browser: Browser, address: str, made: World) -> None:
    with window(browser, address, who="audrey") as shown:
        shown.open("/alerts")
        assert shown.page.locator("main form").count() == 0
    with window(browser, address, who="olga") as shown:
        page = shown.page
        shown.open("/alerts")
        page.fill(f"#n-{made.alert}", "I have it <b>in hand</b>")
        page.click("text=Acknowledge")
        page.wait_for_selector("text=acknowledged")
        assert page.locator("text=user:olga has it").count() == 1
        page.select_option("#f-objective", "quick")
        page.fill("#f-note", "a known one")
        page.click("button:text-is('Silence')")
        page.wait_for_selector("text=a known one")
        page.click("text=End the silence")
        page.wait_for_selector("text=Nothing is silenced.")
        assert shown.faults() == []


def test_first_load_is_light(address: str, made: World) -> None:
    """Script and style of the heaviest page, packed as a proxy would: 60 KB at most."""
    import gzip
    import re

    from starlette.testclient import TestClient

    from mainstay.web.server import create_api

    client = TestClient(create_api(made.app), headers={"Accept": "text/html"})
    client.post(
        "/sign-in", data={"name": "ada", "password": PASSWORD}, headers={"Origin": "http://testserver"}
    ).raise_for_status()
    heavy = client.get(f"/requests/{made.asked['alice gate']}").text
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+\.(?:js|css)[^"]*)"', heavy))
    assert len(files) >= 4
    assert sum(len(gzip.compress(client.get(file).content)) for file in files) < 60_000
