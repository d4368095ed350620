"""Every way in which a provider fails, under the whole service: the right end, in bounded time, honest, paid for once.

The faulty model is asked first. Once with a sound model behind it, once alone; in both wire formats; and, in the long
run, in bursts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import upstream as up
from tests.support.faults import FAULTS, Fault
from tests.support.services import open_service, people, static_embedder, sync

from mainstay.app import App
from mainstay.models.chat import FailureKind
from mainstay.settings import load
from mainstay.types import Answer, Mode, Question, Status

DEADLINE_S = 8.0
SLACK_S = 40.0  # of a machine that is busy with something else
KINDS = ("openai-compatible", "anthropic")
DOCUMENTS = {"gate.md": "---\naccess: [public]\n---\n# Gate\n\nThe gate in Rotterdam opens at seven.\n"}
QUESTION = "When does the gate in Rotterdam open?"
CAP_N = 10_000_000
_PROVIDER = (
    '{{base_url: "{url}", kind: {kind}, model: m, api_key: not-a-secret, first_token_s: {first}, idle_s: 0.4, '
    'price: {{input: "{price}", output: "{price}"}}}}'
)
# With tools or a schema in the request: what the road never sends.
ASKED = {name: fault for name, fault in FAULTS.items() if not fault.tools}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with one document, ready to be opened many times."""
    made = tmp_path_factory.mktemp("service")
    with open_service(made, DOCUMENTS) as app:
        people(app, {"alice": ()})
        sync(app)
    (made / "agreement.yaml").write_text(
        f'request: {{cap_usd: "0.01", deadline_s: {DEADLINE_S}}}\ncache: {{enabled: false}}\n'
        "traffic: {concurrency: 64}\n"
    )
    return made


@contextmanager
def service(folder: Path, fault: Fault, kind: str, *, alone: bool) -> Iterator[tuple[App, up.Upstream]]:
    with up.Upstream(always=fault.behaviour) as bad, up.Upstream(always=up.answering(up.cites)) as good:
        first = fault.limits.get("first_token_s", 4.0)
        providers = f"faulty: {_PROVIDER.format(url=bad.base_url, kind=kind, price='0.1', first=first)}"
        if not alone:
            providers += f", sound: {_PROVIDER.format(url=good.base_url, kind=kind, price='1.5', first=4.0)}"
        (folder / "mainstay.yaml").write_text(
            "sources: [{name: docs, folder: documents}]\n"
            f"models: {{answer: {'faulty' if alone else '[faulty, sound]'}, providers: {{{providers}}}}}\n"
        )
        with App(load(folder, {}), embedders={"static": static_embedder()}) as app:
            yield app, bad


def ask(app: App, number: int = 0) -> tuple[Answer, float]:
    began = time.monotonic()
    question = Question(text=f"{QUESTION}{' ' * (number % 3)}")
    answer = app.answering.answer(question, app.identity.actor_for("user:alice"))
    return answer, time.monotonic() - began


def honest(answer: Answer, fault: Fault, *, alone: bool) -> None:
    """What may be said to the asker after this fault."""
    if fault.kind is FailureKind.CONTENT_FILTER or fault.ends == "content_filter":
        assert answer.status is Status.REFUSED, "a refusal is not routed around"
        return
    if answer.model == "extractive":
        assert answer.mode is Mode.ECONOMY
        assert answer.notice
        assert answer.status is Status.ANSWERED
    elif answer.model == "sound":
        assert not alone
        assert answer.status is Status.ANSWERED
        assert answer.mode is Mode.FULL
    else:  # the faulty one itself: something of it stood, and it is called complete only if it was
        ending = answer.route[-1].rpartition(":")[2]
        if ending in ("cut_short", "broke_off"):
            assert answer.status is not Status.ANSWERED
            assert answer.notice
        else:
            assert fault.kind is None, f"{answer.route} after {fault.kind}"
    assert answer.text
    assert all(citation.quote in DOCUMENTS["gate.md"] for citation in answer.citations)


def paid_once(app: App, answers: list[Answer]) -> None:
    assert app.ledger.check() == []
    standing = app.ledger.standing()
    assert standing.open_n == 0
    assert standing.breaches == 0
    rows = app.ledger.report(by="model")
    assert sum(answer.cost_nanodollars for answer in answers) == sum(row.cost_n for row in rows)
    assert max(answer.cost_nanodollars for answer in answers) <= CAP_N


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ASKED)
def test_with_a_sound_model_behind(folder: Path, name: str, kind: str) -> None:
    fault = ASKED[name]
    with service(folder, fault, kind, alone=False) as (app, bad):
        app.ledger.prune(app.clock.now())
        answer, took_s = ask(app)
        honest(answer, fault, alone=False)
        assert took_s < DEADLINE_S + SLACK_S
        assert 1 <= len(bad.calls) <= 2, "asked first, and retried once at most"
        assert app.ledger.check() == []


@pytest.mark.parametrize("kind", [pytest.param(KINDS[0], marks=pytest.mark.long), KINDS[1]])
@pytest.mark.parametrize("name", ASKED)
def test_alone(folder: Path, name: str, kind: str) -> None:
    fault = ASKED[name]
    with service(folder, fault, kind, alone=True) as (app, bad):
        answer, took_s = ask(app)
        honest(answer, fault, alone=True)
        assert took_s < DEADLINE_S + SLACK_S
        assert 1 <= len(bad.calls) <= 2
        assert app.ledger.check() == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ASKED)
def test_in_bursts(tmp_path: Path, name: str, kind: str) -> None:
    """Twenty at once: every one ends well, and the model is soon left alone where the fault is its own."""
    fault = ASKED[name]
    with open_service(tmp_path, DOCUMENTS) as app:
        people(app, {"alice": ()})
        sync(app)
    (tmp_path / "agreement.yaml").write_text(
        f'request: {{cap_usd: "0.01", deadline_s: {DEADLINE_S}}}\ncache: {{enabled: false}}\n'
    )
    with service(tmp_path, fault, kind, alone=False) as (app, bad):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: ask(app, n), range(20)))
        for answer, took_s in answers:
            honest(answer, fault, alone=False)
            assert took_s < DEADLINE_S + SLACK_S
        paid_once(app, [answer for answer, _ in answers])
        assert len(bad.calls) <= 30
