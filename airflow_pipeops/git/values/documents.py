"""Find the place of a value in a YAML text, by parsing it for places and not for meaning. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.paths import Index, Key, Segment, Select, ValuePath
from airflow_pipeops.git.values.scalars import Scalar

#: PyYAML takes seconds for each megabyte; a manifest edited by hand is far below.
MAX_CHARACTERS = 2_000_000

TAG = "tag:yaml.org,2002:"


@dataclass
class Shared:
    """An anchored node, and who else has it.

    :param node: the node; ``None`` while it is being read.
    :param lines: the lines of its aliases, from 1.
    """

    node: Any = None
    lines: list[int] = field(default_factory=list)


class Alias(yaml.ScalarNode):
    """Stands where the file has ``*name``; PyYAML would put the anchored node itself there, with its place."""

    shared: Shared


class _Loader(yaml.SafeLoader):
    """Composes nodes, keeps aliases apart, remembers who has which anchor, and reads tabs where YAML allows them."""

    def compose_document(self) -> Any:
        self._named: dict[str, Shared] = {}
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        upcoming: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(upcoming, yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]
            if event.anchor not in self._named:
                raise yaml.composer.ComposerError(
                    None, None, f"found undefined alias {event.anchor!r}", event.start_mark
                )
            alias = Alias("alias", event.anchor, event.start_mark, event.end_mark, style="*")
            alias.shared = self._named[event.anchor]
            alias.shared.lines.append(event.start_mark.line + 1)
            return alias
        anchor, explicit_tag = upcoming.anchor, upcoming.tag
        shared = Shared()
        if anchor:
            self._named[anchor] = shared
        self.anchors.clear()  # aliases are not resolved here, so a name may be used again as YAML allows
        node: Any = super().compose_node(parent, index)
        node.anchor, node.explicit_tag, node.shared = anchor, explicit_tag, shared
        shared.node = node
        return node

    def scan_to_next_token(self) -> None:
        # PyYAML knows spaces only. A tab separates too, but it never indents: no key may follow it in block style.
        super().scan_to_next_token()
        while self.peek() == "\t":
            while self.peek() in " \t":
                self.forward()
            if self.peek() not in "#\r\n" and not self.flow_level:
                self.allow_simple_key = False
            super().scan_to_next_token()

    def scan_plain_spaces(self, indent: Any, start_mark: Any) -> Any:
        length = 0
        while self.peek(length) in " \t":
            length += 1
        spaces = self.prefix(length)
        if "\t" in spaces:
            self.forward(length)
            if self.peek() not in "\r\n\x85\u2028\u2029":
                return [spaces]
        return super().scan_plain_spaces(indent, start_mark)


@dataclass
class Place:
    """Where a path ends.

    :param path: the path.
    :param document: number of the document in the file, from 0.
    :param parent: the mapping or list that holds the value.
    :param node: the value; ``None`` where only the last key is missing in ``parent``.
    :param in_flow: whether it stands within braces or brackets.
    :param address: the places of the nodes on the way down, from 0.
    """

    path: ValuePath
    document: int
    parent: yaml.MappingNode | yaml.SequenceNode
    node: Any
    in_flow: bool
    address: tuple[int, ...]


def compose(text: str) -> list[Any]:
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(
            f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}",
            field="file",
            remedy="Keep the value in a smaller file, for example a kustomization of its own.",
        )
    try:
        documents = list(yaml.compose_all(text, Loader=_Loader))
        for document in documents:
            _check_duplicates(document)
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"the file is not valid YAML: {' '.join(str(error).split())}",
            field="file",
            remedy="Correct the file in Git first.",
        ) from error
    except RecursionError as error:
        raise InvalidInput("the file is nested too deeply", field="file") from error
    return documents


def _check_duplicates(node: Any) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_duplicates(item)
    elif isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise InvalidInput(
                        f"the key {key.value!r} stands twice in one mapping (line {key.start_mark.line + 1})",
                        field="file",
                        value=key.value,
                        remedy="Remove one of them; readers disagree on which one counts.",
                    )
                seen.add((key.tag, key.value))
            _check_duplicates(value)


def find(documents: list[Any], path: ValuePath) -> Place:
    """Find the one place, across the documents."""
    numbered = [(number, document) for number, document in enumerate(documents) if _has_content(document)]
    if path.kind is not None:
        numbered = [item for item in numbered if _identity(item[1]) == (path.kind, path.name)]
    elif len(numbered) > 1:
        numbered = [item for item in numbered if _exists(item, path)]
    if len(numbered) != 1:
        names = ", ".join("/".join(_identity(item)) for item in documents if _has_content(item))
        what = "is in no document" if not numbered else f"is in {len(numbered)} documents"
        raise InvalidInput(
            f"the path {path.text!r} {what} of the file (it has: {names or 'no content'})",
            field="path",
            value=path.text,
            remedy="Name the document in front, as in Deployment/web:spec.replicas.",
        )
    return walk(*numbered[0], path)


def _has_content(document: Any) -> bool:
    return document is not None and not (
        isinstance(document, yaml.ScalarNode) and document.tag == f"{TAG}null"
    )


def _exists(item: tuple[int, Any], path: ValuePath) -> bool:
    try:
        return walk(*item, path).node is not None
    except InvalidInput:
        return False


def _identity(document: Any) -> tuple[str, str]:
    def text(node: Any, *keys: str) -> str:
        for key in keys:
            matches = _entries(node, key)
            node = matches[0][1] if matches else None
        return str(node.value) if isinstance(node, yaml.ScalarNode) else "?"

    return text(document, "kind"), text(document, "metadata", "name")


def _entries(node: Any, key: str) -> list[tuple[int, Any]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [
        (place, value)
        for place, (found, value) in enumerate(node.value)
        if isinstance(found, yaml.ScalarNode) and not isinstance(found, Alias) and found.value == key
    ]


def walk(number: int, document: Any, path: ValuePath) -> Place:
    node, parent, in_flow = document, document, False
    address: list[int] = []
    for depth, segment in enumerate(path.segments):
        refuse_shared(node, path, depth)
        in_flow = in_flow or bool(getattr(node, "flow_style", False))
        parent = node
        step = _step(node, segment, path, depth)
        if step is None:
            if depth + 1 == len(path.segments):
                return Place(path, number, parent, None, in_flow, tuple(address))
            raise _missing(path, depth + 1, _available(node))
        address.append(step)
        node = node.value[step][1] if isinstance(node, yaml.MappingNode) else node.value[step]
    return Place(path, number, parent, node, in_flow, tuple(address))


def _step(node: Any, segment: Segment, path: ValuePath, depth: int) -> int | None:
    """Return the place of a child, or ``None`` where a mapping has no such key."""
    if isinstance(segment, Key):
        if not isinstance(node, yaml.MappingNode):
            raise _wrong_shape(path, depth, "a mapping", node)
        matches = [place for place, _ in _entries(node, segment.name)]
        if len(matches) > 1:
            raise _missing(path, depth + 1, "the key stands there twice, once as another type")
        if not matches and depth + 1 < len(path.segments) and merged(node, segment.name) is not None:
            raise _shared(path, depth + 1, "comes from a merge key (<<), and others have it too")
        return matches[0] if matches else None
    if not isinstance(node, yaml.SequenceNode):
        raise _wrong_shape(path, depth, "a list", node)
    if isinstance(segment, Index):
        if segment.position >= len(node.value):
            raise _missing(path, depth + 1, f"{len(node.value)} items")
        return segment.position
    matches = [place for place, item in enumerate(node.value) if _selected(item, segment)]
    if len(matches) != 1:
        if matches:
            raise _missing(path, depth + 1, f"{len(matches)} items of that {segment.key}")
        names = [value.value for item in node.value for _, value in _entries(item, segment.key)]
        raise _missing(path, depth + 1, ", ".join(map(str, names)))
    return matches[0]


def _selected(item: Any, segment: Select) -> bool:
    return any(
        isinstance(value, yaml.ScalarNode) and not isinstance(value, Alias) and value.value == segment.value
        for _, value in _entries(item, segment.key)
    )


def _available(node: Any) -> str:
    return ", ".join(str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))


def _missing(path: ValuePath, count: int, has: str) -> InvalidInput:
    return InvalidInput(
        f"{path.text!r} cannot be followed: no single {path.upto(count)} in the file (there is: {has or 'nothing'})",
        field="path",
        value=path.text,
        remedy="Correct the path, or add the missing part to the file in Git first: only a last key is ever added.",
    )


def _wrong_shape(path: ValuePath, depth: int, wanted: str, node: Any) -> InvalidInput:
    there = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}.get(type(node), "a single value")
    return InvalidInput(
        f"{path.text!r} needs {wanted} at {path.upto(depth)}, and the file has {there} there",
        field="path",
        value=path.text,
        remedy="Correct the path or the file.",
    )


def merged(node: Any, key: str, within: tuple[Any, ...] = ()) -> Any:
    """Return the node that a mapping has under a key by its merge keys (``<<``); ``None`` if there is none."""
    for _, value in _entries(node, "<<"):
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            mapping = source.shared.node if isinstance(source, Alias) else source
            if any(mapping is outer for outer in (node, *within)):
                continue  # an alias within what it stands for
            direct = _entries(mapping, key)
            found = direct[0][1] if direct else merged(mapping, key, (node, *within))
            if found is not None:
                return found
    return None


def refuse_shared(node: Any, path: ValuePath, depth: int) -> None:
    """Refuse a node that stands at several places: a change of one would be a change of all."""
    if isinstance(node, Alias):
        raise _shared(path, depth, f"is the alias *{node.value} of what line {_line(node)} defines")
    if node.shared.lines:
        lines = ", ".join(map(str, node.shared.lines))
        raise _shared(path, depth, f"has the anchor &{node.anchor}, and line {lines} would change with it")


def _line(alias: Alias) -> int:
    return int(alias.shared.node.start_mark.line) + 1 if alias.shared.node is not None else 0


def _shared(path: ValuePath, depth: int, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path.text!r} cannot be changed alone: {path.upto(depth)} {why}",
        field="path",
        value=path.text,
        remedy="Write the value out at this place in the file, without anchor and alias.",
    )


def value_of(node: Any, path: ValuePath) -> Scalar | None:
    """Return the value of a single-value node as JSON knows it; of an alias, that of the anchored node."""
    if isinstance(node, Alias):
        node = node.shared.node
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong_shape(path, len(path.segments), "a single value", node)
    if node.tag.removeprefix(TAG) in ("null", "bool", "int", "float"):
        try:
            value: Scalar | None = yaml.constructor.SafeConstructor().construct_object(node)
        except ValueError:  # for example the octal-looking 089
            return str(node.value)
        return value
    return str(node.value)
