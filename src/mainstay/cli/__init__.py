"""The command line. This file is all that ``mainstay --help`` needs: a command's module is imported when the command runs."""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from mainstay import __version__
from mainstay.errors import MainstayError
from mainstay.logs import install, without_secrets

# name -> (module, what it does); in the order people meet them
_COMMANDS = {
    "init": ("service", "Write a commented service folder."),
    "check": ("service", "Check the service folder without starting."),
    "agreement": ("agreement", "What is promised: show, diff, approve, status; OpenSLO in and out."),
    "demo": ("demo", "Try the sample company: ingest it, answer, serve."),
    "serve": ("service", "Serve the HTTP API and the page."),
    "worker": ("jobs", "Do background jobs: synchronise sources, make vectors."),
    "jobs": ("jobs", "Background jobs: list, show, retry, cancel."),
    "settings": ("in_force", "What is in force: release, models and prices, prompts, every setting."),
    "doctor": ("service", "Look at this machine and service and say what is wrong."),
    "handovers": ("handovers", "Questions that go to a person: list, show, retry, close."),
    "ingest": ("documents", "Read a folder or files into the service."),
    "sync": ("documents", "Bring all sources up to date."),
    "documents": ("documents", "List, show, remove documents; see and change access."),
    "quality": ("documents", "Find near-duplicates, bad pieces, missing dates, unread files."),
    "ask": ("asking", "Ask a question."),
    "search": ("asking", "Search for passages."),
    "trace": ("traces", "The journey of a request: show, search; hold and release; prune."),
    "costs": ("costs", "What calls of models cost, by day, user, team, model and more."),
    "audit": ("audit", "Who did what, and the proof: list, show, proof, head, verify, export; erase, holds."),
    "export": ("exports", "What leaves in a form of its own: the record of a decision."),
    "outcome": ("outcomes", "What came of answers: record, report."),
    "alerts": ("alerts", "Objectives in trouble: list, ack, silence, unsilence, test."),
    "mode": ("modes", "The mode the service answers in: show, set, clear."),
    "users": ("people", "People and groups."),
    "keys": ("people", "API keys."),
    "models": ("models", "Models and embedders: list, add, check."),
    "prompts": ("models", "The prompts in force."),
    "queries": ("queries", "The questions kept to test the service with."),
    "migrate": ("upkeep", "Bring the database up to date, or copy the service into another database."),
    "backup": ("upkeep", "Keep the whole service in one file."),
    "restore": ("upkeep", "Bring a service back from a backup."),
}


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"mainstay.cli.{_COMMANDS[name][0]}"), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib  # only a mistyped command needs it

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], _COMMANDS, 1)
            if close:
                raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None
            raise


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mainstay")
@click.option(
    "--folder",
    "-C",
    metavar="DIR",
    help="The service folder [default: $MAINSTAY_FOLDER, or the nearest with mainstay.yaml].",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")  # taken out by main(); here for the help alone
@click.pass_context
def cli(ctx: click.Context, folder: str | None, debug: bool) -> None:  # noqa: ARG001 - see above
    """Mainstay answers questions from your organisation's documents: permission-safe, cited, on your machine."""
    ctx.obj = {"folder": folder}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the answer is no, 2 usage or bad input, 3 a dependency is unavailable."""
    given = sys.argv[1:] if args is None else args
    debug = "--debug" in given  # wherever it stands: people add it to the end of what failed
    arguments = [argument for argument in given if argument != "--debug"]
    install()
    try:
        code: Any = cli.main(args=arguments, prog_name="mainstay", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except MainstayError as error:
        if debug:
            raise
        click.echo(f"mainstay: {without_secrets(error.line())}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("mainstay: stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing left to say
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "; free disk space" if full else ""
        click.echo(f"mainstay: {error.filename or 'system'}: {error.strerror or error}{fix}", err=True)
        sys.exit(3 if full else 2)
    except Exception as error:
        if debug:
            raise
        said = without_secrets(" ".join(str(error).split()))[:300]
        click.echo(
            f"mainstay: unexpected {type(error).__name__}: {said}; repeat it with --debug and report it", err=True
        )
        sys.exit(3)
