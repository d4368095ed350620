"""Pushing and reading documents over HTTP."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mainstay.web.views import BatchView, DocumentsView, DocumentView, KeptView
from tests.road.conftest import Service

HELICOPTER = "# Helicopter deck\n\nThe helicopter deck carries at most 9 tonnes.\n"


def put(service: Service, external_id: str, who: str = "crawler", **body: Any) -> Any:
    return service.client.put(f"/v1/documents/{external_id}", json=body, headers=service.headers(who))


def test_push_find_replace_delete(service: Service) -> None:
    kept = put(
        service, "wiki/17", content=HELICOPTER, media_type="text/markdown", access="public", uri="https://wiki/17"
    )
    assert kept.status_code == 200
    view = KeptView.model_validate(kept.json(), strict=True)
    assert (view.title, view.external_id, view.notice) == ("Helicopter deck", "wiki/17", None)
    answer = service.ask("How many tonnes does the helicopter deck carry?")
    assert {citation["document"] for citation in answer["citations"]} == {view.id}
    assert answer["citations"][0]["uri"] == "https://wiki/17"

    again = put(
        service, "wiki/17", content=HELICOPTER.replace("9", "12"), media_type="text/markdown", access="public"
    ).json()
    assert again["id"] == view.id
    assert again["version"] != view.version
    assert "12 tonnes" in service.ask("How many tonnes does the helicopter deck carry?")["text"]
    old = service.client.get(f"/v1/documents/{view.id}/text", params={"version": view.version})
    assert "9 tonnes" in old.json()["text"]

    for name in ("wiki/17", view.id):
        DocumentView.model_validate(service.client.get(f"/v1/documents/{name}").json())
    assert service.client.delete("/v1/documents/wiki%2F17", headers=service.headers("crawler")).status_code == 204
    assert service.client.get(f"/v1/documents/{view.id}").status_code == 404
    assert service.client.get(f"/v1/documents/{view.id}/text", params={"version": view.version}).status_code == 404
    assert service.ask("How many tonnes does the helicopter deck carry?")["citations"] == []
    assert service.client.delete("/v1/documents/wiki/17", headers=service.headers("crawler")).status_code == 404


def test_nothing_said_is_private_and_told(service: Service) -> None:
    kept = put(service, "secret-note", content="The vault combination is kept by the walrus keeper.").json()
    assert kept["access"] == {"allow": [], "deny": []}
    assert "administrators" in kept["notice"]
    for who in (None, "alice", "bram"):
        assert "walrus" not in service.found("walrus keeper", who).replace("walrus keeper", "", 1)
    assert kept["id"] in service.found("walrus keeper", "hugo")
    missing = service.client.get("/v1/documents/nothing-here", headers=service.headers("alice"))
    forbidden = service.client.get("/v1/documents/secret-note", headers=service.headers("alice"))
    by_id = service.client.get(f"/v1/documents/{kept['id']}", headers=service.headers("alice"))
    bodies = [{**said.json(), "request_id": ""} for said in (missing, forbidden, by_id)]
    assert bodies[0] == bodies[1] == bodies[2]
    assert [said.status_code for said in (missing, forbidden, by_id)] == [404] * 3
    # Who pushes may delete what it may not read.
    assert service.client.delete("/v1/documents/secret-note", headers=service.headers("crawler")).status_code == 204


def test_access_lists(service: Service) -> None:
    rule = {"allow": ["group:staff"], "deny": ["user:felix"]}
    kept = put(service, "roster", content="The zeppelin roster is made on Mondays.", access=rule).json()
    assert kept["access"] == rule
    assert kept["id"] in service.found("zeppelin roster", "bram")
    assert kept["id"] not in service.found("zeppelin roster", "felix")
    assert kept["id"] not in service.found("zeppelin roster")


def test_the_senders_rule_stands_above_the_content(service: Service) -> None:
    text = "---\naccess: public\n---\n# Osprey\n\nThe osprey merger closes in May.\n"
    kept = put(service, "osprey.md", content=text, access=["group:finance"]).json()
    assert kept["access"]["allow"] == ["group:finance"]
    assert kept["id"] not in service.found("osprey merger")


def test_patch_of_access(service: Service) -> None:
    kept = put(service, "tides", content="The narwhal tide table is printed weekly.", access="group:staff").json()

    def patch(who: str, access: Any) -> Any:
        return service.client.patch("/v1/documents/tides", json={"access": access}, headers=service.headers(who))

    # A writer that may not read the document can not open it to itself.
    assert patch("crawler", "public").status_code == 404
    assert patch("alice", "public").status_code == 403
    assert patch("hugo", "public").json()["access"]["allow"] == ["public"]
    assert kept["id"] in service.found("narwhal tide")
    assert patch("hugo", []).status_code == 200
    assert kept["id"] not in service.found("narwhal tide", "alice")


def test_documents_of_folders_change_in_their_folder(service: Service) -> None:
    listed = service.client.get("/v1/documents", headers=service.headers("hugo")).json()["documents"]
    salary = next(one for one in listed if one["path"] == "finance/salary-plan.md")
    said = service.client.patch(
        f"/v1/documents/{salary['id']}", json={"access": "public"}, headers=service.headers("hugo")
    )
    assert said.status_code == 409
    assert "finance/.access.yaml" in said.json()["detail"]
    for send in (
        service.client.delete(f"/v1/documents/{salary['id']}", headers=service.headers("hugo")),
        put(service, salary["id"], who="hugo", content="x"),
    ):
        assert send.status_code == 409
    # To those who may not see it, it is not there.
    assert service.client.delete(f"/v1/documents/{salary['id']}", headers=service.headers("crawler")).status_code == 404
    assert put(service, salary["id"], content="x").status_code == 404


def test_list_pages_within_the_scope(service: Service) -> None:
    whole = service.client.get("/v1/documents", headers=service.headers("bram")).json()
    DocumentsView.model_validate(whole)
    ids, after = [], ""
    while after is not None:
        page = service.client.get(
            "/v1/documents", params={"limit": 2, "after": after}, headers=service.headers("bram")
        ).json()
        ids += [one["id"] for one in page["documents"]]
        after = page["next"]
    assert ids == [one["id"] for one in whole["documents"]]
    assert not any(one["path"].startswith("finance/") for one in whole["documents"])
    assert all("access" not in one for one in whole["documents"])


def test_files_and_metadata(service: Service) -> None:
    page = b"<html><head><title>Crane sheet</title></head><body><p>The gantry crane lifts 80 tonnes.</p></body></html>"
    kept = put(
        service,
        "crane",
        content_base64=base64.b64encode(page).decode(),
        name="crane.html",
        access="public",
        metadata={"yard": "north", "reviewed": "2025-03-01", "tags": ["crane", "steel"], "lift": 80, "live": True},
        modified="2025-03-02T10:00:00Z",
    ).json()
    assert kept["title"] == "Crane sheet"
    assert kept["media_type"] == "text/html"
    found = service.client.post(
        "/v1/search", json={"query": "crane", "filters": {"yard": "north", "lift": {"at_least": 50}}}
    )
    assert kept["id"] in found.text
    record = service.client.get("/v1/documents/crane").json()
    assert record["metadata"]["reviewed"] == "2025-03-01"
    assert record["modified"] == "2025-03-02T10:00:00Z"


def test_a_file_that_can_not_be_read_is_told(service: Service) -> None:
    said = put(
        service, "picture", content_base64=base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(50)).decode(), name="a.png"
    )
    assert said.status_code == 422
    assert "PNG" in said.json()["detail"]


def test_too_large(service: Service) -> None:
    assert put(service, "large", content="x" * (1024 * 1024 + 1)).status_code == 413
    said = service.client.put("/v1/documents/large", content=b"x" * 4_000_000, headers=service.headers("crawler"))
    assert said.status_code == 413
    assert said.json()["code"] == "too-large"


def test_batch_goes_on_after_a_failure(service: Service) -> None:
    items = [
        {"id": "b1", "content": "The okapi gate opens at nine.", "access": "public"},
        {"id": "b2", "content": "x", "access": "nonsense"},
        {"id": "b1", "content": "The okapi gate opens at ten.", "access": "public"},
        {"id": "../b3", "content": "x"},
        {"id": "b4", "op": "delete"},
        {"id": "b5", "content": "gone soon", "access": "public"},
        {"id": "b5", "op": "delete"},
    ]
    said = service.client.post("/v1/documents:batch", json=items, headers=service.headers("crawler"))
    results = BatchView.model_validate(said.json()).results
    assert [one.status for one in results] == ["kept", "failed", "kept", "failed", "failed", "kept", "deleted"]
    assert results[1].problem is not None
    assert results[1].problem.status == 400
    assert "at ten" in service.ask("When does the okapi gate open?")["text"]
    many = service.client.post("/v1/documents:batch", json=[{"id": "x"}] * 1001, headers=service.headers("crawler"))
    assert many.status_code == 400


def test_the_same_new_id_pushed_at_once(service: Service) -> None:
    with ThreadPoolExecutor(8) as many:
        said = list(
            many.map(lambda n: put(service, "race", content=f"The emu gate closes at {n}.", access="public"), range(16))
        )
    assert [one.status_code for one in said] == [200] * 16
    assert len({one.json()["id"] for one in said}) == 1


@pytest.mark.parametrize("span", [(0, 10**9), (5, 2), (10**6, 10**6 + 1)])
def test_spans_outside_the_text(service: Service, span: tuple[int, int]) -> None:
    listed = service.client.get("/v1/documents").json()["documents"]
    said = service.client.get(f"/v1/documents/{listed[0]['id']}/text", params={"start": span[0], "end": span[1]})
    assert said.status_code == 400
