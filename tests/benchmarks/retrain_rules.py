"""The contestants: each says after which blocks it retrains, knowing no more than what was known then.

``CARA`` is the family of Mahadevan and Mathioudakis (Cost-Effective Retraining of Machine Learning Models, 2024,
arXiv 2310.04216): retrain when the staleness cost of a batch exceeds a threshold (T), when its sum since the last retrain
does (CT), or after a period (P), the parameter being the one that would have been cheapest on the prefix, where every
model is known on every block.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd

from airflow_pipeops.governor import Observation, RetrainPolicy
from airflow_pipeops.governor.calibration import cheapest, decay
from airflow_pipeops.governor.replay import simulate
from tests import realdata
from tests.benchmarks.retrain_streams import VERSION, Stream, Task

#: The AUC against which staleness is counted: that of a model which is never wrong.
REFERENCE = 1.0

#: The governor's constants, the same for all streams; chosen on the first halves of elec2 and employment.
POLICY = RetrainPolicy(
    max_drop=0.0, k=2, n=3, cooldown_batches=0, confidence=1.0, recovery=0.5, rollback_drop=0.01, max_futile=3
)
#: A backtest chooses between these; that it may choose was decided on the same halves.
CONFIDENCES = (1.0, 0.0, 0.5, 2.0)


@dataclass(frozen=True)
class Run:
    """Which model served each scored block (the block after which it was trained), and how often was retrained."""

    served: list[int]
    retrains: int

    def cost(self, task: Task, price: float) -> float:
        """Return staleness (reference minus AUC, over all blocks) plus retraining."""
        score = task.stream.matrix.score
        stale = sum(REFERENCE - score[model, block] for block, model in enumerate(self.served, task.start))
        return float(stale + price * self.retrains)

    def auc(self, task: Task) -> float:
        """Return the mean AUC of the model that served."""
        score = task.stream.matrix.score
        return float(np.mean([score[model, block] for block, model in enumerate(self.served, task.start)]))


Wants = Callable[[int, int], bool]


def follow(task: Task, wants: Wants) -> Run:
    """Serve each block, then retrain where ``wants(trained, block)``; after the last block nobody retrains."""
    model, served, retrains = task.start - 1, [], 0
    for block in range(task.start, task.stop):
        served.append(model)
        if block < task.stop - 1 and wants(model, block):
            model, retrains = block, retrains + 1
    return Run(served, retrains)


def never(task: Task, price: float) -> Run:
    return follow(task, lambda trained, block: False)


def always(task: Task, price: float) -> Run:
    return follow(task, lambda trained, block: True)


def periodic(every: int) -> Callable[[Task, float], Run]:
    return lambda task, price: follow(task, lambda trained, block: block - trained >= every)


def oracle(task: Task, price: float) -> Run:
    """The cheapest path in hindsight, by dynamic programming over (block, last trained after)."""
    score = task.stream.matrix.score
    ahead = np.zeros(task.stop)  # what is to be paid from the next block on, by the model that serves
    choose = np.zeros((task.stop, task.stop), dtype=bool)
    for block in range(task.stop - 1, task.start - 1, -1):
        models = np.arange(task.start - 1, block)
        retrain = price + ahead[block] if block < task.stop - 1 else np.inf
        choose[block, models] = retrain < ahead[models]
        ahead[models] = REFERENCE - score[models, block] + np.minimum(retrain, ahead[models])
    return follow(task, lambda trained, block: bool(choose[block, trained]))


def evidently(task: Task, price: float) -> Run:
    """Retrain when more than half of the columns drift by Evidently's default test for each."""
    return _kept(
        task,
        "drift-share",
        lambda: follow(task, lambda trained, block: drift_share(task.stream, trained, block) > 0.5),
    )


def drift_share(stream: Stream, trained: int, block: int) -> float:
    """Return the share of columns that drift between what a model learned from and a block."""
    reference, current = (
        stream.features.iloc[stream.learned(trained)],
        stream.features.iloc[stream.rows[block]],
    )
    return float(np.mean([_drifts(reference[name], current[name]) for name in stream.features]))


def _drifts(reference: pd.Series, current: pd.Series) -> bool:
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    reference, current = reference.dropna(), current.dropna()
    if reference.nunique() > 5 and len(reference) > 1000:
        spread = max(float(reference.std(ddof=0)), 0.001)
        return bool(stats.wasserstein_distance(reference, current) / spread >= 0.1)
    if reference.nunique() > 5:
        return bool(stats.ks_2samp(reference, current).pvalue <= 0.05)
    shares = pd.concat([side.value_counts(normalize=True) for side in (reference, current)], axis=1).fillna(0)
    return bool(jensenshannon(shares.iloc[:, 0], shares.iloc[:, 1]) >= 0.1)


def detector(name: str) -> Callable[[Task, float], Run]:
    """Retrain when a detector of River, as it comes, alarms on the errors of the champion, row by row."""

    def run(task: Task, price: float) -> Run:
        return _kept(task, name, lambda: _detected(task, name))

    return run


