"""A message: one turn of what a model is told. It stands here because prompts make messages and models carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """Who speaks, and what is said."""

    role: Role
    content: str
