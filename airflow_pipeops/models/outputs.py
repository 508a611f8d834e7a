"""What a fitted model gives for each row: a number, or a probability for each of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array = npt.NDArray[np.float64]

#: The output of a model of two classes (the probability of its positive one), or of numbers.
OUTPUT = "probability"


def outputs_of(model: Any) -> dict[str, str]:
    """Name the outputs of a model: one of numbers and of two classes, and one for each of more classes.

    :param model: the fitted model.
    :return: output -> class.
    :raises InvalidInput: for a model that knows one class only, predicts several columns, or names classes without
        giving their probabilities.
    """
    classes = getattr(model, "classes_", None)
    if classes is None:
        return {OUTPUT: ""}
    names = [str(name) for name in classes]
    if not hasattr(model, "predict_proba"):
        if any(isinstance(name, str) for name in classes):
            raise _no_model(
                f"the model tells its classes ({', '.join(names[:5])}) and no probabilities",
                "Use a classifier that has predict_proba, or labels that are numbers.",
            )
        return {OUTPUT: ""}
    if any(getattr(name, "ndim", 0) for name in classes):
        raise _no_model("the model predicts several columns at once", "Train one model for each column.")
    if len(names) == 1:
        raise _no_model(
            f"the model knows one class only, {names[0]!r}, so it has nothing to tell apart",
            "Train it on data with labels of more than one class.",
        )
    return {OUTPUT: names[1]} if len(names) == 2 else {f"{OUTPUT}_{name}": name for name in names}


def table_of(columns: Mapping[str, Sequence[Any]], features: Mapping[str, str]) -> pd.DataFrame:
    """Make the table that a model takes.

    :param columns: values by name of the feature.
    :param features: datatype by name, in the order in which the model takes them.
    :return: the table, with the types that the model was trained on.
    """
    import numpy as np
    import pandas as pd

    from airflow_pipeops.models.artifact import DTYPES

    # Arrays, and one index: a column each that pandas has to align takes five times as long. An array of texts would
    # become pandas' own type of texts.
    index = pd.RangeIndex(len(columns[next(iter(features))]))
    found = {
        name: (
            pd.Series(columns[name], index, DTYPES[kind])
            if kind == "BYTES"
            else np.array(columns[name], DTYPES[kind])
        )
        for name, kind in features.items()
    }
    return pd.DataFrame(found, index, copy=False)


def values_of(model: Any, frame: pd.DataFrame) -> Array:
    """Let the model predict, from a table as it takes one.

    :param model: the fitted model.
    :param frame: of its features, in their order.
    :return: a row for each of the table's, and a column for each of :func:`outputs_of`.
    :raises InvalidInput: for a model of numbers that predicts several columns.
    :raises ValueError: where the model does not take the table.
    """
    import numpy as np

    outputs, probabilities = len(outputs_of(model)), hasattr(model, "predict_proba")
    found = model.predict_proba(frame) if probabilities else model.predict(frame)
    values: Array = np.asarray(found, dtype=float).reshape(len(frame), -1)
    if values.shape[1] > outputs and not (probabilities and outputs == 1):
        raise _no_model("the model predicts several columns at once", "Train one model for each column.")
    return values[:, -outputs:]  # of two classes, the positive one alone


def predicted(
    model: Any, columns: Mapping[str, Sequence[Any]], features: Mapping[str, str]
) -> dict[str, list[float]]:
    """Let the model predict; its outputs are those of :func:`outputs_of`.

    :param model: the fitted model.
    :param columns: values by name of the feature.
    :param features: datatype by name, in the order in which the model takes them.
    :return: for each output, what it gives for each row.
    :raises InvalidInput: for values that the model does not take, and where it gives no number.
    """
    import numpy as np

    frame = table_of(columns, features)
    try:
        values = values_of(model, frame)
    except ValueError as error:  # scikit-learn's word for data that it does not take
        nulls = [
            name
            for name, kind in features.items()
            if kind == "FP64" and any(value != value for value in columns[name])
        ]
        of = f" (there is null in {', '.join(nulls)})" if nulls else ""
        said = (str(error).splitlines() or [""])[0]
        raise InvalidInput(f"the model does not take these values{of}: {said}", field="inputs") from error
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InvalidInput(f"the model gives no finite number for row {row}", field="inputs", value=row)
    return {name: values[:, number].tolist() for number, name in enumerate(outputs_of(model))}


def _no_model(message: str, remedy: str) -> InvalidInput:
    return InvalidInput(message, field="model", remedy=remedy)
