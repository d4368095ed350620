"""A real organisation: EnterpriseBench with departments as groups, asked by employees of three departments."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.app import App
from mainstay.people_file import import_people
from mainstay.settings import load, parse_rules
from tests.support.services import search, static_embedder

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MAINSTAY_DATA", ROOT.parent / "shared" / "data")) / "enterprisebench"
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("enterprisebench"),  # the company is read once
    pytest.mark.skipif(not DATA.is_dir(), reason="EnterpriseBench is not here"),
    pytest.mark.timeout(1200),
]
ENGINEER, HR, IT, SALES = "emp_0431", "emp_0502", "emp_0808", "emp_0890"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("company")
    (folder / "mainstay.yaml").write_text("name: EnterpriseBench\n")
    script = ROOT / "examples/enterprisebench/people.py"
    made = subprocess.run([sys.executable, str(script), str(DATA)], capture_output=True, check=True).stdout
    (folder / "people.yaml").write_bytes(made)
    with App(load(folder, {}), embedders={"static": static_embedder()}) as app:
        import_people(app.people, folder / "people.yaml")
        rules = parse_rules(ROOT / "examples/enterprisebench/rules.yaml")
        report = app.synchronise(app.remember_source(replace(rules, name="company", folder=str(DATA))))
        assert report.added > 5000
        assert not report.problems
        app.embed_waiting()
        yield app


QUESTIONS = [
    # question, who finds it and where, who finds nothing of it
    ("What does the code of conduct say about conflicts of interest?", (ENGINEER, HR, SALES), "policies/", ()),
    ("How is sick leave handled in the leave policy?", (ENGINEER, HR, SALES), "policies/", ()),
    ("What are the rules for password security?", (ENGINEER, HR, SALES), "policies/", ()),
    ("VPN connectivity issue of Ethan Reynolds in Business Development", (IT,), "it_tickets.jsonl#", (HR, SALES)),
    ("Which skills does Raj Patel have?", (HR,), "employees.json#", (SALES,)),
    ("Resume of an HR leader with experience in talent management", (HR,), "resume_information.jsonl.gz#", ()),
    ("purchase order of customer arout", (SALES,), "orders/", (ENGINEER, HR)),
    (
        "customer chat about oil pastels that break easily",
        (SALES,),
        "crm/customer_support_chats.jsonl.gz#",
        (ENGINEER, HR),
    ),
    ("post about data driven strategic growth", (ENGINEER, HR, SALES), "posts.jsonl.gz#", ()),
    ("bluetooth calling smartwatch", (ENGINEER, HR, SALES), "crm/products.jsonl.gz#", ()),
]


@pytest.mark.parametrize(("question", "finders", "where", "others"), QUESTIONS, ids=[row[0][:40] for row in QUESTIONS])
def test_ten_questions(
    question: str, finders: tuple[str, ...], where: str, others: tuple[str, ...], company: App
) -> None:
    for user in finders:
        assert any(passage.uri.startswith(where) for passage in search(company, question, user)), (user, where)
        answer = company.answer_as(question, user)
        assert answer.citations, (user, answer.text)
    for user in others:
        assert not any(passage.uri.startswith(where) for passage in search(company, question, user)), (user, where)


def test_every_found_passage_is_permitted_by_the_rules(company: App) -> None:
    staff = {person["emp_id"]: person for person in json.loads((DATA / "employees.json").read_text(encoding="utf-8"))}
    with gzip.open(DATA / "resume_information.jsonl.gz", "rt", encoding="utf-8") as lines:
        owners = {row["resume_id"]: row["emp_id"] for row in map(json.loads, lines)}
    for user in (ENGINEER, HR, IT, SALES):
        department = staff[user]["category"]
        for words in (
            "salary performance rating",
            "invoice total amount",
            "laptop issue resolution",
            "client revenue contract",
            "cv experience",
        ):
            for passage in search(company, words, user, top_k=20):
                source = passage.uri.partition("#")[0]
                if source.startswith("orders/"):
                    assert department in ("Sales", "Finance")
                if source.startswith("cvs/"):
                    assert department == "HR"
                if source == "resume_information.jsonl.gz":  # HR, and each their own
                    assert department == "HR" or owners[passage.uri.partition("#")[2]] == user
                if source == "employees.json":
                    record = staff[passage.uri.partition("#")[2]]
                    assert department == "HR" or user in (record["emp_id"], record["reports_to"])
