"""What real Flux controllers wrote, judged by our rules, and held against what was true at that moment."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_pipeops.exceptions import Unreachable
from airflow_pipeops.flux.client import FluxClient, gather
from airflow_pipeops.flux.differences import corrections, verdict_on
from airflow_pipeops.flux.kinds import Ref
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.flux.rules import RULEBOOK
from airflow_pipeops.flux.waits import Asking, FluxController
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from airflow_pipeops.waits.wait import Wait
from tests.flux.judging import decide
from tests.flux.objects import at, cond, obj

RECORDINGS = Path(__file__).parent / "recordings"
BASE = Expectation(settle=0.0, on_suspended="fail", on_out_of_sync="accept", timeout=None)


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the objects or events of a recording."""
    found = json.loads((RECORDINGS / f"{name}.json").read_text())
    return found if isinstance(found, list) else [found]


def repository(name: str, commit: str, namespace: str = "flux-system") -> dict[str, Any]:
    """Return a GitRepository that holds a commit, where none was recorded."""
    spec = {"url": f"https://git.example.com/{name}.git", "ref": {"branch": "main"}}
    made = obj(
        "GitRepository", name, spec, {"artifact": {"revision": at(commit)}, "conditions": [cond("Ready")]}
    )
    made["metadata"]["namespace"] = namespace
    return made


def owner(name: str, source: str, commit: str) -> dict[str, Any]:
    """Return a Kustomization that has applied a commit, where none was recorded."""
    status = {
        "lastAppliedRevision": at(commit),
        "lastAttemptedRevision": at(commit),
        "conditions": [cond("Ready", True, "ReconciliationSucceeded")],
    }
    return obj("Kustomization", name, {"sourceRef": {"kind": "GitRepository", "name": source}}, status)


def judged(objects: list[Any], expectation: Expectation, *, looks: int = 1) -> Verdict:
    """Judge looks at the same, a second apart."""
    memory = Memory()
    for second in range(looks):
        verdict, memory = decide(observe(objects), expectation, memory, float(second))
    return verdict


def sha(short: str, *objects: Any) -> str:
    """Return the commit that begins so, as some object writes it."""
    text = json.dumps(objects)
    begin = text.index(f"sha1:{short}") + 5
    return text[begin : begin + 40]


@dataclass(frozen=True)
class Moment:
    """A recorded moment, what is asked about it, and the answer.

    :param name: of the recording.
    :param commit: that is expected, by its beginning; empty: any.
    :param state: of the verdict that is true.
    :param rule: that says so.
    :param says: what the reason or a warning must name.
    :param around: objects that were not recorded, as they stood: (name, source) of the owner, or the source alone.
    :param more: changes of the expectation.
    :param looks: how many.
    """

    name: str
    commit: str
    state: str
    rule: str
    says: str = ""
    around: tuple[str, ...] = ()
    more: tuple[tuple[str, Any], ...] = ()
    looks: int = 1


