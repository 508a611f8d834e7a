"""What is to be done about a release, from its history alone."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.deploy.helm.releases import (
    FAILED,
    GOOD,
    Ours,
    Revision,
    commit_of,
    history_of,
    label_of,
    packed,
    plan_recovery,
    plan_return,
    way_back,
)
from airflow_pipeops.exceptions import BadResponse

OURS = Ours("order", "task", 300.0, "ship it/now")
NOW = 10_000.0


def rev(
    number: int, status: str, by: Ours | None = None, said: str = "", at: float = 9_000.0, of: int = 0
) -> Revision:
    """A revision; ``of`` is that whose labels Helm handed on."""
    labels = by.labels(of or number) if by else {}
    return Revision(number, status, said, at, labels)


def marked(one: Revision, number: int = 0) -> Revision:
    """The revision, judged as failed; or with the mark of another that Helm handed on."""
    return replace(one, labels={**(one.labels or {}), FAILED: str(number or one.number)})


CLEARED = Ours("another order", "task", 300.0)
OTHERS = Ours("theirs", "of another task", 300.0, "nightly")
PLANS: dict[str, tuple[list[Revision], str, int]] = {
    "nothing": ([], "act", 0),
    "a release of others": ([rev(1, "deployed")], "act", 0),
    "ours is there": ([rev(1, "superseded"), rev(2, "deployed", OURS)], "attach", 2),
    "ours failed": ([rev(1, "deployed"), rev(2, "failed", OURS)], "act", 0),
    "cleared since": ([rev(1, "deployed", CLEARED)], "act", 0),
    "a person upgraded on": ([rev(1, "superseded", OURS), rev(2, "deployed", OURS, of=1)], "undone", 1),
    "rolled back since": (
        [rev(1, "superseded"), rev(2, "superseded", OURS), rev(3, "deployed", said="Rollback to 1")], "undone", 2,
    ),
    "rolled back to ours": (
        [rev(1, "superseded", OURS), rev(2, "superseded"), rev(3, "deployed", OURS, "Rollback to 1", of=1)],
        "attach", 3,
    ),
    "killed at the first": ([rev(1, "pending-install", OURS)], "uninstall", 1),
    "killed later": ([rev(1, "superseded"), rev(2, "deployed"), rev(3, "pending-upgrade", OURS)], "roll_back", 2),
    "killed, by an earlier order": ([rev(1, "deployed"), rev(2, "pending-upgrade", CLEARED)], "roll_back", 1),
    "killed, and not one is live": (
        [rev(1, "superseded"), rev(2, "failed"), rev(3, "pending-upgrade", OURS)], "roll_back", 1,
    ),
    "still at work": ([rev(1, "deployed"), rev(2, "pending-upgrade", OURS, at=9_900.0)], "wait", 2),
    "no moment": ([rev(1, "deployed"), rev(2, "pending-upgrade", OURS, at=0.0)], "refuse", 2),
    "of others": ([rev(1, "deployed"), rev(2, "pending-upgrade", OTHERS)], "refuse", 2),
    "of a person, with our labels handed on": (
        [rev(1, "deployed", OURS), rev(2, "pending-upgrade", OURS, "Preparing upgrade", of=1)], "refuse", 2,
    ),
    "got out of the way": (
        [rev(1, "superseded"), rev(2, "pending-upgrade", OURS), rev(3, "deployed", said="Rollback to 1")], "act", 0,
    ),
    "killed while getting it out of the way": (
        [rev(1, "deployed"), rev(2, "pending-upgrade", OURS), rev(3, "pending-rollback", said="Rollback to 1")],
        "roll_back", 1,
    ),
    "killed while undoing ours": (
        [rev(1, "superseded"), rev(2, "deployed", OURS), rev(3, "pending-rollback", said="Rollback to 1")],
        "roll_back", 1,
    ),
    "somebody rolls back theirs": (
        [rev(1, "superseded"), rev(2, "deployed"), rev(3, "pending-rollback", said="Rollback to 1")], "refuse", 3,
    ),
    "killed while it went": ([rev(1, "uninstalling", OURS)], "uninstall", 1),
    "killed over what others left": ([rev(1, "failed"), rev(2, "pending-upgrade", OURS)], "refuse", 2),
    "killed over what an earlier order left": (
        [rev(1, "failed", CLEARED), rev(2, "pending-upgrade", OURS)], "uninstall", 2,
    ),
    "killed over what is uninstalled": ([rev(1, "uninstalled"), rev(2, "pending-install", OURS)], "uninstall", 2),
    "killed, and the newest good one was undone": (
        [rev(1, "superseded"), rev(2, "superseded"), rev(3, "superseded", said="Rollback to 1"), rev(4, "failed"),
         rev(5, "pending-upgrade", OURS)], "roll_back", 3,
    ),
    "killed, and the newest good one was judged as failed": (
        [rev(1, "superseded"), marked(rev(2, "superseded")), rev(3, "failed"), rev(4, "pending-upgrade", OURS)],
        "roll_back", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("history", "action", "revision"), PLANS.values(), ids=PLANS)
def test_the_plan(history: list[Revision], action: str, revision: int) -> None:
    found = plan_recovery(history, OURS, NOW)
    assert (found.action, found.revision) == (action, revision), found.reason
    assert found.reason


def test_who_holds_it_is_said() -> None:
    found = plan_recovery([rev(2, "pending-upgrade", OTHERS)], OURS, NOW)
    assert found.reason == "revision 2 is pending-upgrade, held by DAG nightly"
    found = plan_recovery([rev(2, "pending-upgrade", said="Preparing upgrade")], OURS, NOW)
    assert "held by Preparing upgrade" in found.reason


def test_how_long_to_wait_is_said() -> None:
    found = plan_recovery([rev(1, "pending-install", OURS, at=NOW - 100)], OURS, NOW)
    assert found.seconds == pytest.approx(200)


STATUSES = [
    "deployed",
    "superseded",
    "failed",
    "pending-install",
    "pending-upgrade",
    "pending-rollback",
    "unknown",
]


@given(
    st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from([None, OURS, OTHERS, CLEARED])), max_size=6)
)
def test_no_history_has_it_touch_what_others_hold(parts: list[tuple[str, Ours | None]]) -> None:
    history = [rev(number, status, by) for number, (status, by) in enumerate(parts, 1)]
    found = plan_recovery(history, OURS, NOW)
    if history and history[-1].pending and parts[-1][1] not in (OURS, CLEARED):
        undoes = (
            history[-1].status == "pending-rollback" and len(parts) > 1 and parts[-2][1] in (OURS, CLEARED)
        )
        assert undoes or found.action == "refuse"
    if found.action == "roll_back":
        assert history[found.revision - 1].status in GOOD
    if found.action in ("act", "attach"):
        assert not (history and history[-1].pending)


def test_the_way_back_is_the_newest_good_one_before() -> None:
    history = [rev(1, "superseded"), rev(2, "failed"), rev(3, "superseded"), rev(4, "deployed")]
    assert (way_back(history, 4), way_back(history, 3), way_back(history, 1)) == (3, 1, 0)


@pytest.mark.parametrize(
    ("history", "failed", "target"),
    [
        ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "superseded"), rev(4, "deployed", said="Rollback to 2")], 4, 1),
        ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "superseded", said="Rollback to 1"), rev(4, "deployed")], 4, 3),
        ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "deployed", said="Rollback to 1")], 3, 0),
        ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "deployed"), rev(4, "deployed", said="Rollback to 1")], 3, 2),
        ([rev(1, "superseded"), marked(rev(2, "superseded")), rev(3, "deployed")], 3, 1),
        ([rev(1, "superseded"), marked(rev(2, "superseded"), 1), rev(3, "deployed")], 3, 2),
        ([rev(1, "superseded"), rev(2, "superseded", said="Rollback to 7"), rev(3, "deployed")], 3, 2),
        ([rev(1, "superseded"), rev(2, "superseded", said="Rollback to 99999999999999999999"), rev(3, "failed")], 3, 2),
    ],
)  # fmt: skip
def test_the_way_back_leaves_out_what_went_bad(history: list[Revision], failed: int, target: int) -> None:
    assert way_back(history, failed) == target


def test_what_is_left_by_others_is_for_a_person() -> None:
    found = plan_recovery([rev(1, "failed"), rev(2, "pending-upgrade", OURS)], OURS, NOW)
    assert "revision 1 (failed) is not of this task" in found.reason
    assert "helm uninstall" in found.remedy


def test_the_commit_is_that_of_the_revision_itself_or_of_what_it_returns_to() -> None:
    ours = replace(OURS, commit="abc123")
    history = [rev(1, "superseded", ours), rev(2, "superseded", ours, of=1), rev(3, "superseded", OURS)]
    history += [rev(4, "deployed", ours, "Rollback to 1", of=1), rev(5, "deployed", said="Rollback to 4")]
    assert [commit_of(history, number) for number in range(1, 7)] == [
        "abc123",
        "",
        "",
        "abc123",
        "abc123",
        "",
    ]
    assert commit_of([rev(1, "deployed", replace(OURS, commit="release/7, late"))], 1) == ""


def secret(release: Any, **labels: str) -> dict[str, Any]:
    content = release if isinstance(release, str) else packed(json.dumps(release).encode())
    named = {"owner": "helm", "name": "web", "status": "deployed", "version": "7", **labels}
    return {"metadata": {"name": "sh.helm.release.v1.web.v7", "labels": named}, "data": {"release": content}}


def test_a_release_is_read_as_helm_wrote_it() -> None:
    release = {
        "version": 7,
        "info": {
            "status": "failed",
            "description": "no",
            "last_deployed": "2026-01-01T00:00:01.123456789+01:00",
        },
        "chart": {"metadata": {"name": "web", "version": "1.2.3"}},
        "manifest": "---\n",
    }
    (found,) = history_of([secret(release, team="shop")])
    assert (found.number, found.status, found.chart, found.version) == (7, "failed", "web", "1.2.3")
    assert found.labels == {"team": "shop"}
    assert found.at == pytest.approx(1767222001.1235, abs=0.001)


@pytest.mark.parametrize(
    "content",
    ["", "no base64 *", packed(b"no json"), packed(b"[1]")[:-8], "aGFsbG8="],
    ids=("empty", "no base64", "no JSON", "cut off", "no gzip"),  # gzip notes the time
)
def test_what_is_no_release_is_said(content: str) -> None:
    with pytest.raises(BadResponse, match=r"sh\.helm\.release\.v1\.web\.v7 holds no release"):
        history_of([secret(content, version="")])


def test_labels_are_labels() -> None:
    for value in itertools.chain(
        OURS.labels(12).values(), [label_of("dag/run 2026-01-01T00:00:00+00:00/task/-1")]
    ):
        assert len(value) <= 63
        assert value.replace("_", "").replace(".", "").replace("-", "").isalnum()


BACK = "Rollback to 1"
RETURNS: dict[str, tuple[list[Revision], str, int]] = {
    "the failed one stands": ([rev(1, "superseded"), rev(2, "deployed")], "roll_back", 1),
    "it failed for Helm, too": ([rev(1, "deployed"), rev(2, "failed")], "roll_back", 1),
    "done": ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "deployed", said=BACK)], "attach", 3),
    "a try failed": ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "failed", said=BACK)], "roll_back", 1),
    "being done": (
        [rev(1, "superseded"), rev(2, "deployed"), rev(3, "pending-rollback", said=BACK, at=NOW - 1)], "wait", 3,
    ),
    "its Helm is dead": (
        [rev(1, "superseded"), rev(2, "deployed"), rev(3, "pending-rollback", said=BACK, at=1)], "roll_back", 1,
    ),
    "a newer one": ([rev(1, "superseded"), rev(2, "superseded"), rev(3, "deployed", said="Upgrade")], "refuse", 3),
    "a newer one is coming": ([rev(1, "superseded"), rev(2, "deployed"), rev(3, "pending-upgrade")], "refuse", 3),
    "a newer one over the rollback": (
        [rev(1, "superseded"), rev(2, "superseded"), rev(3, "superseded", said=BACK), rev(4, "deployed")], "refuse", 4,
    ),
    "nothing before": ([rev(2, "deployed")], "refuse", 0),
    "nothing good before": ([rev(1, "failed"), rev(2, "deployed")], "refuse", 0),
    "no such revision": ([rev(1, "deployed")], "refuse", 0),
    "no release": ([], "refuse", 0),
    "somebody is at it": ([rev(1, "superseded"), rev(2, "pending-upgrade")], "refuse", 2),
}  # fmt: skip


@pytest.mark.parametrize(("history", "action", "revision"), RETURNS.values(), ids=RETURNS)
def test_the_way_back_from_the_second_revision(history: list[Revision], action: str, revision: int) -> None:
    found = plan_return(history, 2, 300.0, NOW)
    assert (found.action, found.revision) == (action, revision), found
    assert found.reason
