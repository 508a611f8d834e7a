"""Look at a release that was pushed: whether it still stands, and how well its objects are."""

from __future__ import annotations

from airflow_pipeops.deploy.apply.parents import Parent
from airflow_pipeops.deploy.apply.sets import Ref
from airflow_pipeops.deploy.judgement import RULEBOOK
from airflow_pipeops.deploy.pushed import Pushed, Watched, wellness
from airflow_pipeops.deploy.reading import history_in
from airflow_pipeops.deploy.waits import AppliedController
from airflow_pipeops.exceptions import NotFound, PipeOpsError
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.wait import Decided, Wait


class PushedController:
    """What was pushed to a cluster, as whoever watches a release of it sees it.

    :param client: of the cluster.
    """

    rulebook = RULEBOOK

    def __init__(self, client: KubernetesClient) -> None:
        self._client, self._objects = client, AppliedController(client)

    async def look(self, ref: Watched) -> Observed | Trouble:
        """Look at a release and its objects."""
        try:
            found = await self._objects.read(ref.applied.targets)
            # Afterwards: what a newer release has done to the objects is never taken for what this one has.
            standing = await self._standing(ref.pushed)
        except PipeOpsError as error:
            problem = problem_of(error)
            if isinstance(problem, Trouble):
                return problem
            raise
        return wellness(ref, standing, found)

    async def refresh(self, wait: Wait) -> None:
        """A cluster looks by itself."""

    async def explain(self, ref: Watched, decided: Decided) -> str:
        """Return why it has ended."""
        return decided.verdict.reason

    async def _standing(self, pushed: Pushed) -> str:
        """Return which release stands."""
        if pushed.by == "manifests":
            ref = Ref.of(pushed.name, pushed.namespace)
            return Parent.of(await self._client.get(ref.at, ref.name, ref.namespace)).standing
        history = await history_in(self._client, pushed.name, pushed.namespace)
        if not history:
            raise NotFound(f"there is no Helm release {pushed.namespace}/{pushed.name} any more")
        return str(history[-1].number)
