"""Calling a model with everything around it: is it healthy, is there room, is there money, is there time.

A call holds money before it begins and settles exactly once, however it ends; it is let through by the model's breaker
and its limit of concurrent calls, and tells both how it went. The output limit follows from what was held, so that
a request can not cost more than its cap. Nothing is repeated once text has been let out.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mainstay.agreement.ledger import Hold, Purse, Spent
from mainstay.models.chat import ChatModel, ChatRequest, Done, Event, FailureKind, ModelFailure, failure
from mainstay.models.routing import Candidate
from mainstay.models.rules import Then, rule_of
from mainstay.records.traces import Journey
from mainstay.resilience.breaker import Breaker, Breakers
from mainstay.resilience.concurrency import AdaptiveLimit
from mainstay.resilience.hedging import FirstTokens, HedgeBudget
from mainstay.types import Clock, Usage

MIN_OUTPUT_TOKENS = 32
RETRY_SHARE = 0.1  # extra calls, as a share of all
RETRIES_AT_FIRST = 3
RETRY_PAUSE_S = 0.25
HEDGE_LEAST_S = 0.25  # sooner a second copy is not worth its price
ALARM_S = 30.0  # how long a model with wrong settings is left alone
LONGEST_TOKEN_BYTES = 16  # no usual vocabulary has text tokens that are longer, but for runs of spaces
ROOM_WAIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What routing must know of a model besides its price: where it runs, what it can, when it counts as slow."""

    region: str = ""
    json: bool = True
    tools: bool = True
    slow_s: float = 10.0
    max_output_tokens: int = 1024
    takes_temperature: bool = True


@dataclass(frozen=True)
class _Line:
    model: ChatModel
    facts: Facts
    breaker: Breaker
    limit: AdaptiveLimit
    first_tokens: FirstTokens


