"""The threads of a service that runs: vectors and index files, the watch, and jobs where this process does some."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from mainstay.app.agreement import Books
from mainstay.app.alarming import Alarming
from mainstay.app.auditing import Auditing
from mainstay.app.jobs import Jobs
from mainstay.app.searching import Searching
from mainstay.app.vectors import EMBED, Vectors
from mainstay.errors import MainstayError
from mainstay.watch import Watch

BACKGROUND_PAUSE_S = 0.5
WATCH_EVERY_S = 1.0
JOIN_S = 10.0

_log = logging.getLogger(__name__)


class Background:
    """Runs from ``start`` until ``stop`` is set. ``error`` is what the last round ran into, empty when it ran into nothing."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        vectors: Vectors,
        searching: Searching,
        books: Books,
        auditing: Auditing,
        alarming: Alarming,
        watch: Callable[[], Watch],
        stop: threading.Event,
    ) -> None:
        self._jobs, self._vectors, self._searching = jobs, vectors, searching
        self._books, self._auditing, self._watch, self._stop = books, auditing, watch, stop
        self._alarming = alarming
        self._threads: list[threading.Thread] = []
        self.error = ""

    def start(self, kinds: Sequence[str]) -> None:
        """``kinds`` are the jobs that this process does, each in a thread of its own."""
        self._run(self._work, "background")
        self._run(self._look, "watch")
        self._run(lambda: self._auditing.run(self._stop), "audit")
        self._run(lambda: self._alarming.run(self._stop), "alerts")
        for worker, kind in [(self._jobs.worker([kind]), kind) for kind in kinds]:
            self._run(worker.run, kind)

    def join(self) -> None:
        """Wait until the threads have ended, but not for ever."""
        for thread in self._threads:
            thread.join(timeout=JOIN_S)

    def _run(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=f"mainstay-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        worker = self._jobs.worker([EMBED])
        while not self._stop.wait(BACKGROUND_PAUSE_S):
            try:
                if self._vectors.ask_for():
                    worker.run_next(reraise=True)
                if not self._searching.tables_whole():
                    self._searching.serving()[0].current()
            except Exception as error:  # noqa: BLE001 - the worker loop: one of two places that may not die of a surprise
                # Probes are answered to anybody: where the database is, is the operator's business alone.
                self.error = error.what if isinstance(error, MainstayError) else type(error).__name__
                self._stop.wait(5.0)
            else:
                self.error = ""

    def _look(self) -> None:
        while not self._stop.wait(WATCH_EVERY_S):
            try:
                self._watch().look()
                self._books.keep_up()
            except Exception as error:  # noqa: BLE001 - the other loop that may not die of a surprise
                _log.warning(
                    "the watch goes on after %s", error.what if isinstance(error, MainstayError) else repr(error)
                )
