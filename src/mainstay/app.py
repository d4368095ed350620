"""settings + storage + rooms -> App: built once, handed to the doors.

The only place that knows which implementation stands behind which port. Whoever is opened here is closed here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mainstay import __version__
from mainstay.access.directory import ANONYMOUS, People, principals_of
from mainstay.access.identity import Identity
from mainstay.access.keys import Keyring
from mainstay.access.oidc import Oidc
from mainstay.access.scope import Gate
from mainstay.agreement import versions
from mainstay.agreement.attainment import ClauseStanding, objective_standing, standing
from mainstay.agreement.budgets import Payer
from mainstay.agreement.ledger import Backlog, Purse
from mainstay.answering import Answering, Limits, Meaning
from mainstay.answering.caching import Caching
from mainstay.answering.generating import Generating
from mainstay.answering.quoting import Quoting
from mainstay.clock import SystemClock
from mainstay.corpus.embedding import embed_waiting
from mainstay.corpus.following import IndexFollower
from mainstay.corpus.ingest import API_SOURCE, Progress, Report, synchronise
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.sandbox import Sandbox
from mainstay.corpus.sources import FolderSource, SourceSettings, every_seconds
from mainstay.errors import Conflict, Invalid, MainstayError, NotFound, Unavailable
from mainstay.handover import HandOver, State, close, hand_over, ways
from mainstay.models.cache import SemanticCache
from mainstay.models.calling import Facts, Switchboard
from mainstay.models.embedders import Embedder, EmbedderIdentity
from mainstay.models.routing import Learned, QualityModel, Router, kept_or
from mainstay.models.routing import Rules as RuleBased
from mainstay.prompts.loader import Prompt, prompt_of
from mainstay.prompts.loader import load as load_prompts
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.resilience.admission import Admission
from mainstay.resilience.ladder import Ladder
from mainstay.retrieval.search import HybridSearch
from mainstay.settings import Settings, load
from mainstay.storage.access import AccessStore
from mainstay.storage.agreements import SqlAgreements
from mainstay.storage.cache import SqlCache
from mainstay.storage.database import address_of, open_database
from mainstay.storage.documents import DerivedRows, SqlDocuments
from mainstay.storage.handovers import KIND, SqlHandOvers, job_key
from mainstay.storage.jobs import SqlQueue
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.modes import SqlModes
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor, Answer, Citation, Clock, Passage, Question
from mainstay.watch import Burning, Watch
from mainstay.workflows.ports import Job, JobState
from mainstay.workflows.worker import Hooks, JobContext, Worker

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire
    from mainstay.retrieval.ports import Index
    from mainstay.storage.postgres_index import PostgresIndex
    from mainstay.storage.postgres_search import PostgresSearch

REMOTE = "remote"  # the precision that embedders behind an endpoint state
IN_FORCE = "embedder"  # the fact that names whose vectors answer now
MINILM_FOLDER = "models/minilm"
BACKGROUND_PAUSE_S = 0.5
SYNC, EMBED, INDEX, HANDOVER = "sync", "embed", "index", KIND  # the kinds of jobs
TABLES_LOOKED_AT_S = 5.0  # how long what the database searches by is believed to be whole
HANDOVER_ATTEMPTS = 100  # at the queue's pauses about a day
HANDOVER_PRIORITY = 10  # somebody waits for it: before the chores
JOBS_KEPT = timedelta(days=31)  # longer than any ``every``
PRUNE_EVERY_S = 3600.0
WATCH_EVERY_S = 1.0
SWEEP_EVERY_S = 10.0
MOST_AWAY, AWAY_AT_ONCE = 20_000, 500
SERVICE = "service:mainstay"
NO_CAP = 1 << 60  # nano-dollars: a thousand million dollars
ENOUGH_EVENTS = 20  # below that a burnt error budget is chance
ROUTER = "router"  # the fact that holds what routing has learnt
MIN_FREE_BYTES = 16 * 1024 * 1024


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the service can answer now, and why not."""

    ready: bool
    checks: dict[str, str]


