"""How messages leave the service: hand-overs to people, by a signed webhook and by e-mail.

A webhook is a POST signed after Standard Webhooks 1.0 (standardwebhooks.com): ``webhook-id`` stays the same however often
it is tried, so that a receiver can tell a repetition. It goes over the providers' wire: no redirects, no link-local
addresses, plain http to this machine and private networks alone, and nothing of the answer is read but its head. E-mail is
plain text by RFC 5322, one message to each address, with a ``Message-ID`` that stays the same.

What a receiver says is kept as its code alone: its words may hold the conversation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as RFC_5322
from email.utils import format_datetime, parseaddr
from typing import Any

from mainstay.agreement.terms import HandOver as Rules
from mainstay.errors import Conflict, Invalid, MainstayError, NotFound, Unavailable
from mainstay.handover import (
    EMAIL,
    WEBHOOK,
    HandOver,
    HandOvers,
    SigningSettings,
    SmtpSettings,
    State,
    checked_address,
    checked_webhook,
    ways,
)
from mainstay.models.providers.wire import Allowance, Wire
from mainstay.types import Clock

CONNECT_S, ANSWER_S = 5.0, 15.0
SMTP_STEP_S, MAIL_S = 15.0, 60.0
EVENT = "handover.created"
_AGAIN = frozenset({408, 409, 425, 429})  # of the 4xx, those that say: later
_FINAL = (Invalid, Conflict, NotFound)
_KEPT = "\n\t\u200c\u200d"  # lines, and the joiners that some scripts are written with
_NOTHING: Callable[[], object] = lambda: None  # noqa: E731 - a name for what is called when nobody asks to be


@dataclass(frozen=True, kw_only=True)
class Sender:
    """What sending takes. ``name`` is the service's; ``signing`` holds the keys for webhooks; ``tls`` is for servers with
    certificates of their own. A receiver has ``answer_s`` to answer, a mail server ``mail_s`` for all it says."""

    name: str
    rules: Rules
    signing: SigningSettings
    smtp: SmtpSettings
    wire: Wire
    clock: Clock
    tls: ssl.SSLContext | None = None
    answer_s: float = ANSWER_S
    mail_s: float = MAIL_S

    def __repr__(self) -> str:
        return f"Sender(name={self.name!r})"  # rules may hold an address that is itself a secret


def deliver(
    held: HandOver,
    handovers: HandOvers,
    sender: Sender,
    *,
    contact: str = "",
    last: bool = False,
    check: Callable[[], object] = _NOTHING,
) -> Sequence[str]:
    """Send a hand-over by every way that it has not gone yet, and keep how that ended; returns the ways used now.

    ``contact`` is the asker's e-mail address, if known. ``last``: it will not be tried again. ``check`` is called before
    each step and raises to stop. One way that fails does not keep the others from being used.

    Errors: Unavailable when trying again may help; Invalid or Conflict when it would not.
    """
    if held.state in (State.CLOSED, State.DELIVERED):
        return ()
    used: list[str] = []
    failed: list[MainstayError] = []
    for way in ways(sender.rules):
        check()
        if way in held.sent:
            continue
        try:
            if way == WEBHOOK:
                _post(held, sender, contact)
            else:
                _mail(held, way.removeprefix(EMAIL), sender, contact)
        except MainstayError as error:
            failed.append(error)
        else:
            handovers.mark_sent(held.id, way, at=sender.clock.now())
            used.append(way)
    open_states = (State.WAITING, State.FAILED)
    now = sender.clock.now()
    if not failed:
        handovers.set_state(held.id, State.DELIVERED, detail="", at=now, only_from=open_states)
        return used
    hopeful = [error for error in failed if not isinstance(error, _FINAL)]
    state = State.FAILED if last or not hopeful else State.WAITING
    said = "; ".join(error.line() for error in failed)
    handovers.set_state(held.id, state, detail=said, at=now, only_from=open_states)
    raise (hopeful or failed)[0]


# -- webhook -----------------------------------------------------------------------------------------------------------
def signature(signing: SigningSettings, message_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` header of Standard Webhooks: ``v1,`` and HMAC-SHA256 in base64, for each key.

    Errors: Invalid when there is none.
    """
    keys = signing.keys
    if not keys:
        raise Invalid("webhooks are signed, and handover.secret is missing", where="mainstay.yaml")
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys)


