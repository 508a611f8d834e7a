"""Modules that import each other in a circle can only be understood, tested and moved together: there are none."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import airflow_pipeops

PACKAGE = Path(airflow_pipeops.__file__).parent


def circles(sources: Mapping[str, str], packages: Collection[str] = ()) -> list[list[str]]:
    """Find the import circles: the groups of modules of which each leads to each other by imports.

    Imports within functions count; those for type checkers alone do not, and neither does the package that Python runs
    on the way to its module.

    :param sources: name of a module -> its text.
    :param packages: the names among them that are an ``__init__.py``.
    :return: the circles in alphabetical order, each sorted.
    """
    graph = {
        name: imported(text, name, sources, package=name in packages) - {name}
        for name, text in sources.items()
    }
    reached = {name: _reached(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def imported(text: str, name: str, known: Collection[str], *, package: bool = False) -> set[str]:
    """Return the known modules that a module imports.

    :param text: of the module.
    :param name: of the module, from which its relative imports start.
    :param known: names of modules; what else is imported is left out.
    :param package: whether the module is an ``__init__.py``.
    """
    found = set()
    for node in _run(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = name.split(".")[: None if package else -1]
            above = start[: len(start) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                found.add(inner if inner in known else module)
    return found & set(known)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Go through the nodes that run: not those under ``if TYPE_CHECKING``."""
    yield node
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children = list(node.orelse)
    for child in children:
        yield from _run(child)


def _reached(start: str, graph: Mapping[str, Collection[str]]) -> set[str]:
    """Return the modules that one or more imports lead to."""
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(graph[name])
    return found


def modules(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Return the texts of a package's modules by name, and which of them are packages."""
    sources, packages = {}, set()
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text()
        if parts[-1] == "__init__":
            packages.add(name)
    return sources, packages


def test_nothing_in_the_package_is_in_a_circle() -> None:
    sources, packages = modules(PACKAGE)
    assert len(sources) > 300
    assert circles(sources, packages) == []


def test_two_modules_that_import_each_other_are_a_circle() -> None:
    assert circles({"p.a": "import p.b", "p.b": "from p import a", "p.c": "import p.a"}) == [["p.a", "p.b"]]


def test_an_import_within_a_function_counts() -> None:
    late = "class A:\n    async def act(self):\n        with self:\n            from p.b import thing"
    assert circles({"p.a": late, "p.b": "from p.a import A"}) == [["p.a", "p.b"]]


def test_an_import_for_type_checkers_does_not_count() -> None:
    for guard in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        guarded = f"if {guard}:\n    from p.b import thing\nelse:\n    import p.c"
        assert circles({"p.a": guarded, "p.b": "import p.a", "p.c": ""}) == []
        assert circles({"p.a": guarded, "p.b": "", "p.c": "import p.a"}) == [["p.a", "p.c"]]


def test_a_circle_of_several_is_one_and_circles_apart_are_two() -> None:
    ring = {"p.a": "import p.b", "p.b": "import p.c", "p.c": "import p.a\nimport p.d"}
    pair = {"p.d": "import p.e", "p.e": "import p.d"}
    assert circles({**ring, **pair}) == [["p.a", "p.b", "p.c"], ["p.d", "p.e"]]


def test_relative_imports_and_packages_are_followed() -> None:
    sources = {
        "p": "from .a import thing",
        "p.a": "from . import other",
        "p.q": "from .r import x",
        "p.q.r": "from ..a import y",
    }
    assert circles(sources, {"p", "p.q"}) == [["p", "p.a"]]
    assert imported(sources["p.q"], "p.q", sources, package=True) == {"p.q.r"}
    assert imported(sources["p.q.r"], "p.q.r", sources) == {"p.a"}


def test_a_module_that_names_itself_or_others_packages_is_no_circle() -> None:
    assert circles({"p.a": "import p.a\nimport os\nfrom json import loads"}) == []
