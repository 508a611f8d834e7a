"""The service's track: a first release, a commit that staging stops, an incident that is reverted, a slow repair, drift."""

from __future__ import annotations

import yaml

from airflow_pipeops.demo.slow_upstream import SlowUpstream
from airflow_pipeops.demo.teller import Teller

NAME = "delay-api"


class ServiceTrack:
    """Ships the application repository's commits.

    :param teller: shared with the model's track.
    """

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.claims = teller.claims

    def run(self) -> None:
        """Tell the track."""
        self.good_release(1)
        self.stopped_in_staging(2)
        self.incident(3)
        self.fix(4)
        self.live_drift()

    def push(self, number: int) -> tuple[str, str]:
        """Push the next version; return its commit and the run that it started."""
        known = self.teller.runs("code_to_release")
        sha = self.teller.stack.seeds.push_version(number)
        self.teller.say(f"    service: commit {sha[:8]} pushed")
        return sha, self.teller.new_run("code_to_release", known)

    def good_release(self, number: int) -> None:
        """Push a good commit, approve it, and find it in production."""
        self.teller.chapter("Service: a commit becomes a release")
        # The watcher's first look only remembers what is there; what is pushed from then on is news.
        self.teller.wait(
            "the push watcher looks", lambda: self.teller.api.asset_state(f"{NAME}.push") or None
        )
        sha, run = self.push(number)
        self.teller.approve("code_to_release", run, "service")
        state = self.teller.follow("code_to_release", run, "service")
        self.claims.equal("a push alone started the first release, and it succeeded", state, "success")
        version = self.version("production")
        self.claims.equal("production answers with the first version", version, f"{number}")
        built = self.teller.api.xcom("code_to_release", run, "build")["digest"]
        self.claims.equal(
            "Git's production overlay names the digest that was built", self.digest("production"), built
        )
        self.claims.equal(
            "the release was made from the pushed commit",
            self.teller.api.xcom("code_to_release", run, "commit")["commit"],
            sha,
        )

    def stopped_in_staging(self, number: int) -> None:
        """Push a commit that passes its tests and cannot come up: it must not reach production."""
        self.teller.chapter("Service: a broken commit stops in staging")
        before = self.digest("production"), self.version("production")
        _, run = self.push(number)
        state = self.teller.follow("code_to_release", run, "service")
        states = {
            task["task_id"]: task["state"] for task in self.teller.api.task_instances("code_to_release", run)
        }
        self.claims.equal("the broken commit's run failed", state, "failed")
        self.claims.equal("its own tests had passed", states["test"], "success")
        self.claims.equal("the wait for staging is what stopped it", states["staging_is_live"], "failed")
        health = self.teller.argocd("GET", "/api/v1/applications/delay-api-staging").json()["status"][
            "health"
        ]["status"]
        self.claims.equal("staging is Degraded", health, "Degraded")
        self.claims.equal(
            "production's desired state and version are untouched",
            (self.digest("production"), self.version("production")),
            before,
        )

    def incident(self, number: int) -> None:
        """Release a commit that goes bad under its users' requests: the guard must revert it."""
        self.teller.chapter("Service: an incident in production is reverted by Git")
        before = self.digest("production"), self.version("production")
        known = self.teller.runs("release_guard")
        _, run = self.push(number)
        self.teller.approve("code_to_release", run, "service")
        self.teller.follow("code_to_release", run, "service")
        self.claims.equal(
            "the bad commit had reached production",
            self.teller.api.run("code_to_release", run)["state"],
            "success",
        )
        # Its fault is in what users ask for, so that neither tests nor probes meet it, however long they take.
        self.teller.visit(f"{NAME}-production", "/delays/jfk")
        self.teller.say("    service: users ask production how late flights are; it does not stand it")
        guard = self.guard_of(run, known)
        state = self.teller.follow("release_guard", guard, "guard")
        self.claims.equal("the guard ended its work", state, "success")
        self.claims.equal("the guard reverted to the digest before", self.digest("production"), before[0])
        version = self.teller.wait("production answers again", lambda: self.version("production"))
        self.claims.equal("production answers with the version before", version, before[1])
        self.claims.check(
            "the revert is a commit that says so",
            "Revert" in (log := self.teller.git("log", "--format=%s", "-10", "main")),
            log,
        )

    def fix(self, number: int) -> None:
        """Release the repaired commit, which is slow."""
        self.teller.chapter("Service: the repaired commit is released")
        sha, run = self.push(number)
        answers = SlowUpstream(self.teller)
        answers.measure()  # by then, nobody has approved it
        self.teller.approve("code_to_release", run, "service")
        self.claims.equal(
            "the repaired commit's run succeeded",
            self.teller.follow("code_to_release", run, "service"),
            "success",
        )
        self.claims.equal(
            "production answers with the repaired version", self.version("production"), f"{number}"
        )
        answers.found(sha)

    def guard_of(self, run: str, known: set[str]) -> str:
        """Return the guard's run that a release of ours started (the model's releases start others)."""

        def look() -> str | None:
            for candidate in self.teller.api.runs("release_guard"):
                identifier = str(candidate["dag_run_id"])
                events = (
                    self.teller.api.upstream("release_guard", identifier) if identifier not in known else []
                )
                if run in {event["source_run_id"] for event in events}:
                    return identifier
            return None

        return str(self.teller.wait("the guard starts by itself", look))

    def live_drift(self) -> None:
        """Change a live object behind Git's back: it must be noticed and healed."""
        self.teller.chapter("Infrastructure: somebody changes production behind Git's back")
        known = self.teller.runs("desired_state_drift")
        run = self.noticed(known)
        state = self.teller.follow("desired_state_drift", run, "drift")
        self.claims.equal("the difference became an event, and was healed", state, "success")
        self.claims.check(
            "production answers again", self.version("production") is not None, self.version("production")
        )

    def noticed(self, known: set[str]) -> str:
        """Scale production to nothing until somebody notices.

        Where another deliverable has committed since, Argo CD syncs this application to that commit as soon as it differs,
        and may do so before anybody has seen the difference. Once it has, the same commit is not synced to again.

        :param known: the runs that were there before.
        :return: the run that the difference started.
        """
        self.teller.scale_behind_git(NAME, "production", replicas=0)
        self.teller.wait("production is down", lambda: self.version("production") is None or None)

        def look() -> str | None:
            healed = (
                self.version("production") is not None
            )  # asked first: who healed it has had a run by then
            if fresh := self.teller.runs("desired_state_drift") - known:
                return fresh.pop()
            if healed:
                self.teller.scale_behind_git(NAME, "production", replicas=0)
            return None

        return str(self.teller.wait("the difference is noticed", look))

    def version(self, environment: str) -> str | None:
        """Return the version that an environment's endpoint answers with."""
        found = self.teller.endpoint(f"{NAME}-{environment}", "/version")
        return str(found["version"]) if found else None

    def digest(self, environment: str) -> str:
        """Return the image digest that Git wants in an environment."""
        overlay = yaml.safe_load(
            self.teller.desired(f"apps/{NAME}/overlays/{environment}/kustomization.yaml")
        )
        return str(overlay["images"][0]["digest"])
