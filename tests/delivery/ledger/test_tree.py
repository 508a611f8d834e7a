"""RFC 6962: the vectors of Certificate Transparency, and the definition itself as a naive model."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.delivery.ledger.tree import included, inclusion, leaf_hash, node_hash, root

#: The leaves and roots of the reference implementation's tests.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
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


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root([]) == hashlib.sha256(b"").digest()


def naive(hashes: list[bytes]) -> bytes:
    """Work out the root as the RFC writes it."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(naive(hashes[:split]), naive(hashes[split:]))


@given(st.integers(1, 70), st.data())
def test_every_leaf_is_proved_and_no_other(size: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(bytes([number])) for number in range(size)]
    assert root(hashes) == naive(hashes)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion(index, hashes)
    assert included(hashes[index], index, size, proof) == root(hashes)
    other = data.draw(st.integers(0, size))
    if other != index:
        assert included(hashes[index], other, size, proof) != root(hashes)
    assert included(leaf_hash(b"forged"), index, size, proof) != root(hashes)
    if proof:
        assert included(hashes[index], index, size, proof[:-1]) != root(hashes)
    assert included(hashes[index], index, size, [*proof, hashes[0]]) is None


@given(st.integers(1, 2000))
def test_subtrees_of_one_size_give_the_same_root(size: int) -> None:
    hashes = [leaf_hash(size.to_bytes(2, "big") + number.to_bytes(2, "big")) for number in range(size)]
    parts = [root(hashes[at : at + 256]) for at in range(0, size, 256)]
    assert root(parts) == root(hashes)
    index = size // 2
    part, within = divmod(index, 256)
    proof = inclusion(within, hashes[part * 256 : part * 256 + 256]) + inclusion(part, parts)
    assert proof == inclusion(index, hashes)
