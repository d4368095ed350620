"""The server as a process: it says where it listens, answers, and ends in good order."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mainstay.app import open_app
from mainstay.errors import Invalid
from mainstay.web.server import serve

PROGRAM = """
import sys
from pathlib import Path
from mainstay.app import open_app
from mainstay.web.server import serve
with open_app(Path(sys.argv[1])) as app:
    serve(app, "127.0.0.1", 0)
print("closed")
"""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_told_to_stop(tmp_path: Path, by: signal.Signals) -> None:
    (tmp_path / "mainstay.yaml").write_text("identity: {anonymous: allow}\n")
    started = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        address = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+)\n", said)
        assert address is not None, said
        with urllib.request.urlopen(f"{address[1]}/livez", timeout=20) as answer:
            assert answer.status == 200
            assert "server" not in answer.headers
        head = urllib.request.Request(f"{address[1]}/livez", method="HEAD")
        with urllib.request.urlopen(head, timeout=20) as answer:
            assert answer.read() == b""
        process.send_signal(by)
        out, rest = process.communicate(timeout=30)
    assert (process.returncode, out, rest) == (0, "closed\n", "")


def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mainstay.yaml").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as holder, open_app(tmp_path) as app:
        with pytest.raises(Invalid, match="can not listen"):
            serve(app, "127.0.0.1", holder.getsockname()[1])
        with pytest.raises(Invalid, match="can not listen"):
            serve(app, "no.such.host.invalid", 1)
