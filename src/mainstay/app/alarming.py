"""Objectives that raise alarm, at work: looked at by one process at a time, told by jobs that are tried again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mainstay.agreement.terms import HandOver as Rules
from mainstay.errors import MainstayError
from mainstay.records.alerts import ALERTMANAGER, GONE_AFTER, Alerts, Notice
from mainstay.settings import Settings
from mainstay.storage.alerts import SqlAlerts
from mainstay.storage.jobs import SqlQueue
from mainstay.storage.measures import SqlMeasures
from mainstay.types import Clock
from mainstay.workflows.worker import JobContext

if TYPE_CHECKING:
    from mainstay.alerting import Telling
    from mainstay.models.providers.wire import Wire

ALERT = "alert"  # the kind of the jobs that tell people
LOOK_EVERY_S = 5.0  # how often a process sees whether a look is due
PRIORITY = 5  # before questions for a person
ATTEMPTS = 30  # at the queue's pauses some hours: older news is no alarm

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarming:
    """One per process. ``alerts`` is what doors ask."""

    settings: Settings
    store: SqlAlerts
    measures: SqlMeasures
    queue: SqlQueue
    clock: Clock
    wire: Callable[[], Wire]

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(
            self.store,
            self.measures,
            self.settings.agreement,
            self.settings.service.alerts,
            self.clock,
            send=self._send,
            refresh=self._refresh,
        )

    def run(self, stop: threading.Event) -> None:
        """The thread of a service, until ``stop`` is set."""
        said = ""
        while not stop.wait(LOOK_EVERY_S):
            try:
                self.alerts.look()
                said = ""
            except Exception as error:  # noqa: BLE001 - what can not be looked at now is looked at later
                now = error.line() if isinstance(error, MainstayError) else repr(error)
                if now != said:
                    _log.warning("objectives are not looked at: %s", now)
                said = now

    def deliver(self, context: JobContext) -> Mapping[str, Any]:
        """Does a job of the kind ALERT."""
        from mainstay.alerting import unpacked  # brings the HTTP client

        payload = context.job.payload
        way = str(payload["way"])
        if way == ALERTMANAGER:
            now = self.clock.now()
            return {"alerts": self._telling().manage(self.store.list(since=now - GONE_AFTER), now)}
        self._telling().deliver(way, unpacked(payload["notice"]))
        return {"alerts": len(payload["notice"]["alerts"])}

    def _send(self, notice: Notice) -> None:
        """A job for each way, so that one that fails keeps no other from arriving."""
        from mainstay.alerting import packed  # brings the HTTP client

        held = self.settings.service.alerts
        for way in held.ways:
            self.queue.add(
                ALERT,
                {"way": way, "notice": packed(notice)},
                key=f"{ALERT}:{notice.id}:{way}",
                priority=PRIORITY,
                max_attempts=ATTEMPTS,
                requested_by="schedule",
            )

    def _refresh(self) -> None:
        if self.settings.service.alerts.alertmanager and self.store.list(since=self.clock.now() - GONE_AFTER, limit=1):
            self.queue.add(
                ALERT,
                {"way": ALERTMANAGER},
                key=f"{ALERT}:{ALERTMANAGER}",
                priority=PRIORITY,
                requested_by="schedule",
                again=True,
            )

    def _telling(self) -> Telling:
        from mainstay.alerting import Telling  # brings the HTTP client
        from mainstay.delivery import Sender  # with the one above

        service = self.settings.service
        sender = Sender(
            name=service.name,
            rules=Rules(),
            signing=service.handover,
            smtp=service.smtp,
            wire=self.wire(),
            clock=self.clock,
        )
        return Telling(settings=service.alerts, agreement=self.settings.agreement, sender=sender)
