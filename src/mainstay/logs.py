"""What the program writes to its log: one line form, to standard error, without secrets and personal data.

Tracebacks and what libraries say pass here too: whatever is logged is redacted as it is written, the whole text of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any, TextIO

MOST = 20_000
"""Characters of one record; a longer one is cut: nobody's request may fill a log."""


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return tellable(super().format(record)[:MOST])


class _Stderr(logging.StreamHandler[TextIO]):
    """To whatever standard error is when something is said."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """It is never set; the class above would like to."""


def install() -> None:
    """Let every log of this process go through here; once is enough, more do no harm."""
    root = logging.getLogger()
    if any(isinstance(handler, _Stderr) for handler in root.handlers):
        return
    handler = _Stderr()
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    threading.excepthook = _died


def _died(what: Any) -> None:
    """A thread that ends by an error says so in the log, not beside it."""
    if what.exc_type is not SystemExit:
        name = what.thread.name if what.thread is not None else "?"
        held = (what.exc_type, what.exc_value, what.exc_traceback)
        logging.getLogger(__name__).error("the thread %s died", name, exc_info=held)


def tellable(text: str) -> str:
    """A text for the log."""
    from mainstay.guard.redaction import redact  # its patterns take a while to make, and most commands log nothing

    return redact(text)


def without_secrets(text: str) -> str:
    """A text for the terminal of whoever runs a command: they may know whom it is about."""
    from mainstay.guard import redaction  # as above

    return redaction.without_secrets(text)