def _detected(task: Task, name: str) -> Run:
    from river.drift import ADWIN, KSWIN
    from river.drift.binary import DDM

    make = {"ADWIN": ADWIN, "DDM": DDM, "KSWIN": lambda: KSWIN(seed=0)}[name]
    watching = make()

    def wants(trained: int, block: int) -> bool:
        nonlocal watching
        for wrong in task.stream.matrix.wrong[trained, task.stream.rows[block]]:
            watching.update(int(wrong))
            if watching.drift_detected:
                watching = make()  # a new model, a new beginning
                return True
        return False

    return follow(task, wants)


def cara(kind: str) -> Callable[[Task, float], Run]:
    def run(task: Task, price: float) -> Run:
        before = replace(task, start=task.prefix.start, stop=task.prefix.stop)
        costs = [
            (_cara(before, kind, value).cost(before, price), value) for value in _candidates(before, kind)
        ]
        return _cara(task, kind, min(costs)[1])

    return run


def _candidates(task: Task, kind: str) -> list[float]:
    if kind == "P":
        return [*range(1, len(task.prefix)), np.inf]
    stale = REFERENCE - task.stream.matrix.score[task.start - 1 : task.stop, : task.stop]
    rows = [row[~np.isnan(row)] for row in stale]
    values = np.concatenate([np.cumsum(row) if kind == "CT" else row for row in rows])
    return [0.0, *np.unique(values).tolist(), np.inf]


def _cara(task: Task, kind: str, value: float) -> Run:
    score = task.stream.matrix.score

    def wants(trained: int, block: int) -> bool:
        if kind == "P":
            return block - trained >= value
        stale = REFERENCE - score[trained, trained + 1 : block + 1]
        return bool((stale.sum() if kind == "CT" else stale[-1]) > value)

    return follow(task, wants)


def governor(task: Task, price: float, policy: RetrainPolicy = POLICY) -> Run:
    """The governor of airflow-pipeops: it knows the price, and three numbers from a backtest on the prefix.

    ``target`` is the mean AUC of models one block old, ``decay`` the loss for each further block of age, and
    ``confidence`` the one of four that would have cost least.
    """
    matrix = task.stream.matrix
    known = [(trained, block) for block in task.prefix for trained in range(task.prefix.start - 1, block)]
    scores = {at: float(matrix.score[at]) for at in known}
    fitted = replace(
        policy,
        retrain_cost=price,
        target=float(np.mean([matrix.score[block - 1, block] for block in task.prefix])),
        decay=decay(scores),
    )
    ready = cheapest(
        scores,
        [replace(fitted, confidence=errors) for errors in CONFIDENCES],
        errors={at: float(matrix.error[at]) for at in known},
    )
    served: list[int] = []

    def observe(batch: int, trained: int, before: int | None) -> Observation:
        served.append(task.start + trained)
        predecessor = None if before is None else task.start + before
        return observed(task, task.start + batch, task.start + trained, predecessor)

    steps = simulate(task.stop - task.start, observe, ready)
    return Run(served, sum(step.decision.action == "retrain" for step in steps[:-1]))


def observed(task: Task, block: int, trained: int, before: int | None) -> Observation:
    """Return what is known about a block: the champion's AUC with its error, and its predecessor's."""
    matrix = task.stream.matrix
    at = datetime(2000, 1, 1, tzinfo=timezone.utc) + timedelta(days=block)
    return Observation(
        f"block {block}",
        at.isoformat(),
        quality_passed=True,
        performance=float(matrix.score[trained, block]),
        performance_error=float(matrix.error[trained, block]),
        predecessor_performance=None if before is None else float(matrix.score[before, block]),
        rows=len(task.stream.rows[block]),
    )


def _kept(task: Task, rule: str, make: Callable[[], Run]) -> Run:
    """What does not depend on the price is worked out once: row by row, it takes minutes."""
    kept = realdata.folder() / f"retrain-{task.name}-{rule}-{VERSION}.json".replace(" ", "-").replace(",", "")
    if not kept.exists():
        unfinished = kept.with_name(f".{kept.name}.{os.getpid()}.part")
        unfinished.write_text(json.dumps(asdict(make())))
        unfinished.replace(kept)
    return Run(**json.loads(kept.read_text()))


#: Rules that one could run; the oracle knows the future.
PRACTICAL: dict[str, Callable[[Task, float], Run]] = {
    "never": never,
    "always": always,
    "every 4 blocks": periodic(4),
    "every 12 blocks": periodic(12),
    "drift share > 0.5": evidently,
    "ADWIN": detector("ADWIN"),
    "DDM": detector("DDM"),
    "KSWIN": detector("KSWIN"),
    "CARA-T": cara("T"),
    "CARA-CT": cara("CT"),
    "CARA-P": cara("P"),
    "governor": governor,
}
