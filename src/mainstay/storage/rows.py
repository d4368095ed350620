"""How values become columns and back: times as microseconds, lists and maps as JSON with sorted keys, dates kept typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mainstay.types import MetaValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: datetime | None) -> int | None:
    """Microseconds since 1970 UTC."""
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def moment(value: int | None) -> datetime | None:
    """The aware UTC time of ``micros``."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def dumps(value: object) -> str:
    """JSON text, stable for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def dump_metadata(metadata: Mapping[str, MetaValue]) -> str:
    """Metadata as JSON; a date becomes ``{"date": "2024-03-01"}`` so that it comes back as a date."""
    return dumps({key: _encode(value) for key, value in metadata.items()})


def load_metadata(text: str) -> dict[str, MetaValue]:
    """The inverse of ``dump_metadata``."""
    return {key: _decode(value) for key, value in json.loads(text).items()}


def _encode(value: MetaValue) -> Any:
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return {"date": value.isoformat()[:10]} if isinstance(value, date) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    return date.fromisoformat(value["date"]) if isinstance(value, dict) else value
