"""The operators, run as a worker runs them."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from airflow_pipeops.git.operators import GitOpsCommitOperator, GitOpsRevertOperator, ResolveCommitOperator

FILE = "apps/web/kustomization.yaml"
DIGEST = "images[name=web].digest"
WEB = Deliverable("web")


@pytest.fixture(autouse=True)
def _connections(monkeypatch, remote, tmp_path):
    connection = json.dumps({"conn_type": "git_repository", "host": str(remote.path)})
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_APP_REPO", connection)
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", connection)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def pushed(*payloads: dict) -> dict:
    """Triggering events of one asset, as a watcher makes them."""
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    events = [
        SimpleNamespace(
            timestamp=start + timedelta(seconds=place), extra={"from_trigger": True, "payload": payload}
        )
        for place, payload in enumerate(payloads)
    ]
    return {"asset": events}


def emitted(context, asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


FORGE = "https://github.com/team/desired"


class TestLinks:
    """Each task that is about a commit leads to it, where the forge has pages."""

    @pytest.fixture(autouse=True)
    def _forge(self, monkeypatch):
        # The commits are real; only the address that people see is that of a forge.
        monkeypatch.setattr("airflow_pipeops.git.repository.GitRepository.display_url", FORGE)

    def test_the_commit_is_linked(self, remote, context):
        change = GitOpsCommitOperator(task_id="t", file=FILE, set={DIGEST: "new"}, message="Deploy")
        made = change.execute(context)["commit"]
        revert = GitOpsRevertOperator(task_id="r", commit=made, reason="bad")
        reverted = revert.execute(context)["commit"]
        resolve = ResolveCommitOperator(task_id="c", revision=made)
        resolve.execute(context)
        for task, commit in ((change, made), (revert, reverted), (resolve, made)):
            (link,) = task.operator_extra_links
            assert link.name == "Commit"
            assert link.get_link(task, ti_key=None) == f"{FORGE}/commit/{commit}"

    def test_there_is_none_before_the_task_has_looked(self):
        task = ResolveCommitOperator(task_id="c")
        assert task.operator_extra_links[0].get_link(task, ti_key=None) == ""


class TestResolve:
    def test_a_given_revision(self, remote, context):
        first = remote.tip()
        sha = remote.commit("second")
        done = ResolveCommitOperator(task_id="t", revision=first[:10], deliverable=WEB).execute(context)
        assert (done["commit"], done["subject"], done["branch"]) == (first, "first", "main")
        assert done["author"] == "Ada <ada@example.com>"
        record = emitted(context, WEB.commit)
        assert (record.id, record.kind, record.commit) == (done["record_id"], "commit", first)
        assert record.body["repository"] == str(remote.path)
        assert context["outlet_events"][WEB.commit].partition_keys == {first}
        assert ResolveCommitOperator(task_id="t").execute(context) == {
            **done,
            "commit": sha,
            "subject": "second",
            "record_id": None,
        }

    def test_the_newest_push_and_not_the_tip(self, remote, context):
        first = remote.tip()
        second = remote.commit("second")
        remote.commit("third")
        context["triggering_asset_events"] = pushed(
            {"commit": first, "previous": None, "branch": "main"},
            {"commit": second, "previous": first, "branch": "main", "git_conn_id": "pipeops_app_repo"},
            {"commit": "0" * 40, "branch": "main", "git_conn_id": "another_repository"},
            {"uri": "s3://a-batch"},
        )
        assert ResolveCommitOperator(task_id="t").execute(context)["commit"] == second

    def test_an_unknown_commit_fails_for_good(self, context):
        with pytest.raises(AirflowFailException, match=r"NotFound: .*has no commit"):
            ResolveCommitOperator(task_id="t", revision="f" * 40).execute(context)


class TestCommit:
    def operator(self, **options) -> GitOpsCommitOperator:
        given = {
            "file": FILE,
            "set": {DIGEST: "new"},
            "message": "Deploy new",
            "deliverable": WEB,
            "environment": "staging",
        }
        return GitOpsCommitOperator(task_id="promote", **{**given, **options})

    def test_the_change_is_committed_and_recorded(self, remote, context):
        parent = "a" * 64
        done = self.operator(parents=[parent, None], expect={DIGEST: "old"}).execute(context)
        assert done["commit"] == remote.tip()
        assert (done["changed"], done["file"], done["set"], done["previous"]) == (
            True,
            FILE,
            {DIGEST: "new"},
            {DIGEST: "old"},
        )
        record = emitted(context, WEB.changed("staging"))
        assert (record.id, record.kind, record.environment, record.parents) == (
            done["record_id"],
            "change",
            "staging",
            (parent,),
        )
        assert (record.body["commit"], record.body["branch"]) == (done["commit"], "main")
        message = "\n".join(remote.log("%B"))
        for line in (
            "Airflow-Dag: dag",
            "Airflow-Run: run-1",
            "Airflow-Task: task",
            "PipeOps-Deliverable: web",
            "PipeOps-Environment: staging",
        ):
            assert line in message

    def test_a_second_attempt_is_the_same_commit(self, remote, context):
        done = self.operator().execute(context)
        again = self.operator().execute(context)
        assert {**again, "record_id": 0} == {**done, "record_id": 0}
        assert len(remote.log()) == 2

    def test_a_retry_does_not_undo_what_came_later_and_a_cleared_task_does(self, remote, context):
        """As Airflow counts: two retries each time, and a clearing allows as many from there."""
        ti = context["ti"]
        ti.task, ti.try_number, ti.max_tries = SimpleNamespace(retries=2), 1, 2
        first = self.operator(set={DIGEST: "1.0"}).execute(context)
        ti.run_id = "run-2"
        second = self.operator(set={DIGEST: "2.0"}).execute(context)
        ti.run_id, ti.try_number = "run-1", 2
        with pytest.raises(AirflowFailException, match=second["commit"][:7]):
            self.operator(set={DIGEST: "1.0"}).execute(context)
        assert 'digest: "2.0"' in remote.show()
        ti.try_number, ti.max_tries = 3, 4
        cleared = self.operator(set={DIGEST: "1.0"}).execute(context)
        assert (cleared["commit"], cleared["changed"]) == (remote.tip(), True)
        assert cleared["previous"] == {DIGEST: "2.0"}
        assert 'digest: "1.0"' in remote.show()
        ti.try_number = 4
        assert self.operator(set={DIGEST: "1.0"}).execute(context)["commit"] == cleared["commit"]
        assert len(remote.log()) == 4
        assert first["commit"] != cleared["commit"]

    def test_mapped_tasks_are_different_acts(self, remote, context):
        for index, path in enumerate([DIGEST, "replicas[name=web].count"]):
            context["ti"].map_index = index
            self.operator(set={path: index + 5}).execute(context)
        assert "Airflow-Task: task[1]" in "\n".join(remote.log("%B"))
        assert len(remote.log()) == 3

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"set": {DIGEST: None}}, "InvalidInput: the value for"),
            ({"set": {}}, "no value to set"),
            ({"set": "x"}, "set is not a mapping"),
            ({"set": {"images[name=none].digest": "x"}}, "cannot be followed"),
            ({"file": "none.yaml"}, "NotFound: the repository has no file 'none.yaml'"),
            ({"expect": {DIGEST: "other"}}, "is 'old' and not 'other'"),
            ({"message": " "}, "message is empty"),
        ],
    )
    def test_bad_input_fails_for_good_and_changes_nothing(self, remote, context, options, said):
        with pytest.raises(AirflowFailException, match=said.replace("[", r"\[")):
            self.operator(**options).execute(context)
        assert len(remote.log()) == 1
        assert not len(context["outlet_events"])

    def test_an_unreachable_repository_is_tried_again(self, context, monkeypatch):
        monkeypatch.setenv(
            "AIRFLOW_CONN_PIPEOPS_GITOPS_REPO",
            json.dumps({"conn_type": "git_repository", "host": "http://127.0.0.1:9/x"}),
        )
        monkeypatch.setattr("airflow_pipeops.git.commits.pause", lambda *a, **k: 0.01)
        with pytest.raises(Unreachable):
            self.operator().execute(context)

    def test_an_unknown_environment_is_refused_when_the_dag_is_read(self):
        with pytest.raises(InvalidInput, match="no environment 'moon'"):
            self.operator(environment="moon")


class TestRevert:
    def test_a_release_is_taken_back(self, remote, context):
        change = TestCommit().operator().execute(context)
        context["ti"].task_id = "revert"
        operator = GitOpsRevertOperator(
            task_id="revert",
            commit=change["commit"],
            reason="5xx rate of 12 %",
            deliverable=WEB,
            environment="production",
        )
        done = operator.execute(context)
        assert (done["changed"], done["restored"], done["commit"]) == (True, [FILE], remote.tip())
        assert "digest: old" in remote.show()
        record = emitted(context, WEB.changed("production"))
        assert (record.body["reverts"], record.body["reason"]) == (change["commit"], "5xx rate of 12 %")
        assert operator.execute(context)["commit"] == done["commit"]
        assert len(remote.log()) == 3

    def test_nothing_to_revert(self, context):
        with pytest.raises(AirflowFailException, match="no commit to revert"):
            GitOpsRevertOperator(task_id="t", commit="", reason="x").execute(context)


def test_template_fields():
    assert {"file", "set", "message", "expect", "parents"} <= set(GitOpsCommitOperator.template_fields)
    assert {"commit", "reason", "parents"} <= set(GitOpsRevertOperator.template_fields)
    assert {"revision", "parents"} <= set(ResolveCommitOperator.template_fields)
    operator = TestCommit().operator(set={DIGEST: "{{ x }}"}, message="Deploy {{ x }}")
    operator.render_template_fields({"x": "sha256:1"})
    assert (operator.set, operator.message) == ({DIGEST: "sha256:1"}, "Deploy sha256:1")


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (ResolveCommitOperator, {"revision": "main"}),
        (GitOpsCommitOperator, {"file": FILE, "set": {DIGEST: "new"}, "message": "Deploy"}),
        (GitOpsRevertOperator, {"commit": "a" * 40, "reason": "No."}),
    ],
)
def test_an_operation_may_have_a_patience_of_its_own(cls, arguments, monkeypatch, tmp_path, context):
    """With that of the connection, 60 s, the test would end by its own time limit."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\nexec sleep 300\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(Unreachable, match=r"no progress for 0\.2 s"):
        cls(task_id="t", git_timeout=timedelta(seconds=0.2), **arguments).execute(context)
    with pytest.raises(InvalidInput, match="git_timeout"):
        cls(task_id="t", git_timeout=timedelta(0), **arguments)
