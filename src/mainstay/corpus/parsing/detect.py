"""What a file truly is: its first bytes decide, its name only where bytes cannot tell.

A name that lies about a kind we read is a finding, and the file is read as what it is. A kind we do not read is a
quarantine with the reason, so that nobody wonders where the document went.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePath

from mainstay.corpus.parsing.document import Quarantined

_OFFICE = "application/vnd.openxmlformats-officedocument."
MARKDOWN, PLAIN, HTML, PDF = "text/markdown", "text/plain", "text/html", "application/pdf"
DOCX, PPTX, XLSX = (
    f"{_OFFICE}wordprocessingml.document",
    f"{_OFFICE}presentationml.presentation",
    f"{_OFFICE}spreadsheetml.sheet",
)
CSV, JSON, JSON_LINES, MAIL = "text/csv", "application/json", "application/x-ndjson", "message/rfc822"

BY_EXTENSION = {
    "md": MARKDOWN, "mdx": MARKDOWN,
    "markdown": MARKDOWN, "mdown": MARKDOWN, "mkd": MARKDOWN, "txt": PLAIN, "text": PLAIN, "log": PLAIN,
    "rst": PLAIN, "adoc": PLAIN, "yaml": PLAIN, "yml": PLAIN, "toml": PLAIN, "ini": PLAIN, "htm": HTML, "html": HTML,
    "xhtml": HTML, "pdf": PDF, "docx": DOCX, "docm": DOCX, "dotx": DOCX, "pptx": PPTX, "pptm": PPTX, "potx": PPTX,
    "ppsx": PPTX, "xlsx": XLSX, "xlsm": XLSX, "xltx": XLSX, "csv": CSV, "tsv": CSV, "json": JSON, "jsonl": JSON_LINES,
    "ndjson": JSON_LINES, "eml": MAIL,
}  # fmt: skip
"""The kinds that are read, by the ending of a file's name in lower case."""

