"""The rules of a wait for a controller of the Flux kind, in the order in which they apply.

Such a controller never ends an operation: it fails, and tries again, for ever. So what counts is which revision it
tried, which it applied, of which spec its conditions speak, and how many *different* attempts have failed.

The stages (the Kustomizations that apply an object, the outermost first, and the object itself) are judged in that order,
and only the first that is not where it should be: what a later one says before that is old news.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.flux.chain import (
    CANCELED,
    DEPENDENCY,
    UNBUMPED,
    at,
    attempts,
    chain_of,
    charted,
    current,
    facts,
    failing,
    fetches_the_same,
    lasting,
    old_news,
    overtaken,
    right,
    same_chart,
    source_for,
    stages,
    unanswered,
    unknown,
    unproven,
)
from airflow_pipeops.flux.status import Names, Stage
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.rulebook import Rulebook, facts_of
from airflow_pipeops.waits.rules import Rule, by, deleting, fail, recreated, seconds
from airflow_pipeops.waits.situation import ABSENT_AFTER, Look
from airflow_pipeops.waits.status import short

_DIGEST = re.compile(r"(?:[^@\s]+@)?sha256:[0-9a-f]{64}")
#: Failures that a Helm controller tries again without a sign, so that one attempt cannot be told from the next.
_SILENT = frozenset(
    {"ValuesError", "ChartMutateError", "RESTClientError", "FactoryError", "StateError", "ArtifactFailed"}
)


def _absent(k: Look) -> Verdict | None:
    main = chain_of(k).main
    if not main.missing:
        return None
    if k.memory.uid:
        # Once may be a hiccup of an API server that has just started; twice is an answer.
        gone = k.held("absent") > 0
        return (fail if gone else _wait)("app_deleted", f"{main} is gone")
    sources = chain_of(k).sources
    found = _after_grace(
        k,
        "absent",
        "app_not_found",
        f"{main} does not exist, and may come with a commit that was not fetched yet",
    )
    if found.state != "wait" or not sources:
        return found
    # Which one brings it nobody knows before it is there.
    return _wait(found.rule, found.reason, ask=sources[k.memory.asks % len(sources)])


def _unmeetable(k: Look) -> Verdict | None:
    chain = chain_of(k)
    if k.expectation.match == "any":
        return None
    if not k.expectation.revisions:
        return fail("revision_missing", "no revision is expected; give one, or match any revision explicitly")
    if chain.release is not None and chain.owner is None:
        return fail(
            "not_owned",
            f"no Kustomization applies {chain.main}, so nothing says which commit it is from; expect a chart version",
        )
    if chain.owner is not None and chain.owner.missing:
        return _after_grace(
            k, "owner", "owner_missing", f"{chain.owner}, which applies {chain.main}, does not exist"
        )
    if chain.owner is not None and chain.owner.hidden:
        return None
    if k.problem:
        return fail(*k.problem)
    source = k.observed.sources[0]
    for wanted in k.wanted.values():
        if source.versioned and not (is_sha(wanted) or _DIGEST.fullmatch(wanted)):
            return fail(
                "revision_not_sha",
                f"revision {wanted!r} is neither a full commit id nor a digest (sha256:...), and a tag can move",
            )
        pinned = source.target
        if is_sha(pinned) and not k.as_good(wanted, pinned) and k.known(wanted, pinned):
            return fail(
                "pinned_elsewhere",
                f"{chain.source} is pinned to {short(pinned)}, so {short(wanted)} will never be fetched; change its ref "
                "or expect another revision",
            )
    return None


def _suspended(k: Look) -> Verdict | None:
    stage = current(k)
    # What comes after the current stage may be resumed by what that applies.
    reached = stages(k) if stage is None else stages(k)[: stages(k).index(stage) + 1]
    concerned = [one for one in reached if one.suspended]
    source = source_for(k, stage) if stage else None
    if source is not None and source.suspended and not at(k, source.holds):
        concerned.append(source)
    if not concerned or (k.expectation.on_suspended == "accept" and stage is None):
        return None
    names = " and ".join(map(str, concerned))
    reason = f"{names} {'is' if len(concerned) == 1 else 'are'} suspended, and nothing will change until it is resumed"
    return _wait("suspended", reason) if k.expectation.on_suspended == "wait" else fail("suspended", reason)


def _drifted(k: Look) -> Verdict | None:
    release, policy = chain_of(k).release, k.expectation.on_out_of_sync
    if release is None or current(k) is not None or policy == "accept":
        return None
    if release.drift_mode == "disabled":
        reason = (
            "released, and nobody can tell whether the cluster differs from the release: drift detection is off; set "
            "spec.driftDetection.mode to warn or enabled, or accept drift"
        )
        return fail("drift_unknown", reason) if policy == "fail" else _wait("drift_unknown", reason)
    if not release.drifted:
        return None
    reason = f"released, and the cluster differs from the release: {release.drifted}"
    return fail("drifted", reason) if policy == "fail" else _wait("drifted", reason)


def _unproven(k: Look) -> Verdict | None:
    release = chain_of(k).release
    if current(k) is not None or release is None or not (release.unbumped and unproven(k)):
        return None
    return fail(
        "chart_unproven",
        f"{short(release.unbumped)} has changed {release.chart_path} without a new version, which is not live: "
        f"{release.unproven}; {UNBUMPED}; or expect a chart version as well, if the chart is meant to stay",
    )


def _unknown(k: Look) -> Verdict | None:
    """Open no gate while nobody can say whether all is as expected: say what would tell."""
    stage = current(k)
    found = unknown(k)
    if not found or not (stage is None or stage.hidden):
        return None
    policy = k.expectation.on_unknown
    if stage is not None and policy == "accept":
        # Ready it may be of the commit before: right after a push it always is.
        policy = "wait"
    reason = f"whether {chain_of(k).main} is as expected nobody can tell: {'; '.join(found)}"
    return by(policy, "cannot_tell", reason)


def _ready(k: Look) -> Verdict | None:
    if current(k) is not None:
        return None
    chain = chain_of(k)
    where = short(k.observed.deployed[0]) if k.observed.deployed else "an unnamed revision"
    if chain.release is not None:
        where = f"chart {chain.release.chart}" + (f" from {where}" if chain.owner else "")
    held = max((k.held(name) for name in lasting(k) if name.startswith("ready:")), default=0.0)
    if held < k.expectation.settle:
        return _wait("settling", f"ready at {where} for {held:.0f} of {k.expectation.settle:.0f} s")
    return Verdict("done", "ready", f"{chain.main} is ready at {where}")


def _stalled(k: Look) -> Verdict | None:
    stage = current(k)
    if stage is None or not stage.stalled or unanswered(k, stage):
        return None
    if stage.kind == "HelmRelease" and old_news(k, stage):
        return None
    hint = "; mend it, or ask for a reconciliation with reset or force" if stage.kind == "HelmRelease" else ""
    detail = (
        f" ({_first_line(stage.message)})" if stage.message and stage.message not in stage.stalled else ""
    )
    return fail("stalled", f"{stage} has given up: {stage.stalled}{detail}{hint}")


def _not_answered(k: Look) -> Verdict | None:
    stage = current(k)
    if stage is None or not unanswered(k, stage) or stage.reason == DEPENDENCY:
        return None
    lost = not stage.requested
    what = ", which somebody has removed" if lost else ""
    return _wait(
        "not_answered",
        f"{stage} has not answered our request to reconcile{what}",
        ask=stage if lost else None,
    )


def _dependency(k: Look) -> Verdict | None:
    stage = current(k)
    if stage is None or stage.reason != DEPENDENCY or stage.ready != "False" or not stage.current:
        return None
    return _wait(
        "dependency_not_ready", f"{stage} waits: {'; '.join(stage.waits_for) or _first_line(stage.message)}"
    )


def _remediated(k: Look) -> Verdict | None:
    stage, release = current(k), chain_of(k).release
    if release is None or stage is None or stage is not chain_of(k).main or stage.busy or old_news(k, stage):
        return None
    if unanswered(k, stage):
        return None
    # With attempts left the controller is busy with the next one, and this one counts as any failed attempt.
    if release.remediated:
        return fail(
            "remediated", f"{stage} failed and was undone: {release.remediated}; {_first_line(stage.message)}"
        )
    if release.tests:
        return fail("tests_failed", f"the tests of {stage} failed: {release.tests}")
    return None


def _failed(k: Look) -> Verdict | None:
    stage = failing(k)
    if stage is None:
        return None
    needed = 1 if stage.reason == "BuildFailed" else max(1, k.expectation.failed_attempts)
    where = f" at {_written(stage.tried)}" if stage.kind == "Kustomization" else ""
    reason = f"{stage} failed{where} ({stage.reason}): {_first_line(stage.message)}"
    count = len(k.memory.attempts)
    silent = stage.kind == "HelmRelease" and stage.reason in _SILENT
    held = k.held(f"failing:{stage.reason}|{stage.generation}")
    if count >= needed or (silent and held >= k.expectation.comparison_grace):
        return fail("attempt_failed", reason + (f" ({count} attempts have failed)" if count > 1 else ""))
    return _wait("attempt_failed", f"{reason}; it will be tried again (failed attempt {count} of {needed})")


def _canceled(k: Look) -> Verdict | None:
    stage = current(k)
    if stage is None or stage.reason != CANCELED or stage.ready != "False":
        return None
    return _wait(
        "health_check_canceled",
        f"{stage} broke off its health checks for the sake of something newer: {stage.message}",
        ask=stage,
    )


def _superseded(k: Look) -> Verdict | None:
    source, stage = chain_of(k).source, current(k)
    if source is None or stage is None or not k.wanted or not source.holds or at(k, source.holds):
        return None
    if not all(
        k.known(wanted, name) for wanted in k.wanted.values() for name in source.holds if is_sha(name)
    ):
        return None
    first, now = stages(k)[0], _written(source.holds)
    if stage is not first or at(k, first.tried) or first.ready == "Unknown":
        return None
    if k.expectation.match == "contains" and k.expectation.oracle and k.memory.met:
        return fail(
            "superseded",
            f"{k.expected} was replaced by {now}, which does not contain it, before it was found ready: somebody has pushed "
            "by force; push it again, or expect what is there now",
        )
    advice = "wait with match='contains' (and a Git connection) to accept a newer revision that includes it"
    if k.memory.met or overtaken(k) or any(at(k, names) for names in first.seen):
        return fail("superseded", f"{k.expected} was replaced by {now} before it was found ready; {advice}")
    held = k.held(f"elsewhere:{source.holds[0]}")
    # Nobody says which came first; but what is fetched again and again without it is not at it any more.
    if (
        k.expectation.match == "exact"
        and k.memory.acknowledged >= ABSENT_AFTER
        and held >= k.expectation.absent_grace
    ):
        return fail(
            "superseded",
            f"{source} was fetched {k.memory.acknowledged} times and is at {now} for {seconds(held)}, so {k.expected} was "
            f"replaced before it was fetched, or is not on {k.targets}; {advice}",
        )
    return None


def _source(k: Look) -> Verdict | None:
    stage = current(k)
    source = source_for(k, stage) if stage else None
    if stage is None or source is None or (fetches_the_same(k, source) and at(k, source.holds)):
        return None
    if source.missing:
        return _after_grace(
            k, "source", "source_missing", f"{source}, which {stage} is made from, does not exist"
        )
    if source.stalled:
        return fail("source_stalled", f"{source} has given up: {source.stalled}")
    if source.trouble:
        return _after_grace(k, "source", "source_failing", f"{source} fails: {source.trouble}")
    return None


def _source_behind(k: Look) -> Verdict | None:
    stage = current(k)
    source = source_for(k, stage) if stage else None
    if source is None or not k.wanted or not fetches_the_same(k, source) or at(k, source.holds):
        return None
    tips = f"absent:{','.join(k.tips)}"
    if (
        source.key == chain_of(k).sources[0].key
        and k.absent
        and k.memory.acknowledged >= ABSENT_AFTER
        and k.held(tips) >= k.expectation.absent_grace
    ):
        return fail(
            "not_contained",
            f"{source} is at {_written(source.holds)}, which does not contain {k.expected}, after {k.memory.acknowledged} "
            f"reconciliations in {seconds(k.held(tips))}: push the commit to {k.targets}, or change its ref",
        )
    target = k.observed.sources[0].target or "its default branch"
    nameless = k.observed.sources[0].versioned and source.holds and not is_sha(source.holds[0])
    commits = all(is_sha(wanted) for wanted in k.wanted.values())
    hint = (
        "its artifact does not say which commit it is from (org.opencontainers.image.revision), so expect its digest"
        if nameless and commits
        else f"does {target} contain that?"
    )
    return _wait(
        "source_behind",
        f"{source} holds {_written(source.holds)}, and {k.expected} is expected: {hint}",
        ask=source,
    )


def _not_tried(k: Look) -> Verdict | None:
    stage, chain = current(k), chain_of(k)
    if stage is None or (stage is chain.main and chain.release is not None):
        return None
    if stage.current and right(k, stage.tried):
        return None
    if stage.current:
        held = chain.source.holds if chain.source else ()
        wanted = k.expected if k.wanted else _written(held)
        where = f"is at {_written(stage.tried)}, and {wanted} is expected"
    else:
        where = f"has yet to look at generation {stage.generation} of its spec"
    return _wait("not_tried", f"{stage} {where}", ask=None if stage.ready == "Unknown" else stage)


def _progressing(k: Look) -> Verdict:
    stage, release = current(k), chain_of(k).release
    assert stage is not None
    idle = not stage.busy and stage.ready != "Unknown"
    whom = _who_helps(k, stage)
    why = stage.busy or stage.message or "its controller has not looked at it yet"
    made_from = source_for(k, stage)
    if not stage.current:
        why = f"it has yet to look at generation {stage.generation} of its spec"
    elif made_from is not None and not (made_from.current or made_from.suspended):
        why, whom = f"{made_from} has yet to look at generation {made_from.generation} of its spec", made_from
    elif release is not None and stage is chain_of(k).main:
        if (
            k.expectation.chart
            and release.attempted
            and not same_chart(k.expectation.chart, release.attempted)
        ):
            why = f"chart {release.attempted} was attempted last, and {k.expectation.chart} is expected"
        elif release.behind:
            why = release.behind
        elif not charted(k):
            why = f"{chain_of(k).chart} has not been built from {k.expected} yet"
        elif stage.ready == "Unknown" and release.status == "deployed" and release.chart == release.attempted:
            why += "; the release itself is deployed, so if this lasts, its status is stuck: reconcile it with force"
        elif stage.ready == "True" and release.untested:
            why = "its tests have not run yet"
    return _wait("progressing", f"{stage} is not there yet: {why}", ask=whom if idle else None)


def _who_helps(k: Look, stage: Stage) -> Stage:
    """Return whom to ask: of a release whose chart is not there yet, all whom that passes through, in turn."""
    chain = chain_of(k)
    chart, beyond = chain.chart, chain.chart_source
    if stage is not chain.main or chain.release is None or chart is None or chart.missing:
        return stage
    arrived = not k.expectation.chart or (
        bool(chart.holds) and same_chart(k.expectation.chart, chart.holds[0])
    )
    unbuilt = not charted(k) or bool(beyond and beyond.holds and chart.built and beyond.holds != chart.built)
    whom = [] if arrived and not unbuilt else [chart]
    if not arrived and beyond is not None and not beyond.missing:
        whom.insert(0, beyond)
    whom.append(stage)
    return whom[k.memory.asks % len(whom)]


def _after_grace(k: Look, name: str, rule: str, reason: str) -> Verdict:
    """Fail once something has lasted for the grace of a comparison."""
    held = k.held(name)
    if held >= k.expectation.comparison_grace:
        return fail(rule, f"{reason} (for {seconds(held)})")
    return _wait(rule, f"{reason}; may last {seconds(k.expectation.comparison_grace)}")


def _written(names: Names) -> str:
    return short(names[0]) if names else "nothing yet"


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:600]


def _wait(rule: str, reason: str, *, ask: Stage | None = None) -> Verdict:
    """Go on waiting; whoever looks should ask the controller of ``ask`` for a reconciliation."""
    details = {"ask": [ask.kind, ask.namespace, ask.name]} if ask else {}
    return Verdict("wait", rule, reason, details, refresh=ask is not None)


#: The order of the rules; deletion and re-creation are judged as for any application. The last one always speaks.
RECONCILING: tuple[Rule, ...] = (
    _absent,
    deleting,
    recreated,
    _unmeetable,
    _suspended,
    _drifted,
    _unproven,
    _unknown,
    _ready,
    _stalled,
    _not_answered,
    _remediated,
    _failed,
    _canceled,
    _superseded,
    _source,
    _source_behind,
    # What a commit mends, waits for that commit: so this comes after the sources.
    _dependency,
    _not_tried,
    _progressing,
)


def _details(k: Look) -> dict[str, Any]:
    return facts_of(k) | facts(k)


#: How objects of Flux are judged: its conditions say of which spec and revision they speak, so nothing is confirmed.
RULEBOOK = Rulebook(RECONCILING, _details, confirms=False, lasting=lasting, attempts=attempts)
