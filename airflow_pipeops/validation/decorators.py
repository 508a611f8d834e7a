"""``@task.validate_data``: a function names the batch that a suite judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_pipeops.delivery.decorated import GivenByFunction
from airflow_pipeops.validation.operators import ValidateDataOperator


class _ValidateDataDecorated(GivenByFunction, ValidateDataOperator):
    custom_operator_name = "@task.validate_data"
    operator, returns = ValidateDataOperator, "data"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ValidateDataOperator.template_fields if name != "data"),
    )


def validate_data_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Judge the files whose URIs a function returns.

    :param python_callable: the function; it returns a URI or several.
    :param kwargs: arguments of :class:`~airflow_pipeops.validation.operators.ValidateDataOperator`.
    :return: the decorator, or the decorated function.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_ValidateDataDecorated, **kwargs
    )
