"""Attempts are killed after any of Helm's writes, alone or with their Helm: one revision of theirs, found again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.deploy.helm import operators
from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator
from airflow_pipeops.deploy.helm.releases import Revision, history_of
from tests.deploy.helm.conftest import Repository
from tests.deploy.helm.running import MAJORS, NAMESPACE, ROOT, deployments_live, helm
from tests.deploy.helm.test_operators import task
from tests.kubernetes.apiserver import ApiServer, Fault


def writes(api: ApiServer) -> int:
    """How often anything was written, or was to be."""
    return sum(one.split()[0] in ("POST", "PUT", "PATCH") for one in list(api.requests))


def releases(api: ApiServer) -> tuple[Revision, ...]:
    """What Helm has left."""
    return history_of(item for item in api.all("secrets") if item.get("type") == "helm.sh/release.v1")


def killed_attempt(api: ApiServer, major: str, after: int, *, with_helm: bool) -> None:
    """Run an attempt, and kill its worker; its Helm goes on alone, or dies with it.

    :param after: so many writes after the pending revision was there; below 0: before it was.
    """
    # Slow enough for a killer to come between two of them.
    slow = Fault("delay", method="P*", path=f"*/namespaces/{NAMESPACE}/*", seconds=0.3)
    api.faults.append(slow)
    command = [sys.executable, "-m", "tests.deploy.helm.killed", json.dumps({"helm": helm(major), **WANTED})]
    begin = writes(api)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while process.poll() is None and not (after < 0 and writes(api) > begin):
            if after >= 0 and any(one.pending for one in releases(api)):
                break
            time.sleep(0.001)
        begin = writes(api)
        while process.poll() is None and writes(api) - begin < after:
            time.sleep(0.001)
        if process.poll() is not None:
            assert process.stdout is not None
            raise AssertionError(f"the attempt ended by itself: {process.stdout.read()[-3000:]}")
        helms = _children(process.pid)
        process.kill()
        for child in helms if with_helm else []:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in helms:
            while _alive(child):
                time.sleep(0.01)
    finally:
        process.kill()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        api.faults.remove(slow)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        found = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for path in found for child in path.read_text(encoding="utf-8").split()]
    return []


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


WANTED: dict[str, Any] = {"values": {"image": "registry.example.com/web:2", "greeting": "now"}}


def one_story(
    api: ApiServer, major: str, context: dict[str, Any], after: int, *, with_helm: bool, first: bool
) -> None:
    """Kill an attempt, and let the next one find what is there."""
    with deployments_live(api):
        if not first:
            context["ti"].run_id = "run-0"
            task(HelmReleaseOperator, major).execute(context)
            context["ti"].run_id = "run-1"
        killed_attempt(api, major, after, with_helm=with_helm)
        # So long after that no Helm of it can be at work.
        left = releases(api)
        if after >= 0:
            assert left[-1].pending is with_helm or left[-1].status == "deployed"
        if after in (0, 1):  # Helm was not near its end
            assert left[-1].pending is with_helm
        ago = SimpleNamespace(time=lambda: time.time() + 10_000, sleep=time.sleep)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operators, "time", ago)
            found = task(HelmReleaseOperator, major, **WANTED).execute(context)
        history = releases(api)
        ours = [one for one in history if one.made_by(task_identity(major, context))]
        assert found["rule"] == "ready"
        assert [one.number for one in ours if not one.pending] == [found["revision"]]
        assert (history[-1].number, history[-1].status) == (found["revision"], "deployed")
        live = api.read("deployments", NAMESPACE, "web")
        assert live is not None
        assert live["spec"]["template"]["spec"]["containers"][0]["image"] == WANTED["values"]["image"]
        config = api.read("configmaps", NAMESPACE, "web-config")
        assert config is not None
        assert config["data"] == {"greeting": "now"}


def task_identity(major: str, context: dict[str, Any]) -> Any:
    """How the task finds again what it did."""
    return task(HelmReleaseOperator, major)._ours(context)


@pytest.mark.parametrize(
    ("major", "after", "with_helm", "first"),
    [
        ("helm3", 0, True, False),
        ("helm4", 1, True, True),
        ("helm3", 1, False, True),
        ("helm4", 2, True, False),
    ],
)
def test_a_killed_attempt_is_found_again(
    api: ApiServer,
    repo: Repository,
    context: dict[str, Any],
    major: str,
    after: int,
    with_helm: bool,
    first: bool,
) -> None:
    one_story(api, major, context, after, with_helm=with_helm, first=first)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(50))
def test_fifty_are_killed_anywhere(
    api: ApiServer, repo: Repository, context: dict[str, Any], seed: int
) -> None:
    chance = random.Random(seed)
    after, with_helm, first = chance.randint(-1, 4), chance.random() < 0.7, chance.random() < 0.5
    # The fourth is about the revision before, which a first one lacks.
    after = min(after, 3) if first else after
    one_story(api, MAJORS[seed % 2], context, after, with_helm=with_helm, first=first)
