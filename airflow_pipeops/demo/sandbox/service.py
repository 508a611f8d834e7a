"""What all routes share: the parts of the server, and who is asking."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from airflow_pipeops.demo.sandbox import spec, wire
from airflow_pipeops.demo.sandbox.auth import Access
from airflow_pipeops.demo.sandbox.controller import Controller
from airflow_pipeops.demo.sandbox.faults import Faults
from airflow_pipeops.demo.sandbox.reconciler import Reconciler
from airflow_pipeops.demo.sandbox.repository import Repositories
from airflow_pipeops.demo.sandbox.requests import Requests
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.store import Application, ApplicationStore
from airflow_pipeops.demo.sandbox.watch import Broadcaster


@dataclass
class Service:
    """The parts that routes work with.

    :param store: the Applications.
    :param access: tokens and the policy.
    :param repositories: Git, read.
    :param cluster: the live objects.
    :param reconciler: compares the two.
    :param controller: acts on what was found.
    :param broadcaster: tells those who watch Applications.
    :param faults: those that are switched on.
    :param requests: counts what was asked.
    """

    store: ApplicationStore
    access: Access
    repositories: Repositories
    cluster: Cluster
    reconciler: Reconciler
    controller: Controller
    broadcaster: Broadcaster
    faults: Faults
    requests: Requests

    def role(self, request: Request) -> str:
        """Return the role of who is asking.

        :return: a role that the policy may name.
        :raises ApiError: 401 where there is no valid token.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.cookies.get("argocd.token", "")
        if not token:
            raise wire.unauthenticated("no session information")
        role = self.access.role(token.strip())
        if role is None:
            raise wire.unauthenticated("invalid session: token is not known to this server")
        return role

    def require(self, role: str, resource: str, action: str, target: str) -> None:
        """Refuse what the policy does not allow.

        :raises ApiError: 403.
        """
        if not self.access.may(role, resource, action, target):
            raise wire.permission_denied(f"{resource}, {action}, {target}, sub: {role}")

    def load(
        self,
        request: Request,
        action: str,
        *,
        body: dict[str, Any] | None = None,
        resource: str = "applications",
    ) -> Application:
        """Return the Application that a request names, if who is asking may do ``action`` on it.

        Without ``project``, an Application that does not exist and one that may not be seen get the same 403.

        :return: the Application.
        :raises ApiError: 401, 403 or 404.
        """
        role = self.role(request)
        name = request.path_params["name"]
        wanted = request.query_params.get("project") or (body or {}).get("project") or ""
        where = request.query_params.get("appNamespace") or (body or {}).get("appNamespace") or ""
        found = self.store.get(name)
        if where not in ("", wire.CONTROL_PLANE_NAMESPACE):
            found = None
        target = f"{wanted or (spec.project(found) if found else '')}/{name}"
        if found is None or (wanted and wanted != spec.project(found)):
            if wanted and self.access.may(role, "applications", "get", target):
                raise wire.not_found(name)
            raise wire.permission_denied()
        if not self.access.may(role, "applications", "get", target):
            raise wire.permission_denied()
        self.require(role, resource, action, target)
        return found

    def visible(self, request: Request) -> list[Application]:
        """Return the Applications that the query selects and who is asking may see."""
        role, accept = self.role(request), selection(request)
        return [a for a in self.store.all() if accept(a) and self.may_get(role, a)]

    def may_get(self, role: str, application: Application) -> bool:
        """Say whether a role may see an Application."""
        target = f"{spec.project(application)}/{application['metadata']['name']}"
        return self.access.may(role, "applications", "get", target)


def selection(request: Request) -> Any:
    """Return the filter that a query's ``name``, ``projects``, ``selector``, ``repo``, ``appNamespace`` say."""
    query = request.query_params
    projects = set(filter(None, [*query.getlist("projects"), *query.getlist("project")]))
    name, selector, repo = query.get("name"), query.get("selector", ""), query.get("repo")
    here = query.get("appNamespace", "") in ("", wire.CONTROL_PLANE_NAMESPACE)
    wire.matches_selector({}, selector)  # refuses a selector that is not understood, before anything is sent

    def accept(application: Application) -> bool:
        return (
            here
            and (not name or application["metadata"]["name"] == name)
            and (not projects or spec.project(application) in projects)
            and (not repo or spec.source(application).get("repoURL") == repo)
            and wire.matches_selector(application["metadata"].get("labels") or {}, selector)
        )

    return accept


async def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; an empty body is an empty object.

    :return: the object.
    :raises ApiError: where it is not one.
    """
    content = await request.body()
    if not content.strip():
        return {}
    try:
        body = json.loads(content)
    except ValueError as error:
        raise wire.invalid_argument(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise wire.invalid_argument("the body must be a JSON object")
    return body


def flag(request: Request, name: str, default: bool) -> bool:
    """Return a true-or-false query parameter."""
    value = request.query_params.get(name)
    return default if value is None else unquote(value).lower() in ("true", "1")
