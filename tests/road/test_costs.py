"""mainstay costs, as an operator asks for it."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from mainstay.agreement.budgets import Payer
from mainstay.agreement.ledger import AXES, Purse
from mainstay.agreement.terms import Agreement
from mainstay.cli import main
from mainstay.clock import SystemClock
from mainstay.settings import load
from mainstay.storage.database import address_of, open_database
from mainstay.storage.ledger import SqlLedger
from mainstay.types import Question, Usage
from tests.support import upstream as up
from tests.support.databases import database_line
from tests.support.services import open_service, people, sync

USAGE = Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A service in which two people have asked, one of them for too much."""
    (tmp_path / "mainstay.yaml").write_text(f"name: Kept\n{database_line()}", encoding="utf-8")
    database = open_database(address_of(load(tmp_path, {})))
    clock = SystemClock()
    try:
        for n, (user, actual_n) in enumerate((("alice", 1_500_000), ("bob", 9_000_000), ("alice", 1))):
            payer = Payer(request_id=f"req_{n}", principal=f"user:{user}", release="rel_1")
            purse = Purse(SqlLedger(database, clock), payer, Agreement(), 5_000_000, clock, clock.monotonic() + 9)
            purse.settle(purse.hold(1, 5_000_000, "answer", "small", "p1"), actual_n=actual_n, usage=USAGE)
    finally:
        database.close()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["-C", str(folder), "costs", *arguments])
    captured = capsys.readouterr()
    assert (ended.value.code or 0) == code, captured.err
    return captured.out if code == 0 else captured.err


def test_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, folder, "--by", "user").splitlines()
    assert lines[0].split()[:2] == ["user", "requests"]
    assert lines[1].split() == ["user:bob", "1", "0", "1", "1000", "400", "50", "0.009000", "-"]
    assert lines[2].split() == ["user:alice", "2", "0", "2", "2000", "800", "100", "0.001501", "-"]
    assert lines[3] == "calls cost more than was held for them: 1"


def test_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(said(capsys, folder, "--by", "model", "--json"))
    (row,) = shown["rows"]
    assert (row["name"], row["cost_nanodollars"], row["cost_usd"], row["breaches"]) == (
        "small",
        10_500_001,
        "0.010501",
        1,
    )
    assert (row["input_tokens"], row["cached_input_tokens"], row["cost_per_answer_usd"]) == (3000, 1200, None)


def test_for_spreadsheets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, folder, "--csv", "--by", "user"))))
    assert [(row["user"], row["cost_usd"]) for row in rows] == [("user:bob", "0.009000"), ("user:alice", "0.001501")]


def test_only_of_the_time_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tomorrow = (SystemClock().now() + timedelta(days=1)).date().isoformat()
    nothing = "no model was called in this time\n"
    assert said(capsys, folder, "--since", tomorrow) == nothing
    assert said(capsys, folder, "--since", "2020-01-01", "--until", "2021-01-01") == nothing
    assert said(capsys, folder, "--since", "2h", "--until", tomorrow) != nothing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "soon"], "not a length of time"),
        (["--since", "99999999d"], "longer ago"),
        (["--until", "2026-13-01"], "not a length of time"),
        (["--by", "moon"], "moon"),
        (["--csv", "--json"], "do not go together"),
    ],
)
def test_what_is_not_understood(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in said(capsys, folder, *arguments, code=2)


EMBEDDED = """\
sources: [{name: docs, folder: documents}]
models:
  answer: writer
  embedder: vectors
  providers:
    writer: {base_url: "%(url)s", model: scripted, price: {input: "0.5", output: "0.5"}}
    vectors: {base_url: "%(url)s", model: v, dims: 8, price: {input: "0.1", output: "0"}}
"""


def test_what_no_question_asked_for_has_a_name_and_all_sums_are_the_total(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers, vectors of questions and documents, and the cache's audits, by every axis."""
    documents = {"travel.md": "# Travel\n\nThe daily travel allowance is 52 euros for every employee.\n"}
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/.access.yaml").write_text("allow: [group:staff]")
    (tmp_path / "agreement.yaml").write_text("cache: {audit: 1.0}\n")
    with (
        up.Upstream(always=up.answering(up.cites)) as server,
        open_service(tmp_path, documents, settings=EMBEDDED % {"url": server.base_url}) as app,
    ):
        people(app, {"alice": ("staff",)})
        sync(app)
        alice = app.identity.actor_for("user:alice")
        asked = Question(text="What is the daily travel allowance?")
        answers = [app.answering.answer(asked, alice) for _ in range(2)]
        assert [answer.cache_hit for answer in answers] == [False, True], answers
        for _ in range(1000):  # the audit is done beside, later
            by_purpose = {row.name: row for row in app.ledger.report(by="purpose")}
            if "audit" in by_purpose and not by_purpose["audit"].held_n:
                break
            time.sleep(0.01)
        assert set(by_purpose) == {"answer", "embed", "audit"}
        assert all(row.cost_n > 0 for row in by_purpose.values())
        by_outcome = {row.name: row for row in app.ledger.report(by="outcome")}
        assert set(by_outcome) == {"answered", "audit", "service"}
        assert by_outcome["audit"].cost_n == by_purpose["audit"].cost_n
        assert by_outcome["answered"].cost_n == sum(answer.cost_nanodollars for answer in answers)
        assert by_outcome["answered"].answered == 2
    totals = set()
    for axis in AXES:
        rows = json.loads(said(capsys, tmp_path, "--by", axis, "--json"))["rows"]
        totals.add((axis, sum(row["cost_nanodollars"] for row in rows), sum(row["calls"] for row in rows)))
    assert len({(cost, calls) for _, cost, calls in totals}) == 1, totals
