"""A question for a person: what is kept, who sees it, what the asker is told."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mainstay.agreement.terms import HandOver as Rules
from mainstay.clock import FixedClock
from mainstay.delivery import signature
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.handover import (
    MAX_DRAFT,
    MAX_NOTE,
    HandOver,
    SigningSettings,
    SmtpSettings,
    State,
    checked_address,
    checked_webhook,
    close,
    hand_over,
    promise,
    visible,
    ways,
)
from mainstay.types import Actor, Citation, Question

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()


class Kept:
    """``HandOvers`` in memory: enough for what the room itself decides."""

    def __init__(self) -> None:
        self.rows: dict[str, HandOver] = {}

    def create(self, held: HandOver) -> None:
        self.rows[held.id] = held

    def get(self, handover_id: str) -> HandOver | None:
        return self.rows.get(handover_id)

    def list(self, *, state: State | None = None, principal: str | None = None, limit: int = 100) -> Sequence[HandOver]:
        return [*self.rows.values()][:limit]

    def set_state(
        self, handover_id: str, state: State, *, detail: str, at: datetime, only_from: Sequence[State]
    ) -> bool:
        held = self.rows.get(handover_id)
        if held is None or held.state not in only_from:
            return False
        self.rows[handover_id] = replace(held, state=state, detail=detail)
        return True

    def mark_sent(self, handover_id: str, way: str, *, at: datetime) -> None:
        self.rows[handover_id] = replace(self.rows[handover_id], sent=(*self.rows[handover_id].sent, way))

    def adrift(self, *, limit: int = 100) -> Sequence[tuple[str, str | None]]:
        return []

    def prune(self, *, before: datetime) -> int:
        return 0


def made(kept: Kept, principal: str = "user:alice", question: str = "Who mends the crane?") -> HandOver:
    return hand_over(
        kept,
        FixedClock(),
        question=Question(text=question, history=(("user", "Hello"), ("assistant", "Good day"))),
        principal=principal,
        reason="low confidence",
        sources=[
            Citation(
                n=1, document="doc_1", version="v1", title="Cranes", uri="c.md", quote="The crane.", start=3, end=13
            )
        ],
        draft="x" * (MAX_DRAFT + 5),
        request_id="req_1",
        language="en",
    )


def test_what_is_kept() -> None:
    kept = Kept()
    held = made(kept)
    assert kept.get(held.id) == held
    assert held.id.startswith("ho_")
    assert (held.state, held.sent, held.detail) == (State.WAITING, (), "")
    assert held.history == (("user", "Hello"), ("assistant", "Good day"))
    assert [(one.document, one.version, one.start, one.end) for one in held.sources] == [("doc_1", "v1", 3, 13)]
    assert "The crane." not in repr(held.sources), "sources are named, not copied"
    assert len(held.draft) == MAX_DRAFT


def test_text_that_no_database_takes() -> None:
    held = made(Kept(), question="a\0b\ud800c")
    assert held.question == "a\N{REPLACEMENT CHARACTER}b?c"


def test_who_may_see_one() -> None:
    kept = Kept()
    held = made(kept)
    asker = Actor(principal="user:alice", scopes=frozenset({"ask"}))
    reader = Actor(principal="user:olga", scopes=frozenset({"traces:read"}))
    administrator = Actor(principal="user:hugo", admin=True)
    for actor in (asker, reader, administrator):
        assert visible(kept, held.id, actor) == held
    said = set()
    for actor, wanted in (
        (Actor(principal="user:bram", scopes=frozenset({"ask", "search"})), held.id),
        (Actor(principal="anonymous"), held.id),
        (asker, "ho_nothing"),
        (administrator, "ho_nothing"),
    ):
        with pytest.raises(NotFound) as caught:
            visible(kept, wanted, actor)
        said.add(caught.value.line())
    assert len(said) == 1, "unknown and forbidden read the same"


def test_what_nobody_asked_belongs_to_nobody() -> None:
    """All who are not known share one name: none of them may see the others' questions."""
    kept = Kept()
    held = made(kept, principal="anonymous")
    with pytest.raises(NotFound):
        visible(kept, held.id, Actor(principal="anonymous"))


