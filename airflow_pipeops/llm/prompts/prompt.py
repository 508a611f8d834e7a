"""A prompt: what is asked of which model, and how; one value with one digest. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.arguments import mapping, matching, not_empty, one_of
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.prompts.checks import demand_schema, known, loaded, no_secret
from airflow_pipeops.llm.prompts.template import filled, variables, written

#: Bytes of the canonical form: what every place that a prompt is released to can hold, an XCom included.
MAX_BYTES = 64 * 1024
ROLES = ("system", "developer", "user", "assistant")

_NAME = re.compile(r"[a-z0-9](?:[-_.a-z0-9]{0,61}[a-z0-9])?")
_TOOL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MODEL = re.compile(r"[^\s\x00-\x1f]{1,200}")
#: Type of a variable -> the types of its values. A truth value is no number, though Python thinks so.
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
}
_OF_PROMPT = (
    "name", "description", "template", "variables", "model", "parameters", "tools", "output_schema",
)  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """What a template leaves open.

    :param type: of its values: ``string``, ``integer``, ``number``, ``boolean``, ``array`` or ``object``.
    :param required: whether a value must be given; else nothing stands in its place.
    :param description: what it is.
    """

    type: str = "string"
    required: bool = True
    description: str = ""

    def fits(self, value: Any) -> bool:
        """Whether a value is of the type."""
        if isinstance(value, bool) and self.type != "boolean":
            return False
        return isinstance(value, TYPES[self.type])


@dataclass(frozen=True)
class Message:
    """One message of a prompt for a chat.

    :param role: who says it: ``system``, ``developer``, ``user`` or ``assistant``.
    :param content: what: a template, or a text once it is rendered.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Rendered:
    """A prompt with its variables filled in: what is sent.

    :param messages: of the chat; a prompt of one text is one message of the user.
    :param sha256: digest of the messages.
    """

    messages: tuple[Message, ...]
    sha256: str

    def to_json(self) -> list[dict[str, str]]:
        """Return the messages in the form that chat APIs take."""
        return [dict(vars(message)) for message in self.messages]


@dataclass(frozen=True)
class Prompt:
    """What is asked of which model, and how.

    It is made by :meth:`from_json` or :meth:`read`, which refuse what is wrong by its name.

    :param name: of the prompt, the same wherever it is released to.
    :param template: a text, or the messages of a chat; variables stand in double braces.
    :param variables: name -> what may stand there. The template uses exactly these.
    :param model: as its API calls it; with a date or a digest where the provider has one.
    :param parameters: of the call, for example ``temperature``.
    :param tools: that the model may call: ``name``, ``description``, ``parameters`` (JSON Schema).
    :param output_schema: JSON Schema of the answer; none where any text will do.
    :param description: for people.
    """

    name: str
    template: str | tuple[Message, ...]
    model: str
    variables: Mapping[str, Variable] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    output_schema: Mapping[str, Any] | None = None
    description: str = ""

    def __post_init__(self) -> None:
        form = "a name of a prompt"
        matching("name", self.name, _NAME, form, "Use a-z, 0-9, '-', '_' and '.', at most 63 characters.")
        matching("model", self.model, _MODEL, "a name of a model", "Give it as the model's API calls it.")
        no_secret(self.to_json())
        self._check_variables()
        for place, tool in enumerate(self.tools):
            _check_tool(tool, f"tools[{place}]")
        if self.output_schema is not None:
            demand_schema("output_schema", self.output_schema)
        if (size := len(self.canonical)) > MAX_BYTES:
            raise InvalidInput(
                f"the prompt {self.name!r} has {size:,} bytes, more than {MAX_BYTES:,}",
                field="template",
                value=size,
                remedy="Let the application bring long texts as values of variables.",
            )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The template as messages; one text is one message of the user."""
        return (Message("user", self.template),) if isinstance(self.template, str) else self.template

    @property
    def canonical(self) -> str:
        """The prompt as JSON in the canonical form of RFC 8785: the same for each layout of its file."""
        return canonical(self.to_json(), "prompt", f"the prompt {self.name!r}").decode()

    @property
    def sha256(self) -> str:
        """Digest of the canonical form, as 64 hex digits."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """Fill in the variables.

        :param values: name -> value, for every variable that is required and for no unknown one.
        :return: what is sent.
        :raises InvalidInput: naming variables without a value, values without a variable, or values of a wrong type.
        """
        given = mapping("values", values, "Give {name of a variable: value}.")
        if missing := [
            name for name, one in self.variables.items() if one.required and given.get(name) is None
        ]:
            raise _values(self.name, missing, "has no value for", "Give one, or let it be 'required: false'.")
        known("values", given, tuple(self.variables), of=f"the prompt {self.name!r}")
        for name, value in given.items():
            if value is not None and not self.variables[name].fits(value):
                said = f"is to have the type {self.variables[name].type}, not {type(value).__name__}, for"
                raise _values(self.name, [name], said, "Correct the value, or the type in the prompt's file.")
        try:
            texts = {name: "" if given.get(name) is None else written(given[name]) for name in self.variables}
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"a value is not JSON: {error}", field="values") from error
        made = tuple(Message(one.role, filled(one.content, texts)) for one in self.messages)
        sent = canonical([vars(one) for one in made], "values", "what was rendered")
        return Rendered(made, hashlib.sha256(sent).hexdigest())

    def to_json(self) -> dict[str, Any]:
        """Return the form of the file; what is empty is left out."""
        shown: dict[str, Any] = {
            "name": self.name,
            "template": self.template
            if isinstance(self.template, str)
            else [dict(vars(one)) for one in self.template],
            "model": self.model,
            "variables": {name: dict(vars(one)) for name, one in self.variables.items()},
            "parameters": dict(self.parameters),
            "tools": [dict(tool) for tool in self.tools],
            "output_schema": None if self.output_schema is None else dict(self.output_schema),
            "description": self.description,
        }
        return {key: value for key, value in shown.items() if value not in ({}, [], None, "")}

    @classmethod
    def from_json(cls, data: Any) -> Prompt:
        """Make a prompt of the content of a file.

        :param data: a mapping of the fields above. A variable may be described by its type alone.
        :return: the prompt.
        :raises InvalidInput: naming the field, its value and what can be done.
        """
        given = mapping("prompt", data, "Write the fields of a prompt: name, template, model.")
        known("prompt", given, _OF_PROMPT)
        for name in ("name", "template", "model"):
            not_empty(name, given.get(name), f"the prompt has no {name}", f"Write {name} into its file.")
        tools = given.get("tools") or ()
        if not isinstance(tools, (list, tuple)):
            raise InvalidInput("tools is no list", field="tools", remedy="Give a list of tools.")
        schema = given.get("output_schema")
        return cls(
            name=given["name"],
            template=_template(given["template"]),
            model=given["model"],
            variables={
                name: _variable(name, one)
                for name, one in mapping(
                    "variables", given.get("variables") or {}, "Give {name: type}."
                ).items()
            },
            parameters=mapping("parameters", given.get("parameters") or {}, "Give {name: value}."),
            tools=tuple(mapping("tools", tool, "Describe each tool by a mapping.") for tool in tools),
            output_schema=None if schema is None else mapping("output_schema", schema, "Give a JSON Schema."),
            description=_text("description", given.get("description", "")),
        )

    @classmethod
    def of(cls, given: Any) -> Prompt:
        """Return the prompt that an operator was given.

        :param given: what ``ReadPromptOperator`` returned, the content of a file as a text or a mapping, or a prompt.
        :return: the prompt.
        :raises InvalidInput: for anything else.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Mapping) and "content" in given:
            given = given["content"]
        return cls.read(given) if isinstance(given, str) else cls.from_json(given)

    @classmethod
    def read(cls, content: str | bytes, file: str = "prompt.yaml") -> Prompt:
        """Read a YAML or JSON file.

        :param content: of the file.
        :param file: its name, for errors.
        :return: the prompt.
        :raises InvalidInput: for what is no prompt.
        """
        return cls.from_json(loaded(content, file))

    def _check_variables(self) -> None:
        used: dict[str, None] = {}
        for place, one in enumerate(self.messages):
            field = "template" if isinstance(self.template, str) else f"template[{place}]"
            one_of("role", one.role, ROLES, of=field)
            used.update(dict.fromkeys(variables(one.content, field)))
        if absent := [name for name in used if name not in self.variables]:
            raise InvalidInput(
                f"the template of {self.name!r} uses {', '.join(absent)}, which variables does not name",
                field="variables",
                value=absent,
                remedy="Name each variable with its type, such as 'question: string'.",
            )
        if idle := [name for name in self.variables if name not in used]:
            raise InvalidInput(
                f"the template of {self.name!r} never uses {', '.join(idle)}",
                field="variables",
                value=idle,
                remedy="Remove it from variables, or write it into the template in double braces.",
            )


