"""Notice that Git, the registry's alias and what runs do not name the same model any more."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.deadlines import in_thread
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.models.agreement import Sides, judge
from airflow_pipeops.models.desired import WantedModel, wanted_model
from airflow_pipeops.serving.stream.desired import ModelInTable

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.registry import Registry

#: A look may take so long. Seconds.
LOOK_TIMEOUT = 180.0


class DisagreementTrigger(Watcher):
    """Tells of a difference between the sides once it has lasted, and once for each other one that follows."""

    #: What the sides name.
    called: ClassVar[str] = "model"
    #: Seconds for which they may differ.
    grace: float

    @property
    def identity(self) -> tuple[str, str, str]:
        """Its name, the alias, and what else tells it from another one."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """It, by its alias."""
        name, alias, _ = self.identity
        return f"{name}@{alias}"

    async def sides(self) -> Sides:
        """Ask each side."""
        raise NotImplementedError

    async def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield a difference that has lasted, once.

        :param source: nothing; each look asks anew.
        :yield: the payload.
        """
        sides, (title, alias, _) = await self.sides(), self.identity
        name = f"agreement.{'.'.join(self.identity)}"
        memory = map_((await self.recall(name))[0])
        before, seen, now = map_(memory.get("sides")), sides.to_json(), time.time()
        same = all(before.get(side) == seen[side] for side in ("git", "alias", "registered"))
        ran = before.get("live")
        if same and sides.live is None:  # who does not answer for once is no new difference
            seen["live"] = ran
        same = same and (ran == seen["live"] or (ran is None and seen["live"] == seen["git"]))
        since = memory.get("since") if same else None
        since = float(since) if isinstance(since, (int, float)) else now
        told = told_before(memory)
        found = judge(sides, now - since, self.grace, self.called)
        said = text(memory.get("said")) if same else ""
        if found.verdict == "cannot tell":
            self.log.warning("%s: %s", self.subject, found.reason)
        if found.verdict == "disagree" and found.liar not in said:
            payload = {
                self.called: title,
                "alias": alias,
                "liar": found.liar,
                "reason": f"{found.reason} {sides.why}".strip(),
                "git": sides.git,
                "alias_sha256": sides.alias,
                "live": sides.live,
            }
            yield self.keyed(payload, self.subject, sides.git, sides.alias, sides.live, told)
            told, said = told + 1, found.liar
        del seen["why"]
        self.remember(name, {"sides": seen, "since": since, "told": told, "said": said})


class ModelDisagreementTrigger(DisagreementTrigger):
    """Fire when the desired state in Git, the registry's alias and, with ``http_conn_id``, the endpoint have named different
    models for longer than a promotion takes; and once more for each other difference that follows.

    For an :class:`~airflow.sdk.AssetWatcher`. The payload is ``{model, alias, liar, reason, git, alias_sha256, live, key}``:
    ``liar`` says which side names what Git does not want: ``alias``, ``live``, ``alias and live``, or ``git`` where it wants
    a model that nobody has registered.

    :param model: its name in the registry and at the endpoint.
    :param desired: where Git names the model: a :class:`~airflow_pipeops.models.desired.ModelInGit`, or a mapping of its
        fields; of a stream a :class:`~airflow_pipeops.serving.stream.desired.ModelInTable`.
    :param alias: in the registry.
    :param http_conn_id: connection of type ``http`` to the endpoint; empty to leave out what runs.
    :param grace: how long the sides may differ, while a promotion or a rollback is under way.
    :param git_conn_id: the repository of the desired state.
    :param mlflow_conn_id: the registry.
    :param poll_interval: time between two looks.
    """

    arguments = (
        "model", "desired", "alias", "http_conn_id", "grace", "git_conn_id", "mlflow_conn_id", "poll_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        desired: WantedModel | Mapping[str, Any],
        alias: str = "champion",
        http_conn_id: str = "",
        grace: timedelta | float = timedelta(minutes=15),
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        poll_interval: timedelta | float = timedelta(minutes=1),
    ) -> None:
        super().__init__()
        self.model = model
        self.desired = _place(desired).to_json()
        self.alias = alias
        self.http_conn_id = http_conn_id
        self.grace = interval("grace", grace)
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = interval("poll_interval", poll_interval)

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, alias, and the endpoint that is asked."""
        return self.model, self.alias, self.http_conn_id

    async def sides(self) -> Sides:
        """Ask each side."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.models.hook import MLflowHook

        git = await GitHook(self.git_conn_id).aget_conn()
        registry = await MLflowHook(self.mlflow_conn_id).aget_registry()
        live, why = await self._live()
        return await in_thread(LOOK_TIMEOUT, lambda: self._named(git, registry, live, why))

    def _named(self, git: GitRepository, registry: Registry, live: str | None, why: str) -> Sides:
        wanted = _place(self.desired).digest(git)
        named = registry.by_alias(self.model, self.alias)
        known = bool(wanted) and registry.find(self.model, wanted) is not None
        return Sides(wanted, named.sha256 if named else "", live, known, bool(self.http_conn_id), why)

    async def _live(self) -> tuple[str | None, str]:
        """Return the digest that the endpoint serves, and else why nobody knows it."""
        if not self.http_conn_id:
            return None, ""
        from airflow_pipeops.base.connections import aread
        from airflow_pipeops.serving.api.verification import served

        connection = await aread(self.http_conn_id, "http")
        try:
            said = await in_thread(LOOK_TIMEOUT, lambda: served(connection, self.http_conn_id, self.model))
        except PipeOpsError as error:
            return None, error.message
        digest = text(map_(said.get("parameters")).get("sha256"))
        return (digest, "") if digest else (None, "its server names no digest")


def _place(given: Any) -> WantedModel:
    """Return where Git names the model, from itself or from its JSON form: a table has a file and no fields."""
    return ModelInTable.from_json(given) if set(map_(given)) == {"file"} else wanted_model(given)