MOMENTS = {
    # Live is the commit before: the newest one cannot be built.
    "build": Moment(
        "kustomization-buildfailed", "e5b0ffbd", "failed", "attempt_failed", "BuildFailed", ("fleet3",)
    ),
    # A server-side dry run refuses it; live is the commit before.
    "refused": Moment(
        "kustomization-reconciliationfailed",
        "21d54044",
        "wait",
        "attempt_failed",
        ".spec.replicas",
        ("fleet3",),
    ),
    "refused-once-is-enough": Moment(
        "kustomization-reconciliationfailed",
        "21d54044",
        "failed",
        "attempt_failed",
        ".spec.replicas",
        ("fleet3",),
        (("failed_attempts", 1),),
    ),
    # The path was never there: nothing is live, and not even an attempted revision is noted.
    "path": Moment(
        "kustomization-path-missing", "e442843a", "wait", "attempt_failed", "path not found", ("fleet3",)
    ),
    # The expected commit removed it; live is the commit before.
    "path-removed": Moment(
        "kustomization-path-removed", "419f6adc", "wait", "attempt_failed", "path not found", ("fleet3",)
    ),
    # A bad image.
    "health": Moment(
        "kustomization-healthcheckfailed",
        "55cb4cb4",
        "wait",
        "attempt_failed",
        "Deployment/apps/c-bad",
        ("fleet3",),
    ),
    # Suspended, and where it was expected; nothing newer will come.
    "suspended": Moment("kustomization-suspended", "7aeec8be", "failed", "suspended", "", ("fleet2",)),
    "suspended-and-accepted": Moment(
        "kustomization-suspended", "7aeec8be", "done", "ready", "", ("fleet2",), (("on_suspended", "accept"),)
    ),
    # Without health checks: applied, and not necessarily rolled out.
    "no-wait": Moment(
        "kustomization-wait-false-ready", "3b1cdfd9", "done", "ready", "neither wait", ("fleet2",)
    ),
    # Caught in the middle of the attempt, which ended well a few seconds later.
    "in-progress": Moment(
        "kustomization-wait-true-ready", "3b1cdfd9", "wait", "progressing", "", ("fleet2",)
    ),
    # What it depends on cannot be built either.
    "dependency": Moment(
        "kustomization-dependency-not-ready",
        "d21fa424",
        "wait",
        "dependency_not_ready",
        "ArtifactFailed",
        ("fleet3",),
    ),
    # Ready at the newest commit; its own spec of that commit was never applied, since its parent cannot be built.
    "child": Moment(
        "kustomization-child-of-broken-parent",
        "08bb9e2e",
        "failed",
        "attempt_failed",
        "flux-system/parent",
        ("fleet6",),
    ),
    # The values of the commit with the chart before it: the chart's own GitRepository has not fetched.
    "second-source": Moment(
        "helmrelease-second-source-behind",
        "d8202ff7",
        "wait",
        "source_behind",
        "apps/charts",
        ("hrb", "fleet5"),
    ),
    # The template of the commit is not live, and never will be: the version is the one before. The cluster says the same
    # of a commit that has changed something else, so without Git nobody can tell.
    "no-new-version": Moment(
        "helmrelease-chartversion-nobump",
        "f79cfd5c",
        "wait",
        "cannot_tell",
        "Give git_conn_id",
        ("hr", "fleet2"),
    ),
    "no-new-version-and-red": Moment(
        "helmrelease-chartversion-nobump",
        "f79cfd5c",
        "failed",
        "cannot_tell",
        "reconcileStrategy",
        ("hr", "fleet2"),
        (("on_unknown", "fail"),),
    ),
    "no-new-version-and-accepted": Moment(
        "helmrelease-chartversion-nobump",
        "f79cfd5c",
        "done",
        "ready",
        "Give git_conn_id",
        ("hr", "fleet2"),
        (("on_unknown", "accept"),),
    ),
    # The same with the strategy Revision: live.
    "revision-strategy": Moment(
        "helmrelease-revision-strategy", "32fbc311", "done", "ready", "", ("hr", "fleet2")
    ),
    # Live are the values before.
    "rolled-back": Moment(
        "helmrelease-upgrade-failed-rolledback", "", "failed", "stalled", "RetriesExceeded"
    ),
    "not-installed": Moment("helmrelease-install-failed", "", "failed", "stalled", "MissingRollbackTarget"),
}


def the_look(moment: Moment, objects: list[Any], commit: str) -> list[Any]:
    """Return a recording with what stood around it."""
    *owners, source = moment.around or ("",)
    known = {(item["kind"], item["metadata"]["name"]) for item in objects}
    more = [owner(name, source, commit) for name in owners]
    if source and ("GitRepository", source) not in known:
        more.append(repository(source, commit))
    return [*objects, *more]


@pytest.mark.parametrize("name", MOMENTS)
def test_the_verdict_is_true(name: str) -> None:
    moment = MOMENTS[name]
    objects = recorded(moment.name)
    commit = sha(moment.commit, *objects) if moment.commit else ""
    expectation = replace(
        BASE,
        revisions={"*": commit} if commit else {},
        match="exact" if commit else "any",
        **dict(moment.more),
    )
    verdict = judged(the_look(moment, objects, commit), expectation, looks=moment.looks)
    assert (verdict.state, verdict.rule) == (moment.state, moment.rule), verdict.reason
    said = [verdict.reason, *verdict.details["warnings"]]
    assert any(moment.says in one for one in said), said


