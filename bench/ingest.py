"""Measures ingestion: EnterpriseBench by ``examples/enterprisebench``, through the sandbox, pieces, index and static vectors.

    python -m bench.ingest

CPU seconds count this process and the parsing child. The last line printed is one JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

from bench._data import DATA_VARIABLE, ROOT
from mainstay.app import App
from mainstay.settings import load, parse_rules


def main() -> None:
    data = Path(os.environ.get(DATA_VARIABLE) or ROOT / ".." / "shared" / "data").resolve() / "enterprisebench"
    if not data.is_dir():
        raise SystemExit(f"{data}: not here; set {DATA_VARIABLE} to the folder that holds enterprisebench")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mainstay.yaml").write_text("name: EnterpriseBench\n", encoding="utf-8")
        rules = parse_rules(ROOT / "examples" / "enterprisebench" / "rules.yaml")
        with App(load(Path(folder), {})) as app:
            began = cpu_s()
            report = app.synchronise(app.remember_source(replace(rules, name="company", folder=str(data))))
            app.sandbox.close()  # its child's time counts once it has ended
            read = cpu_s()
            app.embed_waiting()
            app.follower().current()
            searchable = cpu_s()
            done, pieces = app.documents.embedding_progress(app.embedder().identity)
        again = cpu_s()
        with App(load(Path(folder), {})) as app:
            unchanged = app.synchronise(app.source("company")).unchanged
        repeated = cpu_s()
    assert done == pieces
    assert unchanged == report.added
    figures = {
        "documents": report.added,
        "pieces": pieces,
        "quarantined": len(report.quarantined),
        "read.cpu_s": round(read - began, 2),
        "vectors_and_index.cpu_s": round(searchable - read, 2),
        "documents_per_cpu_s": round(report.added / (searchable - began), 1),
        "unchanged_sync.cpu_s": round(repeated - again, 2),
    }
    for name, value in figures.items():
        print(f"{name:28} {value:>10}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()}
    print(json.dumps({"bench": "ingest", "figures": figures, "peers": {}, "machine": machine}))


def cpu_s() -> float:
    """CPU seconds of this process and of children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
