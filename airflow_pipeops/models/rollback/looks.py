"""What the guard sees: the release and the model before it on the same labelled rows, day by day."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.cohorts import Ask, truth
from airflow_pipeops.models.labels.joining import AT, LABEL, SCORE, SHA256, key_of
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.influence import gain
from airflow_pipeops.models.paired.predictions import predictions
from airflow_pipeops.models.paired.units import by_column
from airflow_pipeops.models.rollback.guard import GuardPolicy, Seen, sizes_reached

if TYPE_CHECKING:
    import pandas as pd

_DAY, _OTHER = "_day", "_other"


def look(
    frame: pd.DataFrame,
    release: str,
    before: str,
    policy: GuardPolicy,
    ask: Ask,
    now: datetime,
    since: datetime | None = None,
) -> Seen:
    """Measure both models on the rows that both have predicted since the release.

    What it predicted before, as a shadow or when it was released an earlier time, uses up no look. A day counts when its
    labels are due and there, and no day before it is open: days are taken in the order of time, and none is left out.

    :param frame: what :func:`~airflow_pipeops.models.labels.joining.join` returned, with the rows of both models.
    :param release: digest of the released model.
    :param before: digest of the model before it.
    :param policy: when a release goes back.
    :param ask: the label delay, the share of labels that must be there, and what counts as positive.
    :param now: with a zone.
    :param since: when the release began, with a zone; ``None`` for all rows.
    :return: what is known of the release.
    """
    import pandas as pd

    both = _paired(frame, release, before)
    if both.empty:
        return Seen(0, unfit=f"no row was predicted by both {release[:12]} and {before[:12]}")
    if since is not None:
        newest, both = both[AT].max(), both[both[AT] >= since]
        if both.empty:
            return Seen(
                0,
                unfit=f"no row that both have predicted is of the time since the release, {_said(since)}: the newest is of "
                f"{_said(newest)}; where predictions have another clock than Git, name since=",
            )
    both = both.assign(**{_DAY: both[AT].dt.floor("D")})
    days = both.groupby(_DAY, sort=True)[LABEL].agg(["size", "count"])
    due = (days.index + pd.Timedelta(days=1) + ask.delay) <= now
    there = (days["count"] / days["size"] >= ask.min_coverage).to_numpy()
    closed = int((due & there).cumprod().sum())
    short = days[due & ~there]
    missing = ""
    if len(short):
        first = short.iloc[0]
        missing = (
            f"{len(short)} of {int(due.sum())} days whose labels are due have too few, the first is "
            f"{short.index[0].date()} with {int(first['count']):,} of {int(first['size']):,}"
        )
    gains = tuple(_gain(both, days.index[:size], policy, ask) for size in sizes_reached(closed, policy))
    return Seen(closed, gains, missing, since=_said(since) if since else "")


def rescored(frame: pd.DataFrame, data: pd.DataFrame, model: Any, sha256: str, ask: Ask) -> pd.DataFrame:
    """Let a model score the rows that it has not scored.

    :param frame: what :func:`~airflow_pipeops.models.labels.joining.join` returned.
    :param data: the features of the rows, with their key.
    :param model: a fitted model.
    :param sha256: its digest.
    :param ask: the metric, and what counts as positive.
    :return: the frame, with the rows that the model has scored now.
    :raises InvalidInput: for a missing column, features that the model refuses, or a key that is there twice or of another
        type.
    """
    import pandas as pd

    from airflow_pipeops.models.performance.labelled import alike

    key = key_of(frame)
    has_columns("data", data.columns, key)
    if twice := int(data.duplicated(key).sum()):
        raise InvalidInput(
            f"{twice:,} times a key of {', '.join(key)} is there more than once in the data",
            field="data",
            value=key,
            remedy="Give the features of each prediction once.",
        )
    known = frame[frame[SHA256] == sha256][key]
    rows = frame.drop_duplicates(key).merge(known, on=key, how="left", indicator=True)
    rows = rows[rows["_merge"] == "left_only"].drop(columns="_merge")
    data = data.reset_index(drop=True)
    ours, theirs = rows[key].copy(), data[key].copy()
    for name in key:
        ours[name], theirs[name] = alike(ours[name], theirs[name], name, other="data")
    both = ours.reset_index(names="_row").merge(theirs.reset_index(names="_given"), on=key, how="inner")
    if both.empty:
        return frame
    scores = predictions(ask.metric, model, data.loc[both["_given"]], ask.positive)
    again = rows.loc[both["_row"]].assign(**{SHA256: sha256, SCORE: scores})
    return pd.concat([frame, again], ignore_index=True)


def _said(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M %Z").replace(" 00:00 UTC", "")


def _paired(frame: pd.DataFrame, release: str, before: str) -> pd.DataFrame:
    """Return the rows that both have predicted, with both scores."""
    key = key_of(frame)
    other = frame[frame[SHA256] == before][[*key, SCORE]].rename(columns={SCORE: _OTHER})
    return frame[frame[SHA256] == release].merge(other, on=key, how="inner", validate="one_to_one")


def _gain(both: pd.DataFrame, days: Any, policy: GuardPolicy, ask: Ask) -> Gain:
    """Measure one look; one in which the metric has no value is a doubt."""
    rows = both[both[_DAY].isin(days) & both[LABEL].notna()].reset_index(drop=True)
    labels, scores, others = truth(rows[LABEL], ask), rows[SCORE].to_numpy(), rows[_OTHER].to_numpy()
    units = by_column(rows[_DAY], "day")
    try:
        return gain(policy.metric, labels, scores, others, units=units, threshold=ask.threshold)
    except InvalidInput as error:
        return Gain(policy.metric, 0.0, 0.0, 0.0, None, 0, len(rows), len(days), "day", doubt=error.message)
