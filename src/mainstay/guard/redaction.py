"""Takes secrets and personal data out of a text before it is kept anywhere but where it belongs.

Patterns and check digits, no model: names and addresses of people are not found, and that is never claimed. The shapes of
keys are those that their issuers document; what stands after a name like ``password`` or in an ``Authorization`` header
(RFC 9110, section 11) is taken for a secret by its place. JSON Web Tokens: RFC 7519; private keys: RFC 7468; user
information in addresses: RFC 3986, section 3.2.1; IBAN: ISO 13616 with ISO 7064; payment cards: ISO/IEC 7812 (Luhn);
telephone numbers: ITU-T E.164; e-mail addresses: RFC 5321, as far as they are used.

Every pattern is bounded, so the time grows with the length of the text and not faster, whatever it holds. Done twice it
changes nothing more: what was taken out is left alone, and what only shows once its neighbour is gone is taken out too.

Nearly every text holds nothing. So each detector comes with a pattern that stands in every text in which it finds anything,
and all of these are looked for at once by an engine that reads a text once, whatever is looked for: only where one is there
the detector itself is asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import is_
from typing import Any

from pydantic_core import SchemaValidator, core_schema

from mainstay.access.keys import KEY_PATTERN

SECRET = frozenset({"key", "jwt", "private-key", "password", "token"})
PERSONAL = frozenset({"email", "phone", "iban", "card", "national-id", "ip"})
MOST_PASSES = 6
EVERYTHING = "[redacted:text]"
"""What stands for a text that hides one finding behind another, again and again: nobody writes so by accident."""
_LEFT = re.compile(
    r"\[redacted:(?:text|" + "|".join(sorted(SECRET | PERSONAL, key=len, reverse=True)) + r")(?::[0-9a-f]{8})?\]"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Where something stands in a text, and of which kind it is."""

    kind: str
    start: int
    end: int

    @property
    def secret(self) -> bool:
        return self.kind in SECRET


class Redactor:
    """Takes out what it is told to. Safe from any thread.

    ``key`` adds eight digits to each replacement that are the same for the same value, so that equal values can be joined
    without being known; nobody can find a value from them who does not have the key. ``personal`` and ``addresses`` (of
    computers) say what else than secrets is taken out.
    """

    def __init__(
        self, *, key: bytes = b"", personal: bool = True, addresses: bool = False, look_first: bool = True
    ) -> None:
        """Without ``look_first`` every detector reads every text: the same findings, many times slower."""
        self._key = key[:64]
        self._worth = _ANYTHING if personal else _ANY_SECRET
        if addresses or not look_first:
            self._worth = _always
        detectors = (*_SECRETS, *(_PERSONAL if personal else ()), *(((_always, _ips),) if addresses else ()))
        self._detectors = tuple((look if look_first else _always, detector) for look, detector in detectors)
        # What comes again and again and holds nothing: names of fields, with whether a secret stands under them, and texts
        # that had to be read to know it.
        self._names: dict[str, bool] = {}
        self._innocent: set[str] = set()

    def __call__(self, text: str) -> str:
        return self.redact(text)

    def findings(self, text: str) -> tuple[Finding, ...]:
        """What it would take out, in order; overlapping findings are one."""
        if not self._worth(_readable(text)):
            return ()
        found: list[Finding] = []
        at = 0
        for left in _LEFT.finditer(text):
            found += self._in(text[at : left.start()], at)
            at = left.end()
        return (*found, *self._in(text[at:] if at else text, at))

    def redact(self, text: str) -> str:
        """The text without them; the same object when there are none."""
        if not self._worth(text if text.isascii() else _readable(text)) or text in self._innocent:
            return text
        for n in range(MOST_PASSES):
            found = self.findings(text)
            if not found:
                if not n and len(text) <= _LONGEST_KNOWN:
                    if len(self._innocent) >= _MOST_KNOWN:
                        self._innocent.clear()
                    self._innocent.add(text)
                return text
            pieces: list[str] = []
            at = 0
            for one in found:
                pieces += (text[at : one.start], self._instead(one.kind, text[one.start : one.end]))
                at = one.end
            text = "".join((*pieces, text[at:]))
        return text if not self.findings(text) else EVERYTHING

    def clean(self, value: Any) -> Any:
        """The same for what JSON can hold, in depth; whatever stands under a name like ``password`` goes, texts and numbers,
        however deep. The value itself when there is nothing to take out.

        Depth is bounded by whoever read the value: JSON readers and protobuf refuse deeper ones than Python's stack.
        """
        return self._cleaned(value, hide=False)

    def _cleaned(self, value: Any, *, hide: bool) -> Any:
        if isinstance(value, str):
            if hide and value and not _LEFT.fullmatch(value) and not _harmless(value):
                return self._instead("password", value)
            return self.redact(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._instead("password", str(value)) if hide else value
        if isinstance(value, dict | Mapping):
            return self._cleaned_mapping(value, hide=hide)
        if isinstance(value, list | tuple):
            new = [self._cleaned(held, hide=hide) for held in value]
            return value if all(map(is_, new, value)) else new
        return value

    def _cleaned_mapping(self, value: Mapping[Any, Any], *, hide: bool) -> Mapping[Any, Any]:
        made: dict[Any, Any] | None = None
        for n, (key, held) in enumerate(value.items()):
            name, secret = key, self._names.get(key)
            if secret is None:
                name, secret = self._name(key) if isinstance(key, str) else (key, False)
            if hide or secret:
                new = self._cleaned(held, hide=True)
            elif type(held) is str:  # nearly all are
                new = self.redact(held) if self._worth(held if held.isascii() else _readable(held)) else held
            else:
                new = held if type(held) is int else self._cleaned(held, hide=False)
            if made is None and (new is not held or name is not key):
                made = dict(islice(value.items(), n))
            if made is not None:
                made[name] = new
        return value if made is None else made

    def _name(self, name: str) -> tuple[str, bool]:
        """A field's name without what may not be kept, and whether a secret stands under it."""
        new, secret = self.redact(name), _is_secret_name(name)
        if new is name and len(name) <= _LONGEST_KNOWN:  # so that no secret stays in memory here
            if len(self._names) >= _MOST_KNOWN:
                self._names.clear()
            self._names[name] = secret
        return new, secret

    def _instead(self, kind: str, value: str) -> str:
        if not self._key:
            return f"[redacted:{kind}]"
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=self._key, digest_size=4).hexdigest()
        return f"[redacted:{kind}:{digest}]"

    def _in(self, piece: str, offset: int) -> list[Finding]:
        if len(piece) < _SHORTEST:
            return []
        seen = _readable(piece)
        asked = [detector for look, detector in self._detectors if look(seen)]
        if not asked:
            return []
        lowered = piece.lower()
        if len(lowered) != len(piece):
            lowered = "".join(map(_lower, piece))
        spans = [span for detector in asked for span in detector(piece, lowered)]
        if not spans:
            return []
        return [Finding(kind=kind, start=offset + start, end=offset + end) for start, end, kind in _joined(spans)]


