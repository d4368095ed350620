"""THE MAIN ROAD: a question in, an Answer out.

``stream`` reads as its steps: admit, see which mode is in force and what the asker may read, find, look for an answer that
serves again, write, check, say, record. Text is let out sentence by sentence and only after its sentence has been
checked against its source, so streaming never shows what the check would remove.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mainstay.access.scope import Gate
from mainstay.agreement import Agreement
from mainstay.agreement.budgets import Payer
from mainstay.agreement.ledger import AUDIT, Backlog, Ledger, Purse, Spent
from mainstay.agreement.versions import digest
from mainstay.answering.caching import Caching, Taken
from mainstay.answering.events import Cited, Draft, Event, Finished, Noticed, TextPiece
from mainstay.answering.generating import DATA_CLASS, Generating, NoModel, Work, for_a_person
from mainstay.answering.policy import Policy
from mainstay.answering.quoting import Quoting, sources_alone
from mainstay.errors import Invalid, MainstayError, TooLarge, Unavailable
from mainstay.guard.hidden_text import clean
from mainstay.handover import HandOver, promise
from mainstay.models.embedders.metered import paying
from mainstay.records.decisions import Circumstances, DecisionRecord, decision_of
from mainstay.records.measures import Measured
from mainstay.records.traces import Context, Journey, Texts, Trace, Traces
from mainstay.resilience.ladder import Ladder, Standing, mode_for, mode_notice, static_text
from mainstay.retrieval.ambiguity import ambiguity
from mainstay.retrieval.search import Found, Searcher
from mainstay.text.language import language, notice_other_language
from mainstay.text.phrases import phrase
from mainstay.text.words import content
from mainstay.types import Actor, Answer, Citation, Clock, Filter, Mode, Passage, Question, Scope, Status

HISTORY_TURNS = 6
STRIKES = 3
TROUBLE_S = 2.0  # how long a search that failed is not tried again
SPENT_S = 30.0  # how long a spent budget of the service is believed to be spent, before one request tries again
AUDITOR = Actor(principal="service:cache-audit")
WITHOUT_MODEL = (Mode.CACHED_ONLY, Mode.SOURCES_ONLY, Mode.STATIC)


class People(Protocol):
    """Who takes what is not for a machine."""

    def hand_over(
        self,
        question: Question,
        actor: Actor,
        *,
        reason: str,
        sources: Sequence[Passage | Citation] = (),
        draft: str = "",
        request_id: str = "",
        language: str = "",
    ) -> HandOver:
        """Keep it for a person and have it delivered."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a question may be."""

    question_chars: int = 4000


