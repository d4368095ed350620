"""The prompt loader: a file becomes a Prompt, a Prompt and its variables become messages.

A prompt file is front matter (YAML between two lines `---`) and a template. A line `@@ system`, `@@ user` or `@@
assistant` begins a message; the parts are cut apart in the file, before anything is filled in, so no value can begin a
message. The version is the content: the first twelve hex digits of the sha256 of the file.

The template language is Jinja2 with nothing but values, conditions, loops and a few filters: no calls, no arithmetic,
no includes, so a prompt file can neither compute nor read. Two filters carry untrusted text: `quoted` begins every line
of it with "> ", and `one_line` makes one line of it; with them a value cannot look like the lines around it.

Mistakes are found when the file is loaded, not when a question is asked: each names file and line.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mainstay.errors import Invalid, NotFound, TooLarge
from mainstay.prompts.message import Message, Role

MAX_FILE = 64 << 10
MAX_RENDERED = 8 << 20

_ID = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_MARKER = re.compile(r"@@[ \t]*(\w+)[ \t]*")
_LINE_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_KEYS = ("id", "version", "description", "variables", "hints")
_HINTS = ("temperature", "max_output_tokens")
_FILTERS = (
    "one_line",
    "quoted",
    "default",
    "first",
    "join",
    "last",
    "length",
    "lower",
    "round",
    "tojson",
    "trim",
    "upper",
)
_PERMITTED: tuple[type[nodes.Node], ...] = (
    nodes.And, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Filter, nodes.For, nodes.Getattr,
    nodes.Getitem, nodes.If, nodes.Keyword, nodes.List, nodes.Name, nodes.Not, nodes.Operand, nodes.Or, nodes.Output,
    nodes.Template, nodes.TemplateData, nodes.Test, nodes.Tuple,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hints:
    """How the prompt likes to be run; the agreement and the money have the last word."""

    temperature: float | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """The template of one message."""

    role: Role
    template: Template = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt as loaded. Two with one `version` are the same text; `label` is its author's name for the version.

    `text` is the file, so that a release can keep it and `parse` it again.
    """

    id: str
    version: str
    label: str
    description: str
    variables: Mapping[str, str]
    hints: Hints
    source: str
    text: str = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False, compare=False)


def quoted(text: object) -> str:
    """Every line of the text behind "> ", whatever kind of line break it uses."""
    return "\n".join("> " + line for line in _LINE_BREAK.split(str(text)))


def one_line(text: object) -> str:
    """The text as one line, runs of white space as one space."""
    return " ".join(_LINE_BREAK.sub(" ", str(text)).split())


def load(folder: Path | None = None) -> dict[str, Prompt]:
    """All prompts by id: the built-in ones, each replaced by the file of the folder that has its id."""
    prompts = {}
    for entry in sorted(files("mainstay.prompts").joinpath("builtin").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".md"):
            prompt = parse(entry.read_bytes(), source=f"builtin/{entry.name}")
            prompts[prompt.id] = prompt
    builtin = dict(prompts)
    own: dict[str, Prompt] = {}
    for path in sorted(folder.glob("*.md")) if folder is not None and folder.is_dir() else ():
        prompt = read(path)
        if prompt.id in own:
            raise Invalid(
                f"'{prompt.id}' is also the id of {own[prompt.id].source}", where=f"{path}:1", fix="rename one"
            )
        _check_override(prompt, builtin.get(prompt.id))
        own[prompt.id] = prompts[prompt.id] = prompt
    return prompts


def prompt_of(prompts: Mapping[str, Prompt], id: str) -> Prompt:  # noqa: A002
    """The prompt of this id, or NotFound with the nearest one."""
    if id in prompts:
        return prompts[id]
    raise NotFound(f"no prompt '{id}'", where="prompts", fix=_nearest(id, list(prompts)))


