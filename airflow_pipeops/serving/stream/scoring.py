"""From the bytes of records to scores: what is not what the model wants is told apart, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.values import value_of

if TYPE_CHECKING:
    from airflow_pipeops.models.artifact import Loaded


@dataclass(frozen=True)
class Scored:
    """What became of one record.

    :param outputs: output of the model -> value; ``None`` for a record that cannot be scored.
    :param reason: why it cannot be.
    """

    outputs: Mapping[str, float] | None
    reason: str = ""


def score(loaded: Loaded, values: Sequence[bytes | None]) -> list[Scored]:
    """Score records, one JSON object each, with a value for each feature.

    :param loaded: the model.
    :param values: the records.
    :return: one result for each, in their order.
    """
    features = loaded.manifest.features
    found: list[Scored | None] = [None] * len(values)
    rows: list[tuple[int, list[Any]]] = []
    for number, value in enumerate(values):
        try:
            rows.append((number, row(value, features)))
        except InvalidInput as error:
            found[number] = Scored(None, str(error))
    _predict(loaded, rows, found)
    return [one for one in found if one is not None]


def row(value: bytes | None, features: Mapping[str, str]) -> list[Any]:
    """Read one record.

    :param value: of the record.
    :param features: name -> datatype, as the model wants them.
    :return: its values, in the order of ``features``; ``null`` for a number is NaN, other fields are left out.
    :raises InvalidInput: naming what is wrong.
    """
    if value is None:
        raise InvalidInput("the record has no value", field="value")
    try:
        content = parsed(value)
    except ValueError as error:
        raise InvalidInput(f"the record is no JSON: {error}", field="value") from error
    if not isinstance(content, dict):
        raise InvalidInput("the record is no JSON object", field="value")
    if missing := [name for name in features if name not in content]:
        raise InvalidInput(f"the record lacks {', '.join(missing)}", field=missing[0])
    return [_value(name, kind, content[name]) for name, kind in features.items()]


def _value(name: str, kind: str, value: Any) -> Any:
    try:
        return value_of(kind, value)
    except ValueError as error:
        raise InvalidInput(f"{name} is {str(value)[:40]!r}, which is no {kind}", field=name) from error


def _predict(loaded: Loaded, rows: Sequence[tuple[int, list[Any]]], found: list[Scored | None]) -> None:
    """Score rows together; where the model refuses them, halve, until it is known which ones."""
    from airflow_pipeops.models.outputs import predicted

    if not rows:
        return
    features = loaded.manifest.features
    columns = {name: [values[place] for _, values in rows] for place, name in enumerate(features)}
    try:
        outputs = predicted(loaded.model, columns, features)
    except MemoryError:  # no record's fault
        raise
    except Exception as error:  # whatever a model does on a record: the next member would meet it as well
        if len(rows) == 1:
            said = str(error)
            if not isinstance(error, InvalidInput):
                said = f"the model failed: {type(error).__name__}: {said}"
            found[rows[0][0]] = Scored(None, said)
            return
        half = len(rows) // 2
        _predict(loaded, rows[:half], found)
        _predict(loaded, rows[half:], found)
        return
    for place, (number, _) in enumerate(rows):
        found[number] = Scored({name: values[place] for name, values in outputs.items()})
