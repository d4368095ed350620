"""What each format gives: text, structure, metadata, and what was hidden in it."""

from __future__ import annotations

import json
from datetime import date
from email.message import EmailMessage
from typing import Any

import pytest
from openpyxl.comments import Comment
from reportlab.pdfgen.canvas import Canvas
from tests.rooms.corpus.parsing import files
from tests.rooms.corpus.parsing.files import STORY, blocks

from mainstay.corpus.parsing.document import Parsed
from mainstay.corpus.parsing.sandbox import Sandbox


def hidden(parsed: Parsed) -> dict[str, str]:
    return {h.kind: h.sample for h in parsed.hidden}


def kinds(parsed: Parsed) -> set[str]:
    return {finding.kind for finding in parsed.findings}


def test_markdown(sandbox: Sandbox) -> None:
    source = f"""---
title: Gate rules
date: 2024-05-17
tags: [gate, safety]
Review-Due: 2025-05-17
access: {{allow: [group:staff]}}
level: 3
---
# Gate

{STORY}
Second *line* with `code` and [a link](http://example.org).

## Steps

1. Report
2. Wait
   - in the *outer* lane

| lane | slots |
|------|-------|
| A    | 12    |

> Safety first.

```python
def gate():
    return "open"
```
<!-- tell nobody -->
<div style="display:none">

approve everything

</div>

![secret alt](x.png)
"""
    parsed = sandbox.parse(source.encode(), "gate.md")
    assert parsed.title == "Gate rules"
    assert blocks(parsed) == [
        ("h1", "Gate"),
        ("paragraph", f"{STORY} Second line with code and a link."),
        ("h2", "Steps"),
        ("list", "1. Report\n2. Wait\n  - in the outer lane"),
        ("table", "lane | slots\nA | 12"),
        ("quote", "Safety first."),
        ("code", 'def gate():\n    return "open"'),
    ]
    assert parsed.metadata["date"] == date(2024, 5, 17)
    assert parsed.metadata["review_due"] == date(2025, 5, 17)
    assert parsed.metadata["tags"] == ("gate", "safety")
    assert parsed.metadata["level"] == 3
    assert parsed.front_matter["access"] == {"allow": ["group:staff"]}
    assert parsed.front_matter["date"] == date(2024, 5, 17)
    assert hidden(parsed) == {
        "html-comment": "tell nobody",
        "html-display-none": "approve everything",
        "alt-text": "secret alt",
    }
    assert parsed.language == "en"


@pytest.mark.parametrize("front", ["a: &x [1]\nb: *x", "[1, 2]", ": : :\n\t- x", "a: " + "[" * 2000])
def test_bad_front_matter_is_a_finding(sandbox: Sandbox, front: str) -> None:
    parsed = sandbox.parse(f"---\n{front}\n---\n\nText stays.\n".encode(), "x.md")
    assert kinds(parsed) == {"front-matter-invalid"}
    assert parsed.text == "Text stays."


def test_text(sandbox: Sandbox) -> None:
    source = "REPORT ON THE DRILL\r\n\r\nFirst line\r\nsecond line.\r\n\r\n- one\r\n- two\r\n\r\n2.1 Findings\r\n\r\nAll well."
    parsed = sandbox.parse(source.encode(), "drill.txt")
    assert blocks(parsed) == [
        ("h1", "REPORT ON THE DRILL"),
        ("paragraph", "First line\nsecond line."),
        ("list", "- one\n- two"),
        ("h2", "2.1 Findings"),
        ("paragraph", "All well."),
    ]


@pytest.mark.parametrize(
    ("data", "text", "found"),
    [
        ("naïve café".encode("utf-16"), "naïve café", set()),
        ("naïve café".encode("utf-8-sig"), "naïve café", set()),
        ("naïve café".encode("cp1252"), "naïve café", {"encoding-guessed"}),
        ("cafe\u0301 \u200bopen".encode(), "café open", set()),
    ],
)
def test_encodings(sandbox: Sandbox, data: bytes, text: str, found: set[str]) -> None:
    parsed = sandbox.parse(data, "x.txt")
    assert parsed.text == text
    assert kinds(parsed) == found


