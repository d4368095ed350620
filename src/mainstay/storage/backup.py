"""A service in one file, taken while it runs, and brought back whole or not at all.

The file is a plain tar: a manifest, the settings as they stand (with their ``${NAME}``, never the values), and the
database: a copy by ``VACUUM INTO``, or the output of ``pg_dump``. The manifest says of every file how long it is and its
SHA-256, and of every table its rows and checksum as read in the same snapshot. Restoring trusts nothing else: only
members that the manifest names are read, each by us and never by tarfile, so no path and no size in the archive is
followed that was not checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import DatabaseError

from mainstay import __version__
from mainstay.errors import Conflict, Invalid, Unavailable
from mainstay.settings import AGREEMENT_FILE, SERVICE_FILE, Settings, load
from mainstay.storage import migrations
from mainstay.storage.database import Address, address_of, dialect_of
from mainstay.storage.sqlite import copy_database, integrity, is_database, revision_of, sync_folder, there
from mainstay.storage.sums import Shape, Sum, shapes, sum_of

FORMAT = 1
SUFFIX = ".mainstay-backup"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_FILES = 10_000
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES_BYTES = 256 * 1024 * 1024
_DATABASE = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
_FILES = (SERVICE_FILE, AGREEMENT_FILE, "tools.yaml", ".gitignore")
_FOLDERS = ("prompts", "queries")
_CHUNK = 1024 * 1024
_INDEX = "index"  # in the data folder: derived, and of another history after a restore

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    program: str
    created: str
    name: str
    dialect: str
    revision: int
    schema: str
    database: tuple[int, str]  # bytes and SHA-256
    tables: dict[str, tuple[Shape, Sum]]
    files: dict[str, tuple[int, str]]
    format: int = FORMAT

    def dumped(self) -> str:
        tables = {
            name: {"columns": shape.columns, "key": shape.key, **total.written()}
            for name, (shape, total) in self.tables.items()
        }
        return json.dumps({**self.__dict__, "tables": tables}, indent=1, sort_keys=True)

    @classmethod
    def read(cls, content: bytes, where: str) -> Manifest:
        """Errors: Invalid."""
        try:
            held = json.loads(content)
            if held["format"] > FORMAT or held["revision"] > migrations.newest():
                raise Invalid(
                    f"written by a newer Mainstay ({held['program']}, schema {held['revision']})",
                    where=where,
                    fix="upgrade this program",
                )
            held["tables"] = {
                str(name): (
                    Shape(name=str(name), columns=tuple(table["columns"]), key=tuple(table["key"])),
                    Sum.read(table),
                )
                for name, table in held["tables"].items()
            }
            held["files"] = {
                _safe(name, where): (int(size), str(digest)) for name, (size, digest) in held["files"].items()
            }
            held["database"] = (int(held["database"][0]), str(held["database"][1]))
            manifest = cls(**held)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Invalid("its manifest can not be read", where=where, fix="use another backup") from None
        if manifest.dialect not in _DATABASE or len(manifest.files) > MAX_FILES:
            raise Invalid("its manifest makes no sense", where=where, fix="use another backup")
        if sum(size for size, _ in manifest.files.values()) > MAX_FILES_BYTES:
            raise Invalid("its settings are too large", where=where, fix="use another backup")
        return manifest


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did. ``aside`` is where what stood there before is now; ``kept`` names settings that were left."""

    manifest: Manifest
    database: str
    aside: str | None
    written: tuple[str, ...] = field(default=())
    kept: tuple[str, ...] = field(default=())


# -- taking ------------------------------------------------------------------------------------------------------------


