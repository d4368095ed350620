"""Texts of questions and answers: kept only where a service asks for it, and only of classes of data that it names.

Passages are never kept here, whatever their class: they are ids and versions in the trace, and open under the Scope of who
looks, now. An answer quotes what it was made from, so it is kept only when every passage's class may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mainstay.errors import Invalid
from mainstay.records.traces import Texts, Trace

Kinds = Literal["none", "questions", "all"]
MAX_CHARS = 20_000  # of one text; more is cut


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """What is kept of requests, and how long (``records:`` of ``mainstay.yaml``).

    ``content``: none, the questions, or all (answers too). ``classes`` are the ``data_class`` values whose documents may be
    quoted in kept texts; documents of no class always may, those of any other never. ``sample`` is the share of ordinary
    journeys whose steps are kept, ``expensive_usd`` from which cost on a request is none (empty: the dearest hundredth).
    Times are days; an agreement's ``governance.retention_days`` shortens them all but that of decisions.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": False}  # noqa: RUF012 - read by the settings alone

    content: Kinds = "none"
    classes: tuple[str, ...] = ()
    sample: float = 1.0
    expensive_usd: str = ""
    decisions_days: int = 396
    traces_days: int = 90
    content_days: int = 30

    def __post_init__(self) -> None:
        if not 0 <= self.sample <= 1:
            raise Invalid(f"records.sample is {self.sample}, not 0 to 1", fix="write 1.0 to keep every journey")
        if self.decisions_days < DECISIONS_FLOOR_DAYS:
            raise Invalid(
                f"records.decisions_days is {self.decisions_days}, at least {DECISIONS_FLOOR_DAYS} are kept",
                fix="records of decisions stay six months at least (Regulation (EU) 2024/1689, Articles 19 and 26)",
            )
        if not 1 <= self.traces_days <= MOST_DAYS:
            raise Invalid(f"records.traces_days is {self.traces_days}, not 1 to {MOST_DAYS}")
        if not 1 <= self.content_days <= self.traces_days:
            raise Invalid(
                f"records.content_days is {self.content_days}, not 1 to records.traces_days ({self.traces_days})",
                fix="texts are kept no longer than the journeys they belong to",
            )


DECISIONS_FLOOR_DAYS = 184  # six months, whichever they are
MOST_DAYS = 3650


def permitted(settings: RecordSettings, texts: Texts) -> dict[str, str]:
    """What of these may be kept: the question with ``questions`` or ``all``, the answer with ``all``, and only when every class
    that it was made from may be quoted."""
    held: dict[str, str] = {}
    if settings.content != "none":
        held["question"] = texts.question
    if settings.content == "all" and all(one is None or one in settings.classes for one in texts.data_classes):
        held["answer"] = texts.answer
    return {name: text[:MAX_CHARS] for name, text in held.items() if text}


def documents_of(trace: Trace) -> frozenset[str]:
    """The documents that a request's texts may quote: who is to see the texts must be able to read them all, now."""
    return frozenset(
        str(document)
        for span in trace.spans
        for document in (span.attributes.get("documents") or ())
        if span.kind == "retrieve"
    )
