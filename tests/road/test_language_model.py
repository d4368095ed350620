"""Answers drafted by a language model over HTTP: streamed, checked, priced, and replaced by quotations when the model fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mainstay.answering import Cited, Finished, Noticed, TextPiece
from mainstay.app import App
from mainstay.types import Answer, Mode, Question, Status
from mainstay.web.server import create_api
from tests.support import upstream as up
from tests.support.services import open_service, people, sync

DOCUMENTS = {
    ".access.yaml": "allow: [group:staff]",
    "travel.md": "# Travel policy 2025\n\n"
    "The daily travel allowance is 52 euros for every employee. Receipts are due from 25 euros.\n",
    "secret/.access.yaml": "allow: [group:board]",
    "secret/offer.md": "# Offer\n\nThe board allows 23.5 million euros for Vinterhavn.\n",
}


@contextmanager
def service(
    folder: Path, server: up.Upstream, *, price: str = "0.5", cap: str = "0.01", promised: str = ""
) -> Iterator[App]:
    settings = f"""\
handover: {{secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}}
sources: [{{name: docs, folder: documents}}]
models:
  answer: writer
  providers:
    writer: {{base_url: "{server.base_url}", model: scripted, price: {{input: "{price}", output: "{price}"}}}}
"""
    folder.mkdir(exist_ok=True)
    (folder / "agreement.yaml").write_text(f'request: {{cap_usd: "{cap}", deadline_s: 20}}\n{promised}')
    with open_service(folder, DOCUMENTS, settings=settings) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        yield app


def told(app: App, question: str = "What is the daily travel allowance?") -> tuple[Answer, list[object]]:
    events = list(app.answering.stream(Question(text=question), app.identity.actor_for("user:alice")))
    assert isinstance(events[-1], Finished)
    return events[-1].answer, events[:-1]


def test_a_supported_draft_is_streamed_cited_and_priced(tmp_path: Path) -> None:
    text = "The daily travel allowance is 52 euros for every employee [1]. Receipts are due from 25 euros [1]."
    with up.Upstream(always=up.answering(up.saying(text))) as server, service(tmp_path, server) as app:
        answer, events = told(app)
        pieces = "".join(event.text for event in events if isinstance(event, TextPiece))
        assert pieces == answer.text
        assert answer.status is Status.ANSWERED
        assert answer.mode is Mode.FULL
        assert {citation.uri for citation in answer.citations} == {"travel.md"}
        assert sum(isinstance(event, Cited) for event in events) == len(answer.citations)
        scope = app.gate.scope(app.identity.actor_for("user:alice"))
        for citation in answer.citations:
            stored = app.documents.text(citation.document, citation.version, scope=scope)
            assert stored is not None
            assert stored[0][citation.start : citation.end] == citation.quote
        assert 0 < answer.cost_nanodollars <= answer.cap_nanodollars


def test_what_a_person_will_answer_nobody_is_shown_before(tmp_path: Path) -> None:
    """Neither in the stream, nor by the cache to whoever asks the same next."""
    promised = 'routing: {below: person, accept: 1.0}\nhandover: {webhook: "http://127.0.0.1:9/"}\n'
    with (
        up.Upstream(always=up.answering(up.cites)) as server,
        service(tmp_path, server, promised=promised) as app,
    ):
        for _ in range(2):
            answer, events = told(app, "What is the daily travel allowance in summer?")
            assert answer.status is Status.HANDED_OFF
            assert "52 euros" not in answer.text
            assert not [event for event in events if isinstance(event, TextPiece | Cited)]
        assert [held.draft != "" for held in app.handovers.list(limit=5)] == [True, True]


def test_what_no_source_supports_never_leaves(tmp_path: Path) -> None:
    text = "The daily travel allowance is 52 euros for every employee [1]. The board pays 99 million euros for Atlantis [2]."
    with up.Upstream(always=up.answering(up.saying(text))) as server, service(tmp_path, server) as app:
        answer, events = told(app)
        shown = "".join(event.text for event in events if isinstance(event, TextPiece))
        assert "Atlantis" not in answer.text + shown
        assert "52 euros" in answer.text
        assert answer.status is Status.PARTIAL


def test_a_liar_is_silenced(tmp_path: Path) -> None:
    with up.Upstream(always=up.answering(up.liar)) as server, service(tmp_path, server) as app:
        answer, _ = told(app)
        assert answer.status in (Status.REFUSED, Status.PARTIAL)
        for citation in answer.citations:
            assert citation.verified


def test_the_prompt_holds_nothing_the_asker_may_not_read(tmp_path: Path) -> None:
    with up.Upstream(always=up.answering(up.echo)) as server, service(tmp_path, server) as app:
        told(app, "What does the board allow for Vinterhavn?")
        assert server.calls
        for call in server.calls:
            assert "23.5 million" not in str(call.body)
            assert "Vinterhavn" in str(call.body)  # the question itself


SAID = "The daily travel allowance is 52 euros for every employee [1]. Receipts are due"
BROKEN = [
    up.status(500),
    up.status(429),
    up.garbage(),
    up.empty(),
    up.cut(SAID),
    up.hangs_up(),
    up.redirect("http://127.0.0.1:9/v1"),
    up.status(401),
]


@pytest.mark.parametrize("behaviour", BROKEN, ids=range(len(BROKEN)))
def test_a_failing_model_is_replaced_by_quotations_and_said_so(behaviour: object, tmp_path: Path) -> None:
    with up.Upstream(always=behaviour) as server, service(tmp_path, server) as app:  # type: ignore[arg-type]  # a behaviour
        answer, events = told(app)
        assert answer.notice is not None
        assert any(isinstance(event, Noticed) for event in events)
        if answer.model == "extractive":
            assert answer.mode is Mode.ECONOMY
            assert "52 euros" in answer.text
        else:  # it broke off after checked sentences: they stand, and are not called complete
            assert answer.status is Status.PARTIAL
        assert answer.cost_nanodollars <= answer.cap_nanodollars


def test_a_question_that_the_cap_can_not_pay_is_quoted_without_a_call(tmp_path: Path) -> None:
    with (
        up.Upstream(always=up.good("never asked")) as server,
        service(tmp_path, server, price="0.3", cap="0.0001") as app,
    ):
        answer, _ = told(app)
        assert not server.calls
        assert answer.mode is Mode.ECONOMY
        assert answer.cost_nanodollars == 0
        assert "52 euros" in answer.text


ENDINGS = [
    (up.good("The daily travel allowance is 52 euros for every employee [1]."), "stop", "answered"),
    (up.good(SAID, reason="length"), "length", "cut_short"),
    (up.cut(SAID), "length", "broke_off"),
    (up.good("No.", reason="content_filter"), "content_filter", "content_filter"),
]


@pytest.mark.parametrize(("behaviour", "finish", "ending"), ENDINGS, ids=[ending for _, _, ending in ENDINGS])
def test_no_client_takes_a_part_for_the_whole(
    behaviour: up.Behaviour, finish: str, ending: str, tmp_path: Path
) -> None:
    with up.Upstream(always=behaviour) as server, service(tmp_path, server) as app:
        _, key = app.keyring.create("user:alice", name="test")
        client = TestClient(create_api(app), headers={"Authorization": f"Bearer {key}"})
        body = {"model": "mainstay", "messages": [{"role": "user", "content": "What is the daily travel allowance?"}]}
        said = client.post("/v1/chat/completions", json=body).json()
        assert said["mainstay"]["route"][-1] == f"writer:{ending}"
        assert said["choices"][0]["finish_reason"] == finish
        if finish == "length":
            assert said["mainstay"]["status"] == "partial"
            assert said["mainstay"]["notice"]
        streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
        assert f'"finish_reason":"{finish}"' in streamed
