"""Reads the service folder. Each room declares its own frozen settings; this file fills them and is alone in reading
the environment.

A mistake is refused with file, line, reason and, for a misspelt key, the nearest valid one.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from mainstay.access.acl import parse_acl
from mainstay.access.oidc import OidcSettings
from mainstay.agreement import Agreement
from mainstay.agreement.sense import EXTRACTIVE, Contradiction, ModelFacts, contradictions
from mainstay.corpus.sources import SourceSettings, every_seconds
from mainstay.errors import Invalid, MainstayError
from mainstay.handover import SigningSettings, SmtpSettings, checked_address, checked_webhook
from mainstay.models.prices import nanodollars_of
from mainstay.records.alerts import AlertSettings
from mainstay.records.audit.settings import AuditSettings
from mainstay.records.content import RecordSettings
from mainstay.records.otlp.settings import TelemetrySettings
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
            if not 0 < getattr(self, name) < math.inf:
                raise Invalid(f"models.providers.{name} is {getattr(self, name)}, it must be more than 0")


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


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """``open: true`` lets anybody who reaches the service read ``/metrics``, as a scraper without a key must."""

    __pydantic_config__ = _FORBID

    open: bool = False


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
    alerts: AlertSettings = AlertSettings()
    metrics: MetricsSettings = MetricsSettings()
    records: RecordSettings = RecordSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    audit: AuditSettings = AuditSettings()


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
    told = {one.key for one in found}
    found += [one for one in _not_sent(settings) if one.key not in told]
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


def _not_sent(settings: Settings) -> Iterator[Contradiction]:
    """Why questions for a person could not leave the service, as agreement and settings are."""
    handover, service = settings.agreement.handover, settings.service
    if handover.webhook:
        try:
            checked_webhook(handover.webhook)
        except Invalid as error:
            yield Contradiction(key="handover.webhook", what=error.what, fix=error.fix or "write https://host/path")
        else:
            if not service.handover.secret:
                yield Contradiction(
                    key="handover.webhook",
                    what=f"webhooks are signed, and handover.secret is missing in {SERVICE_FILE}",
                    fix="add to it: handover: {secret: '${MAINSTAY_WEBHOOK_SECRET}'}",
                )
    for n, address in enumerate(handover.email):
        try:
            checked_address(address, "handover.email")
        except Invalid as error:
            yield Contradiction(key=f"handover.email.{n}", what=error.what, fix=error.fix)
    if handover.email and not (service.smtp.host and service.smtp.sender):
        yield Contradiction(
            key="handover.email",
            what=f"messages need a mail server, and smtp.host or smtp.sender is missing in {SERVICE_FILE}",
            fix="add to it: smtp: {host: mail.example.org, sender: mainstay@example.org}",
        )


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
        stated = [(source.access, f"sources.{n}.access")]
        stated += [(rule.access, f"sources.{n}.rules.{m}.access") for m, rule in enumerate(source.rules)]
        for access, key in stated:
            if access is not None:
                try:
                    parse_acl(access, key)
                except Invalid as error:
                    raise Invalid(f"{error.what} ({key})", where=where, fix=error.fix) from None
    if service.smtp.sender:
        checked_address(parseaddr(service.smtp.sender)[1] or service.smtp.sender, "smtp.sender")
    _check_witness(service, where)
    _check_alerts(service, where)
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
        if not 1 <= value < math.inf:
            raise Invalid(f"{what} is {value}, it must be at least 1", where=where)


def _check_witness(service: ServiceFile, where: str) -> None:
    """Whether heads of the audit log can leave as the settings want."""
    witness = service.audit.witness
    if witness.webhook:
        try:
            checked_webhook(witness.webhook)
        except Invalid as error:
            raise Invalid(f"{error.what} (audit.witness.webhook)", where=where, fix=error.fix) from None
        if not service.handover.secret:
            raise Invalid(
                "webhooks are signed, and handover.secret is missing (audit.witness.webhook)",
                where=where,
                fix="add handover: {secret: '${MAINSTAY_WEBHOOK_SECRET}'}",
            )
    for address in witness.email:
        checked_address(address, "audit.witness.email")
    if witness.email and not (service.smtp.host and service.smtp.sender):
        raise Invalid(
            "messages need a mail server, and smtp.host or smtp.sender is missing (audit.witness.email)",
            where=where,
            fix="add smtp: {host: mail.example.org, sender: mainstay@example.org}",
        )


def _check_alerts(service: ServiceFile, where: str) -> None:
    held = service.alerts
    for url, what in ((held.webhook, "alerts.webhook"), (held.alertmanager, "alerts.alertmanager")):
        if url:
            checked_webhook(url, what)
    for address in held.email:
        checked_address(address, "alerts.email")
    if held.webhook and not service.handover.secret:
        raise Invalid(
            "alerts.webhook is signed, and handover.secret is missing",
            where=where,
            fix="add: handover: {secret: '${MAINSTAY_WEBHOOK_SECRET}'}",
        )
    if held.email and not (service.smtp.host and service.smtp.sender):
        raise Invalid(
            "alerts.email needs a mail server, and smtp.host or smtp.sender is missing",
            where=where,
            fix="add: smtp: {host: mail.example.org, sender: mainstay@example.org}",
        )


_Read = TypeVar("_Read")
KeyPath = tuple[str | int, ...]
Lines = Mapping[KeyPath, int]  # the line on which the value of each path stands


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
    for path in _truths(value, shape):
        name = ".".join(map(str, path))
        raise Invalid(f"{name} is a truth value, not a number", where=f"{file}:{lines[path]}", fix="write a number")
    try:
        return TypeAdapter(shape).validate_python(value if value is not None else {}), lines
    except ValidationError as error:
        raise _explained(error, shape, str(file), lines) from None
    except MainstayError as error:
        raise _placed(error, str(file), lines, value) from None


def _truths(value: Any, shape: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Where true or false stands and a number is wanted, for which Python would take it."""
    if isinstance(value, bool):
        wanted = _choices(shape)
        if bool not in wanted and (int in wanted or float in wanted):
            yield path
    elif isinstance(value, (Mapping, list)):
        for part, held in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _truths(held, _inside(shape, part), (*path, part))


