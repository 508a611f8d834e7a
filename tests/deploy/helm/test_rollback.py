"""A revision that went bad after its release is taken back, waited for, and recorded; what came later stays."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator
from airflow_pipeops.deploy.helm.program import Helm
from airflow_pipeops.deploy.helm.rollback import HelmRollbackOperator
from airflow_pipeops.exceptions import Conflict
from tests.deploy.helm.conftest import Repository
from tests.deploy.helm.running import NAMESPACE, deployments_live, helm, kubeconfig, run
from tests.deploy.helm.test_operators import SHOP, image, statuses, task
from tests.kubernetes.apiserver import ApiServer


def back(major: str, **arguments: Any) -> Any:
    """Return the task that rolls back from revision 2."""
    waiting = {"deferrable": False, "settle": 0, "poll_interval": 0.02, "timeout": 60, "failed_grace": 0}
    given = {name: _time(value) for name, value in waiting.items()}
    return task(HelmRollbackOperator, major, **{"revision": 2, **given, **arguments})


def _time(value: float) -> Any:
    from datetime import timedelta

    return value if isinstance(value, bool) else timedelta(seconds=value)


def released(api: ApiServer, major: str, context: dict[str, Any], *images: str) -> None:
    """Release these images, one after the other."""
    for number, name in enumerate(images, 1):
        context["ti"].run_id = f"release-{number}"
        task(HelmReleaseOperator, major, values={"image": name}).execute(context)


def test_it_goes_back_once_and_is_recorded_as_a_release(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        released(api, major, context, "web:1", "web:2")
        context["ti"].run_id = "guard"
        found, again = (
            back(major, deliverable=SHOP, environment="staging").execute(context) for _ in range(2)
        )
    assert (found["revision"], found["restored"], found["previous"], found["rule"]) == (3, 1, 2, "ready")
    assert again["revision"] == 3, "a retry finds it done"
    assert statuses(api) == ["superseded", "superseded", "deployed"]
    assert image(api) == "web:1"
    change, release = (
        context["outlet_events"][SHOP.asset(kind, "staging")].extra for kind in ("change", "release")
    )
    assert release["parents"] == [change["id"]]
    assert (change["body"]["changed"], change["body"]["objects"]["changed"]) == (True, ["Deployment web"])
    assert release["body"]["pushed"]["release"] == "3"
    commit = repo.git("rev-parse", "HEAD")
    assert (found["commit"], release["body"]["revision"]) == (commit, commit)
    rollback = context["outlet_events"][SHOP.asset("rollback", "staging")].extra["body"]
    assert (rollback["revision"], rollback["reverts"]) == (commit, commit)


def test_what_our_wait_judged_as_failed_is_no_way_back(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    """Helm takes it for deployed, and later for superseded; the labels of the next one are its own."""
    with deployments_live(api, broken="bad"):
        released(api, major, context, "web:1")
        for run_, name in enumerate(("web:bad", "web:bad-too")):
            context["ti"].run_id = f"bad-{run_}"
            bad = task(HelmReleaseOperator, major, values={"image": name}, on_failure="keep")
            with pytest.raises(AirflowFailException, match="no such image"):
                bad.execute(context)
        found = back(major, revision=3).execute(context)
    assert (found["restored"], image(api)) == (1, "web:1")


def test_a_newer_revision_is_not_thrown_away(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        released(api, major, context, "web:1", "web:2", "web:3")
        before = api.all("secrets")
        with pytest.raises(AirflowFailException, match=r"revision 3 .* came after revision 2"):
            back(major).execute(context)
    assert (api.all("secrets"), image(api)) == (before, "web:3")


def test_what_somebody_releases_in_that_very_moment_comes_back(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Between looking and Helm's own rollback: Helm takes no condition."""
    config, run_, raced = kubeconfig(tmp_path / "config", api.url), Helm.run, []

    def racing(self: Helm, *arguments: str, **more: Any) -> Any:
        if arguments[0] == "rollback" and not raced:
            raced.append(True)
            run(major, config, "upgrade", "web", str(repo.folder / "web"), "--set", "image=web:newer")
        return run_(self, *arguments, **more)

    with deployments_live(api):
        released(api, major, context, "web:1", "web:2")
        monkeypatch.setattr(Helm, "run", racing)
        with pytest.raises(Conflict, match="revision 3 of web was made meanwhile, and stays"):
            back(major).execute(context)
    assert image(api) == "web:newer"


def test_what_it_goes_back_to_is_waited_for_deferred(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        released(api, major, context, "web:1", "web:2")
    with pytest.raises(TaskDeferred) as deferred:
        back(major, deferrable=True).execute(context)
    with deployments_live(api):
        payload = after(deferred.value)
    assert back(major, deferrable=True).execute_complete(context, payload)["health"] == "Healthy"


def after(deferred: TaskDeferred) -> Any:
    """Run the trigger of a deferral to its end, as Airflow keeps it."""
    _, arguments = deferred.trigger.serialize()
    trigger = type(deferred.trigger)(**json.loads(json.dumps({**arguments, "dwell": 0.0})))

    async def event() -> Any:
        async for one in trigger.run():
            return one.payload

    return asyncio.run(event())


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_failed_release_puts_back_is_waited_for(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], deferrable: bool
) -> None:
    """The first version does not come to life any more either, and the error says both."""
    with deployments_live(api):
        released(api, major, context, "web:1")
    context["ti"].run_id = "second"
    operator = task(HelmReleaseOperator, major, values={"image": "web:2"}, deferrable=deferrable)
    with deployments_live(api, broken="web"):
        error: BaseException | None = None
        payload = None
        for _ in range(4):
            try:
                operator.execute(context) if payload is None else operator.execute_complete(context, payload)
            except TaskDeferred as deferred:
                payload = after(deferred)
            except AirflowFailException as failed:
                error = failed
                break
    told = str(error)
    assert re.search(
        "no such image.*Rolled back from revision 2 to what revision 1 was, which is not ready", told
    )
    assert statuses(api)[-1] == "deployed"


@pytest.mark.parametrize(
    ("revision", "told"),
    [("two", "is no number"), (0, "no revision 0"), (7, "no revision 7"), (None, "is no number")],
)
def test_a_revision_that_is_none_is_told(
    api: ApiServer, repo: Repository, context: dict[str, Any], revision: Any, told: str
) -> None:
    with deployments_live(api):
        released(api, "helm4", context, "web:1")
    with pytest.raises(AirflowFailException, match=told):
        back("helm4", revision=revision).execute(context)
    assert helm("helm4")
    assert api.read("deployments", NAMESPACE, "web")
