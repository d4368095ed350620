"""The offline verifier: its own Ed25519 by the vectors of RFC 8032, and bundles that were changed in every way."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.databases import open_fresh

from mainstay.clock import FixedClock
from mainstay.records.audit import AuditEntry, By, Signer, verify_audit
from mainstay.records.decisions import DecisionRecord
from mainstay.shapes import audit_proof_view
from mainstay.storage.audit import SqlAudit, SqlHeads, put_decisions

# RFC 8032 section 7.1, tests 1 to 3 and 1024: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors(public: str, message: str, signature: str) -> None:
    key, text, held = map(bytes.fromhex, (public, message, signature))
    assert verify_audit.signed(key, text, held)
    assert not verify_audit.signed(key, text + b"x", held)
    for at in (0, 31, 32, 63):
        changed = bytearray(held)
        changed[at] ^= 1
        assert not verify_audit.signed(key, text, bytes(changed))
    # The same signature with the group's order added to its second half: RFC 8032 refuses it.
    second = int.from_bytes(held[32:], "little") + verify_audit.L
    assert not verify_audit.signed(key, text, held[:32] + second.to_bytes(32, "little"))
    assert not verify_audit.signed(key[:31], text, held)
    assert not verify_audit.signed(b"\xff" * 32, text, held)


def test_it_needs_python_alone() -> None:
    source = Path(verify_audit.__file__).read_text(encoding="utf-8")
    imported = {
        name
        for node in ast.walk(ast.parse(source, feature_version=(3, 9)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [held.name for held in node.names])
    }
    assert imported == {"__future__", "argparse", "hashlib", "json", "pathlib", "sys", "typing"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """A log of 30 events with heads, an erased person and an expired decision, and what a witness kept of it."""
    opened, close = open_fresh("sqlite", tmp_path_factory.mktemp("bundle"))
    clock = FixedClock(step=timedelta(seconds=1))
    audit, signer = SqlAudit(opened, clock), Signer(b"v" * 32)
    heads = SqlHeads(opened, clock, lambda: signer, every_events=1, every_s=1)
    for n in range(12):
        by = By(principal=f"user:actor{n % 3}", why="because")
        audit.record(AuditEntry(action="member.added", subject=f"user:person{n}", at=clock.now(), after=n, by=by))
        if n % 4 == 3:
            heads.sign_due(now=True)
    with opened.write() as connection:
        records = [DecisionRecord(request_id=f"req_{n}", at=1000 + n, asked_by=f"user:person{n}") for n in range(6)]
        put_decisions(connection, records)
    audit.erase("user:person3", "a wish")
    audit.expire(clock.now() - timedelta(days=365 * 30))
    heads.sign_due(now=True)
    witnessed = [head.view() for head in audit.heads()]
    yield list(audit.export()), witnessed
    close()


def said(lines: list[dict[str, Any]], witnessed: list[dict[str, Any]], keys: tuple[str, ...] = ()) -> list[str]:
    check = verify_audit.Check(keys, witnessed)
    for line in lines:
        check.take(line)
    check.end()
    return check.wrong


Bundle = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def test_a_right_bundle(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, witnessed = bundle
    assert said(lines, witnessed) == []
    assert said(lines, witnessed, (witnessed[0]["public"],)) == []
    assert "none of the keys" in said(lines, witnessed, ("ab" * 32,))[0]
    file, heads = tmp_path / "audit.jsonl", tmp_path / "heads.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    heads.write_text("".join(json.dumps(head) + "\n" for head in witnessed))
    assert verify_audit.main([str(file), "--witness", str(heads)]) == 0
    assert "everything is right" in capsys.readouterr().out
    assert verify_audit.main([str(file)]) == 0
    assert "no witness was looked at" in capsys.readouterr().out
    assert verify_audit.main([str(tmp_path / "missing")]) == 2
    file.write_text("{}\n")
    assert verify_audit.main([str(file)]) == 1
    file.write_text("[1\n")
    assert verify_audit.main([str(file)]) == 2


def event(lines: list[dict[str, Any]], n: int) -> dict[str, Any]:
    return next(line for line in lines if line["kind"] == "event" and line["n"] == n)


def _gone(lines: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    return [line for line in lines if line is not event(lines, n)]


def _swapped(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    one, other = event(lines, 2), event(lines, 7)
    one["n"], other["n"] = 7, 2
    places = sorted((lines.index(one), lines.index(other)))
    lines[places[0]], lines[places[1]] = lines[places[1]], lines[places[0]]
    return lines


def _with(**changed: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        event(lines, 5).update(changed)
        return lines

    return change


def _name(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    next(line for line in lines if line["kind"] == "name")["name"] = "user:somebody.else"
    return lines


def _head(field: str, value: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        [line for line in lines if line["kind"] == "head"][1][field] = value
        return lines

    return change


CHANGES: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = {
    "a body": (_with(text='{"actor":"nobody"}'), "body of event 5"),
    "a body that is gone": (_with(text=None), "body of event 5 is gone"),
    "an action": (_with(action="nothing"), "tree is another"),
    "a time": (_with(at=1), "tree is another"),
    "a state": (_with(after="00"), "tree is another"),
    "a deleted event": (lambda lines: _gone(lines, 5), "event 5 is missing"),
    "a cut off end": (lambda lines: lines[:-3], "cut off"),
    "an event twice": (lambda lines: [*lines, event(lines, 5)], "stands twice"),
    "events in other places": (_swapped, "tree is another"),
    "a name": (_name, "does not belong"),
    "a head's size": (_head("size", 3), "signature"),
    "a head's root": (_head("root", "ab" * 32), "signature"),
    "a head's signature": (_head("signature", "ab" * 64), "signature"),
    "another log's head": (_head("log", "log_other"), "another log"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_bundle(bundle: Bundle, what: str) -> None:
    change, words = CHANGES[what]
    lines = change([dict(line) for line in bundle[0]])
    wrong = said(lines, [])
    assert any(words in one for one in wrong), wrong


def test_a_log_that_was_cut_off_with_its_heads_is_shown_by_the_witness(bundle: Bundle) -> None:
    lines, witnessed = bundle
    cut = 3
    less = [line for line in lines if not (line["kind"] == "event" and line["n"] >= cut)]
    less = [line for line in less if not (line["kind"] == "head" and line["size"] > cut)]
    less = [{**line, "size": cut} if line["kind"] == "log" else line for line in less]
    assert said(less, []) == []
    assert all("cut off from event 3" in one for one in said(less, witnessed))
    assert said(less, witnessed)


def test_one_proof(tmp_path: Path) -> None:
    opened, close = open_fresh("sqlite", tmp_path)
    clock = FixedClock()
    audit, signer = SqlAudit(opened, clock), Signer(b"v" * 32)
    audit.record(*(AuditEntry(action="k", subject=f"user:p{n}", at=clock.now()) for n in range(9)))
    SqlHeads(opened, clock, lambda: signer, every_events=1, every_s=1).sign_due(now=True)
    for n in range(9):
        held = audit_proof_view(audit.proof(n))
        assert verify_audit.check_proof(held) == ""
        assert "nobody has signed" in verify_audit.check_proof(audit_proof_view(audit.proof(n, n + 1)))
        public, other = held["head"]["public"], "ab" * 32
        assert verify_audit.check_proof(held, [public], [held["head"]]) == ""
        assert "no key of those given" in verify_audit.check_proof(held, [other])
        assert "another root" in verify_audit.check_proof(held, [], [{**held["head"], "root": other}])
        assert "keeps no head" in verify_audit.check_proof(held, [], [{**held["head"], "size": 1}])
        assert "too long" in verify_audit.check_proof({**held, "path": [*held["path"], "ab" * 32]})
        assert verify_audit.check_proof({**held, "path": held["path"][1:]})
        assert verify_audit.check_proof({**held, "line": {**held["line"], "action": "other"}})
        assert "head" in verify_audit.check_proof({**held, "head": {**held["head"], "at": 1}})
    close()
