"""Merkle trees as RFC 6962 section 2.1 defines them, with SHA-256. Arithmetic only: imports nothing of ours.

A leaf's hash is SHA-256(0x00 || content), a node's SHA-256(0x01 || left || right), so that neither can pass for the
other. Trees are built level by level and a last node without a partner moves up as it is, which gives the tree of
the RFC. A function that takes hashes takes any whole row of the tree: leaves, or the roots of equal parts of it.
"""

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def tree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over these hashes in this order."""
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def audit_path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings on the way from hash `index` to the root, lowest first (RFC 6962, 2.1.1)."""
    if not 0 <= index < len(hashes):
        raise IndexError(f"There is no hash {index} among {len(hashes)}.")
    path, level = [], hashes
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level, index = _level_above(level), index >> 1
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to from a leaf's hash; None if no tree of that size has such a path.

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves that the leaf with this hash is number `index` of the `size` leaves under the root."""
    return root_from_path(leaf, index, size, path) == root


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above
