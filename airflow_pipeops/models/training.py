"""Split a table in time, fit a model on the earlier part, and store everything that a later judgement needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact, behaviour, evaluation, storage
from airflow_pipeops.models.curves import curves_of
from airflow_pipeops.models.outputs import outputs_of
from airflow_pipeops.models.times import latest, times

if TYPE_CHECKING:
    import pandas as pd

#: Fewer rows than this on either side of the split are no ground for any judgement.
MIN_ROWS = 20


def split(
    frame: pd.DataFrame, holdout: float, time_column: str | None, label_delay: timedelta = timedelta(0)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table into the earlier part for training and the tail for judging.

    Rows of the same time stay together, in the tail, so that nothing is learned from the moment that is judged. Nor is
    anything from rows whose label was not known yet when the tail begins: they are in neither part.

    :param holdout: share of the rows in the tail, above 0 and below 1.
    :param time_column: orders the rows; without it they count as ordered.
    :param label_delay: for which a label comes after its row.
    :return: the two parts.
    :raises InvalidInput: if the column is missing or holds no times, or a part is too small.
    """
    if label_delay and time_column is None:
        raise InvalidInput(
            "late labels need the time of a row", field="time_column", remedy="Name its column."
        )
    if time_column is not None:
        if time_column not in frame.columns:
            raise InvalidInput(
                f"the data lack the column {time_column!r}", field="time_column", value=time_column
            )
        order = times(frame[time_column], time_column).reset_index(drop=True).sort_values(kind="stable")
        _check_delay(order, time_column, label_delay)
        frame = frame.iloc[order.index]
    frame = frame.reset_index(drop=True)
    cut = round(len(frame) * (1 - holdout))
    if time_column is not None and 0 < cut < len(frame):
        cut = int((order < order.iloc[cut]).sum())
    learned = cut
    if label_delay and 0 < cut < len(frame):
        learned = int((order + label_delay <= order.iloc[cut]).sum())
    earlier, tail = frame.iloc[:learned], frame.iloc[cut:]
    if min(len(earlier), len(tail)) < MIN_ROWS:
        raise InvalidInput(
            f"of {len(frame)} rows, {len(earlier)} are left to learn from and {len(tail)} to judge by",
            field="data",
            value=len(frame),
            remedy=f"Each part needs {MIN_ROWS} rows; give more data or another holdout.",
        )
    return earlier.reset_index(drop=True), tail.reset_index(drop=True)


def _whole(labels: pd.Series[Any]) -> pd.Series[Any]:
    """Make classes that are whole numbers whole again: beside a label that was null, they were read as doubles."""
    if labels.dtype.kind == "f" and (labels % 1 == 0).all() and labels.abs().max() < 2**53:
        return labels.astype("int64")
    return labels


def _check_delay(order: pd.Series[Any], time_column: str, label_delay: timedelta) -> None:
    import pandas as pd

    if label_delay and not pd.api.types.is_datetime64_any_dtype(order.dtype):
        raise InvalidInput(
            f"label_delay is a time, and time_column {time_column!r} holds numbers",
            field="label_delay",
            value=str(label_delay),
            remedy="Give a column of times, or leave label_delay out.",
        )


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
    parameters: Mapping[str, Any] | None = None,
    label_delay: timedelta = timedelta(0),
    feature_set: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train, and store model, holdout, reference (the rows learned from) and probes under their digests.

    :param root: where to store.
    :return: plain facts: ``artifact_uri``, ``sha256``, ``metrics``, ``train_rows``, ``holdout_uri``, ...
    :raises InvalidInput: for too few rows, or a model that could not be served.
    """
    if target is not None and target in frame.columns and frame[target].isna().any():
        known = frame[frame[target].notna()]  # a label that is not known yet teaches nothing
        frame = known.assign(**{target: _whole(known[target])})
    earlier, tail = split(frame, holdout, time_column, label_delay)
    model = trainer(earlier, seed, **(parameters or {}))
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
        feature_set=feature_set,
    )
    probes = behaviour.probes(earlier, list(manifest.features))
    probes_uri, probes_sha256 = storage.put_table(probes, root, "probes")
    holdout_uri, _ = storage.put_table(tail, root, "holdout")
    reference_uri, _ = storage.put_table(earlier, root, "reference")
    stored = artifact.save(model, manifest, root / "models", trusted=trusted)
    return {
        "name": name,
        "artifact_uri": stored.uri,
        "sha256": stored.sha256,
        "behaviour": behaviour.digest(behaviour.scores(model, probes)),
        "probes_uri": probes_uri,
        "probes_sha256": probes_sha256,
        "metrics": metrics,
        "curves": curves_of(model),
        "train_rows": len(earlier),
        "holdout_rows": len(tail),
        "holdout_uri": holdout_uri,
        "reference_uri": reference_uri,
        "data_digest": data_digest,
    }
