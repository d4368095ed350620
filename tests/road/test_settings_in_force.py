"""The settings in force, for programs and at the command line: everything is there but the secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mainstay.cli import main
from tests.road.conftest import Service, build

SECRETS = (
    "hunter2-of-the-mail",
    "client-secret-of-ours",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "key-of-the-model",
    "path-of-the-witness",
)
SETTINGS = f"""\
name: Harbour
sources: [{{name: files, folder: documents}}]
smtp: {{host: mail.example.org, sender: help@example.org, user: harbour, password: {SECRETS[0]}}}
identity:
  oidc: {{issuer: "https://id.example.org", client_id: console, client_secret: {SECRETS[1]}}}
handover: {{secret: {SECRETS[2]}}}
audit: {{witness: {{webhook: "https://hooks.example.org/{SECRETS[4]}"}}}}
models:
  answer: [small]
  providers:
    small:
      base_url: "http://127.0.0.1:9/v1"
      model: s
      api_key: {SECRETS[3]}
      price: {{input: "0.5", output: "2"}}
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return build(tmp_path / "service", SETTINGS)


def test_what_is_in_force_is_told_without_secrets(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    with service.app:
        said = service.client.get("/v1/settings", headers=service.headers("hugo"))
        assert said.status_code == 200, said.text
        refused = service.client.get("/v1/settings", headers=service.headers("alice"))
        assert refused.status_code == 403
        printed = {}
        for asked in (["settings", "--json"], ["settings"], ["settings", "--key", "smtp.", "--json"]):
            capsys.readouterr()
            with pytest.raises(SystemExit) as stopped:
                main(["-C", str(service.folder), *asked])
            assert stopped.value.code == 0
            printed[" ".join(asked)] = capsys.readouterr().out
        (service.folder / "agreement.yaml").write_text("traffic: {user_per_minute: 9}\n", encoding="utf-8")
        stale = service.client.get("/v1/settings", headers=service.headers("hugo")).json()["changed_since_start"]
    told = said.json()
    assert json.loads(printed["settings --json"]) == told
    assert stale == ["agreement.yaml"]
    held = {one["key"]: one["value"] for one in told["settings"]}
    assert (held["smtp.password"], held["identity.oidc.client_secret"], held["handover.secret"]) == (
        "set, not shown",
        "set, not shown",
        "set, not shown",
    )
    assert held["smtp.host"] == "mail.example.org"
    assert told["models"][0]["at"] == "http://127.0.0.1:9/v1"
    few = json.loads(printed["settings --key smtp. --json"])["settings"]
    assert {one["key"].partition(".")[0] for one in few} == {"smtp"}
    assert "model small: s at http://127.0.0.1:9/v1" in printed["settings"]
    for secret in SECRETS:
        assert secret not in said.text
        assert not any(secret in text for text in printed.values())
