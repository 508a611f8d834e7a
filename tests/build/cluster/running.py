"""Runs the containers of a composed pod on this machine, as far as a shell goes: what the kubelet would put in place is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s

from airflow_pipeops.build.backends import BuildRequest, TestRequest
from airflow_pipeops.build.cluster.jobs import act_of, job
from tests.openapi import problems

COMMIT = "a" * 40
REPOSITORY = "registry.example.com/team/shop"
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))")


def request(**more: Any) -> BuildRequest:
    given = {
        "git_conn_id": "app",
        "commit": COMMIT,
        "containerfile": "FROM scratch\nCOPY app.py /\n",
        "image": "team/shop",
        "repository": REPOSITORY,
        "registry_conn_id": "registry",
        "tag": "key-1234",
        "annotations": {"org.opencontainers.image.revision": COMMIT},
    }
    return BuildRequest(**{**given, **more})


def test_request(**more: Any) -> TestRequest:
    given = {"git_conn_id": "app", "commit": COMMIT, "image": f"{REPOSITORY}@sha256:{'1' * 64}"}
    return TestRequest(**{**given, **more})


test_request.__test__ = False  # type: ignore[attr-defined]


def as_job(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Job of a pod, which the published description of the API knows in every field."""
    made = job(
        "build", act_of("dag/run/task/-1", "build"), 0, "dag/run/task/-1", pod, timeout=60, wait=60, keep=60
    )
    assert problems(made, k8s.V1Job) == []
    return made


def container(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    spec = pod["spec"]
    found = [one for one in [*spec["initContainers"], *spec["containers"]] if one["name"] == name]
    assert len(found) == 1
    return dict(found[0])


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Do to a text of a pod what the kubelet does: ``$(NAME)`` of what is known becomes its value, ``$$`` becomes ``$``."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return _REFERENCE.sub(one, text)


def environment(of: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in of.get("env", ()):
        found[item["name"]] = expanded(item["value"], found)
    return found


def words(of: Mapping[str, Any]) -> list[str]:
    return [expanded(word, environment(of)) for word in of["command"]]


def run(
    of: Mapping[str, Any], folders: Mapping[str, Path], path: Sequence[Path] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a container's command with its mounts at folders of this machine."""

    def here(text: str) -> str:
        for place, folder in folders.items():
            text = text.replace(place, str(folder))
        return text

    given = {name: here(value) for name, value in environment(of).items()}
    paths = os.pathsep.join([*map(str, path), os.environ["PATH"]])
    return subprocess.run(
        [here(word) for word in words(of)],
        env={"PATH": paths, **given, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
