"""Against the test vectors of RFC 6962's reference implementation, and the RFC's own recursive definitions."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.merkle import EMPTY_ROOT, audit_path, leaf_hash, node_hash, root_from_path, tree_root, verify_inclusion
from metering.verifier import Tree

# The inputs and roots of certificate-transparency's merkle tree tests.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
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
HASHES = [leaf_hash(content) for content in INPUTS]

leaves = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def rfc_root(contents):
    """MTH of RFC 6962, 2.1, word for word."""
    if not contents:
        return sha256(b"").digest()
    if len(contents) == 1:
        return sha256(b"\x00" + contents[0]).digest()
    k = 1 << (len(contents) - 1).bit_length() - 1
    return sha256(b"\x01" + rfc_root(contents[:k]) + rfc_root(contents[k:])).digest()


def rfc_path(m, contents):
    """PATH of RFC 6962, 2.1.1, word for word."""
    if len(contents) == 1:
        return []
    k = 1 << (len(contents) - 1).bit_length() - 1
    if m < k:
        return [*rfc_path(m, contents[:k]), rfc_root(contents[k:])]
    return [*rfc_path(m - k, contents[k:]), rfc_root(contents[:k])]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_published_vectors(size):
    assert tree_root(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing():
    assert tree_root([]) == EMPTY_ROOT == sha256(b"").digest()


def test_the_paths_of_the_published_vectors():
    assert audit_path(HASHES[:1], 0) == []
    assert [node.hex() for node in audit_path(HASHES, 0)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [node.hex() for node in audit_path(HASHES[:3], 2)] == [ROOTS[1]]


@given(leaves)
def test_roots_follow_the_definition_of_the_rfc(contents):
    assert tree_root([leaf_hash(content) for content in contents]) == rfc_root(contents)


@given(leaves)
def test_the_verifier_arrives_at_the_same_root(contents):
    tree = Tree()
    for content in contents:
        tree.add(content)
    assert tree.root() == rfc_root(contents).hex()


@given(leaves, st.data())
def test_paths_follow_the_definition_and_prove_inclusion(contents, data):
    index = data.draw(st.integers(0, len(contents) - 1))
    hashes = [leaf_hash(content) for content in contents]
    path = audit_path(hashes, index)
    assert path == rfc_path(index, contents)
    assert verify_inclusion(hashes[index], index, len(hashes), path, tree_root(hashes))


@given(leaves, st.data())
def test_no_other_leaf_place_or_path_passes(contents, data):
    hashes = [leaf_hash(content) for content in contents]
    index = data.draw(st.integers(0, len(contents) - 1))
    path, root, size = audit_path(hashes, index), tree_root(hashes), len(hashes)
    assert not verify_inclusion(leaf_hash(b"not there"), index, size, path, root)
    assert not verify_inclusion(hashes[index], size, size, path, root)
    assert root_from_path(hashes[index], index, size, [*path, root]) is None
    if path:
        assert not verify_inclusion(hashes[index], index, size, path[:-1], root)
        assert not verify_inclusion(hashes[index], index, size, [leaf_hash(b"other"), *path[1:]], root)


@given(leaves, st.integers(0, 4))
def test_a_tree_of_equal_parts_is_the_tree_of_their_leaves(contents, power):
    hashes = [leaf_hash(content) for content in contents]
    width = 2**power
    parts = [tree_root(hashes[at : at + width]) for at in range(0, len(hashes), width)]
    assert tree_root(parts) == tree_root(hashes)


def test_a_path_beyond_the_tree_is_refused():
    with pytest.raises(IndexError):
        audit_path(HASHES, 8)
    assert root_from_path(HASHES[0], 0, 0, []) is None
    assert node_hash(b"a", b"b") != node_hash(b"b", b"a")
