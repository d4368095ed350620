"""One suite per port, over every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.databases import open_fresh

from mainstay.storage.database import DIALECTS, Database


@pytest.fixture(params=DIALECTS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A new, empty database of each kind."""
    database, close = open_fresh(request.param, tmp_path_factory.mktemp(request.param))
    yield database
    close()