class Answering:
    """Answers questions from the documents an asker may read.

    ``generating`` drafts with language models, when there are any; ``quoting`` is what is always there.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        searcher: Searcher,
        traces: Traces,
        clock: Clock,
        agreement: Agreement,
        limits: Limits,
        quoting: Quoting,
        generating: Generating,
        caching: Caching,
        ladder: Ladder,
        ledger: Ledger,
        backlog: Backlog,
        people: People,
        release: Callable[[], str],
        observe: Callable[..., object] = lambda *_, **__: None,
    ) -> None:
        """``observe`` is told what each request is measured by, with its tokens and the class of its error, to be counted."""
        self._gate, self._searcher, self._traces, self._clock = gate, searcher, traces, clock
        self._agreement, self._limits, self._release = agreement, limits, release
        self._quoting, self._generating, self._caching = quoting, generating, caching
        self._ladder, self._ledger, self._backlog, self._people = ladder, ledger, backlog, people
        self._observe = observe
        self._policy, self._agreed = Policy(agreement.governance), digest(agreement)
        self.traces_lost = self._searches_failed = 0

    def answer(
        self,
        question: Question,
        actor: Actor,
        *,
        request_id: str | None = None,
        door: str = "",
        context: Context | None = None,
    ) -> Answer:
        """The answer to one question. Errors: Invalid for a question that can not be asked; nothing else leaves here as an error
        but what makes the service unable to look (Unavailable)."""
        finished: Answer | None = None
        for event in self.stream(question, actor, request_id=request_id, door=door, context=context):
            if isinstance(event, Finished):
                finished = event.answer
        assert finished is not None
        return finished

    def stream(
        self,
        question: Question,
        actor: Actor,
        *,
        request_id: str | None = None,
        door: str = "",
        context: Context | None = None,
    ) -> Iterator[Event]:
        """The same, piece by piece; the last event is Finished. ``door`` says through which one it came, for the measures, and
        ``context`` where the request stands in its caller's trace."""
        question = admitted(question, self._limits)
        journey = Journey(request_id or self._clock.new_id("req"), actor, "answer", self._clock, context=context)
        journey.door = door
        deadline = self._clock.monotonic() + self._agreement.request.deadline_s
        spoken = language(question.text)
        try:
            standing = self._ladder.current()
            scope = self._gate.scope(actor)
            if standing.cause == "database":  # it has just answered: nobody waits for the watch to notice
                self._ladder.no_longer("database")
                standing = self._ladder.current()
            purse = self._purse(journey, actor, scope, deadline)
            journey.span("admit", question_chars=len(question.text), language=spoken, mode=str(standing.mode))
            journey.operator["scope"] = scope.digest  # it names class numbers, which count what others may read
            steps = self._steps(question, actor, scope, spoken, deadline, standing, purse, journey)
            draft = yield from _heard(steps, journey)
            mode = mode_for(standing, self._ladder.rung(draft.mode))
            if draft.cached and mode is Mode.ECONOMY:
                mode = (
                    Mode.FULL
                )  # only answers of the full service are kept: this one is no smaller for being shown now
            notices = self._notices(draft, mode, standing, spoken)
            for notice in notices:
                yield Noticed(text=notice)
            answer = self._sealed(draft, mode, spoken, notices, purse, journey)
        except MainstayError as error:
            self._failed(journey, error)
            raise
        self._recorded(question, answer, draft, journey, notices, draft.cause or standing.cause)
        yield Finished(answer=answer)

    def anew(self, work: Work) -> Draft | None:
        """The same question once more, beside and at the service's expense, to audit the cache; None when no model drafts."""
        journey = Journey(self._clock.new_id("req"), AUDITOR, "audit", self._clock)
        deadline = self._clock.monotonic() + self._agreement.request.deadline_s
        purse = self._purse(journey, AUDITOR, work.scope, deadline, purpose=AUDIT)
        steps = self._generating.draft(replace(work, journey=journey, deadline=deadline, purse=purse))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value if isinstance(end.value, Draft) else None

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _steps(
        self,
        question: Question,
        actor: Actor,
        scope: Scope,
        spoken: str,
        deadline: float,
        standing: Standing,
        purse: Purse,
        journey: Journey,
    ) -> Generator[Event, None, Draft]:
        verdict = self._policy.look(
            [question.text, *(text for role, text in question.history if role == "user")], spoken
        )
        if standing.mode is Mode.STATIC and (verdict is None or verdict.then != "refuse"):
            return self._static(spoken, standing.cause)
        if verdict is not None and verdict.then == "refuse":
            journey.span("guard", refused=verdict.reason, verdict="refuse", rules=[verdict.reason])
            return Draft(status=Status.REFUSED, text=verdict.text, route=(f"policy:{verdict.reason}",))
        try:
            found = self._found(question, scope, purse, journey)
        except Unavailable as error:
            # Nothing can be looked up: say so in the words of the agreement; once it is no accident, spare the next ones
            # the attempt.
            self._searches_failed += 1
            if self._searches_failed >= STRIKES:
                self._ladder.ask_for(Mode.STATIC, "index", error.what, for_s=TROUBLE_S)
            journey.span("retrieve", error="unavailable", failed=error.what)
            return replace(self._static(spoken, "index"), cause="index")
        self._searches_failed = 0
        if verdict is not None:
            journey.span("guard", verdict=verdict.then, rules=[verdict.reason])
            return self._handed_over(
                question, actor, found, verdict.reason, Draft(status=Status.REFUSED, text=""), spoken, journey
            )
        draft = self._asked_back(question, found, spoken)
        if draft is None:
            work = Work(
                question=question,
                found=found,
                scope=scope,
                spoken=spoken,
                deadline=deadline,
                journey=journey,
                purse=purse,
                mode=standing.mode,
                allowed=self._models_of(standing.mode),
            )
            draft = yield from self._written(work, actor)
        extra = self._retrieval_notices(found, spoken)
        other = notice_other_language(spoken, _source_languages(draft, found))
        return replace(draft, notices=(*extra, *draft.notices, *([other] if other else [])))

    def _written(self, work: Work, actor: Actor) -> Generator[Event, None, Draft]:
        if not work.found.passages or not content(work.question.text):
            work.journey.span("generate", model="", abstained="nothing found")
            return Draft(status=Status.REFUSED, text=phrase("not_found", work.spoken), route=("retrieve:empty",))
        if not self._generating:
            if work.mode in WITHOUT_MODEL:
                return sources_alone(work.found, work.spoken, ())
            return (yield from self._quoting.draft(work.question, work.found, work.spoken, work.journey))
        if work.mode is Mode.SOURCES_ONLY:
            return sources_alone(work.found, work.spoken, ())
        with self._caching.look(work, lambda: self._gate.scope(actor)) as looked:
            if isinstance(looked, Taken):
                yield from (Cited(citation=citation) for citation in looked.draft.citations)
                yield TextPiece(text=looked.draft.text)
                return looked.draft
            if work.mode in WITHOUT_MODEL:
                return sources_alone(work.found, work.spoken, (looked.said,))
            draft = yield from self._drafted(work)
            draft = replace(draft, route=(looked.said, *draft.route))
            personal = for_a_person(draft, self._agreement)
            if not personal:
                looked.keep(draft)
        if personal:
            return self._handed_over(
                work.question, actor, work.found, "low confidence", draft, work.spoken, work.journey
            )
        return draft

    def _drafted(self, work: Work) -> Generator[Event, None, Draft]:
        """By a language model; where none can, what the agreement leaves."""
        drafted = yield from self._generating.draft(work)
        if isinstance(drafted, Draft):
            return drafted
        own = self._without_money(drafted)
        if own is Mode.STATIC:
            return replace(
                self._static(work.spoken, "budget"), route=drafted.route, usage=drafted.usage, cause="budget"
            )
        if own in WITHOUT_MODEL:
            return replace(
                sources_alone(work.found, work.spoken, drafted.route), mode=own, usage=drafted.usage, cause="budget"
            )
        draft = yield from self._quoting.draft(work.question, work.found, work.spoken, work.journey, drafted.route)
        return replace(
            draft, mode=Mode.ECONOMY, usage=drafted.usage, notices=(drafted.notice, *draft.notices), explained=True
        )

    def _without_money(self, drafted: NoModel) -> Mode:
        """The mode of a request whose budget is spent; its own cap alone leaves it the quotations."""
        spent: Spent | None = drafted.spent
        if spent is None or spent.scope.kind == "request":
            return Mode.ECONOMY
        own = spent.scope.enter_mode or Mode.SOURCES_ONLY
        if spent.scope.kind == "service":  # the next ones need not find out for themselves
            self._ladder.ask_for(own, "budget:call", "the service's budget does not pay for a call", for_s=SPENT_S)
        return own

    def _handed_over(
        self, question: Question, actor: Actor, found: Found, reason: str, draft: Draft, spoken: str, journey: Journey
    ) -> Draft:
        held = self._people.hand_over(
            question,
            actor,
            reason=reason,
            sources=draft.citations or found.passages,
            draft=draft.text,
            request_id=journey.request_id,
            language=spoken,
        )
        journey.span("review", handed_over=held.id, reason=reason)
        return replace(
            draft,
            status=Status.HANDED_OFF,
            text=promise(self._agreement.handover, spoken, held.id),
            citations=(),
            review=held.id,
            route=(*draft.route, "person:handed_off"),
        )

    def _static(self, spoken: str, cause: str) -> Draft:
        return Draft(
            status=Status.FAILED,
            text=static_text(spoken, self._agreement.modes, cause),
            route=("static:said",),
            mode=Mode.STATIC,
        )

    def _models_of(self, mode: Mode) -> frozenset[str] | None:
        """The models of a rung: those it names, else the cheapest."""
        if mode is not Mode.ECONOMY or not self._generating:
            return None
        rule = next((rule for rule in self._agreement.modes.rungs if rule.mode is mode), None)
        return frozenset(rule.models) if rule is not None and rule.models else self._generating.cheapest

    def _purse(self, journey: Journey, actor: Actor, scope: Scope, deadline: float, *, purpose: str = "") -> Purse:
        payer = Payer(
            request_id=journey.request_id,
            principal=actor.principal,
            team=tuple(sorted(held for held in scope.principals if held.startswith("group:"))),
            key_id=actor.key_id,
            release=self._release(),
        )
        journey.team = payer.team[0] if payer.team else ""
        cap = self._agreement.request.cap_nanodollars
        return Purse(
            self._ledger, payer, self._agreement, cap, self._clock, deadline, backlog=self._backlog, purpose=purpose
        )

    def _found(self, question: Question, scope: Scope, purse: Purse, journey: Journey) -> Found:
        with paying(purse):
            found = self._searcher.search(replace(question, text=_in_context(question)), scope=scope)
        journey.span(
            "retrieve",
            passages=[passage.chunk for passage in found.passages],
            documents=[passage.document for passage in found.passages],
            versions=[passage.version for passage in found.passages],
            reasons=[_reason(passage) for passage in found.passages],
            scores=[round(passage.score, 6) for passage in found.passages],
            lexical=[round(passage.lexical, 6) for passage in found.passages],
            dense=[round(passage.dense, 6) for passage in found.passages],
            filters=[shown_filter(condition) for condition in found.filters],
            dropped_filters=[shown_filter(condition) for condition in found.dropped],
            by_words=found.by_words,
            by_meaning=found.by_meaning,
            readable=found.readable,
            waiting_for_vectors=found.waiting,
        )
        journey.found = found.passages
        journey.data_classes |= {one for passage in found.passages for one in _classes(passage)}
        journey.operator["cut_off_by_permission"] = found.cut_off
        journey.operator["stale_in_index"] = found.stale
        return found

    def _asked_back(self, question: Question, found: Found, spoken: str) -> Draft | None:
        """A question back, where the documents show that the asker must choose."""
        if found.missing_year is None or not found.known_years:
            unclear = ambiguity(question, found, language=spoken) if self._agreement.routing.clarify else None
            if unclear is None:
                return None
            choices = tuple(meaning.question for meaning in unclear.meanings)
            return Draft(status=Status.CLARIFY, text=unclear.text, route=("retrieve:ask",), questions=choices)
        years = [str(year) for year in found.known_years]
        text = phrase("no_such_year", spoken, year=str(found.missing_year.year), years=", ".join(years))
        return Draft(
            status=Status.CLARIFY,
            text=text,
            route=("retrieve:ask",),
            questions=tuple(phrase("mean_year", spoken, year=year) for year in years),
        )

    def _retrieval_notices(self, found: Found, spoken: str) -> list[str]:
        notices = []
        if found.meaning_down:
            notices.append(phrase("words_only", spoken))
        elif found.waiting:
            share = 100 * (found.readable - found.waiting) // max(found.readable, 1)
            notices.append(phrase("vectors_waiting", spoken, percent=str(share)))
        dropped = (shown_filter(condition) for condition in found.dropped)
        return [*notices, *(phrase("filter_dropped", spoken, filter=shown) for shown in dropped)]

    def _notices(self, draft: Draft, mode: Mode, standing: Standing, spoken: str) -> list[str]:
        """What the asker is told: first that the mode is limited, unless the draft has said why."""
        said = list(draft.notices)
        if mode is not Mode.FULL and not draft.explained:
            cause = draft.cause or standing.cause
            said.insert(0, mode_notice(mode, cause, spoken, self._agreement.modes))
        told = self._disclosure(draft.model, spoken)
        return [*said, told] if told else said

    def _disclosure(self, model: str, spoken: str) -> str:
        """That one is talking to AI, where a language model wrote."""
        words = self._agreement.governance.disclosure
        if not words or model not in self._generating.names:
            return ""
        return words.get(spoken) or words.get("en") or next(iter(words.values()))

    def _sealed(
        self, draft: Draft, mode: Mode, spoken: str, notices: Sequence[str], purse: Purse, journey: Journey
    ) -> Answer:
        return Answer(
            id=journey.request_id,
            status=draft.status,
            text=draft.text,
            language=spoken,
            citations=draft.citations,
            mode=mode,
            notice=" ".join(notices) or None,
            questions=draft.questions,
            review=draft.review,
            confidence=draft.confidence,
            model=draft.model,
            route=draft.route
            if draft.route[:1] and draft.route[0].startswith("cache:")
            else ("cache:off", *draft.route),
            usage=draft.usage,
            cost_nanodollars=purse.spent_n,
            cap_nanodollars=purse.cap_n,
            release=self._release(),
            cache_hit=draft.cached,
            timings_ms={
                "total": journey.total_ms(),
                "retrieve": journey.took_ms("retrieve"),
                "generate": journey.took_ms("generate") + journey.took_ms("consistency"),
            },
            sources=draft.sources,
        )

    def _recorded(
        self,
        question: Question,
        answer: Answer,
        draft: Draft,
        journey: Journey,
        notices: Sequence[str],
        cause: str,
    ) -> None:
        journey.facts.update(
            status=str(answer.status),
            mode=str(answer.mode),
            model=answer.model,
            route=list(answer.route),
            citations=[
                f"{citation.document}@{citation.version}:{citation.start}-{citation.end}"
                for citation in answer.citations
            ],
            cost_nanodollars=answer.cost_nanodollars,
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            release=answer.release,
        )
        if draft.notices:
            journey.facts["notices"] = len(draft.notices)
        journey.mode, journey.model, journey.release = str(answer.mode), answer.model, answer.release
        journey.cost_nanodollars = answer.cost_nanodollars
        journey.input_tokens, journey.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
        texts = Texts(question=question.text, answer=answer.text, data_classes=frozenset(journey.data_classes))
        around = Circumstances(
            question=question.text,
            history=question.history,
            found=journey.found,
            notices=notices,
            disclosure=self._disclosure(answer.model, answer.language),
            prompt=str(journey.facts.get("prompt") or ""),
            agreement=self._agreed,
            mode_cause=cause if answer.mode is not Mode.FULL else "",
            grounded=draft.grounded,
            covered=draft.covered,
            on_behalf_of=journey.via,
            door=journey.door,
        )
        self._kept(journey, str(answer.status), answer, draft, texts, lambda trace: decision_of(answer, trace, around))

    def _kept(
        self,
        journey: Journey,
        status: str,
        answer: Answer | None,
        draft: Draft | None,
        texts: Texts | None = None,
        decide: Callable[[Trace], DecisionRecord] | None = None,
    ) -> None:
        journey.failed = answer is None or answer.status is Status.FAILED
        measured = Measured(
            request_id=journey.request_id,
            at=journey.at,
            kind="answer",
            door=journey.door,
            principal=journey.principal,
            team=journey.team,
            status=status,
            mode=str(answer.mode if answer is not None else Mode.FULL),
            model=answer.model if answer is not None else "",
            release=answer.release if answer is not None else "",
            failed=journey.failed,
            cached=answer is not None and answer.cache_hit,
            total_ms=journey.total_ms(),
            first_ms=journey.first_ms,
            cost_nanodollars=answer.cost_nanodollars if answer is not None else 0,
            grounded=draft.grounded if draft is not None else None,
            covered=draft.covered if draft is not None else None,
        )
        self._observe(
            measured,
            input_tokens=0 if answer is None else answer.usage.input_tokens,
            output_tokens=0 if answer is None else answer.usage.output_tokens,
            error=str(journey.facts.get("error") or ""),
        )
        try:
            trace = journey.trace(status)
            decision = None if decide is None else decide(trace)
            self._traces.keep(trace, measured, decision=decision, texts=texts)
        except Unavailable:
            self.traces_lost += 1  # a full disk: whoever asks is answered all the same, and operators are told

    def _failed(self, journey: Journey, error: MainstayError) -> None:
        journey.facts.update(status=str(Status.FAILED), error=type(error).__name__)
        try:
            self._kept(journey, str(Status.FAILED), None, None)
        except MainstayError:
            return  # the error that is on its way out matters more than its trace


