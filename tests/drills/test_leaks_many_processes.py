"""Four API processes over one database, people and rules changing while questions run: nothing is ever shown that its
reader could not see at some moment of the request, and a change that was acknowledged holds for every later one.

The oracle reads rules the naive way. The changes are made by a fifth process (this one), one after the other, and each
is kept with the moments before and after it: between them either state is right, outside only one is.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.processes import Serving
from tests.support.services import open_service, sync

from mainstay.access.acl import Acl, decide
from mainstay.app import App
from mainstay.corpus.ports import AccessRule
from mainstay.storage.database import DIALECTS
from mainstay.types import Actor

SEED = 20261122
PROCESSES = 4
USERS = [f"u{n}" for n in range(6)]
GROUPS = [f"g{n}" for n in range(6)]
DOCUMENTS = 40
MOST_S = 120.0  # a slow machine goes on for longer until enough was seen


@dataclass
class World:
    """Who belongs to what, and which rule stands on which document: as one oracle sees it at one moment."""

    members: set[tuple[str, str]] = field(default_factory=set)  # (group, member), principals both
    rules: dict[str, Acl] = field(default_factory=dict)  # by the word only that document has
    disabled: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def copy(self) -> World:
        return World(set(self.members), dict(self.rules), set(self.disabled), set(self.removed))

    def visible(self, user: str) -> frozenset[str]:
        if user in self.disabled:
            return frozenset()
        principals = {f"user:{user}", "public"}
        while more := {group for group, member in self.members if member in principals} - principals:
            principals |= more
        return frozenset(
            word for word, acl in self.rules.items() if word not in self.removed and decide(acl, principals).visible
        )


@dataclass(frozen=True)
class State:
    """What each user may see, in force at the latest from ``done`` on and at the earliest from ``begun`` on."""

    begun: float
    done: float
    visible: dict[str, frozenset[str]]


class History:
    """The states one after the other. Written by one thread, read by many."""

    def __init__(self, world: World) -> None:
        self.states = [State(0.0, 0.0, {user: world.visible(user) for user in USERS})]

    def add(self, begun: float, world: World) -> None:
        self.states.append(State(begun, time.monotonic(), {user: world.visible(user) for user in USERS}))

    def allowed(self, user: str, start: float, end: float) -> frozenset[str]:
        """All that ``user`` could rightly be shown by a request that lasted from ``start`` to ``end``."""
        known = list(self.states)
        right: set[str] = set()
        for n, state in enumerate(known):
            ended = known[n + 1].done if n + 1 < len(known) else float("inf")
            if state.begun <= end and ended >= start:
                right |= state.visible[user]
        return frozenset(right)


def word(n: int) -> str:
    return f"zyx{n:03d}q"


def company() -> dict[str, str]:
    """Documents that all answer the same question, each with a word of its own."""
    return {
        f"d{n}.md": f"---\naccess: []\n---\n# Crane manual {n}\n\nThe harbour crane lifts {n + 10} tonnes, {word(n)} says.\n"
        for n in range(DOCUMENTS)
    }


class Mutator:
    """Changes the world and the truth together, one random change at a time."""

    def __init__(self, app: App, rng: random.Random) -> None:
        self.app, self.rng, self.world = app, rng, World()
        self.ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.done: Counter[str] = Counter()

    def build(self) -> None:
        people = self.app.people
        for user in USERS:
            people.add_user(user)
            self.keys[user] = self.app.keyring.create(f"user:{user}", name="drill")[1]
        for group in GROUPS:
            people.add_group(group)
        everything = self.app.gate.scope(Actor(principal="user:operator", admin=True))
        for record in self.app.documents.records(scope=everything):
            n = int(re.findall(r"\d+", record.path)[0])
            self.ids[word(n)] = record.doc_id
            self.world.rules[word(n)] = Acl((), ())
        for _ in range(60):
            self.change()

    def change(self) -> None:
        kinds = [self.join, self.leave, self.rule, self.rule, self.rule, self.disable, self.enable]
        kind = self.rng.choice(kinds)
        kind()
        self.done[kind.__name__] += 1

    def join(self) -> None:
        n = self.rng.randrange(len(GROUPS))
        # A group joins only groups before it: cycles have tests of their own.
        member = self.rng.choice([f"user:{user}" for user in USERS] + [f"group:{group}" for group in GROUPS[n + 1 :]])
        self.app.people.add_member(f"group:{GROUPS[n]}", member)
        self.world.members.add((f"group:{GROUPS[n]}", member))

    def leave(self) -> None:
        if self.world.members:
            group, member = self.rng.choice(sorted(self.world.members))
            self.app.people.remove_member(group, member)
            self.world.members.discard((group, member))

    def rule(self) -> None:
        chosen = self.rng.choice(sorted(self.ids))
        names = [f"user:{user}" for user in USERS] + [f"group:{group}" for group in GROUPS] * 2 + ["public"]
        allow = tuple(sorted(set(self.rng.sample(names, self.rng.randint(0, 3)))))
        deny = tuple(sorted(set(self.rng.sample(names[:-1], self.rng.choice([0, 0, 1])))))
        acl = Acl(allow, deny)
        rule = AccessRule(origin=f"document:{chosen}", acl=acl)
        self.app.documents.set_access(self.ids[chosen], rule, self.app.clock.now())
        self.world.rules[chosen] = acl

    def disable(self) -> None:
        user = self.rng.choice(USERS)
        self.app.people.disable(f"user:{user}")
        self.world.disabled.add(user)

    def enable(self) -> None:
        if self.world.disabled:
            user = self.rng.choice(sorted(self.world.disabled))
            self.app.people.enable(f"user:{user}")
            self.world.disabled.discard(user)


def shown(body: bytes) -> frozenset[str]:
    """Every document whose word is anywhere in a response: texts, quotes, titles, sources."""
    return frozenset(found.decode() for found in re.findall(rb"zyx\d{3}q", body.lower()))


def run(folder: Path, dialect: str, seconds: float) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    with ExitStack() as stack:
        app = stack.enter_context(open_service(folder, company(), dialect=dialect))
        sync(app)
        mutator = Mutator(app, rng)
        mutator.build()
        keys = mutator.keys
        serving = [stack.enter_context(Serving.on(folder)) for _ in range(PROCESSES)]
        history = History(mutator.world)
        wrong: list[str] = []
        asked: Counter[str] = Counter()
        stop = threading.Event()

        def ask(number: int) -> None:
            mine = random.Random(SEED + number)
            while not stop.is_set():
                user = mine.choice(USERS)
                at = mine.choice(serving)
                start = time.monotonic()
                if mine.random() < 0.3:
                    said = at.ask("How many tonnes does the harbour crane lift?", keys[user])
                else:
                    said = at.post("/v1/search", {"query": "harbour crane tonnes", "top_k": 50}, keys[user])
                end = time.monotonic()
                seen = shown(said.body)
                asked[str(said.status)] += 1
                asked["shown"] += len(seen)
                if extra := seen - history.allowed(user, start, end):
                    wrong.append(f"{user} saw {sorted(extra)} at {at.address} ({said.status})")

        def check_now() -> None:
            """After an acknowledged change: every process at once, exactly what is right."""
            user = rng.choice(USERS)
            right = mutator.world.visible(user)
            for at in serving:
                said = at.post("/v1/search", {"query": "harbour crane tonnes", "top_k": 50}, keys[user])
                seen = shown(said.body)
                asked["checked"] += 1
                if said.status == 200 and seen != right:
                    wrong.append(f"{user} saw {sorted(seen)}, not {sorted(right)}, right after a change")
                if said.status != 200 and user not in mutator.world.disabled:
                    wrong.append(f"{user} was told {said.status} {said.body!r}")

        with ThreadPoolExecutor(4) as clients:
            running = [clients.submit(ask, n) for n in range(4)]
            began = time.monotonic()

            def enough() -> bool:
                lasted = time.monotonic() - began
                return lasted > seconds and ((asked["shown"] > 50 and asked["checked"] > 20) or lasted > MOST_S)

            try:
                while not enough():
                    for _ in range(rng.randint(1, 4)):
                        begun = time.monotonic()
                        mutator.change()
                        history.add(begun, mutator.world)
                    check_now()
            finally:
                stop.set()
                for one in running:
                    one.result()
        print(dict(asked), dict(mutator.done))
        assert wrong == []
        assert asked["shown"] > 50
        assert asked["checked"] > 20
        assert sum(mutator.done.values()) > 65  # sixty of them before the processes start


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_leaks(tmp_path: Path, dialect: str) -> None:
    run(tmp_path, dialect, seconds=float(os.environ.get("MAINSTAY_TEST_SECONDS", "60")))


def test_the_oracle_can_say_no() -> None:
    world = World(rules={"a": Acl(("group:g",), ())}, members={("group:g", "user:u0")})
    history = History(world)
    assert history.allowed("u0", 1.0, 2.0) == {"a"}
    world.members.clear()
    history.add(time.monotonic(), world)
    later = time.monotonic() + 1
    assert history.allowed("u0", later, later + 1) == frozenset()
