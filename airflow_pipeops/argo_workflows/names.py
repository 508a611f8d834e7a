"""The name and the marks of the workflow that a task runs: the same for each attempt, others after a clearing. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, text

#: Says of a workflow which task it belongs to; the value is :func:`mark_of` the task's key.
OPERATION = "pipeops/op"
#: Commit that the workflow is about.
COMMIT = "pipeops/commit"
#: The page of the task's run in Airflow.
RUN = "pipeops/run"
#: The longest name that Argo Workflows can use as the value of a label, which it does.
LONGEST = 63
_MARK, _TAIL = 40, 10
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


def mark_of(key: str) -> str:
    """Return the value of the label that says whose workflow this is.

    :param key: the task's key, see :func:`airflow_pipeops.delivery.operators.order_key`.
    :return: hexadecimal digits.
    """
    return hashlib.sha256(key.encode()).hexdigest()[:_MARK]


def name_of(stem: str, key: str) -> str:
    """Return the name of the workflow of a task: readable, of lower-case letters, digits and dashes, and its own.

    :param stem: what a person should recognise, for example the ids of DAG and task.
    :param key: the task's key.
    :return: the name; at most :data:`LONGEST` characters.
    """
    readable = _NOT_IN_NAMES.sub("-", stem.lower()).strip("-")
    if not readable[:1].isalpha():
        readable = f"w-{readable}".rstrip("-")
    return f"{readable[: LONGEST - _TAIL - 1].rstrip('-')}-{mark_of(key)[:_TAIL]}"


def mark_in(workflow: Any) -> str:
    """Return the mark that a workflow carries; empty for one that is no task's."""
    labels = map_(map_(map_(workflow).get("metadata")).get("labels"))
    return text(labels.get(OPERATION))


def marked(
    manifest: Mapping[str, Any],
    name: str,
    namespace: str,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """Return a manifest under a name, with further labels and annotations.

    :param manifest: the workflow; a name of its own, or the beginning of one, is dropped.
    :return: the manifest that is created.
    """
    metadata = {key: value for key, value in map_(manifest.get("metadata")).items() if key != "generateName"}
    metadata.update(
        name=name,
        namespace=namespace,
        labels={**map_(metadata.get("labels")), **labels},
        annotations={**map_(metadata.get("annotations")), **annotations},
    )
    return {**manifest, "metadata": metadata}
