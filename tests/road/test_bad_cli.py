"""Bad input at the command line and in the service folder: one actionable line, the right exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mainstay.cli import main
from tests.support.services import open_service, people, search, sync, write

DOCUMENTS = {
    ".access.yaml": "allow: [group:staff]",
    "travel.md": "# Travel\n\nThe daily travel allowance is 52 euros for every employee.\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    with open_service(folder, DOCUMENTS) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
    return folder


def run(folder: Path, *args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(folder), *args])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), out, err


# command, exit code, what the message must name
COMMANDS: list[tuple[list[str], int, str]] = [
    (["aks", "x"], 2, "ask"),
    (["ask"], 2, "QUESTION"),
    (["ask", ""], 2, "empty"),
    (["ask", "   \n "], 2, "empty"),
    (["ask", "\u200b\u200b\U000e0041"], 2, "empty"),
    (["ask", "x" * 5000], 2, "4000"),
    (["ask", "what", "--as", "nobody"], 1, "users list"),
    (["ask", "what", "--as", "group:staff"], 1, "--as"),
    (["ask", "what", "--as", "alice\x00"], 2, ""),
    (["ask", "what", "--filter", "year"], 2, "key=value"),
    (["ask", "what", "--filter", "=2024"], 2, "key=value"),
    (["ask", "what", "--nonsense"], 2, "--nonsense"),
    (["search", "x" * 9000], 2, "4000"),
    (["search", "words", "--top", "0"], 2, "top"),
    (["search", "words", "--top", "many"], 2, "many"),
    (["ingest"], 2, "PATHS"),
    (["ingest", "/no/such/folder"], 2, "/no/such/folder"),
    (["ingest", "/dev/null", "--source", "../evil"], 2, "source"),
    (["ingest", "/etc/hostname", "--source", "docs"], 1, "mainstay.yaml"),
    (["ingest", "/etc/hostname", "--access", "staff"], 2, "staff"),
    (["ingest", "/etc/hostname", "--access", "group:"], 2, "group"),
    (["ingest", "/etc/hostname", "/etc/hosts", "--source", "one"], 2, "one by one"),
    (["sync", "no-such-source"], 1, "docs"),
    (["documents", "show", "../../etc/passwd"], 1, "no such document"),
    (["documents", "show", "doc_aaaaaaaaaaaaaaaaaaaaaaaa"], 1, "no such document"),
    (["documents", "remove", "nothing.md"], 1, "no such document"),
    (["documents", "access", "travel.md", "--set", "public"], 1, "mainstay sync"),
    (["trace", "show", "req_nothing"], 1, "req_nothing"),
    (["users", "add", ""], 2, ""),
    (["users", "add", "a b\nc"], 2, ""),
    (["users", "add", "alice"], 1, "alice"),
    (["users", "remove", "nobody"], 1, "nobody"),
    (["users", "join", "nobody", "staff"], 1, "nobody"),
    (["users", "leave", "alice", "nogroup"], 1, "nogroup"),
    (["users", "import", "/etc/hostname"], 2, "/etc/hostname"),
    (["users", "import", "/no/such/file"], 2, "/no/such/file"),
    (["keys", "create", "nobody"], 1, "nobody"),
    (["keys", "create", "alice", "--scope", "everything"], 2, "everything"),
    (["keys", "create", "alice", "--scope", "admin"], 2, "admin"),
    (["keys", "create", "alice", "--expires", "-1"], 2, "expires"),
    (["keys", "create", "alice", "--expires", "1e9"], 2, "ten years"),
    (["keys", "create", "alice", "--expires", "nan"], 2, ""),
    (["keys", "revoke", "key_nothing"], 1, "key_nothing"),
    (["models", "add", "gpt"], 2, "minilm"),
    (["models", "add", "minilm", "--wheel", "/etc/hostname"], 2, ""),
    (["serve", "--port", "70000"], 2, "70000"),
    (["init", "."], 1, "mainstay.yaml"),
]


@pytest.mark.parametrize(("args", "code", "named"), COMMANDS, ids=[" ".join(args)[:40] for args, _, _ in COMMANDS])
def test_a_wrong_command(
    args: list[str],
    code: int,
    named: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    exit_code, out, err = run(folder, *args, capsys=capsys)
    assert exit_code == code, err
    assert "Traceback" not in err
    assert named in err
    said = [line for line in err.splitlines() if line.strip() and not line.startswith(("Usage:", "Try "))]
    assert 1 <= len(said) <= 2, err
    assert not out
    with open_service(folder) as app:  # nothing is lost
        assert search(app, "travel allowance", "alice")[0].uri == "travel.md"


# the file's name, its text, the line of the mistake, what the message must name
FILES: list[tuple[str, str | bytes, int | None, str]] = [
    ("mainstay.yaml", "name: x\nsourcs: []\n", 2, "sources"),
    ("mainstay.yaml", "listen:\n  prot: 80\n", 2, "port"),
    ("mainstay.yaml", "listen:\n  port: eighty\n", 2, "listen.port"),
    ("mainstay.yaml", "listen:\n  port: 99999\n", 2, "65535"),
    ("mainstay.yaml", "name: [a, b]\n", 1, "name"),
    ("mainstay.yaml", "- a\n- b\n", None, ""),
    ("mainstay.yaml", "just text", 1, "key"),
    ("agreement.yaml", "just text", 1, "key"),
    ("mainstay.yaml", "name: a\nname: b\n", 2, "second time"),
    ("mainstay.yaml", "name: 'x\n", None, "YAML"),
    ("mainstay.yaml", "name: x\n\tdata: y\n", 2, "YAML"),
    ("mainstay.yaml", "a: &a [*a]\n", None, ""),
    ("mainstay.yaml", "name: !!python/object/apply:os.system ['true']\n", 1, ""),
    ("mainstay.yaml", b"name: \xff\xfe\n", None, "UTF-8"),
    ("mainstay.yaml", "name: ${NO_SUCH_VARIABLE}\n", 1, "NO_SUCH_VARIABLE"),
    ("mainstay.yaml", "models:\n  answer: gpt\n", 2, "gpt"),
    ("mainstay.yaml", "models:\n  embedder: minilmm\n", 2, "minilm"),
    ("mainstay.yaml", "models:\n  providers:\n    p: {base_url: http://127.0.0.1/v1}\n", 3, "model"),
    ("mainstay.yaml", "identity:\n  anonymous: maybe\n", 2, "anonymous"),
    ("mainstay.yaml", "identity:\n  oidc: {issuer: 'http://x.example', audience: a}\n", None, ""),
    ("mainstay.yaml", "identity:\n  oidc: {issuer: 'https://x.example', audience: a, algorithms: [none]}\n", None, ""),
    ("mainstay.yaml", "sources:\n  - {name: a, folder: x}\n  - {name: a, folder: y}\n", None, "two sources"),
    ("mainstay.yaml", "sources:\n  - {name: api, folder: x}\n", None, "api"),
    ("mainstay.yaml", "sources:\n  - {name: a}\n", 2, "folder"),
    ("mainstay.yaml", "search:\n  weight: 7\n", 2, "weight"),
    ("mainstay.yaml", "limits:\n  document_mb: 0\n", 2, "document_mb"),
    ("mainstay.yaml", "[" * 5000, None, ""),
    ("agreement.yaml", "request:\n  cap_usd: free\n", 2, "free"),
    ("agreement.yaml", "request:\n  cap_usd: '-1'\n", None, "-1"),
    ("agreement.yaml", "request:\n  deadline_s: 0\n", 2, "deadline_s"),
    ("agreement.yaml", "citations:\n  unsuported: drop\n", 2, "unsupported"),
    ("agreement.yaml", "citations:\n  unsupported: hide\n", None, "drop"),
    ("prompts/answer.md", "---\nid: answer\n---\n{{ nonsense }}\n", None, "answer.md"),
    ("prompts/answer.md", "no front matter", None, "answer.md"),
    ("prompts/answer.md", b"\x00\xff", None, "answer.md"),
]


@pytest.mark.parametrize(
    ("name", "text", "line", "named"), FILES, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(FILES)]
)
def test_a_wrong_file(
    name: str, text: str | bytes, line: int | None, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"mainstay.yaml": "name: x\n"})
    write(tmp_path, {name: text})
    exit_code, _, err = run(tmp_path, "check", capsys=capsys)
    assert exit_code == 2, err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert name.rpartition("/")[2] in err
    assert named in err
    if line is not None:
        assert f":{line}:" in err, err
    assert not (tmp_path / "data").exists()


DATABASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("text", lambda path: path.write_text("this is not a database, it is a letter to my aunt " * 50), "backup"),
    ("cut", lambda path: path.write_bytes(path.read_bytes()[:5000]), ""),
    ("a folder", lambda path: (path.unlink(), path.mkdir()), ""),
]


@pytest.mark.parametrize(("what", "spoil", "named"), DATABASES, ids=[what for what, _, _ in DATABASES])
def test_a_spoilt_database(
    what: str, spoil: Callable[[Path], object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_service(tmp_path, DOCUMENTS, dialect="sqlite") as app:
        sync(app)
    for rest in (tmp_path / "data").glob("mainstay.db-*"):
        rest.unlink()
    spoil(tmp_path / "data/mainstay.db")
    code, _, err = run(tmp_path, "ask", "travel allowance", capsys=capsys)
    assert code in (2, 3), err
    assert "Traceback" not in err
    assert "mainstay.db" in err
    assert named in err


def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_service(tmp_path) as app, app.database.write() as connection:
        connection.exec_driver_sql("UPDATE schema_revision SET number = 999")
    code, _, err = run(tmp_path, "ask", "travel", capsys=capsys)
    assert code == 2
    assert "newer" in err
    assert "upgrade" in err