def read(path: Path) -> Prompt:
    """One prompt file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Invalid(f"the prompt cannot be read: {error.strerror}", where=str(path)) from None
    return parse(content, source=str(path))


def parse(content: bytes, *, source: str) -> Prompt:
    """A prompt out of the bytes of its file; `source` names the file in errors."""
    if len(content) > MAX_FILE:
        raise TooLarge(f"the prompt is larger than {MAX_FILE} bytes", where=source, fix="shorten it")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Invalid("the prompt is not UTF-8", where=f"{source}:{line}", fix="save it as UTF-8") from None
    head, body, body_line = _divided(text, source)
    front = _FrontMatter(head, source)
    variables = front.variables()
    prompt = Prompt(
        id=front.id(),
        version=hashlib.sha256(text.encode()).hexdigest()[:12],
        label=front.text("version", ""),
        description=front.text("description"),
        variables=variables,
        hints=front.hints(),
        source=source,
        text=text,
        parts=tuple(_part(role, body, line, source, variables) for role, line, body in _cut(body, body_line, source)),
    )
    _check_all_used(prompt, front)
    return prompt


def render(prompt: Prompt, **variables: Any) -> tuple[Message, ...]:
    """The prompt's messages with its variables filled in. A part that comes out empty is left out.

    A missing variable is an error; one that the prompt does not ask for is ignored, so that an operator's version may
    use fewer.
    """
    missing = [name for name in prompt.variables if name not in variables]
    if missing:
        raise Invalid(f"the variable '{missing[0]}' is missing", where=prompt.source)
    given = {name: variables[name] for name in prompt.variables}
    messages = []
    left = MAX_RENDERED
    for part in prompt.parts:
        text = _rendered(part, given, left, prompt.source)
        left -= len(text)
        if text:
            messages.append(Message(role=part.role, content=text))
    return tuple(messages)


def _rendered(part: Part, variables: Mapping[str, Any], most: int, source: str) -> str:
    pieces = []
    size = 0
    try:
        for piece in part.template.generate(variables):
            size += len(piece)
            if size > most:
                raise TooLarge("the filled-in prompt is too long", where=source, fix="pass fewer or shorter passages")
            pieces.append(piece)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
        where = f"{source}:{lines[-1]}" if lines else source
        raise Invalid(f"the prompt cannot be filled in: {error}", where=where) from None
    return "".join(pieces).strip()


# The file and its parts


def _divided(text: str, source: str) -> tuple[str, str, int]:
    """Front matter, template, and the line where the template begins."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        raise Invalid("a prompt begins with front matter", where=f"{source}:1", fix="make its first line '---'")
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() == "---":
            return "\n".join(lines[1 : number - 1]), "\n".join(lines[number:]), number + 1
    raise Invalid("the front matter does not end", where=f"{source}:1", fix="close it with a line '---'")


def _cut(body: str, first_line: int, source: str) -> list[tuple[Role, int, str]]:
    """The template's parts: role, line of its first line, text."""
    parts: list[tuple[Role, int, list[str]]] = []
    for number, line in enumerate(body.split("\n"), start=first_line):
        where = f"{source}:{number}"
        if marker := _MARKER.fullmatch(line):
            parts.append((_role(marker[1], bool(parts), where), number + 1, []))
        elif parts:
            parts[-1][2].append(line)
        elif line.strip():
            raise Invalid("text before the first message", where=where, fix="begin with '@@ system' or '@@ user'")
    if not any(role == "user" for role, _, _ in parts):
        raise Invalid("the prompt has no user message", where=f"{source}:{first_line}", fix="add a line '@@ user'")
    return [(role, number, "\n".join(lines)) for role, number, lines in parts]


def _role(name: str, later: bool, where: str) -> Role:
    for role in get_args(Role):
        if role == name:
            if later and role == "system":
                raise Invalid("the system message must be the first and only one", where=where)
            known: Role = role
            return known
    raise Invalid(f"'{name}' is no role", where=where, fix=_nearest(name, list(get_args(Role))))


def _part(role: Role, text: str, line: int, source: str, variables: Mapping[str, str]) -> Part:
    """One part, compiled. It is given the lines before it as blanks, so that its line numbers are those of the file."""
    padded = "\n" * (line - 1) + text
    try:
        tree = _ENVIRONMENT.parse(padded)
        _check_tree(tree, source, variables)
        code = _ENVIRONMENT.compile(tree, name=source, filename=source)
    except TemplateSyntaxError as error:
        raise Invalid(f"the template is wrong: {error.message}", where=f"{source}:{error.lineno}") from None
    return Part(role=role, template=Template.from_code(_ENVIRONMENT, code, {}))


def _check_tree(tree: nodes.Template, source: str, variables: Mapping[str, str]) -> None:
    """Only what `_PERMITTED` and `_FILTERS` name, and only declared variables."""
    for node in tree.find_all(nodes.Node):
        where = f"{source}:{node.lineno}"
        if not isinstance(node, _PERMITTED) or (isinstance(node, nodes.For) and node.recursive):
            what = type(node).__name__.lower()
            raise Invalid(f"'{what}' is not permitted in a prompt", where=where, fix="compute it before")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise Invalid(f"the filter '{node.name}' is not permitted", where=where, fix=_nearest(node.name, _FILTERS))
    for name in sorted(meta.find_undeclared_variables(tree) - set(variables)):
        uses = [n.lineno for n in tree.find_all(nodes.Name) if n.name == name]
        raise Invalid(f"'{name}' is not declared", where=f"{source}:{uses[0]}", fix=_nearest(name, list(variables)))


