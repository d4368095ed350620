"""Windows of a real browser: what goes wrong in them, what they look like, what bars the way to people."""

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
from playwright.sync_api import Browser, Page

from tests.console.world import PASSWORD
from tests.road.browser import CHROMIUM


def needed() -> None:
    """Leave out the module that calls it where there is no browser; CI has one."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium", pytrace=False)
        pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)


SIZES = {"small": (375, 800), "middle": (1024, 800), "large": (1600, 1000)}
SLOW_MS = 60_000
AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
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


@contextmanager
def window(
    browser: Browser, address: str, who: str | None = "ada", size: str = "middle", scheme: str = "light", **more: Any
) -> Iterator[Window]:
    """A window of its own, signed in."""
    width, height = SIZES[size]
    wanted = {"viewport": {"width": width, "height": height}, "color_scheme": scheme} | more
    context = browser.new_context(**wanted)
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