def redact(text: str) -> str:
    """The text without secrets and personal data."""
    return _ALL.redact(text)


def findings(text: str) -> tuple[Finding, ...]:
    """Secrets and personal data in a text, in order."""
    return _ALL.findings(text)


def without_secrets(text: str) -> str:
    """The text without secrets; personal data stays, for a person who needs it."""
    return _SECRETS_ALONE.redact(text)


def clean(value: Any) -> Any:
    """What JSON can hold without secrets and personal data."""
    return _ALL.clean(value)


# -- how findings become one -------------------------------------------------------------------------------------------

_SHORTEST = 6  # no shorter text can hold anything that is known here
_Span = tuple[int, int, str]
_RANK = ("private-key", "jwt", "key", "password", "token", "card", "iban", "national-id", "email", "phone", "ip")


def _joined(spans: list[_Span]) -> Iterator[_Span]:
    """Overlapping ones as one, by the name of the most telling."""
    spans.sort()
    start, end, kind = spans[0]
    for later in spans[1:]:
        if later[0] < end:
            end = max(end, later[1])
            kind = min(kind, later[2], key=_RANK.index)
        else:
            yield start, end, kind
            start, end, kind = later
    yield start, end, kind


def _lower(char: str) -> str:
    """In lower case and never longer than before, so that places stay where they are."""
    lowered = char.lower()
    return lowered if len(lowered) == 1 else char


_MOST_KNOWN, _LONGEST_KNOWN = 4096, 200
_Look = Callable[[str], bool]


def _look(pattern: str) -> _Look:
    """Whether a text has this anywhere, in time that does not depend on what is looked for: Rust's regular expressions, which
    pydantic brings. They know no look-around; classes are written out where theirs are smaller than Python's."""
    held: _Look = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    return held


def _always(_text: str) -> bool:
    return True


