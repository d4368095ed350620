"""One sandbox for all tests of parsing: starting a child takes a second or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mainstay.corpus.parsing.document import Parsed
from mainstay.corpus.parsing.limits import MIB, ParseLimits
from mainstay.corpus.parsing.sandbox import Sandbox

Parse = Callable[[bytes, str], Parsed]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    limits = ParseLimits(
        max_bytes=30 * MIB, zip_total_bytes=60 * MIB, cpu_s=10, wall_s=20, max_pages=200, max_rows=5_000
    )
    with Sandbox(limits) as made:
        yield made


@pytest.fixture
def parse(sandbox: Sandbox) -> Parse:
    return sandbox.parse
