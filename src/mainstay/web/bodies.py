"""Request bodies: what may be sent, and how it becomes the rooms' nouns. Pydantic ends here."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from mainstay.corpus.ingest import typed
from mainstay.errors import Invalid, MainstayError
from mainstay.handover import MAX_NOTE
from mainstay.retrieval.filters import parse_filter
from mainstay.types import Filter, MetaValue, Question

MAX_FILTERS, MAX_VALUES, MAX_KEYS, MAX_TEXT = 32, 100, 64, 1000
MAX_TOP_K = 50
_KEY = re.compile(r"[\w.-]{1,64}")

_SCALAR = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
_RANGE = {
    "at_least": {"anyOf": [{"type": "string"}, {"type": "number"}]},
    "at_most": {"anyOf": [{"type": "string"}, {"type": "number"}]},
}
_LIST_OF_SCALARS = {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": MAX_VALUES}


def unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not Unicode text (half of a surrogate pair)") from None
    return text


Text = Annotated[str, AfterValidator(unicode)]
Filters = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Conditions on metadata: a list of {key, any_of} or {key, at_least, at_most}, or of texts like "
            '"year>=2023", or an object of key to value(s). Dates are written 2024-12-31.',
            "anyOf": [
                {"type": "null"},
                {
                    "type": "array",
                    "maxItems": MAX_FILTERS,
                    "items": {
                        "anyOf": [
                            {"type": "string"},
                            {
                                "type": "object",
                                "properties": {"key": {"type": "string"}, "any_of": _LIST_OF_SCALARS, **_RANGE},
                                "required": ["key"],
                                "additionalProperties": False,
                            },
                        ]
                    },
                },
                {
                    "type": "object",
                    "maxProperties": MAX_FILTERS,
                    "additionalProperties": {
                        "anyOf": [
                            *_SCALAR["anyOf"],
                            _LIST_OF_SCALARS,
                            {"type": "object", "properties": _RANGE, "additionalProperties": False},
                        ]
                    },
                },
            ],
        }
    ),
]
Access = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Who may read it: public, user:NAME, group:NAME or service:NAME; a list of them; or {allow, deny}. "
            "[] or nothing said: administrators only.",
            "anyOf": [
                {"type": "null"},
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {
                    "type": "object",
                    "properties": {
                        "allow": {"type": "array", "items": {"type": "string"}},
                        "deny": {"type": "array", "items": {"type": "string"}},
                    },
                    "additionalProperties": False,
                },
            ],
        }
    ),
]
Metadata = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Keys to filter by, with text, numbers, booleans, dates (2024-12-31) or lists of them.",
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "maxProperties": MAX_KEYS,
                    "additionalProperties": {"anyOf": [*_SCALAR["anyOf"], _LIST_OF_SCALARS]},
                },
            ],
        }
    ),
]


class Body(BaseModel):
    """Exact: an unknown field is a mistake to be told, not to be ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Turn(Body):
    """One turn of the conversation before the question."""

    role: Literal["user", "assistant"]
    content: Text = Field(max_length=100_000)


class SearchBody(Body):
    """A search within what the asker may read."""

    query: Text = Field(min_length=1, description="What to search for.")
    filters: Filters = None
    top_k: int = Field(default=8, ge=1, le=MAX_TOP_K, description="At most so many passages.")

    def question(self) -> Question:
        return Question(text=self.query, filters=filters_of(self.filters), top_k=self.top_k)


class QuestionBody(Body):
    """A question, with the conversation before it."""

    question: Text = Field(min_length=1, description="What is asked.")
    history: list[Turn] = Field(default=[], max_length=200, description="The conversation before it, oldest first.")
    filters: Filters = None
    top_k: int = Field(default=8, ge=1, le=MAX_TOP_K, description="At most so many passages are read.")
    stream: bool = Field(default=False, description="Server-sent events instead of one document.")
    cache: bool = Field(default=True, description="Whether an answer that was given before may serve.")

    def asked(self) -> Question:
        return Question(
            text=self.question,
            history=tuple((turn.role, turn.content) for turn in self.history),
            filters=filters_of(self.filters),
            top_k=self.top_k,
            cache=self.cache,
        )


