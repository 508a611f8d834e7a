"""A model goes back on both sides: the manifest in Git by value, and the alias in the registry.

Git is the truth, and the registry follows it::

    1  begin   commit to Git: the values of the model before, only where those of the bad one stand; in the release table
               of a stream its announcement, and who waits then lets it begin at an offset of each partition
    2  begin   block the bad version in the registry, so that nothing promotes it again
    3  proof   by whoever waits: endpoint, batch output, or offsets say that the model before runs
    4  finish  Git still wants it? Then move the alias, and look at both sides again
    5  finish  one record

The commit is the intent, too: it names the order, and Git takes it from one writer alone. Killed before 1, nothing has
happened. Killed after it, the same task finds its commit and goes on; every later step looks before it acts. Nothing is
undone by itself: after 1 the cluster acts already, and a revert of a revert would be a second change on bad news. Where the
proof fails, the alias stays, both states stand in the error, and a person decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput, NotJudged, ReleaseFailed
from airflow_pipeops.models.desired import WantedModel
from airflow_pipeops.models.rollback.proof import against

if TYPE_CHECKING:
    from airflow_pipeops.git.commits import Change
    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.registry import ModelVersion, Registry
    from airflow_pipeops.models.rollback.proof import Proof

#: The trailer by which a commit names the rollback that it is of.
TRAILER = "PipeOps-Rollback"


@dataclass(frozen=True)
class RollbackOrder(JsonForm):
    """What shall go back to what, and why.

    :param model: its name in the registry.
    :param release: version that shall go.
    :param release_sha256: its digest.
    :param before: version that shall run again.
    :param before_sha256: its digest.
    :param reason: one sentence.
    :param alias: that follows.
    :param revision: commit that brought the release, if it is known.
    :param evidence: digest of the rows by which it was decided.
    :param origin: id of the record by which the model before was registered, if it is known.
    :param verdict: of the release against the model before on the rows of the evidence; empty if nobody has compared them.
    """

    model: str
    release: str
    release_sha256: str
    before: str
    before_sha256: str
    reason: str
    alias: str = "champion"
    revision: str = ""
    evidence: str = ""
    origin: str = ""
    verdict: str = ""

    def __post_init__(self) -> None:
        for name in ("model", "release", "release_sha256", "before", "before_sha256", "reason", "alias"):
            if not getattr(self, name):
                raise InvalidInput(f"the order has no {name}", field=name, remedy="Give it.")
        demand_types(self)
        if self.release_sha256 == self.before_sha256:
            raise InvalidInput(
                "the model before is the release itself",
                field="before",
                value=self.before,
                remedy="Name a version of another digest.",
            )

    @property
    def id(self) -> str:
        """Which rollback it is: the same for whoever orders it, and whyever."""
        what = [self.model, self.alias, self.release_sha256, self.before_sha256]
        return hashlib.sha256(canonical(what, "order", "an order")).hexdigest()[:16]


@dataclass(frozen=True)
class Begun(JsonForm):
    """What the first half has done.

    :param commit: of the desired state that wants the model before; where another has made it, the tip.
    :param mine: whether this task made it, now or in an earlier attempt; else another does the rollback.
    :param previous: the values that stood there before, by path.
    :param values: those that stand there now.
    """

    commit: str
    mine: bool
    previous: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class ModelRollback:
    """Carries out an order.

    :param git: the repository of the desired state.
    :param registry: of the models.
    :param desired: where the desired state names the model.
    :param order: what goes back to what.
    """

    def __init__(
        self, git: GitRepository, registry: Registry, desired: WantedModel, order: RollbackOrder
    ) -> None:
        self.git, self.registry, self.desired, self.order = git, registry, desired, order

    def wanted(self) -> str:
        """Return the digest of the model that Git wants now."""
        return self.desired.digest(self.git)

    def target(self) -> ModelVersion:
        """Find the version to go back to.

        :return: the version.
        :raises NotFound: if the registry does not know it.
        :raises InvalidInput: if its digest is another one than was ordered.
        """
        found = self.registry.version(self.order.model, self.order.before)
        if found.sha256 != self.order.before_sha256:
            raise InvalidInput(
                f"version {found.version} of {found.name!r} has the digest {found.sha256[:12]}, and "
                f"{self.order.before_sha256[:12]} was ordered",
                field="before",
                value=self.order.before,
                remedy="Order the version of that digest.",
            )
        return found

    def begin(self, key: str, *, again: int = 1, trailers: Mapping[str, str] | None = None) -> Begun:
        """Commit the model before to Git, and block the release in the registry.

        :param key: of the task: its further attempts find the commit of the first one.
        :param again: 1 when it was first ordered, and higher each time that a person had it done again.
        :param trailers: of the commit.
        :return: the commit, and whether it is this task's.
        :raises ReleaseFailed: if Git wants a third model: somebody has decided otherwise meanwhile.
        """
        order = self.order
        target = self.target()
        if not any(self.desired.wants(self.git, one) for one in (order.release_sha256, order.before_sha256)):
            raise self._superseded()

        def commit(values: dict[str, str], expect: dict[str, str | None]) -> Change:
            return self.git.commit_edit(
                self.desired.file,
                values,
                f"Roll {order.model} back from version {order.release} to {order.before}\n\n{order.reason}",
                key=key,
                order=again,
                expect=expect,
                trailers={**(trailers or {}), TRAILER: order.id},
            )

        values, change = self.desired.put(self.git, target, order.release_sha256, commit)
        if change.changed:
            self.registry.block(order.model, order.release, order.reason)
        return Begun(change.commit, change.changed, change.previous, values)

    def finish(self, proof: Proof, commit: str) -> str | None:
        """Let the alias follow, after the proof that the model before runs.

        :param proof: what was seen of the model that runs, after the commit.
        :param commit: of :meth:`begin`.
        :return: the version that the alias named before this.
        :raises ReleaseFailed: if nothing proves it, Git wants another model by now, or the alias names a third one.
        """
        order = self.order
        if why := against(proof, order.before_sha256, self.git.describe(commit).time):
            raise ReleaseFailed(
                f"nothing proves that {order.before_sha256[:12]} runs: {why}; Git wants "
                f"{self.wanted()[:12]}, and the alias {order.alias!r} still names version {self._named()}",
                remedy="See why the model before did not come up. Nothing more is changed by itself.",
            )
        if not self._back():
            raise self._superseded()
        before = self._named()
        if before not in (order.release, order.before, None):
            raise ReleaseFailed(
                f"the alias {order.alias!r} of {order.model!r} names version {before}, neither {order.release} nor "
                f"{order.before}: somebody has moved it",
                remedy="Decide which model is wanted: Git says one thing, and the alias another.",
            )
        self.registry.set_alias(order.model, order.alias, order.before)
        if not self._back() or self._named() != order.before:
            raise self._superseded()
        return before

    def _back(self) -> bool:
        """Whether Git wants the model before, and nowhere the release."""
        wants = self.desired.wants
        return wants(self.git, self.order.before_sha256) and not wants(self.git, self.order.release_sha256)

    def _named(self) -> str | None:
        found = self.registry.by_alias(self.order.model, self.order.alias)
        return found.version if found else None

    def _superseded(self) -> NotJudged:
        order = self.order
        return NotJudged(
            f"Git wants the model {self.wanted()[:12] or '(none)'}, neither {order.release_sha256[:12]} nor "
            f"{order.before_sha256[:12]}, and the alias {order.alias!r} names version {self._named()}: somebody has decided "
            "otherwise meanwhile",
            remedy="Nothing more is changed. Look at the newest commit of the manifest.",
        )
