"""The decision record: what one answer was made of, so that it can be explained later without asking a model why.

It holds ids, versions, counts and digests; no text of a question, a document or an answer. It is kept encrypted under the key
of the person who asked, and its hash stands in the audit log's tree, so that nobody can change it unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from mainstay.errors import Invalid, NotFound
from mainstay.records.audit.events import HeadLine, Proof
from mainstay.records.traces import Trace
from mainstay.types import Actor, Answer, Passage

FORMAT = 1
RETENTION = "decision"
MAX_PASSAGES = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """A passage that was looked at. ``rank`` counts from 1; ``used``: the answer cites it; ``score`` as text, six digits."""

    rank: int
    chunk: str
    document: str
    version: str
    start: int
    end: int
    score: str = ""
    used: bool = False


_PASSAGE = tuple(one.name for one in fields(Retrieved))


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """One answer. Times are microseconds since 1970 UTC; digests are hex of SHA-256; shares are text with four digits.

    ``question`` is the digest of what was asked, with its conversation; ``permissions`` the digest of what the asker might read
    at that moment; ``answer`` that of the text and citations that were shown. ``filtered`` counts what permission cut off: for
    operators alone. ``policy`` are the rules that spoke, ``route`` what was tried in order, ``why`` the reasons for it.
    """

    request_id: str
    at: int
    asked_by: str
    on_behalf_of: str = ""
    door: str = ""
    ended: int = 0
    status: str = ""
    language: str = ""
    question: str = ""
    question_chars: int = 0
    permissions: str = ""
    passages: tuple[Retrieved, ...] = ()
    filtered: int | None = None
    filters: tuple[str, ...] = ()
    prompt: str = ""
    model: str = ""
    prices: str = ""
    policy: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    confidence: str = ""
    grounded: str = ""
    covered: str = ""
    mode: str = ""
    mode_cause: str = ""
    notices: tuple[str, ...] = ()
    disclosure: str = ""
    cached: bool = False
    answer: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanodollars: int = 0
    cap_nanodollars: int = 0
    review: str = ""
    agreement: str = ""
    release: str = ""
    retention: str = RETENTION
    prior: str = ""
    format: int = FORMAT

    @property
    def time(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.at)

    def view(self) -> dict[str, Any]:
        """As JSON; ``read`` takes it back."""
        return {**self.__dict__, "passages": [dict(one.__dict__) for one in self.passages]}

    def body(self) -> dict[str, Any]:
        """The same as it is kept: passages as rows, in the order of their fields. Cheap: one is made for each answer."""
        return {**self.__dict__, "passages": [tuple(one.__dict__.values()) for one in self.passages]}

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> DecisionRecord:
        """What ``view`` or ``body`` wrote, by this program or an older one; what a newer one has added is left out."""
        known = {one.name for one in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) and name != "passages" else value
            for name, value in held.items()
            if name in known
        }
        values["passages"] = tuple(
            Retrieved(**one) if isinstance(one, dict) else Retrieved(**dict(zip(_PASSAGE, one, strict=False)))
            for one in held.get("passages", ())
        )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A record as it stands in the log: event ``n``, its head line, and what it says (None once it is erased)."""

    request_id: str
    n: int
    line: HeadLine
    record: DecisionRecord | None


class Decisions(Protocol):
    """Decision records, kept."""

    def get(self, request_id: str) -> Decision | None: ...

    def proof(self, request_id: str) -> Proof:
        """That it is in the log. Errors: NotFound."""
        ...


