"""Reads the service folder. Each room declares its own frozen settings; this file fills them and is alone in reading
the environment.

A mistake is refused with file, line, reason and, for a misspelt key, the nearest valid one.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from mainstay.access.oidc import OidcSettings
from mainstay.agreement import Agreement
from mainstay.agreement.sense import EXTRACTIVE, ModelFacts, contradictions
from mainstay.corpus.sources import SourceSettings, every_seconds
from mainstay.errors import Invalid, MainstayError
from mainstay.handover import SigningSettings, SmtpSettings, checked_address, checked_webhook
from mainstay.models.prices import nanodollars_of
from mainstay.retrieval.search import SearchSettings
from mainstay.text.yaml_lines import parse_yaml

SERVICE_FILE = "mainstay.yaml"
AGREEMENT_FILE = "agreement.yaml"
MAX_FILE_BYTES = 1024 * 1024
FOLDER_VARIABLE = "MAINSTAY_FOLDER"

_FORBID: Any = {"extra": "forbid", "strict": False}


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Where the HTTP server listens."""

    __pydantic_config__ = _FORBID

    host: str = "127.0.0.1"
    port: int = 8080


@dataclass(frozen=True, kw_only=True)
class IdentitySettings:
    """Who may ask. ``anonymous: allow`` lets requests without credentials see public documents."""

    __pydantic_config__ = _FORBID

    anonymous: Literal["allow", "deny"] = "deny"
    oidc: OidcSettings | None = None


@dataclass(frozen=True, kw_only=True)
class LongPromptSettings:
    """What a call costs whose prompt has more than ``above`` tokens: all of it, not the part above."""

    __pydantic_config__ = _FORBID

    above: int
    input: str
    output: str

    def __post_init__(self) -> None:
        if self.above < 1:
            raise Invalid(f"price.long_prompt.above is {self.above}, it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class PriceSettings:
    """US dollars per million tokens, as decimal text; ``request`` is per call. ``cached_input`` and ``cache_write`` cost what
    ``input`` costs unless told."""

    __pydantic_config__ = _FORBID

    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None
    request: str = "0"
    long_prompt: LongPromptSettings | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """A model at an address, and what its server can do: one of two wire formats, ``kind``; the rest is data, so that no
    server needs code of its own. ``region`` is where the text goes, as ``governance.regions`` names it."""

    __pydantic_config__ = _FORBID

    base_url: str
    model: str
    kind: Literal["openai-compatible", "anthropic"] = "openai-compatible"
    api_key: str = field(default="", repr=False)
    auth_header: str = ""  # which header carries the key; empty: the usual one of the kind
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    api_version: str = ""
    region: str = ""
    context_tokens: int = 8192
    max_output_tokens: int = 1024
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    json: Literal["json_schema", "json_object", "none"] = "json_schema"
    tools: bool = True
    system_role: Literal["system", "developer"] = "system"
    sends_usage: bool = True
    sends_end_frame: bool = True
    takes_temperature: bool = True
    connect_s: float = 3.0
    first_token_s: float = 20.0
    idle_s: float = 15.0
    dims: int | None = None
    price: PriceSettings | None = None

    def __post_init__(self) -> None:
        for name in ("context_tokens", "max_output_tokens", "connect_s", "first_token_s", "idle_s"):
            if not getattr(self, name) > 0:
                raise Invalid(f"models.providers: {name} is {getattr(self, name)}, it must be more than 0")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which models answer and which embeds: ``extractive``, ``static`` and ``minilm`` are built in, others name a provider.
    Of several that may answer, routing chooses; ``extractive`` is always there."""

    __pydantic_config__ = _FORBID

    answer: str | tuple[str, ...] = "extractive"
    embedder: str = "static"
    providers: dict[str, ProviderSettings] = field(default_factory=dict)

    @property
    def language_models(self) -> tuple[str, ...]:
        """The providers that may answer, each once."""
        named = (self.answer,) if isinstance(self.answer, str) else self.answer
        return tuple(dict.fromkeys(name for name in named if name != EXTRACTIVE))


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What is let in: characters of a question, megabytes of a pushed document or a file."""

    __pydantic_config__ = _FORBID

    question_chars: int = 4000
    document_mb: int = 50


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where the truth is kept. ``url`` is a file's path, or ``postgresql://user:password@host/name``; empty is
    ``mainstay.db`` in the data folder. A service has a PostgreSQL ``schema`` to itself; ``pool`` bounds its connections
    per process. ``database: postgresql://...`` alone says the url."""

    __pydantic_config__ = _FORBID

    url: str = field(default="", repr=False)
    schema: str = "mainstay"
    pool: int = 10
    statement_timeout_s: float = 10.0
    lock_timeout_s: float = 5.0


def _yes_or_no(value: object) -> object:
    """YAML reads a bare ``yes`` as true."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How background jobs are run. A worker that falls silent loses its job after ``lease_s``; ``in_serve`` lets
    ``mainstay serve`` run jobs as well, else only ``mainstay worker`` does (``auto``: on SQLite)."""

    __pydantic_config__ = _FORBID

    lease_s: float = 30.0
    in_serve: Annotated[Literal["auto", "yes", "no"], BeforeValidator(_yes_or_no)] = "auto"


def _short(key: str) -> BeforeValidator:
    """A mapping may be given as the one value that matters most."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


@dataclass(frozen=True, kw_only=True)
class ServiceFile:
    """The content of ``mainstay.yaml``."""

    __pydantic_config__ = _FORBID

    name: str = "Mainstay"
    data: str = "data"
    database: Annotated[DatabaseSettings, _short("url")] = DatabaseSettings()
    listen: ListenSettings = ListenSettings()
    identity: IdentitySettings = IdentitySettings()
    sources: tuple[SourceSettings, ...] = ()
    models: ModelSettings = ModelSettings()
    search: Annotated[SearchSettings, _short("engine")] = SearchSettings()
    limits: LimitSettings = LimitSettings()
    worker: WorkerSettings = WorkerSettings()
    smtp: SmtpSettings = SmtpSettings()
    handover: SigningSettings = SigningSettings()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a service folder says. ``folder`` is absolute; relative paths in the files start from it."""

    folder: Path
    service: ServiceFile
    agreement: Agreement

    @property
    def data(self) -> Path:
        return self.folder / self.service.data

    @property
    def database(self) -> str:
        """The database's address: the absolute path of a file, or a URL."""
        url = self.service.database.url
        if "://" in url and not url.startswith("sqlite:"):
            return url
        return str(self.folder / url.removeprefix("sqlite:///")) if url else str(self.data / "mainstay.db")


def service_folder(named: str | None) -> Path:
    """The folder to work in: as named, else ``$MAINSTAY_FOLDER``, else the nearest one upwards that holds ``mainstay.yaml``."""
    if named or (named := os.environ.get(FOLDER_VARIABLE)):
        return Path(named).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / SERVICE_FILE).is_file()), here)


