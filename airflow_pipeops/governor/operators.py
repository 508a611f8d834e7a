"""Decide whether to retrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.documents import number, parsed
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor import (
    ROLLBACK,
    Decision,
    Observation,
    RetrainPolicy,
    decide,
    decided,
    deduplicated,
)
from airflow_pipeops.governor.records import read_history

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context


class RetrainGovernorOperator(DeliveryOperator):
    """Decide whether to retrain, by a policy over this batch and the decisions before it.

    Returns ``{action, rule, reasons, mode, needs_approval, acts, forecast, observation, left_out, record_id}``, where
    ``left_out`` counts the records of the history that cannot be read. Every decision is
    recorded: to retrain, where nobody has to be asked, on the deliverable's ``retrain`` asset, which starts what is
    scheduled on it; all others on its ``decision`` asset. What follows reads the history back from both, with the
    outcomes of earlier retrains from the evaluations that were made of them, so each decision carries its own
    observation. A retrain that a person must agree to is started by
    :class:`~airflow_pipeops.governor.operators.ApprovedRetrainOperator`.

    :param quality: return value of :class:`~airflow_pipeops.validation.operators.ValidateDataOperator`. Left out, the data
        count as good; given, they are good only if it says so: a gate that gave nothing, since it failed or was skipped,
        passed nothing.
    :param drift: return value of :class:`~airflow_pipeops.drift.operators.comparison.DataDriftOperator`; ``None`` if the
        batch was not compared.
    :param performance: the champion's metric on the batch: a number, or ``{"value", "reference"}``, where
        ``performance`` and ``reference_performance`` are understood too, and beside them ``error`` (its standard error),
        ``predecessor`` (the metric of the model before the champion, on the same batch) and ``rows``; or what
        :class:`~airflow_pipeops.models.operators.performance.ModelPerformanceOperator` returned; ``None`` while there are
        no labels.
    :param policy: the numbers.
    :param batch: name of the batch; by default that of ``quality`` or ``drift``, else the run's id.
    :param history: earlier observations as JSON, oldest first, instead of those that were recorded.
    :param estimate: an estimate of the metric without labels: a number, or ``{"value"}``.
    :param late: labels that arrived for earlier batches: batch -> what ``performance`` may be. A batch may be
        named as any copy of its data is.
    :param season: which part of a cycle the batch is of, for a policy that is ``seasonal``.
    :param period: which time the data of the batch are of, such as ``2013-04``: batches are counted in this order, and
        not in that of their arrival. By default the date in the batch's name, if it holds one.
    :param kill_switch: name of an Airflow Variable; while it holds anything but an empty text, ``0``, ``false``, ``no`` or
        ``off``, nothing starts.
    :raises InvalidInput: if a value is of no known form.
    """

    template_fields: Sequence[str] = (
        "quality",
        "drift",
        "performance",
        "batch",
        "history",
        "estimate",
        "late",
        "season",
        "period",
        *DeliveryOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("decision",)

    def __init__(
        self,
        *,
        quality: Any = None,
        drift: Any = None,
        performance: Any = None,
        policy: RetrainPolicy | None = None,
        batch: str | None = None,
        history: Any = None,
        estimate: Any = None,
        late: Any = None,
        season: str = "",
        period: str = "",
        kill_switch: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quality = quality
        self.gated = quality is not None
        self.drift = drift
        self.performance = performance
        self.policy = policy or RetrainPolicy()
        self.batch = batch
        self.history = history
        self.estimate = estimate
        self.late = late
        self.season = season
        self.period = period
        self.kill_switch = kill_switch
        self.left_out: list[str] = []
        if self.deliverable is not None:
            self.outlets = list(dict.fromkeys([*self.outlets, self.deliverable.retrain]))
            read = [asset for asset in self._read() if asset not in self.inlets]
            self.inlets = [*self.inlets, *read]

    @classmethod
    def outlets_of(cls, arguments: Mapping[str, Any]) -> list[Asset]:
        """Name the asset of a retrain, too."""
        return [*super().outlets_of(arguments), *_retrains(arguments)]

    def _read(self) -> list[Asset]:
        """Return the assets from which the history is read: decisions, and what became of the retrains."""
        assert self.deliverable is not None
        kinds = [self.deliverable.asset(kind) for kind in ("evaluation", "validation")]
        return [self.deliverable.decision, self.deliverable.retrain, *kinds]

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide and record."""
        from airflow_pipeops.base.configuration import switched_on

        with no_retry():
            now = datetime.now(timezone.utc)
            current = self.observed(context, now)
            known = self.past(context)
            late = self.arrived(known, now)
            past = [item for item in deduplicated([*known, *late]) if item.batch != current.batch]
            killed = switched_on(self.kill_switch)
            decision = decide([*past, current], self.policy, now, killed=killed)
            if self.left_out:
                told_so = f"{len(self.left_out)} records of the history cannot be read, and were left out."
                decision = replace(decision, reasons=(*decision.reasons, told_so))
            for reason in decision.reasons:
                self.log.info("%s: %s", decision.action, reason)
            observation = decided(current, decision).to_json()
            told = {**decision.to_json(), "acts": decision.acts, "observation": observation}
            told["left_out"] = len(self.left_out)
            body = {**told, "policy": self.recorded_policy(), "late": [item.to_json() for item in late]}
            return {**told, "record_id": self.record(context, decision, body)}

    def record(self, context: Context, decision: Decision, body: dict[str, Any]) -> str | None:
        """Emit the decision on the one asset that it belongs to."""
        if self.deliverable is None:
            return None
        chosen, other = self.deliverable.decision, self.deliverable.retrain
        if decision.acts and decision.action != ROLLBACK:
            chosen, other = other, chosen
        # Airflow emits an event for every outlet of a task that succeeds, touched or not: without this, each decision
        # to hold would start a training.
        self.outlets = [asset for asset in self.outlets if asset != other]
        return self.emit(context, "decision", body, asset=chosen)

    def recorded_policy(self) -> dict[str, Any]:
        """Return the policy as the record tells it: a thousand weights would not fit, those of what moved do."""
        policy = self.policy.to_json()
        policy |= {"cooldown_batches": self.policy.dwell, "futile_memory": self.policy.memory}
        moved = self.drifted()
        return {**policy, "importance": {name: policy["importance"][name] for name in moved}}

    def observed(self, context: Context, now: datetime) -> Observation:
        """Put together what is known about this batch."""
        quality, drift = _mapping(self.quality, "quality"), _mapping(self.drift, "drift")
        share = drift.get("share")
        figures = _performance(self.performance, "performance")
        estimate = _performance(self.estimate, "estimate")
        given = estimate.get("performance", estimate.get("estimated_performance"))
        if given is not None:
            figures["estimated_performance"] = given
        return Observation(
            batch=str(self.batch or quality.get("batch") or drift.get("batch") or context["ti"].run_id),
            at=now.isoformat(timespec="seconds"),
            quality_passed=self.passed(quality),
            drift_share=None if share is None else float(share),
            drifted=self.drifted(),
            season=str(self.season or ""),
            digest=str(quality.get("digest") or ""),
            period=str(self.period or ""),
            **figures,
        )

    def passed(self, quality: Mapping[str, Any]) -> bool:
        """Whether the data are good.

        :return: whether they are; always true where no gate is given.
        :raises InvalidInput: if the gate gave something that does not say so.
        """
        passed = quality.get("passed")
        if quality and not isinstance(passed, bool):
            raise InvalidInput(
                f"quality says passed={passed!r}",
                field="quality",
                value=str(passed),
                remedy="Pass the output of ValidateDataOperator, or a mapping in which passed is true or false.",
            )
        return bool(passed) if self.gated else True

    def drifted(self) -> tuple[str, ...]:
        """Return the columns that moved and that the policy weighs."""
        columns = _mapping(self.drift, "drift").get("columns") or []
        moved = [item["column"] for item in columns if isinstance(item, Mapping) and item.get("drifted")]
        return tuple(name for name in moved if name in self.policy.importance)

    def arrived(self, known: Sequence[Observation], now: datetime) -> list[Observation]:
        """Find the labels that arrived late.

        :return: observations that complete the earlier ones.
        :raises InvalidInput: for a batch that nobody decided about.
        """
        # The same data under another name are the same data.
        by_batch = {name: item for item in known for name in (*item.copies, item.batch)}
        found = []
        for batch, given in _mapping(self.late, "late").items():
            if batch not in by_batch:
                raise InvalidInput(
                    f"labels arrived for {batch!r}, about which nothing was decided",
                    field="late",
                    value=batch,
                    remedy="Name the batch as the decision's observation does.",
                )
            figures = _performance(given, "late")
            first = by_batch[batch]
            at = now.isoformat(timespec="seconds")
            found.append(Observation(first.batch, at, first.quality_passed, **figures))
        return found

    def past(self, context: Context) -> list[Observation]:
        """Return the earlier observations, oldest first, one for each batch."""
        if self.history is not None:
            return deduplicated(_observations(self.history))
        if self.deliverable is None:
            return []
        from airflow_pipeops.delivery.events import read_on

        records, left_out = read_on(context, *self._read())
        found, odd = read_history(records)
        self.left_out = [*left_out, *odd]
        for why in odd:
            self.log.warning("Left out of the history: %s", why)
        return found


