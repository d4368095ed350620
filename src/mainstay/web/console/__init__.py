"""The console: pages for people, made on the server, readable without JavaScript.

One file a screen, each with ``add(api, desk)`` and, when it stands in the navigation, its ``SCREEN``. A page shows nothing
that the JSON API would not give the same visitor.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from mainstay.web.console import (
    alerts,
    api_reference,
    ask,
    audit,
    documents,
    home,
    in_force,
    money,
    objectives,
    people,
    request,
    requests,
    sign_in,
    source,
    work,
)
from mainstay.web.console.shell import HERE, Screen, SignInFirst, is_page, problem, to_sign_in
from mainstay.web.desk import Desk

__all__ = ["add", "is_page", "problem"]

SCREENS: tuple[Screen, ...] = (
    home.SCREEN,
    ask.SCREEN,
    requests.SCREEN,
    objectives.SCREEN,
    alerts.SCREEN,
    money.SCREEN,
    documents.SCREEN,
    people.SCREEN,
    audit.SCREEN,
    work.HANDOVERS,
    work.JOBS,
    in_force.SCREEN,
)
"""What stands in the navigation, in this order, for those to whom it is open."""


def add(api: FastAPI, desk: Desk) -> None:
    """All screens of this server."""
    api.state.screens = SCREENS
    api.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    api.add_exception_handler(SignInFirst, to_sign_in)
    for module in (
        home,
        ask,
        requests,
        request,
        objectives,
        alerts,
        money,
        documents,
        people,
        audit,
        work,
        in_force,
        sign_in,
        api_reference,
        source,
    ):  # ``source`` takes every path below /documents: last
        module.add(api, desk)
