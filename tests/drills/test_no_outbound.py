"""Nothing connects to the outside: demo, ingestion, asking and serving run where there is no network at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Run before the program in every Python process it starts (as ``sitecustomize``): a connection to anything but this machine is
# written down and refused. That also catches what a missing network would only make fail quietly.
GUARD = """
import os, socket, sys
_log = os.environ["MAINSTAY_TEST_CONNECTIONS"]
def _audit(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        address = args[1] if event != "socket.getaddrinfo" else args[:2]
        host = address[0] if isinstance(address, tuple) else address
        if host not in (None, "localhost", "127.0.0.1", "::1", b"localhost", "0.0.0.0") and not str(address).startswith("/"):
            with open(_log, "a") as log:
                log.write(f"{event} {address!r}\\n")
            raise OSError("no network here")
sys.addaudithook(_audit)
"""


def test_demo_ingest_and_ask_connect_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/sitecustomize.py").write_text(GUARD)
    log = tmp_path / "connections"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "guard"), "MAINSTAY_TEST_CONNECTIONS": str(log)}

    def run(*args: str) -> str:
        done = subprocess.run(
            [*_without_network(), sys.executable, "-m", "mainstay", *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "4.2 percent" in run("demo", "--once", "--dir", str(tmp_path / "demo"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/note.md").write_text("# Note\n\nThe harbour gate opens at six in the morning on weekdays.\n")
    run("-C", str(tmp_path / "demo"), "ingest", str(tmp_path / "docs"), "--access", "public", "--source", "notes")
    answer = json.loads(
        run("-C", str(tmp_path / "demo"), "ask", "When does the harbour gate open?", "--as", "bram", "--json")
    )
    assert "six in the morning" in answer["text"]
    assert not log.exists(), log.read_text()


def _without_network() -> list[str]:
    """A prefix that runs a command in a network namespace of its own, where this machine permits it."""
    if shutil.which("unshare"):
        prefix = ["unshare", "--net", "--map-root-user", "--user"]
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    return []


def test_the_guard_itself_sees_a_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "connections"
    code = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "MAINSTAY_TEST_CONNECTIONS": str(log)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "192.0.2.1" in log.read_text()
