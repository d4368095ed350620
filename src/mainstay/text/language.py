"""Which language a text is in, and what to say when the sources are in another one.

py3langid (a naive Bayes over character n-grams, its model in the wheel) decides; short texts are unreliable, so they
are only told apart among the languages the product speaks, and only when one is clearly ahead. ``""`` means unsure.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from mainstay.text.words import fold, word_set

SPOKEN = ("en", "de", "fr", "es", "it", "nl", "pt")
"""Languages with word lists and phrases of their own."""

SHORT = 60
"""Below this many letters a text is short: only the spoken languages are considered."""

_LONGEST = 4_000
_SURE_WORD, _SURE_SHORT, _SURE_LONG = 0.97, 0.75, 0.6
_CHINESE = word_set("yue wuu cmn")
_NOT_LETTERS = re.compile(r"https?://\S+|\S+@\S+|[\d_\W]+")

# Function words that belong to one of the spoken languages only: they decide a short question.
_TELLING = {
    "en": word_set("the what how who when where which why is are does did was were of and to many much can"),
    "de": word_set("der die das und ist wie was wer wann wo welche viele nicht ich wir ein eine fur im zum darf muss"),
    "fr": word_set("le les est et quel quelle quand combien comment qui une des du pour dans je nous peut"),
    "es": word_set("el los las es y cual cuando cuanto cuantos como quien por una del para puedo que hay donde dias"),
    "it": word_set("il gli e quale quando quanti quanto chi perche una di della sono per che posso dove giorni ci"),
    "nl": word_set("het een en wat hoe wie wanneer waar welke hoeveel niet ik wij van voor zijn kan mag moet"),
    "pt": word_set("o os e qual quando quantos quanto quem uma do da para sao por que posso onde dias tem"),
}

_model_lock = threading.Lock()


@lru_cache(maxsize=1)
def _models() -> tuple[Any, Any]:
    """The whole model and one narrowed to the spoken languages; loading takes a moment: it waits for the first use."""
    whole = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    narrow = copy.copy(whole)
    narrow.set_languages(list(SPOKEN))
    return whole, narrow


def language(text: str) -> str:
    """The ISO 639-1 code of the language, or ``""`` when unsure."""
    letters = _NOT_LETTERS.sub(" ", text[:_LONGEST]).strip()
    if sum(c.isalpha() for c in letters) < 4:
        return ""
    short = len(letters) < SHORT and all(ord(c) < 0x250 for c in letters)
    told = _told(letters) if short else ""
    if told:
        return told
    with _model_lock:
        whole, narrow = _models()
    if short:
        code, sure = narrow.classify(letters)
        enough = _SURE_SHORT if len(letters) >= 12 and " " in letters else _SURE_WORD
        return str(code) if sure >= enough else ""
    code, sure = whole.classify(letters)
    if code in _CHINESE or code == "zh":
        return "zh"
    return str(code) if sure >= _SURE_LONG else ""


def _told(letters: str) -> str:
    """The language whose function words occur, when it leads by two or is alone."""
    present = fold(letters).split()
    counts = sorted(((sum(w in telling for w in present), code) for code, telling in _TELLING.items()), reverse=True)
    (most, code), (second, _) = counts[0], counts[1]
    return code if most >= second + 2 or (most >= 1 and second == 0) else ""


_NOTICES = {
    "en": "The sources are in another language than the question: {}.",
    "de": "Die Quellen sind in einer anderen Sprache als die Frage: {}.",
    "fr": "Les sources sont dans une autre langue que la question : {}.",
    "es": "Las fuentes están en otro idioma que la pregunta: {}.",
    "it": "Le fonti sono in una lingua diversa da quella della domanda: {}.",
    "nl": "De bronnen zijn in een andere taal dan de vraag: {}.",
    "pt": "As fontes estão em outro idioma que a pergunta: {}.",
}


def notice_other_language(question_language: str, source_languages: Sequence[str]) -> str | None:
    """One sentence for the asker when no source is in the language of the question; None when unsure or when one is."""
    known = sorted({code for code in source_languages if code})
    if not question_language or not known or question_language in known:
        return None
    return _NOTICES.get(question_language, _NOTICES["en"]).format(", ".join(known))
