"""What is refused in the file of a prompt, and in what words. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.redaction import cleaned

#: A prompt is a text by people: a file that is longer than this is none.
_MAX_CHARACTERS = 256 * 1024
#: Keys of model providers and prompt registries, beside what is a secret wherever it stands; and a header with one.
_KEYS = re.compile(
    r"\b(?:sk-(?:ant-|proj-|lf-|or-)?[A-Za-z0-9_-]{20,}|(?:hf|gsk|r8)_[A-Za-z0-9]{20,}|AIza[A-Za-z0-9_-]{30,})"
    r"|(?i:\bbearer\s+[a-z0-9._~+/=-]{16,})"
)
#: Names of parameters that hold a secret, whatever it looks like.
_SECRET_NAMES = re.compile(r"(?i)(?:api[_-]?key|authorization|password|secret|access[_-]?token|credentials?)")


def known(field: str, given: Mapping[str, Any], names: Sequence[str], *, of: str = "") -> None:
    """Refuse a name that means nothing: it may be a mistyped one that does.

    :param field: that is looked at.
    :param given: what stands there.
    :param names: those that mean something.
    :param of: what the field is about, where it is not itself.
    :raises InvalidInput: for another one, with what comes near it.
    """
    if unknown := [str(name) for name in given if name not in names]:
        near = difflib.get_close_matches(unknown[0], names, 1)
        raise InvalidInput(
            f"{of or field} knows no {', '.join(map(repr, unknown))}",
            field=field,
            value=unknown,
            remedy=f"Did you mean {near[0]!r}?"
            if near
            else f"Remove it; known: {', '.join(names) or 'none'}.",
        )


def no_secret(content: Any) -> None:
    """Refuse a secret: whoever may read the repository, the registry or the application reads a prompt.

    :param content: JSON.
    :raises InvalidInput: with the place, and never with the secret.
    """
    for place, text in _texts(content, ""):
        name = place.rpartition(".")[2]
        if (place.startswith("parameters") and _SECRET_NAMES.search(name)) or _is_secret(text):
            raise InvalidInput(
                f"{place} of the prompt holds what looks like a secret",
                field=place,
                remedy="Remove it and replace it, since Git keeps it: a secret belongs into an Airflow connection.",
            )


def _is_secret(text: str) -> bool:
    return _KEYS.search(text) is not None or cleaned(text) != text


def _texts(value: Any, place: str) -> Iterable[tuple[str, str]]:
    """Return all texts with their places; names of a mapping are texts, too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield place, str(name)
            yield from _texts(item, f"{place}.{name}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _texts(item, f"{place}[{number}]")


def demand_schema(field: str, schema: Any) -> None:
    """Refuse what is no JSON Schema, and one that refers to a place outside itself: nothing is fetched.

    :param field: that it stands in.
    :param schema: of draft 2020-12.
    :raises InvalidInput: for it.
    """
    from jsonschema import Draft202012Validator, SchemaError

    remedy = "Write a JSON Schema of draft 2020-12, such as {type: object, properties: {...}}."
    if not isinstance(schema, Mapping):
        raise InvalidInput(f"{field} is no JSON Schema", field=field, value=schema, remedy=remedy)
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        said = getattr(error, "message", "it is nested too deeply")
        where = "".join(f".{part}" for part in getattr(error, "absolute_path", ()))
        raise InvalidInput(
            f"{field}{where} is no JSON Schema: {said[:200]}", field=field, remedy=remedy
        ) from None
    for place, text in _texts(schema, field):
        if place.rpartition(".")[2] == "$ref" and text != "$ref" and not text.startswith("#"):
            raise InvalidInput(
                f"{place} refers to {text!r}, outside of the prompt",
                field=place,
                value=text,
                remedy="Write what it refers to under $defs of the same schema.",
            )


def loaded(content: str | bytes, file: str) -> Any:
    """Read a YAML or JSON file, in which no name may stand twice.

    :param content: of the file.
    :param file: its name; one that ends in ``.json`` is JSON.
    :return: what it holds.
    :raises InvalidInput: for a file that cannot be read.
    """
    import yaml

    from airflow_pipeops.git.values.documents import compose

    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"it has {len(text):,} characters, more than {_MAX_CHARACTERS:,}")
        if len(compose(text)) > 1:  # for one name twice, too, in JSON as well
            raise ValueError("it holds several documents")
        if any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)
        ):  # a few lines may mean gigabytes
            raise ValueError("it has an alias (*name); write the value out")
        return parsed(text) if file.endswith(".json") else yaml.safe_load(text)
    except InvalidInput as error:
        said, cause = error.message, error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        said, cause = " ".join(str(error).split())[:300], error  # type: ignore[assignment]
    raise InvalidInput(
        f"{file} cannot be read: {said}", field="file", value=file, remedy="Correct the file in Git."
    ) from cause
