"""Why somebody may or may not read something, step by step: the person, their groups, the rule, what follows.

It reads memberships and the rule alone, and decides as ``scope.Gate`` does; ``tests/rooms/access/test_explaining.py`` holds
the two together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mainstay.access.acl import Acl, decide
from mainstay.access.directory import ANONYMOUS, UNKNOWN_GROUPS, standing
from mainstay.access.ports import Account, Directory, Membership, State
from mainstay.types import ADMINISTRATORS, PUBLIC


@dataclass(frozen=True, kw_only=True)
class Step:
    """``member`` belongs to ``group``, because ``source`` says so."""

    member: str
    group: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Whether ``principal`` may read what stands under ``rule``, and why.

    ``decided_by`` is the name that the rule hit (or ``group:administrators``), empty when none did; ``path`` leads from the
    person to it. ``known``: the directory holds an account of this name. ``missing`` are the names that the rule allows and
    that the person does not stand for.
    """

    principal: str
    visible: bool
    reason: str
    rule: Acl
    known: bool
    decided_by: str = ""
    path: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The chain in plain words, one step a line, the answer last."""
        said = []
        if not self.known and self.principal != ANONYMOUS:
            said.append(f"{self.principal} has no account here: an identity provider may still vouch for that name")
        said += [f"{step.member} is in {step.group} ({_told_by(step.source)})" for step in self.path]
        said.append(
            f"the rule allows {_list(self.rule.allow) or 'nobody but administrators'}"
            + (f" and denies {_list(self.rule.deny)}" if self.rule.deny else "")
        )
        if not self.visible and not self.decided_by and self.missing:
            said.append(f"{self.principal} stands for none of those it allows")
        said.append(f"{self.principal} {'may' if self.visible else 'may not'} read it: {self.reason}")
        return said


def explain(
    directory: Directory, rule: Acl, principal: str, groups: Collection[str] = (), *, sees_all: bool = True
) -> Explanation:
    """Why ``principal`` may read what stands under ``rule``, with the groups that an identity provider asserted.

    ``sees_all`` is False for a credential that does not carry an administrator's rights. Errors: Invalid for a name that can
    be none.
    """
    asserted = [group for group in groups if group != UNKNOWN_GROUPS]
    unsure = len(asserted) < len(groups)
    found = standing(directory, principal, asserted)
    account = directory.account(principal) if principal != ANONYMOUS else None
    if not found.active:
        return Explanation(
            principal=principal, visible=False, reason="the account may not act", rule=rule, known=_held(account)
        )
    paths = _paths(directory, principal, asserted, found.principals)
    if found.admin and sees_all:
        return Explanation(
            principal=principal,
            visible=True,
            reason="administrators see everything",
            rule=rule,
            known=_held(account),
            decided_by=ADMINISTRATORS if ADMINISTRATORS in found.principals else principal,
            path=paths.get(ADMINISTRATORS, ()),
        )
    if unsure and (denied := next((name for name in rule.deny if name.startswith("group:")), "")):
        return Explanation(
            principal=principal,
            visible=False,
            reason=f"denied to {denied}, and the asker's groups are not fully known",
            rule=rule,
            known=_held(account),
            decided_by=denied,
            path=paths.get(denied, ()),
        )
    decision = decide(rule, found.principals)
    hits = rule.allow if decision.visible else rule.deny
    by = next((name for name in hits if name in found.principals), "")
    return Explanation(
        principal=principal,
        visible=decision.visible,
        reason=decision.reason,
        rule=rule,
        known=_held(account),
        decided_by=by,
        path=paths.get(by, ()),
        missing=tuple(name for name in rule.allow if name not in found.principals),
    )


def _held(account: Account | None) -> bool:
    return account is not None and account.state is not State.DELETED


def _paths(
    directory: Directory, principal: str, asserted: Collection[str], closure: Collection[str]
) -> Mapping[str, tuple[Step, ...]]:
    """The shortest way from the person to each name of their closure. It looks at the members of each group in it once."""
    above: dict[str, list[Membership]] = {}
    for group in sorted(name for name in closure if name.startswith("group:")):
        for joined in directory.members(group):
            above.setdefault(joined.member, []).append(joined)
    found: dict[str, tuple[Step, ...]] = {principal: (), PUBLIC: ()}
    waiting = deque([principal])
    for group in sorted(asserted):
        if group not in found:
            found[group] = (Step(member=principal, group=group, source="identity provider"),)
            waiting.append(group)
    while waiting:
        here = waiting.popleft()
        for joined in above.get(here, ()):
            if joined.group not in found:
                found[joined.group] = (*found[here], Step(member=here, group=joined.group, source=joined.source))
                waiting.append(joined.group)
    return found


def _told_by(source: str) -> str:
    return "kept here" if source == "local" else f"says {source}"


def _list(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
