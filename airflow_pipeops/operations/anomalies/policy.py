"""What people agree on: how many false alarms a week are bearable, and how long a change stays news. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput


@dataclass(frozen=True)
class AnomalyPolicy(JsonForm):
    """The numbers.

    :param budget: false alarms in a week that an owner bears, over all series together.
    :param least: errors of expectations that a series needs before its values are judged.
    :param least_change: a change of level by less than this share is not told, however certain it is.
    :param adopt_after: after so many values at a new level, that is how it is.
    :param after_change: so many first runs of changed code are not judged; the series learns its level from them.
    :raises InvalidInput: for numbers that cannot be meant.
    """

    budget: float = 2.0
    least: int = 8
    least_change: float = 0.2
    adopt_after: int = 8
    after_change: int = 5

    def __post_init__(self) -> None:
        demand_types(self)
        if not 0 < self.budget <= 1000:
            raise InvalidInput(
                f"budget is {self.budget!r}",
                field="budget",
                value=self.budget,
                remedy="Give the false alarms a week that an owner bears, above 0; 2 is usual.",
            )
        if not 0 <= self.least_change <= 10:
            raise InvalidInput(
                f"least_change is {self.least_change!r}",
                field="least_change",
                value=self.least_change,
                remedy="Give a share from 0 on; 0.2 is usual, a fifth more or less.",
            )
        for field, least in (("least", 4), ("adopt_after", 3), ("after_change", 1)):
            value = getattr(self, field)
            at_least(field, value, least, f"{field} is {value!r}", f"Give a whole number from {least} on.")

    def shared(self, judges: int) -> AnomalyPolicy:
        """Return the policy of one of several that judge apart, within one budget.

        :param judges: how many they are.
        :return: the policy with its share of the budget.
        """
        return replace(self, budget=self.budget / judges)
