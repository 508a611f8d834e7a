"""What a request becomes when it is written into an Application, and what is refused as Argo CD's API server refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.argocd.clients.requests import (
    RESOURCES_FINALIZER,
    begin_patch,
    cascading,
    rollback_operation,
    sync_operation,
    terminate_patch,
)
from airflow_pipeops.exceptions import Conflict, InvalidInput, PipeOpsError, SyncFailed, Unsupported

SHA = "a" * 40
SOURCE = {"repoURL": "https://git.example.com/x.git", "path": "p", "targetRevision": "main"}
CHART = {"repoURL": "https://charts.example.com", "chart": "redis", "targetRevision": "1.*"}


def app(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "api"}, "spec": {"source": SOURCE, **(spec or {})}, "status": {}, **more}


def several(**spec: Any) -> dict[str, Any]:
    return app(
        {"source": None, "sources": [SOURCE, CHART, {"repoURL": "https://git.example.com/y.git"}], **spec}
    )


AUTO: dict[str, Any] = {"syncPolicy": {"automated": {}}}


@pytest.mark.parametrize(
    ("application", "body", "sync"),
    [
        (app(), {"revision": SHA}, {"revision": SHA, "source": SOURCE}),
        # Never nothing: what an earlier request left behind must not count.
        (app(), {}, {"revision": "main", "source": SOURCE}),
        (app({"source": {"repoURL": "x"}}), {}, {"revision": "HEAD", "source": {"repoURL": "x"}}),
        (app({"source": CHART}), {}, {"revision": "1.*", "source": CHART}),
        (app({"source": {"chart": "c"}}), {}, {"revision": "*", "source": {"chart": "c"}}),
        (
            several(),
            {"revisions": [SHA], "sourcePositions": ["1"]},
            {"revisions": [SHA, "1.*", "HEAD"], "sources": several()["spec"]["sources"]},
        ),
        (
            several(),
            {"revisions": ["1.2.3", SHA], "sourcePositions": [2, 3]},
            {"revisions": ["main", "1.2.3", SHA], "sources": several()["spec"]["sources"]},
        ),
        # A hydrator's source is its own business: what is synchronised is the branch that it writes to.
        (
            app({"sourceHydrator": {"syncSource": {"targetBranch": "env/prod", "path": "p"}}}),
            {},
            {"revision": "env/prod"},
        ),
        (app(AUTO), {"revision": "main"}, {"revision": "main", "source": SOURCE}),
        (app(AUTO), {"revision": SHA, "dryRun": True}, {"revision": SHA, "source": SOURCE, "dryRun": True}),
        (
            app({"syncPolicy": {"automated": {"enabled": False}}}),
            {"revision": SHA},
            {"revision": SHA, "source": SOURCE},
        ),
    ],
)
def test_the_revision_is_always_explicit(
    application: dict[str, Any], body: dict[str, Any], sync: dict[str, Any]
) -> None:
    operation = sync_operation(application, body, "airflow")
    assert operation["sync"] == {**sync, "syncStrategy": {"hook": {}}}
    assert operation["initiatedBy"] == {"username": "airflow"}


def test_options_and_retries_are_the_own_ones_unless_others_are_asked_for() -> None:
    own = {"syncOptions": ["CreateNamespace=true"], "retry": {"limit": 2}}
    application = app({"syncPolicy": own})
    operation = sync_operation(application, {}, "airflow")
    assert operation["sync"]["syncOptions"] == ["CreateNamespace=true"]
    assert operation["retry"] == {"limit": 2}
    asked = {
        "syncOptions": {"items": ["Prune=false"]},
        "retryStrategy": {"limit": "5"},
        "strategy": {"apply": {"force": True}},
        "resources": [{"kind": "ConfigMap", "name": "x"}],
        "prune": True,
        "infos": [{"name": "a", "value": 1}],
    }
    operation = sync_operation(application, asked, "airflow")
    assert operation["sync"]["syncOptions"] == ["Prune=false"]
    assert operation["sync"]["syncStrategy"] == {"apply": {"force": True}}
    assert operation["sync"]["resources"] == [{"kind": "ConfigMap", "name": "x"}]
    assert operation["sync"]["prune"] is True
    assert operation["retry"] == {"limit": 5}
    assert operation["info"] == [{"name": "a", "value": "1"}]


@pytest.mark.parametrize(
    ("application", "body", "error", "words"),
    [
        (app(operation={"sync": {}}), {}, Conflict, "another operation is already in progress"),
        (
            app(metadata={"name": "api", "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            {},
            SyncFailed,
            "application is deleting",
        ),
        (
            app(AUTO),
            {"revision": SHA},
            SyncFailed,
            f"Cannot sync to {SHA}: auto-sync currently set to main",
        ),
        (
            several(**AUTO),
            {"revisions": [SHA], "sourcePositions": [3]},
            SyncFailed,
            "auto-sync currently set to HEAD",
        ),
        (several(), {"revisions": [SHA], "sourcePositions": [4]}, InvalidInput, "out of range"),
        (several(), {"revisions": [SHA], "sourcePositions": [0]}, InvalidInput, "out of range"),
        (several(), {"revisions": [SHA], "sourcePositions": ["x"]}, InvalidInput, "out of range"),
        (several(), {"revisions": [SHA]}, InvalidInput, "same number"),
        (app(), {"manifests": ["{}"]}, Unsupported, "local manifests"),
    ],
)
def test_what_is_refused(
    application: dict[str, Any], body: dict[str, Any], error: type[PipeOpsError], words: str
) -> None:
    with pytest.raises(error) as caught:
        sync_operation(application, body, "airflow")
    assert words in str(caught.value)


HISTORY = {
    "history": [
        {"id": 3, "revision": SHA, "source": SOURCE, "deployedAt": "2026-01-01T00:00:00Z"},
        {"id": 4, "revisions": [SHA, "1.2.3"], "sources": [SOURCE, CHART]},
        {"id": 5, "revision": SHA},
    ]
}


def test_rollback_applies_what_the_entry_says() -> None:
    own = {"syncPolicy": {"syncOptions": ["CreateNamespace=true"]}}
    one = rollback_operation(app(own, status=HISTORY), 3, False, "airflow")
    assert one["sync"] == {
        "revision": SHA,
        "source": SOURCE,
        "syncStrategy": {"apply": {}},
        "syncOptions": ["CreateNamespace=true"],
    }
    many = rollback_operation(app(status=HISTORY), 4, True, "airflow")
    assert many["sync"]["revisions"] == [SHA, "1.2.3"]
    assert many["sync"]["sources"] == [SOURCE, CHART]
    assert many["sync"]["prune"] is True


@pytest.mark.parametrize(
    ("application", "number", "error", "words"),
    [
        (app(AUTO, status=HISTORY), 3, SyncFailed, "rollback cannot be initiated when auto-sync is enabled"),
        (app(status=HISTORY), 9, InvalidInput, "does not have deployment with id 9"),
        (app(status=HISTORY), 5, SyncFailed, "v0.11 or lower"),
        (app(status=HISTORY, operation={"sync": {}}), 3, Conflict, "in progress"),
    ],
)
def test_which_rollback_is_refused(
    application: dict[str, Any], number: int, error: type[PipeOpsError], words: str
) -> None:
    with pytest.raises(error, match=words):
        rollback_operation(application, number, False, "airflow")


def test_patches() -> None:
    assert begin_patch({"sync": {}}) == {"operation": {"sync": {}}, "status": {"operationState": None}}
    running = app(operation={"sync": {}}, status={"operationState": {"phase": "Running"}})
    assert terminate_patch(running) == {"status": {"operationState": {"phase": "Terminating"}}}
    # A ghost: the state says Running, and there is no operation that could be ended.
    for idle in (app(), app(status={"operationState": {"phase": "Running"}}), app(operation={"sync": {}})):
        with pytest.raises(InvalidInput, match="No operation is in progress"):
            terminate_patch(idle)


@pytest.mark.parametrize(
    ("before", "cascade", "after"),
    [
        ([], True, [RESOURCES_FINALIZER]),
        (["other"], True, ["other", RESOURCES_FINALIZER]),
        ([f"{RESOURCES_FINALIZER}/background"], True, [f"{RESOURCES_FINALIZER}/background"]),
        ([RESOURCES_FINALIZER, "other"], False, ["other"]),
        ([f"{RESOURCES_FINALIZER}/foreground"], False, []),
    ],
)
def test_finalizers(before: list[str], cascade: bool, after: list[str]) -> None:
    assert cascading(before, cascade) == after