def document(held: HandOver, service: str, contact: str) -> dict[str, Any]:
    """What a webhook sends: the same at each attempt."""
    return {
        "type": EVENT,
        "timestamp": _time(held.at),
        "data": {
            "id": held.id,
            "service": service,
            "request_id": held.request_id,
            "at": _time(held.at),
            "principal": held.principal,
            "contact": contact,
            "reason": held.reason,
            "language": held.language,
            "question": held.question,
            "history": [{"role": role, "content": said} for role, said in held.history],
            "sources": [
                {
                    "document": source.document,
                    "version": source.version,
                    "title": source.title,
                    "uri": source.uri,
                    "start": source.start,
                    "end": source.end,
                    "page": source.page,
                }
                for source in held.sources
            ],
            "draft": held.draft,
        },
    }


def _post(held: HandOver, sender: Sender, contact: str) -> None:
    url = checked_webhook(sender.rules.webhook)
    body = json.dumps(document(held, sender.name, contact), ensure_ascii=False, separators=(",", ":")).encode()
    post_signed(url, body, held.id, sender)


def post_signed(url: str, body: bytes, message_id: str, sender: Sender) -> None:
    """One signed webhook. Errors: Unavailable when trying again may help; Invalid or Conflict when it would not."""
    timestamp = int(sender.clock.now().timestamp())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(sender.signing, message_id, timestamp, body),
    }
    # ``secret``: a conversation crosses no public network in the clear, as a key does not.
    post_json(url, body, sender, headers=headers, secret=True, where=WEBHOOK)


def post_json(
    url: str, body: bytes, sender: Sender, *, headers: Mapping[str, str] | None = None, secret: bool, where: str
) -> None:
    """One POST of JSON, of whose answer the status alone is read. Errors: as ``post_signed``."""
    allowance = Allowance(
        deadline=time.monotonic() + CONNECT_S + sender.answer_s,
        connect_s=CONNECT_S,
        first_token_s=sender.answer_s,
        idle_s=sender.answer_s,
    )
    told = {"content-type": "application/json", "user-agent": "mainstay", **(headers or {})}
    with sender.wire.post(url, headers=told, secret=secret, body=body, allowance=allowance, where=where) as reply:
        status = reply.status
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in _AGAIN:
        raise Conflict(f"the receiver answered {status}", where=where, fix="see what it dislikes, then retry")
    moved = ", and redirects are not followed" if 300 <= status < 400 else ""
    raise Unavailable(f"the receiver answered {status}{moved}", where=where)


# -- e-mail ------------------------------------------------------------------------------------------------------------
def message(held: HandOver, to: str, sender: Sender, contact: str) -> EmailMessage:
    """One message for one person. Errors: Invalid for an address that is none."""
    return composed(
        sender,
        to,
        subject=f"A question for a person: {held.id}",
        at=held.at,
        message_id=held.id,
        text=_body(held, sender.name, contact),
        reply_to=contact,
    )


def composed(
    sender: Sender, to: str, *, subject: str, at: datetime, message_id: str, text: str, reply_to: str = ""
) -> EmailMessage:
    """A message in plain text. ``message_id`` stays the same at each attempt. Errors: Invalid for an address that is none."""
    name, own = parseaddr(sender.smtp.sender)
    made = EmailMessage(policy=RFC_5322)
    try:
        made["From"] = Address(_line(name) or _line(sender.name), addr_spec=checked_address(own, "smtp.sender"))
        made["To"] = Address(addr_spec=checked_address(to, "handover.email"))
        with suppress(Invalid):  # whoever keeps the directory may have written anything there
            made["Reply-To"] = Address(addr_spec=checked_address(reply_to, "the asker's address"))
        made["Subject"] = f"[{_line(sender.name)}] {subject}"
        made["Date"] = format_datetime(at)
        made["Message-ID"] = f"<{message_id}@{own.rpartition('@')[2]}>"
        made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices, please
        made.set_content(text)
    except (MessageError, ValueError) as error:
        raise Invalid(f"no message can be made ({type(error).__name__})", where="e-mail") from None
    return made


