"""Why something happened, in the one line that a list of events has for it."""

from __future__ import annotations

from mainstay.records.audit.events import Event
from mainstay.records.audit.refusals import REFUSED

ENDED = "session.ended"
_SAID = ("because", "tries", "limited", "unknown")


def reason(event: Event) -> str:
    """The reason that whoever acted has given. Of a session's end and of refused sign-ins, for which nobody gives one, what
    the event's details say, in the words of the manual: ``because: password; 3 sessions; with: key, password``. Of what was
    erased, nothing."""
    if event.why or event.action not in (ENDED, REFUSED):
        return event.why
    held = event.details
    said = [f"{name}: {held[name]}" for name in _SAID if held.get(name)]
    if (sessions := held.get("sessions", 1)) != 1:
        said.append(f"{sessions} sessions")
    ways = held.get("with")
    if ways:
        said.append(f"with: {', '.join(map(str, ways)) if isinstance(ways, list | tuple) else ways}")
    return "; ".join(said)