def take(
    settings: Settings, target: Path, *, tools: Path | None = None, progress: Progress | None = None
) -> tuple[Path, Manifest]:
    """Write a backup of a service, which may go on serving, into a new file (in ``target``, if that is a folder).

    The schema may be an older one: a backup is what one takes before migrating. Errors: Conflict when the file is there
    already; Invalid when the database is damaged; Unavailable.
    """
    now = datetime.now(UTC)
    if target.is_dir():
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in settings.folder.name) or "service"
        target = target / f"{stem}-{now:%Y%m%d-%H%M%S}{SUFFIX}"
    if target.exists():
        raise Conflict("is there already", where=str(target), fix="name another file")
    if not target.parent.is_dir():
        raise Invalid("no such folder", where=str(target.parent), fix="make it, or name another")
    # Beside the target: the copy is as large as the service, and /tmp may be small.
    with _beside(target) as room:
        address = address_of(settings)
        dialect = dialect_of(address.url)
        copy = room / _DATABASE[dialect]
        files = _settings_files(settings.folder)
        if dialect == "sqlite":
            revision, tables = _copy_file(Path(address.url), copy, progress)
        else:
            revision, tables = _copy_schema(address, copy, tools, progress)
        manifest = Manifest(
            program=__version__,
            created=now.isoformat(timespec="seconds"),
            name=settings.service.name,
            dialect=dialect,
            revision=revision,
            schema=address.schema,
            database=_measured(copy),
            tables=tables,
            files={name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()},
        )
        written = room / "backup"
        _write_tar(written, manifest, files, copy)
        try:
            target.hardlink_to(written)  # unlike renaming, never over a file that came meanwhile
        except FileExistsError:
            raise Conflict("is there already", where=str(target), fix="name another file") from None
        except OSError:  # a file system without links
            written.rename(target)
    sync_folder(target.parent)
    return target, manifest


_Held = tuple[int, dict[str, tuple[Shape, Sum]]]


def _copy_file(path: Path, copy: Path, progress: Progress | None) -> _Held:
    """Copy the file beside those who write to it; the sums are of the copy."""
    if not there(path):
        raise Invalid("no database yet", where=str(path), fix="nothing is there to be kept")
    revision = revision_of(path)
    copy_database(path, copy)
    with _plain(copy) as connection:
        said = integrity(connection)
        if said != "ok":
            raise Invalid(f"the database is damaged ({said})", where=str(path), fix="restore an older backup")
        return revision, _sums(connection, _shapes(connection, None), progress)


def _copy_schema(address: Address, copy: Path, tools: Path | None, progress: Progress | None) -> _Held:
    """Dump the schema; the sums are of the very snapshot that was dumped."""
    from mainstay.storage import pgtools  # brings PostgreSQL's driver

    with pgtools.connected(address, snapshot=True) as connection:
        revision = migrations.revision(connection, pgtools.shown(address), change=False)
        if revision == 0:
            raise Invalid("no service here yet", where=pgtools.shown(address), fix="nothing is there to be kept")
        # The snapshot lives as long as this transaction, which waits for pg_dump meanwhile.
        snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
        pgtools.dump(address, copy, tools=tools, snapshot=snapshot)
        return revision, _sums(connection, _shapes(connection, address.schema), progress)


def _shapes(connection: Connection, schema: str | None) -> list[Shape]:
    """The tables of the truth as they are there: an older schema has fewer, and fewer columns."""
    inspector = inspect(connection)
    known = set(inspector.get_table_names(schema))
    found = []
    for shape in shapes():
        if shape.name in known:
            columns = {held["name"] for held in inspector.get_columns(shape.name, schema)}
            found.append(replace(shape, columns=tuple(name for name in shape.columns if name in columns)))
    return found


def _sums(connection: Connection, tables: Sequence[Shape], progress: Progress | None) -> dict[str, tuple[Shape, Sum]]:
    found = {}
    for done, shape in enumerate(tables):
        if progress:
            progress(done, len(tables), shape.name)
        found[shape.name] = (shape, sum_of(connection, shape))
    if progress:
        progress(len(tables), len(tables), "")
    return found