def load(folder: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check a service folder. Errors: Invalid with file and line; all mistakes of a file are in one message each."""
    if not (folder / SERVICE_FILE).is_file():
        raise Invalid(f"no {SERVICE_FILE} here", where=str(folder), fix=f"run: mainstay init {folder}")
    values = os.environ if environment is None else environment
    service, lines = _read(folder / SERVICE_FILE, ServiceFile, values)
    agreement_file = folder / AGREEMENT_FILE
    agreement = Agreement()
    agreed: Lines = {}
    if agreement_file.is_file():
        agreement, agreed = _read(agreement_file, Agreement, values)
    settings = Settings(folder=folder, service=service, agreement=agreement)
    try:
        _check_sense(settings)
    except Invalid as error:
        raise _placed(error, str(folder / SERVICE_FILE), lines) from None
    _check_agreement(settings, agreed)
    return settings


def read_agreement(file: Path, environment: Mapping[str, str] | None = None) -> Agreement:
    """An agreement from a file of its own, not held against any service. Errors: Invalid with file and line."""
    if not file.is_file():
        raise Invalid("no such file", where=str(file))
    return _read(file, Agreement, os.environ if environment is None else environment)[0]


class Contradictory(Invalid):
    """The agreement contradicts itself or the models it is to be kept with: it is not run. ``mistakes`` are all of them."""

    def __init__(self, mistakes: Sequence[Invalid]) -> None:
        first, more = mistakes[0], len(mistakes) - 1
        said = f"{first.what} (and {more} more: see mainstay check)" if more else first.what
        super().__init__(said, where=first.where, fix=first.fix)
        self.mistakes = tuple(mistakes)


def _check_agreement(settings: Settings, lines: Lines) -> None:
    found = contradictions(settings.agreement, model_facts(settings.service))
    if not found:
        return
    file = str(settings.folder / AGREEMENT_FILE)
    mistakes = []
    for one in found:
        path = tuple(int(part) if part.isdigit() else part for part in one.key.split("."))
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        where = f"{file}:{line}" if line else file
        mistakes.append(Invalid(f"{one.what} ({one.key})", where=where, fix=one.fix))
    raise Contradictory(mistakes)


def model_facts(service: ServiceFile) -> dict[str, ModelFacts]:
    """What the agreement is held against: the language models of these settings, the built-in one among them."""
    answers = _all(service.models.answer)
    facts = {EXTRACTIVE: ModelFacts(name=EXTRACTIVE, local=True, answers=EXTRACTIVE in answers)}
    for name, provider in service.models.providers.items():
        if provider.dims is None:
            prices = None if provider.price is None else _prices(provider.price)
            facts[name] = ModelFacts(
                name=name,
                input_price=None if prices is None else prices[0],
                output_price=None if prices is None else prices[1],
                call_price=0 if prices is None else prices[2],
                context_tokens=provider.context_tokens,
                region=provider.region,
                local=_on_this_machine(provider.base_url),
                answers=name in answers,
            )
    return facts


def _all(named: str | Sequence[str]) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else tuple(named)


def _prices(price: PriceSettings) -> tuple[int, int, int] | None:
    """Input and output in nano-dollars per million tokens, and per call; None for what is no price: who calls the model
    says so."""
    try:
        return nanodollars_of(price.input), nanodollars_of(price.output), nanodollars_of(price.request)
    except Invalid:
        return None


def _on_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or host.startswith("127.")


def _check_sense(settings: Settings) -> None:
    service, where = settings.service, str(settings.folder / SERVICE_FILE)
    known = ["extractive", *service.models.providers]
    for name in service.models.language_models:
        if name not in known:
            raise Invalid(f"models.answer names {name!r}, which is not set up", where=where, fix=_nearest(name, known))
    known = ["static", "minilm", *service.models.providers]
    if service.models.embedder not in known:
        raise Invalid(
            f"models.embedder names {service.models.embedder!r}, which is not set up",
            where=where,
            fix=_nearest(service.models.embedder, known),
        )
    names = [source.name for source in service.sources]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise Invalid(
                f"two sources are named {name!r} (sources.{n}.name)",
                where=where,
                fix="give each its own name: documents belong to it",
            )
        if name == "api" or not re.fullmatch(r"[\w.-]{1,64}", name):
            raise Invalid(
                f"{name!r} can not name a source (sources.{n}.name)",
                where=where,
                fix="use letters, digits, - . _ (and not 'api')",
            )
    for n, source in enumerate(service.sources):
        try:
            every_seconds(source)
        except Invalid as error:
            raise Invalid(f"{error.what} (sources.{n}.every)", where=where, fix=error.fix) from None
    handover = settings.agreement.handover
    if handover.webhook and checked_webhook(handover.webhook) and not service.handover.secret:
        raise Invalid(
            "agreement.yaml names handover.webhook, and handover.secret is missing: webhooks are signed",
            where=where,
            fix="add handover: {secret: '${MAINSTAY_WEBHOOK_SECRET}'}",
        )
    for address in handover.email:
        checked_address(address, "handover.email of agreement.yaml")
    if handover.email and not (service.smtp.host and "@" in service.smtp.sender):
        raise Invalid(
            "agreement.yaml names handover.email, and smtp.host or smtp.sender is missing",
            where=where,
            fix="add smtp: {host: mail.example.org, sender: mainstay@example.org}",
        )
    for number, what in ((service.listen.port, "listen.port"), (service.smtp.port, "smtp.port")):
        if not 0 <= number <= 65535:
            raise Invalid(f"{what} is {number}, not 0 to 65535", where=where)
    scheme = service.database.url.partition("://")[0] if "://" in service.database.url else "sqlite"
    if scheme.partition("+")[0] not in ("sqlite", "postgres", "postgresql"):
        raise Invalid(
            f"database.url begins with {scheme[:40]}://, which is neither a file nor PostgreSQL",
            where=where,
            fix="write a file's path, or postgresql://user:password@host/name",
        )
    if service.search.engine == "database" and not settings.database.startswith(
        ("postgresql:", "postgres:", "postgresql+")
    ):
        raise Invalid("search.engine is database, which SQLite can not", where=where, fix="use exact, or PostgreSQL")
    if service.search.weight is not None and not 0 <= service.search.weight <= 1:
        raise Invalid(f"search.weight is {service.search.weight}, not 0 to 1", where=where)
    for value, what in (
        (service.search.candidates, "search.candidates"),
        (service.search.per_document, "search.per_document"),
        (service.limits.question_chars, "limits.question_chars"),
        (service.limits.document_mb, "limits.document_mb"),
        (service.database.pool, "database.pool"),
        (service.database.statement_timeout_s, "database.statement_timeout_s"),
        (service.database.lock_timeout_s, "database.lock_timeout_s"),
        (service.worker.lease_s, "worker.lease_s"),
    ):
        if value < 1:
            raise Invalid(f"{what} is {value}, it must be at least 1", where=where)


_Read = TypeVar("_Read")
Lines = Mapping[tuple[str | int, ...], int]  # the line on which the value of each path stands


def _read(file: Path, shape: type[_Read], environment: Mapping[str, str]) -> tuple[_Read, Lines]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise Invalid(f"larger than {MAX_FILE_BYTES} bytes", where=str(file))
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8 (byte {error.start})", where=str(file)) from None
    except OSError as error:
        raise Invalid(f"can not be read ({error.strerror})", where=str(file)) from None
    lines: dict[tuple[str | int, ...], int] = {}
    value = parse_yaml(text, str(file), lines, environment)
    try:
        return TypeAdapter(shape).validate_python(value if value is not None else {}), lines
    except ValidationError as error:
        raise _explained(error, shape, str(file), lines) from None
    except MainstayError as error:
        raise _placed(error, str(file), lines) from None


def _placed(error: MainstayError, file: str, lines: Lines) -> Invalid:
    """A mistake that names its key, with the line where the key stands."""
    for name in re.findall(r"[\w.]+", error.what):
        path = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        if len(path) > 1 and path in lines:
            return Invalid(error.what, where=f"{file}:{lines[path]}", fix=error.fix)
    return Invalid(error.what, where=file, fix=error.fix)


def _explained(error: ValidationError, shape: Any, file: str, lines: Lines) -> Invalid:
    first = error.errors()[0]
    path = first["loc"]
    line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)
    if not path:
        return Invalid("not a mapping of keys to values", where=f"{file}:1", fix="write key: value lines")
    name = ".".join(str(part) for part in path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        valid = _keys_at(shape, path[:-1])
        return Invalid(f"unknown key {name!r}{more}", where=f"{file}:{line}", fix=_nearest(str(path[-1]), valid))
    if first["type"] in ("missing", "missing_argument"):
        return Invalid(f"{name!r} is missing{more}", where=f"{file}:{line}", fix="add it")
    secret = any(part in name for part in ("api_key", "secret", "password", "database", "handover", "headers"))
    shown = "" if secret else f", not {str(first.get('input'))[:60]!r}"
    return Invalid(f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}{more}", where=f"{file}:{line}")


def _keys_at(shape: Any, path: tuple[str | int, ...]) -> list[str]:
    """The keys a dataclass knows at this path inside the settings."""
    for part in path:
        if is_dataclass(shape) and isinstance(part, str):
            shape = get_type_hints(shape).get(part)
        choices = [choice for choice in get_args(shape) if choice not in (type(None), str, ...)]
        while choices and not is_dataclass(shape):
            shape = choices[-1]
            choices = [choice for choice in get_args(shape) if choice not in (type(None), str, ...)]
    return [held.name for held in fields(shape)] if is_dataclass(shape) else []


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid here: {', '.join(known)}"


def expanded(value: str, where: str) -> str:
    """A value given on the command line, ``${NAME}`` in it read from the environment as in the files: for secrets, which
    everybody on the machine can see on a command line."""
    return str(parse_yaml(json.dumps(value), where, {}, os.environ))


def parse_rules(file: Path) -> SourceSettings:
    """The rules of a source from a file of their own (``mainstay ingest --rules``); name and folder are the caller's."""
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        value = parse_yaml(file.read_text(encoding="utf-8"), str(file), lines)
        return TypeAdapter(SourceSettings).validate_python({"name": "rules", "folder": ".", **(value or {})})
    except UnicodeDecodeError:
        raise Invalid("not UTF-8", where=str(file)) from None
    except ValidationError as error:
        raise _explained(error, SourceSettings, str(file), lines) from None
