"""One tree of errors, named by what the caller can do about them.

Every error is one line a tired person can act on: *what* went wrong, *where*, and what to do (*fix*). Doors translate the
class into their own language (exit code, HTTP status); no room knows which door it is behind. "I don't know" and
"blocked by policy" are outcomes of an answer, not errors.
"""

from __future__ import annotations


class MainstayError(Exception):
    """Something Mainstay understands and can explain; never shown with a traceback."""

    exit_code = 1
    http_status = 500

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.line())

    def line(self) -> str:
        """The error as one line: ``where: what; fix``."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join((f"{head}; {self.fix}" if self.fix else head).split())


class Invalid(MainstayError):
    """The input is wrong: the caller must change it. Nothing was done."""

    exit_code = 2
    http_status = 400


class TooLarge(Invalid):
    """The input is over a stated limit."""

    http_status = 413


class Unauthenticated(MainstayError):
    """Nobody could be made out of the credentials: log in, or use another key."""

    exit_code = 2
    http_status = 401


class Refused(MainstayError):
    """The asker is known and may not do this."""

    exit_code = 1
    http_status = 403


class NotFound(MainstayError):
    """It does not exist, or the asker may not know that it does: both read the same."""

    exit_code = 1
    http_status = 404


class Conflict(MainstayError):
    """The state changed meanwhile or forbids this: look again, then retry."""

    exit_code = 1
    http_status = 409


class Exhausted(MainstayError):
    """A limit of rate, money or time is used up: come back later."""

    exit_code = 1
    http_status = 429

    def __init__(self, what: str, *, where: str = "", fix: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_after_s = retry_after_s


class Unavailable(MainstayError):
    """A dependency does not answer: retrying later may help."""

    exit_code = 3
    http_status = 503

    def __init__(self, what: str, *, where: str = "", fix: str = "", retry_after_s: float = 5.0) -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_after_s = retry_after_s