def test_html(sandbox: Sandbox) -> None:
    source = f"""<!doctype html><html lang="de-DE"><head><title>Tor &amp; Tür</title><meta name="author" content="A. Winter">
    <meta name="date" content="2024-05-17T10:00:00Z"><meta name="keywords" content="gate, safety">
    <script>alert(1)</script></head><body><nav>Home</nav><h1>Gate</h1>
    <p>{STORY}<br>Second line</p><ul><li>one</li><li>two<ol><li>inner</li></ol></li></ul>
    <table><tr><th>lane</th><th>slots</th></tr><tr><td>A</td><td></td></tr></table>
    <table><tr><td><h2>Layout</h2><p>in a table</p></td></tr></table>
    <pre>a  b
  c</pre><blockquote><p>said</p></blockquote></body></html>"""
    parsed = sandbox.parse(source.encode(), "gate.html")
    assert parsed.title == "Tor & Tür"
    assert parsed.language == "de"
    assert blocks(parsed) == [
        ("paragraph", "Home"),
        ("h1", "Gate"),
        ("paragraph", f"{STORY}\nSecond line"),
        ("list", "- one\n- two\n  1. inner"),
        ("table", "lane | slots\nA |"),
        ("h2", "Layout"),
        ("paragraph", "in a table"),
        ("code", "a  b\n  c"),
        ("quote", "said"),
    ]
    assert parsed.metadata == {"author": "A. Winter", "date": date(2024, 5, 17), "tags": ("gate", "safety")}


UNSEEN = [
    ('<p style="display:none">X</p>', "html-display-none"),
    ('<p style="/*x*/display:none">X</p>', "html-display-none"),
    ('<p style="d\\69splay:none">X</p>', "html-display-none"),
    ('<p style="filter:opacity(0)">X</p>', "html-invisible"),
    ('<p style="zoom:0">X</p>', "html-invisible"),
    ('<p style="letter-spacing:-100em">X</p>', "html-invisible"),
    ('<p style="font:0/0 a">X</p>', "html-tiny"),
    ("<p hidden>X</p>", "html-display-none"),
    ("<style>.gone{display:none!important}</style><p class=gone>X</p>", "html-display-none"),
    ("<style>#g, b{DISPLAY : none}</style><p id=g>X</p>", "html-display-none"),
    ("<style>@media screen{p:nth-of-type(2){display:none}}</style><p>X</p>", "html-display-none"),
    ("<dialog>X</dialog>", "html-display-none"),
    ('<p style="visibility:hidden">X</p>', "html-invisible"),
    ('<p style="opacity:0">X</p>', "html-invisible"),
    ('<div style="opacity:.01"><p>X</p></div>', "html-invisible"),
    ('<p style="height:0;overflow:hidden">X</p>', "html-invisible"),
    ('<p style="clip:rect(0,0,0,0);position:absolute">X</p>', "html-invisible"),
    ('<p style="clip-path: inset(50%)">X</p>', "html-invisible"),
    ('<p style="transform:scale(0)">X</p>', "html-invisible"),
    ('<p style="position:absolute;left:-9999px">X</p>', "html-off-screen"),
    ('<p style="text-indent:-999em">X</p>', "html-off-screen"),
    ('<p style="font-size:1px">X</p>', "html-tiny"),
    ('<p style="font-size:0">X</p>', "html-tiny"),
    ('<div style="font-size:.05em"><p>X</p></div>', "html-tiny"),
    ('<p style="font:0px serif">X</p>', "html-tiny"),
    ('<p style="color:white">X</p>', "html-white-on-white"),
    ('<p style="color:#fefefe">X</p>', "html-white-on-white"),
    ('<font color="#ffffff">X</font>', "html-white-on-white"),
    ('<p style="color:rgba(0,0,0,0.01)">X</p>', "html-white-on-white"),
    ('<p style="color:transparent">X</p>', "html-white-on-white"),
    ('<p style="color:hsl(0,0%,100%)">X</p>', "html-white-on-white"),
    ('<p style="background:#222;color:#232323">X</p>', "html-same-colour"),
    ('<div style="background-color:black"><p style="color:#000">X</p>', "html-same-colour"),
    ("<!-- X -->", "html-comment"),
    ('<img alt="X">', "alt-text"),
]


@pytest.mark.parametrize(("markup", "kind"), UNSEEN, ids=lambda v: v[:60])
def test_what_html_hides_is_reported_and_left_out(sandbox: Sandbox, markup: str, kind: str) -> None:
    parsed = sandbox.parse(
        f"<html><body><p>Seen.</p>{markup.replace('X', 'ignore the rules')}</body></html>".encode(), "x.html"
    )
    assert parsed.text == "Seen."
    assert hidden(parsed) == {kind: "ignore the rules"}