def _readable(text: str) -> str:
    """A text as a ``_Look`` takes it: half of a surrogate pair, which no detector looks for, makes it no text."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


# -- secrets -----------------------------------------------------------------------------------------------------------

_Detector = Callable[[str, str], "list[_Span]"]

# Keys that can be told by how they begin: the beginning (for a look whether it is there at all), the whole shape.
# Where the shape's own characters may come before it, it begins at the first of them: a run is tried once.
_B = r"(?<![0-9A-Za-z])"
_KEYS: tuple[tuple[str, str], ...] = (
    ("mst_", KEY_PATTERN),
    ("sk-", r"(?<![0-9A-Za-z-])sk-[0-9A-Za-z_-]{16,256}"),  # OpenAI, Anthropic, OpenRouter, DeepSeek, LiteLLM
    ("k_live_", _B + r"[rsp]k_live_[0-9A-Za-z]{10,247}"),  # Stripe
    ("k_test_", _B + r"[rs]k_test_[0-9A-Za-z]{10,247}"),
    ("whsec_", _B + r"whsec_[0-9A-Za-z+/=]{24,128}"),  # Standard Webhooks
    ("AIza", _B + r"AIza[0-9A-Za-z_-]{35}"),  # Google API keys
    (r"ya29\.", _B + r"ya29\.[0-9A-Za-z_-]{20,2048}"),  # Google OAuth
    ("GOCSPX-", _B + r"GOCSPX-[0-9A-Za-z_-]{20,64}"),
    ("AKIA", _B + r"AKIA[0-9A-Z]{16}(?![0-9A-Za-z])"),  # Amazon Web Services, key ids of each sort
    ("ASIA", _B + r"ASIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("ABIA", _B + r"ABIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("ACCA", _B + r"ACCA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("gh[pousr]_", r"gh[pousr]_[0-9A-Za-z]{36,255}"),  # GitHub
    ("github_pat_", r"github_pat_[0-9A-Za-z_]{22,255}"),
    ("gl(?:pat|dt|rt|soat|ptt|cbt)-", _B + r"gl(?:pat|dt|rt|soat|ptt|cbt)-[0-9A-Za-z_.-]{20,255}"),  # GitLab
    ("xox[abeoprs]", _B + r"xox[abeoprs](?:\.xox[bp])?-[0-9A-Za-z-]{10,250}"),  # Slack
    ("xapp-", _B + r"xapp-[0-9A-Za-z-]{10,250}"),
    (r"hooks\.slack\.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z/_-]{20,200}"),
    ("hf_", _B + r"hf_[0-9A-Za-z]{30,64}"),  # Hugging Face
    ("npm_", _B + r"npm_[0-9A-Za-z]{36}"),
    ("pypi-", _B + r"pypi-[0-9A-Za-z_-]{50,1024}"),
    (r"SG\.", _B + r"SG\.[0-9A-Za-z_-]{16,32}\.[0-9A-Za-z_-]{16,64}"),  # SendGrid
    ("gsk_", _B + r"gsk_[0-9A-Za-z]{40,100}"),  # Groq
    ("xai-", _B + r"xai-[0-9A-Za-z]{40,120}"),
    ("pplx-", _B + r"pplx-[0-9A-Za-z]{40,80}"),  # Perplexity
    ("r8_", _B + r"r8_[0-9A-Za-z]{37}"),  # Replicate
    ("dapi", _B + r"dapi[0-9a-f]{32}"),  # Databricks
    (r"hv[sbr]\.", _B + r"hv[sbr]\.[0-9A-Za-z_-]{20,255}"),  # HashiCorp Vault
    ("do[opr]_v1_", _B + r"do[opr]_v1_[0-9a-f]{64}"),  # DigitalOcean
    ("shp(?:at|ca|pa|ss)_", _B + r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"),  # Shopify
    ("glsa_", _B + r"glsa_[0-9A-Za-z]{32}_[0-9A-Fa-f]{8}"),  # Grafana
    ("AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[0-9A-Z]{50,70}"),
    ("AccountKey=", r"(?<=AccountKey=)[0-9A-Za-z+/]{40,100}={0,2}"),  # Azure storage
    ("SharedAccessKey=", r"(?<=SharedAccessKey=)[0-9A-Za-z+/]{40,100}={0,2}"),
    ("sig=", r"(?<=[?&;]sig=)[0-9A-Za-z%+/=_-]{20,200}"),  # Azure shared access signatures
    ("X-Amz-Signature=", r"(?<=X-Amz-Signature=)[0-9A-Fa-f]{64}"),
    (":AA", _B + r"[0-9]{8,10}:AA[0-9A-Za-z_-]{32,34}"),  # Telegram
)
_KEY_SHAPES = tuple((_look(begins), re.compile(shape)) for begins, shape in _KEYS)
_JWT = re.compile(
    r"(?<![0-9A-Za-z_-])eyJ[0-9A-Za-z_-]{6,8192}\.[0-9A-Za-z_-]{2,16384}\.[0-9A-Za-z_-]{0,2048}(?:\.[0-9A-Za-z_.-]{0,4096})?"
)
_BEGIN = re.compile(r"-----BEGIN [0-9A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_ARMOUR = re.compile(r"[0-9A-Za-z+/=\s\\:,.()-]{0,20000}")
_END = re.compile(r"-----END [0-9A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_IN_URL = re.compile(r"://[^\s:/@\"'<>]{0,256}:([^\s/\"'<>]{1,512})@")
_HEADER = re.compile(
    r"(?:proxy-)?authorization[\"'\]]{0,2}\s{0,3}[:=,]\s{0,3}[\[(]?[\"']?\s{0,3}"
    r"(?:(?:bearer|basic|token|digest|apikey|negotiate|bot)\s{1,3})?([^\s\"',;<>\\]{5,4096})"
)
_COOKIE = re.compile(
    r"(?<![a-z])(?:set-)?cookie[\"']?\s{0,3}:\s{0,3}[\"']?([^\s=;\"'<>\\]{1,100}=[^\r\n\"'<>\\]{4,4096})"
)
_BEARER = re.compile(r"(?<![a-z])(?:bearer|basic)\s{1,3}([0-9a-z._~+/-]{8,4096}={0,2})")


def _keys(text: str, _lowered: str) -> list[_Span]:
    seen = _readable(text)
    return [(*match.span(), "key") for begins, shape in _KEY_SHAPES if begins(seen) for match in shape.finditer(text)]


def _jwts(text: str, _lowered: str) -> list[_Span]:
    return [(*match.span(), "jwt") for match in _JWT.finditer(text)]


def _private_keys(text: str, _lowered: str) -> list[_Span]:
    """To the end line; where that is missing, as far as it may be the key."""
    found: list[_Span] = []
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        body = _ARMOUR.match(text, begin.end())
        at = begin.end() if body is None else body.end()
        end = _END.search(text, begin.end(), at)
        at = at if end is None else end.end()
        found.append((begin.start(), at, "private-key"))
    return found


def _in_urls(text: str, _lowered: str) -> list[_Span]:
    return [(*match.span(1), "password") for match in _IN_URL.finditer(text)]


def _authorizations(_text: str, lowered: str) -> list[_Span]:
    return [(*match.span(1), "token") for match in _HEADER.finditer(lowered) if not _harmless(match[1])]


def _cookies(_text: str, lowered: str) -> list[_Span]:
    return [(*match.span(1), "token") for match in _COOKIE.finditer(lowered)]


def _bearers(text: str, lowered: str) -> list[_Span]:
    return [(*match.span(1), "token") for match in _BEARER.finditer(lowered) if _credential(text, match)]


def _credential(text: str, match: re.Match[str]) -> bool:
    """Whether what stands after "Bearer" or "Basic" is a credential and not the next word."""
    held = text[match.start(1) : match.end(1)]
    if match[0].startswith("basic"):
        try:
            return b":" in base64.b64decode(held, validate=True)
        except (binascii.Error, ValueError):
            return False
    return len(held) >= 16 and (any(c.isdigit() for c in held) or held.lower() != held) and not held.isalpha()


# What is called a password is one, whatever it looks like; what is called a key or a token must look like one too.
_PASSWORDS = (
    "password", "passwords", "passwd", "passphrase", "passcode", "passwort", "kennwort", "contraseña", "contrasena", "mot de passe",
    "wachtwoord", "senha", "pwd",
)  # fmt: skip
_TOKENS = (
    "secret", "token", "api_key", "api-key", "apikey", "api key", "access_key", "access-key", "accesskey", "access key",
    "private_key", "private-key", "privatekey", "signing_key", "signing-key", "encryption_key", "auth_key", "authkey",
    "account_key", "accountkey", "credential", "client_key", "master_key", "license_key", "geheimnis", "schlüssel",
)  # fmt: skip
_VALUE = (
    r"(?:\\[\"']([^\"'\r\n\\]{1,512})"  # quoted inside a quotation
    r"|\"((?:[^\"\r\n\\]|\\.){1,512})|'((?:[^'\r\n\\]|\\.){1,512})"
    r"|([^\s\"'`,;<>&(){}\[\]\\]{2,512}))"
)
_BARE = 6  # the group of a value without quotation marks
_S = r"[\s\x1c-\x1f]"  # what is a space to Python, in words that Rust reads the same
_NAMES_OF_SECRETS = "|".join(re.escape(name) for name in (*_PASSWORDS, *_TOKENS))
_UNTIL_VALUE = (
    r"(?:s|[_-]?[0-9]{1,2}|[_-](?:key|value|id|base64|hash|text|string|env))?\\?[\"'`\]]{0,2}" + _S + r"{0,4}"
    r"(:=|=>|==|=|:|" + _S + r"(?:is|was|lautet|ist|est|es)" + _S + ")"
)
_NAMED = re.compile(f"({_NAMES_OF_SECRETS}){_UNTIL_VALUE}{_S}{{0,4}}{_VALUE}")
_NOTHING = frozenset(
    [
        "required",
        "optional",
        "none",
        "null",
        "true",
        "false",
        "empty",
        "hidden",
        "changed",
        "forgotten",
        "string",
        "text",
        "redacted",
        "example",
        "changeme",
        "unset",
        "missing",
        "invalid",
        "expired",
        "wrong",
        "incorrect",
        "yes",
        "no",
        "not",
        "here",
        "env",
        "secret",
        "password",
        "token",
        "xxx",
        "undefined",
        "default",
        "str",
        "bytes",
        "bearer",
        "basic",
        "digest",
        "must",
        "should",
        "may",
        "will",
        "can",
        "is",
        "are",
        "was",
        "has",
        "have",
        "the",
        "a",
        "an",
        "see",
        "as",
        "for",
        "and",
        "or",
        "in",
        "on",
        "at",
        "to",
        "of",
        "by",
        "erforderlich",
        "falsch",
        "abgelaufen",
        "ungültig",
        "leer",
        "keine",
        "kein",
    ]
)


def _named(text: str, lowered: str) -> list[_Span]:
    """What stands after a name that says it is secret."""
    found: list[_Span] = []
    at = 0
    while (match := _NAMED.search(lowered, at)) is not None:
        group = match.lastindex or 2
        start, end = match.span(group)
        value = text[start:end]
        stripped = value.rstrip(".!?:*") or value if group == _BARE else value
        end = start + len(stripped)
        quoted = group != _BARE
        if _tells(match[1], match[2].strip(), stripped, quoted, text[end : end + 1]):
            found.append((start, end, "password" if match[1] in _PASSWORDS else "token"))
            at = end
        else:
            at = start  # the value may be the next name
    return found


def _tells(name: str, sign: str, value: str, quoted: bool, after: str) -> bool:
    if _harmless(value):
        return False
    if name not in _PASSWORDS:
        return _looks_random(value)
    if sign in ("=", ":=", "=>", "==") or quoted:
        return len(value) >= 3 and not value.startswith(("${", "$(", "{{", "<", "%("))
    varied = any(not c.isalpha() for c in value) or (value != value.lower() and value[1:] != value[1:].lower())
    if sign == ":":
        return len(value) >= 4 and (varied or after in ("", "\n", "\r"))
    return len(value) >= 4 and any(c.isdigit() for c in value)


def _looks_random(value: str) -> bool:
    """Whether nobody would have thought of it: letters with digits, spread as chance does."""
    if len(value) < 8 or value.startswith(("${", "$(", "{{", "http://", "https://", "/", "./")):
        return False
    digits = any(c.isdigit() for c in value)
    letters = any(c.isalpha() for c in value)
    if len(value) < 16:
        return digits and letters and entropy(value) >= 2.5 and value.replace("-", "").replace("_", "").isalnum()
    return entropy(value) >= 3.0 and ((digits and letters) or entropy(value) >= 4.0)


def entropy(text: str) -> float:
    """Bits per character, by how often each stands in it (Shannon)."""
    n = len(text)
    return -sum(count / n * math.log2(count / n) for count in Counter(text).values()) if n else 0.0


def _harmless(value: str) -> bool:
    lowered = value.lower().strip("*•.…")
    return not lowered or lowered in _NOTHING


def _is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret: by its last word, as ``db.password``; not ``input_tokens``."""
    if not name.islower():
        name = _HUMP.sub("_", name).lower()
    lowered = name.replace("-", "_").replace(".", "_").replace(" ", "_").rstrip(_NO_WORD).removesuffix("_value")
    if lowered.endswith(_SECRET_ENDS) or lowered in _SECRET_NAMES:
        return True
    return lowered.endswith(_SECRET_LAST) or name.rpartition(".")[2] == "pin"  # not map_pin, and no pin code of a town


