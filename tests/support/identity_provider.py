"""A little OpenID Connect provider on the loopback interface: discovery, a page to sign in on, tokens, keys.

It is strict: a code serves once, for the client, address and PKCE verifier that it was made for.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey

CLIENT, SECRET = "console", "s3cret/with:odd+signs"


@dataclass
class Faults:
    """What the provider does wrong, for one test."""

    claims: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)
    token_status: int = 200
    token_body: bytes | None = None
    header: dict[str, Any] = field(default_factory=dict)
    discovery: dict[str, Any] = field(default_factory=dict)


class IdentityProvider:
    """``people`` maps names to the claims of their tokens; ``public``: the client has no secret."""

    def __init__(self, people: dict[str, dict[str, Any]], *, public: bool = False) -> None:
        self.people, self.public = people, public
        self.faults = Faults()
        self.redeemed: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._key = ECKey.generate_key("P-256", {"kid": "one"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/realm"

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "end_session_endpoint": f"{self.issuer}/logout",
            "jwks_uri": f"{self.issuer}/keys",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.faults.discovery,
        }

    def approved(self, asked: dict[str, str], name: str) -> str:
        """Where the browser is sent once ``name`` has said yes."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**asked, "name": name}
        answer = {"code": code, "state": asked["state"], "iss": self.issuer, **self.faults.answer}
        return f"{asked['redirect_uri']}?{urlencode({name: value for name, value in answer.items() if value})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.redeemed.append(form)
        held = self._codes.pop(form.get("code", ""), None)
        if held is None or form.get("redirect_uri") != held["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if not self.public:
            expected = [CLIENT, SECRET]
            said = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
            if [unquote(part) for part in said] != expected:
                return 401, {"error": "invalid_client"}
        elif form.get("client_id") != CLIENT:
            return 401, {"error": "invalid_client"}
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(challenge).decode().rstrip("=") != held["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": held["name"],
            "nonce": held["nonce"],
            "iat": now,
            "exp": now + 300,
            **self.people[held["name"]],
            **self.faults.claims,
        }
        header = {"alg": "ES256", "kid": self._key.kid, "typ": "JWT", **self.faults.header}
        token = jws.serialize_compact(
            header, json.dumps(claims), self._key, registry=jws.JWSRegistry(strict_check_header=False)
        )
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": token}

    def keys(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if parts.path == "/realm/.well-known/openid-configuration":
                    self._json(200, provider.discovery())
                elif parts.path == "/realm/keys":
                    self._json(200, provider.keys())
                elif parts.path == "/realm/authorize":
                    hidden = "".join(
                        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
                        for name, value in asked.items()
                    )
                    page = f'<form method="post">{hidden}<input name="name"><button>Sign in</button></form>'
                    self._send(200, page.encode(), "text/html")
                else:
                    self._send(404, b"", "text/plain")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                if self.path.startswith("/realm/authorize"):
                    self.send_response(302)
                    self.send_header("Location", provider.approved(form, form.pop("name")))
                    self.end_headers()
                elif self.path == "/realm/token":
                    status, said = provider.token(form, self.headers.get("Authorization", ""))
                    if provider.faults.token_status != 200 or provider.faults.token_body is not None:
                        self._send(
                            provider.faults.token_status, provider.faults.token_body or b"{}", "application/json"
                        )
                    else:
                        self._json(status, said)
                else:
                    self._send(404, b"", "text/plain")

            def _json(self, status: int, said: dict[str, Any]) -> None:
                self._send(status, json.dumps(said).encode(), "application/json")

            def _send(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests read no access log."""

        return Handler
