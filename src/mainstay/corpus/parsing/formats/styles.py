"""Which HTML elements CSS makes unseen.

Reads inline styles and the rules of ``<style>`` elements; no cascade by specificity: a later rule wins over an
earlier one and inline wins over all. Wrongly hidden text costs recall and is shown as a finding; wrongly kept text
reaches the model. So doubt hides. Out of scope: external style sheets (never fetched), scripts, media conditions
other than ``screen``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

Colour = tuple[int, int, int]
Attributes = Mapping[str, str | None]
Style = tuple[tuple[int, ...], str]  # the rules that match, and the inline style

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

_MAX_CSS, _MAX_RULES, _MAX_MATCHES = 1_000_000, 5_000, 300_000
_NEAR = 24  # of 255 for each channel: closer than that to its background, text cannot be read
_TINY_PX = 1.0
_FAR_PX = -400.0
_UNITS = {
    "px": 1.0,
    "": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "in": 96.0,
    "cm": 37.8,
    "mm": 3.78,
    "rem": 16.0,
    "vw": 10.0,
    "vh": 8.0,
}
_WATCHED = frozenset(
    [
        "display",
        "visibility",
        "opacity",
        "color",
        "background",
        "background-color",
        "background-image",
        "font-size",
        "font",
        "position",
        "left",
        "top",
        "right",
        "bottom",
        "text-indent",
        "margin-left",
        "margin-top",
        "clip",
        "clip-path",
        "width",
        "height",
        "max-width",
        "max-height",
        "overflow",
        "transform",
        "content-visibility",
        "filter",
        "letter-spacing",
        "zoom",
        "-webkit-text-fill-color",
    ]
)
_DYNAMIC = re.compile(
    r":(?:hover|focus|active|visited|link|checked|target|before|after|first-l|selection|placeholder|marker)|::"
)
_NAMED: Mapping[str, Colour] = {
    "white": WHITE, "black": BLACK, "red": (255, 0, 0), "lime": (0, 255, 0), "green": (0, 128, 0), "blue": (0, 0, 255),
    "yellow": (255, 255, 0), "silver": (192, 192, 192), "gray": (128, 128, 128), "grey": (128, 128, 128),
    "navy": (0, 0, 128), "maroon": (128, 0, 0), "purple": (128, 0, 128), "teal": (0, 128, 128), "olive": (128, 128, 0),
    "orange": (255, 165, 0), "snow": (255, 250, 250), "ivory": (255, 255, 240), "whitesmoke": (245, 245, 245),
    "ghostwhite": (248, 248, 255), "floralwhite": (255, 250, 240), "azure": (240, 255, 255), "mintcream": (245, 255, 250),
}  # fmt: skip
_NUMBER = re.compile(r"(-?\d*\.?\d+)\s*([a-z%]*)")
_IMPORTANT = re.compile(r"\s*!\s*important\s*$")
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Look:
    """What an element hands down to the text in it."""

    colour: Colour = BLACK
    ground: Colour | None = WHITE  # None: an image or a gradient, nobody can tell
    size_px: float = 16.0
    coloured: bool = False  # the colour was set by the page, not assumed

    def unseen(self, *, foreign_css: bool) -> str:
        """How text of this look is hidden, or an empty string."""
        if self.size_px <= _TINY_PX:
            return "html-tiny"
        if self.ground is None or any(abs(a - b) > _NEAR for a, b in zip(self.colour, self.ground, strict=True)):
            return ""
        # Assumed black on a black ground: with a style sheet we cannot read, the text most likely has another colour.
        if not self.coloured and foreign_css:
            return ""
        return "html-white-on-white" if self.ground == WHITE else "html-same-colour"


_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.))", re.DOTALL)


def _unescaped(match: re.Match[str]) -> str:
    """A CSS escape as the character it stands for (CSS Syntax 3, section 4.3.7)."""
    if match[2]:
        return match[2]
    code = int(match[1], 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\N{REPLACEMENT CHARACTER}"


def declarations(style: str) -> dict[str, str]:
    """The watched properties of a declaration list, names and values in lower case."""
    found: dict[str, str] = {}
    plain = _ESCAPE.sub(_unescaped, _COMMENT.sub("", style[:20_000]))
    for part in plain.lower().split(";"):
        name, colon, value = part.partition(":")
        if colon and (name := name.strip()) in _WATCHED:
            found[name] = _IMPORTANT.sub("", value).strip()
    return found


class Sheet:
    """The styles of one page: what its ``<style>`` elements and inline styles say of each element.

    Pages repeat few styles on many elements, so whatever follows from a style is worked out once and kept.
    """

    def __init__(self, tree: LexborHTMLParser) -> None:
        css = "\n".join(node.text() for node in tree.css("style"))[:_MAX_CSS]
        self._declared: list[dict[str, str]] = []
        self._of_node: dict[int, tuple[int, ...]] = {}
        self._merged: dict[Style, dict[str, str]] = {}
        self._hiding: dict[tuple[Style, bool], str] = {}
        self._looks: dict[tuple[Look, Style, str, str, str], Look] = {}
        self._match(tree, css)

    def _match(self, tree: LexborHTMLParser, css: str) -> None:
        matches = 0
        for count, (selector, body) in enumerate(_rules_of(css)):
            wanted = declarations(body)
            if not wanted or _DYNAMIC.search(selector):
                continue
            if count > _MAX_RULES or matches > _MAX_MATCHES:
                return
            try:
                nodes = tree.css(selector)
            except SelectolaxError:  # a selector newer than the library: the rule cannot be applied
                continue
            matches += len(nodes)
            self._declared.append(wanted)
            for node in nodes:
                self._of_node[node.mem_id] = (*self._of_node.get(node.mem_id, ()), len(self._declared) - 1)

    def style(self, node: LexborNode, attributes: Attributes) -> Style:
        """A key for the element's style; elements with the same key are styled alike. The empty one says nothing."""
        return self._of_node.get(node.mem_id, ()), attributes.get("style") or ""

    def hides(self, style: Style, attributes: Attributes) -> str:
        """How the element itself takes its whole subtree out of sight, or an empty string."""
        key = style, "hidden" in attributes
        if key not in self._hiding:
            self._hiding[key] = _hides(self._values(style), hidden=key[1])
        return self._hiding[key]

    def inside(self, parent: Look, style: Style, attributes: Attributes) -> Look:
        """The look inside an element, from its parent's look, its style and old-fashioned attributes."""
        old = (attributes.get("color") or "", attributes.get("bgcolor") or "", attributes.get("background") or "")
        key = parent, style, *old
        if key not in self._looks:
            self._looks[key] = _inherit(parent, self._values(style), *old)
        return self._looks[key]

    def _values(self, style: Style) -> dict[str, str]:
        if style not in self._merged:
            merged: dict[str, str] = {}
            for number in style[0]:
                merged |= self._declared[number]
            self._merged[style] = merged | declarations(style[1])
        return self._merged[style]


