"""Is a value unusual? Pure: values go in, in the order in which they became known, and verdicts come out.

Nothing is kept elsewhere: the same values give the same verdicts, so whoever doubts one replays it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.operations.anomalies.change import FailureDetector, LevelDetector, Onset
from airflow_pipeops.operations.anomalies.expectation import Expectation, Expected, median
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.pool import LEAST, Pool
from airflow_pipeops.operations.anomalies.series import SHAPES, Name, Point, logarithm, original
from airflow_pipeops.operations.anomalies.verdict import AnomalyVerdict, amount, iso, unusual

_WEEK = 7 * 86400.0
#: However few values there are, an alarm is rarer than one value in twenty is.
_ALPHA = 0.05
#: Of what a value may cost, so much is for the value itself, and the rest for a change of level that it shows.
_ALONE = 0.5
#: By how much the level has changed, its first values tell: later ones are expected where they are.
_FIRST = 3
#: Where more than one run in three is of changed code, its versions say nothing.
_VERSIONS = 3


@dataclass
class _Settling:
    """A level that is being learned.

    :param need: values until it counts.
    :param since: time of the first value at it.
    :param why: it is learned.
    :param held: the values.
    """

    need: int
    since: float
    why: str
    held: list[tuple[float, float, float]] = field(default_factory=list)


class _Series:
    """What is known of one series."""

    def __init__(self, least: int) -> None:
        self.expectation = Expectation(least)
        self.level = LevelDetector()
        self.failures = FailureDetector()
        self.settling: _Settling | None = None
        self.off: deque[float] = deque(maxlen=200)
        self.version = ""
        self.before: Point | None = None
        self.runs = self.versions = 0


class _Budget:
    """How rare an alarm must be for one owner.

    :param budget: false alarms a week.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._times: deque[float] = deque()
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._first: float | None = None

    def count(self, now: float) -> float:
        """Count a value, judged or not.

        :return: what it may cost.
        """
        self._first = now if self._first is None else self._first
        while self._times and self._times[0] <= now - _WEEK:
            self._times.popleft()
        self._times.append(now)
        return self.alpha(now)

    def alpha(self, now: float) -> float:
        """Return what a value may cost: the budget over the values of a week, as they have come so far."""
        age = min(_WEEK, max(now - (self._first or now), 86400.0))
        return min(self._budget * age / (_WEEK * max(1, len(self._times))), _ALPHA)

    def spend(self, now: float, alpha: float) -> float:
        """Take what a judged value costs out of the budget.

        :return: what is left of this week's.
        """
        while self._spent and self._spent[0][0] <= now - _WEEK:
            self._sum -= self._spent.popleft()[1]
        self._spent.append((now, alpha))
        self._sum += alpha
        return max(0.0, self._budget - self._sum)