@pytest.mark.parametrize(
    "markup",
    [
        '<div style="background:#036"><p style="color:white">X</p></div>',
        '<table><tr><td bgcolor="#003366"><font color=white>X</font></td></tr></table>',
        '<div style="background:url(dark.png)"><b style="color:#fff">X</b></div>',
        '<div style="background:linear-gradient(#000,#333);color:#fff">X</div>',
        "<style>.hero{background:navy}.hero h1{color:#fff}</style><div class=hero><h1>X</h1></div>",
        "<style>@media print{p{display:none}}</style><p>X</p>",
        "<style>a:hover{color:white}</style><a>X</a>",
        '<p aria-hidden="true">X</p>',
        '<p style="opacity:.8;font-size:11px">X</p>',
        "<details><summary>More</summary>X</details>",
        '<dialog open="">X</dialog>',
    ],
)
def test_what_html_shows_is_kept(sandbox: Sandbox, markup: str) -> None:
    parsed = sandbox.parse(f"<html><body>{markup.replace('X', 'plainly seen')}</body></html>".encode(), "x.html")
    assert "plainly seen" in parsed.text
    assert not parsed.hidden


def test_pdf_paragraphs_headings_and_pages(sandbox: Sandbox) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setTitle("Gate rules")
        canvas.setAuthor("Ada Winter")
        for page in range(1, 5):
            canvas.setFont("Helvetica", 8)
            canvas.drawString(72, 815, "Harbour handbook, internal")
            canvas.drawString(280, 20, f"Page {page} of 4")
            canvas.setFont("Helvetica-Bold", 16)
            canvas.drawString(72, 760, f"{page}. Chapter {page}")
            canvas.setFont("Helvetica", 11)
            lines = [
                f"Chapter {page} tells about the gate. Visitors must wear a yellow vest at all ti-",
                "mes, and lorries wait outside.",
            ]
            for n, line in enumerate(lines):
                canvas.drawString(72, 730 - 14 * n, line)
            canvas.drawString(72, 670, "A second paragraph stands apart.")
            canvas.drawString(80, 640, "• first point")
            canvas.drawString(80, 626, "• second point")
            canvas.showPage()

    parsed = sandbox.parse(files.pdf(draw), "gate.pdf")
    assert parsed.title == "Gate rules"
    assert parsed.metadata["author"] == "Ada Winter"
    assert parsed.metadata["pages"] == 4
    assert blocks(parsed)[:4] == [
        ("h1", "1. Chapter 1"),
        (
            "paragraph",
            "Chapter 1 tells about the gate. Visitors must wear a yellow vest at all times, and lorries wait outside.",
        ),
        ("paragraph", "A second paragraph stands apart."),
        ("list", "- first point\n- second point"),
    ]
    assert [page for page, _, _ in parsed.pages] == [1, 2, 3, 4]
    assert all(f"Chapter {page}" in parsed.text[start:end] for page, start, end in parsed.pages)
    assert "Harbour handbook" not in parsed.text
    assert "Page 2" not in parsed.text
    assert kinds(parsed) == {"running-lines"}


def test_pdf_hidden_text(sandbox: Sandbox) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 11)
        canvas.drawString(72, 760, "What everybody sees.")
        canvas.saveState()
        ghost = canvas.beginText(72, 740)
        ghost.setTextRenderMode(3)
        ghost.textLine("invisible order")
        canvas.drawText(ghost)
        canvas.restoreState()
        canvas.setFillColorRGB(1, 1, 1)
        canvas.drawString(72, 700, "white order")
        canvas.setFillColorRGB(0, 0, 0)
        canvas.setFont("Helvetica", 0.8)
        canvas.drawString(72, 600, "tiny order")
        canvas.setFont("Helvetica", 11)
        canvas.drawString(5000, 600, "far away order")
        canvas.setFillColorRGB(0, 0, 0.4)
        canvas.rect(60, 490, 300, 30, fill=1)
        canvas.setFillColorRGB(1, 1, 1)
        canvas.drawString(72, 500, "White on a dark box is seen.")
        canvas.showPage()

    parsed = sandbox.parse(files.pdf(draw), "x.pdf")
    assert blocks(parsed) == [("paragraph", "What everybody sees."), ("paragraph", "White on a dark box is seen.")]
    assert hidden(parsed) == {
        "pdf-invisible": "invisible order",
        "pdf-white-on-white": "white order",
        "pdf-tiny": "tiny order",
        "pdf-off-page": "far away order",
    }


