"""The scores of two arms, item by item, from the table of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.policy import RATIOS, GatePolicy
from airflow_pipeops.llm.results import checked
from airflow_pipeops.models.paired.units import Units, each_row

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

#: What is put where a score is missing: nothing; or all are lost by the candidate, or won.
Filled = Literal["no", "lost", "won"]
#: A column of more values than this names items and not slices.
MAX_SLICES = 200
#: Of so many of the items a cost or a latency must be known.
KNOWN = 0.9


@dataclass(frozen=True)
class Scores:
    """What both arms have on one metric.

    :param new: shape (items, runs); the candidate's, NaN where missing.
    :param old: the same of the baseline.
    """

    new: Array
    old: Array

    @property
    def there(self) -> Array:
        """Whether an item has any score of both arms."""
        import numpy as np

        return np.asarray(~(np.isnan(self.new).all(axis=1) | np.isnan(self.old).all(axis=1)))

    @property
    def gone(self) -> tuple[int, int]:
        """How many scores are not there: the candidate's and the baseline's."""
        import numpy as np

        return int(np.isnan(self.new).sum()), int(np.isnan(self.old).sum())

    def filled(self, new: float, old: float) -> Scores:
        """Return the scores, with one for all that the candidate lacks, and one for all that the baseline does."""
        import numpy as np

        return Scores(
            np.where(np.isnan(self.new), new, self.new), np.where(np.isnan(self.old), old, self.old)
        )


@dataclass(frozen=True)
class Paired:
    """Both arms on the same items.

    :param items: their ids, in the order of the arrays.
    :param units: which items move together.
    :param scores: of each metric.
    :param missing: scores that are not there, of each scorer: the candidate's and the baseline's. Of a scorer that is no
        metric, only the candidate's on items that must never fail; of a cost or a latency, where most of it is known.
    :param asked: scores that should be there, of each scorer and arm.
    :param hard: (item, scorer) that must never fail.
    :param slices: ``column=value`` -> whether each item is in it.
    """

    items: tuple[str, ...]
    units: Units
    scores: dict[str, Scores]
    missing: dict[str, tuple[int, int]]
    asked: int
    hard: tuple[tuple[str, str], ...]
    slices: dict[str, Array]

    def filled(self, how: Filled, policy: GatePolicy) -> dict[str, Scores]:
        """Fill in the scores that are missing.

        :param how: ``no``: they stay; else all are lost, or all won, by the candidate. What a cost or a latency lacks is as
            much as the greatest of both arms, or as little as the least.
        :param policy: its scales, and what is better when it is lower.
        :return: the scores by metric.
        """
        import numpy as np

        if how == "no":
            return self.scores
        found = dict(self.scores)
        for name in self.missing.keys() & found.keys():
            kept = found[name]
            if name in RATIOS:
                seen = np.r_[kept.new.ravel(), kept.old.ravel()]
                worse, better = float(np.nanmax(seen)), float(np.nanmin(seen))
            elif (ends := policy.ends(name)) is None:
                continue
            else:
                worse, better = ends[::-1] if name in policy.lower_is_better else ends
            found[name] = kept.filled(worse, better) if how == "lost" else kept.filled(better, worse)
        return found


def paired(
    frame: pd.DataFrame, policy: GatePolicy, candidate: str, baseline: str, items: Sequence[str] = ()
) -> Paired:
    """Bring two arms of an evaluation together, item by item.

    :param frame: the table of an evaluation, with both arms.
    :param policy: names the metrics and the slices.
    :param candidate: name of its arm.
    :param baseline: name of its arm.
    :param items: ids that were asked for; an item of which nothing is there is missing. By default those in the table.
    :return: both arms on the same items.
    :raises InvalidInput: for an arm, a scorer or a column that is not there, a score outside of its scale, an item of two
        clusters or two slices of one column, and one that must never fail by a scorer of which all scores pass, or none.
    """
    frame = checked(frame)
    has_columns("results", frame.columns, policy.slices)
    frame = frame.assign(item=frame["item"].astype(str))
    for arm in (candidate, baseline):
        _there("arm", arm, frame["arm"].unique())
    frame = frame[frame["arm"].isin([candidate, baseline])]
    for scorer in policy.scorers:
        _there("scorer", scorer, frame["scorer"].unique())
    ids = sorted(set(items) or set(frame["item"]))
    if foreign := sorted(set(frame["item"]) - set(ids)):
        raise InvalidInput(
            f"{len(foreign):,} items of the results are not in the dataset, the first is {foreign[0]!r}",
            field="results",
            value=foreign[0],
            remedy="Compare answers to the same dataset.",
        )
    runs = {arm: int(frame.loc[frame["arm"] == arm, "run"].max()) + 1 for arm in (candidate, baseline)}
    shape = {arm: _places(frame, ids, arm, runs[arm]) for arm in runs}
    scores, missing = {}, {}
    for name in policy.metrics:
        rows = frame if name in RATIOS else frame[frame["scorer"] == name]
        if name in RATIOS:
            rows = rows[rows[name].notna()].drop_duplicates(["item", "arm", "run"])
        else:
            _within(rows, name, policy)
        scores[name] = Scores(*(shape[arm](rows, name) for arm in (candidate, baseline)))
        if name not in RATIOS or scores[name].there.mean() >= KNOWN:
            missing[name] = scores[name].gone
    firsts = _attributes(frame, ["cluster", *policy.slices], ids)
    hard = frame[frame["hard"].astype(bool)][["item", "scorer"]].drop_duplicates()
    for name in hard["scorer"].unique():
        if name in policy.scorers and not policy.can_fail(name):
            raise InvalidInput(
                f"items must never fail by {name!r}, whose scores all lie on one side of {policy.passing:g}",
                field="passing",
                value=policy.passing,
                remedy="Say in 'passing' from which score of its scale on an item passes.",
            )
    told = frame[(frame["arm"] == candidate) & frame["value"].notna()].merge(hard)["scorer"].value_counts()
    for name, count in hard["scorer"].value_counts().items():
        missing.setdefault(str(name), (int(count * runs[candidate] - told.get(name, 0)), 0))
    return Paired(
        tuple(ids),
        _units(firsts["cluster"]),
        scores,
        missing,
        len(ids) * min(runs.values()),
        tuple(sorted((str(item), str(scorer)) for item, scorer in hard.itertuples(index=False))),
        _slices(firsts, policy.slices),
    )


def failing(
    frame: pd.DataFrame, policy: GatePolicy, candidate: str, hard: Sequence[tuple[str, str]], how: Filled
) -> list[str]:
    """Return which items that must never fail do so, as ``item (scorer)``.

    :param frame: the table of an evaluation.
    :param policy: says from which score on an item passes, and in which share of its runs it has to fail.
    :param candidate: name of its arm.
    :param hard: (item, scorer) that must never fail.
    :param how: what counts where a score is missing.
    :return: their names.
    """
    import math

    rows = frame[(frame["arm"] == candidate) & frame["hard"].astype(bool)]
    rows = rows.assign(item=rows["item"].astype(str))
    runs = int(frame.loc[frame["arm"] == candidate, "run"].max()) + 1
    found = {key: part["value"] for key, part in rows.groupby(["item", "scorer"])}
    failed = []
    for item, scorer in hard:
        values = found.get((item, scorer))
        known = values.dropna() if values is not None else ()
        fails = sum(
            value > policy.passing if scorer in policy.lower_is_better else value < policy.passing
            for value in known
        )
        fails += runs - len(known) if how == "lost" else 0
        if fails >= max(1, math.ceil(policy.hard_share * runs)):
            failed.append(f"{item} ({scorer})")
    return failed


def _there(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise InvalidInput(
            f"the results have no {what} {name!r}",
            field=what,
            value=name,
            remedy=f"There are {', '.join(sorted(map(str, names))[:20])}.",
        )


def _places(frame: pd.DataFrame, ids: Sequence[str], arm: str, runs: int) -> Callable[[Any, str], Array]:
    """Return what puts the values of an arm at their places."""
    import numpy as np

    place = {item: number for number, item in enumerate(ids)}

    def put(rows: pd.DataFrame, name: str) -> Array:
        rows = rows[rows["arm"] == arm]
        values = np.full((len(ids), runs), np.nan)
        column = name if name in RATIOS else "value"
        at = rows["item"].map(place).to_numpy(), rows["run"].to_numpy(dtype=int)
        values[at] = rows[column].to_numpy(dtype=float)
        return values

    return put


def _within(rows: pd.DataFrame, scorer: str, policy: GatePolicy) -> None:
    """Refuse a score outside of its scale."""
    if (ends := policy.ends(scorer)) is None:
        return
    outside = rows[(rows["value"] < ends[0]) | (rows["value"] > ends[1])]
    if len(outside):
        first = outside.iloc[0]
        raise InvalidInput(
            f"{scorer!r} gave item {first['item']!r} {first['value']:g}, outside of {ends[0]:g} to {ends[1]:g}",
            field="scale",
            value=scorer,
            remedy="Say what its lowest and highest scores are, or mend the scorer.",
        )


def _attributes(frame: pd.DataFrame, columns: Sequence[str], ids: Sequence[str]) -> pd.DataFrame:
    """Return what is the same in all rows of an item."""
    several = frame.groupby("item")[list(columns)].nunique() > 1
    for column in columns:
        if several[column].any():
            item = several.index[several[column]][0]
            raise InvalidInput(
                f"item {item!r} has several values of {column!r}",
                field=column,
                value=str(item),
                remedy="An item belongs to one cluster and to one slice of each column, whatever its answer.",
            )
    return frame.groupby("item")[list(columns)].first().reindex(list(ids))


def _units(clusters: pd.Series[Any]) -> Units:
    import numpy as np
    import pandas as pd

    codes, kinds = pd.factorize(clusters)
    alone = codes < 0
    codes = np.where(alone, len(kinds) + np.cumsum(alone) - 1, codes)
    count = len(kinds) + int(alone.sum())
    return each_row(len(codes)) if count == len(codes) else Units(codes, count, "cluster")


def _slices(firsts: pd.DataFrame, columns: Sequence[str]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for column in columns:
        values = sorted(firsts[column].dropna().unique(), key=str)
        if len(values) > MAX_SLICES:
            raise InvalidInput(
                f"{column!r} has {len(values):,} values",
                field="slices",
                value=column,
                remedy=f"Name columns of at most {MAX_SLICES} values, such as a language.",
            )
        found |= {f"{column}={value}": (firsts[column] == value).to_numpy() for value in values}
    return found
