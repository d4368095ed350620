"""settings + storage + rooms -> App: built once, handed to the doors.

``App`` is everything a door may ask for. ``building`` opens the rooms and joins them; each other file does one job for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Self

from mainstay.access.acl import Acl
from mainstay.access.directory import ANONYMOUS, UNKNOWN_GROUPS, principals_of
from mainstay.access.explaining import Explanation, explain
from mainstay.agreement import versions
from mainstay.agreement.attainment import ClauseStanding, standing
from mainstay.app.alarming import ALERT
from mainstay.app.building import Building
from mainstay.app.embedding import MINILM_FOLDER
from mainstay.app.handing_over import HANDOVER
from mainstay.app.health import Health, health_of
from mainstay.app.jobs import KINDS
from mainstay.app.searching import INDEX
from mainstay.app.sources import SYNC
from mainstay.app.vectors import EMBED
from mainstay.corpus.following import IndexFollower
from mainstay.corpus.ingest import Progress, Report, synchronise
from mainstay.corpus.sources import FolderSource, SourceSettings
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.handover import HandOver
from mainstay.models.embedders import Embedder, EmbedderIdentity
from mainstay.records.audit.sealing import is_person
from mainstay.settings import Settings, load
from mainstay.storage.audit import scrub
from mainstay.types import Actor, Answer, Citation, Clock, Passage, Question
from mainstay.workflows.ports import Job
from mainstay.workflows.worker import Hooks, Worker

if TYPE_CHECKING:
    from mainstay.retrieval.ports import Index

__all__ = ["ALERT", "EMBED", "HANDOVER", "INDEX", "MINILM_FOLDER", "SYNC", "App", "Health", "open_app"]


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was erased of a person: bodies of audit events, and outcomes that lost their words and their name."""

    bodies: int
    outcomes: int


