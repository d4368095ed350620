"""PostgreSQL's own ``pg_dump`` and ``pg_restore``, driven for one service's schema.

The password goes by a file that only we can read, never by the command line, where everybody on the machine sees it.
Row-level security stays on: a dump made without it needs a role that bypasses it, and ours must not be one. The session
says instead that it reads everything, as each connection of the service does.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from mainstay.errors import Unavailable
from mainstay.storage.database import Address
from mainstay.storage.postgres import CONNECT_TIMEOUT_S, parsed

_READ_ALL = "-c mainstay.access=all"


class NoTool(Unavailable):
    """The program is not here; the message ends with what to run by hand."""


def dump(address: Address, target: Path, *, tools: Path | None, snapshot: str | None = None) -> None:
    """Write the service's schema into a file, as of an exported snapshot. Errors: NoTool, Unavailable."""
    options = _dump_options(address, target)
    if snapshot is not None:
        options.append(f"--snapshot={snapshot}")
    _run("pg_dump", options, address, tools, _by_hand(address, "pg_dump", _dump_options(address, target)))


def load(address: Address, dumped: Path, *, tools: Path | None) -> None:
    """Bring a dumped schema back, all of it or nothing. Errors: NoTool, Unavailable."""
    options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", str(dumped)]
    _run("pg_restore", options, address, tools, _by_hand(address, "pg_restore", options))


def find(program: str, tools: Path | None, by_hand: str) -> str:
    """The path of a program. Errors: NoTool."""
    found = shutil.which(program, path=None if tools is None else str(tools))
    if found is None:
        raise NoTool(
            f"{program} is not {'on the PATH' if tools is None else f'in {tools}'}",
            fix=f"name its folder with --pg-bin DIR, or run (with PGPASSWORD or ~/.pgpass): {by_hand}",
        )
    return found


def _dump_options(address: Address, target: Path) -> list[str]:
    return [
        "--format=custom",
        f"--schema={address.schema}",
        "--no-owner",
        "--no-privileges",
        "--enable-row-security",
        f"--file={target}",
    ]


def _by_hand(address: Address, program: str, options: list[str]) -> str:
    where = _conninfo({**_where(address), "options": _READ_ALL})
    return shlex.join([program, *options, f"--dbname={where}"])


def _run(program: str, options: list[str], address: Address, tools: Path | None, by_hand: str) -> None:
    found = find(program, tools, by_hand)
    with _passfile(address) as passfile:
        where = _conninfo({**_where(address), "options": _READ_ALL, "passfile": str(passfile)})
        # The address comes last: an option after it would win.
        command = [found, "--no-password", *options, f"--dbname={where}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or f"exit {done.returncode}").split())[:400]
        raise Unavailable(f"{program} failed ({said})", where=shown(address), fix="mend that, then run it again")


@contextmanager
def _passfile(address: Address) -> Iterator[Path]:
    password = parsed(address.url)[1]["password"] or ""
    escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.TemporaryDirectory(prefix="mainstay-") as folder:
        path = Path(folder) / "pgpass"
        path.touch(mode=0o600)
        path.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
        yield path


def _where(address: Address) -> dict[str, str]:
    """The address in libpq's words, without the password."""
    url, how = parsed(address.url)
    query = url.query
    socket = how.get("unix_sock")
    held = {
        "host": str(socket).rpartition("/")[0] if socket else str(how["host"]),
        "port": str(url.port or 5432),
        "user": str(how["user"]),
        "dbname": str(how["database"]),
    }
    return {**held, **{key: str(query[key]) for key in ("sslmode", "sslrootcert") if key in query}}


def _conninfo(values: Mapping[str, str]) -> str:
    quoted = (value.replace("\\", "\\\\").replace("'", "\\'") for value in values.values())
    return " ".join(f"{key}='{value}'" for key, value in zip(values, quoted, strict=True))


def shown(address: Address) -> str:
    """The address without its password."""
    return parsed(address.url)[0].render_as_string(hide_password=True)


@contextmanager
def connected(address: Address, *, snapshot: bool = False) -> Iterator[Connection]:
    """A plain connection in the service's schema, which need not be there, nor be today's. Commits in the end.

    With ``snapshot`` it reads one state of the database throughout, and can not write.
    """
    _, how = parsed(address.url)
    engine = create_engine(
        "postgresql+pg8000://",
        connect_args={**how, "timeout": CONNECT_TIMEOUT_S, "application_name": "mainstay restore"},
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            # Nothing here is bounded in time but connecting: a whole service is read.
            connection.connection.driver_connection._usock.settimeout(None)  # type: ignore[union-attr]
            names = {
                "search_path": f'"{address.schema}", public',
                "mainstay.access": "all",
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
            }
            for name, value in names.items():
                connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
            if snapshot:
                connection.commit()
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection
            connection.commit()
    except DBAPIError as error:
        raise Unavailable(
            f"the database does not answer ({error.orig})", where=shown(address), fix="look at database:"
        ) from None
    finally:
        engine.dispose()


def set_aside(address: Address, name: str, *, force: bool) -> str | None:
    """Make room for the schema. None: there was nothing; else what stands there now is called ``name``.

    Raises ``FileExistsError`` when a service is there and ``force`` is not given.
    """
    with connected(address) as connection:
        schema = {"name": address.schema}
        there = connection.scalar(text("SELECT oid FROM pg_namespace WHERE nspname = :name"), schema)
        if there is None:
            return None
        if not connection.scalar(text("SELECT count(*) FROM pg_class WHERE relnamespace = :oid"), {"oid": there}):
            connection.exec_driver_sql(f'DROP SCHEMA "{address.schema}"')  # empty: made ready for us
            return None
        if not force:
            raise FileExistsError(address.schema)
        connection.exec_driver_sql(f'ALTER SCHEMA "{address.schema}" RENAME TO "{name}"')
        return name


def put_back(address: Address, name: str | None) -> None:
    """Undo ``set_aside`` after a restore that failed."""
    with connected(address) as connection:
        connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{address.schema}" CASCADE')
        if name is not None:
            connection.exec_driver_sql(f'ALTER SCHEMA "{name}" RENAME TO "{address.schema}"')
