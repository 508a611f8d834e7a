"""The operators against the sandbox: real Git, real reconciliation, workers that die, servers that lie."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argocd.operators import (
    ArgoCDDiffOperator,
    ArgoCDRefreshOperator,
    ArgoCDRollbackOperator,
    ArgoCDSyncOperator,
    ArgoCDTerminateOperator,
)
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from tests.argocd.running import deploy, live, run, spy, status, task
from tests.ledgers import event


@pytest.fixture
def released(connected: Any, manifests: Any, context: dict[str, Any], request: Any) -> Any:
    """An application of its own with two releases, synchronised by hand: ``(sandbox, app, first, second)``."""
    app = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].strip("-")
    first = connected.repository.commit({f"{app}/a.yaml": manifests.config_map("1")}, "One")
    connected.create(app)
    deploy(connected, app, first)
    second = connected.repository.commit({f"{app}/a.yaml": manifests.config_map("2")}, "Two")
    deploy(connected, app, second)
    return connected, app, first, second


@pytest.mark.parametrize("deferrable", [False, True])
def test_refresh_finds_a_commit(released: Any, manifests: Any, context: Any, deferrable: bool) -> None:
    sandbox, app, _, second = released
    made = task(ArgoCDRefreshOperator, app, refresh="hard", deferrable=deferrable)
    third = sandbox.repository.commit({f"{app}/a.yaml": manifests.config_map("3")})
    done = run(made, context)
    assert (done["acknowledged"], done["revision"], done["sync"]) == (True, third, "OutOfSync")
    assert done["url"] == f"{sandbox.url}/applications/argocd/{app}"
    assert third != second


@pytest.mark.parametrize("deferrable", [False, True])
def test_refresh_not_acknowledged(released: Any, context: Any, deferrable: bool) -> None:
    sandbox, app, *_ = released
    sandbox.fault(kind="hang_refresh", app=app)
    short = {"timeout": timedelta(seconds=1), "deferrable": deferrable}
    with pytest.raises(AirflowFailException, match=r"WaitTimeout.*has not acknowledged"):
        run(task(ArgoCDRefreshOperator, app, **short), context)
    done = run(task(ArgoCDRefreshOperator, app, on_unacknowledged="accept", **short), context)
    assert done["acknowledged"] is False
    assert "has not acknowledged" in done["reason"]


def test_terminate_nothing(released: Any, context: Any) -> None:
    _, app, *_ = released
    done = run(task(ArgoCDTerminateOperator, app), context)
    assert (done["terminated"], done["reason"]) == (False, "no operation is in progress")


@pytest.mark.parametrize("deferrable", [False, True])
def test_terminate_what_is_stuck(released: Any, manifests: Any, context: Any, deferrable: bool) -> None:
    sandbox, app, first, _ = released
    third = sandbox.repository.commit({f"{app}/a.yaml": manifests.config_map("3")})
    fault = sandbox.call("POST", "/sandbox/admin/faults", {"kind": "stuck_operation", "app": app})
    sandbox.call("POST", f"/api/v1/applications/{app}/sync", {"name": app, "revision": third})
    sandbox.until(app, lambda found: (found["status"].get("operationState") or {}).get("phase") == "Running")
    for only, says in (
        ({"revision": first}, "not at"),
        ({"operation_id": "dag/other/task/-1"}, "another one"),
        ({"this_run_only": True}, "not started by this DAG run"),
    ):
        left = run(task(ArgoCDTerminateOperator, app, **only), context)
        assert left["terminated"] is False
        assert says in left["reason"]
    assert status(sandbox, app)["operationState"]["phase"] == "Running"
    sandbox.call("DELETE", f"/sandbox/admin/faults/{fault['id']}")
    sandbox.fault(kind="delay", path=f"/api/v1/applications/{app}", ms=50)
    done = run(task(ArgoCDTerminateOperator, app, revision=third, deferrable=deferrable), context)
    assert done["terminated"] is True or done["reason"] == "no operation is in progress"
    assert not sandbox.call("GET", f"/api/v1/applications/{app}?project=default").get("operation")
    assert run(task(ArgoCDTerminateOperator, app), context)["terminated"] is False


@pytest.mark.parametrize("deferrable", [False, True])
def test_rollback(released: Any, context: Any, deferrable: bool) -> None:
    sandbox, app, first, _second = released
    deliverable = Deliverable("delay-api")
    about = {"deliverable": deliverable, "environment": "production", "deferrable": deferrable}
    done = run(task(ArgoCDRollbackOperator, app, revision=first, **about), context)
    assert (done["rolled_back"], done["revision"], done["health"]) == (True, first, "Healthy")
    assert live(sandbox, app) == "1"
    entries = status(sandbox, app)["history"]
    assert [entry["revision"] for entry in entries][-1] == first
    record = context["outlet_events"][deliverable.released("production")].extra
    assert record["body"]["revision"] == first
    again = run(task(ArgoCDRollbackOperator, app, revision=first, **about), context)
    assert again["rolled_back"] is False
    assert len(status(sandbox, app)["history"]) == len(entries)


def test_rollback_whose_answer_is_lost(released: Any, context: Any, monkeypatch: Any) -> None:
    sandbox, app, first, _ = released
    number = status(sandbox, app)["history"][0]["id"]
    spy(monkeypatch, lose="POST")
    done = run(task(ArgoCDRollbackOperator, app, history_id=number), context)
    assert (done["rolled_back"], done["revision"]) == (True, first)
    assert run(task(ArgoCDRollbackOperator, app, history_id=str(number)), context)["rolled_back"] is False
    assert [entry["revision"] for entry in status(sandbox, app)["history"]].count(first) == 2


@pytest.mark.parametrize(
    ("goal", "error"),
    [
        ({}, "InvalidInput: a rollback needs its goal"),
        ({"history_id": 99}, "NotFound: the history has no entry with id 99"),
        ({"revision": "f" * 40}, "NotFound: the history has no entry at revision"),
    ],
)
def test_rollback_to_nowhere(released: Any, context: Any, goal: Any, error: str) -> None:
    sandbox, app, *_ = released
    entries = status(sandbox, app)["history"]
    with pytest.raises(AirflowFailException, match=error):
        run(task(ArgoCDRollbackOperator, app, **goal), context)
    assert status(sandbox, app)["history"] == entries


def test_rollback_under_auto_sync(connected: Any, manifests: Any, context: Any) -> None:
    first = connected.repository.commit({"auto/a.yaml": manifests.config_map("1")})
    connected.create("auto", automated={})
    with pytest.raises(AirflowFailException, match=r"auto-sync of auto is on.*GitOpsRevertOperator"):
        run(task(ArgoCDRollbackOperator, "auto", revision=first), context)


def test_sync_keeps_the_options(released: Any, manifests: Any, context: Any) -> None:
    sandbox, app, _, _ = released
    policy = {"syncOptions": ["CreateNamespace=true", "Validate=true"], "retry": {"limit": 3}}
    patch = json.dumps({"spec": {"syncPolicy": policy}})
    sandbox.call("PATCH", f"/api/v1/applications/{app}", {"patch": patch, "patchType": "merge"})
    third = sandbox.repository.commit({f"{app}/a.yaml": manifests.config_map("3")})
    made = task(
        ArgoCDSyncOperator,
        app,
        revision=third,
        sync_options=["Validate=false"],
        retry_strategy={"backoff": {"duration": "1s"}},
    )
    deliverable = Deliverable("delay-api")
    made.deliverable, made.environment = deliverable, "staging"
    done = run(made, context)
    operation = status(sandbox, app)["operationState"]["operation"]
    assert operation["sync"]["syncOptions"] == ["CreateNamespace=true", "Validate=false"]
    assert operation["retry"] == {"limit": 3, "backoff": {"duration": "1s"}}
    assert done["record_id"] == context["outlet_events"][deliverable.released("staging")].extra["id"]


def test_sync_by_a_worker_that_dies(released: Any, manifests: Any, context: Any, monkeypatch: Any) -> None:
    sandbox, app, first, _ = released
    third = sandbox.repository.commit({f"{app}/a.yaml": manifests.config_map("3")})
    made = task(ArgoCDSyncOperator, app, revision=third)

    def dies(*_: Any, **__: Any) -> Any:
        raise SystemExit("the worker was killed")

    with monkeypatch.context() as patch:
        patch.setattr(made, "_await", dies)
        with pytest.raises(SystemExit):
            made.execute(context)
    seen = spy(monkeypatch)
    assert run(task(ArgoCDSyncOperator, app, revision=third), context)["attached"] is True
    assert {method for method, *_ in seen} == {"GET"}
    # Cleared after the upstream task named another commit: that is another synchronisation.
    assert run(task(ArgoCDSyncOperator, app, revision=first), context)["attached"] is False
    assert live(sandbox, app) == "1"


def test_sync_in_part_is_no_release(released: Any, manifests: Any, context: Any) -> None:
    sandbox, app, _, second = released
    third = sandbox.repository.commit(
        {f"{app}/a.yaml": manifests.config_map("3"), f"{app}/b.yaml": manifests.config_map("x", "more")}
    )
    only = [{"kind": "ConfigMap", "name": "settings", "namespace": app}]
    made = task(ArgoCDSyncOperator, app, revision=third, only=only)
    made.deliverable, made.environment = Deliverable("delay-api"), "staging"
    assert run(made, context)["record_id"] is None
    assert live(sandbox, app) == "3"
    assert status(sandbox, app)["history"][-1]["revision"] == second


@pytest.fixture
def kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where evidence goes."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", tmp_path.as_uri())
    return tmp_path


def test_diff_of_what_is_clean(released: Any, context: Any, kept: Any) -> None:
    sandbox, app, _, second = released
    deliverable = Deliverable("delay-api")
    context["inlet_events"] = {deliverable.differences: []}
    done = run(task(ArgoCDDiffOperator, app, deliverable=deliverable, on_difference="fail"), context)
    assert (done["verdict"], done["differences"], done["diff_uri"]) == ("clean", [], "")
    assert (done["revision"], done["refreshed"], done["record_id"]) == (second, True, None)
    before = status(sandbox, app)["operationState"]
    assert before["operation"]["sync"].get("dryRun") is None


def test_diff_of_what_is_clean_again_is_told_once(released: Any, context: Any, kept: Any) -> None:
    """Else the difference would stand among what needs somebody until the next release."""
    sandbox, app, *_ = released
    deliverable = Deliverable("delay-api")
    asset = deliverable.differences
    told: list[Any] = []
    context["inlet_events"] = {asset: told}

    def look(name: str = app) -> dict[str, Any]:
        made = task(ArgoCDDiffOperator, name, deliverable=deliverable)
        assert asset in made.inlets
        done = run(made, context)
        if done["record_id"]:
            extra = json.loads(json.dumps(context["outlet_events"][asset].extra))
            told.append(event(extra, datetime.now(timezone.utc), asset))
        return done

    sandbox.patch(app, {"data": {"value": "by hand"}})
    assert look()["verdict"] == "different"
    assert look()["record_id"], "it still is"
    run(task(ArgoCDSyncOperator, app), context)
    healed = look()
    assert (healed["verdict"], healed["diff_uri"]) == ("clean", "")
    assert [one.extra["body"]["verdict"] for one in told] == ["different", "different", "clean"]
    assert look()["record_id"] is None, "it was told"
    told[-1].extra["body"]["app"] = "another"  # altered: its id no longer fits, so it is not believed
    assert look()["record_id"]


def test_diff_of_what_was_changed_by_hand(released: Any, context: Any, kept: Any) -> None:
    sandbox, app, *_ = released
    operation = status(sandbox, app)["operationState"]
    sandbox.patch(app, {"data": {"value": "by hand", "db_password": "hunter2"}})
    deliverable = Deliverable("delay-api")
    made = task(ArgoCDDiffOperator, app, deliverable=deliverable)
    done = run(made, context)
    assert (done["verdict"], done["sync"]) == ("different", "OutOfSync")
    (found,) = done["differences"]
    assert (found["kind"], found["name"], found["change"]) == ("ConfigMap", "settings", "modified")
    assert "data.value" in found["fields"]
    text = Path(done["diff_uri"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "-  value: by hand" in text
    assert "+  value: '2'" in text
    assert "hunter2" not in text + json.dumps(done)
    record = context["outlet_events"][deliverable.differences].extra
    assert record["id"] == done["record_id"]
    assert (record["kind"], record["body"]["reason"]) == ("differences", "ConfigMap/settings modified")
    assert deliverable.drift not in made.outlets, "that is for data"
    assert record["evidence"][0]["uri"] == done["diff_uri"]
    assert status(sandbox, app)["operationState"] == operation, "nothing was started"
    with pytest.raises(AirflowFailException, match=r"DriftFound: .* ConfigMap/settings modified"):
        run(task(ArgoCDDiffOperator, app, on_difference="fail"), context)
    assert run(task(ArgoCDDiffOperator, app, refresh=False), context)["refreshed"] is False


def test_diff_of_what_cannot_be_compared(released: Any, context: Any, kept: Any) -> None:
    sandbox, app, *_ = released
    sandbox.repository.commit({f"{app}/a.yaml": "{broken: ["}, "Break the manifest")
    done = run(task(ArgoCDDiffOperator, app), context)
    assert (done["verdict"], done["differences"]) == ("unknown", [])
    assert "ComparisonError" in [item["type"] for item in done["conditions"]]
    with pytest.raises(AirflowFailException, match="cannot be compared with Git"):
        run(task(ArgoCDDiffOperator, app, on_difference="fail"), context)


@pytest.mark.parametrize(
    ("changed", "skips"), [(True, {"on_difference": "skip"}), (False, {"on_clean": "skip"})]
)
def test_diff_skips_what_follows(released: Any, context: Any, kept: Any, changed: bool, skips: Any) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    sandbox, app, *_ = released
    if changed:
        sandbox.patch(app, {"data": {"value": "by hand"}})
    with DAG("skipping"):
        made = task(ArgoCDDiffOperator, app, **skips)
        made >> EmptyOperator(task_id="next")
    with pytest.raises(DownstreamTasksSkipped) as caught:
        made.execute(context)
    assert caught.value.tasks == ["next"]
    pushed = context["ti"].xcoms
    assert pushed["return_value"]["verdict"] == pushed["verdict"] == ("different" if changed else "clean")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda app: task(ArgoCDSyncOperator, "nowhere", revision="a" * 40), "NotFound"),
        (lambda app: task(ArgoCDSyncOperator, app, revision="a" * 40, project="other"), "NotFound|AccessDenied"),
        (lambda app: task(ArgoCDSyncOperator, app, revision={"https://else/x": "a" * 40}), "has no source"),
        (lambda app: task(ArgoCDSyncOperator, app, revision="main"), "no full commit id"),
        (lambda app: task(ArgoCDSyncOperator, app, revision="a" * 40), "InvalidInput.*pushed"),
        (lambda app: task(ArgoCDRefreshOperator, app, refresh="soft"), "InvalidInput: refresh is 'soft'"),
        (lambda app: task(ArgoCDRefreshOperator, "nowhere"), "NotFound"),
        (lambda app: task(ArgoCDTerminateOperator, "nowhere"), "NotFound"),
        (lambda app: task(ArgoCDDiffOperator, "nowhere"), "NotFound"),
        (lambda app: task(ArgoCDRollbackOperator, "nowhere", history_id=1), "NotFound"),
        (lambda app: task(ArgoCDTerminateOperator, ""), "InvalidInput"),
    ],
)  # fmt: skip
def test_bad_input_ends_at_once(released: Any, context: Any, make: Any, error: str) -> None:
    sandbox, app, *_ = released
    before = status(sandbox, app)["history"]
    with pytest.raises(AirflowFailException, match=error):
        run(make(app), context)
    assert status(sandbox, app)["history"] == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"sync_options": ["Prune"]},
        {"retry_strategy": {"limit": "many"}},
        {"only": [{"kind": "ConfigMap"}]},
    ],
)
def test_wrong_arguments_are_named(arguments: Any) -> None:
    with pytest.raises(InvalidInput):
        task(ArgoCDSyncOperator, "api", revision="a" * 40, **arguments)


def test_a_server_that_is_down_is_worth_a_retry(released: Any, context: Any) -> None:
    sandbox, app, *_ = released
    sandbox.fault(kind="error", path=f"/api/v1/applications/{app}*", status=503)
    with pytest.raises(Unreachable):
        run(task(ArgoCDTerminateOperator, app), context)
