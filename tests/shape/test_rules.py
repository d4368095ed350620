"""The invariants of docs/architecture.md that a look at the source can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "mainstay"
FILES = sorted(SOURCE.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_only_settings_read_the_environment() -> None:
    allowed = {"settings.py"}
    reads = re.compile(r"os\.environ|os\.getenv|getenv\(")
    found = {name(path) for path in FILES if reads.search(path.read_text(encoding="utf-8"))}
    assert found <= allowed, f"read the environment in settings.py and hand the value on: {sorted(found - allowed)}"


def test_sql_only_in_storage() -> None:
    found = {
        name(path)
        for path in FILES
        if any(
            module.partition(".")[0] in ("sqlalchemy", "sqlite3")
            for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    outside = {path for path in found if not path.startswith("storage/")}
    assert outside <= {"cli/service.py"}, outside  # doctor prints the version of SQLite


def test_vendor_words_only_at_providers() -> None:
    words = re.compile(r"\b(openai|anthropic|ollama|vllm)\b", re.IGNORECASE)
    places = (
        "models/providers/",
        "web/",
        "settings.py",
    )  # web/ serves the compatible routes; settings name the kind
    found = {
        name(path)
        for path in FILES
        if not name(path).startswith(places) and words.search(ast.unparse(_without_docstrings(path)))
    }
    assert not found


def _without_docstrings(path: Path) -> ast.AST:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return tree


@pytest.mark.parametrize("path", [path for path in FILES if name(path).startswith("storage/")], ids=name)
def test_reads_of_text_take_a_scope(path: Path) -> None:
    """A public method of storage that gives passages, texts or records has ``scope`` as a required keyword."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is not None:
            given = ast.unparse(node.returns)
            if re.search(r"\b(Passage|DocumentRecord)\b", given) or node.name == "text":
                required = [
                    arg.arg
                    for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                    if default is None
                ]
                assert "scope" in required, f"{name(path)}: {node.name} gives document text without asking for a Scope"


def test_imports_inside_functions_carry_their_reason() -> None:
    """An import moved into a function hides a knot, unless it delays something heavy and says so."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        near = "\n".join(lines[max(function.lineno - 1, node.lineno - 6) : node.end_lineno])
                        assert "#" in near or '"""' in near, (
                            f"{name(path)}:{node.lineno}: say why this import is delayed"
                        )


def test_the_architecture_names_every_room() -> None:
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    rooms |= {path.name for path in SOURCE.glob("*.py") if not path.name.startswith("_")}
    missing = {room for room in rooms if f"{room}" not in text}
    assert not missing, f"docs/architecture.md does not mention {sorted(missing)}"


@pytest.mark.parametrize("path", [path for path in FILES if name(path).startswith(("web/", "cli/"))], ids=name)
def test_doors_build_nothing_of_storage(path: Path) -> None:
    """What stands behind a port is decided in app/ alone. ``.importlinter`` keeps imports away; this keeps to types where one is
    allowed. ``Address`` is a value that names a database."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mainstay.storage")
        for alias in node.names
        if alias.name[0].isupper()
    }
    made = {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    } & classes
    assert made <= {"Address"}, f"{name(path)} builds {sorted(made)}: take it from the app"
