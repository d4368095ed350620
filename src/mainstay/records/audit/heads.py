"""Signed heads: who holds one can tell later whether the log was changed before it.

A head says how many events the log held, the root of their tree and when. It is signed with Ed25519 (RFC 8032) over a few
plain lines, so that it can be checked with any tool. A key's id is the beginning of the SHA-256 of its public half.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mainstay.errors import Invalid, Unavailable

FORMAT = "mainstay audit head v1"
SEED_BYTES = 32
KEY_FILE = "audit.key"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Head:
    """``log`` names the log, ``at`` is in microseconds since 1970 UTC, ``root``, ``public`` and ``signature`` are hex."""

    log: str
    size: int
    root: str
    at: int
    key: str
    public: str
    signature: str = ""

    def text(self) -> bytes:
        """What is signed."""
        return f"{FORMAT}\n{self.log}\n{self.size}\n{self.root}\n{self.at}\n{self.key}\n".encode()

    @property
    def time(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.at)

    def view(self) -> dict[str, Any]:
        """As JSON; ``read`` takes it back."""
        return {
            "log": self.log,
            "size": self.size,
            "root": self.root,
            "at": self.at,
            "key": self.key,
            "public": self.public,
            "signature": self.signature,
        }

    @classmethod
    def read(cls, held: Mapping[str, Any], where: str = "head") -> Head:
        """Errors: Invalid for what is no head."""
        try:
            return cls(
                log=str(held["log"]),
                size=int(held["size"]),
                root=str(held["root"]),
                at=int(held["at"]),
                key=str(held["key"]),
                public=str(held["public"]),
                signature=str(held["signature"]),
            )
        except (KeyError, TypeError, ValueError):
            raise Invalid("this is no signed head", where=where) from None

    def valid(self) -> bool:
        """Whether the signature is that of the key the head names. Whose key that is, is for the reader to know."""
        try:
            public = bytes.fromhex(self.public)
            Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(self.signature), self.text())
        except (InvalidSignature, ValueError):
            return False
        return key_id(public) == self.key


def key_id(public: bytes) -> str:
    return f"ak_{sha256(public).hexdigest()[:16]}"


class Signer:
    """A private key and what it signs."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise Invalid(f"an audit key has {SEED_BYTES} bytes, not {len(seed)}", where="audit.key")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.public = self._key.public_key().public_bytes_raw()
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        return f"Signer({self.id})"

    def sign(self, *, log: str, size: int, root: bytes, at: int) -> Head:
        head = Head(log=log, size=size, root=root.hex(), at=at, key=self.id, public=self.public.hex())
        return Head(**{**head.view(), "signature": self._key.sign(head.text()).hex()})

    def written(self) -> str:
        """As settings and key files hold it."""
        return base64.b64encode(self._seed).decode()


def signer_of(text: str, where: str) -> Signer:
    """A key as it is written: 32 bytes in base64 or hex. Errors: Invalid."""
    held = text.strip()
    try:
        seed = bytes.fromhex(held) if len(held) == 2 * SEED_BYTES else base64.b64decode(held, validate=True)
    except (ValueError, binascii.Error):
        seed = b""
    if len(seed) != SEED_BYTES:
        raise Invalid(f"an audit key is {SEED_BYTES} bytes in base64", where=where, fix="openssl rand -base64 32")
    return Signer(seed)


def key_in(folder: Path) -> Signer | None:
    """The key of the data folder, if there is one. Errors: Unavailable, Invalid."""
    file = folder / KEY_FILE
    try:
        return signer_of(file.read_text(encoding="ascii"), str(file))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"can not be read ({type(error).__name__})", where=str(file)) from None


def new_key() -> Signer:
    return Signer(os.urandom(SEED_BYTES))


def keep_key(folder: Path, signer: Signer, *, instead: bool = False) -> Signer:
    """Write a key into the data folder, for its owner alone; of two processes that meet, the first one's counts.

    ``instead`` replaces the one that is there.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / KEY_FILE
    beside = folder / f".{KEY_FILE}.{os.urandom(4).hex()}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as held:
            held.write(signer.written() + "\n")
            held.flush()
            os.fsync(held.fileno())
        if instead:
            beside.replace(file)
            return signer
        try:
            file.hardlink_to(beside)
        except FileExistsError:
            return key_in(folder) or signer
        return signer
    finally:
        beside.unlink(missing_ok=True)
