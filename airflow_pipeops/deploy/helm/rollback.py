"""Take a Helm release back from a revision that went bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.deploy.helm import manifests
from airflow_pipeops.deploy.helm.base import HelmOperator, HelmWaitOperator
from airflow_pipeops.deploy.helm.program import Helm
from airflow_pipeops.deploy.helm.releases import commit_of
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.deploy.triggers import ReleaseTrigger
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

_NUMBER = "Give the number of the revision that went bad, as in 'helm history'."


class HelmRollbackOperator(HelmWaitOperator):
    """Roll a release back from one revision to the newest good one before it, and wait until every object of that is ready.

    A revision that came later is not thrown away: then the task fails, and says which. However often the task is tried,
    there is one rollback.

    Returns ``{release, namespace, revision, previous, restored, changed, manifest, commit, objects, helm, health, rule,
    reason, record_id}``; ``restored`` is the revision that it returns to, and ``commit`` what that is of, where a task of
    this project released it.

    :param revision: number of the revision to go back from. Templated.
    :param on_immutable: as for :class:`~airflow_pipeops.deploy.helm.operators.HelmReleaseOperator`.
    """

    emits = ("rollback", "change", "release")
    template_fields: Sequence[str] = ("revision", *HelmOperator.template_fields)

    def __init__(self, *, revision: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.revision = revision

    def execute(self, context: Context) -> dict[str, Any]:
        """Roll back, or find that it was done; then wait."""
        with no_retry(), self.opened() as helm:
            facts = self._facts(helm)
            applied = self.run_with(lambda client: self.applied_in(client, facts["revision"]))
            decided = self.wait_for(applied, ReleaseTrigger, facts=facts)
            return self._finish(context, applied, decided, facts)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            self.located()
            applied, decided = AppliedSet.from_json(event["applied"]), Decided.from_json(event["decided"])
            return self._finish(context, applied, decided, dict(event["facts"]))

    def _facts(self, helm: Helm) -> dict[str, Any]:
        failed = self._failed()
        number, target = self.rolled_back(helm, failed)
        revisions = self.history()
        history = {one.number: one for one in revisions}
        before, after = (manifests.objects_of(history[one].manifest) for one in (failed, number))
        names, _ = manifests.difference(before, after, self.namespace)
        return {
            "release": self.release,
            "namespace": self.namespace,
            "revision": number,
            "previous": failed,
            "restored": target,
            "changed": any(names.values()),
            "objects": names,
            "manifest": manifests.digest(after),
            "commit": commit_of(revisions, number),
            "reverts": commit_of(revisions, failed) or None,
            "helm": helm.version,
        }

    def _failed(self) -> int:
        try:
            return at_least(
                "revision", int(self.revision), 1, f"there is no revision {self.revision}", _NUMBER
            )
        except (TypeError, ValueError):
            raise InvalidInput(
                f"revision {self.revision!r} is no number",
                field="revision",
                value=self.revision,
                remedy=_NUMBER,
            ) from None

    def _finish(
        self, context: Context, applied: AppliedSet, decided: Decided, facts: dict[str, Any]
    ) -> dict[str, Any]:
        if error := self.failure(applied, decided):
            raise error
        told = {
            "app": f"{self.namespace}/{self.release}",
            "revision": facts["commit"] or str(facts["restored"]),
            "reverts": facts.pop("reverts", None),
            "how": "rollback",
        }
        back = self.emit(context, "rollback", told)
        return self.record(context, applied, decided, facts, facts["commit"], parents=[back] if back else [])
