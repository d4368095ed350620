"""The console in a real browser: every screen at three sizes, light and dark, is accessible, keeps its policy, stays itself.

Pictures of what was seen are kept in the folder that ``MAINSTAY_TEST_ARTEFACTS`` names.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.console.windows import SIZES, barriers, needed, picture, window
from tests.console.world import PASSWORD, World

needed()

ALWAYS = ("request-hostile", "objectives", "documents")
"""Screens that are looked at for barriers in the quick run too."""


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
