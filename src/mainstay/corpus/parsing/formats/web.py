"""HTML: what a browser would show of it, in reading order.

The tree is walked once, without recursion, so a page nested a hundred thousand deep costs time but no stack. Nothing is
fetched and no script runs. What styles or attributes hide goes to ``Draft.hide`` and not into the text.
"""

from __future__ import annotations

import codecs
import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from mainstay.corpus.parsing.document import BlockKind
from mainstay.corpus.parsing.draft import Draft, one_line
from mainstay.corpus.parsing.formats import styles
from mainstay.corpus.parsing.formats.plain import decode

_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_SILENT = frozenset(
    ["script", "style", "head", "noscript", "template", "iframe", "object", "embed", "video", "audio", "canvas", "svg"]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "legend",
        "main",
        "nav",
        "p",
        "section",
        "summary",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "menu",
        "table",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "td",
        "th",
        "pre",
        "option",
    ]
)
_UNSTYLED: styles.Style = ((), "")
_LISTS = frozenset(("ul", "ol", "menu"))
_CELLS = frozenset(("td", "th"))
_DATE_NAMES = frozenset(
    ("date", "dc.date", "dcterms.date", "article:published_time", "last-modified", "dcterms.modified")
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w-]{2,40})""", re.IGNORECASE)
_CODECS = re.compile(
    r"utf-?8|iso-?8859-\d+|latin-?1|windows-125\d|cp125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gbk?|gb2312|gb18030|big5|"
    r"ascii|us-ascii",
    re.IGNORECASE,
)


def read(data: bytes, draft: Draft) -> None:
    """Read an HTML file."""
    read_html(decode(data, draft, declared=_declared(data)), draft)


def _declared(data: bytes) -> str:
    match = _CHARSET.search(data[:4096])
    name = match[1].decode("ascii", "replace") if match else ""
    if not _CODECS.fullmatch(name):
        return ""
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def read_html(html: str, draft: Draft) -> None:
    """Append the visible text of a page to the draft; title, author, date, tags and language as metadata."""
    tree = LexborHTMLParser(html)
    _metadata(tree, draft)
    _Walk(tree, draft).run()


def _metadata(tree: LexborHTMLParser, draft: Draft) -> None:
    title = tree.css_first("title")
    if title is not None and not draft.title:
        draft.title = one_line(title.text())
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    if re.match(r"[A-Za-z]{2}(?:$|[-_])", language):
        draft.language = language[:2].lower()
    for node in tree.css("meta[content]")[:200]:
        attributes = node.attributes
        name = (attributes.get("name") or attributes.get("property") or "").strip().lower()
        content = (attributes.get("content") or "").strip()
        if name == "author":
            draft.meta("author", content)
        elif name == "keywords":
            draft.meta("tags", [tag.strip() for tag in content.split(",")])
        elif name in _DATE_NAMES:
            draft.meta_date("date", content)


class _Walk:
    """One pass over the tree, with the state that turns elements into blocks."""

    def __init__(self, tree: LexborHTMLParser, draft: Draft) -> None:
        self.draft, self.tree = draft, tree
        self.sheet = styles.Sheet(tree)
        self.foreign_css = tree.css_first("link[rel~=stylesheet]") is not None
        self.looks = [styles.Look()]
        self.inline: list[str] = []
        self.pre = 0
        self.quotes = 0
        self.lists: list[int] = []  # the number of the last item of each open list; -1 in bulleted ones
        self.lines: list[str] = []  # of the outermost list
        self.bullet = ""
        self.tables: list[bool] = []  # whether each open table holds data (else it is layout)
        self.rows: list[str] = []
        self.cells: list[str] = []
        self.in_row = False

    def run(self) -> None:
        root = self.tree.root
        node = root.parent if root is not None else None
        if node is None:
            return
        start = node.mem_id
        opened: list[tuple[str, bool]] = []  # tag and whether it pushed a look
        while True:
            child = self._enter(node, opened)
            if child is not None:
                node = child
                continue
            while (following := node.next) is None or node.mem_id == start:
                parent = node.parent
                if node.mem_id == start or parent is None:
                    self._flush()
                    return
                node = parent
                self._leave(opened)
            node = following

    def _enter(self, node: LexborNode, opened: list[tuple[str, bool]]) -> LexborNode | None:
        """Take in a node; its first child when there is something to see in it."""
        if node.is_text_node:
            self._text(node.text_content or "")
            return None
        if node.is_comment_node:
            self.draft.hide("html-comment", node.comment_content or "")
            return None
        tag = node.tag or ""
        attributes: styles.Attributes = node.attributes if node.is_element_node else {}
        style = self.sheet.style(node, attributes)
        if tag in _SILENT or self._hidden(node, style, attributes):
            return None
        if tag == "br":
            self.inline.append("\n" if not self.cells and not self.in_row else " ")
        elif tag == "img":
            self._image(attributes)
        child = node.child
        if child is None and tag not in _CELLS:
            if tag in _BLOCKS:
                self._flush_unless_inline()
            return None
        self._open(tag, node, attributes)
        if child is None:
            self._close(tag)
            return None
        opened.append((tag, self._look(style, attributes)))
        return child

    def _leave(self, opened: list[tuple[str, bool]]) -> None:
        if not opened:
            return
        tag, pushed = opened.pop()
        if pushed:
            self.looks.pop()
        self._close(tag)

    def _hidden(self, node: LexborNode, style: styles.Style, attributes: styles.Attributes) -> bool:
        if node.tag == "dialog" and "open" not in attributes:
            kind = "html-display-none"
        elif style == _UNSTYLED and "hidden" not in attributes:
            return False
        else:
            kind = self.sheet.hides(style, attributes)
        if kind and (shown := one_line(node.text(deep=True, separator=" "))):
            self.draft.hide(kind, shown)
        return bool(kind)

    def _look(self, style: styles.Style, attributes: styles.Attributes) -> bool:
        if style == _UNSTYLED and not ("color" in attributes or "bgcolor" in attributes or "background" in attributes):
            return False
        self.looks.append(self.sheet.inside(self.looks[-1], style, attributes))
        return True

    def _image(self, attributes: styles.Attributes) -> None:
        if alt := (attributes.get("alt") or "").strip():
            self.draft.hide("alt-text", alt)

    def _text(self, text: str) -> None:
        kind = self.looks[-1].unseen(foreign_css=self.foreign_css) if len(self.looks) > 1 else ""
        if not kind:
            self.inline.append(text if self.pre else text.replace("\n", " "))
        elif text.strip():
            self.draft.hide(kind, text)

    def _open(self, tag: str, node: LexborNode, attributes: styles.Attributes) -> None:
        if tag not in _BLOCKS:
            return
        self._flush_unless_inline()
        if tag == "pre":
            self.pre += 1
        elif tag == "blockquote":
            self.quotes += 1
        elif tag in _LISTS:
            self.lists.append(_first_number(attributes) - 1 if tag == "ol" else -1)
        elif tag == "li":
            self._item()
        elif tag == "table":
            self.tables.append(not any(self.tables) and len(self.tables) < 50 and _holds_data(node))
        elif tag == "tr" and self._in_data():
            self.cells, self.in_row = [], True

    def _close(self, tag: str) -> None:
        if tag not in _BLOCKS:
            return
        if tag in _CELLS and self._in_data():
            self.cells.append(one_line("".join(self.inline)))
            self.inline = []
            return
        if tag in _HEADINGS:
            self._heading(_HEADINGS[tag])
        self._flush_unless_inline()
        if tag == "pre":
            self.pre = max(0, self.pre - 1)
        elif tag == "blockquote":
            self.quotes = max(0, self.quotes - 1)
        elif tag in _LISTS and self.lists:
            self._close_list()
        elif tag == "tr" and self._in_data():
            self._row()
        elif tag == "table" and self.tables:
            self._close_table()

    def _in_data(self) -> bool:
        return bool(self.tables) and self.tables[-1]

    def _flush_unless_inline(self) -> None:
        """End the block being written; inside a row of data, blocks are only words apart."""
        if self.in_row:
            self.inline.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self.inline)
        self.inline = []
        if not text.strip():
            return
        if self.pre:
            self._emit("code", text.strip("\n"))
            return
        lines = (one_line(line) for line in text.split("\n"))
        self._emit("quote" if self.quotes else "paragraph", "\n".join(line for line in lines if line))

    def _emit(self, kind: BlockKind, text: str) -> None:
        if not self.lists:
            self.draft.add(kind, text)
            return
        indent = "  " * (len(self.lists) - 1)
        first = f"{indent}{self.bullet}" if self.bullet else f"{indent}  "
        self.lines.append(first + text.replace("\n", f"\n{indent}  "))
        self.bullet = ""

    def _heading(self, level: int) -> None:
        text = one_line("".join(self.inline))
        if self.in_row:
            return
        self.inline = []
        if self.lists:
            self._emit("paragraph", text) if text else None
        else:
            self.draft.add("heading", text, level=level)

    def _item(self) -> None:
        if not self.lists:  # an <li> on its own, which browsers show as an item
            self.bullet = ""
            return
        if self.lists[-1] >= 0:
            self.lists[-1] += 1
            self.bullet = f"{self.lists[-1]}. "
        else:
            self.bullet = "- "

    def _close_list(self) -> None:
        self.lists.pop()
        if not self.lists:
            self.draft.add("list", "\n".join(self.lines))
            self.lines = []

    def _row(self) -> None:
        row = " | ".join(self.cells).strip()
        if row.strip(" |"):
            self.rows.append(row)
        self.cells, self.in_row, self.inline = [], False, []

    def _close_table(self) -> None:
        if self.tables.pop():
            rows, self.rows, self.in_row = self.rows, [], False
            if self.lists:
                for row in rows:
                    self._emit("paragraph", row)
            else:
                self.draft.add("table", "\n".join(rows))


def _first_number(attributes: styles.Attributes) -> int:
    start = attributes.get("start") or ""
    return int(start) if re.fullmatch(r"\d{1,6}", start) and int(start) > 0 else 1


def _holds_data(table: LexborNode) -> bool:
    """Whether a table has rows of cells, rather than laying out a page (as newsletters do)."""
    if len(table.css("table")) > 1 or table.css_first("h1, h2, h3, h4, ul, ol, pre") is not None:
        return False
    return table.css_first("tr > td + td, tr > th + td, tr > th + th, tr > td + th") is not None
