"""Look at objects that were applied until all are ready, and say why they are not.

Many objects of one kind and namespace are read by one list. Pods are read where images are compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.judgement import RULEBOOK, Found, observed
from airflow_pipeops.deploy.reading import listed
from airflow_pipeops.deploy.reports import compose
from airflow_pipeops.deploy.rules import RULES
from airflow_pipeops.deploy.rules.core import PASSIVE
from airflow_pipeops.deploy.selectors import selector
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.exceptions import AccessDenied, NotFound, PipeOpsError
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS, Kind, name_of
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.wait import Decided, Wait

DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions")
#: Of a set, so many objects are explained, and so many pods of each.
_EXPLAINED = 3


class AppliedController:
    """What was applied to a cluster, as whoever waits for it sees it.

    :param client: of the cluster.
    :param declared: what is known of definitions; it is added to.
    """

    rulebook = RULEBOOK

    def __init__(
        self, client: KubernetesClient, declared: dict[tuple[str, str], bool | None] | None = None
    ) -> None:
        self._client = client
        self._declared: dict[tuple[str, str], bool | None] = {} if declared is None else declared

    async def look(self, ref: AppliedSet) -> Observed | Trouble:
        """Read all of them."""
        try:
            return observed(ref, await self.read(ref.targets))
        except PipeOpsError as error:
            problem = problem_of(error)
            if isinstance(problem, Trouble):
                return problem
            raise

    async def refresh(self, wait: Wait) -> None:
        """A cluster looks by itself."""

    async def explain(self, ref: AppliedSet, decided: Decided) -> str:
        """Return why a wait has failed, with what pods and events say. What cannot be looked up is left out."""
        left = set(map(_named, decided.verdict.details.get("left") or ()))
        pods: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        logs: dict[str, list[str]] = {}
        for target in [one for one in ref.targets if str(one) in left][:_EXPLAINED]:
            with contextlib.suppress(PipeOpsError):
                events += await self._client.events(target.namespace, name=target.name, kind=target.kind)
            with contextlib.suppress(PipeOpsError):
                item = await self._client.get(target.served, target.name, target.namespace)
                for pod in [one for one in await self.pods(target, item) if not _well(one)][:_EXPLAINED]:
                    name = name_of(pod)[1]
                    pods.append(pod)
                    with contextlib.suppress(PipeOpsError):
                        events += await self._client.events(target.namespace, name=name, kind="Pod")
                    with contextlib.suppress(PipeOpsError):
                        logs[name] = await self._client.logs(
                            target.namespace, name, container=_broken(pod), tail=20, previous=_restarted(pod)
                        )
        return compose(ref, decided, pods, events, logs)

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def read(self, targets: Sequence[Target]) -> list[Found]:
        """Return what there is of each."""
        groups: dict[tuple[Kind, str], list[Target]] = {}
        for target in targets:
            groups.setdefault((target.served, target.namespace), []).append(target)
        found: dict[Target, Found] = {}
        for (kind, namespace), wanted in groups.items():
            there = await listed(self._client, kind, namespace, len(wanted))
            for target in wanted:
                found[target] = await self.one(target, there)
        return [found[target] for target in targets]

    async def one(self, target: Target, there: Mapping[str, dict[str, Any]] | None) -> Found:
        """Return what there is of one.

        :param there: all objects of its kind and namespace by name; ``None``: read it.
        :return: what was seen.
        """
        try:
            if there is None:
                item = await self._client.get(target.served, target.name, target.namespace)
            elif target.name in there:
                # The items of a list do not say what they are.
                item = {**there[target.name], "apiVersion": target.version, "kind": target.kind}
            else:
                return Found(target, None)
        except NotFound:
            return Found(target, None)
        except AccessDenied as error:
            return Found(target, None, hidden=str(error))
        item = {"apiVersion": target.version, "kind": target.kind, **item}
        pods: tuple[Mapping[str, Any], ...] | None = None
        if target.applied.images or target.pods:
            with contextlib.suppress(AccessDenied):
                pods = tuple(await self.pods(target, item)) if selector(item) else None
        return Found(target, item, pods, await self._declares(target))

    async def pods(self, target: Target, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the pods of a workload."""
        if target.kind == "Pod":
            return [dict(item)]
        wanted = selector(item)
        if not wanted:
            return []
        return (await self._client.find(PODS, target.namespace, labels=wanted)).items

    async def _declares(self, target: Target) -> bool | None:
        """Whether the definition of a custom resource declares a status to wait for."""
        group, _, version = target.version.rpartition("/")
        if group in PASSIVE or (group, target.kind) in RULES:
            return None
        key = (target.version, target.plural)
        if key not in self._declared:
            try:
                definition = await self._client.get(DEFINITIONS, f"{target.plural}.{group}")
            except (AccessDenied, NotFound):
                self._declared[key] = None
            else:
                self._declared[key] = _declared(definition, version)
        return self._declared[key]


def _declared(definition: Mapping[str, Any], version: str) -> bool | None:
    for one in maps(map_(definition.get("spec")).get("versions")):
        if one.get("name") == version:
            schema = map_(map_(one.get("schema")).get("openAPIV3Schema"))
            status = map_(map_(schema.get("properties")).get("status"))
            fields = map_(status.get("properties"))
            # A status whose fields are not told may have any.
            loose = bool(status) and status.get("x-kubernetes-preserve-unknown-fields") is True
            return None if loose and not fields else bool({"conditions", "observedGeneration"} & set(fields))
    return None


def _named(left: str) -> str:
    return left.partition(":")[0]


def _well(pod: Mapping[str, Any]) -> bool:
    status = map_(pod.get("status"))
    return any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in maps(status.get("conditions"))
    )


def _broken(pod: Mapping[str, Any]) -> str:
    """Return the container that a person reads the log of: the first that is not ready."""
    statuses = maps(map_(pod.get("status")).get("containerStatuses"))
    return next((text(one.get("name")) for one in statuses if not one.get("ready")), "")


def _restarted(pod: Mapping[str, Any]) -> bool:
    statuses = maps(map_(pod.get("status")).get("containerStatuses"))
    return any(one.get("name") == _broken(pod) and one.get("restartCount") for one in statuses)
