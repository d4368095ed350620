"""What a scraper is told of one service: the counters of this process, and where each figure is looked up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mainstay import __version__
from mainstay.agreement.versions import digest
from mainstay.records.alerts import silenced
from mainstay.records.metrics import Build, Metrics, Sources, figures
from mainstay.storage.figures import SqlFigures
from mainstay.types import Clock

if TYPE_CHECKING:
    from mainstay.app.building import Building

AUDITED = timedelta(days=28)
KEPT_S = 15.0
"""How long a figure that is long to count serves: scrapers come as often as they like."""
_Held = TypeVar("_Held")


class Lately(Generic[_Held]):
    """Something looked up, kept for a moment."""

    def __init__(self, look_up: Callable[[], _Held], clock: Clock) -> None:
        self._look_up, self._clock, self._lock = look_up, clock, threading.Lock()
        self._held: tuple[float, _Held] | None = None

    def __call__(self) -> _Held:
        with self._lock:
            now = self._clock.monotonic()
            if self._held is None or now - self._held[0] > KEPT_S:
                self._held = (now, self._look_up())
            return self._held[1]


def metrics_of(app: Building) -> Metrics:
    """The metrics of an open service."""
    agreement, clock = app.settings.agreement, app.clock
    looked = SqlFigures(app.database)
    board = app.switchboard
    models = ("extractive", *board.names)

    def alerts() -> list[tuple[str, str, bool]]:
        now = clock.now()
        held = app.alarming.store.open_alerts()
        quiet = silenced(held, app.alarming.store.silences(now), now)
        return [(one.objective, str(one.severity), quiet[one.id] or one.acknowledged is not None) for one in held]

    def cache() -> Any:
        caching = app.__dict__.get("caching")
        return None if caching is None else caching.counts

    def breakers() -> Mapping[str, str]:
        states = board.breakers.states()
        return {name: states.get(name, "closed") for name in board.names}

    def recorder() -> tuple[int, int]:
        answering = app.__dict__.get("answering")
        lost = getattr(answering, "traces_lost", 0)
        return int(getattr(app.traces, "waiting", 0)), int(lost) + int(getattr(app.traces, "lost", 0))

    made = Metrics(agreement, models=models, build=Build(version=__version__, agreement=digest(agreement)))
    made.add(
        *figures(
            Sources(
                mode=lambda: str(app.ladder.current().mode),
                breakers=breakers,
                admission=app.admission.standing,
                cache=cache,
                audits=Lately(lambda: app.measures.audits(clock.now() - AUDITED, clock.now()), clock),
                money=Lately(lambda: looked.money(clock.now()), clock),
                jobs=Lately(app.queue.standing, clock),
                recorder=recorder,
                index=Lately(looked.index, clock),
                alerts=alerts,
                models=models,
                objectives=frozenset(held.name for held in agreement.objectives),
            )
        )
    )
    return made
