"""The audit log at work: its key, its signed heads, and the witnesses that get them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from mainstay.agreement.terms import HandOver as Rules
from mainstay.errors import Conflict, MainstayError
from mainstay.records.audit.heads import Head, Signer, keep_key, key_in, new_key, signer_of
from mainstay.settings import Settings
from mainstay.storage.audit import SqlAudit, SqlHeads
from mainstay.storage.database import Database
from mainstay.types import Clock

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire
    from mainstay.witness import Witnesses

LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Auditing:
    """One per process. ``trouble`` says why the log is not signed or a witness does not get its heads; empty when all is
    well."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        audit: SqlAudit,
        clock: Clock,
        wire: Callable[[], Wire],
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """``before`` is called before each look: what waits to be in the log is written then."""
        self._before = before
        self._settings, self._audit, self._clock, self._wire = settings, audit, clock, wire
        held = settings.service.audit
        self.heads = SqlHeads(database, clock, self.signer, every_events=held.every_events, every_s=held.every_s)
        self._signing = self._sending = ""

    @property
    def trouble(self) -> str:
        return "; ".join(filter(None, (self._signing, self._sending)))

    def signer(self) -> Signer:
        """The key in force: of the settings, else of the data folder, where it is made when it is first needed."""
        settings = self._settings
        if settings.service.audit.key:
            return signer_of(settings.service.audit.key, "audit.key")
        return key_in(settings.data) or keep_key(settings.data, new_key())

    def rotate(self) -> Head:
        """Change to a fresh key. Errors: Conflict when the settings name it: then it is changed there."""
        if self._settings.service.audit.key:
            raise Conflict(
                "the key is given by the settings",
                where="audit.key",
                fix="change it there and restart: the log announces the new one",
            )
        return self.heads.rotate(new_key(), lambda fresh: keep_key(self._settings.data, fresh, instead=True))

    @cached_property
    def witnesses(self) -> Witnesses:
        from mainstay.delivery import Sender  # brings the HTTP client
        from mainstay.witness import Witnesses  # with the one above

        service = self._settings.service
        sender = Sender(
            name=service.name,
            rules=Rules(),
            signing=service.handover,
            smtp=service.smtp,
            wire=self._wire(),
            clock=self._clock,
        )
        return Witnesses(service.audit.witness, self._settings.folder, self._audit, sender)

    def look(self, *, now: bool = False) -> Head | None:
        """Sign if that is due, and send what is due; the new head, if there is one. ``now``: do not wait until it is due."""
        self._before()
        head = self.heads.sign_due(now=now)
        self._signing = ""
        if self._settings.service.audit.witness:
            went = self.witnesses.send_due(now=now)
            left = (
                [held.trouble for held in self._audit.sent().values() if held.trouble] if went or head or now else None
            )
            if left is not None:
                self._sending = "; ".join(left)
        return head

    def run(self, stop: threading.Event) -> None:
        """The thread of a service: until ``stop`` is set, and once more in the end."""
        while not stop.wait(LOOK_EVERY_S):
            self._looked()

    def _looked(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - a log that can not be signed now is signed later
            # Without the place: whoever probes whether the service is ready need not know where its database is.
            said = error.what if isinstance(error, MainstayError) else type(error).__name__
            if said != self._signing:
                level = logging.ERROR if isinstance(error, Conflict) else logging.WARNING
                told = error.line() if isinstance(error, MainstayError) else repr(error)
                _log.log(level, "the audit log is not signed: %s", told)
            self._signing = said
