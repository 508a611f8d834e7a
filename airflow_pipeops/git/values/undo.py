"""Take back the values that one edit of a YAML file set, whatever else was edited since. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.documents import Alias, compose, value_of
from airflow_pipeops.git.values.edits import get_values, set_values
from airflow_pipeops.git.values.paths import ValuePath
from airflow_pipeops.git.values.scalars import Scalar

#: By which keys the items of a list are known, as in ``[name=web]``.
_NAMES = ("name", "id", "key")


def undo(before: str, after: str, now: str) -> str | None:
    """Give the paths that differ between two texts their values of before, in a third.

    :param before: the file before the edit.
    :param after: the file after it.
    :param now: the file with what came later.
    :return: the new text; ``None`` if the edit did more than set values, or one of them was set again since.
    """
    try:
        old, new = _values(before), _values(after)
        if old.keys() != new.keys():
            return None
        back = {
            path: value for path, value in old.items() if (type(value), value) != (type(new[path]), new[path])
        }
        there = get_values(now, back)
        wanted = {path: value for path, value in back.items() if there[path] != value}
        if any(there[path] != new[path] or value is None for path, value in wanted.items()):
            return None
        return set_values(now, wanted).text if back else None
    except InvalidInput:
        return None


def _values(text: str) -> dict[str, Scalar | None]:
    """Return each single value by its path; paths name the items of lists where they have names.

    :raises InvalidInput: if a path would be ambiguous.
    """
    documents = [document for document in compose(text) if document is not None]
    found: dict[str, Scalar | None] = {}
    for document in documents:
        top = "" if len(documents) == 1 else _document(document)
        for path, node in _leaves(document, ""):
            if top + path in found:
                raise InvalidInput(f"the path {top + path!r} stands twice", field="path")
            found[top + path] = value_of(node, ValuePath(top + path, ()))
    return found


def _document(node: Any) -> str:
    kind, name = _text(node, "kind"), _text(_child(node, "metadata"), "name")
    if not kind or not name:
        raise InvalidInput("a document has no kind and name", field="file")
    return f"{kind}/{name}:"


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Alias):
        yield f"{path}", node if isinstance(node.shared.node, yaml.ScalarNode) else _NOTHING
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or '"' in key.value or key.value == "<<":
                continue
            yield from _leaves(value, f'{path}["{key.value}"]')
    elif isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            yield from _leaves(item, f"{path}[{_item(node, item) or place}]")
    else:
        yield path, node


_NOTHING = yaml.ScalarNode("tag:yaml.org,2002:null", "")


def _item(node: Any, item: Any) -> str:
    """Return ``name=web`` where a list's items all have such a name, each its own; else nothing."""
    for key in _NAMES:
        names = [_text(one, key) for one in node.value]
        if all(names) and len(set(names)) == len(names) and not any('"' in name for name in names):
            return f'{key}="{_text(item, key)}"'
    return ""


def _child(node: Any, key: str) -> Any:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(
        (value for name, value in pairs if isinstance(name, yaml.ScalarNode) and name.value == key), None
    )


def _text(node: Any, key: str) -> str:
    found = _child(node, key)
    return str(found.value) if isinstance(found, yaml.ScalarNode) and not isinstance(found, Alias) else ""
