"""Join labels to the predictions that they are about: days later, twice, corrected. What does not join is counted.

The same predictions and labels, in whatever files and order they came, give the same rows in the same order. So joining
again, after a retry or a file that came twice, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.labelled import alike

if TYPE_CHECKING:
    import pandas as pd

#: Columns that the joined rows have, whatever they were called before; the key's keep their names.
AT, SHA256, SCORE, LABEL, LABELLED_AT = "at", "sha256", "score", "label", "labelled_at"


@dataclass(frozen=True)
class Columns(JsonForm):
    """How predictions and labels call what they hold.

    :param key: columns that name one prediction, in both.
    :param at: when it was made; in the labels, when a label became known.
    :param sha256: digest of the model that made it. A key may have a row for each model: those beside the released one are
        its shadows.
    :param score: the score, class or number that was predicted.
    :param label: what turned out to be true, in the labels; a null withdraws the label that came before.
    """

    key: tuple[str, ...] = ("key",)
    at: str = "at"
    sha256: str = "sha256"
    score: str = "score"
    label: str = "label"

    def __post_init__(self) -> None:
        demand_types(self)
        for called in (self.predicted, self.labelled, (*self.key, AT, SHA256, SCORE, LABEL, LABELLED_AT)):
            if not self.key or len(set(called)) < len(called):
                raise InvalidInput(
                    f"the columns {', '.join(called)} do not tell a key and what it holds apart",
                    field="key",
                    value=list(self.key),
                    remedy=f"Name at least one column of the key, each once, and none {AT}, {SHA256}, {SCORE}, {LABEL} or "
                    f"{LABELLED_AT}.",
                )

    @property
    def predicted(self) -> tuple[str, ...]:
        """Columns that predictions must have."""
        return (*self.key, self.at, self.sha256, self.score)

    @property
    def labelled(self) -> tuple[str, ...]:
        """Columns that labels must have."""
        return (*self.key, self.at, self.label)


@dataclass(frozen=True)
class Counts(JsonForm):
    """What became of the rows that were given.

    :param predictions: that were made, each key and model once.
    :param labelled: of these, those that have a label.
    :param waiting: of these, those that have none by now.
    :param early: of these, those whose label was known before they were made: they tell nothing, and have none.
    :param repeated_predictions: rows that say once more what another says.
    :param labels: keys that have a label by now.
    :param repeated_labels: rows that say once more what an earlier one says.
    :param corrected: keys whose label was another one before; the newest counts.
    :param withdrawn: keys whose newest label is null.
    :param unknown: keys with a label and without a prediction; they join when their predictions come.
    """

    predictions: int
    labelled: int
    waiting: int
    early: int
    repeated_predictions: int
    labels: int
    repeated_labels: int
    corrected: int
    withdrawn: int
    unknown: int


@dataclass(frozen=True)
class Joined:
    """Predictions with their labels.

    :param frame: one row for each key and model, in the order of time, key and model; columns: the key's, ``at``,
        ``sha256``, ``score``, ``label`` (null while there is none) and ``labelled_at``.
    :param counts: what became of the rows.
    """

    frame: pd.DataFrame
    counts: Counts


def join(predictions: pd.DataFrame, labels: pd.DataFrame, columns: Columns | None = None) -> Joined:
    """Join labels to predictions.

    :param predictions: with the columns ``key``, ``at``, ``sha256`` and ``score``.
    :param labels: with the columns ``key``, ``at`` and ``label``.
    :param columns: what they are called.
    :return: the predictions with their labels, and the counts.
    :raises InvalidInput: for a missing column, a null key, times that are none, a key that one model predicted twice and
        otherwise, a key with two labels of one time that differ, or keys of unlike types. Nothing is joined then.
    """
    columns = columns or Columns()
    made, repeated = _predictions(predictions, columns)
    known, counted = _labels(labels, columns)
    key = list(columns.key)
    left, right = made.copy(), known.copy()
    for name in key:
        left[name], right[name] = alike(left[name], right[name], name)
    both = left.merge(right, on=key, how="left", validate="many_to_one")
    early = both["_first"].notna() & (both["_first"] < both[AT])
    both.loc[early, LABEL] = None
    both.loc[early, LABELLED_AT] = None
    both = both.drop(columns="_first").sort_values([AT, *key, SHA256], kind="stable", ignore_index=True)
    labelled = int(both[LABEL].notna().sum())
    unknown = len(right) - len(left[key].drop_duplicates().merge(right[key], on=key, how="inner"))
    return Joined(
        both,
        Counts(
            predictions=len(both),
            labelled=labelled,
            waiting=len(both) - labelled - int(early.sum()),
            early=int(early.sum()),
            repeated_predictions=repeated,
            labels=len(right),
            unknown=unknown,
            **counted,
        ),
    )


def joined(frame: pd.DataFrame) -> pd.DataFrame:
    """Refuse a table that :func:`join` has not made.

    :param frame: a table that was read.
    :return: the table.
    :raises InvalidInput: for a missing column, times that are none, or what one model has predicted of a key twice.
    """
    has_columns("joined table", frame.columns, (AT, SHA256, SCORE, LABEL, LABELLED_AT))
    named = [*key_of(frame), SHA256]
    if twice := int(frame.duplicated(named).sum()):
        raise InvalidInput(
            f"{twice:,} rows of the joined table are of the same {', '.join(named)} as another one",
            field="joined table",
            value=named,
            remedy="Give the table as JoinLabelsOperator has stored it.",
        )
    return frame.assign(**{AT: _times(frame[AT], "joined table", AT)})


def key_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns that name a prediction in joined rows: all that are not said of it."""
    return [name for name in frame.columns if name not in (AT, SHA256, SCORE, LABEL, LABELLED_AT)]


