"""Providers: the only place with vendors' words. Each translates one wire format into the nouns of `models.chat`.

`build_model` and `build_embedder` are the one way in: they make a model of what the settings say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from mainstay.errors import Invalid
from mainstay.models.chat import ChatModel
from mainstay.models.prices import Price
from mainstay.models.providers import anthropic
from mainstay.models.providers.anthropic import AnthropicModel
from mainstay.models.providers.embeddings import EmbedderSettings, OpenAiCompatibleEmbedder
from mainstay.models.providers.endpoint import BEARER, Endpoint
from mainstay.models.providers.openai_compatible import OpenAiCompatibleModel
from mainstay.models.providers.reading import ChatSettings
from mainstay.models.providers.wire import Wire

__all__ = ["ProviderData", "build_embedder", "build_model"]


class ProviderData(Protocol):
    """What the settings say of one model at one address; the fields are described in docs/reference/settings.md."""

    @property
    def kind(self) -> Literal["openai-compatible", "anthropic"]: ...
    @property
    def base_url(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def auth_header(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def api_version(self) -> str: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def output_limit_field(self) -> Literal["max_tokens", "max_completion_tokens"]: ...
    @property
    def json(self) -> Literal["json_schema", "json_object", "none"]: ...
    @property
    def system_role(self) -> Literal["system", "developer"]: ...
    @property
    def sends_usage(self) -> bool: ...
    @property
    def sends_end_frame(self) -> bool: ...
    @property
    def takes_temperature(self) -> bool: ...
    @property
    def connect_s(self) -> float: ...
    @property
    def first_token_s(self) -> float: ...
    @property
    def idle_s(self) -> float: ...
    @property
    def dims(self) -> int | None: ...


def build_model(name: str, provider: ProviderData, wire: Wire, price: Price) -> ChatModel:
    """The chat model of models.providers.NAME. Errors: Invalid when it can not be addressed as the settings say."""
    settings = ChatSettings(
        name=name,
        model=provider.model,
        endpoint=_endpoint(provider),
        price=price,
        context_tokens=provider.context_tokens,
        output_limit_field=provider.output_limit_field,
        json_dialect=provider.json,
        system_role=provider.system_role,
        sends_usage=provider.sends_usage,
        sends_end_frame=provider.sends_end_frame,
        takes_temperature=provider.takes_temperature,
        connect_s=provider.connect_s,
        first_token_s=provider.first_token_s,
        idle_s=provider.idle_s,
    )
    return AnthropicModel(settings, wire) if provider.kind == "anthropic" else OpenAiCompatibleModel(settings, wire)


def build_embedder(name: str, provider: ProviderData, wire: Wire) -> OpenAiCompatibleEmbedder:
    """The embedder of models.providers.NAME. Errors: Invalid when it has no dims, or its format knows no embeddings."""
    if provider.kind == "anthropic":
        raise Invalid(f"models.providers.{name}: its kind has no embeddings", where="mainstay.yaml")
    if provider.dims is None:
        raise Invalid(
            f"models.providers.{name} has no dims", where="mainstay.yaml", fix="add the length of its vectors"
        )
    return OpenAiCompatibleEmbedder(
        EmbedderSettings(name=name, model=provider.model, endpoint=_endpoint(provider), dims=provider.dims), wire
    )


def _endpoint(provider: ProviderData) -> Endpoint:
    usual, plain = BEARER, {}
    if provider.kind == "anthropic":
        usual, plain = anthropic.AUTH_HEADER, {anthropic.VERSION_HEADER: provider.api_version or anthropic.API_VERSION}
    elif provider.api_version:
        raise Invalid(
            "api_version belongs to kind: anthropic", where="mainstay.yaml", fix="use the server's /v1 address instead"
        )
    return Endpoint(
        base_url=provider.base_url,
        api_key=provider.api_key or None,
        headers=provider.headers,
        plain_headers=plain,
        auth_header=provider.auth_header or usual,
    )