class AnomalyJudge:
    """Judges values in the order in which they became known.

    :param policy: the numbers.
    """

    def __init__(self, policy: AnomalyPolicy | None = None) -> None:
        self.policy = policy or AnomalyPolicy()
        self._series: dict[Name, _Series] = {}
        self._pools: dict[str, Pool] = {}
        self._budgets: dict[str, _Budget] = {}
        self._outcomes = [1.0, 20.0]  # failures and runs of all series, from a twentieth of them on

    def see(self, name: Name, point: Point) -> AnomalyVerdict:
        """Judge a value, and learn from it.

        :param name: of its series.
        :param point: the value.
        :return: the verdict.
        """
        series = self._series.setdefault(name, _Series(self.policy.least))
        alpha = self._budgets.setdefault(name.owner, _Budget(self.policy.budget)).count(point.seen)
        self._settle_code(series, point)
        if name.kind == "failure":
            return self._failure(name, series, point, alpha)
        level = logarithm(name.kind, point.value)
        expected = series.expectation.expect(point.at)
        if series.settling:
            return self._settle(name, series, point, level, expected)
        if expected is None:
            lacking = series.expectation.lacking
            series.expectation.learn(point.at, level)
            series.before = point
            return self._silent(name, point, lacking, f"{lacking} more values of this series are needed")
        deviation = (level - expected.level) / expected.scale
        pool = self._pools.setdefault(name.kind, Pool())
        verdict = self._judged(name, point, expected, deviation, alpha)
        series.before = point
        told = verdict.outcome != "cannot tell"
        onset = series.level.see(point.at, deviation, alpha * (1 - _ALONE))
        pool.add(deviation)
        series.expectation.learn(point.at, level)
        series.off.append(level - expected.level)
        if onset and told and self._matters(series, onset):
            verdict = self._changed(verdict, onset)
            series.settling = _Settling(self.policy.adopt_after, onset.likely, "its level has changed")
        return verdict

    def still(self, name: Name, point: Point) -> AnomalyVerdict:
        """Judge a value that is still growing: a run that runs, a gap since the last one. Nothing is learned.

        It costs nothing of its own: what is an alarm now will be one when it has ended, and is larger then.

        :param name: of its series.
        :param point: the value so far.
        :return: the verdict.
        """
        series = self._series.get(name)
        expected = series.expectation.expect(point.at) if series else None
        budget = self._budgets.get(name.owner)
        if series is None or expected is None or budget is None:
            lacking = series.expectation.lacking if series else 2 * self.policy.least
            return self._silent(
                name, point, lacking, f"{lacking} more values of this series are needed", True
            )
        if series.settling or (point.version and series.version and point.version != series.version):
            why = series.settling.why if series.settling else "its code has changed"
            return self._aside(name, point, why, expected, running=True)
        deviation = (logarithm(name.kind, point.value) - expected.level) / expected.scale
        alpha = budget.alpha(point.seen)
        return self._judged(name, point, expected, deviation, alpha, running=True)

    # ---- the parts ---------------------------------------------------------------------------------------------------

    def _matters(self, series: _Series, onset: Onset) -> bool:
        since = list(series.off)[-onset.values :][:_FIRST]
        return abs(median(since)) >= math.log1p(self.policy.least_change)

    def _settle_code(self, series: _Series, point: Point) -> None:
        series.runs += 1
        changed = bool(point.version and series.version and point.version != series.version)
        series.versions += changed
        series.version = point.version or series.version
        if changed and series.versions * _VERSIONS <= series.runs:
            series.settling = _Settling(self.policy.after_change, point.at, "its code has changed")

    def _settle(
        self, name: Name, series: _Series, point: Point, level: float, expected: Expected | None
    ) -> AnomalyVerdict:
        settling = series.settling
        assert settling is not None
        settling.held.append((point.at, level, level - expected.base if expected else 0.0))
        nth = len(settling.held)
        if nth >= settling.need:
            moved = median([off for _, _, off in settling.held])
            if expected and abs(moved) > expected.scale:
                series.expectation.move(settling.since, moved)
            for at, held, _ in settling.held:
                series.expectation.learn(at, held)
            series.settling = None
        why = f"{settling.why}: it is learned from run {nth} of {settling.need}"
        return self._aside(name, point, why, expected)

    def _judged(
        self,
        name: Name,
        point: Point,
        expected: Expected,
        deviation: float,
        alpha: float,
        running: bool = False,
    ) -> AnomalyVerdict:
        pool = self._pools.get(name.kind, Pool())
        usual = original(name.kind, expected.level)
        if len(pool) < LEAST:
            lacking = LEAST - len(pool)
            return self._silent(
                name, point, lacking, f"{lacking} more {name.kind} values of any series are needed"
            )
        budget = self._budgets[name.owner]
        left = budget.spend(point.seen, 0.0 if running else alpha)
        before = self._series[name].before
        shape = SHAPES[name.kind]
        high = deviation > 0
        finding = shape.high if high else shape.low
        share = alpha * _ALONE / (2 if shape.low else 1)
        chance = pool.above(deviation) if high else pool.below(deviation)
        # What is still growing may be too little yet.
        anomalous = bool(finding) and chance <= share and not (running and not high)
        reason = unusual(name, finding, point.value, usual, running, expected.phase)
        return AnomalyVerdict(
            "anomalous" if anomalous else "ordinary",
            reason,
            finding=finding if anomalous else "",
            expected=usual,
            history=expected.history,
            phase=expected.phase,
            chance=chance,
            alpha=share,
            budget_left=left,
            running=running,
            onset=tuple(map(iso, (before.at, point.at, point.seen))) if anomalous and before else (),
            **_about(name, point),
        )

    def _changed(self, verdict: AnomalyVerdict, onset: Onset) -> AnomalyVerdict:
        known = f"since {iso(onset.likely)}, for {onset.values} values"
        assert verdict.expected is not None
        usual = amount(verdict.kind, verdict.expected)
        now = amount(verdict.kind, verdict.seen)
        said = (
            f"{verdict.subject}: the level of {verdict.kind} has changed {known}: {now} now, {usual} before"
        )
        return replace(
            verdict,
            outcome="anomalous",
            finding="change of level",
            reason=f"{said}; after {self.policy.adopt_after} more, that is how it is",
            chance=None,
            onset=tuple(map(iso, (onset.earliest, onset.likely, onset.latest))),
        )

    def _failure(self, name: Name, series: _Series, point: Point, alpha: float) -> AnomalyVerdict:
        everywhere = self._outcomes[0] / self._outcomes[1]
        share, runs = series.failures.share(everywhere), series.failures.runs
        failed = point.value > 0
        onset = series.failures.see(point.at, failed, alpha, everywhere)
        self._outcomes = [self._outcomes[0] + failed, self._outcomes[1] + 1]
        if runs < self.policy.least:
            lacking = self.policy.least - runs
            return self._silent(name, point, lacking, f"{lacking} more runs are needed")
        left = self._budgets[name.owner].spend(point.seen, alpha)
        most = amount("failure", share)
        reason = f"{name.subject}: {'failed' if failed else 'did not fail'}, where {most} fail at most"
        if onset:
            reason = f"{name.subject} fails more often since {iso(onset.likely)}; {most} at most was usual"
        return AnomalyVerdict(
            "anomalous" if onset else "ordinary",
            reason,
            finding=SHAPES["failure"].high if onset else "",
            expected=share,
            history=runs,
            alpha=alpha,
            budget_left=left,
            onset=tuple(map(iso, (onset.earliest, onset.likely, onset.latest))) if onset else (),
            **_about(name, point),
        )

    @staticmethod
    def _silent(name: Name, point: Point, lacking: int, why: str, running: bool = False) -> AnomalyVerdict:
        said = f"{name.label}: nobody can tell yet: {why}"
        return AnomalyVerdict("cannot tell", said, lacking=lacking, running=running, **_about(name, point))

    @staticmethod
    def _aside(
        name: Name, point: Point, why: str, expected: Expected | None, running: bool = False
    ) -> AnomalyVerdict:
        usual = original(name.kind, expected.level) if expected else None
        said = f"{name.label}: not judged, since {why}"
        return AnomalyVerdict("set aside", said, expected=usual, running=running, **_about(name, point))


def _about(name: Name, point: Point) -> dict[str, Any]:
    return {
        "subject": name.subject,
        "kind": name.kind,
        "variant": name.variant,
        "owner": name.owner,
        "dag": name.dag,
        "at": iso(point.at),
        "run": point.run,
        "seen": point.value,
    }


def replayed(
    values: Iterable[tuple[Name, Point]], judge: AnomalyJudge, since: float
) -> Iterator[AnomalyVerdict]:
    """Let a judge see values in the order in which they became known.

    :param values: of all series, in any order.
    :param judge: that sees them.
    :param since: only of what became known at this time or later, the verdicts are asked for.
    :return: those verdicts.
    """
    for name, point in sorted(values, key=lambda value: (value[1].seen, value[1].at, value[0].label)):
        verdict = judge.see(name, point)
        if point.seen >= since:
            yield verdict