def _predictions(given: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, int]:
    """Return each key and model once, and how many rows said the same again."""
    key = list(columns.key)
    has_columns("predictions", given.columns, columns.predicted)
    frame = given[list(columns.predicted)].rename(
        columns={columns.at: AT, columns.sha256: SHA256, columns.score: SCORE}
    )
    _no_null(frame, [*key, AT, SHA256, SCORE], "predictions")
    frame[AT] = _times(frame[AT], "predictions", columns.at)
    frame = frame.sort_values([*key, SHA256, AT], kind="stable")
    named = frame.groupby([*key, SHA256], sort=False)[SCORE].nunique()
    if (named > 1).any():
        raise InvalidInput(
            f"{int((named > 1).sum()):,} keys were predicted twice by one model, with scores that differ; the first is "
            f"{dict(zip([*key, SHA256], _plain(named.index[named > 1][0]), strict=True))}",
            field="predictions",
            value=key,
            remedy="Name the columns that tell one prediction from another, such as request and row.",
        )
    once = frame.drop_duplicates([*key, SHA256], keep="first")
    return once, len(frame) - len(once)


def _labels(given: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the newest label of each key with its time, and that of the first; and what became of the others."""
    key = list(columns.key)
    has_columns("labels", given.columns, columns.labelled)
    frame = given[list(columns.labelled)].rename(columns={columns.at: LABELLED_AT, columns.label: LABEL})
    _no_null(frame, [*key, LABELLED_AT], "labels")
    frame[LABELLED_AT] = _times(frame[LABELLED_AT], "labels", columns.at)
    rows = len(frame)
    frame = frame.drop_duplicates().sort_values([*key, LABELLED_AT], kind="stable")
    if (twice := frame.duplicated([*key, LABELLED_AT], keep=False)).any():
        raise InvalidInput(
            f"{len(frame[twice].drop_duplicates(key)):,} keys have two labels of one time that differ; the first is "
            f"{dict(zip(key, frame.loc[twice, key].iloc[0].tolist(), strict=True))}",
            field="labels",
            value=key,
            remedy="Give a correction a later time than the label that it corrects.",
        )
    before = frame.groupby(key, sort=False)[LABEL].shift()
    again = before.notna() & (before == frame[LABEL])
    frame = frame.assign(_first=frame.groupby(key, sort=False)[LABELLED_AT].transform("min"))
    changed = frame[before.notna() & frame[LABEL].notna() & ~again]
    newest = frame.drop_duplicates(key, keep="last")
    there = newest[newest[LABEL].notna()]
    return there, {
        "repeated_labels": rows - len(frame) + int(again.sum()),
        "corrected": len(changed.drop_duplicates(key)),
        "withdrawn": len(newest) - len(there),
    }


def _no_null(frame: pd.DataFrame, columns: list[str], field: str) -> None:
    for name in columns:
        if absent := int(frame[name].isna().sum()):
            raise InvalidInput(
                f"{absent:,} {field} have no {name}",
                field=field,
                value=name,
                remedy="Leave these rows out: nobody could tell what they are about.",
            )


def _times(given: pd.Series[Any], field: str, name: str) -> pd.Series[Any]:
    """Return times in UTC; those without a zone are taken for UTC.

    :raises InvalidInput: for values that are no times.
    """
    import pandas as pd

    try:
        if not pd.api.types.is_datetime64_any_dtype(given.dtype):
            if pd.api.types.is_numeric_dtype(given.dtype):
                raise ValueError("numbers are no times")
            return pd.to_datetime(given, format="ISO8601", utc=True)
        return given.dt.tz_localize("UTC") if given.dt.tz is None else given.dt.tz_convert("UTC")
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{name!r} of the {field} holds values that are no times: {str(error)[:120]}",
            field=field,
            value=name,
            remedy="Write them as timestamps, or as texts such as 2026-01-31T10:00:00Z.",
        ) from error


def _plain(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]
