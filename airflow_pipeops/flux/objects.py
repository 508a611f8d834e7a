"""Read objects of Flux (their JSON) into :class:`~airflow_pipeops.waits.status.Observed`.

Tolerant of what is absent or of another shape: a field that cannot be read counts as not there, so a strange answer
can delay a verdict and cannot make a green one. Only an object that is none of Flux's is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text, time_of, whole
from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.flux.kinds import Ref, chart_of, owner_of, ref_of, references, source_of
from airflow_pipeops.flux.revisions import names
from airflow_pipeops.flux.stages import Objects, condition, conditions, stage
from airflow_pipeops.flux.status import DriftMode, Reconciled, Release, Stage
from airflow_pipeops.waits.status import Condition, Observed, Operation, Resource, Source, same_repository

Json = Mapping[str, Any]

#: ``Deployment/apps/api status: 'InProgress'`` in what a health check says when it gives up.
_UNHEALTHY = re.compile(r"\b([A-Z]\w*)/(?:([a-z0-9.-]+)/)?([A-Za-z0-9.:-]+) status: '(\w+)'")
_HEALTH = {
    "InProgress": "Progressing",
    "Failed": "Degraded",
    "NotFound": "Missing",
    "Terminating": "Progressing",
}
_DRIFT: Mapping[str, DriftMode] = {"enabled": "enabled", "warn": "warn"}
_NO_TEST_FAILURES = ("install", "upgrade")


def observe(
    objects: Sequence[Any], missing: Iterable[Ref] = (), hidden: Mapping[Ref, str] | None = None
) -> Observed:
    """Read one look.

    :param objects: the Kustomization or HelmRelease itself first, then what it refers to, in any order:
        source, chart, owner, dependencies.
    :param missing: what it refers to and is not there.
    :param hidden: what decides about it and nobody could look at, and why.
    :return: the look.
    :raises BadResponse: if the first is no Kustomization or HelmRelease.
    """
    found: dict[Ref, Json] = {}
    for item in objects:
        found.setdefault(ref_of(map_(item)), map_(item))
    if not found:
        raise BadResponse("the answer is no object of Flux: it is empty")
    around = Objects(found, frozenset(missing), hidden or {})
    me, item = next(iter(found.items()))
    if me.kind == "Kustomization":
        return _kustomization(me, item, around)
    if me.kind == "HelmRelease":
        return _helm_release(me, item, around)
    raise BadResponse(f"{me} is neither a Kustomization nor a HelmRelease")


def absent(me: Ref, sources: Sequence[Json] = ()) -> Observed:
    """Return the look at an object that is not there.

    :param me: the object.
    :param sources: what may fetch the commit that brings it.
    :return: the look.
    """
    around = Objects({ref_of(item): item for item in sources}, frozenset([me]))
    chain = Reconciled(stage(me, around), sources=tuple(stage(one, around) for one in around.found))
    return Observed(name=me.name, namespace=me.namespace, health="Missing", reconciled=chain, called=str(me))


def _kustomization(me: Ref, item: Json, around: Objects) -> Observed:
    main = stage(me, around)
    at = source_of(item)
    source = stage(at, around) if at else None
    spec = map_(item.get("spec"))
    notes = []
    if spec.get("wait") is not True and not maps(spec.get("healthChecks")):
        notes.append(
            f"{me} has neither wait nor healthChecks, so ready means applied, and says nothing about its workloads"
        )
    above = _above(me, at, around)
    chain = Reconciled(
        main,
        source,
        above=above,
        sources=_sources(at, (main, *above), around),
        hidden=tuple(stage(one, around) for one in around.hidden),
        notes=tuple(notes),
    )
    return _observed(item, chain, _source(at, around), spec)


def _helm_release(me: Ref, item: Json, around: Objects) -> Observed:
    spec, status = map_(item.get("spec")), map_(item.get("status"))
    owners = owner_of(item)
    owner = stage(owners[0], around) if owners else None
    applied_by = around.get(owners[0]) if owners else None
    at = source_of(applied_by) if applied_by else None
    chart = chart_of(spec, status, me.namespace)
    release = _release(item, chart, around)
    notes = []
    for action in ("install", "upgrade"):
        if map_(spec.get(action)).get("disableWait") is True:
            notes.append(
                f"{me} has {action}.disableWait, so ready says nothing about its workloads after that"
            )
    if release.drift_mode == "disabled":
        notes.append(
            f"{me} has drift detection off (spec.driftDetection.mode), so ready stays true whatever happens to its objects"
        )
    if maps(spec.get("valuesFrom")):
        notes.append(
            f"{me} takes values from other objects; a change of those alone may be noticed an interval later"
        )
    above = tuple(one for one in _above(me, at, around) if owner is None or one.key != owner.key)
    held_by = stage(chart, around) if chart else None
    beyond = held_by.made_from if held_by else None
    stages = [one for one in (owner, *above, held_by) if one is not None]
    chain = Reconciled(
        stage(me, around),
        stage(at, around) if at else None,
        owner,
        above,
        _sources(at, stages, around),
        held_by,
        stage(Ref(*beyond), around) if beyond else None,
        release,
        tuple(stage(one, around) for one in around.hidden),
        tuple(notes),
    )
    return _observed(item, chain, _source(at, around), spec)


def _above(me: Ref, at: Ref | None, around: Objects) -> tuple[Stage, ...]:
    """Return the Kustomizations that apply any object of a chain and are made from the same revisions, outermost first.

    :param me: where the chain ends.
    :param at: the source whose revisions count.
    """
    owners: dict[Ref, None] = {}
    wave, known = [me], {me}
    while wave:
        item = around.get(wave.pop(0))
        if item is None:
            continue
        # Nearer ones are met first; one that is met again further away stands there.
        for owner in owner_of(item):
            owners.pop(owner, None)
            owners[owner] = None
        following = [one for one in references(item) if one not in known]
        known.update(following)
        wave += following
    found = [one for one in reversed(owners) if one != me and (item := around.get(one)) is not None]
    return tuple(stage(one, around) for one in found if same_source(source_of(around.found[one]), at, around))


def _sources(at: Ref | None, stages: Iterable[Stage], around: Objects) -> tuple[Stage, ...]:
    """Return the objects that fetch the same revisions as one of them, that one first; each fetches for itself."""
    if at is None:
        return ()
    made_from = [Ref(*one.made_from) for one in stages if one.made_from]
    same = [one for one in made_from if same_source(one, at, around)]
    return tuple(stage(one, around) for one in dict.fromkeys([at, *same]))


def same_source(one: Ref | None, other: Ref | None, around: Objects) -> bool:
    """Whether two sources fetch the same revisions: the same repository, and the same branch, tag or digest of it.

    :param one: a source.
    :param other: another, or the same.
    :param around: what was read of them.
    :return: ``False`` also where nobody could read them.
    """
    if one is None or other is None or one == other:
        return one == other and one is not None
    specs = [map_(item.get("spec")) for ref in (one, other) if (item := around.get(ref)) is not None]
    if one.kind != other.kind or len(specs) < 2:
        return False
    refs = [map_(spec.get("ref")) for spec in specs]
    urls = [text(spec.get("url")) for spec in specs]
    return bool(urls[0]) and same_repository(urls[0], urls[1]) and refs[0] == refs[1]


def _release(item: Json, chart: Ref | None, around: Objects) -> Release:
    spec, status = map_(item.get("spec")), map_(item.get("status"))
    newest = next(
        iter(sorted(maps(status.get("history")), key=lambda one: -(whole(one.get("version")) or 0))), {}
    )
    remediated, tests, drifted = (condition(item, name) for name in ("Remediated", "TestSuccess", "Drifted"))
    test = map_(spec.get("test"))
    attempted = text(status.get("lastAttemptedRevision"))
    config, last = text(newest.get("configDigest")), text(status.get("lastAttemptedConfigDigest"))
    digest, tried = text(newest.get("ociDigest")), text(status.get("lastAttemptedRevisionDigest"))
    counts = test.get("enable") is True and not _ignored(spec, status)
    mode = _DRIFT.get(text(map_(spec.get("driftDetection")).get("mode")), "disabled")
    return Release(
        chart=text(newest.get("chartVersion")),
        status=text(newest.get("status")),
        number=whole(newest.get("version")) or 0,
        attempted=attempted,
        same_values=(not config or not last or config == last)
        and (not digest or not tried or digest == tried),
        attempted_generation=whole(status.get("lastAttemptedGeneration")),
        remediated=_said(remediated) if text(remediated.get("status")) == "True" else "",
        tests=_said(tests) if counts and text(tests.get("status")) == "False" else "",
        untested=counts and not isinstance(newest.get("testHooks"), Mapping),
        drifted=_said(drifted) if mode != "disabled" and text(drifted.get("status")) == "True" else "",
        drifted_since=text(drifted.get("lastTransitionTime")),
        drift_mode=mode,
        behind=_behind(attempted, tried, chart, around),
        unproven=_unproven(newest, chart, around),
        chart_path=text(map_((around.get(chart) or {}).get("spec")).get("chart")) if chart else "",
        unchanged=_unchanged(newest, chart, around),
    )


def _behind(attempted: str, digest: str, chart: Ref | None, around: Objects) -> str:
    """Say why the last attempt was not made with the chart that is there now; empty if it was, or nobody knows."""
    item = around.get(chart) if chart else None
    if chart is None or item is None:
        return ""
    status = map_(item.get("status"))
    artifact = text(map_(status.get("artifact")).get("revision"))
    if chart.kind == "HelmChart":
        unbuilt = _unbuilt(chart, item, status, around)
        if unbuilt or not artifact or not attempted or artifact == attempted:
            return unbuilt
        return f"{chart} holds {artifact}, and {attempted} was last attempted"
    version, _, now = artifact.rpartition("@")
    current = not artifact or not digest or now == digest
    return "" if current else f"{chart} holds {version or now}, and {attempted} was last attempted"


def _unproven(newest: Json, chart: Ref | None, around: Objects) -> str:
    """Say that a chart was packaged before its repository of files was fetched last, or again since it was released.

    What is packaged again under the same version, as where the controller has lost its storage, is not released again.
    With the strategy ``ChartVersion`` a change of its files alone is left out, and nothing in the cluster tells that from a
    commit which changes other files.
    """
    item = around.get(chart) if chart else None
    at = source_of(item) if item and chart and chart.kind == "HelmChart" else None
    source = around.get(at) if at and at.kind in ("GitRepository", "Bucket") else None
    if item is None or source is None:
        return ""
    strategy = text(map_(item.get("spec")).get("reconcileStrategy")) or "ChartVersion"
    packaged, fetched = (map_(map_(one.get("status")).get("artifact")) for one in (item, source))
    made, known = (_time(text(one.get("lastUpdateTime"))) for one in (packaged, fetched))
    deployed = _time(text(newest.get("lastDeployed")))
    if strategy != "ChartVersion" or made is None or known is None:
        return ""
    packed = text(packaged.get("lastUpdateTime"))
    said = f"{chart} holds version {text(packaged.get('revision'))}, packaged {packed} and not "
    if made < known:
        return f"{said}again since {names(text(fetched.get('revision')))[0]} was fetched"
    if deployed is not None and deployed < made:
        return f"{said}released since"
    return ""


def _unchanged(newest: Json, chart: Ref | None, around: Objects) -> bool:
    """Whether nothing was released since the chart's repository fetched what it holds."""
    item = around.get(chart) if chart else None
    at = source_of(item) if item else None
    artifact = map_(map_((around.get(at) if at else None) or {}).get("status")).get("artifact")
    fetched, deployed = (
        _time(text(map_(artifact).get("lastUpdateTime"))),
        _time(text(newest.get("lastDeployed"))),
    )
    return fetched is not None and deployed is not None and deployed < fetched


