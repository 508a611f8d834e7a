"""Every public name is in the API reference, and every argument that a user may give is described."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import airflow_pipeops
from airflow_pipeops import exceptions
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.provider.metadata import get_provider_info

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PACKAGE = airflow_pipeops.__name__
_DESCRIBED = re.compile(r":param \*{0,2}(\w+):")
_SHOWN = re.compile(r"^::: ([\w.]+)$(?:\n    options:\n      members: (null))?", re.MULTILINE)


def named(path: str) -> Any:
    """The object of a dotted path; a module where it is one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


SHOWN = {
    path: bool(members)
    for page in REFERENCE.glob("*.md")
    for path, members in _SHOWN.findall(page.read_text())
}
ERRORS = [found for found in vars(exceptions).values() if isinstance(found, type)]
CLASSES = list(
    dict.fromkeys(
        [
            *(getattr(airflow_pipeops, name) for name in airflow_pipeops.__all__),
            *ERRORS,
            DeliveryOperator,
            Evidence,
        ]
    )
)
DECORATORS = [decorator["class-name"] for decorator in get_provider_info()["task-decorators"]]


def path_of(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def ours(found: type) -> list[type]:
    """A class and what it derives from, without what is not of this package."""
    return [base for base in found.__mro__ if base.__module__.partition(".")[0] == PACKAGE]


def described(found: Any) -> set[str]:
    return set(
        _DESCRIBED.findall(
            vars(found).get("__doc__") or "" if isinstance(found, type) else found.__doc__ or ""
        )
    )


def arguments(function: Callable[..., Any]) -> set[str]:
    """Names of the arguments that a caller gives, without those that are handed on."""
    handed_on = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind not in handed_on} - {"self", "cls"}


def methods(found: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods that a class defines, without those that Airflow prescribes."""
    prescribed = {name for base in found.__mro__ if base not in ours(found) for name in vars(base)}
    for name, value in vars(found).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not name.startswith("_") and name not in prescribed:
            yield name, function


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_a_public_name_is_in_the_reference(found: type) -> None:
    assert path_of(found) in SHOWN or found.__module__ in SHOWN
    assert vars(found).get("__doc__"), "its class has no docstring"


@pytest.mark.parametrize("path", DECORATORS)
def test_a_decorator_is_in_the_reference(path: str) -> None:
    assert path in SHOWN


@pytest.mark.parametrize("path", SHOWN)
def test_the_reference_names_what_exists(path: str) -> None:
    assert inspect.getdoc(named(path))


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_every_argument_of_a_class_is_described_where_the_reference_shows_it(found: type) -> None:
    """An argument is described by the class that takes it, or by one that derives from it."""
    known: set[str] = set()
    for base in ours(found):
        if path_of(base) in SHOWN or base.__module__ in SHOWN:
            known |= described(base)
        if "__init__" in vars(base):
            assert not arguments(base.__init__) - known, f"not described: see {path_of(base)}"


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_what_a_class_describes_is_an_argument(found: type) -> None:
    taken = {name for base in ours(found) if "__init__" in vars(base) for name in arguments(base.__init__)}
    assert not described(found) - taken


@pytest.mark.parametrize(
    ("found", "name"),
    [
        pytest.param(named(path), name, id=f"{path.rpartition('.')[2]}.{name}")
        for path, members in SHOWN.items()
        if members and isinstance(named(path), type)
        for name, _ in methods(named(path))
    ],
)
def test_every_argument_of_a_shown_method_is_described(found: type, name: str) -> None:
    function = dict(methods(found))[name]
    assert function.__doc__
    assert not arguments(function) - described(function)


@pytest.mark.parametrize("path", DECORATORS)
def test_every_argument_of_a_decorator_is_described(path: str) -> None:
    assert not arguments(named(path)) - described(named(path))