def _reason(passage: Passage) -> str:
    """Why a passage was found: by its words, its meaning, or both."""
    if passage.lexical > 0 and passage.dense > 0:
        return "both"
    return "words" if passage.lexical > 0 else "meaning"


def _classes(passage: Passage) -> tuple[str | None, ...]:
    """The classes of data that a passage is of; None: of none."""
    named = passage.metadata.get(DATA_CLASS)
    return tuple(map(str, named)) if isinstance(named, tuple) else (None if named is None else str(named),)


def _heard(steps: Generator[Event, None, Draft], journey: Journey) -> Generator[Event, None, Draft]:
    """The same, and the journey notes when the first words went out."""
    try:
        while True:
            event = next(steps)
            if isinstance(event, TextPiece):
                journey.spoke()
            yield event
    except StopIteration as end:
        draft: Draft = end.value
        return draft
    finally:
        steps.close()


def admitted(question: Question, limits: Limits) -> Question:
    """The question as it may be asked or searched for: of a permitted size, without hidden characters, not empty.

    Errors: TooLarge, Invalid.
    """
    if len(question.text) > limits.question_chars:
        raise TooLarge(
            f"{len(question.text)} characters, at most {limits.question_chars} are read",
            where="question",
            fix="ask for less",
        )
    text, _hidden = clean(question.text)
    text = "".join(c for c in text if c.isprintable() or c in "\n\t").strip()
    if not text:
        raise Invalid("the question is empty", where="question", fix="ask something")
    return replace(question, text=text, history=question.history[-HISTORY_TURNS:])


def _in_context(question: Question) -> str:
    """What to search for: a short follow-up ("and in 2024?") is searched together with the question before it."""
    before = next((text for role, text in reversed(question.history) if role == "user"), "")
    return f"{before}\n{question.text}" if before and len(content(question.text)) < 3 else question.text


def _source_languages(draft: Draft, found: Found) -> list[str]:
    cited = {citation.document for citation in draft.citations}
    return sorted({passage.language for passage in found.passages if passage.document in cited and passage.language})


def shown_filter(condition: Filter) -> str:
    """A filter as people write it: ``year=2023`` or ``date=2023-01-01..2023-12-31``."""
    if condition.any_of:
        return f"{condition.key}={','.join(str(value) for value in condition.any_of)}"
    if condition.at_least is not None and condition.at_most is not None:
        return f"{condition.key}={condition.at_least}..{condition.at_most}"
    sign, value = (">=", condition.at_least) if condition.at_least is not None else ("<=", condition.at_most)
    return f"{condition.key}{sign}{value}"
