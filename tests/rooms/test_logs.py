"""The log: what is said passes redaction, tracebacks and dying threads too."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging, threading
from mainstay import logs
logs.install()
logs.install()
log = logging.getLogger("some.library")
log.info("quiet %s", "joe@example.com")
log.warning("mail to %s with password=%s", "joe@example.com", "hunter22")
try:
    raise ValueError("key sk-abcdefghijklmnop1234567890")
except ValueError:
    log.exception("it failed for %s", "+49 170 1234567")
def die():
    raise KeyError("jane@example.com")
thread = threading.Thread(target=die, name="worker-1")
thread.start()
thread.join()
log.error("x" * 100_000)
"""


def test_the_log_holds_no_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    for planted in ("joe@", "hunter22", "sk-abc", "170 1234567", "jane@", "quiet"):
        assert planted not in done.stderr
    for said in (
        "[redacted:email]",
        "[redacted:password]",
        "[redacted:key]",
        "[redacted:phone]",
        "Traceback",
        "worker-1",
    ):
        assert said in done.stderr
    assert done.stderr.count("it failed for") == 1
    assert len(done.stderr) < 30_000
