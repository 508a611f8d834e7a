"""Tasks whose work is done where they are told to: on the worker, by a Job of Kubernetes or a workflow of Argo Workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowException

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry, order_key
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.operators.workflow import ArgoWorkflowOperator
    from airflow_pipeops.build.backends import Worker
    from airflow_pipeops.build.elsewhere import KubernetesWork, Work

#: Where it is done.
RunIn = Literal["worker", "kubernetes", "argo"]


class ElsewhereOperator(DeliveryOperator):
    """What operators share that take ``run_in``: the way there and back, the same for whoever tries again.

    A retry finds the Job or the workflow by the task and the order to run it, and does nothing twice.
    """

    template_fields: Sequence[str] = ("run_options", *DeliveryOperator.template_fields)

    run_in: RunIn
    run_options: Mapping[str, Any] | None
    timeout: timedelta
    _where: Any = None

    def resume(self, context: Context, event: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Go on when the Job has ended.

        :param context: of the running task.
        :param event: of the trigger.
        :param key: under which it was begun.
        :return: what the task returns.
        """
        with no_retry():
            return self.finished(context, self._job().resume(self._lent(context, key), event))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when the workflow has ended.

        :param context: of the running task.
        :param event: of the trigger.
        :return: what the task returns.
        """
        with no_retry():
            found = self._workflow(self.arguments()).execute_complete(context, event)
            return self._of_workflow(context, found)

    def on_kill(self) -> None:
        """End what runs elsewhere: nobody waits for it any more."""
        if self._where is not None:
            end = self._where.on_kill if self.run_in == "argo" else self._where.kill
            end()

    # ---- what each operator says ---------------------------------------------------------------------------------------

    def work(self) -> Work:
        """Return what is done."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the work, as JSON."""
        raise NotImplementedError

    def finished(self, context: Context, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Record what came of it.

        :param context: of the running task.
        :param answer: of the module that did it.
        :return: what the task returns.
        """
        raise NotImplementedError

    # ---- the way there and back ----------------------------------------------------------------------------------------

    def away(self, context: Context) -> dict[str, Any]:
        """Do it where ``run_in`` says, or find it done; this may defer.

        :param context: of the running task.
        :return: what the task returns.
        """
        from airflow_pipeops.build.backends import Waiting

        if self.run_in == "argo":
            return self._of_workflow(context, self._workflow(self.arguments()).execute(context))
        key = order_key(context)
        found = self._job().start(self.arguments(), self._lent(context, key), self.timeout)
        if isinstance(found, Waiting):
            self.defer(
                trigger=found.trigger, timeout=found.timeout, method_name="resume", kwargs={"key": key}
            )
        return self.finished(context, found)

    def _job(self) -> KubernetesWork:
        from airflow_pipeops.build.elsewhere import KubernetesWork

        self._where = self._made_with(KubernetesWork, {"work": self.work(), **(self.run_options or {})})
        return self._where  # type: ignore[no-any-return]

    def _workflow(self, arguments: Mapping[str, Any]) -> ArgoWorkflowOperator:
        from airflow_pipeops.build.elsewhere import Surroundings, workflow
        from airflow_pipeops.build.operators.workflow import ArgoWork

        options = dict(self.run_options or {})
        own = {name: options.pop(name) for name in ("image", "secrets", "env") if name in options}
        manifest = workflow(self.work(), arguments, Surroundings(**own), self.timeout)
        given = {"task_id": self.task_id, "workflow": manifest, "timeout": self.timeout, **options}
        self._where = self._made_with(ArgoWork, given)
        return self._where  # type: ignore[no-any-return]

    def _made_with(self, kind: Any, options: Mapping[str, Any]) -> Any:
        try:
            return kind(**options)
        except (TypeError, AirflowException) as error:
            raise InvalidInput(
                f"run_options are not those of {kind.__name__}: {error}",
                field="run_options",
                value=sorted(self.run_options or {}),
                remedy=f"See the arguments of {type(self).__name__}.",
            ) from error

    def _lent(self, context: Context, key: str) -> Worker:
        """Return what a Job takes of the task: neither a source nor a child of this worker."""
        from airflow_pipeops.build.backends import Worker

        def none(*_: Any) -> Any:
            raise NotImplementedError

        return Worker(context, key, none, none, lambda line: self.log.info("%s", line))

    def _of_workflow(self, context: Context, found: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_pipeops.build.cluster.backends import last_word
        from airflow_pipeops.build.elsewhere import OUTPUT, answered

        told = map_(last_word(text(map_(found.get("outputs")).get(OUTPUT))))
        return self.finished(context, answered(self.work(), told, f"Argo workflow {found.get('name')}"))
