"""A ConfigMap that pods mount as a place of prompts: Git and a controller bring it, and this proves that it has come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.base.connections import work_with
from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput, NotFound, ReleaseFailed
from airflow_pipeops.kubernetes.kinds import PODS, Kind
from airflow_pipeops.llm.prompts.projections import Named
from airflow_pipeops.llm.prompts.prompt import Prompt

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

_CONFIGMAPS = Kind("", "v1", "configmaps")
#: Seconds between two looks.
_PAUSE = 1.0


@dataclass(frozen=True)
class ConfigMapPrompt(JsonForm):
    """A ConfigMap that holds the prompt, and pods that name its digest in their template.

    A pod that only mounts the ConfigMap gets a new one without a restart, a minute or two later, and nobody can see when. So
    the commit that changes the ConfigMap writes the digest into the pod's template, too, and the rollout is the proof.

    :param name: of the ConfigMap.
    :param namespace: of it and its pods.
    :param selector: labels of the pods, such as ``app=notices``.
    :param key: of the ConfigMap under which the prompt is, in its canonical form.
    :param carrier: variable of a container, or annotation of the pod, that holds the digest.
    :param patience: seconds that the rollout may still take; a wait for the controller comes before.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    """

    kind: ClassVar[str] = "configmap"
    cached: ClassVar[int] = 0

    name: str
    namespace: str
    selector: str
    key: str = "prompt.json"
    carrier: str = "PROMPT_SHA256"
    patience: float = 120.0
    kubernetes_conn_id: str = "kubernetes_default"

    def __post_init__(self) -> None:
        demand_types(self)
        for field in ("name", "namespace", "selector"):
            not_empty(field, getattr(self, field), f"the ConfigMap has no {field}", "Name it.")

    def opened(self) -> ConfigMapPlace:
        """Open the cluster."""
        from airflow_pipeops.kubernetes.connections import extra_of

        return ConfigMapPlace(self, extra_of(self.kubernetes_conn_id))

    async def aopened(self) -> ConfigMapPlace:
        """Open it where an event loop runs."""
        from airflow_pipeops.kubernetes.connections import aextra_of

        return ConfigMapPlace(self, await aextra_of(self.kubernetes_conn_id))

    def called(self, name: str, label: str) -> str:
        """Return where it is mounted from."""
        return f"configmap:{self.namespace}/{self.name}"


class ConfigMapPlace:
    """A cluster in which a ConfigMap is read.

    :param of: which one.
    :param extra: of the connection.
    """

    def __init__(self, of: ConfigMapPrompt, extra: Mapping[str, Any]) -> None:
        self._of, self._extra = of, extra

    def release(self, prompt: Prompt, label: str, commit: str) -> Named:
        """Wait until the pods carry the prompt: the commit has released it, and nothing is written here.

        :return: what they carry.
        :raises ReleaseFailed: if they do not in time.
        """
        until = time.monotonic() + self._of.patience
        while True:
            shown = self.named(prompt.name, label)
            if shown is not None and shown.sha256 == prompt.sha256:
                return shown
            if time.monotonic() >= until:
                break
            time.sleep(_PAUSE)
        found = "there is none" if shown is None else shown.why or f"they carry {shown.sha256[:12]}"
        raise ReleaseFailed(
            f"{self._of.called(prompt.name, label)} and its pods do not show {prompt.sha256[:12]}: {found}",
            remedy="Wait for the controller first; write the digest into the pod's template with the same commit.",
        )

    def named(self, name: str, label: str) -> Named | None:
        """Read the ConfigMap and its pods; see :class:`Place`."""
        from airflow_pipeops.kubernetes.connections import client_of

        async def look(client: KubernetesClient) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
            try:
                found = await client.get(_CONFIGMAPS, self._of.name, self._of.namespace)
            except NotFound:
                return None
            return found, (await client.find(PODS, self._of.namespace, labels=self._of.selector)).items

        seen = work_with(client_of(self._of.kubernetes_conn_id, self._extra), look)
        return None if seen is None else judge(seen[0], seen[1], self._of.key, self._of.carrier)

    def has(self, name: str, sha256: str) -> bool:
        """Whether it has the digest: Git has each, and the cluster the one that is wanted."""
        return True


def judge(configmap: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], key: str, carrier: str) -> Named:
    """Say which prompt pods work with. Pure.

    :param configmap: as the API serves it.
    :param pods: that mount it.
    :param key: of the ConfigMap, under which the prompt is.
    :param carrier: variable or annotation that holds the digest.
    :return: the digest, if the ConfigMap holds that prompt and each ready pod was started with it; else why there is none.
    """
    version = text(map_(configmap.get("metadata")).get("resourceVersion"))
    content = text(map_(configmap.get("data")).get(key))
    if not content:
        return Named(version, "", why=f"the ConfigMap has no {key!r}")
    try:
        sha256 = Prompt.read(content, "prompt.json").sha256
    except InvalidInput as error:
        return Named(version, "", why=f"{key!r} is no prompt: {error.message}")
    going = [pod for pod in pods if _ready(pod)]
    if not going:
        return Named(version, "", why="no pod is ready", known=False)
    bare = ""
    for pod in going:
        carried, name = _carried(pod, carrier), text(map_(pod.get("metadata")).get("name"))
        if carried and carried != sha256:
            why = f"pod {name} carries {carried[:12]}, and the ConfigMap holds {sha256[:12]}"
            return Named(version, "", why=why)
        bare = bare or ("" if carried else name)
    if bare:
        why = f"pod {bare} names no digest as {carrier}, and the ConfigMap holds {sha256[:12]}"
        return Named(version, "", why=why, known=False)
    return Named(version, sha256)


def _ready(pod: Mapping[str, Any]) -> bool:
    if map_(pod.get("metadata")).get("deletionTimestamp"):
        return False
    conditions = maps(map_(pod.get("status")).get("conditions"))
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _carried(pod: Mapping[str, Any], carrier: str) -> str:
    annotations = map_(map_(pod.get("metadata")).get("annotations"))
    if carrier in annotations:
        return text(annotations[carrier])
    for container in maps(map_(pod.get("spec")).get("containers")):
        for one in maps(container.get("env")):
            if one.get("name") == carrier:
                return text(one.get("value"))
    return ""
