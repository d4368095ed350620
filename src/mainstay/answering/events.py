"""What comes out of the road, piece by piece, and what is handed along inside it."""

from __future__ import annotations

from dataclasses import dataclass

from mainstay.types import Answer, Citation, Mode, Passage, Status, Usage

EXTRACTIVE = "extractive"
BROKE_OFF, CUT_SHORT = "broke_off", "cut_short"


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
class Draft:
    """What was written, checked: the parts of an Answer that depend on who wrote it."""

    status: Status
    text: str
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    model: str = ""
    route: tuple[str, ...] = ()
    usage: Usage = Usage()
    mode: Mode = Mode.FULL
    notices: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    sources: tuple[Passage, ...] = ()
    review: str | None = None
    read: tuple[Passage, ...] = ()  # every passage that had a part in it
    cached: bool = False
    cause: str = ""  # what limited this request alone, as the ladder's reasons are named
    explained: bool = False  # its notices say why the mode is limited
    grounded: float | None = None  # share of what was written that a source carries
    covered: float | None = None  # share of what is shown that has a citation
