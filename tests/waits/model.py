"""A model of Argo CD's application controller, to try the wait against: it knows the truth, which the wait must guess.

Modelled after the controller's sources (v3.4): refreshes and operations are separate queues; a comparison begins, takes its
time, and is written with the time at which it *began*, in whole seconds; auto-sync asks for an operation before that is
written; an operation of one wave has succeeded as soon as it was applied, while health still is that of the old pods; the
branch is resolved through a cache unless a refresh was asked for; a failed revision is not tried again by auto-sync; a
condition of a comparison made before a sync window closed stays until it opens.

Nothing here is random by itself: every delay comes from the list that the test gives.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

POLL, CACHE, HEAL_AFTER, REPO_GRACE = 180.0, 180.0, 5.0, 180.0
REFRESH = "argocd.argoproj.io/refresh"
REPO = "https://git.example.com/team/deploy.git"
EPOCH = 1_790_000_000.0
NEVER = math.inf


@dataclass(frozen=True)
class Content:
    """What the manifests of this application are like in a commit.

    :param refuses: so many attempts to apply it fail. ``hook_fails``: so many runs of its PostSync hook do.
    :param hook: seconds that its hook takes; 0 for no hook.
    :param rollout: seconds until its pods are ready. ``stumbles``: seconds for which it is Degraded before that.
    :param broken: Degraded for ever. ``unreadable``: no manifests can be made of it.
    """

    refuses: int = 0
    hook: float = 0.0
    hook_fails: int = 0
    rollout: float = 0.0
    stumbles: float = 0.0
    broken: bool = False
    unreadable: bool = False


@dataclass
class Comparison:
    """A comparison under way."""

    began: float
    ready: float
    level: int
    revision: int | None
    error: str
    content: int
    drifted: bool
    health: str
    annotated: bool


@dataclass
class World:
    """A branch, a cluster, a controller and an Application between them.

    :param contents: ``commits`` index into it: a commit that leaves the number as it was touches other applications only.
    :param delays: seconds that the next steps of the controller take, over and over.
    :param lag: for so long the controller sees the health of before.
    """

    contents: list[Content]
    commits: list[int]
    delays: list[float]
    automatic: bool = True
    heals: bool = False
    retries: int = 2
    lag: float = 0.0
    now: float = 0.0
    skew: float = 0.0
    alive: bool = True
    outage: bool = False
    outage_since: float = 0.0
    closed: bool = False
    project_gone: bool = False
    uid: int = 1
    step: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    operation: dict[str, Any] | None = None
    annotated: bool = False
    deleting: bool = False
    comparison: Comparison | None = None
    requested: tuple[float, int] | None = None
    cached: tuple[int, float] | None = None
    stage: str = ""
    stage_at: float = NEVER
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)
    #: What was really in the cluster since when: (time, content, drifted).
    live: list[tuple[float, int, bool]] = field(default_factory=list)
    #: Spells of ill health that have nothing to do with a roll-out: (from, to).
    flaps: list[tuple[float, float]] = field(default_factory=list)
    #: Everything that anybody could have read: (time, application, when its comparison really began, the level of the
    #: comparison that wrote it; 0 for none).
    versions: list[tuple[float, dict[str, Any], float, int]] = field(default_factory=list)
    #: When each commit was pushed; those that were there at the beginning are not in it.
    pushed: dict[int, float] = field(default_factory=dict)
    compared: float = 0.0
    polled: float = 0.0
    noticed: float = 0.0
    #: When the controller last began anew: it lists everything first, and sees nothing of before that.
    restarted: float = -NEVER
    #: The last whole operation that ended: (revision, did it end well, when).
    ended: tuple[int, bool, float] | None = None

    # --- the truth

    def at(self, time: float) -> tuple[int, bool, float]:
        """Return what is in the cluster at a time: content, drifted, and since when."""
        begun, content, drifted = next(
            (item for item in reversed(self.live) if item[0] <= time), self.live[0]
        )
        # A drift starts no roll-out: the pods are those of the last time that something was applied.
        applied = next(
            (item[0] for item in reversed(self.live) if item[0] <= begun and not item[2]), self.live[0][0]
        )
        return content, drifted, applied

    def health(self, time: float) -> str:
        content, _, since = self.at(time)
        what, age = self.contents[content], time - since
        if what.broken:
            return "Degraded" if age >= what.rollout else "Progressing"
        if any(begin <= time < end for begin, end in self.flaps):
            return "Degraded"
        if age < what.stumbles:
            return "Degraded"
        return "Healthy" if age >= what.stumbles + what.rollout else "Progressing"

    def turns(self) -> list[float]:
        """Return the times at which anything about health changes."""
        found = [time for flap in self.flaps for time in flap]
        for begun, content, _ in self.live:
            what = self.contents[content]
            found += [
                begun,
                begun + what.stumbles,
                begun + what.stumbles + what.rollout,
                begun + what.rollout,
            ]
        return found

    def was_green(self, revisions: set[int], begin: float, end: float) -> bool:
        """Whether one of these revisions was applied and healthy at any moment of a span."""
        good = {self.commits[index] for index in revisions}
        moments = [begin, end, *(time for time in self.turns() if begin <= time <= end)]
        for time in moments:
            content, drifted, _ = self.at(time)
            if content in good and not drifted and self.health(time) == "Healthy":
                return True
        return False

    def is_green(self, revisions: set[int]) -> bool:
        """Whether the tip is one of these revisions, applied, healthy, and no operation at one of them failed last."""
        tip = len(self.commits) - 1
        content, drifted, _ = self.at(self.now)
        failed = self.ended is not None and not self.ended[1] and self.ended[0] in revisions
        failed = failed or self.partly_failed(revisions)
        return (
            tip in revisions
            and content == self.commits[tip]
            and not drifted
            and self.health(self.now) == "Healthy"
            and not self.operation
            and not failed
        )

    def partly_failed(self, revisions: set[int]) -> bool:
        """Whether a partial operation failed last, at one of these revisions, and none of them was deployed as a whole."""
        state = self.status.get("operationState") or {}
        asked = state.get("operation", {}).get("sync", {})
        if state.get("phase") not in ("Failed", "Error") or not asked.get("resources") or asked.get("dryRun"):
            return False
        deployed = [SHAS[item["revision"]] for item in self.status.get("history", [])[-1:]]
        return SHAS[asked["revision"]] in revisions and not set(deployed) & revisions

    # --- what happens to the controller

    def begin(self) -> None:
        """Start with the first commit deployed, healthy, and known."""
        self.live = [(-1e6, self.commits[0], False)]
        self.cached = (0, 0.0)
        self.status = {
            "sync": {"status": "Synced", "revision": sha(0)},
            "health": {"status": "Healthy", "lastTransitionTime": self.time(-5000.0)},
            "reconciledAt": self.time(-20.0),
            "history": [{"id": 1, "revision": sha(0)}],
            "resources": [{"kind": "Deployment", "name": "api", "status": "Synced"}],
        }
        self.compared = self.polled = -20.0
        self.write()

    def commit(self, content: Content | None, *, webhook: bool) -> int:
        """Push a commit; ``None`` for one that is about other applications."""
        if content is None:
            self.commits.append(self.commits[-1])
        else:
            self.contents.append(content)
            self.commits.append(len(self.contents) - 1)
        self.pushed[len(self.commits) - 1] = self.now
        if webhook and content is not None:
            self.annotate()
        return len(self.commits) - 1

    def annotate(self) -> None:
        if not self.annotated:
            self.annotated = True
            self.write()

    def drift(self) -> None:
        content, _, _ = self.at(self.now)
        self.live.append((self.now, content, True))
        self.request(1, self.lag)

    def flap(self, seconds: float) -> None:
        self.flaps.append((self.now, self.now + seconds))
        self.request(1, self.lag)

    def restart(self, skew: float, status: str) -> None:
        """The controller's pod is replaced; what it only had in mind is lost, and perhaps the status too."""
        self.comparison, self.requested, self.cached = None, None, None
        self.skew, self.restarted = skew, self.now
        if status == "lost":
            self.status, self.ended = {}, None
        elif status == "old":
            _, then, self.compared, _ = self.versions[len(self.versions) // 2]
            self.status, self.ended = copy.deepcopy(then["status"]), None
            state = self.status.get("operationState") or {}
            asked = state.get("operation", {}).get("sync", {})
            if state.get("phase") in ("Succeeded", "Failed", "Error") and not (
                asked.get("resources") or asked.get("dryRun")
            ):
                self.ended = (SHAS[asked["revision"]], state["phase"] == "Succeeded", self.now)
        if status:
            self.polled = -NEVER
            self.operation, self.stage_at = None, NEVER
        self.write()

    def ask(
        self, revision: int, *, automated: bool = False, dry: bool = False, partial: bool = False
    ) -> bool:
        """Ask for an operation, as people and auto-sync do."""
        if self.operation is not None:
            return False
        request: dict[str, Any] = {
            "sync": {"revision": sha(revision)},
            "initiatedBy": {"automated": True} if automated else {"username": "somebody"},
            "retry": {"limit": self.retries} if automated else {},
        }
        if dry or partial:
            self.ended = None  # nobody can see any more how it ended
        if dry:
            request["sync"]["dryRun"] = True
        if partial:
            request["sync"] |= {
                "resources": [{"kind": "Deployment", "name": "api"}],
                "autoHealAttemptsCount": 1,
            }
        self.operation = request
        self.status.pop("operationState", None)
        self.stage, self.stage_at = "start", self.now + self.delay()
        self.write()
        return True

    def terminate(self) -> None:
        state = self.status.get("operationState")
        if self.operation and state and state["phase"] == "Running":
            state["phase"] = "Terminating"
            self.stage, self.stage_at = "terminated", self.now + self.delay()
            self.write()

    def ghost(self) -> None:
        """Somebody removes the request of a running operation; nobody ever looks after it again."""
        state = self.status.get("operationState")
        if self.operation and state and state["phase"] == "Running":
            self.operation, self.stage_at = None, NEVER
            self.write()

    def recreate(self) -> None:
        self.uid += 1
        self.status, self.operation, self.comparison, self.annotated = {}, None, None, False
        self.stage_at, self.ended, self.polled = NEVER, None, -NEVER
        self.write()

    # --- the controller

    def run(self, seconds: float) -> None:
        """Let time pass, and the controller do what is due."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.due()
            if due > end:
                break
            self.now = max(self.now, due)
            self.work()
        self.now = end

    def due(self) -> float:
        if not self.alive:
            return NEVER
        if self.comparison:
            comparing = self.comparison.ready
        elif self.annotated:
            comparing = self.now
        else:
            comparing = max(self.now, min(self.polled + POLL, self.requested[0] if self.requested else NEVER))
        return min(comparing, self.stage_at if self.operation else NEVER, self.turn())

    def turn(self) -> float:
        """When the controller will next notice that health is another."""
        return min(
            (time + self.lag for time in self.turns() if time + self.lag > self.noticed), default=NEVER
        )

    def work(self) -> None:
        if self.comparison:
            if self.comparison.ready <= self.now:
                self.end_comparison()
        elif self.annotated:
            self.begin_comparison(3)
        elif self.polled + POLL <= self.now:
            self.begin_comparison(2)
        elif self.requested and self.requested[0] <= self.now:
            self.begin_comparison(self.requested[1])
        if self.operation and self.stage_at <= self.now:
            self.operate()
        if self.turn() <= self.now:
            self.noticed = self.now
            self.request(1, 0.0)

    def request(self, level: int, after: float) -> None:
        when, most = self.now + after, level
        if self.requested:
            when, most = min(when, self.requested[0]), max(level, self.requested[1])
        self.requested = (when, most)

    def begin_comparison(self, level: int) -> None:
        self.requested = None
        revision, error = self.resolve(level)
        if revision is not None and self.contents[self.commits[revision]].unreadable:
            error = "manifest generation failed"
        if error and level < 3 and self.now - self.outage_since < REPO_GRACE and self.outage:
            self.polled = self.now - POLL + 10.0  # short circuit: nothing is written
            return
        content, drifted, _ = self.at(self.now)
        self.comparison = Comparison(
            began=self.now,
            ready=self.now + self.delay(),
            level=level,
            revision=revision,
            error=error,
            content=content,
            drifted=drifted,
            health=self.health(max(self.now - self.lag, self.restarted)),
            annotated=self.annotated,
        )

    def resolve(self, level: int) -> tuple[int | None, str]:
        known = self.status.get("sync", {}).get("revision", "")
        if level == 1 and known in SHAS:
            return SHAS[known], ""
        if level < 3 and self.cached and self.now - self.cached[1] < CACHE:
            return self.cached[0], ""
        if self.outage:
            return None, "rpc error: the repository does not answer"
        self.cached = (len(self.commits) - 1, self.now)
        return len(self.commits) - 1, ""

    def end_comparison(self) -> None:
        done, self.comparison = self.comparison, None
        assert done is not None
        conditions = [item for item in self.status.get("conditions", []) if item["type"] == "SyncError"]
        if done.error:
            sync = {"status": "Unknown", "revision": "main"}
            conditions.append({"type": "ComparisonError", "message": done.error})
        else:
            assert done.revision is not None
            same = done.content == self.commits[done.revision] and not done.drifted
            sync = {"status": "Synced" if same else "OutOfSync", "revision": sha(done.revision)}
        if not self.closed:
            conditions = [item for item in conditions if item["type"] != "SyncError"]
            refused = self.auto_sync(sync, done.revision)
            if refused:
                conditions.append({"type": "SyncError", "message": refused})
        if done.level >= 2 or "reconciledAt" not in self.status:
            self.status["reconciledAt"], self.compared = self.time(done.began), done.began
            self.polled = done.began
        health = "Unknown" if done.error else done.health
        if self.status.get("health", {}).get("status") != health:
            self.status["health"] = {"status": health, "lastTransitionTime": self.time(self.now)}
        self.status["sync"], self.status["conditions"] = sync, conditions
        self.status["resources"] = [
            {"kind": "Deployment", "name": "api", "status": sync["status"], "health": {"status": health}}
        ]
        if done.annotated:
            self.annotated = False  # also if somebody has asked again in the meantime
        self.write(done.level)

    def auto_sync(self, sync: dict[str, str], revision: int | None) -> str:
        """Ask for an operation, or say why it will not."""
        if not self.automatic or self.operation or sync["status"] != "OutOfSync" or revision is None:
            return ""
        state = self.status.get("operationState")
        partial = False
        if state is not None:
            result = state.get("syncResult")
            tried = result is not None and result["revision"] == sha(revision)
            if result is None:
                tried = state["phase"] not in ("Running", "Terminating")
            if tried and state["phase"] != "Succeeded":
                what = [result["revision"]] if result else []
                return f"Failed last sync attempt to [{' '.join(what)}]: {state.get('message', '')}"
            if tried:
                if not self.heals:
                    return ""
                rest = (
                    self.when(state["finishedAt"]) + HEAL_AFTER - self.now if state.get("finishedAt") else 0.0
                )
                if rest > 0:
                    self.request(2, rest)
                    return ""
                partial = True
        self.ask(revision, automated=True, partial=partial)
        return ""

    def operate(self) -> None:
        """Take the operation one step further."""
        assert self.operation is not None
        asked, automated = self.operation["sync"], self.operation["initiatedBy"].get("automated", False)
        revision = SHAS[asked["revision"]]
        if self.stage == "start":
            self.status["operationState"] = {
                "phase": "Running",
                "operation": self.operation,
                "startedAt": self.time(self.now),
            }
            self.next("resolve")
        elif self.stage == "again":
            state = self.status["operationState"]
            state.pop("finishedAt", None)
            state.pop("syncResult", None)
            self.next("resolve")
        elif self.stage == "resolve":
            self.resolve_operation(revision, automated=automated)
        elif self.stage == "apply":
            self.apply(revision, asked)
        elif self.stage == "hook":
            failing = self.attempt("hook", revision) <= self.contents[self.commits[revision]].hook_fails
            self.end_operation("Failed" if failing else "Succeeded", "the hook failed" if failing else "")
        elif self.stage == "terminated":
            self.end_operation("Failed", "Operation terminated", again=False)

    def resolve_operation(self, revision: int, *, automated: bool) -> None:
        state = self.status["operationState"]
        if self.project_gone:
            self.end_operation("Error", "Failed to load application project")
            return
        state["syncResult"] = {"revision": sha(revision)}
        if self.closed and automated:
            state["message"] = "Sync operation blocked by sync window"
            self.stage_at = self.now + 10.0
            self.write()
            return
        state.pop("message", None)
        if self.outage or self.contents[self.commits[revision]].unreadable:
            self.end_operation("Error", "ComparisonError: no manifests")
            return
        self.next("apply")

    def apply(self, revision: int, asked: dict[str, Any]) -> None:
        number = self.commits[revision]
        what = self.contents[number]
        if asked.get("dryRun"):
            self.end_operation("Succeeded", "", again=False)
        elif self.attempt("apply", revision) <= what.refuses:
            self.end_operation("Failed", "one or more objects failed to apply")
        else:
            if self.at(self.now)[:2] != (number, False):
                self.live.append((self.now, number, False))
                self.request(1, self.lag)
            if what.hook and not asked.get("resources"):
                self.next("hook", what.hook)
            else:
                self.end_operation("Succeeded", "")

    def end_operation(self, phase: str, message: str, *, again: bool = True) -> None:
        assert self.operation is not None
        state = self.status["operationState"]
        asked, request = self.operation["sync"], self.operation
        count, limit = state.get("retryCount", 0), request["retry"].get("limit", 0)
        state["finishedAt"] = self.time(self.now)
        if phase != "Succeeded" and again and (count < limit or limit < 0):
            state |= {"phase": "Running", "retryCount": count + 1, "message": f"{message}. Retrying attempt"}
            self.next("again", min(5.0 * 2.0**count, 180.0))
            return
        state |= {"phase": phase, "message": message}
        self.operation, self.stage_at = None, NEVER
        if asked.get("dryRun"):
            self.write()
            return
        if not asked.get("resources"):
            self.ended = (SHAS[asked["revision"]], phase == "Succeeded", self.now)
            if phase == "Succeeded":
                history = self.status.setdefault("history", [])
                history.append({"id": len(history) + 1, "revision": asked["revision"]})
        self.write()
        self.request(2 if request["initiatedBy"].get("automated") else 3, self.delay())

    def attempt(self, what: str, revision: int) -> int:
        key = (what, self.commits[revision])
        self.attempts[key] = self.attempts.get(key, 0) + 1
        return self.attempts[key]

    def next(self, stage: str, after: float | None = None) -> None:
        self.stage, self.stage_at = stage, self.now + (self.delay() if after is None else after)
        self.write()

    # --- what can be read

    def write(self, level: int = 0) -> None:
        """Keep what anybody can read from now on."""
        self.versions.append((self.now, self.application(), self.compared, level))

    def application(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": "api", "namespace": "argocd", "uid": f"u{self.uid}"}
        if self.annotated:
            metadata["annotations"] = {REFRESH: "normal"}
        if self.deleting:
            metadata["deletionTimestamp"] = self.time(self.now)
        policy = {"automated": {"selfHeal": self.heals, "prune": True}} if self.automatic else {}
        found: dict[str, Any] = {
            "metadata": metadata,
            "spec": {
                "project": "ml",
                "source": {"repoURL": REPO, "targetRevision": "main"},
                "syncPolicy": policy,
            },
            "status": copy.deepcopy(self.status),
        }
        if self.operation is not None:
            found["operation"] = copy.deepcopy(self.operation)
        return found

    def delay(self) -> float:
        self.step += 1
        return self.delays[self.step % len(self.delays)]

    def time(self, moment: float) -> str:
        whole = math.floor(EPOCH + moment + self.skew)
        return datetime.fromtimestamp(whole, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def when(self, text: str) -> float:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        return moment.timestamp() - EPOCH - self.skew

    def fork(self) -> World:
        """Return another world that is as this one now."""
        versions, self.versions = self.versions, []
        other = copy.deepcopy(self)
        self.versions = versions
        return other


def sha(revision: int) -> str:
    """Return the commit id of a revision."""
    return f"{revision:08x}".ljust(40, "0")


SHAS = {sha(index): index for index in range(200)}
