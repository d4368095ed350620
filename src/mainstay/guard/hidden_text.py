"""Characters that a reader cannot see but a model can read.

Owns which code points are invisible and which of them a script or an emoji truly needs. The rule: what shows nothing
and changes nothing of the words around it goes, at ingest and at output alike; what is taken out is reported, because
hidden text is how instructions are smuggled into documents. Cleaning twice is cleaning once.

Code points: Unicode 15 ``Default_Ignorable_Code_Point``, plus bidi controls and control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SAMPLE_CHARS = 200
"""A finding shows at most so many characters of what was hidden."""

# The order is the order of findings. U+2028/2029 are line ends and are not ours to remove.
_KINDS: tuple[tuple[str, str], ...] = (
    ("tags", "\U000e0000-\U000e007f"),
    ("variation-selectors", "\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180d\u180f"),
    ("zero-width", "\u200b-\u200d\u2060-\u2065\ufeff\u034f\u180e\u17b4\u17b5\ufff9-\ufffb"),
    ("bidi", "\u200e\u200f\u061c\u202a-\u202e\u2066-\u206f"),
    ("soft-hyphens", "\u00ad"),
    ("fillers", "\u115f\u1160\u3164\uffa0"),
    ("control", "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"),
)
_HIDDEN = re.compile("[" + "".join(points for _, points in _KINDS) + "]")
_KIND_OF = tuple((kind, re.compile(f"[{points}]")) for kind, points in _KINDS)

_ZWNJ, _ZWJ, _VS16, _KEYCAP = "\u200c", "\u200d", "\ufe0f", "\u20e3"

# Scripts whose shaping or spelling uses joiners: Arabic, Syriac, N'Ko, Mandaic; the Indic blocks; Tibetan, Myanmar,
# Khmer, Mongolian; Arabic presentation forms.
_JOINING = re.compile("[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc]")
_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u25ff\u2600-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)


@dataclass(frozen=True)
class Hidden:
    """Text that a reader of the document would not see, taken out of what is indexed and shown to a curator.

    ``kind`` says how it was hidden, ``count`` is in characters for characters and in places for formatting,
    ``sample`` is its beginning, decoded where the hiding was an encoding.
    """

    kind: str
    count: int
    sample: str


def clean(text: str) -> tuple[str, tuple[Hidden, ...]]:
    """The text without invisible characters, and what was taken out, by kind.

    ZWJ and ZWNJ stay where an Arabic or Indic word or an emoji sequence needs them, VS16 after an emoji, Mongolian
    selectors after Mongolian letters; one each, so that none of them can carry a message of any length.
    """
    if _HIDDEN.search(text) is None:
        return text, ()
    kept: list[str] = []
    taken: list[str] = []
    before, position = "", 0
    for match in _HIDDEN.finditer(text):
        at = match.start()
        if at > position:
            kept.append(text[position:at])
            before = text[at - 1]
        position = at + 1
        if _needed(match[0], before, text[at + 1 : at + 2]):
            kept.append(match[0])
            before = match[0]
        else:
            taken.append(match[0])
    kept.append(text[position:])
    return "".join(kept), _report(taken)


def _needed(char: str, before: str, after: str) -> bool:
    """Whether the character changes what the reader sees. ``before`` is the last character kept."""
    if not before:
        return False
    if char == _ZWNJ:
        return _joins(before) and _joins(after)
    if char == _ZWJ:
        emoji = before == _VS16 or _EMOJI.match(before) is not None
        return _joins(before) or (emoji and _EMOJI.match(after) is not None)
    if char == _VS16:
        return _EMOJI.match(before) is not None or (before in "0123456789#*" and after == _KEYCAP)
    return "\u180b" <= char <= "\u180f" and _MONGOLIAN.match(before) is not None


def _joins(char: str) -> bool:
    return _JOINING.match(char) is not None and _HIDDEN.match(char) is None


def _report(taken: list[str]) -> tuple[Hidden, ...]:
    joined = "".join(taken)
    found = ((kind, "".join(pattern.findall(joined))) for kind, pattern in _KIND_OF)
    return tuple(Hidden(kind, len(chars), _sample(kind, chars)) for kind, chars in found if chars)


def _sample(kind: str, chars: str) -> str:
    """What the characters said, where they were an alphabet; else which characters they were."""
    head = chars[:SAMPLE_CHARS]
    if kind == "tags":
        spelled = "".join(chr(ord(c) - 0xE0000) for c in head)
        return "".join(c if c.isprintable() else "·" for c in spelled)
    if kind == "variation-selectors":
        return _bytes_of(head).decode("utf-8", "replace") or _names(head)
    return _names(head)


def _bytes_of(selectors: str) -> bytes:
    """Variation selectors 1 to 256 as the bytes 0 to 255, which is how text is smuggled in them."""
    points = (ord(c) for c in selectors)
    values = (p - 0xFE00 if p < 0xFE10 else p - 0xE0100 + 16 for p in points if p >= 0xFE00)
    return bytes(v for v in values if v >= 32 or v == 10)


def _names(chars: str) -> str:
    return " ".join(f"U+{ord(c):04X}" for c in dict.fromkeys(chars))[:SAMPLE_CHARS]
