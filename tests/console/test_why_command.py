"""``mainstay documents access ID --why``: every step from a person to the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mainstay.cli import main
from tests.support.services import open_service, people, sync


def run(folder: Path, *args: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(folder), *args])
    assert stopped.value.code in (0, None)
    return capsys.readouterr().out


def test_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = {".access.yaml": "access: [group:finance]", "plan.md": "# Plan\n\nThe plan costs nothing.\n"}
    with open_service(tmp_path, documents) as app:
        people(app, {"alice": ("finance",), "bram": ()})
        sync(app)
    said = run(tmp_path, "documents", "access", "plan.md", "--why", "alice", capsys=capsys)
    assert said.splitlines()[-3:] == [
        "  user:alice is in group:finance (kept here)",
        "  the rule allows group:finance",
        "  user:alice may read it: allowed to group:finance",
    ]
    told = json.loads(run(tmp_path, "documents", "access", "plan.md", "--why", "bram", "--json", capsys=capsys))
    assert told["why"]["visible"] is False
    assert told["why"]["path"] == []
