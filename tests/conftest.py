"""Which tests are quick. The suite of everyday is meant to stay near ten minutes on two cores; the rest runs in `make test-long`.

A port's suite runs over both databases. Over PostgreSQL the parts that are about the databases themselves are quick, the others
are long: they differ from SQLite in the dialect alone, which those parts cover.
"""

from __future__ import annotations

from pathlib import Path

import pytest

QUICK_ON_POSTGRESQL = {
    "test_access.py",
    "test_audit.py",
    "test_jobs.py",
    "test_ledger.py",
    "test_schema.py",
    "test_spans.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = Path(item.path)
        if path.parent.name == "contracts" and path.name not in QUICK_ON_POSTGRESQL and "postgresql" in item.name:
            item.add_marker(pytest.mark.long)
