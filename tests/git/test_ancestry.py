"""A release only of what is still set in the revision that is live."""

from __future__ import annotations

import json

import pytest

from airflow_pipeops.exceptions import ReleaseFailed
from airflow_pipeops.git.ancestry import changed_without_version, demand_set, newer_than_expected
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from airflow_pipeops.waits.wait import Decided

FILE = "apps/web/kustomization.yaml"
DIGEST = "images[name=web].digest"
COUNT = "replicas[name=web].count"
CONN = "pipeops_gitops_repo"


@pytest.fixture(autouse=True)
def _connection(monkeypatch, remote, tmp_path):
    monkeypatch.setenv(
        "AIRFLOW_CONN_PIPEOPS_GITOPS_REPO",
        json.dumps({"conn_type": "git_repository", "host": str(remote.path)}),
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def green(expected: str, live: str) -> Decided:
    """A wait that has ended well, as a trigger sends it back."""
    contained = {} if expected == live else {f"{expected}..{live}": True}
    expectation = Expectation(
        revisions={"*": expected}, match="contains", oracle=True, contained=contained, settle=0.0
    )
    made = Decided(Verdict("done", "live", "it is"), Memory(), expectation, {"revision": live})
    return Decided.from_json(json.loads(json.dumps(made.to_json())))


def check(expected: str, live: str, change=None) -> None:
    demand_set(CONN, green(expected, live), live, change)


def commit(client, values, key):
    return client.commit_edit(FILE, values, f"Set {key}", key=key).commit


def test_other_values_of_the_same_file_may_change(client):
    mine = commit(client, {DIGEST: "new"}, "mine")
    check(mine, mine)
    check(mine, commit(client, {COUNT: 3}, "other"))


@pytest.mark.parametrize("later", ["old", "newer"])
def test_what_was_reverted_or_replaced_is_no_release(client, later):
    mine = commit(client, {DIGEST: "new", COUNT: 2}, "mine")
    live = commit(client, {DIGEST: later}, "later")
    with pytest.raises(ReleaseFailed) as caught:
        check(mine, live)
    for part in (mine[:12], live[:7], FILE, DIGEST, "Set later"):
        assert part in str(caught.value)
    assert COUNT not in str(caught.value)
    check(mine, commit(client, {DIGEST: "new"}, "again"))


def test_nothing_had_to_change_and_is_changed_in_mid_wait(client):
    """The tip says nothing of a task that found its values there: those of the task count."""
    other = commit(client, {COUNT: 5}, "somebody else's")
    found = client.commit_edit(FILE, {DIGEST: "old"}, "m", key="k")
    assert (found.commit, found.changed) == (other, False)
    change = {"commit": other, "changed": False, "file": FILE, "set": {DIGEST: "old"}}
    check(other, commit(client, {COUNT: 6}, "scaled"), change)
    live = commit(client, {DIGEST: "new"}, "in mid-wait")
    with pytest.raises(ReleaseFailed, match="Set in mid-wait"):
        check(other, live, change)


def test_a_revert_that_was_taken_back(client):
    bad = commit(client, {DIGEST: "bad"}, "bad")
    done = client.revert(bad, "it crashed", key="revert").commit
    change = {"commit": done, "reverts": bad, "restored": [FILE]}
    check(done, commit(client, {COUNT: 3}, "scaled"), change)
    live = commit(client, {DIGEST: "bad"}, "bad again")
    for given in (change, None):
        with pytest.raises(ReleaseFailed, match="bad again"):
            check(done, live, given)


def test_files_that_are_no_values(remote, client):
    template = "kind: X\n{{ if .Values.on }}\nport: 1\n{{ end }}\n"
    mine = remote.commit("chart", **{"chart/t.yaml": template, "data.bin": b"\xff\x00", "gone.txt": "x"})
    remote.commit("a line below", **{"chart/t.yaml": template + "# more\n"})
    check(mine, remote.tip())
    remote.commit("the port", **{"chart/t.yaml": template.replace("port: 1", "port: 2")})
    with pytest.raises(ReleaseFailed, match=r"chart/t.yaml: line 3; it was changed by \w+ \(the port\)"):
        check(mine, remote.tip())
    remote.commit("back", **{"chart/t.yaml": template, "data.bin": b"\xff\x01"})
    with pytest.raises(ReleaseFailed, match=r"data\.bin: its content"):
        check(mine, remote.tip())
    (remote.work / "gone.txt").unlink()
    remote.commit("remove", **{"data.bin": b"\xff\x00"})
    with pytest.raises(ReleaseFailed, match=r"gone\.txt: the file is gone"):
        check(mine, remote.tip())


def test_the_first_commit_of_a_repository(remote, client):
    first = remote.tip()
    check(first, remote.commit("more", **{"x": "y"}))
    live = commit(client, {DIGEST: "new"}, "later")
    with pytest.raises(ReleaseFailed, match="Set later"):
        check(first, live)


def test_without_a_repository_only_the_commit_itself_is_green():
    demand_set(None, green("a" * 40, "b" * 40), "b" * 40)


def test_which_revision_is_live():
    a, b, c = (letter * 40 for letter in "abc")
    answers = {f"{a}..{b}": True, f"{a}..{c}": True}
    decided = green(a, a)
    decided.expectation = Expectation(match="contains", oracle=True, contained=answers)
    assert newer_than_expected(decided, b) == {a: b}
    assert newer_than_expected(decided, str([c, b])) in ({a: c}, {a: b})
    assert newer_than_expected(decided, a) == {}
    assert newer_than_expected(decided, "main@sha1:" + c) == {a: c}
    assert newer_than_expected(decided, "d" * 40) == {a: c}, "a source hydrator gives it another name"


def test_a_chart_that_was_changed_after_its_version_was_set_is_named(remote) -> None:
    def put(message: str, version: str, template: str) -> str:
        remote.put("charts/api/Chart.yaml", f"name: api\nversion: {version}\n")
        remote.put("charts/api/templates/config.yaml", template)
        return remote.commit(message)

    first = put("the chart", "0.1.0", "a: 1\n")
    assert changed_without_version(CONN, "./charts/api", first) == ""
    forgotten = put("without a version", "0.1.0", "a: 2\n")
    remote.put(FILE, "other: file\n")
    other = remote.commit("something else")
    assert changed_without_version(CONN, "./charts/api", other) == forgotten
    raised = put("with a version", "0.2.0", "a: 3\n")
    assert changed_without_version(CONN, "charts/api/", raised) == ""
