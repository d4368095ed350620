"""Who is let in, when, and who is told at once to come back later.

Three gates, cheapest first. *Rates* of the service, of each user and of each key by the generic cell rate algorithm (ITU-T
I.371): one number for each, exact Retry-After. *Expectation*: who would wait longer than may be waited, or could not be
finished within the deadline that is left, is refused on arrival instead of after waiting. *The queue*: the highest
priority first; within one, whoever has the fewest requests at work, then whoever was served longest ago (a newcomer
starts now, as in start-time fair queueing: Goyal, Vin and Cheng, 1996), then first come.

A queue that has not been empty for as long as one may wait is no burst but overload. From then until it is over, new
requests are queued only for a short wait (a fifth of the allowed), so that the queue does not stand at its full length
and cost everybody the longest wait: the good and the bad queue of CoDel (Nichols and Jacobson, 2012, RFC 8289), as used
for requests by B. Maurer, "Fail at Scale", 2015. Deciding on arrival makes newest-first order needless: nobody grows old
in the queue for nothing.

Retry-After of a rate is exact. That of load is the wait as it is expected now, at least a second: nobody can know who comes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import heapq
import math
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from mainstay.agreement.terms import Traffic
from mainstay.errors import Exhausted, Invalid
from mainstay.types import Clock

Reason = Literal["service_rate", "user_rate", "key_rate", "queue", "wait", "deadline", "too_late", "crowd"]
_STANDING = 0.2  # of the allowed wait, while the queue has not been empty for long
_WEIGHT = 0.1  # of the newest request in the expected service time
_MOST_OVERTAKEN = 20.0
_DOUBT = 0.002
_LEAST_RETRY_S = 1.0
_RECENT_S = 5.0  # how long a refusal for load counts as pressure
_EVICT = 16  # idle states looked at to make room for one
_SAID: Mapping[Reason, tuple[str, str]] = {
    "service_rate": ("the service has all the requests it takes a minute", "traffic.service_per_minute"),
    "user_rate": ("you have sent more requests than one user may in a minute", "traffic.user_per_minute"),
    "key_rate": ("this key was used for more requests than it may in a minute", "traffic.key_per_minute"),
    "queue": ("too many requests are waiting", "traffic.queue"),
    "wait": ("too many requests are waiting to be served in time", "traffic.queue_wait_s"),
    "deadline": ("too many requests are waiting to answer before the deadline", "request.deadline_s"),
    "too_late": ("the deadline is over", "request.deadline_s"),
    "crowd": ("too many different users at once", "traffic"),
}


@dataclass(frozen=True, kw_only=True)
class AdmissionStanding:
    """How it stands: requests at work and waiting, seconds a newcomer would wait and one request takes, refusals by reason.

    ``pressure`` is 0 while nobody waits and 1 or more where requests are refused for load; ``overload``: the queue has not
    been empty for long.
    """

    in_flight: int
    waiting: int
    expected_wait_s: float
    service_s: float
    pressure: float
    overload: bool
    shed: Mapping[str, int]


class Ticket:
    """The right to be at work. Leave the ``with`` or call ``release`` once the answer is out; more than once does no harm,
    and one that is forgotten is released when it is collected.
    """

    __slots__ = ("__weakref__", "_admission", "_released", "began", "principal", "priority", "waited_s")

    def __init__(self, admission: Admission, *, principal: str, priority: int, began: float, waited_s: float) -> None:
        self._admission, self._released = admission, False
        self.principal, self.priority, self.began, self.waited_s = principal, priority, began, waited_s

    def release(self) -> None:
        self._admission._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if not self._released:
            self._admission._forget(self.principal)


@dataclass(eq=False, kw_only=True)
class _Waiter:
    principal: str
    key_id: str | None
    priority: int
    number: int
    arrived: float
    kind: tuple[int, bool]
    expected_s: float  # as it seemed on arrival, before it was corrected by what others had waited
    until: float  # the end of the wait
    deadline: float
    state: Literal["waiting", "granted", "shed", "left"] = "waiting"
    ready: concurrent.futures.Future[Ticket] = field(default_factory=concurrent.futures.Future)


class Waiting:
    """A place in the queue. ``ready`` gets the Ticket, or Exhausted; nobody's thread waits for it.

    ``await waiting.granted()`` does it all in an async door. Who waits in another way waits for at most ``wait_s``, then
    calls ``settle``; who goes away before (the client hung up) calls ``leave``.
    """

    __slots__ = ("_admission", "_waiter", "ready", "wait_s")

    def __init__(self, admission: Admission, waiter: _Waiter) -> None:
        self._admission, self._waiter = admission, waiter
        self.ready = waiter.ready
        self.wait_s = max(0.0, waiter.until - waiter.arrived)

    def leave(self) -> None:
        """Give up the place, or release the ticket that was granted meanwhile."""
        self._admission._leave(self._waiter)

    def settle(self) -> Ticket:
        """The ticket, if it came in the last moment. Errors: Exhausted, and the place is given up."""
        return self._admission._settle(self._waiter)

    async def granted(self) -> Ticket:
        """Wait for the ticket without a thread. Errors: Exhausted. Cancelled, it leaves the queue."""
        try:
            ready = asyncio.wrap_future(self.ready)
            ready.add_done_callback(_looked_at)
            await asyncio.wait({ready}, timeout=self.wait_s)
            return self.settle()
        except BaseException:
            self.leave()
            raise


class _Rates:
    """The theoretical arrival time of the next request for each key (GCRA): a bounded number of keys, none forgotten that
    is in debt."""

    def __init__(self, per_minute: float, burst_s: float, most: int) -> None:
        self._each = 60.0 / per_minute
        self._allowed = max(burst_s, self._each)  # at least one request may come at any time
        self._most = most
        self._next: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """Seconds until one more is allowed; 0 now."""
        due = max(now, self._next.get(key, now)) + self._each
        short = due - now - self._allowed
        return 0.0 if short <= 1e-6 else _up(short)

    def room_s(self, key: str, now: float) -> float:
        """Seconds until there is room to remember this key; 0 now."""
        if key in self._next or len(self._next) < self._most:
            return 0.0
        oldest = [held for held, _ in zip(self._next, range(_EVICT), strict=False)]
        for held in oldest:
            if self._next[held] <= now:
                del self._next[held]
                return 0.0
        return _up(min(self._next[held] for held in oldest) - now)

    def debit(self, key: str, now: float) -> None:
        self._next[key] = max(now, self._next.get(key, now)) + self._each
        self._next.move_to_end(key)

    def credit(self, key: str) -> None:
        """It was counted and not served."""
        if key in self._next:
            self._next[key] -= self._each

    def __len__(self) -> int:
        return len(self._next)


class Admission:
    """The gate of one process, by the rules of ``traffic`` in the agreement.

    A blocked thread is a resource, too: an async door calls ``try_admit`` before it takes a thread and awaits the place in
    the queue. ``admit`` is for callers who have a thread of their own.
    """

    def __init__(
        self, traffic: Traffic, clock: Clock, *, expected_service_s: float = 2.0, remembered: int = 50_000
    ) -> None:
        if expected_service_s <= 0 or remembered < 1:
            raise Invalid("admission needs an expected service time above 0 and at least one remembered user")
        self._traffic, self._clock = traffic, clock
        self._lock = threading.Lock()
        self._rates: list[tuple[Reason, _Rates]] = []
        rates: tuple[tuple[Reason, float], ...] = (
            ("service_rate", traffic.service_per_minute),
            ("user_rate", traffic.user_per_minute),
            ("key_rate", traffic.key_per_minute),
        )
        for reason, per_minute in rates:
            if per_minute > 0:
                self._rates.append((reason, _Rates(per_minute, traffic.burst_s, remembered)))
        self._priorities: dict[str, int] = {}
        for named in traffic.classes:
            for who in named.who:
                self._priorities[who] = max(named.priority, self._priorities.get(who, named.priority))
        self._service_s = expected_service_s
        self._measured = 0
        self._in_flight = 0
        self._at_work: Counter[str] = Counter()  # by user
        self._waiting = 0
        self._queues: dict[int, dict[str, deque[_Waiter]]] = {}  # by priority, then user
        self._places: dict[int, _Waiter] = {}  # all who wait, by number
        self._ends: list[tuple[float, int]] = []  # a heap of when who has waited long enough
        self._waits: dict[tuple[int, bool], tuple[float, float]] = {}  # by kind: mean wait as expected, and as it was
        self._served: dict[str, int] = {}  # of users at work or waiting: the turn at which they were last served
        self._turn = self._number = 0
        self._filled_at: float | None = None  # since when the queue has not been empty
        self._refused_at: float | None = None  # for load
        self._overloaded = False
        self._shed: Counter[str] = Counter()
        self._forgotten: deque[str] = deque()

    def admit(
        self,
        principal: str,
        key_id: str | None = None,
        groups: Iterable[str] = (),
        deadline: float = math.inf,
        *,
        wait: bool = True,
    ) -> Ticket:
        """A ticket, after waiting in this thread for at most ``queue_wait_s``; without ``wait`` at once or not at all.

        ``deadline`` is a time of the monotonic clock. Errors: Exhausted, naming the limit, with the seconds after which
        trying again makes sense.
        """
        got = self.try_admit(principal, key_id, groups, deadline, wait=wait)
        if isinstance(got, Ticket):
            return got
        try:
            return got.ready.result(timeout=got.wait_s)
        except concurrent.futures.TimeoutError:
            return got.settle()
        except BaseException:
            got.leave()
            raise

    def try_admit(
        self,
        principal: str,
        key_id: str | None = None,
        groups: Iterable[str] = (),
        deadline: float = math.inf,
        *,
        wait: bool = True,
    ) -> Ticket | Waiting:
        """``admit`` that never blocks: a ticket, a place in the queue, or Exhausted."""
        answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
        try:
            with self._lock:
                now = self._clock.monotonic()
                self._tidy(now, answers)
                return self._arrive(principal, key_id, groups, deadline, now, answers, wait=wait)
        finally:
            _answer(answers)

    @property
    def pressure(self) -> float:
        """0 while nobody waits, 1 or more where requests are refused for load."""
        return self.standing().pressure

    def standing(self) -> AdmissionStanding:
        answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
        with self._lock:
            now = self._clock.monotonic()
            self._tidy(now, answers)
            expected = self._expected_s(self._waiting)
            allowed = self._allowed_s(now)
            filled = self._waiting / self._traffic.queue if self._traffic.queue else 0.0
            pressure = max(filled, expected / allowed if allowed > 0 and self._waiting else 0.0)
            if self._refused_at is not None and now - self._refused_at < _RECENT_S:
                pressure = max(1.0, pressure)
            seen = AdmissionStanding(
                in_flight=self._in_flight,
                waiting=self._waiting,
                expected_wait_s=expected,
                service_s=self._service_s,
                pressure=pressure,
                overload=self._overload(now),
                shed=dict(self._shed),
            )
        _answer(answers)
        return seen

    # -- arriving, under the lock --------------------------------------------------------------------------------------

    def _arrive(
        self,
        principal: str,
        key_id: str | None,
        groups: Iterable[str],
        deadline: float,
        now: float,
        answers: list[tuple[_Waiter, Ticket | Exhausted]],
        *,
        wait: bool,
    ) -> Ticket | Waiting:
        if deadline <= now:
            raise self._refusal("too_late", _LEAST_RETRY_S, now)
        for reason, rates in self._rates:
            key = _key(reason, principal, key_id)
            if key is None:
                continue
            wait_s = rates.wait_s(key, now)
            if wait_s > 0:
                raise self._refusal(reason, wait_s, now)
            wait_s = rates.room_s(key, now)
            if wait_s > 0:
                raise self._refusal("crowd", wait_s, now)
        priority = self._priority(principal, key_id, groups)
        if self._in_flight < self._traffic.concurrency and not self._waiting:
            self._debit(principal, key_id, now)
            return self._ticket(principal, priority, now, now)
        if not wait:
            raise self._refusal("queue", self._expected_s(self._waiting), now)
        plain = self._expected_s(self._ahead(principal, priority))
        expected = plain * self._overtaken(self._kind(principal, priority))
        allowed = self._allowed_s(now)
        if expected + self._service_s > deadline - now:
            raise self._refusal("deadline", expected + self._service_s - (deadline - now), now)
        if expected > allowed:
            self._doubt(self._kind(principal, priority))
            raise self._refusal("wait", expected - allowed, now)
        if self._waiting >= self._traffic.queue and not self._make_room(principal, priority, now, answers):
            raise self._refusal("queue", self._expected_s(self._waiting), now)
        self._debit(principal, key_id, now)
        return Waiting(self, self._queue(principal, key_id, priority, deadline, plain, now))

    def _priority(self, principal: str, key_id: str | None, groups: Iterable[str]) -> int:
        if not self._priorities:
            return 0
        names = [principal, *groups, *(f"group:{group}" for group in groups)]
        if key_id is not None:
            names.append(key_id)
        return max((self._priorities[name] for name in names if name in self._priorities), default=0)

    def _debit(self, principal: str, key_id: str | None, now: float) -> None:
        for reason, rates in self._rates:
            key = _key(reason, principal, key_id)
            if key is not None:
                rates.debit(key, now)

    def _expected_s(self, ahead: int) -> float:
        """Seconds until a slot is free for one with so many ahead: as many leave in one service time as are at work."""
        if self._in_flight < self._traffic.concurrency and not ahead:
            return 0.0
        return (ahead + 1) * self._service_s / self._traffic.concurrency

    def _kind(self, principal: str, priority: int) -> tuple[int, bool]:
        """Those who wait alike: by class, and whether more of the same user is at work, so that others go first."""
        return priority, principal in self._at_work

    def _overtaken(self, kind: tuple[int, bool]) -> float:
        """By how much those of this kind wait longer than those ahead of them on arrival explain: others come later and go
        first."""
        expected, was = self._waits.get(kind, (0.0, 0.0))
        return min(max(was / expected, 1.0), _MOST_OVERTAKEN) if expected > 0 else 1.0

    def _waited(self, waiter: _Waiter, now: float) -> None:
        expected, was = self._waits.get(waiter.kind, (0.0, 0.0))
        expected += _WEIGHT * (waiter.expected_s - expected)
        was += _WEIGHT * (now - waiter.arrived - was)
        self._waits[waiter.kind] = (expected, was)

    def _doubt(self, kind: tuple[int, bool]) -> None:
        """Somebody was refused for what others had waited: believe it a little less, since nobody waits who could disprove it."""
        if kind in self._waits:
            expected, was = self._waits[kind]
            self._waits[kind] = (expected, was + _DOUBT * (expected - was))

    def _ahead(self, principal: str, priority: int) -> int:
        """How many who wait would be served before a newcomer of this user: of others in its class at most as many as it
        would have waiting itself, since they take turns."""
        own = len(self._queues.get(priority, {}).get(principal, ())) + 1
        ahead = 0
        for held, users in self._queues.items():
            for user, queue in users.items():
                if held > priority:
                    ahead += len(queue)
                elif held == priority:
                    ahead += own - 1 if user == principal else min(len(queue), own)
        return ahead

    def _overload(self, now: float) -> bool:
        """It begins when the queue was not empty for as long as one may wait, and ends when it is and nobody was refused for
        as long; without the memory it would fill up again each time it has been emptied."""
        allowed = self._traffic.queue_wait_s
        if self._filled_at is not None:
            self._overloaded = self._overloaded or now - self._filled_at >= allowed
        elif self._refused_at is None or now - self._refused_at >= allowed:
            self._overloaded = False
        return self._overloaded

    def _allowed_s(self, now: float) -> float:
        allowed = self._traffic.queue_wait_s
        if self._overload(now):
            # Never so short that no place is worth having: one who is next waits for one of those at work to end.
            allowed = min(allowed, max(allowed * _STANDING, 2 * self._service_s / self._traffic.concurrency))
        return allowed

    def _make_room(
        self, principal: str, priority: int, now: float, answers: list[tuple[_Waiter, Ticket | Exhausted]]
    ) -> bool:
        """Send away the newest of the user who has most waiting in the lowest class, unless that is who arrives."""
        if not self._waiting:
            return False
        lowest = min(held for held, users in self._queues.items() if users)
        if lowest > priority:
            return False
        users = self._queues[lowest]
        own = (len(users.get(principal, ())) + 1) if lowest == priority else 0
        most = max(users.values(), key=lambda queue: (len(queue), queue[-1].number))
        if len(most) <= own:
            return False
        self._send_away(most[-1], "queue", now, answers)
        return True

    def _queue(
        self, principal: str, key_id: str | None, priority: int, deadline: float, expected_s: float, now: float
    ) -> _Waiter:
        self._number += 1
        waiter = _Waiter(
            principal=principal,
            key_id=key_id,
            priority=priority,
            number=self._number,
            arrived=now,
            kind=self._kind(principal, priority),
            expected_s=expected_s,
            until=min(now + self._traffic.queue_wait_s, deadline),
            deadline=deadline,
        )
        self._queues.setdefault(priority, {}).setdefault(principal, deque()).append(waiter)
        self._places[waiter.number] = waiter
        heapq.heappush(self._ends, (waiter.until, waiter.number))
        self._served.setdefault(principal, self._turn)
        self._waiting += 1
        if self._filled_at is None:
            self._filled_at = now
        return waiter

    # -- serving, under the lock ---------------------------------------------------------------------------------------

    def _ticket(self, principal: str, priority: int, arrived: float, now: float) -> Ticket:
        self._in_flight += 1
        self._at_work[principal] += 1
        self._turn += 1
        self._served[principal] = self._turn
        return Ticket(self, principal=principal, priority=priority, began=now, waited_s=now - arrived)

    def _tidy(self, now: float, answers: list[tuple[_Waiter, Ticket | Exhausted]]) -> None:
        """Take back what was forgotten, send away who waited long enough, and give what is free to who is next."""
        while self._forgotten:
            self._put_back(self._forgotten.popleft())
        while self._ends and (self._ends[0][0] <= now or self._ends[0][1] not in self._places):
            late = self._places.get(heapq.heappop(self._ends)[1])
            if late is not None:
                self._waited(late, now)
                self._send_away(late, "wait" if late.until < late.deadline else "deadline", now, answers)
        while self._in_flight < self._traffic.concurrency and self._waiting:
            waiter = self._next()
            if waiter.deadline - now < self._service_s and self._waiting > 1:
                self._send_away(waiter, "deadline", now, answers)  # it would be too late, and others wait
            elif self._take_off(waiter, "granted"):
                self._waited(waiter, now)
                answers.append((waiter, self._ticket(waiter.principal, waiter.priority, waiter.arrived, now)))

    def _next(self) -> _Waiter:
        users = self._queues[max(priority for priority, held in self._queues.items() if held)]
        return min(
            (queue[0] for queue in users.values()),
            key=lambda first: (self._at_work[first.principal], self._served[first.principal], first.number),
        )

    def _take_off(self, waiter: _Waiter, state: Literal["granted", "shed", "left"]) -> bool:
        """Take a waiter off the queue; False when its future was cancelled, so that it has left."""
        users = self._queues[waiter.priority]
        queue = users[waiter.principal]
        queue.remove(waiter)
        if not queue:
            del users[waiter.principal]
            if not users:
                del self._queues[waiter.priority]
        del self._places[waiter.number]
        self._waiting -= 1
        if not self._waiting:
            self._filled_at = None
        waiter.state = state
        if state == "left":
            waiter.ready.cancel()
        elif not waiter.ready.set_running_or_notify_cancel():
            waiter.state = "left"
        self._forget_user(waiter.principal)
        return waiter.state == state

    def _send_away(
        self, waiter: _Waiter, reason: Reason, now: float, answers: list[tuple[_Waiter, Ticket | Exhausted]]
    ) -> None:
        retry_s = self._expected_s(self._waiting)
        if self._take_off(waiter, "shed"):
            answers.append((waiter, self._refusal(reason, retry_s, now)))
            for kind, rates in self._rates:
                key = _key(kind, waiter.principal, waiter.key_id)
                if key is not None:
                    rates.credit(key)

    def _put_back(self, principal: str) -> None:
        self._in_flight -= 1
        self._at_work[principal] -= 1
        if self._at_work[principal] <= 0:
            del self._at_work[principal]
        self._forget_user(principal)

    def _forget_user(self, principal: str) -> None:
        waits = any(principal in users for users in self._queues.values())
        if not waits and principal not in self._at_work:
            self._served.pop(principal, None)

    def _refusal(self, reason: Reason, retry_s: float, now: float) -> Exhausted:
        self._shed[reason] += 1
        if reason in ("queue", "wait", "deadline"):
            self._refused_at = now
            retry_s = max(retry_s, _LEAST_RETRY_S)
        said, where = _SAID[reason]
        retry_s = _up(retry_s)
        return Exhausted(said, where=where, fix=f"try again in {math.ceil(retry_s)} s", retry_after_s=retry_s)

    # -- called by tickets and waiters ---------------------------------------------------------------------------------

    def _release(self, ticket: Ticket) -> None:
        answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
        with self._lock:
            if ticket._released:
                return
            ticket._released = True
            now = self._clock.monotonic()
            took = max(now - ticket.began, 1e-3)
            self._measured += 1  # the first few count more, but none alone: it may have been a cold start
            self._service_s += max(_WEIGHT, 1 / (self._measured + 1)) * (took - self._service_s)
            self._put_back(ticket.principal)
            self._tidy(now, answers)
        _answer(answers)

    def _forget(self, principal: str) -> None:
        """Of the garbage collector, which may run while this very thread holds the lock: then the next call tidies up."""
        self._forgotten.append(principal)
        if self._lock.acquire(blocking=False):
            answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
            try:
                self._tidy(self._clock.monotonic(), answers)
            finally:
                self._lock.release()
            _answer(answers)

    def _leave(self, waiter: _Waiter) -> None:
        answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
        with self._lock:
            if waiter.state == "waiting":
                self._take_off(waiter, "left")
                self._tidy(self._clock.monotonic(), answers)
        _answer(answers)
        if waiter.state == "granted":
            waiter.ready.result().release()

    def _settle(self, waiter: _Waiter) -> Ticket:
        answers: list[tuple[_Waiter, Ticket | Exhausted]] = []
        with self._lock:
            now = self._clock.monotonic()
            self._tidy(now, answers)
            if waiter.state == "waiting":
                self._send_away(waiter, "wait" if waiter.until < waiter.deadline else "deadline", now, answers)
        _answer(answers)
        return waiter.ready.result()


def _answer(answers: list[tuple[_Waiter, Ticket | Exhausted]]) -> None:
    """Tell those who waited, outside the lock: what they do then is their own."""
    for waiter, said in answers:
        if isinstance(said, Ticket):
            waiter.ready.set_result(said)
        else:
            waiter.ready.set_exception(said)


def _looked_at(ready: asyncio.Future[Ticket]) -> None:
    """What it says is read from the other future; without this, asyncio would complain that nobody looked."""
    if not ready.cancelled():
        ready.exception()


def _key(reason: Reason, principal: str, key_id: str | None) -> str | None:
    if reason == "service_rate":
        return ""
    return principal if reason == "user_rate" else key_id


def _up(seconds: float) -> float:
    """Rounded up to the millisecond: who waits that long has waited long enough."""
    return math.ceil(seconds * 1000 - 1e-6) / 1000
