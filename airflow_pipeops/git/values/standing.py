"""What a change has set, and what of it is not set any more. Pure.

A commit is an ancestor of all that follows, also of the commit that takes it back. Whether what it did still stands can
be told by content alone: by the values of a YAML or JSON file, by the lines of any other text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.documents import compose

_ABSENT = object()


def lost(before: bytes | None, after: bytes | None, now: bytes | None) -> list[str]:
    """Compare a file with what a change made of it.

    What the change did not touch is of no account. A renamed list item, or one that moved in a list whose items have no
    names, counts as lost: rather a release too few than one that is not true.

    :param before: the file before the change; ``None`` where there was none.
    :param after: the file after the change; ``None`` where it removed the file.
    :param now: the file in question; ``None`` where there is none.
    :return: the values or lines that the change gave and that are others now; none where all of them stand.
    """
    if now == after or before == after:
        return []
    if now is None or after is None:
        return ["the file is gone" if now is None else "the file is there again"]
    try:
        texts = [(content or b"").decode("utf-8") for content in (before, after, now)]
    except UnicodeDecodeError:
        return ["its content"]
    try:
        old, new, seen = ([_tree(node) for node in compose(text) if node is not None] for text in texts)
        structured = all(isinstance(item, (dict, list)) for item in (*old, *new, *seen))
    except (InvalidInput, RecursionError):
        structured = False
    if not structured:
        return _lost_lines(*(text.splitlines() for text in texts))
    if len(old) <= 1 and len(new) == len(seen) == 1:
        return list(_lost_values(old[0] if old else _ABSENT, new[0], seen[0], ""))
    return list(_lost_values(old, new, seen, ""))


def differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the paths at which a value is another, or of another type."""
    return [
        path
        for path, value in wanted.items()
        if type(found.get(path)) is not type(value) or found.get(path) != value
    ]


def _tree(node: Any) -> Any:
    """Return a node as plain objects; a value with its tag, since the text 1 is not the number 1; an alias
    with the name that it stands for."""
    if isinstance(node, yaml.MappingNode):
        return {
            key.value if isinstance(key, yaml.ScalarNode) else json.dumps(_tree(key)): _tree(value)
            for key, value in node.value
        }
    if isinstance(node, yaml.SequenceNode):
        return [_tree(item) for item in node.value]
    return (node.tag, node.value)


def _lost_values(before: Any, after: Any, now: Any, path: str) -> Iterator[str]:
    if now == after or before == after:
        return
    if isinstance(after, dict) and isinstance(now, dict):
        yield from _lost_entries(before if isinstance(before, dict) else {}, after, now, path, ".{}")
    elif isinstance(after, list) and isinstance(now, list):
        yield from _lost_items(before if isinstance(before, list) else [], after, now, path)
    else:
        yield path or "its content"


def _lost_entries(
    before: Mapping[str, Any], after: Mapping[str, Any], now: Mapping[str, Any], path: str, form: str
) -> Iterator[str]:
    for key in {**before, **after}:
        where = f"{path}{form.format(key)}" if path or form != ".{}" else key
        yield from _lost_values(
            before.get(key, _ABSENT), after.get(key, _ABSENT), now.get(key, _ABSENT), where
        )


def _lost_items(before: Sequence[Any], after: Sequence[Any], now: Sequence[Any], path: str) -> Iterator[str]:
    named = [_named(items) for items in (before, after, now)]
    if all(items is not None for items in named):
        old, new, seen = (items or {} for items in named)
        yield from _lost_entries(old, new, seen, path, "[{}]")
    elif len(before) == len(after) == len(now):
        indexed = [{str(place): item for place, item in enumerate(items)} for items in (before, after, now)]
        yield from _lost_entries(indexed[0], indexed[1], indexed[2], path, "[{}]")
    elif _counts_differ([repr(item) for item in before], [repr(item) for item in after], map(repr, now)):
        yield path or "its content"


def _named(items: Sequence[Any]) -> dict[str, Any] | None:
    """Return list items by their names; ``None`` where one has none, or two have the same."""
    found = {_name(item): item for item in items}
    return None if "" in found or len(found) != len(items) else found


def _name(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    metadata = item.get("metadata")
    if "kind" in item and isinstance(metadata, dict):
        parts = (item["kind"], metadata.get("namespace"), metadata.get("name"))
        return "/".join(str(part[1]) for part in parts if isinstance(part, tuple))
    name = item.get("name")
    return f"name={name[1]}" if isinstance(name, tuple) and name[1] else ""


def _lost_lines(before: Sequence[str], after: Sequence[str], now: Sequence[str]) -> list[str]:
    differ = _counts_differ(before, after, now)
    places = [place for place, line in enumerate(after, 1) if line in differ]
    told = f"line {', '.join(map(str, places[:5]))}" if places else "lines that it removed are there again"
    return [told] if differ else []


def _counts_differ(before: Sequence[str], after: Sequence[str], now: Any) -> set[str]:
    """Return what a change added and is there less often now, and what it removed and is there more often."""
    old, new, seen = Counter(before), Counter(after), Counter(now)
    return {item for item in {**(new - old)} if seen[item] < new[item]} | {
        item for item in {**(old - new)} if seen[item] > new[item]
    }
