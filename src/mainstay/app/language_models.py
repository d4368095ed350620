"""The language models that may answer, the router that chooses among them, and the name of what answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from mainstay import __version__
from mainstay.agreement import Agreement
from mainstay.app.embedding import ROUTER, Embedders
from mainstay.models.calling import Facts, Switchboard
from mainstay.models.embedders import EmbedderIdentity
from mainstay.models.routing import Learned, QualityModel, Router, kept_or
from mainstay.models.routing import Rules as RuleBased
from mainstay.prompts.loader import Prompt
from mainstay.settings import Settings
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Clock

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire

_log = logging.getLogger(__name__)


def build_switchboard(settings: Settings, clock: Clock, wire: Callable[[], Wire]) -> Switchboard:
    """The language models that may answer. Errors: Invalid when the price of one is unknown: money is never guessed."""
    models = settings.service.models
    if not models.language_models:
        return Switchboard((), clock)
    from mainstay.models.price_list import price_of  # brings the price list
    from mainstay.models.providers import build_model  # brings the HTTP client

    named = {name: models.providers[name] for name in models.language_models}
    return Switchboard(
        [build_model(name, provider, wire(), price_of(name, provider)) for name, provider in named.items()],
        clock,
        facts={
            name: Facts(
                region=provider.region,
                json=provider.json != "none",
                tools=provider.tools,
                slow_s=provider.first_token_s / 2,
                max_output_tokens=provider.max_output_tokens,
                takes_temperature=provider.takes_temperature,
            )
            for name, provider in named.items()
        },
        hedge_share=settings.agreement.routing.hedge_share,
        propagate=settings.service.telemetry.propagate,
    )


class LearntRouter:
    """The router with what was learnt last, by whichever process."""

    def __init__(
        self,
        agreement: Agreement,
        *,
        documents: SqlDocuments,
        embedders: Embedders,
        switchboard: Callable[[], Switchboard],
    ) -> None:
        self._agreement, self._documents, self._embedders = agreement, documents, embedders
        self._switchboard = switchboard
        self._made: tuple[str | None, Router] | None = None

    def current(self) -> Router:
        kept = self._documents.facts.seen(ROUTER)  # the search has looked, for this question too
        if self._made is None or self._made[0] != kept:
            self._made = (kept, self._router(kept))
        return self._made[1]

    def _router(self, kept: str | None) -> Router:
        board, agreement = self._switchboard(), self._agreement
        start = RuleBased(prices={name: board.model(name).price for name in board.names})
        quality: QualityModel = start
        if kept:  # learnt with the built-in embedder, whichever one searches
            embedder = self._embedders.named("static")
            quality, why = kept_or(kept, otherwise=start, embedding=embedder, embedder=embedder.identity.digest)
            if why:
                _log.warning("what routing has learnt is not used: %s", why)
        return Router(
            agreement.routing,
            quality,
            confidence=quality.confidence if isinstance(quality, Learned) else None,
            route_around=agreement.governance.route_around_content_filter,
        )


class Releases:
    """Names what answers: the prompts, the models, the search settings, this program's version."""

    def __init__(self, settings: Settings, prompts: Callable[[], Mapping[str, Prompt]]) -> None:
        self._settings, self._prompts = settings, prompts
        self._names: dict[str, str] = {}

    def name(self, made_by: EmbedderIdentity) -> str:
        """With the vectors of this embedder in force."""
        digest = made_by.digest
        if digest not in self._names:
            service = self._settings.service
            parts = [
                __version__,
                {name: prompt.version for name, prompt in sorted(self._prompts().items())},
                {
                    name: (held.kind, held.base_url, held.model)
                    for name in sorted(service.models.language_models)
                    for held in [service.models.providers[name]]
                },
                digest,
                asdict(service.search),
                asdict(self._settings.agreement),
            ]
            text = json.dumps(parts, sort_keys=True, default=str)
            self._names[digest] = "rel_" + hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._names[digest]
