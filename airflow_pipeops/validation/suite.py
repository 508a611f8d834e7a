"""A Great Expectations suite from plain JSON, checked before any data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_pipeops.base.arguments import imported, not_empty, one_of
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Plain = Mapping[str, Any]

#: What an entry may hold; all but the first three are Great Expectations' own bookkeeping.
_FIELDS = frozenset({"type", "kwargs", "severity", "id", "meta", "notes", "description", "rendered_content"})


@dataclass(frozen=True)
class Expectation:
    """One expectation.

    :param type: as Great Expectations calls it, for example ``expect_column_values_to_not_be_null``.
    :param kwargs: its arguments.
    :param severity: only ``critical`` fails a gate; ``warning`` and ``info`` are reported.
    """

    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "critical"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        named = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        return (*named, *self.kwargs.get("column_list", ()))


def expectations(given: str | Iterable[Plain] | Plain | Callable[[], Iterable[Plain]]) -> list[Expectation]:
    """Read expectations from plain JSON, a suite's JSON, or an import path.

    :param given: list of ``{"type", "kwargs", "severity"}``; a suite as Great Expectations writes it, with its list below
        ``expectations``; the path of a ``.json`` file with either; or ``"module:name"`` of either or of a function that
        returns one.
    :return: the expectations, at least one.
    :raises InvalidInput: for anything else, naming the entry.
    """
    found: Any = given
    if isinstance(found, str):
        found = _file(found) if found.endswith(".json") else imported(found, "expectations")
    if callable(found):
        found = found()
    if isinstance(found, Mapping) and "expectations" in found:
        found = found["expectations"]
    if isinstance(found, (str, Mapping)) or not isinstance(found, Iterable):
        raise InvalidInput(
            "expectations is not a list",
            field="expectations",
            remedy='Give a list of {"type", "kwargs", "severity"}.',
        )
    read = [_entry(entry, f"expectations[{number}]") for number, entry in enumerate(found)]
    remedy = "A gate that checks nothing passes everything: give at least one."
    not_empty("expectations", read, "there are no expectations", remedy)
    return read


def project_suite(project: str, suite: str) -> list[Expectation]:
    """Read a suite of a Great Expectations project.

    :param project: folder that holds ``gx/great_expectations.yml``.
    :param suite: name of the suite.
    :return: its expectations, at least one.
    :raises InvalidInput: if there is no such project, or no such suite in it.
    """
    from pathlib import Path

    # Asked for a folder without a project, Great Expectations would make one there.
    if not (Path(project) / "gx" / "great_expectations.yml").is_file():
        raise InvalidInput(
            f"{project} holds no Great Expectations project",
            field="project",
            value=project,
            remedy="Give the folder that contains gx/great_expectations.yml.",
        )
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import DataContextError

    context = gx.get_context(mode="file", project_root_dir=project)
    try:
        found = context.suites.get(suite)
    except DataContextError as error:
        known = sorted(item.name for item in context.suites.all())
        raise InvalidInput(
            f"the project has no suite {suite!r}",
            field="suite",
            value=suite,
            remedy=f"It has {', '.join(known) or 'none'}.",
        ) from error
    return expectations(found.to_json_dict())


def _file(path: str) -> Any:
    from pathlib import Path

    from airflow.sdk import ObjectStoragePath

    uri = path if "://" in path else Path(path).expanduser().absolute().as_uri()
    try:
        return parsed(ObjectStoragePath(uri).read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"expectations {path!r} cannot be read ({type(error).__name__})",
            field="expectations",
            value=path,
            remedy="Give the path of a JSON file where the task runs.",
        ) from error


def _entry(entry: Any, name: str) -> Expectation:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        raise InvalidInput(
            f"{name} has no type", field=name, remedy='Write {"type": "expect_...", "kwargs": {...}}.'
        )
    unknown = sorted(set(entry) - _FIELDS)
    kwargs, given = entry.get("kwargs") or {}, str(entry.get("severity") or "critical").lower()
    if unknown or not isinstance(kwargs, Mapping):
        raise InvalidInput(
            f"{name} has the unknown fields {', '.join(unknown)}"
            if unknown
            else f"{name}.kwargs is not an object",
            field=name,
            remedy="Arguments of the expectation belong into kwargs.",
        )
    severity = one_of(f"{name}.severity", given, SEVERITIES, called=f"{name}.severity")
    return Expectation(entry["type"], dict(kwargs), severity)


def build(wanted: list[Expectation]) -> list[Any]:
    """Make the Great Expectations objects; each carries its number in its ``meta``.

    :return: the objects, in the same order.
    :raises InvalidInput: for an unknown type or wrong arguments, naming the entry.
    """
    return [_build(number, expectation) for number, expectation in enumerate(wanted)]


def _build(number: int, wanted: Expectation) -> Any:
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import get_expectation_impl

    name = f"expectations[{number}]"
    try:
        kind: Any = get_expectation_impl(_snake(wanted.type))
    except ExpectationNotFoundError as error:
        raise InvalidInput(
            f"{name}: Great Expectations knows no {wanted.type!r}",
            field=f"{name}.type",
            value=wanted.type,
            remedy="Check the spelling, for example expect_column_values_to_not_be_null.",
        ) from error
    try:
        return kind(**wanted.kwargs, severity=wanted.severity, meta={"number": number})
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{name}: wrong arguments for {wanted.type}: {_problems(error)}",
            field=f"{name}.kwargs",
            value=sorted(wanted.kwargs),
            remedy="See the expectation's page in the Great Expectations gallery.",
        ) from error


def _problems(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in errors())


def _snake(name: str) -> str:
    """Accept the class name too: ``ExpectColumnToExist`` is ``expect_column_to_exist``."""
    if "_" in name:
        return name
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")
