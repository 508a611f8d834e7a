"""A model of a stream goes back on both sides: the release table in Git, by offset, and the alias in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput, ReleaseFailed
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models.operators import ModelGuardOperator
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.models.rollback.saga import ModelRollback
from airflow_pipeops.serving.agreement import ModelDisagreementTrigger
from airflow_pipeops.serving.stream.desired import ModelInTable, table_in, written
from airflow_pipeops.serving.stream.releases import Model, Release, Table, begun
from tests.models.conftest import connections
from tests.models.rollback.conftest import BAD, OLD, THIRD, Sides, sides, versions
from tests.models.rollback.test_agreement import told

__all__ = ["connections", "sides", "versions"]

FILE = "apps/stream/releases.yaml"
IN_TABLE = ModelInTable(FILE)
HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: releases\ndata:\n"
DIGESTS = {"1": OLD, "2": BAD, "3": THIRD}
PROOF = Proof("stream", OLD, "2100-01-01T00:00:00Z", "g@in")


def release(number: int, version: str, start: Mapping[int, int] | None) -> Release:
    return Release(f"r{number}", Model("m", version, f"file:///a/{version}", DIGESTS[version]), start)


def want(sides: Sides, *releases: Release) -> None:
    """Somebody commits a table."""
    sides.remote.pull()
    sides.remote.put(FILE, HEAD + "".join(f"  {one.revision}: '{one.to_text()}'\n" for one in releases))
    sides.remote.commit("table")


def table(sides: Sides) -> Table:
    return table_in(sides.remote.show(FILE).encode(), FILE)


def rollback(sides: Sides) -> ModelRollback:
    return ModelRollback(sides.git(), sides.registry, IN_TABLE, sides.order)


def let_begin(sides: Sides, start: dict[int, int]) -> None:
    """Do what the task that comes next does."""
    git, last = sides.git(), table(sides).releases[-1]
    written(
        git,
        FILE,
        lambda there: begun(there, last.revision, start, {}),
        lambda values, expect: git.commit_edit(FILE, values, "Begin", key="begin", expect=expect),
    )


def state(sides: Sides) -> tuple[str, str | None, bool]:
    found = sides.registry.by_alias("m", "champion")
    git = sides.git()
    return IN_TABLE.digest(git), found and found.version, bool(sides.registry.version("m", "2").blocked)


@pytest.fixture
def live(sides: Sides) -> Sides:
    """Version 2 scores both partitions since r2."""
    want(sides, release(1, "1", {0: 0, 1: 0}), release(2, "2", {0: 40, 1: 30}))
    return sides


def test_both_sides_go_back_by_a_release_of_its_own_and_what_is_scored_stays(live: Sides) -> None:
    before = table(live).releases
    begun_ = rollback(live).begin("guard/1")
    assert begun_.mine
    assert IN_TABLE.told(begun_.values) == {"release": "r3"}
    assert table(live).releases == (*before, release(3, "1", None))
    assert state(live) == (BAD, "2", True), "nothing scores by it yet, and the bad one is promoted no more"
    assert rollback(live).begin("guard/1").commit == begun_.commit, "a retry finds its commit"
    assert not rollback(live).begin("guard/2").mine, "of two guards one does it"
    with pytest.raises(ReleaseFailed, match="Git wants the model 222222222222"):
        rollback(live).finish(PROOF, begun_.commit)
    let_begin(live, {0: 90, 1: 80})
    assert not rollback(live).begin("guard/3").mine, "and what has begun is not announced again"
    assert len(table(live).releases) == 3
    with pytest.raises(
        ReleaseFailed, match="nothing proves that 111111111111 runs: the stream shows 222222222222"
    ):
        rollback(live).finish(replace(PROOF, sha256=BAD), begun_.commit)
    assert state(live) == (OLD, "2", True)
    assert rollback(live).finish(PROOF, begun_.commit) == "2"
    assert state(live) == (OLD, "1", True)
    assert table(live).releases[:2] == before


def test_while_the_bad_one_scores_any_partition_it_has_not_gone_back(live: Sides) -> None:
    commit = rollback(live).begin("guard/1").commit
    let_begin(live, {0: 90})
    with pytest.raises(ReleaseFailed, match="decided otherwise meanwhile"):
        rollback(live).finish(PROOF, commit)
    assert state(live)[1] == "2"
    # Whoever orders it again announces it for the rest.
    assert IN_TABLE.told(rollback(live).begin("guard/2").values) == {"release": "r4"}


def test_a_canary_goes_back_too(live: Sides) -> None:
    want(live, release(1, "1", {0: 0, 1: 0}), release(2, "2", {0: 40}))
    begun_ = rollback(live).begin("guard/1")
    let_begin(live, {0: 90})
    assert rollback(live).finish(PROOF, begun_.commit) == "2"
    assert state(live) == (OLD, "1", True)


@pytest.mark.parametrize("third", [release(3, "3", {0: 60, 1: 60}), release(3, "3", None)])
def test_a_third_model_that_scores_is_not_undone(live: Sides, third: Release) -> None:
    want(live, release(1, "1", {0: 0, 1: 0}), release(2, "2", {0: 40, 1: 30}), third)
    if third.start:
        with pytest.raises(ReleaseFailed, match="decided otherwise meanwhile"):
            rollback(live).begin("guard/1")
        assert state(live) == (THIRD, "2", False)
    else:  # one that is announced scores nothing, and stays what it is
        assert IN_TABLE.told(rollback(live).begin("guard/1").values) == {"release": "r4"}
        assert table(live).releases[2] == third


def test_a_third_model_that_begins_while_the_announcement_is_written_is_not_undone(live: Sides) -> None:
    back = rollback(live)
    wants, third = IN_TABLE.wants, release(3, "3", {0: 60, 1: 60})

    class Raced(ModelInTable):
        """A table in which somebody begins a third model between the look and the commit."""

        def wants(self, git: GitRepository, sha256: str) -> bool:
            found = wants(git, sha256)
            want(live, release(1, "1", {0: 0, 1: 0}), release(2, "2", {0: 40, 1: 30}), third)
            return found

    back.desired = Raced(FILE)
    with pytest.raises(
        InvalidInput, match="222222222222 scores nothing any more, and 333333333333 is wanted"
    ):
        back.begin("guard/1")
    assert table(live).releases[-1] == third
    assert state(live) == (THIRD, "2", False)


def test_the_commit_that_brought_the_model_is_the_one_by_which_it_began(live: Sides) -> None:
    rollback(live).begin("guard/1")
    let_begin(live, {0: 90, 1: 80})
    brought = IN_TABLE.brought(live.git())
    assert brought is not None
    assert (brought.sha, brought.subject) == (live.remote.tip(), "Begin")
    assert IN_TABLE.digest(live.git(), brought.parents[0]) == BAD


def test_the_guard_takes_a_table_for_the_place_where_git_names_a_model() -> None:
    guard = ModelGuardOperator(task_id="guard", model="m", labelled="x", desired=IN_TABLE)
    assert guard.desired is IN_TABLE


def test_the_watcher_holds_the_alias_against_the_table(live: Sides, connections: Any) -> None:
    connections("pipeops_gitops_repo", "git_repository", str(live.remote.path))
    connections("mlflow_default", "mlflow", live.registry.tracking_uri)
    watcher = ModelDisagreementTrigger(model="m", desired=IN_TABLE, grace=0.001, poll_interval=0.001)
    again = ModelDisagreementTrigger(**watcher.serialize()[1])
    assert told(again) == []
    rollback(live).begin("guard/1")
    let_begin(live, {0: 90, 1: 80})
    (seen,) = told(again)
    assert (seen["liar"], seen["git"], seen["alias_sha256"]) == ("alias", OLD, BAD)
