from __future__ import annotations

import pytest

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.files import WIDTH, Ledger
from airflow_pipeops.delivery.ledger.tree import included, leaf_hash, root
from airflow_pipeops.exceptions import InvalidInput
from tests.delivery.ledger.events import entry, record


def events(first: int, count: int) -> list[Entry]:
    return [entry(record(body={"n": n}), n) for n in range(first, first + count)]


@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [256], [257], [100] * 8, [1030, 3]])
def test_what_is_appended_in_steps_is_read_in_order(ledger: Ledger, steps: list[int]) -> None:
    expected: list[Entry] = []
    for step in steps:
        expected += ledger.append(events(len(expected) + 1, step), ledger.head())
        assert Ledger(ledger.folder).head().size == len(expected)
    lines = list(Ledger(ledger.folder).read())
    assert [Entry.read(line) for line in lines] == expected
    assert [entry.seq for entry in expected] == list(range(1, sum(steps) + 1))
    assert list(ledger.read(len(lines) - 1)) == lines[-1:]
    leaves = [leaf_hash(line) for line in lines]
    for size in {1, len(lines) // 2 or 1, len(lines) // WIDTH * WIDTH or 1, len(lines)}:
        assert root(ledger.parts(size)) == root(leaves[:size])
        for seq in {1, size // 2 or 1, size}:
            proof = ledger.proof(seq, size)
            assert included(leaves[seq - 1], seq - 1, size, proof) == root(leaves[:size])


def test_full_files_have_their_tiles(ledger: Ledger) -> None:
    ledger.append(events(1, 2 * WIDTH + 5), ledger.head())
    leaves = [leaf_hash(line) for line in ledger.read()]
    assert ledger.tile(0, 1) == leaves[WIDTH : 2 * WIDTH]
    assert ledger.tile(1, 0) == [root(leaves[:WIDTH]), root(leaves[WIDTH : 2 * WIDTH])]
    assert not ledger.tile(0, 2)


def test_an_object_store_holds_it_too() -> None:
    ledger = Ledger.open("memory://ledger-of-a-test")
    ledger.append(events(1, 300), ledger.head())
    ledger.append(events(301, 300), ledger.head())
    assert Ledger.open("memory://ledger-of-a-test").head().size == 600


def test_nothing_is_appended_to_a_damaged_end(ledger: Ledger) -> None:
    ledger.append(events(1, 3), ledger.head())
    path = ledger.path("entries", 0)
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:1] * 2) + b"\n")
    with pytest.raises(InvalidInput, match="does not end with entry 2") as caught:
        ledger.head()
    assert "verify" in caught.value.remedy
