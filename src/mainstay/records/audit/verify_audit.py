#!/usr/bin/env python3
"""Checks an audit bundle of Mainstay, offline. Needs Python 3.9 or newer and nothing else: no package, no network, no service.

    python3 verify_audit.py audit.jsonl                      the whole log
    python3 verify_audit.py audit.jsonl --witness heads.jsonl    and that it goes on from heads that you kept
    python3 verify_audit.py audit.jsonl --key HEX            and that it is signed with this key (repeatable)
    python3 verify_audit.py proof.json                       one event's proof (mainstay audit proof N --json)

Exit code 0: everything is right; 1: something is not; 2: the file can not be read.

What is checked: each event against its leaf, each body against its digest, each name against its pseudonym, the tree of all
leaves (RFC 9162, SHA-256) against each signed head (Ed25519, RFC 8032), and the heads of your witness. What can not be checked
without a witness: whether somebody who holds the service's signing key has written the whole log anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Sequence, Tuple  # noqa: UP035 - runs on Python 3.9

Point = Tuple[int, int, int, int]  # noqa: UP006 - runs on Python 3.9
Json = Dict[str, Any]  # noqa: UP006 - runs on Python 3.9

HEAD_FORMAT = "mainstay audit head v1"


# -- Ed25519, verification alone: RFC 8032 section 5.1, written for clearness ----------------------------------------------
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def _recovered_x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = _recovered_x(BASE_Y, 0) or 0
BASE: Point = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def _add(a: Point, b: Point) -> Point:
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return (i * j % P, k * m % P, j * k % P, i * m % P)


def _times(scalar: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point, scalar = _add(point, point), scalar >> 1
    return result


def _point(data: bytes) -> Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = _recovered_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature under the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = _times(s, BASE), _add(r, _times(h, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# -- the log -----------------------------------------------------------------------------------------------------------
def canonical(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def leaf_of(line: Json) -> bytes:
    names = ("action", "after", "at", "before", "body", "n", "owner")
    return hashlib.sha256(b"\0" + canonical({name: line[name] for name in names})).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def head_text(head: Json) -> bytes:
    return f"{HEAD_FORMAT}\n{head['log']}\n{head['size']}\n{head['root']}\n{head['at']}\n{head['key']}\n".encode()


def key_id(public: bytes) -> str:
    return f"ak_{hashlib.sha256(public).hexdigest()[:16]}"


class Tree:
    """The right edge of the tree: complete subtrees, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def add(self, held: bytes) -> None:
        level = 0
        while self.size >> level & 1:
            held = node(self.peaks.pop(), held)
            level += 1
        self.peaks.append(held)
        self.size += 1

    def root(self) -> str:
        if not self.peaks:
            return hashlib.sha256(b"").hexdigest()
        held = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            held = node(peak, held)
        return held.hex()