class App:
    """One service, opened. Use as a context manager, or call ``close``."""

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, embedders: Mapping[str, Embedder] | None = None
    ) -> None:
        """``embedders`` are ready-made ones by name: programs that open many services share theirs."""
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.database = open_database(address_of(settings))
        self._tables = self._search_tables()
        self.documents = SqlDocuments(self.database, index=self._tables or self._forsaken())
        self.traces = SqlTraces(self.database)
        self.agreements = SqlAgreements(self.database, self.clock)
        self.handovers = SqlHandOvers(self.database)
        self.ledger = SqlLedger(self.database, self.clock)
        self.backlog = Backlog(self.ledger)
        self.measures = SqlMeasures(self.database)
        self.modes = SqlModes(self.database)
        self.ladder = Ladder(settings.agreement.modes, self.clock, self.modes, database_mode=None)
        self.admission = Admission(settings.agreement.traffic, self.clock)
        access = AccessStore(self.database, self.clock, facts=self.documents.facts, along=(IN_FORCE,))
        self._access = access
        self.people = People(access, self.clock)
        self.keyring = Keyring(access, access, self.clock)
        self.gate = Gate(access, access)
        oidc = settings.service.identity.oidc
        self.identity = Identity(
            access,
            self.people,
            self.keyring,
            None if oidc is None else Oidc(oidc, _fetch, self.clock),
            anonymous=settings.service.identity.anonymous == "allow",
        )
        self._embedders: dict[str, Embedder] = dict(embedders or {})
        self._releases: dict[str, str] = {}
        self._serving: tuple[IndexFollower, Embedder] | None = None
        self._in_database: PostgresSearch | None = None
        self._tables_whole_at = float("-inf")
        self._opened_with: EmbedderIdentity | None = None  # in force when this process first looked
        self._switching = threading.Lock()
        self._stopping = threading.Event()
        self._background: threading.Thread | None = None
        self._jobs: tuple[threading.Thread, ...] = ()
        self._swept = float("-inf")
        self._away: deque[Measured] = deque(maxlen=MOST_AWAY)
        self._routing: tuple[str | None, Router] | None = None
        self._watcher: threading.Thread | None = None
        self._all_embedded: tuple[str, int] | None = None
        self._pruned: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End background work, write the index files, close the database."""
        self._stopping.set()
        for thread in (self._background, self._watcher, *self._jobs):
            if thread is not None:
                thread.join(timeout=10)
        if "caching" in self.__dict__:
            self.caching.close()
        if "sandbox" in self.__dict__:
            self.sandbox.close()
        if "wire" in self.__dict__:
            self.wire.close()
        if self._serving is not None:
            self._serving[0].close()
        self.database.close()

    def groups_of(self, principal: str) -> list[str]:
        """Every group a principal belongs to, through groups of groups too."""
        return sorted(held for held in principals_of(self._access, principal) if held.startswith("group:"))

    # -- rooms that are costly to open, opened at first use ------------------------------------------------------------

    @cached_property
    def sandbox(self) -> Sandbox:
        return Sandbox(ParseLimits(max_bytes=self.settings.service.limits.document_mb * 1024 * 1024))

    @cached_property
    def searcher(self) -> HybridSearch:
        return HybridSearch(self.documents, self.searched, self.settings.service.search)

    @cached_property
    def answering(self) -> Answering:
        return Answering(
            gate=self.gate,
            searcher=self.searcher,
            traces=self.traces,
            clock=self.clock,
            agreement=self.settings.agreement,
            limits=self.question_limits,
            quoting=Quoting(self._meaning),
            generating=self.generating,
            caching=self.caching,
            ladder=self.ladder,
            ledger=self.ledger,
            backlog=self.backlog,
            people=self,
            release=self._release_seen,
        )

    @cached_property
    def generating(self) -> Generating:
        agreement = self.settings.agreement
        return Generating(
            switchboard=self.switchboard,
            router=self._router,
            searcher=self.searcher,
            agreement=agreement,
            prompt=prompt_of(self.prompts, "answer"),
            clock=self.clock,
        )

    @cached_property
    def switchboard(self) -> Switchboard:
        """The language models that may answer. Errors: Invalid when the price of one is unknown: money is never guessed."""
        models = self.settings.service.models
        if not models.language_models:
            return Switchboard((), self.clock)
        from mainstay.models.price_list import price_of  # brings the price list
        from mainstay.models.providers import build_model  # brings the HTTP client

        named = {name: models.providers[name] for name in models.language_models}
        return Switchboard(
            [build_model(name, provider, self.wire, price_of(name, provider)) for name, provider in named.items()],
            self.clock,
            facts={
                name: Facts(
                    region=provider.region,
                    json=provider.json != "none",
                    tools=provider.tools,
                    slow_s=provider.first_token_s / 2,
                    max_output_tokens=provider.max_output_tokens,
                )
                for name, provider in named.items()
            },
            hedge_share=self.settings.agreement.routing.hedge_share,
        )

    def _router(self) -> Router:
        """The router with what was learnt last, by whichever process."""
        kept = self.documents.facts.seen(ROUTER)  # ``searched`` has looked, for this question too
        if self._routing is None or self._routing[0] != kept:
            board, agreement = self.switchboard, self.settings.agreement
            start = RuleBased(prices={name: board.model(name).price for name in board.names})
            around = agreement.governance.route_around_content_filter
            quality: QualityModel = start
            if kept:  # learnt with the built-in embedder, whichever one searches
                embedder = self._embedder_named("static")
                quality, why = kept_or(kept, otherwise=start, embedding=embedder, embedder=embedder.identity.digest)
                if why:
                    _log.warning("what routing has learnt is not used: %s", why)
            confidence = quality.confidence if isinstance(quality, Learned) else None
            router = Router(agreement.routing, quality, confidence=confidence, route_around=around)
            self._routing = (kept, router)
        return self._routing[1]

    @cached_property
    def caching(self) -> Caching:
        return Caching(
            SemanticCache(SqlCache(self.database, self.clock), self.settings.agreement.cache, self.clock),
            self.settings.agreement,
            self.clock,
            release=self._release_seen,
            embedder=lambda: self._in_force(seen=True).digest,
            anew=lambda work: self.answering.anew(work),
        )

    def clauses(self) -> list[ClauseStanding]:
        """How each clause of the agreement is kept now."""
        return standing(self.settings.agreement, self.measures, self.measures, self.clock.now())

    def _burning(self) -> list[Burning]:
        """Objectives that a mode is to save, and whose error budget is used up."""
        now, found = self.clock.now(), []
        for held in self.settings.agreement.objectives:
            if held.enter_mode is not None:
                now_stands = objective_standing(held, self.measures, now)
                left, hour = now_stands.budget_left, now_stands.burn.get("1h")
                # Used up, and still being used: a budget that went last week is no reason to step down today.
                if now_stands.events >= ENOUGH_EVENTS and left is not None and left <= 0 and hour and hour > 1:
                    found.append(Burning(name=held.name, mode=held.enter_mode))
        return found

    @property
    def question_limits(self) -> Limits:
        return Limits(question_chars=self.settings.service.limits.question_chars)

    def _meaning(self) -> Meaning:
        """A local embedder helps to choose among sentences; a paid or distant one is asked for the question alone."""
        embedder = self.embedder()
        local = embedder.identity.precision != REMOTE
        return Meaning(related=embedder.related, embed=embedder.embed_passages if local else None)

    def answer_as(self, question: str, user: str | None) -> Answer:
        """Answer one question with the rights of a local user (None: anonymous), as the command line and tests do."""
        actor = (
            Actor(principal=ANONYMOUS)
            if user is None
            else self.identity.actor_for(user if ":" in user else f"user:{user}")
        )
        return self.answering.answer(Question(text=question), actor, door="cli")

    @cached_property
    def wire(self) -> Wire:
        """The one HTTP client of all model providers."""
        from mainstay.models.providers.wire import Wire  # brings the HTTP client

        return Wire()

    @cached_property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts in force: read once, so that a release answers with one set of them from start to end."""
        return load_prompts(self.settings.folder / "prompts")

    @property
    def release(self) -> str:
        """Names what answers: the prompts, the models, the search settings, this program's version."""
        return self._release_of(self._in_force())

    def _release_seen(self) -> str:
        """The same for a request, whose Scope was worked out from what was read with the embedder in force."""
        return self._release_of(self._in_force(seen=True))

    def _release_of(self, identity: EmbedderIdentity) -> str:
        digest = identity.digest
        if digest not in self._releases:
            service = self.settings.service
            parts = [
                __version__,
                {name: prompt.version for name, prompt in sorted(self.prompts.items())},
                {
                    name: (held.kind, held.base_url, held.model)
                    for name in sorted(service.models.language_models)
                    for held in [service.models.providers[name]]
                },
                digest,
                asdict(service.search),
                asdict(self.settings.agreement),
            ]
            text = json.dumps(parts, sort_keys=True, default=str)
            self._releases[digest] = "rel_" + hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._releases[digest]

    # -- embedders -----------------------------------------------------------------------------------------------------

    def embedder(self) -> Embedder:
        """The embedder whose vectors are in force."""
        return self._made_by(self._in_force())

    @property
    def embedder_in_force(self) -> str:
        """The settings' name of the embedder in force."""
        self._in_force()
        return str(json.loads(self.documents.fact(IN_FORCE) or "{}")["name"])

    def wanted_embedder(self) -> Embedder:
        """The embedder that the settings ask for."""
        return self._embedder_named(self.settings.service.models.embedder)

    def follower(self) -> IndexFollower:
        """The search index in force."""
        return self.serving()[0]

    def _search_tables(self) -> PostgresIndex | None:
        """What PostgreSQL searches by, where the settings let it search and it can."""
        if self.database.dialect != "postgresql":
            return None
        from mainstay.storage.postgres import PostgresDatabase  # the driver is for those who use it
        from mainstay.storage.postgres_index import PostgresIndex, forsake  # the same

        assert isinstance(self.database, PostgresDatabase)
        engine = self.settings.service.search.engine
        if engine != "exact":
            try:
                return PostgresIndex(self.database)
            except Invalid:
                if engine == "database":
                    raise
        forsake(self.database)
        return None

    def _forsaken(self) -> DerivedRows | None:
        if self.database.dialect != "postgresql":
            return None
        from mainstay.storage.postgres_index import Forsaken  # loaded already

        return Forsaken()

    @property
    def search_engine(self) -> str:
        """Who searches now: ``database``, or ``exact``, the embedded kernel."""
        return "database" if self._tables_whole() else "exact"

    def _tables_whole(self) -> bool:
        """Whether the database's tables can answer: until then the kernel does, and nothing is missing meanwhile."""
        if self._tables is None:
            return False
        if self.clock.monotonic() - self._tables_whole_at > TABLES_LOOKED_AT_S:
            if not self._tables.complete():
                return False
            self._tables_whole_at = self.clock.monotonic()
        return True

    def prepare_search(self) -> int:
        """Bring what is searched up to date with the truth, now; returns how many chunks it holds."""
        if self._tables is None:
            return len(self.follower().current())
        if not self._tables.complete():
            self._tables.fill(self._in_force())
        return self._tables.chunks()

    def searched(self) -> tuple[Index | IndexFollower, Embedder]:
        """What is searched now, and the embedder that made its vectors."""
        if not self._tables_whole():
            return self.serving()
        embedder = self.embedder()
        held = self._in_database
        if held is None or held.made_by != embedder.identity:
            from mainstay.storage.postgres import PostgresDatabase  # loaded already
            from mainstay.storage.postgres_search import PostgresSearch  # for those who use it

            assert isinstance(self.database, PostgresDatabase)
            held = self._in_database = PostgresSearch(self.database, embedder.identity)
        return held, embedder

    def serving(self) -> tuple[IndexFollower, Embedder]:
        """The embedded index in force and the embedder that made it; a change of embedder by any process takes effect
        here."""
        embedder = self.embedder()
        with self._switching:
            if self._serving is None or self._serving[0].made_by != embedder.identity:
                fresh = IndexFollower(self.documents, embedder.identity, self.settings.data / "index")
                fresh.current()
                if self._serving is not None:
                    self._serving[0].close()
                self._serving = (fresh, embedder)
            return self._serving

    def _in_force(self, *, seen: bool = False) -> EmbedderIdentity:
        """Whose vectors answer: now, or (``seen``) when this process last looked, as it does at each request."""
        held = self.documents.facts.seen(IN_FORCE) if seen else self.documents.facts.read(IN_FORCE, ROUTER)[IN_FORCE]
        if held is not None:
            _, identity = _named_identity(held)
            self._opened_with = self._opened_with or identity
            return identity
        identity = self.wanted_embedder().identity
        self._put_in_force(self.settings.service.models.embedder, identity)
        return identity

    def _put_in_force(self, name: str, identity: EmbedderIdentity) -> None:
        """Say whose vectors answer, and by which name of the settings that embedder is found again."""
        self.documents.set_fact(IN_FORCE, json.dumps({"name": name, "identity": asdict(identity)}, sort_keys=True))

    def _made_by(self, identity: EmbedderIdentity) -> Embedder:
        wanted = self.settings.service.models.embedder
        held = self.documents.facts.seen(IN_FORCE)
        for name in dict.fromkeys((wanted, _named_identity(held)[0] if held else wanted)):
            try:
                embedder = self._embedder_named(name)
            except (Invalid, NotFound):
                continue
            if embedder.identity == identity:
                return embedder
        if identity != self._opened_with:
            # Another process, with other settings, has put it in force since: it knows better than we.
            raise Unavailable(
                f"the embedder in force ({identity.name}) is not in these settings",
                where="models.embedder",
                fix="restart this process, so that it reads mainstay.yaml again",
            )
        # What made the kept vectors is no longer here (its weights changed with an upgrade, say). Mixing is refused, so the
        # wanted embedder takes over at once: words are searchable throughout, vectors follow in the background.
        embedder = self._embedder_named(wanted)
        self._put_in_force(wanted, embedder.identity)
        return embedder

    def _embedder_named(self, name: str) -> Embedder:
        if name not in self._embedders:
            self._embedders[name] = self._load_embedder(name)
        return self._embedders[name]

    def _load_embedder(self, name: str) -> Embedder:
        # Each embedder's libraries are heavy, and one service uses one: imported when it is chosen.
        if name == "static":
            from mainstay.models.embedders.static import StaticEmbedder  # brings numpy

            return StaticEmbedder()
        if name == "minilm":
            from mainstay.models.embedders.minilm import MiniLmEmbedder  # brings onnxruntime

            folder = self.settings.data / MINILM_FOLDER
            if not folder.is_dir():
                raise Invalid(
                    "the weights of minilm are not here", where=str(folder), fix="run: mainstay models add minilm"
                )
            return MiniLmEmbedder(folder)
        provider = self.settings.service.models.providers.get(name)
        if provider is None:
            raise NotFound(f"no embedder {name!r}", fix="see models.embedder in mainstay.yaml")
        from mainstay.models.embedders.metered import MeteredEmbedder  # with the client below
        from mainstay.models.price_list import price_of  # brings the price list
        from mainstay.models.providers import build_embedder  # brings the HTTP client

        price = price_of(name, provider)
        embedder = build_embedder(name, provider, self.wire)
        return embedder if price.free else MeteredEmbedder(embedder, price, self.service_purse)

    def service_purse(self) -> Purse:
        """Money for what no request pays for; the service's budgets bound it."""
        payer = Payer(request_id=self.clock.new_id("job"), principal=SERVICE)
        deadline = self.clock.monotonic() + self.settings.agreement.request.deadline_s
        return Purse(self.ledger, payer, self.settings.agreement, NO_CAP, self.clock, deadline, backlog=self.backlog)

    def embed_waiting(self, *, progress: Progress | None = None) -> int:
        """Embed what has no vector of the embedder in force yet."""
        return embed_waiting(self.documents, self.embedder(), self.clock, progress=progress, stop=self._stopping.is_set)

    def reembed(self, *, progress: Progress | None = None) -> EmbedderIdentity:
        """Make the vectors of the embedder the settings ask for, then put it in force; searches go on with the old
        one meanwhile."""
        wanted = self.wanted_embedder()
        embed_waiting(self.documents, wanted, self.clock, progress=progress, stop=self._stopping.is_set)
        self._put_in_force(self.settings.service.models.embedder, wanted.identity)
        self.searched()
        self.documents.drop_vectors(keep=wanted.identity)
        return wanted.identity

    # -- documents -----------------------------------------------------------------------------------------------------

    def source(self, name: str) -> FolderSource:
        """A source of the settings by name, or one that an earlier ``ingest`` made. Errors: NotFound."""
        for settings in self.settings.service.sources:
            if settings.name == name:
                return self._folder_source(settings)
        held = self.documents.fact(f"source:{name}")
        if held is None:
            raise NotFound(
                f"no source {name!r}", where="mainstay.yaml", fix=f"known: {', '.join(self.source_names()) or 'none'}"
            )
        return self._folder_source(source_settings(json.loads(held)))

    def source_names(self) -> list[str]:
        """Sources of the settings, then those made by ``ingest``."""
        named = [settings.name for settings in self.settings.service.sources]
        made = [str(held["name"]) for held in self.documents.sources() if self.documents.fact(f"source:{held['name']}")]
        return list(dict.fromkeys([*named, *made]))

    def remember_source(self, settings: SourceSettings) -> FolderSource:
        """Keep a source made on the command line, so that ``sync`` finds it again. Errors: Conflict with one of the settings."""
        if any(held.name == settings.name for held in self.settings.service.sources):
            raise Conflict(
                f"source {settings.name!r} is defined in mainstay.yaml",
                fix="run: mainstay sync, or choose another --source",
            )
        held = self.documents.fact(f"source:{settings.name}")
        if held is not None and json.loads(held)["folder"] != settings.folder:
            raise Conflict(
                f"source {settings.name!r} is {json.loads(held)['folder']} already",
                where=settings.folder,
                fix="choose another name with --source",
            )
        source = self._folder_source(settings)
        self.documents.set_fact(f"source:{settings.name}", json.dumps(asdict(settings), sort_keys=True))
        return source

    def _folder_source(self, settings: SourceSettings) -> FolderSource:
        root = (self.settings.folder / settings.folder).resolve()
        data = self.settings.data.resolve()
        if root == data or root in data.parents or data in root.parents:
            raise Conflict(
                "this is where the service itself lives", where=str(root), fix="name a folder of documents alone"
            )
        return FolderSource(settings, root)

    def orphans(self) -> dict[str, int]:
        """Sources that nothing names any more, with how many documents of theirs still answer."""
        named = {*self.source_names(), API_SOURCE}
        return {name: count for name, count in self.documents.count_by_source().items() if name not in named}

    def forget_source(self, name: str) -> int:
        """Remove a source made by ``ingest``, or one that left mainstay.yaml, with all its documents; returns how many."""
        if any(held.name == name for held in self.settings.service.sources):
            raise Conflict(f"source {name!r} is defined in mainstay.yaml", fix="take it out there first")
        if name not in self.source_names() and name not in self.orphans():
            raise NotFound(f"no source {name!r}", fix="see: mainstay documents list")
        removed = self.documents.remove([held.doc_id for held in self.documents.known(name).values()], self.clock.now())
        self.documents.forget_source(name)
        return removed

    def synchronise(
        self, source: FolderSource, *, progress: Progress | None = None, delete_all: bool = False
    ) -> Report:
        """Bring one source's documents up to date and searchable by words; vectors follow by ``embed_waiting``."""
        return synchronise(source, self.documents, self.sandbox, self.clock, progress=progress, delete_all=delete_all)

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin background work: vectors for what has none, index files, and jobs where this process runs some."""
        self.agreements.seen(versions.digest(self.settings.agreement), versions.content(self.settings.agreement))
        self._background = threading.Thread(target=self._work, name="mainstay-background", daemon=True)
        self._background.start()
        self._watcher = threading.Thread(target=self._watch, name="mainstay-watch", daemon=True)
        self._watcher.start()
        wanted = self.settings.service.worker.in_serve
        if wanted == "yes" or (wanted == "auto" and self.database.dialect == "sqlite"):
            # Vectors have a thread already; a question for a person does not wait until a folder is read.
            self._jobs = tuple(
                threading.Thread(target=self.worker([kind]).run, name=f"mainstay-{kind}", daemon=True)
                for kind in (SYNC, HANDOVER)
            )
            for thread in self._jobs:
                thread.start()

    def _work(self) -> None:
        worker = self.worker([EMBED])
        while not self._stopping.wait(BACKGROUND_PAUSE_S):
            try:
                if self._ask_for_vectors():
                    worker.run_next(reraise=True)
                if not self._tables_whole():
                    self.follower().current()
            except Exception as error:  # noqa: BLE001 - the worker loop: one of two places that may not die of a surprise
                # Probes are answered to anybody: where the database is, is the operator's business alone.
                self.background_error = error.what if isinstance(error, MainstayError) else type(error).__name__
                self._stopping.wait(5.0)
            else:
                self.background_error = ""

    background_error = ""

    @cached_property
    def watch(self) -> Watch:
        return Watch(
            ladder=self.ladder,
            board=self.switchboard,
            ledger=self.ledger,
            agreement=self.settings.agreement,
            clock=self.clock,
            burning=self._burning,
            alive=self.database.ping,
            pressure=lambda: self.admission.pressure,
        )

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_EVERY_S):
            try:
                self.watch.look()
                self._keep_up()
            except Exception as error:  # noqa: BLE001 - the other loop that may not die of a surprise
                _log.warning(
                    "the watch goes on after %s", error.what if isinstance(error, MainstayError) else repr(error)
                )

    def _keep_up(self) -> None:
        """Books that wait, holds that nobody settled, requests that were turned away."""
        if len(self.backlog):
            self.backlog.flush()
        if self.clock.monotonic() - self._swept > SWEEP_EVERY_S:
            self._swept = self.clock.monotonic()
            self.ledger.sweep(self.clock.now())
        away = [self._away.popleft() for _ in range(min(len(self._away), AWAY_AT_ONCE))]
        if away:
            self.measures.keep_all(away)

    def turned_away(self, principal: str, *, request_id: str, door: str, ours: bool) -> None:
        """Count a request that was not worked on; written a little later, so that refusing stays cheap. ``ours``: for load,
        not for a rate that the asker exceeded."""
        self._away.append(
            Measured(
                request_id=request_id,
                at=self.clock.now(),
                door=door,
                principal=principal,
                status=TURNED_AWAY,
                failed=ours,
            )
        )

    def health(self) -> Health:
        """What the readiness route reports."""
        checks = {}
        try:
            self.database.ping()
            checks["database"] = "ok"
            data = self.settings.data  # made when something is written there: with PostgreSQL, later
            free = shutil.disk_usage(next(held for held in (data, *data.parents) if held.exists())).free
            checks["disk"] = (
                "ok" if free > MIN_FREE_BYTES else f"{free // 1024} kB free: nothing can be written any more"
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the probe says it instead of failing
            checks["database"] = error.what if isinstance(error, MainstayError) else type(error).__name__
        checks["background"] = self.background_error or "ok"
        checks["jobs"] = self._jobs_said() if checks["database"] == "ok" else "unknown"
        return Health(ready=checks["database"] == "ok" and checks.get("disk") == "ok", checks=checks)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    @cached_property
    def queue(self) -> SqlQueue:
        return SqlQueue(self.database, self.clock)

    def worker(
        self,
        kinds: Sequence[str] = (SYNC, EMBED, INDEX, HANDOVER),
        *,
        hooks: Hooks | None = None,
        stop: threading.Event | None = None,
    ) -> Worker:
        """One that does jobs of these kinds in the thread that runs it, until ``stop``, or until the App is closed."""
        handlers = {
            SYNC: self._run_sync,
            EMBED: self._run_embed,
            INDEX: self._run_index,
            HANDOVER: self._run_handover,
        }
        return Worker(
            self.queue,
            {kind: handlers[kind] for kind in kinds if kind != INDEX or self._tables is not None},
            self.clock,
            lease_s=self.settings.service.worker.lease_s,
            stop=stop or self._stopping,
            look_around=lambda: self._look_around(kinds),
            hooks=hooks or Hooks(say=_to_stderr),
        )

    def ask_for_sync(self, name: str, *, delete_all: bool = False, requested_by: str = "") -> Job:
        """Have a source synchronised by whichever worker is free. Errors: NotFound."""
        self.source(name)
        return self.queue.add(SYNC, _sync_of(name, delete_all), key=f"{SYNC}:{name}", requested_by=requested_by)

    def sync_now(self, name: str, *, delete_all: bool = False, watch: Progress | None = None) -> Report:
        """Have a source synchronised now, here or by the worker that is at it. Errors: what it ran into."""
        self.source(name)
        return Report(**self._do(SYNC, _sync_of(name, delete_all), key=f"{SYNC}:{name}", watch=watch))

    def embed_now(self, *, watch: Progress | None = None) -> None:
        """Have every vector made that is missing, here or by the worker that is at it."""
        while self._vectors_wait():
            self._do(EMBED, {}, key=EMBED, watch=watch)

    def _do(self, kind: str, payload: dict[str, Any], *, key: str, watch: Progress | None) -> Mapping[str, Any]:
        worker = self.worker([kind])
        while True:
            # Put off by a lease, so that nobody else takes it before we do: the folder may be on this machine alone.
            delay_s = self.settings.service.worker.lease_s
            asked_by = "service:command-line"
            job = self.queue.add(kind, payload, key=key, delay_s=delay_s, requested_by=asked_by, again=kind == EMBED)
            try:
                result = self._ended(worker, job, watch)
            except MainstayError:
                if job.payload == payload:
                    raise
            else:
                if job.payload == payload:
                    return result

    def _ended(self, worker: Worker, job: Job, watch: Progress | None) -> Mapping[str, Any]:
        """The result of a job that is done here, or elsewhere; whoever has it, we take over if it falls silent."""
        followed = False
        while True:
            taken = worker.take(job.job_id)
            if taken is not None:
                outcome = worker.work(taken[0], asked_at=taken[1], watch=watch, once=True)
                if outcome.error is not None:
                    raise outcome.error
            held = self.queue.get(job.job_id)
            if held is None or held.state is JobState.CANCELLED:
                raise Conflict("the job was cancelled", where=job.job_id, fix="see: mainstay jobs show ID")
            if held.state is JobState.DONE:
                return held.result
            if held.state is JobState.DEAD:
                raise Conflict(f"the job failed: {held.error}", where=job.job_id, fix="see: mainstay jobs show ID")
            if not followed:
                _to_stderr(f"{job.key}: {held.owner or 'another worker'} is at it; waiting for it")
                followed = True
            if watch is not None:
                watch(int(held.progress.get("done", 0)), int(held.progress.get("total", 1)), "")
            self.queue.wait(0.5)

    def _run_sync(self, context: JobContext) -> Mapping[str, Any]:
        report = synchronise(
            self.source(str(context.job.payload["source"])),
            self.documents.under(context.fence),
            self.sandbox,
            self.clock,
            progress=context.progress,
            delete_all=bool(context.job.payload.get("delete_all")),
        )
        return asdict(report)

    def _run_embed(self, context: JobContext) -> Mapping[str, Any]:
        def stop() -> bool:
            context.check()
            return False

        feed = self.documents.under(context.fence)
        return {"made": embed_waiting(feed, self.embedder(), self.clock, progress=context.progress, stop=stop)}

    def _run_index(self, context: JobContext) -> Mapping[str, Any]:
        assert self._tables is not None
        self._tables.fill(
            self._in_force(), progress=lambda filled: context.progress(filled.done, filled.of, filled.what)
        )
        return {"chunks": self._tables.chunks()}

    def _look_around(self, kinds: Sequence[str]) -> None:
        """What has become due: sources with ``every``, vectors that are missing, jobs that nobody will ask about."""
        due = {held.name: every for held in self.settings.service.sources if (every := every_seconds(held))}
        if SYNC in kinds and due:
            synced = {str(held["name"]): held["synced_at"] for held in self.documents.sources()}
            for name, every in due.items():
                since = synced.get(name)
                self.queue.add_due(
                    SYNC,
                    _sync_of(name, False),
                    key=f"{SYNC}:{name}",
                    every_s=every,
                    since=since if isinstance(since, datetime) else None,
                )
        if self._pruned is None or self.clock.monotonic() - self._pruned > PRUNE_EVERY_S:
            self._pruned = self.clock.monotonic()
            self.queue.prune(before=self.clock.now() - JOBS_KEPT)
            self._forget_old()
            if self._tables is not None and self._tables_whole() and not self._tables.lacks():
                self._tables.tidy()
        if HANDOVER in kinds:
            self._mend_handovers()
        if EMBED in kinds:
            self._ask_for_vectors()
        if INDEX in kinds and self._tables is not None and not self._tables_whole():
            self.queue.add(INDEX, {}, key=INDEX, requested_by="schedule")

    def _ask_for_vectors(self) -> bool:
        """Of many processes one at a time embeds: whoever claims this one job."""
        waits = self._vectors_wait()
        if waits:
            self.queue.add(EMBED, {}, key=EMBED, requested_by="schedule", again=True)
        return waits

    def _vectors_wait(self) -> bool:
        made_by = self._in_force()
        seen = (made_by.digest, self.documents.newest_change())
        if seen != self._all_embedded and not self.documents.without_vector(made_by, 1):
            self._all_embedded = seen  # looking for chunks without a vector costs; it waits until something changes
        return seen != self._all_embedded

    def _forget_old(self) -> None:
        """What the agreement keeps for a time only, and answers that may no longer serve."""
        now = self.clock.now()
        self.caching.prune()
        if days := self.settings.agreement.governance.retention_days:
            before = now - timedelta(days=days)
            self.handovers.prune(before=before)
            self.measures.prune(before)
            self.traces.prune(before)
            self.ledger.prune(before)

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

    def retry_handover(self, handover_id: str, *, by: str) -> HandOver:
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

    def close_handover(self, handover_id: str, *, by: str, note: str = "") -> HandOver:
        """A person has taken care of it: it is not delivered any more. Errors: NotFound, Conflict when it is closed."""
        before = self._handover(handover_id)
        closed = close(self.handovers, self.clock, handover_id, by=by, note=note)
        if before.state is State.FAILED:
            self._ask_for_delivery(closed.id, requested_by=by)  # finds nothing to do, and its dead letter is gone
        return closed

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

    def _mend_handovers(self) -> None:
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

    def _run_handover(self, context: JobContext) -> Mapping[str, Any]:
        from mainstay.delivery import Sender, deliver  # brings the HTTP client

        held = self.handovers.get(str(context.job.payload["handover"]))
        if held is None:
            return {"ways": 0}  # its time to be kept is over
        service = self.settings.service
        account = self._access.account(held.principal)
        used = deliver(
            held,
            self.handovers.under(context.fence),
            Sender(
                name=service.name,
                rules=self.settings.agreement.handover,
                signing=service.handover,
                smtp=service.smtp,
                wire=self.wire,
                clock=self.clock,
            ),
            contact="" if account is None else account.email,
            last=context.job.attempts >= context.job.max_attempts,
            check=context.check,
        )
        return {"ways": len(used)}

    def _jobs_said(self) -> str:
        try:
            standing = self.queue.standing()
        except MainstayError as error:
            return error.what
        dead = standing.jobs[JobState.DEAD]
        said = [f"{dead} dead: see mainstay jobs list --state dead"] if dead else []
        if standing.oldest_due_s >= 1:
            said.append(f"the oldest has waited for {standing.oldest_due_s:.0f} s")
        return "; ".join(said) or "ok"


@lru_cache(maxsize=16)
def _named_identity(held: str) -> tuple[str, EmbedderIdentity]:
    """What the fact IN_FORCE says."""
    said = json.loads(held)
    return said["name"], EmbedderIdentity(**said["identity"])


def open_app(folder: Path, *, clock: Clock | None = None) -> App:
    """The service of this folder. Errors: Invalid settings, unusable database."""
    return App(load(folder), clock=clock)


def source_settings(value: dict[str, object]) -> SourceSettings:
    """A source as it was remembered."""
    from pydantic import TypeAdapter  # costs 0.1 s, needed for remembered sources alone

    return TypeAdapter(SourceSettings).validate_python(value)


def _sync_of(name: str, delete_all: bool) -> dict[str, Any]:
    return {"source": name, "delete_all": delete_all}


def _to_stderr(said: str) -> None:
    print(f"mainstay: {said}", file=sys.stderr, flush=True)


def _fetch(url: str) -> bytes:
    from mainstay.egress import fetch  # brings the HTTP client

    return fetch(url)