def _unbuilt(chart: Ref, item: Json, status: Json, around: Objects) -> str:
    """Say that a chart that lies in a repository of files has not been built from what that holds now."""
    at = source_of(item)
    source = around.get(at) if at and at.kind in ("GitRepository", "Bucket") else None
    if source is None:
        return ""
    holds = text(map_(map_(source.get("status")).get("artifact")).get("revision"))
    built = text(status.get("observedSourceArtifactRevision"))
    if holds and built and built != holds:
        return f"{chart} was built from {names(built)[0]}, and {at} holds {names(holds)[0]}"
    busy = condition(item, "Reconciling")
    return (
        f"{chart} is being built: {text(busy.get('message'))}" if text(busy.get("status")) == "True" else ""
    )


def _ignored(spec: Json, status: Json) -> bool:
    """Whether failed tests of the last action do not count; what the action says goes before what the tests say."""
    action = text(status.get("lastAttemptedReleaseAction"))
    if action in _NO_TEST_FAILURES:
        own = map_(map_(spec.get(action)).get("remediation")).get("ignoreTestFailures")
        if isinstance(own, bool):
            return own
    return map_(spec.get("test")).get("ignoreFailures") is True


def _source(at: Ref | None, around: Objects) -> tuple[Source, ...]:
    item = around.get(at) if at else None
    if at is None:
        return ()
    spec = map_(item.get("spec")) if item else {}
    ref = map_(spec.get("ref"))
    written = (
        ("commit", "name", "semver", "tag", "branch")
        if at.kind == "GitRepository"
        else ("digest", "semver", "tag")
    )
    target = next((text(ref.get(key)) for key in written if text(ref.get(key))), "")
    url = text(spec.get("url")) or text(spec.get("endpoint")) or str(at)
    return (Source(url, target, versioned=at.kind != "GitRepository"),)


