"""How standards name what we name: tables, a profile for each dialect that goes out; whatever comes in is read by all of them.

``otel-genai-1.41``: OpenTelemetry semantic conventions 1.41.0, the last release that held the pages of generative AI.
``otel-genai-next``: the repository semantic-conventions-genai as it stands; every name in it may still change.
``openinference``: the OpenInference semantic conventions. What a standard has no name for goes out as ``mainstay.``, and is
read again as what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

OPERATION, SPAN_KIND, OWN_KIND = "gen_ai.operation.name", "openinference.span.kind", "mainstay.kind"
OWN = "mainstay."
"""What an attribute of ours is called that has no other name."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One dialect. ``kinds``: what a step of ours is called in the attribute ``kind_name``. ``fields`` and ``attributes``: the
    names of what every step has, and of what ours say of themselves. ``texts``: where questions and answers stand."""

    name: str
    kind_name: str
    kinds: Mapping[str, str]
    fields: Mapping[str, str]
    attributes: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


_GENAI_KINDS = {"generate": "chat", "retrieve": "retrieval", "tool": "execute_tool", "request": "invoke_workflow"}
_GENAI_FIELDS = {
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "first_ms": "gen_ai.response.time_to_first_chunk",
    "cost_nanodollars": "mainstay.cost_nanodollars",
    "release": "mainstay.release",
}
_GENAI_ATTRIBUTES = {
    "model": "gen_ai.request.model",
    "provider": "gen_ai.provider.name",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="otel-genai-1.41",
            kind_name=OPERATION,
            kinds=_GENAI_KINDS,
            fields=_GENAI_FIELDS,
            attributes={**_GENAI_ATTRIBUTES, "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens"},
            texts={"question": "gen_ai.input.messages", "answer": "gen_ai.output.messages"},
        ),
        Profile(
            name="otel-genai-next",
            kind_name=OPERATION,
            kinds=_GENAI_KINDS,
            fields=_GENAI_FIELDS,
            attributes={**_GENAI_ATTRIBUTES, "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens"},
            texts={"question": "gen_ai.input.messages", "answer": "gen_ai.output.messages"},
        ),
        Profile(
            name="openinference",
            kind_name=SPAN_KIND,
            kinds={
                "request": "CHAIN",
                "generate": "LLM",
                "retrieve": "RETRIEVER",
                "critic": "RERANKER",
                "tool": "TOOL",
                "guard": "GUARDRAIL",
                "verify": "EVALUATOR",
                "judge": "EVALUATOR",
                "prompt": "PROMPT",
                "route": "DECISION",
                "step": "CHAIN",
            },
            fields={
                "model": "llm.model_name",
                "input_tokens": "llm.token_count.prompt",
                "output_tokens": "llm.token_count.completion",
                "first_ms": "mainstay.first_ms",
                "cost_nanodollars": "llm.cost.total",
                "release": "mainstay.release",
            },
            attributes={
                "model": "llm.model_name",
                "provider": "llm.provider",
                "input_tokens": "llm.token_count.prompt",
                "output_tokens": "llm.token_count.completion",
                "cached_input_tokens": "llm.token_count.prompt_details.cache_read",
                "cache_write_tokens": "llm.token_count.prompt_details.cache_write",
                "reasoning_tokens": "llm.token_count.completion_details.reasoning",
            },
            texts={"question": "input.value", "answer": "output.value"},
        ),
    )
}
DEFAULT = "otel-genai-1.41"

# -- what comes in -----------------------------------------------------------------------------------------------------
KINDS_IN: Mapping[str, Mapping[str, str]] = {
    OPERATION: {
        "chat": "generate",
        "generate_content": "generate",
        "text_completion": "generate",
        "retrieval": "retrieve",
        "execute_tool": "tool",
        "embeddings": "step",
        "create_agent": "step",
        "invoke_agent": "step",
        "invoke_workflow": "step",
        "plan": "step",
        "memory": "step",
    },
    SPAN_KIND: {
        "LLM": "generate",
        "RETRIEVER": "retrieve",
        "RERANKER": "critic",
        "EMBEDDING": "step",
        "TOOL": "tool",
        "AGENT": "step",
        "CHAIN": "step",
        "GUARDRAIL": "guard",
        "EVALUATOR": "judge",
        "PROMPT": "prompt",
        "DECISION": "route",
    },
}
"""Which step of ours an imported one is, by what it calls itself; anything else is ``other``."""
# Names under which each field may come, the first that is there counts. A unit is what one of ours is in theirs.
FIELDS_IN: Mapping[str, tuple[str, ...]] = {
    "model": (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "first_ms": ("mainstay.first_ms", "gen_ai.response.time_to_first_chunk"),
    "cost_nanodollars": ("mainstay.cost_nanodollars", "llm.cost.total"),
    "release": ("mainstay.release",),
}
UNITS: Mapping[str, float] = {"gen_ai.response.time_to_first_chunk": 1e-3, "llm.cost.total": 1e-9}
"""Milliseconds in seconds, nano-dollars in dollars."""

# -- texts: never kept unless the service keeps them --------------------------------------------------------------------
TEXTS = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.tool.description",
        "gen_ai.retrieval.query.text",
        "gen_ai.retrieval.documents",
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.evaluation.explanation",
        "input.value",
        "output.value",
        "llm.prompts",
        "llm.tools",
        "llm.function_call",
        "llm.invocation_parameters",
        "tool.parameters",
        "tool.description",
        "metadata",
        "db.query.text",
        "db.statement",
        "url.query",
        "traceloop.entity.input",
        "traceloop.entity.output",
    }
)
TEXT_PREFIXES = (
    *("gen_ai.prompt.", "gen_ai.completion.", "gen_ai.input.", "gen_ai.output.", "gen_ai.system_instructions."),
    *(
        "llm.input_messages.",
        "llm.output_messages.",
        "llm.prompts.",
        "llm.tools.",
        "llm.prompt_template.",
        "llm.choices.",
    ),
    *("gen_ai.tool.call.arguments.", "gen_ai.tool.call.result.", "db.query.parameter."),
)
TEXT_SUFFIXES = (
    *(
        ".document.content",
        ".document.metadata",
        ".embedding.text",
        ".message.content",
        ".tool_call.function.arguments",
    ),
    *("reranker.query", "document.content", "document.metadata", "message.content"),
)
TEXT_EVENTS = ("gen_ai.content.", "gen_ai.client.inference.operation.details")
"""Events whose attributes are texts, as are those called ``gen_ai.*.message`` and ``gen_ai.choice``."""


@lru_cache(maxsize=4096)
def is_text(name: str) -> bool:
    """Whether an attribute of this name holds what was asked, read or said."""
    return name in TEXTS or name.startswith(TEXT_PREFIXES) or name.endswith(TEXT_SUFFIXES)


def is_text_event(name: str) -> bool:
    return (
        name.startswith(TEXT_EVENTS)
        or name == "gen_ai.choice"
        or (name.startswith("gen_ai.") and name.endswith(".message"))
    )
