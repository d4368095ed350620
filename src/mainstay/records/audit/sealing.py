"""What keeps people's names apart from the log: pseudonyms that commit to a name, and bodies under a key per person.

Each person the log speaks of has one secret of 32 random bytes. From it come the key of the bodies that are about them
(AES-256-GCM) and the salt of their pseudonym, ``p_`` and the first 20 bytes of SHA-256 over salt and name. As long as the
secret is there, a pseudonym can be shown to mean that name and no other; without it, it means nobody and can not be guessed.
Erasing somebody is deleting the secret, and the bodies under it.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mainstay.records.audit.events import SERVICE, canonical

SECRET_BYTES, SALT_BYTES, NONCE_BYTES = 32, 16, 12
PSEUDONYM = re.compile(r"p_[0-9a-f]{40}")
PEOPLE = ("user:", "cli:")
"""Principals that are people: everybody else's name stands in the log as it is."""
Naming = Callable[[str], str]


@dataclass(frozen=True)
class Owner:
    """Somebody the log speaks of, and their secret."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Owner({self.pseudonym})"

    @cached_property
    def salt(self) -> bytes:
        """What shows that the pseudonym means this name: it opens no body."""
        return hmac.digest(self.secret, b"mainstay audit name", sha256)

    @cached_property
    def pseudonym(self) -> str:
        return pseudonym_of(self.name, self.salt)

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(hmac.digest(self.secret, b"mainstay audit body", sha256))

    def state(self, value: object | None) -> str:
        """The hash of a state about this person, which can not be guessed without the secret; empty for none."""
        if value is None:
            return ""
        return hmac.digest(self.secret, b"mainstay audit state" + canonical(value), sha256).hex()

    def sealed(self, body: bytes, about: bytes) -> bytes:
        """The body, encrypted; ``about`` is what it can not be moved away from."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, body, about)

    def opened(self, sealed: bytes, about: bytes) -> bytes | None:
        """The body; None when it is not what was sealed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            return None


def new_owner(name: str) -> Owner:
    return Owner(name, os.urandom(SECRET_BYTES))


def pseudonym_of(name: str, salt: bytes) -> str:
    return f"p_{sha256(salt + name.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def is_person(text: str) -> bool:
    return text.startswith(PEOPLE) and len(text) > 5


def owner_of(subject: str, actor: str) -> str:
    """Whose key a body gets: the person it is about, else the person who acted, else the service's own."""
    return subject if is_person(subject) else actor if is_person(actor) else SERVICE


def people_in(value: Any) -> set[str]:
    """The people that a JSON value names as whole texts, keys among them."""
    if isinstance(value, str):
        return {value} if is_person(value) else set()
    if isinstance(value, Mapping):
        return set().union(*(people_in(one) for pair in value.items() for one in pair))
    if isinstance(value, list | tuple | set | frozenset):
        return set().union(*map(people_in, value))
    return set()


def renamed(value: Any, naming: Mapping[str, str]) -> Any:
    """The same value with each text that ``naming`` knows replaced: names by pseudonyms, or pseudonyms by names."""
    if isinstance(value, str):
        return naming.get(value, value)
    if isinstance(value, Mapping):
        return {naming.get(str(key), str(key)): renamed(held, naming) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(one, naming) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(renamed(one, naming) for one in value)
    return value


def pseudonyms_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value} if PSEUDONYM.fullmatch(value) else set()
    if isinstance(value, Mapping):
        return set().union(*(pseudonyms_in(one) for pair in value.items() for one in pair))
    if isinstance(value, list | tuple):
        return set().union(*map(pseudonyms_in, value))
    return set()


def body_digest(salt: bytes, body: bytes) -> str:
    return sha256(salt + body).hexdigest()