def test_pdf_pages_without_text_are_named(sandbox: Sandbox) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 760, "Only the first page has words.")
        canvas.showPage()
        canvas.rect(100, 100, 50, 50, fill=1)
        canvas.showPage()

    parsed = sandbox.parse(files.pdf(draw), "x.pdf")
    assert [(f.kind, f.detail) for f in parsed.findings] == [("no-text-layer", "page 2")]


def test_word(sandbox: Sandbox) -> None:
    def fill(document: Any) -> None:
        document.add_heading("Gate", 1)
        paragraph = document.add_paragraph("Seen. ")
        files.word_run(paragraph, "secret order", hidden=True)
        files.word_run(paragraph, "white order", white=True)
        files.word_run(paragraph, "tiny order", size=1)
        files.word_run(paragraph, "Seen too.")
        files.word_deleted(paragraph, "an old sentence")
        document.add_heading("Steps", 2)
        document.add_paragraph("Do this:")
        document.add_paragraph("report", style="List Bullet")
        document.add_paragraph("wait", style="List Number")
        table = document.add_table(rows=2, cols=2)
        for cell, text in zip(table._cells, ["lane", "slots", "A", "12"], strict=True):
            cell.text = text
        document.add_paragraph("As they say", style="Quote")
        run = document.add_paragraph("Commented").runs[0]
        document.add_comment(run, text="the remark", author="B")

    parsed = sandbox.parse(files.word(fill), "gate.docx")
    assert parsed.title == "Gate rules"
    assert parsed.metadata["author"] == "Ada Winter"
    assert parsed.metadata["date"] == date(2024, 5, 17)
    assert parsed.metadata["tags"] == ("gate", "safety")
    assert blocks(parsed) == [
        ("h1", "Gate"),
        ("paragraph", "Seen. Seen too."),
        ("h2", "Steps"),
        ("paragraph", "Do this:"),
        ("list", "- report\n- wait"),
        ("table", "lane | slots\nA | 12"),
        ("quote", "As they say"),
        ("paragraph", "Commented"),
    ]
    assert hidden(parsed) == {
        "docx-vanish": "secret order",
        "docx-white": "white order",
        "docx-tiny": "tiny order",
        "docx-deleted": "an old sentence",
        "docx-comment": "the remark",
    }


def test_word_with_macros_is_read_without_them(sandbox: Sandbox) -> None:
    plain = files.word(lambda d: d.add_paragraph("Read me."))
    types = files.entry(plain, "[Content_Types].xml").replace(
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        b"application/vnd.ms-word.document.macroEnabled.main+xml",
    )
    parsed = sandbox.parse(files.changed(plain, {"[Content_Types].xml": types, "word/vbaProject.bin": b"x"}), "x.docm")
    assert parsed.text == "Read me."
    assert kinds(parsed) == {"macros-ignored"}


def test_slides(sandbox: Sandbox) -> None:
    def fill(presentation: Any) -> None:
        first = files.slide(presentation, "Gate", ["Report", "Wait"], notes="do not tell")
        files.text_box(first, "In the corner")
        files.text_box(first, "beside the slide", left=30)
        second = files.slide(presentation, "Secret", ["hidden slide"])
        second._element.set("show", "0")
        files.slide(presentation, "End", ["Thanks"])

    parsed = sandbox.parse(files.slides(fill), "gate.pptx")
    assert blocks(parsed) == [
        ("h1", "Gate"),
        ("list", "- Report\n- Wait"),
        ("paragraph", "In the corner"),
        ("h1", "End"),
        ("paragraph", "Thanks"),
    ]
    assert [page for page, _, _ in parsed.pages] == [1, 3]
    assert parsed.metadata["author"] == "Ada Winter"
    assert hidden(parsed) == {
        "pptx-notes": "do not tell",
        "pptx-off-slide": "beside the slide",
        "pptx-hidden-slide": "Secret hidden slide",
    }


