"""docs/howto/scale-out.md, command by command: from the demo to PostgreSQL with two API processes and two workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import Server

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "scale-out.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@pytest.mark.long
@pytest.mark.timeout(500)  # six processes, started on whatever machine this is
@pytest.mark.skipif(not shutil.which("curl"), reason="the guide's commands use curl")
def test_the_guide_works_as_written(tmp_path: Path) -> None:
    server = Server()
    try:
        [sql] = blocks("sql")
        psql = [str(server.bin / "psql"), "-h", str(server.folder), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
        subprocess.run(psql, input=sql, text=True, check=True, capture_output=True)
        script = "set -euo pipefail\n" + "\n".join(blocks("sh"))
        for port in ("8081", "8082"):
            assert port in script
            script = script.replace(port, str(free_port()))
        surroundings = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MAINSTAY_DATABASE": f"postgresql://harbour:change-me@/harbour?host={server.folder}",
        }
        surroundings.pop("MAINSTAY_FOLDER", None)
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=surroundings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as shell:
            try:
                out, err = shell.communicate(timeout=440)
            except BaseException:
                os.killpg(shell.pid, signal.SIGKILL)  # what the guide started
                raise
    finally:
        server.stop()
    assert shell.returncode == 0, f"{out}\n{err}"
    answers = [json.loads(line) for line in out.splitlines() if line.startswith('{"id"')]
    assert [answer["status"] for answer in answers] == ["answered", "answered"]
    assert answers[0]["citations"][0]["quote"] == answers[1]["citations"][0]["quote"]
    assert out.splitlines()[-1] == "0", "a revoked group still finds the document"
    for log in ("serve1.log", "serve2.log", "worker1.log", "worker2.log"):
        assert "Traceback" not in (tmp_path / "harbour" / log).read_text()