class Check:
    def __init__(self, keys: Iterable[str] = (), witnessed: Iterable[Json] = ()) -> None:
        self.wrong: list[str] = []
        self.notes: list[str] = []
        self.tree = Tree()
        self.trusted, self.witnessed = set(keys), list(witnessed)
        self.heads: list[Json] = []
        self.wanted = {head["size"] for head in self.witnessed}
        self.roots: dict[int, str] = {}
        self.log: str | None = None
        self.size = 0
        self.announced: dict[str, int] = {}  # key -> the event that announces it
        self.erased: set[str] = set()
        self.also: set[int] = set()
        self.missing: dict[str, list[tuple[int, str, int]]] = {}
        self.expired = 0
        self.valid: dict[tuple[str, bytes, str], bool] = {}

    def say(self, what: str) -> None:
        self.wrong.append(what)

    def take(self, held: Json) -> None:
        kind = held.get("kind")
        if kind == "log":
            self.log, self.size = held["log"], held["size"]
        elif kind == "name":
            made = hashlib.sha256(bytes.fromhex(held["salt"]) + held["name"].encode("utf-8", "surrogatepass"))
            if held["pseudonym"] != f"p_{made.hexdigest()[:40]}":
                self.say(f"the name {held['name']} does not belong to {held['pseudonym']}")
        elif kind == "event":
            self.event(held)
        elif kind == "head":
            self.heads.append(held)
            self.wanted.add(held["size"])

    def event(self, held: Json) -> None:
        n = held["n"]
        if n != self.tree.size:
            self.say(f"event {self.tree.size} is missing" if n > self.tree.size else f"event {n} stands twice")
        body = None
        if held["text"] is None:
            self.missing.setdefault(held["owner"], []).append((n, held["action"], held["at"]))
        else:
            text = held["text"].encode("utf-8", "surrogatepass")
            if hashlib.sha256(bytes.fromhex(held["salt"]) + text).hexdigest() != held["body"]:
                self.say(f"the body of event {n} was changed")
            else:
                body = json.loads(text)
        if body is not None and held["action"] == "audit.erased":
            self.erased.add(body["details"]["owner"])
            self.also.update(body["details"].get("also", ()))
        elif body is not None and held["action"] == "audit.expired":
            self.expired = max(self.expired, body["details"]["before"])
        elif body is not None and held["action"] == "audit.key":
            self.announced.setdefault(body["details"]["key"], n)
        self.tree.add(leaf_of(held))
        if self.tree.size in self.wanted:  # heads come before the events
            self.roots[self.tree.size] = self.tree.root()

    def head(self, head: Json, whose: str) -> bool:
        size = head["size"]
        where = f"{whose} of {size} events"
        if head["log"] != self.log:
            self.say(f"{where}: it is of another log ({head['log']})")
        elif size > self.tree.size:
            self.say(f"{where}: there are {self.tree.size} events: cut off from event {self.tree.size} on")
        elif not self.right(head):
            self.say(f"{where}: the signature is not right")
        elif self.roots.get(size) != head["root"]:
            self.say(f"{where}: the tree is another: something before event {size} was changed")
        elif self.trusted and head["public"] not in self.trusted:
            self.say(f"{where}: signed with {head['key']}, which is none of the keys that you named")
        elif head["key"] not in self.announced or self.announced[head["key"]] >= size:
            self.say(f"{where}: signed with {head['key']}, which the log does not announce before")
        else:
            return True
        return False

    def right(self, head: Json) -> bool:
        seen = (head["signature"], head_text(head), head["public"])
        if seen not in self.valid:
            public = bytes.fromhex(head["public"])
            ours = key_id(public) == head["key"]
            self.valid[seen] = ours and signed(public, head_text(head), bytes.fromhex(head["signature"]))
        return self.valid[seen]

    def end(self) -> None:
        if self.log is None:
            self.say("this is no audit bundle: it has no line that names a log")
            return
        if self.tree.size != self.size:
            self.say(
                f"the bundle says {self.size} events and holds {self.tree.size}: event {self.tree.size} is missing"
            )
        for owner, events in self.missing.items():
            for n, action, at in events:
                gone = owner in self.erased or n in self.also or (action == "decision" and at < self.expired)
                if not gone:
                    self.say(f"the body of event {n} is gone, and neither an erasure nor an expiry is in the log")
                    break
        for head in self.heads:
            self.head(head, "the log's head")
        for head in self.witnessed:
            self.head(head, "the witness's head")
        if not self.heads:
            self.notes.append("no head is signed yet: nothing shows that this is the log it was")
        if not self.witnessed:
            self.notes.append(
                "no witness was looked at: whoever holds the signing key could have written all of it anew"
            )


