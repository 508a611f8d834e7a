"""``@task.data_drift``: a function names the side that is compared with its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_pipeops.delivery.decorated import GivenByFunction
from airflow_pipeops.drift.operators.comparison import DataDriftOperator


class _DataDriftDecorated(GivenByFunction, DataDriftOperator):
    custom_operator_name = "@task.data_drift"
    operator, returns = DataDriftOperator, "current"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in DataDriftOperator.template_fields if name != "current"),
    )


def data_drift_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Compare what a function returns with its reference.

    :param python_callable: the function; it returns a URI, a list, a mapping, or a source such as ``Frame(dataframe)``.
    :param kwargs: arguments of :class:`~airflow_pipeops.drift.operators.comparison.DataDriftOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_DataDriftDecorated, **kwargs
    )
