"""Documents that can not rot: settings, commands, dependencies and paths they name are those that exist."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mainstay.agreement import Agreement
from mainstay.cli import _COMMANDS, cli
from mainstay.settings import ServiceFile

ROOT = Path(__file__).parents[2]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def keys(shape: type) -> set[str]:
    """Names of all settings below a dataclass."""
    found = set()
    hints = get_type_hints(shape)
    for field in fields(shape):
        found.add(field.name)
        for choice in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(choice) and isinstance(choice, type):
                found |= keys(choice)
    return found


@pytest.mark.parametrize("shape", [ServiceFile, Agreement])
def test_every_setting_is_documented(shape: type) -> None:
    text = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    missing = {key for key in keys(shape) if not re.search(rf"\b{key}\b", text)}
    assert not missing, f"docs/reference/settings.md: {sorted(missing)}"


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    missing = set()
    for name in _COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]  # our group needs no context
        assert command is not None
        names = [f"{name} {child}" for child in getattr(command, "commands", {})] or [name]
        missing |= {held for held in names if f"mainstay {held}" not in text}
    assert not missing, f"docs/reference/cli.md: {sorted(missing)}"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    text = (ROOT / "docs/decisions/dependencies.md").read_text(encoding="utf-8")
    missing = {name for name in (re.split(r"[><=\[]", one)[0] for one in wanted) if f"`{name}`" not in text}
    assert not missing, f"docs/decisions/dependencies.md: {sorted(missing)}"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_named_in_texts_exist(text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|docs|bench|examples|scripts|\.ci)/[\w./-]+)`", content)
    named += [link for link in re.findall(r"\]\(([^)#]+)\)", content) if "://" not in link]
    missing = [path for path in named if not (ROOT / path).exists() and not (text.parent / path).exists()]
    assert not missing


def test_no_host_of_a_package_index_and_no_absolute_path_of_a_machine() -> None:
    bad = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|/work/main|deb\.debian\.org")
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT).parts
        if (
            (
                path.is_file()
                and not relative[0].startswith((".", "mainstay-demo"))
                and path.suffix
                in (
                    ".py",
                    ".md",
                    ".txt",
                    ".toml",
                    ".yaml",
                    ".yml",
                    ".cfg",
                    ".html",
                    ".js",
                    ".css",
                    "",
                )
            )
            and path.stat().st_size < 500_000
            and path != Path(__file__)
        ):
            assert not bad.search(path.read_text(encoding="utf-8", errors="replace")), path
