"""Whatever the controllers do, and whenever one looks: done is true, failed is deserved, and every wait ends."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_pipeops.flux.kinds import Ref
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.flux.judging import decide, questions
from tests.flux.world import (
    REQUESTED,
    HelmController,
    KustomizeController,
    SourceController,
    World,
    helm_release,
    kustomization,
    repository,
)

TIMEOUT = 3000.0


class FluxWait(RuleBasedStateMachine):
    """A branch, a repository, a Kustomization, a Helm release; somebody waits for one commit."""

    @initialize(
        wait=st.booleans(),
        depends=st.booleans(),
        retries=st.integers(0, 2),
        rollback=st.booleans(),
        cancels=st.booleans(),
        match=st.sampled_from(["exact", "contains"]),
        helm=st.booleans(),
        first=st.booleans(),
        settle=st.sampled_from([0.0, 0.0, 3.0]),
        ours=st.booleans(),
        before=st.sampled_from(["ok", "ok", "bad"]),
        by_chart=st.booleans(),
    )
    def begin(
        self,
        wait: bool,
        depends: bool,
        match: str,
        helm: bool,
        first: bool,
        settle: float,
        ours: bool,
        before: str,
        by_chart: bool,
        **how: Any,
    ) -> None:
        self.world = World(wait=wait, **how)
        self.source, self.item, self.release = (
            repository(),
            kustomization(wait=wait, depends=depends),
            helm_release(),
        )
        self.sources, self.kustomize = SourceController(self.world), KustomizeController(self.world)
        self.helm = HelmController(self.world)
        self.world.commit(build=before, health=0 if before == "ok" else None)
        if first:
            # The first commit was tried before anybody waits.
            self.sources.due = True
            for _ in range(12):
                self._tick()
        self.target = self.world.commit(chart="1.1.0")
        self.is_helm = helm
        self.expectation = Expectation(
            revisions={"*": self.target.sha},
            match=match,
            oracle=match == "contains",
            settle=settle,
            on_suspended="fail",
            on_out_of_sync="accept",
            timeout=TIMEOUT,
            operation_id="me.1" if ours else "",
        )
        if helm and by_chart:
            self.expectation = replace(self.expectation, revisions={}, match="any", chart="1.1.0")
        self.memory, self.verdict = Memory(), Verdict("wait", "", "")
        self.held: list[Any] = []

    def _tick(self) -> None:
        self.sources.step(self.source)
        self.kustomize.step(self.item, self.source, self.release)
        if self.world.release_spec:
            self.helm.step(self.release)

    # ---- the world -----------------------------------------------------------------------------------------------------

    @rule(
        build=st.sampled_from(["ok", "ok", "ok", "bad", "path"]),
        apply=st.sampled_from([True, True, False]),
        health=st.sampled_from([0, 0, 1, 2, None]),
        chart=st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]),
    )
    def somebody_pushes(self, **what: Any) -> None:
        if len(self.world.commits) < 6:
            self.world.commit(**what)

    @rule(
        build=st.sampled_from(["ok", "ok", "bad", "path"]),
        apply=st.booleans(),
        health=st.sampled_from([0, 1, 2, None]),
    )
    def the_commit_is_such(self, build: str, apply: bool, health: int | None) -> None:
        if self.world.applied != self.target.sha and not self.world.failures:
            self.target.build, self.target.apply, self.target.health = build, apply, health

    @rule(chart=st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]), needed=st.sampled_from([0, 1, 2, None]))
    def the_chart_is_such(self, chart: str, needed: int | None) -> None:
        if not self.world.chart_failures:
            self.world.charts[chart] = needed

    @rule(works=st.booleans())
    def fetching(self, works: bool) -> None:
        self.world.fetches = works

    @rule(ready=st.booleans())
    def the_dependency(self, ready: bool) -> None:
        self.world.dependency_ready = ready

    @rule()
    def the_source_is_due(self) -> None:
        self.sources.due = True

    @rule(times=st.integers(1, 8))
    def controllers_work(self, times: int) -> None:
        for _ in range(times):
            self.world.now += 1
            self._tick()

    @rule(order=st.lists(st.sampled_from("skkkh"), min_size=4, max_size=25))
    def somebody_looks_after_each_step(self, order: list[str]) -> None:
        for who in order:
            self.world.now += 1
            if who == "s":
                self.sources.due = True
                self.sources.step(self.source)
            elif who == "k":
                self.kustomize.step(self.item, self.source, self.release)
            elif self.world.release_spec:
                self.helm.step(self.release)
            self.look(None, False)

    @rule()
    def the_kustomization_is_due(self) -> None:
        self.kustomize.due = True

    @rule()
    def the_kustomize_controller_steps(self) -> None:
        self.world.now += 1
        self.kustomize.step(self.item, self.source, self.release)

    @precondition(lambda self: self.world.release_spec)
    @rule()
    def the_helm_controller_steps(self) -> None:
        self.world.now += 1
        self.helm.step(self.release)

    @rule()
    def the_kustomize_controller_restarts(self) -> None:
        self.kustomize.phase = "idle"
        self.kustomize.due = True

    @rule(who=st.sampled_from(["source", "item", "release"]), on=st.booleans())
    def somebody_suspends(self, who: str, on: bool) -> None:
        spec = getattr(self, who)["spec"]
        if bool(spec.get("suspend")) != on:
            spec["suspend"] = on
            getattr(self, who)["metadata"]["generation"] += 1

    @rule(who=st.sampled_from(["source", "item", "release"]), token=st.sampled_from(["a", "b", "c"]))
    def somebody_asks(self, who: str, token: str) -> None:
        getattr(self, who)["metadata"].setdefault("annotations", {})[REQUESTED] = token

    @rule()
    def we_ask(self) -> None:
        who = self.release if self.is_helm else self.item
        if self.expectation.operation_id:
            who["metadata"].setdefault("annotations", {})[REQUESTED] = self.expectation.operation_id

    @rule(who=st.sampled_from(["item", "release"]))
    def somebody_changes_the_spec(self, who: str) -> None:
        getattr(self, who)["metadata"]["generation"] += 1

    @rule(seconds=st.sampled_from([1.0, 20.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    # ---- whoever waits -------------------------------------------------------------------------------------------------

    def _seen(self) -> Observed:
        main = self.release if self.is_helm else self.item
        others = [self.item, self.source] if self.is_helm else [self.source]
        crds = Ref("Kustomization", "flux-system", "crds")
        return observe(copy.deepcopy([main, *others]), [crds] if not self.world.dependency_ready else [])

    @rule(
        trouble=st.sampled_from([None, None, None, "unreachable", "nonsense", "denied"]),
        deferred=st.booleans(),
    )
    def look(self, trouble: str | None, deferred: bool) -> None:
        if self.verdict.state != "wait":
            return
        if deferred:
            self.memory = Memory.from_json(json.loads(json.dumps(self.memory.to_json())))
            self.expectation = Expectation.from_json(json.loads(json.dumps(self.expectation.to_json())))
        seen: Any = Trouble(trouble) if trouble else self._seen()
        if isinstance(seen, Observed):
            for wanted, sha in questions(seen, self.expectation, self.memory):
                known = {**self.expectation.contained, f"{wanted}..{sha}": self.world.contains(wanted, sha)}
                self.expectation = replace(self.expectation, contained=known)
        self.verdict, self.memory = decide(seen, self.expectation, self.memory, self.world.now)
        if self.verdict.state == "wait" and self.verdict.refresh and self.verdict.details.get("ask"):
            kind = self.verdict.details["ask"][0]
            who = {"GitRepository": self.source, "Kustomization": self.item, "HelmRelease": self.release}[
                kind
            ]
            token = f"me.ask{self.memory.asks}"
            if self.verdict.rule == "not_answered":
                token = self.expectation.operation_id
            who["metadata"].setdefault("annotations", {})[REQUESTED] = token
        self._judge()

    def _judge(self) -> None:
        world, verdict = self.world, self.verdict
        assert verdict.reason
        if verdict.state == "done":
            good = [one.sha for one in world.commits if self._as_good(one.sha)]
            if self.expectation.chart:
                assert world.released == self.expectation.chart, "another chart is live"
            elif self.is_helm:
                assert world.release_spec in good, "the release has the spec of another commit"
                assert world.released == self.release["spec"]["chart"], "another chart is live"
            else:
                assert world.applied in good, "another commit is live"
                assert world.applied_generation == self.item["metadata"]["generation"], "with another spec"
                assert not world.wait or world.healthy == world.applied, "it is not healthy"
            assert not self.item["spec"].get("suspend") or self.is_helm
        elif verdict.state == "failed":
            assert self._deserved(verdict), verdict.reason

    def _as_good(self, sha: str) -> bool:
        if self.expectation.match == "exact":
            return sha == self.target.sha
        return self.world.contains(self.target.sha, sha)

    def _deserved(self, verdict: Verdict) -> bool:
        world = self.world
        at = [why for sha, why in world.failures if self.expectation.chart or self._as_good(sha)]
        chart_failures = len(world.chart_failures)
        suspended = any(one["spec"].get("suspend") for one in (self.source, self.item, self.release))
        ways = {
            "suspended": suspended,
            "attempt_failed": "BuildFailed" in at or len(at) >= 2 or chart_failures >= 2,
            "stalled": chart_failures > world.retries,
            "remediated": chart_failures > world.retries,
            "superseded": self.expectation.match == "exact" and len(world.commits) > 2,
            "source_failing": any(
                one["type"] == "FetchFailed" for one in self.source["status"].get("conditions", [])
            ),
            "deadline": True,
            "unreachable": True,
            "access_denied": True,
        }
        return ways.get(verdict.rule, False)

    @invariant()
    def memory_is_json(self) -> None:
        if hasattr(self, "memory"):
            json.dumps([self.memory.to_json(), self.verdict.to_json()], allow_nan=False)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.look(None, False)
        self.world.now += TIMEOUT
        self.look(None, False)
        assert self.verdict.state != "wait", "the wait has no end"


TestFluxWait = FluxWait.TestCase
TestFluxWait.settings = settings(
    settings(), deadline=None, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_good_commit_is_found_done_and_a_bad_one_failed() -> None:
    """The model itself goes somewhere: without this, the machine above could prove nothing."""
    for health, expected in ((0, "done"), (1, "done"), (None, "failed")):
        machine = FluxWait()
        machine.begin(
            wait=True,
            depends=False,
            match="exact",
            helm=False,
            first=True,
            settle=0.0,
            ours=False,
            retries=1,
            rollback=True,
            cancels=False,
            before="ok",
            by_chart=False,
        )
        machine.target.health = health
        for _ in range(80):
            machine.world.now += 1
            machine.kustomize.due = machine.kustomize.phase == "idle"
            machine._tick()
            machine.look(None, False)
        assert machine.verdict.state == expected, machine.verdict


def test_a_good_release_is_found_done_and_a_bad_one_failed() -> None:
    for needed, expected in ((0, "done"), (1, "done"), (None, "failed")):
        machine = FluxWait()
        machine.begin(
            wait=True,
            depends=False,
            match="exact",
            helm=True,
            first=True,
            settle=0.0,
            ours=False,
            retries=1,
            rollback=True,
            cancels=False,
            before="ok",
            by_chart=False,
        )
        machine.world.charts["1.1.0"] = needed
        for _ in range(80):
            machine.world.now += 1
            machine._tick()
            machine.look(None, False)
        assert machine.verdict.state == expected, machine.verdict
