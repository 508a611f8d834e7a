"""Judge a candidate by the table of an evaluation. Pure: a table in, a verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.llm.gate import measuring, tables
from airflow_pipeops.llm.gate.decision import GateVerdict, Seen, both, decide
from airflow_pipeops.llm.gate.effects import Effect
from airflow_pipeops.llm.gate.judges import JudgeMeasured, measured, said_by_people, unfit
from airflow_pipeops.llm.gate.policy import RATIOS, GatePolicy

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.paired.units import Units


@dataclass(frozen=True)
class Judgement:
    """A verdict, and all that it rests on.

    :param verdict: of the candidate.
    :param seen: the effects; with missing scores, those where all are lost.
    :param judges: what is known of the scorers that are the opinion of a model.
    :param missing: scores that are not there, of each scorer: the candidate's and the baseline's.
    :param asked: scores that should be there, of each scorer and arm.
    :param barred: items that must never fail, and are known to flip by themselves: they closed nothing.
    """

    verdict: GateVerdict
    seen: Seen
    judges: Mapping[str, JudgeMeasured] = field(default_factory=dict)
    missing: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    asked: int = 0
    barred: tuple[str, ...] = ()


def judge(
    frame: pd.DataFrame,
    policy: GatePolicy,
    *,
    candidate: str = "candidate",
    baseline: str = "baseline",
    items: Sequence[str] = (),
    labels: pd.DataFrame | None = None,
    position_flips: Mapping[str, tuple[int, int]] | None = None,
    flaky: Sequence[str] = (),
    far: str = "",
) -> Judgement:
    """Judge a candidate.

    :param frame: the table of an evaluation, :mod:`airflow_pipeops.llm.results`, with both arms.
    :param policy: what the candidate must show.
    :param candidate: name of its arm.
    :param baseline: name of its arm.
    :param items: ids that were asked for; by default those in the table.
    :param labels: what people said of answers: ``item``, ``arm``, ``run``, ``scorer`` and ``value``.
    :param position_flips: judge -> in how many pairs it has changed its mind with the order, and of how many.
    :param flaky: items that flip by themselves, by an A/A run: they count in every mean, and close no gate alone.
    :param far: why the two have not answered at the same time; their latencies are no comparison then.
    :return: the judgement.
    :raises InvalidInput: for a table that is not one, an arm or a scorer that is not there, and a score outside its scale.
    """
    pairs = tables.paired(frame, policy, candidate, baseline, items)
    labels = said_by_people(labels) if labels is not None else None
    hard = [one for one in pairs.hard if one[0] not in flaky]
    barred = tuple(f"{item} ({scorer})" for item, scorer in pairs.hard if item in flaky)
    found = {name: measured(frame, name, labels, (position_flips or {}).get(name)) for name in policy.judges}
    known = {name: unfit(one, policy) for name, one in found.items()}
    lacking = {name: sum(counts) for name, counts in pairs.missing.items() if sum(counts)}

    def see(how: tables.Filled, invalid: str = "") -> Seen:
        scores = pairs.filled(how, policy)
        primary = _effect(policy.metric, scores[policy.metric], pairs.units, policy, far=far)
        if labels is not None and policy.metric in policy.judges and not invalid:
            primary = _corrected(primary, scores[policy.metric], labels, pairs, policy, (candidate, baseline))
        return Seen(
            primary,
            tuple(_effect(name, scores[name], pairs.units, policy, far=far) for name in policy.guards),
            {
                name: _effect(policy.metric, scores[policy.metric], pairs.units, policy, rows, far)
                for name, rows in pairs.slices.items()
            },
            tuple(tables.failing(frame, policy, candidate, hard, how)),
            known,
            invalid,
        )

    def judgement(verdict: GateVerdict, seen: Seen) -> Judgement:
        return Judgement(verdict, seen, found, pairs.missing, pairs.asked, barred)

    if not lacking:
        seen = see("no")
        return judgement(decide(seen, policy), seen)
    name, count = max(lacking.items(), key=lambda one: one[1])
    missing = f"{count:,} of {2 * pairs.asked:,} scores of {name!r}"
    if endless := [one for one in lacking if policy.ends(one) is None]:
        seen = see("no", f"{missing} are missing, and {endless[0]!r} has no worst score")
        return judgement(decide(seen, policy), seen)
    lost, won = see("lost"), see("won")
    return judgement(both(decide(lost, policy), decide(won, policy), missing), lost)


def _effect(
    name: str, scores: tables.Scores, units: Units, policy: GatePolicy, rows: Any = None, far: str = ""
) -> Effect:
    """Measure one metric, on some of the items or on all."""
    new, old = scores.new, scores.old
    if rows is not None:
        new, old, units = new[rows], old[rows], units.part(rows)
    there = tables.Scores(new, old).there
    few = (
        f"it is known of {int(there.sum()):,} of {len(there):,} items only"
        if there.mean() < tables.KNOWN
        else ""
    ) or (far if name == "latency" else "")
    if not there.all():
        new, old, units = new[there], old[there], units.part(there)
    if not len(new):
        return measuring.without(name, (0.0, 0.0), units, few or "there is no item")
    sign = -1.0 if name in policy.lower_is_better else 1.0
    if name == "latency":
        effect = measuring.quantile_effect(name, new, old, units, planned=policy.planned)
    elif name in RATIOS:
        effect = measuring.ratio_effect(name, new, old, units, planned=policy.planned)
    elif name in policy.ordinal:
        effect = measuring.direction_effect(name, new, old, units, sign=sign, planned=policy.planned)
    else:
        effect = measuring.mean_effect(
            name,
            new,
            old,
            units,
            sign=sign,
            ends=policy.ends(name),
            passing=policy.passing,
            planned=policy.planned,
        )
    return replace(effect, gain=replace(effect.gain, doubt=effect.gain.doubt or few))


def _corrected(
    judged: Effect,
    scores: tables.Scores,
    labels: pd.DataFrame,
    pairs: tables.Paired,
    policy: GatePolicy,
    arms: tuple[str, str],
) -> Effect:
    """Return the effect with what people say of a part of the items; as it is, where they say too little."""
    import numpy as np

    name = policy.metric
    if name in policy.ordinal or policy.planned is not None:
        return judged
    said = labels[labels["scorer"] == name]
    means = [
        said[said["arm"] == arm].groupby("item")["value"].mean().reindex(list(pairs.items)) for arm in arms
    ]
    human = (means[0] - means[1]).to_numpy(dtype=float)
    labelled = ~np.isnan(human)
    if not labelled.any():
        return judged
    differences = np.nanmean(scores.new, axis=1) - np.nanmean(scores.old, axis=1)
    sign = -1.0 if name in policy.lower_is_better else 1.0
    found = measuring.predicted_effect(name, differences, labelled, human, pairs.units, sign=sign)
    levels = judged.gain
    gain = replace(found.gain, challenger=levels.challenger, champion=levels.champion)
    return judged if found.doubt else replace(found, gain=gain)