def test_closing() -> None:
    kept = Kept()
    held = made(kept)
    closed = close(kept, FixedClock(), held.id, by="user:olga", note="phoned" + "!" * MAX_NOTE)
    assert closed.state is State.CLOSED
    assert closed.detail.startswith("user:olga: phoned!")
    assert len(closed.detail) == MAX_NOTE + len("user:olga: ")
    with pytest.raises(Conflict):
        close(kept, FixedClock(), held.id, by="user:olga")
    with pytest.raises(NotFound):
        close(kept, FixedClock(), "ho_nothing", by="user:olga")


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "it", "nl", "pt", "", "cy"])
def test_the_promise_names_the_reference(language: str) -> None:
    assert "ho_7" in promise(Rules(), language, "ho_7")
    assert (promise(Rules(), language, "x") == promise(Rules(), "en", "x")) == (language in ("en", "", "cy"))


def test_the_agreements_own_promise() -> None:
    rules = Rules(promise={"en": "We call back within a day: {reference} {x}.", "de": "Wir rufen an."})
    assert promise(rules, "en", "ho_7") == "We call back within a day: ho_7 {x}."
    assert promise(rules, "de", "ho_7") == "Wir rufen an."
    assert promise(rules, "fr", "ho_7").startswith("We call back"), "what is promised counts more than the language"


def test_ways() -> None:
    assert ways(Rules()) == ()
    rules = Rules(webhook="https://desk.example/hook", email=("a@example.org", "b@example.org", "a@example.org"))
    assert ways(rules) == ("webhook", "email:a@example.org", "email:b@example.org")


def test_secrets_are_in_no_repr() -> None:
    assert KEY not in repr(SigningSettings(secret=KEY))
    assert "hunter2" not in repr(SmtpSettings(host="h", password="hunter2"))


@pytest.mark.parametrize("secret", ["short", "whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_!!!!" + "A" * 40])
def test_a_secret_that_is_none(secret: str) -> None:
    with pytest.raises(Invalid) as caught:
        SigningSettings(secret=secret)
    assert secret not in caught.value.line()


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the specification's own libraries are tested with."""
    body = b'{"test": 2432232314}'
    example = SigningSettings(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(example, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    both = SigningSettings(secret=f"{KEY} whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    first, second = signature(both, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body).split()
    assert (first.startswith("v1,"), second) == (True, expected)
    with pytest.raises(Invalid, match="missing"):
        signature(SigningSettings(), "m", 1, b"")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://desk.example/x",
        "desk.example",
        "https://",
        "https://user:hunter2@desk.example/",
        "https://desk.example/#x",
        "https://desk.example/a b",
        "https://desk.example/\n",
        "https://désk.example/",
        "",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked_webhook(url)
    assert "hunter2" not in caught.value.line()


@pytest.mark.parametrize("url", ["https://desk.example", "http://127.0.0.1:9/x?y=z", "https://[::1]:8443/hook"])
def test_an_address(url: str) -> None:
    assert checked_webhook(url) == url


@pytest.mark.parametrize(
    "text",
    ["", "a", "a@", "@b", "a@b@c", "a b@c", "a@b\r\nBcc: x@y", "a@b,c@d", "<a@b>", "ä@b", "a@b\0", "a" * 300 + "@b"],
)
def test_a_mail_address_that_is_none(text: str) -> None:
    with pytest.raises(Invalid):
        checked_address(text, "handover.email")


def test_times_come_from_the_clock() -> None:
    clock = FixedClock()
    clock.advance(timedelta(days=1))
    held = hand_over(Kept(), clock, question=Question(text="?"), principal="user:a", reason="r")
    assert held.at == clock.now()
