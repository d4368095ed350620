"""Model text made harmless to show: nothing in it can be clicked, fetched or run.

Two forms. ``plain`` gives text: images go, links become their words, an address stays (in code form) only when a cited
passage holds it verbatim. ``to_html`` gives HTML from an allow-list of CommonMark nodes, cleaned once more. The only active
references of an answer are the citation links, which the console makes from the server's own table, never from text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

REMOVED = "[link removed]"

_MAX = 200_000
"""Longer text is cut: an answer is never that long."""

# --- to plain text ---------------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_BLOCKS = re.compile(
    r"<(script|style|svg|math|iframe|object|template|noscript)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,4000}>?|<[!?][^<>]{0,4000}>?")
_AUTOLINK = re.compile(r"<([a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]*|[^\s<>@]+@[^\s<>]+)>")
_LABEL = r"((?:\\.|[^\[\]\\]|\[(?:\\.|[^\[\]\\])*\])*)"
_TARGET = r"\(\s*(?:<[^<>\n]*>|(?:\\.|[^\s()\\]|\((?:\\.|[^\s()\\])*\))*)(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
_IMAGE = re.compile(rf"!\[{_LABEL}\](?:{_TARGET}|\[[^\[\]]*\])")
_IMAGE_BARE = re.compile(r"!(?=\[)")
_LINK = re.compile(rf"(?<!\\)\[{_LABEL}\]{_TARGET}")
_REFERENCE = re.compile(rf"(?<!\\)\[{_LABEL}\]\[([^\[\]]*)\]")
_DEFINITION = re.compile(
    r"^[ >*+-]{0,12}\[(?!\^)(?:\\.|[^\[\]\\])+\]:[ \t]*\n?[ \t]*\S.*(?:\n[ \t]+[\"'(].*)?$", re.MULTILINE
)
_TOP = (
    "com|org|net|edu|gov|mil|int|io|ai|app|dev|co|me|info|biz|xyz|top|site|online|shop|club|live|link|click|page|cloud|tech"
    "|de|uk|fr|es|it|nl|pt|ch|at|be|eu|us|ca|au|jp|cn|ru|in|br|pl|se|no|dk|fi|cz|ie|nz|za|kr|tv|cc|ly|gg|to|zip|mov"
)
_ADDRESS = re.compile(
    r"(?:[a-zA-Z][a-zA-Z0-9+.-]{1,20}:(?://|\\\\)|\b(?:javascript|data|vbscript|mailto|tel|sms|file|blob|ftp|cid|intent):)[^\s<>\"'`]*"
    r"|(?<![\w@/.:])(?://|\\\\)(?:[\w-]+\.)+\w[^\s<>\"'`]*"
    r"|\bwww\d{0,3}\.[^\s<>\"'`]+"
    r"|[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[a-zA-Z]{2,24}\b"
    rf"|(?<![\w@.-])(?:[a-zA-Z0-9-]{{1,63}}\.){{1,8}}(?:{_TOP})\b(?![.\w-]*\w\()(?:[:/?#][^\s<>\"'`]*)?"
    r"|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?/[^\s<>\"'`]*",
    re.IGNORECASE,
)
_SCHEME_SPACED = re.compile(r"\b(h\s?t\s?t\s?p\s?s?)\s*:\s*/\s*/", re.IGNORECASE)
_TRAILING = ".,;:!?)]}*_'\"”’»"


def plain(text: str, passages: Sequence[str] = ()) -> str:
    """The text without anything active; ``passages`` are the cited texts whose addresses may stay, as code."""
    text = html.unescape(text[:_MAX]).replace("\x00", "")
    text = _BLOCKS.sub("", _COMMENT.sub("", text))
    text = _AUTOLINK.sub(r" \1 ", text)
    text = _DEFINITION.sub("", text)
    for _ in range(6):  # links inside links inside images
        changed = _IMAGE.sub("", text)
        changed = _LINK.sub(_words_of_link, changed)
        changed = _REFERENCE.sub(_words_of_reference, changed)
        if changed == text:
            break
        text = changed
    text = _IMAGE_BARE.sub("", text)
    text = _TAG.sub("", text)
    text = text.replace("<", "‹").replace(">", "›") if re.search(r"<\s*/?\s*[a-zA-Z!]", text) else text
    text = text.replace("](", "] (").replace("]:", "] :")
    text = _SCHEME_SPACED.sub(lambda m: "".join(m[1].split()) + "://", text)
    held = "\n".join(passages)
    text = _ADDRESS.sub(lambda m: _address(m[0], held), text)
    return _tidy(text)


def _words_of_link(match: re.Match[str]) -> str:
    """A link's words; a citation marker that was dressed as a link is a plain marker again."""
    return match[1] if match[1].strip() else ""


def _words_of_reference(match: re.Match[str]) -> str:
    if match[1].strip().isdigit() and (not match[2] or match[2].strip().isdigit()):
        return f"[{match[1]}] [{match[2]}]" if match[2] else f"[{match[1]}]"  # two citation markers, not a link
    return match[1]


def _address(found: str, held: str) -> str:
    bare = found.rstrip(_TRAILING)
    tail = found[len(bare) :]
    return f"`{bare}`{tail}" if bare and bare in held else f"{REMOVED}{tail}"


def _tidy(text: str) -> str:
    text = text.replace("``", "`")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"(?<=\S)[ \t]{2,}(?=\S)", " ", text)
    text = re.sub(r"[ \t]+([.,;:!?])(?=\s|$)", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


# --- to HTML ---------------------------------------------------------------------------------------------------------

_ALLOWED_TAGS = {
    *("p", "br", "em", "strong", "code", "pre", "blockquote", "ul", "ol", "li", "hr"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "s"),
}
_ALLOWED_TOKENS = frozenset(
    {
        *("paragraph_open", "paragraph_close", "inline", "text", "softbreak", "hardbreak", "em_open", "em_close"),
        *("strong_open", "strong_close", "code_inline", "code_block", "fence", "blockquote_open", "blockquote_close"),
        *("bullet_list_open", "bullet_list_close", "ordered_list_open", "ordered_list_close", "list_item_open"),
        *("list_item_close", "heading_open", "heading_close", "hr", "table_open", "table_close", "thead_open"),
        *(
            "thead_close",
            "tbody_open",
            "tbody_close",
            "tr_open",
            "tr_close",
            "th_open",
            "th_close",
            "td_open",
            "td_close",
        ),
        *("s_open", "s_close"),
    }
)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False})
    parser.enable(["table", "strikethrough"])
    parser.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])
    return parser


_MARKDOWN = _parser()


def to_html(text: str) -> str:
    """The text as HTML without links, images, raw HTML or attributes."""
    tokens = [_kept(t) for t in _MARKDOWN.parse(text[:_MAX].replace("\x00", ""))]
    rendered = _MARKDOWN.renderer.render([t for t in tokens if t is not None], _MARKDOWN.options, {})
    return nh3.clean(str(rendered), tags=_ALLOWED_TAGS, attributes={}, link_rel=None, url_schemes=set())


def _kept(token: Token) -> Token | None:
    """The token with only allowed children and no attributes; None when its kind is not allowed."""
    if token.type not in _ALLOWED_TOKENS:
        return None
    token.attrs = {}
    token.info = ""
    if token.children:
        token.children = [c for c in (_kept(child) for child in token.children) if c is not None]
    return token
