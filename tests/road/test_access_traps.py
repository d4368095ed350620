"""Ways in which access could open by mistake. Each was found by trying; each stays shut."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from mainstay.access.acl import Acl
from mainstay.app import App
from mainstay.corpus.ingest import push
from mainstay.errors import Conflict
from tests.support.services import open_service, people, search, sync, write

HERON = "The secret heron number {} nests behind the third shed of the harbour.\n"


def opened(folder: Path, files: dict[str, str], *, access: str = "[public]", rules: str = "[]") -> App:
    settings = f"sources: [{{name: docs, folder: documents, access: {access}, rules: {rules}}}]\n"
    app = open_service(folder, files, settings=settings)
    people(app, {"eve": (), "hana": ("hr",)})
    return app


def found(app: App, user: str) -> set[str]:
    return {passage.uri for passage in search(app, "secret heron harbour", user, top_k=50)}


RULES = [
    # a pattern's access does not shake off a deny, nor open a folder whose rule can not be read
    (
        {"a/.access.yaml": "deny: [user:eve]", "a/x.txt": HERON, "b/x.txt": HERON},
        '[{match: "*.txt", access: [public]}]',
        {"b/x.txt"},
    ),
    (
        {"b/.access.yaml": "deny: [user:eve]", "a/x.txt": HERON, "b/x.txt": HERON},
        '[{match: "*.txt", access: [public]}]',
        {"a/x.txt"},
    ),
    (
        {"a/.access.yaml": "allow: [", "a/x.txt": HERON, "b/x.txt": HERON},
        '[{match: "*.txt", access: [public]}]',
        {"b/x.txt"},
    ),
    (
        {"a/x.txt": HERON, "b/x.txt": HERON},
        '[{match: "*", access: [public]}, {match: "a/*", access: [group:hr]}]',
        {"b/x.txt"},
    ),
    # one name, two spellings in bytes
    ({unicodedata.normalize("NFD", "verträge/x.txt"): HERON}, '[{match: "verträge/*", access: [group:hr]}]', set()),
]


@pytest.mark.parametrize(("files", "rules", "visible"), RULES, ids=range(len(RULES)))
def test_rules_by_pattern(files: dict[str, str], rules: str, visible: set[str], tmp_path: Path) -> None:
    with opened(tmp_path, files, rules=rules) as app:
        sync(app)
        assert found(app, "eve") == visible
        sync(app)
        assert found(app, "eve") == visible


FRONT = [
    "---\ntitle: Layoffs: the plan\naccess: group:hr\n---\n",
    "---\naccess: [group:hr\n---\n",
    "---\n\taccess: group:hr\n---\n",
    "---\naccess: group:hr\n\n",
    "---\naccess: group:hr\npad: " + "x" * 40_000 + "\n---\n",
    "\n\n---\naccess: group:hr\n---\n",
    "\ufeff\n---\naccess: group:hr\n---\n",
    "\u200b---\naccess: group:hr\n---\n",
    "---\nAccess: group:hr\n---\n",
    "---\nacess: group:hr\n---\n",
    "---\naccess: group:hr\naccess: public\n---\n",
    '+++\naccess = ["group:hr"]\n+++\n',
    "+++\naccess = [\n+++\n",
    "---\naccess: group:hr\n...\n",
]


@pytest.mark.parametrize("front", FRONT, ids=range(len(FRONT)))
def test_front_matter_that_is_hard_to_read_never_opens(front: str, tmp_path: Path) -> None:
    with opened(tmp_path, {"a.md": f"{front}\n{HERON}", "plain.md": f"---\n\n{HERON}\n\n---\n"}) as app:
        sync(app)
        assert found(app, "eve") == {"plain.md"}  # a rule of dashes is no front matter


@pytest.mark.parametrize("name", ["a.mdx", "a.markdown", "A.MD"])
def test_front_matter_of_other_endings(name: str, tmp_path: Path) -> None:
    with opened(tmp_path, {name: f"---\naccess: group:hr\n---\n{HERON}"}) as app:
        sync(app)
        assert not found(app, "eve")
        assert found(app, "hana") == {name}


def test_an_earlier_version_stays_as_closed_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path, {}) as app:

        def put(text: str, access: Acl) -> str:
            kept = push(
                app.documents, app.sandbox, app.clock, external_id="crm/7", content=text.encode(), name="x.txt",
                title="", uri="", access=access, metadata={}, modified=None,
            )  # fmt: skip
            return kept.version

        secret = put("The salary of the gnu is 90000 euros.", Acl(("group:hr",), ()))
        public = put("The salary of the gnu is confidential.", Acl(("public",), ()))
        eve, hana = (app.gate.scope(app.identity.actor_for(f"user:{name}")) for name in ("eve", "hana"))
        doc = app.documents.find("crm/7", scope=eve)[0].doc_id
        assert app.documents.text(doc, public, scope=eve) is not None
        assert app.documents.text(doc, secret, scope=eve) is None
        assert app.documents.text(doc, secret, scope=hana) is not None


def test_a_single_file_obeys_the_rules_beside_and_above_it(tmp_path: Path) -> None:
    write(tmp_path / "files", {".access.yaml": "deny: [user:eve]", "sub/x.txt": HERON, "sub/deep/y.txt": HERON})
    settings = (
        "sources: [{name: one, folder: files/sub/x.txt, access: [public]}, "
        "{name: two, folder: files/sub/deep, access: [public]}]\n"
    )
    with open_service(tmp_path, settings=settings) as app:
        people(app, {"eve": (), "hana": ()})
        sync(app, "one")
        sync(app, "two")
        assert not found(app, "eve")
        assert found(app, "hana")


def test_rule_files_that_are_links_or_spelled_otherwise_count(tmp_path: Path) -> None:
    files = {
        "dang/x.txt": HERON,
        "yml/.access.yml": "allow: [group:hr]",
        "yml/x.txt": HERON,
        "priv/.access.yaml": "allow: [group:hr]",
        "priv/s.txt": HERON,
    }
    with opened(tmp_path, files) as app:
        docs = tmp_path / "documents"
        (docs / "dang/.access.yaml").symlink_to("/nonexistent")
        (docs / "link.txt").symlink_to(docs / "priv/s.txt")
        report = sync(app)
        assert not found(app, "eve")
        assert any("link.txt" in problem for problem in report.problems)


RECORDS = '[{match: "r.jsonl", records: {id: id, access: ["user:{owner}"]}}]'


def test_one_bad_record_blocks_no_revoke(tmp_path: Path) -> None:
    rows = (
        '{{"id": 1, "t": "secret heron harbour one", "owner": "{}"}}\n'
        '{{"id": 2, "t": "secret heron harbour two", "owner": "{}"}}\n'
    )
    with opened(tmp_path, {"r.jsonl": rows.format("hana", "eve")}, rules=RECORDS) as app:
        sync(app)
        assert found(app, "eve") == {"r.jsonl#2"}
        write(tmp_path / "documents", {"r.jsonl": rows.format("e\\u200bve", "hana")})
        report = sync(app)
        assert not found(app, "eve")
        assert found(app, "hana") == {"r.jsonl#2"}
        assert any("record 1" in problem for problem in report.problems)


def test_values_of_records_are_not_bent_into_other_people(tmp_path: Path) -> None:
    row = '{"id": 1, "t": "secret heron harbour one", "owner": "Ann Lee"}\n'
    with opened(tmp_path, {"r.jsonl": row}, rules=RECORDS) as app:
        people(app, {"ann-lee": (), "ann lee": ()})
        sync(app)
        assert not found(app, "ann-lee")
        assert found(app, "ann lee")


def test_two_folders_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    from mainstay.corpus.sources import SourceSettings  # beside its only use

    with opened(tmp_path, {}) as app:
        app.remember_source(SourceSettings(name="x", folder=str(tmp_path / "a/x")))
        with pytest.raises(Conflict, match="--source"):
            app.remember_source(SourceSettings(name="x", folder=str(tmp_path / "b/x")))
        with pytest.raises(Conflict, match="lives"):
            app.remember_source(SourceSettings(name="own", folder=str(tmp_path)))


def test_a_move_is_found_under_its_new_folder_and_read_by_its_new_ending(tmp_path: Path) -> None:
    page = "<html><body><p>The secret heron of the harbour nests here.</p><p style='display:none'>hidden egg</p></body></html>"
    with opened(tmp_path, {"hr/page.txt": page}) as app:
        sync(app)
        docs = tmp_path / "documents"
        (docs / "hr2").mkdir()
        (docs / "hr/page.txt").rename(docs / "hr2/page.html")
        report = sync(app)
        assert (report.moved, report.added, report.removed, report.changed) == (1, 0, 0, 0)
        passage = search(app, "secret heron harbour", "eve")[0]
        assert passage.metadata["folder"] == "hr2"
        assert "hidden egg" not in passage.text
