"""Serve the example DAGs that travel inside the package as an Airflow DAG bundle.

Switch them on by configuration::

    [dag_processor]
    dag_bundle_config_list = [{"name": "pipeops-examples",
                               "classpath": "airflow_pipeops.provider.examples.ExampleDagsBundle", "kwargs": {}}]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle


def example_dags() -> Path:
    """Return the folder of the example DAGs: inside an installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "example_dags"
    return installed if installed.is_dir() else package.parent / "dags"


class ExampleDagsBundle(LocalDagBundle):
    """The example DAGs of airflow-pipeops.

    :param path: another folder, for a copy that you have changed.
    """

    def __init__(self, *, path: str | None = None, **kwargs: Any) -> None:
        super().__init__(path=path or str(example_dags()), **kwargs)
