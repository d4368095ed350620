"""A journey of any length on one page: its upper steps, and of what lies below them how much and what failed there.

What is shown is bounded, whatever the shape: one step (the head) with a page of its parts, and below those whole levels while
they fit. Of a level that does not fit, what holds a failure is opened first. Every step that stays closed can be the head of
a page of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mainstay.records.spans import ERROR, Span, own_ms


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: a step, how deep it lies below the head's level, and the time it spent itself. ``inside`` counts every step
    below it, ``failed`` those of them that failed; ``open`` says whether its parts follow."""

    span: Span
    depth: int
    self_ms: float
    inside: int = 0
    failed: int = 0
    open: bool = True


@dataclass(frozen=True, kw_only=True)
class Outline:
    """``above`` leads from the top to the head's parent. Of the head's parts, or of the tops where there is no one head,
    ``first`` to ``last`` (from 1) of ``parts`` are here. ``count`` and ``errors`` are of every step of this outline, shown
    or not; ``begin_ms`` and ``end_ms`` hold them all."""

    lines: Sequence[Entry]
    above: tuple[Span, ...]
    head: Span | None
    first: int
    last: int
    parts: int
    count: int
    errors: int
    begin_ms: float
    end_ms: float

    @property
    def whole(self) -> bool:
        """Whether every step stands here."""
        return len(self.lines) == self.count


def outline(spans: Sequence[Span], *, top: str = "", page: int = 1, most: int = 200) -> Outline | None:
    """The steps below ``top`` (empty: all), at most about ``most`` lines of them; None where there is no such step or page.

    Takes n log n for n steps. A step whose parent is not here stands at the top; parents that go in a circle are cut open.
    """
    tree = _Tree(spans)
    if not top:
        roots = tree.tops
        head = roots[0] if len(roots) == 1 else None
    else:
        head = tree.named(top)
        if head is None:
            return None
        roots = [head]
    level = roots if head is None else tree.below[head]
    first = (page - 1) * most
    if first and first >= len(level):
        return None
    shown = level[first : first + most]
    opened = tree.opened(shown, most - len(shown))
    if head is not None:
        opened.add(head)
    lines: list[Entry] = []
    start = shown if head is None else [head]
    stack = [(n, 0) for n in reversed(start)]
    while stack:
        n, depth = stack.pop()
        lines.append(tree.entry(n, depth, open_=n in opened or not tree.below[n]))
        if n in opened:
            stack += [(part, depth + 1) for part in reversed(shown if n == head else tree.below[n])]
    return Outline(
        lines=lines,
        above=tuple(spans[n] for n in tree.above(head)),
        head=None if head is None else spans[head],
        first=first + 1,
        last=first + len(shown),
        parts=len(level),
        count=sum(1 + tree.inside[n] for n in roots),
        errors=sum(tree.failed[n] + (spans[n].status == ERROR) for n in roots),
        begin_ms=spans[head].start_ms if top and head is not None else 0.0,
        end_ms=max([tree.ends[n] for n in roots], default=0.0),
    )


class _Tree:
    """Steps by their numbers: parts of each in order of their beginning, and sums over all that lies below."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        count = len(spans)
        order = sorted(range(count), key=[span.start_ms for span in spans].__getitem__)
        here: dict[str, int] = {}
        for n in reversed(order):
            if spans[n].span_id:
                here[spans[n].span_id] = n  # of two with one id the earlier
        self._here = here
        self.below: list[list[int]] = [[] for _ in range(count)]
        self._parent = [-1] * count
        for n in order:
            name = spans[n].parent_id
            parent = here.get(name, n) if name else n
            if parent != n:
                self._parent[n] = parent
                self.below[parent].append(n)
        self.tops = [n for n in order if self._parent[n] < 0]
        walked = self._walk(order)
        self.inside, self.failed = [0] * count, [0] * count
        self.ends = [span.start_ms + span.duration_ms for span in spans]
        for n in reversed(walked):
            parent = self._parent[n]
            if parent >= 0:
                self.inside[parent] += 1 + self.inside[n]
                self.failed[parent] += self.failed[n] + (spans[n].status == ERROR)
                self.ends[parent] = max(self.ends[parent], self.ends[n])

    def _walk(self, order: Sequence[int]) -> list[int]:
        """Every step after its parent; circles are cut open before their earliest step, which becomes a top."""
        walked: list[int] = []
        seen = [False] * len(order)
        for n in (*self.tops, *order):
            if seen[n]:
                continue
            if self._parent[n] >= 0:
                self.below[self._parent[n]].remove(n)
                self._parent[n] = -1
                self.tops.append(n)
            stack = [n]
            while stack:
                held = stack.pop()
                seen[held] = True
                walked.append(held)
                stack += self.below[held]
        return walked

    def named(self, span_id: str) -> int | None:
        return self._here.get(span_id)

    def above(self, n: int | None) -> list[int]:
        """Its parent and the parents of that, the highest first."""
        found: list[int] = []
        while n is not None and (n := self._parent[n]) >= 0:
            found.append(n)
        return found[::-1]

    def opened(self, shown: Sequence[int], room: int) -> set[int]:
        """Which steps show their parts, with so much room for these."""
        opened: set[int] = set()
        level = list(shown)
        while level:
            wanting = [n for n in level if self.below[n]]
            if sum(len(self.below[n]) for n in wanting) > room:
                wanting = [n for n in wanting if self.failed[n]]
            level = []
            for n in wanting:
                if len(self.below[n]) <= room:
                    room -= len(self.below[n])
                    opened.add(n)
                    level += self.below[n]
        return opened

    def entry(self, n: int, depth: int, *, open_: bool) -> Entry:
        span = self.spans[n]
        return Entry(
            span=span,
            depth=depth,
            self_ms=own_ms(span, [self.spans[part] for part in self.below[n]]),
            inside=self.inside[n],
            failed=self.failed[n],
            open=open_,
        )
