"""Images are built and tests are run in a Kubernetes cluster, as Jobs; each class is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_pipeops.build.cluster.backends import KubernetesBuild as KubernetesBuild
    from airflow_pipeops.build.cluster.backends import KubernetesTests as KubernetesTests


def __getattr__(name: str) -> object:
    # A DAG file that uses the mixin of this folder does not pay for the backends, nor the other way around.
    if name not in ("KubernetesBuild", "KubernetesTests"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_pipeops.build.cluster import backends

    return getattr(backends, name)
