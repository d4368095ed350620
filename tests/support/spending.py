"""Spending at random: calls that end in every way a call can end, by threads and by processes, and a witness in the database.

``python -m tests.support.spending URL SEED OPERATIONS JOURNAL`` spends until it is done or killed. What it was told by a
provider, and what the ledger took, it writes into its journal: the truth that the books are compared with.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from mainstay.agreement.budgets import MoneyScope, Payer, scopes_of
from mainstay.agreement.ledger import Hold, Purse, Spent
from mainstay.agreement.terms import Agreement, Budget
from mainstay.clock import SystemClock
from mainstay.storage.database import Address, Database, open_database
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.schema import hold as hold_table
from mainstay.types import Clock, Usage, usd

CALL_N = 1_000_000  # what a call costs at most, about
CAP_N = 3 * CALL_N
ROOT = Path(__file__).parents[2]
USERS, TEAMS, KEYS = 5, 2, 3
TTL_S = 600.0  # of calls that end
LOST_TTL_S = 0.05

Journal = Callable[[str], None]


def agreement(operations: int) -> Agreement:
    """Budgets that so many operations spend up, one after the other."""
    whole = operations * CALL_N // 6
    return Agreement(
        budgets=(
            Budget(of="service", per="total", usd=usd(whole)),
            Budget(of="team", per="total", usd=usd(whole * 2 // 3)),
            Budget(of="user", per="total", usd=usd(whole // 4)),
            Budget(of="user", per="month", usd=usd(whole // 5), name="u1"),
            Budget(of="key", per="day", usd=usd(whole // 2)),
        )
    )


def payer(rng: random.Random, request_id: str) -> Payer:
    user = rng.randrange(USERS)
    return Payer(
        request_id=request_id,
        principal=f"user:u{user}",
        team=(f"group:t{user % TEAMS}",),
        key_id=f"key_{rng.randrange(KEYS)}",
        release="rel_1",
    )


def spend(
    ledger: SqlLedger, clock: Clock, terms: Agreement, *, seed: int, operations: int, journal: Journal
) -> Counter[str]:
    """Calls of requests, one after the other; what was done, counted. Every ledger call is one operation."""
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    while done["operations"] < operations:
        who = payer(rng, clock.new_id("req"))
        for _ in range(rng.randint(1, 3)):  # attempts, hedges, judges
            before = done["operations"]
            _call(ledger, clock, terms, who, rng, done, journal)
            journal(f"did {done['operations'] - before}")
    return done


def _call(
    ledger: SqlLedger,
    clock: Clock,
    terms: Agreement,
    who: Payer,
    rng: random.Random,
    done: Counter[str],
    journal: Journal,
) -> None:
    fate = rng.choices(("settled", "cancelled", "lost", "breach", "late", "free", "looked"), (78, 8, 4, 1, 2, 4, 3))[0]
    done["operations"] += 1
    if fate == "looked":
        ledger.left(scopes_of(terms, who, CAP_N, clock.now()))
        return
    lasting = LOST_TTL_S if fate in ("lost", "late") else TTL_S
    purse = Purse(ledger, who, terms, CAP_N, clock, clock.monotonic(), grace_s=lasting)
    least = rng.randint(1, CALL_N // 4)
    most = 0 if fate == "free" else rng.randint(least, 2 * CALL_N)
    try:
        held = purse.hold(min(least, most), most, rng.choice(("answer", "judge")), "m", "p1")
    except Spent:
        done["refused"] += 1
        return
    done["held"] += 1
    if fate == "lost":
        return
    if fate == "late":
        done["operations"] += 1
        ledger.sweep(held.expires)
    actual = rng.randint(0, held.amount_n)
    if fate == "breach":
        actual = held.amount_n + rng.randint(1, CALL_N)
        done["breached_n"] += actual - held.amount_n
    if fate == "late":
        done["late_n"] += actual
    journal(f"called {held.hold_id} {actual}")
    for _ in range(rng.choice((1, 1, 1, 2))):  # a second time does nothing
        done["operations"] += 1
        if fate == "cancelled":
            ledger.cancel(held, charged_n=actual)
        else:
            usage = Usage(input_tokens=100, cached_input_tokens=40, output_tokens=actual % 50)
            ledger.settle(held, actual_n=actual, usage=usage, estimated=rng.random() < 0.05)
    journal(f"done {held.hold_id} {actual}")


def in_threads(
    ledger: SqlLedger, clock: Clock, terms: Agreement, *, seed: int, operations: int, threads: int, journal: Journal
) -> Counter[str]:
    """The same by several threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        running = [
            pool.submit(spend, ledger, clock, terms, seed=seed + n, operations=operations // threads, journal=journal)
            for n in range(threads)
        ]
        return sum((one.result() for one in running), Counter())


# -- the witness -------------------------------------------------------------------------------------------------------
_NOW = "NEW.settled_n + NEW.held_n"
_BEFORE = "OLD.settled_n + OLD.held_n"
_WHEN = f"NEW.held_n < 0 OR ({_NOW} > NEW.limit_n AND {_NOW} > {_BEFORE})"
_SEEN = "INSERT INTO witness VALUES (NEW.scope_id, {most}, CASE WHEN NEW.held_n > OLD.held_n THEN 1 ELSE 0 END);"


def watch(database: Database) -> None:
    """From now on the database itself writes down every change that leaves a scope above its limit."""
    most = f"{_NOW} - {{}}(NEW.limit_n, {_BEFORE})"
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE witness (scope_id TEXT, over_n BIGINT, granted INTEGER)")
        if database.dialect == "sqlite":
            seen = _SEEN.format(most=most.format("max"))
            connection.exec_driver_sql(
                f"CREATE TRIGGER watched AFTER UPDATE ON money_scope WHEN {_WHEN} BEGIN {seen} END"
            )
            return
        seen = _SEEN.format(most=most.format("greatest"))
        connection.exec_driver_sql(
            f"CREATE FUNCTION watched() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {seen} RETURN NULL; END $body$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER watched AFTER UPDATE ON money_scope FOR EACH ROW WHEN ({_WHEN}) EXECUTE FUNCTION watched()"
        )


def unwatch(database: Database) -> None:
    """Nobody looks any more."""
    with database.write() as connection:
        on = "" if database.dialect == "sqlite" else " ON money_scope"
        connection.exec_driver_sql(f"DROP TRIGGER watched{on}")
        if database.dialect != "sqlite":
            connection.exec_driver_sql("DROP FUNCTION watched()")
        connection.exec_driver_sql("DROP TABLE witness")


def overspent(database: Database, ledger: SqlLedger) -> int:
    """How many changes took a scope above its limit that were no breach and no late settlement."""
    standing = ledger.standing()
    with database.read() as connection:
        granted = connection.exec_driver_sql("SELECT count(*) FROM witness WHERE granted = 1").scalar_one()
        over = connection.exec_driver_sql("SELECT scope_id, sum(over_n) FROM witness GROUP BY scope_id").all()
    allowed = standing.breached_n + standing.late_n
    return int(granted) + sum(int(by) > allowed for _, by in over)


def scopes(terms: Agreement, now: datetime) -> list[MoneyScope]:
    """Every budget's scope that anybody here spends from."""
    found: dict[str, MoneyScope] = {}
    for user in range(USERS):
        for key in range(KEYS):
            who = Payer(
                request_id="req_nobody",
                principal=f"user:u{user}",
                team=(f"group:t{user % TEAMS}",),
                key_id=f"key_{key}",
            )
            found |= {scope.scope_id: scope for scope in scopes_of(terms, who, CAP_N, now) if scope.kind != "request"}
    return list(found.values())


def phantom_blocks(ledger: SqlLedger, terms: Agreement, now: datetime) -> int:
    """With nothing running: how many budgets do not give all of what is left of them."""
    totals = ledger.totals()
    wrong = 0
    for scope in scopes(terms, now):
        settled = totals[scope.scope_id].settled_n if scope.scope_id in totals else 0
        free = max(0, scope.limit_n - settled)
        held: Hold | None = None
        if free:
            try:
                held = ledger.reserve(
                    Payer(request_id=f"req_{scope.scope_id}", principal="user:u0"),
                    [scope],
                    least_n=free,
                    most_n=free,
                    purpose="look",
                    model="m",
                    price_version="p1",
                    ttl_s=TTL_S,
                )
                ledger.cancel(held)
            except Spent:
                wrong += 1
        wrong += ledger.left([scope]) != free
    return wrong


# -- the truth ---------------------------------------------------------------------------------------------------------
def journal_of(path: Path) -> Journal:
    """Lines that outlive the process that writes them."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda line: os.write(file, f"{line}\n".encode()) and None


def differences(database: Database, lines: Iterable[str]) -> list[str]:
    """What the books say otherwise than those who spent: everything acknowledged stands in them, and nothing else."""
    called: dict[str, int] = {}
    acknowledged: set[str] = set()
    for line in lines:
        if line.startswith("did "):
            continue
        word, hold_id, actual = line.split()
        called[hold_id] = int(actual)
        if word == "done":
            acknowledged.add(hold_id)
    with database.read() as connection:
        rows = connection.execute(select(hold_table.c.hold_id, hold_table.c.state, hold_table.c.settled_n)).all()
    booked = {row.hold_id: row.settled_n for row in rows if row.state in ("settled", "cancelled", "late")}
    wrong = [f"{one} was settled and is not in the books" for one in acknowledged - booked.keys() if called[one]]
    wrong += [f"{one} is in the books, but nobody called" for one in booked.keys() - called.keys()]
    wrong += [
        f"{one} cost {called[one]}, booked are {booked[one]}"
        for one in booked.keys() & called.keys()
        if called[one] != booked[one]
    ]
    return wrong


def audited(database: Database, terms: Agreement, lines: Sequence[str]) -> dict[str, int]:
    """After everybody has stopped: every promise of the ledger, looked at from outside."""
    clock = SystemClock()
    ledger = SqlLedger(database, clock)
    end = clock.now() + timedelta(seconds=TTL_S + 1)
    ledger.sweep(end)
    standing = ledger.standing()
    assert standing.holds.get("open", 0) == 0
    assert all(booked.held_n == 0 for booked in ledger.totals().values()), "a hold outlived its time"
    assert ledger.totals() == ledger.replayed()
    assert ledger.check() == []
    assert differences(database, lines) == []
    figures = {"overspent": overspent(database, ledger), "phantom_blocks": phantom_blocks(ledger, terms, clock.now())}
    assert ledger.check() == []
    assert figures == {"overspent": 0, "phantom_blocks": 0}
    return {**figures, **{f"holds.{state}": count for state, count in sorted(standing.holds.items())}}


# -- processes -----------------------------------------------------------------------------------------------------------
class Spenders:
    """Processes that spend, each with its journal."""

    def __init__(self, url: str, folder: Path, whole: int, seed: int) -> None:
        self._url, self._folder, self._whole, self._seed = url, folder, whole, seed
        self._started = 0
        self.running: list[subprocess.Popen[str]] = []

    def start(self, operations: int) -> None:
        self._started += 1
        journal = self._folder / f"journal{self._started}"
        journal.touch()
        command = [sys.executable, "-m", "tests.support.spending", self._url, str(self._seed + self._started)]
        self.running.append(
            subprocess.Popen(
                [*command, str(operations), str(journal), str(self._whole)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def did(self) -> int:
        """Operations of all, those of the killed included."""
        return sum(int(line.removeprefix("did ")) for line in self.lines() if line.startswith("did "))

    def kill(self, one: subprocess.Popen[str]) -> bool:
        """SIGKILL; whether it was still at work."""
        self.running.remove(one)
        one.kill()
        _, said = one.communicate()
        assert one.returncode in (0, -9), said
        return one.returncode == -9

    def finish(self, within_s: float) -> None:
        while self.running:
            one = self.running.pop()
            try:
                _, said = one.communicate(timeout=within_s)
            finally:
                one.kill()
            assert one.returncode == 0, said

    def lines(self) -> list[str]:
        """Whole lines: the last of a killed process may be half a line."""
        texts = (path.read_text() for path in sorted(self._folder.glob("journal*")))
        return [line for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]


@contextmanager
def spenders(url: str, folder: Path, whole: int, seed: int) -> Iterator[Spenders]:
    held = Spenders(url, folder, whole, seed)
    try:
        yield held
    finally:
        for one in held.running:
            one.kill()
            with suppress(ValueError):  # its pipe was read to the end
                one.communicate()


def main(url: str, seed: str, operations: str, journal: str, whole: str) -> None:
    database = open_database(Address(url=url))
    clock = SystemClock()
    try:
        spend(
            SqlLedger(database, clock),
            clock,
            agreement(int(whole)),
            seed=int(seed),
            operations=int(operations),
            journal=journal_of(Path(journal)),
        )
    finally:
        database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
