"""Take back the values that one edit of a YAML file set, whatever else was edited since. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.documents import Alias, compose, value_of
from airflow_pipeops.git.values.edits import copy_entry, entry, get_values, remove_entry, set_values
from airflow_pipeops.git.values.paths import ValuePath
from airflow_pipeops.git.values.scalars import Scalar

#: By which keys the items of a list are known, as in ``[name=web]``.
_NAMES = ("name", "id", "key")


def undo(before: str, after: str, now: str) -> str | None:
    """Give the paths that differ between two texts what they had before, in a third.

    A value that was set gets its value of before; a key or list item that was added goes, and one that was removed comes
    back, as it was.

    :param before: the file before the edit.
    :param after: the file after it.
    :param now: the file with what came later.
    :return: the new text; ``None`` if one of the paths was changed again since, or cannot be told apart.
    """
    try:
        old, new = _values(before), _values(after)
        back = {
            path: value
            for path, value in old.items()
            if path in new and (type(value), value) != (type(new[path]), new[path])
        }
        added, removed = _entries(new, old, before), _entries(old, new, after)
        if not (back or added or removed):
            return None
        if _changed_again(now, after, added) or _changed_again(now, before, removed):
            return None
        written = {"".join(path): value for path, value in back.items()}
        there = get_values(now, written)
        wanted = {path: value for path, value in written.items() if there[path] != value}
        changed = {"".join(path): value for path, value in new.items() if path in back}
        if any(there[path] != changed[path] or value is None for path, value in wanted.items()):
            return None
        text = set_values(now, written).text if written else now
        for path in reversed(added):  # from the end, so that places in lists stay what they are
            text = remove_entry(text, path) if entry(text, path) is not None else text
        for path in removed:
            text = copy_entry(text, before, path) if entry(text, path) is None else text
        return text
    except InvalidInput:
        return None


#: The way to a value: the document, where there are several, and then each key and item.
_Path = tuple[str, ...]


def _entries(having: Mapping[_Path, Any], lacking: Mapping[_Path, Any], text: str) -> list[str]:
    """Return the paths of what one text has and the other lacks, each with all that is below it.

    :param text: the one that lacks them.
    """
    found: dict[str, None] = {}
    for path in having:
        if path in lacking:
            continue
        for size in range(2, len(path) + 1):
            if entry(text, "".join(path[:size])) is None:
                found["".join(path[:size])] = None
                break
        else:
            # The path is there, as a mapping or list where this one has a single value.
            raise InvalidInput("a value became something else", field="path")
    return list(found)


def _changed_again(now: str, then: str, paths: list[str]) -> bool:
    """Whether one of the entries is there and is another than it was."""
    return any(entry(now, path) not in (None, entry(then, path)) for path in paths)


def _values(text: str) -> dict[_Path, Scalar | None]:
    """Return each single value by its path; paths name the items of lists where they have names.

    :raises InvalidInput: if a path would be ambiguous.
    """
    documents = [document for document in compose(text) if document is not None]
    found: dict[_Path, Scalar | None] = {}
    for document in documents:
        top = "" if len(documents) == 1 else _document(document)
        for path, node in _leaves(document, (top,)):
            if path in found:
                raise InvalidInput(f"the path {''.join(path)!r} stands twice", field="path")
            found[path] = value_of(node, ValuePath("".join(path), ()))
    return found


def _document(node: Any) -> str:
    kind, name = _text(node, "kind"), _text(_child(node, "metadata"), "name")
    if not kind or not name:
        raise InvalidInput("a document has no kind and name", field="file")
    return f"{kind}/{name}:"


def _leaves(node: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    if isinstance(node, Alias):
        yield path, node if isinstance(node.shared.node, yaml.ScalarNode) else _NOTHING
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or '"' in key.value or key.value == "<<":
                continue
            yield from _leaves(value, (*path, f'["{key.value}"]'))
    elif isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            yield from _leaves(item, (*path, f"[{_item(node, item) or place}]"))
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
