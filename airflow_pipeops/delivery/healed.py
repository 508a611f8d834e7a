"""A difference that is over: without a record of that, it would stand among what needs somebody until the next release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.operators import DeliveryOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class DifferencesOperator(DeliveryOperator):
    """What compares live state with the desired state: it records what is not clean, and once that it is clean again."""

    emits = ("differences",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.deliverable is not None:  # by its own records it knows what it has told
            read = [asset for asset in self.record_assets("differences") if asset not in self.inlets]
            self.inlets = [*self.inlets, *read]

    def worth_telling(self, context: Context, app: str, verdict: str) -> bool:
        """Whether a verdict is recorded.

        :param app: that was compared.
        :param verdict: ``clean``, or what else.
        :return: whether it is not clean, or the newest record about the application in this environment says something else.
        """
        if verdict != "clean" or self.deliverable is None:
            return verdict != "clean"
        from airflow_pipeops.delivery.events import records_on

        records = records_on(context, *self.record_assets("differences"))
        here = (self.environment or "", app)  # a name may be there in several environments
        told = [one for one in records if (one.environment or "", text(one.body.get("app"))) == here]
        return bool(told) and text(told[-1].body.get("verdict")) != "clean"