def test_a_commit_that_released_something_is_done_with_a_word_about_the_chart() -> None:
    objects = recorded("helmrelease-chartversion-nobump")
    commit = sha("f79cfd5c", *objects)
    released = copy.deepcopy([*objects, owner("hr", "fleet2", commit)])
    released[0]["status"]["history"][0]["lastDeployed"] = "2026-11-29T02:30:24Z"
    verdict = judged(released, replace(BASE, revisions={"*": commit}))
    assert verdict.state == "done"
    assert any("reconcileStrategy" in one for one in verdict.details["warnings"])
    # Whoever expects the version as well, has said that the chart stays.
    same = [*objects, owner("hr", "fleet2", commit)]
    assert judged(same, replace(BASE, revisions={"*": commit}, chart="0.4.0")).state == "done"
    # Packaged again after the fetch, and not released since: what is live is still the package before.
    same[1]["status"]["artifact"]["lastUpdateTime"] = "2026-11-29T02:30:25Z"
    verdict = judged(same, replace(BASE, revisions={"*": commit}))
    assert (verdict.state, verdict.rule) == ("wait", "cannot_tell")
    assert "packaged 2026-11-29T02:30:25Z and not released since" in verdict.reason
    # And released after that, there is nothing to doubt.
    same[0]["status"]["history"][0]["lastDeployed"] = "2026-11-29T02:30:25Z"
    verdict = judged(same, replace(BASE, revisions={"*": commit}))
    assert (verdict.state, verdict.details["warnings"][1:]) == ("done", [])


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        ("", "done", ""),
        ("c" * 40, "failed", "cccccccc has changed ./charts/api without a new version"),
        (None, "wait", "Git cannot say what changed in it: no Git"),
    ],
)
def test_git_says_whether_the_files_of_a_chart_are_those_of_the_commit(
    answer: str | None, state: str, says: str
) -> None:
    objects = recorded("helmrelease-chartversion-nobump")
    commit = sha("f79cfd5c", *objects)
    look = {Ref(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]): one for one in objects}
    look[Ref("Kustomization", "flux-system", "hr")] = owner("hr", "fleet2", commit)
    asked: list[tuple[str, str]] = []

    async def get(ref: Ref) -> dict[str, Any]:
        return look[ref]

    async def charts(path: str, revision: str) -> str:
        asked.append((path, revision))
        if answer is None:
            raise Unreachable("no Git")
        return answer

    async def nobody(*_: Any) -> Any:
        raise AssertionError("nobody is asked")

    async def judged_by_the_controller() -> Verdict:
        controller = FluxController(lambda ref: gather(ref, get), nobody, Asking(nobody, ""), charts=charts)
        wait = Wait(
            Ref("HelmRelease", "apps", "api"), replace(BASE, revisions={"*": commit}), rulebook=RULEBOOK
        )
        return await controller.judged(wait)

    verdict = asyncio.run(judged_by_the_controller())
    assert asked == [("./charts/api", commit)]
    assert verdict.state == state, verdict.reason
    assert says in verdict.reason


def test_the_source_that_has_not_fetched_is_asked() -> None:
    objects = recorded("helmrelease-second-source-behind")
    commit = sha("d8202ff7", *objects)
    look = [*objects, owner("hrb", "fleet5", commit)]
    verdict = judged(look, replace(BASE, revisions={"*": commit}))
    assert verdict.details["ask"] == ["GitRepository", "apps", "charts"]
    # Once it has, its chart must be built from that, and be live.
    fetched = copy.deepcopy(look)
    fetched[2]["status"]["artifact"]["revision"] = at(commit)
    verdict = judged(fetched, replace(BASE, revisions={"*": commit}))
    assert (verdict.state, verdict.rule) == ("wait", "progressing")
    # A chart of another branch of the repository is none of the commit's.
    fetched[2]["spec"]["ref"] = {"branch": "stable"}
    fetched[1]["status"]["observedSourceArtifactRevision"] = at(commit)
    assert judged(fetched, replace(BASE, revisions={"*": commit})).state == "done"


def test_a_parent_that_is_made_from_another_repository_is_of_no_account() -> None:
    child, parent = recorded("kustomization-child-of-broken-parent")
    commit = sha("08bb9e2e", child)
    parent["spec"]["sourceRef"]["name"] = "fleet"
    look = [child, repository("fleet6", commit), parent, repository("fleet", "a" * 40)]
    assert judged(look, replace(BASE, revisions={"*": commit})).state == "done"


