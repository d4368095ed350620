"""Settings in force: what this process answers with, secrets masked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay import __version__
from mainstay.access.keys import Permission
from mainstay.agreement.versions import digest
from mainstay.agreement.wording import described
from mainstay.app import App
from mainstay.errors import MainstayError
from mainstay.settings import AGREEMENT_FILE, SERVICE_FILE
from mainstay.web.console.shell import Screen, enter, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Settings", path="/settings", needs=(Permission.ADMIN, Permission.OPERATE, Permission.AUDIT_READ))
HIDDEN, UNSET = "set, not shown", "not set"
_FILES = (SERVICE_FILE, AGREEMENT_FILE)


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app
    began = {name: _sum(app.settings.folder / name) for name in _FILES}

    @api.get(SCREEN.path, include_in_schema=False)
    def settings(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        models, trouble = _models(app)
        values = _values(app)
        agreed = _agreed(app)
        prompts = _prompts(app)
        if wants_csv(request):
            return csv_of(request, values, agreed, models, prompts)
        return page(
            request,
            "settings.html",
            actor=actor,
            facts=_facts(app),
            stale=[name for name in _FILES if _sum(app.settings.folder / name) != began[name]],
            models=models,
            trouble=trouble,
            prompts=prompts,
            agreed=agreed,
            values=values,
        )


def _sum(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _facts(app: App) -> list[tuple[str, str]]:
    """What answers, named."""
    made_by = app.embedder().identity
    wanted = app.settings.service.models.embedder
    name = app.embedder_in_force
    return [
        ("Program", f"Mainstay {__version__}"),
        ("Release", app.release),
        ("Agreement", digest(app.settings.agreement)),
        ("Database", f"{app.database.dialect}, schema {app.database.revision}"),
        ("Searches", app.search_engine),
        ("Embedder", f"{name}: {made_by.name}, {made_by.precision}, {made_by.dims} dimensions"),
        *([("Embedder wanted", f"{wanted}: run mainstay reembed")] if wanted != name else []),
    ]


def _models(app: App) -> tuple[Table, str]:
    """The language models that may answer, with the prices that calls are booked at."""
    rows: list[dict[str, Any]] = []
    trouble = ""
    try:
        board = app.switchboard
        for name in board.names:
            price, provider = board.model(name).price, app.settings.service.models.providers[name]
            rows.append(
                {
                    "name": name,
                    "model": provider.model,
                    "at": _address(provider.base_url),
                    "region": provider.region,
                    "input": price.input_per_million_nanodollars,
                    "output": price.output_per_million_nanodollars,
                    "request": price.per_request_nanodollars,
                    "source": price.version,
                }
            )
    except MainstayError as error:
        trouble = error.line()
    return Table(
        name="models",
        caption="Language models and their prices",
        columns=[
            Column(key="name", head="Name"),
            Column(key="model", head="Model"),
            Column(key="at", head="Where"),
            Column(key="region", head="Region"),
            Column(key="input", head="Per million tokens in", kind="money"),
            Column(key="output", head="Per million tokens out", kind="money"),
            Column(key="request", head="Per call", kind="money"),
            Column(key="source", head="Price from"),
        ],
        rows=rows,
        empty="No language model is set up: answers are quoted from the documents.",
    ), trouble


def _prompts(app: App) -> Table:
    return Table(
        name="prompts",
        caption="Prompts",
        columns=[
            Column(key="name", head="Prompt"),
            Column(key="version", head="Version", kind="code"),
            Column(key="label", head="Label"),
            Column(key="source", head="From"),
        ],
        rows=[
            {"name": name, "version": prompt.version, "label": prompt.label, "source": prompt.source}
            for name, prompt in sorted(app.prompts.items())
        ],
    )


def _agreed(app: App) -> Table:
    """The agreement in its own plain words."""
    return Table(
        name="agreement",
        caption="The agreement in words",
        columns=[Column(key="section", head="Part"), Column(key="line", head="What is agreed")],
        rows=[
            {"section": section if n == 0 else Cell(value=section, look="soft"), "line": line}
            for section, lines in described(app.settings.agreement)
            for n, line in enumerate(lines)
        ],
    )


def _values(app: App) -> Table:
    return Table(
        name="settings",
        caption=f"{SERVICE_FILE}, with everything it leaves unsaid",
        columns=[Column(key="key", head="Key"), Column(key="value", head="Value"), Column(key="said", head="Said by")],
        rows=[
            {"key": key, "value": value, "said": Cell(value=said, look="soft")}
            for key, value, said in flattened("", app.settings.service)
        ],
    )


# -- values --------------------------------------------------------------------------------------------------------------


def flattened(key: str, held: Any) -> Iterator[tuple[str, str, str]]:
    """(key, value, who said it) of every value of a settings object. What its shape keeps out of ``repr`` is a secret."""
    for one in fields(held):
        name = f"{key}.{one.name}" if key else one.name
        value = getattr(held, one.name)
        said = "the default" if _is_default(one, value) else "the file"
        if not one.repr:
            yield name, _masked(one.name, value), said
        else:
            yield from _shown(name, value, said)


def _shown(name: str, value: Any, said: str) -> Iterator[tuple[str, str, str]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from flattened(name, value)
    elif isinstance(value, Mapping) and value:
        for key, held in sorted(value.items(), key=lambda item: str(item[0])):
            yield from _shown(f"{name}.{key}", held, "the file")
    elif isinstance(value, tuple) and any(is_dataclass(one) for one in value):
        for n, one in enumerate(value):
            yield from _shown(f"{name}[{n}]", one, "the file")
    else:
        yield name, _text(value), said


def _is_default(one: Field[Any], value: Any) -> bool:
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return default is not MISSING and value == default


def _masked(name: str, value: Any) -> str:
    if not value:
        return UNSET
    if name == "url":
        return _address(str(value))
    return f"{HIDDEN}: {', '.join(sorted(map(str, value)))}" if isinstance(value, Mapping) else HIDDEN


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value == () or value == {}:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(one) for one in value)
    text = str(value)
    return _address(text) if "://" in text else text


def _address(text: str) -> str:
    """An address without user, password, query and fragment: any of them may be a secret."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return HIDDEN
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
