"""A prompt on its way: read from Git, rendered for each item of a dataset, released to where applications read it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import not_empty, one_of
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import Conflict, InvalidInput, NotJudged
from airflow_pipeops.llm.prompts.projections import projection_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.llm.prompts.desired import PromptInGit
    from airflow_pipeops.llm.prompts.leakage import Leakage
    from airflow_pipeops.llm.prompts.projections import Projection
    from airflow_pipeops.llm.prompts.prompt import Prompt

UI_COLOR = "#fde8f3"
#: So many items are named in an error.
_NAMED = 5


class ReadPromptOperator(DeliveryOperator):
    """Read a prompt from its file in Git, refuse what is wrong in it, and record it.

    :param file: path of the file in the repository: YAML or JSON.
    :param commit: that it is read at; empty for the tip of the branch.
    :param git_conn_id: connection of the repository.
    :return: ``name``, ``sha256``, ``model``, ``variables``, ``file``, ``commit``, ``content`` (the canonical form, which is
        what a commit writes into the desired state), ``record_id``.
    """

    template_fields: Sequence[str] = ("file", "commit", "git_conn_id", *DeliveryOperator.template_fields)
    emits = ("prompt",)
    ui_color = UI_COLOR

    def __init__(
        self, *, file: str, commit: Any = "", git_conn_id: str = "pipeops_app_repo", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.commit = commit
        self.git_conn_id = git_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read and record the prompt."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.llm.prompts.prompt import Prompt

        with no_retry():
            client = GitHook(self.git_conn_id).get_conn()
            commit = client.resolve(self.commit or "")
            prompt = Prompt.read(client.read(self.file, commit), self.file)
            facts = {
                "name": prompt.name,
                "sha256": prompt.sha256,
                "model": prompt.model,
                "variables": list(prompt.variables),
                "file": self.file,
            }
            self.log.info("%s at %s is %s %s", self.file, commit[:12], prompt.name, prompt.sha256[:12])
            body = {**facts, "repository": client.display_url}
            record_id = self.emit(context, "prompt", body, commit=commit)
        return {**facts, "commit": commit, "content": prompt.canonical, "record_id": record_id}


class RenderPromptOperator(DeliveryOperator):
    """Render a prompt for each item of a dataset, before anybody pays for an answer; and refuse items that it quotes.

    All items are rendered, and an item that does not fit is named with what it lacks. Nothing that was rendered is kept.

    :param prompt: what :class:`ReadPromptOperator` returned; templated.
    :param dataset: URI of the dataset, or a path below the root of the storage; templated.
    :param storage_conn_id: connection of type ``pipeops_storage`` that relative paths are below.
    :param quotes: ``refuse`` items that stand in the prompt, and datasets of which nobody can tell; or ``tell`` of them.
    :return: ``passed``, ``items``, ``dataset_sha256``, ``rendered_sha256``, ``leakage``, ``record_id``.
    """

    template_fields: Sequence[str] = ("prompt", "dataset", *DeliveryOperator.template_fields)
    emits = ("validation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        prompt: Any,
        dataset: str,
        storage_conn_id: str | None = None,
        quotes: Literal["refuse", "tell"] = "refuse",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.dataset = dataset
        self.storage_conn_id = storage_conn_id
        self.quotes = one_of("quotes", quotes, ("refuse", "tell"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Render all items, look for those that are quoted, and record both."""
        from airflow_pipeops.llm.datasets.reading import read
        from airflow_pipeops.llm.prompts.leakage import leakage
        from airflow_pipeops.llm.prompts.prompt import Prompt

        with no_retry():
            prompt = Prompt.of(self.prompt)
            dataset = read(self.dataset, storage_conn_id=self.storage_conn_id)
            items = {item.id: item for item in dataset.items}
            rendered = rendered_of(prompt, {name: item.inputs for name, item in items.items()})
            found = leakage(prompt, dataset.texts)
            if self.quotes == "refuse":
                _demand_clean(found, list(items))
            self.log.info("%d items fit %s. %s", len(items), prompt.name, found.reason)
            facts = {
                "passed": True,
                "subject": "prompt",
                "name": prompt.name,
                "sha256": prompt.sha256,
                "items": len(items),
                "dataset_sha256": dataset.sha256,
                "rendered_sha256": rendered,
                "leakage": {"verdict": found.verdict, "leaks": len(found.leaks), "reason": found.reason},
            }
            record_id = self.emit(context, "validation", facts)
        return {**facts, "record_id": record_id}


