"""Waits for Argo CD applications as they travel in a trigger's arguments, and one look at an application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.application import observe_all
from airflow_pipeops.argocd.rules import RULEBOOK
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from airflow_pipeops.waits.wait import Clock, Decided, Oracle, Wait

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient

__all__ = ["ArgoCDController", "Clock", "Decided", "Oracle", "Wait", "look", "wait_from_json", "wait_to_json"]


def wait_to_json(wait: Wait) -> dict[str, Any]:
    """Return a wait as it travels in a trigger's arguments."""
    return {
        "app": wait.ref.name,
        "project": wait.ref.project,
        "app_namespace": wait.ref.namespace,
        "expectation": wait.state.expectation.to_json(),
        "memory": wait.state.memory.to_json(),
    }


def wait_from_json(
    given: Mapping[str, Any],
    project: str,
    oracle: Oracle | None,
    on_change: Callable[[str, Verdict], None] | None = None,
) -> Wait:
    """Read what :func:`wait_to_json` wrote.

    :param project: the connection's project, for a wait that names none.
    :param on_change: told of an application each verdict whose rule differs from the one before.
    :return: the wait, which goes on where it was.
    """
    from airflow_pipeops.argocd.clients.rest import AppRef

    app = str(given["app"])
    return Wait(
        AppRef(app, str(given.get("project") or project), str(given.get("app_namespace") or "")),
        Expectation.from_json(given["expectation"]),
        Memory.from_json(given.get("memory") or {}),
        rulebook=RULEBOOK,
        oracle=oracle,
        on_change=partial(on_change, app) if on_change else None,
    )


class ArgoCDController:
    """Argo CD, as whoever waits for its applications sees it.

    :param client: reaches it.
    :param url: of an application in its UI, for a message.
    :param hard: a refresh also drops the cache of rendered manifests.
    :param patience: seconds for which a refresh may take to be acknowledged; the server sets no end to that call.
    """

    rulebook = RULEBOOK

    def __init__(
        self, client: ArgoCDClient, url: str = "", *, hard: bool = False, patience: float = 10.0
    ) -> None:
        self._client, self._url = client, url
        self._hard, self._patience = hard, patience

    async def look(self, ref: AppRef) -> Observed | Trouble:
        """Read an application."""
        seen = await look(self._client, ref)
        assert seen is not None
        return seen

    async def refresh(self, wait: Wait) -> Observed | Trouble | None:
        """Have it compared anew; ``None`` where that is not acknowledged in time."""
        return await look(self._client, wait.ref, refresh=True, hard=self._hard, patience=self._patience)

    async def explain(self, ref: AppRef, decided: Decided) -> str:
        """Return why a wait has failed."""
        from airflow_pipeops.argocd.reports import explain

        return await explain(self._client, ref, decided, self._url)


async def look(
    client: ArgoCDClient, ref: AppRef, *, refresh: bool = False, hard: bool = False, patience: float = 10.0
) -> Observed | Trouble | None:
    """Look at an application once.

    :param refresh: have the controller compare first; ``None`` where it did not acknowledge that in time.
    :param hard: have it drop its cache of rendered manifests, too.
    :param patience: seconds for which that may take.
    :return: what is seen, or why nothing is.
    """
    try:
        if not refresh:
            return await observe_all(client, ref, await client.get(ref))
        application = await client.refresh(ref, hard=hard, timeout=patience)
        return None if application is None else await observe_all(client, ref, application, refreshed=True)
    except PipeOpsError as error:
        problem = problem_of(error)
        if isinstance(problem, Trouble):
            return problem
        raise
