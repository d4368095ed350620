"""Larger drawings as inline SVG: each has a title that says it in one sentence, and a table of the same numbers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from markupsafe import Markup

WIDTH, HEIGHT = 760, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 18, 22
MarkKind = Literal["release", "mode", "incident"]
SIGNS: dict[MarkKind, str] = {"release": "◆", "mode": "▲", "incident": "✕"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened, drawn where it stands in time."""

    at: datetime
    kind: MarkKind
    what: str


def budget_line(
    points: Sequence[tuple[datetime, float]], marks: Sequence[Mark], *, since: datetime, until: datetime, title: str
) -> Markup:
    """What is left of an error budget over its window: 1 at the beginning, below 0 when overspent."""
    span = (until - since).total_seconds() or 1.0
    least = min([0.0, *(max(left, -1.0) for _, left in points)])

    def x(at: datetime) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, (at - since).total_seconds() / span))

    def y(left: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - max(left, least)) / (1 - least)

    drawn = [
        Markup('<line class="base" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(
            _LEFT, y(at), WIDTH - _RIGHT, y(at)
        )
        for at in (1.0, 0.5)
    ]
    drawn += [
        Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:.0f} %</text>').format(_LEFT - 6, y(at) + 4, at * 100)
        for at in (1.0, 0.5, 0.0, *((least,) if least < -0.2 else ()))
    ]
    drawn.append(
        Markup('<line class="zero" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(_LEFT, y(0), WIDTH - _RIGHT, y(0))
    )
    if points:
        line = " ".join(f"{x(at):.1f},{y(left):.1f}" for at, left in points)
        ends = f"{x(points[-1][0]):.1f},{y(0):.1f} {x(points[0][0]):.1f},{y(0):.1f}"
        drawn.append(Markup('<polygon class="left-area" points="{} {}"/>').format(line, ends))
        drawn.append(Markup('<polyline class="left-line" points="{}"/>').format(line))
    for mark in marks:
        drawn.append(
            Markup(
                '<g><title>{}: {}</title><line class="mark {}" x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>'
                '<text class="mark-sign {}" x="{:.1f}" y="12" text-anchor="middle">{}</text></g>'
            ).format(
                f"{mark.at:%Y-%m-%d %H:%M} UTC",
                mark.what,
                mark.kind,
                x(mark.at),
                _TOP - 2,
                x(mark.at),
                HEIGHT - _BOTTOM,
                mark.kind,
                x(mark.at),
                SIGNS[mark.kind],
            )
        )
    for n in range(5):
        at = since + (until - since) * n / 4
        anchor = "start" if n == 0 else "end" if n == 4 else "middle"
        shown = f"{at:%H:%M}" if span < 172_800 else f"{at:%d %b}"
        drawn.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(x(at), HEIGHT - 6, anchor, shown)
        )
    return _svg(WIDTH, HEIGHT, title, drawn)


def burn_bar(burn: float, threshold: float, *, over: bool, title: str) -> Markup:
    """How fast a budget goes in one window, against the burn at which somebody is told."""
    width, height = 160, 22
    most = max(burn, threshold, 1e-9) * 1.15
    drawn = [
        Markup('<rect class="all" x="0.5" y="6.5" width="{}" height="9" rx="2"/>').format(width - 1),
        Markup('<rect class="burnt{}" x="0.5" y="6.5" width="{:.1f}" height="9" rx="2"/>').format(
            " over" if over else "", (width - 1) * min(1.0, burn / most)
        ),
        Markup('<line class="threshold" x1="{:.1f}" y1="2" x2="{:.1f}" y2="20"/>').format(
            (width - 1) * threshold / most, (width - 1) * threshold / most
        ),
    ]
    return _svg(width, height, title, drawn)


def day_bars(days: Sequence[tuple[str, int, int]], *, title: str) -> Markup:
    """One bar a day: what was spent, and on top of it what is held still (nano-dollars)."""
    most = max([spent + held for _, spent, held in days], default=0) or 1
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(days))
    base = HEIGHT - _BOTTOM
    drawn = [
        Markup('<line class="base" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, base, WIDTH - _RIGHT, base),
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(_LEFT - 6, _TOP + 4, _dollars(most)),
        Markup('<text x="{}" y="{}" text-anchor="end">$0</text>').format(_LEFT - 6, base + 4),
    ]
    for n, (day, spent, held) in enumerate(days):
        x, width = _LEFT + n * step + step * 0.12, step * 0.76
        high, more = ((base - _TOP) * part / most for part in (spent, held))
        drawn.append(
            Markup(
                '<g><title>{}: {}{}</title><rect class="bar-day" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            ).format(day, _dollars(spent), f", held {_dollars(held)}" if held else "", x, base - high, width, high)
        )
        if held:
            drawn.append(
                Markup('<rect class="held" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    x, base - high - more, width, more
                )
            )
        drawn.append(Markup("</g>"))
        if n in (0, len(days) // 2, len(days) - 1):
            drawn.append(
                Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                    x + width / 2, HEIGHT - 6, day[5:]
                )
            )
    return _svg(WIDTH, HEIGHT, title, drawn)


def _dollars(nano: int) -> str:
    amount = nano / 1e9
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.2g}" if amount else "$0"


def _svg(width: int, height: int, title: str, drawn: Sequence[Markup]) -> Markup:
    return Markup('<svg role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>').format(
        width, height, title, Markup("").join(drawn)
    )