def rendered_of(prompt: Prompt, items: Mapping[str, Mapping[str, Any]]) -> str:
    """Render a prompt for all items. An input that the prompt has no variable for is left out: another prompt may have one.

    :param prompt: the prompt.
    :param items: id -> inputs.
    :return: digest of all that was rendered, whatever the order of the items.
    :raises InvalidInput: naming the items that do not fit, and why.
    """
    wrong, digests = [], []
    for name, inputs in items.items():
        try:
            values = {key: value for key, value in inputs.items() if key in prompt.variables}
            digests.append(f"{name} {prompt.render(values).sha256}")
        except InvalidInput as error:
            wrong.append(f"item {name!r}: {error.message}")
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise InvalidInput(
            f"{len(wrong)} of {len(items)} items do not fit the prompt: {'; '.join(wrong[:_NAMED])}{more}",
            field="dataset",
            value=len(wrong),
            remedy="Correct the items, or the variables of the prompt.",
        )
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _demand_clean(found: Leakage, names: Sequence[str]) -> None:
    if found.verdict == "clean":
        return
    if found.verdict == "leaks":
        quoted = ", ".join(repr(names[leak.item]) for leak in found.leaks[:_NAMED])
        remedy = "Take these items out of the dataset, or out of the prompt: it would be praised for copying."
        raise InvalidInput(
            f"the prompt quotes items {quoted}: {found.reason}",
            field="dataset",
            value=len(found.leaks),
            remedy=remedy,
        )
    raise InvalidInput(
        f"whether the prompt quotes the dataset cannot be told: {found.reason}",
        field="dataset",
        value=found.items,
        remedy="Look yourself, and set quotes='tell'.",
    )


class ReleasePromptOperator(DeliveryOperator):
    """Let a place where applications read prompts follow Git: a registry's label, or the proof that pods carry the digest.

    With ``desired``, the prompt must be the one that Git wants, before the label moves and after: a retry or a cleared task
    of an older release takes nothing back. What an earlier attempt has done is found; what is shown is read back.

    :param prompt: what :class:`ReadPromptOperator` returned; templated. Without it, the one that ``desired`` names.
    :param projection: the place: :class:`MLflowPrompts`, :class:`LangfusePrompts` or :class:`ConfigMapPrompt`.
    :param desired: where Git names the prompt: a :class:`PromptInGit`.
    :param alias: alias or label under which applications ask for it; by default the environment.
    :param commit: of the desired state, for the record and the registry; templated.
    :param live: what the wait for the application that reads it has returned; templated. A place tells nothing about who
        reads it, so the record has the health of that wait, if it was for the same commit, and else none.
    :param git_conn_id: the repository of the desired state.
    :return: ``app`` (what people call it), ``version``, ``sha256``, ``alias``, ``revision``, ``reason``, ``record_id``; with
        ``live`` also ``health``, ``sync`` and ``proven_by``.
    """

    template_fields: Sequence[str] = ("prompt", "alias", "commit", "live", *DeliveryOperator.template_fields)
    emits = ("release",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        projection: Projection,
        prompt: Any = None,
        desired: PromptInGit | None = None,
        alias: str = "",
        commit: Any = "",
        live: Any = None,
        git_conn_id: str = "pipeops_gitops_repo",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.projection = projection_of(projection)
        self.prompt = prompt
        self.desired = desired
        self.alias = alias
        self.commit = commit
        self.live = live
        self.git_conn_id = git_conn_id
        not_empty(
            "prompt",
            prompt is not None or desired,
            "nobody says which prompt",
            "Give prompt, desired, or both.",
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Release the prompt, read it back, record it."""
        from airflow_pipeops.llm.prompts.prompt import Prompt

        with no_retry():
            label = not_empty("alias", self.alias or self.environment, "nobody says as what", "Give alias.")
            wanted = self._wanted()
            prompt = wanted if self.prompt is None else Prompt.of(self.prompt)
            if prompt is None or (
                self.desired is not None and (wanted is None or wanted.sha256 != prompt.sha256)
            ):
                raise NotJudged(
                    f"Git wants {wanted.sha256[:12] if wanted else 'no prompt'} for {label},"
                    f" and not {prompt.sha256[:12] if prompt else 'any'}",
                    remedy="A later commit has changed it: nothing was released.",
                )
            shown = self.projection.opened().release(prompt, label, self.commit or "")
            if self.desired is not None and (
                (later := self._wanted()) is None or later.sha256 != prompt.sha256
            ):
                raise Conflict(
                    f"Git has changed its mind about {prompt.name!r} while it was released as {label}"
                )
            app = self.projection.called(prompt.name, label)
            cached = self.projection.cached
            reason = f"{app} shows {prompt.sha256[:12]} as version {shown.version}, read back"
            facts = {
                "app": app,
                "version": shown.version,
                "sha256": shown.sha256,
                "alias": label,
                "revision": self.commit or None,
                "reason": reason + (f"; clients that keep it follow within {cached} s" if cached else ""),
                **self._seen(),
            }
            self.log.info("%s", facts["reason"])
            record_id = self.emit(context, "release", facts)
        return {**facts, "record_id": record_id}

    def _seen(self) -> dict[str, Any]:
        """Return how the application is that reads it, as the wait for this commit has seen it; nothing of another."""
        told = map_(self.live)
        if not self.commit or told.get("revision") != self.commit:
            return {}
        seen = {name: told[name] for name in ("health", "sync") if told.get(name)}
        return {**seen, "proven_by": text(told.get("app"))} if seen else {}

    def _wanted(self) -> Prompt | None:
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.llm.prompts.desired import PromptInGit

        if self.desired is None:
            return None
        return PromptInGit.of(self.desired).wanted(GitHook(self.git_conn_id).get_conn())
