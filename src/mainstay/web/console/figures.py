"""Small drawings as inline SVG: they print, can be read aloud, and are tested as text. Colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 160, 22


def interval_bar(
    *, low: float | None, value: float | None, high: float | None, target: float | None, title: str
) -> Markup | None:
    """A value with its interval against its target; None where nothing was measured."""
    if value is None or not math.isfinite(value):
        return None
    low = value if low is None or not math.isfinite(low) else low
    high = value if high is None or not math.isfinite(high) else high
    ends = [low, value, high, *([] if target is None else [target])]
    least, most = min(ends), max(ends)
    room = (most - least) * 0.12 or abs(most) * 0.05 or 1.0
    x = _scale(least - room, most + room)
    middle = HEIGHT / 2
    drawn = [
        _line(x(low), middle, x(high), middle, "reach"),
        _line(x(low), middle - 4, x(low), middle + 4, "reach"),
        _line(x(high), middle - 4, x(high), middle + 4, "reach"),
    ]
    if target is not None:
        drawn.append(_line(x(target), 2, x(target), HEIGHT - 2, "target"))
    drawn.append(Markup('<circle class="value" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x(value), middle))
    return _svg("interval", title, drawn)


def budget_bar(left: float | None, *, title: str) -> Markup | None:
    """What is left of a budget, of 1; overspent ones are hatched and full."""
    if left is None:
        return None
    shown = max(0.0, min(1.0, left if math.isfinite(left) else -1.0))
    over = not left >= 0
    drawn = [Markup('<rect class="all" x="0.5" y="6.5" width="{}" height="9" rx="2"/>').format(WIDTH - 1)]
    if over:
        drawn.append(Markup('<rect class="over" x="0.5" y="6.5" width="{}" height="9" rx="2"/>').format(WIDTH - 1))
        drawn += [_line(x, 15.5, x + 9, 6.5, "hatch") for x in range(4, WIDTH - 9, 12)]
    else:
        drawn.append(
            Markup('<rect class="left" x="0.5" y="6.5" width="{:.1f}" height="9" rx="2"/>').format((WIDTH - 1) * shown)
        )
    return _svg("budget", title, drawn)


def sparkline(values: Sequence[float | None], *, title: str, target: float | None = None) -> Markup | None:
    """One point a period, the latest last; gaps where nothing was measured. None without any value."""
    known = [held for held in values if held is not None and math.isfinite(held)]
    if not known:
        return None
    ends = [*known, *([] if target is None else [target])]
    least, most = min(ends), max(ends)
    room = (most - least) * 0.15 or abs(most) * 0.05 or 1.0
    y = _scale(least - room, most + room, HEIGHT - 3, 3)
    step = (WIDTH - 8) / max(1, len(values) - 1)
    drawn: list[Markup] = []
    if target is not None:
        drawn.append(_line(2, y(target), WIDTH - 2, y(target), "target"))
    run: list[str] = []
    last: tuple[float, float] | None = None
    for n, held in enumerate([*values, None]):
        if held is not None and math.isfinite(held):
            last = (4 + n * step, y(held))
            run.append(f"{last[0]:.1f},{last[1]:.1f}")
            continue
        if len(run) > 1:
            drawn.append(Markup('<polyline class="trend" points="{}"/>').format(" ".join(run)))
        elif run:
            drawn.append(_dot(run[0], "trend-dot"))
        run = []
    assert last is not None
    drawn.append(_dot(f"{last[0]:.1f},{last[1]:.1f}", "value"))
    return _svg("sparkline", title, drawn)


def _dot(at: str, kind: str) -> Markup:
    x, _, y = at.partition(",")
    return Markup('<circle class="{}" cx="{}" cy="{}" r="2.5"/>').format(kind, x, y)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _svg(kind: str, title: str, drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="figure {}" role="img" viewBox="0 0 {} {}" width="{}" height="{}"><title>{}</title>{}</svg>'
    ).format(kind, WIDTH, HEIGHT, WIDTH, HEIGHT, title, Markup("").join(drawn))


class _scale:  # noqa: N801 - used like a function
    """From values to places along an axis."""

    def __init__(self, least: float, most: float, start: float = 6.0, end: float = WIDTH - 6.0) -> None:
        self._least, self._span = least, (most - least) or 1.0
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + (value - self._least) / self._span * self._length
