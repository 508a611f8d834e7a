"""The file form of sampled requests: Parquet parts below ``<root>/<model>/<version>/<day>/``, each with a manifest.

A part is whole once its manifest is there, which is written last and names the digest of the part. What a reader needs of
it stands in ``docs/serving.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import storage

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "pipeops-samples/v1"
#: The columns that stand before those of the model.
OWN = ("request_id", "row", "at", "model", "version", "sha256", "role")


@dataclass(frozen=True)
class Scored:
    """The rows of one request, with what a model gave for them.

    :param request_id: which the answer carried too.
    :param at: when the request came, in UTC milliseconds since 1970.
    :param columns: the values of each feature that is kept.
    :param outputs: what the model gave, output by output.
    :param rows: how many there are.
    """

    request_id: str
    at: int
    columns: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, Sequence[float]]
    rows: int


@dataclass(frozen=True)
class Part(JsonForm):
    """What a manifest says of its part.

    :param model: name of the model.
    :param version: of it.
    :param sha256: digest of the model's artifact.
    :param role: ``answer`` of what was answered with, ``shadow`` of a challenger that scored the same requests.
    :param file: name of the Parquet file beside the manifest.
    :param file_sha256: digest of its bytes.
    :param rows: in it.
    :param first_at: time of its first request, in UTC milliseconds since 1970.
    :param last_at: of its last.
    :param instance: of the server; each start of one has another.
    :param sequence: number of the part among those of this instance and version.
    :param share: the share of requests that is sampled.
    :param lost_rows: why -> how many rows were lost since the part before.
    :param left_out: features that are not kept, by declaration.
    :param uri: of the folder in which it was found; not in the file.
    """

    model: str
    version: str
    sha256: str
    role: str
    file: str
    file_sha256: str
    rows: int
    first_at: int
    last_at: int
    instance: str
    sequence: int
    share: float = 1.0
    lost_rows: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    uri: str = ""


def refuse_own_names(names: Sequence[str], where: str) -> None:
    """Refuse features and outputs that are called like a column that every part has.

    :raises InvalidInput: naming them.
    """
    both = [name for name in names if name in OWN] + [name for name in set(names) if names.count(name) > 1]
    if both:
        raise InvalidInput(
            f"samples have a column of their own, or two, of the name {', '.join(both)}",
            field=where,
            value=both,
            remedy="Leave the feature out of the samples, or train the model on one of another name.",
        )


def schema(features: Mapping[str, str], outputs: Sequence[str]) -> pa.Schema:
    """Return the columns of a part, for the features that are kept.

    :param features: datatype of the Open Inference Protocol by name.
    :param outputs: the names of the model's outputs.
    :return: the schema; a number that the request did not have is null.
    """
    import pyarrow as pa

    types = {"INT64": pa.int64(), "FP64": pa.float64(), "BYTES": pa.string()}
    own = dict.fromkeys(OWN, pa.string()) | {"row": pa.int32(), "at": pa.timestamp("ms", tz="UTC")}
    kept = {name: types[kind] for name, kind in features.items()}
    return pa.schema({**own, **kept, **dict.fromkeys(outputs, pa.float64())})


def table(requests: Sequence[Scored], of: Mapping[str, str], columns: pa.Schema) -> pa.Table:
    """Make the table of a part.

    :param of: the texts that all of its rows share: model, version, sha256 and role.
    :param columns: what :func:`schema` gave.
    :return: the rows of the requests, in their order.
    """
    import pyarrow as pa

    rows = sum(one.rows for one in requests)
    own: dict[str, Sequence[Any]] = {
        "request_id": [one.request_id for one in requests for _ in range(one.rows)],
        "row": [row for one in requests for row in range(one.rows)],
        "at": [one.at for one in requests for _ in range(one.rows)],
        **{name: [value] * rows for name, value in of.items()},
    }

    def column(kind: pa.Field) -> Any:
        if kind.name in own:
            return pa.array(own[kind.name], kind.type)
        values = [
            value
            for one in requests
            for value in (one.columns[kind.name] if kind.name in one.columns else one.outputs[kind.name])
        ]
        return pa.array(values, kind.type, from_pandas=True)  # a NaN is a null

    return pa.table([column(kind) for kind in columns], schema=columns)


def write(root: Any, rows: pa.Table, part: Part) -> Part:
    """Write a part, and then its manifest.

    :param root: folder or prefix of all samples.
    :param part: without what follows from the rows.
    :return: the part as it was written.
    """
    import io

    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    content = buffer.getvalue()
    folder = root / part.model / part.version / _day(part.first_at)
    stem = f"{part.first_at}-{part.instance}-{part.role}-{part.sequence}"
    whole = part.to_json() | {
        "format": FORMAT,
        "file": f"{stem}.parquet",
        "file_sha256": storage.sha256(content),
        "rows": rows.num_rows,
    }
    del whole["uri"]
    storage.put(folder / whole["file"], content)
    storage.put(folder / f"{stem}.json", json.dumps(whole, sort_keys=True, indent=1).encode())
    return Part.from_json({**whole, "uri": storage.uri_of(folder)})


def parts(
    root_uri: str,
    model: str,
    version: str | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Part]:
    """Find the parts of a model, in the order of their first request.

    :param root_uri: of all samples.
    :param version: all versions where none is given.
    :param since: requests from this time on.
    :param until: requests before this time.
    :yield: the parts that may hold such requests.
    :raises BadResponse: for a manifest that makes no sense.
    """
    first, last = _milliseconds(since), _milliseconds(until)
    found = []
    folder = storage.at(root_uri) / model
    for named in _folders(folder) if version is None else [folder / version]:
        for day in _folders(named):
            # A part lies in the day of its first request; the requests of a day before may reach into this one.
            if last is not None and day.name > _day(last):
                continue
            found += [_part(path) for path in day.iterdir() if path.name.endswith(".json")]
    for part in sorted(found, key=lambda one: (one.first_at, one.instance, one.role, one.sequence)):
        if (first is None or part.last_at >= first) and (last is None or part.first_at < last):
            yield part


def read(part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of a part.

    :param columns: those to read, as far as they are there; by default all.
    :return: its rows; see :func:`schema`.
    :raises NotFound: if the file is gone.
    :raises InvalidInput: if its bytes are others than the manifest says.
    """
    import io

    import pyarrow.parquet as pq

    content = storage.get(f"{part.uri}/{part.file}", part.file_sha256)
    return pq.read_table(io.BytesIO(content), columns=None if columns is None else list(columns))


def _part(path: Any) -> Part:
    uri = storage.uri_of(path)
    try:
        found = parsed(storage.get(uri))
        if text(found.get("format")) != FORMAT:
            raise ValueError("another format")
        return Part.from_json({**found, "uri": uri.rpartition("/")[0]})
    except (ValueError, TypeError, AttributeError) as error:
        raise storage.bad_manifest(uri, str(error)) from error


def _folders(folder: Any) -> list[Any]:
    return sorted((one for one in folder.iterdir() if one.is_dir()), key=str) if folder.exists() else []


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).strftime("%Y-%m-%d")


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1000)
