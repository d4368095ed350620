"""Checks a whole log: every body, leaf, node and signed head, and heads that somebody else kept.

What it can not know: whoever holds the database and the signing key can write another log that is right in itself. A head kept
elsewhere shows that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mainstay.records.audit import merkle
from mainstay.records.audit.events import DECISION, ERASED, EXPIRED, KEY, HeadLine
from mainstay.records.audit.heads import Head
from mainstay.records.audit.sealing import Owner, body_digest

MAX_FINDINGS = 100
BACK_US = 60 * 1_000_000
"""So far a clock may go back without being mentioned: transactions overlap, and clocks are set."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An event as it lies in the database."""

    line: HeadLine
    leaf: bytes
    salt: bytes | None
    body: bytes | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong. ``n`` is the event, or (unless ``exact``) the first that may be meant; None for none in
    particular."""

    n: int | None
    what: str
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check has found. ``notes`` are no proof of anything, and worth knowing: a clock that went back, a new key."""

    log: str
    events: int
    erased: int
    heads: int
    witnessed: int
    root: str
    keys: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    more: int = 0
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        return not self.findings

    @property
    def first_wrong(self) -> int | None:
        """The first event that something is wrong with."""
        named = [one for one in self.findings if one.n is not None]
        exact = [one for one in named if one.exact] or named
        return min((one.n for one in exact if one.n is not None), default=None)


@dataclass(kw_only=True)
class _Missing:
    """Bodies that are not there, of one owner: of which events, and the newest of a decision, with its time."""

    events: list[int] = field(default_factory=list)
    decision: int = 0
    newest: int = -1


