"""Answers by language models: which one, what it is shown, and what of its draft is let out.

Routing gives an order; the first model that answers is looked at, and a better one is asked when its draft is not good
enough. A draft that may still be replaced is held back; the last one is let out sentence by sentence, each only after
its source was found to carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mainstay.agreement import Agreement
from mainstay.agreement.ledger import Purse, Spent
from mainstay.answering.consistency import Consistency, First, Second, said
from mainstay.answering.events import BROKE_OFF, CUT_SHORT, Cited, Draft, Event, TextPiece
from mainstay.guard.citations import CheckedDraft, check_draft
from mainstay.guard.rendering import plain
from mainstay.models.calling import MIN_OUTPUT_TOKENS, Switchboard
from mainstay.models.chat import ChatModel, ChatRequest, Done, FailureKind, Message, ModelFailure, Reason
from mainstay.models.routing import Constraints, DraftLook, Plan, Router, Said, Traits, traits_of
from mainstay.models.rules import Then, rule_of
from mainstay.prompts.loader import Prompt, render
from mainstay.records.traces import Journey
from mainstay.retrieval.search import Found, Searcher
from mainstay.text.contradictions import contradictions
from mainstay.text.phrases import phrase
from mainstay.text.sentences import sentences
from mainstay.text.words import content
from mainstay.types import Citation, Clock, Mode, Passage, Question, Scope, Status, Usage

MODEL_PASSAGES = 8
DATA_CLASS = "data_class"  # the metadata key that names how a document's text may be used


class Rendered:
    """The prompt filled in with some passages, once: it is wanted to count, to choose and to ask."""

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[Passage, ...], tuple[Message, ...]]] = []

    def of(self, passages: Sequence[Passage], made: Callable[[], tuple[Message, ...]]) -> tuple[Message, ...]:
        """The messages for these very passages, made if they were not."""
        for kept, messages in self._kept:
            if len(kept) == len(passages) and all(a is b for a, b in zip(kept, passages, strict=True)):
                return messages
        messages = made()
        self._kept.append((tuple(passages), messages))
        return messages


@dataclass(frozen=True, kw_only=True)
class Work:
    """One question on its way through the road: everything its steps share."""

    question: Question
    found: Found
    scope: Scope
    spoken: str
    deadline: float
    journey: Journey
    purse: Purse
    mode: Mode
    allowed: frozenset[str] | None = None  # models the mode in force permits; None: all
    rendered: Rendered = field(default_factory=Rendered, init=False, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one draft shows: shares of its sentences that are supported and of the question it speaks of; what is kept of
    it, and the request it answers."""

    supported_share: float
    coverage: float
    citations: int
    finish: str
    said: Said
    request: ChatRequest


@dataclass(frozen=True, kw_only=True)
class NoModel:
    """No language model could draft: why, in words for the route, and what the asker is told about it."""

    route: tuple[str, ...]
    notice: str
    spent: Spent | None = None
    usage: Usage = Usage()


