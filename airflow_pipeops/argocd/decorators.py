"""The TaskFlow form of declaring an Application: a function returns the manifest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION

from airflow_pipeops.argocd.operators.application import ArgoCDApplicationOperator


class _ApplicationDecorated(DecoratedOperator, ArgoCDApplicationOperator):
    """Calls the function, and declares the Application that it returns."""

    custom_operator_name = "@task.argocd_application"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *ArgoCDApplicationOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ArgoCDApplicationOperator.template_fields_renderers,
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            manifest=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        """Call the function, and declare what it returned."""
        self._call(context)
        return ArgoCDApplicationOperator.execute(self, context)

    def execute_complete(self, context: Any, event: Mapping[str, Any] | None = None) -> Any:
        """Go on after a deferral; the function is called again, since a task keeps nothing over one."""
        self._call(context)
        return ArgoCDApplicationOperator.execute_complete(self, context, event)

    def _call(self, context: Any) -> None:
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        self.manifest = self.python_callable(*self.op_args, **arguments)


def application_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Declare the Application whose manifest a function returns.

    :param python_callable: the function; it returns a mapping or YAML.
    :param kwargs: arguments of :class:`~airflow_pipeops.argocd.operators.ArgoCDApplicationOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_ApplicationDecorated, **kwargs
    )
