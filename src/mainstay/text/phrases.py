"""The service's own few sentences, in the languages it can say them in; English for all others."""

from __future__ import annotations

_PHRASES = {
    "not_found": {
        "en": "I found nothing about this in the documents you may read.",
        "de": "In den Dokumenten, die Sie lesen dürfen, habe ich dazu nichts gefunden.",
        "fr": "Je n'ai rien trouvé à ce sujet dans les documents que vous pouvez lire.",
        "es": "No he encontrado nada sobre esto en los documentos que usted puede leer.",
        "it": "Non ho trovato nulla al riguardo nei documenti che può leggere.",
        "nl": "Ik heb hierover niets gevonden in de documenten die u mag lezen.",
        "pt": "Não encontrei nada sobre isto nos documentos que pode ler.",
    },
    "declined": {
        "en": "The language model declined to answer this question.",
        "de": "Das Sprachmodell hat es abgelehnt, diese Frage zu beantworten.",
        "fr": "Le modèle de langage a refusé de répondre à cette question.",
        "es": "El modelo de lenguaje se ha negado a responder a esta pregunta.",
        "it": "Il modello linguistico si è rifiutato di rispondere a questa domanda.",
        "nl": "Het taalmodel heeft geweigerd deze vraag te beantwoorden.",
        "pt": "O modelo de linguagem recusou-se a responder a esta pergunta.",
    },
    "model_down": {
        "en": "The language model is not answering; these are quotations from the documents.",
        "de": "Das Sprachmodell antwortet nicht; dies sind Zitate aus den Dokumenten.",
        "fr": "Le modèle de langage ne répond pas ; voici des citations des documents.",
        "es": "El modelo de lenguaje no responde; estas son citas de los documentos.",
        "it": "Il modello linguistico non risponde; queste sono citazioni dai documenti.",
        "nl": "Het taalmodel antwoordt niet; dit zijn citaten uit de documenten.",
        "pt": "O modelo de linguagem não responde; estas são citações dos documentos.",
    },
    "cut_short": {
        "en": "The answer was cut short at its length limit.",
        "de": "Die Antwort wurde an ihrer Längengrenze abgebrochen.",
        "fr": "La réponse a été coupée à sa limite de longueur.",
        "es": "La respuesta se cortó al llegar a su límite de longitud.",
        "it": "La risposta è stata interrotta al limite di lunghezza.",
        "nl": "Het antwoord is afgebroken bij de maximale lengte.",
        "pt": "A resposta foi cortada no seu limite de comprimento.",
    },
    "broke_off": {
        "en": "The language model broke off; what it had said until then was checked.",
        "de": "Das Sprachmodell brach ab; was es bis dahin sagte, wurde geprüft.",
        "fr": "Le modèle de langage s'est interrompu ; ce qu'il avait dit jusque-là a été vérifié.",
    },
    "too_dear": {
        "en": "This question would cost more than one request may; these are quotations from the documents.",
        "de": "Diese Frage würde mehr kosten, als eine Anfrage darf; dies sind Zitate aus den Dokumenten.",
    },
    "words_only": {
        "en": "Search by meaning is not available at the moment; sources were found by their words.",
        "de": "Die Suche nach Bedeutung ist zurzeit nicht verfügbar; die Quellen wurden nach Wörtern gefunden.",
        "fr": "La recherche par le sens n'est pas disponible ; les sources ont été trouvées par leurs mots.",
    },
    "vectors_waiting": {
        "en": "Documents are being prepared: {percent} % of what you may read can be found by meaning, all of it by words.",
        "de": "Dokumente werden vorbereitet: {percent} % dessen, was Sie lesen dürfen, findet man nach Sinn, alles nach Wörtern.",
    },
    "filter_dropped": {
        "en": "Nothing fitting was found under {filter}, so it was left out.",
        "de": "Unter {filter} wurde nichts Passendes gefunden; die Einschränkung blieb außer Acht.",
    },
    "no_such_year": {
        "en": "I found no such document of {year}, but of these years: {years}. Which one do you mean?",
        "de": "Ein solches Dokument von {year} habe ich nicht gefunden, wohl aber aus diesen Jahren: {years}. Welches meinen Sie?",
        "fr": "Je n'ai pas trouvé un tel document de {year}, mais de ces années : {years}. Lequel voulez-vous dire ?",
    },
    "sources_disagree": {
        "en": "The sources disagree: compare {sources}.",
        "de": "Die Quellen widersprechen sich: vergleichen Sie {sources}.",
        "fr": "Les sources se contredisent : comparez {sources}.",
    },
    "mean_year": {"en": "The one of {year}?", "de": "Das von {year}?", "fr": "Celui de {year} ?"},
}


def phrase(name: str, language: str, **values: str) -> str:
    """The sentence of this name in this language, its ``{values}`` filled in."""
    said = _PHRASES[name]
    return said.get(language, said["en"]).format(**values)
