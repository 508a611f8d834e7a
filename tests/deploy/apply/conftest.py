"""The same cluster as for readiness, with the kinds that manifests name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.apply.cluster import KINDS
from tests.git.conftest import remote as remote
from tests.kubernetes.apiserver import ApiServer, serving


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        yield server