_TEXTS = frozenset((MARKDOWN, PLAIN, HTML, CSV, JSON, JSON_LINES, MAIL))
_IMAGE = "images need text recognition (OCR), which this version does not do"
_ARCHIVE = "archives are not opened: put the files in the folder instead"
_PROGRAM = "programs are not documents"
_SOUND = "sound and video are not read"
_OLD_OFFICE = "old binary Office format: save it as .docx, .xlsx or .pptx"
# First bytes (at an offset) of kinds we know and do not read.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", f"a PNG image; {_IMAGE}"),
    (0, b"\xff\xd8\xff", f"a JPEG image; {_IMAGE}"),
    (0, b"GIF8", f"a GIF image; {_IMAGE}"),
    (0, b"II*\x00", f"a TIFF image; {_IMAGE}"),
    (0, b"MM\x00*", f"a TIFF image; {_IMAGE}"),
    (8, b"WEBP", f"a WebP image; {_IMAGE}"),
    (0, b"\x00\x00\x01\x00", f"an icon; {_IMAGE}"),
    (4, b"ftyphei", f"a HEIC image; {_IMAGE}"),
    (4, b"ftypavif", f"an AVIF image; {_IMAGE}"),
    (0, b"8BPS", f"a Photoshop image; {_IMAGE}"),
    (4, b"ftyp", f"a video; {_SOUND}"),
    (0, b"ID3", f"a sound file; {_SOUND}"),
    (0, b"OggS", f"a sound file; {_SOUND}"),
    (0, b"fLaC", f"a sound file; {_SOUND}"),
    (8, b"WAVE", f"a sound file; {_SOUND}"),
    (8, b"AVI ", f"a video; {_SOUND}"),
    (0, b"\x1a\x45\xdf\xa3", f"a video; {_SOUND}"),
    (0, b"\x7fELF", f"a program; {_PROGRAM}"),
    (0, b"MZ", f"a program; {_PROGRAM}"),
    (0, b"\xcf\xfa\xed\xfe", f"a program; {_PROGRAM}"),
    (0, b"\xca\xfe\xba\xbe", f"a program; {_PROGRAM}"),
    (0, b"\x00asm", f"a program; {_PROGRAM}"),
    (0, b"\x1f\x8b", f"a gzip archive; {_ARCHIVE}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_ARCHIVE}"),
    (0, b"Rar!", f"a RAR archive; {_ARCHIVE}"),
    (0, b"BZh", f"a bzip2 archive; {_ARCHIVE}"),
    (0, b"\xfd7zXZ", f"an xz archive; {_ARCHIVE}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd archive; {_ARCHIVE}"),
    (257, b"ustar", f"a tar archive; {_ARCHIVE}"),
    (0, b"SQLite format 3\x00", "a database file; databases are not read"),
    (0, b"{\\rtf", "RTF is not read: save it as .docx"),
    (0, b"%!PS", "PostScript is not read: save it as .pdf"),
    (0, b"wOFF", "fonts are not documents"),
    (0, b"!BDN", "Outlook stores are not read: export messages as .eml"),
)
_UNREAD_EXTENSIONS = {
    **dict.fromkeys(("svg", "bmp", "png", "jpg", "jpeg", "gif", "tif", "tiff", "webp", "heic", "ico"), _IMAGE),
    **dict.fromkeys(("doc", "xls", "ppt", "rtf"), _OLD_OFFICE),
    **dict.fromkeys(("odt", "ods", "odp", "epub", "msg", "mbox", "pages", "numbers", "key"), "this format is not read"),
    **dict.fromkeys(("exe", "dll", "so", "bin", "dat", "pyc", "class"), _PROGRAM),
    **dict.fromkeys(("zip", "tar", "gz", "7z", "rar"), _ARCHIVE),
    **dict.fromkeys(("mp3", "mp4", "wav", "mov", "avi", "mkv", "m4a", "ogg"), _SOUND),
}
_HTML_START = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL
)
_MAIL_START = re.compile(rb"(?:[A-Z][A-Za-z-]{1,40}: [^\n]{0,900}\r?\n(?:[ \t][^\n]{0,900}\r?\n){0,50}){2}")
_MAIL_HEADS = re.compile(rb"^(?:From|Received|Return-Path|MIME-Version|Message-ID):", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A media type we read, and the type its name promised where that was another."""

    media_type: str
    promised: str = ""


def detect(data: bytes, name: str) -> Detected:
    """What the bytes are. Raises Quarantined with the reason for everything that is not read."""
    extension = PurePath(name).suffix.lower().lstrip(".")
    promised = BY_EXTENSION.get(extension, "")
    true = _by_bytes(data)
    if true:
        return Detected(media_type=true, promised=promised if promised != true else "")
    # No mark in the bytes: it can only be some kind of text.
    if not promised and extension in _UNREAD_EXTENSIONS and extension != "dat":
        raise Quarantined(f".{extension} files are not read: {_UNREAD_EXTENSIONS[extension]}")
    if promised in _TEXTS:
        return Detected(media_type=promised)
    guessed = HTML if _HTML_START.match(data[:8192]) else _text_kind(data)
    return Detected(media_type=guessed, promised=promised)


def _by_bytes(data: bytes) -> str:
    """The type that the first bytes prove; empty when they prove none. Raises Quarantined for known unread kinds."""
    if b"%PDF-" in data[:1024]:
        return PDF
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _in_archive(data)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        locked = "EncryptedPackage".encode("utf-16-le") in data
        raise Quarantined("encrypted Office file: a password is needed to read it" if locked else _OLD_OFFICE)
    for offset, mark, reason in _REFUSED:
        if data.startswith(mark, offset) and (offset != 0 or len(mark) > 2 or b"\x00" in data[:4096]):
            raise Quarantined(f"the file is {reason}" if reason[0].islower() else reason)
    return ""


def _in_archive(data: bytes) -> str:
    """Which Office format an archive is, by the names in it alone: nothing is unpacked here."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise Quarantined(f"damaged archive or Office file: {error}") from error
    for part, media_type in (("word/document.xml", DOCX), ("ppt/presentation.xml", PPTX), ("xl/workbook.xml", XLSX)):
        if part in names and "[Content_Types].xml" in names:
            return media_type
    if "mimetype" in names:
        raise Quarantined("OpenDocument and EPUB files are not read: save it as .docx, .xlsx, .pptx or .pdf")
    if "xl/workbook.bin" in names:
        raise Quarantined("binary Excel workbooks are not read: save it as .xlsx")
    raise Quarantined(f"the file is a zip archive; {_ARCHIVE}")


def _text_kind(data: bytes) -> str:
    head = data[:8192]
    if _MAIL_START.match(head) and _MAIL_HEADS.search(head):
        return MAIL
    return JSON if head.lstrip()[:1] in (b"{", b"[") and head.rstrip()[-1:] in (b"}", b"]") else PLAIN