def _check_all_used(prompt: Prompt, front: _FrontMatter) -> None:
    tree = _ENVIRONMENT.parse(_divided(prompt.text, prompt.source)[1])
    for name in prompt.variables:
        if name not in meta.find_undeclared_variables(tree):
            raise Invalid(f"the variable '{name}' is not used", where=front.where("variables"), fix="remove it")


def _check_override(prompt: Prompt, builtin: Prompt | None) -> None:
    """A prompt of the operator may use fewer variables than the built-in one it replaces, not others."""
    for name in prompt.variables:
        if builtin is not None and name not in builtin.variables:
            raise Invalid(
                f"'{name}' is not given to the prompt '{prompt.id}'",
                where=f"{prompt.source}:1",
                fix=_nearest(name, list(builtin.variables)),
            )


class _FrontMatter:
    """The head of a prompt file, read with the line of each key at hand."""

    def __init__(self, head: str, source: str) -> None:
        self._source = source
        self._lines: dict[str, int] = {}
        self._values: dict[str, Any] = {}
        try:
            self._values = self._mapping(yaml.compose(head, Loader=yaml.SafeLoader))
        except yaml.MarkedYAMLError as error:
            line = (error.problem_mark.line if error.problem_mark else 0) + 2
            raise Invalid(f"the front matter is not YAML: {error.problem}", where=f"{source}:{line}") from None
        except (yaml.YAMLError, ValueError, RecursionError):
            raise Invalid("the front matter is not YAML", where=f"{source}:2") from None

    def _mapping(self, node: yaml.Node | None) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise Invalid("the front matter must be 'key: value' lines", where=f"{self._source}:2")
        loader = yaml.SafeLoader("")
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 2
            where = f"{self._source}:{line}"
            if key not in _KEYS:
                raise Invalid(f"'{key}' is no key of a prompt", where=where, fix=_nearest(key, _KEYS))
            if key in values:
                raise Invalid(f"'{key}' stands twice", where=where, fix="remove one")
            self._lines[key] = line
            values[key] = loader.construct_document(value_node)
        return values

    def where(self, key: str) -> str:
        return f"{self._source}:{self._lines.get(key, 1)}"

    def text(self, key: str, default: str | None = None) -> str:
        value = self._values.get(key, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key == "version":
            value = str(value)
        if not isinstance(value, str) or (default is None and not value.strip()):
            problem = f"'{key}' must be text" if key in self._values else f"'{key}' is missing"
            raise Invalid(problem, where=self.where(key), fix=f"write '{key}: ...'")
        return value

    def id(self) -> str:
        value = self.text("id")
        if not _ID.fullmatch(value):
            raise Invalid(f"'{value}' is no id", where=self.where("id"), fix="use a-z, 0-9, '_', '-' and '.'")
        return value

    def variables(self) -> dict[str, str]:
        """Name and meaning: a mapping, or a plain list of names."""
        value = self._values.get("variables") or {}
        named = value if isinstance(value, dict) else dict.fromkeys(value, "") if isinstance(value, list) else None
        if named is None or not all(isinstance(n, str) and _NAME.fullmatch(n) for n in named):
            raise Invalid("'variables' must be names", where=self.where("variables"), fix="write 'name: what it is'")
        return {name: str(meaning or "") for name, meaning in named.items()}

    def hints(self) -> Hints:
        value = self._values.get("hints") or {}
        where = self.where("hints")
        if not isinstance(value, dict):
            raise Invalid("'hints' must be 'key: value' lines", where=where)
        for key, hint in value.items():
            if key not in _HINTS:
                raise Invalid(f"'{key}' is no hint", where=where, fix=_nearest(str(key), _HINTS))
            if isinstance(hint, bool) or not isinstance(hint, (int, float)) or not 0 <= hint <= 1_000_000:
                raise Invalid(f"the hint '{key}' must be a number that is not negative", where=where)
        limit = value.get("max_output_tokens")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise Invalid("the hint 'max_output_tokens' must be a whole number above 0", where=where)
        return Hints(temperature=value.get("temperature"), max_output_tokens=limit)


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known) or 'none'}"


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals.clear()
    environment.filters.update(quoted=quoted, one_line=one_line)
    return environment


_ENVIRONMENT = _environment()
