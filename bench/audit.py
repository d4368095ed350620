"""What the audit log costs: CPU of a decision record, of an event, of a proof and of a check; bytes of a proof and of a row.

    python -m bench.audit [--events 50000] [--postgres URL]

Prints one JSON document. CPU is that of this process alone; with PostgreSQL the server's comes on top.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mainstay.clock import SystemClock
from mainstay.records.audit import AuditEntry, By, Signer, merkle
from mainstay.records.decisions import Circumstances, DecisionRecord, decision_of
from mainstay.records.traces import Span, Trace
from mainstay.shapes import audit_proof_view
from mainstay.storage.audit import SqlAudit, SqlDecisions, SqlHeads
from mainstay.storage.database import Address, Database, open_database
from mainstay.types import Answer, Citation, Passage, Status

BATCH = 50  # answers that the recorder writes together
PASSAGES = 8


def answered(n: int, clock: SystemClock) -> tuple[Answer, Trace, Circumstances]:
    """An answer with eight passages, as the road has it in hand."""
    found = [
        Passage(
            chunk=f"chk_{k:026}",
            document=f"doc_{k:026}",
            version="v" * 16,
            title="A title",
            uri="docs/title.md",
            text="",
            start=100 * k,
            end=100 * k + 99,
            score=1 / (k + 1),
        )
        for k in range(PASSAGES)
    ]
    cited = [
        Citation(
            n=k + 1,
            document=one.document,
            version=one.version,
            title="",
            uri="",
            quote="",
            start=one.start,
            end=one.end,
        )
        for k, one in enumerate(found[:3])
    ]
    answer = Answer(
        id=f"req_{n:026}",
        status=Status.ANSWERED,
        text="An answer of usual length. " * 20,
        citations=tuple(cited),
        model="writer",
        route=("cache:miss", "writer:answered"),
        confidence=0.9,
        release="rel_0123456789abcdef",
        timings_ms={"total": 812.0},
    )
    steps = (
        Span(kind="retrieve", start_ms=0.0, duration_ms=1.0, attributes={"filters": ["year=2026"]}),
        Span(
            kind="route",
            start_ms=1.0,
            duration_ms=1.0,
            attributes={"order": ["writer: cheapest"], "why": "good enough"},
        ),
    )
    trace = Trace(
        request_id=answer.id,
        at=clock.now(),
        asker=f"user:asker{n % 200}",
        kind="answer",
        status="answered",
        spans=steps,
        operator={"scope": "s" * 32, "cut_off_by_permission": 3},
    )
    around = Circumstances(
        question="How much leave does a year have?" * 3,
        history=[("user", "What about leave?")],
        found=found,
        notices=["Some sources are in another language."],
        disclosure="A machine wrote this.",
        prompt="answer v3",
        prices="2026-11-01",
        agreement="a" * 64,
        grounded=1.0,
        covered=0.9,
    )
    return answer, trace, around


def measured(database: Database, events: int) -> dict[str, Any]:
    clock = SystemClock()
    audit, decisions, signer = SqlAudit(database, clock), SqlDecisions(database), Signer(b"b" * 32)
    heads = SqlHeads(database, clock, lambda: signer, every_events=1, every_s=1)
    found: dict[str, Any] = {"database": database.dialect}

    given = [answered(n, clock) for n in range(2000)]
    began = time.process_time()
    records: list[DecisionRecord] = [decision_of(*one) for one in given]
    found["decision_of_ms"] = round((time.process_time() - began) / len(records) * 1000, 4)
    began, wall = time.process_time(), time.monotonic()
    for at in range(0, len(records), BATCH):
        with database.write(alone=False, durable=False) as connection:
            decisions.put_all(connection, records[at : at + BATCH])
    found["decision_put_ms_cpu"] = round((time.process_time() - began) / len(records) * 1000, 4)
    found["decision_put_ms_wall"] = round((time.monotonic() - wall) / len(records) * 1000, 4)

    by = By(principal="user:ann", request_id="req_1")
    began = time.process_time()
    for n in range(500):
        entry = AuditEntry(
            action="member.added", subject=f"user:p{n}", at=clock.now(), by=by, details={"group": "group:x"}
        )
        with database.write(alone=False, durable=False) as connection:
            append_one(connection, entry)
    found["event_alone_ms_cpu"] = round((time.process_time() - began) / 500 * 1000, 4)

    while audit.size() < events:
        more = [replace(record, request_id=f"req_{audit.size()}_{n}") for n, record in enumerate(records[:1000])]
        with database.write(alone=False, durable=False) as connection:
            decisions.put_all(connection, more)
    began = time.process_time()
    head = heads.sign_due(now=True)
    found["head_ms_cpu"] = round((time.process_time() - began) * 1000, 3)
    assert head is not None
    began = time.process_time()
    for n in range(0, head.size, head.size // 200):
        audit.proof(n)
    found["proof_ms_cpu"] = round((time.process_time() - began) / 200 * 1000, 3)
    proof = audit_proof_view(audit.proof(head.size // 2))
    found["proof_bytes"] = len(json.dumps(proof, separators=(",", ":")))
    longest = {**proof, "path": ["0" * 64] * len(merkle.inclusion_ranges(1, 10_000_000))}
    found["proof_bytes_at_10m"] = len(json.dumps(longest, separators=(",", ":")))
    began, wall = time.process_time(), time.monotonic()
    report = audit.verify([head])
    assert report.right, report.findings
    found["events"] = report.events
    found["verify_events_per_cpu_s"] = round(report.events / (time.process_time() - began))
    found["verify_s"] = round(time.monotonic() - wall, 2)
    if database.dialect == "sqlite":
        found["bytes_per_decision"] = round(Path(database.where).stat().st_size / report.events)
    return found


def append_one(connection: Any, entry: AuditEntry) -> None:
    from mainstay.storage.audit import append  # beside the loop that it is measured in

    append(connection, entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--postgres", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Address(url=given.postgres or str(Path(folder) / "audit.db")))
        try:
            print(json.dumps(measured(database, given.events), indent=1))
        finally:
            database.close()


if __name__ == "__main__":
    main()