def _observations(given: Any) -> list[Observation]:
    """Read a history that was given.

    :raises InvalidInput: if it is no list of observations, or no JSON of one.
    """

    def bad(what: str) -> InvalidInput:
        return InvalidInput(
            f"history {what}",
            field="history",
            remedy="Give a list, or JSON of one, of what the governor's task returned as observation, oldest first.",
        )

    if isinstance(given, str):
        try:
            given = parsed(given)
        except ValueError as error:
            raise bad(f"is no JSON: {error}") from error
    if not isinstance(given, (list, tuple)):
        raise bad(f"is no list, but of type {type(given).__name__}")
    for place, item in enumerate(given, 1):
        if not isinstance(item, (Observation, Mapping)):
            raise bad(
                f"holds as its entry {place} no observation, but something of type {type(item).__name__}"
            )
    return [item if isinstance(item, Observation) else Observation.from_json(item) for item in given]


class ApprovedRetrainOperator(DeliveryOperator):
    """Start the retrain that a person agreed to: put it on the deliverable's ``retrain`` asset.

    It goes behind Airflow's ``ApprovalOperator``, which skips it when the person declines; a proposal that was not started
    counts as declined. Returns the decision with the new ``record_id``.

    :param decision: what :class:`RetrainGovernorOperator` returned; templated.
    :param approved_by: who agreed, if that is known; templated.
    :raises InvalidInput: if there is no decision to retrain.
    """

    template_fields: Sequence[str] = ("decision", "approved_by", *DeliveryOperator.template_fields)

    def __init__(self, *, decision: Any, approved_by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.approved_by = approved_by
        if self.deliverable is None:
            raise InvalidInput(
                "a retrain needs its deliverable",
                field="deliverable",
                remedy="Pass deliverable=Deliverable(...).",
            )
        self.outlets = list(dict.fromkeys([*self.outlets, self.deliverable.retrain]))

    @classmethod
    def outlets_of(cls, arguments: Mapping[str, Any]) -> list[Asset]:
        """Name the asset of a retrain, too."""
        return [*super().outlets_of(arguments), *_retrains(arguments)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Emit the decision anew, as approved."""
        assert self.deliverable is not None
        with no_retry():
            given = _mapping(self.decision, "decision")
            if given.get("action") != "retrain" or given.get("mode") == "observe":
                raise InvalidInput(
                    f"the decision is to {given.get('action', 'do nothing')}, in mode {given.get('mode', 'act')}",
                    field="decision",
                    value=given.get("action"),
                    remedy="Start a retrain only where the governor decided so: see docs/governor.md.",
                )
            body = {name: value for name, value in given.items() if name != "record_id"}
            approved = {**body, "acts": True, "approved": True, "approved_by": self.approved_by}
            parents = [given["record_id"]] if given.get("record_id") else []
            record = self.emit(context, "decision", approved, parents=parents, asset=self.deliverable.retrain)
        return {**approved, "record_id": record}


def _retrains(arguments: Mapping[str, Any]) -> list[Asset]:
    deliverable = arguments.get("deliverable")
    return [] if deliverable is None else [deliverable.retrain]


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{field} is not the output of its task",
            field=field,
            value=type(value).__name__,
            remedy="Pass task.output.",
        )
    return value


#: Field of an observation -> the names under which it may be given.
_FIGURES = {
    "performance": ("value", "performance"),
    "reference_performance": ("reference", "reference_performance"),
    "performance_error": ("error", "performance_error"),
    "predecessor_performance": ("predecessor", "predecessor_performance"),
    "rows": ("rows",),
}


def _performance(given: Any, field: str) -> dict[str, Any]:
    """Return the figures that are known, as fields of an observation."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = {"value": given}
    found = _mapping(given, field)
    figures: dict[str, Any] = {}
    for name, aliases in _FIGURES.items():
        said = next((found[alias] for alias in aliases if found.get(alias) is not None), None)
        if said is None:
            continue
        if (figure := number(said)) is None:
            raise InvalidInput(
                f"{field} holds something that is no finite number",
                field=field,
                value=str(said) if isinstance(said, float) else type(said).__name__,
                remedy='Pass a number, or {"value": number, "reference": number}.',
            )
        figures[name] = int(said) if name == "rows" else figure
    return _read_further(figures, found)


def _read_further(figures: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Read what :class:`ModelPerformanceOperator` tells besides: an interval, and whether the metric is an estimate."""
    low, high = found.get("low"), found.get("high")
    if "performance_error" not in figures and isinstance(low, float) and isinstance(high, float):
        wide = NormalDist().inv_cdf(0.5 + float(found.get("confidence", 0.95)) / 2)
        figures["performance_error"] = round((high - low) / (2 * wide), 9)
    if found.get("estimated") and "performance" in figures:
        figures["estimated_performance"] = figures.pop("performance")
    return figures
