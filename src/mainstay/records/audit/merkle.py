"""A Merkle tree that only grows, after RFC 9162 section 2.1 (and RFC 6962): SHA-256, leaf ``H(0x00 || data)``, node
``H(0x01 || left || right)``, split at the largest power of two smaller than the number of leaves; the empty tree is
``H("")``.

What is kept of a tree are its **complete** subtrees: ``(level, position)`` covers the leaves from ``position * 2**level`` on,
``2**level`` of them. Such a node never changes, so a tree of any earlier size can be worked out from them, too. Whoever keeps
them says what they are; here is what of them is needed, and what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from mainstay.errors import Invalid

HASH_BYTES = 32
EMPTY = sha256(b"").digest()
Key = tuple[int, int]
"""A complete subtree: (level, position)."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """The right edge of a tree: its size, and the roots of the complete subtrees it is made of, the largest first. All that
    adding a leaf takes."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or self.size.bit_count() != len(self.peaks):
            raise Invalid(f"a tree of {self.size} leaves has not {len(self.peaks)} peaks", where="audit")

    @property
    def root(self) -> bytes:
        return folded(self.peaks)

    def plus(self, leaves: Sequence[bytes]) -> tuple[Frontier, list[tuple[Key, bytes]]]:
        """With these leaf hashes added, and the complete subtrees (of level 1 and more) that came about by it."""
        size, peaks = self.size, list(self.peaks)
        made: list[tuple[Key, bytes]] = []
        for leaf in leaves:
            held, level = leaf, 0
            while size >> level & 1:
                held = node_hash(peaks.pop(), held)
                level += 1
                made.append(((level, size >> level), held))
            peaks.append(held)
            size += 1
        return Frontier(size, tuple(peaks)), made


def folded(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand side by side, the largest first."""
    if not peaks:
        return EMPTY
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def cover(start: int, end: int) -> list[Key]:
    """The complete subtrees whose fold is the hash of the leaves from ``start`` up to ``end``: the largest first.

    ``start`` is a multiple of the smallest power of two that is not smaller than ``end - start``, as it always is in a tree.
    """
    keys = []
    while start < end:
        level = (end - start).bit_length() - 1
        keys.append((level, start >> level))
        start += 1 << level
    return keys


def cover_of(size: int) -> list[Key]:
    """The complete subtrees that a whole tree of this size is made of."""
    return cover(0, size)


# -- proofs ------------------------------------------------------------------------------------------------------------
def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Which leaves each hash of the proof covers that leaf ``index`` is in the tree of ``size`` (RFC 9162 section 2.1.3.1)."""
    if not 0 <= index < size:
        raise Invalid(f"leaf {index} is not in a tree of {size}", where="audit")
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, size: int) -> list[tuple[int, int]]:
    """The same for the proof that the tree of ``old`` leaves begins that of ``size`` (RFC 9162 section 2.1.4.1)."""
    if not 0 < old <= size:
        raise Invalid(f"a tree of {old} does not begin one of {size}", where="audit")
    start, end, ranges, whole = 0, size, [], True
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def needed(ranges: Sequence[tuple[int, int]]) -> list[Key]:
    """The complete subtrees that a proof over these ranges is made from."""
    return [key for start, end in ranges for key in cover(start, end)]


def proof(ranges: Sequence[tuple[int, int]], nodes: Mapping[Key, bytes]) -> tuple[bytes, ...]:
    """The hashes of a proof, from the subtrees that ``needed`` names. Errors: Invalid when one is missing."""
    try:
        return tuple(folded([nodes[key] for key in cover(start, end)]) for start, end in ranges)
    except KeyError as missing:
        level, position = missing.args[0]
        raise Invalid(
            f"the tree's node {level}/{position} is missing", where="audit", fix="run: mainstay audit verify"
        ) from None


def inclusion_root(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that this proof leads to (RFC 9162 section 2.1.3.2); None for a proof of the wrong form."""
    if not 0 <= index < size:
        return None
    here, last, root = index, size - 1, leaf
    for held in path:
        if last == 0:
            return None
        if here & 1 or here == last:
            root = node_hash(held, root)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            root = node_hash(root, held)
        here, last = here >> 1, last >> 1
    return root if last == 0 else None


def included(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that the leaf stands at ``index`` of the tree with this root."""
    return inclusion_root(index, size, leaf, path) == root


def consistent(old: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the proof shows that the second tree begins with the first (RFC 9162 section 2.1.4.2)."""
    if old == 0:
        return not path and old_root == EMPTY  # every tree begins with the empty one
    if old == size:
        return not path and old_root == root
    if not 0 < old < size or not path:
        return False
    held = list(path)
    if old & (old - 1) == 0:
        held.insert(0, old_root)
    here, last = old - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    first = second = held[0]
    for one in held[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            first, second = node_hash(one, first), node_hash(one, second)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            second = node_hash(second, one)
        here, last = here >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _split(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << (size - 1).bit_length() - 1


def frontiers(leaves: Iterator[bytes]) -> Iterator[Frontier]:
    """The tree after each leaf: for those who check it all."""
    held = Frontier()
    for leaf in leaves:
        held, _ = held.plus([leaf])
        yield held
