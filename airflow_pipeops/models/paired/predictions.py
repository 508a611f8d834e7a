"""What a model says about rows, in the form that a metric needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns, one_of
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


def labels(metric: str, frame: pd.DataFrame, target: str, positive: Any = None) -> Array:
    """Return the labels as a metric needs them.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param frame: the rows.
    :param target: name of the label's column.
    :param positive: the label that counts as positive, for metrics of two classes; by default labels are 0 and 1.
    :return: shape (rows,); 0 or 1 for metrics of two classes, else as they are.
    :raises InvalidInput: for an unknown metric or column, a null label, or a positive one that is not there.
    """
    import numpy as np
    import pandas as pd

    one_of("metric", metric, tuple(METRICS), called="metric")
    has_columns("data", frame.columns, [target])
    found = frame[target]
    if absent := int(found.isna().sum()):
        raise InvalidInput(
            f"{absent:,} labels are null",
            field="data",
            value=target,
            remedy="Leave rows without a label out of the held-out data.",
        )
    if METRICS[metric].task != "binary":
        return np.asarray(found)
    if positive is None:
        if not pd.api.types.is_numeric_dtype(found.dtype):
            kinds = ", ".join(map(repr, found.unique()[:5].tolist()))
            raise InvalidInput(
                f"the labels in {target!r} are {kinds}, and {metric} needs 0 and 1",
                field="positive",
                remedy="Name the one that counts as positive.",
            )
        return np.asarray(found)
    if not (found == positive).any():
        raise InvalidInput(
            f"no row of {target!r} is {positive!r}",
            field="positive",
            value=str(positive),
            remedy=f"Name one of {', '.join(map(repr, found.unique()[:5].tolist()))}.",
        )
    return np.asarray(found == positive, dtype=float)


def predictions(metric: str, model: Any, frame: pd.DataFrame, positive: Any = None) -> Array:
    """Let a model predict each row once.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param model: a fitted model that knows the names of its features.
    :param frame: the rows.
    :param positive: the label that counts as positive, for metrics of two classes; by default the model's second class.
    :return: shape (rows,); the probability of the positive class, the predicted class, or a number.
    :raises InvalidInput: if columns are missing, the model has no probabilities where the metric needs them, or it refuses
        the rows.
    """
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    has_columns("data", frame.columns, names)
    rows = frame[names] if names else frame
    if METRICS[metric].task != "binary":
        return _asked(model.predict, rows)
    if not hasattr(model, "predict_proba"):
        if METRICS[metric].needs == "class":
            found = _asked(model.predict, rows)
            return found if positive is None else (found == positive).astype(float)
        raise InvalidInput(
            f"{metric} needs probabilities, and the model has no predict_proba",
            field="metric",
            value=metric,
            remedy="Use a metric of classes, such as f1, or a classifier that has predict_proba.",
        )
    classes = list(model.classes_)
    if len(classes) != 2 or (positive is not None and positive not in classes):
        raise InvalidInput(
            f"{metric} is of two classes, and the model tells {', '.join(map(repr, classes[:5]))}",
            field="metric" if len(classes) != 2 else "positive",
            value=metric if len(classes) != 2 else str(positive),
            remedy="Use a metric of several classes, such as f1_macro."
            if len(classes) != 2
            else "Name one of the model's classes.",
        )
    column = 1 if positive is None else classes.index(positive)
    found = _asked(model.predict_proba, rows)
    return found[:, column]


def _asked(predict: Callable[[Any], Any], rows: pd.DataFrame) -> Array:
    """Let a model predict; it may be anybody's, and rows that it refuses are the data's fault."""
    import numpy as np

    try:
        return np.asarray(predict(rows))
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"the model cannot predict these rows: {str(error).splitlines()[0]}",
            field="data",
            remedy="Give rows like those that both models have learned from.",
        ) from error
