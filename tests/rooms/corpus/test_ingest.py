"""A source and the truth become equal: add, change, move, delete, change of access; broken files never stop a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.services import open_service, people, search, sync, write

from mainstay.errors import Conflict, Unavailable

POLICY = "# Travel policy\n\nThe daily travel allowance is 52 euros for every employee of Harbourline.\n"
RENT = "# Rent\n\nThe rent of the Genoa office is 4,100 euros a month since March.\n"


def ids(folder: Path, service) -> dict[str, str]:  # type: ignore[no-untyped-def]  # an App
    return {path: known.doc_id for path, known in service.documents.known("docs").items()}


def test_added_changed_moved_deleted(tmp_path: Path) -> None:
    docs = tmp_path / "documents"
    with open_service(
        tmp_path, {".access.yaml": "allow: [group:staff]", "a/travel.md": POLICY, "rent.md": RENT}
    ) as app:
        people(app, {"alice": ("staff",)})
        first = sync(app)
        assert (first.added, first.unchanged) == (2, 0)
        before = ids(tmp_path, app)
        assert search(app, "daily travel allowance", "alice")[0].uri == "a/travel.md"

        again = sync(app)
        assert (again.added, again.changed, again.moved, again.removed, again.unchanged) == (0, 0, 0, 0, 2)

        (docs / "b").mkdir()
        (docs / "a/travel.md").rename(docs / "b/journeys.md")
        moved = sync(app)
        assert (moved.moved, moved.added, moved.removed) == (1, 0, 0)
        assert ids(tmp_path, app)["b/journeys.md"] == before["a/travel.md"]
        assert search(app, "daily travel allowance", "alice")[0].uri == "b/journeys.md"

        write(docs, {"b/journeys.md": POLICY.replace("52", "57")})
        changed = sync(app)
        assert changed.changed == 1
        assert ids(tmp_path, app)["b/journeys.md"] == before["a/travel.md"]
        assert "57" in search(app, "daily travel allowance", "alice")[0].text

        (docs / "b/journeys.md").unlink()
        assert sync(app).removed == 1
        assert all(passage.uri == "rent.md" for passage in search(app, "daily travel allowance", "alice"))


def test_a_new_file_where_another_was_moved_away_is_another_document(tmp_path: Path) -> None:
    docs = tmp_path / "documents"
    with open_service(tmp_path, {"x.md": POLICY}) as app:
        sync(app)
        old = ids(tmp_path, app)["x.md"]
        (docs / "x.md").rename(docs / "y.md")
        write(docs, {"x.md": RENT})
        sync(app)
        assert ids(tmp_path, app)["y.md"] == old
        assert ids(tmp_path, app)["x.md"] != old


def test_old_versions_keep_their_text(tmp_path: Path) -> None:
    with open_service(tmp_path, {".access.yaml": "allow: [user:alice]", "t.md": POLICY}) as app:
        people(app, {"alice": ()})
        sync(app)
        passage = search(app, "daily allowance", "alice")[0]
        write(tmp_path / "documents", {"t.md": POLICY.replace("52", "60")})
        sync(app)
        scope = app.gate.scope(app.identity.actor_for("user:alice"))
        stored = app.documents.text(passage.document, passage.version, scope=scope)
        assert stored is not None
        assert stored[0][passage.start : passage.end] == passage.text


ACCESS_CASES = [
    ("allow: [group:staff]", "", {"alice", "bob"}),
    ("allow: [public]", "", {"alice", "bob", "carol"}),
    ("allow: [group:staff]\ndeny: [user:bob]", "", {"alice"}),
    ("[user:carol]", "", {"carol"}),
    ("", "access: [user:bob]", {"bob"}),
    ("allow: [group:staff]\ndeny: [user:bob]", "access: [user:bob, user:carol]", {"carol"}),
    ("allow: [group:staff]", "access: {deny: [user:alice]}", {"bob"}),
    ("", "", set()),
    ("allow: [group:no-such-group]", "", set()),
    ("allow: nonsense", "", set()),
    ("allow: [group:staff]", "access: [nonsense:x]", set()),
    ("allow: [group:staff", "", set()),
]


@pytest.mark.parametrize(("folder_rule", "own_rule", "readers"), ACCESS_CASES)
def test_who_reads_what(folder_rule: str, own_rule: str, readers: set[str], tmp_path: Path) -> None:
    text = f"---\n{own_rule}\n---\n{POLICY}" if own_rule else POLICY
    files = {"sub/travel.md": text} | ({".access.yaml": folder_rule} if folder_rule else {})
    with open_service(tmp_path, files) as app:
        people(app, {"alice": ("staff",), "bob": ("staff",), "carol": ()})
        sync(app)
        assert {user for user in ("alice", "bob", "carol") if search(app, "travel allowance", user)} == readers


def test_access_changes_without_reading_files_again(tmp_path: Path) -> None:
    docs = tmp_path / "documents"
    files = {f"d{n}.md": POLICY.replace("52", str(n)) for n in range(20)} | {".access.yaml": "allow: [group:staff]"}
    with open_service(tmp_path, files) as app:
        people(app, {"alice": ("staff",), "bob": ()})
        sync(app)
        write(docs, {".access.yaml": "allow: [user:bob]"})
        report = sync(app)
        assert (report.changed, report.unchanged) == (0, 20)
        assert report.access_changed == 20
        assert not search(app, "travel allowance", "alice")
        assert search(app, "travel allowance", "bob")


def test_a_closed_folder_closes_before_anything_is_parsed(tmp_path: Path) -> None:
    docs = tmp_path / "documents"
    with open_service(tmp_path, {".access.yaml": "allow: [group:staff]", "a.md": POLICY}) as app:
        people(app, {"alice": ("staff",)})
        sync(app)
        write(docs, {".access.yaml": "allow: []", "a.md": POLICY + "\nMore.\n"})
        seen: list[bool] = []
        app.synchronise(app.source("docs"), progress=lambda *_: seen.append(bool(search(app, "allowance", "alice"))))
        assert seen[0] is False


def test_broken_files_are_quarantined_and_the_rest_goes_on(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        ".access.yaml": "allow: [user:alice]",
        "good.md": POLICY,
        "broken.pdf": b"%PDF-1.7\n%%EOF",
        "zero.docx": b"PK\x03\x04 not a zip",
        "nul.txt": b"abc\x00def\x00",
    }
    with open_service(tmp_path, files) as app:
        people(app, {"alice": ()})
        report = sync(app)
        assert set(report.quarantined) == {"broken.pdf", "zero.docx", "nul.txt"}
        assert all(reason and "\n" not in reason for reason in report.quarantined.values())
        assert search(app, "travel allowance", "alice")
        write(tmp_path / "documents", {"nul.txt": "The parking permit costs 12 euros a month for employees."})
        assert sync(app).changed == 1
        assert search(app, "parking permit", "alice")[0].uri == "nul.txt"


def test_an_empty_or_missing_root_deletes_nothing(tmp_path: Path) -> None:
    with open_service(tmp_path, {"a.md": POLICY}) as app:
        sync(app)
        (tmp_path / "documents/a.md").unlink()
        with pytest.raises(Conflict, match="empty"):
            sync(app)
        (tmp_path / "documents").rmdir()
        with pytest.raises(Unavailable):
            sync(app)
        assert len(ids(tmp_path, app)) == 1
        (tmp_path / "documents").mkdir()
        app.synchronise(app.source("docs"), delete_all=True)
        assert not ids(tmp_path, app)


def test_links_out_of_the_source_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret.md": "# Secret\n\nThe vault code is 4711 and nobody may know it."})
    with open_service(tmp_path, {"a.md": POLICY}) as app:
        (tmp_path / "documents/link.md").symlink_to(tmp_path / "outside/secret.md")
        (tmp_path / "documents/dir").symlink_to(tmp_path / "outside")
        (tmp_path / "documents/loop").symlink_to(tmp_path / "documents")
        report = sync(app)
        assert set(ids(tmp_path, app)) == {"a.md"}
        assert len([problem for problem in report.problems if "link" in problem]) >= 2


RECORDS = """\
name: Records
sources:
  - name: docs
    folder: documents
    rules:
      - match: tickets.jsonl
        records: {id: id, title: subject, access: ["user:{owner}", "group:{team}"], metadata: [priority], omit: [secret]}
