"""A ``CronWorkflow`` as it is declared, and its pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.manifest import manifest_of, namespace_of
from airflow_pipeops.argo_workflows.operators.base import ConnectedOperator, folder_of
from airflow_pipeops.base.arguments import object_name
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import Conflict, NotFound, PipeOpsError, Unreachable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows

#: So often a change is tried that somebody else was quicker with.
_TRIES = 4


class CronOperator(ConnectedOperator):
    """Base of the operators of a cron workflow."""

    def reached(self, name: str, namespace: str) -> tuple[ArgoWorkflowsHook, str]:
        """Return the hook and the namespace, by default that of the connection, and set the link."""
        hook = ArgoWorkflowsHook(self.argo_workflows_conn_id, namespace=namespace)
        hook.client()
        if hook.url:
            self.workflow_url = f"{hook.url}/cron-workflows/{hook.namespace}/{name}"
        return hook, hook.namespace


class ArgoCronWorkflowOperator(CronOperator):
    """Have a ``CronWorkflow`` be as it is declared: created, changed, or left as it is.

    Returns ``{name, namespace, changed, suspended, url}``: one that somebody has suspended stays so, and starts none.

    :param manifest: a dict; YAML, or the name of a YAML file, relative to the DAG file; a model of the ``argo_workflows``
        package; or an object with ``to_dict()``.
    """

    def __init__(self, *, manifest: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest

    def execute(self, context: Context) -> dict[str, Any]:
        """Create it, or change it."""
        with no_retry():
            folder = folder_of(self)
            manifest = manifest_of(self.manifest, folder, "CronWorkflow")
            name = object_name(text(map_(manifest.get("metadata")).get("name")))
            hook, namespace = self.reached(name, namespace_of(manifest, self.namespace or ""))
            changed, spec = hook.run(lambda client: declared(client, namespace, name, manifest))
            if suspended := spec.get("suspend") is True:
                self.log.warning("cron workflow %s/%s is suspended, and starts no workflows", namespace, name)
            return {
                "name": name,
                "namespace": namespace,
                "changed": changed,
                "suspended": suspended,
                "url": self.workflow_url,
            }


class ArgoCronWorkflowSuspendOperator(CronOperator):
    """Suspend a ``CronWorkflow``, so that it starts no more workflows, or let it start them again.

    Returns ``{name, namespace, suspended, url}``.

    :param name: of the cron workflow. Templated.
    :param suspend: whether it is to rest.
    """

    template_fields: Sequence[str] = ("name", *CronOperator.template_fields)

    def __init__(self, *, name: str, suspend: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.suspend = suspend

    def execute(self, context: Context) -> dict[str, Any]:
        """Suspend it, or let it go on; twice is as good as once."""
        with no_retry():
            hook, namespace = self.reached(object_name(self.name), self.namespace or "")

            async def act(client: ArgoWorkflows) -> Mapping[str, Any]:
                try:
                    return await client.suspend_cron(namespace, self.name, suspend=self.suspend)
                except Unreachable:
                    found = await client.cron(namespace, self.name)
                    if (map_(found.get("spec")).get("suspend") is True) is not self.suspend:
                        raise
                    return found

            hook.run(act)
            return {
                "name": self.name,
                "namespace": namespace,
                "suspended": self.suspend,
                "url": self.workflow_url,
            }


async def declared(
    client: ArgoWorkflows, namespace: str, name: str, manifest: Mapping[str, Any]
) -> tuple[bool, Mapping[str, Any]]:
    """Have a cron workflow be as it is declared.

    :param client: reaches it.
    :param namespace: where it is.
    :param name: its name.
    :param manifest: as it is to be.
    :return: whether anything had to be changed, and its spec then.
    """
    last: PipeOpsError | None = None
    for _ in range(_TRIES):
        try:
            found = await client.cron(namespace, name)
        except NotFound:
            found = {}
        try:
            if not found:
                await client.create_cron(namespace, manifest)
                return True, map_(manifest.get("spec"))
            kept = map_(found.get("metadata"))
            wanted = map_(manifest.get("metadata"))
            spec = dict(map_(manifest.get("spec")))
            if "suspend" not in spec and "suspend" in map_(found.get("spec")):
                spec["suspend"] = found["spec"]["suspend"]  # a person's pause is not undone by a declaration
            same = all(
                map_(kept.get(part)).get(key) == value
                for part in ("labels", "annotations")
                for key, value in map_(wanted.get(part)).items()
            )
            if same and bare(map_(found.get("spec"))) == bare(spec):
                return False, spec
            metadata = {
                **kept,
                **{
                    part: {**map_(kept.get(part)), **map_(wanted.get(part))}
                    for part in ("labels", "annotations")
                },
            }
            await client.replace_cron(namespace, {**found, "metadata": metadata, "spec": spec})
            return True, spec
        except (Conflict, Unreachable) as error:
            last = error
    assert last is not None
    raise last


def bare(value: Any) -> Any:
    """Return a value of JSON without what is empty: a server of Go writes that out here, and leaves it out there.

    :param value: as it is declared, or as the API sent it.
    :return: the same, so that two of them can be compared.
    """
    if isinstance(value, Mapping):
        left = {key: bare(item) for key, item in value.items()}
        # A number that is zero says something.
        return {key: item for key, item in left.items() if item or (item == 0 and item is not False)}
    return [bare(item) for item in value] if isinstance(value, list) else value
