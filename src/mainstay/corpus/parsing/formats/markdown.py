"""Markdown: rendered as CommonMark with tables and then read as the page a browser would show.

Going through HTML means that raw HTML in Markdown is treated exactly like HTML: what it hides is hidden. Front matter
is YAML between ``---`` lines at the very top; it may not use aliases, which is how small YAML grows without bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml
from markdown_it import MarkdownIt

from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.plain import decode
from mainstay.corpus.parsing.formats.web import read_html

_MAX_FRONT = 32_768
_MAX_BRACKETS = 300  # deep nesting takes the YAML scanner quadratic time
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
# Deeper than any author writes; the parser recurses, so the depth has to be bounded here.
_MARKDOWN = MarkdownIt("commonmark", {"html": True, "maxNesting": 60}).enable("table").enable("strikethrough")
_NAMED = {"created": "date", "published": "date", "updated": "modified", "keywords": "tags", "authors": "author"}


class _NoAliases(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in front matter")
        return super().compose_node(parent, index)


def read(data: bytes, draft: Draft) -> None:
    """Read a Markdown file."""
    text = decode(data, draft).replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT.match(text[: _MAX_FRONT + 10])
    if front:
        _front_matter(front[1], draft)
        text = text[front.end() :]
    read_html(_MARKDOWN.render(text), draft)


def _front_matter(source: str, draft: Draft) -> None:
    if source.count("[") + source.count("{") > _MAX_BRACKETS:
        draft.find("front-matter-invalid", "nested too deep")
        return
    try:
        loaded = yaml.load(source, Loader=_NoAliases)  # noqa: S506  # a SafeLoader with one thing less
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        draft.find("front-matter-invalid", str(error))
        return
    if not isinstance(loaded, Mapping):
        draft.find("front-matter-invalid", "not a mapping")
        return
    draft.front_matter = {str(key)[:200]: value for key, value in loaded.items()}
    for key, value in draft.front_matter.items():
        _keep(key, value, draft)


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
