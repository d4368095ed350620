"""Office packages (zip archives of XML), looked at before any library opens them.

An archive is refused for what it declares: too many entries, too much or too densely packed content, names that leave
the package, the same name twice, encryption. Python's zipfile never hands out more than was declared, so declarations
bind. No XML in a package may have a document type: that is where entities come from, and Office writes none.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mainstay.corpus.parsing.document import Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.limits import MIB, ParseLimits

_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_OFFICE = b"application/vnd.openxmlformats-officedocument."
_MACRO_DOCUMENT = re.compile(rb"application/vnd\.ms-word\.(?:document|template)\.macroEnabled(?:Template)?\.main\+xml")
_MACRO_SLIDES = re.compile(
    rb"application/vnd\.ms-powerpoint\.(?:presentation|template|slideshow)\.macroEnabled\.main\+xml"
)
_TEMPLATE = re.compile(rb"(officedocument\.(?:wordprocessingml|presentationml))\.template\.main")
_TEXT_PARTS = (".xml", ".rels", ".vml")
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, ValueError, RuntimeError)


class Package:
    """A checked archive."""

    def __init__(self, data: bytes, limits: ParseLimits) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._check(self._zip.infolist(), len(data), limits)
        except _BROKEN as error:
            raise Quarantined(f"damaged Office file: {error}") from error
        self._refuse_document_types()

    def _check(self, entries: list[zipfile.ZipInfo], packed: int, limits: ParseLimits) -> None:
        if len(entries) > limits.zip_entries:
            raise Quarantined(f"archive with {len(entries)} entries, more than {limits.zip_entries}")
        total = sum(entry.file_size for entry in entries)
        if total > limits.zip_total_bytes:
            raise Quarantined(f"archive unpacks to {total} bytes, more than {limits.zip_total_bytes}")
        if total > 10 * MIB and total > limits.zip_ratio * max(1, packed):
            raise Quarantined(f"archive is packed {total // max(1, packed)} times, more than {limits.zip_ratio}")
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise Quarantined("archive holds the same name twice")
        for entry in entries:
            _check_entry(entry)

    def _refuse_document_types(self) -> None:
        for name in self.names():
            # Without NULs, so that UTF-16 does not hide it.
            if name.lower().endswith(_TEXT_PARTS) and _DOCTYPE.search(self.read(name).replace(b"\x00", b"")):
                raise Quarantined(f"XML with a document type or entities in {name}")

    def names(self) -> list[str]:
        """The names of all entries."""
        return self._zip.namelist()

    def read(self, name: str) -> bytes:
        """An entry's bytes; empty when there is none. Raises Quarantined when it is damaged."""
        try:
            return self._zip.read(name)
        except KeyError:
            return b""
        except _BROKEN as error:
            raise Quarantined(f"damaged Office file: {name}: {error}") from error

    def xml(self, name: str) -> Element | None:
        """An entry as XML; None when there is none. Raises Quarantined when it is not XML."""
        data = self.read(name)
        if not data:
            return None
        try:
            root: Element = fromstring(data, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            raise Quarantined(f"damaged Office file: {name}: {error}") from error
        return root

    def without_macros(self, data: bytes, draft: Draft) -> bytes:
        """The same package declared as one without macros; they are never run, this only lets libraries open it."""
        types = self.read("[Content_Types].xml")
        if b"macroEnabled" not in types and b".template." not in types:
            return data
        draft.find("macros-ignored" if b"macroEnabled" in types else "template", "")
        plain = _MACRO_DOCUMENT.sub(_OFFICE + b"wordprocessingml.document.main+xml", types)
        plain = _MACRO_SLIDES.sub(_OFFICE + b"presentationml.presentation.main+xml", plain)
        plain = _TEMPLATE.sub(_untemplated, plain)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
            for name in self.names():
                target.writestr(name, plain if name == "[Content_Types].xml" else self.read(name))
        return out.getvalue()


def _untemplated(match: re.Match[bytes]) -> bytes:
    return match[1] + (b".document.main" if match[1].endswith(b"wordprocessingml") else b".presentation.main")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
        raise Quarantined("archive with names outside of itself")
    if entry.flag_bits & 0x1:
        raise Quarantined("encrypted archive: a password is needed to read it")


def core_properties(package: Package, draft: Draft) -> None:
    """Title, author, dates, version, tags and language from ``docProps/core.xml``."""
    root = package.xml("docProps/core.xml")
    values = {} if root is None else {_local(e): (e.text or "").strip() for e in root}
    if values.get("title"):
        draft.title = values["title"]
    draft.meta("author", values.get("creator", ""))
    draft.meta("modified_by", values.get("lastModifiedBy", ""))
    for key, name in (("date", "created"), ("modified", "modified")):
        if values.get(name):
            draft.meta_date(key, values[name])
    for name in ("version", "category", "subject"):
        draft.meta(name, values.get(name, ""))
    keywords = re.split("[,;]", values.get("keywords", ""))
    draft.meta("tags", [word.strip() for word in keywords if word.strip()])
    if re.match(r"[A-Za-z]{2}(?:$|-)", values.get("language", "")):
        draft.language = values["language"][:2].lower()


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def texts(root: Element | None) -> str:
    """All text in an element, words apart."""
    return "" if root is None else " ".join(part.strip() for part in root.itertext() if part.strip())
