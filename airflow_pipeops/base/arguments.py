"""Values that people give to operators and triggers: checked once, in one form of words."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, TypeVar

from airflow_pipeops.exceptions import InvalidInput

#: A text of a small set, which a ``Literal`` names.
Choice = TypeVar("Choice", bound=str)
#: What a list holds.
Kind = TypeVar("Kind")


def positive(field: str, value: timedelta, *, zero: bool = False) -> timedelta:
    """Refuse what is no duration above zero.

    :param zero: whether no time at all is allowed, too.
    :return: the duration.
    :raises InvalidInput: for anything else.
    """
    if isinstance(value, timedelta) and (value > timedelta(0) or (zero and not value)):
        return value
    raise InvalidInput(
        f"{field} is {value!r}",
        field=field,
        value=value,
        remedy="Give a positive timedelta, e.g. timedelta(minutes=5).",
    )


def interval(field: str, value: timedelta | float) -> float:
    """Read the pause between two looks.

    :return: the pause in seconds.
    :raises InvalidInput: for none.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    known = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if known and 0 < seconds < math.inf:
        return float(seconds)
    raise InvalidInput(
        f"{field} is {seconds:g} s" if known else f"{field} is {value!r}",
        field=field,
        value=seconds,
        remedy="Give a time above zero; 10 seconds is usual.",
    )


def one_of(
    field: str, value: str, allowed: Sequence[Choice], *, called: str = "", of: str = "", remedy: str = ""
) -> Choice:
    """Refuse a value that is none of these.

    :param called: how the message calls it, where the bare field would not be understood.
    :param of: what the field belongs to, where that is not the caller's own.
    :param remedy: in place of the list of what is allowed.
    :return: the value.
    :raises InvalidInput: for any other.
    """
    for choice in allowed:
        if choice == value:
            return choice
    raise InvalidInput(
        f"{called} {value!r} is unknown" if called else f"{field}{f' of {of}' if of else ''} is {value!r}",
        field=field,
        value=value,
        remedy=remedy or f"Use one of {', '.join(allowed)}.",
    )


def flag(field: str, value: Any, *, default: bool = True, of: str = "") -> bool:
    """Read a yes or no, which a connection that is given as a URI holds as a text.

    :param field: name of the argument, or of the field of a connection.
    :param value: a bool, a text, or nothing.
    :param default: where nothing is given.
    :param of: what the field belongs to.
    :return: yes or no.
    :raises InvalidInput: for anything else.
    """
    if value in (None, ""):
        return default
    said = str(value).lower()
    return one_of(field, said, ("true", "false"), of=of) == "true"


def matching(
    field: str, value: Any, pattern: re.Pattern[str], form: str, remedy: str, *, called: str = ""
) -> str:
    """Refuse a text that is not of this form.

    :param form: what it should be, for example ``a valid name``.
    :param called: how the message calls it; by default the field.
    :return: the text.
    :raises InvalidInput: for any other text, and for what is no text.
    """
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise InvalidInput(f"{called or field} {value!r} is not {form}", field=field, value=value, remedy=remedy)


def not_empty(field: str, value: Any, message: str, remedy: str = "") -> Any:
    """Refuse an empty value.

    :return: the value.
    :raises InvalidInput: with this message, if it is.
    """
    if value:
        return value
    raise InvalidInput(message, field=field, value=value, remedy=remedy)


def one_given(message: str, remedy: str, **values: Any) -> None:
    """Refuse none and several where one of these is wanted.

    :raises InvalidInput: with this message; its field is the first of them.
    """
    if sum(map(bool, values.values())) != 1:
        field = next(iter(values))
        raise InvalidInput(message, field=field, value=values[field], remedy=remedy)


def mapping(field: str, value: Any, remedy: str, *, message: str = "") -> Mapping[str, Any]:
    """Refuse what is no mapping.

    :return: the mapping.
    :raises InvalidInput: for anything else.
    """
    if isinstance(value, Mapping):
        return value
    raise InvalidInput(message or f"{field} is not a mapping", field=field, value=value, remedy=remedy)


def files(field: str, value: str | Sequence[str]) -> list[str]:
    """Read the names of files; one alone may stand without a list.

    :return: the names.
    :raises InvalidInput: if there is none, or one is empty or no text.
    """
    found = [value] if isinstance(value, str) else list(value or ())
    if found and all(isinstance(name, str) and name for name in found):
        return found
    raise InvalidInput(f"{field} names no file", field=field, value=value, remedy="Give one URI, or a list.")


def several(value: Any) -> bool:
    """Whether a value is a list of others: a text is none of its letters, and a mapping none of its names."""
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))


def texts(field: str, value: Any, *, of: str = "") -> None:
    """Refuse what is no list of texts: a text alone would be taken for its letters, and for each word that is part of it.

    :param of: what the field belongs to, where that is not the caller's own.
    :raises InvalidInput: for anything else.
    """
    if several(value) and all(isinstance(one, str) and one for one in value):
        return
    raise InvalidInput(
        f"{field}{f' of {of}' if of else ''} is {value!r}",
        field=field,
        value=value,
        remedy="Give a list of texts.",
    )


