"""A dataset, and files of other tools, read from where they are kept."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.tables import content_of
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.calls import is_calls, items_of
from airflow_pipeops.llm.datasets.dataset import Dataset, bad_row, of_rows

#: Bytes of one item, and of a file: what is larger is no evaluation set, but a mistaken URI.
ITEM_BYTES, FILE_BYTES = 1024**2, 512 * 1024**2


def read(uri: str, *, storage_conn_id: str | None = None) -> Dataset:
    """Read a dataset.

    :param uri: of a file that ends in ``.jsonl`` or ``.parquet``; a table of sampled calls is known by its columns.
    :param storage_conn_id: connection of type ``pipeops_storage``; a relative name is below its root.
    :return: the dataset.
    :raises NotFound: if there is no such file.
    :raises InvalidInput: naming the line and what is wrong with it.
    """
    content = content_of(uri, "dataset", storage_conn_id, most=FILE_BYTES)
    rows = _rows(content, uri)
    return of_rows(items_of(rows) if rows and is_calls(rows[0]) else rows, uri.rpartition("/")[2])


def _rows(content: bytes, uri: str) -> list[Mapping[str, Any]]:
    if uri.endswith((".parquet", ".pq")):
        return _of_parquet(content, uri)
    if not uri.endswith((".jsonl", ".ndjson")):
        raise InvalidInput(
            f"{uri} is of no known format", field="dataset", value=uri, remedy="Use .jsonl or .parquet."
        )
    rows: list[Mapping[str, Any]] = []
    for place, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = parsed(line.decode(), ITEM_BYTES)
        except ValueError as error:
            raise bad_row(
                place, "is no JSON, or too long", "Write one object on each line, in UTF-8."
            ) from error
        if not isinstance(row, Mapping):
            raise bad_row(place, "is no object", "Write one object on each line.")
        rows.append(row)
    return rows


def _of_parquet(content: bytes, uri: str) -> list[Mapping[str, Any]]:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{uri} is damaged or no Parquet file", field="dataset", value=uri, remedy="Write it again."
        ) from error
    plain: list[Mapping[str, Any]] = json.loads(json.dumps(rows, default=str))
    return plain
