"""Where documents come from: a folder, listed completely or not at all, with the access stated beside the files.

Rules of access, most general first: the source's own rule (settings or ``--access``), ``.access.yaml`` from the root folder down,
rules by pattern (settings), what the document itself states. The nearest ``allow`` wins, every ``deny`` adds. A rule file that can
not be read makes everything under it private: a mistake may hide a document, never show one.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mainstay.access.acl import Acl, inherit, parse_acl
from mainstay.corpus.ports import AccessRule
from mainstay.errors import Invalid, MainstayError, Unavailable

ACCESS_FILES = (".access.yaml", ".access.yml")
MAX_ACCESS_FILE_BYTES = 64 * 1024
MAX_RECORD_BYTES = 2 * 1024 * 1024
MAX_RECORDS_FILE_BYTES = 256 * 1024 * 1024
PRIVATE = Acl((), ())


@dataclass(frozen=True, kw_only=True)
class RecordRule:
    """How a file of many records (JSON list, JSON Lines, gzip of either) becomes one document a record.

    ``id`` and ``title`` name fields; ``access`` holds principals with ``{field}`` in them (``{field|slug}``: in
    small letters, - for
    spaces); ``metadata`` names fields to keep as
    typed metadata; ``text`` the fields to show (all, when empty); ``omit`` fields never to read.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which wants a plain dict

    id: str
    title: str = ""
    access: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PatternRule:
    """Access, or splitting into records, for files whose relative path matches ``match`` (shell pattern)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - as above

    match: str
    access: Any = None
    records: RecordRule | None = None
    skip: bool = False


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """A folder to synchronise. ``folder`` is relative to the service folder; ``exclude`` holds shell patterns; ``every``
    is how often workers look at it by themselves (30s, 10m, 1h; empty: only when told to)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - as above

    name: str
    folder: str
    access: Any = None
    rules: tuple[PatternRule, ...] = ()
    exclude: tuple[str, ...] = ()
    every: str = ""


def every_seconds(settings: SourceSettings) -> float | None:
    """How often workers synchronise it by themselves. Errors: Invalid."""
    if not settings.every:
        return None
    said = _EVERY.fullmatch(settings.every)
    if said is None or not 1 <= (seconds := int(said[1]) * _SECONDS[said[2]]) <= _LONGEST_EVERY_S:
        raise Invalid(
            f"every: {settings.every[:40]!r} of source {settings.name} is no time between 1s and 30d",
            fix="write it like 30s, 10m, 1h or 1d",
        )
    return float(seconds)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EVERY = re.compile(r"([0-9]{1,9})([smhd])")
_LONGEST_EVERY_S = 30 * 86400


