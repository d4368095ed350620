"""How values read on a page: always with their unit, and nothing measured never looks like zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from mainstay.types import usd

NOTHING = Markup('<span class="none" title="nothing measured">–</span>')


def when(at: datetime | str | None) -> Markup:
    """A time: UTC as it stands, turned into the reader's own by the page's script, with UTC on hover."""
    if not at:
        return NOTHING
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    moment = moment.astimezone(UTC)
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), exact, f"{moment:%Y-%m-%d %H:%M} UTC"
    )


def duration(ms: float | None) -> str | Markup:
    """Milliseconds, in the unit that reads best."""
    if ms is None or not math.isfinite(ms):
        return NOTHING
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"


def money(nanodollars: int | None) -> str | Markup:
    """Nano-dollars as dollars: to the cent from a dollar on, to the millionth below."""
    if nanodollars is None:
        return NOTHING
    if nanodollars == 0:
        return "$0.00"
    sign, amount = ("-", -nanodollars) if nanodollars < 0 else ("", nanodollars)
    return f"{sign}${amount / 1e9:,.2f}" if amount >= 1_000_000_000 else f"{sign}${usd(amount)}"


def share(value: float | None) -> str | Markup:
    """A share of 1 in per cent, with the digits that tell it from 0 and from 100."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value * 100:.1f} %" if 0.0005 <= value <= 0.9995 or value in (0, 1) else f"{value * 100:.3f} %"


def count(value: float | None) -> str | Markup:
    """A number, thousands apart."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def score(value: float | None) -> str | Markup:
    """A number that only compares."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.3f}"


def size(octets: int | None) -> str | Markup:
    """Bytes."""
    if octets is None:
        return NOTHING
    held = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(held) < 1000 or unit == "GB":
            return f"{held:.0f} {unit}" if unit == "B" else f"{held:.1f} {unit}"
        held /= 1000
    return NOTHING


def plain(value: Any) -> str | Markup:
    """Anything else; nothing looks like nothing."""
    return NOTHING if value is None or value == "" else str(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "when": when,
    "duration": duration,
    "money": money,
    "share": share,
    "count": count,
    "size": size,
    "score": score,
    "plain": plain,
}
