"""The agreement at work: money for what no request pays for, objectives that burn, books that are written a little later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mainstay.agreement import Agreement
from mainstay.agreement.budgets import SERVICE, Payer
from mainstay.agreement.burning import Once, enters
from mainstay.agreement.ledger import Backlog, Purse
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.measures import SqlMeasures
from mainstay.types import Clock
from mainstay.watch import Burning

NO_CAP = 1 << 60  # nano-dollars: a thousand million dollars
ENOUGH_EVENTS = 20  # below that a burnt error budget is chance
SWEEP_EVERY_S = 10.0
MOST_AWAY, AWAY_AT_ONCE = 20_000, 500


def service_purse(agreement: Agreement, ledger: SqlLedger, backlog: Backlog, clock: Clock) -> Purse:
    """Money for what no request pays for; the service's budgets bound it."""
    payer = Payer(request_id=clock.new_id("job"), principal=SERVICE)
    deadline = clock.monotonic() + agreement.request.deadline_s
    return Purse(ledger, payer, agreement, NO_CAP, clock, deadline, backlog=backlog)


def burning(agreement: Agreement, measures: SqlMeasures, clock: Clock) -> list[Burning]:
    """Objectives that a mode is to save, and whose error budget is used up, or goes so fast that it pages."""
    now, once = clock.now(), Once(measures)
    return [
        Burning(name=held.name, mode=held.enter_mode)
        for held in agreement.objectives
        if held.enter_mode is not None and enters(held, once, now)
    ]


class Books:
    """What each process writes a little after it happened."""

    def __init__(
        self,
        *,
        ledger: SqlLedger,
        backlog: Backlog,
        measures: SqlMeasures,
        clock: Clock,
        observe: Callable[[Measured], object],
    ) -> None:
        """``observe`` is told of each request that was turned away, at once."""
        self._ledger, self._backlog, self._measures, self._clock = ledger, backlog, measures, clock
        self._observe = observe
        self._away: deque[Measured] = deque(maxlen=MOST_AWAY)
        self._swept = float("-inf")

    def turned_away(self, principal: str, *, request_id: str, door: str, ours: bool) -> None:
        """Count a request that was not worked on; written a little later, so that refusing stays cheap. ``ours``: for load,
        not for a rate that the asker exceeded."""
        away = Measured(
            request_id=request_id,
            at=self._clock.now(),
            door=door,
            principal=principal,
            status=TURNED_AWAY,
            failed=ours,
        )
        self._away.append(away)
        self._observe(away)

    def keep_up(self) -> None:
        """Books that wait, holds that nobody settled, requests that were turned away."""
        if len(self._backlog):
            self._backlog.flush()
        if self._clock.monotonic() - self._swept > SWEEP_EVERY_S:
            self._swept = self._clock.monotonic()
            self._ledger.sweep(self._clock.now())
        away = [self._away.popleft() for _ in range(min(len(self._away), AWAY_AT_ONCE))]
        if away:
            self._measures.keep_all(away)
