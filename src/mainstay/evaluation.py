"""Asking known questions and comparing what comes with what is expected.

Kinds: ``answerable`` and ``filter`` must cite an expected document; ``contradiction`` must cite two of them; ``off_topic`` and
``forbidden`` must find nothing; ``near_miss`` (the subject is there, the fact is not) is reported, not judged: the
likeness of words
can not tell it from an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mainstay.errors import Invalid
from mainstay.text.yaml_lines import parse_yaml
from mainstay.types import Answer, Status

KINDS = ("answerable", "filter", "contradiction", "off_topic", "forbidden", "near_miss")
MAX_BYTES = 1024 * 1024


class Query(BaseModel):
    """A known question: who asks, and which documents may be cited for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    id: str
    question: str
    asker: str | None = Field(default=None, alias="as")
    expect: tuple[str, ...] = ()
    kind: str = "answerable"
    must_say: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one known question went. ``counts`` is false for kinds that are reported and not judged."""

    query: Query
    status: str
    cited: tuple[str, ...]
    ok: bool
    counts: bool
    why: str = ""


def load_queries(folder: Path) -> list[Query]:
    """All questions of ``*.yaml`` in a folder. Errors: Invalid with file and line."""
    queries: list[Query] = []
    for file in sorted(folder.glob("*.yaml")):
        if file.stat().st_size > MAX_BYTES:
            raise Invalid(f"larger than {MAX_BYTES} bytes", where=str(file))
        lines: dict[tuple[str | int, ...], int] = {}
        value: Any = parse_yaml(file.read_text(encoding="utf-8"), str(file), lines)
        entries = value.get("queries") if isinstance(value, dict) else None
        if not isinstance(entries, list):
            raise Invalid("no list under queries:", where=str(file))
        for n, entry in enumerate(entries):
            where = f"{file}:{lines.get(('queries', n), 1)}"
            try:
                query = Query.model_validate(entry)
            except ValidationError as error:
                first = error.errors()[0]
                raise Invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=where) from None
            if query.kind not in KINDS:
                raise Invalid(f"kind {query.kind!r}", where=where, fix=f"write one of {', '.join(KINDS)}")
            if any(query.id == other.id for other in queries):
                raise Invalid(f"two questions have the id {query.id!r}", where=where)
            queries.append(query)
    return queries


def run_queries(queries: Sequence[Query], ask: Callable[[str, str | None], Answer]) -> list[Outcome]:
    """Ask each question as its asker and judge the answer."""
    return [judge(query, ask(query.question, query.asker)) for query in queries]


def judge(query: Query, answer: Answer) -> Outcome:
    """Whether an answer is what the query expects."""
    cited = tuple(dict.fromkeys(citation.uri for citation in answer.citations))
    expected = [uri for uri in cited if uri in query.expect]
    said = " ".join(answer.text.split())
    unsaid = [words for words in query.must_say if words not in said]
    silent = not cited and answer.status in (Status.REFUSED, Status.CLARIFY)
    if query.kind in ("off_topic", "forbidden"):
        ok, why = silent, "" if silent else f"cited {', '.join(cited)}"
    elif query.kind == "near_miss":
        ok, why = silent, "" if silent else f"quoted {', '.join(cited)}"
    elif query.kind == "contradiction":
        ok, why = len(expected) >= 2, "" if len(expected) >= 2 else f"cited {', '.join(cited) or 'nothing'}"
    else:
        ok, why = bool(expected), "" if expected else f"cited {', '.join(cited) or 'nothing'}"
    if ok and unsaid and not silent:
        why = f"does not say {unsaid[0]!r}"
    return Outcome(
        query=query, status=str(answer.status), cited=cited, ok=ok, counts=query.kind != "near_miss", why=why
    )
