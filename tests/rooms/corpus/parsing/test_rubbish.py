"""Rubbish and attacks: each file ends as a quarantine with a reason, or as a document with a finding; never as a stuck queue."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from tests.rooms.corpus.parsing import files
from tests.rooms.corpus.parsing.files import STORY

from mainstay.corpus.parsing.document import Quarantined
from mainstay.corpus.parsing.sandbox import Sandbox

LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, (b"&%c;" % (97 + n)) * 10) for n in range(9))
    + b"]><w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'><w:body><w:p><w:r><w:t>&j;"
    + b"</w:t></w:r></w:p></w:body></w:document>"
)
WIDE_LAUGHS = LAUGHS.decode().encode("utf-16")
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
BROKEN_HEADS = b"From: \xff\xfe <<<>>>\nDate: never\nSubject: =?utf-8?b?!!!?=\nTo: a"
SHEET = "xl/worksheets/sheet1.xml"
BARE = ("[Content_Types].xml", "word/document.xml")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def docx() -> bytes:
    return files.word(lambda document: document.add_paragraph("Plain."))


def xlsx() -> bytes:
    return files.workbook(lambda book: book.active.append(["a", "b"]))


def pdf() -> bytes:
    return files.pdf_lines([STORY[:90]])


def bomb() -> bytes:
    return files.changed(docx(), {"word/media/image1.xml": bytes(50_000_000)})


def many_entries() -> bytes:
    return files.archive(
        {"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"} | {f"e{n}": b"" for n in range(10_500)}
    )


def huge_claim() -> bytes:
    """A package whose directory claims that an entry unpacks to 1 GB."""
    data = bytearray(docx())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as package:
        offset = package.start_dir
    struct.pack_into("<I", data, offset + 24, 1_000_000_000)
    return bytes(data)


def lying_size() -> bytes:
    """A package whose directory claims less than the entry holds."""
    data = bytearray(docx())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as package:
        offset = package.start_dir
    struct.pack_into("<I", data, offset + 24, 3)
    return bytes(data)


def twice() -> bytes:
    out = io.BytesIO(docx())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as package:
        package.writestr("word/document.xml", b"<x/>")
    return out.getvalue()


def locked_zip() -> bytes:
    """A package whose entries say that they are encrypted."""
    data = bytearray(docx())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as package:
        offset = package.start_dir
    data[offset + 8] |= 1
    return bytes(data)


def raw_pdf(objects: dict[int, bytes], *, root: int = 1) -> bytes:
    """A PDF of these objects, with a true cross-reference table."""
    out = bytearray(b"%PDF-1.4\n")
    places = {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (max(objects) + 1)
    for number in range(1, max(objects) + 1):
        out += b"%010d 00000 %c \n" % (places.get(number, 0), ord("n" if number in places else "f"))
    out += b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (max(objects) + 1, root, start)
    return bytes(out)


def looping_pages() -> bytes:
    return raw_pdf(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[2 0 R 3 0 R]/Count 2>>",
            3: b"<</Type/Pages/Kids[2 0 R]/Count 9>>",
        }
    )


def many_pages() -> bytes:
    return raw_pdf(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[3 0 R]/Count 2000000000>>",
            3: b"<</Type/Page/Parent 2 0 R>>",
        }
    )


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (extra, len(data), data)


def page_with(content: bytes) -> bytes:
    return raw_pdf(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>",
            4: content,
            5: stream(b"/F Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>"),
        }
    )


def pdf_bomb() -> bytes:
    return page_with(stream(zlib.compress(b"0 0 m 1 1 l S\n" * 250_000), b"/Filter/FlateDecode"))


QUARANTINED: list[tuple[str, str, Callable[[], bytes], str]] = [
    ("empty", "a.txt", lambda: b"", "empty"),
    ("only spaces", "a.md", lambda: b" \n\t\n", "empty"),
    ("NUL bytes in text", "a.txt", lambda: b"abc\x00def", "binary content"),
    ("NUL bytes in markdown", "a.md", lambda: b"# x\n\n" + bytes(100), "binary content"),
    ("random bytes", "a.txt", lambda: bytes(range(1, 256)) * 40, "binary content"),
    ("control bytes", "a.csv", lambda: b"\x01\x02\x03\x04" * 100, "binary content"),
    ("image as text", "a.txt", lambda: PNG, "PNG image"),
    ("image as pdf", "a.pdf", lambda: PNG, "PNG image"),
    ("image", "a.png", lambda: PNG, "OCR"),
    ("photograph", "a.jpg", lambda: b"\xff\xd8\xff\xe0" + bytes(40), "OCR"),
    ("program", "setup.exe", lambda: b"MZ" + bytes(100), "program"),
    ("program as document", "cv.docx", lambda: b"\x7fELF" + bytes(100), "program"),
    ("zip as text", "a.txt", lambda: files.archive({"a.txt": b"x"}), "zip archive"),
    ("zip", "a.zip", lambda: files.archive({"a.txt": b"x"}), "zip archive"),
    ("gzip", "a.gz", lambda: b"\x1f\x8b\x08" + bytes(20), "gzip"),
    ("OpenDocument", "a.odt", lambda: files.archive({"mimetype": b"application/vnd.oasis"}), "OpenDocument"),
    ("old Office", "a.doc", lambda: OLE + bytes(600), "old binary Office"),
    ("encrypted Office", "a.docx", lambda: OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
    ("rich text", "a.rtf", lambda: rb"{\rtf1 hello}", "RTF"),
    ("database", "a.db", lambda: b"SQLite format 3\x00" + bytes(90), "database"),
    ("vector image", "a.svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "OCR"),
    ("truncated pdf header", "a.pdf", lambda: b"%PDF-1.7\n", "damaged PDF"),
    ("truncated pdf", "a.pdf", lambda: pdf()[:300], "damaged PDF"),
    ("encrypted pdf", "a.pdf", lambda: files.pdf_lines(["secret"], password="pw"), "encrypted PDF"),
    ("pdf with looping pages", "a.pdf", looping_pages, "damaged PDF"),
    ("truncated docx", "a.docx", lambda: docx()[:2_000], "damaged"),
    ("truncated xlsx", "a.xlsx", lambda: xlsx()[:-30], "damaged"),
    ("docx of rubbish", "a.docx", lambda: files.changed(docx(), {"word/document.xml": b"<w:doc"}), "parser failed"),
    ("docx without types", "a.docx", lambda: files.archive(dict.fromkeys(BARE, b"<x/>")), "parser failed"),
    ("zip bomb", "a.docx", bomb, "packed"),
    ("many entries", "a.docx", many_entries, "entries"),
    ("1 GB claim", "a.docx", huge_claim, "unpacks to"),
    ("lying size", "a.docx", lying_size, "damaged"),
    ("same name twice", "a.docx", twice, "twice"),
    ("names outside", "a.docx", lambda: files.changed(docx(), {"../../etc/cron.d/x": b"x"}), "outside"),
    ("absolute names", "a.xlsx", lambda: files.changed(xlsx(), {"/etc/x": b"x"}), "outside"),
    ("encrypted entries", "a.docx", locked_zip, "encrypted"),
    ("billion laughs", "a.docx", lambda: files.changed(docx(), {"word/document.xml": LAUGHS}), "entities"),
    ("laughs in UTF-16", "a.docx", lambda: files.changed(docx(), {"word/styles.xml": WIDE_LAUGHS}), "entities"),
    ("external entity", "a.xlsx", lambda: files.changed(xlsx(), {"xl/sharedStrings.xml": EXTERNAL}), "entities"),
    ("deep json", "a.json", lambda: b"[" * 200_000 + b"]" * 200_000, "too deep"),
    ("deep json objects", "a.json", lambda: b'{"a":' * 500 + b"1" + b"}" * 500, "too deep"),
    ("broken json", "a.json", lambda: b'{"a": ', "not JSON"),
    ("huge number", "a.json", lambda: b"[" + b"9" * 50_000 + b"]", "JSON"),
    ("no json line", "a.jsonl", lambda: b"nope\nnope\n", "no line"),
    ("no e-mail", "a.eml", lambda: b"just words\n", "no e-mail"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "says"), [row[1:] for row in QUARANTINED], ids=[row[0] for row in QUARANTINED]
)
def test_quarantined_with_a_reason(sandbox: Sandbox, name: str, make: Callable[[], bytes], says: str) -> None:
    with pytest.raises(Quarantined) as caught:
        sandbox.parse(make(), name)
    assert says in caught.value.reason
    assert name in caught.value.line()


def deep_mail() -> bytes:
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(300))
    return b"From: a@example.org\nSubject: deep\n" + parts + b"Content-Type: text/plain\n\nhi\n"


def vast_sheet() -> bytes:
    return files.changed(xlsx(), {SHEET: files.entry(xlsx(), SHEET).replace(b"A1:B1", b"A1:XFD1048576")})


READ: list[tuple[str, str, Callable[[], bytes], str, set[str]]] = [
    ("invalid UTF-8", "a.txt", lambda: b"caf\xe9 closed", "café closed", {"encoding-guessed"}),
    ("pdf as text", "a.txt", pdf, "harbour office", {"wrong-extension"}),
    ("docx as pdf", "a.pdf", docx, "Plain.", {"wrong-extension"}),
    ("xlsx as docx", "a.docx", xlsx, "a | b", {"wrong-extension"}),
    ("text as pdf", "a.pdf", lambda: b"only words here", "only words", {"wrong-extension"}),
    ("html as docx", "a.docx", lambda: b"<html><p>page</p></html>", "page", {"wrong-extension"}),
    ("no ending", "README", lambda: b"read me first", "read me first", set()),
    ("mail without ending", "letter", lambda: b"From: a@b.example\nTo: c@d.example\nSubject: Hi\n\nBody\n", "Body", set()),
    ("huge line", "a.txt", lambda: b"word " * 400_000, "word word", set()),
    ("huge line of one word", "a.md", lambda: b"x" * 1_000_000, "xxxx", set()),
    ("many spaces", "a.txt", lambda: b"a" + b" " * 1_000_000 + b"b", "a", set()),
    ("endless quote", "a.csv", lambda: b'a,b\n1,"2\n' + b"3,4\n" * 2_000, "a: 3 | b: 4", {"unbalanced-quote"}),
    ("many columns", "a.csv", lambda: b",".join(b"%d" % n for n in range(20_000)), "0 | 1", {"truncated"}),
    ("many lines", "a.txt", lambda: b"a\n" * 500_000, "a\na", set()),
    ("deep html", "a.html", lambda: b"<div>" * 15_000 + b"deep", "deep", set()),
    ("deep tables", "a.html", lambda: b"<table><tr><td>" * 3_000 + b"cell", "cell", set()),
    ("deep lists", "a.html", lambda: b"<ul><li>" * 3_000 + b"item", "item", set()),
    ("many styles", "a.html", lambda: b"<style>" + b"p{color:red}" * 20_000 + b"</style><p>seen</p>", "seen", set()),
    ("broken style", "a.html", lambda: b"<style>{{}}}p{;;color</style><p>seen</p>", "seen", set()),
    ("deep quotes", "a.md", lambda: b">" * 5_000 + b" x\n\nseen", "seen", set()),
    ("many brackets", "a.md", lambda: b"[" * 5_000 + b"\n\nseen", "seen", set()),
    ("many stars", "a.md", lambda: b"*a_ " * 10_000 + b"\n\nseen", "seen", set()),
    ("many pipes", "a.md", lambda: b"|a" * 5_000 + b"\n" + b"|-" * 5_000 + b"\n\nseen", "seen", set()),
    ("huge json string", "a.json", lambda: json.dumps({"k": "v " * 100_000}).encode(), "- k: v v", set()),
    ("scalar json", "a.json", lambda: b"42", "- 42", set()),
    ("deep mail", "a.eml", deep_mail, "deep", {"attachment"}),
    ("broken mail heads", "a.eml", lambda: BROKEN_HEADS + b"\n\nBody", "Body", set()),
    ("pdf claiming many pages", "a.pdf", many_pages, "", {"empty"}),
    ("pdf with rubbish content", "a.pdf", lambda: page_with(stream(b"q Q ]]>> <</ BT (x Tj")), "", {"no-text-layer"}),
    ("tail after pdf", "a.pdf", lambda: pdf() + b"rubbish" * 1_000, "harbour office", set()),
    ("lone surrogates", "a.json", lambda: rb'{"k": "a\ud800b"}', "- k: a\ufffdb", set()),
    ("a sheet that claims a million rows", "a.xlsx", vast_sheet, "a | b", set()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "text", "found"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_read_all_the_same(sandbox: Sandbox, name: str, make: Callable[[], bytes], text: str, found: set[str]) -> None:
    parsed = sandbox.parse(make(), name)
    assert text in parsed.text
    assert found <= {finding.kind for finding in parsed.findings}


def form_in_itself() -> bytes:
    return page_with(stream(b"/F Do"))


@pytest.mark.parametrize("make", [pdf_bomb, form_in_itself])
def test_costly_files_end_one_way_or_the_other(sandbox: Sandbox, make: Callable[[], bytes]) -> None:
    try:
        ended = bool(sandbox.parse(make(), "a.pdf").findings)
    except Quarantined as error:
        ended = bool(error.reason)
    assert ended
