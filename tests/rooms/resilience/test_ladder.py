"""The ladder: the worst reason wins, it is left with patience, and each change is one event."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstay.agreement import terms
from mainstay.clock import FixedClock, SystemClock
from mainstay.errors import Invalid, Unavailable
from mainstay.resilience.ladder import Ladder, Standing, cause_of, mode_for, mode_notice, static_text
from mainstay.resilience.ports import ModeEvent, Order
from mainstay.text.phrases import _PHRASES
from mainstay.types import Mode

LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt")
RANK = list(Mode)


class Log:
    """A log in memory, which may be away."""

    def __init__(self) -> None:
        self.away = False
        self.reads = 0
        self.held: Order | None = None
        self.kept: dict[str, ModeEvent] = {}

    def _there(self) -> None:
        if self.away:
            raise Unavailable("the database does not answer")

    def keep(self, event: ModeEvent) -> None:
        self._there()
        self.kept.setdefault(event.event_id, event)

    def ordered(self) -> Order | None:
        self.reads += 1
        self._there()
        return self.held

    def order(self, order: Order | None, event: ModeEvent) -> None:
        self._there()
        self.held = order
        self.kept[event.event_id] = event

    def events(self, limit: int) -> Sequence[ModeEvent]:
        return list(reversed(self.kept.values()))[:limit]

    def changes(self, process: str = "one") -> list[tuple[str, str, str]]:
        return [(event.before, event.after, event.reason) for event in self.kept.values() if event.process == process]


class World:
    def __init__(self, rules: terms.Ladder | None = None, database_mode: Mode | None = Mode.STATIC) -> None:
        self.clock, self.log = FixedClock(), Log()
        self.ladder = Ladder(rules or terms.Ladder(), self.clock, self.log, process="one", database_mode=database_mode)

    def after(self, seconds: float) -> Standing:
        self.clock.advance(timedelta(seconds=seconds))
        return self.ladder.current()


def test_the_worst_reason_wins_and_is_left_after_the_hold_down() -> None:
    world = World()
    world.ladder.ask_for(Mode.ECONOMY, "objective:p95", "burnt up")
    world.ladder.ask_for(Mode.SOURCES_ONLY, "breaker:big", "3 failures")
    standing = world.ladder.current()
    assert (standing.mode, standing.cause) == (Mode.SOURCES_ONLY, "breaker")
    assert [(reason.name, reason.mode) for reason in standing.reasons] == [
        ("breaker:big", Mode.SOURCES_ONLY),
        ("objective:p95", Mode.ECONOMY),
    ]
    world.ladder.no_longer("breaker:big")
    held = world.after(59)
    assert (held.mode, held.cause, held.reasons[0].held) == (Mode.SOURCES_ONLY, "breaker", True)
    assert world.after(1).mode is Mode.ECONOMY  # straight to what is still asked for
    world.ladder.no_longer("objective:p95")
    assert world.after(60).mode is Mode.FULL
    assert world.log.changes() == [
        ("full", "economy", "objective:p95"),
        ("economy", "sources_only", "breaker:big"),
        ("sources_only", "economy", "objective:p95"),
        ("economy", "full", "objective:p95"),
    ]


def test_a_reason_may_ask_for_some_time_only() -> None:
    world = World()
    world.ladder.ask_for(Mode.STATIC, "overload", "spike", for_s=5)
    assert world.after(64).mode is Mode.STATIC
    assert world.after(1).mode is Mode.FULL
    assert [event.by for event in world.log.kept.values()] == ["automatic", "automatic"]


def test_asking_for_less_holds_what_was_asked_before() -> None:
    world = World()
    world.ladder.ask_for(Mode.STATIC, "objective", "gone")
    world.ladder.ask_for(Mode.ECONOMY, "objective", "better")
    assert world.after(59).mode is Mode.STATIC
    assert world.after(1).mode is Mode.ECONOMY
    world.ladder.ask_for(Mode.FULL, "objective")
    assert world.after(60).mode is Mode.FULL


def test_a_rung_that_is_not_listed_is_skipped_downwards() -> None:
    listed = terms.Ladder(rungs=(terms.ModeRule(mode=Mode.ECONOMY), terms.ModeRule(mode=Mode.SOURCES_ONLY)))
    world = World(listed)
    world.ladder.ask_for(Mode.CACHED_ONLY, "budget", "spent")
    assert world.ladder.current().mode is Mode.SOURCES_ONLY
    assert world.ladder.rungs == (Mode.FULL, Mode.ECONOMY, Mode.SOURCES_ONLY)
    assert world.ladder.rung(Mode.STATIC) is Mode.SOURCES_ONLY  # there is nothing below
    with pytest.raises(Invalid, match="not on the ladder"):
        world.ladder.order(Mode.STATIC, "user:op")
    assert World(terms.Ladder(rungs=())).ladder.rung(Mode.STATIC) is Mode.FULL


def test_an_order_is_a_floor_and_an_order_of_full_overrules() -> None:
    world = World()
    world.ladder.ask_for(Mode.ECONOMY, "objective:p95", "burnt")
    assert world.ladder.order(Mode.FULL, "user:op").mode is Mode.FULL
    world.ladder.ask_for(Mode.STATIC, "index", "gone")
    assert world.after(5).mode is Mode.FULL
    assert world.ladder.order(Mode.CACHED_ONLY, "user:op").mode is Mode.STATIC  # which is worse
    world.ladder.no_longer("index")
    standing = world.after(60)
    assert (standing.mode, standing.cause) == (Mode.CACHED_ONLY, "order")
    world.ladder.no_longer("objective:p95")
    world.after(60)
    assert world.ladder.order(None, "user:op").mode is Mode.FULL  # at once
    assert world.log.held is None
    assert [event.by for event in world.log.kept.values()] == [
        "automatic", "user:op", "user:op", "user:op", "user:op",
    ]  # fmt: skip


def test_an_order_holds_in_every_process_within_a_second() -> None:
    world = World()
    other = Ladder(terms.Ladder(), world.clock, world.log, process="two")
    other.current()
    world.ladder.order(Mode.STATIC, "user:op")
    assert other.current().mode is Mode.FULL
    world.clock.advance(timedelta(seconds=1))
    assert other.current().mode is Mode.STATIC
    assert world.log.changes("two") == [("full", "static", "order")]
    other.order(None, "user:night")
    assert other.current().mode is Mode.FULL
    assert world.after(1).mode is Mode.FULL
    assert world.log.changes() == [("full", "static", "order"), ("static", "full", "order")]


def test_an_order_may_end_by_itself() -> None:
    world = World()
    world.ladder.order(Mode.ECONOMY, "user:op", for_s=600)
    assert world.after(599).mode is Mode.ECONOMY
    assert world.after(1).mode is Mode.FULL
    assert world.log.changes()[-1] == ("economy", "full", "order")


def test_the_order_is_read_once_a_second_at_most() -> None:
    world = World()
    for _ in range(1000):
        world.after(0.01)
    assert world.log.reads <= 11


def test_without_the_database_the_last_order_stands_and_events_wait() -> None:
    world = World()
    world.ladder.order(Mode.ECONOMY, "user:op")
    world.log.away = True
    standing = world.after(2)
    assert standing.mode is Mode.ECONOMY  # one failure is no outage
    assert standing.trouble.startswith("database: ")
    world.after(1)
    standing = world.after(2)
    assert (standing.mode, standing.cause, standing.unwritten) == (Mode.STATIC, "database", 1)
    with pytest.raises(Unavailable):
        world.ladder.order(None, "user:op")
    assert world.after(1).mode is Mode.STATIC
    world.log.away = False
    standing = world.after(5)
    assert (standing.trouble, standing.unwritten) == ("", 0)
    assert world.after(60).mode is Mode.ECONOMY
    assert world.log.changes() == [
        ("full", "economy", "order"),
        ("economy", "static", "database:modes"),
        ("static", "economy", "order"),
    ]


def test_the_database_may_be_left_to_others() -> None:
    world = World(database_mode=None)
    world.log.away = True
    for _ in range(10):
        standing = world.after(5)
    assert standing.mode is Mode.FULL
    assert standing.trouble


def test_unwritten_events_are_bounded() -> None:
    world = World(terms.Ladder(hold_down="1s"), database_mode=None)
    world.log.away = True
    for _ in range(700):
        world.ladder.ask_for(Mode.STATIC, "index", for_s=0.1)
        world.after(2)
    assert world.ladder.current().unwritten == 1000
    world.log.away = False
    for _ in range(50):
        assert world.after(5).unwritten  # a request writes some of them, not all
    assert world.ladder.current().unwritten == 0
    assert len(world.log.kept) == 1000


def test_many_threads_make_one_event_for_one_change() -> None:
    log = Log()
    ladder = Ladder(terms.Ladder(hold_down="1h"), SystemClock(), log, process="one")

    def work(n: int) -> None:
        for _ in range(200):
            ladder.ask_for(Mode.ECONOMY, f"breaker:{n}", "x")
            ladder.current()
            ladder.no_longer(f"breaker:{n}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ladder.current()
    assert [change[:2] for change in log.changes()] == [("full", "economy")]


def test_one_users_budget_limits_that_user_alone() -> None:
    world = World()
    assert mode_for(world.ladder.current(), Mode.SOURCES_ONLY) is Mode.SOURCES_ONLY
    assert mode_for(world.ladder.current(), Mode.FULL) is Mode.FULL
    world.ladder.ask_for(Mode.STATIC, "index")
    assert mode_for(world.ladder.current(), Mode.SOURCES_ONLY) is Mode.STATIC


@given(
    hold=st.integers(1, 60),
    steps=st.lists(
        st.tuples(
            st.floats(0, 20), st.sampled_from(["breaker:a", "budget", "objective"]), st.sampled_from([None, *Mode]),
            st.sampled_from([None, 0.5, 30.0]),
        ),
        max_size=150,
    ),
)  # fmt: skip
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_flapping_reason_does_not_flap_the_mode(
    hold: int, steps: list[tuple[float, str, Mode | None, float | None]]
) -> None:
    """Each rung is entered and left at most once in each hold-down, whatever asks."""
    world = World(terms.Ladder(hold_down=f"{hold}s"))
    for pause, reason, mode, for_s in steps:
        world.after(pause)
        if mode is None:
            world.ladder.no_longer(reason)
        else:
            world.ladder.ask_for(mode, reason, for_s=for_s)
    rungs = len(world.ladder.rungs) - 1
    assert len(world.log.kept) <= 2 * rungs * (world.clock.monotonic() / hold + 1)
    for rung in RANK[1:]:
        entered = [
            event.at
            for event in world.log.kept.values()
            if RANK.index(event.before) < RANK.index(rung) <= RANK.index(event.after)
        ]
        assert all(b - a >= timedelta(seconds=hold) for a, b in pairwise(entered))


class Ladders(RuleBasedStateMachine):
    """Two processes, one operator, reasons that come and go, a database that is away now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.log = FixedClock(), Log()
        self.ladders = [
            Ladder(terms.Ladder(hold_down="10s"), self.clock, self.log, process=name, database_mode=None)
            for name in ("one", "two")
        ]
        self.asked: list[dict[str, Mode]] = [{}, {}]

    @rule(n=st.integers(0, 1), mode=st.sampled_from(RANK[1:]), reason=st.sampled_from(["breaker:a", "budget"]))
    def ask(self, n: int, mode: Mode, reason: str) -> None:
        self.ladders[n].ask_for(mode, reason)
        self.asked[n][reason] = mode

    @rule(n=st.integers(0, 1), reason=st.sampled_from(["breaker:a", "budget"]))
    def stop(self, n: int, reason: str) -> None:
        self.ladders[n].no_longer(reason)
        self.asked[n].pop(reason, None)

    @rule(n=st.integers(0, 1), mode=st.sampled_from([None, *Mode]), for_s=st.sampled_from([None, 7.0]))
    def order(self, n: int, mode: Mode | None, for_s: float | None) -> None:
        before = self.log.held
        try:
            self.ladders[n].order(mode, "user:op", for_s=for_s)
        except Unavailable:
            assert self.log.away
            assert self.log.held == before

    @rule(seconds=st.sampled_from([0.2, 1.0, 6.0, 11.0]))
    def later(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule(away=st.booleans())
    def database(self, away: bool) -> None:
        self.log.away = away

    @rule()
    def settles(self) -> None:
        """With the database back and some patience, the mode is what is asked for, and all events are written."""
        self.log.away = False
        for _ in range(4):
            self.clock.advance(timedelta(seconds=5))
            for ladder in self.ladders:
                ladder.current()
        order = self.log.held
        if order is not None and order.until is not None and order.until <= self.clock.now():
            order = None
        for ladder, asked in zip(self.ladders, self.asked, strict=True):
            wanted = max([Mode.FULL, *asked.values()], key=RANK.index)
            if order is not None:
                wanted = Mode.FULL if order.mode is Mode.FULL else max(wanted, order.mode, key=RANK.index)
            standing = ladder.current()
            assert standing.mode is wanted
            assert (standing.unwritten, standing.trouble) == (0, "")
        for process in ("one", "two"):
            events = [event for event in self.log.kept.values() if event.process == process]
            events.sort(key=lambda event: event.event_id)
            assert all(a.after is b.before for a, b in pairwise(events))
            assert all(event.before is not event.after or event.reason == "order" for event in events)

    @invariant()
    def never_better_than_asked_for(self) -> None:
        for ladder, asked in zip(self.ladders, self.asked, strict=True):
            standing = ladder.current()
            if standing.ordered is None or standing.ordered.mode is not Mode.FULL:
                for mode in asked.values():
                    assert RANK.index(standing.mode) >= RANK.index(mode)
            else:
                assert standing.mode is Mode.FULL


TestLadders = Ladders.TestCase
TestLadders.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mode_and_cause_is_said_in_every_language(language: str) -> None:
    rules = terms.Ladder()
    said = set()
    for mode in RANK[1:]:
        said.add(mode_notice(mode, "", language, rules))
        for cause in ("breaker:big", "objective", "budget", "database", "index", "overload", "order"):
            text = mode_notice(mode, cause, language, rules)
            assert "{" not in text
            assert "big" not in text  # details are for operators
            assert _PHRASES[f"cause_{cause_of(cause)}"][language] in text
            said.add(text)
    assert len(said) == 4 * 8
    assert mode_notice(Mode.FULL, "order", language, rules) == ""
    assert static_text(language, rules) == _PHRASES["static_text"][language]


def test_the_agreements_own_words_win() -> None:
    own = terms.ModeRule(
        mode=Mode.STATIC, notice={"en": "Closed: {cause}.", "de": "Zu {0}."}, text={"de": "Rufen Sie uns an."}
    )
    rules = terms.Ladder(rungs=(own,))
    assert mode_notice(Mode.STATIC, "index", "de", rules) == "Zu {0}."
    assert mode_notice(Mode.STATIC, "index", "fr", rules) == "Closed: l'index de recherche est en cours de réparation."
    assert mode_notice(Mode.ECONOMY, "x", "en", rules) == "Limited service: a smaller language model wrote this answer."
    assert static_text("de", rules) == "Rufen Sie uns an."
    assert static_text("en", rules).startswith("This service")