class Generating:
    """Drafts by the models of a switchboard, as the agreement and the router want."""

    def __init__(
        self,
        *,
        switchboard: Switchboard,
        router: Callable[[], Router],
        searcher: Searcher,
        agreement: Agreement,
        prompt: Prompt,
        clock: Clock,
    ) -> None:
        """``router`` gives the one in force: what it has learnt may change."""
        self._board, self._router, self._searcher = switchboard, router, searcher
        self._agreement, self._prompt, self._clock = agreement, prompt, clock
        self._consistency = Consistency(switchboard, clock)

    def __bool__(self) -> bool:
        return bool(self._board)

    @property
    def names(self) -> tuple[str, ...]:
        return self._board.names

    @property
    def cheapest(self) -> frozenset[str]:
        """The model that costs least for a question of usual length."""
        usual = Usage(input_tokens=2000, output_tokens=200)
        return frozenset([min(self._board.names, key=lambda name: (self._board.model(name).price.cost(usual), name))])

    def draft(self, work: Work) -> Generator[Event, None, Draft | NoModel]:
        """The first draft that is good enough, or the best there is. Errors: none of a model's."""
        router = self._router()
        passages, plan = self._plan(
            router, work, self._searcher.widened(work.found.passages[:MODEL_PASSAGES], scope=work.scope)
        )
        work.journey.facts["prompt"] = f"{self._prompt.id}@{self._prompt.version}"
        route = [f"{name}:left_out" for name in plan.excluded]
        tried: list[str] = []
        usage, failed, spent = Usage(), None, None
        best: tuple[Draft, list[Event]] | None = None
        choice = plan.first
        while choice is not None:
            name = choice.name
            tried.append(name)
            live, began = self._last(plan, tried), self._clock.monotonic()
            try:
                drafted, held, look = yield from self._one(name, work, passages, live=live)
            except ModelFailure as failure:
                work.journey.span("generate", error=str(failure.kind), model=name, failed=str(failure.kind))
                route.append(f"{name}:{failure.kind}")
                failed = failure
                if self._final(failure):
                    return self._declined(name, route, work.spoken, usage)
                choice = plan.after_failure(tried) if best is None else None
                continue
            except Spent as error:
                route.append(f"{name}:too_dear")
                spent = spent or error
                choice = plan.after_failure(tried) if best is None else None
                continue
            usage = _sum(usage, drafted.usage)
            seen = self._looked(look, work, tried)
            if not live and work.mode is Mode.FULL:  # what was let out stands, whatever a second draft says
                second = self._second(router, plan, drafted, look, seen, work, self._clock.monotonic() - began)
                if second is not None:
                    usage = _sum(usage, second.usage)
                    route += second.route
                    seen = replace(self._looked(look, work, tried), self_agreement=second.agreement)
            decision = router.after(plan, seen)
            work.journey.span("route", decision=decision.kind, confidence=decision.confidence, why=decision.why)
            drafted = replace(drafted, confidence=decision.confidence if drafted.citations else 0.0)
            if best is None or drafted.confidence >= best[0].confidence:
                best = (drafted, held)
            choice = plan.choice(decision.model) if decision.kind == "escalate" and decision.model else None
            route.append(drafted.route[-1] if choice is None else f"{name}:escalated")
        if best is None:
            too_dear = spent is not None or (not plan.order and self._too_dear(work, passages))
            return self._none(route, failed, spent, too_dear, work.spoken, usage)
        drafted, held = best
        if not for_a_person(drafted, self._agreement):
            yield from held
        if route[-1] != drafted.route[-1]:  # an earlier draft was better than the one it was escalated to
            route.append(drafted.route[-1])
        return replace(drafted, route=tuple(route), usage=usage)

    def _last(self, plan: Plan, tried: Sequence[str]) -> bool:
        """Whether the draft of the last model tried stands, whatever it is: then it need not be held back."""
        rules = self._agreement.routing
        return rules.below == "show" and (len(tried) > rules.escalations or not plan.better_than(tried))

    def _too_dear(self, work: Work, passages: Sequence[Passage]) -> bool:
        """Whether even the cheapest call is more than what the request may still cost."""
        request = self._request(work, passages, MIN_OUTPUT_TOKENS)
        return min(self._board.model(name).price.ceiling(request) for name in self._board.names) > _left(work.purse)

    def _final(self, failure: ModelFailure) -> bool:
        """A refusal is an outcome for the asker, not routed around unless the agreement says so; a wrong request stays wrong."""
        if failure.kind is FailureKind.CONTENT_FILTER:
            return not self._agreement.governance.route_around_content_filter
        return False

    def _declined(self, name: str, route: Sequence[str], spoken: str, usage: Usage) -> Draft:
        return Draft(
            status=Status.REFUSED, text=phrase("declined", spoken), model=name, route=tuple(route), usage=usage
        )

    def _none(
        self,
        route: Sequence[str],
        failed: ModelFailure | None,
        spent: Spent | None,
        too_dear: bool,
        spoken: str,
        usage: Usage,
    ) -> NoModel:
        if too_dear and failed is None:
            said = "too_dear"
        elif failed is not None or any(not candidate.healthy for candidate in self._board.candidates()):
            said = "model_down"
        else:
            said = "no_model"
        return NoModel(route=tuple(route), notice=phrase(said, spoken), spent=spent, usage=usage)

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _plan(self, router: Router, work: Work, passages: Sequence[Passage]) -> tuple[Sequence[Passage], Plan]:
        """Whom to ask, with as many passages as somebody can read and the purse can pay."""
        candidates = self._board.candidates()
        while True:
            plan = router.plan(_traits(work), candidates, self._constraints(work, passages))
            if plan.order or len(passages) == 1:
                break
            passages = passages[: len(passages) // 2]
        work.journey.span(
            "route",
            order=[f"{choice.name}: {choice.why}" for choice in plan.order],
            excluded=[f"{name}: {why}" for name, why in plan.excluded.items()],
            estimated_by=plan.estimated_by,
        )
        return passages, plan

    def _constraints(self, work: Work, passages: Sequence[Passage]) -> Constraints:
        most = min(map(self._board.max_output_tokens, self._board.names))
        request = self._request(work, passages, most)
        by_class = self._permitted(passages)
        forbidden = "it may not be shown this class of data" if work.allowed is None else "not in this mode"
        return Constraints(
            needs_tokens=request.input_token_bound,
            max_output_tokens=most,
            allowed_models=_both(work.allowed, by_class),
            regions=self._agreement.governance.regions,
            cap_left_n=_left(work.purse),
            why_not=dict.fromkeys(self._board.names, forbidden),
        )

    def _permitted(self, passages: Sequence[Passage]) -> frozenset[str] | None:
        """The models that may be shown all of these passages. A class that the agreement does not know may go nowhere."""
        classes = {rule.name: frozenset(rule.models) for rule in self._agreement.governance.data_classes}
        if not classes:
            return None
        allowed: frozenset[str] | None = None
        for passage in passages:
            named = passage.metadata.get(DATA_CLASS)
            if named is not None:
                for one in named if isinstance(named, tuple) else (named,):
                    allowed = _both(allowed, classes.get(str(one), frozenset()))
        return allowed

    def _looked(self, look: Look, work: Work, tried: Sequence[str]) -> DraftLook:
        return DraftLook(
            supported_share=look.supported_share,
            coverage=look.coverage,
            citations=look.citations,
            finish=look.finish,
            spent_n=work.purse.spent_n,
            left_n=_left(work.purse),
            deadline_left_s=work.deadline - self._clock.monotonic(),
            tried=tuple(tried),
        )

    def _second(
        self, router: Router, plan: Plan, drafted: Draft, look: Look, seen: DraftLook, work: Work, took_s: float
    ) -> Second | None:
        """The same model's second draft, where it decides whether a better one is asked."""
        first = First(
            model=drafted.model,
            request=look.request,
            passages=drafted.read,
            said=look.said,
            usage=drafted.usage,
            took_s=took_s,
        )
        return self._consistency.of(
            first, seen, plan, router=router, question=work.question.text, purse=work.purse, journey=work.journey
        )

    # -- asking one ----------------------------------------------------------------------------------------------------

    def _one(
        self, name: str, work: Work, passages: Sequence[Passage], *, live: bool
    ) -> Generator[Event, None, tuple[Draft, list[Event], Look]]:
        """One model's draft; with fewer passages when all are too many or too dear for it."""
        model = self._board.model(name)
        while True:
            request = self._request(work, passages, self._board.max_output_tokens(name))
            least = model.price.ceiling(replace(request, max_output_tokens=MIN_OUTPUT_TOKENS))
            if len(passages) > 1 and least > _left(work.purse):
                passages = passages[: len(passages) // 2]
                continue
            try:
                return (yield from self._checked(model, request, passages, work, live=live))
            except ModelFailure as failure:
                if rule_of(failure).then is not Then.SHRINK or len(passages) == 1:
                    raise
            except Spent:
                if len(passages) == 1:
                    raise
            passages = passages[: len(passages) // 2]

    def _checked(
        self, model: ChatModel, request: ChatRequest, passages: Sequence[Passage], work: Work, *, live: bool
    ) -> Generator[Event, None, tuple[Draft, list[Event], Look]]:
        """One call: its text sentence by sentence, each only after its source was found to carry it."""
        sources = dict(enumerate(passages, 1))
        mark = self._agreement.citations.unsupported == "mark"
        question, journey = work.question.text, work.journey
        written, shown, cited, whole_until = "", "", 0, 0
        held: list[Event] = []
        done: Done | None = None
        try:
            for event in self._board.call(model.name, request, work.purse, journey=journey):
                if isinstance(event, Done):
                    done = event
                    break
                written += event.text
                until = len(_finished(written))
                if until > whole_until:
                    whole_until = until
                    checked = check_draft(plain(written[:until]), sources, question, mark=mark)
                    news = list(_news(checked, shown, cited))
                    held += news
                    if live:
                        yield from news
                    if checked.text.startswith(shown):
                        shown, cited = checked.text, len(checked.citations)
        except ModelFailure as failure:
            if not shown or not live:
                raise
            # What was checked and shown stands; it is not called complete.
            journey.facts["broke_off"] = str(failure.kind)
        reason = done.reason if done else "length"
        checked = check_draft(plain(written if reason == "stop" else _finished(written)), sources, question, mark=mark)
        news = list(_news(checked, shown, cited))
        held += news
        if live:
            yield from news
        usage = done.usage if done else None
        estimate = Usage(input_tokens=request.input_token_bound, output_tokens=request.max_output_tokens)
        dropped = sum(not sentence.kept for sentence in checked.sentences)
        journey.span(
            "generate",
            model=model.name,
            prompt=self._prompt.id,
            prompt_version=self._prompt.version,
            finish=reason,
            passages=len(passages),
            input_tokens=(usage or estimate).input_tokens,
            output_tokens=(usage or estimate).output_tokens,
            estimated=usage is None,
        )
        journey.span("verify", citations=len(checked.citations), unsupported=dropped, invented=list(checked.invented))
        draft = Draft(
            status=_status(checked, reason, dropped),
            text=checked.text or phrase("declined" if reason == "content_filter" else "not_found", work.spoken),
            citations=checked.citations,
            confidence=round(checked.supported_share, 4) if checked.citations else 0.0,
            model=model.name,
            route=(f"{model.name}:{_ending(checked, done)}",),
            usage=usage or estimate,
            notices=(
                *_disagreement(checked.citations, work.spoken),
                *(_cut(done, work.spoken) if checked.text else ()),
            ),
            read=tuple(passages),
            grounded=checked.supported_share if checked.sentences else None,
            covered=_covered(checked),
        )
        look = Look(
            supported_share=checked.supported_share,
            coverage=_coverage(question, checked),
            citations=len(checked.citations),
            finish=reason if done else BROKE_OFF,
            said=said(checked),
            request=request,
        )
        return draft, [] if live else held, look

    def _request(self, work: Work, passages: Sequence[Passage], max_output_tokens: int) -> ChatRequest:
        asked = work.rendered.of(
            passages,
            lambda: render(self._prompt, question=work.question.text, passages=list(passages), language=work.spoken),
        )
        history = tuple(
            Message(role="assistant" if role == "assistant" else "user", content=text)
            for role, text in work.question.history
        )
        return ChatRequest(
            messages=(*asked[:-1], *history, asked[-1]), max_output_tokens=max_output_tokens, deadline=work.deadline
        )


def for_a_person(draft: Draft, agreement: Agreement) -> bool:
    """Whether a person answers instead: then nobody is shown the draft, now or from the cache."""
    rules = agreement.routing
    return rules.below == "person" and draft.mode is Mode.FULL and draft.confidence < rules.accept


def _covered(checked: CheckedDraft) -> float | None:
    kept = [sentence for sentence in checked.sentences if sentence.kept]
    return sum(bool(sentence.numbers) for sentence in kept) / len(kept) if kept else None


def _traits(work: Work) -> Traits:
    found, question = work.found, work.question
    return traits_of(
        question.text,
        found.passages,
        language=work.spoken,
        by_words=found.by_words,
        by_meaning=found.by_meaning,
        history=len(question.history),
        filters=len(found.filters),
    )


def _coverage(question: str, checked: CheckedDraft) -> float:
    """The share of the question's content words that the draft or what it quotes speaks of."""
    asked = set(content(question))
    told = set(content(" ".join([checked.text, *(citation.quote for citation in checked.citations)])))
    return len(asked & told) / len(asked) if asked else 1.0


def _left(purse: Purse) -> int:
    """What the request may still cost. What budgets leave is found out by holding it: it changes with every other request."""
    return purse.cap_n - purse.spent_n


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(
        input_tokens=a.input_tokens + b.input_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        cached_input_tokens=a.cached_input_tokens + b.cached_input_tokens,
        cache_write_tokens=a.cache_write_tokens + b.cache_write_tokens,
        reasoning_tokens=a.reasoning_tokens + b.reasoning_tokens,
    )


def _finished(text: str) -> str:
    """The part of a growing text whose last sentence can not grow any more."""
    spans = sentences(text)
    return text[: spans[-1][0]].rstrip() if spans else ""


def _news(checked: CheckedDraft, shown: str, cited: int) -> Iterator[Event]:
    """What a longer draft adds to what was let out; nothing when it would have to take something back."""
    if checked.text.startswith(shown) and len(checked.text) > len(shown):
        yield from (Cited(citation=citation) for citation in checked.citations[cited:])
        yield TextPiece(text=checked.text[len(shown) :])


def _ending(checked: CheckedDraft, done: Done | None) -> str:
    """How the model's part of the way ended, for the route: doors read from it whether a text is whole."""
    if done is None:
        return BROKE_OFF
    if done.reason == "content_filter":
        return str(FailureKind.CONTENT_FILTER)
    if not checked.text:
        return "unsupported"
    return CUT_SHORT if done.reason == "length" else "answered"


def _cut(done: Done | None, spoken: str) -> tuple[str, ...]:
    """Why the text ends where it ends, when it does not end by itself."""
    if done is None:
        return (phrase("broke_off", spoken),)
    return (phrase("cut_short", spoken),) if done.reason == "length" else ()


def _disagreement(citations: Sequence[Citation], spoken: str) -> tuple[str, ...]:
    """A notice when quoted sources say different things about the same."""
    pairs = contradictions(
        [citation.quote for citation in citations], lambda i, j: citations[i].document == citations[j].document
    )
    numbers = sorted({citations[i].n for pair in pairs for i in pair})
    shown = ", ".join(f"[{n}]" for n in numbers)
    return (phrase("sources_disagree", spoken, sources=shown),) if numbers else ()


def _status(checked: CheckedDraft, reason: Reason, dropped: int) -> Status:
    if reason == "content_filter" or not checked.citations:
        return Status.REFUSED
    return Status.PARTIAL if dropped or reason == "length" else Status.ANSWERED
