"""Roles on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstay.cli import main
from mainstay.errors import Unauthenticated
from mainstay.people_file import import_people
from tests.road.conftest import Service, build


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    built = build(tmp_path_factory.mktemp("roles") / "service")
    with built.app:
        yield built


def run(service: Service, *args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(service.folder), *args])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def listed(service: Service, name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    rows = json.loads(run(service, "users", "list", "--json", capsys=capsys)[1])
    return next(row for row in rows if row["name"] == f"user:{name}")


def test_roles_are_given_and_taken(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(service, "users", "add", "olga", "--role", "operator", capsys=capsys)[0] == 0
    assert (listed(service, "olga", capsys)["role"], listed(service, "olga", capsys)["admin"]) == ("operator", False)
    assert run(service, "users", "role", "olga", "admin", capsys=capsys)[1] == "user:olga is admin\n"
    assert listed(service, "olga", capsys)["admin"] is True
    assert run(service, "users", "role", "olga", "viewer", capsys=capsys)[0] == 0
    assert listed(service, "olga", capsys)["role"] == "viewer"
    run(service, "users", "add", "ada", "--admin", capsys=capsys)
    assert listed(service, "ada", capsys)["role"] == "admin"
    assert run(service, "users", "role", "olga", "boss", capsys=capsys)[0] == 2
    assert run(service, "users", "role", "nobody", "viewer", capsys=capsys)[0] == 1
    assert run(service, "users", "role", "service:crawler", "viewer", capsys=capsys)[0] == 2


def test_a_group_that_makes_administrators_is_said(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    run(service, "users", "add", "gus", "--role", "admin", capsys=capsys)
    service.app.people.add_member("group:administrators", "user:gus")
    code, _, err = run(service, "users", "role", "gus", "asker", capsys=capsys)
    assert code == 0
    assert "group:administrators still makes it an administrator" in err


def test_the_command_line_asks_for_nobody_who_may_not(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.app.people.add_user("vic", role="viewer")
    asked = run(service, "ask", "How much may a hotel cost a night?", "--as", "vic", capsys=capsys)
    assert asked[0] != 0
    assert "140 euros" not in asked[1]
    assert run(service, "ask", "How much may a hotel cost a night?", "--as", "bram", capsys=capsys)[0] == 0


def test_a_new_password_signs_out_everywhere(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    token = service.app.sessions.begin("user:alice", "password")
    password = "another correct horse"
    assert run(service, "users", "password", "alice", "--password", password, capsys=capsys)[0] == 0
    assert service.app.sessions.of(token) is None
    assert service.app.identity.sign_in("alice", password).principal == "user:alice"
    with pytest.raises(Unauthenticated):
        service.app.identity.sign_in("alice", "correct horse battery")


def test_a_file_of_people_names_roles(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "people.yaml"
    file.write_text("users:\n  - {name: ines, role: auditor}\n  - {name: jo}\n", encoding="utf-8")
    assert import_people(service.app.people, file).users == 2
    assert [listed(service, name, capsys)["role"] for name in ("ines", "jo")] == ["auditor", "asker"]
    file.write_text("users:\n  - name: kai\n    role: operatr\n", encoding="utf-8")
    code, _, err = run(service, "users", "import", str(file), capsys=capsys)
    assert code == 2
    assert "people.yaml:3" in err
    assert "write operator" in err
