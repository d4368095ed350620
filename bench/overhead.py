"""What a request costs above the model's own: CPU and latency of a served Mainstay, beside the LiteLLM proxy.

    make bench NAME=overhead
    make bench NAME=overhead ARGS="--seconds 5 --rounds 2"
    make bench NAME=overhead ARGS="--profile 300"    # where the CPU goes, in one process, no peers

One model provider on loopback (20 ms, ``bench/_upstream.py``) stands behind both. Mainstay runs as it is shipped: API key, access,
retrieval in a small set of documents, ledger with a budget, cache look-up (every question is another one: no hits), checked
citations, trace. The proxy passes the question on: one worker, a master key, prices, no database, so nothing it keeps outlives it.
Requests come in an open loop at a rate far below what anybody could answer, round about, and latency counts from when each was due.

``cpu_ms`` is the CPU of the service's processes a request. ``added_p50_ms`` is the median above that of asking the provider
directly. ``extractive.`` is Mainstay quoting, without a model; ``search.`` is ``POST /v1/search`` alone. ``retrieve_ms`` and
``verify_ms`` are the CPU of finding passages and of checking a draft, which a proxy does not do; ``gateway_ms`` is the rest.
The proxy is installed by pip into ``.bench/litellm`` when it is not there. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import random
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
import venv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from tests.support.processes import Serving

from bench._data import KEPT, machine, say
from bench._load import Asked, Outcome, Plan, Told, cpu_s, quantile, run
from bench._upstream import Provider, sentence
from mainstay.app import App, open_app
from mainstay.guard.citations import check_draft
from mainstay.types import Passage, Question

WAIT_MS = 20.0
MODEL_PASSAGES = 8  # as the product gives a model
PROXY = "litellm[proxy]==1.106.*"
MASTER_KEY = "sk-bench-0123456789abcdefghijklmnop"
ROUTE = r'"(cache:\w+|[\w.-]+:(?:answered|abstained|empty|dropped|broke_off|cut_short))"'
"""What Mainstay says of each answer's way: counted, so that a run in which everything was refused is seen as such."""

PLACES = (
    *("Antwerp", "Bergen", "Bremen", "Cadiz", "Dublin", "Gdynia", "Hamburg", "Lisbon"),
    *("Marseille", "Naples", "Ostend", "Porto", "Riga", "Rotterdam", "Tallinn", "Valencia"),
)
TOPICS = {
    "travel allowance": "The travel allowance in {place} is {n} euros a month, paid with the salary.",
    "crane inspection": "Every crane in {place} is inspected every {m} weeks by an engineer of the port authority.",
    "parental leave": "Parental leave in {place} lasts {m} weeks and begins on the day the child is born.",
    "overtime rate": "Overtime in {place} is paid at a rate of {n} percent of the hourly wage.",
    "storage fee": "The storage fee in {place} is {n} euros for each container and day.",
    "visitor badge": "A visitor badge in {place} is valid for {m} hours and must be worn where it can be seen.",
    "fire drill": "The fire drill in {place} takes place every {m} months and is announced a day before.",
    "parking permit": "A parking permit in {place} costs {n} euros a year and is bound to one vehicle.",
    "meal voucher": "Meal vouchers in {place} are worth {m} euros a day and are not paid out in cash.",
    "training budget": "The training budget in {place} is {n} euros for each person and year.",
    "night shift": "The night shift in {place} begins at {m} minutes past ten and is paid with a supplement.",
    "pilot boat": "The pilot boat in {place} leaves {m} minutes before the ship reaches the breakwater.",
}
FORMS = (
    "What does the handbook say about the {topic} in {place}? Ticket {ticket}.",
    "Ticket {ticket}: how is the {topic} in {place} settled?",
    "What is the rule on the {topic} in {place}, please, for ticket {ticket}?",
)
AGREEMENT = """\
request: {cap_usd: "0.050000", deadline_s: 30}
traffic: {user_per_minute: 0, concurrency: 64, queue: 256}
budgets: [{of: service, per: month, usd: "1000"}, {of: user, per: day, usd: "500"}]
objectives: [{name: fast, measure: latency_p95_ms, target: 2000, window: 1h}]
"""
SETTINGS = """\
name: Bench
sources: [{name: handbook, folder: handbook}]
"""
MODEL = """\
models:
  answer: bench
  providers:
    bench: {base_url: "%s", model: bench, api_key: sk-upstream, price: {input: "0.50", output: "1.50"}}
"""


# --- what is served --------------------------------------------------------------------------------------------------


