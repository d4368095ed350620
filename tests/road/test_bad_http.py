"""Rubbish is refused in one line and never breaks anything."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from mainstay.errors import Unavailable
from tests.road.conftest import Service

JSON = {"Content-Type": "application/json"}
ASK, SEARCH, CHAT, DOC, BATCH = (
    "/v1/answers",
    "/v1/search",
    "/v1/chat/completions",
    "/v1/documents/bad",
    "/v1/documents:batch",
)

CHUNK = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

# method, path, body, headers, the statuses that are right
BAD: list[tuple[str, str, bytes, dict[str, str], set[int]]] = [
    ("POST", ASK, b"", JSON, {400}),
    ("POST", ASK, b"{", JSON, {400}),
    ("POST", ASK, b"null", JSON, {400}),
    ("POST", ASK, b"[]", JSON, {400}),
    ("POST", ASK, b'"text"', JSON, {400}),
    ("POST", ASK, b"{}", JSON, {400}),
    ("POST", ASK, b"\xff\xfe\x00", JSON, {400}),
    ("POST", ASK, b'{"question": "\xff"}', JSON, {400}),
    ("POST", ASK, b'{"question": "\\ud800"}', JSON, {400}),
    ("POST", ASK, b'{"question": "\\u0000"}', JSON, {400}),
    ("POST", ASK, b'{"question": "   "}', JSON, {400}),
    ("POST", ASK, b'{"question": 5}', JSON, {400}),
    ("POST", ASK, b'{"question": ["a"]}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "top_k": 0}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "top_k": 1e99}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "top_k": ' + b"9" * 5000 + b"}", JSON, {400}),
    ("POST", ASK, b'{"question": "a", "stream": "yes"}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "qestion": "b"}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "history": [{"role": "system", "content": "x"}]}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "history": "x"}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": 5}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": [5]}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"a b": 1}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": {}}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": null}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": NaN}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": 1e999}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": 99999999999999999999999}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": {"at_least": 1, "at_most": "z"}}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": {"year": "\\udfff"}}', JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": ["year"]}', JSON, {400}),
    ("POST", ASK, b"[" * 100_000, JSON, {400}),
    ("POST", ASK, b'{"question": "a", "filters": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001, JSON, {400}),
    ("POST", ASK, b'{"question": "' + b"x" * 5000 + b'"}', JSON, {413}),
    ("POST", ASK, b'{"question": "' + b"x" * 2_000_000 + b'"}', JSON, {413}),
    ("POST", ASK, b'{"question": "hotel"}', {"Content-Type": "text/plain"}, {400}),
    ("POST", ASK, b'{"question": "hotel"}', {"Content-Type": "\x00"}, {400}),
    ("POST", ASK, b"question=hotel", {"Content-Type": "application/x-www-form-urlencoded"}, {400}),
    ("GET", ASK, b"", {}, {405}),
    ("DELETE", ASK, b"", {}, {405}),
    ("BREW", "/v1/search", b"", {}, {405}),
    ("GET", "/v1/nothing", b"", {}, {404}),
    ("GET", "/v1/", b"", {}, {404}),
    ("POST", SEARCH, b'{"query": ""}', JSON, {400}),
    ("POST", SEARCH, b'{"query": "\\u200b\\u200b"}', JSON, {400}),
    ("POST", SEARCH, b'{"query": "' + b"x" * 5000 + b'"}', JSON, {413}),
    ("POST", CHAT, b"{}", JSON, {400}),
    ("POST", CHAT, b'{"model": "mainstay", "messages": [{"role": "wizard", "content": "x"}]}', JSON, {400}),
    ("POST", CHAT, b'{"model": "mainstay", "messages": [{"role": "user", "content": null}]}', JSON, {400}),
    (
        "POST",
        CHAT,
        b'{"model": "mainstay", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        JSON,
        {400},
    ),
    ("POST", CHAT, b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', JSON, {400}),
    (
        "POST",
        CHAT,
        b'{"model": "mainstay", "messages": [{"role": "user", "content": "x"}], "mainstay": {"top_k": -1}}',
        JSON,
        {400},
    ),
    ("PUT", DOC, b"{}", JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "text": "b"}', JSON, {400}),
    ("PUT", DOC, b'{"content": "\\ud800"}', JSON, {400}),
    ("PUT", DOC, b'{"content_base64": "%%%"}', JSON, {400}),
    ("PUT", DOC, b'{"content_base64": ""}', JSON, {200, 400, 422}),
    ("PUT", DOC, b'{"content": "a", "access": {"alow": []}}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "access": "everybody"}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "access": ["user:\\u0000"]}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "access": ["user:\\ud800"]}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "access": 5}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "metadata": {"k": {"deep": 1}}}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "metadata": {"k": "\\udc80"}}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "metadata": {"": 1}}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "metadata": {"k": 1e999}}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "modified": "yesterday"}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "modified": 1e30}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "media_type": "application/x-nothing"}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "title": "a\\u0000b"}', JSON, {400}),
    ("PUT", DOC, b'{"content": "a", "name": "../../etc/passwd"}', JSON, {200}),
    ("PUT", "/v1/documents/..%2F..%2Fetc%2Fpasswd", b'{"content": "a"}', JSON, {400}),
    ("PUT", "/v1/documents/a%00b", b'{"content": "a"}', JSON, {400}),
    ("PUT", "/v1/documents/%FF%FE", b'{"content": "a"}', JSON, {200, 400}),
    ("PUT", "/v1/documents/" + "x" * 3000, b'{"content": "a"}', JSON, {400}),
    ("PUT", "/v1/documents/%20", b'{"content": "a"}', JSON, {400}),
    ("PUT", "/v1/documents/", b'{"content": "a"}', JSON, {400}),
    ("PUT", "/v1/documents/doc_unknown", b'{"content": "a"}', JSON, {404}),
    ("GET", "/v1/documents/a%00b", b"", {}, {404}),
    ("GET", "/v1/documents/%ED%A0%80", b"", {}, {404}),
    ("GET", "/v1/documents/" + "x" * 3000, b"", {}, {404}),
    ("GET", "/v1/documents?limit=0", b"", {}, {400}),
    ("GET", "/v1/documents?limit=abc", b"", {}, {400}),
    ("GET", "/v1/documents?limit=" + "9" * 5000, b"", {}, {400}),
    ("GET", "/v1/documents?after=%00", b"", {}, {200}),
    ("GET", "/v1/documents?source=%FF", b"", {}, {200}),
    ("GET", "/v1/documents/x/text?start=-1", b"", {}, {400}),
    ("GET", "/v1/documents/x/text?start=99999999999999999999", b"", {}, {400}),
    ("PATCH", DOC, b'{"access": "nonsense"}', JSON, {400}),
    ("PATCH", DOC, b"{}", JSON, {400}),
    ("POST", BATCH, b"{}", JSON, {400}),
    ("POST", BATCH, b"[5]", JSON, {400}),
    ("POST", BATCH, b'[{"op": "burn", "id": "x"}]', JSON, {400}),
    ("GET", "/v1/requests?before=yesterday", b"", {}, {400}),
    ("GET", "/v1/requests?before=0001-01-01T00:00:00%2B23:00", b"", {}, {200, 400}),
    ("GET", "/v1/requests/%00", b"", {}, {404}),
    ("GET", "/static/../server.py", b"", {}, {404}),
    ("GET", "/static/%2e%2e/server.py", b"", {}, {404}),
    ("GET", "/static/%00", b"", {}, {404}),
    ("GET", "/?q=%ED%A0%80%00", b"", {}, {200, 400}),
    ("GET", "/documents/x?start=abc", b"", {}, {400}),
    ("GET", "/sign-in?to=%00", b"", {}, {200}),
    (
        "POST",
        "/sign-in",
        b"\xff" * 100,
        {"Content-Type": "multipart/form-data; boundary=x", "Origin": "http://testserver"},
        {400, 401},
    ),
    (
        "POST",
        "/sign-in",
        b"name=%00&password=%ED%A0%80",
        {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://testserver"},
        {401},
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "right"),
    BAD,
    ids=[f"{n}-{one[0]}-{one[1][:30]}" for n, one in enumerate(BAD)],
)
def test_rubbish(
    service: Service, method: str, path: str, body: bytes, headers: dict[str, str], right: set[int]
) -> None:
    who = {} if path.startswith(("/static", "/?", "/doc", "/sign")) else service.headers("hugo")
    said = service.client.request(method, path, content=body, headers={**who, **headers})
    assert said.status_code in right, said.text[:300]
    assert "Traceback" not in said.text
    assert said.headers["x-request-id"]
    if said.status_code >= 400 and path.startswith("/v1/"):
        problem = said.json()
        detail = problem["error"]["message"] if path.startswith("/v1/chat") else problem["detail"]
        assert detail
        assert "\n" not in detail
        assert len(detail) <= 600
        if not path.startswith("/v1/chat"):
            assert said.headers["content-type"] == "application/problem+json"
            assert problem["status"] == said.status_code
            assert problem["type"].startswith("/docs#problem-")


def test_details_name_the_field(service: Service) -> None:
    def detail(body: Any) -> str:
        return str(service.client.post(ASK, json=body, headers=service.headers("hugo")).json()["detail"])

    assert detail({}).startswith("question: ")
    assert detail({"question": "a", "top_k": "x"}).startswith("top_k: ")
    assert detail({"question": "a", "history": [{"role": "user"}]}).startswith("history.0.content: ")
    assert detail({"question": "a", "filters": {"year": []}}).startswith("filters.year: ")
    assert "qestion" in detail({"question": "a", "qestion": 1})


def test_method_not_allowed_names_the_others(service: Service) -> None:
    assert service.client.get(ASK).headers["allow"] == "POST"


def test_unknown_callers_are_turned_away_before_the_body(service: Service) -> None:
    said = service.client.put(DOC, content=b"{", headers={**JSON, "Authorization": "Bearer mst_no"})
    assert said.status_code == 401


def test_every_address_of_the_api_asks_who(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    doors = [(method, path) for path, methods in paths.items() for method in methods if path.startswith("/v1/")]
    assert len(doors) >= 13
    for method, path in doors:
        assert "x-permission" in paths[path][method]
        said = service.client.request(method.upper(), path, headers={"Authorization": "Bearer mst_nobody"})
        assert said.status_code == 401, path


def test_busy_database_is_503_with_retry_after(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise Unavailable("the database does not answer", where="/secret/path/mainstay.db", retry_after_s=7.2)

    monkeypatch.setattr(service.app.gate, "scope", down)
    for stream in (False, True):
        said = service.client.post(ASK, json={"question": "hotel", "stream": stream})
        assert said.status_code == 503
        assert said.headers["retry-after"] == "8"
        assert "secret" not in said.text
    chat = {"model": "mainstay", "messages": [{"role": "user", "content": "hotel"}]}
    said = service.client.post(CHAT, json=chat)
    assert (said.status_code, said.json()["error"]["type"]) == (503, "server_error")


def test_a_surprise_is_500_without_its_inside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprised(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(service.app.gate, "scope", surprised)
    said = service.client.post(SEARCH, json={"query": "hotel"})
    assert said.status_code == 500
    assert said.json()["code"] == "internal"
    assert "inside" not in said.text
    assert said.headers["x-content-type-options"] == "nosniff"


def test_not_ready_says_why(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(service.app.database, "ping", down)
    said = service.client.get("/readyz")
    assert said.status_code == 503
    assert said.headers["retry-after"]
    assert "does not answer" in said.json()["checks"]["database"]
    assert service.client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%s%s"
        % (CHUNK, CHUNK),
        b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n",
    ],
    ids=["chunked", "announced"],
)
def test_a_body_without_end_is_cut_off(address: str, raw: bytes) -> None:
    assert raw_status(address, raw) == 413


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + b"/x" * 100_000,
    ],
)
def test_what_is_no_http_does_not_harm(address: str, raw: bytes, service: Service) -> None:
    raw_status(address, raw)
    assert service.client.get("/livez").status_code == 200
    assert raw_status(address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == 200


def test_a_client_that_leaves_a_stream_harms_nobody(address: str) -> None:
    body = json.dumps({"question": "How much may a hotel cost a night?", "stream": True}).encode()
    for _ in range(5):
        with socket.create_connection(
            (urlsplit(address).hostname or "", urlsplit(address).port or 0), timeout=10
        ) as line:
            line.sendall(
                b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )
    assert raw_status(address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == 200


def raw_status(address: str, raw: bytes) -> int:
    at = urlsplit(address)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=10) as line:
        try:
            line.sendall(raw)
            line.shutdown(socket.SHUT_WR) if raw.startswith((b"\x00", b"GET /x")) else None
            first = line.recv(64)
        except OSError:
            return 0
    return int(first.split(b" ")[1]) if first.startswith(b"HTTP/") else 0
