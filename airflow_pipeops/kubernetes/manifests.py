"""YAML of manifests, read as Kubernetes reads it: it knows neither dates nor numbers to the base of 60. Pure."""

from __future__ import annotations

import re
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
#: Without the forms ``12:30:45`` and ``12:30:45.5``.
_NUMBERS = {
    "int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    "float": re.compile(
        r"([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}


class Lenient(_Base):  # type: ignore[misc]
    """Of a field that is there twice, takes the last one: what a cluster has taken is read so."""


class Strict(Lenient):
    """Refuses a field that is there twice."""

    def flatten_mapping(self, node: Any) -> None:
        """Look before a merge (``<<``) puts fields beside those that are written."""
        if not getattr(node, "looked_at", False):
            node.looked_at, seen = True, set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                    if key.value in seen:
                        raise _Twice(key.value, key.start_mark.line + 1)
                    seen.add(key.value)
        super().flatten_mapping(node)


class _Twice(Exception):
    def __init__(self, field: str, line: int) -> None:
        super().__init__(field, line)
        self.field, self.line = field, line


Lenient.yaml_implicit_resolvers = {
    first: [
        (tag, _NUMBERS.get(tag.removeprefix(_TAG), pattern))
        for tag, pattern in resolvers
        if tag.removeprefix(_TAG) not in ("timestamp", "value")
    ]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def documents_of(content: str, where: str, *, field: str = "manifests", strict: bool = True) -> list[Any]:
    """Read the documents of a YAML text.

    :param where: what a message calls the text.
    :param field: the argument that it came by.
    :param strict: refuse a field that is there twice.
    :return: the documents, in their order; ``None`` for an empty one.
    :raises InvalidInput: for what is no YAML.
    """
    try:
        return list(yaml.load_all(content, Loader=Strict if strict else Lenient))
    except _Twice as twice:
        raise InvalidInput(
            f"{where}, line {twice.line}: the field {twice.field!r} is there twice",
            field=field,
            value=twice.field,
            remedy="Leave one of them; readers disagree on which one counts.",
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidInput(
            f"{where} is no YAML: {' '.join(str(error).split())[:300]}", field=field, value=where
        ) from error
