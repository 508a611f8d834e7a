"""Which objects were applied, and are waited for together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.deploy.seen import Applied
from airflow_pipeops.kubernetes.kinds import Kind


@dataclass(frozen=True)
class Target(JsonForm):
    """One object that was applied.

    :param version: API group and version, as a manifest says them.
    :param kind: as a manifest says it.
    :param plural: the name of its kind in paths.
    :param name: of the object.
    :param namespace: empty for an object of the whole cluster.
    :param applied: what readiness is bound to.
    :param pods: its pods are read too, for what they run; they are anyway where images are compared.
    :param empty_ok: that no pod is wanted is in order.
    :param brief: it is taken away some time after its end, as a Job may be.
    """

    version: str
    kind: str
    plural: str
    name: str
    namespace: str = ""
    applied: Applied = field(default_factory=lambda: Applied(""))
    pods: bool = False
    empty_ok: bool = False
    brief: bool = False

    @classmethod
    def of(
        cls,
        answer: Mapping[str, Any],
        plural: str,
        manifest: Mapping[str, Any] | None = None,
        images: Sequence[str] = (),
        *,
        manager: str = "",
        pods: bool = False,
        empty_ok: bool = False,
    ) -> Target:
        """Return what to wait for once an object was applied.

        :param answer: the object as the server returned it.
        :param plural: the name of its kind in paths.
        :param manifest: what the server was given.
        :param images: that its pods must run; see :meth:`Applied.of`.
        :param manager: under whose name it was applied.
        :param pods: read its pods, too.
        :param empty_ok: that no pod is wanted is in order.
        :return: the object, and what was applied.
        """
        metadata = map_(answer.get("metadata"))
        return cls(
            text(answer.get("apiVersion")),
            text(answer.get("kind")),
            plural,
            text(metadata.get("name")),
            text(metadata.get("namespace")),
            Applied.of(answer, manifest, images, manager),
            pods,
            empty_ok,
            "ttlSecondsAfterFinished" in map_(answer.get("spec")),
        )

    @property
    def served(self) -> Kind:
        """Where the API serves it."""
        group, _, version = self.version.rpartition("/")
        return Kind(group, version, self.plural)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def templated(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the pods of a workload are made from: what a wait holds on to where nobody says what was applied."""
    spec = map_(item.get("spec"))
    return {
        "kind": item.get("kind"),
        "spec": {key: spec[key] for key in ("template", "workloadRef") if key in spec},
    }


@dataclass(frozen=True)
class AppliedSet(JsonForm):
    """Objects that were applied together.

    :param name: what a message calls them.
    :param targets: the objects.
    :param namespace: where most of them are, for messages.
    :param project: they have none; waits ask for one.
    """

    name: str
    targets: tuple[Target, ...]
    namespace: str = ""
    project: str = ""

    def same(self) -> AppliedSet:
        """Return the same objects, in whatever state of theirs: what a watch of a release holds on to."""
        return replace(
            self, targets=tuple(replace(one, applied=Applied(one.applied.uid)) for one in self.targets)
        )
