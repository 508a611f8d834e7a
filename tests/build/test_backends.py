"""Backends are found by name or import path, and are imported only then."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from airflow_pipeops.build import backends, oci
from airflow_pipeops.build.backends import BuildRequest, TestRequest
from airflow_pipeops.build.local import LocalBuild
from airflow_pipeops.exceptions import InvalidInput


class Own:
    """A backend of a user's own."""

    def __init__(self, *, pool: str = "") -> None:
        self.pool = pool


sys.modules.setdefault("own_backend", sys.modules[__name__])


def test_a_backend_of_ones_own_is_named_by_its_import_path_and_takes_its_options() -> None:
    assert backends.make(backends.BUILDS, "own_backend:Own", {"pool": "gpu"}).pool == "gpu"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("moon", {}, "backend 'moon' is unknown.*local, kubernetes, argo_workflows"),
        (7, {}, "backend 7 is unknown"),
        ("own_backend:Other", {}, "cannot be imported"),
        ("own_backend:Own", {"pod": 1}, "does not take these backend_options.*pod"),
    ],
)
def test_what_is_no_backend_is_named(name, options, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        backends.make(backends.BUILDS, name, options)


def test_requests_survive_the_way_through_a_deferred_task() -> None:
    build = BuildRequest("app", "a" * 40, arguments={"A": "1"}, platforms=("linux/amd64",), annotations={"x": "y"},
                         timeout=timedelta(minutes=5))  # fmt: skip
    test = TestRequest(
        "app", "a" * 40, command=("pytest", "-q"), shards=4, shard=3, timeout=timedelta(seconds=9)
    )
    assert BuildRequest.from_json(build.to_json()) == build
    assert TestRequest.from_json(test.to_json()) == test


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("DOCKER_HOST", "tcp://arm.example:2376", "the Docker of arm.example"),
        ("DOCKER_HOST", "ssh://ada@arm.example", "the Docker of arm.example"),
        ("DOCKER_HOST", "unix:///run/user/1000/docker.sock", oci.platform_here()),
        ("DOCKER_CONTEXT", "arm", "the Docker of context arm"),
        ("DOCKER_CONTEXT", "default", oci.platform_here()),
        ("DOCKER_CONTEXT", "", oci.platform_here()),
    ],
)
def test_an_engine_elsewhere_is_another_place(
    name: str, value: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it builds is for its own machine, so that an image of this one is not taken for it."""
    for other in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    assert LocalBuild().platform() == place
