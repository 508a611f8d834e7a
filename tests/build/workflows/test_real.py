"""The chart's templates on a real Argo Workflows, where ``PIPEOPS_TEST_ARGO_WORKFLOWS`` names one; otherwise as the server
for tests plays them.

What else may be named is said in :mod:`tests.argo_workflows.test_real`, and for the image in :mod:`tests.kubernetes.real`.
Each test says in its name which of the two it ran. What each case's command does on a real node, its steps say of a played
one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.build.backends import TestResult
from airflow_pipeops.build.workflows import judgement
from airflow_pipeops.build.workflows.parameters import BUILD_TEMPLATE, TEST_TEMPLATE
from airflow_pipeops.exceptions import PodFailed, PodLost
from tests.argo_workflows.conftest import connect
from tests.argo_workflows.server import serving_argo
from tests.argo_workflows.test_real import ACCOUNT, NAMESPACE, REAL, reach
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_real_cluster import NOWHERE, wrote
from tests.build.workflows.playing import Step, Task, begins, done, ends, handing_over, pends, playing, says
from tests.build.workflows.test_backends import FAILING, JUNIT, NO_HOST, fired
from tests.helm.test_workflow_templates import templates
from tests.kubernetes.real import IMAGE

TOO_LONG = "Pod was active on the node longer than the specified deadline: DeadlineExceeded"
LIMITS = {"limits": {"memory": "128Mi"}, "requests": {"memory": "64Mi"}}
pytestmark = [
    pytest.mark.timeout(900 if REAL else 120),
    pytest.mark.parametrize("where", ["real" if REAL else "played"]),
]


@contextmanager
def engine(monkeypatch: pytest.MonkeyPatch, name: str, *steps: Step) -> Iterator[str]:
    """Reach the real server, or one that plays these steps; yield what a template of the chart is called there."""
    spec = templates({"test": {"resources": LIMITS}})[name]["spec"]
    source = {"conn_type": "git_repository", "host": "https://git.invalid/shop.git"}
    monkeypatch.setenv("AIRFLOW_CONN_APP", json.dumps(source))
    if not REAL:
        monkeypatch.setattr(judgement, "PATIENCE", 0.2)
        with serving_argo() as argo:
            connect(monkeypatch, argo.url)
            argo.template(spec, name)
            with playing(argo, steps):
                yield name
        return
    reach(monkeypatch)
    called = f"{name}-{uuid.uuid4().hex[:8]}"
    account = {"serviceAccountName": ACCOUNT} if ACCOUNT else {}
    # The chart gives its workflows an account of their own, which is not there.
    without = {key: spec[key] for key in spec if key not in ("automountServiceAccountToken", "executor")}
    body = {"metadata": {"name": called, "namespace": NAMESPACE}, "spec": {**without, **account}}
    place = f"/api/v1/workflow-templates/{NAMESPACE}"
    _call("POST", place, json={"namespace": NAMESPACE, "template": body})
    try:
        yield called
    finally:
        _call("DELETE", f"{place}/{called}")


def _call(method: str, path: str, **more: Any) -> None:
    """Do with the server what no operator does."""
    ArgoWorkflowsHook().run(lambda client: client.http.object(method, path, about="a template", **more))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Case:
    """A run, on a real node and on a played one.

    :param command: for the real one.
    :param steps: for the played one.
    :param status: with which the command ends.
    :param report: that it leaves.
    :param kinds: of the error, where nobody learns how the tests are.
    :param said: by it.
    :param image: to run.
    :param seconds: for the run.
    """

    command: tuple[str, ...]
    steps: tuple[Step, ...]
    status: int = 0
    report: bytes | None = None
    kinds: tuple[type[Exception], ...] = ()
    said: str = ""
    image: str = IMAGE
    seconds: float = 120.0


CASES = {
    "passes": Case(wrote(JUNIT, 0), (begins, says("hello"), ends(handing_over(junit=JUNIT))), report=JUNIT),
    "fails": Case(
        wrote(FAILING, 3),
        (begins, says("hello"), ends(handing_over(junit=FAILING), code=3, message="Error (exit code 3)")),
        status=3,
        report=FAILING,
    ),
    "memory": Case(
        ("awk", 'BEGIN { s = "x"; while (1) s = s s }'),
        (begins, ends(code=137, message="OOMKilled (exit code 137)")),
        kinds=(PodFailed,),
        said="memory",
    ),
    "no image": Case(
        ("true",),
        (pends("ErrImagePull: dial tcp: lookup registry.invalid: no such host"),),
        # What an older kubelet says of it between two attempts does not tell why.
        kinds=(PodLost, PodFailed),
        said="cannot be pulled",
        image=NOWHERE,
    ),
    "too long": Case(("sleep", "600"), (begins, ends(code=None, message=TOO_LONG)), seconds=10.0),
}


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_as_its_command_does(
    monkeypatch: pytest.MonkeyPatch, warm: None, where: str, name: str, deferrable: bool
) -> None:
    case, task = CASES[name], Task(f"dag/{uuid.uuid4()}/task/-1")
    wanted = test_request(image=case.image, command=case.command, timeout=timedelta(seconds=case.seconds))
    with engine(monkeypatch, TEST_TEMPLATE, *case.steps) as template:
        kind = lambda: task.tests(template=template, deferrable=deferrable)  # noqa: E731
        if case.kinds:
            with pytest.raises(case.kinds, match=case.said):
                done(kind, wanted, task, fired)
            return
        found = done(kind, wanted, task, fired)
    assert isinstance(found, TestResult)
    (attempt,) = found.attempts
    assert attempt.timed_out is (name == "too long")
    assert attempt.report == case.report
    if case.report:
        assert attempt.status == case.status
        assert "hello" in attempt.output


def test_a_build_whose_source_cannot_be_reached_says_so(
    monkeypatch: pytest.MonkeyPatch, warm: None, where: str
) -> None:
    task = Task(f"dag/{uuid.uuid4()}/task/-1")
    steps = (begins, ends(code=None, message=NO_HOST))
    with (
        engine(monkeypatch, BUILD_TEMPLATE, *steps) as template,
        pytest.raises(PodLost, match="source could not be fetched"),
    ):
        done(lambda: task.build(template=template), request(), task, fired)
