"""Names and words: what a reader finds described, and where a reader would stumble."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "airflow_pipeops"

#: The folders that hold to it; a folder is added here when its words are mended.
FOLDERS = (
    "ui",
    "base",
    "delivery",
    "kubernetes",
    "git",
    "build",
    "validation",
    "governor",
    "waits",
    "argo_workflows",
    "argocd",
    "models",
    "serving",
    "provider",
    "demo",
    "flux",
    "deploy",
    "llm",
    "operations",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def undescribed_fields(source: str) -> Iterator[tuple[int, str]]:
    """Fields of dataclasses without a ``:param name:`` in the docstring of the class or a ``#:`` comment.

    :param source: the text of a module
    :yield: the line of a field, and its class and name
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not any(map(_is_dataclass, node.decorator_list)):
            continue
        described = set(re.findall(r":param (\w+):", ast.get_docstring(node) or ""))
        for field in node.body:
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if "ClassVar" in ast.unparse(field.annotation) or "KW_ONLY" in ast.unparse(field.annotation):
                continue
            commented = lines[field.lineno - 2].lstrip().startswith("#:") or "#:" in lines[field.lineno - 1]
            if field.target.id not in described and not commented:
                yield field.lineno, f"{node.name}.{field.target.id} is not described"


def undescribed_returns(source: str) -> Iterator[tuple[int, str]]:
    """Public functions with a result that a docstring of several lines does not describe.

    A docstring of one line says it in its sentence; a longer one says it under ``:return:`` or ``:yield:``.

    :param source: the text of a module
    :yield: the line of a function, and its name
    """
    for node in _public_functions(ast.parse(source).body):
        docstring = ast.get_docstring(node) or ""
        if node.returns is None or ast.unparse(node.returns).strip("'\"") in ("None", "NoReturn"):
            continue
        if "\n" in docstring.strip() and not re.search(r"^\s*:(return|yield):", docstring, re.M):
            yield node.lineno, f"{node.name} does not say what it returns"


def nested_conditionals(source: str) -> Iterator[tuple[int, str]]:
    """Conditional expressions in an argument of a call that itself stands inside a conditional expression.

    :param source: the text of a module
    :yield: the line of the inner conditional, and its text
    """
    for outer in ast.walk(ast.parse(source)):
        if not isinstance(outer, ast.IfExp):
            continue
        for call in ast.walk(outer):
            if not isinstance(call, ast.Call):
                continue
            for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                for inner in ast.walk(argument):
                    if isinstance(inner, ast.IfExp):
                        yield (
                            inner.lineno,
                            f"a conditional inside an argument inside a conditional: {ast.unparse(inner)}",
                        )


def _is_dataclass(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(target).rpartition(".")[2] == "dataclass"


def _public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield from _public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def _findings(folder: str) -> list[str]:
    found = set()
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        source = path.read_text()
        for measure in (undescribed_fields, undescribed_returns, nested_conditionals):
            for line, finding in measure(source):
                found.add(f"{path.relative_to(PACKAGE)}:{line}: {finding}")
    return sorted(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_words(folder: str) -> None:
    assert (PACKAGE / folder).is_dir()
    assert _findings(folder) == []


def test_measures_see_what_they_measure() -> None:
    source = '''
@dataclass(frozen=True)
class Chart:
    """A chart.

    :param name: what it is called
    """

    kind: ClassVar[str] = "chart"
    name: str
    digest: str
    #: Where it is kept.
    registry: str

    def address(self) -> str:
        """Its address.

        Return text.
        """
        return f(a if b else c) if d else e

    def _private(self) -> str:
        """Its address.

        Return text.
        """
        return f(a if b else c)
'''
    assert [finding for _, finding in undescribed_fields(source)] == ["Chart.digest is not described"]
    assert [finding for _, finding in undescribed_returns(source)] == ["address does not say what it returns"]
    assert [finding.rpartition(": ")[2] for _, finding in nested_conditionals(source)] == ["a if b else c"]
