"""When to retrain: a pure decision over what was observed, batch by batch.

The rules stand in this order; the first that applies names the action, and every one that applies is told:

1. ``quality``: bad data never retrains; somebody must look.
2. ``evidence``: too few batches were measured since the last retrain.
3. ``consequence``: the metric was too far below its reference in k of the last n batches, and is so now.
   ``movement``: columns that moved, without a consequence, never retrain.
4. ``cooldown``: the last decision to retrain is too recent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.exceptions import InvalidInput

HOLD, RETRAIN, INVESTIGATE = "hold", "retrain", "investigate"
ACTIONS = (HOLD, RETRAIN, INVESTIGATE)


@dataclass(frozen=True)
class Observation:
    """What was seen of one batch.

    :param batch: its name; a later observation of the same name replaces the earlier one.
    :param at: when it was judged, ISO-8601 with a zone.
    :param quality_passed: whether the data-quality gate accepted it.
    :param drift_share: share of columns that moved, 0 to 1; ``None`` if it was not compared.
    :param performance: the champion's metric on it; ``None`` while there are no labels.
    :param reference_performance: what the metric should be.
    :param action: what was decided about it; empty while undecided.
    """

    batch: str
    at: str
    quality_passed: bool
    drift_share: float | None = None
    performance: float | None = None
    reference_performance: float | None = None
    action: str = ""

    def __post_init__(self) -> None:
        if self.action not in ("", *ACTIONS):
            raise InvalidInput(f"action {self.action!r} is unknown", field="action", value=self.action)
        _ = self.when

    @property
    def when(self) -> datetime:
        """``at`` as a time; UTC if it names no zone."""
        try:
            when = datetime.fromisoformat(self.at.replace("Z", "+00:00"))
        except (ValueError, AttributeError) as error:
            raise InvalidInput(f"at {self.at!r} is not a time", field="at", value=self.at) from error
        return when if when.tzinfo else when.replace(tzinfo=timezone.utc)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Read the JSON form; fields of later versions are left out.

        :raises InvalidInput: if it is incomplete.
        """
        try:
            return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
        except TypeError as error:
            raise InvalidInput(f"an observation is incomplete: {error}", field="history") from error


@dataclass(frozen=True)
class RetrainPolicy:
    """How much loss, for how long, is worth a retrain.

    :param target: service level of the metric; given, it replaces each observation's own reference. A model's score on
        a few held-out days is an easy or a hard week: prefer a level that people agreed on.
    :param max_drop: largest loss against the reference that is accepted, in units of the metric.
    :param k: so many of the last ``n`` measured batches must be below.
    :param n: see ``k``.
    :param min_batches: so many measured batches are needed at all, after the last retrain.
    :param cooldown_batches: so many batches after a retrain cannot retrain.
    :param cooldown: so long after a retrain nothing can retrain.
    :param drift_share: from this share on, columns are said to have moved. It is told, and never retrains.
    :param higher_is_better: false for an error.
    :raises InvalidInput: for numbers that make no sense.
    """

    target: float | None = None
    max_drop: float = 0.02
    k: int = 2
    n: int = 3
    min_batches: int = 2
    cooldown_batches: int = 2
    cooldown: timedelta = timedelta(0)
    drift_share: float = 0.5
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        checks = {
            "k": 1 <= self.k <= self.n,
            "max_drop": self.max_drop >= 0,
            "min_batches": self.min_batches >= 1,
            "cooldown_batches": self.cooldown_batches >= 0,
            "cooldown": self.cooldown >= timedelta(0),
            "drift_share": 0 <= self.drift_share <= 1,
        }
        for name, sound in checks.items():
            if not sound:
                raise InvalidInput(
                    f"{name} {getattr(self, name)!r} of the retrain policy is out of range",
                    field=name,
                    value=getattr(self, name),
                    remedy="Use 1 <= k <= n, shares from 0 to 1, and no negative numbers.",
                )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the cooldown in seconds."""
        return {**asdict(self), "cooldown": self.cooldown.total_seconds()}


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    :param action: ``hold``, ``retrain`` or ``investigate``.
    :param rule: the rule that decided: ``quality``, ``evidence``, ``consequence``, ``cooldown`` or ``steady``.
    :param reasons: every rule that applied, in plain words; the deciding one first. Never empty.
    """

    action: str
    rule: str
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"action": self.action, "rule": self.rule, "reasons": list(self.reasons)}


def deduplicated(history: Iterable[Observation]) -> list[Observation]:
    """Return the history with one observation for each batch, the latest, at its first place."""
    latest: dict[str, Observation] = {}
    for item in history:
        latest[item.batch] = item
    return list(latest.values())