def _observed(item: Json, chain: Reconciled, sources: tuple[Source, ...], spec: Json) -> Observed:
    main = chain.main
    metadata = map_(item.get("metadata"))
    last = chain.owner or main
    holds = chain.source.holds if chain.source else ()
    health = {"True": "Healthy", "False": "Degraded", "Unknown": "Progressing"}.get(main.ready, "Unknown")
    if main.suspended:
        health = "Suspended"
    return Observed(
        name=main.name,
        namespace=main.namespace,
        uid=text(metadata.get("uid")),
        sources=sources,
        desired=holds[:1],
        sync="Synced" if last.applied and last.applied == holds else "OutOfSync" if holds else "Unknown",
        health=health,
        health_since=_time(main.since),
        operation=Operation(
            phase={"True": "Succeeded", "False": "Failed"}.get(main.ready, "Running"),
            message=main.message,
            revisions=last.tried[:1],
            asked=last.tried[:1],
            has_result=main.ready in ("True", "False"),
            ids={"requested": main.requested, "handled": main.handled},
        ),
        conditions=tuple(
            Condition(text(one.get("type")), f"{text(one.get('status'))}, {_said(one)}")
            for one in conditions(item)
        ),
        resources=unhealthy(main.message),
        deployed=last.applied[:1],
        deleting=bool(metadata.get("deletionTimestamp")),
        automatic=True,
        self_heal=main.kind == "Kustomization",
        owner=chain.owner.kind if chain.owner else "",
        reconciled=chain,
        called=str(main),
    )


def unhealthy(message: str) -> tuple[Resource, ...]:
    """Read the resources that a health check names when it gives up."""
    return tuple(
        Resource(kind, name, namespace or "", health=_HEALTH.get(status, status))
        for kind, namespace, name, status in _UNHEALTHY.findall(message)
    )


def _said(one: Json) -> str:
    return f"{text(one.get('reason'))}: {text(one.get('message'))}".strip(": ")


def _time(value: str) -> float | None:
    found = time_of(value)
    return found.timestamp() if found else None