def test_a_child_is_done_once_its_parent_has_applied_the_commit() -> None:
    child, parent = recorded("kustomization-child-of-broken-parent")
    commit = sha("08bb9e2e", child)
    well = owner("parent", "fleet6", commit)
    look = [child, repository("fleet6", commit), well]
    assert judged(look, replace(BASE, revisions={"*": commit})).state == "done"
    # And while the parent waits for nothing but the child's health.
    waiting = copy.deepcopy(parent)
    for one in waiting["status"]["conditions"]:
        one.update(status="Unknown" if one["type"] == "Ready" else "True", reason="Progressing")
        one["message"] = f"Running health checks for revision {at(commit)} with a timeout of 14s"
    assert (
        judged([child, repository("fleet6", commit), waiting], replace(BASE, revisions={"*": commit})).state
        == "done"
    )


def test_a_dependency_that_an_unfetched_commit_mends_does_not_hide_that_commit() -> None:
    objects = recorded("kustomization-dependency-not-ready")
    mended = "a" * 40
    look = [*objects, repository("fleet3", sha("d21fa424", *objects))]
    verdict = judged(look, replace(BASE, revisions={"*": mended}))
    assert verdict.rule == "source_behind"
    assert verdict.details["ask"] == ["GitRepository", "flux-system", "fleet3"]


def test_a_source_that_may_not_fetch_fails_after_its_grace_and_not_for_what_it_holds() -> None:
    (source,) = recorded("gitrepository-auth-failed")
    held = sha("571a1464", source)
    item = owner("apps", "fleet4", held)
    assert judged([item, source], replace(BASE, revisions={"*": held})).state == "done"
    verdict = judged([item, source], replace(BASE, revisions={"*": "a" * 40}), looks=182)
    assert (verdict.state, verdict.rule) == ("failed", "source_failing")
    assert "authentication required" in verdict.reason


def test_a_look_that_races_with_the_commit_is_not_green() -> None:
    """The API server's log of a false green: the release was read before its owner, and the commit applied in between."""
    log = recorded("audit-read-order-race")
    begin = max(
        index
        for index, (_, verb, who, what, _) in enumerate(log)
        if (verb, who, what) == ("get", "airflow-pipeops", "helmreleases/api")
    )
    reads = [
        index for index, (_, _, who, _, _) in enumerate(log) if who == "airflow-pipeops" and index >= begin
    ]

    def last(what: str, sub: str) -> int:
        return max(
            index for index, entry in enumerate(log) if entry[2:] == ["kustomize-controller", what, sub]
        )

    changed, applied = last("helmreleases/api", ""), last("kustomizations/hr", "status")
    assert begin < changed < applied < reads[-1]
    before, commit = "b" * 40, sha("32fbc311", *recorded("helmrelease-revision-strategy"))
    release, chart = recorded("helmrelease-revision-strategy")
    fresh = copy.deepcopy(release)
    fresh["metadata"]["generation"] += 1
    moments = iter(reads)

    async def get(ref: Ref) -> dict[str, Any]:
        now = next(moments, len(log))
        if ref.kind == "HelmRelease":
            return copy.deepcopy(fresh if now > changed else release)
        if ref.kind == "Kustomization":
            return owner("hr", "fleet2", commit if now > applied else before)
        return chart if ref.kind == "HelmChart" else repository("fleet2", commit)

    expectation = replace(BASE, revisions={"*": commit})
    torn = [release, owner("hr", "fleet2", commit), chart, repository("fleet2", commit)]
    assert judged(torn, expectation).state == "done", "what the torn look showed"
    found = asyncio.run(gather(Ref("HelmRelease", "apps", "api"), get))
    verdict = judged(found, expectation)
    assert verdict.state == "wait", verdict.reason


BEGIN = "2026-11-29T00:00:00Z"