def decide(history: Sequence[Observation], policy: RetrainPolicy, now: datetime) -> Decision:
    """Decide about the last observation of a history.

    :param history: oldest first; the last is the batch to decide about, the others carry their ``action``.
    :param policy: the numbers.
    :param now: with a zone.
    :raises InvalidInput: if the history is empty or ``now`` has no zone.
    """
    if not history:
        raise InvalidInput(
            "there is nothing to decide about", field="history", remedy="Give at least one batch."
        )
    if now.tzinfo is None:
        raise InvalidInput("now has no time zone", field="now", value=str(now))
    *past, current = history
    since = _since_retrain(past)
    last = past[len(past) - len(since) - 1] if len(since) < len(past) else None
    window = [item for item in (*since, current) if _loss(item, policy) is not None]
    hurts, consequence = _consequence(window, current, policy)
    enough, evidence = _evidence(window, current, policy)
    cooling = _cooling(last, len(since) + 1, policy, now)
    movement = _movement(current, policy, hurts)

    ruled: list[tuple[str, str, str]] = []
    if not current.quality_passed:
        text = f"The data of {current.batch} failed its quality gate: bad data never retrains, somebody must look."
        ruled.append((INVESTIGATE, "quality", text))
    elif not enough:
        ruled.append((HOLD, "evidence", evidence))
    elif not hurts:
        ruled.append((HOLD, "steady", consequence))
    if hurts and cooling:
        ruled.append((HOLD, "cooldown", cooling))
    if hurts and current.quality_passed and enough:
        ruled.append((RETRAIN, "consequence", consequence))
    action, rule, _ = ruled[0]
    reasons = [text for _, _, text in ruled]
    if hurts and consequence not in reasons:
        reasons.append(consequence)
    return Decision(action, rule, (*reasons, *([movement] if movement else [])))


def decided(current: Observation, decision: Decision) -> Observation:
    """Return the observation with what was decided about it, as the next decision will find it."""
    return replace(current, action=decision.action)


def _since_retrain(past: Sequence[Observation]) -> list[Observation]:
    """Evidence counts anew after a retrain, whether or not its challenger won."""
    since: list[Observation] = []
    for item in reversed(past):
        if item.action == RETRAIN:
            break
        since.append(item)
    return since[::-1]


def _loss(item: Observation, policy: RetrainPolicy) -> float | None:
    """Return how far the metric is on the wrong side of its reference; ``None`` where nobody can say."""
    reference = item.reference_performance if policy.target is None else policy.target
    if not item.quality_passed or item.performance is None or reference is None:
        return None
    # Rounded, so that .70 - .68 is not more than .02 by the last bit.
    return round((reference - item.performance) * (1 if policy.higher_is_better else -1), 9)


def _below(item: Observation, policy: RetrainPolicy) -> bool:
    loss = _loss(item, policy)
    return loss is not None and loss > policy.max_drop


def _evidence(window: Sequence[Observation], current: Observation, policy: RetrainPolicy) -> tuple[bool, str]:
    needed = max(policy.min_batches, policy.k)
    if _loss(current, policy) is None:
        what = "its metric" if current.performance is None else "the reference of its metric"
        return False, f"Not enough evidence: {what} is not known for {current.batch}."
    if len(window) < needed:
        return False, (
            f"Not enough evidence: {len(window)} of {needed} measured batches since the beginning or the last retrain"
            f" ({_figure(current, policy)})."
        )
    return True, ""


def _consequence(
    window: Sequence[Observation], current: Observation, policy: RetrainPolicy
) -> tuple[bool, str]:
    recent = window[-policy.n :]
    low = [item for item in recent if _below(item, policy)]
    over = f"more than {policy.max_drop:g} worse than its reference"
    told = "; ".join(_figure(item, policy) for item in (low or recent))
    if len(low) < policy.k:
        known = f" ({told})" if told else ""
        count = (
            f"in {len(low)} of the last {len(recent)} measured batches, {policy.k} of {policy.n} are needed"
        )
        return False, f"The metric was {over} {count}{known}."
    if not _below(current, policy):
        return False, f"The metric is back within {policy.max_drop:g} of its reference in {current.batch}."
    return True, f"The metric was {over} in {len(low)} of the last {len(recent)} measured batches ({told})."


def _figure(item: Observation, policy: RetrainPolicy) -> str:
    reference = item.reference_performance if policy.target is None else policy.target
    return f"{item.batch} {item.performance:.3f} against {reference:.3f}"


def _cooling(last: Observation | None, batches: int, policy: RetrainPolicy, now: datetime) -> str:
    if last is None:
        return ""
    if batches <= policy.cooldown_batches:
        return f"Cooldown: batch {batches} of the {policy.cooldown_batches} that follow the retrain after {last.batch}."
    if now - last.when < policy.cooldown:
        return f"Cooldown: the retrain after {last.batch} was decided {now - last.when} ago, {policy.cooldown} are required."
    return ""


def _movement(current: Observation, policy: RetrainPolicy, hurts: bool) -> str:
    if current.drift_share is None or current.drift_share < policy.drift_share:
        return ""
    moved = f"{current.drift_share:.0%} of the columns of {current.batch} moved"
    return f"{moved} too." if hurts else f"{moved}; movement alone never retrains."
