"""A check of one model: a tiny call or two, and what they show of the server's abilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mainstay.errors import Exhausted
from mainstay.models.chat import ChatModel, ChatRequest, Delta, Done, FailureKind, Message, ModelFailure
from mainstay.types import Usage, usd

OUTPUT_TOKENS = 256
"""Enough for a model that thinks before it speaks."""
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}},
    "required": ["ready"],
    "additionalProperties": False,
}
_MAY_BE_THE_SCHEMA = frozenset({FailureKind.CALLER, FailureKind.SERVER, FailureKind.MALFORMED})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found. ``None``: it could not be found out. ``cost_nanodollars`` is an upper bound where usage was not told."""

    ok: bool
    detail: str
    streaming: bool | None = None
    usage: bool | None = None
    end_frame: bool | None = None
    json: bool | None = None
    cost_nanodollars: int = 0


def check(model: ChatModel, *, cap_nanodollars: int, deadline: Callable[[], float], json_asked: bool = True) -> Checked:
    """Ask the model for a few words of JSON; where that fails in a way that may be about the JSON, once more for plain text.

    Never costs more than the cap for both calls together. ``deadline`` gives that of a call that begins now.
    Errors: Exhausted when the cap does not pay for one call. A failed call is a result, not an error.
    """
    request = ChatRequest(
        messages=(Message(role="user", content='Reply with this JSON and nothing else: {"ready": true}'),),
        max_output_tokens=OUTPUT_TOKENS,
        deadline=deadline(),
        json_schema=SCHEMA if json_asked else None,
    )
    calls = 2 if json_asked else 1
    most = model.price.max_output_for(cap_nanodollars // calls, request)
    if most < 1:
        raise Exhausted(
            f"a call can cost more than ${usd(cap_nanodollars // calls)}",
            where=f"model {model.name}",
            fix=f"permit more, at least ${usd(calls * model.price.ceiling(request))}",
        )
    request = replace(request, max_output_tokens=most)
    first = _one(model, request)
    if first.ok or not json_asked or not first.may_be_the_schema:
        return first.result
    second = _one(model, replace(request, json_schema=None, deadline=deadline()))
    cost = first.result.cost_nanodollars + second.result.cost_nanodollars
    if not second.ok:
        return replace(first.result, cost_nanodollars=cost)
    return replace(
        second.result, json=False, detail=f"without JSON; with: {first.result.detail}", cost_nanodollars=cost
    )


@dataclass(frozen=True)
class _Call:
    ok: bool
    result: Checked
    may_be_the_schema: bool = False


def _one(model: ChatModel, request: ChatRequest) -> _Call:
    text, done = "", Done(reason="stop")
    try:
        for event in model.stream(request):
            if isinstance(event, Delta):
                text += event.text
            else:
                done = event
    except ModelFailure as error:
        cost = model.price.ceiling(request) if error.maybe_paid else 0
        maybe = error.kind in _MAY_BE_THE_SCHEMA
        return _Call(False, Checked(ok=False, detail=f"{error.kind}: {error.line()}", cost_nanodollars=cost), maybe)
    usage = done.usage or Usage(input_tokens=request.input_token_bound, output_tokens=request.max_output_tokens)
    whole = done.reason == "stop"
    result = Checked(
        ok=True,
        detail=f"said {text[:40]!r}, ended by {done.reason}",
        streaming=done.streamed,
        usage=done.usage is not None,
        end_frame=done.end_frame if done.streamed else None,
        json=_is_asked_for(text) if request.json_schema is not None and whole else None,
        cost_nanodollars=model.price.cost(usage),
    )
    return _Call(True, result)


def _is_asked_for(text: str) -> bool:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and isinstance(said.get("ready"), bool)
