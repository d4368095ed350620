"""Where documents come from: sources of the settings, and those that the command line made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from mainstay.corpus.ingest import API_SOURCE
from mainstay.corpus.sources import FolderSource, SourceSettings
from mainstay.errors import Conflict, NotFound
from mainstay.settings import Settings
from mainstay.storage.documents import SqlDocuments
from mainstay.types import Clock

SYNC = "sync"  # the kind of the jobs that synchronise one


def sync_of(name: str, delete_all: bool) -> dict[str, Any]:
    """The payload of such a job."""
    return {"source": name, "delete_all": delete_all}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All sources of one service, by name."""

    settings: Settings
    documents: SqlDocuments
    clock: Clock

    def source(self, name: str) -> FolderSource:
        """A source of the settings by name, or one that an earlier ``ingest`` made. Errors: NotFound."""
        for settings in self.settings.service.sources:
            if settings.name == name:
                return self._folder_source(settings)
        held = self.documents.fact(f"source:{name}")
        if held is None:
            raise NotFound(
                f"no source {name!r}", where="mainstay.yaml", fix=f"known: {', '.join(self.names()) or 'none'}"
            )
        return self._folder_source(_remembered(json.loads(held)))

    def names(self) -> list[str]:
        """Sources of the settings, then those made by ``ingest``."""
        named = [settings.name for settings in self.settings.service.sources]
        made = [str(held["name"]) for held in self.documents.sources() if self.documents.fact(f"source:{held['name']}")]
        return list(dict.fromkeys([*named, *made]))

    def remember(self, settings: SourceSettings) -> FolderSource:
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

    def orphans(self) -> dict[str, int]:
        """Sources that nothing names any more, with how many documents of theirs still answer."""
        named = {*self.names(), API_SOURCE}
        return {name: count for name, count in self.documents.count_by_source().items() if name not in named}

    def forget(self, name: str) -> int:
        """Remove a source made by ``ingest``, or one that left mainstay.yaml, with all its documents; returns how many."""
        if any(held.name == name for held in self.settings.service.sources):
            raise Conflict(f"source {name!r} is defined in mainstay.yaml", fix="take it out there first")
        if name not in self.names() and name not in self.orphans():
            raise NotFound(f"no source {name!r}", fix="see: mainstay documents list")
        removed = self.documents.remove([held.doc_id for held in self.documents.known(name).values()], self.clock.now())
        self.documents.forget_source(name, self.clock.now())
        return removed

    def _folder_source(self, settings: SourceSettings) -> FolderSource:
        root = (self.settings.folder / settings.folder).resolve()
        data = self.settings.data.resolve()
        if root == data or root in data.parents or data in root.parents:
            raise Conflict(
                "this is where the service itself lives", where=str(root), fix="name a folder of documents alone"
            )
        return FolderSource(settings, root)


def _remembered(value: dict[str, object]) -> SourceSettings:
    """A source as it was remembered."""
    from pydantic import TypeAdapter  # costs 0.1 s, needed for remembered sources alone

    return TypeAdapter(SourceSettings).validate_python(value)
