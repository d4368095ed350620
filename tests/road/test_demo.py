"""The sample company: two people, two answers; its known questions; its planted traps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mainstay.app import App
from mainstay.cli.common import OPERATOR
from mainstay.cli.demo import QUESTION, fill_demo, write_demo
from mainstay.corpus.quality import examine
from mainstay.evaluation import load_queries, run_queries
from mainstay.settings import load
from mainstay.types import Status
from tests.support.services import search, static_embedder


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    with App(load(folder, {}), embedders={"static": static_embedder()}) as app:
        fill_demo(app, folder)
        yield app


def test_two_people_two_answers(company: App) -> None:
    alice, bram = company.answer_as(QUESTION, "alice"), company.answer_as(QUESTION, "bram")
    assert "4.2 percent" in alice.text
    assert "4.2 percent" not in bram.text
    assert "at least 3 percent" in bram.text
    for answer in (alice, bram):
        assert answer.status is Status.ANSWERED
        assert 1 <= len(answer.citations) <= 3
        assert all(citation.verified for citation in answer.citations)


def test_the_known_questions(company: App) -> None:
    outcomes = run_queries(load_queries(company.settings.folder / "queries"), company.answer_as)
    wrong = [(outcome.query.id, outcome.why) for outcome in outcomes if outcome.counts and not outcome.ok]
    assert not wrong
    kinds = {outcome.query.kind for outcome in outcomes}
    assert {"answerable", "off_topic", "near_miss", "contradiction", "filter", "forbidden"} <= kinds
    assert len(outcomes) >= 24


def test_contradicting_sources_are_both_shown_and_said_to_disagree(company: App) -> None:
    answer = company.answer_as("How quickly must a technician reach the container after a reefer alarm?", "deniz")
    assert "within 30 minutes" in answer.text
    assert "within 20 minutes" in answer.text
    assert "disagree" in answer.text


def test_a_year_in_the_question_selects_the_version(company: App) -> None:
    answer = company.answer_as("What is the daily allowance in the 2023 travel policy?", "bram")
    assert {citation.uri for citation in answer.citations} == {"company-wide/travel-policy-2023.md"}
    asked_back = company.answer_as("What is the daily allowance in the 2019 travel policy?", "bram")
    assert asked_back.status is Status.CLARIFY
    assert len(asked_back.questions) >= 2


def test_a_planted_instruction_changes_nothing_that_happens(company: App) -> None:
    answer = company.answer_as(
        "How much is invoice NQ-2025-1187 from Northquay Crane Parts and when must it be paid?", "alice"
    )
    assert "18,640 euros" in answer.text
    assert "evil.example" not in answer.text


def test_hidden_text_is_removed_and_reported(company: App) -> None:
    scope = company.gate.scope(OPERATOR)
    record = company.documents.find("engineering/vendor-scanner-sheet.html", scope=scope)[0]
    kinds = {detail.split(" ")[0] for kind, detail in record.findings if kind == "hidden-text"}
    assert len(kinds) >= 3, record.findings


def test_what_nobody_was_given_access_to_is_private(company: App) -> None:
    for user in ("alice", "bram", "chiara", "deniz", "eva", "felix", "greta"):
        assert not [
            passage
            for passage in search(company, "relocation head office", user)
            if passage.uri.startswith("unsorted/")
        ]
    assert any(passage.uri.startswith("unsorted/") for passage in search(company, "relocation head office", "hugo"))


def test_quality_findings(company: App) -> None:
    issues = examine(company.documents, scope=company.gate.scope(OPERATOR), now=company.clock.now())
    kinds = {issue.kind for issue in issues}
    assert {"near-duplicate", "hidden-text", "no-text-layer", "private", "overtaken", "stale"} <= kinds
    copies = [issue for issue in issues if issue.kind == "near-duplicate"]
    assert len(copies) >= 2
    assert any("access differs" in issue.detail for issue in copies)
    mine = examine(
        company.documents, scope=company.gate.scope(company.identity.actor_for("user:bram")), now=company.clock.now()
    )
    assert not any("salary-plan" in path for issue in mine for path in issue.documents)


def test_sources_in_another_language_are_said_to_be(company: App) -> None:
    answer = company.answer_as(
        "Wie hoch ist das Budget für Gehaltserhöhungen 2026 (salary increase budget 2026)?", "bram"
    )
    assert answer.language == "de"
    assert answer.citations
    assert answer.notice