def found(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the objects of a report on drift."""
    return [(f"{one['kind']}/{one['name']}", one["change"]) for one in report["resources"]]


@pytest.mark.parametrize(
    ("name", "events", "verdict", "objects"),
    [
        # A ConfigMap was edited by hand and a Deployment deleted; with detection off nobody looks.
        ("helmrelease-drift-default-1", "helmrelease-drift-default-events", "unknown", []),
        # The same, seen and left.
        (
            "helmrelease-drift-warn-1",
            "helmrelease-drift-warn-events",
            "drifted",
            [("ConfigMap/apib", "modified"), ("Deployment/apib", "missing")],
        ),
        # The same, caught in the middle of the correction: the condition still stands, the event says that it is done.
        (
            "helmrelease-drift-enabled-1",
            "helmrelease-drift-enabled-events",
            "corrected",
            [("Deployment/apib", "missing"), ("ConfigMap/apib", "modified")],
        ),
        (
            "helmrelease-drift-enabled-2",
            "helmrelease-drift-enabled-events",
            "corrected",
            [("Deployment/apib", "missing"), ("ConfigMap/apib", "modified")],
        ),
    ],
)
def test_drift_of_a_release_is_what_it_was(
    name: str, events: str, verdict: str, objects: list[tuple[str, str]]
) -> None:
    (item,) = recorded(name)
    report = verdict_on(item, recorded(events), BEGIN)
    assert (report["verdict"], found(report)) == (verdict, objects)


def test_without_its_events_a_release_that_corrects_is_not_called_clean() -> None:
    (item,) = recorded("helmrelease-drift-enabled-2")
    assert verdict_on(item, None, BEGIN)["verdict"] == "unknown"


def test_releases_whose_events_were_merged_are_no_corrections() -> None:
    """Five releases became one event with the revision of the first; two true corrections stand beside it."""
    events = recorded("kustomization-events-aggregated")
    last = sha("87a1c014", *events)
    item = owner("m", "fleet", last)
    told = corrections(item, events)
    assert [(one.at, one.revision[:8], [str(x.name) for x in one.changes]) for one in told.corrections] == [
        ("2026-11-29T01:51:29Z", "07ca0102", ["m"]),
        ("2026-11-29T01:51:41Z", "07ca0102", ["m"]),
    ]
    assert "may be a release or a correction" in told.unclear
    # Of the merged ones alone nobody can tell.
    report = verdict_on(item, [one for one in events if "07ca0102" not in json.dumps(one)], BEGIN)
    assert report["verdict"] == "unknown"
    assert "5 equal event(s)" in report["warning"]


def test_a_correction_that_left_no_event_is_not_called_clean() -> None:
    """After 36 reconciliations 11 events were there; the one of a true correction was not."""
    events = recorded("kustomization-events-dropped")
    report = verdict_on(owner("sp", "fleet", sha("6aece8e3", *events)), events, BEGIN)
    assert (report["verdict"], found(report)) == ("unknown", [])
    assert "leaves out" in report["warning"]


def test_a_correction_that_was_merged_into_a_release_is_not_called_clean() -> None:
    """A true correction went into the event of the second of eleven releases, whose revision no history knows any more."""
    item, *events = recorded("kustomization-drift-missed")
    report = verdict_on(item, events, "2026-11-29T02:22:47Z")
    assert (report["verdict"], found(report)) == ("unknown", [])


def test_failed_attempts_are_no_corrections() -> None:
    (item,) = recorded("kustomization-healthcheckfailed")
    events = recorded("kustomization-healthcheckfailed-events")
    mine = [one for one in events if one["involvedObject"]["name"] == item["metadata"]["name"]] or events
    assert corrections(item, mine).corrections == ()


def test_equal_corrections_of_one_revision_are_told_however_often_they_were_merged() -> None:
    events = recorded("kustomization-events-aggregated")
    item = owner("m", "fleet", sha("07ca0102", *events))
    merged = [one for one in copy.deepcopy(events) if "07ca0102" in json.dumps(one)]
    merged[2].update(count=3, lastTimestamp="2026-11-29T01:58:00Z")
    assert [one.at for one in corrections(item, merged).corrections][-1] == "2026-11-29T01:58:00Z"


def test_a_release_between_an_object_and_its_events_is_no_correction() -> None:
    """The object is read, a release is merged into the event of a correction, the events are read."""
    events = recorded("kustomization-events-aggregated")
    before, after = (owner("m", "fleet", sha(short, *events)) for short in ("07ca0102", "87a1c014"))
    merged = [one for one in copy.deepcopy(events) if "07ca0102" in json.dumps(one)]
    released = copy.deepcopy(merged)
    released[2].update(count=2, lastTimestamp="2026-11-29T01:58:00Z")
    answers = {"item": [before, after, after], "events": [released, released]}

    class Kubernetes:
        async def get(self, *_: Any) -> Any:
            return answers["item"].pop(0)

        async def events(self, *_: Any, **__: Any) -> Any:
            return answers["events"].pop(0)

    client = FluxClient(cast(Any, Kubernetes()))
    item, told = asyncio.run(client.with_events(Ref("Kustomization", "flux-system", "m")))
    assert "2026-11-29T01:58:00Z" not in [one.at for one in corrections(item, told).corrections]
    assert corrections(item, told).unclear
    assert corrections(before, released).corrections[-1].at == "2026-11-29T01:58:00Z", (
        "what the torn look showed"
    )
