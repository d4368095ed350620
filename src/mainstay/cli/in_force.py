"""settings: what is in force."""

from __future__ import annotations

import click

from mainstay.app.in_force import InForce
from mainstay.cli.common import as_json, opened, printable, put_json, table


@click.command(
    help="What the service works with: release, embedder, models and prices, prompts, and every value of mainstay.yaml with who "
    "said it. Secrets are masked."
)
@click.option("--key", default="", metavar="KEY", help="Only values whose key begins so, like database. or limits.")
@as_json
def settings(key: str, json_: bool) -> None:
    with opened() as app:
        view = InForce(app).view()
    view["settings"] = [one for one in view["settings"] if one["key"].startswith(key)]
    if json_:
        put_json(view)
        return
    if not key:
        for name in ("version", "release", "agreement", "database", "revision", "search", "embedder", "wanted"):
            if view[name]:
                click.echo(f"{name}: {printable(str(view[name]))}")
        if view["trouble"]:
            click.secho(f"models: {printable(view['trouble'], 500)}", fg="red")
        for one in view["models"]:
            prices = f"{one['input_per_million_usd']} in, {one['output_per_million_usd']} out per million tokens, USD"
            click.echo(f"model {printable(one['name'])}: {printable(one['model'])} at {printable(one['at'])}, {prices}")
        for one in view["prompts"]:
            click.echo(f"prompt {one['name']}: {one['version']} from {printable(one['source'])}")
        click.echo()
    table([(one["key"], one["value"], one["said"]) for one in view["settings"]], ("key", "value", "said by"))