class Switchboard:
    """Every model of the service, and how each is doing. One per process."""

    def __init__(
        self,
        models: Sequence[ChatModel],
        clock: Clock,
        *,
        facts: Mapping[str, Facts] | None = None,
        hedge_share: float = 0.0,
        propagate: bool = True,
    ) -> None:
        """``propagate``: providers are told which trace a call belongs to."""
        self._clock, self._propagate = clock, propagate
        self.breakers = Breakers(clock)
        self._hedging = hedge_share > 0
        self._alarms: dict[str, float] = {}
        self._hedges, self._retries = HedgeBudget(hedge_share), HedgeBudget(RETRY_SHARE, begin=RETRIES_AT_FIRST)
        self._lines = {
            model.name: _Line(
                model,
                (facts or {}).get(model.name, Facts()),
                self.breakers.of(model.name),
                AdaptiveLimit(clock),
                FirstTokens(),
            )
            for model in models
        }

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def model(self, name: str) -> ChatModel:
        return self._lines[name].model

    def max_output_tokens(self, name: str) -> int:
        """The most this model is asked to write."""
        return self._lines[name].facts.max_output_tokens

    def takes_temperature(self, name: str) -> bool:
        """Whether a request may say how much chance there is in an answer; if not, the server alone knows."""
        return self._lines[name].facts.takes_temperature

    def candidates(self) -> tuple[Candidate, ...]:
        """The models as routing sees them now."""
        return tuple(
            Candidate(
                name=name,
                price=line.model.price,
                context_tokens=line.model.context_tokens,
                region=line.facts.region,
                json=line.facts.json,
                tools=line.facts.tools,
                healthy=self._closed_for(line) <= 0,
                opens_in_s=self._closed_for(line),
            )
            for name, line in self._lines.items()
        )

    def _closed_for(self, line: _Line) -> float:
        """Seconds until it may be asked again: paused by its breaker, or set up wrongly, which asking does not mend."""
        alarm = self._alarms.get(line.model.name, float("-inf"))
        return max(0.0, line.breaker.opens_in_s(), alarm - self._clock.monotonic())

    @property
    def alarms(self) -> tuple[str, ...]:
        """Models whose settings or account are wrong: an operator must act."""
        now = self._clock.monotonic()
        return tuple(name for name, until in dict(self._alarms).items() if until > now)

    def call(
        self,
        name: str,
        request: ChatRequest,
        purse: Purse,
        *,
        purpose: str = "answer",
        journey: Journey | None = None,
    ) -> Iterator[Event]:
        """Ask this model: Deltas, then one Done. ``request.max_output_tokens`` is what is wanted; it gets what the purse can
        pay. One more try where the failure's rule says so and nothing was let out yet. The journey is told of each attempt.

        Errors: ModelFailure; Spent when the purse does not pay for a useful answer (nothing was called).
        """
        line = self._lines[name]
        if journey is not None and self._propagate:
            request = replace(request, traceparent=journey.traceparent, tracestate=journey.context.trace_state)
        self._retries.earn()
        for again in (True, False):
            said = False
            try:
                told = _Told(journey, purpose if again else "retry")
                for event in self._ask(line, request, purse, purpose, told):
                    said = True
                    yield event
                return
            except ModelFailure as error:
                if said or not again or rule_of(error).then is not Then.RETRY_HERE:
                    raise
                pause = error.retry_after_s if error.retry_after_given else RETRY_PAUSE_S * (0.5 + random.random())  # noqa: S311 - jitter
                late = self._clock.monotonic() + pause + 1.0 > request.deadline
                if late or not line.breaker.opens_in_s() <= 0 or not self._retries.take():
                    raise
                time.sleep(pause)

    def _ask(self, line: _Line, request: ChatRequest, purse: Purse, purpose: str, told: _Told) -> Iterator[Event]:
        self._hedges.earn()
        usual = line.first_tokens.p95() if self._hedging else None
        if usual is None:
            return self._attempt(line, request, purse, purpose, told)
        return self._hedged(line, request, purse, purpose, max(usual, HEDGE_LEAST_S), told)

    def _attempt(self, line: _Line, request: ChatRequest, purse: Purse, purpose: str, told: _Told) -> Iterator[Event]:
        where, price = f"model {line.model.name}", line.model.price
        permit = line.breaker.permit()
        if permit is None:
            raise failure(
                FailureKind.OVERLOAD,
                "calls are paused after failures",
                where=where,
                retry_after_s=max(1.0, line.breaker.opens_in_s()),
                maybe_paid=False,
            )
        slot = line.limit.take(min(ROOM_WAIT_S, max(0.0, request.deadline - self._clock.monotonic())))
        if slot is None:
            permit.neutral()
            raise failure(FailureKind.OVERLOAD, "it has as many calls as it bears", where=where, maybe_paid=False)
        try:
            least = min(MIN_OUTPUT_TOKENS, request.max_output_tokens)
            hold = purse.hold(
                least_n=price.ceiling(replace(request, max_output_tokens=least)),
                most_n=price.ceiling(request),
                purpose=purpose,
                model=line.model.name,
                price_version=price.version,
            )
        except BaseException:
            permit.neutral()
            slot.done(None, ok=True, overloaded=False)
            raise
        affordable = max(1, price.max_output_for(hold.amount_n, request))
        meter = _Meter(self._clock, replace(request, max_output_tokens=affordable))
        failed: ModelFailure | None = None
        try:
            yield from meter.watched(line.model.stream(meter.request))
        except ModelFailure as error:
            failed = error
            raise
        finally:
            if meter.first_s is not None:
                line.first_tokens.seen(meter.first_s)
            busy = failed is not None and failed.kind in (FailureKind.RATE, FailureKind.OVERLOAD)
            slot.done(meter.first_s, ok=failed is None, overloaded=busy)
            if failed is None and meter.done is not None:
                permit.succeeded(slow=(meter.first_s or 0.0) > line.facts.slow_s)
            elif failed is not None and failed.blames_provider:
                permit.failed(failed.retry_after_s if failed.retry_after_given else None)
            else:
                permit.neutral()  # not the provider's fault, or whoever listened has gone
            if failed is not None and rule_of(failed).alarm:
                self._alarms[line.model.name] = self._clock.monotonic() + ALARM_S
            _settle(purse, hold, meter, line.model, failed)
            told.attempted(meter, line.model, failed)

    def _hedged(
        self, line: _Line, request: ChatRequest, purse: Purse, purpose: str, usual_s: float, told: _Told
    ) -> Iterator[Event]:
        """The call, and a second copy of it when the first token is later than usual and the budget of extra calls permits.
        Whoever speaks first is heard; the other is stopped, and pays for what it did (Dean and Barroso 2013)."""
        heard: queue.SimpleQueue[tuple[int, Event | Exception | None]] = queue.SimpleQueue()
        stops = (threading.Event(), threading.Event())

        def pump(number: int) -> None:
            about = told if number == 0 else replace(told, name="hedge")
            events = self._attempt(line, request, purse, about.name if number else purpose, about)
            try:
                for event in events:
                    if stops[number].is_set():
                        return
                    heard.put((number, event))
                heard.put((number, None))
            except Exception as error:  # noqa: BLE001 - carried to whoever reads, who raises it
                heard.put((number, error))
            finally:
                events.close()  # type: ignore[attr-defined] # a generator: closing it settles

        def start(number: int) -> None:
            threading.Thread(target=pump, args=(number,), name=f"call-{number}", daemon=True).start()

        running, winner, hedged = {0}, None, False
        start(0)
        try:
            while True:
                try:
                    number, item = heard.get(timeout=None if hedged else usual_s)
                except queue.Empty:
                    hedged = True  # or it could not be: either way there is nothing more to do than to wait
                    if self._hedges.take():
                        running.add(1)
                        start(1)
                    continue
                if winner is None and isinstance(item, Exception):
                    running.discard(number)
                    if running and not (number == 0 and isinstance(item, Spent)):
                        continue
                    raise item
                if winner is None:
                    winner, hedged = number, True
                    stops[1 - number].set()
                if number != winner:
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            for stop in stops:
                stop.set()


