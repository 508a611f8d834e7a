"""The policies of a file, which a simulation runs together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.policy import ACT, RetrainPolicy
from airflow_pipeops.models.rollback.guard import GuardPolicy
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.simulation.incidents import WATCHED
from airflow_pipeops.operations.simulation.loop import DAY, START, Policies
from airflow_pipeops.operations.simulation.plant import Plant
from airflow_pipeops.operations.tuning.knob import APPLY, Knob, StrictForm

_Section = TypeVar("_Section", GuardPolicy, AnomalyPolicy)


@dataclass(frozen=True)
class SimulationPolicy(StrictForm):
    """What is simulated: policies as they lie in Git, and what they have to live with.

    :param governor: when to retrain.
    :param guard: when a release goes back; it acts.
    :param knob: a threshold of an alarm that is tuned; its value begins where 5 % of the checks alarm.
    :param remediation: what answers an anomaly of what a batch costs.
    :param anomalies: what is an anomaly.
    :param plant: delays, failures and costs.
    """

    called: ClassVar[str] = "policy"

    governor: RetrainPolicy = field(default_factory=RetrainPolicy)
    guard: GuardPolicy | None = None
    knob: Knob | None = None
    remediation: RemediationPolicy | None = None
    anomalies: AnomalyPolicy = WATCHED
    plant: Plant = field(default_factory=Plant)

    @classmethod
    def read(cls, data: Any) -> SimulationPolicy:
        """Read what a file holds: these sections, or the retrain policy alone.

        :param data: an object of names and values.
        :return: the policy.
        :raises InvalidInput: for anything that is unknown, or makes no sense.
        """
        sections = [item.name for item in fields(cls)]
        remedy = f"Give the sections {', '.join(sections)}, or the fields of a retrain policy."
        found = mapping("policy", data, remedy, message="a policy is an object of names and values")
        if not set(found) & set(sections):
            return cls(RetrainPolicy.from_json(found))
        unknown = sorted(map(str, set(found) - set(sections)))
        if unknown:
            said = f"a policy that is simulated has no {', '.join(unknown)}"
            raise InvalidInput(said, field=unknown[0], remedy=remedy)
        return cls(
            RetrainPolicy.from_json(found.get("governor") or {}),
            _strict(GuardPolicy, "guard", found["guard"]) if found.get("guard") is not None else None,
            Knob.from_json(found["knob"]) if found.get("knob") is not None else None,
            RemediationPolicy.of(found["remediation"]) if found.get("remediation") is not None else None,
            _strict(AnomalyPolicy, "anomalies", found["anomalies"]) if found.get("anomalies") else WATCHED,
            Plant.from_json(found.get("plant") or {}),
        )

    def policies(self) -> Policies:
        """Return what is decided by: observing changes nothing, so what only observes acts here."""
        governor = self.governor
        if governor.target is None:
            governor = replace(governor, target=self.plant.level)
        if governor.mode == "observe":
            governor = replace(governor, mode=ACT)
        knob = None if self.knob is None else replace(self.knob, mode=APPLY, since=START.isoformat())
        guard = None if self.guard is None else replace(self.guard, mode="act")
        return Policies(governor, guard, knob, self.remediation, self.anomalies)


def _strict(kind: type[_Section], name: str, data: Any) -> _Section:
    given: Mapping[str, Any] = mapping(name, data, f"Give the fields of the policy {name!r}.")
    unknown = sorted(set(given) - {item.name for item in fields(kind)})
    if unknown:
        raise InvalidInput(
            f"the policy {name!r} has no {', '.join(map(str, unknown))}", field=str(unknown[0])
        )
    try:
        return kind.from_json(given)
    except TypeError as error:
        raise InvalidInput(f"a value of the policy {name!r} has a wrong type: {error}", field=name) from error


def advised(plant: Plant) -> SimulationPolicy:
    """Return the policy that the documentation advises for a plant: see docs/stability.md.

    :param plant: the delays.
    :return: the policy.
    """
    governor = RetrainPolicy(
        target=plant.level,
        label_delay_batches=plant.label_delay,
        release_batches=plant.deploy,
        budget=12,
        budget_window=timedelta(days=365),
    )
    knob = Knob(
        "threshold",
        1.6449,
        0.5,
        4.0,
        target=0.05,
        slope=-0.103,
        max_step=0.3,
        delay=plant.label_delay * DAY,
        mode=APPLY,
    )
    return SimulationPolicy(governor, GuardPolicy(mode="act"), knob, plant=plant)