@dataclass(frozen=True, kw_only=True)
class Item:
    """One document to be: where it is, what it weighs, who may see it. ``content`` is set when it is a record of a file."""

    path: str
    file: Path
    uri: str
    size: int
    digest: str
    modified: datetime | None
    inherited: AccessRule
    chain: tuple[Acl | None, ...] = ()
    content: bytes | None = None
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    own_access: Acl | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A complete walk over a source. ``unread`` names folders and files that could not be listed: nothing under them is gone."""

    items: tuple[Item, ...]
    unread: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class FolderSource:
    """A folder on this machine. Hidden files, symbolic links and ``exclude`` patterns are not listed."""

    kind = "folder"

    def __init__(self, settings: SourceSettings, root: Path) -> None:
        self.settings, self.root = settings, root
        self.name = settings.name
        self.every_s = every_seconds(settings)
        self._base = parse_acl(settings.access, f"source {settings.name}") if settings.access is not None else None
        self._rules = [
            (
                rule,
                parse_acl(rule.access, f"source {settings.name}, rule {rule.match}")
                if rule.access is not None
                else None,
            )
            for rule in settings.rules
        ]

    def list(self) -> Listing:
        """Walk everything. Errors: Unavailable when the root itself can not be listed."""
        if not self.root.is_dir() and not self.root.is_file():
            raise Unavailable(
                "this folder does not exist or is not mounted", where=str(self.root), fix="nothing was changed"
            )
        walk = _Walk()
        chain: tuple[Acl | None, ...] = (self._base,)
        origin = f"source:{self.name}"
        for folder in reversed(self.root.parents):  # what is stated above the source holds inside it too
            chain, _ = self._stated(folder, PurePosixPath(), chain, origin, walk)
        if self.root.is_file():
            self._file(self.root, PurePosixPath(self.root.name), chain, origin, walk)
        else:
            self._folder(self.root, PurePosixPath(), chain, origin, walk)
        walk.problems.extend(
            f"rule {rule.match!r} states access but matches no file"
            for rule, acl in self._rules
            if acl is not None and rule.match not in walk.used
        )
        return Listing(
            items=tuple(sorted(walk.items, key=lambda item: item.path)),
            unread=tuple(sorted(walk.unread)),
            problems=tuple(walk.problems),
        )

    def _folder(self, folder: Path, at: PurePosixPath, chain: tuple[Acl | None, ...], origin: str, walk: _Walk) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if at == PurePosixPath():
                raise Unavailable(
                    f"can not be listed ({error.strerror})", where=str(folder), fix="nothing was changed"
                ) from None
            walk.unread.append(f"{at}/")
            walk.problems.append(f"{at}: can not be listed ({error.strerror}); what is known of it stays")
            return
        chain, origin = self._stated(folder, at, chain, origin, walk)
        for entry in entries:
            here = at / entry.name
            if entry.name.startswith(".") or self._excluded(here):
                continue
            if not _utf8(entry.name):
                walk.problems.append(f"{at}: a file name that is not UTF-8 is left out: {entry.name!r}")
                continue
            if entry.is_symlink():  # the rules beside a link are not those beside what it leads to
                walk.problems.append(f"{here}: a link is not followed")
            elif entry.is_dir(follow_symlinks=False):
                self._folder(Path(entry.path), here, chain, origin, walk)
            elif entry.is_file(follow_symlinks=False):
                self._file(Path(entry.path), here, chain, origin, walk)

    def _stated(
        self, folder: Path, at: PurePosixPath, chain: tuple[Acl | None, ...], origin: str, walk: _Walk
    ) -> tuple[tuple[Acl | None, ...], str]:
        rule_files = [folder / name for name in ACCESS_FILES if os.path.lexists(folder / name)]
        if not rule_files:
            return chain, origin
        try:
            if len(rule_files) > 1:
                raise Invalid(f"stands beside {rule_files[1].name}", where=str(rule_files[0]), fix="keep one of them")
            rule: Acl | None = read_access_file(rule_files[0])
        except (MainstayError, OSError) as error:
            walk.problems.append(f"{error}; everything in this folder is private until it is mended")
            return (*chain, None, _Closed), f"folder:{self.name}/{at}"
        return (*chain, rule), f"folder:{self.name}/{at}"

    def _excluded(self, path: PurePosixPath) -> bool:
        return any(_matches(path, pattern) for pattern in self.settings.exclude)

    def _file(self, file: Path, at: PurePosixPath, chain: tuple[Acl | None, ...], origin: str, walk: _Walk) -> None:
        records: RecordRule | None = None
        for rule, acl in self._rules:
            if _matches(at, rule.match):
                if rule.skip:
                    return
                if acl is not None:
                    chain = (*chain, acl)
                    # One pattern reaches into many folders whose denies differ: its documents share a class only where the
                    # whole chain says the same.
                    origin = origin_of(resolve(chain))
                    walk.used.add(rule.match)
                records = rule.records or records
        try:
            stat = file.stat()
            if records is None:
                walk.items.append(self._item(file, at, chain, origin, stat))
            else:
                walk.items.extend(self._records(file, at, chain, stat, records, walk))
        except OSError as error:
            walk.unread.append(str(at))
            walk.problems.append(f"{at}: can not be read ({error.strerror}); what is known of it stays")

    def _item(
        self, file: Path, at: PurePosixPath, chain: tuple[Acl | None, ...], origin: str, stat: os.stat_result
    ) -> Item:
        return Item(
            path=str(at),
            file=file,
            uri=str(at),
            size=stat.st_size,
            digest=_digest(file),
            modified=datetime.fromtimestamp(stat.st_mtime, UTC),
            inherited=AccessRule(origin=origin, acl=resolve(chain)),
            chain=chain,
        )

    def _records(
        self,
        file: Path,
        at: PurePosixPath,
        chain: tuple[Acl | None, ...],
        stat: os.stat_result,
        rule: RecordRule,
        walk: _Walk,
    ) -> Iterator[Item]:
        seen: set[str] = set()
        try:
            for number, record in enumerate(read_records(file), 1):
                name = str(record.get(rule.id, number)) if rule.id else str(number)
                if name in seen:
                    walk.problems.append(f"{at}: record {number} repeats {rule.id} {name!r} and is left out")
                    continue
                seen.add(name)
                try:
                    yield self._record(file, at, name, record, chain, stat, rule)
                except Invalid as error:
                    walk.problems.append(f"{at}: record {number} is private: {error.line()}")
                    yield self._record(file, at, name, record, (*chain, _Closed), stat, replace(rule, access=()))
        except Invalid as error:
            walk.unread.append(str(at))
            walk.problems.append(error.line())

    def _record(
        self,
        file: Path,
        at: PurePosixPath,
        name: str,
        record: Mapping[str, Any],
        chain: tuple[Acl | None, ...],
        stat: os.stat_result,
        rule: RecordRule,
    ) -> Item:
        shown = {
            key: value for key, value in record.items() if key not in rule.omit and (not rule.text or key in rule.text)
        }
        body = json.dumps(shown, ensure_ascii=False, sort_keys=False).encode()
        stated = _principals(rule.access, record)
        chain = (*chain, Acl(stated, ())) if rule.access else chain
        acl = resolve(chain)
        title = str(record.get(rule.title) or name)
        metadata = {key: record[key] for key in rule.metadata if record.get(key) is not None}
        return Item(
            path=f"{at}#{name}",
            file=file,
            uri=f"{at}#{name}",
            size=len(body),
            digest=hashlib.sha256(body + repr((title, sorted(metadata.items()))).encode()).hexdigest(),
            modified=datetime.fromtimestamp(stat.st_mtime, UTC),
            inherited=AccessRule(origin=origin_of(acl), acl=acl),
            chain=chain,
            content=body,
            title=title,
            metadata=metadata,
        )


@dataclass
class _Walk:
    items: list[Item] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


# Stands in a chain for a rule that could not be read; nothing stated below it can open what it closed.
_Closed = Acl((), ("*",))


def resolve(chain: Sequence[Acl | None]) -> Acl:
    """The rule in force at the end of a chain, root first."""
    return PRIVATE if any(acl is _Closed for acl in chain) else inherit(chain)


def origin_of(acl: Acl) -> str:
    """The origin of a rule that one document states for itself: equal rules share one class."""
    return "acl:" + hashlib.sha256(repr((sorted(acl.allow), sorted(acl.deny))).encode()).hexdigest()[:24]


def read_access_file(file: Path) -> Acl:
    """The rule in an ``.access.yaml``. Errors: Invalid with file and line."""
    if file.stat().st_size > MAX_ACCESS_FILE_BYTES:
        raise Invalid(f"larger than {MAX_ACCESS_FILE_BYTES} bytes", where=str(file))
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise Invalid("not UTF-8", where=str(file)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise Invalid(f"not YAML ({getattr(error, 'problem', error)})", where=f"{file}{line}") from None
    if isinstance(value, dict) and set(value) == {"access"}:
        value = value["access"]
    return parse_acl(value if value is not None else [], str(file))


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON list or JSON Lines file, plain or gzip. Errors: Invalid with file and line."""
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as raw:
            data = raw.read(MAX_RECORDS_FILE_BYTES + 1)
        if len(data) > MAX_RECORDS_FILE_BYTES:
            raise Invalid(f"more than {MAX_RECORDS_FILE_BYTES} bytes of records", where=str(file))
        if data.lstrip()[:1] == b"[":
            values: Any = json.loads(data)
            yield from (_record_of(value, file, n) for n, value in enumerate(values, 1))
        else:
            for n, line in enumerate(io.BytesIO(data), 1):
                if len(line) > MAX_RECORD_BYTES:
                    raise Invalid(f"a record of more than {MAX_RECORD_BYTES} bytes", where=f"{file}:{n}")
                if line.strip():
                    yield _record_of(json.loads(line), file, n)
    except (ValueError, RecursionError, EOFError, gzip.BadGzipFile) as error:
        raise Invalid(f"not a file of records ({error})", where=str(file)) from None


def _record_of(value: Any, file: Path, n: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"record {n} is not an object", where=str(file))
    return value


def _principals(templates: Sequence[str], record: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for template in templates:
        text = template
        for key, value in record.items():
            said = str(value).strip() if value else ""
            text = text.replace("{" + key + "}", said).replace("{" + key + "|slug}", "-".join(said.lower().split()))
        if "{" not in text and not text.endswith(":"):  # a field that is missing names nobody
            found.extend(parse_acl([text], "access of a record").allow)
    return tuple(dict.fromkeys(found))


def _matches(path: PurePosixPath, pattern: str) -> bool:
    """Shell patterns over names as people see them: file systems spell an accented letter in one or in two characters."""
    return fnmatch.fnmatchcase(unicodedata.normalize("NFC", str(path)), unicodedata.normalize("NFC", pattern))


def _digest(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
