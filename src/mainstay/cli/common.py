"""What commands share: the open service, who asks, and how results and progress are shown."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import click

from mainstay.access.keys import ADMINISTRATOR
from mainstay.app import App, open_app
from mainstay.corpus.ingest import Progress
from mainstay.errors import NotFound, Unauthenticated
from mainstay.records.audit import By, acting
from mainstay.settings import service_folder
from mainstay.shapes import answer_view
from mainstay.types import Actor, Answer, Citation, MetaValue, Passage, usd

as_user = click.option(
    "--as", "user", metavar="USER", help="Ask as this user [default: the operator, who may read everything]."
)
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON document.")

OPERATOR = Actor(
    principal="service:command-line", display="operator", admin=True, scopes=frozenset(map(str, ADMINISTRATOR))
)


@contextmanager
def opened() -> Iterator[App]:
    """The service of the folder that the command line names."""
    context = click.get_current_context()
    with acting(By(principal=operator())), open_app(service_folder(context.obj["folder"])) as app:
        yield app


def operator() -> str:
    """Whoever runs the command, by their account on this machine: for the audit log."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user need not be in any list
        return f"cli:{os.getuid()}"


def actor(app: App, user: str | None) -> Actor:
    """The person named by ``--as``, or the operator. Errors: NotFound for somebody unknown."""
    if user is None:
        return OPERATOR
    try:
        if user.startswith("group:"):
            raise Unauthenticated("a group does not ask")
        return app.identity.actor_for(user if ":" in user else f"user:{user}")
    except Unauthenticated:
        raise NotFound(f"no user {user!r} who may act", where="--as", fix="see: mainstay users list") from None


def put_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Values as JSON knows them."""
    if isinstance(value, Answer):
        return answer_view(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(held) for held in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value.isoformat() if isinstance(value, date | datetime) else value


def show_answer(answer: Answer) -> None:
    """An answer for people: text, notice, then each source with its quotation."""
    width = min(shutil.get_terminal_size((100, 20)).columns, 110)
    for line in answer.text.splitlines():
        click.echo(textwrap.fill(line, width) if line else "")
    for question in answer.questions:
        click.echo(f"  - {question}")
    if answer.notice:
        click.echo()
        click.secho(textwrap.fill(f"Note: {answer.notice}", width), fg="yellow")
    if answer.citations:
        click.echo()
    for citation in answer.citations:
        show_citation(citation, width)
    for n, passage in enumerate(answer.sources, 1):
        show_passage(n, passage)
    click.echo()
    by = f" by {answer.model}" if answer.model else ""
    click.secho(
        f"{answer.status}{by} · mode {answer.mode} · {answer.timings_ms.get('total', 0):.0f} ms"
        f" · ${usd(answer.cost_nanodollars)} of ${usd(answer.cap_nanodollars)} · {answer.id}",
        dim=True,
    )


def show_citation(citation: Citation, width: int) -> None:
    page = f", page {citation.page}" if citation.page else ""
    check = "checked" if citation.verified else "NOT CHECKED"
    click.secho(f"[{citation.n}] {printable(citation.title)}", bold=True, nl=False)
    click.echo(f"  {printable(citation.uri)}{page} ({citation.document} {citation.start}-{citation.end}, {check})")
    quote = " ".join(citation.quote.split())
    click.echo(textwrap.indent(textwrap.fill(f"“{quote}”", width - 4), "    "))


def show_passage(n: int, passage: Passage) -> None:
    page = f", page {passage.page}" if passage.page else ""
    heading = f" › {' › '.join(passage.heading_path)}" if passage.heading_path else ""
    click.secho(f"{n:2}. {printable(passage.title)}{printable(heading)}", bold=True, nl=False)
    click.echo(
        f"  {printable(passage.uri)}{page}  score {passage.score:.3f} (words {passage.lexical:.2f}, meaning {passage.dense:.2f})"
    )
    width = min(shutil.get_terminal_size((100, 20)).columns, 110)
    text = textwrap.shorten(" ".join(passage.text.split()), 320, placeholder=" …")
    click.echo(textwrap.indent(textwrap.fill(text, width - 4), "    "))


def printable(text: str, most: int = 200) -> str:
    """Names as a terminal may show them: a file name must not speak to the terminal, nor fill it."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def table(rows: Sequence[Sequence[object]], headings: Sequence[str]) -> None:
    """Rows under headings, columns as wide as their content."""
    shown = [[printable(str("" if cell is None else cell)) for cell in row] for row in rows]
    widths = [max([len(heading), *(len(row[i]) for row in shown)]) for i, heading in enumerate(headings)]
    click.secho(
        "  ".join(heading.ljust(width) for heading, width in zip(headings, widths, strict=True)).rstrip(), bold=True
    )
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress(label: str) -> Iterator[Progress | None]:
    """A progress bar on a terminal, nothing elsewhere; always on standard error."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

        def report(done: int, total: int, _what: str) -> None:
            bar.length = max(total, 1)
            bar.pos = 0
            bar.update(done)

        yield report


def typed_metadata(value: MetaValue) -> str:
    """A metadata value for people."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
