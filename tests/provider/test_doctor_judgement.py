"""What the doctor makes of what was found: each fault has its own words and its own remedy."""

from __future__ import annotations

import pytest

from airflow_pipeops.provider.doctor import judgement


@pytest.mark.parametrize(
    ("base_url", "server", "ours", "bare", "standing", "said"),
    [
        ("http://a", 200, 401, None, "good", "asks for a login"),
        ("http://a/af", 200, 403, 404, "good", "asks for a login"),
        ("http://a", None, None, None, "unknown", "Nobody answers"),
        ("http://a", 200, 200, None, "bad", "without a login"),
        ("http://a", 200, 404, None, "bad", "has no /pipeops"),
        ("http://a/af", 200, 404, 404, "bad", "a proxy that strips /af"),
        ("http://a/af/", 200, 404, 401, "bad", "mounted at /pipeops, and not below /af"),
        ("http://a", 200, 502, None, "unknown", "answered 502"),
        ("http://a", 200, None, None, "unknown", "answered None"),
    ],
)
def test_routes(
    base_url: str, server: int | None, ours: int | None, bare: int | None, standing: str, said: str
) -> None:
    check = judgement.routes(base_url, server, ours, bare)
    assert check.standing == standing
    assert said in check.found
    assert bool(check.remedy) == (standing != "good")


@pytest.mark.parametrize(
    ("alive", "waiting", "standings"),
    [
        (None, None, ["unknown"]),
        (0, 5, ["bad"]),
        (1, 5, ["good", "good"]),
        (1, 801, ["good", "bad"]),
        (2, 801, ["good", "good"]),
    ],
)
def test_triggerers(alive: int | None, waiting: int | None, standings: list[str]) -> None:
    checks = list(judgement.triggerers(alive, 1000, waiting))
    assert [check.standing for check in checks] == standings
    assert all(bool(check.remedy) == (check.standing != "good") for check in checks)


def test_versions() -> None:
    assert judgement.versions({}, {"a": "1"}).standing == "good"
    check = judgement.versions({"pandas": (">=2.2,<3.1", "3.2"), "duckdb": (">=1.4", "")}, {})
    assert check.standing == "bad"
    assert (
        check.found == "pandas is 3.2, and >=2.2,<3.1 is needed; duckdb is not installed, and >=1.4 is needed"
    )


def test_the_plugin() -> None:
    assert judgement.plugin(True, {"other": "ImportError"}).standing == "good"
    assert judgement.plugin(False, {}).standing == "bad"
    check = judgement.plugin(True, {"airflow_pipeops.provider.plugin": "ImportError: x"})
    assert (check.standing, check.found) == ("bad", "airflow_pipeops.provider.plugin: ImportError: x")


@pytest.mark.parametrize(
    ("entries", "behind", "standing"),
    [(None, None, "bad"), (3, None, "unknown"), (3, True, "bad"), (3, False, "good")],
)
def test_the_ledger(entries: int | None, behind: bool | None, standing: str) -> None:
    check = judgement.ledger("file:///l", entries, behind, "")
    assert (check.standing, bool(check.remedy)) == (standing, standing != "good")


def test_evidence() -> None:
    assert "one machine only" in judgement.evidence("file:///e", False, "").found
    assert judgement.evidence("s3://e", True, "").standing == "good"
    assert judgement.evidence("s3://e", True, "AccessDenied").standing == "bad"


def test_connections() -> None:
    good = judgement.connection("git", "git_repository", True, "at abc")
    bad = judgement.connection("argo", "argocd", False, "the token lacks get")
    assert (good.standing, good.remedy, bad.standing) == ("good", "", "bad")
    assert "'argo'" in bad.remedy
    lacks = judgement.missing("x", "registry_conn_id", "")
    assert (lacks.standing, lacks.found) == (
        "bad",
        "[pipeops] registry_conn_id names it, and it is not there.",
    )
    unread = judgement.missing("x", "", "TimeoutError: vault")
    assert (unread.standing, bool(unread.remedy)) == ("unknown", True)
