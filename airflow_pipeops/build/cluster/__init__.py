"""Images are built and tests are run in a Kubernetes cluster, as Jobs."""

from airflow_pipeops.build.cluster.backends import KubernetesBuild as KubernetesBuild
from airflow_pipeops.build.cluster.backends import KubernetesTests as KubernetesTests
