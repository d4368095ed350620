"""The tree: RFC vectors, a plain recursive reading of the RFC beside it, and proofs that show nothing false."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.errors import Invalid
from mainstay.records.audit import merkle
from mainstay.records.audit.merkle import Frontier

# The inputs and roots of RFC 6962's reference implementation (certificate-transparency, merkletree tests).
LEAVES = [
    bytes.fromhex(held)
    for held in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {  # (leaf, size) -> inclusion proof, of the same tests
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}
LAW = settings(deadline=None, max_examples=120, derandomize=True)


def whole(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.node_hash(whole(leaves[:split]), whole(leaves[split:]))


def tree(leaves: list[bytes]) -> tuple[list[Frontier], dict[merkle.Key, bytes]]:
    """The tree after each leaf, and every complete subtree of it."""
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    nodes: dict[merkle.Key, bytes] = {(0, n): held for n, held in enumerate(hashes)}
    states = [Frontier()]
    for held in hashes:
        grown, made = states[-1].plus([held])
        nodes.update(made)
        states.append(grown)
    return states, nodes


def path(ranges: list[tuple[int, int]], nodes: dict[merkle.Key, bytes]) -> tuple[bytes, ...]:
    return merkle.proof(ranges, {key: nodes[key] for key in merkle.needed(ranges)})


def test_the_vectors() -> None:
    states, nodes = tree(LEAVES)
    assert [state.root.hex() for state in states[1:]] == ROOTS
    assert states[0].root == sha256(b"").digest() == merkle.EMPTY
    for (leaf, size), wanted in PATHS.items():
        assert tuple(one.hex() for one in path(merkle.inclusion_ranges(leaf, size), nodes)) == wanted


def test_every_proof_of_every_small_tree() -> None:
    leaves = [f"leaf {n}".encode() for n in range(40)]
    states, nodes = tree(leaves)
    for size in range(1, 41):
        root = states[size].root
        assert root == whole(leaves[:size])
        assert root == merkle.folded([nodes[key] for key in merkle.cover_of(size)])
        for index in range(size):
            proof = path(merkle.inclusion_ranges(index, size), nodes)
            assert merkle.included(index, size, nodes[0, index], proof, root)
            assert not merkle.included((index + 1) % size, size, nodes[0, index], proof, root) or size == 1
        for old in range(1, size + 1):
            proof = path(merkle.consistency_ranges(old, size), nodes)
            assert merkle.consistent(old, size, states[old].root, root, proof)
            if old < size:
                assert not merkle.consistent(old, size, merkle.EMPTY, root, proof)


@LAW
@given(st.integers(1, 400), st.data())
def test_a_proof_with_one_bit_changed_shows_nothing(size: int, data: st.DataObject) -> None:
    leaves = [n.to_bytes(4, "big") for n in range(size)]
    states, nodes = tree(leaves)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root = states[size].root
    for ranges, shows in (
        (merkle.inclusion_ranges(index, size), lambda p: merkle.included(index, size, nodes[0, index], p, root)),
        (merkle.consistency_ranges(old, size), lambda p: merkle.consistent(old, size, states[old].root, root, p)),
    ):
        proof = list(path(ranges, nodes))
        assert shows(proof)
        assert not shows([*proof, merkle.EMPTY])
        if proof:
            assert not shows(proof[:-1])
            n = data.draw(st.integers(0, len(proof) - 1))
            bit = data.draw(st.integers(0, 255))
            held = bytearray(proof[n])
            held[bit // 8] ^= 1 << bit % 8
            proof[n] = bytes(held)
            assert not shows(proof)


@LAW
@given(st.lists(st.integers(1, 30), max_size=12))
def test_batches_make_the_same_tree(batches: list[int]) -> None:
    leaves = [merkle.leaf_hash(n.to_bytes(4, "big")) for n in range(sum(batches))]
    one, nodes_of_one = Frontier().plus(leaves)
    held, nodes, at = Frontier(), [], 0
    for batch in batches:
        held, made = held.plus(leaves[at : at + batch])
        nodes += made
        at += batch
    assert held == one
    assert nodes == nodes_of_one
    assert len({key for key, _ in nodes}) == len(nodes)


def test_adding_and_proving_take_few_nodes() -> None:
    """At ten million events a proof is at most 24 hashes, made from O(log n) nodes."""
    size = 10_000_000
    assert len(merkle.cover_of(size)) == size.bit_count() <= 24
    for index in (0, 1, size // 3, size - 2, size - 1):
        ranges = merkle.inclusion_ranges(index, size)
        assert len(ranges) <= 24
        assert len(merkle.needed(ranges)) <= 48
    assert max(len(merkle.consistency_ranges(old, size)) for old in (1, 12345, 1 << 20, size - 1)) <= 25


@pytest.mark.parametrize("held", [(3, ()), (-1, ()), (2, (b"", b""))])
def test_an_edge_that_can_not_be(held: tuple[int, tuple[bytes, ...]]) -> None:
    with pytest.raises(Invalid):
        Frontier(*held)


def test_what_is_not_in_the_tree() -> None:
    with pytest.raises(Invalid):
        merkle.inclusion_ranges(5, 5)
    with pytest.raises(Invalid):
        merkle.consistency_ranges(6, 5)
    with pytest.raises(Invalid, match="node 1/0"):
        merkle.proof([(0, 2)], {})
    assert merkle.inclusion_root(5, 5, merkle.EMPTY, ()) is None
