"""What is done about each failure of a model: one table, read by routing, breakers, alarms and the operator's manual.

`docs/howto/providers.md` holds the same table for the person on call; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol


class FailureKind(StrEnum):
    """What went wrong, seen from whoever must decide what to do next."""

    CALLER = "caller"
    """The request is wrong: no other model will like it better, the provider is healthy."""
    AUTH = "auth"
    """The account is refused: key, rights, unpaid or used up. An operator must act."""
    NOT_FOUND = "not_found"
    """No such model or address. An operator must act."""
    CONTEXT_TOO_LONG = "context_too_long"
    """Too much text for this model: shorten it, or take one with more room."""
    CONTENT_FILTER = "content_filter"
    """Declined for its content before an answer began."""
    RATE = "rate"
    """Too many calls for now; see retry_after_s and retry_after_given."""
    OVERLOAD = "overload"
    """The provider says it is too busy."""
    SERVER = "server"
    """The provider failed inside."""
    NETWORK = "network"
    """No connection, or it broke before anything was answered."""
    SILENT = "silent"
    """It took the call and never said a word."""
    SLOW_FIRST_TOKEN = "slow_first_token"  # noqa: S105 - no password
    """It began to answer, but no text came in time."""
    STALLED = "stalled"
    """It stopped in the middle and stayed quiet."""
    CUT = "cut"
    """The answer ended without its end."""
    MALFORMED = "malformed"
    """What came does not follow the protocol, or a tool call whose arguments are no JSON object."""
    DEADLINE = "deadline"
    """It was still speaking when the request's time was up (or the time was up before the call)."""


class Then(StrEnum):
    """What is done next."""

    RETRY_HERE = "retry here"
    """The same model once more, if nothing was let out, time and the share of extra calls permit it."""
    ELSEWHERE = "go elsewhere"
    """Another model; none left: the answer is made without one."""
    SHRINK = "shrink"
    """The same again with less text."""
    REFUSE = "refuse"
    """No model is asked; the answer is made without one, and the trace says why."""
    PASS_ON = "pass on"  # noqa: S105 - no password
    """It is an outcome: the asker is told. Nothing is tried to get around it."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``then`` first; where that can not be done or did not help, ``otherwise``.

    ``breaker``: it counts against the provider. ``alarm``: the settings or the account are wrong, tell an operator.
    ``waits``: the provider's Retry-After is waited for, if it fits the deadline, else `otherwise`.
    """

    then: Then
    otherwise: Then
    breaker: bool = False
    alarm: bool = False
    waits: bool = False


RULES: Mapping[FailureKind, Rule] = MappingProxyType(
    {
        FailureKind.CALLER: Rule(then=Then.REFUSE, otherwise=Then.REFUSE),
        FailureKind.AUTH: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, alarm=True),
        FailureKind.NOT_FOUND: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, alarm=True),
        FailureKind.CONTEXT_TOO_LONG: Rule(then=Then.SHRINK, otherwise=Then.ELSEWHERE),
        FailureKind.CONTENT_FILTER: Rule(then=Then.PASS_ON, otherwise=Then.PASS_ON),
        FailureKind.RATE: Rule(then=Then.RETRY_HERE, otherwise=Then.ELSEWHERE, breaker=True, waits=True),
        FailureKind.OVERLOAD: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.SERVER: Rule(then=Then.RETRY_HERE, otherwise=Then.ELSEWHERE, breaker=True, waits=True),
        FailureKind.NETWORK: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.SILENT: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.SLOW_FIRST_TOKEN: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.STALLED: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.CUT: Rule(then=Then.ELSEWHERE, otherwise=Then.REFUSE, breaker=True),
        FailureKind.MALFORMED: Rule(then=Then.RETRY_HERE, otherwise=Then.ELSEWHERE, breaker=True),
        FailureKind.DEADLINE: Rule(then=Then.REFUSE, otherwise=Then.REFUSE),
    }
)


class Classified(Protocol):
    """Anything that failed as one kind: a ModelFailure."""

    kind: FailureKind


def rule_of(failure: Classified) -> Rule:
    """The one rule for this failure."""
    return RULES[failure.kind]
