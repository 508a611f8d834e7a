"""The Open Inference Protocol v2 in JSON: from a request's tensors to columns, and back. Standard library only.

One input tensor per feature, of shape ``[n]`` or ``[n, 1]``. A missing number in an ``FP64`` tensor is ``null``. One output
tensor of two classes or of numbers, and one for each class of more; the metadata say of which class it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.outputs import OUTPUT
from airflow_pipeops.serving.values import is_text, value_of

if TYPE_CHECKING:
    from typing import TypeGuard


@dataclass(frozen=True)
class Asked:
    """An inference request.

    :param id: of it; ``None`` where it has none.
    :param columns: the values of each input, in the order in which the model takes them.
    :param rows: how many there are.
    :param outputs: those that are wanted.
    """

    id: str | None
    columns: dict[str, list[Any]]
    rows: int
    outputs: tuple[str, ...]


def read_request(body: bytes, features: Mapping[str, str], outputs: Iterable[str] = (OUTPUT,)) -> Asked:
    """Read an inference request.

    :param features: input name -> datatype, as the model wants them.
    :param outputs: the names of its outputs.
    :return: what is asked; all outputs where the request names none.
    :raises InvalidInput: naming what is wrong; the text suits an error body.
    """
    known = tuple(outputs)
    request = _json(body)
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise InvalidInput('the request is no object with a list "inputs"', field="inputs")
    identifier = request.get("id")
    if identifier is not None and not is_text(identifier):
        raise InvalidInput('"id" is not a string', field="id")
    wanted = _outputs(request.get("outputs"), known)
    tensors: dict[str, list[Any]] = {}
    for tensor in request["inputs"]:
        name, values = _tensor(tensor, features)
        if name in tensors:
            raise InvalidInput(f"input {name!r} is there twice", field=name)
        tensors[name] = values
    if missing := [name for name in features if name not in tensors]:
        raise InvalidInput(f"missing inputs: {', '.join(missing)}", field="inputs", value=missing)
    lengths = {len(values) for values in tensors.values()}
    if len(lengths) != 1:
        raise InvalidInput(f"the inputs have different lengths: {sorted(lengths)}", field="inputs")
    return Asked(identifier, {name: tensors[name] for name in features}, lengths.pop(), wanted)


def write_request(
    columns: Mapping[str, list[Any]], features: Mapping[str, str], outputs: Iterable[str] = (OUTPUT,)
) -> dict[str, Any]:
    """Return the request for columns of plain values; a NaN is sent as ``null``."""
    inputs = []
    for name, datatype in features.items():
        values = [
            None if isinstance(value, float) and math.isnan(value) else value for value in columns[name]
        ]
        inputs.append({"name": name, "shape": [len(values)], "datatype": datatype, "data": values})
    return {"inputs": inputs, "outputs": [{"name": name} for name in outputs]}


def write_response(
    model: str,
    version: str,
    identifier: str | None,
    predicted: Mapping[str, list[float]],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the response for what was predicted, output by output."""
    outputs = [
        {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values}
        for name, values in predicted.items()
    ]
    response = {
        "model_name": model,
        "model_version": version,
        "parameters": dict(parameters),
        "outputs": outputs,
    }
    return response if identifier is None else {**response, "id": identifier}


def metadata(
    model: str,
    versions: Sequence[str],
    features: Mapping[str, str],
    outputs: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a served model.

    :param model: its name.
    :param versions: that can be asked, the one that is described first.
    :param features: datatype by name.
    :param outputs: name -> the class whose probability it is; empty for none.
    :param parameters: where it comes from.
    :return: the body of the protocol's answer.
    """
    return {
        "name": model,
        "versions": list(versions),
        "platform": "sklearn_skops",
        "inputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in features.items()],
        "outputs": [
            {"name": name, "datatype": "FP64", "shape": [-1], **({"parameters": {"class": of}} if of else {})}
            for name, of in outputs.items()
        ],
        "parameters": dict(parameters),
    }


def _json(body: bytes) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", field="body") from error


def _outputs(outputs: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if outputs is None:
        return known
    named = (
        [output.get("name") for output in outputs if isinstance(output, dict)]
        if isinstance(outputs, list)
        else []
    )
    if not isinstance(outputs, list) or len(named) != len(outputs):
        raise InvalidInput('"outputs" is no list of objects', field="outputs")
    if unknown := [name for name in named if name not in known]:
        raise InvalidInput(
            f"unknown outputs: {', '.join(map(repr, unknown))}; there is {', '.join(map(repr, known))}",
            field="outputs",
        )
    return tuple(name for name in known if name in named) or known


def _tensor(tensor: Any, features: Mapping[str, str]) -> tuple[str, list[Any]]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise InvalidInput("an input is no object with a name", field="inputs")
    name = tensor["name"]
    if name not in features:
        raise InvalidInput(f"unknown input {name!r}", field=name)
    if tensor.get("datatype") != features[name]:
        raise InvalidInput(
            f"input {name!r} has the datatype {tensor.get('datatype')!r}, not {features[name]!r}", field=name
        )
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list):
        raise InvalidInput(f'input {name!r} has no list "data"', field=name)
    if data and all(isinstance(item, list) and len(item) == 1 for item in data):
        data = [item[0] for item in data]
    if not _is_shape(shape) or math.prod(shape) != len(data) or shape[1:] not in ([], [1]):
        raise InvalidInput(
            f"input {name!r} has the shape {json.dumps(shape)[:60]} and {len(data)} values; it must be [n] or [n, 1]",
            field=name,
        )
    if not data:
        raise InvalidInput(f"input {name!r} has no rows", field=name)
    return name, [_value(name, features[name], item) for item in data]


def _is_shape(shape: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(shape, list)
        and len(shape) in (1, 2)
        and all(type(item) is int and item >= 0 for item in shape)
    )


def _value(name: str, datatype: str, value: Any) -> Any:
    try:
        return value_of(datatype, value)
    except ValueError as error:
        shown = json.dumps(value)[:40]
        raise InvalidInput(f"input {name!r} holds {shown}, which is no {datatype}", field=name) from error
