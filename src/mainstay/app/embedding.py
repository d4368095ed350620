"""Embedders by their names in the settings, and which of them made the vectors that answer now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING

from mainstay.agreement.ledger import Purse
from mainstay.errors import Invalid, NotFound, Unavailable
from mainstay.models.embedders import Embedder, EmbedderIdentity
from mainstay.settings import Settings
from mainstay.storage.documents import SqlDocuments

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire

IN_FORCE = "embedder"  # the fact that names whose vectors answer now
ROUTER = "router"  # the fact that holds what routing has learnt, read along for the same question
REMOTE = "remote"  # the precision that embedders behind an endpoint state
MINILM_FOLDER = "models/minilm"


class Embedders:
    """Those that were loaded, and the one in force. ``ready`` are loaded already, by name."""

    def __init__(
        self,
        ready: Mapping[str, Embedder],
        *,
        settings: Settings,
        documents: SqlDocuments,
        wire: Callable[[], Wire],
        purse: Callable[[], Purse],
    ) -> None:
        self._loaded: dict[str, Embedder] = dict(ready)
        self._settings, self._documents, self._wire, self._purse = settings, documents, wire, purse
        self._opened_with: EmbedderIdentity | None = None  # in force when this process first looked

    def current(self) -> Embedder:
        """The one whose vectors are in force."""
        return self._made_by(self.in_force())

    def current_name(self) -> str:
        """What the settings call it."""
        self.in_force()
        return str(json.loads(self._documents.fact(IN_FORCE) or "{}")["name"])

    def wanted(self) -> Embedder:
        """The one that the settings ask for."""
        return self.named(self._settings.service.models.embedder)

    def in_force(self, *, seen: bool = False) -> EmbedderIdentity:
        """Whose vectors answer: now, or (``seen``) when this process last looked, as it does at each request."""
        facts = self._documents.facts
        held = facts.seen(IN_FORCE) if seen else facts.read(IN_FORCE, ROUTER)[IN_FORCE]
        if held is not None:
            _, identity = _named_identity(held)
            self._opened_with = self._opened_with or identity
            return identity
        identity = self.wanted().identity
        self.put_in_force(self._settings.service.models.embedder, identity)
        return identity

    def put_in_force(self, name: str, identity: EmbedderIdentity) -> None:
        """Say whose vectors answer, and by which name of the settings that embedder is found again."""
        self._documents.set_fact(IN_FORCE, json.dumps({"name": name, "identity": asdict(identity)}, sort_keys=True))

    def named(self, name: str) -> Embedder:
        """One by its name, loaded once. Errors: NotFound, Invalid when it can not be loaded."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _made_by(self, identity: EmbedderIdentity) -> Embedder:
        wanted = self._settings.service.models.embedder
        held = self._documents.facts.seen(IN_FORCE)
        for name in dict.fromkeys((wanted, _named_identity(held)[0] if held else wanted)):
            try:
                embedder = self.named(name)
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
        embedder = self.named(wanted)
        self.put_in_force(wanted, embedder.identity)
        return embedder

    def _load(self, name: str) -> Embedder:
        # Each embedder's libraries are heavy, and one service uses one: imported when it is chosen.
        if name == "static":
            from mainstay.models.embedders.static import StaticEmbedder  # brings numpy

            return StaticEmbedder()
        if name == "minilm":
            from mainstay.models.embedders.minilm import MiniLmEmbedder  # brings onnxruntime

            folder = self._settings.data / MINILM_FOLDER
            if not folder.is_dir():
                raise Invalid(
                    "the weights of minilm are not here", where=str(folder), fix="run: mainstay models add minilm"
                )
            return MiniLmEmbedder(folder)
        provider = self._settings.service.models.providers.get(name)
        if provider is None:
            raise NotFound(f"no embedder {name!r}", fix="see models.embedder in mainstay.yaml")
        from mainstay.models.embedders.metered import MeteredEmbedder  # with the client below
        from mainstay.models.price_list import price_of  # brings the price list
        from mainstay.models.providers import build_embedder  # brings the HTTP client

        price = price_of(name, provider)
        embedder = build_embedder(name, provider, self._wire())
        return embedder if price.free else MeteredEmbedder(embedder, price, self._purse)


@lru_cache(maxsize=16)
def _named_identity(held: str) -> tuple[str, EmbedderIdentity]:
    """What the fact IN_FORCE says."""
    said = json.loads(held)
    return said["name"], EmbedderIdentity(**said["identity"])
