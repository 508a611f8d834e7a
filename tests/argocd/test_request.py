"""What is asked for beside a revision, what refusals mean, when an act took effect, and where a commit is read: tables."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.argocd.acts import Act
from airflow_pipeops.argocd.clients.errors import error_of
from airflow_pipeops.argocd.clients.requests import (
    check_options,
    check_retry,
    merged_options,
    merged_retry,
    refused,
)
from airflow_pipeops.argocd.history import history_of, meant
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    ReleaseFailed,
    SyncFailed,
)
from airflow_pipeops.git.forges import commit_url, first_commit_url
from airflow_pipeops.waits.status import Condition, Observed, Operation, Trouble
from airflow_pipeops.waits.verdict import Memory, decide

SHA = "a" * 40


@pytest.mark.parametrize(
    ("own", "wanted", "sent"),
    [
        (
            ["CreateNamespace=true"],
            ["ServerSideApply=true"],
            ["CreateNamespace=true", "ServerSideApply=true"],
        ),
        (
            ["CreateNamespace=true", "Validate=true"],
            ["Validate=false"],
            ["CreateNamespace=true", "Validate=false"],
        ),
        ([], ["A=1", "A=2"], ["A=2"]),
        (["A=1"], [], ["A=1"]),
    ],
)
def test_options_are_added_to_the_applications_own(own: Any, wanted: Any, sent: Any) -> None:
    assert merged_options(own, wanted) == sent


def test_a_retry_strategy_keeps_what_is_not_replaced() -> None:
    own = {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}
    merged = merged_retry(own, {"limit": 1, "backoff": {"duration": "1s"}})
    assert merged == {"limit": 1, "backoff": {"duration": "1s", "factor": 2, "maxDuration": "3m"}}
    assert own["backoff"]["duration"] == "5s"
    assert merged_retry(None, {"limit": 2}) == {"limit": 2}


@pytest.mark.parametrize("options", ["Prune=true", ["Prune"], [""], ["=x"], [7], {"Prune": "true"}, 7])
def test_options_of_another_form_are_refused(options: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_options(options)
    assert caught.value.field == "sync_options"


@pytest.mark.parametrize(
    "strategy",
    [
        5,
        {"limits": 1},
        {"limit": "5"},
        {"limit": True},
        {"limit": -2},
        {"refresh": "yes"},
        {"backoff": "5s"},
        {"backoff": {"duration": "soon"}},
        {"backoff": {"factor": 0}},
        {"backoff": {"base": "5s"}},
    ],
)
def test_a_retry_strategy_of_another_form_is_refused(strategy: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_retry(strategy)
    assert caught.value.field == "retry_strategy"


def test_good_ones_pass() -> None:
    assert check_options(None) == []
    assert check_options(("A=b ",)) == ["A=b"]
    assert check_retry(None) == {}
    good = {"limit": -1, "refresh": True, "backoff": {"duration": "1m30s", "factor": 2, "maxDuration": "90"}}
    assert check_retry(good) == good


def answer(status: int, code: int, message: str) -> Any:
    """The client's error for an answer of the server."""
    return error_of(
        status, json.dumps({"code": code, "message": message}).encode(), "application api", "https://argo"
    )


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "says"),
    [
        (400, 9, f"Cannot sync to {SHA}: auto-sync currently set to main", InvalidInput, "auto-sync off"),
        (400, 9, f"Cannot sync source https://x to {SHA}: auto-sync currently set to main", InvalidInput, "ArgoCDAppSensor"),
        (400, 9, "rollback cannot be initiated when auto-sync is enabled", InvalidInput, "GitOpsRevertOperator"),
        (400, 3, "application api does not have deployment with id 7", InvalidInput, "history"),
        (400, 9, "error resolving repo revision: unable to resolve", InvalidInput, "pushed"),
        (400, 9, "application is deleting", ReleaseFailed, "gone"),
        (400, 3, "application references project x which does not exist", InvalidInput, "project"),
        (403, 7, "cannot sync: blocked by sync window", SyncFailed, "window"),
        (403, 7, "permission denied: applications, override, default/api, sub: bot", AccessDenied, "applications, override"),
        (403, 7, "permission denied", AccessDenied, "applications, sync"),
        (400, 9, "another operation is already in progress", Conflict, "busy"),
        (400, 9, "something new", SyncFailed, "something new"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, code: int, message: str, kind: Any, says: str) -> None:
    error = refused(answer(status, code, message))
    assert type(error) is kind
    assert says in str(error)


APP = Observed(name="api", uid="u", compared_at=100.0)
RUNNING = Operation(phase="Running", queued=True, started_at=10.0, asked=(SHA,))
MISSING, DENIED, DOWN = Trouble("missing"), Trouble("denied", "no"), Trouble("unreachable", "down")


def act_after(act: Act, *seen: tuple[float, Any]) -> list[tuple[str, str]]:
    memory, found = act.memory(), []
    for now, observed in seen:
        memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
        verdict, memory = decide(observed, act.expectation(), memory, now, act.rulebook)
        found.append((verdict.state, verdict.rule))
    return found


BUSY = replace(APP, operation=RUNNING)
BROKEN = replace(APP, conditions=(Condition("ComparisonError", "x"),))
HELD = replace(APP, deleting=True, conditions=(Condition("DeletionError", "x"),))
IMPATIENT = Act("ended", transport_grace=30)
ended, gone = Act("ended", timeout=60, mark=10.0), Act("gone", timeout=60, uid="u")
ACTS: dict[str, tuple[Act, list[tuple[float, Any]], tuple[str, str]]] = {
    "a refresh that is acknowledged": (Act("refreshed"), [(0, replace(APP, refreshed=True))], ("done", "acknowledged")),
    "a refresh that is not": (Act("refreshed", timeout=5), [(0, APP)], ("wait", "not_acknowledged")),
    "a refresh in time": (Act("refreshed", timeout=5), [(0, APP), (5, APP)], ("failed", "deadline")),
    "a refresh of what is ignored": (Act("refreshed"), [(0, replace(APP, ignored="x"))], ("failed", "skip_reconcile")),
    "no operation": (ended, [(0, APP)], ("done", "ended")),
    "it runs": (ended, [(0, BUSY)], ("wait", "in_progress")),
    "it terminates": (ended, [(0, replace(APP, operation=replace(RUNNING, phase="Terminating")))], ("wait", "in_progress")),
    "it ended": (ended, [(0, replace(APP, operation=Operation(phase="Failed", started_at=10.0)))], ("done", "ended")),
    "another has followed": (ended, [(0, replace(APP, operation=replace(RUNNING, started_at=11.0)))], ("done", "followed")),
    "it cannot be compared": (ended, [(0, BROKEN)], ("done", "ended")),
    "still there": (gone, [(0, APP)], ("wait", "not_deleting")),
    "going": (gone, [(0, replace(APP, deleting=True))], ("wait", "deleting")),
    "cannot go": (gone, [(0, HELD)], ("wait", "deletion_error")),
    "missing once": (gone, [(0, APP), (1, MISSING)], ("wait", "gone")),
    "missing twice": (gone, [(0, APP), (1, MISSING), (2, MISSING)], ("done", "gone")),
    "missing, and there again": (gone, [(0, MISSING), (1, APP), (2, MISSING)], ("wait", "gone")),
    "another of that name": (gone, [(0, replace(APP, uid="v"))], ("done", "gone")),
    "not there to be refreshed": (Act("refreshed"), [(0, MISSING), (1, MISSING)], ("failed", "app_not_found")),
    "denied": (ended, [(0, DENIED), (1, DENIED)], ("failed", "access_denied")),
    "down for a while": (ended, [(0, DOWN), (50, DOWN)], ("wait", "unreachable")),
    "down for too long": (IMPATIENT, [(0, DOWN), (31, DOWN)], ("failed", "unreachable")),
    "down, up and down again": (IMPATIENT, [(0, DOWN), (20, BUSY), (40, DOWN)], ("wait", "unreachable")),
    "a clock that jumps back": (ended, [(50, BUSY), (0, BUSY)], ("wait", "in_progress")),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTS)
def test_act(case: str) -> None:
    act, seen, last = ACTS[case]
    assert act_after(Act.from_json(act.to_json()), *seen)[-1] == last


def entry(number: Any, revision: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "revision": revision, "source": {"repoURL": "https://git/x", "path": "a"}, **more}


def test_history_is_read_and_the_entry_that_is_meant_found() -> None:
    several = {"id": 3, "revisions": ["x", "y"], "sources": [{}, {"a": 1}]}
    found = history_of({"status": {"history": [entry("1", "r1"), entry(2, "r2"), several, {"id": 4}, 7]}})
    assert [item.number for item in found] == [1, 2, 3]
    assert meant(found, number="2").revisions == ("r2",)
    assert meant(found, revision="y").number == 3
    assert found[0].same_as(history_of({"status": {"history": [entry(9, "r1")]}})[0])
    assert not found[0].same_as(found[1])
    assert history_of({}) == []


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({}, InvalidInput),
        ({"number": 1, "revision": "r1"}, InvalidInput),
        ({"number": "one"}, InvalidInput),
        ({"number": "-1"}, InvalidInput),
        ({"number": 9}, NotFound),
        ({"revision": "r9"}, NotFound),
    ],
)
def test_a_goal_that_is_none(asked: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        meant(history_of({"status": {"history": [entry(1, "r1")]}}), **asked)


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("https://github.com/team/deploy.git", f"https://github.com/team/deploy/commit/{SHA}"),
        ("git@github.com:team/deploy.git", f"https://github.com/team/deploy/commit/{SHA}"),
        ("ssh://git@github.corp.example:2222/team/deploy", f"https://github.corp.example/team/deploy/commit/{SHA}"),
        ("https://bob:secret@github.com/team/deploy", f"https://github.com/team/deploy/commit/{SHA}"),
        ("https://gitlab.com/a/b/c.git", f"https://gitlab.com/a/b/c/-/commit/{SHA}"),
        ("http://gitlab.local:8080/a/b", f"http://gitlab.local:8080/a/b/-/commit/{SHA}"),
        ("https://gitea.example.com/a/b", f"https://gitea.example.com/a/b/commit/{SHA}"),
        ("https://codeberg.org/a/b", f"https://codeberg.org/a/b/commit/{SHA}"),
        ("https://bitbucket.org/a/b.git", f"https://bitbucket.org/a/b/commits/{SHA}"),
        ("https://bitbucket.corp/scm/team/repo.git", f"https://bitbucket.corp/projects/TEAM/repos/repo/commits/{SHA}"),
        ("ssh://git@bitbucket.corp:7999/~bob/repo.git", f"https://bitbucket.corp/users/bob/repos/repo/commits/{SHA}"),
        ("https://dev.azure.com/org/project/_git/repo", f"https://dev.azure.com/org/project/_git/repo/commit/{SHA}"),
        ("git@ssh.dev.azure.com:v3/org/project/repo", f"https://dev.azure.com/org/project/_git/repo/commit/{SHA}"),
        ("https://org.visualstudio.com/project/_git/repo", f"https://org.visualstudio.com/project/_git/repo/commit/{SHA}"),
        ("https://git.example.com/a/b", ""),
        ("file:///srv/desired.git", ""),
        ("oci://ghcr.io/a/b", ""),
        ("https://github.com/only-one", ""),
        ("https://[broken", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_where_a_commit_is_read(repository: str, page: str) -> None:
    assert commit_url(repository, SHA) == page
    assert commit_url(repository, "main") == ""


def test_the_first_source_that_has_a_page() -> None:
    repositories = ["oci://charts/x", "https://github.com/a/b"]
    assert first_commit_url(repositories, ["1.2.3", SHA]) == f"https://github.com/a/b/commit/{SHA}"
    assert first_commit_url([], []) == ""