_SECRET_ENDS = (
    "password", "passwords", "passwd", "passphrase", "passcode", "passwort", "kennwort", "pwd", "secret", "api_key",
    "apikey", "access_key", "private_key", "secret_key", "signing_key", "credential", "credentials", "connection_string",
    "connectionstring", "password_hash", "password_confirmation", "private_key_pem", "header_authorization",
    "header_cookie", "set_cookie", "session_cookie", "proxy_authorization",
)  # fmt: skip
_LAST_WORDS = ("token", "ssn", "otp", "otp_code")  # as whole words: not input_tokens, max_token_count
_SECRET_LAST = tuple(f"_{word}" for word in _LAST_WORDS)
_SECRET_NAMES = frozenset({*_LAST_WORDS, "authorization", "cookie"})
_NO_WORD = "[]() \t\n0123456789_"  # password1, password[]
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a new word begins: refreshToken, APIKey."""

# -- personal data -----------------------------------------------------------------------------------------------------

_DOMAIN = re.compile(r"(?:@|%40)((?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24})(?![\w-])")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]")
_MOST_LOCAL = 64


def _emails(text: str, lowered: str) -> list[_Span]:
    found: list[_Span] = []
    for match in _DOMAIN.finditer(lowered):
        start = at = match.start()
        floor = max(0, at - _MOST_LOCAL)
        while start > floor and _LOCAL.match(text[start - 1]):
            start -= 1
        local = text[start:at]
        # What often stands before an address and may stand in one, but never begins one.
        head = max(local.rfind(c) for c in "=/&?{|`") + 1
        start += head if head < len(local) else 0
        while start < at and text[start] in ".-'":
            start += 1
        if start < at:
            found.append((start, match.end(), "email"))
    return found


_PHONE = re.compile(
    r"(?<![\w+.,/-])(?<![0-9] )(?:\+|00(?=[1-9]))[1-9][0-9]{0,2}(?:[ \xa0./-]{0,2}\(?[0-9]{1,12}\)?){1,8}(?![0-9A-Za-z_])"
)
_NANP = re.compile(
    r"(?<![\w+.-])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[.-][0-9]{4}(?![\w-]|\.[0-9])"
)
_CALLED_BY = (
    "tel|fon|phone|telefon|telephone|téléphone|teléfono|telefono|mobile|mobil|cell|fax|handy|portable|call|ring|whatsapp|sms|"
    "rufnummer|durchwahl"
)
_CALLED = re.compile(
    r"(?<![a-z])(?:"
    + _CALLED_BY
    + r")(?:[ .]{0,2}(?:no|nr|number|nummer|numéro))?[.: ]{1,4}(?:at |me at |us at |unter |on )?"
    r"(\(?0[0-9]{1,5}\)?[ \xa0/.-]{0,3}[0-9](?:[ \xa0/.-]{0,2}[0-9]){3,12}|[0-9]{3}[ .-][0-9]{3,4}(?:[ .-][0-9]{3,4}){0,2})(?![\w])"
)
_PHONE_DIGITS = (8, 15)  # E.164


def _phones(text: str, _lowered: str) -> list[_Span]:
    found: list[_Span] = []
    if "+" in text or "00" in text:
        for match in _PHONE.finditer(text):
            digits = sum(c.isdigit() for c in match[0]) - (2 if match[0].startswith("00") else 0)
            grouped = match[0].startswith("+") or any(c in " /-.\xa0(" for c in match[0])
            if _PHONE_DIGITS[0] <= digits <= _PHONE_DIGITS[1] and grouped:
                found.append((*match.span(), "phone"))
    return found + [(*match.span(), "phone") for match in _NANP.finditer(text)]


def _called(_text: str, lowered: str) -> list[_Span]:
    return [(*match.span(1), "phone") for match in _CALLED.finditer(lowered)]


# Length of an IBAN by country: registry of ISO 13616, as SWIFT publishes it.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
    "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?=[ \xa0-]?[0-9A-Za-z])")


def _ibans(text: str, _lowered: str) -> list[_Span]:
    found: list[_Span] = []
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper())
        if length is None:
            continue
        end = _taken(text, match.start(), length)
        if end is not None and mod97("".join(c for c in text[match.start() : end] if c.isalnum())):
            found.append((match.start(), end, "iban"))
    return found


def _taken(text: str, start: int, length: int) -> int | None:
    """Where ``length`` letters and digits end, with at most one space or hyphen between two."""
    at, seen = start, 0
    while at < len(text) and seen < length:
        char = text[at]
        if char.isascii() and char.isalnum():
            seen += 1
        elif char not in " \xa0-" or not (text[at - 1].isascii() and text[at - 1].isalnum()):
            return None
        at += 1
    beyond = text[at : at + 1]
    return at if seen == length and not (beyond.isascii() and beyond.isalnum()) else None


def mod97(iban: str) -> bool:
    """The check of ISO 7064 (MOD 97-10), as ISO 13616 uses it."""
    turned = (iban[4:] + iban[:4]).upper()
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


_RUN = re.compile(r"[0-9]{2,}(?:[ \xa0-][0-9]{2,})*")
_CARDS: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = (
    (re.compile(r"4"), frozenset({16, 19})),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), frozenset({16})),  # Mastercard
    (re.compile(r"3[47]"), frozenset({15})),  # American Express
    (re.compile(r"6011|65|64[4-9]|62|35(?:2[89]|[3-8])"), frozenset({16, 17, 18, 19})),  # Discover, UnionPay, JCB
    (re.compile(r"30[0-5]|36|38|39"), frozenset({14})),  # Diners Club
    (re.compile(r"50|5[6-9]|6304|6759|676[1-3]"), frozenset({16, 18, 19})),  # Maestro
)

_MOST_GROUPS = 7  # of digits, in which people write one number
_SHORTEST_CARD = 14


def _cards(text: str, _lowered: str) -> list[_Span]:
    found: list[_Span] = []
    for run in _RUN.finditer(text):
        if run.end() - run.start() < _SHORTEST_CARD:
            continue
        groups = [(match.start() + run.start(), match[0]) for match in re.finditer(r"[0-9]+", run[0])]
        n = 0
        while n < len(groups):
            ended = _card(groups, n)
            if ended is not None:
                found.append((groups[n][0], groups[ended][0] + len(groups[ended][1]), "card"))
                n = ended
            n += 1
    return found


def _card(groups: list[tuple[int, str]], first: int) -> int | None:
    """The group with which a card's number ends that begins with the group ``first``."""
    digits = ""
    for n in range(first, min(first + _MOST_GROUPS, len(groups))):
        digits += groups[n][1][:20]
        if len(digits) > 19:
            return None
        known = len(digits) >= 14 and any(len(digits) in lengths and shape.match(digits) for shape, lengths in _CARDS)
        if known and luhn(digits) and len(set(digits)) > 1:
            return n
    return None


def luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812-1."""
    total = 0
    for n, char in enumerate(reversed(digits)):
        value = int(char) * (1 + n % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


# -- national numbers that carry a check, and the American one by its form ----------------------------------------------


def _de(held: str) -> bool:
    """Steueridentifikationsnummer: ISO 7064 MOD 11,10; one digit twice or three times, the others once at most."""
    counts = sorted(Counter(held[:10]).values(), reverse=True)
    if held[0] == "0" or counts[0] not in (2, 3) or (len(counts) > 1 and counts[1] > 1):
        return False
    product = 10
    for char in held[:10]:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(held[10])


def _es(held: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23."""
    number = held[:-1].upper().translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == held[-1].upper()


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _it(held: str) -> bool:
    """Codice fiscale: odd places by a table, even ones by their value, modulo 26."""
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in held[:15].upper()]
    total = sum(value if n % 2 else _ODD[value] for n, value in enumerate(values))
    return chr(65 + total % 26) == held[15].upper()


def _fr(held: str) -> bool:
    """Numéro de sécurité sociale: 97 less the number modulo 97; Corsica counts as 19 and 18."""
    number = held[:13].upper().replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(held[13:])


def _ch(held: str) -> bool:
    """AHV: the check of EAN-13."""
    total = sum(int(c) * (3 if n % 2 else 1) for n, c in enumerate(held[:12]))
    return (10 - total % 10) % 10 == int(held[12])


