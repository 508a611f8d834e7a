"""Git and the registry go back as one act: once, by one task, whatever dies in between, and never over somebody's head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_pipeops.exceptions import InvalidInput, NotFound, ReleaseFailed
from airflow_pipeops.models.desired import ModelInGit
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.models.rollback.saga import RollbackOrder
from tests.models.rollback.conftest import BAD, DESIRED, FILE, OLD, THIRD, Sides, manifest

PROOF = Proof("endpoint", OLD, "2100-01-01T00:00:00Z", "http://m")


def test_both_sides_go_back_and_nothing_else_changes(sides: Sides):
    rollback = sides.rollback()
    begun = rollback.begin("guard/run-1/rollback/-1")
    assert begun.mine
    assert begun.previous == {"model.uri": "file:///a/2", "model.sha256": BAD, "model.version": "2"}
    assert sides.state() == (OLD, "2", True), "the alias follows what is proven to run"
    assert rollback.begin("guard/run-1/rollback/-1").commit == begun.commit, "a retry finds its commit"
    assert rollback.finish(PROOF, begun.commit) == "2"
    assert rollback.finish(PROOF, begun.commit) == "1", "and finishing again changes nothing"
    assert sides.state() == (OLD, "1", True)
    assert sides.remote.show(FILE) == manifest("1", OLD)
    assert rollback.order.id in sides.remote.log("%b")[0] or rollback.order.id in "\n".join(
        sides.remote.log("%b")
    )


def test_without_a_proof_the_alias_stays_and_both_states_are_told(sides: Sides):
    rollback = sides.rollback()
    commit = rollback.begin("one").commit
    for proof, why in (
        (replace(PROOF, sha256=BAD), "the endpoint shows 222222222222"),
        (replace(PROOF, at="2020-01-01T00:00:00Z"), "seen at 2020-01-01T00:00:00Z, before the change at "),
        (replace(PROOF, at="yesterday"), "nobody can tell whether"),
    ):
        with pytest.raises(ReleaseFailed, match=f"nothing proves that 111111111111 runs: .*{why}") as error:
            rollback.finish(proof, commit)
        assert "still names version 2" in str(error.value)
    assert sides.state() == (OLD, "2", True)


def test_a_decision_of_somebody_else_is_not_undone(sides: Sides):
    rollback = sides.rollback()
    sides.want("3", THIRD)
    with pytest.raises(ReleaseFailed, match="decided otherwise meanwhile"):
        rollback.begin("one")
    assert sides.state() == (THIRD, "2", False)
    sides.want("2", BAD)
    rollback.begin("one")
    sides.want("3", THIRD)
    with pytest.raises(ReleaseFailed, match="decided otherwise meanwhile"):
        rollback.finish(PROOF, sides.remote.tip())
    assert sides.state() == (THIRD, "2", True)


def test_an_alias_that_somebody_has_moved_is_not_moved_again(sides: Sides):
    rollback = sides.rollback()
    rollback.begin("one")
    sides.registry.set_alias("m", "champion", "3")
    with pytest.raises(ReleaseFailed, match="names version 3, neither 2 nor 1"):
        rollback.finish(PROOF, sides.remote.tip())
    assert sides.state()[1] == "3"


def test_a_version_that_is_not_there_or_another_changes_nothing(sides: Sides):
    with pytest.raises(NotFound):
        sides.rollback(RollbackOrder("m", "2", BAD, "9", OLD, "why")).begin("one")
    with pytest.raises(InvalidInput, match="has the digest 333333333333"):
        sides.rollback(RollbackOrder("m", "2", BAD, "3", OLD, "why")).begin("one")
    assert sides.state() == (BAD, "2", False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"before_sha256": BAD}, "before"),
        ({"release": ""}, "release"),
        ({"origin": 5}, "origin"),
    ],
)
def test_a_bad_order_names_its_field(fields, field):
    good = {
        "model": "m",
        "release": "2",
        "release_sha256": BAD,
        "before": "1",
        "before_sha256": OLD,
        "reason": "why",
    }
    with pytest.raises(InvalidInput) as error:
        RollbackOrder(**{**good, **fields})
    assert error.value.field == field


def test_a_manifest_needs_a_digest():
    with pytest.raises(InvalidInput, match="no field holds the digest"):
        ModelInGit(FILE, {"model.version": "version"})
    with pytest.raises(InvalidInput) as error:
        ModelInGit(FILE, {"model.sha256": "digest"})
    assert error.value.field == "fields"
    assert ModelInGit.of(DESIRED.to_json()) == DESIRED
