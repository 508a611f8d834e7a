"""What an Application does not say of itself, asked where it matters: a closed sync window, a step that is not its turn.

Only an application that is out of sync while nothing is under way is asked about: all others cost no request more.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.waits.status import Observed

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD


async def observe_all(client: ArgoCD, ref: AppRef, application: Any, *, refreshed: bool = False) -> Observed:
    """Read an Application, and what may keep it from being synchronised.

    What cannot be asked (no permission, Argo CD without its API server) is left unknown.

    :param application: the object as the API returned it.
    :param refreshed: it is the answer to a refresh that the controller has acknowledged.
    :raises BadResponse: if it is no Application.
    """
    seen = observe(application, refreshed=refreshed)
    under_way = seen.operation is not None and (seen.operation.queued or seen.operation.phase == "Running")
    if seen.sync != "OutOfSync" or under_way:
        return seen
    if seen.automatic:
        windows = await _or_none(client.sync_windows(ref))
        return observe(application, refreshed=refreshed, sync_windows=windows)
    if seen.owner == "ApplicationSet":
        owner = _owner(application)
        found = await _or_none(client.application_set(owner, namespace=seen.namespace)) if owner else None
        return observe(application, refreshed=refreshed, application_set=found)
    return seen


def _owner(application: Mapping[str, Any]) -> str:
    # ``observe`` has read the first reference, and found an object.
    return str(application["metadata"]["ownerReferences"][0].get("name") or "")


async def _or_none(question: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await question
    except PipeOpsError:
        return None