class App(Building):
    """One service, opened. Use as a context manager, or call ``close``."""

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, embedders: Mapping[str, Embedder] | None = None
    ) -> None:
        """``embedders`` are ready-made ones by name: programs that open many services share theirs."""
        super().__init__(settings, clock=clock, embedders=embedders or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin background work: vectors for what has none, index files, and jobs where this process runs some."""
        self.agreements.seen(versions.digest(self.settings.agreement), versions.content(self.settings.agreement))
        wanted = self.settings.service.worker.in_serve
        here = wanted == "yes" or (wanted == "auto" and self.database.dialect == "sqlite")
        # Vectors have a thread already; a question for a person does not wait until a folder is read.
        # Alarms are told by whoever serves, should no worker be left to do it.
        self._background.start((SYNC, HANDOVER, ALERT) if here else (ALERT,) if wanted == "auto" else ())

    # -- answers -------------------------------------------------------------------------------------------------------

    def answer_as(self, question: str, user: str | None) -> Answer:
        """Answer one question with the rights of a local user (None: anonymous), as the command line and tests do."""
        actor = (
            Actor(principal=ANONYMOUS)
            if user is None
            else self.identity.actor_for(user if ":" in user else f"user:{user}")
        )
        return self.answering.answer(Question(text=question), actor, door="cli")

    def groups_of(self, principal: str) -> list[str]:
        """Every group a principal belongs to, through groups of groups too."""
        return sorted(held for held in principals_of(self._access, principal) if held.startswith("group:"))

    def why(
        self, rule: Acl, principal: str, groups: Sequence[str] | None = None, *, sees_all: bool = True
    ) -> Explanation:
        """Why somebody may or may not read what stands under this rule. ``groups``: what an identity provider asserted of
        them; None when they are not here to be asked."""
        if groups is None:
            oidc = self.identity.oidc
            told = oidc is not None and oidc.settings.groups_claim is not None and principal.startswith("user:")
            groups = (UNKNOWN_GROUPS,) if told else ()
        return explain(self._access, rule, principal, groups, sees_all=sees_all)

    @property
    def release(self) -> str:
        """Names what answers: the prompts, the models, the search settings, this program's version."""
        return self._releases.name(self._embedders.in_force())

    def clauses(self) -> list[ClauseStanding]:
        """How each clause of the agreement is kept now."""
        return standing(self.settings.agreement, self.measures, self.measures, self.clock.now())

    def turned_away(self, principal: str, *, request_id: str, door: str, ours: bool) -> None:
        """Count a request that was not worked on. ``ours``: for load, not for a rate that the asker exceeded."""
        self._books.turned_away(principal, request_id=request_id, door=door, ours=ours)

    def health(self) -> Health:
        """What the readiness route reports."""
        return health_of(
            self.database,
            self.settings.data,
            self.queue,
            background=self._background.error,
            audit=self.auditing.trouble,
        )

    def forget(self, name: str, why: str) -> Forgotten:
        """Erase a person: what they wrote of answers, then their key in the audit log and every body under it. Errors:
        Invalid without a reason, Conflict under a legal hold, NotFound for somebody of whom nothing is kept."""
        self.may_forget(name, why)
        # In this order: the event of the first is under the key that the second deletes, and both may be done again.
        outcomes = self.outcomes.store.unsay(name, self.clock.now())
        bodies = self.audit.erase(name, why)
        scrub(self.database)
        return Forgotten(bodies=bodies, outcomes=outcomes)

    def may_forget(self, name: str, why: str) -> None:
        """Whether nothing stands against forgetting a person, to be known before anybody is asked whether they mean it. Errors:
        Invalid without a reason, NotFound for what names no person, Conflict under a legal hold."""
        if not why.strip():
            raise Invalid("an erasure needs a reason", where="why", fix="write: --why TEXT")
        if not is_person(name):
            raise NotFound("this names no person", where=name[:60], fix="write user:NAME")
        if self.audit.on_hold(name):
            raise Conflict("a legal hold stands on this person", where=name[:60], fix="see: mainstay audit holds")

    # -- search and vectors --------------------------------------------------------------------------------------------

    @property
    def search_engine(self) -> str:
        """Who searches now: ``database``, or ``exact``, the embedded kernel."""
        return "database" if self._searching.tables_whole() else "exact"

    def prepare_search(self) -> int:
        """Bring what is searched up to date with the truth, now; returns how many chunks it holds."""
        return self._searching.prepare()

    def searched(self) -> tuple[Index | IndexFollower, Embedder]:
        """What is searched now, and the embedder that made its vectors."""
        return self._searching.searched()

    def serving(self) -> tuple[IndexFollower, Embedder]:
        """The embedded index in force and the embedder that made it."""
        return self._searching.serving()

    def follower(self) -> IndexFollower:
        """The search index in force."""
        return self._searching.serving()[0]

    def embedder(self) -> Embedder:
        """The embedder whose vectors are in force."""
        return self._embedders.current()

    @property
    def embedder_in_force(self) -> str:
        """The settings' name of the embedder in force."""
        return self._embedders.current_name()

    def wanted_embedder(self) -> Embedder:
        """The embedder that the settings ask for."""
        return self._embedders.wanted()

    def embed_waiting(self, *, progress: Progress | None = None) -> int:
        """Embed what has no vector of the embedder in force yet."""
        return self._vectors.embed_waiting(progress=progress)

    def reembed(self, *, progress: Progress | None = None) -> EmbedderIdentity:
        """Make the vectors of the embedder the settings ask for, then put it in force."""
        return self._vectors.reembed(progress=progress)

    # -- documents -----------------------------------------------------------------------------------------------------

    def source(self, name: str) -> FolderSource:
        """A source of the settings by name, or one that an earlier ``ingest`` made. Errors: NotFound."""
        return self._sources.source(name)

    def source_names(self) -> list[str]:
        """Sources of the settings, then those made by ``ingest``."""
        return self._sources.names()

    def remember_source(self, settings: SourceSettings) -> FolderSource:
        """Keep a source made on the command line. Errors: Conflict with one of the settings."""
        return self._sources.remember(settings)

    def orphans(self) -> dict[str, int]:
        """Sources that nothing names any more, with how many documents of theirs still answer."""
        return self._sources.orphans()

    def forget_source(self, name: str) -> int:
        """Remove a source that the settings do not name, with all its documents; returns how many."""
        return self._sources.forget(name)

    def synchronise(
        self, source: FolderSource, *, progress: Progress | None = None, delete_all: bool = False
    ) -> Report:
        """Bring one source's documents up to date and searchable by words; vectors follow by ``embed_waiting``."""
        return synchronise(source, self.documents, self.sandbox, self.clock, progress=progress, delete_all=delete_all)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def worker(self, kinds: Sequence[str] = KINDS, *, hooks: Hooks | None = None, stop: Event | None = None) -> Worker:
        """One that does jobs of these kinds in the thread that runs it, until ``stop``, or until the App is closed."""
        return self._jobs.worker(kinds, hooks=hooks, stop=stop)

    def ask_for_sync(self, name: str, *, delete_all: bool = False, requested_by: str = "") -> Job:
        """Have a source synchronised by whichever worker is free. Errors: NotFound."""
        return self._jobs.ask_for_sync(name, delete_all=delete_all, requested_by=requested_by)

    def sync_now(self, name: str, *, delete_all: bool = False, watch: Progress | None = None) -> Report:
        """Have a source synchronised now, here or by the worker that is at it. Errors: what it ran into."""
        return self._jobs.sync_now(name, delete_all=delete_all, watch=watch)

    def embed_now(self, *, watch: Progress | None = None) -> None:
        """Have every vector made that is missing, here or by the worker that is at it."""
        self._jobs.embed_now(watch=watch)

    # -- questions for a person ----------------------------------------------------------------------------------------

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
        return self._handing_over.hand_over(
            question,
            actor,
            reason=reason,
            sources=sources,
            draft=draft,
            request_id=request_id,
            language=language,
        )

    def retry_handover(self, handover_id: str, *, by: str) -> HandOver:
        """Have one delivered that was given up on. Errors: NotFound, Conflict, Invalid when nobody is named to get it."""
        return self._handing_over.retry(handover_id, by=by)

    def close_handover(self, handover_id: str, *, by: str, note: str = "") -> HandOver:
        """A person has taken care of it: it is not delivered any more. Errors: NotFound, Conflict when it is closed."""
        return self._handing_over.close(handover_id, by=by, note=note)


def open_app(folder: Path, *, clock: Clock | None = None) -> App:
    """The service of this folder. Errors: Invalid settings, unusable database."""
    return App(load(folder), clock=clock)