def _be(held: str) -> bool:
    """Rijksregisternummer: 97 less the number modulo 97, with a 2 before it for those born since 2000."""
    check = int(held[9:])
    return check in (97 - int(held[:9]) % 97, 97 - int("2" + held[:9]) % 97)


def _br(held: str) -> bool:
    """CPF: two digits modulo 11."""
    for length in (9, 10):
        total = sum(int(c) * (length + 1 - n) for n, c in enumerate(held[:length]))
        if total * 10 % 11 % 10 != int(held[length]):
            return False
    return len(set(held)) > 1


def _se(held: str) -> bool:
    """Personnummer: Luhn over its last ten digits."""
    return 1 <= int(held[-8:-6]) <= 12 and 1 <= int(held[-6:-4]) % 60 <= 31 and luhn(held[-10:])


def _us(held: str) -> bool:
    """Social Security number: no check digit; areas that are never given out are none."""
    return held[:3] not in ("000", "666") and held[0] != "9" and held[3:5] != "00" and held[5:] != "0000"


_E = r"(?![0-9A-Za-z])"
_A = r"(?<![0-9A-Za-z].)"  # the character before the first is no letter, no digit; after it, so that scanning is quick
_NATIONAL: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"[1-9]" + _A + r"[0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}" + _E), _de),
    (re.compile(r"[0-9XYZxyz]" + _A + r"(?:(?<=[0-9])[0-9]{7}|(?<=[XYZxyz])-?[0-9]{7})-?[A-Za-z]" + _E), _es),
    (
        re.compile(
            r"[12]" + _A + r" ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}" + _E
        ),
        _fr,
    ),
    (re.compile(_B + r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}" + _E), _ch),
    (re.compile(r"[0-9]" + _A + r"[0-9]\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}" + _E), _be),
    (re.compile(r"[0-9]" + _A + r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}" + _E), _br),
    (re.compile(r"[0-9]" + _A + r"(?:(?:(?<=1)9|(?<=2)0)[0-9]{6}|[0-9]{5})[-+][0-9]{4}" + _E), _se),
    (re.compile(r"[0-9](?<![0-9A-Za-z-].)[0-9]{2}-[0-9]{2}-[0-9]{4}(?!-)" + _E), _us),
)
_CODICE = re.compile(r"[0-9]{2}[A-EHLMPRSTa-ehlmprst][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z]" + _E)
_SIX_LETTERS = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{6}")


def _national(text: str, _lowered: str) -> list[_Span]:
    return [
        (*match.span(), "national-id")
        for shape, right in _NATIONAL
        for match in shape.finditer(text)
        if right("".join(c for c in match[0] if c.isalnum()))
    ]


def _italian(text: str, _lowered: str) -> list[_Span]:
    return [
        (match.start() - 6, match.end(), "national-id")
        for match in _CODICE.finditer(text)
        if match.start() >= 6
        and _SIX_LETTERS.match(text, match.start() - 6)
        and _it(text[match.start() - 6 : match.end()])
    ]


_IPV4 = re.compile(
    r"(?<![0-9.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?![0-9]|\.[0-9])"
)
_IPV6 = re.compile(r"(?<![0-9A-Za-z:])(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,6}(?![0-9A-Za-z:])", re.IGNORECASE)


def _ips(text: str, _lowered: str) -> list[_Span]:
    found = [(*match.span(), "ip") for match in _IPV4.finditer(text)] if "." in text else []
    return found + [
        (*match.span(), "ip") for match in _IPV6.finditer(text) if "::" in match[0] or match[0].count(":") == 7
    ]


def _numbers(text: str, lowered: str) -> list[_Span]:
    return [span for detector in (_phones, _cards, _national) for span in detector(text, lowered)]


# -- what stands in every text in which a detector finds anything; upper and lower case are one where it reads lower case ----

_Told = tuple[str, _Detector]
_LOOKED_FOR: tuple[_Told, ...] = (
    ("|".join(begins for begins, _ in _KEYS), _keys),
    ("eyJ[0-9A-Za-z_-]{6}", _jwts),
    ("-----BEGIN ", _private_keys),
    ("://[^/\"'<>]*@", _in_urls),
    (f"(?i:authorization[\"'\\]]{{0,2}}{_S}{{0,3}}[:=,])", _authorizations),
    (f"(?i:cookie[\"']?{_S}{{0,3}}:)", _cookies),
    (f"(?i:(?:bearer|basic){_S}{{1,3}}[0-9a-z._~+/-]{{8}})", _bearers),
    (f"(?i:(?:{_NAMES_OF_SECRETS}){_UNTIL_VALUE})", _named),
)
_LOOKED_FOR_TOO: tuple[_Told, ...] = (
    ("@|%40", _emails),
    (r"[0-9](?:[ .\xa0/()+-]{0,4}[0-9]){6}", _numbers),
    (f"(?i:(?:{_CALLED_BY})[ a-zé.:(]{{1,20}}[0-9])", _called),
    (f"(?:^|[^0-9A-Za-z])(?i:{'|'.join(_IBAN_LENGTHS)})[0-9]{{2}}[ \xa0-]?[0-9A-Za-z]", _ibans),
    ("[0-9]{2}[A-EHLMPRSTa-ehlmprst][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z]", _italian),
)
_SECRETS = tuple((_look(pattern), detector) for pattern, detector in _LOOKED_FOR)
_PERSONAL = tuple((_look(pattern), detector) for pattern, detector in _LOOKED_FOR_TOO)
_ANY_SECRET = _look("|".join(pattern for pattern, _ in _LOOKED_FOR))
_ANYTHING = _look("|".join(pattern for pattern, _ in (*_LOOKED_FOR, *_LOOKED_FOR_TOO)))
_ALL = Redactor()
_SECRETS_ALONE = Redactor(personal=False)
