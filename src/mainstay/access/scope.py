"""From an Actor to a Scope: the closure of principals, then every class with an allow hit and no deny hit.

The Gate keeps what it worked out under the stamp it read before working; each call compares that stamp with the
database's. So a revoke by any process is in force at the next call, and a call that follows no change costs one small
read.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from mainstay.access.acl import Acl, Decision, decide
from mainstay.access.directory import ANONYMOUS, NOBODY, UNKNOWN_GROUPS, Standing, standing
from mainstay.access.ports import AclClasses, Directory, Stamps
from mainstay.errors import Unavailable
from mainstay.types import ADMINISTRATORS, Actor, Scope

CACHED_CLASSES = 2_000_000
"""Class numbers kept in cached Scopes, all together (about 40 bytes each)."""
CACHED_ACTORS = 10_000
PATIENCE_S = 5.0
"""How long a caller waits while others read what changed."""


def scope_of(principals: Iterable[str], classes: Iterable[int]) -> Scope:
    """A Scope whose digest is SHA-256 over its sorted principals and classes: equal scopes, equal digests, in every
    process.
    """
    names, numbers = frozenset(principals), frozenset(classes)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\n")
    digest.update(b"\n" + array("q", sorted(numbers)).tobytes())
    return Scope(principals=names, classes=numbers, digest=digest.hexdigest())


NOTHING = scope_of((), ())


def intersect(scopes: Sequence[Scope]) -> Scope:
    """What all of several readers may see: for a shared conversation. No reader, nothing."""
    if not scopes:
        return NOTHING
    first, *others = scopes
    return scope_of(
        first.principals.intersection(*(scope.principals for scope in others)),
        first.classes.intersection(*(scope.classes for scope in others)),
    )


class Gate:
    """Turns Actors into Scopes; one per process, for all threads.

    Administrators (by flag, or by group through any nesting) see every class, denied ones too; through an API key
    only when it carries the ``admin`` scope. ``Actor.admin`` counts for a principal the directory does not hold (the
    operator at the machine); of one it holds, the directory speaks, so that a revoke reaches an Actor made before it.
    """

    def __init__(self, directory: Directory, classes: AclClasses) -> None:
        self._directory = directory
        self._classes = classes
        self._lock = threading.Lock()
        self._rules = _Rules()
        self._rules_at = 0
        self._people_at = -1
        self._standings: OrderedDict[_Who, tuple[Standing, bool]] = OrderedDict()
        self._scopes: OrderedDict[tuple[frozenset[str], bool, bool], Scope] = OrderedDict()
        self._held = 0

    def scope(self, actor: Actor) -> Scope:
        """What ``actor`` may read now. A disabled or deleted account: nothing, not even what is public."""
        with self._turn() as stamps:
            resolved, sees_all = self._now(actor, stamps)
            if not resolved.active:
                return NOTHING
            return self._visible(resolved.principals, sees_all, UNKNOWN_GROUPS in actor.groups)

    def explain(self, actor: Actor, acl: Acl) -> Decision:
        """Why ``actor`` does or does not see what stands under ``acl``."""
        with self._turn() as stamps:
            resolved, sees_all = self._now(actor, stamps)
        if not resolved.active:
            return Decision(visible=False, reason="the account may not act")
        if sees_all:
            return Decision(visible=True, reason="administrators see everything")
        if UNKNOWN_GROUPS in actor.groups and (denied := next(filter(_is_group, acl.deny), None)):
            return Decision(visible=False, reason=f"denied to {denied}, and the asker's groups are not fully known")
        return decide(acl, resolved.principals)

    @contextmanager
    def _turn(self) -> Iterator[Stamps]:
        """Alone with what is kept, and the stamps to compare it with.

        They are read before the turn: a database that does not answer then keeps each caller waiting for itself, and
        not one after the other. Only a change is read within the turn.
        """
        stamps = self._classes.stamps()
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise Unavailable("access rules are still being read", fix="try again", retry_after_s=2.0)
        try:
            if stamps.anything < self._rules_at or stamps.people < self._people_at:
                stamps = self._classes.stamps()  # others were faster: what is kept is newer than what was read
            yield stamps
        finally:
            self._lock.release()

    def _now(self, actor: Actor, stamps: Stamps) -> tuple[Standing, bool]:
        """The actor's standing, with rules and people as they stood together at one moment.

        Everything is read after the stamp it is kept under, so it is never older than that. Rules and people are read
        one after the other: when people changed meanwhile, a new grant could meet an old membership, so both are read
        again.
        """
        while True:
            loaded = self._follow(stamps)
            who = _who(actor)
            if (known := self._standings.get(who)) is None:
                known, loaded = self._resolve(actor, may_see_all=who.may_see_all), True
            if not loaded or (newer := self._classes.stamps()).people == stamps.people:
                self._standings[who] = known
                if len(self._standings) > CACHED_ACTORS:
                    self._standings.popitem(last=False)
                return known
            stamps = newer

    def _follow(self, now: Stamps) -> bool:
        """Bring what is kept up to ``now``; whether anything had to be read or forgotten."""
        if now.people != self._people_at:
            self._standings.clear()
            self._people_at = now.people
        if now.anything == self._rules_at:
            return False
        if now.removed > self._rules_at:
            self._rules, self._rules_at = _Rules(), 0
            self._forget_scopes()
        if changed := self._classes.classes(self._rules_at):
            self._rules.put(changed)
            self._forget_scopes()
        self._rules_at = now.anything
        return True

    def _forget_scopes(self) -> None:
        self._scopes.clear()
        self._held = 0

    def _resolve(self, actor: Actor, *, may_see_all: bool) -> tuple[Standing, bool]:
        groups = [group for group in actor.groups if group != UNKNOWN_GROUPS]
        resolved = standing(self._directory, actor.principal, groups)
        if resolved.active and actor.via is not None and not standing(self._directory, actor.via).active:
            return NOBODY, False
        admin = resolved.admin or (actor.admin and resolved.account is None and actor.principal != ANONYMOUS)
        return resolved, resolved.active and admin and may_see_all

    def _visible(self, principals: frozenset[str], sees_all: bool, groups_unknown: bool) -> Scope:
        asked = (principals, sees_all, groups_unknown)
        if (scope := self._scopes.get(asked)) is not None:
            self._scopes.move_to_end(asked)
            return scope
        if sees_all:
            scope = scope_of(principals | {ADMINISTRATORS}, self._rules.all())
        else:
            scope = scope_of(principals, self._rules.visible(principals, groups_unknown=groups_unknown))
        self._scopes[asked] = scope
        self._held += len(scope.classes)
        while len(self._scopes) > 1 and (self._held > CACHED_CLASSES or len(self._scopes) > CACHED_ACTORS):
            self._held -= len(self._scopes.popitem(last=False)[1].classes)
        return scope


class _Who(NamedTuple):
    principal: str
    groups: tuple[str, ...]
    via: str | None
    admin: bool
    may_see_all: bool


def _who(actor: Actor) -> _Who:
    may_see_all = actor.key_id is None or "admin" in actor.scopes
    return _Who(actor.principal, actor.groups, actor.via, actor.admin, may_see_all)


class _Rules:
    """All rules in force, and by principal the classes that allow or deny it."""

    def __init__(self) -> None:
        self._acls: dict[int, Acl] = {}
        self._allowed: defaultdict[str, set[int]] = defaultdict(set)
        self._denied: defaultdict[str, set[int]] = defaultdict(set)

    def put(self, changed: Iterable[tuple[int, Acl]]) -> None:
        for number, acl in changed:
            if (before := self._acls.get(number)) is not None:
                for principal in before.allow:
                    self._allowed[principal].discard(number)
                for principal in before.deny:
                    self._denied[principal].discard(number)
            self._acls[number] = acl
            for principal in acl.allow:
                self._allowed[principal].add(number)
            for principal in acl.deny:
                self._denied[principal].add(number)

    def all(self) -> Iterable[int]:
        return self._acls.keys()

    def visible(self, principals: frozenset[str], *, groups_unknown: bool) -> set[int]:
        seen: set[int] = set().union(*(self._allowed.get(principal, ()) for principal in principals))
        denied = [self._denied.get(principal, ()) for principal in principals]
        if groups_unknown:
            denied += [numbers for principal, numbers in self._denied.items() if _is_group(principal)]
        return seen.difference(*denied)


def _is_group(principal: str) -> bool:
    return principal.startswith("group:")
