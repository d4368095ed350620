"""kill -9 while spans come in: every batch that was answered with 200 is there afterwards."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
from tests.support.processes import Serving
from tests.support.services import open_service

from mainstay.access.keys import Permission

SPANS = 20


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_no_acknowledged_batch_is_lost(tmp_path: Path, dialect: str) -> None:
    with open_service(tmp_path, dialect=dialect) as app:
        scopes = [Permission.TRACES_WRITE, Permission.TRACES_READ]
        key = app.keyring.create("service:sender", name="s", scopes=scopes)[1]
    acknowledged: list[str] = []
    enough = threading.Event()

    def send(serving: Serving) -> None:
        while True:
            trace_id = uuid.uuid4().hex
            spans = [
                {
                    "traceId": trace_id,
                    "spanId": f"{n + 1:016x}",
                    "name": "step",
                    "startTimeUnixNano": "1790000000000000000",
                    "endTimeUnixNano": "1790000000500000000",
                }
                for n in range(SPANS)
            ]
            try:
                said = serving.post("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}, key)
            except OSError:
                return
            if said.status == 200:
                acknowledged.append(trace_id)
                if len(acknowledged) >= 30:
                    enough.set()

    with Serving.on(tmp_path) as serving:
        senders = [threading.Thread(target=send, args=(serving,)) for _ in range(3)]
        for sender in senders:
            sender.start()
        assert enough.wait(60)
        serving.kill()
        for sender in senders:
            sender.join(60)
    with Serving.on(tmp_path) as serving:
        for trace_id in acknowledged:
            assert len(serving.get(f"/v1/requests/{trace_id}", key).json()["spans"]) == SPANS