class DocumentBody(Body):
    """A document to keep, as text or as a file in base64."""

    content: Text | None = Field(default=None, description="The document as text.")
    text: Text | None = Field(default=None, description="The same as content.")
    content_base64: Text | None = Field(default=None, description="The document as a file: PDF, Word, HTML, ...")
    title: Text = Field(default="", max_length=500)
    uri: Text = Field(default="", max_length=2000, description="Where people find the original.")
    name: Text = Field(default="", max_length=255, description="The file's name; its ending says how to read it.")
    media_type: Text = Field(
        default="", max_length=200, description="How to read it, where there is no name: text/markdown, ..."
    )
    access: Access = None
    metadata: Metadata = None
    modified: datetime | None = Field(default=None, strict=False, description="When the original was last changed.")

    def bytes(self) -> bytes:
        """The content. Errors: Invalid unless exactly one field holds it."""
        given = [name for name in ("content", "text", "content_base64") if getattr(self, name) is not None]
        if len(given) != 1:
            said = "no content" if not given else f"{' and '.join(given)} together"
            raise Invalid(said, where="content", fix="send one of content, text and content_base64")
        if self.content_base64 is None:
            return (self.content if self.content is not None else self.text or "").encode()
        try:
            return base64.b64decode(self.content_base64, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("is not base64", where="content_base64", fix="encode the file's bytes as base64") from None


class BatchItem(DocumentBody):
    """One step of a batch."""

    op: Literal["put", "delete"] = "put"
    id: Text = Field(min_length=1)


class AccessBody(Body):
    """A new rule of access for a pushed document."""

    access: Access


class ChatPart(BaseModel):
    """A part of a message; only text is read."""

    type: Text
    text: Text = ""


class ChatMessage(BaseModel):
    """One message of an OpenAI-compatible conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[ChatPart] | None = None

    def said(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    """Options of an OpenAI-compatible stream."""

    include_usage: bool | None = None


class Extras(Body):
    """What Mainstay can do beyond the OpenAI API: send it as ``extra_body={"mainstay": {...}}``."""

    filters: Filters = None
    top_k: int = Field(default=8, ge=1, le=MAX_TOP_K)
    cache: bool = True


class ChatBody(BaseModel):
    """An OpenAI-compatible request. The last user message is the question, those before it are history; system and developer
    messages have no authority here and are left out. Sampling settings are accepted and have no effect.
    """

    model_config = ConfigDict(extra="allow")

    model: Text
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    modalities: list[Text] | None = None
    audio: dict[str, Any] | None = None
    mainstay: Extras = Extras()

    def asked(self) -> Question:
        """The question in it. Errors: Invalid when there is none."""
        users = [at for at, message in enumerate(self.messages) if message.role == "user"]
        if not users:
            raise Invalid("no message of the role user", where="messages", fix="send the question as the last message")
        if isinstance(self.messages[users[-1]].content, list) and not self.messages[users[-1]].said():
            raise Invalid("only text can be read", where="messages", fix="send the question as text")
        return Question(
            text=self.messages[users[-1]].said(),
            history=tuple(
                (message.role, message.said())
                for message in self.messages[: users[-1]]
                if message.role in ("user", "assistant")
            ),
            filters=filters_of(self.mainstay.filters),
            top_k=self.mainstay.top_k,
            cache=self.mainstay.cache,
        )


class JobBody(Body):
    """A source to synchronise. ``delete_all`` accepts that a source that held documents is empty now."""

    kind: Literal["sync"]
    source: Text = Field(pattern=r"^[\w.-]{1,64}$")
    delete_all: bool = False


class ModeBody(Body):
    """An order of a mode."""

    mode: Literal["full", "economy", "cached_only", "sources_only", "static"] | None = Field(
        description="The mode to order; null takes the order back."
    )
    note: Text = Field("", max_length=MAX_NOTE, description="Why: kept with the change.")


class NoteBody(Body):
    """What to remember about it."""

    note: Text = Field("", max_length=MAX_NOTE)


class HandOverBody(Body):
    """The question, as it was asked: the service keeps its text only where the settings say so."""

    question: Text = Field("", description="May be left out where the service keeps what was asked.")


def filters_of(value: object) -> tuple[Filter, ...]:
    """Filters as sent. Errors: Invalid naming the one that can not be."""
    if value is None:
        return ()
    if not isinstance(value, list | dict):
        raise Invalid("is neither a list nor an object", where="filters", fix='write {"year": 2024}')
    if len(value) > MAX_FILTERS:
        raise Invalid(f"{len(value)} conditions, at most {MAX_FILTERS}", where="filters")
    if isinstance(value, dict):
        return tuple(_filter({"key": key, **_condition(held)}, f"filters.{key}"[:100]) for key, held in value.items())
    return tuple(_filter(one, f"filters.{n}") for n, one in enumerate(value))


def _condition(held: object) -> Mapping[str, object]:
    if isinstance(held, dict):
        return {name: held[name] for name in held if name != "key"} if held else {"": None}
    return {"any_of": held if isinstance(held, list) else [held]}


def _filter(one: object, where: str) -> Filter:
    if isinstance(one, str):
        try:
            return _checked(parse_filter(_text(one, where)), where)
        except MainstayError as error:
            raise Invalid(error.what, where=where, fix=error.fix) from None
    if not isinstance(one, dict) or not isinstance(one.get("key"), str):
        raise Invalid("has no key", where=where, fix='write {"key": "year", "any_of": [2024]}')
    if unknown := [str(name) for name in one if name not in ("key", "any_of", "at_least", "at_most")]:
        raise Invalid(f"{unknown[0][:40]!a} is not known here", where=where, fix="use any_of, or at_least and at_most")
    return _checked(
        Filter(
            key=one["key"],
            any_of=_values(one["any_of"], where) if one.get("any_of") is not None else (),
            at_least=_bound(one.get("at_least"), where),
            at_most=_bound(one.get("at_most"), where),
        ),
        where,
    )


def _checked(condition: Filter, where: str) -> Filter:
    if not _KEY.fullmatch(condition.key):
        raise Invalid(f"{condition.key[:40]!a} can not be a key", where=where, fix="use letters, digits, - . _")
    bounds = [bound for bound in (condition.at_least, condition.at_most) if bound is not None]
    if bool(condition.any_of) == bool(bounds):
        raise Invalid("needs either any_of or a range", where=where, fix="use any_of, or at_least and at_most")
    if len({_sort(bound) for bound in bounds}) > 1:
        raise Invalid("at_least and at_most are of different kinds", where=where)
    for value in (*condition.any_of, *bounds):
        _scalar(value, where)
    return condition


def _sort(bound: object) -> str:
    return "number" if isinstance(bound, int | float) else type(bound).__name__


def _bound(value: object, where: str) -> str | int | float | date | None:
    if value is None:
        return None
    bound = _scalar(value, where)
    if isinstance(bound, bool):
        raise Invalid("a range has no true or false", where=where)
    return bound


def _values(value: object, where: str) -> tuple[str | int | float | bool | date, ...]:
    if not isinstance(value, list) or not value or len(value) > MAX_VALUES:
        raise Invalid(f"any_of takes a list of 1 to {MAX_VALUES} values", where=where)
    return tuple(_scalar(one, where) for one in value)


def _scalar(value: object, where: str) -> str | int | float | bool | date:
    if isinstance(value, bool | date):
        return value
    if isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) >= 2**63:
            raise Invalid("this number is too large", where=where)
        return value
    if not isinstance(value, str):
        raise Invalid("a value is a text, a number, true, false or a date", where=where)
    scalar = typed(_text(value, where))
    assert not isinstance(scalar, tuple)
    return scalar


def _text(value: str, where: str) -> str:
    if len(value) > MAX_TEXT:
        raise Invalid(f"longer than {MAX_TEXT} characters", where=where)
    if "\0" in value:  # not every database can keep it
        raise Invalid("holds the character U+0000", where=where, fix="leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid("is not Unicode text (half of a surrogate pair)", where=where) from None
    return value


def metadata_of(value: object, where: str = "metadata") -> dict[str, MetaValue]:
    """Metadata as sent. Errors: Invalid naming the key that can not be."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid("is not an object", where=where, fix='write {"department": "finance"}')
    if len(value) > MAX_KEYS:
        raise Invalid(f"{len(value)} keys, at most {MAX_KEYS}", where=where)
    return {_key(key, where): _meta(held, f"{where}.{key}"[:100]) for key, held in value.items()}


def _key(key: str, where: str) -> str:
    if not _KEY.fullmatch(key):
        raise Invalid(f"{key[:40]!a} can not be a key", where=where, fix="use up to 64 letters, digits, - . _")
    return key


def _meta(held: object, where: str) -> MetaValue:
    if isinstance(held, list):
        if len(held) > MAX_VALUES:
            raise Invalid(f"more than {MAX_VALUES} values", where=where)
        return tuple(_scalar(one, where) for one in held)
    return _scalar(held, where)
