"""kill -9 of an API process in the middle of a stream: a broken answer never reads as a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import Serving
from tests.support.services import open_service, people, sync
from tests.support.upstream import Call, Upstream, cites

SETTINGS = """\
name: Drill
sources:
  - {{name: docs, folder: documents}}
models:
  answer: slow
  providers:
    slow: {{base_url: '{url}', model: slow, price: {{input: "0", output: "0"}}}}
"""
FACTS = [f"Gate {n} of the terminal opens at {n} o'clock in the morning." for n in range(5, 12)]
DOCUMENTS = {"gates.md": "---\naccess: [group:staff]\n---\n# Gates\n\n" + "\n\n".join(FACTS) + "\n"}


def slowly(call: Call) -> None:
    """A true answer, sentence by sentence, which then stands still."""
    text = cites(call.seen.messages)
    call.head()
    call.frame({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for word in text.split(" "):
        call.frame({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]})
    call.wait(60)


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_killed_in_the_middle_of_a_stream(tmp_path: Path, dialect: str) -> None:
    with Upstream(always=slowly) as upstream:
        settings = SETTINGS.format(url=upstream.base_url)
        with open_service(tmp_path, DOCUMENTS, settings=settings, dialect=dialect) as app:
            people(app, {"alice": ("staff",)})
            sync(app)
            key = app.keyring.create("user:alice", name="drill")[1]
        seen: list[str] = []
        with Serving.on(tmp_path) as serving:
            events = serving.events("When does gate 7 of the terminal open?", key)
            try:
                for name, _ in events:
                    seen.append(name)
                    if name == "delta":
                        serving.kill()
            except OSError:
                seen.append("closed")
        assert "delta" in seen, seen
        assert "done" not in seen, seen
        # Another process answers at once, and nothing says that the broken question was answered.
        with Serving.on(tmp_path) as serving:
            assert serving.get("/readyz").status == 200
            listed = serving.get("/v1/requests", key).json()
            assert [one for one in listed["requests"] if one["status"] == "answered"] == []