def _line(text: str) -> str:
    """Text for a header: one line of what can be seen, not too long."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]


def _body(held: HandOver, service: str, contact: str) -> str:
    by = f"{held.principal} ({contact})" if contact else held.principal
    parts = [
        f"{service} passes on a question that a person is to answer.",
        f"Reference: {held.id}\nAsked: {_time(held.at)}\nBy: {by}\nWhy: {held.reason}",
        f"Question\n--------\n{held.question}",
    ]
    if held.history:
        parts.append("Before it\n---------\n" + "\n\n".join(f"{role}: {said}" for role, said in held.history))
    if held.draft:
        parts.append(f"What the service would have said\n{'-' * 32}\n{held.draft}")
    if held.sources:
        lines = [
            f"- {source.title} ({source.uri}{f', page {source.page}' if source.page else ''})\n"
            f"  {source.document}@{source.version} {source.start}-{source.end}"
            for source in held.sources
        ]
        parts.append("Sources found\n-------------\n" + "\n".join(lines))
    parts.append(f"When it is taken care of: mainstay handovers close {held.id} --note TEXT")
    text = "\n\n".join(parts) + "\n"
    return "".join(c if c.isprintable() or c in _KEPT else " " for c in text.replace("\r\n", "\n").replace("\r", "\n"))


def _mail(held: HandOver, to: str, sender: Sender, contact: str) -> None:
    if not sender.smtp.host:
        raise Invalid("no mail server is named", where="mainstay.yaml smtp.host")
    send_mail(message(held, to, sender, contact), to, sender)


def send_mail(made: EmailMessage, to: str, sender: Sender) -> None:
    """Send one message to one address. Errors: Unavailable when trying again may help; Invalid or Conflict when not."""
    smtp = sender.smtp
    if not smtp.host:
        raise Invalid("no mail server is named", where="mainstay.yaml smtp.host")
    where = f"{EMAIL}{to}"
    try:
        _send(made, parseaddr(smtp.sender)[1], to, sender)
    except smtplib.SMTPRecipientsRefused as refused:
        raise _refused(next(iter(refused.recipients.values()))[0], "refused this address", where) from None
    except smtplib.SMTPAuthenticationError as refused:
        raise _refused(refused.smtp_code, "refused smtp.user or its password", where) from None
    except smtplib.SMTPNotSupportedError:
        raise Invalid(
            f"the mail server can not do what smtp.tls: {smtp.tls} or smtp.user needs", where=where, fix="see smtp"
        ) from None
    except smtplib.SMTPResponseException as refused:
        raise _refused(refused.smtp_code, "refused the message", where) from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        raise Unavailable(f"the mail server can not be reached ({type(error).__name__})", where=where) from None


def _refused(code: int, what: str, where: str) -> MainstayError:
    """RFC 5321 section 4.2.1: a 5yz is for good, a 4yz for now."""
    said = f"the mail server {what} ({code})"
    return Conflict(said, where=where) if 500 <= code < 600 else Unavailable(said, where=where)


def _send(made: EmailMessage, own: str, to: str, sender: Sender) -> None:
    """One message over one connection. Each wait is limited, and all of them together."""
    settings = sender.smtp
    context = sender.tls or ssl.create_default_context()
    here = socket.gethostname()
    smtp = (
        smtplib.SMTP_SSL(local_hostname=here, timeout=SMTP_STEP_S, context=context)
        if settings.tls == "tls"
        else smtplib.SMTP(local_hostname=here, timeout=SMTP_STEP_S)
    )
    # The name that the certificate must show: the constructor takes it only to connect at once, before the limit holds.
    smtp._host = settings.host  # type: ignore[attr-defined] # left out of the types
    limit = threading.Timer(sender.mail_s, _cut, (smtp,))
    limit.daemon = True
    limit.start()
    try:
        _permitted([str(found[4][0]) for found in socket.getaddrinfo(settings.host, settings.port)], settings.tls)
        code, _ = smtp.connect(settings.host, settings.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, b"")
        assert smtp.sock is not None
        _permitted([str(smtp.sock.getpeername()[0])], settings.tls)  # a name may have moved meanwhile
        if settings.tls == "starttls":
            smtp.starttls(context=context)
        if settings.user:
            smtp.login(settings.user, settings.password)
        smtp.sendmail(own, [to], made.as_bytes())
        try:
            smtp.quit()
        except (smtplib.SMTPException, OSError):
            return  # it has taken the message: how it says goodbye is its own affair
    finally:
        limit.cancel()
        smtp.close()


def _permitted(addresses: Sequence[str], tls: str) -> None:
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise Invalid(
                "a link-local, multicast or unspecified address is never called", where="mainstay.yaml smtp.host"
            )
        if tls == "none" and address.is_global:
            raise Invalid(
                "a conversation would cross a public network in the clear",
                where="mainstay.yaml smtp.tls",
                fix="use starttls or tls",
            )


def _cut(smtp: smtplib.SMTP) -> None:
    """The time is up: whoever waits for the server hears of it."""
    held = smtp.sock
    if held is not None:
        try:
            held.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
