"""Columns whose texts come from elsewhere (errors of others, notes, progress): nothing secret or personal gets into them.

The column does it, so that no writer of today or tomorrow can forget to.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Dialect, Text, TypeDecorator

from mainstay.guard.redaction import Redactor
from mainstay.storage.rows import dumps

_BY_WHAT = {True: Redactor(), False: Redactor(personal=False)}


class Redacted(TypeDecorator[str]):
    """A text without secrets and, unless ``personal`` data may stay for a person who needs it, without that."""

    impl = Text
    cache_ok = True

    def __init__(self, *, personal: bool = False) -> None:
        super().__init__()
        self.personal = personal

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - as SQLAlchemy calls it
        return _BY_WHAT[not self.personal].redact(value) if value else value


class RedactedJson(Redacted):
    """The same for JSON text, value by value: it stays JSON."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if not value or value in ("{}", "[]"):
            return value
        try:
            held: Any = json.loads(value)
        except ValueError:
            return super().process_bind_param(value, dialect)
        cleaned = _BY_WHAT[not self.personal].clean(held)
        return value if cleaned is held else dumps(cleaned)