"""


def test_records_become_documents_with_their_own_access(tmp_path: Path) -> None:
    rows = [
        {
            "id": "T-1",
            "subject": "Printer",
            "body": "The printer on floor two is jammed.",
            "owner": "alice",
            "team": "IT",
            "priority": 2,
            "secret": "xyzzy",
        },
        {
            "id": "T-2",
            "subject": "Laptop",
            "body": "The laptop of the controller does not start.",
            "owner": "bob",
            "team": "IT",
            "priority": 1,
        },
        {"id": "T-3", "subject": "Nobody", "body": "The orphan ticket names no owner.", "owner": None},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    with open_service(tmp_path, {"tickets.jsonl": lines}, settings=RECORDS) as app:
        people(app, {"alice": (), "bob": (), "carol": ("it",)})
        assert sync(app).added == 3
        assert [p.uri for p in search(app, "printer jammed", "alice")] == ["tickets.jsonl#T-1"]
        assert {p.uri for p in search(app, "laptop printer ticket", "carol")} == {
            "tickets.jsonl#T-1",
            "tickets.jsonl#T-2",
        }
        assert search(app, "printer", "alice")[0].metadata["priority"] == 2
        assert not any("xyzzy" in p.text for p in search(app, "xyzzy", "alice"))
        assert "tickets.jsonl#T-3" not in {
            p.uri for user in ("alice", "bob", "carol") for p in search(app, "orphan ticket", user)
        }
