"""THE MAIN ROAD: a question in, an Answer out.

``answer`` reads as its steps: admit, see what the asker may read, find, write, check, say, record. Text is let out sentence by
sentence and only after its sentence has been checked against its source, so streaming never shows what the check would remove.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from mainstay.access.scope import Gate
from mainstay.agreement import Agreement
from mainstay.errors import Invalid, MainstayError, TooLarge, Unavailable
from mainstay.guard.citations import CheckedDraft, check, check_draft
from mainstay.guard.hidden_text import clean
from mainstay.guard.rendering import plain
from mainstay.models import extractive
from mainstay.models.chat import ChatModel, ChatRequest, Done, FailureKind, Message, ModelFailure, Reason
from mainstay.models.prices import Price
from mainstay.prompts.loader import Prompt, render
from mainstay.records.traces import Journey, Traces
from mainstay.retrieval.search import Found, Searcher
from mainstay.text.contradictions import contradictions
from mainstay.text.language import language, notice_other_language
from mainstay.text.phrases import phrase
from mainstay.text.sentences import sentences
from mainstay.text.words import content
from mainstay.types import Actor, Answer, Citation, Clock, Filter, Mode, Passage, Question, Scope, Status, Usage

EXTRACTIVE = "extractive"
BROKE_OFF, CUT_SHORT = "broke_off", "cut_short"
MODEL_PASSAGES = 8
MIN_OUTPUT_TOKENS = 32
FREE = Price(input_per_million_nanodollars=0, output_per_million_nanodollars=0)
HISTORY_TURNS = 6


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """A checked piece of the answer's text, to be appended."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Cited:
    """A citation that the text let out so far refers to."""

    citation: Citation


@dataclass(frozen=True, kw_only=True)
class Noticed:
    """Something the asker should know: a limited mode, sources in another language."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The whole answer; always the last event."""

    answer: Answer


Event = TextPiece | Cited | Noticed | Finished


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the embedder in force lends to choosing sentences: its scale of likeness, and vectors where they cost nothing."""

    related: float
    embed: extractive.Embed | None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a question may be."""

    question_chars: int = 4000


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """What was written, checked: the parts of an Answer that depend on who wrote it."""

    status: Status
    text: str
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    model: str = ""
    route: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost_nanodollars: int = 0
    mode: Mode = Mode.FULL
    notices: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


