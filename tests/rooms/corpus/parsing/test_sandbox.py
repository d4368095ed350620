"""The sandbox survives whatever its child does, and the child can reach nothing."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.corpus.parsing.document import Quarantined
from mainstay.corpus.parsing.limits import MIB, ParseLimits
from mainstay.corpus.parsing.sandbox import Sandbox
from mainstay.errors import Unavailable

HOSTILE = Path(__file__).with_name("hostile_worker.py")
LINUX = sys.platform.startswith("linux")


@pytest.fixture(scope="module")
def hostile() -> Iterator[Sandbox]:
    limits = ParseLimits(cpu_s=1, wall_s=30, memory_bytes=700 * MIB)
    with Sandbox(limits, program=HOSTILE) as made:
        yield made


def reason(sandbox: Sandbox, name: str, data: str = "x") -> str:
    with pytest.raises(Quarantined) as caught:
        sandbox.parse(data.encode(), name)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loop", "more than 1 s of CPU"),
        ("crash", "crashed (SIGSEGV)"),
        ("leave", "crashed (exit status 3)"),
        ("babble", "nonsense"),
        ("boast", "nonsense"),
        ("deep", "nonsense"),
    ],
)
def test_a_child_gone_wrong_costs_one_file(hostile: Sandbox, name: str, says: str) -> None:
    assert says in reason(hostile, name)
    assert hostile.parse(b"The next file is read.", "next.txt").text == "The next file is read."


@pytest.mark.skipif(not LINUX, reason="only Linux grants a limit on memory")
def test_a_child_out_of_memory_costs_one_file() -> None:
    # Time enough to reach the limit on memory: a slow machine needs more than a second of CPU to fill 300 MiB.
    with Sandbox(ParseLimits(cpu_s=60, wall_s=120, memory_bytes=300 * MIB), program=HOSTILE) as sandbox:
        assert "memory" in reason(sandbox, "hog")
        assert sandbox.parse(b"Next.", "next.txt").text == "Next."


def test_a_child_that_hangs_is_killed_at_the_deadline() -> None:
    with Sandbox(ParseLimits(wall_s=1.5), program=HOSTILE) as sandbox:
        sandbox.guards()
        begun = time.monotonic()
        assert "longer than 1.5 s" in reason(sandbox, "sleep")
        assert time.monotonic() - begun < 10


def test_a_lying_child_is_not_believed(hostile: Sandbox) -> None:
    assert "nonsense" in reason(hostile, "lie", "other text than the blocks say")
    assert "not clean" in reason(hostile, "lie", "honest\u200btext")


def test_no_network(hostile: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = reason(hostile, "connect", str(server.getsockname()[1]))
    assert found.startswith("connect: PermissionError")
    if "no-network-namespace" in hostile.guards() or "landlock-files" in hostile.guards():
        assert "through" not in found


def test_no_files(hostile: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("kept")
    target = tmp_path / "written.txt"
    said = reason(hostile, "write", str(target))
    assert "got" not in said
    assert not target.exists() or target.read_text() == ""
    if "landlock-files" in hostile.guards():
        assert reason(hostile, "look", str(secret)) == "look: PermissionError"
        assert reason(hostile, "look", "/etc/passwd") == "look: PermissionError"


def test_no_environment(hostile: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTAY_SECRET", "do not tell")
    hostile.close()
    assert "MAINSTAY" not in reason(hostile, "environment")
    assert "HOME" not in reason(hostile, "environment")


def test_the_guards_in_force_are_named(hostile: Sandbox) -> None:
    expected = {"no-file-writes", "few-open-files", "no-python-sockets", "cpu-limit"}
    assert expected <= set(hostile.guards())
    if LINUX:
        assert {"memory-limit", "no-new-privileges"} <= set(hostile.guards())


def test_a_child_that_does_not_start_is_unavailable(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(1)\n")
    with Sandbox(program=broken) as sandbox, pytest.raises(Unavailable):
        sandbox.parse(b"x", "x.txt")


def test_threads_share_one_child(sandbox: Sandbox) -> None:
    texts: dict[int, str] = {}

    def read(number: int) -> None:
        texts[number] = sandbox.parse(f"Text {number}.".encode(), "x.txt").text

    threads = [threading.Thread(target=read, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {n: f"Text {n}." for n in range(16)}


def test_paths_are_read_within_the_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text("# Note\n\nText.")
    assert sandbox.parse(path).title == "Note"
    with path.open("wb") as file:
        file.truncate(sandbox.limits.max_bytes + 1)  # a sparse file: it is never read
    with pytest.raises(Quarantined, match="more than"):
        sandbox.parse(path)
    with pytest.raises(Quarantined, match="regular"):
        sandbox.parse(tmp_path)
    with pytest.raises(Quarantined, match="opened"):
        sandbox.parse(tmp_path / "missing.md")
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(Quarantined, match="regular"):
        sandbox.parse(tmp_path / "pipe.md")
    with pytest.raises(Quarantined, match="more than"):
        sandbox.parse(bytes(sandbox.limits.max_bytes + 1), "x.txt")


def test_a_closed_sandbox_starts_again(sandbox: Sandbox) -> None:
    sandbox.close()
    assert sandbox.parse(b"Again.", "x.txt").text == "Again."
