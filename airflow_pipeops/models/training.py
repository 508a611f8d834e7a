"""Split a table in time, fit a model on the earlier part, and store everything that a later judgement needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact, evaluation, storage
from airflow_pipeops.models.outputs import outputs_of
from airflow_pipeops.models.times import latest, times

if TYPE_CHECKING:
    import pandas as pd

#: Fewer rows than this on either side of the split are no ground for any judgement.
MIN_ROWS = 20


def split(frame: pd.DataFrame, holdout: float, time_column: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table into the earlier part for training and the tail for judging.

    Rows of the same time stay together, in the tail, so that nothing is learned from the moment that is judged.

    :param holdout: share of the rows in the tail, above 0 and below 1.
    :param time_column: orders the rows; without it they count as ordered.
    :return: the two parts.
    :raises InvalidInput: if the column is missing or holds no times, or a part is too small.
    """
    if time_column is not None:
        if time_column not in frame.columns:
            raise InvalidInput(
                f"the data lack the column {time_column!r}", field="time_column", value=time_column
            )
        order = times(frame[time_column], time_column).reset_index(drop=True).sort_values(kind="stable")
        frame = frame.iloc[order.index]
    frame = frame.reset_index(drop=True)
    cut = round(len(frame) * (1 - holdout))
    if time_column is not None and 0 < cut < len(frame):
        cut = int((order < order.iloc[cut]).sum())
    earlier, tail = frame.iloc[:cut], frame.iloc[cut:]
    if min(len(earlier), len(tail)) < MIN_ROWS:
        raise InvalidInput(
            f"of {len(frame)} rows, {len(earlier)} are left to learn from and {len(tail)} to judge by",
            field="data",
            value=len(frame),
            remedy=f"Each part needs {MIN_ROWS} rows; give more data or another holdout.",
        )
    return earlier.reset_index(drop=True), tail.reset_index(drop=True)


def train(
    frame: pd.DataFrame,
    root: Any,
    *,
    name: str,
    trainer: Callable[..., Any],
    scorer: evaluation.Scorer | None,
    metric: str,
    holdout: float,
    time_column: str | None,
    seed: int,
    target: str | None,
    data_digest: str,
    trusted: Sequence[str] = (),
) -> dict[str, Any]:
    """Train, and store model, holdout and reference (the rows learned from) under their digests.

    :param root: where to store.
    :return: plain facts: ``artifact_uri``, ``sha256``, ``metrics``, ``train_rows``, ``holdout_uri``, ...
    :raises InvalidInput: for too few rows, or a model that could not be served.
    """
    earlier, tail = split(frame, holdout, time_column)
    began = time.monotonic()
    model = trainer(earlier, seed)
    seconds = time.monotonic() - began
    columns = getattr(model, "feature_names_in_", None)
    if columns is None:
        raise InvalidInput(
            "the trained model does not know the names of its features",
            field="trainer",
            remedy="Fit it on a table with named columns, so that it has feature_names_in_.",
        )
    outputs_of(model)  # refuses one that could not be served
    metrics = {metric: evaluation.number(scorer(model, tail))} if scorer is not None else {}
    manifest = artifact.Manifest(
        name=name,
        features=artifact.features_of(frame, map(str, columns)),
        target=target,
        metrics=metrics,
        data_digest=data_digest,
        versions=artifact.library_versions(),
        time_column=time_column,
        trained_until=latest(earlier[time_column], time_column) if time_column else None,
    )
    holdout_uri, _ = storage.put_table(tail, root, "holdout")
    reference_uri, _ = storage.put_table(earlier, root, "reference")
    stored = artifact.save(model, manifest, root / "models", trusted=trusted)
    return {
        "name": name,
        "artifact_uri": stored.uri,
        "sha256": stored.sha256,
        "metrics": metrics,
        "train_rows": len(earlier),
        "holdout_rows": len(tail),
        "holdout_uri": holdout_uri,
        "reference_uri": reference_uri,
        "data_digest": data_digest,
        "seconds": round(seconds, 3),
    }