def _rules_of(css: str) -> Iterator[tuple[str, str]]:
    """(selector, declarations) of every rule that holds on a screen."""
    css = _COMMENT.sub(" ", css)
    open_preludes: list[str] = []
    last = 0
    leaf = False
    for brace in re.finditer("[{}]", css):
        chunk = css[last : brace.start()]
        last = brace.end()
        if brace[0] == "{":
            open_preludes.append(chunk.rpartition(";")[2].strip())
            leaf = True
        elif open_preludes:
            prelude = open_preludes.pop()
            if leaf and prelude and all(_on_screen(outer) for outer in [*open_preludes, prelude]):
                yield prelude, chunk
            leaf = False


def _on_screen(prelude: str) -> bool:
    if not prelude.startswith("@"):
        return True
    return re.fullmatch(r"@media\s+(?:only\s+)?(?:screen|all)|@layer.*|@supports.*", prelude.lower()) is not None


def _hides(style: Mapping[str, str], *, hidden: bool) -> str:
    if style.get("display") == "none" or (hidden and style.get("display", "") == ""):
        return "html-display-none"
    if style.get("visibility") in ("hidden", "collapse") or style.get("content-visibility") == "hidden":
        return "html-invisible"
    if (opacity := _first_number(style.get("opacity", ""))) is not None and opacity <= 0.05:
        return "html-invisible"
    if re.search(r"opacity\(\s*0?\.?0+\s*%?\s*\)", style.get("filter", "")) or re.fullmatch(
        r"0?\.?0+%?", style.get("zoom", "")
    ):
        return "html-invisible"
    if (apart := px(style.get("letter-spacing", ""))) is not None and apart <= -8.0:  # letters upon each other
        return "html-invisible"
    if _clipped(style) or re.search(r"scale[xy]?\(\s*0(?:\.0+)?\s*[,)]", style.get("transform", "")):
        return "html-invisible"
    return "html-off-screen" if _off_screen(style) else ""


