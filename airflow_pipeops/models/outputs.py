"""What a fitted model gives for each row: a number, or a probability for each of its classes."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.exceptions import InvalidInput

#: The output of a model of two classes (the probability of its positive one), or of numbers.
OUTPUT = "probability"


def outputs_of(model: Any) -> dict[str, str]:
    """Return the name of each output, and the class whose probability it is; of a model of numbers, no class.

    A model of two classes has one output, of more classes one for each.

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


def _no_model(message: str, remedy: str) -> InvalidInput:
    return InvalidInput(message, field="model", remedy=remedy)
