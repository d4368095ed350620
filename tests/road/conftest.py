"""A whole service in a folder, with people, keys and documents of three readerships, behind HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from mainstay.access.keys import Permission
from mainstay.app import App, open_app
from mainstay.web.server import create_api
from tests.support.databases import database_line

SETTINGS = """
name: Harbour Test
identity: {anonymous: allow}
sources:
  - {name: files, folder: documents}
limits: {document_mb: 1}
"""
SCRIPT = "<script>alert(1)</script>"
FILES = {
    "public/.access.yaml": "access: public",
    "public/opening-hours.md": "# Opening hours\n\nThe service desk in Rotterdam is open from 07:00 to 19:00 on weekdays.\n",
    "public/travel-2024.md": "---\ntitle: Travel policy 2024\ndate: 2024-02-01\n---\n# Travel policy 2024\n\n"
    "A hotel may cost at most 140 euros a night. Flights are booked by the travel desk.\n",
    f"public/{SCRIPT.replace('/', '%')}.md": f"# Safety {SCRIPT} notice\n\n"
    f"Every visitor wears a yellow helmet {SCRIPT} on the quay.\n\n"
    '`<img src=x onerror="alert(2)">` is written on the old helmet sign.\n',
    "finance/.access.yaml": "access: [group:finance]",
    "finance/salary-plan.md": "# Salary plan 2026\n\nThe salary budget of the harbour is 5.2 million euros in 2026.\n",
    "staff/.access.yaml": "access: {allow: [group:staff], deny: [user:felix]}",
    "staff/canteen.md": "# Canteen\n\nThe canteen serves soup and bread between 11:30 and 13:30.\n",
}
PASSWORD = "correct horse battery"


@dataclass
class Service:
    """An open service: the App, a client, and keys by name."""

    app: App
    folder: Path
    client: TestClient
    keys: dict[str, str]

    def headers(self, who: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"} if who else {}

    def ask(self, question: str, who: str | None = None, **more: Any) -> dict[str, Any]:
        said = self.client.post("/v1/answers", json={"question": question, **more}, headers=self.headers(who))
        assert said.status_code == 200, said.text
        answer: dict[str, Any] = said.json()
        return answer

    def found(self, query: str, who: str | None = None) -> str:
        said = self.client.post("/v1/search", json={"query": query}, headers=self.headers(who))
        assert said.status_code == 200, said.text
        return said.text

    def sync(self) -> None:
        self.app.synchronise(self.app.source("files"))


def build(folder: Path, settings: str = SETTINGS) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mainstay.yaml").write_text(settings + database_line(), encoding="utf-8")
    # One client sends in a second what people send in an hour; limits have tests of their own.
    (folder / "agreement.yaml").write_text("traffic: {user_per_minute: 0}\n", encoding="utf-8")
    for name, text in FILES.items():
        file = folder / "documents" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    app = open_app(folder)
    people = app.people
    for group in ("finance", "staff"):
        people.add_group(group)
    for name, groups in {"alice": ["finance", "staff"], "bram": ["staff"], "felix": ["staff"], "hugo": []}.items():
        people.add_user(
            name, display=name.title(), password=PASSWORD if name == "alice" else None, admin=name == "hugo"
        )
        for group in groups:
            people.add_member(group, f"user:{name}")
    keys = {name: app.keyring.create(f"user:{name}", name="test")[1] for name in ("alice", "bram", "felix")}
    everything = [permission for permission in Permission if permission is not Permission.ON_BEHALF_OF]
    keys["hugo"] = app.keyring.create("user:hugo", name="admin", scopes=map(str, everything))[1]
    keys["crawler"] = app.keyring.create("service:crawler", name="push", scopes=["documents:write", "documents:read"])[
        1
    ]
    keys["portal"] = app.keyring.create(
        "service:portal", name="asks for others", scopes=["ask", "search", "on-behalf-of"]
    )[1]
    keys["searcher"] = app.keyring.create("user:bram", name="search alone", scopes=["search"])[1]
    service = Service(app=app, folder=folder, client=TestClient(create_api(app)), keys=keys)
    service.sync()
    return service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Shared by the tests of a module: they leave files and people as they find them."""
    built = build(tmp_path_factory.mktemp("service"))
    with built.app:
        yield built


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    """One test's own."""
    built = build(tmp_path / "service")
    with built.app:
        yield built


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    """The same service behind a real server on the loopback interface."""
    with serving(service.app) as at:
        yield at


class serving:  # noqa: N801 - read as a verb: with serving(app) as address
    """A uvicorn server in a thread."""

    def __init__(self, app: App) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_api(app), log_level="warning", access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        until = time.monotonic() + 30
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._socket.close()
