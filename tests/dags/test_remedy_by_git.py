"""A release that went bad is taken back in Git by the remediator, converges, and is proven by the same judge."""

from __future__ import annotations

import json
import subprocess
import time

import httpx
import pytest
import yaml

from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.operations.remediation.journal import Journal
from tests.dags.test_anomaly_to_remedy import POLICY, ROOT
from tests.dags.test_example_dags import laptop, run_dag

__all__ = ["laptop"]


def live(stack: Stack) -> str:
    return str(httpx.get(stack.endpoint("delay-api-staging") + "/version", timeout=30).json()["version"])


@pytest.mark.nightly  # two releases and a remedy, each a run of a whole DAG
@pytest.mark.timeout(2400)
def test_a_bad_release_goes_back_in_git_and_is_proven(laptop: Stack) -> None:
    policy = yaml.safe_load(POLICY.read_text())
    for rule in policy["rules"]:
        rule |= {"patience": 120, "window": 10}
    (laptop.home / "remedy.yaml").write_text(yaml.safe_dump(policy))
    (laptop.home / "remedies").mkdir()
    history = {"conn_type": "pipeops_storage", "host": (laptop.home / "remedies").as_uri()}
    env = {
        "PIPEOPS_REMEDIATION_POLICY": str(laptop.home / "remedy.yaml"),
        "AIRFLOW_CONN_PIPEOPS_REMEDIATION": json.dumps(history),
    }
    laptop._environment["PYTHONPATH"] = str(ROOT)
    for version in (1, 3):
        laptop.seeds.push_version(version)
        released = run_dag(laptop, "code_to_release", {"environment": "staging"})
        assert released["state"] == "success", released["log"][-5000:]
    assert live(laptop) == "3"
    (bad,) = [one["body"]["revision"] for one in released["emitted"] if one["kind"] == "release"]

    form = {
        "finding": "degraded_release", "what": bad[:10], "deliverable": "delay-api", "environment": "staging",
        "mode": "act",
    }  # fmt: skip
    found = run_dag(laptop, "anomaly_to_remedy", form, env=env)
    assert found["state"] == "success", found["log"][-5000:]
    acted, ended = [one["body"] for one in found["emitted"] if one["kind"] == "remediation"]
    assert (acted["action"], acted["state"], acted["result"]["reverts"]) == ("revert_commit", "acted", bad)
    (change,) = [one for one in found["emitted"] if one["kind"] == "change"]
    tip = subprocess.run(
        ["git", "-C", str(laptop.seeds.deploy_repository), "log", "-1", "--format=%H %B", "main"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert tip.startswith(change["body"]["commit"])
    assert acted["operation"] in tip
    assert (ended["state"], ended["helped"]) == ("helped", True), ended
    deadline = time.monotonic() + 120
    while live(laptop) != "1":
        assert time.monotonic() < deadline, "the cluster has not followed Git"
    assert not Journal(laptop.home / "remedies").read()[1].calls, "nobody was needed"
