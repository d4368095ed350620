"""Answers without a language model: up to three sentences of the documents, verbatim, or the passages alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from mainstay.answering.events import EXTRACTIVE, Cited, Draft, Event, TextPiece
from mainstay.guard.citations import check
from mainstay.models import extractive
from mainstay.records.traces import Journey
from mainstay.retrieval.search import Found
from mainstay.text.phrases import phrase
from mainstay.types import Citation, Passage, Question, Status


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the embedder in force lends to choosing sentences: its scale of likeness, and vectors where they cost nothing."""

    related: float
    embed: extractive.Embed | None


class Quoting:
    """The extractive answerer, on the road."""

    def __init__(self, meaning: Callable[[], Meaning]) -> None:
        self._meaning = meaning

    def draft(
        self, question: Question, found: Found, spoken: str, journey: Journey, route: tuple[str, ...] = ()
    ) -> Generator[Event, None, Draft]:
        """Up to three quotations."""
        meaning = self._meaning()
        taken = extractive.extract(
            question.text, found.passages, embed=meaning.embed, related=meaning.related, language=spoken or None
        )
        journey.span("generate", model=EXTRACTIVE, sentences=len(taken.sentences), abstained=taken.abstained or "")
        if taken.abstained or not taken.sentences:
            text = phrase("not_found", spoken)
            return Draft(status=Status.REFUSED, text=text, model=EXTRACTIVE, route=(*route, f"{EXTRACTIVE}:abstained"))
        citations = tuple(
            _citation(n, found.passages[quoted.passage_index], quoted.start, quoted.end)
            for n, quoted in enumerate(taken.sentences, 1)
        )
        text = extractive.compose(taken, [passage.title for passage in found.passages], spoken or "en")
        journey.span("verify", citations=len(citations), unsupported=0)
        for citation in citations:
            yield Cited(citation=citation)
        yield TextPiece(text=text)
        return Draft(
            status=Status.ANSWERED,
            text=text,
            citations=citations,
            confidence=taken.confidence,
            model=EXTRACTIVE,
            route=(*route, f"{EXTRACTIVE}:answered"),
            read=found.passages,
            grounded=1.0,
            covered=1.0,
        )


def sources_alone(found: Found, spoken: str, route: tuple[str, ...]) -> Draft:
    """The passages, without a summary."""
    if not found.passages:
        return Draft(status=Status.REFUSED, text=phrase("not_found", spoken), route=route)
    return Draft(status=Status.PARTIAL, text="", sources=found.passages, route=(*route, "sources:shown"))


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
