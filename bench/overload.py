"""Three times as much as the service can do, for a minute: what is let in is fast, what is not is told so at once.

    make bench NAME=overload
    make bench NAME=overload ARGS="--seconds 15"

A served Mainstay with a model provider on loopback, several users, three classes of priority, no limit of rate: only what it can
do counts. First its capacity, by a closed loop of as many clients as ``traffic.concurrency``; then an open loop at ``--times`` the
capacity. ``admitted_p95_ratio`` is the 95th percentile of the answered ones, from when each was due, over the agreement's
objective (1 or less keeps it). ``shed_p95_ms`` is what a refusal takes from the request's last byte to its response's; client,
provider and service share the machine, so that what the machine makes them wait for is in it. ``shed_waited`` counts those
that took at least ``queue_wait_s``: queued, and refused in the end; ``shed_at_once_p95_ms`` leaves them out. ``shed_unsaid``
counts refusals without Retry-After and ``other`` whatever is neither an answer nor a refusal: both must be nought. The last
line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import Serving

from bench._data import machine, say
from bench._load import Asked, Outcome, Plan, cpu_s, quantile, run
from bench._upstream import Provider
from bench.overhead import ROUTE, WAIT_MS, chat, prepared, questions, shown

SHED = (429, 503)
CLASSES = {"desk": "high", "ann": "normal", "ben": "normal", "cara": "normal", "dan": "normal", "batch": "low"}
ORDER = ("desk", "ann", "ben", "batch", "cara", "dan", "desk", "ann", "cara", "batch")
"""Who asks, round about: one in five is of the highest class, one in five of the lowest."""
AGREEMENT = """\
request: {{cap_usd: "0.050000", deadline_s: 30}}
budgets: [{{of: service, per: month, usd: "1000"}}]
objectives: [{{name: fast, measure: latency_p95_ms, target: {objective_ms}, window: 1h}}]
traffic:
  user_per_minute: 0
  concurrency: {concurrency}
  queue: {queue}
  queue_wait_s: {wait_s}
  classes:
    - {{name: high, priority: 10, who: ["user:desk"]}}
    - {{name: low, priority: -10, who: ["user:batch"]}}
"""


def asked(keys: dict[str, str], texts: Sequence[str]) -> list[Asked]:
    """The questions, dealt out to the users."""
    users = [ORDER[at % len(ORDER)] for at in range(len(texts))]
    return [
        Asked(
            path="/v1/chat/completions",
            key=keys[user],
            body=chat("mainstay", text, streamed=False),
            tag=CLASSES[user],
        )
        for user, text in zip(users, texts, strict=True)
    ]


def judged(outcomes: Sequence[Outcome], *, objective_ms: float, wait_s: float, seconds: float) -> dict[str, float]:
    """What the open loop showed."""
    answered = [one for one in outcomes if one.status == 200]
    shed = [one for one in outcomes if one.status in SHED]
    took, told = [one.latency_ms for one in answered], [one.service_ms for one in shed]
    figures = {
        "requests": len(outcomes),
        "admitted": len(answered),
        "admitted_per_s": round(sum(one.end <= seconds for one in answered) / seconds, 1),
        "admitted_p50_ms": round(quantile(took, 0.50), 1),
        "admitted_p95_ms": round(quantile(took, 0.95), 1),
        "admitted_p99_ms": round(quantile(took, 0.99), 1),
        "admitted_p95_ratio": round(quantile(took, 0.95) / objective_ms, 3),
        "shed": len(shed),
        "shed_p50_ms": round(quantile(told, 0.50), 1),
        "shed_p95_ms": round(quantile(told, 0.95), 1),
        "shed_p99_ms": round(quantile(told, 0.99), 1),
        "shed_max_ms": round(max(told, default=0.0), 1),
        "shed_waited": sum(ms >= 1000 * wait_s for ms in told),
        "shed_at_once_p95_ms": round(quantile([ms for ms in told if ms < 1000 * wait_s], 0.95), 1),
        "shed_over_50_ms": sum(ms >= 50 for ms in told),
        "shed_unsaid": sum(not one.retry_after for one in shed),
        "other": len(outcomes) - len(answered) - len(shed),
        "client_late_p95_ms": round(quantile([one.late_ms for one in outcomes], 0.95), 1),
    }
    for name in dict.fromkeys(CLASSES.values()):
        mine = [one for one in outcomes if one.tag == name]
        share = sum(one.status == 200 for one in mine) / max(1, len(mine))
        figures[f"admitted_share.{name}"] = round(share, 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the open loop")
    parser.add_argument("--times", type=float, default=3.0, help="the open loop's rate over the capacity")
    parser.add_argument("--objective-ms", type=float, default=1500.0)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--wait-s", type=float, default=0.5)
    chosen = parser.parse_args()
    agreement = AGREEMENT.format(
        objective_ms=chosen.objective_ms, concurrency=chosen.concurrency, queue=chosen.queue, wait_s=chosen.wait_s
    )
    with tempfile.TemporaryDirectory() as name, Provider.on(wait_ms=WAIT_MS) as provider:
        folder = Path(name) / "service"
        users = list(CLASSES)
        keys = dict(
            zip(users, prepared(folder, provider=provider.base_url, agreement=agreement, users=users), strict=True)
        )
        with Serving.on(folder) as serving:

            def closed(seed: int, seconds: float) -> float:
                plan = Plan(
                    address=serving.address,
                    requests=asked(keys, questions(2000, seed)),
                    seconds=seconds,
                    clients=chosen.concurrency,
                )
                told = run(plan)
                if wrong := Counter(one.status for one in told.outcomes if one.status != 200):
                    say(f"closed loop: {dict(wrong)} were no answers: {told.samples}")
                return sum(one.status == 200 and one.end <= seconds for one in told.outcomes) / seconds

            closed(2, 3.0)  # warm
            capacity = closed(3, 8.0)
            if capacity <= 0:
                raise SystemExit("nothing was answered: there is nothing to overload")
            rate = chosen.times * capacity
            say(f"capacity {capacity:.1f} a second; open loop at {rate:.1f} for {chosen.seconds:g} s")
            before = cpu_s(serving.popen.pid)
            plan = Plan(
                address=serving.address,
                requests=asked(keys, questions(int(rate * chosen.seconds * 1.2) + 50, 4)),
                seconds=chosen.seconds,
                rate=rate,
                seed=5,
                connections=1024,
                patience_s=35.0,
                count=ROUTE,
            )
            told = run(plan)
            spent = cpu_s(serving.popen.pid) - before
    statuses = Counter(one.status for one in told.outcomes)
    say(f"statuses {dict(statuses)}; ways {told.counted}")
    for sample in told.samples:
        if not sample.startswith("200"):
            say(sample[:600])
    figures = {
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(len(told.outcomes) / chosen.seconds, 1),
        **judged(told.outcomes, objective_ms=chosen.objective_ms, wait_s=chosen.wait_s, seconds=chosen.seconds),
        "cpu_share": round(spent / told.took_s, 2),
        "client_cpu_share": round(told.cpu_s / told.took_s, 2),
    }
    shown(figures)
    print(json.dumps({"bench": "overload", "figures": figures, "peers": {}, "machine": machine()}))


if __name__ == "__main__":
    main()