def _template(given: Any) -> str | tuple[Message, ...]:
    if isinstance(given, str):
        return given
    if not isinstance(given, Sequence):
        raise InvalidInput(
            "template is neither a text nor a list of messages",
            field="template",
            value=type(given).__name__,
            remedy="Write a text, or messages such as '- {role: system, content: ...}'.",
        )
    made = []
    for place, one in enumerate(given):
        named = f"template[{place}]"
        known(named, mapping(named, one, "Write {role: ..., content: ...}."), ("role", "content"))
        made.append(
            Message(
                _text(f"{named}.role", one.get("role")),
                not_empty(
                    f"{named}.content", _text(f"{named}.content", one.get("content")), f"{named} says nothing"
                ),
            )
        )
    return tuple(made)


def _variable(name: Any, given: Any) -> Variable:
    field = f"variables.{name}"
    matching("variables", name, _WORD, "a name of a variable", "Use letters, digits and '_'.")
    if isinstance(given, str) or given is None:
        given = {"type": given or "string"}
    said = mapping(field, given, "Give its type, or type, required and description.")
    known(field, said, ("type", "required", "description"))
    required = said.get("required", True)
    if not isinstance(required, bool):
        raise InvalidInput(f"{field}.required is {required!r}", field=field, remedy="Write true or false.")
    kind = one_of("type", said.get("type", "string"), tuple(TYPES), of=field)
    return Variable(kind, required, _text(field, said.get("description", "")))


def _check_tool(tool: Mapping[str, Any], field: str) -> None:
    known(field, tool, ("name", "description", "parameters"))
    matching(
        f"{field}.name", tool.get("name"), _TOOL, "a name of a tool", "Use letters, digits, '_' and '-'."
    )
    demand_schema(f"{field}.parameters", tool.get("parameters", {}))


def _text(field: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise InvalidInput(f"{field} is no text", field=field, value=value, remedy="Put it into quotes.")


def _values(name: str, wrong: list[str], said: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"the prompt {name!r} {said} {', '.join(wrong)}", field="values", value=wrong, remedy=remedy
    )
