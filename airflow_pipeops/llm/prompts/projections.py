"""Where applications read a prompt: places that follow Git, and say which prompt they show."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.llm.prompts.prompt import Prompt

#: Kind of a projection -> the class of that, below this package.
_KINDS = {
    "mlflow": "registry:MLflowPrompts",
    "langfuse": "langfuse:LangfusePrompts",
    "configmap": "configmap:ConfigMapPrompt",
}


@dataclass(frozen=True)
class Named(JsonForm):
    """Which prompt a place shows under a label.

    :param version: as the place counts.
    :param sha256: digest of what readers get there; empty where that is no prompt that Git has ever named.
    :param commit: of the desired state that it was released from; empty for unknown.
    :param why: there is no digest.
    :param known: whether it is known what readers get, or at least that it is not what was released.
    """

    version: str
    sha256: str
    commit: str = ""
    why: str = ""
    known: bool = True


class Place(Protocol):
    """One place, open."""

    def release(self, prompt: Prompt, label: str, commit: str) -> Named:
        """Let a label show a prompt; whatever an earlier attempt has done is found, and nothing is done twice.

        :param prompt: that is shown.
        :param label: under which applications ask for it, such as ``production``.
        :param commit: of the desired state that wants it.
        :return: what the place shows, read back.
        :raises Conflict: if somebody else moves the label meanwhile.
        """

    def named(self, name: str, label: str) -> Named | None:
        """Say what a label shows.

        :param name: of the prompt.
        :param label: that is asked for.
        :return: what it shows; nothing where there is no such prompt or label.
        """

    def has(self, name: str, sha256: str) -> bool:
        """Whether the place knows a prompt of this digest, under whatever label.

        :param name: of the prompt.
        :param sha256: its digest.
        :return: whether it does.
        """


class Projection(Protocol):
    """What to open, and with which connection."""

    kind: ClassVar[str]
    #: Seconds for which a client of the place shows what it has read before.
    cached: ClassVar[int]

    def opened(self) -> Place:
        """Open the place; nothing is contacted yet."""

    async def aopened(self) -> Place:
        """Open it where an event loop runs."""

    def called(self, name: str, label: str) -> str:
        """Return how people call what a label shows."""

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""


def projection_of(given: Any) -> Projection:
    """Return a projection, or what a mapping of its ``kind`` and fields says.

    :param given: either.
    :return: the projection.
    :raises InvalidInput: for anything else.
    """
    if hasattr(given, "aopened"):
        return given  # type: ignore[no-any-return]
    fields = mapping("projection", given, "Give MLflowPrompts(), LangfusePrompts() or ConfigMapPrompt().")
    kind = one_of("kind", str(fields.get("kind", "")), tuple(_KINDS), of="projection")
    module, _, name = _KINDS[kind].partition(":")
    found = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    try:
        return found(**{key: value for key, value in fields.items() if key != "kind"})  # type: ignore[no-any-return]
    except TypeError as error:
        raise InvalidInput(
            f"the projection {kind!r} is not complete, or has too much: {error}",
            field="projection",
            value=dict(fields),
            remedy="Give what its to_json() returns.",
        ) from error


def form_of(projection: Projection) -> dict[str, Any]:
    """Return a projection as JSON, for a trigger."""
    return {"kind": projection.kind, **projection.to_json()}
