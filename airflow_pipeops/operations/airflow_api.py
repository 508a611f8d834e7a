"""As much of Airflow's REST API as is needed: bounded in time, number and size, and each act found if it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.connections import aread, read, read_extra, seconds, server_url
from airflow_pipeops.base.documents import Json, map_, maps, parsed, text, whole
from airflow_pipeops.base.http import MANY, Http, base_url, bearer, trusting
from airflow_pipeops.base.parallel import in_parallel
from airflow_pipeops.base.retries import aretried
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    import httpx

#: So many objects are asked for at a time; a server may give fewer.
_PAGE = 100
#: So many of one list are read at most.
_MOST = 10_000
#: So many calls at once: the API server has other callers.
_WORKERS = 4
_ATTEMPTS = 4


class AirflowApi:
    """Talks to one API server; for use in ``async with``.

    :param url: of the server, without a slash at its end.
    :param username: with a password; without one, that is a token.
    :param password: of the user, or a token.
    :param verify: what the server's certificate is checked with.
    :param timeout: seconds for one call, the whole of the answer included.
    """

    def __init__(
        self, url: str, username: str, password: str, *, verify: Any = True, timeout: float = 20.0
    ) -> None:
        self.url, self._username, self._password = url, username, password
        self._verify = verify
        self._http = Http(url, self._opened, _error_of, timeout=timeout, attempts=_ATTEMPTS, pause=0.5)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> AirflowApi:
        import httpx

        headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
        self._client = httpx.AsyncClient(headers=headers, verify=authorities(self._verify))
        try:
            await self._log_in()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise RuntimeError("use AirflowApi as 'async with'")
        return self._client

    async def _log_in(self) -> None:
        token = self._password
        if self._username:
            known = {"username": self._username, "password": self._password}
            answer = await self._again("POST", "/auth/token", "a token", known)
            token = text(answer.get("access_token"))
        if not token:
            raise AccessDenied(f"{self.url} gave no token", remedy="Check the login of the connection.")
        (await self._opened()).headers.update(bearer(token))

    async def dags(self, dag_ids: Sequence[str], tags: Sequence[str], owners: Sequence[str]) -> list[Json]:
        """Return the DAGs of these ids, or else those that have one of these tags, and one of these owners."""
        if dag_ids:
            return await in_parallel(
                lambda dag_id: self._get(_dag(dag_id), f"DAG {dag_id}"), dag_ids, _WORKERS
            )
        given = {"tags": list(tags), "owners": list(owners)}
        params = {name: value for name, value in given.items() if value}
        return await self._all(
            "/dags", "dags", {**params, "tags_match_mode": "any", "order_by": "dag_id"}, "the list of DAGs"
        )

    async def run(self, dag: str, run: str) -> Json:
        """Look up a run of a DAG.

        :return: the run.
        :raises NotFound: if there is none.
        """
        return await self._get(_run(dag, run), f"run {run}")

    async def runs(self, dag: str, most: int) -> list[Json]:
        """Return so many of the last runs of a DAG."""
        return await self._all(
            f"{_dag(dag)}/dagRuns", "dag_runs", {"order_by": "-run_after"}, f"runs of {dag}", most
        )

    async def runs_of(self, dags: Sequence[str], most: int) -> list[list[Json]]:
        """Return the last runs of each DAG."""
        return await in_parallel(lambda dag: self.runs(dag, most), dags, _WORKERS)

    async def assets(self) -> list[Json]:
        """Return all assets, with the tasks that make them and the DAGs that wait for them."""
        return await self._all("/assets", "assets", {}, "the list of assets")

    async def retry_task(self, dag: str, run: str, task: str, map_index: int, note: str) -> bool:
        """Clear a task that has failed, once for each note.

        :return: whether it was cleared now, or with this note before; not if it has not failed.
        """
        path = f"{_run(dag, run)}/taskInstances/{_part(task)}" + (f"/{map_index}" if map_index >= 0 else "")
        if text((await self._get(path, f"task {task}")).get("note")) == note:
            return True
        which: Any = [task, map_index] if map_index >= 0 else task
        return await self._clear(dag, {"dag_run_id": run, "task_ids": [which], "note": note})

    async def clear_failed(self, dag: str, run: str, note: str) -> bool:
        """Clear the failed tasks of a run, and those that could not run because of them, once for each note.

        :return: whether any was cleared now, or with this note before.
        """
        tasks = await self._all(
            f"{_run(dag, run)}/taskInstances", "task_instances", {"order_by": "id"}, f"run {run}"
        )
        if any(text(one.get("note")) == note for one in tasks):
            return True
        return await self._clear(dag, {"dag_run_id": run, "note": note})

    async def paused(self, dag: str) -> bool:
        """Whether a DAG is paused."""
        return (await self._get(_dag(dag), f"DAG {dag}")).get("is_paused") is True

    async def pause(self, dag: str, paused: bool) -> None:
        """Pause a DAG, or resume it."""
        path = f"/api/v2{_dag(dag)}?update_mask=is_paused"
        await self._again("PATCH", path, f"DAG {dag}", {"is_paused": paused})

    async def start(self, dag: str, run: str, conf: Mapping[str, Any], note: str) -> bool:
        """Start a run of a DAG under a name of its own, or find it.

        :return: whether it was started now.
        """
        sent = {"dag_run_id": run, "logical_date": None, "conf": dict(conf), "note": note}
        try:
            await self._post(f"{_dag(dag)}/dagRuns", f"DAG {dag}", sent)
        except Conflict:
            await self._get(_run(dag, run), f"run {run}")
            return False
        return True

    async def _clear(self, dag: str, which: Mapping[str, Any]) -> bool:
        sent = {"dry_run": False, "only_failed": True, "reset_dag_runs": True, **which}
        answer = await self._post(f"{_dag(dag)}/clearTaskInstances", f"tasks of {dag}", sent)
        return bool(maps(answer.get("task_instances")))

    async def _all(
        self, path: str, field: str, params: Mapping[str, Any], about: str, most: int | None = None
    ) -> list[Json]:
        """Read a list page by page, all of it or its beginning.

        :raises SystemFailure: for all of one that is too long: what is not seen would count as not there.
        """
        found: list[Json] = []
        while len(found) < (most or _MOST):
            asked = {**params, "limit": min(_PAGE, (most or _MOST) - len(found)), "offset": len(found)}
            answer = await self._get(path, about, params=asked, most=MANY)
            page = maps(answer.get(field))
            found += page
            # A server's own limit may be lower than what was asked for: a short page is not the last one.
            if not page or len(found) == whole(answer.get("total_entries")):
                return found
        if most is None:
            raise SystemFailure(
                f"Airflow at {self.url} has more than {_MOST:,} in {about}",
                remedy="Ask for less: by dag_ids, tags or owners.",
            )
        return found[:most]

    async def _get(self, path: str, about: str, **request: Any) -> Json:
        return await self._http.object("GET", f"/api/v2{path}", about=about, **request)

    async def _post(self, path: str, about: str, sent: Json) -> Json:
        return await self._http.object("POST", f"/api/v2{path}", about=about, json=sent)

    async def _again(self, method: str, path: str, about: str, sent: Json) -> Json:
        """Write what may be written twice."""
        return await aretried(
            lambda: self._http.object(method, path, about=about, json=sent, attempts=1), _ATTEMPTS
        )


def connected(conn_id: str) -> AirflowApi:
    """Read a connection of type ``http`` to Airflow's API server, whose password alone is a token.

    :param conn_id: of the connection.
    :return: a client that is not open yet.
    :raises InvalidInput: for a connection that names no server, or has no password.
    """
    connection = read(conn_id, "http")
    return _client(conn_id, connection, connection.extra_dejson)


async def aconnected(conn_id: str) -> AirflowApi:
    """Read it where an event loop runs (a triggerer)."""
    connection = await aread(conn_id, "http")
    return _client(conn_id, connection, await read_extra(connection))


def _client(conn_id: str, connection: Any, extra: Mapping[str, Any]) -> AirflowApi:
    url = base_url(server_url(connection), field=f"{conn_id}.host", of="Airflow's API server")
    if not connection.password:
        raise InvalidInput(
            f"connection {conn_id!r} has no password",
            field=f"{conn_id}.password",
            remedy="Give that of a user who may do what is asked for, or a token.",
        )
    timeout = seconds(conn_id, "timeout", extra.get("timeout"), 20)
    return AirflowApi(
        url, connection.login or "", connection.password, verify=trusting(extra), timeout=timeout
    )


def _dag(dag: str) -> str:
    return f"/dags/{_part(dag)}"


def _run(dag: str, run: str) -> str:
    return f"{_dag(dag)}/dagRuns/{_part(run)}"


def _part(name: Any) -> str:
    """Return a name as one part of a path: a name from a finding must not lead to another object."""
    if not isinstance(name, str) or name in ("", ".", "..", "~"):
        raise InvalidInput(f"{name!r} names nothing in Airflow", field="target", value=str(name))
    return quote(name, safe="")


def _error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    try:
        detail = map_(parsed(content)).get("detail")
    except ValueError:
        detail = None
    said = f": {excerpt(str(detail), 200)}" if detail else ""
    if status in (401, 403):
        return AccessDenied(
            f"Airflow at {url} refused {about} ({status}){said}",
            remedy="Is the login of the connection right, and may its user do that?",
        )
    if status == 404:
        return NotFound(f"Airflow at {url} has no {about}{said}")
    kind: type[PipeOpsError] = SystemFailure
    if status == 409:
        kind = Conflict
    elif status == 429 or status >= 500:
        kind = Unreachable
    elif status < 400:
        kind = BadResponse
    return kind(f"Airflow at {url} answered {status} about {about}{said}")