def _placed(error: MainstayError, file: str, lines: Lines, value: Any = None) -> Invalid:
    """A mistake that names its key, with the line where the key stands. Where a row of a list is meant, ``budgets.usd``, it
    is the first that holds, in ``value``, what the mistake says."""
    for name in re.findall(r"[\w.]+", error.what):
        path = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        if len(path) < 2 or not isinstance(path[0], str):
            continue
        places = [path] if path in lines else [held for held in lines if _leads_to(held, path)]
        if places:
            said = (held for held in places if _says(error.what, _at(value, held)))
            return Invalid(error.what, where=f"{file}:{lines[next(said, places[0])]}", fix=error.fix)
    return Invalid(error.what, where=file, fix=error.fix)


def _leads_to(held: KeyPath, path: KeyPath) -> bool:
    """Whether this is the same path but for numbers of rows and names that the file gives."""
    rest = iter(held)
    return bool(held) and held[-1] == path[-1] and all(part in rest for part in path)


def _says(what: str, value: Any) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(repr(value))}(?![\w.]\w)", what) is not None


def _at(value: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _explained(error: ValidationError, shape: Any, file: str, lines: Lines) -> Invalid:
    # A misspelt key comes first: the key that is missing may be the same one.
    unknown = [one for one in error.errors() if one["type"] in ("unexpected_keyword_argument", "extra_forbidden")]
    first = (unknown or error.errors())[0]
    path = first["loc"]
    if not path:
        return Invalid("not a mapping of keys to values", where=f"{file}:1", fix="write key: value lines")
    known = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in lines), ())
    where = f"{file}:{lines.get(known, 1)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if unknown:
        name = ".".join(map(str, path))
        return Invalid(
            f"unknown key {name!r}{more}", where=where, fix=_nearest(str(path[-1]), _keys_at(shape, path[:-1]))
        )
    if first["type"] in ("missing", "missing_argument"):
        return Invalid(f"{'.'.join(map(str, path))!r} is missing{more}", where=where, fix="add it")
    name = ".".join(map(str, known or path))  # without what the checks call the choices of a type
    secret = any(
        part in name for part in ("api_key", "secret", "password", "database", "handover", "headers", "audit.key")
    )
    said, fix = _mended(first, secret=secret)
    shown = "" if secret else f", not {str(first.get('input'))[:60]!r}"
    return Invalid(f"{name}: {said}{shown}{more}", where=where, fix=fix)


def _mended(mistake: Any, *, secret: bool) -> tuple[str, str]:
    """What is wanted instead of a value of the wrong kind, and how to write it."""
    kind, value, said = mistake["type"], mistake.get("input"), mistake["msg"]
    said = f"{said[0].lower()}{said[1:]}"
    plain = isinstance(value, (str, int, float)) and not secret
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(mistake.get("ctx", {}).get("expected", "")))
        close = difflib.get_close_matches(str(value), choices, 1)
        return said, f"did you mean {close[0]!r}?" if close else ""
    if kind == "tuple_type":
        fix = f"write [{_quoted(value)}]" if plain else "write [one, another], or lines that begin with -"
        return "input should be a list", fix
    if kind in ("dataclass_type", "mapping_type", "dict_type"):
        return "input should be keys with values", "leave it out, or write keys under it" if value is None else ""
    if kind in ("float_parsing", "int_parsing"):
        return said, "write a number, without a unit"
    if kind == "string_type" and mistake["loc"][-1] in _LENGTHS and type(value) is int:
        return said, f"write it like {value}s, 10m, 24h, 28d"
    if kind == "string_type" and isinstance(value, bool):
        word = "yes" if value else "no"
        return said, f'YAML reads a bare {word} as {str(value).lower()}: put the word in quotes, like "{word}"'
    if kind == "string_type" and value is not None and not isinstance(value, (Mapping, list)):
        return said, f"put it in quotes: {_quoted(value)}" if plain else "put it in quotes"
    return said, ""


_LENGTHS = frozenset(
    {"window", "keep", "hold_down", "every", "group_wait", "repeat"}
)  # keys that hold a length of time as text


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return json.dumps(str(value)[:60], ensure_ascii=False)


def _keys_at(shape: Any, path: KeyPath) -> list[str]:
    """The keys a dataclass knows at this path inside the settings."""
    for part in path:
        shape = _inside(shape, part)
    return [held.name for one in _choices(shape) if is_dataclass(one) for held in fields(one)]


def _inside(shape: Any, part: str | int) -> Any:
    """What a type wants at one step of a path: of a key, a row, a name that the file gives. None: nothing is known."""
    for one in _choices(shape):
        hints = _hints(one)
        if part in hints:
            return hints[str(part)]
        origin = get_origin(one)
        if origin is tuple and isinstance(part, int):
            return get_args(one)[0]
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            return get_args(one)[1]
    return None


def _choices(shape: Any) -> tuple[Any, ...]:
    """The types that are permitted where this one is."""
    held = get_args(shape) if get_origin(shape) in (Union, UnionType) else (shape,)
    return tuple(one for one in held if one not in (None, NoneType))


@cache
def _hints(shape: Any) -> dict[str, Any]:
    """The keys of a dataclass with their types; none of anything else. Kept: each annotation's source is read."""
    return get_type_hints(shape) if is_dataclass(shape) else {}


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
