"""MLflow's prompt registry as a place of prompts.

A prompt is a registered model with a tag there, and its text is a tag of a version: whoever may edit the registry may change
both, and the alias, without a trace. So what a version shows is compared with what was released, and not with a tag that
says so. MLflow's own clients keep what an alias names for 60 seconds, and a version for ever.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import Conflict, InvalidInput, NotFound, Unreachable
from airflow_pipeops.llm.prompts.labels import LABEL
from airflow_pipeops.llm.prompts.projections import Named
from airflow_pipeops.llm.prompts.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_pipeops.models.registry import Registry

_IS_PROMPT = "mlflow.prompt.is_prompt"
_CONTENT, _SHA256, _COMMIT = "pipeops.prompt", "pipeops.sha256", "pipeops.commit"
#: Tags that MLflow's readers make a prompt of; one of them that was not released was added by somebody else.
_READ = (
    _IS_PROMPT, "mlflow.prompt.text", "_mlflow_prompt_type", "_mlflow_prompt_response_format",
    "_mlflow_prompt_model_config",
)  # fmt: skip
#: What MLflow's own store writes as the source of a prompt; its server takes no other.
_SOURCE = "prompt-template"


@dataclass(frozen=True)
class MLflowPrompts(JsonForm):
    """MLflow's prompt registry: applications read ``prompts:/NAME@LABEL``, where the label is an alias.

    :param mlflow_conn_id: connection of type ``mlflow``.
    """

    kind: ClassVar[str] = "mlflow"
    cached: ClassVar[int] = 60

    mlflow_conn_id: str = "mlflow_default"

    def opened(self) -> MLflowPlace:
        """Open the registry."""
        from airflow_pipeops.models.hook import MLflowHook

        return MLflowPlace(MLflowHook(self.mlflow_conn_id).get_registry())

    async def aopened(self) -> MLflowPlace:
        """Open it where an event loop runs."""
        from airflow_pipeops.models.hook import MLflowHook

        return MLflowPlace(await MLflowHook(self.mlflow_conn_id).aget_registry())

    def called(self, name: str, label: str) -> str:
        """Return MLflow's address of it."""
        return f"prompts:/{name}@{label}"


class MLflowPlace:
    """An open registry.

    :param registry: it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def release(self, prompt: Prompt, label: str, commit: str) -> Named:
        """Register the prompt once, let the alias name it, and read that back; see :class:`Place`."""
        matching("label", label, LABEL, "a label", "Use a-z, 0-9, '-' and '_', and not latest.")
        self._make(prompt.name)
        found = self._versions(prompt)
        if not found:
            tags = {**payload(prompt), _CONTENT: prompt.canonical, _SHA256: prompt.sha256, _COMMIT: commit}
            self._call(
                lambda client: client.create_model_version(
                    prompt.name, source=_SOURCE, run_id=None, tags=tags
                )
            )
            found = self._versions(prompt)
        if not found:
            raise Unreachable(
                f"the registry does not show the version of {prompt.name!r} that it has just made"
            )
        for twin in found[1:]:  # of another process, or of an attempt whose answer was lost
            with contextlib.suppress(NotFound):
                self._call(partial(_delete, name=prompt.name, version=twin.version))
        version = found[0].version
        before = self.named(prompt.name, label)
        if before is None or before.version != version:
            self._call(lambda client: client.set_registered_model_alias(prompt.name, label, version))
        shown = self.named(prompt.name, label)
        if shown is None or shown.version != version:
            raise Conflict(
                f"somebody else moves the alias {label!r} of {prompt.name!r}: it names"
                f" {'nothing' if shown is None else f'version {shown.version}'}, not {version}"
            )
        return shown

    def named(self, name: str, label: str) -> Named | None:
        """Read what the alias names; see :class:`Place`."""
        from airflow_pipeops.models.rest import Absent

        try:
            return _named(self._call(lambda client: client.get_model_version_by_alias(name, label)))
        except Absent:
            return None

    def has(self, name: str, sha256: str) -> bool:
        """Whether it has a version of the digest; see :class:`Place`."""
        return any(one.sha256 == sha256 for one in self._of_digest(name, sha256))

    def _make(self, name: str) -> None:
        from airflow_pipeops.models.rest import Exists

        with contextlib.suppress(Exists):
            self._call(lambda client: client.create_registered_model(name, tags={_IS_PROMPT: "true"}))
        found = self._call(lambda client: client.get_registered_model(name))
        # MLflow's own object hides the tag.
        tags = getattr(found, "_tags", None) or found.tags
        if str(tags.get(_IS_PROMPT, "")).lower() != "true":
            raise InvalidInput(
                f"{name!r} is a model in the registry, and no prompt",
                field="name",
                value=name,
                remedy="Give the prompt another name.",
            )

    def _versions(self, prompt: Prompt) -> list[Named]:
        """Return the versions that show the prompt as it is, the oldest first."""
        return [one for one in self._of_digest(prompt.name, prompt.sha256) if one.sha256 == prompt.sha256]

    def _of_digest(self, name: str, sha256: str) -> list[Named]:
        quoted = name.replace("'", "")
        wanted = f"name = '{quoted}' and tags.`{_IS_PROMPT}` = 'true' and tags.`{_SHA256}` = '{sha256}'"
        found = self._call(lambda client: list(client.search_model_versions(wanted)))
        return sorted((_named(one) for one in found), key=lambda one: int(one.version))

    def _call(self, act: Any) -> Any:
        return self._registry.call(lambda client: act(_plain(client)))


def payload(prompt: Prompt) -> dict[str, str]:
    """Return the tags that MLflow's readers make the prompt of. Pure.

    :param prompt: the prompt.
    :return: tag -> value.
    """
    chat = not isinstance(prompt.template, str)
    shown = {
        _IS_PROMPT: "true",
        "mlflow.prompt.text": _json([vars(one) for one in prompt.messages]) if chat else str(prompt.template),
        "_mlflow_prompt_type": "chat" if chat else "text",
        "_mlflow_prompt_model_config": _json({"model_name": prompt.model, **prompt.parameters}),
    }
    if prompt.output_schema is not None:
        shown["_mlflow_prompt_response_format"] = _json(dict(prompt.output_schema))
    return shown


def _named(found: Any) -> Named:
    tags: Mapping[str, str] = found.tags
    version, commit = str(found.version), tags.get(_COMMIT, "")
    if _CONTENT not in tags:
        return Named(version, "", why=f"version {version} was not released from Git")
    try:
        prompt = Prompt.read(tags[_CONTENT], "prompt.json")
    except InvalidInput as error:
        return Named(
            version, "", commit, f"the tag {_CONTENT} of version {version} was changed: {error.message}"
        )
    wanted = payload(prompt)
    if changed := [name for name in _READ if tags.get(name) != wanted.get(name)]:
        return Named(
            version, "", commit, f"{', '.join(changed)} of version {version} was changed in the registry"
        )
    return Named(version, prompt.sha256, commit)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _delete(client: Any, name: str, version: str) -> None:
    client.delete_model_version(name, version)


def _plain(client: Any) -> Any:
    """Return the client that takes prompts, too: MLflow's own hides them from its calls for models."""
    return client._get_registry_client() if hasattr(client, "_get_registry_client") else client