@dataclass(kw_only=True)
class Checker:
    """Takes a log piece by piece: ``names``, then ``events``, ``nodes`` and ``decisions`` by turns, ``edge``, then ``report``.

    ``decided`` are the decisions among the last events: event -> request id.
    """

    log: str
    size: int
    heads: Sequence[Head]
    witnessed: Sequence[Head] = ()
    _owners: Mapping[str, Owner] = field(default_factory=dict)
    _tree: merkle.Frontier = field(default_factory=merkle.Frontier)
    _findings: list[Finding] = field(default_factory=list)
    _more: int = 0
    _notes: list[str] = field(default_factory=list)
    _erased: int = 0
    _newest: int = 0
    _missing: dict[str, _Missing] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)  # pseudonym -> the event that says so
    _also: set[int] = field(default_factory=set)  # bodies about others that an erasure took along
    _expired: int = 0
    _keys: dict[str, int] = field(default_factory=dict)  # key id -> the event that announces it
    decided: dict[int, str] = field(default_factory=dict)
    _waiting: list[tuple[Head, bool]] = field(default_factory=list)
    _right_until: dict[bool, int] = field(default_factory=dict)  # the newest right head, by whether a witness holds it
    _seen: int = 0

    def __post_init__(self) -> None:
        both = [(head, False) for head in self.heads] + [(head, True) for head in self.witnessed]
        self._waiting = sorted(both, key=lambda pair: (pair[0].size, pair[1]), reverse=True)

    def _wrong(self, n: int | None, what: str, *, exact: bool = True) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(n=n, what=what, exact=exact))
        else:
            self._more += 1

    def _note(self, what: str) -> None:
        if len(self._notes) < MAX_FINDINGS:
            self._notes.append(what)

    def names(self, owners: Mapping[str, Owner]) -> None:
        """The people whose keys are there, by the pseudonym they are kept under."""
        self._owners = owners
        for pseudonym, owner in owners.items():
            if owner.pseudonym != pseudonym:
                self._wrong(None, f"the name kept for {pseudonym} is not the one it stands for")

    def events(self, rows: Sequence[Stored]) -> dict[merkle.Key, bytes]:
        """The next events; returns the complete subtrees that they make."""
        made: dict[merkle.Key, bytes] = {}
        self.decided = {}
        for row in rows:
            n = row.line.n
            if n != self._seen:
                missing = f"event {self._seen} is missing" if n > self._seen else f"event {n} stands twice"
                self._wrong(min(n, self._seen), missing)
                self._seen = n
            self._seen += 1
            leaf = row.line.leaf
            if leaf != row.leaf:
                self._wrong(n, f"event {n} is not what its leaf says")
            self._body(row)
            if row.line.at + BACK_US < self._newest:
                back = (self._newest - row.line.at) / 1_000_000
                self._note(f"the clock went back {back:.0f} s at event {n}")
                self._newest = row.line.at
            self._newest = max(self._newest, row.line.at)
            self._tree, complete = self._tree.plus([row.leaf])  # what else is wrong is told from what was signed
            made.update(complete)
            self._signed()
        return made

    def _body(self, row: Stored) -> None:
        n, line = row.line.n, row.line
        owner = self._owners.get(line.owner)
        if row.body is None or owner is None:
            self._erased += 1
            held = self._missing.setdefault(line.owner, _Missing())
            if line.action == DECISION:
                if line.at > held.newest:
                    held.decision, held.newest = n, line.at
            else:
                held.events.append(n)
            if row.body is not None or row.salt is not None:
                # The key is gone and the body is not: nothing to be read, but it was to be deleted too.
                self._note(f"event {n} has a body that nobody can read")
            return
        body = owner.opened(row.body, b"event %d" % n)
        if body is None or row.salt is None or body_digest(row.salt, body) != line.body:
            self._wrong(n, f"the body of event {n} was changed")
            return
        if line.action in (ERASED, EXPIRED, KEY, DECISION):
            self._notable(line, json.loads(body))

    def _notable(self, line: HeadLine, body: Mapping[str, Any]) -> None:
        if line.action == DECISION:
            self.decided[line.n] = str(body.get("request_id", ""))
            return
        details = body.get("details", {})
        if line.action == ERASED:
            self._gone[str(details.get("owner"))] = line.n
            self._also.update(details.get("also", ()))
        elif line.action == EXPIRED:
            self._expired = max(self._expired, int(details.get("before", 0)))
        else:
            self._keys.setdefault(str(details.get("key")), line.n)

    def _signed(self) -> None:
        """Heads of the size that the tree has now."""
        while self._waiting and self._waiting[-1][0].size <= self._tree.size:
            head, outside = self._waiting.pop()
            whose = "a witness holds" if outside else "the log holds"
            if head.size < self._tree.size:
                self._wrong(None, f"{whose} a head of {head.size} events that can not be checked")
            elif head.log != self.log:
                self._wrong(None, f"{whose} a head of another log ({head.log})")
            elif not head.valid():
                self._wrong(None, f"{whose} a head of {head.size} events whose signature is not right")
            elif head.root != self._tree.root.hex():
                first = self._right_until.get(outside, 0)
                self._wrong(
                    first,
                    f"{whose} a head of {head.size} events with another tree: changed at event {first} or later",
                    exact=False,
                )
            else:
                self._right_until[outside] = head.size

    def nodes(self, made: Mapping[merkle.Key, bytes], kept: Mapping[merkle.Key, bytes]) -> None:
        """What the database holds of the subtrees that these events have made."""
        for (level, position), held in made.items():
            if kept.get((level, position)) != held:
                first = position << level
                self._wrong(first, f"node {level}/{position} of the tree, from event {first} on, is wrong", exact=False)

    def edge(self, edge: merkle.Frontier | None, *, nodes: int) -> None:
        """The right edge of the tree as it is kept, and how many nodes are."""
        if self._seen < self.size:
            self._wrong(self._seen, f"event {self._seen} is missing, and what comes after it")
        elif self._seen > self.size:
            self._wrong(self.size, f"event {self.size} stands after the end of the log")
        if edge is None or edge != self._tree:
            self._wrong(None, "the edge of the tree is not that of its events")
        expected = sum(self._seen >> level for level in range(1, self._seen.bit_length() + 1))
        if nodes != expected:
            self._wrong(None, f"the tree has {nodes} nodes, and {expected} belong to it")
        for head, outside in self._waiting:
            whose = "a witness holds" if outside else "the log holds"
            self._wrong(
                self._seen,
                f"{whose} a head of {head.size} events, and there are {self._seen}: cut off, or an older state brought back",
            )
        self._waiting = []

    def decisions(self, known: Mapping[int, str]) -> None:
        """By which request each of the last decision records is found: event -> request id."""
        for n, request in self.decided.items():
            if known.get(n) != request:
                self._wrong(n, f"event {n} is the decision of {request}, and is not found under it")

    def report(self) -> Report:
        for owner, held in self._missing.items():
            if owner in self._gone:
                continue
            lost = next((n for n in held.events if n not in self._also), None)
            if lost is not None:
                self._wrong(lost, f"the body of event {lost} is gone, and no erasure is in the log")
            elif held.newest >= self._expired:
                n = held.decision
                self._wrong(n, f"the record of event {n} is gone, and neither erased nor expired")
        last = 0
        for head in sorted(self.heads, key=lambda held: held.size):
            if head.at + BACK_US < last:
                self._note(f"the clock went back before the head of {head.size} events was signed")
            last = max(last, head.at)
            if head.key not in self._keys:
                self._wrong(
                    None, f"the head of {head.size} events is signed by {head.key}, which the log does not announce"
                )
            elif self._keys[head.key] >= head.size:
                self._wrong(
                    None,
                    f"the head of {head.size} events is signed by {head.key}, announced later ({self._keys[head.key]})",
                )
        if not self.witnessed:
            self._note("no witness was looked at: whoever holds the signing key could have written all of it anew")
        return Report(
            log=self.log,
            events=self._seen,
            erased=self._erased,
            heads=len(self.heads),
            witnessed=len(self.witnessed),
            root=self._tree.root.hex() if self._tree.size else sha256(b"").hexdigest(),
            keys=tuple(self._keys),
            findings=tuple(sorted(self._findings, key=lambda one: (one.n is None, not one.exact, one.n or 0))),
            more=self._more,
            notes=tuple(self._notes),
        )
