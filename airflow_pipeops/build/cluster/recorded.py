"""Any container: what ran in a pod of Airflow's Kubernetes provider becomes a record, with the digests of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.delivery.records import KINDS, RecordKind
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The provider's own sidecar says nothing about what was done.
_SIDECARS = ("airflow-xcom-sidecar",)
#: So much of a result is a fact; what is larger belongs into evidence.
_MOST = 8 * 1024


class RecordedPod(DeliveryOperator):
    """Mixed into an operator of Airflow's Kubernetes provider, makes a record of what it ran, when that went well.

    ``class Train(RecordedPod, KubernetesPodOperator)``; ready made are
    :class:`~airflow_pipeops.build.cluster.operators.RecordedPodOperator` and
    :class:`~airflow_pipeops.build.cluster.operators.RecordedJobOperator`. All that the provider's operators do stays as it
    is, deferred or not. The record's id and the images are XComs named ``record_id`` and ``images``, also where the pod
    itself returns nothing.

    :param record: kind of the record.
    :param facts: further facts of its body; templated.
    :param commit: SHA of the commit that what ran was born from, if any; templated.
    """

    template_fields: Sequence[str] = ("facts", "commit", *DeliveryOperator.template_fields)

    @classmethod
    def kinds_of(cls, arguments: Mapping[str, Any]) -> Sequence[str]:
        """Name the kind that it was told."""
        return (arguments.get("record", "workflow"),)

    def __init__(
        self,
        *,
        record: RecordKind = "workflow",
        facts: Mapping[str, Any] | None = None,
        commit: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.emits = (one_of("record", record, KINDS, called="record kind"),)  # type: ignore[misc]  # one mixin for all
        # What a pod returns need be no mapping; the names that are asked for are pushed by name.
        kwargs.setdefault("multiple_outputs", False)
        super().__init__(**kwargs)
        if getattr(self, "wait_until_job_complete", True) is False:
            raise InvalidInput(
                "what has only begun cannot be recorded as what was done",
                field="wait_until_job_complete",
                value=False,
                remedy="Leave it out of RecordedJobOperator, or set it to True.",
            )
        self.record: RecordKind = record
        self.facts = facts
        self.commit = commit
        self._ran: list[dict[str, Any]] = []

    def post_complete_action(self, *, pod: Any, remote_pod: Any, context: Context, **kwargs: Any) -> None:
        """Take down what ran, before the provider deletes it."""
        from kubernetes.client import ApiClient

        if remote_pod is not None:
            self._ran.append(ran(ApiClient().sanitize_for_serialization(remote_pod)))
        super().post_complete_action(pod=pod, remote_pod=remote_pod, context=context, **kwargs)  # type: ignore[misc]

    def execute(self, context: Context) -> Any:
        """Run it; deferred, the record comes when it is resumed."""
        return self._recorded(context, super().execute(context))

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Resume a pod."""
        return self._recorded(context, super().trigger_reentry(context, event))  # type: ignore[misc]

    def execute_complete(self, context: Context, event: dict[str, Any], **kwargs: Any) -> Any:
        """Resume a Job."""
        return self._recorded(context, super().execute_complete(context, event, **kwargs))  # type: ignore[misc]

    def _recorded(self, context: Context, result: Any) -> Any:
        images = [image for one in self._ran for image in one["images"]]
        body: dict[str, Any] = {"pods": self._ran, **(self.facts or {})}
        if isinstance(result, (Mapping, list, str, int, float)) and len(str(result)) <= _MOST:
            body["result"] = result
        with no_retry():
            record_id = self.emit(context, self.record, body, commit=self.commit or None)
        context["ti"].xcom_push(key="images", value=images)
        context["ti"].xcom_push(key="record_id", value=record_id)
        return cleaned(result)


def ran(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth recording of a pod. Pure.

    :param pod: as the API says it.
    :return: ``{pod, namespace, node, images: [{container, image, digest}]}``; a digest that nobody says is empty.
    """
    metadata, spec, status = (map_(pod.get(part)) for part in ("metadata", "spec", "status"))
    statuses = [*maps(status.get("initContainerStatuses")), *maps(status.get("containerStatuses"))]
    named = {
        text(one.get("name")): text(one.get("image"))
        for one in [*maps(spec.get("initContainers")), *maps(spec.get("containers"))]
    }
    images = []
    for one in statuses:
        name = text(one.get("name"))
        if name not in _SIDECARS:
            image = named.get(name) or text(one.get("image"))
            digest = _digest(text(one.get("imageID"))) or _digest(image)
            images.append({"container": name, "image": image, "digest": digest})
    return {
        "pod": text(metadata.get("name")),
        "namespace": text(metadata.get("namespace")),
        "node": text(spec.get("nodeName")),
        "images": images,
    }


def _digest(reference: str) -> str:
    """Return the digest of a manifest; an id without a repository is that of an image's configuration."""
    _, at, digest = reference.partition("@")
    return digest if at and digest.startswith("sha256:") else ""
