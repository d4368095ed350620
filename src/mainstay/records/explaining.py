"""A decision in plain words, from its record alone and by a template: no model is asked why it did something."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from mainstay.errors import NotFound
from mainstay.records.audit.events import Proof
from mainstay.records.decisions import Decision
from mainstay.types import usd

TEMPLATE = "decision.md.jinja"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = {
    "answered": "It was answered.",
    "partial": "It was answered in part: the answer was cut short.",
    "clarify": "It was answered with a question back, because it could be meant in more than one way.",
    "handed_off": "It was handed to a person.",
    "refused": "No answer was given.",
    "failed": "It could not be worked on.",
}
_MODES = {
    "economy": "a smaller service, to save money or to spare what was down",
    "cached_only": "only answers that had been given before",
    "sources_only": "only the passages that were found, without a written answer",
    "static": "a fixed text",
}
_WAYS = {
    "retrieve:empty": "Nothing was found in the documents that the person may read.",
    "retrieve:ask": "The documents that were found differ, so that the person was asked which is meant.",
    "person:handed_off": "The question went to a person.",
    "static:said": "The fixed text of the agreement was given.",
    "cache:off": "",
    "cache:miss": "No earlier answer fitted.",
}


def explained(decision: Decision, proof: Proof | None, titles: Mapping[str, str] | None = None) -> str:
    """The decision as Markdown that reads well as plain text. ``titles`` are of documents that the reader may see.

    Errors: NotFound for one whose record was erased or has expired.
    """
    if decision.record is None:
        raise NotFound(
            "the record of this decision was erased or has expired",
            where=decision.request_id,
            fix=f"its hash stays in the audit log: mainstay audit proof {decision.n}",
        )
    record = decision.record
    return _template().render(
        record=record,
        decision=decision,
        proof=proof,
        titles=titles or {},
        status=_STATUS.get(record.status, f"It ended as {record.status}."),
        limited=_MODES.get(record.mode, ""),
        ways=[_way(step) for step in record.route if _way(step)],
        policies=[_policy(rule) for rule in record.policy],
        used=[one for one in record.passages if one.used],
        unused=[one for one in record.passages if not one.used],
        time=_time,
        usd=usd,
        took_ms=(record.ended - record.at) // 1000,
    )


def _way(step: str) -> str:
    """One step of the route in words: ``NAME:how it ended``."""
    if step in _WAYS:
        return _WAYS[step]
    name, _, ended = step.partition(":")
    if name == "policy":
        return f"The rule “{ended}” of the agreement decided."
    if name == "cache":
        return f"The cache of answers: {ended.replace('_', ' ')}."
    return f"Model {name}: {ended.replace('_', ' ')}."


def _policy(rule: str) -> str:
    return rule.replace("_", " ")


def _time(micros: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S} UTC"


@cache
def _template() -> Template:
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string((files("mainstay.records") / TEMPLATE).read_text(encoding="utf-8"))