def _clipped(style: Mapping[str, str]) -> bool:
    clip = style.get("clip", "")
    if clip.startswith("rect") and all(abs(float(n)) <= 1 for n, _ in _NUMBER.findall(clip)):
        return True
    if re.match(r"inset\((?:50|100)%|circle\(0", style.get("clip-path", "")):
        return True
    if not style.get("overflow", "").startswith(("hidden", "clip")):
        return False
    sizes = (px(style[name]) for name in ("width", "height", "max-width", "max-height") if name in style)
    return any(size is not None and size <= 1 for size in sizes)


def _off_screen(style: Mapping[str, str]) -> bool:
    names = ["text-indent", "margin-left", "margin-top"]
    if style.get("position") in ("absolute", "fixed", "relative"):
        names += ["left", "top", "right", "bottom"]
    places = [px(style[name]) for name in names if name in style]
    moved = [abs(float(n)) for n, unit in _NUMBER.findall(style.get("transform", "")) if unit == "px"]
    if "translate" in style.get("transform", "") and any(n >= -_FAR_PX for n in moved):
        return True
    return any(place is not None and place <= _FAR_PX for place in places)


def _inherit(parent: Look, style: Mapping[str, str], color: str, bgcolor: str, background: str) -> Look:
    look = parent
    colour = style.get("-webkit-text-fill-color") or style.get("color") or color
    if colour and (known := _colour(colour, look.ground)) is not None:
        look = replace(look, colour=known, coloured=True)
    ground = style.get("background-color") or style.get("background") or bgcolor
    image = style.get("background-image") or style.get("background") or background
    if "url(" in image or "gradient" in image or background:
        look = replace(look, ground=None)
    elif ground and (known := _first_colour(ground, look.ground)) is not None:
        look = replace(look, ground=known)
    size = style.get("font-size") or _font_size(style.get("font", ""))
    if size and (pixels := px(size, parent.size_px)) is not None:
        look = replace(look, size_px=max(0.0, pixels))
    return look


def _font_size(font: str) -> str:
    match = re.search(r"(?:^|\s)(\d*\.?\d+(?:px|pt|em|rem|%)|0(?=[\s/]))", font)
    return match[1] if match and match[1] != "0" else "0px" if match else ""


def px(length: str, parent: float = 16.0) -> float | None:
    """A CSS length in pixels; ``em`` and ``%`` are of ``parent``. None for what is not a plain length."""
    match = _NUMBER.fullmatch(length.strip())
    if match is None:
        return None
    value, unit = float(match[1]), match[2]
    if unit in ("em", "ex", "ch"):
        return value * parent
    if unit == "%":
        return value * parent / 100
    return value * _UNITS[unit] if unit in _UNITS else None


def _first_number(value: str) -> float | None:
    match = _NUMBER.match(value.strip())
    return None if match is None else float(match[1]) / (100 if match[2] == "%" else 1)


def _first_colour(value: str, ground: Colour | None) -> Colour | None:
    if (whole := _colour(value, ground)) is not None:
        return whole
    return next((c for part in value.split() if (c := _colour(part, ground)) is not None), None)


def _colour(value: str, ground: Colour | None) -> Colour | None:
    """A colour as it looks over ``ground``; None when unknown. Fully transparent is the ground itself."""
    value = value.strip().lower()
    if value in _NAMED:
        return _NAMED[value]
    if value == "transparent":
        return ground
    if re.fullmatch(r"#[0-9a-f]{3,4}|#[0-9a-f]{6}|#[0-9a-f]{8}", value):
        digits = value[1:] if len(value) > 5 else "".join(2 * c for c in value[1:])
        channels = [int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)]
        return _over((channels[0], channels[1], channels[2]), channels[3] / 255 if len(channels) > 3 else 1.0, ground)
    if not value.startswith(("rgb", "hsl")):
        return None
    parts = _NUMBER.findall(value)
    if len(parts) < 3:
        return None
    alpha = float(parts[3][0]) / (100 if parts[3][1] == "%" else 1) if len(parts) > 3 else 1.0
    if value.startswith("hsl"):
        return _over(_grey(float(parts[1][0]), float(parts[2][0])), alpha, ground)
    red, green, blue = (min(255, max(0, int(float(n) * (2.55 if u == "%" else 1)))) for n, u in parts[:3])
    return _over((red, green, blue), alpha, ground)


def _grey(saturation: float, lightness: float) -> Colour | None:
    """An HSL colour where it is a grey, black or white: hues do not hide text on white."""
    if saturation > 5 and 5 < lightness < 95:
        return None
    level = min(255, max(0, int(lightness * 2.55)))
    return (level, level, level)


def _over(colour: Colour | None, alpha: float, ground: Colour | None) -> Colour | None:
    if colour is None or alpha > 0.1 or ground is None:
        return colour
    return ground
