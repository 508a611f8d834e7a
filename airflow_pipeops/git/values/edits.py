"""Change single values of a YAML or JSON file and leave every other byte as it was. Pure.

The file is not loaded and dumped: that would lose comments, quotes and layout. It is parsed for the *places* of its
values, the bytes of the one value are replaced, and the result is parsed again to prove that only the intended
paths changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.documents import (
    TAG,
    Alias,
    Place,
    compose,
    find,
    merged,
    refuse_shared,
    value_of,
    walk,
)
from airflow_pipeops.git.values.paths import Key, ValuePath, parse
from airflow_pipeops.git.values.scalars import Scalar, check, plain_is_safe, render


@dataclass(frozen=True)
class Edit:
    """The outcome of an edit.

    :param text: the new text; the same as the old where nothing changed.
    :param previous: the value that each path had; ``None`` where it was null or missing.
    :param changed: whether the text changed.
    """

    text: str
    previous: dict[str, Scalar | None]
    changed: bool


def set_values(text: str, values: Mapping[str, Any]) -> Edit:
    """Set values in a YAML text; one that is JSON stays JSON.

    A missing key is added at the end of its mapping, if that mapping exists; nothing else is ever created. The Python
    type decides the YAML type: ``"3"`` is written as a string, ``3`` as a number.

    :param text: the file; one or several documents.
    :param values: new value (string, number or boolean) by path, see :func:`airflow_pipeops.git.values.paths.parse`.
    :return: the new text, and the values that were there before.
    :raises InvalidInput: if a path is missing or ambiguous, a value cannot be written, or the file cannot be edited safely.
    """
    previous: dict[str, Scalar | None] = {}
    for path, value in values.items():
        check(path, value)
    result = text
    for path, value in values.items():
        result, previous[path] = _set_one(result, parse(path), value)
    _refuse_idle_tags(result, [parse(path) for path in values])
    return Edit(result, previous, result != text)


def get_values(text: str, paths: Iterable[str]) -> dict[str, Scalar | None]:
    """Read the value at each path.

    :return: the values by path, ``None`` where it is null or its last key is missing.
    :raises InvalidInput: if a path leads nowhere or to something that is not a single value.
    """
    documents = compose(text)
    found: dict[str, Scalar | None] = {}
    for path in paths:
        place = find(documents, parse(path))
        found[path] = _value(place)
    return found


def _value(place: Place) -> Scalar | None:
    """Return the value at a place, also where a merge key brings it."""
    key = place.path.segments[-1]
    node = place.node
    if node is None and isinstance(key, Key):
        node = merged(place.parent, key.name)
    return None if node is None else value_of(node, place.path)


def _refuse_idle_tags(text: str, paths: list[ValuePath]) -> None:
    """Refuse a tag beside a digest that stays: Kustomize and Helm charts deploy the digest, whatever the tag says."""
    for path in paths:
        last = path.segments[-1]
        if not isinstance(last, Key) or last.name not in ("newTag", "tag"):
            continue
        beside = replace(path, segments=(*path.segments[:-1], Key("digest")))
        if any(other.segments == beside.segments and other.name == path.name for other in paths):
            continue
        place = find(compose(text), path)
        digest = _entry(place.parent, "digest")
        if isinstance(digest, yaml.ScalarNode) and digest.tag != f"{TAG}null" and digest.value:
            raise InvalidInput(
                f"{path.text!r} has no effect: the digest {digest.value!r} stands beside it, and is what is deployed",
                field="path",
                value=path.text,
                remedy="Set the digest, alone or with the tag, or take the digest out of the file.",
            )


def _entry(mapping: Any, key: str) -> Any:
    return next((value for found, value in mapping.value if found.value == key), None)


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def _set_one(text: str, path: ValuePath, value: Scalar) -> tuple[str, Scalar | None]:
    documents, json = compose(text), _is_json(text)
    place = find(documents, path)
    previous = _value(place)
    if type(previous) is type(value) and previous == value:
        return text, previous
    write = _insert if place.node is None else _replace
    changed = write(text, place, value, json)
    _guard(documents, changed, place, value)
    if json and not _is_json(changed):
        raise _unsafe(place)
    return changed, previous


def _replace(text: str, place: Place, value: Scalar, json: bool) -> str:
    node = place.node
    if isinstance(node, Alias):  # what it stands for is elsewhere, and stays
        return text[: node.start_mark.index] + render(value, None) + text[node.end_mark.index :]
    refuse_shared(node, place.path, len(place.path.segments))
    if node.style in ("|", ">") or (node.explicit_tag and node.explicit_tag != "!"):
        what = "a block of lines (| or >)" if node.style in ("|", ">") else f"tagged {node.explicit_tag}"
        raise InvalidInput(
            f"the value at {place.path.text!r} is {what}",
            field="path",
            value=place.path.text,
            remedy="Write it in the file as a plain or quoted value on one line.",
        )
    start, end = node.start_mark.index, node.end_mark.index
    was_text = node.tag == f"{TAG}str"
    style = '"' if json else node.style or ('"' if place.in_flow and not was_text else None)
    written = render(value, style)
    if start == end:  # an empty value stands right behind its colon, or its dash
        written = f" {written}"
    return text[:start] + written + text[end:]


def _insert(text: str, place: Place, value: Scalar, json: bool) -> str:
    """Add the last key of the path at the end of its mapping."""
    parent: Any = place.parent
    segment = place.path.segments[-1]
    assert isinstance(segment, Key)
    quoted = json or (bool(parent.value) and place.in_flow and parent.value[0][0].style == '"')
    written = render(value, '"' if place.in_flow else None)
    entry = f"{_key(segment.name, quoted)}: {written}"
    if parent.flow_style:
        if not parent.value:
            inside: int = parent.end_mark.index - 1
            return text[:inside] + entry + text[inside:]
        last: int = _last_value(parent).end_mark.index
        return f"{text[:last]}, {entry}{text[last:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    indent: str = " " * parent.value[0][0].start_mark.column
    leaf: Any = _last_leaf(parent)
    end: int = leaf.end_mark.index
    if getattr(leaf, "style", None) in ("|", ">"):
        ends_line = text[:end].endswith("\n")
        before = text[:end] if ends_line else text[:end] + newline
        return before + indent + entry + (newline if ends_line else "") + text[end:]
    while end < len(text) and text[end] not in "\r\n":  # behind a comment on the same line
        end += 1
    return text[:end] + newline + indent + entry + text[end:]


def _key(name: str, quoted: bool) -> str:
    return name if plain_is_safe(name) and not quoted else render(name, '"')


def _last_leaf(node: Any) -> Any:
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        if not node.value:
            return node
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _last_value(flow_mapping: Any) -> Any:
    return flow_mapping.value[-1][1]


def _guard(before: list[Any], text: str, place: Place, value: Scalar) -> None:
    """Parse the new text and prove that it says what the old one said, but for this one value."""
    try:
        after = compose(text)
        expected = [_plain(document) for document in before]
        found = [_plain(document) for document in after]
        new = walk(place.document, after[place.document], place.path)
        landed = value_of(new.node, place.path) if new.node is not None else None
        _blank(found[place.document], new.address)
        if place.node is not None:
            _blank(expected[place.document], place.address)
        else:
            _remove(found[place.document], new.address)
    except (InvalidInput, IndexError, TypeError) as error:
        raise _unsafe(place) from error
    if found != expected or type(landed) is not type(value) or landed != value:
        raise _unsafe(place)


def _unsafe(place: Place) -> InvalidInput:
    return InvalidInput(
        f"the value at {place.path.text!r} cannot be changed without touching its surroundings",
        field="path",
        value=place.path.text,
        remedy="Write that part of the file in plain block style, one key a line.",
    )


def _plain(node: Any) -> list[Any]:
    """Return a node as nested lists that can be compared; anchors and aliases are kept by name, not followed."""
    if node is None:
        return []
    head = [node.tag, getattr(node, "anchor", None)]
    if isinstance(node, yaml.MappingNode):
        return [*head, [[_plain(key), _plain(value)] for key, value in node.value]]
    if isinstance(node, yaml.SequenceNode):
        return [*head, [[_plain(item)] for item in node.value]]
    return [*head, node.value]


def _blank(tree: list[Any], address: tuple[int, ...]) -> None:
    for place in address[:-1]:
        tree = tree[2][place][-1]
    tree[2][address[-1]][-1] = None


def _remove(tree: list[Any], address: tuple[int, ...]) -> None:
    for place in address[:-1]:
        tree = tree[2][place][-1]
    del tree[2][address[-1]]
