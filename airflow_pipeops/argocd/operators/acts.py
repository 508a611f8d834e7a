"""Wait until an act on an application has taken effect: in the worker, or in the triggerer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.acts import Act
from airflow_pipeops.argocd.operators.base import ArgoCDOperator, raise_error_of
from airflow_pipeops.argocd.waits import ArgoCDController, Decided, Wait
from airflow_pipeops.base.arguments import positive
from airflow_pipeops.waits.controller import until_decided
from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger
from airflow_pipeops.waits.verdict import Memory

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient

#: Seconds after which a refresh is asked for again; the server sets no end to that call.
_REFRESH_PATIENCE = 10.0


def _controller(client: ArgoCDClient, act: Act) -> ArgoCDController:
    return ArgoCDController(client, hard=act.hard, patience=min(_REFRESH_PATIENCE, max(0.5, act.timeout)))


def _wait(ref: AppRef, act: Act, memory: Memory | None = None) -> Wait:
    return Wait(ref, act.expectation(), memory or act.memory(), rulebook=act.rulebook)


class ArgoCDActTrigger(OutcomeTrigger):
    """Waits until an act on an application has taken effect.

    The event is the JSON of a :class:`~airflow_pipeops.waits.wait.Decided`.

    :param argocd_conn_id: the Argo CD connection.
    :param app: name of the application; ``project`` and ``app_namespace`` where they are needed.
    :param act: JSON of an :class:`~airflow_pipeops.argocd.acts.Act`.
    :param memory: JSON of a :class:`~airflow_pipeops.waits.verdict.Memory`.
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
        self.argocd_conn_id, self.app = argocd_conn_id, app
        self.act, self.memory = dict(act), dict(memory or {})
        self.project, self.app_namespace, self.poll_interval = project, app_namespace, float(poll_interval)

    async def outcome(self) -> dict[str, Any]:
        """Look until it has, or will not."""
        from airflow_pipeops.argocd.hook import ArgoCDHook

        act = Act.from_json(self.act)
        memory = Memory.from_json(self.memory) if self.memory else None
        hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
        async with await hook.aclient() as client:
            wait = _wait(hook.ref(self.app), act, memory)
            await until_decided(_controller(client, act), [wait], self.poll_interval)
        return wait.state.to_json()


class ArgoCDActOperator(ArgoCDOperator):
    """Base of the operators that act on an application and wait until that has taken effect.

    :param timeout: for the whole wait.
    """

    def __init__(self, *, timeout: timedelta = timedelta(minutes=10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.timeout = positive("timeout", timeout)

    def reach(self, act: Act, method: str) -> Decided:
        """Wait; deferred unless the first look decides.

        :param method: name of the method that goes on after a deferral, with the trigger's event.
        :return: where the wait stands when it is over.
        """
        hook = self.hook()

        def trigger(waits: Sequence[Wait]) -> ArgoCDActTrigger:
            return ArgoCDActTrigger(
                argocd_conn_id=self.argocd_conn_id,
                app=self.app,
                project=self.project or "",
                app_namespace=self.app_namespace or "",
                act=act.to_json(),
                memory=waits[0].state.memory.to_json(),
                poll_interval=self.poll_interval.total_seconds(),
            )

        (wait,) = self.until(
            lambda: [_wait(hook.ref(self.app), act)],
            hook.run,
            lambda client: _controller(client, act),
            trigger,
            method,
            timeout=self.timeout,
        )
        return wait.state

    def reached(self, event: Mapping[str, Any] | None) -> Decided:
        """Read a trigger's event.

        :return: where the wait stands.
        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        raise_error_of(event)
        assert event is not None
        self.hook()
        return Decided.from_json(event)

    def demand_effect(self, decided: Decided) -> None:
        """Raise what a failed act stands for."""
        verdict = decided.verdict
        self.log.info("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)
        if verdict.state == "failed":
            raise decided.error(f"Argo CD app {self.app}: {verdict.reason} (rule {verdict.rule})")
