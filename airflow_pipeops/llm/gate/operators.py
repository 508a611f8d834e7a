"""The gate as a task, and how often it errs on equal arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_pipeops.base.arguments import mapping, not_empty, one_of
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import GateFailed, InvalidInput
from airflow_pipeops.llm.gate.baseline import (
    SUBJECT,
    TOGETHER,
    Pin,
    apart,
    changed,
    comparable,
    pinned,
    released,
    stale,
)
from airflow_pipeops.llm.gate.before import recorded, watched
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.gate.rate import SUBJECT as RATE
from airflow_pipeops.llm.gate.rate import GateRate, flaky, halves, rate

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Record
    from airflow_pipeops.llm.gate.judging import Judgement

#: What becomes of a gate that stays closed: the task fails, what comes after it is skipped, or it is recorded.
OnVerdict = Literal["fail", "skip", "record"]
#: So many names are in a record; all of them are on the page.
_NAMED = 20
#: Of a name, which may be any text of the data, so many letters.
_LETTERS = 100
#: So many A/A runs count.
_WINDOW = 50


class _Gate(DeliveryOperator):
    """What both operators do: judge a table by a policy."""

    template_fields: Sequence[str] = ("evaluation", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = "#e6f7ee"

    def __init__(self, *, evaluation: Any, policy: GatePolicy | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.policy = GatePolicy.of(policy)
        needed = watched(self.deliverable, self.environment)
        self.inlets = [*self.inlets, *(one for one in needed if one not in self.inlets)]

    def _records(self, context: Context) -> list[Record]:
        return recorded(context, self.deliverable, self.inlets)

    def _table(self, pin: Pin) -> pd.DataFrame:
        from airflow_pipeops.llm import results

        not_empty(
            "evaluation", pin.results, "the evaluation names no table of results", "Pass evaluate.output."
        )
        return results.load(pin.results, pin.sha256)


class EvaluationGateOperator(_Gate):
    """Hold a candidate against the released version, item by item, and open or stay closed.

    The baseline is an arm of the same evaluation, or else the recorded answers of what is released in ``environment``, as
    long as dataset and scorers are the same and the answers are no older than the policy allows. Which one is released is
    told by the records that led to the newest release that was not taken back, and never by the newest run.

    Returns ``{outcome, opens, reason, metric, gain, interval, method, alpha, items, units, failed, harmed, small, need,
    missing_scores, judges, rate, policy, candidate, baseline, mode, report, record_id}``. ``outcome`` is ``better``,
    ``not worse``, ``worse``, ``cannot tell`` or ``invalid``; see ``docs/evaluation-gate.md``. A page with all metrics,
    slices and items is kept as evidence.

    :param evaluation: what ``EvaluateOperator`` or ``MergeEvaluationsOperator`` returned; templated.
    :param policy: a :class:`~airflow_pipeops.llm.gate.policy.GatePolicy`, or a mapping of its fields.
    :param candidate: name of the arm that wants to be released.
    :param baseline: name of the arm of the released version.
    :param labels: URI of a Parquet or CSV file with what people say of answers: ``item``, ``arm``, ``run``, ``scorer`` and
        ``value``. Judges are measured by it, and the gain of the deciding one is corrected; templated.
    :param flaky: ids of items that flip by themselves, as ``GateRateOperator`` returned them; templated.
    :param on_verdict: what becomes of a gate that stays closed: ``fail`` the task, without retry; ``skip`` what comes
        directly after it; or ``record`` the verdict and go on.
    :raises GateFailed: if the gate stays closed, and ``on_verdict`` is ``fail``.
    """

    template_fields: Sequence[str] = ("labels", "flaky", *_Gate.template_fields)
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        candidate: str = "candidate",
        baseline: str = "baseline",
        labels: str = "",
        flaky: Sequence[str] = (),
        on_verdict: OnVerdict = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.baseline = baseline
        if candidate == baseline:
            raise InvalidInput(
                f"candidate and baseline are both {candidate!r}",
                field="baseline",
                value=baseline,
                remedy="Name two arms.",
            )
        self.labels = labels
        self.flaky = flaky
        self.on_verdict: OnVerdict = one_of("on_verdict", on_verdict, get_args(OnVerdict))

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the baseline, judge, record, and open or not."""
        with no_retry():
            result = self._decided(context)
            self.log.info("%s: %s", result["outcome"], result["reason"])
            if not result["opens"] and self.on_verdict == "fail":
                raise GateFailed(
                    f"the gate stays closed ({result['outcome']}): {result['reason']}",
                    remedy=f"See {result['report']}.",
                )
        if not result["opens"] and self.on_verdict == "skip":
            self.skip_rest(context, result)
        return result

    def _decided(self, context: Context) -> dict[str, Any]:
        evaluation = mapping("evaluation", self.evaluation, "Pass evaluate.output.")
        records = self._records(context)
        candidate = Pin.of(evaluation, self.candidate)
        live = released(records, self.environment) if self.environment else None
        beside = self.baseline in map_(evaluation.get("arms"))
        baseline = self._baseline(evaluation, beside, live)
        comparable(candidate, baseline, self.policy.scorers)
        frame = self._table(candidate)
        if not beside:
            frame = self._joined(frame, baseline)
        found = self._judged(frame, evaluation, self._far(frame, beside, candidate, baseline))
        policy = self.policy.to_json()
        alarms = rate((one.body for one in records), _WINDOW, policy)
        verdict = {**found.verdict.to_json()}
        for name in ("failed", "harmed", "small"):
            verdict[name] = [one[:_LETTERS] for one in verdict[name][:_NAMED]]
        verdict["reason"] = verdict["reason"][: 10 * _LETTERS]
        facts = {
            **verdict,
            "missing_scores": {name: list(counts) for name, counts in found.missing.items()},
            "judges": {name: known.to_json() for name, known in found.judges.items()},
            "rate": str(alarms),
            "policy": policy,
            "candidate": candidate.to_json(),
            "baseline": baseline.to_json(),
            "mode": "beside" if beside else "pinned",
        }
        evidence = self._page(context, found, alarms, candidate, baseline)
        body = {"subject": SUBJECT, "promote": facts["opens"], **facts}
        parents = [text(evaluation.get("record_id"))]
        record = self.emit(
            context, "evaluation", body, parents=[one for one in parents if one], evidence=[evidence]
        )
        return {**facts, "report": evidence.uri, "record_id": record}

    def _far(self, frame: pd.DataFrame, beside: bool, candidate: Pin, baseline: Pin) -> str:
        """Say how far apart the arms have answered, if not together; refuse a baseline that is too old for that."""
        between = apart(frame, self.candidate, self.baseline)
        if between is None and beside:
            return "nobody knows when the two have answered"
        if between is not None and beside and between <= TOGETHER:
            return ""
        now, max_age = datetime.now(timezone.utc), timedelta(days=self.policy.max_age_days)
        if why := stale(baseline, now, max_age) or changed(candidate, baseline):
            raise InvalidInput(
                why,
                field="baseline",
                value=baseline.at,
                remedy="Evaluate the released version beside the candidate.",
            )
        if between is None or between <= TOGETHER:
            return "" if between is not None else "nobody knows when the baseline has answered"
        return f"the two have answered up to {between / timedelta(hours=1):,.1f} hours apart"

    def _judged(self, frame: pd.DataFrame, evaluation: Mapping[str, Any], far: str) -> Judgement:
        from airflow_pipeops.llm.gate.judging import judge
        from airflow_pipeops.models import storage

        if isinstance(self.flaky, str) and self.flaky:
            raise InvalidInput(
                "flaky is a text, each letter of which would be an item that closes nothing",
                field="flaky",
                value=self.flaky,
                remedy='Give a list of ids, such as rate.output["flaky"].',
            )
        # What asks a model is a judge, whether or not the policy says so.
        judges = {*self.policy.judges, *(evaluation.get("judges") or ())}
        flips = map_(evaluation.get("flips"))
        return judge(
            frame,
            replace(self.policy, judges=tuple(name for name in self.policy.scorers if name in judges)),
            candidate=self.candidate,
            baseline=self.baseline,
            labels=storage.read_table([self.labels], field="labels").frame if self.labels else None,
            position_flips={str(name): (int(one[0]), int(one[1])) for name, one in flips.items()},
            flaky=list(self.flaky or ()),
            far=far,
        )

    def _baseline(self, evaluation: Mapping[str, Any], beside: bool, live: Pin | None) -> Pin:
        """Return the arm that is the baseline; refuse one that is not what is released."""
        if beside:
            found = Pin.of(evaluation, self.baseline)
            if live is not None and live.subject != found.subject:
                raise InvalidInput(
                    f"the arm {self.baseline!r} is {found.subject[:12]}, and {live.subject[:12]} is released in "
                    f"{self.environment}",
                    field="baseline",
                    value=found.subject,
                    remedy="Evaluate the released version beside the candidate. If Git wants one that never came live, "
                    "revert that commit first.",
                )
            return found
        return pinned(evaluation, self.policy, live, self.baseline)

    def _joined(self, frame: pd.DataFrame, baseline: Pin) -> pd.DataFrame:
        """Return the candidate's rows with those that are recorded of the baseline."""
        import pandas as pd

        old = self._table(baseline)
        old = old[old["arm"] == baseline.arm].assign(arm=self.baseline)
        return pd.concat([frame[frame["arm"] == self.candidate], old], ignore_index=True)

    def _page(
        self, context: Context, found: Judgement, alarms: GateRate, candidate: Pin, baseline: Pin
    ) -> Any:
        from airflow_pipeops.llm.gate.report import page

        facts = {
            "this gate": str(alarms),
            **{f"candidate: {name}": value for name, value in candidate.to_json().items()},
            **{f"baseline: {name}": value for name, value in baseline.to_json().items()},
        }
        return self.keep(context, page(found, self.policy, facts), "gate.html", "text/html")


