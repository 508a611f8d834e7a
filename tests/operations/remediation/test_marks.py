"""What the remediator holds is respected by what would go on, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.exceptions import NotConfigured
from airflow_pipeops.git.operators import GitOpsCommitOperator, GitOpsRevertOperator
from airflow_pipeops.operations.remediation.command import remediation_command
from airflow_pipeops.operations.remediation.marks import held, kept_out
from airflow_pipeops.serving.batch.operators import BatchScoreOperator
from airflow_pipeops.serving.stream.operators import StreamAnnounceOperator
from tests.git.conftest import Remote, remote
from tests.operations.remediation.test_operators import DELAYS, remediate, root

__all__ = ["remote", "root"]

FILE, DIGEST = "apps/web/kustomization.yaml", "images[name=web].digest"
LIFT = "promotion delays@production"


@pytest.fixture(autouse=True)
def _desired(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.dumps({"conn_type": "git_repository", "host": str(remote.path)})
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", connection)


def commit(environment: str = "production", **more: Any) -> GitOpsCommitOperator:
    given = {"file": FILE, "set": {DIGEST: "new"}, "message": "Deploy", "deliverable": DELAYS}
    return GitOpsCommitOperator(task_id="promote", environment=environment, **{**given, **more})


def lift(*marks: str) -> None:
    class Args:
        storage_conn_id, reset, json = "pipeops_remediation", marks, False

    remediation_command(Args)


def test_a_held_promotion_commits_nothing_until_it_is_lifted(
    root: Path, remote: Remote, context: Any
) -> None:
    before = remote.tip()
    acted = remediate(context, "anomaly").execute(context)
    with pytest.raises(AirflowFailException) as refused:
        commit().execute(context)
    said = str(refused.value)
    assert "GateFailed: nothing of delays is promoted to production" in said
    assert f"operation {acted['operation']}" in said, "who"
    assert "rule 'hold', since 20" in said
    assert f"airflow pipeops remediation --reset '{LIFT}'" in said, "and how it is lifted"
    assert remote.tip() == before
    lift(LIFT)
    assert commit().execute(context)["commit"] == remote.tip() != before


def test_a_hold_is_about_one_deliverable_in_one_environment(root: Path, remote: Remote, context: Any) -> None:
    remediate(context, "anomaly").execute(context)
    changed = commit("staging").execute(context)
    assert changed["changed"]
    back = GitOpsRevertOperator(
        task_id="back", commit=changed["commit"], reason="bad", deliverable=DELAYS, environment="production"
    )
    assert back.execute(context)["changed"], "what takes back is no promotion"
    assert commit(set={DIGEST: "newer"}, holds_conn_id="").execute(context)["changed"], "nothing is asked"


def test_a_stream_is_held_too(root: Path, remote: Remote, context: Any) -> None:
    remediate(context, "anomaly").execute(context)
    announce = StreamAnnounceOperator(
        task_id="announce", file="apps/stream.yaml", model="delays", version=1, artifact_uri="s3://m/1",
        sha256="a" * 64, deliverable=DELAYS, environment="production",
    )  # fmt: skip
    with pytest.raises(AirflowFailException, match="nothing of delays is promoted to production"):
        announce.execute(context)


@pytest.mark.parametrize(
    ("partition", "data"),
    [
        ("march", "file:///data/anything.parquet"),
        ("2013-03", ["file:///data/april", "file:///data/march"]),
        ("2013-03", "march"),
    ],
)
def test_a_batch_that_is_kept_out_is_not_scored(root: Path, context: Any, partition: str, data: Any) -> None:
    remediate(context).execute(context)
    score = BatchScoreOperator(task_id="score", partition=partition, data=data, model={}, key="flight")
    with pytest.raises(AirflowFailException, match=r"DataRejected: the batch .*march is kept out: operation"):
        score.execute(context)
    lift("batch march")
    with pytest.raises(AirflowFailException, match="InvalidInput"):  # by now, it asks for its model
        score.execute(context)


def test_which_of_several_are_kept_out(root: Path, context: Any) -> None:
    remediate(context).execute(context)
    found = kept_out(["file:///data/march", "file:///data/march-2", "april", ""])
    assert list(found) == ["file:///data/march"]
    assert "airflow pipeops remediation --reset 'batch march'" in found["file:///data/march"]


def test_without_a_remediator_nothing_is_held_and_a_name_of_ones_own_must_be_there(
    remote: Remote, context: Any
) -> None:
    assert not held("delays", "production")
    assert commit().execute(context)["changed"]
    with pytest.raises(NotConfigured):
        held("delays", "production", "misspelt")


def test_a_history_that_is_gone_lets_nothing_pass(
    tmp_path: Path, remote: Remote, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = remote.tip()
    gone = {"conn_type": "pipeops_storage", "host": (tmp_path / "gone").as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_REMEDIATION", json.dumps(gone))
    with pytest.raises(Exception, match="the folder of the remediator's history is not there"):
        commit().execute(context)
    assert remote.tip() == before
