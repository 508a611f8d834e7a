"""Submit a workflow once, whatever dies in between: note what is meant, look, create, look where nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_pipeops.argo_workflows.causes import infrastructure
from airflow_pipeops.argo_workflows.clients.protocol import RETRYING, ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.manifest import template_of, with_parameters
from airflow_pipeops.argo_workflows.names import OPERATION
from airflow_pipeops.argo_workflows.status import WorkflowStatus, read
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import (
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
    Unsupported,
    WorkflowFailed,
)

#: How often a creation is tried that a quota, or a network, has spoilt.
TRIES = 5


class Notes(Protocol):
    """What a task remembers between its attempts."""

    def recall(self) -> Mapping[str, Any]:
        """Return what was noted last; nothing where nothing was."""

    def keep(self, noted: Mapping[str, Any]) -> None:
        """Note something in place of what was noted before."""


class TaskNotes:
    """What a task remembers between its attempts, in Airflow's store of its state.

    :param store: of the task; ``None`` where Airflow gives none.
    :param under: the key in the store; each workflow of a task has its own.
    """

    def __init__(self, store: Any, under: str = "pipeops_argo_workflow") -> None:
        self._store, self._under = store, under

    def recall(self) -> Mapping[str, Any]:
        """Return what was noted last."""
        return map_(self._store.get(self._under)) if self._store is not None else {}

    def keep(self, noted: Mapping[str, Any]) -> None:
        """Note something."""
        if self._store is not None:
            self._store.set(self._under, dict(noted))


@dataclass(frozen=True)
class Submitted:
    """The workflow of a task.

    :param status: what it says.
    :param attached: it was there already.
    :param after: the attempt that was tried again, whose end does not count; empty for none.
    """

    status: WorkflowStatus
    attached: bool
    after: str = ""

    @property
    def ref(self) -> WorkflowRef:
        """Names it."""
        return WorkflowRef(self.status.name, self.status.namespace, self.status.uid)


@dataclass(frozen=True)
class Order:
    """What is to be run.

    :param name: of the workflow.
    :param namespace: where it runs.
    :param mark: says whose it is.
    :param manifest: makes what is created, once that is needed; may ask the client.
    :param lint: have the server check it before.
    :param retry_failed: a workflow that is found failed is tried again, from its failed nodes on.
    """

    name: str
    namespace: str
    mark: str
    manifest: Callable[[ArgoWorkflows], Any]
    lint: bool = True
    retry_failed: bool = False


async def filled(
    client: ArgoWorkflows, namespace: str, base: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Set the parameters of a workflow, as it or the template that it refers to declares them.

    :param client: reaches the template.
    :param namespace: of the workflow.
    :param base: the manifest.
    :param parameters: values by name.
    :return: the manifest with its parameters.
    :raises InvalidInput: where the template is not there, and for parameters that do not fit.
    """
    name, scope = template_of(base)
    declared = None
    if name:
        try:
            declared = map_((await client.template(namespace, name, cluster_scope=scope)).get("spec"))
        except NotFound as error:
            raise InvalidInput(
                error.message, field="template", value=name, remedy="Check its name and namespace."
            ) from error
    return with_parameters(base, parameters, declared)


