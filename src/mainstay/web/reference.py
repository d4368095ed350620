"""The reference page's content: our OpenAPI document as sections that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mainstay.web.desk import PERMISSION


@dataclass(frozen=True, kw_only=True)
class Field:
    """A parameter or a field of a body."""

    name: str
    kind: str
    needed: bool
    about: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one address."""

    method: str
    path: str
    summary: str
    about: tuple[str, ...]
    permission: str
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    answer: tuple[Field, ...]

    @property
    def anchor(self) -> str:
        return f"{self.method}-{self.path.strip('/').replace('/', '-').replace(':', '-').replace('{', '').replace('}', '')}"


@dataclass(frozen=True, kw_only=True)
class Section:
    """What belongs together."""

    name: str
    operations: tuple[Operation, ...]


def sections(openapi: Mapping[str, Any]) -> list[Section]:
    """The operations by their first tag, in the order they are written in."""
    found: dict[str, list[Operation]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["Other"])[0]
            found.setdefault(tag, []).append(_operation(openapi, path, method, operation))
    return [Section(name=name, operations=tuple(operations)) for name, operations in found.items()]


def _operation(openapi: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    return Operation(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        about=tuple(" ".join(part.split()) for part in operation.get("description", "").split("\n\n") if part.strip()),
        permission=operation.get(PERMISSION, "none"),
        parameters=tuple(_parameter(openapi, one) for one in operation.get("parameters", ())),
        body=_fields(openapi, body),
        answer=_fields(openapi, answer),
    )


def _parameter(openapi: Mapping[str, Any], one: Mapping[str, Any]) -> Field:
    kind = f"{one['in']}, {_kind(openapi, one['schema'])}"
    return Field(name=one["name"], kind=kind, needed=one.get("required", False), about=one.get("description", ""))


def _fields(openapi: Mapping[str, Any], schema: Mapping[str, Any] | None) -> tuple[Field, ...]:
    if schema is None:
        return ()
    whole = _resolved(openapi, schema)
    if "items" in whole:
        whole = _resolved(openapi, whole["items"])
    needed = whole.get("required", ())
    return tuple(
        Field(
            name=name,
            kind=_kind(openapi, one),
            needed=name in needed,
            about=_resolved(openapi, one).get("description", ""),
        )
        for name, one in whole.get("properties", {}).items()
    )


def _kind(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    whole = _resolved(openapi, schema)
    if "anyOf" in whole:
        return " or ".join(dict.fromkeys(_kind(openapi, one) for one in whole["anyOf"]))
    if whole.get("type") == "array":
        return f"list of {_kind(openapi, whole.get('items', {}))}"
    if "enum" in whole:
        return " | ".join(str(value) for value in whole["enum"])
    return str(whole.get("type", "any"))


def _resolved(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return openapi["components"]["schemas"][name] if name else schema