class Answering:
    """Answers questions from the documents an asker may read.

    ``model`` is the language model, or None: then the built-in extractive answerer quotes. ``meaning`` says
    what the embedder in force can tell of sentences.
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
        prompt: Prompt,
        model: ChatModel | None,
        max_output_tokens: int,
        meaning: Callable[[], Meaning],
        release: Callable[[], str],
    ) -> None:
        self._gate, self._searcher, self._traces, self._clock = gate, searcher, traces, clock
        self._agreement, self._limits, self._prompt = agreement, limits, prompt
        self.model, self._meaning, self._release = model, meaning, release
        self._max_output = max_output_tokens
        self.traces_lost = 0

    def answer(self, question: Question, actor: Actor, *, request_id: str | None = None) -> Answer:
        """The answer to one question. Errors: Invalid for a question that can not be asked; nothing else leaves here as an error
        but what makes the service unable to look (Unavailable)."""
        finished: Answer | None = None
        for event in self.stream(question, actor, request_id=request_id):
            if isinstance(event, Finished):
                finished = event.answer
        assert finished is not None
        return finished

    def stream(self, question: Question, actor: Actor, *, request_id: str | None = None) -> Iterator[Event]:
        """The same, piece by piece; the last event is Finished."""
        question = admitted(question, self._limits)
        journey = Journey(request_id or self._clock.new_id("req"), actor, "answer", self._clock)
        deadline = self._clock.monotonic() + self._agreement.request.deadline_s
        spoken = language(question.text)
        try:
            scope = self._gate.scope(actor)
            journey.span("admit", question_chars=len(question.text), language=spoken)
            journey.operator["scope"] = scope.digest  # it names class numbers, which count what others may read
            found = self._found(question, scope, journey)
            draft = self._asked_back(found, spoken)
            if draft is None:
                draft = yield from self._written(question, found, scope, spoken, deadline, journey)
            notices = [*self._retrieval_notices(found, spoken), *draft.notices]
            other = notice_other_language(spoken, _source_languages(draft, found))
            notices += [other] if other else []
            for notice in notices:
                yield Noticed(text=notice)
            answer = self._sealed(draft, spoken, notices, journey)
        except MainstayError as error:
            self._failed(journey, error)
            raise
        self._recorded(answer, journey)
        yield Finished(answer=answer)

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _found(self, question: Question, scope: Scope, journey: Journey) -> Found:
        found = self._searcher.search(replace(question, text=_in_context(question)), scope=scope)
        journey.span(
            "retrieve",
            passages=[passage.chunk for passage in found.passages],
            documents=[passage.document for passage in found.passages],
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
        journey.operator["cut_off_by_permission"] = found.cut_off
        journey.operator["stale_in_index"] = found.stale
        return found

    def _asked_back(self, found: Found, spoken: str) -> _Draft | None:
        """A question back, where the documents show that the asker must choose."""
        if found.missing_year is None or not found.known_years:
            return None
        years = [str(year) for year in found.known_years]
        text = phrase("no_such_year", spoken, year=str(found.missing_year.year), years=", ".join(years))
        return _Draft(
            status=Status.CLARIFY,
            text=text,
            route=("retrieve:ask",),
            questions=tuple(phrase("mean_year", spoken, year=year) for year in years),
        )

    def _written(
        self, question: Question, found: Found, scope: Scope, spoken: str, deadline: float, journey: Journey
    ) -> Generator[Event, None, _Draft]:
        if not found.passages or not content(question.text):
            journey.span("generate", model="", abstained="nothing found")
            return _Draft(status=Status.REFUSED, text=phrase("not_found", spoken), route=("retrieve:empty",))
        if self.model is None:
            return (yield from self._quoted(question, found, spoken, journey, ()))
        try:
            return (yield from self._generated(self.model, question, found, scope, spoken, deadline, journey))
        except ModelFailure as failure:
            if failure.kind is FailureKind.CONTENT_FILTER:  # an outcome for the asker, never routed around
                journey.span("generate", model=self.model.name, failed=str(failure.kind))
                return _Draft(
                    status=Status.REFUSED,
                    text=phrase("declined", spoken),
                    model=self.model.name,
                    route=(f"{self.model.name}:{failure.kind}",),
                )
            journey.span("generate", model=self.model.name, failed=str(failure.kind))
            draft = yield from self._quoted(question, found, spoken, journey, (f"{self.model.name}:{failure.kind}",))
            return replace(
                draft,
                mode=Mode.ECONOMY,
                notices=(phrase("model_down", spoken), *draft.notices),
                # An answer that broke off may have been charged in full: booked at the most it can have cost.
                cost_nanodollars=self._cap() if failure.maybe_paid and self.model.price != FREE else 0,
            )

    def _quoted(
        self, question: Question, found: Found, spoken: str, journey: Journey, route: tuple[str, ...]
    ) -> Generator[Event, None, _Draft]:
        """The extractive answerer: up to three quotations, verbatim."""
        meaning = self._meaning()
        taken = extractive.extract(
            question.text, found.passages, embed=meaning.embed, related=meaning.related, language=spoken or None
        )
        journey.span("generate", model=EXTRACTIVE, sentences=len(taken.sentences), abstained=taken.abstained or "")
        if taken.abstained or not taken.sentences:
            text = phrase("not_found", spoken)
            return _Draft(status=Status.REFUSED, text=text, model=EXTRACTIVE, route=(*route, f"{EXTRACTIVE}:abstained"))
        citations = tuple(
            _citation(n, found.passages[quoted.passage_index], quoted.start, quoted.end)
            for n, quoted in enumerate(taken.sentences, 1)
        )
        text = extractive.compose(taken, [passage.title for passage in found.passages], spoken or "en")
        journey.span("verify", citations=len(citations), unsupported=0)
        for citation in citations:
            yield Cited(citation=citation)
        yield TextPiece(text=text)
        return _Draft(
            status=Status.ANSWERED,
            text=text,
            citations=citations,
            confidence=taken.confidence,
            model=EXTRACTIVE,
            route=(*route, f"{EXTRACTIVE}:answered"),
        )

    def _generated(
        self,
        model: ChatModel,
        question: Question,
        found: Found,
        scope: Scope,
        spoken: str,
        deadline: float,
        journey: Journey,
    ) -> Generator[Event, None, _Draft]:
        """A language model's draft, let out as far as it is supported; fewer passages when all are too many or too dear."""
        passages = self._searcher.widened(found.passages[:MODEL_PASSAGES], scope=scope)
        while True:
            request = self._request(model, question, passages, spoken, deadline)
            if request is None and len(passages) == 1:
                draft = yield from self._quoted(question, found, spoken, journey, (f"{model.name}:too_dear",))
                return replace(draft, mode=Mode.ECONOMY, notices=(phrase("too_dear", spoken), *draft.notices))
            if request is not None:
                try:
                    return (yield from self._checked(model, request, passages, question, spoken, journey))
                except ModelFailure as failure:
                    if failure.kind is not FailureKind.CONTEXT_TOO_LONG or len(passages) == 1:
                        raise
            passages = passages[: len(passages) // 2]

    def _checked(
        self,
        model: ChatModel,
        request: ChatRequest,
        passages: Sequence[Passage],
        question: Question,
        spoken: str,
        journey: Journey,
    ) -> Generator[Event, None, _Draft]:
        """One call: its text sentence by sentence, each only after its source was found to carry it."""
        sources = dict(enumerate(passages, 1))
        mark = self._agreement.citations.unsupported == "mark"
        said, shown, cited, whole_until = "", "", 0, 0
        done: Done | None = None
        try:
            for event in model.stream(request):
                if isinstance(event, Done):
                    done = event
                    break
                said += event.text
                until = len(_finished(said))
                if until > whole_until:
                    whole_until = until
                    checked = check_draft(plain(said[:until]), sources, question.text, mark=mark)
                    yield from _news(checked, shown, cited)
                    if checked.text.startswith(shown):
                        shown, cited = checked.text, len(checked.citations)
        except ModelFailure as failure:
            if not shown:
                raise
            # What was checked and shown stands; it is not called complete.
            journey.facts["broke_off"] = str(failure.kind)
        reason = done.reason if done else "length"
        checked = check_draft(plain(said if reason == "stop" else _finished(said)), sources, question.text, mark=mark)
        yield from _news(checked, shown, cited)
        usage = done.usage if done else None
        estimate = Usage(input_tokens=request.input_token_bound, output_tokens=request.max_output_tokens)
        dropped = sum(not sentence.kept for sentence in checked.sentences)
        journey.span(
            "generate",
            model=model.name,
            finish=reason,
            passages=len(passages),
            input_tokens=(usage or estimate).input_tokens,
            output_tokens=(usage or estimate).output_tokens,
            estimated=usage is None,
        )
        journey.span("verify", citations=len(checked.citations), unsupported=dropped, invented=list(checked.invented))
        return _Draft(
            status=_status(checked, reason, dropped),
            text=checked.text or phrase("declined" if reason == "content_filter" else "not_found", spoken),
            citations=checked.citations,
            confidence=round(checked.supported_share, 4) if checked.citations else 0.0,
            model=model.name,
            route=(f"{model.name}:{_ending(checked, done)}",),
            usage=usage or estimate,
            cost_nanodollars=model.price.cost(usage or estimate),
            notices=(*_disagreement(checked.citations, spoken), *_cut(done, spoken)),
        )

    def _request(
        self, model: ChatModel, question: Question, passages: Sequence[Passage], spoken: str, deadline: float
    ) -> ChatRequest | None:
        """What to ask, with the output limited to what the cap can still pay; None when that is too little to be of use."""
        asked = render(self._prompt, question=question.text, passages=list(passages), language=spoken)
        history = tuple(
            Message(role="assistant" if role == "assistant" else "user", content=text)
            for role, text in question.history
        )
        wanted = ChatRequest(
            messages=(*asked[:-1], *history, asked[-1]), max_output_tokens=self._max_output, deadline=deadline
        )
        affordable = model.price.max_output_for(self._cap(), wanted)
        return None if affordable < MIN_OUTPUT_TOKENS else replace(wanted, max_output_tokens=affordable)

    def _cap(self) -> int:
        return self._agreement.request.cap_nanodollars

    def _retrieval_notices(self, found: Found, spoken: str) -> list[str]:
        notices = []
        if found.meaning_down:
            notices.append(phrase("words_only", spoken))
        elif found.waiting:
            share = 100 * (found.readable - found.waiting) // max(found.readable, 1)
            notices.append(phrase("vectors_waiting", spoken, percent=str(share)))
        dropped = (shown_filter(condition) for condition in found.dropped)
        return [*notices, *(phrase("filter_dropped", spoken, filter=shown) for shown in dropped)]

    def _sealed(self, draft: _Draft, spoken: str, notices: Sequence[str], journey: Journey) -> Answer:
        return Answer(
            id=journey.request_id,
            status=draft.status,
            text=draft.text,
            language=spoken,
            citations=draft.citations,
            mode=draft.mode,
            notice=" ".join(notices) or None,
            questions=draft.questions,
            confidence=draft.confidence,
            model=draft.model,
            route=("cache:off", *draft.route),
            usage=draft.usage,
            cost_nanodollars=draft.cost_nanodollars,
            cap_nanodollars=self._cap(),
            release=self._release(),
            timings_ms={
                "total": journey.total_ms(),
                "retrieve": journey.took_ms("retrieve"),
                "generate": journey.took_ms("generate"),
            },
        )

    def _recorded(self, answer: Answer, journey: Journey) -> None:
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
        try:
            self._traces.keep(journey.trace(str(answer.status)))
        except Unavailable:
            self.traces_lost += 1  # a full disk: whoever asks is answered all the same, and operators are told

    def _failed(self, journey: Journey, error: MainstayError) -> None:
        journey.facts.update(status=str(Status.FAILED), error=type(error).__name__)
        try:
            self._traces.keep(journey.trace(str(Status.FAILED)))
        except MainstayError:
            return  # the error that is on its way out matters more than its trace


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


def _source_languages(draft: _Draft, found: Found) -> list[str]:
    cited = {citation.document for citation in draft.citations}
    return sorted({passage.language for passage in found.passages if passage.document in cited and passage.language})


def _citation(n: int, passage: Passage, start: int, end: int) -> Citation:
    quote = passage.text[start - passage.start : end - passage.start]
    return Citation(
        n=n,
        document=passage.document,
        version=passage.version,
        title=passage.title,
        uri=passage.uri,
        quote=quote,
        start=start,
        end=end,
        page=passage.page,
        verified=check(quote, [quote]).supported,
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


def shown_filter(condition: Filter) -> str:
    """A filter as people write it: ``year=2023`` or ``date=2023-01-01..2023-12-31``."""
    if condition.any_of:
        return f"{condition.key}={','.join(str(value) for value in condition.any_of)}"
    if condition.at_least is not None and condition.at_most is not None:
        return f"{condition.key}={condition.at_least}..{condition.at_most}"
    sign, value = (">=", condition.at_least) if condition.at_least is not None else ("<=", condition.at_most)
    return f"{condition.key}{sign}{value}"