def check_proof(held: Json, keys: Sequence[str] = (), witnessed: Sequence[Json] = ()) -> str:
    """One event's proof. Returns what is wrong, in words; empty when nothing is. ``keys`` are the public keys (hex) that may
    have signed, ``witnessed`` heads that were kept elsewhere: with none of either, the signature proves only whose it is."""
    line, size, here = held["line"], held["size"], held["line"]["n"]
    root, last = leaf_of(line), size - 1
    for one in map(bytes.fromhex, held["path"]):
        if last == 0:
            return "the proof is too long"
        if here & 1 or here == last:
            root = node(one, root)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            root = node(root, one)
        here, last = here >> 1, last >> 1
    if last or root.hex() != held["root"]:
        return "the event is not in the tree with this root"
    head = held.get("head")
    if head is None:
        return "nobody has signed the tree that the event is in: ask for the proof again when a head is there"
    public = bytes.fromhex(head["public"])
    right = key_id(public) == head["key"] and signed(public, head_text(head), bytes.fromhex(head["signature"]))
    if not right or head["root"] != held["root"] or head["size"] != size:
        return "the head is not that of this tree, or its signature is not right"
    if keys and head["public"] not in keys:
        return f"the head is signed by {head['public']}, which is no key of those given"
    if witnessed:
        same = [one for one in witnessed if one["size"] == size and one["log"] == head["log"]]
        if not same:
            known = ", ".join(str(one["size"]) for one in witnessed[-5:])
            return f"the witness keeps no head of {size} events: ask for a proof at one that it keeps ({known})"
        if any(one["root"] != head["root"] for one in same):
            return "the witness keeps another root of a tree of this size"
    return ""


def witnessed_heads(paths: Sequence[str]) -> list[Json]:
    """The heads that files of a witness hold. Raises ValueError for a file without one."""
    found: list[Json] = []
    for path in paths:
        before = len(found)
        for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if line.strip().startswith("{"):
                try:
                    held = json.loads(line)
                    held = held.get("data", held)
                    found.append(
                        {name: held[name] for name in ("log", "size", "root", "at", "key", "public", "signature")}
                    )
                except (ValueError, KeyError, TypeError):
                    raise ValueError(f"{path}:{number}: this is no signed head") from None
        if len(found) == before:
            raise ValueError(f"{path}: there is no signed head in it")
    return found


def public_key(text: str) -> str:
    """A public key as it is given on the command line: 64 hexadecimal digits."""
    if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("a public key is 64 hexadecimal digits")
    return text.lower()


def lines(path: str) -> Iterator[Json]:
    with Path(path).open(encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check an audit bundle of Mainstay, offline.")
    parser.add_argument("bundle", help="audit.jsonl, or the JSON of one proof")
    parser.add_argument("--witness", action="append", default=[], help="a file of heads that you kept, one a line")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        type=public_key,
        help="a public key (hex) that may have signed; repeatable",
    )
    given = parser.parse_args(arguments)
    try:
        witnessed = witnessed_heads(given.witness)
        with Path(given.bundle).open(encoding="utf-8", errors="surrogatepass") as file:
            first = file.read(1 << 16)
        if '"path"' in first and '"line"' in first:
            with Path(given.bundle).open(encoding="utf-8") as file:
                proof = json.load(file)
            said = check_proof(proof, given.key, witnessed)
            print(said or f"right: the event is in the log that {proof['head']['public']} signed")
            if not said and not given.key and not witnessed:
                print("note: nobody vouches for that key: give --key or --witness with what you got elsewhere")
            return 1 if said else 0
        check = Check(given.key, witnessed)
        for held in lines(given.bundle):
            check.take(held)
        check.end()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        trouble = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"can not be read: {trouble or type(error).__name__}", file=sys.stderr)
        return 2
    missing = sum(len(events) for events in check.missing.values())
    print(f"{check.tree.size} events ({missing} erased), {len(check.heads)} heads, {len(witnessed)} of a witness")
    print(f"root {check.tree.root()}")
    for key, n in check.announced.items():
        print(f"key {key}, announced at event {n}")
    for note in check.notes:
        print(f"note: {note}")
    for what in check.wrong[:100]:
        print(f"WRONG: {what}")
    print("everything is right" if not check.wrong else f"wrong in {len(check.wrong)} places")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
