"""Write docs/reference/cli.md from the commands themselves. Needs nothing but mainstay."""

from __future__ import annotations

from pathlib import Path

import click

from mainstay.cli import _COMMANDS, cli

HEAD = """\
# Command line

Written by `scripts/make_cli_reference.py`; do not edit. `--json` prints one JSON document on standard output;
progress and warnings go to
standard error. Exit codes: 0 done; 1 the answer is no (nothing found, check failed); 2 usage or bad input; 3 a
dependency is unavailable.
Errors are one line; `--debug` shows the traceback. `--folder DIR` before the command names the service folder.
"""


def main() -> None:
    context = click.Context(cli, info_name="mainstay")
    parts = [HEAD]
    for name in _COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(section(command, f"mainstay {name}"))
    target = Path(__file__).parents[1] / "docs/reference/cli.md"
    target.write_text("\n".join(parts), encoding="utf-8")


def section(command: click.Command, path: str) -> str:
    if isinstance(command, click.Group):
        inner = "\n".join(section(child, f"{path} {name}") for name, child in command.commands.items())
        return f"## {path}\n\n{command.help}\n\n{inner}"
    arguments = " ".join(
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    )
    lines = [f"### `{path}{' ' + arguments if arguments else ''}`", "", command.help or "", ""]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            record = parameter.get_help_record(click.Context(command))
            if record:
                lines.append(f"- `{record[0]}`: {record[1]}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
