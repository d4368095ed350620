"""When a question is asked back, and when it is not: the sample company's known questions are never."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.services import static_embedder

from mainstay.app import App
from mainstay.cli.demo import fill_demo, write_demo
from mainstay.evaluation import load_queries
from mainstay.retrieval.ambiguity import Ambiguity, ambiguity
from mainstay.retrieval.search import Found
from mainstay.settings import load
from mainstay.types import Actor, Filter, MetaValue, Passage, Question


def passage(text: str, title: str, *, score: float = 1.0, heading: str = "", **metadata: MetaValue) -> Passage:
    return Passage(
        chunk=f"{title}/{heading}",
        document=title if not heading else "one",
        version="v",
        title=title,
        uri=title,
        text=text,
        start=0,
        end=len(text),
        score=score,
        heading_path=(title, heading) if heading else (),
        metadata=metadata,
    )


def ask(
    text: str, *passages: Passage, filters: tuple[Filter, ...] = (), required: tuple[str, ...] = ()
) -> Ambiguity | None:
    return ambiguity(Question(text=text, filters=filters), Found(passages=passages), required=required, language="en")


NOTICE = "How long is the notice period for employees?"
GERMANY = passage("The notice period for employees is 4 weeks.", "Leaving: Germany", region="Germany")
FRANCE = passage("The notice period for employees is 3 months.", "Leaving: France", region="France", score=0.97)


def test_two_regions_that_say_different_things_are_asked_about() -> None:
    asked = ask(NOTICE, GERMANY, FRANCE)
    assert asked is not None
    assert (asked.kind, asked.by) == ("split", "region")
    assert asked.questions == (
        "How long is the notice period for employees (Germany)?",
        "How long is the notice period for employees (France)?",
    )
    assert asked.meanings[0].filter == Filter(key="region", any_of=("Germany",))
    assert "Germany, France" in asked.text
    assert set(asked.documents) == {"Leaving: Germany", "Leaving: France"}


def test_the_choice_settles_it() -> None:
    asked = ask(NOTICE, GERMANY, FRANCE)
    assert asked is not None
    assert all(ask(choice, GERMANY, FRANCE) is None for choice in asked.questions)


def test_titles_that_differ_in_a_name_are_asked_about() -> None:
    text = "How long may a lorry stay on the terminal?"
    asked = ask(
        text,
        passage("A lorry may stay on the terminal for 45 minutes.", "Gate procedure Hamburg"),
        passage("A lorry may stay on the terminal for 40 minutes.", "Gate procedure Rotterdam"),
    )
    assert asked is not None
    assert asked.by == "title"
    assert [meaning.label for meaning in asked.meanings] == ["Hamburg", "Rotterdam"]
    assert all(meaning.filter is None for meaning in asked.meanings)


def test_headings_of_one_document_that_are_names_are_asked_about() -> None:
    asked = ask(
        "How many days of leave are there?",
        passage("There are 30 days of leave.", "Leave", heading="Austria"),
        passage("There are 28 days of leave.", "Leave", heading="Portugal"),
    )
    assert asked is not None
    assert asked.by == "heading"


@pytest.mark.parametrize(
    ("why", "text", "passages"),
    [
        ("it names one", "How long is the notice period for employees in France?", (GERMANY, FRANCE)),
        ("they agree", NOTICE, (GERMANY, passage(GERMANY.text, "Leaving: France", region="France"))),
        ("one is clearly better", NOTICE, (GERMANY, passage(FRANCE.text, FRANCE.title, region="France", score=0.5))),
        (
            "one answers without a region",
            NOTICE,
            (GERMANY, FRANCE, passage("The notice period for employees is 2 weeks everywhere.", "General terms")),
        ),
        (
            "a procedure and its card are two sources",
            "How quickly must a technician reach the container?",
            (
                passage("A technician must reach the container within 30 minutes.", "Reefer alarm procedure"),
                passage("A technician must reach the container within 20 minutes.", "Reefer alarm card"),
            ),
        ),
        (
            "who names no year means the present",
            "How much may a hotel cost per night?",
            (
                passage("A hotel may cost 120 euros per night.", "Travel policy 2024", year=2024),
                passage("A hotel may cost 140 euros per night.", "Travel policy 2025", year=2025),
            ),
        ),
        (
            "they speak of different things",
            NOTICE,
            (
                GERMANY,
                passage("The notice board for employees is 12 metres long.", "Leaving: France", region="France"),
            ),
        ),
        ("nothing fits", "When is the best time to prune an apple tree?", (GERMANY, FRANCE)),
        ("nothing was found", NOTICE, ()),
        ("only numbers to go by", "\x00 ???", (GERMANY, FRANCE)),
    ],
)
def test_doubt_is_no_question(why: str, text: str, passages: tuple[Passage, ...]) -> None:
    assert ask(text, *passages) is None, why


def test_past_years_are_asked_about() -> None:
    asked = ask(
        "How much was a hotel allowed to cost per night?",
        passage("A hotel was allowed to cost 120 euros per night.", "Travel policy 2024", year=2024),
        passage("A hotel was allowed to cost 140 euros per night.", "Travel policy 2025", year=2025),
    )
    assert asked is not None
    assert asked.by == "year"


def test_a_filter_given_settles_it() -> None:
    assert ask(NOTICE, GERMANY, FRANCE, filters=(Filter(key="region", any_of=("France",)),)) is None


def test_a_required_filter_is_asked_for() -> None:
    same = (GERMANY, passage(GERMANY.text, "Leaving: France", region="France"))
    asked = ask(NOTICE, *same, required=("region",))
    assert asked is not None
    assert (asked.kind, asked.by) == ("missing", "region")
    assert [meaning.label for meaning in asked.meanings] == ["Germany", "France"]
    assert ask(NOTICE, *same, required=("product",)) is None  # no document knows it
    assert ask(NOTICE, GERMANY, required=("region",)) is None  # there is nothing to choose
    assert ask(asked.questions[0], *same, required=("region",)) is None


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("company")
    write_demo(folder)
    with App(load(folder, {}), embedders={"static": static_embedder()}) as app:
        fill_demo(app, folder)
        yield app


def found(app: App, text: str, user: str | None) -> Ambiguity | None:
    actor = app.identity.actor_for(f"user:{user}") if user else Actor(principal="anonymous")
    question = Question(text=text)
    return ambiguity(question, app.searcher.search(question, scope=app.gate.scope(actor)))


def test_no_known_question_of_the_sample_company_is_asked_back(company: App) -> None:
    held = load_queries(company.settings.folder / "queries")
    assert len(held) >= 30
    wrong = {query.id: asked.questions for query in held if (asked := found(company, query.question, query.asker))}
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "How long should a lorry spend on the terminal at most?",
        "Which lane is used for a manual check when number plate and slot do not match?",
    ],
)
def test_two_sites_of_the_sample_company_are_asked_about(text: str, company: App) -> None:
    asked = found(company, text, "deniz")
    assert asked is not None
    assert [meaning.label for meaning in asked.meanings] == ["Hamburg", "Rotterdam"]
    assert all(found(company, choice, "deniz") is None for choice in asked.questions)


def test_who_may_read_one_site_only_is_not_asked(company: App) -> None:
    """What is asked back comes from the asker's own passages: for somebody outside there is nothing to choose."""
    assert found(company, "How long should a lorry spend on the terminal at most?", None) is None
