"""What a controller of the Flux kind says: a chain of objects, each with conditions, from the source to the cluster.

Such a controller has no operation that somebody starts and that ends; it tries, and on failure tries again, for ever.
Pure data; :mod:`airflow_pipeops.flux.rules` judges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: All names under which one revision is known, the best one first: commit, digest, and what the controller writes.
Names = tuple[str, ...]
#: What a controller says of readiness; empty where it has not spoken yet.
Ready = Literal["True", "False", "Unknown", ""]
#: Whether a Helm release is compared with the cluster, and put right.
DriftMode = Literal["enabled", "warn", "disabled"]


@dataclass(frozen=True)
class Stage:
    """One object of the chain.

    :param kind: of the object, for example ``Kustomization``.
    :param name: of the object.
    :param namespace: of the object.
    :param missing: it is referred to, and is not there.
    :param hidden: it is referred to, and why nobody could look at it.
    :param suspended: its controller leaves it alone.
    :param generation: of its spec; conditions say of which generation they speak.
    :param ready: ``True``, ``False``, ``Unknown``, or empty where the controller has not spoken yet.
    :param reason: of ``ready``, one word.
    :param message: of ``ready``, in the controller's words.
    :param ready_generation: the generation that ``ready`` is about.
    :param since: when ``ready`` last changed, as the controller writes it.
    :param stalled: why the controller has given up on the present generation; empty if it has not.
    :param busy: what the controller is doing, in its words; empty if nothing.
    :param trouble: of a source: why what it holds may be old.
    :param holds: of a source: the revision of its artifact.
    :param built: of a chart that lies in a repository of files: the revision that it was last built from.
    :param made_from: kind, namespace and name of its source.
    :param tried: the revision that the controller last began with.
    :param applied: the revision that it last brought to its end.
    :param seen: revisions that it tried before.
    :param past_apply: what was tried is in the cluster, and only its health is open.
    :param attempt: tells one failed attempt from the next.
    :param requested: the last request to reconcile.
    :param handled: the last request to reconcile that was answered.
    :param waits_for: objects that must be ready first and are not, each with its own reason.
    """

    kind: str
    name: str
    namespace: str = ""
    missing: bool = False
    hidden: str = ""
    suspended: bool = False
    generation: int = 0
    ready: Ready = ""
    reason: str = ""
    message: str = ""
    ready_generation: int | None = None
    since: str = ""
    stalled: str = ""
    busy: str = ""
    trouble: str = ""
    holds: Names = ()
    built: Names = ()
    made_from: tuple[str, str, str] | None = None
    tried: Names = ()
    applied: Names = ()
    seen: tuple[Names, ...] = ()
    past_apply: bool = False
    attempt: str = ""
    requested: str = ""
    handled: str = ""
    waits_for: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return self.kind, self.namespace, self.name

    @property
    def current(self) -> bool:
        """What it says about its readiness is about the present spec."""
        return self.ready_generation is None or self.ready_generation == self.generation


@dataclass(frozen=True)
class Release:
    """What a Helm controller says beyond the conditions.

    :param chart: chart version of the newest release.
    :param status: of the newest release: ``deployed``, ``failed``, ...
    :param number: of the newest release; grows with each.
    :param attempted: chart version of the last attempt.
    :param same_values: the newest release has the values of the last attempt.
    :param attempted_generation: generation of the spec that was last attempted.
    :param remediated: how the last failed attempt was undone; empty if none was.
    :param tests: what failed tests say; empty if none failed, or their failures are ignored.
    :param untested: tests are on, and have not run for the newest release.
    :param drifted: what differs in the cluster; empty if nothing does, or nobody looks.
    :param drifted_since: when that was found, as the cluster writes it.
    :param drift_mode: ``enabled``, ``warn`` or ``disabled``.
    :param behind: why the chart of the last attempt is not the present one; empty if it is.
    :param unproven: why nobody can say that the files of the chart are those of the commit; empty if they are, or the
        commit is not of the chart's repository.
    :param chart_path: where the chart lies in its repository of files.
    :param unbumped: the commit that changed its files after its version was set, where Git was asked and names one.
    :param unasked: why Git, which would tell, could not be asked.
    :param unchanged: nothing was released since the source fetched what it holds.
    """

    chart: str = ""
    status: str = ""
    number: int = 0
    attempted: str = ""
    same_values: bool = True
    attempted_generation: int | None = None
    remediated: str = ""
    tests: str = ""
    untested: bool = False
    drifted: str = ""
    drifted_since: str = ""
    drift_mode: DriftMode = "disabled"
    behind: str = ""
    unproven: str = ""
    chart_path: str = ""
    unbumped: str = ""
    unasked: str = ""
    unchanged: bool = False


@dataclass(frozen=True)
class Reconciled:
    """The chain of one object.

    :param main: the object itself.
    :param source: what it is made from, where that is known; a Helm release, what its owner is made from.
    :param owner: of a Helm release, the Kustomization that applies it, where there is one.
    :param above: the Kustomizations that apply any object of this chain and are made from the same revisions as ``source``,
        the outermost first: a commit may change what they apply, so they must have applied it as well.
    :param sources: the objects that fetch the same revisions as ``source``; each fetches for itself.
    :param chart: of a Helm release, the object that holds its chart.
    :param chart_source: what that chart is built from.
    :param release: of a Helm release.
    :param hidden: what decides about this object, and nobody could look at.
    :param notes: what a person should know about what ready means here.
    """

    main: Stage
    source: Stage | None = None
    owner: Stage | None = None
    above: tuple[Stage, ...] = ()
    sources: tuple[Stage, ...] = ()
    chart: Stage | None = None
    chart_source: Stage | None = None
    release: Release | None = None
    hidden: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()