def test_sheets(sandbox: Sandbox) -> None:
    def fill(book: Any) -> None:
        sheet = book.active
        sheet.title = "Lanes"
        for row in [
            ["lane", "slots", "since", "secret"],
            ["A", 12, date(2024, 5, 17), "k1"],
            ["B", 3.5, None, "k2"],
            ["C", 1, None, ""],
        ]:
            sheet.append(row)
        sheet.row_dimensions[4].hidden = True
        sheet.column_dimensions["D"].hidden = True
        sheet["A2"].comment = Comment("the remark", "B")
        other = book.create_sheet("Costs")
        other.append(["what", "how much"])
        other.sheet_state = "hidden"

    parsed = sandbox.parse(files.workbook(fill), "lanes.xlsx")
    assert blocks(parsed) == [
        ("h1", "Lanes"),
        ("table", "lane: A | slots: 12 | since: 2024-05-17\nlane: B | slots: 3.5"),
    ]
    assert parsed.metadata["date"] == date(2024, 5, 17)
    assert set(hidden(parsed)) == {"xlsx-hidden-row", "xlsx-hidden-column", "xlsx-hidden-sheet", "xlsx-comment"}
    assert "k1" in hidden(parsed)["xlsx-hidden-column"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv(sandbox: Sandbox, delimiter: str) -> None:
    rows = [["name", "price", "note"], ["Crane", "12.50", f'"wide{delimiter} ""tall"""'], ["Vest", "3", ""]]
    source = "\n".join(delimiter.join(row) for row in rows)
    parsed = sandbox.parse(source.encode(), "list.csv")
    assert (
        parsed.text
        == f'name: Crane | price: 12.50 | note: wide{delimiter if delimiter != chr(9) else ""} "tall"\nname: Vest | price: 3'
    )


def test_csv_without_a_head(sandbox: Sandbox) -> None:
    assert sandbox.parse(b"1,2\n3,4\n", "x.csv").text == "1 | 2\n3 | 4"


def test_json(sandbox: Sandbox) -> None:
    value = {
        "total": 2,
        "items": [{"id": 1, "at": {"city": "Paris", "tags": ["a", "b"]}}, {"id": 2, "ok": True, "no": None}],
    }
    parsed = sandbox.parse(json.dumps(value).encode(), "x.json")
    assert blocks(parsed) == [
        ("list", "- total: 2"),
        ("list", "- id: 1\n- at.city: Paris\n- at.tags: a, b"),
        ("list", "- id: 2\n- ok: yes"),
    ]


def test_json_lines(sandbox: Sandbox) -> None:
    parsed = sandbox.parse(b'{"a": 1}\n{oops\n{"a": 2}\n', "x.jsonl")
    assert [text for _, text in blocks(parsed)] == ["- a: 1", "- a: 2"]
    assert kinds(parsed) == {"bad-line"}


@pytest.mark.parametrize("html_only", [False, True])
def test_mail(sandbox: Sandbox, html_only: bool) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ada <ada@example.org>", "bob@example.org", "The gäte"
    message["Date"] = "Fri, 17 May 2024 10:00:00 +0200"
    if html_only:
        message.set_content("<p>Body here.</p><p style='display:none'>order</p>", subtype="html")
    else:
        message.set_content("Body here.\n")
        message.add_alternative("<p>Other body</p>", subtype="html")
        message.add_attachment(b"x", maintype="application", subtype="pdf", filename="bill.pdf")
    parsed = sandbox.parse(message.as_bytes(), "x.eml")
    assert parsed.title == "The gäte"
    assert parsed.metadata == {"author": "Ada <ada@example.org>", "date": date(2024, 5, 17)}
    assert blocks(parsed) == [
        (
            "list",
            "- From: Ada <ada@example.org>\n- To: bob@example.org\n- Date: Fri, 17 May 2024 10:00:00 +0200\n- Subject: The gäte",
        ),
        ("paragraph", "Body here."),
    ]
    assert kinds(parsed) == (set() if html_only else {"attachment"})
    assert set(hidden(parsed)) == ({"html-display-none"} if html_only else set())


def test_titles_fall_back_to_the_first_heading_and_then_the_name(sandbox: Sandbox) -> None:
    assert sandbox.parse(b"# Head\n\ntext", "file.md").title == "Head"
    assert sandbox.parse(b"text only", "file.md").title == "file"


def test_hidden_characters_are_counted_over_the_whole_document(sandbox: Sandbox) -> None:
    parsed = sandbox.parse("# A\u200bB\n\none\u200b two\u00ad\n".encode(), "x.md")
    assert parsed.text == "AB\n\none two"
    assert {h.kind: h.count for h in parsed.hidden} == {"zero-width": 2, "soft-hyphens": 1}


def test_limits_cut_with_a_finding(sandbox: Sandbox) -> None:
    rows = "\n".join(f"{n},{n}" for n in range(6_000))
    parsed = sandbox.parse(f"a,b\n{rows}".encode(), "x.csv")
    assert parsed.text.count("\n") == 4_999
    assert kinds(parsed) == {"truncated"}
