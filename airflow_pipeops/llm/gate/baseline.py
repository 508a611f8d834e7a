"""What a candidate is held against: the version that is released, by what was recorded of it. Pure.

Never the newest run: a run may be partial, of another branch, or of a version that was taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.policy import GatePolicy

if TYPE_CHECKING:
    import pandas as pd

#: What the records of a gate say that they are about.
SUBJECT = "prompt gate"
#: Answers to one item that lie no further apart were given at the same time.
TOGETHER = timedelta(hours=1)


@dataclass(frozen=True)
class Pin(JsonForm):
    """One arm of an evaluation, and all that its scores depend on.

    :param arm: its name in the table.
    :param subject: digest of the prompt, the model and its parameters.
    :param dataset: digest of the items.
    :param scorers: scorer -> its digest; of a judge with its prompt, model and rubric.
    :param runs: of each item.
    :param items: how many there were.
    :param results: where the table is.
    :param sha256: digest of the table, with those of all answers.
    :param at: when the oldest of its answers was given, as an ISO-8601 time; empty where nobody knows.
    :param model: that was asked.
    :param systems: that answered: what the endpoint calls the model, and the fingerprint of what is behind it.
    """

    arm: str
    subject: str
    dataset: str
    scorers: Mapping[str, str] = field(default_factory=dict)
    runs: int = 1
    items: int = 0
    results: str = ""
    sha256: str = ""
    at: str = ""
    model: str = ""
    systems: tuple[str, ...] = ()

    @classmethod
    def of(cls, evaluation: Any, arm: str) -> Pin:
        """Return an arm of what ``EvaluateOperator`` returned.

        :param evaluation: what it returned, or its record.
        :param arm: its name.
        :return: the pin.
        :raises InvalidInput: if it is none, has no such arm, or is one of several shards.
        """
        given = mapping("evaluation", evaluation, "Pass evaluate.output.")
        if (shards := int(given.get("shards") or 1)) > 1:
            raise InvalidInput(
                f"the evaluation is shard {given.get('shard')} of {shards}: it has not all items",
                field="evaluation",
                value=given.get("shard"),
                remedy="Pass what MergeEvaluationsOperator returns for all shards.",
            )
        arms = map_(given.get("arms"))
        if arm not in arms:
            raise InvalidInput(
                f"the evaluation has no arm {arm!r}",
                field="evaluation",
                value=arm,
                remedy=f"Its arms are {', '.join(map(str, arms)) or 'none'}: name one, or evaluate it.",
            )
        answers = map_(map_(given.get("answers")).get(arm))
        return cls(
            arm,
            text(arms[arm]),
            text(given.get("dataset_sha256")),
            {str(name): text(one) for name, one in map_(given.get("scorers")).items()},
            int(given.get("runs") or 1),
            int(given.get("items") or 0),
            text(given.get("results")),
            text(given.get("results_sha256")),
            text(answers.get("oldest")),
            text(map_(given.get("models")).get(arm)),
            tuple(map(str, answers.get("systems") or ())),
        )


def comparable(candidate: Pin, baseline: Pin, scorers: Iterable[str]) -> None:
    """Refuse two arms whose scores mean different things.

    :param candidate: one arm.
    :param baseline: the other.
    :param scorers: that are compared.
    :raises InvalidInput: for another dataset, or another scorer under the same name.
    """
    if candidate.dataset != baseline.dataset:
        raise InvalidInput(
            f"the baseline answered the dataset {baseline.dataset[:12] or '(unknown)'}, and the candidate "
            f"{candidate.dataset[:12] or '(unknown)'}",
            field="dataset",
            value=baseline.dataset,
            remedy="Evaluate both on one dataset: give the baseline as a second subject.",
        )
    for name in scorers:
        ours, theirs = candidate.scorers.get(name, ""), baseline.scorers.get(name, "")
        if not ours or ours != theirs:
            raise InvalidInput(
                f"the scorer {name!r} is {theirs[:12] or 'absent'} of the baseline, and {ours[:12] or 'absent'} of the "
                "candidate",
                field="scorers",
                value=name,
                remedy="A changed scorer or judge makes old scores void: evaluate the baseline beside the candidate.",
            )


def stale(baseline: Pin, now: datetime, max_age: timedelta) -> str:
    """Say why recorded answers are no baseline any more; empty where they are.

    :param baseline: of which they are.
    :param now: with a zone.
    :param max_age: after which a provider may have changed what is behind a model's name.
    :return: the reason.
    """
    try:
        at = datetime.fromisoformat(baseline.at)
    except ValueError:
        return "nobody knows how old the answers of the baseline are"
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    day = timedelta(days=1)
    if (age := now - at) > max_age:
        return f"the answers of the baseline are {age / day:.1f} days old, and {max_age / day:g} are the most"
    return ""


def pinned(evaluation: Mapping[str, Any], policy: GatePolicy, live: Pin | None, arm: str) -> Pin:
    """Return what is recorded of the released version, where the evaluation has no arm of it.

    :param evaluation: of the candidate.
    :param policy: of the gate.
    :param live: what is released, as far as records say it.
    :param arm: that is not there.
    :return: the baseline.
    :raises InvalidInput: if nothing is known of it, or if a scorer compares answers with each other.
    """
    if live is None:
        raise InvalidInput(
            f"the evaluation has no arm {arm!r}, and no record says which verdict led to what is released",
            field="baseline",
            value=arm,
            remedy="Evaluate the released version beside the candidate; give deliverable= and environment=.",
        )
    if pairs := [name for name in policy.scorers if name in map_(evaluation.get("flips"))]:
        raise InvalidInput(
            f"{pairs[0]!r} compares two answers, and the candidate's were not compared with the recorded ones",
            field="baseline",
            value=pairs,
            remedy="Evaluate the released version beside the candidate.",
        )
    return live


def changed(candidate: Pin, baseline: Pin) -> str:
    """Say what is known to have changed behind a model that both were asked of; empty where nothing is.

    :param candidate: one arm.
    :param baseline: the other, of another time.
    :return: the reason.
    """
    old, new = set(baseline.systems), set(candidate.systems)
    if not candidate.model or candidate.model != baseline.model or not old or not new or old == new:
        return ""
    was, now = (", ".join(sorted(one)[:3]) for one in (old, new))
    return f"behind {candidate.model!r} was {was}, and is {now} since"


def apart(frame: pd.DataFrame, candidate: str, baseline: str) -> timedelta | None:
    """Return how far the answers of two arms to one item lie apart at most; ``None`` where nobody knows.

    :param frame: the table with both arms.
    :param candidate: name of one.
    :param baseline: name of the other.
    :return: the time between them.
    """
    at = [
        rows.groupby(["item", "run"])["at"].first()
        for rows in (frame[frame["arm"] == arm] for arm in (candidate, baseline))
    ]
    gaps = (at[0] - at[1]).abs().dropna()
    return timedelta(seconds=float(gaps.max())) if len(gaps) else None


def released(records: Sequence[Record], environment: str) -> Pin | None:
    """Find what is live in an environment, by the records that led there.

    From the newest release that was not taken back, parents lead to the gate's record of the candidate that was released.

    :param records: of the gate, of changes, approvals, releases and rollbacks in all environments, oldest first: what is
        promoted comes from another one.
    :param environment: where it is live.
    :return: its pin; ``None`` where no gate's verdict led to what is live.
    """
    by_id = {one.id: one for one in records}
    here = [one for one in records if one.environment == environment]
    undone = {text(one.body.get("reverts")) for one in here if one.kind in ("change", "rollback")} - {""}
    for release in reversed([one for one in here if one.kind == "release"]):
        led = _ancestors(release, by_id)
        commits = {text(one.body.get("commit")) for one in (release, *led) if one.kind == "change"}
        if undone & (commits | {text(release.body.get("revision"))}):
            continue
        gates = [one for one in led if one.kind == "evaluation" and one.body.get("subject") == SUBJECT]
        if not gates:
            return None
        newest = max(gates, key=lambda one: one.at)
        return Pin.from_json(map_(newest.body.get("candidate")))
    return None


def _ancestors(record: Record, by_id: Mapping[str, Record]) -> list[Record]:
    found: dict[str, Record] = {}
    left = list(record.parents)
    while left:
        one = by_id.get(left.pop())
        if one is not None and one.id not in found:
            found[one.id] = one
            left += one.parents
    return list(found.values())