def questions(count: int, seed: int = 1) -> list[str]:
    """Distinct questions, in an order of the seed; each has a number of its own, so that none is another's copy."""
    ways = list(product(FORMS, TOPICS, PLACES))
    random.Random(seed).shuffle(ways)
    return [
        form.format(topic=topic, place=place, ticket=10_000 + 7 * at + seed % 7)
        for at, (form, topic, place) in ((at, ways[at % len(ways)]) for at in range(count))
    ]


def documents() -> dict[str, str]:
    """One handbook for each place, readable by the staff."""
    numbers = random.Random(5)
    made = {}
    for place in PLACES:
        lines = [
            f"## {topic.capitalize()}\n\n{fact.format(place=place, n=numbers.randrange(110, 900), m=numbers.randrange(3, 59))} "
            f"Questions about it go to the office in {place}, which answers within two working days. "
            f"Exceptions are agreed in writing and kept with the contract.\n"
            for topic, fact in TOPICS.items()
        ]
        made[f"{place.lower()}.md"] = f"---\naccess: [group:staff]\n---\n# Handbook {place}\n\n" + "\n".join(lines)
    return made


def prepared(
    folder: Path, *, provider: str = "", agreement: str = AGREEMENT, users: Sequence[str] = ("bench",)
) -> list[str]:
    """A service folder with its documents, read and embedded; returns one key for each user."""
    (folder / "handbook").mkdir(parents=True)
    for name, text in documents().items():
        (folder / "handbook" / name).write_text(text, encoding="utf-8")
    (folder / "mainstay.yaml").write_text(SETTINGS + (MODEL % provider if provider else ""), encoding="utf-8")
    (folder / "agreement.yaml").write_text(agreement, encoding="utf-8")
    with open_app(folder) as app:
        app.people.add_group("staff")
        for user in users:
            app.people.add_user(user)
            app.people.add_member("group:staff", f"user:{user}")
        app.synchronise(app.source("handbook"))
        app.embed_waiting()
        app.prepare_search()
        return [app.keyring.create(f"user:{user}", name="bench")[1] for user in users]


