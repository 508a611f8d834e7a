"""What a model does, as a digest: its scores on rows that are kept for that, the probes.

Two builds of one model may differ in their bytes, by a library's version or the last bit of a sum, and still say the same of
every row. The digest is taken of scores at :data:`DIGITS` significant digits; where it differs, :func:`distance` says by how
much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.models.outputs import outputs_of, values_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Scores = Mapping[str, np.ndarray[Any, Any]]

#: Rows that are spread over the whole of what a model has learned from.
PROBES = 512
#: Significant digits of a score that count.
DIGITS = 9


def probes(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Choose the rows that a model's behaviour is told by: some of the whole, and those at the edges.

    :param frame: what the model learned from.
    :param columns: its features.
    :return: those columns of at most :data:`PROBES` rows, evenly spread, and for each column of the first row that has its
        least value, its greatest, and none.
    """
    import numpy as np
    import pandas as pd

    rows = frame[list(columns)].reset_index(drop=True)
    chosen = set(np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(int).tolist())
    for column in rows.columns:
        values = rows[column]
        if values.isna().any():
            chosen.add(int(values.isna().to_numpy().argmax()))
        if pd.api.types.is_numeric_dtype(values.dtype) and values.notna().any():
            chosen |= {int(values.idxmin()), int(values.idxmax())}
    return rows.iloc[sorted(chosen)].reset_index(drop=True)


def scores(model: Any, rows: pd.DataFrame) -> Scores:
    """Let a model score rows.

    :param model: the fitted model.
    :param rows: of its features, in their order.
    :return: by output, as :func:`~airflow_pipeops.models.outputs.outputs_of` names them.
    """
    values = values_of(model, rows)
    return {name: values[:, number] for number, name in enumerate(outputs_of(model))}


def digest(given: Scores) -> str:
    """Return the SHA-256 of scores at :data:`DIGITS` significant digits, in hex."""
    made = hashlib.sha256()
    for name, values in given.items():
        said = (f"{value + 0.0:.{DIGITS - 1}e}" for value in values.tolist())  # without the sign of a zero
        made.update(f"{name}\n{' '.join(said)}\n".encode())
    return made.hexdigest()


def distance(one: Scores, other: Scores) -> float | None:
    """Return by how much two models' scores of the same rows differ at most; ``None`` where they have other outputs."""
    import numpy as np

    if list(one) != list(other) or any(one[name].shape != other[name].shape for name in one):
        return None
    apart = 0.0
    for name in one:
        both = np.isnan(one[name]) & np.isnan(other[name])
        if (np.isnan(one[name]) != np.isnan(other[name])).any():
            return None
        apart = max(apart, float(np.abs(one[name] - other[name])[~both].max(initial=0.0)))
    return apart
