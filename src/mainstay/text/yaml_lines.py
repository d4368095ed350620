"""YAML as plain values that know their lines, so that a mistake can be told with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mainstay.errors import Invalid


def parse_yaml(
    text: str,
    where: str,
    lines: dict[tuple[str | int, ...], int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """YAML as plain values, ``${NAME}`` replaced from ``environment``; fills ``lines`` with the line of each value's path.

    Errors: Invalid with line, also for a repeated key, an alias and a variable that is not set.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _value(node, (), where, {} if lines is None else lines, environment or {}) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise Invalid(f"not YAML: {getattr(error, 'problem', None) or error}", where=f"{where}{line}") from None
    except RecursionError:
        raise Invalid("nested too deeply", where=where) from None


_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _value(
    node: yaml.Node,
    path: tuple[str | int, ...],
    where: str,
    lines: dict[tuple[str | int, ...], int],
    environment: Mapping[str, str],
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            at = key_node.start_mark.line + 1
            if not key:
                raise Invalid("a key that is not a word", where=f"{where}:{at}")
            if key in result:
                raise Invalid(f"{key!r} stands here a second time", where=f"{where}:{at}", fix="remove one")
            lines[(*path, key)] = at
            result[key] = _value(value_node, (*path, key), where, lines, environment)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), where, lines, environment) for i, item in enumerate(node.value)]
    constructor = yaml.SafeLoader("")
    try:
        value = constructor.construct_object(node)
    except ValueError as error:
        raise Invalid(f"not a value: {error}", where=f"{where}:{line}") from None
    finally:
        constructor.dispose()
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise Invalid(
                f"${{{match[1]}}} is not set in the environment", where=f"{where}:{line}", fix=f"export {match[1]}=..."
            )
        return environment[match[1]]

    return _VARIABLE.sub(variable, value)
