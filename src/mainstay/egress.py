"""Fetching small public documents that the service folder names (the keys of an identity provider): https, no
redirects, bounded."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2

from mainstay.errors import Invalid, Unavailable

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 5.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def fetch(url: str) -> bytes:
    """The body at ``url``. Errors: Invalid for an address that is not https (plain http only to this machine), Unavailable."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Invalid("only https addresses are fetched", where=url[:200])
    try:
        with (
            httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise Unavailable(f"answered {response.status_code}", where=url[:200])
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"more than {MAX_BYTES} bytes", where=url[:200])
            return body
    except httpx2.HTTPError as error:
        raise Unavailable(f"can not be fetched ({type(error).__name__})", where=url[:200]) from None
