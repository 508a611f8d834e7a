"""Wait until an act on an application has taken effect: in the worker, or in the triggerer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops import exceptions
from airflow_pipeops.argocd.acts import Act, ActMemory, judge
from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.operators.base import ArgoCDOperator, raise_error_of
from airflow_pipeops.argocd.waits import Clock, look
from airflow_pipeops.base.arguments import positive
from airflow_pipeops.exceptions import PipeOpsError, WaitTimeout
from airflow_pipeops.waits.operators import MARGIN
from airflow_pipeops.waits.status import Observed, Trouble, summary
from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient

#: Seconds after which a refresh is asked for again; the server sets no end to that call.
_REFRESH_PATIENCE = 10.0
_ERRORS: Mapping[str, type[PipeOpsError]] = {
    "missing": exceptions.NotFound,
    "denied": exceptions.AccessDenied,
    "unreachable": exceptions.Unreachable,
    "skip_reconcile": exceptions.InvalidInput,
}


async def reach(
    client: ArgoCDClient,
    ref: AppRef,
    act: Mapping[str, Any],
    memory: Mapping[str, Any] | None,
    poll_interval: float,
    *,
    looks: int | None = None,
) -> dict[str, Any]:
    """Look until an act has taken effect, or will not.

    :param act: JSON of an :class:`~airflow_pipeops.argocd.acts.Act`.
    :param memory: JSON of what an earlier part of the same wait remembered.
    :param looks: at most so many looks.
    :return: ``{effect, memory, summary}``; all JSON.
    """
    goal, clock = Act.from_json(act), Clock()
    remembered, seen = ActMemory.from_json(memory or {}), {}
    while True:
        observed = await _look(client, ref, goal)
        effect, remembered = judge(observed, goal, remembered, clock())
        if isinstance(observed, Observed):
            seen = summary(observed)
        looks = None if looks is None else looks - 1
        if effect.state != "wait" or looks == 0:
            return {"effect": effect.to_json(), "memory": remembered.to_json(), "summary": seen}
        await asyncio.sleep(poll_interval * random.uniform(0.8, 1.2))


async def _look(client: ArgoCDClient, ref: AppRef, act: Act) -> Observed | Trouble:
    if act.kind == "refreshed":
        patience = min(_REFRESH_PATIENCE, max(0.5, act.timeout))
        try:
            application = await client.refresh(ref, hard=act.hard, timeout=patience)
        except PipeOpsError:
            application = None  # the look below says what it is
        if application is not None:
            return observe(application, refreshed=True)
    observed = await look(client, ref)
    assert observed is not None
    return observed


class ArgoCDActTrigger(OutcomeTrigger):
    """Waits until an act on an application has taken effect.

    :param argocd_conn_id: the Argo CD connection.
    :param app: name of the application; ``project`` and ``app_namespace`` where they are needed.
    :param act: JSON of an :class:`~airflow_pipeops.argocd.acts.Act`.
    :param memory: JSON of an :class:`~airflow_pipeops.argocd.acts.ActMemory`.
    :param poll_interval: seconds between two looks.
    :param dwell: seconds before which it does not fire.
    """

    arguments = ("argocd_conn_id", "app", "project", "app_namespace", "act", "memory", "poll_interval")

    def __init__(
        self,
        *,
        argocd_conn_id: str,
        app: str,
        act: Mapping[str, Any],
        memory: Mapping[str, Any] | None = None,
        project: str = "",
        app_namespace: str = "",
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.argocd_conn_id, self.app, self.act, self.memory = (
            argocd_conn_id,
            app,
            dict(act),
            dict(memory or {}),
        )
        self.project, self.app_namespace, self.poll_interval = project, app_namespace, float(poll_interval)

    async def outcome(self) -> dict[str, Any]:
        """Look until it has, or will not."""
        from airflow_pipeops.argocd.hook import ArgoCDHook

        hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
        async with await hook.aclient() as client:
            return await reach(client, hook.ref(self.app), self.act, self.memory, self.poll_interval)


class ArgoCDActOperator(ArgoCDOperator):
    """Base of the operators that act on an application and wait until that has taken effect.

    :param timeout: for the whole wait.
    """

    def __init__(self, *, timeout: timedelta = timedelta(minutes=10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.timeout = positive("timeout", timeout)

    def reach(self, act: Act, method: str) -> dict[str, Any]:
        """Wait; deferred unless the first look decides.

        :param method: name of the method that goes on after a deferral, with the trigger's event.
        """
        hook, interval = self.hook(), self.poll_interval.total_seconds()
        looks = 1 if self.deferrable else None
        event = hook.run(
            lambda client: reach(client, hook.ref(self.app), act.to_json(), None, interval, looks=looks)
        )
        if event["effect"]["state"] == "wait":
            self.defer(
                trigger=ArgoCDActTrigger(
                    argocd_conn_id=self.argocd_conn_id,
                    app=self.app,
                    project=self.project or "",
                    app_namespace=self.app_namespace or "",
                    act=act.to_json(),
                    memory=event["memory"],
                    poll_interval=interval,
                ),
                method_name=method,
                timeout=self.timeout + MARGIN,
            )
        return event

    def reached(self, event: Mapping[str, Any] | None) -> dict[str, Any]:
        """Read a trigger's event.

        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        raise_error_of(event)
        assert event is not None
        self.hook()
        return dict(event)

    def demand_effect(self, event: Mapping[str, Any]) -> None:
        """Raise what a failed act stands for."""
        effect = event["effect"]
        self.log.info("%s: %s (%s)", effect["state"], effect["reason"], effect["rule"])
        if effect["state"] != "failed":
            return
        message = f"Argo CD app {self.app}: {effect['reason']} (rule {effect['rule']})"
        raise _ERRORS.get(effect["rule"], WaitTimeout)(message)
