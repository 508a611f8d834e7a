"""The Merkle tree of RFC 6962 over the lines of the ledger: one hash for all, and short proofs about it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of a line."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of what stands above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a tree.

    :param hashes: of its leaves; or of whole subtrees of one size, only the last of which may be smaller.
    :return: the hash; of no leaves, that of nothing.
    """
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        paired = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def inclusion(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Prove that a leaf is in a tree.

    :param index: of the leaf, from 0; or of the subtree.
    :param hashes: of the leaves; or of subtrees, as for :func:`root`.
    :return: the hashes beside the way from it to the root, the nearest first.
    """
    proof = []
    level = list(hashes)
    while len(level) > 1:
        if (index ^ 1) < len(level):
            proof.append(level[index ^ 1])
        paired = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level, index = paired + level[len(paired) * 2 :], index // 2
    return proof


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Work out the root that a proof of inclusion leads to.

    :param leaf: hash of the leaf.
    :param index: of the leaf, from 0.
    :param size: of the tree, in leaves.
    :param proof: as :func:`inclusion` returned it.
    :return: the root, to be compared; none if the proof is of another length.
    """
    if not 0 <= index < size:
        return None
    found, at, last = leaf, index, size - 1
    for beside in proof:
        if not last:
            return None
        if at % 2 or at == last:
            found = node_hash(beside, found)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            found = node_hash(found, beside)
        at, last = at // 2, last // 2
    return found if not last else None
