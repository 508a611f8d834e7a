"""``@task.argocd_application``: a function returns the manifest of the Application that is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_pipeops.argocd.operators.application import ArgoCDApplicationOperator
from airflow_pipeops.delivery.decorated import GivenByFunction


class _ApplicationDecorated(GivenByFunction, ArgoCDApplicationOperator):
    custom_operator_name = "@task.argocd_application"
    operator, returns = ArgoCDApplicationOperator, "manifest"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ArgoCDApplicationOperator.template_fields if name != "manifest"),
    )

    def execute_complete(self, context: Any, event: Mapping[str, Any] | None = None) -> Any:
        """Go on after the deferral."""
        self.give(context)
        return ArgoCDApplicationOperator.execute_complete(self, context, event)


def application_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Declare the Application whose manifest a function returns.

    :param python_callable: the function; it returns a mapping or YAML.
    :param kwargs: arguments of :class:`~airflow_pipeops.argocd.operators.application.ArgoCDApplicationOperator`.
    :return: the decorator, or the decorated function.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_ApplicationDecorated, **kwargs
    )
