"""What failures say that no other record does: deployments that never went live, and challengers that were refused."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.delivery.queries.facts import Fact


def attempts(failures: Iterable[Fact], releases: Iterable[Fact]) -> list[Fact]:
    """Tell which failures are deployments that never went live. Pure.

    It is one where a release was judged as failed. What could not be looked at, a worker that was lost, and a rollback that
    was refused, say nothing of a deployment; and a task that was cleared and has released it after all was only late.

    :param failures: of a deliverable in an environment.
    :param releases: there.
    :return: the first failure of each run, the oldest first.
    """
    released = {_task(one): (one.at, one.seq) for one in sorted(releases, key=lambda one: (one.at, one.seq))}
    found: dict[tuple[str, str], Fact] = {}
    for one in sorted(failures, key=lambda one: (one.at, one.seq)):
        kinds = made(one)
        if not _refused(one) or "release" not in kinds or "rollback" in kinds:
            continue
        if released.get(_task(one), ("", 0)) < (one.at, one.seq):
            found.setdefault((text(one.dag), text(one.run)), one)
    return list(found.values())


def verdicts(facts: Iterable[Fact]) -> list[bool]:
    """Read whether challengers may replace their champions; also of gates that have said no and failed by it. Pure.

    Nothing else of a task that failed is a verdict: its yes has opened nothing, and what failed otherwise is judged again.

    :param facts: evaluations and failures; others are left out.
    :return: the verdicts, in the order given.
    """
    found: list[bool] = []
    for one in facts:
        if one.kind == "evaluation":
            said = one.body.get("promote")
            found += [said] if isinstance(said, bool) else []
        elif one.kind == "failure" and _refused(one):
            evaluations = [each for each in maps(one.body.get("found")) if each.get("kind") == "evaluation"]
            found += [False for each in evaluations if map_(each.get("body")).get("promote") is False]
    return found


def made(failure: Fact) -> list[str]:
    """Tell of which kinds the records are that a failed task would have made."""
    of = failure.body.get("of")
    return [kind for kind in of if isinstance(kind, str)] if isinstance(of, list) else []


def _refused(failure: Fact) -> bool:
    return text(failure.body.get("outcome")) == "refused"


def _task(fact: Fact) -> tuple[object, ...]:
    return fact.dag, fact.run, fact.task, fact.map_index
