"""Every way in which a provider fails, in both wire formats, with the one kind that it must be given.

```python
for name, fault in FAULTS.items():
    with Upstream(always=fault.behaviour) as upstream:  # the path of the call chooses the format
        ...  # fault.kind, or fault.ends for what is no failure; fault.limits are settings that show it within seconds
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mainstay.models.chat import FailureKind, Reason, ToolSpec
from tests.support import upstream as up
from tests.support.formats import ANTHROPIC, Format
from tests.support.upstream import Behaviour, Call

TOOL = ToolSpec(
    name="look_up",
    description="Looks a word up.",
    schema={"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
)
"""What is offered where `Fault.tools` says so."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to fail. `openai` and `anthropic` are how it looks in each format.

    Either it is a failure of `kind`, or an outcome that `ends` for that reason; then `usage` tells whether one is believed.
    `said`: text has come before it. `limits` are fields of a provider's settings.
    """

    openai: Behaviour
    anthropic: Behaviour
    kind: FailureKind | None = None
    ends: Reason | None = None
    usage: bool = True
    said: bool = False
    tools: bool = False
    retry_after_s: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def behaviour(self, call: Call) -> None:
        """In the format of the call."""
        (self.anthropic if call.format is ANTHROPIC else self.openai)(call)


def _both(behaviour: Behaviour, kind: FailureKind | None = None, **more: object) -> Fault:
    return Fault(openai=behaviour, anthropic=behaviour, kind=kind, **more)  # type: ignore[arg-type] # fields as named


def _inside(behaviour: Behaviour, kind: FailureKind, **more: object) -> Fault:
    return _both(behaviour, kind, said=True, **more)


def _web_page(call: Call) -> None:
    call.head(media="text/html")
    call.chunk("<html>Please log in to the network</html>")
    call.end(done=False)


def _not_http(call: Call) -> None:
    call.raw(b"SSH-2.0-hello\r\n\r\n")
    call.hang_up()


def _bad_gateway(call: Call) -> None:
    call.whole(502, "<html>Bad gateway</html>")


def _wrong_end(form: Format) -> str:
    return form.ending("because")


def _called(*pieces: str, name: str = TOOL.name, times: int = 1) -> Behaviour:
    return up.streamed(
        up.opened,
        lambda form: form.tools([(f"call_{n}", name, pieces) for n in range(times)]),
        up.ended("tool"),
        up.end_frame,
    )


def _openai_call(index: int, **function: str) -> str:
    head = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return up.framed({"tool_calls": [{"index": index, **head, "function": function}]})


_WHOLE = '{"word": "mainstay"}'
_FILLED = "model_context_window_exceeded"
_SILENT = {"first_token_s": 0.4}
_SLOW = {"first_token_s": 1.0}
_GAP = {"idle_s": 0.4}
K = FailureKind

FAULTS: Mapping[str, Fault] = {
    # before an answer
    "request refused": _both(up.status(400, code="invalid_request_error", message="temperature is not allowed"), K.CALLER),
    "key refused": _both(up.status(401, code="authentication_error"), K.AUTH),
    "unpaid": _both(up.status(402, code="billing_error"), K.AUTH),
    "no permission": _both(up.status(403, code="permission_error"), K.AUTH),
    "quota used up": Fault(
        openai=up.status(429, code="insufficient_quota"),
        anthropic=up.status(400, message="Your credit balance is too low to access the API"),
        kind=K.AUTH,
    ),
    "no such model": Fault(
        openai=up.status(404, code="model_not_found"),
        anthropic=up.status(404, code="not_found_error", message="model: scripted"),
        kind=K.NOT_FOUND,
    ),
    "redirect": _both(up.redirect("http://127.0.0.1:1/elsewhere"), K.NOT_FOUND),
    "context overflow": Fault(
        openai=up.status(400, code="context_length_exceeded"),
        anthropic=up.status(400, message="prompt is too long: 210000 tokens > 200000 maximum"),
        kind=K.CONTEXT_TOO_LONG,
    ),
    "request too large": _both(up.status(413, code="request_too_large"), K.CONTEXT_TOO_LONG),
    "context full at once": _both(up.streamed(up.opened, up.ended(_FILLED), up.end_frame), K.CONTEXT_TOO_LONG),
    "content filter": Fault(
        openai=up.status(400, code="content_filter"),
        anthropic=up.status(400, message="Output blocked by content filtering policy"),
        kind=K.CONTENT_FILTER,
    ),
    "rate with Retry-After": _both(
        up.status(429, code="rate_limit_error", retry_after="1"), K.RATE, retry_after_s=1.0
    ),
    "rate without Retry-After": _both(up.status(429, code="rate_limit_error"), K.RATE),
    "rate with a long Retry-After": _both(up.status(429, retry_after="3600"), K.RATE, retry_after_s=3600.0),
    "unavailable": Fault(openai=up.status(503), anthropic=up.status(503, code="overloaded_error"), kind=K.OVERLOAD),
    "overloaded": _both(up.status(529, code="overloaded_error"), K.OVERLOAD),
    "server error": Fault(
        openai=up.status(500, code="server_error"), anthropic=up.status(500, code="api_error"), kind=K.SERVER
    ),
    "bad gateway": _both(_bad_gateway, K.SERVER),
    "gateway timeout": _both(up.status(504, code="timeout_error"), K.SERVER),
    "hangs up": _both(up.hangs_up(), K.NETWORK),
    "silent": _both(up.silent(), K.SILENT, limits=_SILENT),
    "dripping head": _both(up.dripping_head(), K.SLOW_FIRST_TOKEN, limits=_SLOW),
    "comments only": _both(up.no_text(), K.SLOW_FIRST_TOKEN, limits=_SLOW),
    "slow first token": _both(up.slow("Late.", first=6), K.SLOW_FIRST_TOKEN, limits=_SLOW),
    "a web page": _both(_web_page, K.MALFORMED),
    "not HTTP": _both(_not_http, K.MALFORMED),
    "empty stream": _both(up.empty(), K.MALFORMED),
    "empty document": _both(lambda call: call.whole(200, ""), K.MALFORMED),
    "document of another kind": _both(lambda call: call.whole(200, {"object": "list"}), K.MALFORMED),
    # inside an answer
    "stalled": _inside(up.stalled("It is"), K.STALLED, limits=_GAP),
    "stalled behind comments": _inside(up.stalled("It is", comments=True), K.STALLED, limits=_GAP),
    "cut, no end reason": _inside(up.cut("It is"), K.CUT),
    "cut, looks complete": _inside(up.cut("It is so.", reason="stop"), K.CUT),
    "cut, connection broken": _inside(up.cut("It is", clean=False), K.CUT),
    "cut, connection broken at the end": _inside(up.cut("It is so.", reason="stop", clean=False), K.CUT),
    "cut, in a line": _inside(up.streamed(up.opened, up.said("It is"), 'data: {"cho'), K.CUT),
    "end frame without a reason": Fault(
        openai=up.streamed(up.opened, up.said("It is"), up.end_frame),
        anthropic=up.streamed(up.opened, up.said("It is"), ANTHROPIC.stopped(0), up.end_frame),
        kind=K.CUT,
        said=True,
    ),
    "no event stream": _inside(up.garbage(), K.MALFORMED),
    "half JSON": _inside(up.half_json(), K.MALFORMED),
    "not UTF-8": _inside(up.streamed(up.opened, up.said("It is"), b'data: {"a": "\xff"}\n\n'), K.MALFORMED),
    "endless line": _both(up.huge_line(), K.MALFORMED),
    "text after the end reason": _inside(
        up.streamed(up.opened, up.said("It is"), up.ended(), up.said("more"), up.end_frame), K.MALFORMED
    ),
    "garbage after the end": _inside(
        up.streamed(up.opened, up.said("It is"), up.ended(), up.end_frame, "data: x\n\n"), K.MALFORMED
    ),
    "two end reasons": Fault(
        openai=up.streamed(up.opened, up.said("It is"), up.ended(), up.ended("length"), up.end_frame),
        anthropic=up.streamed(
            up.opened, up.said("It is"), up.ended(), ANTHROPIC.ending("length", close=False), up.end_frame
        ),
        kind=K.MALFORMED,
        said=True,
    ),
    "unknown end reason": _inside(up.streamed(up.opened, up.said("It is"), _wrong_end, up.end_frame), K.MALFORMED),
    "begins twice": Fault(
        openai=up.streamed(up.opened, up.said("It is"), 'data: {"choices": [{"index": 1, "delta": {}}]}\n\n'),
        anthropic=up.streamed(up.opened, up.said("It is"), up.opened, up.ended(), up.end_frame),
        kind=K.MALFORMED,
        said=True,
    ),
    "error inside": Fault(
        openai=up.error_in_stream("server_error"), anthropic=up.error_in_stream("api_error"), kind=K.SERVER, said=True
    ),
    "overload inside": _inside(up.error_in_stream("overloaded_error"), K.OVERLOAD),
    "rate inside": _inside(up.error_in_stream("rate_limit_error"), K.RATE),
    "a status passed on inside": _inside(
        up.streamed(up.opened, up.said("It is"), 'data: {"error": {"code": 429, "message": "slow down"}}\n\n'), K.RATE
    ),
    # tools
    "tool arguments that are no JSON": _both(_called('{"word": '), K.MALFORMED, tools=True),
    "tool arguments that are no object": _both(_called('"mainstay"'), K.MALFORMED, tools=True),
    "doubled tool piece": Fault(
        openai=_called(_WHOLE, _WHOLE),
        anthropic=up.streamed(
            up.opened,
            ANTHROPIC.stopped(0),
            ANTHROPIC.begun(1, {"type": "tool_use", "id": "call_0", "name": TOOL.name, "input": {}}) * 2,
        ),
        kind=K.MALFORMED,
        tools=True,
    ),
    "reordered tool pieces": Fault(
        openai=up.streamed(_openai_call(1, name=TOOL.name, arguments=_WHOLE), up.ended("tool"), up.end_frame),
        anthropic=up.streamed(
            up.opened, ANTHROPIC.delta(1, {"type": "input_json_delta", "partial_json": _WHOLE}), up.end_frame
        ),
        kind=K.MALFORMED,
        tools=True,
    ),
    "a tool that was not offered": _both(_called(_WHOLE, name="rm"), K.MALFORMED, tools=True),
    "waits for a tool and calls none": _both(
        up.streamed(
            up.opened,
            lambda form: form.tools([]) if form is ANTHROPIC else "",
            up.ended("tool"),
            up.end_frame,
        ),
        K.MALFORMED,
        tools=True,
    ),
    # outcomes: no failures, and not to be taken for more than they are
    "usage missing": _both(up.good("Yes.", usage=None), ends="stop", usage=False),
    "usage absurd": Fault(
        openai=up.good("Yes.", usage={"prompt_tokens": 10**9, "completion_tokens": -2}),
        anthropic=up.good("Yes.", usage={"input_tokens": 10**9, "output_tokens": -2}),
        ends="stop",
        usage=False,
    ),
    "length": _both(up.good("It is", reason="length"), ends="length"),
    "context full in the middle": _both(up.good("It is", reason=_FILLED), ends="length"),
    "refusal": Fault(
        openai=up.streamed(up.framed({"refusal": "I would rather not."}), up.ended(), up.end_frame),
        anthropic=up.good("I would rather not.", reason="content_filter", usage=None),
        ends="content_filter",
        usage=False,
    ),
    "content filter at the end": _both(up.good("It is", reason="content_filter"), ends="content_filter"),
}  # fmt: skip
