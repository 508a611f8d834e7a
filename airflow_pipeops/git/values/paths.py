"""Paths: to a value inside a YAML file, and to a file inside a repository. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_pipeops.exceptions import InvalidInput

_DOCUMENT = re.compile(r"(?P<kind>[A-Za-z][A-Za-z0-9]*)/(?P<name>[^:\s\"'\[\]]+):(?P<rest>.+)", re.DOTALL)
_KEY = re.compile(r"[^.\[\]\"'=:\s]+")
_QUOTED_KEY = re.compile(r"\[(?P<quote>[\"'])(?P<key>.+?)(?P=quote)\]")
_INDEX = re.compile(r"\[(?P<index>[0-9]+)\]")
_SELECT = re.compile(
    r"\[(?P<key>[^\]=\"'\s]+)=(?:(?P<quote>[\"'])(?P<quoted>.*?)(?P=quote)|(?P<plain>[^\]\"']+))\]"
)


@dataclass(frozen=True)
class Key:
    """Go to the value under a key of a mapping.

    :param name: the key.
    """

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Index:
    """Go to one item of a list by its place, from 0.

    :param position: the place, from 0.
    """

    position: int

    def __str__(self) -> str:
        return f"[{self.position}]"


@dataclass(frozen=True)
class Select:
    """Go to the one item of a list that has this value under this key.

    :param key: the key.
    :param value: the value, as text.
    """

    key: str
    value: str

    def __str__(self) -> str:
        return f"[{self.key}={self.value}]"


Segment = Key | Index | Select


@dataclass(frozen=True)
class ValuePath:
    """Where a value is.

    :param text: as the person wrote it.
    :param segments: the way down from the top of the document.
    :param kind: with ``name``, which document of a file with several; ``None`` where not said.
    :param name: ``metadata.name`` of that document.
    """

    text: str
    segments: tuple[Segment, ...]
    kind: str | None = None
    name: str | None = None

    def upto(self, count: int) -> str:
        """Return the first ``count`` segments in words, for messages."""
        parts = ""
        for segment in self.segments[:count]:
            parts += f".{segment}" if isinstance(segment, Key) and parts else str(segment)
        return parts or "the top of the document"


def parse(path: str) -> ValuePath:
    """Read a path such as ``images[name=web].digest`` or ``Deployment/web:spec.replicas``.

    Segments: ``key``, ``["key.with.dots"]``, ``[key=value]`` (the list item that has it), ``[0]`` (a list item by place).

    :return: its segments, and which document it is about.
    :raises InvalidInput: if it is none.
    """
    if not isinstance(path, str) or not path.strip():
        raise _invalid(path, "is empty")
    kind = name = None
    rest = path
    if (match := _DOCUMENT.fullmatch(path)) is not None:
        kind, name, rest = match["kind"], match["name"], match["rest"]
    segments: list[Segment] = []
    position = 0
    while position < len(rest):
        if rest[position] == "." and segments:
            position += 1
            if position == len(rest) or rest[position] == "[":
                raise _invalid(path, f"has nothing after the dot at character {position}")
        elif segments and rest[position] != "[":
            raise _invalid(path, f"cannot be read at character {position + 1}")
        segment, position = _segment(path, rest, position)
        segments.append(segment)
    return ValuePath(path, tuple(segments), kind, name)


def _segment(path: str, rest: str, position: int) -> tuple[Segment, int]:
    if (match := _QUOTED_KEY.match(rest, position)) is not None:
        return Key(match["key"]), match.end()
    if (match := _INDEX.match(rest, position)) is not None:
        return Index(int(match["index"])), match.end()
    if (match := _SELECT.match(rest, position)) is not None:
        value = match["quoted"] if match["quote"] else match["plain"]
        return Select(match["key"], value), match.end()
    if (match := _KEY.match(rest, position)) is not None:
        return Key(match[0]), match.end()
    raise _invalid(path, f"cannot be read at character {position + 1}")


def _invalid(path: object, why: str) -> InvalidInput:
    return InvalidInput(
        f"the path {path!r} {why}",
        field="path",
        value=path,
        remedy='Write it like images[name=web].digest, metadata.labels["example.com/name"] or Deployment/web:spec.replicas.',
    )


def repository_file(path: str, *, field: str = "file") -> str:
    """Refuse a path that leads to no file inside a repository.

    :return: the path.
    :raises InvalidInput: for an absolute path, one that leaves the repository, one inside ``.git``, or a control character.
    """
    parts = path.split("/") if isinstance(path, str) else []
    bad = (
        not parts
        or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
        or path.startswith("-")
        or "\\" in path
        or any(ord(character) < 32 or ord(character) == 127 for character in path)
    )
    if bad:
        raise InvalidInput(
            f"{field} {path!r} is not a path inside the repository",
            field=field,
            value=path,
            remedy="Use a relative path with forward slashes, such as apps/web/overlays/staging/kustomization.yaml.",
        )
    return path
