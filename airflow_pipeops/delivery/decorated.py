"""Base of the ``@task.<name>`` decorators: a Python function gives one argument of an operator when the task runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, determine_kwargs
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
from airflow.sdk.definitions.context import context_merge

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


class GivenByFunction(DecoratedOperator):
    """Calls the function, sets the argument to what it returns, and runs the operator.

    A subclass derives from this and from its operator, in this order, and lists the template fields of both.
    """

    #: The operator that does the work.
    operator: ClassVar[type[BaseOperator]]
    #: Its argument that the function returns.
    returns: ClassVar[str]

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # The operator's result is a dict of outputs, whatever the function's annotation says.
        kwargs["multiple_outputs"] = True
        kwargs[self.returns] = SET_DURING_EXECUTION
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Context) -> Any:
        """Call the function, then do what the operator does."""
        self.give(context)
        return self.operator.execute(self, context)

    def give(self, context: Context) -> None:
        """Call the function, and set the argument; once more after a deferral, over which a task keeps nothing."""
        context_merge(context, self.op_kwargs)
        given = determine_kwargs(self.python_callable, self.op_args, context)
        setattr(self, self.returns, self.python_callable(*self.op_args, **given))
