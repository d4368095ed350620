"""Talking to the identity provider that the service folder names (its keys, its token endpoint): https, no redirects,
bounded."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from mainstay.errors import Invalid, Unavailable

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 5.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def fetch(url: str) -> bytes:
    """The body at ``url``. Errors: Invalid for an address that is not https (plain http only to this machine), Unavailable."""
    status, body = _exchange("GET", url)
    if status != 200:
        raise Unavailable(f"answered {status}", where=url[:200])
    return body


def post_form(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Send a form; returns the status and the body. Errors: as ``fetch``."""
    return _exchange("POST", url, form, headers)


def _exchange(
    method: str, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Invalid("only https addresses are fetched", where=url[:200])
    try:
        with (
            httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream(method, url, data=form, headers=headers) as response,
        ):
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"more than {MAX_BYTES} bytes", where=url[:200])
            return response.status_code, body
    except httpx2.HTTPError as error:
        raise Unavailable(f"can not be fetched ({type(error).__name__})", where=url[:200]) from None
