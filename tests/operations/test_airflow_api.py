"""The client of Airflow's API, with a server that gives fewer objects at a time than it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_pipeops.base.connections import work_with
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError, SystemFailure, Unreachable
from airflow_pipeops.operations import airflow_api
from airflow_pipeops.operations.airflow_api import AirflowApi
from tests.base.test_http import send, serving

TOKEN = "Zk9+wQ/7xR2-pL4_vN8"


class Airflow:
    """What the server has, and does.

    :ivar lists: name of a list -> its objects.
    :ivar page: objects of an answer at most.
    :ivar cleared: what it was told to clear.
    :ivar refusals: status codes of the next answers, each with the token in its text.
    """

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {}
        self.page = 100
        self.cleared: list[Any] = []
        self.refusals: list[int] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a call."""
        url = urlsplit(handler.path)
        given = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.refusals:
            said = {"detail": f"not for {handler.headers['Authorization']}"}
            send(handler, self.refusals.pop(0), json.dumps(said).encode())
            return
        if url.path.endswith("/clearTaskInstances"):
            self.cleared.append(url.path)
            send(handler, 200, b'{"task_instances": [{}]}')
            return
        field = {"dagRuns": "dag_runs", "taskInstances": "task_instances"}.get(
            name := url.path.rpartition("/")[2], name
        )
        every, start = self.lists[field], int(given["offset"])
        found = every[start : start + min(self.page, int(given["limit"]))]
        send(handler, 200, json.dumps({field: found, "total_entries": len(every)}).encode())


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def api(airflow: Airflow) -> Iterator[Callable[..., Any]]:
    """Make one call."""
    with serving(airflow.answer) as url:
        yield lambda name, *given: work_with(
            AirflowApi(url, "", TOKEN), lambda api: getattr(api, name)(*given)
        )


def test_a_note_is_found_beyond_the_first_page(airflow: Airflow, api: Callable[..., Any]) -> None:
    airflow.lists["task_instances"] = [{"note": ""}] * 150 + [{"note": "remediation one"}]
    assert api("clear_failed", "d", "r", "remediation one")
    assert airflow.cleared == [], "it was cleared before"
    assert api("clear_failed", "d", "r", "remediation two")
    assert airflow.cleared == ["/api/v2/dags/d/clearTaskInstances"]


def test_a_list_is_read_whole_from_a_server_of_small_pages(airflow: Airflow, api: Callable[..., Any]) -> None:
    airflow.page = 30
    airflow.lists = {"assets": [{"id": number} for number in range(75)], "dag_runs": [{}] * 95}
    assert api("assets") == airflow.lists["assets"]
    assert len(api("runs", "d", 90)) == 90
    assert len(api("runs", "d", 300)) == 95


def test_a_list_that_is_too_long_is_not_cut_silently(
    airflow: Airflow, api: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_api, "_MOST", 100)
    airflow.lists = {"assets": [{}] * 100, "dags": [{}] * 101}
    assert len(api("assets")) == 100
    with pytest.raises(SystemFailure, match="more than 100 in the list of DAGs"):
        api("dags", [], ["nightly"], [])


@pytest.mark.parametrize("name", ["", ".", "..", "~"])
def test_a_name_leads_to_no_other_object(name: str, api: Callable[..., Any]) -> None:
    for call in (
        lambda: api("dags", [name], [], []),
        lambda: api("runs", name, 9),
        lambda: api("clear_failed", "d", name, "x"),
    ):
        with pytest.raises(InvalidInput, match="names nothing in Airflow"):
            call()


@pytest.mark.parametrize(
    ("status", "error"), [(422, SystemFailure), (400, SystemFailure), (503, Unreachable)]
)
def test_an_act_that_is_refused_says_why_without_the_token(
    status: int, error: type[PipeOpsError], airflow: Airflow, api: Callable[..., Any]
) -> None:
    airflow.refusals = [status]
    with pytest.raises(error, match=f"answered {status} about DAG d") as caught:
        api("start", "d", "r", {}, "x")
    assert caught.value.retryable == (status == 503)
    assert TOKEN not in str(caught.value)
