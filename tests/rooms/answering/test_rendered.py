"""The prompt of one question is filled in once for the same passages, and anew for others."""

from __future__ import annotations

from mainstay.answering.generating import Rendered
from mainstay.prompts.loader import load, prompt_of, render
from mainstay.prompts.message import Message
from mainstay.types import Passage

ANSWER = prompt_of(load(), "answer")


def passage(n: int) -> Passage:
    return Passage(
        chunk=f"c{n}", document=f"d{n}", version="v1", title=f"T{n}", uri="u", text=f"Sentence {n}.", start=0, end=11
    )


class Counting:
    """Fills the prompt in, and counts how often."""

    def __init__(self) -> None:
        self.made = 0
        self.rendered = Rendered()

    def ask(self, passages: list[Passage]) -> tuple[Message, ...]:
        return self.rendered.of(passages, lambda: self._make(passages))

    def _make(self, passages: list[Passage]) -> tuple[Message, ...]:
        self.made += 1
        return render(ANSWER, question="What?", passages=passages, language="en")


def test_the_same_passages_are_filled_in_once() -> None:
    held, passages = Counting(), [passage(n) for n in range(4)]
    first = held.ask(passages)
    assert held.ask(passages[:]) is first
    assert held.made == 1
    assert "Sentence 3." in first[-1].content


def test_others_are_not_taken_for_them() -> None:
    held, passages = Counting(), [passage(n) for n in range(4)]
    whole = held.ask(passages)
    half = held.ask(passages[:2])
    assert "Sentence 3." not in half[-1].content
    assert held.ask(passages[::-1]) != whole
    assert held.ask([passage(n) for n in range(4)]) == whole, "as found again: perhaps changed, so filled in anew"
    assert held.made == 4
