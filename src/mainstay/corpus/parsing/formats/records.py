"""JSON and JSON lines: each record is a block with one ``- path: value`` line for each value in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mainstay.corpus.parsing.document import Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.plain import decode

_WRAPPERS = 3  # {"data": {"items": [...]}} is opened to the list this deep
_DEEPER = "nested too deep"


def read(data: bytes, draft: Draft) -> None:
    """Read one JSON value: the records of its list, or itself as the only record."""
    value = _load(decode(data, draft))
    for record in _records(value, draft):
        _write(record, draft)


def read_lines(data: bytes, draft: Draft) -> None:
    """Read a JSON value from each line; lines that are not JSON become findings."""
    good = False
    for number, line in enumerate(decode(data, draft).split("\n"), 1):
        if draft.full or number > draft.limits.max_rows:
            draft.find("truncated", f"after line {number - 1}")
            break
        if line.strip():
            try:
                _write(_load(line), draft)
                good = True
            except Quarantined as error:
                draft.find("bad-line", f"line {number}: {error.reason}")
    if not good and draft.blocks == 0:
        raise Quarantined("no line of the file is JSON")


def _load(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise Quarantined(f"JSON {_DEEPER}") from error
    except ValueError as error:
        raise Quarantined(f"not JSON: {error}") from error


def _records(value: object, draft: Draft) -> list[object]:
    """The list that holds the records; what stands beside it becomes a record of its own, the first."""
    beside: dict[str, object] = {}
    for _ in range(_WRAPPERS):
        if isinstance(value, list):
            break
        lists = [k for k, v in value.items() if _is_records(v)] if isinstance(value, dict) else []
        if len(lists) != 1 or not isinstance(value, dict):
            break
        beside |= {k: v for k, v in value.items() if k != lists[0]}
        value = value[lists[0]]
    records = value if isinstance(value, list) else [value]
    if records and not any(isinstance(record, dict | list) for record in records):
        records = [records]  # a list of scalars is one record
    if len(records) > draft.limits.max_rows:
        draft.find("truncated", f"more than {draft.limits.max_rows} records")
    return ([beside] if beside else []) + records[: draft.limits.max_rows]


def _is_records(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(item, dict) for item in value)


def _write(record: object, draft: Draft) -> None:
    lines = [f"- {path}: {shown}" if path else f"- {shown}" for path, shown in _values(record, draft)]
    draft.add("list", "\n".join(lines))


def _values(record: object, draft: Draft) -> Iterator[tuple[str, str]]:
    """(path, value) of every scalar, in order, without recursion."""
    stack: list[tuple[str, object, int]] = [("", record, 0)]
    while stack:
        path, value, depth = stack.pop()
        if depth > draft.limits.max_depth:
            raise Quarantined(f"JSON {_DEEPER}")
        if isinstance(value, dict):
            inner = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            inner = [(f"{path}[{place}]", item) for place, item in enumerate(value)]
        else:
            if (shown := _shown(value)) != "":
                yield path, shown
            continue
        stack.extend((p, v, depth + 1) for p, v in reversed(inner))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(filter(None, (_shown(item) for item in value)))
    return str(value).strip()
