"""Notice that Git, a registry's label and the pods do not show the same prompt any more."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.deadlines import in_thread
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.llm.prompts.desired import PromptInGit
from airflow_pipeops.llm.prompts.projections import Named, Place, Projection, form_of, projection_of
from airflow_pipeops.models.agreement import Sides
from airflow_pipeops.serving.agreement import LOOK_TIMEOUT, DisagreementTrigger

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository


class PromptDisagreementTrigger(DisagreementTrigger):
    """Fire when what a label of a registry shows, or what pods carry, is another prompt than Git wants, for longer than a
    promotion takes: somebody has edited it there. And once more for each other difference that follows.

    For an :class:`~airflow.sdk.AssetWatcher`. The payload is ``{prompt, alias, liar, reason, git, alias_sha256, live,
    key}``. ``liar`` says which side shows what Git does not want: ``alias``, ``live``, ``alias and live``, or ``git`` where
    it wants a prompt that the registry has never seen. What was edited in place has a digest such as ``edited v3``, in a
    ConfigMap by its resource version.

    :param prompt: its name in the registry.
    :param desired: where Git names the prompt: a :class:`PromptInGit`, or a mapping of its fields.
    :param projection: the registry: :class:`MLflowPrompts` or :class:`LangfusePrompts`, or a mapping of its kind and fields.
    :param alias: alias or label under which applications ask for it.
    :param live: a :class:`ConfigMapPrompt` whose pods are asked, too; none by default.
    :param grace: how long the sides may differ, while a promotion or a revert is under way; a client's cache included.
    :param git_conn_id: the repository of the desired state.
    :param poll_interval: time between two looks.
    """

    arguments = ("prompt", "desired", "projection", "alias", "live", "grace", "git_conn_id", "poll_interval")
    called: ClassVar[str] = "prompt"

    def __init__(
        self,
        *,
        prompt: str,
        desired: PromptInGit | Mapping[str, Any],
        projection: Projection | Mapping[str, Any],
        alias: str = "production",
        live: Projection | Mapping[str, Any] | None = None,
        grace: timedelta | float = timedelta(minutes=15),
        git_conn_id: str = "pipeops_gitops_repo",
        poll_interval: timedelta | float = timedelta(minutes=1),
    ) -> None:
        super().__init__()
        self.prompt = prompt
        self.desired = PromptInGit.of(desired).to_json()
        self.projection = form_of(projection_of(projection))
        self.alias = alias
        self.live = None if live is None else form_of(projection_of(live))
        self.grace = interval("grace", grace)
        self.git_conn_id = git_conn_id
        self.poll_interval = interval("poll_interval", poll_interval)

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, alias, and where it is."""
        return self.prompt, self.alias, str(self.projection["kind"])

    async def sides(self) -> Sides:
        """Ask each side."""
        from airflow_pipeops.git.hook import GitHook

        git = await GitHook(self.git_conn_id).aget_conn()
        registry = await projection_of(self.projection).aopened()
        pods = await projection_of(self.live).aopened() if self.live else None
        return await in_thread(LOOK_TIMEOUT, lambda: self._named(git, registry, pods))

    def _named(self, git: GitRepository, registry: Place, pods: Place | None) -> Sides:
        try:
            wanted = PromptInGit.of(self.desired).wanted(git)
        except InvalidInput as error:
            return Sides(None, "", why=error.message)
        digest = wanted.sha256 if wanted else ""
        alias, why = _digest(registry.named(self.prompt, self.alias))
        live, else_why = (None, "") if pods is None else self._carried(pods)
        known = bool(digest) and (alias == digest or registry.has(self.prompt, digest))
        return Sides(digest, alias, live, known, pods is not None, why or else_why)

    def _carried(self, pods: Place) -> tuple[str | None, str]:
        """Return what pods carry; a cluster that does not answer hides nothing of the registry."""
        try:
            return _digest(pods.named(self.prompt, self.alias))
        except PipeOpsError as error:
            return None, error.message


def _digest(shown: Named | None) -> tuple[str | None, str]:
    """Return the digest of what is shown, ``None`` where nobody knows; and why it is none."""
    if shown is None:
        return "", ""
    return shown.sha256 or (f"edited v{shown.version}" if shown.known else None), shown.why
