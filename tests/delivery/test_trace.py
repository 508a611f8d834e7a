from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.delivery.trace import trace


def chain(*kinds: str) -> list[Record]:
    """Records in which each is made from the one before."""
    made: list[Record] = []
    for kind in kinds:
        made.append(Record(kind, "svc", {"n": len(made)}, parents=tuple(r.id for r in made[-1:])))
    return made


def test_it_walks_from_a_release_to_the_commit() -> None:
    ledger = chain("commit", "validation", "image", "change", "release")
    found = trace(ledger[-1].id, reversed(ledger))
    assert [record.kind for record in found.records] == ["release", "change", "image", "validation", "commit"]
    assert found.complete
    assert found.of_kind("image") == (ledger[2],)


def test_a_missing_parent_is_a_gap_and_not_hidden() -> None:
    ledger = chain("commit", "validation", "image", "change", "release")
    gone = ledger.pop(2)
    found = trace(ledger[-1].id, ledger)
    assert not found.complete
    assert [(gap.id, gap.depth, gap.child) for gap in found.gaps] == [(gone.id, 2, ledger[2].id)]


def test_an_unknown_start_is_one_gap() -> None:
    found = trace("0" * 64, [])
    assert [step.record for step in found.steps] == [None]


def test_a_shared_ancestor_is_visited_once_at_its_least_depth() -> None:
    data = Record("dataset", "m", {})
    code = Record("commit", "m", {}, parents=(data.id,))
    model = Record("model", "m", {}, parents=(code.id, data.id))
    steps = trace(model.id, [data, code, model]).steps
    assert [(s.id, s.depth) for s in steps] == [(model.id, 0), (code.id, 1), (data.id, 1)]


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=25), st.sets(st.integers(0, 24))
)
def test_every_ancestor_is_found_exactly_once(links: list[list[int]], lost: set[int]) -> None:
    made: list[Record] = []
    for n, parents in enumerate(links):
        made.append(Record("commit", "s", {"n": n}, parents=tuple({made[p].id: 0 for p in parents if p < n})))
    kept = [record for n, record in enumerate(made) if n not in lost]
    held = {record.id: record for record in kept}
    steps = trace(made[-1].id, kept).steps

    reachable, todo = set(), [made[-1].id]
    while todo:
        if (identifier := todo.pop()) not in reachable:
            reachable.add(identifier)
            todo += held[identifier].parents if identifier in held else ()
    assert sorted(step.id for step in steps) == sorted(reachable)