class GateRateOperator(_Gate):
    """Hold one arm against itself, by its even and its odd runs, and keep how often the gate errs on equal arms (A/A).

    Any evaluation with two or more runs of each item will do, also the one that a gate reads. Each verdict of an
    ``EvaluationGateOperator`` of the same deliverable and policy publishes the rate.

    Returns ``{outcome, reason, metric, alarms, runs, interval, flaky, policy, record_id}``: what the gate said of this pair;
    of how many of the last 50 it said that one is better or worse; and which items were scored differently.

    :param evaluation: what ``EvaluateOperator`` or ``MergeEvaluationsOperator`` returned; templated.
    :param policy: of the gate.
    :param arm: that is held against itself.
    """

    def __init__(self, *, arm: str = "baseline", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arm = arm

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, add up, record."""
        from airflow_pipeops.llm.gate.judging import judge

        with no_retry():
            evaluation = mapping("evaluation", self.evaluation, "Pass evaluate.output.")
            pin = Pin.of(evaluation, self.arm)
            frame = halves(self._table(pin), self.arm)
            # What is asked is how often the numbers err, and not how good a judge is.
            verdict = judge(frame, replace(self.policy, judges=())).verdict
            policy = self.policy.to_json()
            body = {
                "subject": RATE,
                "outcome": verdict.outcome,
                "reason": verdict.reason[: 10 * _LETTERS],
                "metric": self.policy.metric,
                "flaky": list(flaky(frame, self.policy.scorers[0])) if self.policy.scorers else [],
                "policy": policy,
            }
            counted = rate([*(one.body for one in self._records(context)), body], _WINDOW, policy)
            record = self.emit(context, "evaluation", body)
        return {**body, **counted.to_json(), "record_id": record}
