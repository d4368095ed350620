"""One service with something on every screen, behind a real server on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.console.world import World, world
from tests.road.conftest import serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("console") / "service") as built:
        yield built


@pytest.fixture(scope="module")
def address(made: World) -> Iterator[str]:
    with serving(made.app) as at:
        yield at