async def submit(client: ArgoWorkflows, order: Order, notes: Notes, say: Callable[[str], None]) -> Submitted:
    """Find the workflow of a task, or create it.

    :param client: reaches Argo Workflows.
    :param order: what is to be run.
    :param notes: of the task.
    :param say: told what a person should know.
    :return: the workflow.
    :raises WorkflowFailed: where it was there, and is gone before its end was seen.
    :raises InvalidInput: where another one has its name, or the manifest is none.
    """
    if order.retry_failed and RETRYING in client.lacks:
        raise Unsupported(
            "on_failure='retry_failed_nodes' needs the server of Argo Workflows",
            field="on_failure",
            remedy="Use a connection of type argo_workflows.",
        )
    place = {"mark": order.mark, "namespace": order.namespace, "name": order.name}
    noted = notes.recall()
    if noted.get("mark") != order.mark:
        noted = {}
    uid, after = str(noted.get("uid") or ""), str(noted.get("after") or "")
    if not uid:
        notes.keep(place)
    found = await _look(client, order, uid)
    attached = found is not None
    if found is None and uid:
        ref = WorkflowRef(order.name, order.namespace, uid)
        raise WorkflowFailed(
            f"{ref} (uid {uid}) is gone, and its end was not seen",
            remedy="Keep workflows for longer (ttlStrategy), or archive them; clear the task to run it anew.",
        )
    if found is None:
        found, attached = await _create(client, order, say)
    place |= {"uid": found.uid, **({"after": after} if after else {})}
    if found.uid != uid:
        notes.keep(place)
    if attached:
        say(f"Found our own {found} again: {found.phase or 'not begun'}")
    if attached and found.phase in ("Failed", "Error"):
        return await _tried_again(
            client, order, found, say, lambda after: notes.keep({**place, "after": after})
        )
    return Submitted(found, attached, after)


async def _look(client: ArgoWorkflows, order: Order, uid: str) -> WorkflowStatus | None:
    """Return the workflow of the order, if it is there."""
    try:
        found = read(await client.get(WorkflowRef(order.name, order.namespace, uid)))
    except NotFound:
        return None
    if found.mark != order.mark:
        raise InvalidInput(
            f"{found} is there, and is not that of this task: its label {OPERATION} is {found.mark or 'missing'}",
            field="name",
            value=found.name,
            remedy="Delete it, or give another name.",
        )
    return found


async def _create(
    client: ArgoWorkflows, order: Order, say: Callable[[str], None]
) -> tuple[WorkflowStatus, bool]:
    manifest = await order.manifest(client)
    if order.lint:
        try:
            await client.lint(order.namespace, manifest)
        except Unsupported as error:
            say(f"The manifest is not checked before: {error.message}")
    for attempt in range(TRIES):
        try:
            return read(await client.create(order.namespace, manifest)), False
        except (Conflict, Unreachable) as error:
            # There already, or refused by a quota, which has the same code; or nobody knows: looking tells.
            found = await _look(client, order, "")
            if found is not None:
                return found, True
            if attempt == TRIES - 1:
                raise
            say(f"Not created yet, and trying on: {error.message}")
        except NotFound as error:
            raise InvalidInput(
                f"the workflow cannot be created: {error.message}",
                field="namespace",
                value=order.namespace,
                remedy="Check that the namespace is there.",
            ) from error
        await asyncio.sleep(pause(attempt))
    raise AssertionError("unreachable")


async def _tried_again(
    client: ArgoWorkflows,
    order: Order,
    found: WorkflowStatus,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> Submitted:
    """Try a failed workflow again where that is wanted, or the work itself did not fail."""
    ref, after = WorkflowRef(found.name, found.namespace, found.uid), found.attempt
    whole = read(await client.get(ref, whole=True))
    lost = infrastructure(whole)
    # Whoever ended it was, as a rule, a worker that was ended itself; that the task is tried again is an order to run.
    if not (order.retry_failed or lost or found.shutdown) or RETRYING in client.lacks:
        return Submitted(found, attached=True)
    note(after)
    say(f"Trying the failed nodes of {found} again" + (f", which were lost: {lost}" if lost else ""))
    try:
        return Submitted(read(await client.act(ref, "retry")), attached=True, after=after)
    except (Unreachable, Conflict, InvalidInput) as error:
        # It may have been done, by us or by somebody else.
        again = await _again(client, ref, error)
        if again.attempt == after:
            raise
        return Submitted(again, attached=True, after=after)


async def _again(client: ArgoWorkflows, ref: WorkflowRef, error: PipeOpsError) -> WorkflowStatus:
    try:
        return read(await client.get(ref))
    except PipeOpsError:
        raise error from None
