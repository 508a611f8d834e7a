"""More of the wait: expectations that cannot be met, sources of every kind, hydrators, old looks, and confirmation."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.rules import CERTAIN, RULES
from airflow_pipeops.waits import verdict as verdicts
from airflow_pipeops.waits.expectation import Memory
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.wait import WRONG_INPUT
from tests.waits.judging import decide, questions
from tests.waits.looks import (
    NEW,
    NEWER,
    OLD,
    RENDERED,
    RENDERED_OLD,
    REPO,
    app,
    at,
    contains,
    expect,
    hydrated,
    op,
    several,
    story,
)

DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def source(**source: Any) -> dict[str, Any]:
    return {"source": source}


def oci(target: str) -> dict[str, Any]:
    return source(repoURL="oci://registry.example.com/manifests", targetRevision=target)


def chart(target: str, repo: str = "https://charts.example.com") -> dict[str, Any]:
    return source(repoURL=repo, chart="redis", targetRevision=target)


@pytest.mark.parametrize(
    ("application", "expectation", "rule"),
    [
        (app(), expect(project="other"), "wrong_project"),
        (app(), expect(revisions={"0": NEW, REPO: OLD}), "revision_conflict"),
        (app(spec=oci("1.x")), expect(revisions={"*": "1.2.3"}), "revision_not_digest"),
        (app(spec=oci(OTHER)), expect(revisions={"*": DIGEST}), "pinned_elsewhere"),
        (app(spec=chart("1.2.4")), expect(revisions={"*": "1.2.3"}), "pinned_elsewhere"),
        (app(spec=chart("1.2.4")), contains(revisions={"*": "1.2.3"}), "pinned_elsewhere"),
        (several("1.2.3", NEW), expect(revisions={"https://nowhere": NEW}), "source_unknown"),
        (several("1.2.3", NEW), expect(revisions={"2": NEW}), "source_unknown"),
        (hydrated((OLD, RENDERED_OLD)), expect(revisions={"*": "main"}), "revision_not_sha"),
    ],
)
def test_what_can_never_be_met_fails_at_once(application: Any, expectation: Any, rule: str) -> None:
    verdict = story(expectation, (0, application))
    assert (verdict.state, verdict.rule) == ("failed", rule), verdict.reason
    assert rule in WRONG_INPUT


@pytest.mark.parametrize(
    ("application", "expectation"),
    [
        (app(), expect(project="ml")),
        (app(DIGEST, spec=oci("1.x"), state=op(revision=DIGEST)), expect(revisions={"*": DIGEST})),
        (app("1.2.3", spec=chart("1.x"), state=op(revision="1.2.3")), expect(revisions={"*": "1.2.3"})),
        (app("1.2.3", spec=chart("v1.2.3"), state=op(revision="1.2.3")), expect(revisions={"*": "1.2.3"})),
        (
            app("1.2.3", spec=chart("1.2.3", "registry.example.com/charts"), state=op(revision="1.2.3")),
            expect(revisions={"*": "1.2.3"}),
        ),
        (several("1.2.3", NEW), expect()),
        (several("1.2.3", NEW), expect(revisions={"0": "1.2.3", "1": NEW})),
        (several("1.2.3", NEW), expect(revisions={"git@git.example.com:team/deploy.git": NEW})),
        (several("1.2.3", NEWER), contains((NEWER, True), revisions={"0": "1.2.3", "1": NEW})),
    ],
)
def test_sources_of_every_kind(application: Any, expectation: Any) -> None:
    assert story(expectation, (0, application)).rule == "healthy"


def test_nobody_is_asked_about_versions() -> None:
    expectation = contains(revisions={"0": "1.2.3", "1": NEW})
    assert questions(observe(several("1.2.4", NEWER)), expectation) == [(NEW, NEWER)]


def test_a_branch_that_does_not_contain_the_commit() -> None:
    elsewhere = [(time, app(OLD, state=op(revision=OLD), compared=time)) for time in (0, 60, 119, 121)]
    for looks, state in (elsewhere[:3], "wait"), (elsewhere, "failed"):
        verdict = story(contains((OLD, False)), *looks)
        assert verdict.state == state
    assert verdict.rule == "not_contained"
    assert "'main' is at bbbbbbbb, which does not contain aaaaaaaa" in verdict.reason
    assert story(contains(), *elsewhere).rule == "not_compared"
    assert story(expect(), *elsewhere).rule == "not_compared"
    moved = [*elsewhere[:3], (121, app(NEWER, state=op(revision=NEWER), compared=121))]
    assert story(contains((OLD, False), (NEWER, False)), *moved).state == "wait"


def test_exact_that_was_passed_by() -> None:
    history = [{"id": 1, "revision": NEW}, {"id": 2, "revision": NEWER}]
    looks = [(time, app(NEWER, state=op(revision=NEWER), history=history, compared=time)) for time in (0, 9)]
    assert story(expect(), looks[0]).state == "wait"
    assert story(expect(), *looks).rule == "superseded"
    told = expect(oracle=True, contained={f"{NEW}..{NEWER}": True})
    assert (
        story(told, *[(time, app(NEWER, state=op(revision=NEWER), compared=time)) for time in (0, 9)]).rule
        == "superseded"
    )
    back = {"source": {"repoURL": REPO, "targetRevision": NEW}}
    assert (
        story(expect(), *[(time, {**look, "spec": {**look["spec"], **back}}) for time, look in looks]).state
        == "wait"
    )


def test_nobody_who_could_tell_is_no_reason_to_call_it_superseded() -> None:
    looks = [(0, app(health="Progressing")), *[(time, app(NEWER, compared=time)) for time in (5, 10, 15)]]
    assert story(contains(), *looks).rule == "not_compared"
    assert story(contains((NEWER, False)), *looks).rule == "superseded"


def test_without_an_oracle_contains_is_exact_and_says_so() -> None:
    verdict = story(expect(match="contains"), (0, app(NEWER)))
    assert verdict.rule == "not_compared"
    assert "exactly, since nobody can say" in verdict.reason
    assert verdict.details["match"] == "exact"


class TestHydrator:
    live = hydrated((NEW, RENDERED), desired=RENDERED, state=op(revision=RENDERED))

    def test_the_verdict_tells_both_commits(self) -> None:
        verdict = story(expect(), (0, self.live))
        assert "live and Healthy at dddddddd, rendered from aaaaaaaa" in verdict.reason
        assert (verdict.details["expected"], verdict.details["rendered"]) == ({"0": NEW}, [RENDERED])

    def test_rendered_and_not_synchronised_yet(self) -> None:
        look = hydrated((NEW, RENDERED), desired=RENDERED_OLD, state=op(revision=RENDERED_OLD))
        assert story(expect(), (0, look)).rule == "not_compared"

    def test_a_failure_is_tried_again_and_fails_only_when_it_lasts(self) -> None:
        def failed(phase: str = "Failed") -> Any:
            return hydrated((OLD, RENDERED_OLD), phase, message="no kustomization", dry=NEW)

        assert story(expect(), (0, failed()), (299, failed())).state == "wait"
        lasting = story(expect(), (0, failed()), (150, failed("Hydrating")), (300, failed()))
        assert (lasting.state, lasting.rule) == ("failed", "hydration_failed")
        assert "no kustomization" in lasting.reason
        mended = story(expect(), (0, failed()), (150, failed("Hydrated")), (300, failed()))
        assert mended.state == "wait"
        assert story(expect(), (0, failed()), (300, self.live)).state == "done"

    def test_exactly_this_commit_was_rendered_and_another_followed(self) -> None:
        newer = hydrated((NEWER, "f" * 40), desired="f" * 40, state=op(revision="f" * 40))
        between = hydrated((NEWER, "f" * 40), desired=RENDERED, state=op(revision=RENDERED))
        assert (
            story(expect(), (0, hydrated((NEW, RENDERED), desired=RENDERED_OLD)), (5, between)).rule
            == "healthy"
        )
        unwell = {**self.live, "status": {**self.live["status"], "health": {"status": "Progressing"}}}
        assert story(expect(), (0, unwell), (5, newer), (10, newer), (15, newer)).rule == "superseded"
        assert story(contains((NEWER, True)), (0, unwell), (5, newer)).rule == "healthy"

    def test_what_is_rendered_waits_for_its_promotion(self) -> None:
        def staged(desired: str) -> Any:
            return hydrated((NEW, RENDERED), staging="next", desired=desired, state=op(revision=desired))

        verdict = story(expect(), (0, staged(RENDERED_OLD)), (500, staged(RENDERED_OLD)))
        assert verdict.state == "wait"
        assert "waits for its promotion to 'env/production'" in verdict.reason
        merged = contains()
        merged = replace(merged, contained={f"{RENDERED}..{NEWER}": True})
        assert story(merged, (0, staged(NEWER))).rule == "healthy"
        assert (RENDERED, NEWER) in questions(observe(staged(NEWER)), contains())

    def test_another_configuration_has_rendered_nothing(self) -> None:
        self_made = hydrated((NEW, RENDERED), desired=RENDERED)
        self_made["status"]["sourceHydrator"]["lastSuccessfulOperation"]["sourceHydrator"] = {
            "drySource": {"path": "x"}
        }
        assert story(expect(), (0, self_made)).rule == "not_hydrated"

    def test_who_is_asked_what(self) -> None:
        look = observe(hydrated((OLD, RENDERED_OLD), compared=NEWER))
        assert set(questions(look, contains())) == {(NEW, OLD), (NEW, NEWER)}

    def test_a_dry_branch_without_the_commit(self) -> None:
        looks = [(time, hydrated((OLD, RENDERED_OLD), compared=OLD)) for time in (0, 60, 121)]
        assert story(contains((OLD, False)), *looks).rule == "not_contained"


def test_a_look_that_is_older_than_one_before_it_says_nothing() -> None:
    old, new = app(compared=0, health="Degraded"), app(compared=30, since=25, health="Progressing")
    verdict = story(expect(), (0, new), (100, old, False), (200, old, False))
    assert (verdict.state, verdict.rule) == ("wait", "older_look")
    assert (
        story(expect(), (0, new), (5, old, False), (6, app(compared=31, since=25), False)).rule == "healthy"
    )
    # A status that was restored from a backup is what there is, once the controller has answered.
    assert story(expect(), (0, new), (5, app(compared=0))).rule == "healthy"


def test_a_failure_is_confirmed_by_a_refresh() -> None:
    failed = app(sync="OutOfSync", state=op("Failed"))
    verdict = story(expect(), (0, failed, False))
    assert (verdict.state, verdict.rule, verdict.refresh) == ("wait", "operation_failed", True)
    assert story(expect(), (0, failed, False), (1, failed)).state == "failed"
    assert story(expect(), (0, failed, False), (59, failed, False)).state == "wait"
    assert story(expect(), (0, failed, False), (59, failed, False), (60, failed, False)).state == "failed"
    fine = app(health="Progressing")
    assert story(expect(), (0, failed, False), (59, fine, False), (60, failed, False)).state == "wait"
    assert story(expect(require_refresh=False), (0, failed, False)).state == "failed"


def test_sources_that_changed_after_the_comparison() -> None:
    changed = app(spec={"source": {"repoURL": REPO, "targetRevision": "main", "path": "other"}})
    changed["status"]["sync"]["comparedTo"] = {"source": {"repoURL": REPO, "targetRevision": "main"}}
    assert "last change of the application's sources" in story(expect(), (0, changed)).reason
    # Twice the same answer of the controller: it only writes them differently.
    assert story(expect(), (0, changed), (5, changed)).state == "done"
    same = app(spec={"source": {"repoURL": REPO, "targetRevision": "main", "helm": {}, "path": ""}})
    same["status"]["sync"]["comparedTo"] = {"source": {"repoURL": REPO, "targetRevision": "main"}}
    assert story(expect(), (0, same)).state == "done"
    failed = app(
        sync="OutOfSync",
        state=op("Failed", syncResult={"revision": NEW, "source": {"repoURL": REPO, "path": "x"}}),
    )
    assert story(expect(), (0, failed)).rule == "older_operation_failed"


def test_recreation_by_policy() -> None:
    looks = [(0, app(health="Progressing")), (5, app(metadata={"uid": "u2"}))]
    assert story(expect(), *looks).rule == "recreated"
    assert story(expect(on_recreated="restart"), *looks).rule == "healthy"
    late = story(
        expect(on_recreated="restart", timeout=60.0),
        looks[0],
        (60, app(health="Progressing", metadata={"uid": "u2"})),
    )
    assert late.rule == "deadline"


def test_blindness_neither_heals_nor_harms() -> None:
    ill = app(health="Degraded")
    assert story(expect(), (0, ill), (30, Trouble("unreachable")), (60, ill)).rule == "degraded"
    assert story(expect(), (0, ill), (30, Trouble("unreachable")), (60, ill)).state == "failed"
    again = app(health="Degraded", since=55, compared=60)
    assert story(expect(), (0, ill), (30, Trouble("unreachable")), (60, again)).state == "wait"


def test_a_retry_tells_its_number_and_what_waits_for_it() -> None:
    state = op("Running", OLD, retryCount=2, finishedAt=at(-5), message="x")
    reason = story(expect(), (0, app(sync="OutOfSync", state=state, queued=True))).reason
    assert "(retry 2 of 5)" in reason
    assert "the retries keep to bbbbbbbb, and aaaaaaaa has to wait for them" in reason
    state["operation"]["retry"] = {"limit": -1, "refresh": True}
    reason = story(expect(), (0, app(sync="OutOfSync", state=state, queued=True))).reason
    assert "(retry 2 of many)" in reason
    assert "keep to" not in reason


def test_a_failure_after_a_good_deployment_says_so() -> None:
    failed = app(sync="OutOfSync", state=op("Failed"), history=[{"id": 3, "revision": NEW}])
    assert "had been deployed well before" in story(expect(), (0, failed)).reason


def test_a_manual_failure_elsewhere_is_no_end_where_manual_syncs_are_waited_for() -> None:
    begun = op("Failed", OLD, ended=9, startedAt=at(5))
    looks = [
        (0, app(sync="OutOfSync", state=None, automated=None)),
        (10, app(sync="OutOfSync", state=begun, automated=None, compared=10)),
    ]
    assert story(expect(on_manual="wait"), *looks).rule == "manual_sync_needed"
    assert story(expect(on_manual="wait"), *looks).state == "wait"


def test_the_decision_is_quick_and_its_rules_have_names() -> None:
    assert len(set(RULES)) == len(RULES)
    assert "degraded" not in CERTAIN
    verdict, memory = decide(observe(app(), refreshed=True), expect(), Memory(), 0.0)
    assert (verdict.state, memory.acknowledged) == ("done", 1)


def test_a_dry_run_under_way_hides_how_the_operation_before_it_ended() -> None:
    dry = op("Running")
    dry["operation"]["sync"]["dryRun"] = True
    assert story(expect(), (0, app(state=dry, queued=True))).rule == "operation_running"
    queued = app(state=None)
    queued["operation"] = {"sync": {"dryRun": True}}
    assert story(expect(), (0, queued)).rule == "operation_running"
    ended = {**dry, "phase": "Succeeded", "startedAt": at(-3), "finishedAt": at(-1)}
    assert story(expect(), (0, app(state=ended))).rule == "settling"
    verdict = story(expect(), (0, app(state=ended)), (5, app(state=ended, compared=5)))
    assert verdict.rule == "healthy"
    assert "dry run" in verdict.details["warnings"][0]


def test_the_page_about_the_wait_names_every_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wait.md").read_text()
    package = Path(verdicts.__file__).parent
    rules = package.parent / "argocd" / "rules"
    sources = [package / "verdict.py", package / "sources.py", package / "rules.py", *rules.glob("*.py")]
    named: set[str] = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            spoken = isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "wait",
                "fail",
                "by",
                "Verdict",
                "_differs",
            )
            values = node.args[:2] if isinstance(node, ast.Call) and spoken else []
            if isinstance(node, ast.Tuple) and path.name in ("sources.py", "verdict.py"):
                values = node.elts[:1]
            named |= {
                value.value
                for value in values
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    rules = {name for name in named if re.fullmatch(r"[a-z]+_[a-z_]+|[a-z]{4,}", name)} - {
        "done",
        "failed",
        "wait",
        "denied",
        "missing",
        "fail",
        "contains",
    }
    assert len(rules) > 35
    assert {name for name in rules if f"`{name}`" not in page} == set()


def test_the_comparison_that_settles_is_asked_for_while_health_still_has_to_hold() -> None:
    """A roll-out that takes longer than the window ends one window later, and not one refresh after that."""
    memory, asked = Memory(), []
    for time, health, since in [
        (0, "Progressing", -1),
        (10, "Healthy", 10),
        (12, "Healthy", 10),
        (15, "Healthy", 10),
    ]:
        compared = 10 if len(asked) > 1 and asked[1] else 1
        seen = observe(
            app(health=health, since=since, state=op(ended=0), compared=compared), refreshed=time == 0
        )
        verdict, memory = decide(seen, expect(), memory, float(time))
        asked.append(verdict.refresh)
    assert asked == [False, True, False, False]
    assert verdict.rule == "healthy"
