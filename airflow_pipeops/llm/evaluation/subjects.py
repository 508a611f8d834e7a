"""What is evaluated: a prompt, a model and its parameters, under the name of an arm."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.arguments import mapping, matching, not_empty
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.dataset import Item, digest
from airflow_pipeops.llm.prompts.prompt import Message, Prompt
from airflow_pipeops.llm.prompts.template import filled, variables, written

_NAME = re.compile(r"[\w.-]{1,64}")
#: Parameters that would change how an answer comes, and not what it is.
_OURS = ("messages", "model", "n", "stream", "stream_options")
#: How the bound of an answer is called.
BOUNDS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True)
class Template:
    """A text, or the messages of a chat, in which ``{{name}}`` stands for an input of the item.

    :param template: the text, or messages as ``{"role": ..., "content": ...}``.
    """

    template: str | Sequence[Mapping[str, str]]

    def __post_init__(self) -> None:
        not_empty("prompt", self.template, "a subject has no prompt")
        good = isinstance(self.template, str) or all(
            isinstance(one, Mapping)
            and isinstance(one.get("role"), str)
            and isinstance(one.get("content"), str)
            for one in self.template
        )
        if not good:
            raise InvalidInput(
                "the prompt is neither a text nor a list of messages",
                field="prompt",
                remedy='Write messages as {"role": "user", "content": "..."}.',
            )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The template as messages; one text is one message of the user."""
        if isinstance(self.template, str):
            return (Message("user", self.template),)
        return tuple(Message(one["role"], one["content"]) for one in self.template)

    @property
    def sha256(self) -> str:
        """Digest of the messages."""
        return digest([vars(one) for one in self.messages], "prompt", "the prompt")

    def render(self, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """Fill it in, in one pass: braces in a value stay as they are.

        :param values: name -> value; those that it does not want are let be.
        :return: the messages.
        :raises InvalidInput: for a name that has no value.
        """
        texts = {name: written(value) for name, value in values.items()}
        for one in self.messages:
            if absent := [name for name in variables(one.content, "prompt") if name not in texts]:
                raise InvalidInput(
                    f"the prompt wants {absent[0]!r}, which the item has not",
                    field="prompt",
                    value=absent,
                    remedy=f"It has {', '.join(map(repr, sorted(values))) or 'nothing'}.",
                )
        return [{"role": one.role, "content": filled(one.content, texts)} for one in self.messages]


@dataclass(frozen=True)
class Subject:
    """What answers.

    :param arm: name under which its scores stand, for example ``baseline`` or ``candidate``.
    :param prompt: a text or messages with ``{{name}}`` for inputs; what ``ReadPromptOperator`` returned; or a
        :class:`~airflow_pipeops.llm.prompts.prompt.Prompt`, which brings its model, parameters, tools and output schema.
    :param model: as the endpoint calls it; by default that of the prompt.
    :param parameters: of the call, such as ``temperature`` and ``max_tokens``; they go before the prompt's own.
    :param llm_conn_id: connection of the endpoint; by default that of the evaluation.
    :param recorded: name of the input that holds the answer: nothing is asked. With a prompt, it is the one that has
        answered.
    """

    arm: str
    prompt: Any = None
    model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    llm_conn_id: str = ""
    recorded: str = ""

    def __post_init__(self) -> None:
        matching("arm", self.arm, _NAME, "a name of an arm", "Use letters, digits, '_', '-' and '.'.")
        demand_types(self)
        if self.recorded and not self.prompt:
            return
        prompt = self.prompt
        if isinstance(prompt, Mapping):  # of ReadPromptOperator, or of a file
            prompt = Prompt.of(prompt)
        prompt = prompt if hasattr(prompt, "render") else Template(prompt)
        object.__setattr__(self, "prompt", prompt)
        object.__setattr__(self, "model", self.model or getattr(prompt, "model", ""))
        object.__setattr__(
            self, "parameters", {**(getattr(prompt, "parameters", {}) or {}), **self.parameters}
        )
        not_empty(
            "model", self.model, f"subject {self.arm!r} names no model", "Give it as the endpoint calls it."
        )
        if foreign := [name for name in _OURS if name in self.parameters]:
            raise InvalidInput(
                f"subject {self.arm!r} has the parameter {foreign[0]!r}",
                field="parameters",
                value=foreign,
                remedy="Leave it out: an answer is asked for whole, and once; repeat with 'runs'.",
            )

    @classmethod
    def of(cls, given: Any) -> Subject:
        """Read a subject, or the mapping of its fields.

        :return: the subject.
        :raises InvalidInput: for an unknown field, and for what is neither.
        """
        if isinstance(given, Subject):
            return given
        fields = mapping("subjects", given, "Give a Subject, or a mapping of its fields.")
        if unknown := [name for name in fields if name not in cls.__dataclass_fields__]:
            raise InvalidInput(
                f"a subject has no field {unknown[0]!r}",
                field="subjects",
                value=unknown,
                remedy=f"It has {', '.join(cls.__dataclass_fields__)}.",
            )
        return cls(**fields)

    @property
    def sha256(self) -> str:
        """Digest of all by which its answers differ from another's."""
        if not self.prompt:
            return digest({"recorded": self.recorded}, "subjects", "the subject")
        said = {"prompt": self.prompt.sha256, "model": self.model, "parameters": self.parameters}
        return digest(said, "subjects", f"subject {self.arm!r}")

    def _format(self) -> dict[str, Any]:
        """Say which form an answer must have: where the application demands it, another one would be judged without."""
        if (schema := getattr(self.prompt, "output_schema", None)) is None:
            return {}
        name = self.prompt.name.replace(".", "-")
        said = {"name": name, "schema": dict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": said}}

    def body(self, item: Item) -> dict[str, Any]:
        """Return what is sent about an item.

        :return: the body of a call for chat completions.
        :raises InvalidInput: naming the item, if the prompt cannot be filled in.
        """
        known = getattr(self.prompt, "variables", None)
        inputs = item.inputs
        if isinstance(known, Mapping):
            inputs = {name: value for name, value in inputs.items() if name in known}
        try:
            found = self.prompt.render(inputs)
        except InvalidInput as error:
            raise InvalidInput(
                f"item {item.id!r} does not fit subject {self.arm!r}: {error.message}",
                field="dataset",
                value=item.id,
                remedy=error.remedy,
            ) from error
        if hasattr(found, "to_json"):
            found = found.to_json()
        messages = (
            [{"role": "user", "content": found}] if isinstance(found, str) else [dict(one) for one in found]
        )
        tools = [
            {"type": "function", "function": dict(one)} for one in getattr(self.prompt, "tools", ()) or ()
        ]
        return {
            "model": self.model,
            "messages": messages,
            **({"tools": tools} if tools else {}),
            **self._format(),
            **self.parameters,
        }
