"""Questions for a person: kept, given to the queue to be delivered, and mended when one of the two was missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mainstay.errors import Conflict, Invalid, NotFound, Unavailable
from mainstay.handover import HandOver, State, close, hand_over, ways
from mainstay.settings import Settings
from mainstay.storage.access import AccessStore
from mainstay.storage.handovers import KIND, SqlHandOvers, job_key
from mainstay.storage.jobs import SqlQueue
from mainstay.types import Actor, Citation, Clock, Passage, Question
from mainstay.workflows.worker import JobContext

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire

HANDOVER = KIND  # the kind of the jobs that deliver them
HANDOVER_ATTEMPTS = 100  # at the queue's pauses about a day
HANDOVER_PRIORITY = 10  # somebody waits for it: before the chores


@dataclass(frozen=True, kw_only=True)
class HandingOver:
    """``answering.People``, with what operators do about a hand-over."""

    settings: Settings
    handovers: SqlHandOvers
    access: AccessStore
    queue: SqlQueue
    clock: Clock
    wire: Callable[[], Wire]

    def hand_over(
        self,
        question: Question,
        actor: Actor,
        *,
        reason: str,
        sources: Sequence[Passage | Citation] = (),
        draft: str = "",
        request_id: str = "",
        language: str = "",
    ) -> HandOver:
        """Keep a question for a person and have it delivered. What to tell the asker: ``handover.promise``."""
        held = hand_over(
            self.handovers,
            self.clock,
            question=question,
            principal=actor.principal,
            reason=reason,
            sources=sources,
            draft=draft,
            request_id=request_id,
            language=language,
        )
        try:
            self._ask_for_delivery(held.id, requested_by=actor.principal)
        except Unavailable:
            return held  # it is kept: a worker that looks around finds that no job is about it
        return held

    def retry(self, handover_id: str, *, by: str) -> HandOver:
        """Have one delivered that was given up on. Errors: NotFound, Conflict, Invalid when nobody is named to get it."""
        held = self._handover(handover_id)
        if held.state not in (State.WAITING, State.FAILED):
            raise Conflict(f"it is {held.state}", where=held.id, fix="nothing is left to be delivered")
        if not ways(self.settings.agreement.handover):
            raise Invalid(
                "neither handover.webhook nor handover.email is named",
                where="agreement.yaml",
                fix="say who gets questions for a person",
            )
        self._ask_for_delivery(held.id, requested_by=by)
        self.handovers.set_state(
            held.id, State.WAITING, detail="", at=self.clock.now(), only_from=(State.FAILED, State.WAITING)
        )
        return self._handover(handover_id)

    def close(self, handover_id: str, *, by: str, note: str = "") -> HandOver:
        """A person has taken care of it: it is not delivered any more. Errors: NotFound, Conflict when it is closed."""
        before = self._handover(handover_id)
        closed = close(self.handovers, self.clock, handover_id, by=by, note=note)
        if before.state is State.FAILED:
            self._ask_for_delivery(closed.id, requested_by=by)  # finds nothing to do, and its dead letter is gone
        return closed

    def mend(self) -> None:
        """A process may have died, or the database been away, between keeping a question and asking for its delivery."""
        if not ways(self.settings.agreement.handover):
            return
        for handover_id, given_up in self.handovers.adrift():
            if given_up is None:
                self._ask_for_delivery(handover_id, requested_by="schedule")
            else:
                self.handovers.set_state(
                    handover_id, State.FAILED, detail=given_up, at=self.clock.now(), only_from=(State.WAITING,)
                )

    def deliver(self, context: JobContext) -> Mapping[str, Any]:
        """Does a job of the kind HANDOVER."""
        from mainstay.delivery import Sender, deliver  # brings the HTTP client

        held = self.handovers.get(str(context.job.payload["handover"]))
        if held is None:
            return {"ways": 0}  # its time to be kept is over
        service = self.settings.service
        account = self.access.account(held.principal)
        used = deliver(
            held,
            self.handovers.under(context.fence),
            Sender(
                name=service.name,
                rules=self.settings.agreement.handover,
                signing=service.handover,
                smtp=service.smtp,
                wire=self.wire(),
                clock=self.clock,
            ),
            contact="" if account is None else account.email,
            last=context.job.attempts >= context.job.max_attempts,
            check=context.check,
        )
        return {"ways": len(used)}

    def _handover(self, handover_id: str) -> HandOver:
        held = self.handovers.get(handover_id)
        if held is None:
            raise NotFound("no such hand-over", where=handover_id[:60], fix="see: mainstay handovers list")
        return held

    def _ask_for_delivery(self, handover_id: str, *, requested_by: str) -> None:
        if ways(self.settings.agreement.handover):
            self.queue.add(
                HANDOVER,
                {"handover": handover_id},
                key=job_key(handover_id),
                priority=HANDOVER_PRIORITY,
                max_attempts=HANDOVER_ATTEMPTS,
                requested_by=requested_by,
            )
