"""What each request is measured by: one row of numbers, kept beside its trace. No text, no question, no answer.

The agreement's objectives are computed from these rows, so a row says what the asker experienced: how long, how dear, how well
founded, and whether it failed through our fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

TURNED_AWAY = "turned_away"
"""The status of a request that was not worked on: over a rate, or the queue was full."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One request. Times are milliseconds, ``cost_nanodollars`` is what was settled.

    ``kind`` is that of the trace (objectives count ``answer``); ``door`` is answers, chat, page or cli; ``team`` is
    ``group:NAME`` or empty. ``status`` is an answer's status, or ``turned_away``. ``failed``: the asker got nothing through
    our fault (an error, a shed request; not a rate they exceeded, not a question that is rightly not answered).
    ``first_ms`` is when the first words came, None where nothing was streamed. ``grounded`` is the share of drafted
    sentences that a source supports, ``covered`` the share of shown sentences with a citation; None where nothing was said.
    """

    request_id: str
    at: datetime
    kind: str = "answer"
    door: str = ""
    principal: str = ""
    team: str = ""
    status: str = ""
    mode: str = ""
    model: str = ""
    release: str = ""
    failed: bool = False
    cached: bool = False
    total_ms: float = 0.0
    first_ms: float | None = None
    cost_nanodollars: int = 0
    grounded: float | None = None
    covered: float | None = None