def chat(model: str, question: str, *, streamed: bool) -> str:
    """The body of a call to ``/v1/chat/completions``."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": question}], "stream": streamed})


# --- the proxy -------------------------------------------------------------------------------------------------------


def proxy_program() -> Path | None:
    """The LiteLLM proxy in an environment of its own; None, with the reason said, when it can not be had here."""
    home = KEPT / "litellm"
    program = home / "bin" / "litellm"
    if program.exists():
        return program
    say(f"installing {PROXY} into {home}")
    try:
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", PROXY]
        subprocess.run(pip, check=True, timeout=900, capture_output=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        say(f"litellm: not measured, it could not be installed ({said[-1] if said else error})")
        return None
    return program


@contextmanager
def proxy(provider: str, folder: Path) -> Iterator[tuple[int, str] | None]:
    """The proxy, served: its process and address; None when it is not to be had."""
    program = proxy_program()
    if program is None:
        yield None
        return
    priced = {"input_cost_per_token": 0.5e-6, "output_cost_per_token": 1.5e-6}
    model = {"model": "openai/bench", "api_base": provider, "api_key": "sk-upstream", **priced}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"telemetry": False},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    local = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_BLOG_POSTS", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")
    popen = subprocess.Popen(
        [str(program), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "litellm.log").open("w"),
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**kept, **dict.fromkeys(local, "True"), "LITELLM_LOG": "ERROR"},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and popen.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{address}/health/liveliness", timeout=2) as answer:
                answer.read()
                break
            time.sleep(0.2)
        else:
            shown = (folder / "litellm.log").read_text(errors="replace")[-2000:]
            say(f"litellm: not measured, it does not start: {shown}")
            yield None
            return
        yield popen.pid, address
    finally:
        popen.terminate()
        try:
            popen.wait(timeout=15)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def proxy_version() -> str:
    said = subprocess.run(
        [str(KEPT / "litellm" / "bin" / "python"), "-c", "import importlib.metadata as m; print(m.version('litellm'))"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Target:
    """Something that answers, and what was seen of it. ``bodies`` makes the body for a question."""

    name: str
    address: str
    path: str
    key: str
    body: Any
    pid: int
    rate: float
    seconds: float
    outcomes: list[Outcome] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    used: list[tuple[float, int]] = field(default_factory=list)  # CPU seconds and requests of each round
    used_provider: float = 0.0

    def asked(self, texts: Sequence[str]) -> list[Asked]:
        return [Asked(path=self.path, key=self.key, body=self.body(text)) for text in texts]

    def warm(self, texts: Sequence[str]) -> None:
        told = run(Plan(address=self.address, requests=self.asked(texts), seconds=1.5, clients=2))
        wrong = [one.status for one in told.outcomes if one.status != 200]
        if wrong:
            raise SystemExit(f"{self.name} answers {wrong[0]}: {told.samples}")

    def round(self, texts: Sequence[str], seed: int, provider: Provider) -> Told:
        before, theirs = cpu_s(self.pid), provider.cpu_s
        told = run(
            Plan(
                address=self.address,
                requests=self.asked(texts),
                seconds=self.seconds,
                rate=self.rate,
                seed=seed,
                count=ROUTE,
            )
        )
        self.used.append((cpu_s(self.pid) - before, len(told.outcomes)))
        self.used_provider += provider.cpu_s - theirs
        self.outcomes += told.outcomes
        self.counted.update(told.counted)
        return told

    def figures(self) -> dict[str, float]:
        good = [one for one in self.outcomes if one.status == 200]
        took = [one.latency_ms for one in good]
        return {
            "cpu_ms": round(1000 * sum(s for s, _ in self.used) / max(1, sum(n for _, n in self.used)), 2),
            "p50_ms": round(quantile(took, 0.50), 1),
            "p95_ms": round(quantile(took, 0.95), 1),
            "p99_ms": round(quantile(took, 0.99), 1),
            "first_p50_ms": round(quantile([one.first_ms for one in good], 0.50), 1),
            "requests": len(self.outcomes),
            "failed": len(self.outcomes) - len(good),
        }


def memory_mb(pid: int) -> float:
    """Resident memory of one process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def measured(rounds: int, seconds: float, rate: float) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Figures of ours, of the proxy, and what else is worth knowing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(Provider.on(wait_ms=WAIT_MS))
        (key,) = prepared(folder / "model", provider=provider.base_url)
        (quoting_key,) = prepared(folder / "quoting")
        ours = stack.enter_context(Serving.on(folder / "model"))
        quoting = stack.enter_context(Serving.on(folder / "quoting"))
        peer = stack.enter_context(proxy(provider.base_url, folder))
        chats = "/v1/chat/completions"

        def target(name: str, address: str, pid: int, key: str, model: str, *, streamed: bool = False) -> Target:
            return Target(
                name=name,
                address=address,
                path=chats,
                key=key,
                body=lambda text: chat(model, text, streamed=streamed),
                pid=pid,
                rate=rate,
                seconds=seconds,
            )

        direct = provider.base_url.removesuffix("/v1")
        targets = [
            target("direct", direct, provider.popen.pid, "sk-upstream", "bench"),
            target("", ours.address, ours.popen.pid, key, "mainstay"),
            target("stream", ours.address, ours.popen.pid, key, "mainstay", streamed=True),
            target("extractive", quoting.address, quoting.popen.pid, quoting_key, "mainstay"),
            target("search", ours.address, ours.popen.pid, key, "mainstay"),
        ]
        targets[0].seconds /= 3
        targets[3].rate /= 2  # choosing sentences takes much more CPU: this must stay far from what it can do
        targets[4].path, targets[4].body = "/v1/search", lambda text: json.dumps({"query": text})
        if peer is not None:
            pid, address = peer
            targets.insert(2, target("litellm", address, pid, MASTER_KEY, "bench"))
            targets.insert(4, target("litellm.stream", address, pid, MASTER_KEY, "bench", streamed=True))
        most = int(rate * seconds * 2) + 50
        texts = iter(questions(most * (rounds + 1) * len(targets)))
        for one in targets:
            one.warm([next(texts) for _ in range(most)])
        late: list[float] = []
        for number in range(rounds):
            for one in targets:
                told = one.round([next(texts) for _ in range(most)], number + 1, provider)
                late += [outcome.late_ms for outcome in told.outcomes]
                spent, count = one.used[-1]
                say(
                    f"round {number + 1} {one.name or 'mainstay'}: {1000 * spent / max(1, count):.1f} ms CPU, {count} requests"
                )
        apart = shares(folder / "model", 100)
        about: dict[str, Any] = {
            "rss_mb": memory_mb(ours.popen.pid),
            "litellm.rss_mb": memory_mb(peer[0]) if peer else 0.0,
            "litellm.version": proxy_version() if peer else "",
            "late_p99_ms": round(quantile(late, 0.99), 2),
            "ways": dict(sum((one.counted for one in targets), Counter())),
        }
        figures: dict[str, float] = {}
        for one in targets:
            prefix = f"{one.name}." if one.name else ""
            figures.update({prefix + name: value for name, value in one.figures().items()})
    for name in ("", "stream.", "litellm.", "litellm.stream."):
        if name + "p50_ms" in figures:
            figures[f"{name}added_p50_ms"] = round(figures[f"{name}p50_ms"] - figures["direct.p50_ms"], 1)
    figures["search_ms"] = figures["search.cpu_ms"]
    figures.update(apart)
    figures["cache_hits"] = sum(
        count for way, count in about["ways"].items() if way in ("cache:hit", "cache:similar", "cache:shared")
    )
    # What is left when finding and checking, which the proxy does not do, are taken away.
    figures["gateway_ms"] = round(figures["cpu_ms"] - sum(apart.values()), 2)
    figures["stream.gateway_ms"] = round(figures["stream.cpu_ms"] - sum(apart.values()), 2)
    if peer is not None:
        figures["cpu_ratio"] = round(figures["cpu_ms"] / figures["litellm.cpu_ms"], 2)
        figures["gateway_ratio"] = round(figures["gateway_ms"] / figures["litellm.cpu_ms"], 2)
        figures["stream.gateway_ratio"] = round(figures["stream.gateway_ms"] / figures["litellm.stream.cpu_ms"], 2)
        figures["stream.cpu_ratio"] = round(figures["stream.cpu_ms"] / figures["litellm.stream.cpu_ms"], 2)
    peers = {name: value for name, value in figures.items() if name.startswith("litellm.")}
    return {name: value for name, value in figures.items() if name not in peers}, peers, about


