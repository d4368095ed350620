"""What the service looks at now and then, to step down before promises are broken: models, money, objectives, the database.

Each look is a reason of the ladder: asked for while it holds, taken back when it does not; the ladder adds the patience.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstay.agreement import Agreement
from mainstay.agreement.budgets import Payer, scopes_of
from mainstay.agreement.ledger import Ledger
from mainstay.errors import MainstayError, Unavailable
from mainstay.models.calling import Switchboard
from mainstay.resilience.ladder import Ladder
from mainstay.types import Clock, Mode

OBJECTIVES_EVERY_S = 30.0
MONEY_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Burning:
    """An objective whose error budget is used up, and the mode its clause asks for."""

    name: str
    mode: Mode


class Watch:
    """One per process. ``look`` is called about once a second, by one thread."""

    def __init__(
        self,
        *,
        ladder: Ladder,
        board: Switchboard,
        ledger: Ledger,
        agreement: Agreement,
        clock: Clock,
        burning: Callable[[], Sequence[Burning]],
        alive: Callable[[], None],
        pressure: Callable[[], float],
    ) -> None:
        self._ladder, self._board, self._ledger = ladder, board, ledger
        self._agreement, self._clock = agreement, clock
        self._burning, self._alive, self._pressure = burning, alive, pressure
        self._money_at = self._objectives_at = float("-inf")

    def look(self) -> None:
        """Everything that is due. Errors: none; what can not be looked at is a reason itself."""
        try:
            self._alive()
        except MainstayError as error:
            self._ladder.ask_for(Mode.STATIC, "database", error.what)
            return
        self._ladder.no_longer("database")
        self._models()
        self._crowd()
        now = self._clock.monotonic()
        try:
            if now - self._money_at >= MONEY_EVERY_S:
                self._money_at = now
                self._money()
            if now - self._objectives_at >= OBJECTIVES_EVERY_S:
                self._objectives_at = now
                self._objectives()
        except Unavailable:
            return  # the next look at the database says it

    def _models(self) -> None:
        down = [candidate.name for candidate in self._board.candidates() if not candidate.healthy]
        if down and len(down) == len(self._board.names):
            self._ladder.ask_for(Mode.ECONOMY, "breaker", ", ".join(down))
        else:
            self._ladder.no_longer("breaker")

    def _crowd(self) -> None:
        if self._agreement.traffic.spike == "step_down" and self._pressure() >= 1.0:
            self._ladder.ask_for(Mode.ECONOMY, "overload", "requests are refused for load")
        else:
            self._ladder.no_longer("overload")

    def _money(self) -> None:
        nobody = Payer(request_id="watch", principal="")
        scopes = scopes_of(self._agreement, nobody, 0, self._clock.now())
        spent = [scope for scope in scopes if scope.kind == "service" and self._ledger.left([scope]) <= 0]
        if spent:
            worst = max((scope.enter_mode or Mode.SOURCES_ONLY for scope in spent), key=list(Mode).index)
            self._ladder.ask_for(worst, "budget", "the service's budget is spent")
        else:
            self._ladder.no_longer("budget")

    def _objectives(self) -> None:
        burning = self._burning()
        if burning:
            worst = max((held.mode for held in burning), key=list(Mode).index)
            self._ladder.ask_for(worst, "objective", ", ".join(held.name for held in burning))
        else:
            self._ladder.no_longer("objective")
