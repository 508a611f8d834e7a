"""Jobs, and what names them: the same act is the same Job, whoever asks for it again. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

#: Labels: what is ours, and which act this is.
MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "airflow-pipeops"
ACT = "airflow-pipeops/act"
#: Annotations: the task, for people; and how often the act was begun, since a lost pod is replaced.
TASK = "airflow-pipeops/task"
TURN = "airflow-pipeops/turn"
#: A Job's own deadline comes after that of its pod, whose end leaves a log. Seconds.
LATER = 300


def act_of(key: str, what: str, number: int = 0) -> str:
    """Return the name of an act, as a label's value.

    :param key: of the task and the order to run it.
    :param what: is done, for example ``build``.
    :param number: which run of it, where several are wanted.
    :return: the name.
    """
    return hashlib.sha256(f"{key}\n{what}\n{number}".encode()).hexdigest()[:40]


def name_of_job(what: str, act: str, turn: int) -> str:
    """Return the name of a Job: the same for the same turn of an act, so that there cannot be two."""
    return f"pipeops-{what}-{act[:20]}" + (f"-{turn}" if turn else "")


def turn_of(job: Mapping[str, Any]) -> int:
    """Return which turn of its act a Job is."""
    found = str(((job.get("metadata") or {}).get("annotations") or {}).get(TURN) or "0")
    return int(found) if re.fullmatch(r"\d{1,6}", found) else 0


def job(
    what: str,
    act: str,
    turn: int,
    task: str,
    pod: Mapping[str, Any],
    *,
    timeout: float,
    wait: float,
    keep: float,
) -> dict[str, Any]:
    """Compose a Job that runs a pod once.

    :param what: is done.
    :param act: which act this is.
    :param turn: how often it was begun before.
    :param task: the task that asks for it, for people.
    :param pod: of what it is.
    :param timeout: seconds for the pod's work.
    :param wait: seconds for which it may not have begun.
    :param keep: seconds for which the Job and the pod's log stay, once they have ended.
    :return: the manifest.
    """
    metadata = pod.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), MANAGED: MANAGER, ACT: act}
    notes = {TASK: task[:1000], TURN: str(turn)}
    spec = {**(pod.get("spec") or {}), "restartPolicy": "Never", "activeDeadlineSeconds": int(timeout)}
    template = {
        "metadata": {
            "labels": labels,
            "annotations": {**(metadata.get("annotations") or {}), TASK: notes[TASK]},
        },
        "spec": spec,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name_of_job(what, act, turn), "labels": labels, "annotations": notes},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            # The Job's deadline takes the pod away, and its log with it: it is for pods that never begin.
            "activeDeadlineSeconds": int(timeout + wait) + LATER,
            "ttlSecondsAfterFinished": int(keep),
            "template": template,
        },
    }
