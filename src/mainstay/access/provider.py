"""Signing in at an identity provider: OpenID Connect's authorization code flow with PKCE.

OpenID Connect Core 1.0 section 3.1, RFC 7636 (PKCE, S256), RFC 9207 (issuer in the answer), and the advice of RFC 9700: a
``state`` and a ``nonce`` of this one attempt, which the browser that began it keeps; the provider's address only from its
discovery document; nothing believed before the ID token is verified.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from mainstay.access.oidc import Oidc, Token, checked_address
from mainstay.errors import Invalid, Refused, Unauthenticated, Unavailable
from mainstay.types import Clock

Post = Callable[[str, Mapping[str, str], Mapping[str, str]], tuple[int, bytes]]
"""Sends a form with headers to the provider within a deadline: status and body; raises Unavailable."""

ASKED_AGAIN_S = 3600.0
"""So long the discovery document is believed."""
_CODE = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What the browser keeps while somebody is away at the provider. ``to`` is where they wanted to go here."""

    state: str
    nonce: str
    verifier: str
    to: str = "/"

    def packed(self) -> str:
        held = [self.state, self.nonce, self.verifier, self.to]
        return base64.urlsafe_b64encode(json.dumps(held).encode()).decode()

    @classmethod
    def unpacked(cls, text: str) -> Attempt | None:
        """What ``packed`` made; None for anything else."""
        try:
            held = json.loads(base64.urlsafe_b64decode(text.encode("ascii", "replace")))
        except (ValueError, RecursionError):
            return None
        if not isinstance(held, list) or len(held) != 4 or not all(isinstance(part, str) and part for part in held):
            return None
        state, nonce, verifier, to = held
        return cls(state=state, nonce=nonce, verifier=verifier, to=to)


class Provider:
    """The identity provider as a door for people; one per process, for all threads."""

    def __init__(self, oidc: Oidc, post: Post, clock: Clock) -> None:
        self._oidc, self._post, self._clock = oidc, post, clock
        self._about: tuple[float, Mapping[str, object]] | None = None

    @property
    def redirect_uri(self) -> str | None:
        """Where the provider sends people back, when the settings say it."""
        return self._oidc.settings.redirect_uri

    def begin(self, to: str, redirect_uri: str) -> tuple[Attempt, str]:
        """A new attempt, and the provider's page where it goes on. Errors: Unavailable."""
        settings = self._oidc.settings
        attempt = Attempt(
            state=secrets.token_urlsafe(24), nonce=secrets.token_urlsafe(24), verifier=secrets.token_urlsafe(48), to=to
        )
        asked = {
            "response_type": "code",
            "client_id": settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _b64(hashlib.sha256(attempt.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        page = self._address("authorization_endpoint")
        return attempt, f"{page}{'&' if '?' in page else '?'}{urlencode(asked, quote_via=quote)}"

    def finish(self, attempt: Attempt | None, answer: Mapping[str, str], redirect_uri: str) -> Token:
        """Who came back. ``answer`` is the query of the address they came back to.

        Errors: Invalid for an attempt that was not begun by this browser; Refused when the provider or the person said no;
        Unauthenticated for a code or token that is not good; Unavailable.
        """
        again = "go back to the sign-in page and begin again"
        if attempt is None or not hmac.compare_digest(
            answer.get("state", "").encode("utf-8", "replace"), attempt.state.encode()
        ):
            raise Invalid("this sign-in was not begun in this browser, or was begun anew since", fix=again)
        self._check_issuer(answer.get("iss"))
        if "error" in answer:
            code = answer["error"] if _CODE.fullmatch(answer["error"]) else "an error it does not name"
            raise Refused(f"the identity provider did not sign you in ({code})", fix=again)
        if not answer.get("code"):
            raise Invalid("the identity provider sent no code", fix=again)
        return self._oidc.signed_in(self._redeemed(answer["code"], attempt, redirect_uri), attempt.nonce)

    def sign_out_page(self, back: str) -> str:
        """Where one signs out of the provider as well; empty where it has no such page or can not be asked."""
        try:
            page = self._address("end_session_endpoint")
        except Unavailable:
            return ""
        said = {"client_id": self._oidc.settings.client_id, "post_logout_redirect_uri": back}
        return f"{page}{'&' if '?' in page else '?'}{urlencode(said, quote_via=quote)}"

    def _redeemed(self, code: str, attempt: Attempt, redirect_uri: str) -> str:
        settings = self._oidc.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
            "client_id": settings.client_id,
        }
        headers = {"Accept": "application/json"}
        if settings.client_secret:
            ways = self._known().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if isinstance(ways, list) and "client_secret_basic" not in ways and "client_secret_post" in ways:
                form["client_secret"] = settings.client_secret
            else:  # RFC 6749, 2.3.1: both parts are form-encoded first
                both = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
                headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
                del form["client_id"]
        status, body = self._post(self._address("token_endpoint"), form, headers)
        if status >= 500 or status == 429:
            raise Unavailable(f"the identity provider answers {status}", where=settings.issuer, retry_after_s=10)
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if status != 200 or not isinstance(said, dict):
            reason = said.get("error") if isinstance(said, dict) else None
            shown = reason if isinstance(reason, str) and _CODE.fullmatch(reason) else f"status {status}"
            raise Unauthenticated(f"the identity provider does not take the code ({shown})", fix="sign in again")
        token = said.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("the identity provider sent no ID token", fix="ask for the scope openid")
        return token

    def _check_issuer(self, said: str | None) -> None:
        """RFC 9207: an answer that names its issuer names ours, and one that must name it does."""
        must = self._known().get("authorization_response_iss_parameter_supported") is True
        if (said is None and must) or (said is not None and said != self._oidc.settings.issuer):
            raise Unauthenticated("the answer comes from another identity provider", fix="begin again")

    def _address(self, name: str) -> str:
        held = self._known().get(name)
        if not isinstance(held, str):
            raise Unavailable(f"the identity provider names no {name}", where=self._oidc.settings.issuer)
        try:
            return checked_address(held, name)
        except Invalid as error:
            raise Unavailable(f"the identity provider's {name}: {error.what}") from None

    def _known(self) -> Mapping[str, object]:
        now, held = self._clock.monotonic(), self._about
        if held is None or now - held[0] > ASKED_AGAIN_S:
            held = self._about = (now, self._oidc.about())
        return held[1]


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
