"""The table that every evaluation of a prompt makes, and that gates read: one row for each score."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput, NotFound

if TYPE_CHECKING:
    import pandas as pd

#: Column -> whether a row may leave it empty.
COLUMNS = {
    "item": False,  # the id of the item in its dataset
    "cluster": True,  # what items share: a document, a conversation, a person; empty: each item is its own
    "arm": False,  # which subject answered, for example "baseline" or "candidate"
    "run": False,  # number of the repeated sample of this item, from 0
    "scorer": False,  # what gave the score
    "value": True,  # the score; empty where the scorer or the answer failed: missing, neither a loss nor a win
    "label": True,  # what a scorer of classes said
    "hard": False,  # whether this item must never fail by this scorer
    "error": True,  # why there is no value
    "cost": True,  # of the answer, in the currency of the prices
    "tokens_in": True,
    "tokens_out": True,
    "latency": True,  # seconds until the answer was complete
    "output_digest": True,  # sha256 of the answer
    "system": True,  # the model that answered, as the endpoint calls it, and the fingerprint of what is behind it
    "at": True,  # when it was answered, in seconds since 1970
}
#: What names a score.
KEY = ("item", "arm", "run", "scorer")
#: File name and type of a table that is kept as evidence.
FILE, MEDIA_TYPE = "results.parquet", "application/vnd.apache.parquet"
#: Types of those columns that hold no text.
_TYPES = {
    "run": "int64",
    "value": "float64",
    "hard": "bool",
    "cost": "float64",
    "tokens_in": "Int64",
    "tokens_out": "Int64",
    "latency": "float64",
    "at": "float64",
}
#: Of an arm, so many systems are named.
_SYSTEMS = 20


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table of rows.

    :param rows: of :data:`COLUMNS`, of which those that may be empty may be absent, and of attributes of items.
    :return: the table, in the order of its key, so that the same rows are the same table in whatever order they came.
    :raises InvalidInput: as :func:`checked`.
    """
    import pandas as pd

    given = list(rows)
    frame = pd.DataFrame(
        given, columns=list(dict.fromkeys([*COLUMNS, *(name for row in given for name in row)]))
    )
    frame["hard"] = frame["hard"].fillna(False)
    for name, empty in COLUMNS.items():
        if name in _TYPES:
            if empty or not frame[name].isna().any():
                frame[name] = frame[name].astype(_TYPES[name])
        else:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return checked(frame).sort_values(list(KEY), ignore_index=True)


def answered(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Say of each arm when its answers were given, and by what.

    :param frame: a table.
    :return: arm -> ``{oldest, newest, systems}``; times in ISO 8601, empty where that of any answer is not known.
    """
    found = {}
    for arm, rows in frame.groupby("arm"):
        at = rows["at"][rows["at"].notna() | rows["output_digest"].notna()]
        known = len(at) and at.notna().all()
        ends = [datetime.fromtimestamp(one, timezone.utc) for one in (at.min(), at.max())] if known else []
        oldest, newest = [one.isoformat(timespec="seconds") for one in ends] or ["", ""]
        systems = sorted(rows["system"].dropna().unique())[:_SYSTEMS]
        found[str(arm)] = {"oldest": oldest, "newest": newest, "systems": systems}
    return found


def to_bytes(frame: pd.DataFrame) -> bytes:
    """Return the table as the bytes of a Parquet file.

    :param frame: as :func:`table` or :func:`checked` returned it.
    :return: the bytes, the same for the same table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [name for name in frame.columns if frame[name].dtype == object]
    named = {name: pa.array(frame[name], pa.string()) for name in texts if name in COLUMNS}
    arrow = pa.Table.from_pandas(frame.drop(columns=list(named)), preserve_index=False)
    for name, column in named.items():
        arrow = arrow.append_column(name, column)
    file = io.BytesIO()
    pq.write_table(arrow.select(list(frame.columns)).replace_schema_metadata(None), file)
    return file.getvalue()


def of_bytes(content: bytes, name: str = FILE) -> pd.DataFrame:
    """Read what :func:`to_bytes` has written, or another tool in this form.

    :param content: of a Parquet file.
    :param name: of the file, for errors.
    :return: the table, checked.
    :raises InvalidInput: if it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{name} is damaged or no Parquet file ({type(error).__name__}, {len(content):,} bytes)",
            field="results",
            value=name,
            remedy="Pass the file that EvaluateOperator or one of the imports has kept.",
        ) from error
    absent = [column for column in COLUMNS if rows and column not in rows[0]]
    if absent:
        raise InvalidInput(
            f"the results in {name} have no column {', '.join(map(repr, absent))}",
            field="results",
            value=absent,
            remedy="Pass the table that EvaluateOperator or one of the imports has made.",
        )
    return table(rows)


def load(uri: str, sha256: str = "") -> pd.DataFrame:
    """Read a table from where it is kept.

    :param uri: of the Parquet file, as an evaluation returns it in ``results``.
    :param sha256: that its bytes must have, as an evaluation returns it in ``results_sha256``; empty for any.
    :return: the table, checked.
    :raises NotFound: if there is no such file.
    :raises InvalidInput: if it is another one, or no table.
    """
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(uri)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there are no results at {uri}", remedy="Has the evaluation run?") from error
    if sha256 and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InvalidInput(
            f"the results at {uri} are not those that were recorded: {found[:12]} in place of {sha256[:12]}",
            field="results",
            value=uri,
            remedy="Evaluate again: somebody has changed the file.",
        )
    return of_bytes(content, uri)


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table, if it is one.

    :param frame: a row for each (item, arm, run, scorer). Further columns are attributes of items, by which slices are made.
    :return: the same.
    :raises InvalidInput: for a column that is missing or empty where it may not be, and for a score that is there twice.
    """
    for name, empty in COLUMNS.items():
        if name not in frame.columns:
            raise InvalidInput(
                f"the results have no column {name!r}",
                field="results",
                value=name,
                remedy="Pass the table that EvaluateOperator or one of the imports has made.",
            )
        if not empty and frame[name].isna().any():
            raise InvalidInput(
                f"column {name!r} of the results is empty in {int(frame[name].isna().sum())} rows",
                field="results",
                value=name,
                remedy="Name the item, arm, run and scorer of each score.",
            )
    key = list(KEY)
    if (twice := frame.duplicated(key)).any():
        first = frame.loc[twice, key].iloc[0].to_dict()
        raise InvalidInput(
            f"the results hold a score twice: {first}",
            field="results",
            value=str(first),
            remedy="Give repeated samples of an item numbers in the column 'run'.",
        )
    return frame
