"""PostgreSQL: pooled connections with time-outs everywhere, one schema per service, the asker named to row-level security.

The driver is pg8000 (BSD, pure Python). Two pools: readers begin REPEATABLE READ, READ ONLY; writers READ COMMITTED.
A connection may be dead when it leaves the pool (the server was restarted): the first statement of a transaction is
tried once more on a fresh one.
"""

from __future__ import annotations

import logging
import re
import select
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import pg8000.native
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from mainstay.errors import Invalid, Unavailable
from mainstay.storage import migrations
from mainstay.storage.database import Address, check_fence
from mainstay.types import ADMINISTRATORS, Scope
from mainstay.workflows.ports import Fence

_log = logging.getLogger(__name__)
# A connection that is lost can not be closed in good order either, which the pool would tell at length.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
CONNECT_TIMEOUT_S = 5.0
OLDEST = 15
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
ALONE = 0x6D61696E  # the advisory lock of writers who must be alone, in the service's schema
_READER = "SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WRITER = "SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_BUSY = {
    "57014": "a statement took too long",
    "55P03": "a lock was not free in time",
    "40001": "two writers met",
    "40P01": "two writers waited for each other",
    "25P03": "a transaction stood idle too long",
}


class PostgresDatabase:
    """``storage.database.Database`` over a PostgreSQL server."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, address: Address, *, migrate: bool = True) -> None:
        if not _SCHEMA.fullmatch(address.schema):
            raise Invalid(
                f"{address.schema!r} can not name a schema", where="database.schema", fix="use a-z, 0-9 and _"
            )
        self._address = address
        self._url, self._how = parsed(address.url)
        self.where = self._url.set(drivername="postgresql").render_as_string(hide_password=True)
        half = max(2, address.pool // 2)
        self._readers = self._engine(_READER, pool_size=address.pool)
        self._writers = self._engine(_WRITER, pool_size=half)
        self._listening: pg8000.native.Connection | None = None
        try:
            self._begin_schema(migrate=migrate)
        except BaseException:
            self.close()
            raise

    def _begin_schema(self, *, migrate: bool) -> None:
        with self.maintenance() as connection:
            version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10000
            if version < OLDEST:
                raise Invalid(f"PostgreSQL {version} is too old", where=self.where, fix=f"use {OLDEST} or newer")
            connection.execute(text("SELECT pg_advisory_xact_lock(:key, hashtext(:name))"), self._key())
            there = connection.scalar(
                text("SELECT count(*) FROM pg_namespace WHERE nspname = :name"), {"name": self._address.schema}
            )
            if not there:
                if not migrate:
                    raise migrations.Older(0, where=self.where)
                connection.exec_driver_sql(f'CREATE SCHEMA "{self._address.schema}"')
            self.found = migrations.revision(connection, self.where, change=False)
            self.revision = migrations.migrate(connection, where=self.where, change=migrate)

    def _key(self) -> dict[str, object]:
        return {"key": ALONE, "name": self._address.schema}

    @contextmanager
    def read(self, scope: Scope | None = None) -> Iterator[Connection]:
        with (
            self._translated(),
            self._begun(self._readers, lambda connection: _narrow(connection, scope)) as connection,
        ):
            yield connection

    @contextmanager
    def write(self, *, alone: bool = True, durable: bool = True, fence: Fence | None = None) -> Iterator[Connection]:
        with (
            self._translated(),
            self._begun(self._writers, lambda held: self._enter(held, alone, durable)) as connection,
        ):
            if fence is not None:
                check_fence(connection, fence)
            yield connection
            connection.commit()

    def _enter(self, connection: Connection, alone: bool, durable: bool) -> None:
        # One round trip for what a writer needs first.
        wanted = [] if durable else ["set_config('synchronous_commit', 'off', true)"]
        if alone:
            wanted.append("pg_advisory_xact_lock(:key, hashtext(:name))")
        if wanted:
            connection.execute(text(f"SELECT {', '.join(wanted)}"), self._key() if alone else {})

    @contextmanager
    def maintenance(self) -> Iterator[Connection]:
        """A writing transaction without time-outs, on a connection of its own: migrations, building indexes, copying."""
        engine = self._engine(_WRITER, pool_size=0)
        try:
            with self._translated(), engine.connect() as connection:
                yield connection
                connection.commit()
        finally:
            engine.dispose()

    @contextmanager
    def _begun(self, engine: Engine, first: Callable[[Connection], object]) -> Iterator[Connection]:
        """A connection whose transaction has begun with ``first``; a dead one from the pool is replaced once."""
        try:
            connection = self._entered(engine, first)
        except DBAPIError as error:
            if not _lost(error):
                raise
            engine.dispose()  # what died once died for all
            connection = self._entered(engine, first)
        try:
            yield connection
        except DBAPIError as error:
            if _lost(error):
                connection.invalidate()
            raise
        finally:
            connection.close()

    def _entered(self, engine: Engine, first: Callable[[Connection], object]) -> Connection:
        connection = engine.connect()
        try:
            first(connection)
        except BaseException as error:
            if isinstance(error, DBAPIError) and _lost(error):
                connection.invalidate()
            connection.close()
            raise
        return connection

    def ping(self) -> None:
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM fact LIMIT 1").all()

    def integrity(self) -> str:
        """PostgreSQL checks its own pages; what can be wrong here is the second wall."""
        with self.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ).one()
        if row[0]:
            return "the database role is a superuser or bypasses row-level security: give the service a role of its own"
        return "ok"

    def now(self, connection: Connection) -> int:
        return int(
            connection.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").scalar_one()
        )

    def notify(self, connection: Connection, topic: str) -> None:
        connection.execute(text("SELECT pg_notify(:topic, '')"), {"topic": self._topic(topic)})

    def wait(self, topic: str, timeout_s: float) -> bool:
        try:
            if self._listening is None:
                self._listening = pg8000.native.Connection(
                    **self._how, timeout=CONNECT_TIMEOUT_S, application_name="mainstay listener"
                )
                self._listening.run(f'LISTEN "{self._topic(topic)}"')
            heard = self._listening
            ready, _, _ = select.select([heard._usock], [], [], timeout_s)
            if ready:
                heard.run("SELECT 1")  # reads what has come
            told = bool(heard.notifications)
            heard.notifications.clear()
            return told
        except Exception as error:  # noqa: BLE001 - a hint may get lost for any reason; who waits looks anyway
            self._deaf()
            raise Unavailable(f"the database does not answer ({error})", where=self.where, fix="start it") from None

    def _deaf(self) -> None:
        held, self._listening = self._listening, None
        if held is not None:
            with suppress(Exception):  # it is gone: nothing is left to be closed
                held.close()

    def _topic(self, topic: str) -> str:
        return f"{self._address.schema}_{topic}"[:63]

    def close(self) -> None:
        self._deaf()
        self._readers.dispose()
        self._writers.dispose()

    def _engine(self, characteristics: str, *, pool_size: int) -> Engine:
        bounded = pool_size > 0
        patience = self._address.statement_timeout_s
        arguments = {**self._how, "application_name": "mainstay"}
        arguments["timeout"] = patience + CONNECT_TIMEOUT_S if bounded else None
        pool: dict[str, Any] = {"poolclass": NullPool}
        if bounded:
            pool = {
                "poolclass": QueuePool,
                "pool_size": pool_size,
                "max_overflow": 0,
                "pool_timeout": self._address.lock_timeout_s,
                "pool_recycle": 1800,
            }
        # Parameters name askers and hold texts: they belong in no log.
        engine = create_engine("postgresql+pg8000://", connect_args=arguments, hide_parameters=True, **pool)
        engine.dialect.use_insertmanyvalues_wo_returning = True  # pg8000 makes a round trip of every row otherwise
        settings = {
            "search_path": f'"{self._address.schema}", public',
            "statement_timeout": f"{int(patience * 1000)}" if bounded else "0",
            "lock_timeout": f"{int(self._address.lock_timeout_s * 1000)}" if bounded else "0",
            "idle_in_transaction_session_timeout": "60000" if bounded else "0",
            # One plan kept for all would serve narrow and wide scopes alike, that is, one of them badly.
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
            "mainstay.access": "all",
        }

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.autocommit = True
            cursor = connection.cursor()
            names = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
            cursor.execute(f"SELECT {names}")
            cursor.execute(f"SET {characteristics}")
            cursor.close()
            connection.autocommit = False

        if characteristics == _READER:
            event.listen(engine, "before_cursor_execute", _findable, retval=True)
        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except PoolTimeout:
            raise Unavailable(
                "every connection to the database is in use", where=self.where, fix="try again, or raise database.pool"
            ) from None
        except DBAPIError as error:
            if integrity := _integrity(error):
                raise integrity from None
            raise self._explained(error) from None

    def _explained(self, error: DBAPIError) -> Unavailable | Invalid:
        code, message = _said(error)
        if code in _BUSY:
            return Unavailable(f"{_BUSY[code]} ({message})", where=self.where, fix="try again")
        if code[:2] == "53":
            return Unavailable(
                f"the database is out of a resource ({message})", where=self.where, fix="try again later"
            )
        if _lost(error) or code[:2] in ("57", "08"):
            # The driver's own words name host and port, which are no caller's business; `where` tells the operator.
            return Unavailable(
                f"the database does not answer ({message if code else 'no connection'})",
                where=self.where,
                fix="start it, or wait",
            )
        if code in ("28P01", "28000", "3D000"):
            return Unavailable(f"the database does not let us in ({code})", where=self.where, fix="look at database:")
        if code in ("22021", "22P05"):
            return Invalid("a text holds the character U+0000, which can not be kept", fix="leave it out")
        if code == "42501":
            return Unavailable(
                f"not permitted by the database ({message})", where=self.where, fix="look at the role's rights"
            )
        _log.error("the database refused a statement: %s %s", code, message)
        return Unavailable("the database refused a statement; see the log", fix="run: mainstay doctor")


def _findable(
    _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    """A text with U+0000 was never kept: looking for it finds nothing, as in other databases, where the server would
    refuse the statement. U+0001 stands in for it, which is in no text either."""
    if not many and any(isinstance(value, str) and "\0" in value for value in parameters):
        mended = (value.replace("\0", "\1") if isinstance(value, str) else value for value in parameters)
        return statement, tuple(mended)
    return statement, parameters


def _narrow(connection: Connection, scope: Scope | None) -> None:
    """Name the asker to row-level security, for this transaction only."""
    everything = scope is None or ADMINISTRATORS in scope.principals
    principals = [] if scope is None or everything else sorted(scope.principals)
    connection.execute(
        text(
            "SELECT set_config('mainstay.access', :access, true), set_config('mainstay.principals', :principals, true)"
        ),
        {"access": "all" if everything else "scope", "principals": _array(principals)},
    )


def _array(items: list[str]) -> str:
    """A PostgreSQL array literal."""
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return "{" + ",".join(quoted) + "}"


def parsed(url: str) -> tuple[URL, dict[str, Any]]:
    """An address as people write it for libpq, and what pg8000 wants of it."""
    try:
        parsed = make_url(re.sub(r"^(postgres|postgresql)(\+\w+)?:", "postgresql+pg8000:", url, count=1))
    except (ArgumentError, ValueError):
        raise Invalid(
            "not an address of PostgreSQL", where="database", fix="postgresql://user:password@host/name"
        ) from None
    query = dict(parsed.query)
    how: dict[str, Any] = {"user": parsed.username or "postgres", "password": parsed.password}
    how["database"] = parsed.database or how["user"]
    port = parsed.port or 5432
    host = str(query.pop("host", "") or parsed.host or "localhost")
    if host.startswith("/"):
        how["unix_sock"] = f"{host}/.s.PGSQL.{port}"
    else:
        how.update(host=host, port=port)
    mode, roots = str(query.pop("sslmode", "prefer")), query.pop("sslrootcert", None)
    if mode in ("verify-ca", "verify-full"):
        context = ssl.create_default_context(cafile=str(roots) if roots else None)
        context.check_hostname = mode == "verify-full"
        how["ssl_context"] = context
    elif mode == "require":
        how["ssl_context"] = True
    elif mode == "disable" or "unix_sock" in how:
        how["ssl_context"] = False
    elif mode not in ("prefer", "allow"):
        raise Invalid(f"sslmode={mode} is not known", where="database", fix="disable, prefer, require or verify-full")
    if query:
        raise Invalid(
            f"{', '.join(sorted(query))} can not be given in the address of the database",
            where="database",
            fix="host, sslmode and sslrootcert can",
        )
    return parsed, how


def _said(error: DBAPIError) -> tuple[str, str]:
    """The server's code and words, or what the driver says."""
    held = error.orig.args[0] if error.orig is not None and error.orig.args else ""
    if isinstance(held, dict):
        return str(held.get("C", "")), str(held.get("M", ""))
    return "", str(held or error.orig or error)


def _lost(error: DBAPIError) -> bool:
    """Whether the connection is gone, or was never made."""
    code, message = _said(error)
    if code in ("57P01", "57P02", "57P03", "57P05", "25P03") or code[:2] == "08":
        return True
    return (
        not code
        and (error.connection_invalidated or not isinstance(error.orig, pg8000.ProgrammingError))
        and bool(message)
    )


def _integrity(error: DBAPIError) -> IntegrityError | None:
    """pg8000 knows one class of errors; a broken constraint is told by its code."""
    code, _ = _said(error)
    if code[:2] == "23" and error.orig is not None:
        return IntegrityError(error.statement, error.params, error.orig)
    return None