def shares(folder: Path, count: int) -> dict[str, float]:
    """CPU ms a question in this process, web server and model aside: finding passages, and checking a draft against them."""
    with open_app(folder) as app:
        scope = app.gate.scope(app.identity.actor_for("user:bench"))
        spent = {"retrieve_ms": 0.0, "verify_ms": 0.0}
        for at, text in enumerate(questions(count + 10, seed=3)):
            begun = time.thread_time()
            found = app.searcher.search(Question(text=text), scope=scope).passages
            passages = dict(enumerate(app.searcher.widened(found[:MODEL_PASSAGES], scope=scope), 1))
            searched = time.thread_time()
            checked = check_draft(sentence(_as_prompt(passages[1]), text), passages, text)
            if not checked.citations:
                raise SystemExit(f"nothing supports the draft for {text!r}: {checked}")
            if at >= 10:  # the first ones load what is loaded once
                spent["retrieve_ms"] += searched - begun
                spent["verify_ms"] += time.thread_time() - searched
    return {name: round(1000 * seconds / count, 2) for name, seconds in spent.items()}


def _as_prompt(passage: Passage) -> str:
    return "[1] title\n" + "\n".join(f"> {line}" for line in passage.text.splitlines())


# --- where it goes ---------------------------------------------------------------------------------------------------


def profiled(count: int, *, model: bool, shown: int = 30) -> None:
    """Print the functions that use most time of their own while one thread asks ``count`` questions, without a web server.

    The profile runs by the clock: waiting for the provider shows as ``recv``. A profiler slows down small functions more
    than large ones; the first line is what a question takes without one, in CPU time.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(Provider.on(wait_ms=2.0))
        prepared(folder / "service", provider=provider.base_url if model else "")
        app = stack.enter_context(open_app(folder / "service"))
        texts = questions(2 * count + 20)
        _ask(app, texts[:20])
        before, begun = time.thread_time(), time.process_time()
        ways = _ask(app, texts[20 : 20 + count])
        plain, whole = (time.thread_time() - before) / count, (time.process_time() - begun) / count
        profile = cProfile.Profile()  # by the clock: the CPU's own is a system call, dearer than most functions
        before = time.thread_time()
        profile.runcall(_ask, app, texts[20 + count :])
        slowed = (time.thread_time() - before) / count
    print(
        f"{'model' if model else 'extractive'}: {plain * 1000:.2f} ms CPU a question in its thread, "
        f"{whole * 1000:.2f} in the process"
    )
    print(f"under the profiler {slowed * 1000:.2f}; {dict(ways)}")
    for order in ("tottime", "cumulative"):
        said = StringIO()
        pstats.Stats(profile, stream=said).strip_dirs().sort_stats(order).print_stats(
            shown if order == "tottime" else 2 * shown
        )
        print(said.getvalue())


def _ask(app: App, texts: Sequence[str]) -> Counter[str]:
    actor = app.identity.actor_for("user:bench")
    ways: Counter[str] = Counter()
    for text in texts:
        ways.update(app.answering.answer(Question(text=text), actor).route)
    return ways


def shown(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:34} {value:>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round of each target")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="profile N questions instead")
    chosen = parser.parse_args()
    if chosen.profile:
        for model in (True, False):
            profiled(chosen.profile, model=model)
        return
    figures, peers, about = measured(chosen.rounds, chosen.seconds, chosen.rate)
    shown({**figures, **peers})
    print(json.dumps(about))
    print(json.dumps({"bench": "overhead", "figures": figures, "peers": peers, "machine": machine()}))


if __name__ == "__main__":
    main()
