"""Finds where an agreement contradicts itself or the models it is to be kept with: what can not be kept is not promised.

Each clause has checked its own shape by now (``terms``). Here clauses meet: a cap that pays for no call, a mode that names no
model, an objective that nobody measures. All contradictions are found, each with its key and what to do about it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from mainstay.agreement.burning import COST, TICKETS_ONLY
from mainstay.agreement.terms import Agreement, Budget, Objective, Period, Topic, Traffic, seconds
from mainstay.agreement.wording import TIMES, dollars, length, percent, purse, target
from mainstay.errors import Invalid
from mainstay.types import Mode

EXTRACTIVE = "extractive"
DOORS = ("answers", "chat", "page", "cli")
PROMPT_TOKENS = 300
"""What the smallest useful prompt takes: instructions, a question, one short passage."""
USEFUL_OUTPUT_TOKENS = 32
"""One sentence with its citation."""
LONGEST_WINDOW_S = 366 * 86_400
LONGEST_KEPT_DAYS = 36_525  # a hundred years: dates end somewhere
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "notice": ("{cause}",),
    "text": ("{cause}",),
    "disclosure": (),
    "promise": ("{reference}",),
}
"""What is filled in in the texts of the agreement."""
# ISO 639-1.
LANGUAGES = frozenset(
    re.findall(
        r"\w\w",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es"
        " et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj"
        " kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv"
        " ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti"
        " tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu",
    )
)
_ORDER = list(Mode)
_CALLS_MODELS = frozenset({Mode.FULL, Mode.ECONOMY})
_BRACES = re.compile(r"\{+\s*([\w.:!-]*)\s*\}+")
_PRINCIPAL = re.compile(r"anonymous|key_\w+|(user|group|service):\S.*")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What of a language model decides whether an agreement can be kept.

    Prices in nano-dollars per million tokens, None where nobody told; ``call_price`` is per call. ``answers``: the settings
    let it answer. ``local``: it runs on this machine, in no other region.
    """

    name: str
    input_price: int | None = None
    output_price: int | None = None
    call_price: int = 0
    context_tokens: int = 8192
    useful_output_tokens: int = USEFUL_OUTPUT_TOKENS
    region: str = ""
    local: bool = False
    answers: bool = True

    @property
    def least_cost(self) -> int | None:
        """What the smallest useful call costs, in nano-dollars; None when a price is not known."""
        if self.input_price is None or self.output_price is None:
            return None
        cost = PROMPT_TOKENS * self.input_price + self.useful_output_tokens * self.output_price
        return self.call_price - (-cost // 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """What can not be true at once, at which key of agreement.yaml (``budgets.0.usd``), and what to do."""

    key: str
    what: str
    fix: str


def contradictions(agreement: Agreement, models: Mapping[str, ModelFacts]) -> list[Contradiction]:
    """Everything that contradicts, in the order of the file's sections. ``models`` are the language models that the settings
    know; the built-in ``extractive`` answerer need not be among them: it is always there, and free."""
    return [
        *_request(agreement, models),
        *_objectives(agreement, models),
        *_traffic(agreement),
        *_budgets(agreement, models),
        *_governance(agreement, models),
        *_modes(agreement, models),
        *_routing(agreement, models),
        *_cache(agreement),
        *_handover(agreement),
    ]


def told(key: str, what: str, fix: str) -> Contradiction:
    return Contradiction(key=key, what=what, fix=fix)


def _answering(models: Mapping[str, ModelFacts]) -> list[ModelFacts]:
    return [model for model in models.values() if model.answers and model.name != EXTRACTIVE]


def _free_answers(models: Mapping[str, ModelFacts]) -> bool:
    """Whether the settings name the built-in answerer among those that answer."""
    return EXTRACTIVE in models and models[EXTRACTIVE].answers


def _permitted(model: ModelFacts, regions: Sequence[str]) -> bool:
    return not regions or model.local or model.region in regions


# -- one request -------------------------------------------------------------------------------------------------------


def _request(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    if not math.isfinite(agreement.request.deadline_s):
        yield told("request.deadline_s", "the deadline is no number", "write seconds, like 30")
    usable = [model for model in _answering(models) if _permitted(model, agreement.governance.regions)]
    least = [model.least_cost for model in usable]
    known = [cost for cost in least if cost is not None]
    cap = agreement.request.cap_nanodollars
    if known and len(known) == len(least) and cap < min(known) and not _free_answers(models):
        cheapest = min(usable, key=lambda model: model.least_cost or 0)
        yield told(
            "request.cap_usd",
            f"the cap of {dollars(cap)} does not pay for the smallest call of the cheapest model, {cheapest.name}:"
            f" {dollars(min(known))}",
            "raise request.cap_usd, or name a cheaper model in models.answer",
        )


# -- objectives --------------------------------------------------------------------------------------------------------


def _objectives(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    seen: dict[str, int] = {}
    for n, held in enumerate(agreement.objectives):
        key = f"objectives.{n}"
        if not held.name.strip():
            yield told(f"{key}.name", "an objective without a name", "name it, like latency")
        elif held.name in seen:
            yield told(
                f"{key}.name",
                f"two objectives are named {held.name!r}",
                "give each its own name: its standing is kept by it",
            )
        seen.setdefault(held.name, n)
        if held.team and not re.fullmatch(r"group:\S.*", held.team):
            yield told(f"{key}.team", f"the team {held.team!r} is no group", "write it like group:sales")
        if held.door and held.door not in DOORS:
            yield told(
                f"{key}.door",
                f"nothing comes through a door named {held.door!r}, so nobody measures it",
                f"choose one of {', '.join(DOORS)}, or leave it out",
            )
        yield from _target(agreement, held, key)
        yield from _measured(agreement, held, key)
        yield from _window(agreement, held, key)
        if held.alert == "page" and held.measure in TICKETS_ONLY:
            yield told(
                f"{key}.alert",
                f"{held.measure} wakes nobody: it is {'a mean of costs' if held.measure == COST else 'judged, of a part alone'}",
                "write ticket, or leave it out",
            )
        if held.enter_mode is not None:
            yield from _enters(agreement, held.enter_mode, f"{key}.enter_mode", models)
        for other in agreement.objectives[:n]:
            if _about(other) == _about(held) and other.name != held.name:
                yield from _twice(held, other, key)
    yield from _times(agreement)


def _about(held: Objective) -> tuple[str, str, float | str]:
    """Whose requests it counts, and over which window, however that is written."""
    try:
        return held.team, held.door, seconds(held.window, "window")
    except Invalid:
        return held.team, held.door, held.window


def _twice(held: Objective, other: Objective, key: str) -> Iterator[Contradiction]:
    """Two targets of one measure are one promise too many, unless each is where another mode begins."""
    steps = held.enter_mode is not None and other.enter_mode is not None and held.enter_mode is not other.enter_mode
    if held.measure == other.measure and not (steps and held.target != other.target):
        yield told(
            f"{key}.measure",
            f"{held.name!r} and {other.name!r} both promise {held.measure} for the same requests over"
            f" {length(held.window)}: {target(held.measure, other.target)} and {target(held.measure, held.target)}",
            "keep one; two targets need two different enter_mode",
        )


_WITHIN = (
    ("latency_p50_ms", "latency_p95_ms", "half of the answers can not be slower than 95 % of them"),
    ("first_token_p95_ms", "latency_p95_ms", "an answer begins before it ends"),
)


def _times(agreement: Agreement) -> Iterator[Contradiction]:
    """Times that are kept anyway when another one is: they can not be missed by themselves."""
    for n, held in enumerate(agreement.objectives):
        for measure, wider, why in _WITHIN:
            bounds = [one for one in agreement.objectives if one.measure == wider and _about(one) == _about(held)]
            least = min(bounds, key=lambda one: one.target, default=None)
            if held.measure == measure and least is not None and held.target > least.target:
                yield told(
                    f"objectives.{n}.target",
                    f"{measure} of {target(measure, held.target)} is above {wider} of {target(wider, least.target)}"
                    f" ({least.name!r}): {why}",
                    "lower it, or raise the other",
                )


def _target(agreement: Agreement, held: Objective, key: str) -> Iterator[Contradiction]:
    key, value = f"{key}.target", held.target
    if not math.isfinite(value):
        yield told(key, f"the target of {held.measure} is no number", "write a number")
    elif held.measure in TIMES:
        most = agreement.request.deadline_s * 1000
        if value <= 0:
            yield told(key, f"{held.measure} can not be {value:g} ms: it would always be missed", "write milliseconds")
        elif value >= most:
            yield told(
                key,
                f"{held.measure} of {value:g} ms can never be missed: every request ends at the deadline of"
                f" {length(agreement.request.deadline_s)}",
                "promise less than request.deadline_s",
            )
    elif held.measure == "cost_per_request_usd":
        if value < 0:
            yield told(key, f"a request can not cost {value:g} dollars", "write dollars, like 0.002")
        elif value * 1e9 >= agreement.request.cap_nanodollars > 0:
            yield told(
                key,
                f"a mean cost of ${value:g} can never be exceeded: no request costs more than the cap of"
                f" {dollars(agreement.request.cap_nanodollars)}",
                "promise less than request.cap_usd",
            )
    elif not 0 <= value <= 1:
        fix = f"write {value / 100:g} for {value:g} %" if 1 < value <= 100 else "write a share, like 0.99"
        yield told(key, f"{held.measure} of {value:g} is no share of 1", fix)
    elif held.measure in ("error_rate", "wrong_cache_rate"):
        if value == 1:
            yield told(key, f"{held.measure} of at most 100 % can never be missed", "write a share, like 0.01")
    elif value == 0:
        yield told(key, f"{held.measure} of at least 0 % can never be missed", "write a share, like 0.99")


def _measured(agreement: Agreement, held: Objective, key: str) -> Iterator[Contradiction]:
    key = f"{key}.measure"
    if held.measure == "wrong_cache_rate":
        cache = agreement.cache
        if not cache.enabled:
            yield told(key, "nobody measures wrong_cache_rate: the cache is off", "set cache.enabled: true, or drop it")
        elif cache.audit == 0:
            yield told(
                key, "nobody measures wrong_cache_rate: cache.audit is 0", "let some hits be checked: cache.audit 0.02"
            )
        elif math.isfinite(held.target) and 0 <= held.target < cache.wrong_hits:
            yield told(
                key,
                f"at most {percent(held.target)} wrong answers are promised, but cache.wrong_hits permits"
                f" {percent(cache.wrong_hits)}",
                "lower cache.wrong_hits to the target",
            )
        if held.team or held.door:
            yield told(
                key,
                "nobody measures wrong_cache_rate by team or door: cached answers serve all alike",
                "leave out team and door",
            )
    if held.measure in ("groundedness", "citation_coverage") and not agreement.governance.citations_required:
        yield told(
            key,
            f"nobody measures {held.measure}: governance.citations_required is false, so answers may have no sources",
            "require citations, or drop the objective",
        )


def _window(agreement: Agreement, held: Objective, key: str) -> Iterator[Contradiction]:
    try:
        window = seconds(held.window, f"{key}.window")
    except Invalid as error:
        yield told(f"{key}.window", f"the window is {held.window!r}, not a length of time", error.fix)
        return
    kept = agreement.governance.retention_days
    if window > LONGEST_WINDOW_S:
        yield told(f"{key}.window", f"a window of {length(held.window)} is longer than a year", "write like 28d")
    elif 0 < kept * 86_400 < window:
        yield told(
            f"{key}.window",
            f"a window of {length(held.window)} can not be measured: measures are kept for {length(kept * 86_400)}",
            "shorten it, or raise governance.retention_days",
        )


def _enters(
    agreement: Agreement, mode: Mode, key: str, models: Mapping[str, ModelFacts], *, spent: bool = False
) -> Iterator[Contradiction]:
    """Whether this mode can be entered; ``spent``: because there is no money left."""
    rungs = {rung.mode: rung for rung in agreement.modes.rungs}
    if mode is Mode.FULL:
        yield told(key, "full is no limited mode: entering it changes nothing", "choose one like sources_only")
    elif mode not in rungs:
        yield told(
            key,
            f"{mode} is not on the ladder of modes.rungs",
            f"add it there, or choose one of {', '.join(rungs) or 'those that you add'}",
        )
    elif mode is Mode.CACHED_ONLY and not agreement.cache.enabled:
        yield told(
            key, "cached_only would answer nothing: the cache is off", "set cache.enabled: true, or choose another"
        )
    elif spent and mode is Mode.ECONOMY:
        named = rungs[mode].models
        held = [models[name] for name in named if name in models] if named else _answering(models)
        costs = [model.least_cost for model in held if model.name != EXTRACTIVE]
        free = EXTRACTIVE in named or (not named and (not held or _free_answers(models))) or 0 in costs
        if not free and any(cost for cost in costs):
            yield told(
                key,
                "economy still costs money, and it is entered when no money is left",
                "choose sources_only, cached_only or static",
            )


# -- traffic -----------------------------------------------------------------------------------------------------------


def _traffic(agreement: Agreement) -> Iterator[Contradiction]:
    traffic, deadline = agreement.traffic, agreement.request.deadline_s
    for name in ("service_per_minute", "user_per_minute", "key_per_minute", "burst_s", "queue_wait_s"):
        if not math.isfinite(getattr(traffic, name)):
            yield told(f"traffic.{name}", f"traffic.{name} is no number", "write a number")
    # A short deadline alone is no mistake: nobody waits longer than that anyway.
    if traffic.queue_wait_s > deadline and traffic.queue_wait_s != Traffic().queue_wait_s:
        yield told(
            "traffic.queue_wait_s",
            f"waiting for {length(traffic.queue_wait_s)} in the queue is longer than the deadline of {length(deadline)}",
            "wait for less than request.deadline_s",
        )
    for name, one in (("user_per_minute", "user"), ("key_per_minute", "key")):
        rate = getattr(traffic, name)
        if 0 < traffic.service_per_minute < rate:
            yield told(
                "traffic.service_per_minute",
                f"all together may make {traffic.service_per_minute:g} requests a minute, less than one {one} alone:"
                f" {rate:g}",
                f"raise it, or lower traffic.{name}",
            )
    lower = [str(rung.mode) for rung in agreement.modes.rungs if rung.mode is not Mode.FULL]
    if traffic.spike == "step_down" and set(lower) <= {str(Mode.STATIC)}:
        yield told(
            "traffic.spike",
            "step_down leads straight to static, which answers nothing: it is the only rung of modes.rungs"
            if lower
            else "step_down leads nowhere: modes.rungs lists no limited mode",
            "add rungs like economy or sources_only, or say spike: shed",
        )
    seen: set[str] = set()
    placed: dict[str, str] = {}
    for n, held in enumerate(traffic.classes):
        key = f"traffic.classes.{n}"
        if held.name in seen:
            yield told(f"{key}.name", f"two priority classes are named {held.name!r}", "give each its own name")
        seen.add(held.name)
        if not held.who:
            yield told(key, f"nobody is in the priority class {held.name!r}", "list principals under who, or drop it")
        for who in held.who:
            if not _PRINCIPAL.fullmatch(who):
                yield told(
                    f"{key}.who",
                    f"{who!r} names nobody",
                    "write user:NAME, group:NAME, service:NAME or the id of a key",
                )
            elif placed.setdefault(who, held.name) != held.name:
                yield told(
                    f"{key}.who",
                    f"{who} is in two priority classes, {placed[who]!r} and {held.name!r}",
                    "leave it in one",
                )


# -- budgets -----------------------------------------------------------------------------------------------------------

# People and groups may be named without saying which they are: "alice" of a user is user:alice.
_OF = {"user": r"((user|service):)?[^\s:][^:]*", "team": r"(group:)?[^\s:][^:]*", "key": r"key_\w+"}
_SAID = {"user": "user:NAME or service:NAME", "team": "group:NAME", "key": "the id of a key, like key_01..."}


def _budgets(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    cap = agreement.request.cap_nanodollars
    for n, held in enumerate(agreement.budgets):
        key, limit = f"budgets.{n}", held.limit_nanodollars
        if limit < cap:
            yield told(
                f"{key}.usd",
                f"the budget of {purse(held)}, {dollars(limit)}, does not pay for a single request: one may cost"
                f" {dollars(cap)}",
                "raise it, or lower request.cap_usd",
            )
        if held.of == "service" and held.name:
            yield told(
                f"{key}.name",
                f"the service's budget can not be {held.name!r}'s alone",
                "leave out name, or say of: team",
            )
        elif held.name and not re.fullmatch(_OF[held.of], held.name):
            yield told(f"{key}.name", f"{held.name!r} names no {held.of}", f"write {_SAID[held.of]}")
        if any(_same(held, other) for other in agreement.budgets[:n]):
            yield told(key, f"there are two budgets of {purse(held)}", "keep one")
        yield from _enters(agreement, held.enter_mode, f"{key}.enter_mode", models, spent=True)
    yield from _reach(agreement)


def _short(name: str) -> str:
    """``alice`` of ``user:alice``, as ``budgets.scopes_of`` finds whom a budget is about; nothing of a bare name."""
    return name.partition(":")[2]


def _same(held: Budget, other: Budget) -> bool:
    """Whether both limit the same money of somebody, however their names are written."""
    if (held.of, held.per) != (other.of, other.per):
        return False
    if not held.name or not other.name:
        return held.name == other.name
    return held.name in (other.name, _short(other.name)) or _short(held.name) == other.name


def _covers(other: Budget, held: Budget) -> bool:
    """Whether all that counts against ``held`` counts against ``other``, for at least as long."""
    if list(get_args(Period)).index(other.per) < list(get_args(Period)).index(held.per):
        return False
    return other.of == "service" or (other.of == held.of and other.name in ("", held.name, _short(held.name)))


def _reach(agreement: Agreement) -> Iterator[Contradiction]:
    """Budgets that can never be used up, because another one is spent first: of a longer window, of everybody."""
    for n, held in enumerate(agreement.budgets):
        over = [one for one in agreement.budgets if _covers(one, held) and not _same(one, held)]
        least = min(over, key=lambda one: one.limit_nanodollars, default=None)
        if least is not None and least.limit_nanodollars < held.limit_nanodollars:
            yield told(
                f"budgets.{n}.usd",
                f"the budget of {purse(held)}, {dollars(held.limit_nanodollars)}, can never be spent:"
                f" {purse(least)} has only {dollars(least.limit_nanodollars)}",
                "lower it, or raise the other",
            )


# -- governance --------------------------------------------------------------------------------------------------------


def _governance(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    held = agreement.governance
    for n, code in enumerate(held.languages):
        yield from _language(code, f"governance.languages.{n}")
        if code in held.languages[:n]:
            yield told(f"governance.languages.{n}", f"the language {code} stands there twice", "keep one")
    yield from _texts(held.disclosure, "governance", "disclosure")
    if held.retention_days < 0:
        yield told("governance.retention_days", f"{held.retention_days} days are none", "write 0 to keep them, or days")
    elif held.retention_days > LONGEST_KEPT_DAYS:
        yield told(
            "governance.retention_days", f"{held.retention_days} days are more than a hundred years", "0 is for good"
        )
    yield from _topics(agreement)
    seen: set[str] = set()
    for n, data_class in enumerate(held.data_classes):
        key = f"governance.data_classes.{n}"
        if not data_class.name.strip():
            yield told(f"{key}.name", "a data class without a name", "name it as the documents' metadata do")
        elif data_class.name in seen:
            yield told(f"{key}.name", f"the data class {data_class.name!r} stands there twice", "keep one")
        seen.add(data_class.name)
        yield from _known(data_class.models, f"{key}.models", models, f"the data class {data_class.name!r}")
    answering = _answering(models)
    if (
        held.regions
        and answering
        and not _free_answers(models)
        and not any(_permitted(model, held.regions) for model in answering)
    ):
        where = ", ".join(f"{model.name} ({model.region or 'region not stated'})" for model in answering)
        yield told(
            "governance.regions",
            f"no model that answers runs in {', '.join(held.regions)}: {where}",
            "add its region here, or state the provider's region in mainstay.yaml",
        )


def _topics(agreement: Agreement) -> Iterator[Contradiction]:
    held = agreement.governance
    lists: tuple[tuple[str, Sequence[Topic]], ...] = (
        ("prohibited_topics", held.prohibited_topics),
        ("person_for", held.person_for),
    )
    named: dict[str, str] = {}
    refused: dict[str, str] = {}
    for where, topics in lists:
        for n, topic in enumerate(topics):
            key = f"governance.{where}.{n}"
            if not topic.name.strip():
                yield told(f"{key}.name", "a topic without a name", "name it: the asker is told")
            if not any(word.strip() for word in topic.words):
                yield told(f"{key}.words", f"the topic {topic.name!r} has no words to know it by", "list its words")
            elif not all(re.search(r"\w", word) for word in topic.words):
                yield told(f"{key}.words", f"the topic {topic.name!r} has a word that can not be found", "take it out")
            if topic.name in named:
                both = where != named[topic.name]
                yield told(
                    f"{key}.name",
                    f"the topic {topic.name!r} is both prohibited and for a person"
                    if both
                    else f"two topics of {where} are named {topic.name!r}",
                    "keep one; prohibited_topics with then: person sends it to a person" if both else "keep one",
                )
            named.setdefault(topic.name, where)
            for word in topic.words:
                folded = " ".join(word.casefold().split())
                if where == "prohibited_topics" and topic.then == "refuse":
                    refused[folded] = topic.name
                elif where == "person_for" and refused.get(folded, topic.name) != topic.name:
                    yield told(
                        f"{key}.words",
                        f"{word!r} is refused as {refused[folded]!r} and for a person as {topic.name!r}",
                        "keep it in one",
                    )


def _language(code: str, key: str) -> Iterator[Contradiction]:
    if code not in LANGUAGES:
        short = re.split(r"[-_]", code.lower())[0]
        fix = f"write {short}" if short in LANGUAGES else "write two letters of ISO 639-1, like de or en"
        yield told(key, f"{code!r} is no language code", fix)


def _texts(texts: Mapping[str, str], where: str, name: str) -> Iterator[Contradiction]:
    """Texts for askers by language: whether each can be said as it stands."""
    known = PLACEHOLDERS[name]
    for code, text in texts.items():
        key = f"{where}.{name}.{code}"
        yield from _language(code, key)
        if not text.strip():
            yield told(key, f"the {name} in {code} is empty", "write it, or leave the language out")
        for found in _BRACES.finditer(text):
            if found[0] in known:
                continue
            close = difflib.get_close_matches(found[1].lower(), [one.strip("{}") for one in known], 1, 0.5)
            yield told(
                key,
                f"{found[0]} is nothing that is filled in here: askers would read it as it stands",
                f"{f'did you mean {{{close[0]}}}? ' if close else ''}known here: {', '.join(known)}"
                if known
                else f"nothing is filled in in a {name}: take it out",
            )


def _known(names: Sequence[str], key: str, models: Mapping[str, ModelFacts], who: str) -> Iterator[Contradiction]:
    for name in names:
        if name != EXTRACTIVE and name not in models:
            yield told(
                key,
                f"{who} names the model {name!r}, which is not set up",
                f"known: {', '.join(dict.fromkeys([EXTRACTIVE, *models]))}",
            )


# -- modes, routing, cache, hand-over ----------------------------------------------------------------------------------


def _modes(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    seen: list[Mode] = []
    for n, rung in enumerate(agreement.modes.rungs):
        key = f"modes.rungs.{n}"
        if rung.mode is Mode.FULL:
            yield told(f"{key}.mode", "full is no rung: it is where the ladder begins", "take it out")
        elif rung.mode in seen:
            yield told(f"{key}.mode", f"the mode {rung.mode} is on the ladder twice", "keep one")
        elif seen and _ORDER.index(rung.mode) < max(_ORDER.index(mode) for mode in seen):
            order = ", ".join(str(mode) for mode in _ORDER[1:])
            yield told(
                f"{key}.mode",
                f"the mode {rung.mode} stands below {seen[-1]}, which gives less",
                f"the order is {order}",
            )
        seen.append(rung.mode)
        if rung.models and rung.mode not in _CALLS_MODELS:
            yield told(f"{key}.models", f"the mode {rung.mode} asks no model, but names some", "leave out models")
        yield from _known(rung.models, f"{key}.models", models, f"the mode {rung.mode}")
        if rung.text and rung.mode is not Mode.STATIC:
            yield told(
                f"{key}.text", f"only static says a text instead of an answer, {rung.mode} does not", "use notice"
            )
        yield from _texts(rung.notice, key, "notice")
        yield from _texts(rung.text, key, "text")
    if seconds(agreement.modes.hold_down, "modes.hold_down") > LONGEST_WINDOW_S:
        yield told(
            "modes.hold_down", f"a mode would stay for {length(agreement.modes.hold_down)}", "write at most a year"
        )


def _routing(agreement: Agreement, models: Mapping[str, ModelFacts]) -> Iterator[Contradiction]:
    count = len(_answering(models)) + _free_answers(models)
    held = agreement.routing
    if held.escalations > max(1, count - 1):
        yield told(
            "routing.escalations",
            f"{held.escalations} escalations need {held.escalations + 1} models, and {max(count, 1)} may answer",
            "lower it, or name more models in models.answer",
        )
    if held.hedge_share > 0 and not _answering(models):
        yield told(
            "routing.hedge_share", "there are no slow models to hedge against: no provider answers", "leave it 0"
        )
    if held.below == "person":
        yield from _somebody(agreement, "routing.below", "answers of little confidence")


def _cache(agreement: Agreement) -> Iterator[Contradiction]:
    kept = agreement.governance.retention_days
    if seconds(agreement.cache.keep, "cache.keep") > LONGEST_KEPT_DAYS * 86_400:
        yield told(
            "cache.keep", f"answers would be kept for {length(agreement.cache.keep)}", "write at most a hundred years"
        )
    elif agreement.cache.enabled and 0 < kept * 86_400 < seconds(agreement.cache.keep, "cache.keep"):
        yield told(
            "cache.keep",
            f"cached answers are kept for {length(agreement.cache.keep)}, longer than the retention of"
            f" {length(kept * 86_400)}",
            "shorten it to governance.retention_days",
        )


def _handover(agreement: Agreement) -> Iterator[Contradiction]:
    held = agreement.handover
    if held.webhook:
        try:
            parts = urlsplit(held.webhook)
            host, scheme = parts.hostname or "", parts.scheme
        except ValueError:
            host, scheme = "", ""
        loopback = host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.\d+){3}", host))
        if not host or not (scheme == "https" or (scheme == "http" and loopback)):
            yield told(
                "handover.webhook",
                f"questions would go to {scheme or 'no scheme'}://{host or '?'} where others may read them",
                "write an https:// address (http only for this machine)",
            )
    for n, address in enumerate(held.email):
        if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", address):
            yield told(f"handover.email.{n}", f"{address!r} is not an e-mail address", "write it like help@example.com")
    yield from _texts(held.promise, "handover", "promise")
    for where, topics in (
        ("prohibited_topics", agreement.governance.prohibited_topics),
        ("person_for", agreement.governance.person_for),
    ):
        for n, topic in enumerate(topics):
            if where == "person_for" or topic.then == "person":
                yield from _somebody(agreement, f"governance.{where}.{n}", f"questions about {topic.name!r}")


def _somebody(agreement: Agreement, key: str, what: str) -> Iterator[Contradiction]:
    if not agreement.handover.webhook and not agreement.handover.email:
        yield told(key, f"{what} go to a person, but nobody is told", "set handover.webhook or handover.email")
