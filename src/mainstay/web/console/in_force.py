"""Settings in force: what this process answers with, secrets masked."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.app.in_force import InForce, WhatAnswers
from mainstay.settings import SERVICE_FILE
from mainstay.web.console.shell import Screen, enter, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Settings", path="/settings", needs=(Permission.ADMIN, Permission.OPERATE, Permission.AUDIT_READ))


def add(api: FastAPI, desk: Desk) -> None:
    held = desk.in_force

    @api.get(SCREEN.path, include_in_schema=False)
    def settings(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        models, trouble = _models(held)
        values = _values(held)
        agreed = _agreed(held)
        prompts = _prompts(held)
        if wants_csv(request):
            return csv_of(request, values, agreed, models, prompts)
        return page(
            request,
            "settings.html",
            actor=actor,
            facts=_facts(held.answering()),
            stale=held.stale(),
            models=models,
            trouble=trouble,
            prompts=prompts,
            agreed=agreed,
            values=values,
        )


def _facts(said: WhatAnswers) -> list[tuple[str, str]]:
    """What answers, named."""
    return [
        ("Program", f"Mainstay {said.version}"),
        ("Release", said.release),
        ("Agreement", said.agreement),
        ("Database", f"{said.database}, schema {said.revision}"),
        ("Searches", said.search),
        ("Embedder", f"{said.embedder}: {said.model}, {said.precision}, {said.dims} dimensions"),
        *([("Embedder wanted", f"{said.wanted}: run mainstay reembed")] if said.wanted else []),
    ]


def _models(held: InForce) -> tuple[Table, str]:
    """The language models that may answer, with the prices that calls are booked at."""
    found, trouble = held.models()
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
        rows=[
            {
                "name": one.name,
                "model": one.model,
                "at": one.at,
                "region": one.region,
                "input": one.input_n,
                "output": one.output_n,
                "request": one.request_n,
                "source": one.source,
            }
            for one in found
        ],
        empty="No language model is set up: answers are quoted from the documents.",
    ), trouble


def _prompts(held: InForce) -> Table:
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
            {"name": one.name, "version": one.version, "label": one.label, "source": one.source}
            for one in held.prompts()
        ],
    )


def _agreed(held: InForce) -> Table:
    """The agreement in its own plain words."""
    return Table(
        name="agreement",
        caption="The agreement in words",
        columns=[Column(key="section", head="Part"), Column(key="line", head="What is agreed")],
        rows=[
            {"section": section if n == 0 else Cell(value=section, look="soft"), "line": line}
            for section, lines in held.agreed()
            for n, line in enumerate(lines)
        ],
    )


def _values(held: InForce) -> Table:
    return Table(
        name="settings",
        caption=f"{SERVICE_FILE}, with everything it leaves unsaid",
        columns=[Column(key="key", head="Key"), Column(key="value", head="Value"), Column(key="said", head="Said by")],
        rows=[
            {"key": one.key, "value": one.value, "said": Cell(value=one.said, look="soft")} for one in held.settings()
        ],
    )
