"""Revoke, deny, move and delete are in force at the next query, through every door."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mainstay.cli import main
from tests.road.conftest import Service

QUESTION = "What does the canteen serve?"
SAID = "soup and bread"


def revoke(service: Service) -> None:
    service.app.people.remove_member("staff", "user:bram")


def deny(service: Service) -> None:
    (service.folder / "documents/staff/.access.yaml").write_text("access: {allow: [group:staff], deny: [user:bram]}")
    service.sync()


def move(service: Service) -> None:
    (service.folder / "documents/staff/canteen.md").rename(service.folder / "documents/finance/canteen.md")
    service.sync()


def delete(service: Service) -> None:
    (service.folder / "documents/staff/canteen.md").unlink()
    service.sync()


def doors(service: Service, doc: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What bram gets of the canteen, by door."""
    headers = service.headers("bram")
    portal = service.headers("portal") | {"X-Mainstay-User": "bram"}
    client = service.client

    def cli(*args: str) -> str:
        with pytest.raises(SystemExit):
            main(["-C", str(service.folder), *args, "--as", "bram", "--json"])
        return capsys.readouterr().out

    chat = {"model": "mainstay", "messages": [{"role": "user", "content": QUESTION}]}
    return {
        "answers": client.post("/v1/answers", json={"question": QUESTION}, headers=headers).text,
        "streamed answers": client.post(
            "/v1/answers", json={"question": QUESTION, "stream": True}, headers=headers
        ).text,
        "search": client.post("/v1/search", json={"query": "canteen soup"}, headers=headers).text,
        "document": client.get(f"/v1/documents/{doc}/text", headers=headers).text,
        "documents": client.get("/v1/documents", headers=headers).text.replace("Canteen", SAID),
        "chat": client.post("/v1/chat/completions", json=chat, headers=headers).text,
        "on behalf of": client.post("/v1/answers", json={"question": QUESTION}, headers=portal).text,
        "command ask": cli("ask", QUESTION),
        "command search": cli("search", "canteen soup"),
        "command documents": json.dumps(cli("documents", "list")).replace("Canteen", SAID),
    }


@pytest.mark.parametrize("change", [revoke, deny, move, delete])
def test_a_change_is_in_force_at_the_next_query(
    change: Callable[[Service], None], fresh: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    bram = fresh.app.gate.scope(fresh.app.identity.actor_for("user:bram"))
    doc = fresh.app.documents.find("staff/canteen.md", scope=bram)[0].doc_id
    open_before = {door for door, said in doors(fresh, doc, capsys).items() if SAID in said}
    assert len(open_before) >= 10, open_before
    change(fresh)
    still_open = {door for door, said in doors(fresh, doc, capsys).items() if SAID in said}
    assert not still_open
