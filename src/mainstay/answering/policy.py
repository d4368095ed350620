"""What the agreement says about a question before anybody looks for an answer: languages, topics, cases for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mainstay.agreement.terms import Governance, Topic
from mainstay.text.phrases import phrase


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Not to be answered by a machine: refused, or for a person; the reason in the agreement's own words."""

    then: Literal["refuse", "person"]
    reason: str
    text: str


class Policy:
    """The governance of an agreement, ready to be asked."""

    def __init__(self, governance: Governance) -> None:
        self._languages = frozenset(governance.languages)
        self._topics = [
            *((_any_of(topic), topic, topic.then) for topic in governance.prohibited_topics),
            *((_any_of(topic), topic, "person") for topic in governance.person_for),
        ]

    def look(self, texts: Sequence[str], spoken: str) -> Verdict | None:
        """None: the question may be answered. ``texts`` are the question and what was asked before it; a language that was
        not recognised is not held against it."""
        for words, topic, then in self._topics:
            if any(words.search(text) for text in texts):
                if then == "person":
                    return Verdict(then="person", reason=f"topic:{topic.name}", text="")
                said = phrase("prohibited", spoken, topic=topic.name)
                return Verdict(then="refuse", reason=f"topic:{topic.name}", text=said)
        if self._languages and spoken and spoken not in self._languages:
            known = ", ".join(sorted(self._languages))
            said = phrase("other_language_only", spoken, languages=known)
            return Verdict(then="refuse", reason=f"language:{spoken}", text=said)
        return None


def _any_of(topic: Topic) -> re.Pattern[str]:
    """Whole words or phrases, in any case, with any white space between their parts."""
    parts = [r"\s+".join(map(re.escape, words.split())) for words in topic.words if words.split()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts) or '(?!)'})(?!\w)", re.IGNORECASE)
