"""The page's routes under the access control of Airflow's FAB provider, with two people of different roles.

The provider asks for an older python-dateutil than the locked one: ``.ci/fab`` makes an environment of its own for it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.conftest import ROOT, Server, running
from tests.ui.managers import OTHERS
from tests.ui.seeds import Story, whole
from tests.ui.test_routes import ASKED, PLAIN, SHARED

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]

#: Two roles of their own: one may read assets and one DAG, the other nothing.
PEOPLE = """
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

with get_application_builder() as builder:
    manager = builder.sm
    for role, resources in {"Release": ("Assets", "DAG:code_to_release"), "Nothing": ()}.items():
        made = manager.add_role(role)
        for resource in resources:
            manager.add_permission_to_role(made, manager.create_permission("can_read", resource))
    for name, role in {"viewer": "Viewer", "narrow": "Release", "guest": "Nothing"}.items():
        assert manager.add_user(name, name, name, f"{name}@example.com", manager.find_role(role), password="pass")
"""


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = subprocess.run([ROOT / ".ci" / "fab", Path(sys.executable).parent], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(made.stderr[-500:])
    manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    home, python = tmp_path_factory.mktemp("fab"), made.stdout.strip()
    with running(home, manager=manager, people=PEOPLE, python=python) as server:
        theirs, ours = Story(OTHERS), Story()
        theirs.ship(SHARED, "theirs", 90)
        ours.ship(SHARED, "ours", 80)
        ours.ship("released", "released", 80)
        server.holds([*whole(), *theirs.records, *ours.records])
        yield server


def test_each_route_is_closed(fab: Server) -> None:
    for path, asked in ASKED.items():
        assert fab.get(asked, user=None).status_code == 401, path
        assert fab.get(asked, "guest").status_code == (200 if path in PLAIN else 403), path
        assert fab.get(asked, "viewer").status_code in (200, 404), path


def test_who_may_read_one_dag_sees_what_it_alone_has_told(fab: Server) -> None:
    seen = {row["deliverable"] for row in fab.get("/api/matrix?limit=1000", "viewer").json()["items"]}
    narrow = fab.get("/api/matrix?limit=1000", "narrow").json()
    assert {SHARED, "released", "flight-delay"} <= seen
    found = {row["deliverable"] for row in narrow["items"]}
    assert "released" in found
    assert (
        not {SHARED, "flight-delay"} & found
    )  # DAGs that are there, and not this person's, have told of them
    assert narrow["partly"] == [SHARED]
    assert fab.get(f"/api/records?dag={OTHERS}", "narrow").status_code == 403
    assert fab.get("/api/records?dag=code_to_release", "narrow").status_code == 200
