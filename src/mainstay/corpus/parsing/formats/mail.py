"""E-mail messages: the letter head a reader sees, then the text part, else the HTML part. Attachments are named, not
read."""

from __future__ import annotations

from datetime import datetime
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser

from mainstay.corpus.parsing.document import Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats.plain import read_text
from mainstay.corpus.parsing.formats.web import read_html

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_MAX_ATTACHMENTS = 100


def read(data: bytes, draft: Draft) -> None:
    """Read an .eml file."""
    try:
        message = BytesParser(EmailMessage, policy=policy.default).parsebytes(data)
    except (MessageError, RecursionError, ValueError) as error:
        raise Quarantined(f"damaged e-mail: {error}") from error
    head = [(name, draft.label(value)) for name in _SHOWN if (value := _header(message, name))]
    if not head:
        raise Quarantined("no e-mail: it has no From, To, Date or Subject")
    draft.title = _header(message, "Subject")
    draft.meta("author", _header(message, "From"))
    draft.meta("date", _date(message))
    draft.add("list", "\n".join(f"- {name}: {value}" for name, value in head))
    _body(message, draft)
    _attachments(message, draft)


def _header(message: EmailMessage, name: str) -> str:
    """A header as text; empty when it is missing or too broken to be parsed."""
    try:
        return str(message.get(name, ""))
    except Exception:  # noqa: BLE001  # the standard library raises nearly anything on hostile headers
        return ""


def _date(message: EmailMessage) -> datetime | None:
    try:
        return getattr(message.get("Date"), "datetime", None)
    except Exception:  # noqa: BLE001  # as above
        return None


def _body(message: EmailMessage, draft: Draft) -> None:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        draft.find("empty", "no text part")
        return
    try:
        content = part.get_content()
    except (LookupError, UnicodeError, ValueError) as error:
        draft.find("encoding-guessed", str(error))
        payload = part.get_payload(decode=True)
        content = payload.decode("cp1252", "replace") if isinstance(payload, bytes) else ""
    if part.get_content_subtype() != "html":
        read_text(str(content), draft)
        return
    title = draft.title
    read_html(str(content), draft)
    draft.title = title or draft.title


def _attachments(message: EmailMessage, draft: Draft) -> None:
    for count, part in enumerate(message.iter_attachments()):
        if count >= _MAX_ATTACHMENTS:
            break
        draft.find("attachment", f"{part.get_filename() or 'unnamed'} ({part.get_content_type()}) is not read")
