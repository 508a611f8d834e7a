"""One look at a chain of objects beside its expectation: what the rules in :mod:`.rules` ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.flux.status import Names, Reconciled, Stage
from airflow_pipeops.waits.situation import VISIBLE_WITHIN, Look

#: Reasons of not being ready that are no failed attempt.
CANCELED, DEPENDENCY, NO_SOURCE = "HealthCheckCanceled", "DependencyNotReady", "SourceNotReady"
_NO_ATTEMPT = frozenset({CANCELED, DEPENDENCY, NO_SOURCE, "Progressing", "ProgressingWithRetry", ""})
_CHART_DIGEST = re.compile(r"[0-9a-f]{12}")
_KEPT = 20

#: What there is to know of a chart that was not packaged anew.
UNBUMPED = (
    "with reconcileStrategy ChartVersion a change of the chart's files without a new version is never deployed: raise "
    "the version in Chart.yaml, or set reconcileStrategy to Revision"
)


def chain_of(k: Look) -> Reconciled:
    """Return the chain that was observed."""
    assert isinstance(k.observed.reconciled, Reconciled)
    return k.observed.reconciled


def at(k: Look, names: Names) -> bool:
    """Whether a revision, by any of its names, is an acceptable one."""
    return bool(names and k.wanted) and all(
        any(k.as_good(wanted, name) for name in names) for wanted in k.wanted.values()
    )


def right(k: Look, names: Names) -> bool:
    """Whether a revision will do; where any will, none but that which the source holds now."""
    if k.expectation.match != "any":
        return not k.problem and at(k, names)
    source = chain_of(k).source
    return source is None or not source.holds or names[-1:] == source.holds[-1:]


def answered(k: Look, stage: Stage) -> bool:
    """Whether the request that we made was answered, or a later one of somebody else that took its place."""
    token = k.expectation.operation_id
    if not token or stage.handled == token:
        return True
    replaced = bool(stage.requested) and stage.requested != token and stage.handled == stage.requested
    return replaced and (k.memory.own_seen or k.held("invisible") >= VISIBLE_WITHIN)


def unanswered(k: Look, stage: Stage) -> bool:
    """Whether what a stage says is from before our request to it."""
    return stage is chain_of(k).main and not answered(k, stage)


def stages(k: Look) -> list[Stage]:
    """Return the stages that must come to where they should be, in their order: what applies something goes before it."""
    chain = chain_of(k)
    if k.expectation.match == "any":
        return [chain.main]
    return [*chain.above, *([chain.owner] if chain.owner else []), chain.main]


def current(k: Look) -> Stage | None:
    """Return the first stage that is not where it should be; ``None`` if all are."""
    return next((stage for stage in stages(k) if not _done_with(k, stage)), None)


def _done_with(k: Look, stage: Stage) -> bool:
    chain = chain_of(k)
    if stage is not chain.main:
        # Whoever applies something need not be ready: the health of that may be what it waits for.
        return stage.current and (
            (stage.ready == "True" and right(k, stage.applied))
            or (stage.past_apply and right(k, stage.tried))
        )
    # A suspended controller does not look at the change of the spec that suspended it.
    if stage.ready != "True" or not (stage.current or stage.suspended) or not answered(k, stage):
        return False
    return _released(k) if chain.release is not None else right(k, stage.applied) and _source_answered(k)


def _source_answered(k: Look) -> bool:
    """Whether what the source holds is of its present spec and, where we asked it to look again, later than that.

    Of no account where the revision says so itself.
    """
    source, token = chain_of(k).source, k.expectation.operation_id
    if source is None or k.expectation.match != "any":
        return True
    return (source.current or source.suspended) and (source.requested != token or source.handled == token)


def _released(k: Look) -> bool:
    chain = chain_of(k)
    release, stage = chain.release, chain.main
    assert release is not None
    return (
        not stage.busy
        and release.status == "deployed"
        and release.chart == release.attempted
        and release.same_values
        and release.attempted_generation in (None, stage.generation, stage.ready_generation)
        and not (release.remediated or release.tests or release.untested or release.behind)
        and (chain.chart is None or chain.chart.current or chain.chart.suspended)
        and charted(k)
        and (not k.expectation.chart or same_chart(k.expectation.chart, release.chart))
    )


def overtaken(k: Look) -> bool:
    """Whether Git says that what the source holds came after exactly that which is expected."""
    source = chain_of(k).source
    if source is None or not source.holds or k.expectation.match != "exact":
        return False
    now = source.holds[0]
    return bool(k.wanted) and all(
        k.expectation.contained.get(f"{wanted}..{now}") is True for wanted in k.wanted.values()
    )


def charted(k: Look) -> bool:
    """Whether the chart was built from an acceptable revision; of no account where that says nothing about the chart."""
    chain = chain_of(k)
    return chain.chart is None or not chart_of_commit(k) or right(k, chain.chart.built)


def chart_of_commit(k: Look) -> bool:
    """Whether the chart lies where the expected commit does, so that the commit may change it."""
    chain = chain_of(k)
    return (
        k.expectation.match != "any"
        and chain.chart_source is not None
        and fetches_the_same(k, chain.chart_source)
    )


def unproven(k: Look) -> str:
    """Say why the files of the chart may not be those of the commit; empty if they are, or nobody asks."""
    release = chain_of(k).release
    counts = release is not None and chart_of_commit(k) and not k.expectation.chart
    return release.unproven if release is not None and counts else ""


def unknown(k: Look) -> list[str]:
    """Say what nobody can tell of what is expected, and what is missing that would tell."""
    chain = chain_of(k)
    hidden = list(chain.hidden)
    if k.expectation.match == "any":
        # Any revision will do, so it is of no account who applies what; only what the source holds, and the chart.
        held_by = (chain.source,) if chain.release is None else (chain.chart, chain.chart_source)
        hidden = [one for one in held_by if one is not None and one.hidden]
    found = [f"{one} may decide, and cannot be looked at: {one.hidden}" for one in hidden]
    release, why = chain.release, unproven(k)
    if release is not None and why and release.unasked:
        found.append(f"{why}, and Git cannot say what changed in it: {release.unasked}")
    elif release is not None and why and release.unchanged:
        found.append(
            f"{k.expected} has released nothing, which is right if it changed nothing in {release.chart_path}: {why}. Give "
            f"git_conn_id, so that Git tells, or expect a chart version as well, if the chart is meant to stay; {UNBUMPED}"
        )
    return found


def fetches_the_same(k: Look, source: Stage) -> bool:
    """Whether a source fetches the revisions of which one is expected."""
    return any(one.key == source.key for one in chain_of(k).sources)


def same_chart(wanted: str, version: str) -> bool:
    """Whether a chart version is the wanted one; the digest that is appended to one from OCI may be left out."""
    plain, plus, digest = version.rpartition("+")
    return wanted == version or (bool(plus) and plain == wanted and bool(_CHART_DIGEST.fullmatch(digest)))


def source_for(k: Look, stage: Stage) -> Stage | None:
    """Return the source that a stage waits for; of a Helm release its chart, or what that is built from if that lacks."""
    chain = chain_of(k)
    if chain.release is None or stage is not chain.main:
        return next((one for one in chain.sources if one.key == stage.made_from), chain.source)
    chart, beyond = chain.chart, chain.chart_source
    if chart is None or beyond is None:
        return chart
    if not charted(k) and not at(k, beyond.holds):
        return beyond
    well = not (chart.missing or chart.trouble or chart.stalled or chart.suspended)
    return beyond if well and (beyond.stalled or beyond.trouble or beyond.missing) else chart


def old_news(k: Look, stage: Stage) -> bool:
    """Whether what a stage says is about something else than what is expected of it."""
    chain = chain_of(k)
    if not stage.current:
        return True
    if chain.release is None or stage is not chain.main:
        return not right(k, stage.tried)
    attempted = chain.release.attempted
    other = bool(k.expectation.chart and attempted) and not same_chart(k.expectation.chart, attempted)
    return other or bool(chain.release.behind) or not charted(k)


def failing(k: Look) -> Stage | None:
    """Return the stage whose last attempt at what is expected has failed."""
    stage = current(k)
    if stage is None or stage.ready != "False" or stage.reason in _NO_ATTEMPT or old_news(k, stage):
        return None
    if unanswered(k, stage):
        return None
    # The next attempt of a Helm release says what it does, and leaves the last one's failure standing.
    return None if stage.kind == "HelmRelease" and stage.busy.startswith("Running '") else stage


def lasting(k: Look) -> list[str]:
    """Name what is so now and may become decisive by lasting."""
    chain, stage = chain_of(k), current(k)
    if chain.main.missing:
        return ["absent"]
    names = ["owner"] if chain.owner is not None and chain.owner.missing else []
    if chain.source is not None and chain.source.holds and not at(k, chain.source.holds):
        names.append(f"elsewhere:{chain.source.holds[0]}")
    if stage is None:
        main = chain.main
        return [*names, f"ready:{main.since}|{main.ready_generation}|{'|'.join(main.applied[:1])}"]
    if failing(k):
        names.append(f"failing:{stage.reason}|{stage.generation}")
    source = source_for(k, stage)
    if source is not None and (source.trouble or source.missing):
        names.append("source")
    return names


def attempts(k: Look) -> Mapping[str, float]:
    """Remember the failed attempts at what is expected; those at anything else no longer count."""
    stage = current(k)
    if stage is None:
        return {}
    about = f"{stage.kind}|{stage.generation}|{','.join(stage.tried[:1])}|"
    kept = {name: seen for name, seen in k.memory.attempts.items() if name.startswith(about)}
    if failing(k):
        kept.setdefault(about + stage.attempt, k.memory.now)
    return dict(list(kept.items())[-_KEPT:])


def facts(k: Look) -> dict[str, Any]:
    """Return what a message says of a chain, as JSON."""
    chain = chain_of(k)
    release, last = chain.release, chain.owner or chain.main
    notes = [*k.observed.warnings, *chain.notes]
    if k.exact_only:
        notes.append(
            "nobody can say which commits contain the expected one (no Git connection), so it was matched exactly"
        )
    found: dict[str, Any] = {
        "kind": chain.main.kind,
        "tried": list(last.tried[:1]),
        "applied": list(last.applied[:1]),
        "failed_attempts": len(k.memory.attempts),
    }
    if release is not None:
        found["chart"], found["chart_status"], found["expected_chart"] = (
            release.chart,
            release.status,
            k.expectation.chart,
        )
        if release.drifted:
            notes.append(f"the cluster differs from the release: {release.drifted}")
    if unproven(k) and not any(unproven(k) in one for one in unknown(k)):
        notes.append(f"{unproven(k)}; {UNBUMPED}")
    notes += unknown(k)
    for source in (chain.source, *chain.sources[1:]):
        if source is not None and source.trouble:
            notes.append(f"{source} may be behind its origin: {source.trouble}")
    return {**found, "warnings": notes}
