"""The main road: a question in, an Answer out. ``road`` is the way; the others are its parts."""

from mainstay.answering.events import BROKE_OFF, CUT_SHORT, EXTRACTIVE, Cited, Event, Finished, Noticed, TextPiece
from mainstay.answering.quoting import Meaning
from mainstay.answering.road import Answering, Limits, admitted, shown_filter

__all__ = [
    "BROKE_OFF",
    "CUT_SHORT",
    "EXTRACTIVE",
    "Answering",
    "Cited",
    "Event",
    "Finished",
    "Limits",
    "Meaning",
    "Noticed",
    "TextPiece",
    "admitted",
    "shown_filter",
]
