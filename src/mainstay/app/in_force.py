"""What this process works with: names of what answers, models and prices, prompts, the agreement in words, every setting.

Secrets are never among it: what a settings shape keeps out of ``repr`` is masked, addresses are shown without user, password
and query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mainstay import __version__
from mainstay.agreement.versions import digest
from mainstay.agreement.wording import described
from mainstay.errors import MainstayError
from mainstay.settings import AGREEMENT_FILE, SERVICE_FILE
from mainstay.types import usd

if TYPE_CHECKING:
    from mainstay.app import App

HIDDEN, UNSET = "set, not shown", "not set"
FILES = (SERVICE_FILE, AGREEMENT_FILE)


@dataclass(frozen=True, kw_only=True)
class WhatAnswers:
    """What answers, named. ``wanted`` is the embedder that the settings ask for, where another one is in force still."""

    version: str
    release: str
    agreement: str
    database: str
    revision: int
    search: str
    embedder: str
    model: str
    precision: str
    dims: int
    wanted: str = ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A language model that may answer, and what its calls are booked at, in nano-dollars."""

    name: str
    model: str
    at: str
    region: str
    input_n: int
    cached_n: int | None
    output_n: int
    request_n: int
    long_prompts: int
    source: str


@dataclass(frozen=True, kw_only=True)
class PromptInForce:
    """A prompt by its version; ``source`` says where it was read from."""

    name: str
    version: str
    label: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One value as text, and who said it: ``the file`` or ``the default``."""

    key: str
    value: str
    said: str


class InForce:
    """One per process, made when it begins: then it knows which files have changed since."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._began = {name: _sum(app.settings.folder / name) for name in FILES}

    def stale(self) -> tuple[str, ...]:
        """The files that have changed since this process began: it works without what they say now."""
        return tuple(name for name in FILES if _sum(self._app.settings.folder / name) != self._began[name])

    def answering(self) -> WhatAnswers:
        app = self._app
        made_by = app.embedder().identity
        wanted, name = app.settings.service.models.embedder, app.embedder_in_force
        return WhatAnswers(
            version=__version__,
            release=app.release,
            agreement=digest(app.settings.agreement),
            database=app.database.dialect,
            revision=app.database.revision,
            search=app.search_engine,
            embedder=name,
            model=made_by.name,
            precision=made_by.precision,
            dims=made_by.dims,
            wanted=wanted if wanted != name else "",
        )

    def models(self) -> tuple[Sequence[Model], str]:
        """The language models that may answer, or why they can not be told."""
        return models(self._app)

    def prompts(self) -> Sequence[PromptInForce]:
        return [
            PromptInForce(name=name, version=held.version, label=held.label, source=held.source)
            for name, held in sorted(self._app.prompts.items())
        ]

    def agreed(self) -> Sequence[tuple[str, Sequence[str]]]:
        """The agreement in its own plain words, by its parts."""
        return [(part, list(lines)) for part, lines in described(self._app.settings.agreement)]

    def settings(self) -> Sequence[Setting]:
        """Everything of mainstay.yaml, with what it leaves unsaid."""
        return [
            Setting(key=key, value=value, said=said) for key, value, said in flattened("", self._app.settings.service)
        ]

    def view(self) -> dict[str, Any]:
        """All of it, as JSON."""
        found, trouble = self.models()
        return {
            **asdict(self.answering()),
            "changed_since_start": list(self.stale()),
            "models": [model_view(one) for one in found],
            "trouble": trouble,
            "prompts": [asdict(one) for one in self.prompts()],
            "agreed": [{"part": part, "lines": list(lines)} for part, lines in self.agreed()],
            "settings": [asdict(one) for one in self.settings()],
        }


def models(app: App) -> tuple[Sequence[Model], str]:
    """The language models that may answer, and why they can not be told, where they can not."""
    found: list[Model] = []
    try:
        board = app.switchboard
        for name in board.names:
            price, provider = board.model(name).price, app.settings.service.models.providers[name]
            found.append(
                Model(
                    name=name,
                    model=provider.model,
                    at=_address(provider.base_url),
                    region=provider.region,
                    input_n=price.input_per_million_nanodollars,
                    cached_n=price.cached_input_per_million_nanodollars,
                    output_n=price.output_per_million_nanodollars,
                    request_n=price.per_request_nanodollars,
                    long_prompts=len(price.long_prompts),
                    source=price.version,
                )
            )
    except MainstayError as error:
        return [], error.line()
    return found, ""


def model_view(held: Model) -> dict[str, Any]:
    """A model with its prices in dollars."""
    return {
        "name": held.name,
        "model": held.model,
        "at": held.at,
        "region": held.region,
        "input_per_million_usd": usd(held.input_n),
        "cached_input_per_million_usd": None if held.cached_n is None else usd(held.cached_n),
        "output_per_million_usd": usd(held.output_n),
        "per_request_usd": usd(held.request_n),
        "long_prompts": held.long_prompts,
        "price_from": held.source,
    }


def _sum(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


# -- values --------------------------------------------------------------------------------------------------------------


def flattened(key: str, held: Any) -> Iterator[tuple[str, str, str]]:
    """(key, value, who said it) of every value of a settings object. What its shape keeps out of ``repr`` is a secret."""
    for one in fields(held):
        name = f"{key}.{one.name}" if key else one.name
        value = getattr(held, one.name)
        said = "the default" if _is_default(one, value) else "the file"
        if not one.repr:
            yield name, _masked(one.name, value), said
        else:
            yield from _shown(name, value, said)


def _shown(name: str, value: Any, said: str) -> Iterator[tuple[str, str, str]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from flattened(name, value)
    elif isinstance(value, Mapping) and value:
        for key, held in sorted(value.items(), key=lambda item: str(item[0])):
            yield from _shown(f"{name}.{key}", held, "the file")
    elif isinstance(value, tuple) and any(is_dataclass(one) for one in value):
        for n, one in enumerate(value):
            yield from _shown(f"{name}[{n}]", one, "the file")
    else:
        yield name, _text(value), said


def _is_default(one: Field[Any], value: Any) -> bool:
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return default is not MISSING and value == default


def _masked(name: str, value: Any) -> str:
    if not value:
        return UNSET
    if name == "url":
        return _address(str(value))
    return f"{HIDDEN}: {', '.join(sorted(map(str, value)))}" if isinstance(value, Mapping) else HIDDEN


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value == () or value == {}:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(one) for one in value)
    text = str(value)
    return _address(text) if "://" in text else text


def _address(text: str) -> str:
    """An address without user, password, query and fragment: any of them may be a secret."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return HIDDEN
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
