"""What ran a task: versions of Airflow, of what is installed and of the DAG's own code, where they cost nothing to know."""

from __future__ import annotations

import functools
import os
import platform
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Names under which a record's source has them, and what each is.
VERSIONS = {
    "airflow": "version of Airflow that ran the task",
    "python": "version of Python that ran it",
    "packages": "digest of the names and versions of all packages that were installed there",
    "dag_version": "id of the version of the DAG, as Airflow counts them",
    "bundle_version": "version of the DAG bundle, such as its commit",
}


def versions_of(context: Context) -> dict[str, str]:
    """Return what is known of what runs a task.

    :param context: of the running task.
    :return: some of :data:`VERSIONS`.
    """
    ti = context["ti"]
    found = {
        **_installed(),
        "dag_version": str(getattr(ti, "dag_version_id", None) or ""),
        "bundle_version": str(getattr(getattr(ti, "bundle_instance", None), "version", None) or ""),
    }
    return {name: value for name, value in found.items() if value}


@functools.cache
def _installed() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    def known(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:  # a worker may have the SDK alone
            return ""

    airflow = known("apache-airflow-core") or known("apache-airflow-task-sdk")
    return {"airflow": airflow, "python": platform.python_version(), "packages": packages(sys.path)}


def packages(folders: list[str]) -> str:
    """Return a digest of what is installed, by the names of its metadata: none is opened.

    :param folders: in which Python looks for packages.
    :return: 16 hex digits; empty if nothing is installed in any.
    """
    found = set()
    for folder in folders:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip, or what is not there
            continue
        found |= {name for name in names if name.endswith((".dist-info", ".egg-info"))}
    return sha256("\n".join(sorted(found)).encode()).hexdigest()[:16] if found else ""
