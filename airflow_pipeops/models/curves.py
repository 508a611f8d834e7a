"""The curves of a training, where the estimator keeps them: a loss or a score for each of its rounds."""

from __future__ import annotations

from typing import Any

#: Attributes of fitted estimators that hold one number for each round.
_CURVES = ("loss_curve_", "train_score_", "validation_score_", "validation_scores_", "oob_scores_")
#: Points of a curve that are kept.
POINTS = 200


def curves_of(model: Any) -> dict[str, list[list[float]]]:
    """Return the curves of a model; of a pipeline, those of its last step.

    :param model: the fitted model.
    :return: name -> ``[round, value]``, at most :data:`POINTS` of them, the last included.
    """
    import numpy as np

    steps = getattr(model, "steps", None)
    if steps:
        return curves_of(steps[-1][1])
    found = {}
    for name in _CURVES:
        values = np.asarray(getattr(model, name, None) if getattr(model, name, None) is not None else [])
        if values.ndim != 1 or not len(values) or not np.issubdtype(values.dtype, np.number):
            continue
        rounds = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).astype(int))
        finite = [number for number in rounds.tolist() if np.isfinite(values[number])]
        if finite:
            found[name.rstrip("_")] = [[number, float(values[number])] for number in finite]
    return found
