"""Refusals: an HTTP status or an error object, turned into one kind; the same for every wire format.

What a provider says in an error is shown without the secrets, and not at all when it quotes the prompt.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from mainstay.models.chat import FailureKind, ModelFailure, failure
from mainstay.models.providers.endpoint import Endpoint
from mainstay.models.providers.wire import Reply

MAX_ERROR = 64 << 10
SAID = 200
"""So much of a provider's error text is shown."""
QUOTED = 24
"""A run of the prompt this long in an error text is a quotation of the prompt."""

_BY_CODE: tuple[tuple[frozenset[str], FailureKind], ...] = (
    (
        frozenset(
            [
                "context_length_exceeded",
                "context_window_exceeded",
                "model_context_window_exceeded",
                "exceed_context_size_error",
                "request_too_large",
                "string_above_max_length",
            ]
        ),
        FailureKind.CONTEXT_TOO_LONG,
    ),
    (
        frozenset(["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"]),
        FailureKind.CONTENT_FILTER,
    ),
    (
        frozenset(
            [
                "insufficient_quota",
                "billing_hard_limit_reached",
                "billing_not_active",
                "billing_error",
                "budget_exceeded",
                "account_deactivated",
                "invalid_api_key",
                "authentication_error",
                "permission_error",
                "permission_denied",
            ]
        ),
        FailureKind.AUTH,
    ),
    (
        frozenset(["model_not_found", "not_found_error", "deployment_not_found", "deploymentnotfound"]),
        FailureKind.NOT_FOUND,
    ),
    (
        frozenset(["overloaded_error", "overloaded", "engine_overloaded", "server_overloaded", "capacity_exceeded"]),
        FailureKind.OVERLOAD,
    ),
    (
        frozenset(
            ["rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests", "requests", "tokens"]
        ),
        FailureKind.RATE,
    ),
)
"""Codes are more precise than the status, the first that fits counts."""

_BY_TEXT: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
    (
        re.compile(
            r"context (?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens|n_ctx",
            re.IGNORECASE,
        ),
        FailureKind.CONTEXT_TOO_LONG,
    ),
    (re.compile(r"blocked by content filtering", re.IGNORECASE), FailureKind.CONTENT_FILTER),
    (re.compile(r"credit balance is too low", re.IGNORECASE), FailureKind.AUTH),
)
"""What some servers say without a code. Only where the status blames the request."""

_FIXES: Mapping[FailureKind, str] = {
    FailureKind.AUTH: "check the key, its rights and the account",
    FailureKind.NOT_FOUND: "check the model's name and base_url",
}


def refusal(reply: Reply, endpoint: Endpoint, where: str, prompt: Sequence[str]) -> ModelFailure:
    """What a response other than 200 means."""
    if 300 <= reply.status < 400:
        return failure(
            FailureKind.NOT_FOUND,
            f"the provider answered {reply.status}, a redirect, which is not followed",
            where=where,
            fix="write the final address as base_url",
            maybe_paid=False,
        )
    if reply.status < 300:
        return failure(FailureKind.MALFORMED, f"an unexpected status {reply.status}", where=where)
    try:
        document = json.loads(reply.body(MAX_ERROR))
    except (ModelFailure, ValueError, RecursionError):
        document = None  # the status says enough; an error page that is cut or too long must not hide it
    return failure_from_error(
        document if isinstance(document, dict) else {},
        reply.status,
        where=where,
        secrets=endpoint.secrets,
        prompt=prompt,
        retry_after_s=retry_after(reply.headers),
    )


def failure_from_error(
    document: Mapping[str, Any],
    status: int | None,
    *,
    where: str,
    secrets: Sequence[str],
    prompt: Sequence[str],
    retry_after_s: float | None = None,
) -> ModelFailure:
    """An error object, from a response of this status or (None) from inside a stream."""
    inner = document.get("error", document)
    error = inner if isinstance(inner, dict) else {"message": inner}
    codes = {str(error.get(key) or "").lower() for key in ("code", "type")} - {""}
    message = next(
        (m for m in (error.get("message"), error.get("detail"), document.get("detail")) if isinstance(m, str)), ""
    )
    inside = error.get("code") if status is None else None  # gateways pass on a status as number
    kind = _kind(inside if type(inside) is int and 400 <= inside < 600 else status, codes, message)
    told = tellable(message, secrets, prompt)
    head = "the provider failed in the middle of the answer" if status is None else f"the provider answered {status}"
    named = ", ".join(sorted(code for code in codes if re.fullmatch(r"[a-z0-9_.\-]{1,48}", code)))
    what = head + (f" ({tellable(named, secrets, ())})" if named else "") + (f": {told}" if told else "")
    free = status is not None and status < 500
    return failure(kind, what, where=where, fix=_FIXES.get(kind, ""), retry_after_s=retry_after_s, maybe_paid=not free)


def _kind(status: int | None, codes: set[str], message: str) -> FailureKind:
    """The kind of a refusal."""
    for known, kind in _BY_CODE:
        if codes & known:
            return kind
    match status:
        case 401 | 402 | 403:
            return FailureKind.AUTH
        case 404:
            return FailureKind.NOT_FOUND
        case 413:
            return FailureKind.CONTEXT_TOO_LONG
        case 429:
            return FailureKind.RATE
        case 503 | 529:
            return FailureKind.OVERLOAD
        case 408 | 409:
            return FailureKind.SERVER
    if (status or 400) < 500:
        for pattern, kind in _BY_TEXT:
            if pattern.search(message):
                return kind
    if status is None:
        return FailureKind.CALLER if "invalid_request_error" in codes else FailureKind.SERVER
    return FailureKind.CALLER if status < 500 else FailureKind.SERVER


def tellable(message: str, secrets: Sequence[str], prompt: Sequence[str]) -> str:
    """The provider's text, short and without secrets; nothing if it quotes the prompt."""
    for secret in secrets:
        message = message.replace(secret, "***")
    message = " ".join("".join(c if c.isprintable() else " " for c in message).split())[:SAID]
    flat = [" ".join(text.split()) for text in prompt]
    for start in range(len(message) - QUOTED + 1):
        if any(message[start : start + QUOTED] in text for text in flat):
            return "(its text quotes the prompt and is not shown)"
    return message


def retry_after(headers: httpx2.Headers) -> float | None:
    """How long the provider wants to be left alone, in seconds (RFC 9110, section 10.2.3, and the usual extension in ms)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return _sane(float(milliseconds) / 1000)
        told = headers.get("retry-after")
        if told is None:
            return None
        try:
            return _sane(float(told))
        except ValueError:
            return _sane(max(0.0, parsedate_to_datetime(told).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds <= 86_400 else None