def visible_decision(decisions: Decisions, request_id: str, actor: Actor) -> Decision:
    """The decision as this actor may see it: their own without what permission cut off; all of it for operators and auditors.

    Errors: NotFound, in the same words for one that is not there, for somebody else's and for one that was erased.
    """
    held = decisions.get(request_id)
    operator = actor.admin or bool({"traces:read", "audit:read"} & actor.scopes)
    own = held is not None and held.record is not None and held.record.asked_by == actor.principal
    if held is None or not (operator or own):
        raise NotFound("no such decision", where=request_id[:60])
    if operator or held.record is None:
        return held
    record = replace(held.record, filtered=None, permissions="")
    return Decision(request_id=held.request_id, n=held.n, line=held.line, record=record)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the road knows besides the answer: the question and its conversation, every passage that was found in the order of
    rank, the prompt and its version, the version of the prices, the digest of the agreement, what was disclosed."""

    question: str
    history: Sequence[tuple[str, str]] = ()
    found: Sequence[Passage] = ()
    notices: Sequence[str] = ()
    disclosure: str = ""
    prompt: str = ""
    prices: str = ""
    agreement: str = ""
    mode_cause: str = ""
    grounded: float | None = None
    covered: float | None = None
    on_behalf_of: str = ""
    door: str = ""
    prior: str = ""
    policy: Sequence[str] = field(default_factory=tuple)


def decision_of(answer: Answer, trace: Trace, around: Circumstances) -> DecisionRecord:
    """The record of one answer: pure, from what the road has at hand when it keeps the trace."""
    spans = [(span.kind, span.attributes) for span in trace.spans]
    passages = tuple(
        Retrieved(
            rank=rank,
            chunk=one.chunk,
            document=one.document,
            version=one.version,
            start=one.start,
            end=one.end,
            score=f"{one.score:.6f}",
            used=_cites(answer, one),
        )
        for rank, one in enumerate(around.found[:MAX_PASSAGES], 1)
    )
    filtered = trace.operator.get("cut_off_by_permission")
    total_ms = answer.timings_ms.get("total", 0.0)
    began = _micros(trace.at)
    return DecisionRecord(
        request_id=answer.id,
        at=began,
        asked_by=trace.asker,
        on_behalf_of=around.on_behalf_of,
        door=around.door,
        ended=began + round(total_ms * 1000),
        status=str(answer.status),
        language=answer.language,
        question=_asked(around),
        question_chars=len(around.question),
        permissions=str(trace.operator.get("scope") or ""),
        passages=passages,
        filtered=filtered if isinstance(filtered, int) else None,
        filters=tuple(str(one) for kind, held in spans if kind == "retrieve" for one in _all(held.get("filters"))),
        prompt=around.prompt,
        model=answer.model,
        prices=around.prices or _prices(trace),
        policy=(
            *around.policy,
            *(str(held["refused"]) for kind, held in spans if kind == "guard" and "refused" in held),
        ),
        route=answer.route,
        why=tuple(
            str(one)
            for kind, held in spans
            if kind == "route"
            for one in (*_all(held.get("order")), *_all(held.get("why")))
        ),
        confidence=f"{answer.confidence:.4f}",
        grounded=_share(around.grounded),
        covered=_share(around.covered),
        mode=str(answer.mode),
        mode_cause=around.mode_cause,
        notices=tuple(around.notices),
        disclosure=around.disclosure,
        cached=answer.cache_hit,
        answer=_shown(answer),
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cost_nanodollars=answer.cost_nanodollars,
        cap_nanodollars=answer.cap_nanodollars,
        review=answer.review or "",
        agreement=around.agreement,
        release=answer.release,
        prior=around.prior,
    )


def _prices(trace: Trace) -> str:
    """The version of the prices that the last call was held for by."""
    named = (span.attributes.get("price_version") for span in reversed(trace.spans))
    return next((str(version) for version in named if version), "")


def _cites(answer: Answer, passage: Passage) -> bool:
    """Whether a citation lies in the passage, or in the section around it."""
    return any(
        one.document == passage.document
        and one.version == passage.version
        and min(passage.start, passage.section_start) <= one.start < max(passage.end, passage.section_end)
        for one in answer.citations
    )


def _asked(around: Circumstances) -> str:
    digest = sha256()
    for role, text in (*around.history, ("user", around.question)):
        for part in (role, text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _shown(answer: Answer) -> str:
    """Text and citations, as they were shown."""
    digest = sha256(answer.text.encode("utf-8", "surrogatepass"))
    for one in answer.citations:
        digest.update(f"\0{one.n}\0{one.document}\0{one.version}\0{one.start}\0{one.end}".encode())
    return digest.hexdigest()


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _all(value: object) -> tuple[object, ...]:
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def checked_request_id(text: str) -> str:
    """A request id from outside. Errors: Invalid for what no database could be asked for."""
    if not text or len(text) > 100 or not (text.isascii() and text.isprintable()):
        raise Invalid(f"{text[:40]!a} is no request id", where="request")
    return text
