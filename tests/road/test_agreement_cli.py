"""``mainstay agreement`` and ``mainstay check``: what is written, refused, approved, changed and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from mainstay.agreement.versions import digest
from mainstay.app import App, open_app
from mainstay.cli import main
from mainstay.errors import Invalid
from mainstay.records.measures import Measured
from mainstay.settings import load
from tests.support.databases import database_line

MODELS = """\
name: Test service
models:
  answer: writer
  providers:
    writer: {base_url: "http://127.0.0.1:9/v1", model: m, price: {input: "0.5", output: "1.5"}}
"""
AGREEMENT = """\
request: {cap_usd: "0.01"}  # the board's
objectives:
  - {name: latency, measure: latency_p95_ms, target: 1000}
  - name: up
    measure: availability
    target: 0.9

# what follows stays
budgets:
  - {of: service, per: month, usd: "10"}
"""


def run(folder: Path, *args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(folder), *args])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mainstay.yaml").write_text(MODELS + database_line())
    (tmp_path / "agreement.yaml").write_text(AGREEMENT)
    return tmp_path


# agreement.yaml, the line that is blamed, what the message must say
WRONG: list[tuple[str, int, str]] = [
    ('request:\n  cap_usd: "0.0001"\n', 2, "smallest call of the cheapest model, writer"),
    ('modes:\n  rungs:\n    - {mode: economy, models: [small]}\n', 3, "names the model 'small', which is not set up"),
    (
        "cache: {enabled: false}\nobjectives:\n  - name: a\n    measure: wrong_cache_rate\n    target: 0.05\n",
        4,
        "nobody measures",
    ),
    ("objectives:\n  - {name: a, measure: latency_p95_ms, target: 40000}\n", 2, "can never be missed"),
    ("objectives:\n  - {name: a, measure: availability, target: 99}\n", 2, "write 0.99 for 99 %"),
    (
        "objectives:\n  - {name: a, measure: error_rate, target: 0}\n  - {name: a, measure: error_rate, target: 0.1}\n",
        3,
        "two objectives are named 'a'",
    ),
    ("objectives:\n  - {name: a, measure: error_rate, target: 0.1, door: window}\n", 2, "a door named 'window'"),
    ('budgets:\n  - of: user\n    per: day\n    usd: "0.001"\n', 4, "does not pay for a single request"),
    ('budgets:\n  - {of: user, per: day, usd: "1", enter_mode: economy}\n', 2, "economy still costs money"),
    ("traffic:\n  service_per_minute: 60\n", 2, "less than one user alone"),
    ("governance:\n  languages: [de, german]\n", 2, "'german' is no language code"),
    ("governance:\n  person_for:\n    - {name: grief, words: [grief]}\n", 3, "go to a person, but nobody is told"),
    ("governance:\n  data_classes:\n    - {name: secret, models: [gpt]}\n", 3, "the data class 'secret' names the model 'gpt'"),
    ("governance:\n  retention_days: 3\ncache:\n  keep: 7d\n", 4, "longer than the retention of 3 days"),
    ("routing:\n  escalations: 3\n", 2, "3 escalations need 4 models"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_a_wrong_agreement_is_refused_with_its_line(
    text: str, line: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "agreement.yaml").write_text(text)
    code, _, err = run(folder, "check", capsys=capsys)
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert f"agreement.yaml:{line}: " in err, err
    assert said in err
    assert "Traceback" not in err
    with pytest.raises(Invalid, match=r"agreement\.yaml:"):
        load(folder, {})
    code, _, err = run(folder, "search", "anything", capsys=capsys)
    assert code == 2
    assert said in err
    assert not (folder / "data").exists()


def test_all_contradictions_are_listed_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "agreement.yaml").write_text("".join(text for text, _, _ in (WRONG[0], WRONG[1], WRONG[9])))
    code, _, err = run(folder, "check", capsys=capsys)
    assert code == 1
    assert len(err.splitlines()) == 3
    code, _, err = run(folder, "search", "anything", capsys=capsys)
    assert code == 2
    assert "(and 2 more" in err


def test_a_fresh_service_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "init", str(tmp_path / "fresh"), capsys=capsys)[0] == 0
    code, out, err = run(tmp_path / "fresh", "check", capsys=capsys)
    assert code == 0, err
    assert "are right" in out
    held = load(tmp_path / "fresh", {}).agreement
    assert replace(held, objectives=()) == type(held)(), "what it shows are the defaults"
    assert len(held.objectives) == 2


def test_approve_change_explain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(folder, "agreement", "show", capsys=capsys)
    assert code == 0
    assert "latency (95 % of the answers come within 1 s, over 28 days)" in out
    assert "approved by nobody yet" in out
    approve = ("agreement", "approve", "--as", "Ada Lovelace", "--role", "head of service", "--note", "3 March")
    code, out, _ = run(folder, *approve, "--json", capsys=capsys)
    assert code == 0
    first = json.loads(out)["digest"]
    code, out, _ = run(folder, "agreement", "diff", capsys=capsys)
    assert out == "nothing changed\n"
    file = folder / "agreement.yaml"
    (folder / "old.yaml").write_text(AGREEMENT)
    file.write_text(AGREEMENT.replace("0.01", "0.05").replace("target: 1000", "target: 800") + "traffic: {queue: 65}\n")
    told = [
        "- The most one request may cost rises from $0.01 to $0.05.",
        "+ Objective latency: the target falls from 1 s to 800 ms.",
        "- Requests that may wait in one process rises from 64 to 65.",
    ]
    for against in ((), (first,), (first[:9],), (str(folder / "old.yaml"),), (str(folder / "old.yaml"), str(file))):
        code, out, _ = run(folder, "agreement", "diff", *against, capsys=capsys)
        assert code == 0
        assert out.splitlines() == told, against
    code, out, _ = run(folder, "agreement", "diff", "--json", capsys=capsys)
    assert [change["effect"] for change in json.loads(out)["changes"]] == ["loosens", "tightens", "loosens"]
    code, out, _ = run(folder, "agreement", "show", "--json", capsys=capsys)
    shown = json.loads(out)
    assert shown["digest"] != first
    assert shown["approvals"] == []
    assert [version["digest"] for version in shown["versions"]] == [first]
    file.write_text(AGREEMENT + "# nothing but a comment\n")
    code, out, _ = run(folder, "agreement", "show", capsys=capsys)
    assert "approved by Ada Lovelace, head of service" in out
    assert "3 March" in out


def test_a_service_that_starts_remembers_its_version(folder: Path) -> None:
    with open_app(folder) as app:
        assert not app.agreements.versions()
        app.start()
        assert [version.digest for version in app.agreements.versions()] == [digest(app.settings.agreement)]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["approve", "--as", "Ada"], 2, "--role"),
        (["approve", "--as", " ", "--role", "x"], 2, "the name is empty"),
        (["approve", "--as", "Ada\x1b[2J", "--role", "x"], 2, "printed"),
        (["diff", "agr_ffff"], 1, "agr_ffff"),
        (["diff", "no-such.yaml"], 2, "no-such.yaml"),
        (["status", "--since", "soon"], 2, "'soon'"),
        (["status", "--since", "9999999d"], 2, "ten years"),
        (["import", "no-such.yaml"], 2, "no-such.yaml"),
    ],
)
def test_bad_input(args: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got, _, err = run(folder, "agreement", *args, capsys=capsys)
    assert (got, said in err) == (code, True), err


def measured(app: App, count: int, **values: object) -> None:
    row = Measured(
        request_id="", at=app.clock.now() - timedelta(minutes=1), status="answered", total_ms=100.0, covered=1.0
    )
    for n in range(count):
        app.measures.keep(replace(row, request_id=f"{sorted(values)}-{n}", **values))  # type: ignore[arg-type]  # tests name fields


def test_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(folder, "agreement", "status", "--check", capsys=capsys)
    assert code == 0
    assert "nothing measured" in out
    with open_app(folder) as app:
        measured(app, 80)
        measured(app, 20, failed=True)
    code, out, _ = run(folder, "agreement", "status", capsys=capsys)
    assert code == 0
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "80.00 %" in lines["MISSED"]
    assert "at least 90 %" in lines["MISSED"]
    assert "spent" in lines["MISSED"]
    assert "2.0 2.0 2.0" in lines["MISSED"]
    assert run(folder, "agreement", "status", "--check", capsys=capsys)[0] == 1
    code, out, _ = run(folder, "agreement", "status", "--json", capsys=capsys)
    clauses = {clause["clause"]: clause for clause in json.loads(out)["clauses"]}
    assert clauses["objectives.latency"]["state"] == "met"
    assert clauses["objectives.up"]["budget_left"] == pytest.approx(-1)
    assert clauses["objectives.up"]["low"] < 0.8 < clauses["objectives.up"]["high"]
    assert clauses["budgets.the service a month"]["budget_left"] == 1
    code, out, _ = run(folder, "agreement", "status", "--since", "30s", capsys=capsys)
    assert "MISSED" not in out


def test_openslo_out_and_in(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(folder, "agreement", "export", "--openslo", capsys=capsys)
    assert code == 0
    assert "left out: budgets" in err
    documents = list(yaml.safe_load_all(out))
    assert [one["kind"] for one in documents] == ["Service", "SLI", "SLO", "SLI", "SLO"]
    file = tmp_path / "slo.yaml"
    file.write_text(out.replace("value: 1000.0", "value: 700.0").replace("28d", "4w"))
    code, out, err = run(folder, "agreement", "import", str(file), capsys=capsys)
    assert code == 0
    assert yaml.safe_load(out)["objectives"][0] == {
        "name": "latency",
        "measure": "latency_p95_ms",
        "target": 700,
        "window": "28d",
    }
    before = (folder / "agreement.yaml").read_text()
    code, out, err = run(folder, "agreement", "import", str(file), "--write", capsys=capsys)
    assert code == 0, err
    after = (folder / "agreement.yaml").read_text()
    assert after.startswith(before.splitlines()[0])
    assert "\n\n# what follows stays\nbudgets:\n" in after
    assert load(folder, {}).agreement.objectives[0].target == 700
    (folder / "old.yaml").write_text(before)
    code, out, _ = run(folder, "agreement", "diff", str(folder / "old.yaml"), capsys=capsys)
    assert out == "+ Objective latency: the target falls from 1 s to 700 ms.\n"


def test_nothing_is_written_that_contradicts_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "slo.yaml"
    code, out, _ = run(folder, "agreement", "export", capsys=capsys)
    file.write_text(out.replace("value: 1000.0", "value: 90000.0"))
    before = (folder / "agreement.yaml").read_text()
    code, _, err = run(folder, "agreement", "import", str(file), "--write", capsys=capsys)
    assert code == 1
    assert "never be missed" in err
    assert (folder / "agreement.yaml").read_text() == before
    assert not list(folder.glob(".*.new"))
    (folder / "agreement.yaml").write_text("{request: {deadline_s: 20}}\n")
    code, _, err = run(folder, "agreement", "import", str(file), "--write", capsys=capsys)
    assert code == 2
    assert "braces" in err


def test_a_file_without_openslo_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "other.yaml"
    for text, code, said in (
        ("kind: Deployment\n", 2, "no OpenSLO"),
        ("a: [\n", 2, "not YAML"),
        ("apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: x}\nspec: {}\n", 1, "no objective could be read"),
    ):
        file.write_text(text)
        got, _, err = run(folder, "agreement", "import", str(file), capsys=capsys)
        assert (got, said in err) == (code, True), err