def one_or_more(field: str, value: Any, kind: type[Kind]) -> tuple[Kind, ...]:
    """Read a list of objects of one kind; one alone may stand without a list.

    :param kind: their class.
    :return: the objects.
    :raises InvalidInput: for anything else.
    """
    if isinstance(value, kind):
        return (value,)
    if several(value) and all(isinstance(one, kind) for one in value):
        return tuple(value)
    remedy = f"Give a {kind.__name__}, or a list of them."
    raise InvalidInput(f"{field} is {value!r}", field=field, value=value, remedy=remedy)


def instance_of(field: str, value: Any, kind: type[Kind], remedy: str) -> Kind:
    """Refuse what is no object of a kind, such as its name alone.

    :param kind: its class.
    :return: the object.
    :raises InvalidInput: for anything else.
    """
    if isinstance(value, kind):
        return value
    raise InvalidInput(f"{field} is {value!r}", field=field, value=str(value), remedy=remedy)


def object_name(value: Any) -> str:
    """Refuse what names no object: without a name, or with a path in it, a call about one would be one about others.

    :return: the name.
    :raises InvalidInput: for none.
    """
    if isinstance(value, str) and value not in ("", ".", "..") and not set("/%\0") & set(value):
        return value
    raise InvalidInput(f"{value!r} is no name", field="name", value=value, remedy="Give the object's name.")


def given(**values: Any) -> tuple[str, ...]:
    """Return the names of arguments that were given, when a task is made; see :func:`still_given`."""
    return tuple(name for name, value in values.items() if value not in (None, ""))


def still_given(task: Any, names: Iterable[str]) -> None:
    """Refuse an argument that was given and has become nothing, as a template does that finds no value.

    Without it, less would be asked for than was meant: any identity, any tag, any workflow of the name.

    :param task: when it runs.
    :param names: as :func:`given` returned them.
    :raises InvalidInput: for the first that is empty.
    """
    for name in names:
        if getattr(task, name) in (None, "", "None"):
            raise InvalidInput(
                f"{name} was given, and is empty when the task runs",
                field=name,
                remedy="Does its template, or the task that it comes from, give a value? Leave it out if nothing is meant.",
            )


def share(field: str, value: float, remedy: str) -> float:
    """Refuse what is no share, above 0 and below 1.

    :return: the share.
    :raises InvalidInput: for any other number.
    """
    if isinstance(value, Real) and 0 < value < 1:
        return value
    raise InvalidInput(f"{field} is {value!r}", field=field, value=value, remedy=remedy)


def finite(field: str, value: float | None) -> None:
    """Refuse what is no finite number; a number that is not given may stay so.

    :raises InvalidInput: for anything else.
    """
    if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
        raise InvalidInput(f"{field} is {value}, not a finite number", field=field, value=str(value))


def has_columns(field: str, there: Collection[Any], needed: Iterable[str]) -> None:
    """Refuse a table without these columns.

    :param there: the columns that it has.
    :raises InvalidInput: naming those that it lacks.
    """
    absent = [name for name in needed if name not in there]
    if absent:
        raise InvalidInput(
            f"the {field} has no column {', '.join(map(repr, absent))}",
            field=field,
            value=absent,
            remedy="Check the names.",
        )


def at_least(field: str, value: int, least: int, message: str, remedy: str) -> int:
    """Refuse too small a number of things, and what is no number of things.

    :return: the number.
    :raises InvalidInput: with this message, for anything else.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= least:
        return value
    raise InvalidInput(message, field=field, value=value, remedy=remedy)


def read_at_least(field: str, value: Any, least: int, message: str, remedy: str) -> int:
    """Read a number of things, of which a template may have made a text.

    :return: the number.
    :raises InvalidInput: with this message, for fewer, and for what is no number.
    """
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if number >= least:
        return number
    raise InvalidInput(message, field=field, value=str(value), remedy=remedy)


def imported(path: str, field: str) -> Any:
    """Import what ``"package.module:name"`` names.

    :param path: module, colon, attribute.
    :param field: the name under which the reader knows the value, for the error.
    :return: the object of that name.
    :raises InvalidInput: if there is no such module or attribute.
    """
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not (colon and module and name):
        raise InvalidInput(
            f"{field} {path!r} is not an import path",
            field=field,
            value=path,
            remedy='Write it as "package.module:name".',
        )
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"{field} {path!r} cannot be imported: {error}",
            field=field,
            value=path,
            remedy="Install the module where the task runs, and check the spelling.",
        ) from error
    return found


def function(path: str, field: str) -> Any:
    """Return the function that ``"package.module:name"`` names; see :func:`imported`."""
    found = imported(path, field)
    if not callable(found):
        raise InvalidInput(f"{field} {path!r} is not a function", field=field, value=path)
    return found
