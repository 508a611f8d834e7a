"""The operators with the cluster as their backend: what they return, record and raise, deferred or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.build.operators import RunTestsOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import PodLost
from tests.build.cluster.running import COMMIT, REPOSITORY
from tests.build.cluster.test_backends import FAILING, JUNIT, connect, fired, handing_over
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import Step, playing

SHOP = Deliverable("shop")
IMAGE = f"{REPOSITORY}@sha256:{'1' * 64}"
PASSES = [pods.runs(), pods.says("2 passed"), pods.ends(last=handing_over(junit=JUNIT))]
FAILS = [pods.runs(), pods.says("1 failed"), pods.ends(1, last=handing_over(junit=FAILING))]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ApiServer]:
    monkeypatch.setattr(
        "airflow_pipeops.base.configuration.evidence_uri", lambda: (tmp_path / "evidence").as_uri()
    )
    with serving() as server:
        connect(monkeypatch, server)
        yield server


def run(context: Any, deferrable: bool, **more: Any) -> dict[str, Any]:
    """Run the task as Airflow does, through as many deferrals as it takes."""
    operator = RunTestsOperator(
        task_id="tests",
        git_conn_id="app",
        commit=COMMIT,
        image=IMAGE,
        backend="kubernetes",
        backend_options={"deferrable": deferrable, "poll_interval": timedelta(seconds=0.1)},
        deliverable=SHOP,
        **more,
    )
    step, given = operator.execute, {}
    while True:
        try:
            found: dict[str, Any] = step(context, **given)
        except TaskDeferred as deferred:
            # What Airflow keeps of it is JSON.
            given = {"event": fired(deferred), **json.loads(json.dumps(deferred.kwargs))}  # type: ignore[arg-type]
            step = getattr(operator, deferred.method_name)
        else:
            return found


def scripts(*all_steps: Sequence[Step]) -> Any:
    left = iter(all_steps)
    return lambda pod: next(left)


@pytest.mark.parametrize("deferrable", [False, True])
def test_tests_that_pass_are_recorded(api: ApiServer, context: Any, deferrable: bool) -> None:
    with playing(api, scripts(PASSES)):
        done = run(context, deferrable)
    assert (done["tests"], done["passed"], done["failed"]) == (2, 2, 0)
    assert len(done["record_id"]) == 64
    assert IMAGE in json.dumps(context["outlet_events"][SHOP.asset("validation")].extra)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_test_that_fails_and_then_passes_is_flaky(api: ApiServer, context: Any, deferrable: bool) -> None:
    with playing(api, scripts(FAILS, PASSES)):
        done = run(context, deferrable, reruns=1)
    assert done["flaky"] == ["t.a"]
    assert len(api.all("jobs")) == 2


@pytest.mark.parametrize("deferrable", [False, True])
def test_tests_that_fail_fail_the_task_and_are_not_retried(
    api: ApiServer, context: Any, deferrable: bool
) -> None:
    with playing(api, scripts(FAILS)), pytest.raises(AirflowFailException, match=r"TestsFailed: .*t[.]a"):
        run(context, deferrable)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_node_that_is_lost_is_retried_and_is_no_failed_test(
    api: ApiServer, context: Any, deferrable: bool
) -> None:
    lost = [pods.runs(), pods.node_lost()]
    with playing(api, scripts(lost, PASSES)):
        with pytest.raises(PodLost, match="pod is gone"):
            run(context, deferrable)
        assert run(context, deferrable)["passed"] == 2


def test_memory_that_ran_out_is_said_as_such(api: ApiServer, context: Any) -> None:
    steps = [pods.runs(), pods.out_of_memory()]
    with (
        playing(api, scripts(steps)),
        pytest.raises(AirflowFailException, match=r"PodFailed: .*ran out of memory"),
    ):
        run(context, False)
