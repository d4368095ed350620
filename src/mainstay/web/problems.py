"""Errors as HTTP: the one place where a class of error becomes a status, and where its words are chosen.

Three faces of the same thing: an RFC 9457 problem document on native routes, an OpenAI error object on compatible ones, a
page for people. What a server error says about its inside stays inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from mainstay.corpus.parsing.document import Quarantined
from mainstay.errors import (
    Conflict,
    Exhausted,
    Invalid,
    MainstayError,
    NotFound,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MAX_DETAIL = 600


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A sort of problem: ``code`` for programs, ``title`` for people, ``openai`` is the ``type`` that compatible clients know."""

    code: str
    title: str
    openai: str = "invalid_request_error"


# The most special class first: an error takes the first that fits.
KINDS: tuple[tuple[type[MainstayError], Kind], ...] = (
    (TooLarge, Kind(code="too-large", title="Too large")),
    (Invalid, Kind(code="invalid", title="The request can not be understood")),
    (Quarantined, Kind(code="unreadable", title="The document can not be read")),
    (Unauthenticated, Kind(code="unauthenticated", title="Not signed in", openai="authentication_error")),
    (Refused, Kind(code="refused", title="Not permitted", openai="permission_error")),
    (NotFound, Kind(code="not-found", title="Not found", openai="not_found_error")),
    (Conflict, Kind(code="conflict", title="The state forbids this")),
    (Exhausted, Kind(code="exhausted", title="A limit is used up", openai="rate_limit_error")),
    (Unavailable, Kind(code="unavailable", title="Not available now", openai="server_error")),
)
INTERNAL = Kind(code="internal", title="Something went wrong here", openai="server_error")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What went wrong, ready to be said over HTTP."""

    status: int
    kind: Kind
    detail: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, request_id: str) -> dict[str, Any]:
        """The RFC 9457 form. ``type`` is explained on our own reference page."""
        return {
            "type": f"/docs#problem-{self.kind.code}",
            "title": self.kind.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.kind.code,
            "request_id": request_id,
        }

    def openai(self) -> dict[str, Any]:
        """The form that OpenAI clients read."""
        code = {401: "invalid_api_key"}.get(self.status, self.kind.code.replace("-", "_"))
        return {"error": {"message": self.detail, "type": self.kind.openai, "param": self.param, "code": code}}


def problem_of(error: Exception) -> Problem:
    """Every error that can reach the door, as a Problem."""
    if isinstance(error, MainstayError):
        return _of_ours(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error.errors())
    if isinstance(error, HTTPException):
        return _of_http(error)
    return Problem(status=500, kind=INTERNAL, detail="this is our mistake, not yours; tell the operator the request id")


def _of_ours(error: MainstayError) -> Problem:
    kind = next((kind for known, kind in KINDS if isinstance(error, known)), INTERNAL)
    headers = {}
    if isinstance(error, Exhausted | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="mainstay"'
    if kind is INTERNAL:
        return Problem(status=500, kind=kind, detail="this is our mistake, not yours; tell the operator the request id")
    # Where a dependency stands (a file, an address) is the operator's business: logged, not told.
    detail = " ".join(error.what.split()) if isinstance(error, Unavailable) else error.line()
    param = error.where if isinstance(error, Invalid) and error.where else None
    return Problem(status=error.http_status, kind=kind, detail=_short(detail), param=param, headers=headers)


def _of_validation(errors: Sequence[Any]) -> Problem:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    if first["type"] == "json_invalid":
        said, where = f"the body is not JSON ({first.get('ctx', {}).get('error', 'unreadable')})", ""
    elif first["type"] == "extra_forbidden":
        said = "this field is not known here"
    elif first["type"] == "missing":
        said = "this field is missing" if where else "the body is missing"
    elif first["type"] in ("model_attributes_type", "model_type", "dict_type") and not where:
        said = "the body must be a JSON object, sent as application/json"
    elif first["type"] in ("too_long", "string_too_long") and isinstance(first.get("input"), str):
        said = f"{len(first['input'])} characters, at most {first['ctx']['max_length']} are taken"
    elif first["type"] in ("too_short", "string_too_short") and isinstance(first.get("input"), str):
        least = first["ctx"]["min_length"]
        said = "is empty" if least == 1 else f"{len(first['input'])} characters, at least {least} are wanted"
    else:
        said = first["msg"].removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{where}: {said}{more}" if where else f"{said}{more}"
    return Problem(status=400, kind=_kind(Invalid), detail=_short(detail), param=where or None)


def _of_http(error: HTTPException) -> Problem:
    by_status = {
        401: Unauthenticated,
        403: Refused,
        404: NotFound,
        409: Conflict,
        413: TooLarge,
        429: Exhausted,
        503: Unavailable,
    }
    phrases = {404: "there is nothing at this address", 405: "this address does not know this method"}
    kind = (
        _kind(by_status.get(error.status_code, Invalid))
        if error.status_code < 500 or error.status_code == 503
        else INTERNAL
    )
    detail = phrases.get(error.status_code) or str(error.detail or HTTPStatus(error.status_code).phrase)
    if error.status_code == 400 and "parsing the body" in detail:
        detail = "the body can not be read as JSON"
    return Problem(status=error.status_code, kind=kind, detail=_short(detail), headers=dict(error.headers or {}))


def _kind(wanted: type[MainstayError]) -> Kind:
    return next(kind for known, kind in KINDS if known is wanted)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"