def _settings_files(folder: Path) -> dict[str, bytes]:
    """The owner's files by relative path, as they are."""
    paths = [folder / name for name in _FILES]
    for name in _FOLDERS:
        paths += sorted((folder / name).rglob("*"))
    files: dict[str, bytes] = {}
    for path in paths:
        if path.is_file():
            if path.stat().st_size > MAX_FILE_BYTES or len(files) == MAX_FILES:
                raise Invalid("too large for a backup of settings", where=str(path), fix="keep it elsewhere")
            files[_safe(path.relative_to(folder).as_posix(), str(folder))] = path.read_bytes()
    if sum(map(len, files.values())) > MAX_FILES_BYTES:
        raise Invalid("settings, prompts and queries are too large together", where=str(folder), fix="move some away")
    return files


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _write_tar(path: Path, manifest: Manifest, files: Mapping[str, bytes], copy: Path) -> None:
    path.touch(mode=0o600)  # it holds every text
    with path.open("r+b") as file:
        with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as tar:
            contents = {
                MANIFEST: manifest.dumped().encode(),
                **{f"folder/{name}": held for name, held in files.items()},
            }
            for name, content in contents.items():
                tar.addfile(_member(name, len(content)), BytesIO(content))
            with copy.open("rb") as held:
                tar.addfile(_member(copy.name, manifest.database[0]), held)
        file.flush()
        os.fsync(file.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


# -- bringing back -----------------------------------------------------------------------------------------------------


def look(backup: Path) -> Manifest:
    """What is in a backup. Errors: Invalid, also for a newer one."""
    with _opened(backup) as tar:
        return _manifest(tar, backup)[0]


def restore(
    backup: Path, folder: Path, *, force: bool = False, tools: Path | None = None, progress: Progress | None = None
) -> Restored:
    """Bring a service back into its folder, or into a new one.

    A database that is there is replaced only with ``force``, and kept beside the new one; settings that are there stay.
    Errors: Invalid for a damaged backup, Conflict for a service that is there or in use: nothing was changed then.
    """
    folder = folder.absolute()
    new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if new and not folder.parent.is_dir():
        raise Invalid("no such folder", where=str(folder.parent), fix="make it, or name another")
    if not new and not folder.is_dir():
        raise Invalid("not a folder", where=str(folder), fix="name another with --into")
    with _beside(folder if new else folder / SERVICE_FILE) as room:
        stage = room / "service"
        stage.mkdir(mode=0o755)
        manifest = _unpack_settings(backup, stage)
        settings = _settings_for(folder, stage)
        if dialect_of(settings.database) != manifest.dialect:
            raise Invalid(
                f"a backup of {manifest.dialect}, but {SERVICE_FILE} names {dialect_of(settings.database)}",
                where=str(folder),
                fix="restore into a new folder with --into, then run there: mainstay migrate --to URL",
            )
        index = settings.data / _INDEX
        if manifest.dialect == "sqlite":
            place = Path(settings.database)
            inside = new and place.is_relative_to(folder)
            final = stage / place.relative_to(folder) if inside else place
            aside = _bring_file(backup, manifest, final, index, force=force, progress=progress)
        else:
            place = None
            aside = _bring_schema(backup, manifest, address_of(settings), room, index, force=force, tools=tools)
        written, kept = _place_settings(stage, folder, new=new)
    return Restored(
        manifest=manifest,
        database=str(place or manifest.schema),
        aside=aside,
        written=tuple(written),
        kept=tuple(kept),
    )


def _settings_for(folder: Path, stage: Path) -> Settings:
    """The folder's own settings where it has some, else those of the backup, as they will stand in the folder."""
    if (folder / SERVICE_FILE).is_file():
        return load(folder)
    if not (stage / SERVICE_FILE).is_file():
        raise Invalid(f"the backup holds no {SERVICE_FILE}", where=str(folder), fix=f"run: mainstay init {folder}")
    return replace(load(stage), folder=folder)


def _place_settings(stage: Path, folder: Path, *, new: bool) -> tuple[list[str], list[str]]:
    """Settings that are missing are written; others are their owner's and stay. Which are which."""
    names = [path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")) if path.is_file()]
    files = [name for name in names if name in _FILES or PurePosixPath(name).parts[0] in _FOLDERS]
    if new:
        with suppress(FileNotFoundError):
            folder.rmdir()  # an empty one
        stage.rename(folder)
        sync_folder(folder.parent)
        return files, []
    written, kept = [], []
    for name in files:
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(stage / name, target)
            written.append(name)
        elif target.read_bytes() != (stage / name).read_bytes():
            kept.append(name)
    return written, kept


def _bring_file(
    backup: Path, manifest: Manifest, final: Path, index: Path, *, force: bool, progress: Progress | None
) -> str | None:
    """The database file, written beside its place and verified there, then renamed into it."""
    logs = [final.with_name(f"{final.name}-{end}") for end in ("wal", "shm")]
    taken = final.exists() or any(log.exists() for log in logs)
    if taken and not force:
        raise Conflict(
            "there is a database already",
            where=str(final),
            fix="name a new folder with --into, or repeat with --force: what is there is kept beside it",
        )
    if final.is_dir():
        raise Invalid("a folder stands where the database belongs", where=str(final), fix="move it away")
    final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    need, free = manifest.database[0], shutil.disk_usage(final.parent).free
    if need > free:
        raise Unavailable(
            f"needs {need // 1024**2 + 1} MB, {free // 1024**2} MB are free",
            where=str(final.parent),
            fix="free disk space",
        )
    with _beside(final) as room:
        staged = room / final.name
        _unpack_database(backup, manifest, staged)
        with _plain(staged) as connection:
            said = integrity(connection)
            if said != "ok":
                raise Invalid(f"its database is damaged ({said})", where=str(backup), fix="use another backup")
            _verify(connection, manifest, str(backup), progress)
        aside = _set_aside(final, logs) if taken else None
        shutil.rmtree(index, ignore_errors=True)  # before: an index of another history must never meet the database
        staged.replace(final)
        sync_folder(final.parent)
    return aside


def _set_aside(final: Path, logs: Sequence[Path]) -> str:
    """Give the database that stands there a second name. Errors: Conflict while anybody has it open."""
    aside = final.with_name(f"{final.name}.replaced-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    if final.exists() and is_database(final):
        with (
            suppress(sqlite3.DatabaseError),  # damaged: kept as it is, with its log
            closing(sqlite3.connect(f"{final.as_uri()}?mode=rw", uri=True, timeout=1.0, isolation_level=None)) as held,
        ):
            _fold(held, final)
    for log in logs:  # a log left there would be played into the restored file
        if log.exists():
            log.rename(aside.with_name(f"{aside.name}{log.name.removeprefix(final.name)}"))
    if final.exists():
        try:
            aside.hardlink_to(final)  # it keeps its name until the new one takes it
        except OSError:  # a file system without links
            final.rename(aside)
    return str(aside)


def _fold(held: sqlite3.Connection, final: Path) -> None:
    """Leave the write-ahead log, which takes being alone with the file, and leaves everything in it."""
    try:
        held.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise Conflict(
                "the service has its database open", where=str(final), fix="stop mainstay serve and mainstay worker"
            ) from None
        raise


def _bring_schema(
    backup: Path, manifest: Manifest, address: Address, room: Path, index: Path, *, force: bool, tools: Path | None
) -> str | None:
    from mainstay.storage import pgtools  # brings PostgreSQL's driver

    if address.schema != manifest.schema:
        raise Invalid(
            f"a backup of the schema {manifest.schema}, but database.schema is {address.schema}",
            where=str(backup),
            fix=f"name {manifest.schema} in {SERVICE_FILE}",
        )
    dumped = room / _DATABASE[manifest.dialect]
    pgtools.find(
        "pg_restore", tools, f"tar -xf {backup} {dumped.name}; pg_restore --single-transaction ... {dumped.name}"
    )
    _unpack_database(backup, manifest, dumped)
    name = f"{address.schema[:40]}_replaced_{datetime.now(UTC):%Y%m%d%H%M%S}"
    try:
        aside = pgtools.set_aside(address, name, force=force)
    except FileExistsError:
        raise Conflict(
            f"there is a service already in the schema {address.schema}",
            where=str(backup),
            fix="stop it and repeat with --force: what is there is kept under another name",
        ) from None
    shutil.rmtree(index, ignore_errors=True)  # before: an index of another history must never meet the database
    try:
        pgtools.load(address, dumped, tools=tools)
        with pgtools.connected(address) as connection:
            _verify(connection, manifest, str(backup), None)
    except BaseException:
        pgtools.put_back(address, aside)
        raise
    return aside


def _verify(connection: Connection, manifest: Manifest, where: str, progress: Progress | None) -> None:
    """The tables hold what the manifest says, and the schema is the one it names."""
    try:
        revision = connection.scalar(text("SELECT number FROM schema_revision"))
        found = _sums(connection, [shape for shape, _ in manifest.tables.values()], progress)
    except DatabaseError as error:
        raise Invalid(f"its database can not be read ({error.orig})", where=where, fix="use another backup") from None
    wrong = [name for name, held in manifest.tables.items() if found[name] != held]
    if wrong or revision != manifest.revision:
        raise Invalid(
            f"its database is not what its manifest says ({', '.join(wrong) or 'schema'})",
            where=where,
            fix="use another backup",
        )


# -- the archive -------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(backup: Path) -> Iterator[tarfile.TarFile]:
    """Uncompressed tar alone: nothing in it can be larger than the file itself."""
    try:
        with tarfile.open(backup, mode="r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise Invalid(f"not a backup, or damaged ({error})", where=str(backup), fix="use another backup") from None
    except FileNotFoundError:
        raise Invalid("no such file", where=str(backup), fix="name a file made by mainstay backup") from None
    except IsADirectoryError:
        raise Invalid("a folder, not a backup", where=str(backup), fix="name a file made by mainstay backup") from None


def _manifest(tar: tarfile.TarFile, backup: Path) -> tuple[Manifest, tarfile.TarInfo]:
    member = tar.next()
    if member is None or member.name != MANIFEST or not _plain_file(member) or member.size > MAX_MANIFEST_BYTES:
        raise Invalid("not a backup of Mainstay", where=str(backup), fix="name a file made by mainstay backup")
    content = _content(tar, member).read()
    return Manifest.read(content, str(backup)), member


def _members(
    tar: tarfile.TarFile, manifest: Manifest, backup: Path
) -> Iterator[tuple[str, tarfile.TarInfo, tuple[int, str]]]:
    """Each member that the manifest names: its name, itself, its length and digest. Errors: Invalid for any other."""
    wanted = {f"folder/{name}": held for name, held in manifest.files.items()}
    wanted[_DATABASE[manifest.dialect]] = manifest.database
    while (member := tar.next()) is not None:
        said = wanted.pop(member.name, None)
        if said is None or not _plain_file(member) or member.size != said[0]:
            raise Invalid(
                f"holds {member.name[:100]!a}, which its manifest does not describe",
                where=str(backup),
                fix="do not use it",
            )
        yield member.name, member, said
    if wanted:
        raise Invalid(f"{min(wanted)!a} is missing in it", where=str(backup), fix="use another backup")


def _plain_file(member: tarfile.TarInfo) -> bool:
    return member.type == tarfile.REGTYPE and not member.issparse() and member.size >= 0


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", tar.extractfile(member))


def _unpack_settings(backup: Path, stage: Path) -> Manifest:
    with _opened(backup) as tar:
        manifest, _ = _manifest(tar, backup)
        for name, member, said in _members(tar, manifest, backup):
            if name.startswith("folder/"):
                target = stage / name.removeprefix("folder/")
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(_content(tar, member), target, said, f"{backup}: {name}")
    return manifest


def _unpack_database(backup: Path, manifest: Manifest, target: Path) -> None:
    with _opened(backup) as tar:
        if _manifest(tar, backup)[0] != manifest:
            raise Invalid("changed while it was read", where=str(backup), fix="run it again")
        for name, member, said in _members(tar, manifest, backup):
            if name == _DATABASE[manifest.dialect]:
                target.touch(mode=0o600)
                _write(_content(tar, member), target, said, f"{backup}: {name}")


def _write(content: IO[bytes], target: Path, said: tuple[int, str], where: str) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while piece := content.read(_CHUNK):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != said[1]:
        raise Invalid("damaged (its checksum differs)", where=where, fix="use another backup")


def _safe(name: Any, where: str) -> str:
    """A name of one of the owner's files, below the service folder. Errors: Invalid."""
    path = PurePosixPath(str(name))
    steps = any(part in ("..", ".", "") or not part.isprintable() or "\\" in part for part in str(name).split("/"))
    ours = str(path) in _FILES or (len(path.parts) > 1 and path.parts[0] in _FOLDERS)
    if steps or path.is_absolute() or not ours:
        raise Invalid(f"holds {str(name)[:100]!a}, which is no file of a service", where=where, fix="do not use it")
    return str(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder of our own beside a path, on the same file system, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", dir=path.parent, ignore_cleanup_errors=True) as room:
        yield Path(room)


@contextmanager
def _plain(path: Path) -> Iterator[Connection]:
    """A database file that nobody else knows of, as it is: no log is made beside it, nothing is changed."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False))
    try:
        with engine.connect() as connection:
            yield connection
    except DatabaseError as error:
        raise Invalid(f"the database can not be read ({error.orig})", where=str(path), fix="use another one") from None
    finally:
        engine.dispose()
