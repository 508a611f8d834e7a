"""Reading an Application, also a strange one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.differences import DifferencesMemory, differences, news, suspicious
from airflow_pipeops.delivery.differences import fingerprint
from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.waits.status import Hydration, Observed, Operation, Rollout, same_repository
from airflow_pipeops.waits.verdict import Expectation, Memory
from tests.waits.judging import decide

NEW, OLD = "a" * 40, "b" * 40
APPLICATION: dict[str, Any] = {
    "metadata": {
        "name": "api",
        "namespace": "argocd",
        "uid": "u",
        "annotations": {"argocd.argoproj.io/skip-reconcile": "true"},
        "ownerReferences": [{"kind": "ApplicationSet", "name": "all"}],
    },
    "spec": {
        "project": "ml",
        "sources": [
            {"repoURL": "https://git/x", "targetRevision": "main"},
            {"repoURL": "https://charts", "chart": "redis"},
        ],
        "syncPolicy": {"automated": {"selfHeal": True}},
    },
    "operation": {"sync": {"revision": NEW}},
    "status": {
        "sync": {"status": "OutOfSync", "revisions": [NEW, "1.2.3"]},
        "health": {"status": "Healthy", "lastTransitionTime": "2026-11-01T10:00:00Z"},
        "reconciledAt": "2026-11-01T10:00:30Z",
        "operationState": {
            "phase": "Running",
            "retryCount": 2,
            "startedAt": "2026-11-01T10:00:10Z",
            "finishedAt": "2026-11-01T10:00:20Z",
            "operation": {
                "sync": {"revisions": [NEW, "1.2.3"]},
                "initiatedBy": {"automated": True},
                "info": [{"name": "pipeops.airflow/id", "value": "me"}],
            },
            "syncResult": {
                "revisions": [OLD, "1.2.2"],
                "resources": [{"kind": "Job", "name": "x", "hookPhase": "Failed"}],
            },
        },
        "conditions": [{"type": "SyncError", "message": "no"}],
        "resources": [{"kind": "Service", "name": "s", "status": "OutOfSync", "requiresPruning": True}],
        "history": [{"id": 1, "revisions": [OLD, "1.2.2"]}, {"id": 2, "revisions": [NEW, "1.2.3"]}],
        "summary": {"images": ["redis:7"]},
    },
}


def test_everything_is_read() -> None:
    seen = observe(APPLICATION, refreshed=True)
    assert (seen.name, seen.uid, seen.project, seen.owner) == ("api", "u", "ml", "ApplicationSet")
    assert [source.versioned for source in seen.sources] == [False, True]
    assert (seen.desired, seen.applied, seen.deployed, seen.deployed_id) == (
        (NEW, "1.2.3"),
        (OLD, "1.2.2"),
        (NEW, "1.2.3"),
        2,
    )
    assert seen.replaced == (OLD, "1.2.2")
    assert seen.compared_at is not None
    assert seen.health_since is not None
    assert seen.compared_at - seen.health_since == 30
    assert seen.ignored
    assert seen.automatic
    assert seen.self_heal
    assert seen.refreshed
    op = seen.operation
    assert op is not None
    assert (op.phase, op.queued, op.retries, op.initiated_by, op.ids) == (
        "Running",
        True,
        2,
        "auto-sync",
        {"pipeops.airflow/id": "me"},
    )
    assert (seen.resources[0].prune, seen.images, seen.conditions[0].type) == (
        True,
        ("redis:7",),
        "SyncError",
    )


def test_a_hydrator_hides_all_other_sources() -> None:
    app = copy.deepcopy(APPLICATION)
    hydrator = {
        "drySource": {"repoURL": "https://git/dry", "targetRevision": "main"},
        "syncSource": {"targetBranch": "env/prod"},
        "hydrateTo": {"targetBranch": "env/next"},
    }
    app["spec"]["sourceHydrator"] = hydrator
    app["status"]["sourceHydrator"] = {
        "currentOperation": {"phase": "Failed", "message": "no", "drySHA": NEW},
        "lastSuccessfulOperation": {"drySHA": OLD, "hydratedSHA": "c" * 40, "sourceHydrator": hydrator},
        "lastComparedDryRevision": NEW,
    }
    seen = observe(app)
    assert [source.repo for source in seen.sources] == ["https://git/dry"]
    assert seen.hydration == Hydration(
        "Failed",
        "no",
        NEW,
        done_dry=OLD,
        done="c" * 40,
        compared_dry=NEW,
        branch="env/prod",
        staging="env/next",
    )
    app["spec"]["sourceHydrator"] = {**hydrator, "syncSource": {"targetBranch": "env/test"}}
    seen = observe(app)
    assert seen.hydration is not None
    assert (seen.hydration.done_dry, seen.hydration.done) == ("", "")
    app["status"].pop("sourceHydrator")
    assert observe(app).hydration == Hydration(branch="env/test", staging="env/next")


def test_what_an_operation_was_asked_for() -> None:
    app = copy.deepcopy(APPLICATION)
    request = app["status"]["operationState"]["operation"]
    request["retry"] = {"limit": -1, "refresh": True}
    request["sync"] |= {"resources": [{"kind": "Service", "name": "s"}], "autoHealAttemptsCount": 3}
    op = observe(app).operation
    assert op is not None
    assert (op.retry_limit, op.retry_refresh, op.partial, op.heals, op.same_sources) == (
        -1,
        True,
        True,
        3,
        True,
    )
    app["status"]["operationState"]["syncResult"]["sources"] = [{"repoURL": "https://git/x", "path": "other"}]
    op = observe(app).operation
    assert op is not None
    assert not op.same_sources


def test_sources_are_those_that_were_compared() -> None:
    app = copy.deepcopy(APPLICATION)
    app["status"]["sync"]["comparedTo"] = {"sources": copy.deepcopy(app["spec"]["sources"])}
    assert not observe(app).other_spec
    app["spec"]["sources"][0]["helm"] = {"parameters": [], "releaseName": ""}
    assert not observe(app).other_spec, "what is empty is as good as what is absent"
    app["spec"]["sources"][0]["helm"] = {"parameters": [{"name": "replicas", "value": "2"}]}
    assert observe(app).other_spec


def test_the_step_of_a_rolling_sync() -> None:
    listed = [
        {"application": "other", "status": "Healthy"},
        {"application": "api", "status": "Waiting", "step": "2"},
    ]
    rolling = {
        "metadata": {"name": "all"},
        "spec": {"strategy": {"type": "RollingSync"}},
        "status": {"applicationStatus": listed},
    }
    seen = observe(APPLICATION, application_set=rolling)
    assert (seen.owner_seen, seen.rollout) == (True, Rollout("all", "Waiting", "2"))
    assert observe(APPLICATION, application_set={**rolling, "spec": {}}).rollout is None
    assert not observe(APPLICATION).owner_seen
    assert observe(APPLICATION, application_set="junk").rollout is None


DENY = {"kind": "deny", "schedule": "0 20 * * *", "duration": "11h"}
ALLOW = {"kind": "allow", "schedule": "0 8 * * *", "duration": "8h"}


@pytest.mark.parametrize(
    ("windows", "blocked"),
    [
        (None, ""),
        ("junk", ""),
        ({}, ""),
        ({"activeWindows": [ALLOW], "assignedWindows": [ALLOW, DENY]}, ""),
        ({"assignedWindows": [DENY]}, ""),
        (
            {"activeWindows": [ALLOW, DENY], "assignedWindows": [ALLOW, DENY]},
            "a window denies it: 0 20 * * * for 11h",
        ),
        ({"assignedWindows": [ALLOW]}, "it is allowed only in windows such as 0 8 * * * for 8h"),
    ],
)
def test_what_windows_say_to_auto_sync(windows: Any, blocked: str) -> None:
    assert observe(APPLICATION, sync_windows=windows).blocked == blocked


@pytest.mark.parametrize(
    ("source", "versioned", "digests", "pinned"),
    [
        ({"repoURL": "https://git/x", "targetRevision": "main"}, False, False, False),
        ({"repoURL": "https://git/x", "targetRevision": NEW}, False, False, True),
        ({"repoURL": "https://charts", "chart": "redis", "targetRevision": "1.x"}, True, False, False),
        ({"repoURL": "https://charts", "chart": "redis", "targetRevision": "1.2.3"}, True, False, True),
        ({"repoURL": "oci://r/app", "targetRevision": "1.2.3"}, True, True, False),
        ({"repoURL": "oci://r/app", "targetRevision": "sha256:" + "1" * 64}, True, True, True),
    ],
)
def test_kinds_of_sources(source: dict[str, Any], versioned: bool, digests: bool, pinned: bool) -> None:
    app = copy.deepcopy(APPLICATION)
    app["spec"]["sources"] = [source]
    found = observe(app).sources[0]
    assert (found.versioned, found.digests, found.pinned) == (versioned, digests, pinned)


def test_automated_that_is_switched_off() -> None:
    app = copy.deepcopy(APPLICATION)
    app["spec"]["syncPolicy"]["automated"]["enabled"] = False
    assert not observe(app).automatic


def test_refresh_that_is_still_asked_for_is_not_acknowledged() -> None:
    app = copy.deepcopy(APPLICATION)
    app["metadata"]["annotations"]["argocd.argoproj.io/refresh"] = "normal"
    assert not observe(app, refreshed=True).refreshed


@pytest.mark.parametrize(
    "value", [None, [], "x", {}, {"metadata": {"name": "api"}}, {"spec": {"project": "x"}}]
)
def test_what_is_no_application_is_refused(value: Any) -> None:
    with pytest.raises(BadResponse):
        observe(value)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("2026-11-01T10:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return (
        [at, *(path for key, child in children for path in _paths(child, (*at, key)))]
        if at
        else [path for key, child in children for path in _paths(child, (key,))]
    )


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_paths(APPLICATION)), junk)
def test_a_strange_answer_is_read_or_refused_and_never_green(path: tuple[Any, ...], value: Any) -> None:
    app = copy.deepcopy(APPLICATION)
    holder: Any = app
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    try:
        seen = observe(app, refreshed=True)
    except BadResponse:
        return
    verdict, _ = decide(seen, Expectation(revisions={"0": NEW, "1": "1.2.3"}), Memory(), 0)
    assert verdict.state != "done"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://git.example.com/a/b.git", "https://GIT.example.com/a/b", True),
        ("git@git.example.com:a/b.git", "ssh://git@git.example.com/a/b", True),
        ("https://git.example.com/a/b", "https://git.example.com/a/c", False),
        ("file:///srv/a.git", "/srv/a", True),
        ("https://[bad", "https://[bad", True),
    ],
)
def test_same_repository(one: str, other: str, same: bool) -> None:
    assert same_repository(one, other) is same


def item(live: str | None, target: str | None, **more: Any) -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "name": "c",
        "liveState": live or "null",
        "targetState": target or "null",
        **more,
    }


def test_differences() -> None:
    one, two = '{"data":{"a":"1","s":"x"},"metadata":{"resourceVersion":"1"}}', '{"data":{"a":"2","s":"x"}}'
    assert [found.change for found in differences([item(one, two)])] == ["modified"]
    assert differences([item(one, two)])[0].fields == ("data.a",)
    assert [found.change for found in differences([item(None, two), item(one, None)])] == ["missing", "extra"]
    assert differences([item(one, two, modified=False), item(one, two, hook=True), item(None, None)]) == []
    again = one.replace('"resourceVersion":"1"', '"resourceVersion":"2"')
    assert fingerprint(differences([item(one, two)])) == fingerprint(differences([item(again, two)])) != ""
    assert fingerprint(differences([item("not json", two)]))
    assert fingerprint([]) == ""


def look(
    sync: str, desired: str = NEW, applied: str = NEW, *, heal: bool = False, phase: str = "Succeeded"
) -> Observed:
    operation = Operation(phase=phase, revisions=(applied,), finished_at=1.0)
    return Observed(
        name="api", desired=(desired,), sync=sync, operation=operation, automatic=True, self_heal=heal
    )


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([look("OutOfSync")], [True]),
        ([look("Synced")], [False]),
        ([look("OutOfSync", desired=OLD)], [False]),
        ([look("Synced", desired=OLD), look("OutOfSync", desired=OLD)], [False, True]),
        ([look("OutOfSync", phase="Running")], [False]),
        ([look("OutOfSync", heal=True), look("OutOfSync", heal=True)], [False, True]),
        (
            [look("OutOfSync", heal=True), look("Synced", heal=True), look("OutOfSync", heal=True)],
            [False, False, False],
        ),
        (
            [look("OutOfSync", heal=True), look("Unknown", heal=True), look("OutOfSync", heal=True)],
            [False, False, False],
        ),
    ],
)
def test_suspicion(looks: list[Observed], expected: list[bool]) -> None:
    memory, found = DifferencesMemory(), []
    for one in looks:
        drifted, memory = suspicious(one, memory)
        memory = DifferencesMemory.from_json(memory.to_json())
        found.append(drifted)
    assert found == expected


def test_news_is_told_once_and_again_after_it_was_mended() -> None:
    found = differences([item('{"a":1}', '{"a":2}')])
    new, memory = news(found, DifferencesMemory())
    assert new
    assert not news(found, memory)[0]
    _, memory = suspicious(look("Synced"), memory)
    assert news(found, memory)[0]
    assert DifferencesMemory.from_json("junk") == DifferencesMemory()


def test_what_the_controller_says_is_read_without_secrets() -> None:
    said = "cannot fetch https://bob:hunter2@git.example.com/x: denied"
    application = {
        "metadata": {"name": "api"},
        "spec": {"source": {"repoURL": "https://git.example.com/x"}},
        "status": {
            "conditions": [{"type": "ComparisonError", "message": said}],
            "operationState": {
                "phase": "Failed",
                "message": said,
                "syncResult": {"resources": [{"message": said}]},
            },
            "resources": [{"kind": "Pod", "name": "p", "health": {"status": "Degraded", "message": said}}],
        },
    }
    found = observe(application)
    assert "hunter2" not in repr(found)
    assert found.conditions[0].message == "cannot fetch https://***@git.example.com/x: denied"
