"""What all calls through the Kubernetes API share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.exceptions import Conflict, NotFound, Unsupported
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import ALL_NAMESPACES, Kind, name_of, version_of

APPLICATIONS = Kind("argoproj.io", "v1alpha1", "applications")
APPLICATION_SETS = Kind("argoproj.io", "v1alpha1", "applicationsets")

#: How often a change is made again on the fresh object after somebody else, most often the controller, was faster.
_ROUNDS = 6

Json = dict[str, Any]


class CoreCalls:
    """Reads and changes one Application at a time."""

    kubernetes: KubernetesClient
    namespace: str
    everywhere: bool
    user: str

    def at(self, namespace: str) -> str:
        """Return a namespace, by default Argo CD's own."""
        return namespace or self.namespace

    def among(self, namespace: str) -> str:
        """Return where to look for Applications: a namespace, or all of them."""
        return namespace or (ALL_NAMESPACES if self.everywhere else self.namespace)

    async def get(self, app: AppRef) -> Json:
        """Return an Application as it is known now."""
        found = await self.kubernetes.get(APPLICATIONS, app.name, self.at(app.namespace))
        actual = str((found.get("spec") or {}).get("project") or "default")
        if app.project and actual != app.project:
            # As through the REST API, an application is found in its own project only.
            raise NotFound(
                f"application {app} does not exist: {app.name} is in project {actual}",
                remedy="Check its name, project and namespace.",
            )
        return found

    async def changed(self, app: AppRef, change: Callable[[Json], Awaitable[Json]]) -> Json:
        """Change an Application on the ground of how it is; again, where it has changed meanwhile.

        :param change: gets the Application, and writes with its ``resourceVersion`` as precondition.
        """
        for round_ in range(1, _ROUNDS + 1):
            application = await self.get(app)
            try:
                return await change(application)
            except _Moved as error:
                if round_ == _ROUNDS:
                    raise Conflict(error.message) from error
            await asyncio.sleep(0.1 * round_ * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def merge(self, app: AppRef, application: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
        """Merge a patch into exactly this version of an Application."""
        try:
            return await self.kubernetes.patch(
                APPLICATIONS,
                app.name,
                patch,
                self.at(app.namespace),
                resource_version=version_of(application),
            )
        except Conflict as error:
            raise _Moved(error.message) from error

    async def put(self, application: Json) -> Json:
        """Replace exactly this version of an Application."""
        try:
            return await self.kubernetes.replace(APPLICATIONS, application, name_of(application)[0])
        except Conflict as error:
            raise _Moved(error.message) from error


class _Moved(Conflict):
    """Somebody else wrote between our look and our change. A refusal, such as of a second operation, is not this."""


def unsupported(what: str) -> Unsupported:
    """Return the error for what only the API server can do."""
    return Unsupported(
        f"{what} cannot be had through the Kubernetes API: Argo CD's API server computes that",
        field="argocd_conn_id",
        remedy="Use a connection of type 'argocd' (not possible with Argo CD Core).",
    )
