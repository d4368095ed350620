"""``mainstay agreement`` and ``mainstay check``: what is written, refused, approved, changed and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml

from mainstay.access.acl import PRIVATE
from mainstay.agreement import Agreement
from mainstay.agreement.versions import digest
from mainstay.app import App, open_app
from mainstay.cli import main
from mainstay.corpus.sources import read_access_file
from mainstay.errors import Invalid
from mainstay.records.measures import Measured
from mainstay.settings import ServiceFile, load
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


TWO = "objectives:\n  - {name: a, measure: latency_p95_ms, target: 4000}\n  - name: b\n    measure: "
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
    ("modes:\n  rungs:\n    - mode: static\n      notice:\n        en: 'Until {until}.'\n", 5, "{until} is nothing that is"),
    ("governance:\n  disclosure:\n    de: '{name} spricht.'\n", 3, "{name} is nothing that is filled in"),
    ("governance:\n  languages:\n    - de\n    - en\n    - de\n", 5, "the language de stands there twice"),
    (
        f"{TWO}latency_p50_ms\n    target: 5000\n",
        5,
        "latency_p50_ms of 5 s is above latency_p95_ms of 4 s ('a')",
    ),
    (
        f"{TWO}first_token_p95_ms\n    target: 5000\n",
        5,
        "an answer begins before it ends",
    ),
    (
        f"{TWO}latency_p95_ms\n    target: 5000\n    window: 672h\n",
        4,
        "'b' and 'a' both promise latency_p95_ms",
    ),
    ("traffic:\n  spike: step_down\nmodes:\n  rungs: [{mode: static}]\n", 2, "straight to static"),
    ("traffic:\n  spike: step_down\nmodes:\n  rungs: []\n", 2, "step_down leads nowhere"),
    (
        'budgets:\n  - {of: service, per: month, usd: "10"}\n  - of: user\n    per: day\n    usd: "20"\n',
        5,
        "the service a month has only $10",
    ),
    ("handover:\n  webhook: https://desk.example.org/x\n", 2, "handover.secret is missing in mainstay.yaml"),
    ("handover:\n  webhook: https://desk.example.org/x#y\n", 2, "no address of http(s)"),
    ("handover:\n  email: [help@example.org]\n", 2, "smtp.host or smtp.sender is missing in mainstay.yaml"),
    ("cache:\n  keep: 99999999d\n", 2, "answers would be kept for 99999999 days"),
    ("modes:\n  hold_down: 999d\n", 2, "a mode would stay for 999 days"),
    ("governance:\n  retention_days: 999999999\n", 2, "more than a hundred years"),
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


# agreement.yaml, the line that is blamed, what the message must say: what is written wrongly
UNREADABLE: list[tuple[str, int, str]] = [
    ("governance:\n  languages:\n    - en\n    - no\n", 4, 'put the word in quotes, like "no"'),
    ("governance:\n  languages: no\n", 2, "should be a list, not 'False'; write [\"no\"]"),
    ("governance:\n  languages: de\n", 2, 'write ["de"]'),
    ("handover:\n  promise:\n    en: yes\n", 3, 'put the word in quotes, like "yes"'),
    ("request:\n  cap_usd: 0.01\n", 2, 'put it in quotes: "0.01"'),
    ('request:\n  cap_usd: "0.0000000001"\n', 2, "finer than a billionth"),
    ("objectives:\n  - name: a\n    measure: latency_p95\n    target: 5\n", 3, "did you mean 'latency_p95_ms'?"),
    ("request:\n  deadline_s: 30s\n", 2, "without a unit"),
    ("modes:\n  hold_down: 60\n", 2, "write it like 60s, 10m"),
    ("modes:\n  rungs:\n    - mode: static\n    - mode: econmy\n", 4, "did you mean 'economy'?"),
    ("budgets:\n  of: user\n", 1, "should be a list"),
    ("traffic:\n", 1, "leave it out, or write keys under it"),
    (
        'budgets:\n  - {of: user, per: day, usd: "1"}\n  - of: user\n    per: month\n    usd: abc\n',
        5,
        "budgets.usd is 'abc', not an amount",
    ),
    ("routing:\n  accept: 0.5\n  hedge_share: 0.5\n", 3, "routing.hedge_share is 0.5, it must be 0 to 0.2"),
    ("cache:\n  audit: 0\n  wrong_hits: 1.5\n", 3, "cache.wrong_hits is 1.5"),
]


@pytest.mark.parametrize(("text", "line", "said"), UNREADABLE)
def test_what_is_written_wrongly_is_refused_with_its_line(
    text: str, line: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "agreement.yaml").write_text(text)
    code, _, err = run(folder, "check", capsys=capsys)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert f"agreement.yaml:{line}: " in err, err
    assert said in err


def places(shape: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type, str, Any]]:
    """Each key that a file may hold: the way there (``-`` is a row, ``x`` a name of the file's own), its owner, name, type."""
    for name, hint in get_type_hints(shape).items():
        yield path, shape, name, hint
        rows = get_origin(hint) is tuple
        for inner in [hint, *get_args(hint)]:
            if is_dataclass(inner):
                named = ("x",) if get_origin(hint) is dict else ()
                yield from places(inner, (*path, name, *(("-",) if rows else named)))


def written(path: tuple[str, ...], key: str, value: str) -> tuple[str, int]:
    """A file with this one key on its way, each on a line of its own; and the line of the key."""
    lines, indent = [], ""
    dash = ""
    for part in (*path, f"{key}: {value}"):
        if part == "-":
            dash = "- "
            continue
        lines.append(f"{indent}{dash}{part}" + ("" if ": " in part else ":"))
        indent += " " * (2 + len(dash))
        dash = ""
    return "\n".join(lines) + "\n", len(lines)


@pytest.mark.parametrize(("name", "shape"), [("agreement.yaml", Agreement), ("mainstay.yaml", ServiceFile)])
def test_each_misspelt_key_is_told_with_its_line_and_the_nearest(
    name: str, shape: type, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = 0
    for path, owner, key, _ in places(shape):
        typo = f"{key}x"
        if typo in get_type_hints(owner):
            continue
        text, line = written(path, typo, "1")
        (folder / name).write_text(text)
        code, _, err = run(folder, "check", capsys=capsys)
        assert code == 2, (text, err)
        assert f"{name}:{line}: unknown key " in err, (text, err)
        assert f"did you mean '{key}'?" in err, (text, err)
        tried += 1
    assert tried > 50, tried


@pytest.mark.parametrize(("name", "shape"), [("agreement.yaml", Agreement), ("mainstay.yaml", ServiceFile)])
@pytest.mark.parametrize("word", ["true", "false"])
def test_a_truth_value_is_no_number(
    name: str, shape: type, word: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = 0
    for path, _, key, hint in places(shape):
        wanted = get_args(hint) or (hint,)
        if bool in wanted or not {int, float} & set(wanted):
            continue
        text, line = written(path, key, word)
        (folder / name).write_text(text)
        code, _, err = run(folder, "check", capsys=capsys)
        assert code == 2, (text, err)
        assert f"{name}:{line}: " in err, (text, err)
        assert f"{key} is a truth value, not a number" in err, (text, err)
        tried += 1
    assert tried >= 15, tried


def test_settings_are_refused_with_their_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, line, said in (
        ("smtp:\n  host: h\n  sender: Help <help@>\n", 3, "smtp.sender"),
        ("smtp:\n  host: h\n  port: 99999\n", 3, "smtp.port"),
        ("handover:\n  secret: short\n", 2, "handover.secret"),
        ("worker:\n  lease_s: .nan\n", 2, "worker.lease_s"),
        ("sources:\n  - name: a\n    folder: b\n    access:\n      alow: [x]\n", 4, "unknown key 'alow'"),
        ("models:\n  providers:\n    w:\n      base_url: x\n      model: m\n      idle_s: 0\n", 6, "idle_s is 0"),
    ):
        (folder / "mainstay.yaml").write_text(text)
        code, _, err = run(folder, "check", capsys=capsys)
        assert code == 2, err
        assert f"mainstay.yaml:{line}: {said}" in err.replace("models.providers.", ""), err


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
    hint = tmp_path / "fresh" / "documents" / ".access.yaml.example"
    assert all(line.startswith("#") for line in hint.read_text().splitlines())
    assert read_access_file(hint) == PRIVATE, "as it is, and copied as it is, it opens nothing"
    uncommented = tmp_path / "rule.yaml"
    uncommented.write_text(hint.read_text().replace("# allow: [group:staff", "allow: [group:staff"))
    assert read_access_file(uncommented).allow


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
