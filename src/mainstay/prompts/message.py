"""A message: one turn of what a model is told. It stands here because prompts make messages and models carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]
"""Who may speak in a prompt file."""
Speaker: TypeAlias = Role | Literal["tool"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """What a model wants done: ``arguments_json`` is the text of one JSON object. ``id`` ties the result to it."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """Who speaks, and what is said. An assistant may have made ``tool_calls``; a tool's result names its ``tool_call_id``."""

    role: Speaker
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
