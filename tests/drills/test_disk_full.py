"""The disk runs full under SQLite: writing is refused in plain words, reading goes on, nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import Serving, request
from tests.support.services import open_service, people, sync

DOCUMENTS = {"hours.md": "---\naccess: [group:staff]\n---\n# Hours\n\nThe gate in Rotterdam opens at seven.\n"}
QUESTION = "When does the gate in Rotterdam open?"
SIZE = 8 * 1024 * 1024
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
os.execv(sys.argv[1], sys.argv[1:])
"""


def small_disk(folder: Path) -> list[str]:
    """A program that runs a command with little room under ``folder/data``: a file system of its own where the kernel
    lets us mount one, else a limit on how long a file may grow."""
    script = f'mkdir -p "{folder}/kept" && cp -a "{folder}/data/." "{folder}/kept/" && '
    script += (
        f'mount -t tmpfs -o size={SIZE} tmpfs "{folder}/data" && cp -a "{folder}/kept/." "{folder}/data/" && exec "$@"'
    )
    command = ["unshare", "-Urm", "sh", "-c", script, "sh"]
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        return command
    return [sys.executable, "-c", LIMITED.format(size=SIZE)]


def push(serving: Serving, key: str, n: int, sentences: int) -> int:
    """Push a document; a refusal must say why and when to come again."""
    text = " ".join(f"crane{n}x{i} stands on quay {i}." for i in range(sentences))
    body = {"text": text, "title": f"Cranes {n}", "access": ["group:staff"]}
    said = request(f"{serving.address}/v1/documents/big{n}", key=key, body=body, method="PUT")
    if said.status >= 400:
        assert said.status == 503, said.body
        assert int(said.headers["retry-after"]) > 0
        assert any(word in said.json()["detail"] for word in ("full", "disk")), said.body
    return said.status


@pytest.mark.long
def test_disk_full(tmp_path: Path) -> None:
    with open_service(tmp_path, DOCUMENTS) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        reader = app.keyring.create("user:alice", name="drill")[1]
        writer = app.keyring.create("service:crm", name="push", scopes=["documents:write", "documents:read"])[1]
    with Serving.on(tmp_path, before=small_disk(tmp_path)) as serving:
        statuses: list[int] = []
        fresh = 0
        for sentences in (20_000, 2_000, 200, 20):  # until not even a little fits
            while not statuses or statuses[-1] != 503 or len(statuses) == fresh:
                statuses.append(push(serving, writer, len(statuses), sentences))
            fresh = len(statuses)
        assert statuses[0] in (200, 201), statuses
        kept = sum(status < 400 for status in statuses)
        # Reading goes on: searching, opening a document, and answering, whose trace can not be kept.
        found = serving.post("/v1/search", {"query": "gate in Rotterdam"}, reader)
        assert "opens at seven" in found.body.decode()
        for _ in range(3):
            answered = serving.ask(QUESTION, reader)
            assert answered.status == 200, answered.body
            assert "seven" in answered.json()["text"]
        assert serving.get("/livez").status == 200
        # Nothing that was acknowledged is lost, nothing that was refused is there.
        listed = serving.get("/v1/documents?limit=1000&source=api", reader).json()["documents"]
        assert len(listed) == kept
