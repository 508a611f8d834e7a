"""The templates one by one: each reads few values, and each combination of those is, for it, each combination of all.

Helm makes the text of a template out of nothing but values. So a template that reads three settings is rendered with every
combination of the three: whatever the others are, it makes the same.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.helm.combinations import COUPLED, SETTINGS, Values, fitting, together
from tests.helm.programs import CHART, Object, leaves

Path_ = tuple[str, ...]
TEMPLATES = CHART / "templates"
#: Where a template read values like this, changed them, evaluated text or asked a cluster, what it reads could not be told.
UNTOLD = re.compile(
    r"\b(?:tpl|lookup|(?:un)?set) [$.(\"]|\.Capabilities|\.Values(?!\.\w)|\b(?:include|template) [$.(]"
)
_ALIAS = re.compile(r"\{\{-? \$(\w+) := \$?(\.Values(?:\.\w+)+) -?\}\}")
_DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def names() -> list[str]:
    """Return the templates that make something, as paths below the folder of all."""
    found = (path for path in TEMPLATES.rglob("*") if path.is_file() and path.suffix != ".tpl")
    return sorted(str(path.relative_to(TEMPLATES)) for path in found)


def reads(name: str) -> frozenset[Path_]:
    """Return the values that a template reads, by itself or through what it includes."""
    waiting, seen, found = [(TEMPLATES / name).read_text(encoding="utf-8")], set[str](), set[str]()
    while waiting:
        text = waiting.pop()
        found.update(_paths(text))
        fresh = set(re.findall(r"\binclude \"([^\"]+)\"", text)) - seen
        seen |= fresh
        waiting += [_defined()[one] for one in fresh]
    return frozenset(tuple(path.split(".")[2:]) for path in found)


def _paths(text: str) -> Iterator[str]:
    rest = _ALIAS.sub("", text)
    yield from re.findall(r"\.Values(?:\.\w+)+", rest)
    for alias, path in _ALIAS.findall(text):
        yield from (path + more for more in re.findall(rf"\${alias}\b((?:\.\w+)*)", rest))


@functools.cache
def _defined() -> Mapping[str, str]:
    parts: list[str] = []
    for path in TEMPLATES.glob("*.tpl"):
        parts += re.split(r"\{\{-? define \"([^\"]+)\"", path.read_text(encoding="utf-8"))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def seen_by(paths: Iterable[Path_], values: Values) -> str:
    """Return what of some values is at these paths, with what the chart gives by itself."""
    whole = together((_DEFAULTS, values))
    return json.dumps([_at(whole, path) for path in sorted(paths)])


def _at(value: Any, path: Path_) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def cases(paths: frozenset[Path_]) -> dict[str, Values]:
    """Return values with each combination of what can be at some paths: what is seen there -> the values."""
    settings = {name for name, levels in SETTINGS.items() if any(_meet(paths, level) for level in levels)}
    while more := {other for name in settings for other in COUPLED.get(name, ())} - settings:
        settings |= more
    chosen = product(*(levels for name, levels in SETTINGS.items() if name in settings))
    return {seen_by(paths, values): values for values in map(fitting, map(together, chosen))}


def _meet(paths: Iterable[Path_], level: Values) -> bool:
    ends = leaves(level) if level else {}
    return any(path[: len(end)] == end[: len(path)] for path in paths for end in ends)


@functools.cache
def made() -> Mapping[str, Mapping[str, str]]:
    """Render each template with each combination: template -> what it saw of the values -> what it made."""
    return {name: _made(name) for name in names()}


def _made(name: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / CHART.name))
        # Values are checked against it apart: here it would take most of the time.
        (chart / "values.schema.json").unlink()
        for other in names():
            if other != name:
                (chart / "templates" / other).unlink()
        engine = helm_python.Chart.load(chart)
        return {seen: text_of(engine, values).get(name, "") for seen, values in cases(reads(name)).items()}


def text_of(engine: Any, values: Values) -> dict[str, str]:
    """Render a chart: template -> its text."""
    texts = engine.render(values, name="pipeops", namespace="airflow")
    return {path.partition("/templates/")[2]: text for path, text in texts.items()}


@functools.cache
def documents(text: str) -> tuple[Object, ...]:
    """Read what a template made."""
    return tuple(one for part in re.split(r"^---$", text, flags=re.MULTILINE) for one in _document(part))


@functools.cache
def _document(text: str) -> tuple[Object, ...]:
    found = yaml.load(text, Loader=yaml.CSafeLoader)
    return (found,) if found else ()
