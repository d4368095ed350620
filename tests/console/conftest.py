"""One service with something on every screen, behind a real server on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.console.windows import SLOW_MS
from tests.console.world import World, world
from tests.road.browser import CHROMIUM
from tests.road.conftest import serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("console") / "service") as built:
        yield built


@pytest.fixture(scope="module")
def address(made: World) -> Iterator[str]:
    with serving(made.app) as at:
        yield at


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
