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
from airflow_pipeops.git.values.paths import Index, Key, ValuePath, parse
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


# ---- whole entries: a key or a list item with all that is below it ---------------------------------------------------


def entry(text: str, path: str) -> Any:
    """Return what stands at a path, in a form that can be compared; ``None`` where nothing does."""
    try:
        node = find(compose(text), parse(path)).node
    except InvalidInput:
        return None
    return None if node is None else _plain(node)


def remove_entry(text: str, path: str) -> str:
    """Take a key or a list item out of a text.

    :param path: of the entry, which is there.
    :return: the text without it; all else is as it was.
    :raises InvalidInput: if that would touch more than it.
    """
    documents = compose(text)
    place = find(documents, parse(path))
    children, number = place.parent.value, place.address[-1]
    start, end = _begin(text, place.parent, number), _end(text, place.parent, number)
    if place.parent.flow_style:
        if number + 1 < len(children):
            end = _begin(text, place.parent, number + 1)
        elif number:
            start = _end(text, place.parent, number - 1)
    changed = text[:start] + text[end:]
    expected = [_plain(document) for document in documents]
    _remove(expected[place.document], place.address)
    return _proved(changed, expected, place)


def copy_entry(text: str, source: str, path: str) -> str:
    """Bring a key or a list item into a text as another one has it, behind the one that it follows there.

    :param source: where the entry is.
    :param path: of the entry; what it is in is there in both.
    :return: the text with its lines.
    :raises InvalidInput: if that would touch more than it, or only one of the two is written in braces.
    """
    theirs, documents = find(compose(source), parse(path)), compose(text)
    ours = find(documents, replace(theirs.path, segments=theirs.path.segments[:-1]))
    parent, number = ours.node, theirs.address[-1]
    if type(parent) is not type(theirs.parent) or not parent.value:
        raise _unsafe(ours)
    if bool(parent.flow_style) != bool(theirs.parent.flow_style):
        raise _unsafe(ours)
    behind = _behind(parent, theirs.parent, number, theirs.path.segments[-1])
    start, end = _begin(source, theirs.parent, number), _end(source, theirs.parent, number)
    at = _end(text, parent, behind - 1) if behind else _begin(text, parent, 0)
    if parent.flow_style:
        changed = text[:at] + (f", {source[start:end]}" if behind else f"{source[start:end]}, ") + text[at:]
    elif _column(parent) != _column(theirs.parent):
        raise _unsafe(ours)
    else:
        newline = "\r\n" if "\r\n" in text else "\n"
        ends = "" if source[start:end].endswith("\n") else newline
        begins = "" if not at or text[:at].endswith("\n") else newline
        changed = text[:at] + begins + source[start:end] + ends + text[at:]
    expected = [_plain(document) for document in documents]
    tree: Any = expected[ours.document]
    for step in ours.address:
        tree = tree[2][step][-1]
    child = theirs.parent.value[number]
    tree[2].insert(behind, [_plain(part) for part in child] if isinstance(child, tuple) else [_plain(child)])
    return _proved(changed, expected, ours)


def _behind(parent: Any, theirs: Any, number: int, segment: Any) -> int:
    """Return at which place an entry comes in: behind the one that it follows elsewhere, else at the end."""
    if not number:
        return 0
    if isinstance(segment, Index):
        if number > len(parent.value):
            raise InvalidInput("the list is shorter now", field="path")
        return number
    wanted = _name_of(theirs.value[number - 1], segment)
    places = [place for place, child in enumerate(parent.value) if _name_of(child, segment) == wanted]
    return places[0] + 1 if places else len(parent.value)


def _name_of(child: Any, segment: Any) -> Any:
    if isinstance(child, tuple):
        return child[0].value
    named = _entry(child, segment.key) if isinstance(child, yaml.MappingNode) else None
    return None if named is None else named.value


def _column(parent: Any) -> int:
    first = parent.value[0]
    return int((first[0] if isinstance(first, tuple) else parent).start_mark.column)


def _begin(text: str, parent: Any, number: int) -> int:
    """Return where a child begins: its line in block style, itself in braces.

    :raises InvalidInput: if something else stands on its line before it.
    """
    child = parent.value[number]
    start = int((child[0] if isinstance(child, tuple) else child).start_mark.index)
    if parent.flow_style:
        return start
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip(" ") != ("" if isinstance(child, tuple) else "-"):
        raise InvalidInput("something else stands on the line", field="path")
    return line


def _end(text: str, parent: Any, number: int) -> int:
    """Return where a child ends: its last line in block style, itself in braces."""
    child = parent.value[number]
    last = child[1] if isinstance(child, tuple) else child
    if parent.flow_style:
        return int(last.end_mark.index)
    leaf = _last_leaf(last)
    end = int(leaf.end_mark.index)
    if getattr(leaf, "style", None) in ("|", ">") and text[:end].endswith("\n"):
        return end
    return text.find("\n", end) + 1 or len(text)


def _proved(text: str, expected: list[Any], place: Place) -> str:
    """Parse the new text and prove that it says what it should."""
    try:
        found = [_plain(document) for document in compose(text)]
    except InvalidInput as error:
        raise _unsafe(place) from error
    if found != expected:
        raise _unsafe(place)
    return text
