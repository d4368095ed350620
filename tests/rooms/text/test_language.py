from __future__ import annotations

import pytest

from mainstay.text.language import language, notice_other_language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How many vacation days do I have?", "en"),
        ("Who approves travel?", "en"),
        ("Wie viele Urlaubstage habe ich?", "de"),
        ("Wer genehmigt Dienstreisen?", "de"),
        ("Kündigungsfrist", "de"),
        ("Combien de jours de congé ai-je ?", "fr"),
        ("¿Cuántos días de vacaciones tengo?", "es"),
        ("Quanti giorni di ferie ho?", "it"),
        ("Hoeveel vakantiedagen heb ik?", "nl"),
        ("Quantos dias de férias tenho?", "pt"),
        ("休暇は何日ありますか", "ja"),
        ("我有多少天假期？", "zh"),
        ("Сколько дней отпуска у меня есть?", "ru"),
        ("The company shall pay each employee a bonus of five percent at the end of the year.", "en"),
        ("Die Gesellschaft zahlt jedem Mitarbeiter am Ende des Jahres einen Bonus in Höhe von fünf Prozent.", "de"),
        ("SAP", ""),
        ("12345 67", ""),
        ("", ""),
    ],
)
def test_language(text: str, code: str) -> None:
    assert language(text) == code
    assert language(text) == code


def test_the_notice_is_given_only_when_no_source_is_in_the_language_of_the_question() -> None:
    assert notice_other_language("de", ["en", "en"]) == "Die Quellen sind in einer anderen Sprache als die Frage: en."
    assert notice_other_language("sv", ["fr", "en"]) == "The sources are in another language than the question: en, fr."
    assert notice_other_language("de", ["en", "de"]) is None
    assert notice_other_language("", ["en"]) is None
    assert notice_other_language("de", ["", ""]) is None