@dataclass(frozen=True)
class _Told:
    """Whom to tell how an attempt went, and what it was: the purpose of the call, retry or hedge."""

    journey: Journey | None
    name: str

    def attempted(self, meter: _Meter, model: ChatModel, failed: ModelFailure | None) -> None:
        if self.journey is None:
            return
        free = failed is not None and not failed.maybe_paid
        usage, estimated = meter.usage()
        self.journey.part(
            "generate",
            meter.began,
            name=self.name,
            error=str(failed.kind) if failed is not None else "",
            model=model.name,
            first_ms=None if meter.first_s is None else round(meter.first_s * 1000, 3),
            input_tokens=0 if free else usage.input_tokens,
            output_tokens=0 if free else usage.output_tokens,
            estimated=estimated and not free,
            cost_nanodollars=0 if free else model.price.cost(usage),
            price_version=model.price.version,
            whole=meter.done is not None,
        )


class _Meter:
    """Watches one stream: when it began to speak, how much it said, and that it stops where the money does."""

    def __init__(self, clock: Clock, request: ChatRequest) -> None:
        self._clock = clock
        self.request = request
        self.began = clock.monotonic()
        self.first_s: float | None = None
        self.said_bytes = self.pieces = 0
        self.done: Done | None = None
        self.stopped = False

    def watched(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; a server that does not keep the limit it was given is cut off at it."""
        most = self.request.max_output_tokens
        for event in events:
            if self.first_s is None:
                self.first_s = self._clock.monotonic() - self.began
            if isinstance(event, Done):
                self.done = event
                yield event
                return
            self.said_bytes += len(event.text.encode("utf-8", "replace"))
            self.pieces += 1  # a piece has a token or more, and no token is so long
            if self.pieces > most or self.said_bytes > most * LONGEST_TOKEN_BYTES:
                self.stopped = True
                self.done = Done(reason="length")
                yield self.done
                return
            yield event

    def usage(self) -> tuple[Usage, bool]:
        """What to settle, and whether it is an estimate: then the most that it can have been."""
        told = self.done.usage if self.done is not None else None
        if told is not None and not self.stopped:
            return told, False
        most = self.request.max_output_tokens
        out = most if self.stopped or not self.said_bytes else min(most, self.said_bytes)
        return Usage(input_tokens=self.request.input_token_bound, output_tokens=out), True


def _settle(purse: Purse, hold: Hold, meter: _Meter, model: ChatModel, failed: ModelFailure | None) -> None:
    if failed is not None and not failed.maybe_paid:
        purse.cancel(hold)
        return
    usage, estimated = meter.usage()
    purse.settle(hold, actual_n=model.price.cost(usage), usage=usage, estimated=estimated)
