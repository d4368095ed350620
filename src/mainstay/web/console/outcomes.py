"""What was reported of a request, the newest first."""

from __future__ import annotations

from typing import Any

from mainstay.app import App
from mainstay.errors import NotFound
from mainstay.records.outcomes import Outcome
from mainstay.records.traces import may_see_all
from mainstay.types import Actor
from mainstay.web.console.tables import Cell, Column, Table


def outcomes_of(app: App, request_id: str, actor: Actor) -> Table:
    """The outcomes of a request as far as the visitor may see them, the newest first."""
    try:
        found = app.outcomes.of(request_id, actor, all_of=may_see_all(actor))
    except NotFound:  # a trace that others sent has no asker of ours
        found = ()
    return Table(
        name="outcomes",
        caption="Outcomes and feedback",
        columns=[
            Column(key="at", head="When", kind="time"),
            Column(key="kind", head="What"),
            Column(key="by", head="Reported by"),
            Column(key="comment", head="Said"),
            Column(key="source", head="From"),
        ],
        rows=[_row(one) for one in found],
        empty="Nobody has said yet what came of it.",
    )


def _row(held: Outcome) -> dict[str, Any]:
    value = ""
    if held.kind == "thumbs" and held.value is not None:
        value = "up" if held.value else "down"
    elif held.value is not None:
        value = f"{held.value:g} {held.unit}".strip()
    return {
        "at": held.at,
        "kind": Cell(value=str(held.kind).replace("_", " "), note=value),
        "by": held.by,
        "comment": held.comment,
        "source": held.source,
    }
