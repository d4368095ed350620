"""How alerts reach people: by a signed webhook, by e-mail, and as what an alert manager knows.

Webhooks and e-mail go the way that questions for a person go (``delivery``). An alert manager is told by the Prometheus
Alertmanager's API, version 2 (``POST /api/v2/alerts``): everything that is open, again and again, with an end a little
ahead, so that it ends by itself should we fall silent; and for a while what has ended, with the time it did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mainstay.agreement import Agreement
from mainstay.agreement.burning import Severity
from mainstay.delivery import Sender, composed, post_json, post_signed, send_mail
from mainstay.errors import Invalid
from mainstay.handover import checked_webhook
from mainstay.records.alerts import (
    ALERTMANAGER,
    EMAIL,
    GONE_AFTER,
    RUNBOOK,
    WEBHOOK,
    Alert,
    AlertSettings,
    Burn,
    Notice,
    objective_of,
    wording,
)
from mainstay.shapes import alert_view

ENDS_AFTER = timedelta(minutes=5)
"""An open alert that is not told again ends by itself: several of our looks later."""
_EVENTS = {"firing": "alerts.firing", "resolved": "alerts.resolved", "test": "alerts.test"}
_SAID = {"firing": "firing", "resolved": "over", "test": "a test"}


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What a message is made of. ``sender`` is how it leaves."""

    settings: AlertSettings
    agreement: Agreement
    sender: Sender

    def deliver(self, way: str, notice: Notice) -> None:
        """Send one message by one way. Errors: Unavailable when trying again may help; Invalid or Conflict when it would not."""
        if way == WEBHOOK:
            url = checked_webhook(self.settings.webhook, "alerts.webhook of mainstay.yaml")
            said = document(notice, self.agreement, self.sender.name)
            post_signed(url, _dumped(said), notice.id, self.sender)
        elif way.startswith(EMAIL):
            to = way.removeprefix(EMAIL)
            made = composed(
                self.sender,
                to,
                subject=subject(notice),
                at=notice.at,
                message_id=notice.id,
                text=body(notice, self.agreement, self.sender.name),
            )
            send_mail(made, to, self.sender)
        else:
            raise Invalid(f"nothing leaves by {way!r}", where="alerts")

    def manage(self, alerts: Sequence[Alert], now: datetime) -> int:
        """Tell the alert manager how things stand; how many alerts it was told of. Errors: as ``deliver``."""
        told = [one for one in alerts if one.resolved is None or now - one.resolved <= GONE_AFTER]
        if not told or not self.settings.alertmanager:
            return 0
        said = [managed(one, self.agreement, self.sender.name, now) for one in told]
        post_json(
            api(self.settings.alertmanager),
            _dumped(said),
            self.sender,
            secret=False,
            where=ALERTMANAGER,
        )
        return len(said)


def api(url: str) -> str:
    """Where an alert manager at this address takes alerts. Errors: Invalid."""
    parts = urlsplit(checked_webhook(url, "alerts.alertmanager of mainstay.yaml"))
    path = parts.path.rstrip("/")
    if not path.endswith("/api/v2/alerts"):
        path += "/api/v2/alerts"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


# -- what is said ------------------------------------------------------------------------------------------------------


def document(notice: Notice, agreement: Agreement, service: str) -> dict[str, Any]:
    """What a webhook gets: the same at each attempt."""
    return {
        "type": _EVENTS[notice.kind],
        "timestamp": _time(notice.at),
        "data": {
            "id": notice.id,
            "service": service,
            "summary": subject(notice),
            "alerts": [alert_view(alert, agreement) for alert in notice.alerts],
        },
    }


def subject(notice: Notice) -> str:
    """A headline: how many, whether they are over, of what."""
    if notice.kind == "test":
        return "A test: nothing is wrong"
    names = ", ".join(f"{one.objective[:30]} ({one.severity})" for one in notice.alerts[:3])
    more = f" and {len(notice.alerts) - 3} more" if len(notice.alerts) > 3 else ""
    count = len(notice.alerts)
    said = f"{count} alert{'' if count == 1 else 's'} {_SAID[notice.kind]}: {names}{more}"
    return "".join(c if c.isprintable() else " " for c in said)


def body(notice: Notice, agreement: Agreement, service: str) -> str:
    """What an e-mail says."""
    if notice.kind == "test":
        return f"{service} sends this to see that it arrives. Nothing is wrong.\n"
    parts = [f"{service}: {subject(notice)}"]
    for alert in notice.alerts:
        lines = [f"{str(alert.severity).upper()}  {wording(objective_of(agreement, alert), alert)}"]
        lines.append(f"Since {_time(alert.opened)}" + (f", over {_time(alert.resolved)}" if alert.resolved else ""))
        lines += [_line(one) for one in alert.burns if alert.open]
        if alert.open:
            lines.append(f"Take it: mainstay alerts ack {alert.id} --as NAME")
        parts.append("\n".join(lines))
    if notice.kind == "firing":
        parts.append(f"Keep quiet for an hour: mainstay alerts silence --for 1h --as NAME\nWhat to look at: {RUNBOOK}")
    text = "\n\n".join(parts) + "\n"
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _line(burn: Burn) -> str:
    hours = burn.long_s / 3600
    return (
        f"  last {hours:g} h: {burn.long_burn:.1f} times as fast as permitted, surely {burn.low_burn:.1f}"
        f" (alarm at {burn.threshold:.1f}); last {burn.short_s / 60:g} min: {burn.short_burn:.1f}"
    )


def managed(alert: Alert, agreement: Agreement, service: str, now: datetime) -> Mapping[str, Any]:
    """One alert as ``postableAlert`` of Alertmanager's API v2. Labels name it and never change; the rest is annotations."""
    annotations = {"summary": wording(objective_of(agreement, alert), alert), "runbook": RUNBOOK}
    if alert.acknowledged_by:
        annotations["acknowledged_by"] = alert.acknowledged_by
    return {
        "labels": {
            "alertname": "MainstayErrorBudgetBurn",
            "service": service,
            "objective": alert.objective,
            "severity": str(alert.severity),
            "alert_id": alert.id,
        },
        "annotations": annotations,
        "startsAt": _time(alert.opened),
        "endsAt": _time(alert.resolved or now + ENDS_AFTER),
    }


# -- messages as they wait in the queue --------------------------------------------------------------------------------


def packed(notice: Notice) -> dict[str, Any]:
    """A message as JSON that ``unpacked`` reads: it is sent as it was when it was made, however late."""
    return {
        "id": notice.id,
        "kind": notice.kind,
        "at": notice.at.isoformat(),
        "alerts": [
            {
                **{name: _plain(value) for name, value in vars(alert).items() if name != "burns"},
                "burns": [asdict(one) for one in alert.burns],
            }
            for alert in notice.alerts
        ],
    }


def unpacked(held: Mapping[str, Any]) -> Notice:
    """The inverse of ``packed``."""
    return Notice(
        id=held["id"],
        kind=held["kind"],
        at=datetime.fromisoformat(held["at"]),
        alerts=tuple(
            Alert(
                **{
                    **{name: _moment(name, value) for name, value in one.items()},
                    "severity": Severity(one["severity"]),
                    "burns": tuple(Burn(**burn) for burn in one["burns"]),
                }
            )
            for one in held["alerts"]
        ),
    )


_TIMES = frozenset({"opened", "looked", "quiet_since", "acknowledged", "told", "resolved"})


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Severity) else value


def _moment(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name in _TIMES and value is not None else value


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
