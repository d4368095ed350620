"""Markdown: rendered as CommonMark with tables and then read as the page a browser would show.

Going through HTML means that raw HTML in Markdown is treated exactly like HTML: what it hides is hidden. Front matter
is YAML between ``---`` lines (or TOML between ``+++``) at the top; it may not use aliases, which is how small
YAML grows without bound.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from markdown_it import MarkdownIt

from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.plain import decode
from mainstay.corpus.parsing.formats.web import read_html

UNREADABLE = "(unreadable)"  # no principal: whoever reads it as access finds that it can not be read
_MAX_FRONT = 32_768
_MAX_BRACKETS = 300  # deep nesting takes the YAML scanner quadratic time
_FRONT = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML_FRONT = re.compile(r"\+\+\+[ \t]*\n(.*?)\n\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_OPENING = re.compile(
    r"(?:---|\+\+\+)[ \t]*\n\s*[\w\"'-]+[ \t]*[:=]"
)  # begins like front matter, whether it ends or not
_BEFORE = re.compile(r"[\s\ufeff\u200b-\u200d\u2060\u00ad]*")  # what editors and converters leave before it
# Deeper than any author writes; the parser recurses, so the depth has to be bounded here.
_MARKDOWN = MarkdownIt("commonmark", {"html": True, "maxNesting": 60}).enable("table").enable("strikethrough")
_NAMED = {"created": "date", "published": "date", "updated": "modified", "keywords": "tags", "authors": "author"}


class _Strict(yaml.SafeLoader):
    """No aliases, and no key twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) < len(keys):
            raise yaml.YAMLError("a key stands there twice")
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in front matter")
        return super().compose_node(parent, index)


def read(data: bytes, draft: Draft) -> None:
    """Read a Markdown file."""
    text = decode(data, draft).replace("\r\n", "\n").replace("\r", "\n")
    start = _BEFORE.match(text)
    at = start.end() if start else 0
    front = _FRONT.match(text, at, at + _MAX_FRONT) or _TOML_FRONT.match(text, at, at + _MAX_FRONT)
    if front and _front_matter(front[1], draft, toml=text.startswith("+++", at)):
        text = text[front.end() :]
    elif front:
        draft.find("front-matter-invalid", "not a mapping")  # two rules with prose between them look like it
    elif _OPENING.match(text, at):
        _unreadable("it does not end, or is too long", draft)
    read_html(_MARKDOWN.render(text), draft)


def _unreadable(why: str, draft: Draft) -> None:
    """Front matter may state who may read the document: where it can not be read, nobody may (``corpus.ingest``)."""
    draft.find("front-matter-invalid", why)
    draft.front_matter = {"access": UNREADABLE}


def _front_matter(source: str, draft: Draft, *, toml: bool) -> bool:
    """Take what it states; False when it is none."""
    if source.count("[") + source.count("{") > _MAX_BRACKETS:
        _unreadable("nested too deep", draft)
        return True
    try:
        loaded = tomllib.loads(source) if toml else yaml.load(source, Loader=_Strict)  # noqa: S506  # a stricter SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        _unreadable(str(error), draft)
        return True
    if isinstance(loaded, str):
        return False
    if not isinstance(loaded, Mapping):
        if loaded is not None:
            _unreadable("not a mapping", draft)
        return True
    draft.front_matter = {str(key)[:200]: value for key, value in loaded.items()}
    for key in draft.front_matter:
        if key != "access" and get_close_matches(key.strip().casefold(), ["access"], 1, 0.8):
            _unreadable(f"{key[:40]!r} is nearly 'access'", draft)
            return True
    for key, value in draft.front_matter.items():
        _keep(key, value, draft)
    return True


def _keep(key: str, value: object, draft: Draft) -> None:
    name = key.strip().casefold()
    if name == "title":
        draft.title = str(value)
    name = _NAMED.get(name, name)
    if name in ("date", "modified") and isinstance(value, str):
        draft.meta_date(name, value)
    elif name == "tags" and isinstance(value, str):
        draft.meta(name, [tag.strip() for tag in value.split(",")])
    else:
        draft.meta(name, value)
