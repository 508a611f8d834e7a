"""A real cluster in place of the one for tests, where ``PIPEOPS_TEST_KUBECONFIG`` names one.

``PIPEOPS_TEST_NAMESPACE`` names a namespace in which objects may be made (``default``), and ``PIPEOPS_TEST_IMAGE`` an image
with a shell (``busybox:1.37``). ``WHERE`` stands in the name of each test that may run on either: which of the two it was.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

REAL = os.environ.get("PIPEOPS_TEST_KUBECONFIG", "")
NAMESPACE = os.environ.get("PIPEOPS_TEST_NAMESPACE", "default")
IMAGE = os.environ.get("PIPEOPS_TEST_IMAGE", "busybox:1.37")
WHERE = pytest.mark.parametrize("where", ["real" if REAL else "played"])


def reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the connection to the real cluster."""
    extra = {"kube_config": Path(REAL).read_text(encoding="utf-8"), "namespace": NAMESPACE}
    value = json.dumps({"conn_type": "kubernetes", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", value)
