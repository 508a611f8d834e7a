"""Every route: who may ask it, and what of the ledger that person sees."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.ledgers import sha
from tests.ui.conftest import Server
from tests.ui.managers import NARROW, NARROWER, OTHERS, THEIRS
from tests.ui.seeds import Story, whole

#: What each route is asked with; a route that is not here fails the test, so that none is forgotten.
ASKED = {
    "/page": "/page",
    "/static/{edition}/{path:path}": "/static/any/main.js",
    "/api/state": "/api/state",
    "/api/now": "/api/now",
    "/api/deliverables": "/api/deliverables",
    "/api/matrix": "/api/matrix",
    "/api/passport/{ref:path}": "/api/passport/delay-api@production",
    "/api/history": "/api/history",
    "/api/before": "/api/before?moment=2030-01-01",
    "/api/why/{ref:path}": "/api/why/delay-api@production",
    "/api/data": "/api/data?deliverable=flight-delay",
    "/api/figures": "/api/figures?deliverable=delay-api",
    "/api/records": "/api/records?dag=code_to_release",
    "/evidence/{dag_id}/{digest}/{name}": f"/evidence/drift/{'0' * 64}/report.html",
    "/api/evidence/{dag_id}/{digest}": f"/api/evidence/drift/{'0' * 64}",
}
#: What holds nothing of the ledger: whoever is logged in may load it.
PLAIN = {"/page", "/static/{edition}/{path:path}"}
#: What a person is not told, who may not read the DAG that said it.
SECRET = "payroll"
#: What that DAG and another one have both recorded something about.
SHARED = "timetable"


@pytest.fixture(scope="module", autouse=True)
def told(server: Server) -> None:
    theirs = Story(OTHERS)
    theirs.ship(SECRET, SECRET, 100)
    theirs.tell(
        "drift", 90, {"subject": "data", "verdict": "steady", "drifted": False, "share": 0.0}, of=SECRET
    )
    theirs.ship(SHARED, "theirs", 90)
    ours = Story()
    ours.ship(SHARED, "ours", 80)
    server.holds([*whole(), *theirs.records, *ours.records])


def routes() -> list[Any]:
    from airflow_pipeops.ui.app import app

    return [route for route in app.routes if hasattr(route, "dependant")]


def test_each_is_closed(server: Server) -> None:
    assert {route.path for route in routes()} == set(ASKED)
    for path, asked in ASKED.items():
        assert server.get(asked, user=None).status_code == 401, path
        join = "&" if "?" in asked else "?"
        assert server.get(f"{asked}{join}user=admin&token=x", user=None).status_code == 401, path
        assert server.get(asked, "guest").status_code == (200 if path in PLAIN else 403), path
        assert server.get(asked, "viewer").status_code in (200, 404), path


def test_each_demands_access_by_itself() -> None:
    from airflow.api_fastapi.core_api.security import get_user

    def needed(dependant: Any) -> list[Any]:
        return [dependant.call, *(call for inner in dependant.dependencies for call in needed(inner))]

    def asks(dependant: Any) -> set[str]:
        mine = {parameter.alias for parameter in dependant.query_params}
        return mine.union(*(asks(inner) for inner in dependant.dependencies))

    for route in routes():
        assert get_user in needed(route.dependant), route.path
        # Airflow's access control reads a DAG of the query, too: whose DAG is asked for stands in the path alone.
        assert not asks(route.dependant) & {"user", "dag_id", "asset_id", "session"}, route.path
        assert route.methods == {"GET"}, route.path


@pytest.mark.parametrize("asked", ASKED.values())
def test_each_says_what_a_browser_may_do_with_it(server: Server, asked: str) -> None:
    answer = server.get(asked)
    if answer.status_code == 200:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "asked",
    [
        "/api/matrix",
        "/api/now",
        "/api/deliverables",
        "/api/history?limit=1000",
        f"/api/history?deliverable={SECRET}",
        "/api/before?moment=2035-01-01&limit=1000",
        f"/api/before?moment=2035-01-01&deliverable={SECRET}",
        f"/api/why/{SECRET}@production@2035-01-01",
        f"/api/data?deliverable={SECRET}",
        f"/api/figures?deliverable={SECRET}",
        f"/api/passport/{SECRET}@production",
        f"/api/passport/{sha(SECRET)}",
        f"/api/records?dag={OTHERS}",
    ],
)
def test_who_may_not_read_a_dag_sees_nothing_of_it(server: Server, asked: str) -> None:
    hidden = server.get(asked, NARROW)
    assert SECRET not in hidden.text.replace(f"of {SECRET} is live", "")
    assert sha(SECRET)[:12] not in hidden.text.replace(f"name {sha(SECRET)}", "")
    seen = server.get(asked, "viewer")
    assert seen.status_code == 200
    if asked != "/api/now":  # all is well with it
        assert seen.text != hidden.text


def test_what_is_hidden_in_part_is_named_and_what_a_readable_dag_has_recorded_is_shown_as_its_own(
    server: Server,
) -> None:
    hidden, seen = (server.get("/api/matrix?limit=1000", user).json() for user in (NARROW, "viewer"))
    assert (hidden["partly"], seen["partly"]) == ([SHARED], [])
    assert SHARED not in {row["deliverable"] for row in hidden["items"]}
    assert SHARED in {row["deliverable"] for row in seen["items"]}
    assert server.get(f"/api/passport/{SHARED}@production", NARROW).status_code == 404
    assert server.get(f"/api/history?deliverable={SHARED}", NARROW).json()["items"] == []
    of_ours = server.get("/api/records?dag=code_to_release&limit=1000", NARROW).json()["items"]
    assert {fact["dag"] for fact in of_ours} == {"code_to_release"}
    assert SHARED in {fact["deliverable"] for fact in of_ours}


def test_who_may_not_read_one_asset_sees_nothing_of_its_deliverable(server: Server) -> None:
    of = THEIRS.removeprefix("pipeops://").partition("/")[0]
    story = Story()
    _, live = story.ship(of, of, 70)
    server.gets(story.records)
    asked = {
        "/api/matrix?limit=1000": 200,
        "/api/history?limit=1000": 200,
        f"/api/history?deliverable={of}": 200,
        "/api/deliverables": 200,
        "/api/records?dag=code_to_release&limit=1000": 200,  # a DAG that this person may read
        f"/api/passport/{of}@production": 404,
        f"/api/passport/{live.id}": 404,
    }
    for path, status in asked.items():
        hidden, seen = server.get(path, NARROWER), server.get(path, "viewer")
        assert (hidden.status_code, seen.status_code) == (status, 200), path
        assert live.id not in hidden.text.replace(f"name {live.id}", ""), path
        assert f'"{of}"' not in hidden.text, path
        assert f'"{of}"' in seen.text, path
    assert "delay-api" in server.get("/api/matrix", NARROWER).text
    assert server.get("/api/now", NARROWER).json()["hidden"] is True


def test_a_dag_that_is_gone_hides_nothing(server: Server) -> None:
    found = server.get("/api/records?dag=platform", NARROW).json()
    assert {fact["deliverable"] for fact in found["items"]} > {"basket", "loyalty"}
    assert server.get("/api/passport/basket@production", NARROW).json()["cell"]["health"] == "Healthy"


def test_what_has_not_changed_is_not_sent_again(server: Server) -> None:
    first = server.get("/api/matrix")
    again = server.get("/api/matrix", **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    # Another person, who sees less, has another answer.
    assert server.get("/api/matrix", NARROW, **{"If-None-Match": first.headers["etag"]}).status_code == 200
    story = Story()
    story.tell("commit", 0, {"subject": "newer"}, of="delay-api", commit=sha("newest"))
    server.gets(story.records)
    assert server.get("/api/matrix", **{"If-None-Match": first.headers["etag"]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/api/matrix?", "deliverable"),
        ("/api/deliverables?", ""),
        ("/api/history?", "seq"),
        ("/api/records?dag=code_to_release&", "seq"),
        ("/api/before?moment=2035-01-01&", "seq"),
    ],
)
def test_pages_follow_each_other(server: Server, path: str, key: str) -> None:
    def named(items: list[Any]) -> list[Any]:
        return [item[key] if key else item for item in items]

    whole_ = named(server.get(f"{path}limit=1000").json()["items"])
    size = max(2, len(whole_) // 4)
    found: list[Any] = []
    after = ""
    while True:
        page = server.get(f"{path}limit={size}&after={after}").json()
        assert len(page["items"]) <= size
        found += named(page["items"])
        after = page["after"]
        if not after:
            break
    assert found == whole_
    assert len(found) == len(set(found))


def test_a_question_that_makes_no_sense_is_told_so(server: Server) -> None:
    assert server.get("/api/matrix?limit=100000").status_code == 422
    assert server.get("/api/before?moment=soon").status_code == 422
    assert server.get("/api/history?after=x").status_code == 422
    assert server.get("/api/records?dag=platform&after=x").status_code == 422
    assert server.get("/api/passport/nothing@nowhere").status_code == 404
    assert "is no reference" in server.get("/api/passport/%F0%9F%A6%86").json()["detail"]
    assert server.get("/static/any/..%2F..%2Fapp.py").status_code == 404


def test_an_index_that_cannot_be_read_is_not_an_empty_one(server: Server) -> None:
    def rename(old: str, new: str) -> None:
        connection = sqlite3.connect(server.index, timeout=30)
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
        connection.close()

    rename("records", "elsewhere")
    try:
        for asked in ("/api/state", "/api/matrix", "/api/passport/delay-api@production"):
            answer = server.get(asked)
            assert answer.status_code == 503
            assert "cannot be read" in answer.json()["detail"]
            assert server.get(asked, user=None).status_code == 401
    finally:
        rename("elsewhere", "records")
    assert server.get("/api/matrix").status_code == 200


def test_a_record_is_found_by_whatever_names_it(server: Server) -> None:
    by_place = server.get("/api/passport/delay-api@production").json()
    start = by_place["walk"]["steps"][0]["id"]
    assert server.get(f"/api/passport/{start}").json()["walk"]["steps"] == by_place["walk"]["steps"]
    assert by_place["previous"]
    assert server.get("/api/passport/flight-delay/2").json()["walk"]["steps"][0]["fact"]["kind"] == "model"
