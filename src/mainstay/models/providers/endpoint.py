"""Where a server is and how it is addressed: the same for every wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mainstay import __version__
from mainstay.errors import Invalid
from mainstay.models.providers.wire import check_base_url, check_headers

BEARER = "authorization"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server is and how it is addressed. The secrets appear in no repr and in no error.

    The key goes into `auth_header`: as `Bearer` in `authorization`, as it is in any other. `headers` are taken for secrets
    as well, `plain_headers` are not.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    plain_headers: Mapping[str, str] = field(default_factory=dict)
    auth_header: str = BEARER

    def checked(self, where: str) -> Endpoint:
        """The same with a normal base_url; Invalid if anything in it cannot be sent."""
        endpoint = replace(self, base_url=check_base_url(self.base_url, where))
        if self.api_key is not None and (not self.api_key or self.api_key != self.api_key.strip()):
            raise Invalid(
                "the api_key is empty or has white space around it",
                where=where,
                fix="check the variable it is read from",
            )
        check_headers(endpoint.sent_headers(), where)
        return endpoint

    def sent_headers(self) -> dict[str, str]:
        headers = {"user-agent": f"mainstay/{__version__}", **self.plain_headers, **self.headers}
        headers["content-type"] = "application/json"
        if self.api_key is None:
            return headers
        bearer = self.auth_header.lower() == BEARER
        return {**headers, self.auth_header: f"Bearer {self.api_key}" if bearer else self.api_key}

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(s for s in (self.api_key, *self.headers.values()) if s)
