"""Which step of a Containerfile failed, found in what the engines write."""

from __future__ import annotations

import pytest

from airflow_pipeops.build.cluster.steps import LAST, FailedStep, failed_step, unreachable

BUILDKIT = """\
#1 [internal] load build definition from Containerfile
#1 transferring dockerfile: 132B done
#1 DONE 0.0s

#5 [2/4] RUN echo fine
#5 0.181 fine
#5 DONE 0.2s

#6 [3/4] RUN pip install nonesuch-package
#6 0.512 ERROR: Could not find a version that satisfies the requirement nonesuch-package
#6 0.513 ERROR: No matching distribution found for nonesuch-package
#6 ERROR: process "/bin/sh -c pip install nonesuch-package" did not complete successfully: exit code: 1
------
 > [3/4] RUN pip install nonesuch-package:
0.512 ERROR: Could not find a version that satisfies the requirement nonesuch-package
0.513 ERROR: No matching distribution found for nonesuch-package
------
Containerfile:3
--------------------
   1 |     FROM python:3.12
   2 |     RUN echo fine
   3 | >>> RUN pip install nonesuch-package
   4 |     COPY . /
--------------------
error: failed to solve: process "/bin/sh -c pip install nonesuch-package" did not complete successfully: exit code: 1
"""

BUILDKIT_PUSH = """\
#9 exporting to image
#9 pushing layers
#9 ERROR: failed to push registry.example.com/team/shop:key: {said}
------
 > exporting to image:
------
error: failed to solve: failed to push registry.example.com/team/shop:key: {said}
"""

# As Buildah 1.28 and 1.41 write it.
BUILDAH = """\
STEP 1/3: FROM scratch
STEP 2/3: COPY a /
STEP 3/3: COPY nope /
{error}: building at STEP "COPY nope /": checking on sources under "/work": copier: stat: "/nope": no such file or directory
"""

BUILDAH_RUN = """\
[1/2] STEP 1/2: FROM docker.io/library/python@sha256:00 AS build
[1/2] STEP 2/2: RUN pip install nonesuch
Collecting nonesuch
ERROR: No matching distribution found for nonesuch
Error: building at STEP "RUN pip install nonesuch": while running runtime: exit status 1
"""

BUILDAH_BASE = """\
STEP 1/1: FROM docker.io/library/nonesuch@sha256:00
Trying to pull docker.io/library/nonesuch@sha256:00...
Error: creating build container: initializing source docker://nonesuch: reading manifest: manifest unknown
"""


def found(log: str) -> FailedStep:
    step = failed_step(log.splitlines())
    assert step is not None
    return step


def test_buildkit_s_step_and_its_last_lines() -> None:
    step = found(BUILDKIT)
    assert step.step == "[3/4] RUN pip install nonesuch-package"
    assert step.lines[-1] == "ERROR: No matching distribution found for nonesuch-package"
    assert "fine" not in str(step)
    assert str(step).startswith("step [3/4] RUN pip install nonesuch-package failed: process")
    assert not step.passing


@pytest.mark.parametrize("error", ["error", "Error"])
def test_buildah_s_step(error: str) -> None:
    step = found(BUILDAH.format(error=error))
    assert step.step == "3/3: COPY nope /"
    assert "no such file or directory" in step.error


def test_buildah_s_command_and_what_it_said() -> None:
    step = found(BUILDAH_RUN)
    assert step.step == "2/2: RUN pip install nonesuch"
    assert step.lines == ("Collecting nonesuch", "ERROR: No matching distribution found for nonesuch")


def test_a_base_image_that_is_not_there_is_no_step_s_fault() -> None:
    step = found(BUILDAH_BASE)
    assert (step.step, step.passing) == ("", False)
    assert "manifest unknown" in step.error


@pytest.mark.parametrize(
    ("said", "passing"),
    [
        ("unexpected status from PUT request: 503 Service Unavailable", True),
        ("failed to do request: dial tcp 10.0.0.1:443: i/o timeout", True),
        ("unexpected status: 429 Too Many Requests", True),
        ("unexpected status: 401 Unauthorized", False),
        ("insufficient_scope: authorization failed", False),
    ],
)
def test_a_push_that_may_go_well_the_next_time(said: str, passing: bool) -> None:
    assert found(BUILDKIT_PUSH.format(said=said)).passing is passing


@pytest.mark.parametrize(
    ("said", "passing"),
    [
        ('Failed to pull image "reg:500/team/app:503": not found', False),
        ('Back-off pulling image "reg/timeout-service:429"', False),
        ("reading manifest 500 in docker.io/library/app: manifest unknown", False),
        ("pull access denied for reg/team/unavailable@sha256:" + "5" * 64 + ": 401 Unauthorized", False),
        ('Get "https://reg/v2/": dial tcp: lookup reg on 10.0.0.2:53: no such host', True),
        ("unexpected status code https://reg/v2/app/blobs/x: 503 Service Unavailable", True),
        ("received unexpected HTTP status: 502 Bad Gateway", True),
        ("unexpected status code 503", True),
        ("dial tcp 10.0.0.1:443: i/o timeout", True),
        ("toomanyrequests: You have reached your pull rate limit", True),
        ("failed to copy: httpReadSeeker: failed open: EOF", True),
    ],
)
def test_a_number_in_a_name_is_no_status(said: str, passing: bool) -> None:
    assert unreachable(said) is passing


def test_a_command_that_meets_a_bad_network_is_a_failed_step() -> None:
    log = BUILDKIT.replace("exit code: 1", "exit code: 1: i/o timeout")
    assert not found(log).passing


def test_a_command_that_was_killed_says_so() -> None:
    assert "most often for memory" in str(found(BUILDKIT.replace("exit code: 1", "exit code: 137")))


def test_of_a_long_step_the_end_is_told() -> None:
    many = "\n".join(f"0.{number:03} line {number}" for number in range(500))
    head, _, tail = BUILDKIT.partition(
        "0.512 ERROR: Could not find a version that satisfies the requirement nonesuch-package\n0.513"
    )
    step = found(head + many + "\n0.513" + tail)
    assert len(step.lines) == LAST
    assert step.lines[0] == f"line {500 - LAST + 1}"


@pytest.mark.parametrize("log", ["", "hello\nworld", BUILDKIT.partition("error:")[0].replace("ERROR", "#")])
def test_a_log_that_does_not_tell(log: str) -> None:
    assert failed_step(log.splitlines()) is None
