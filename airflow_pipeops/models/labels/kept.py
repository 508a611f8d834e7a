"""Predictions as this package keeps them: samples of what an endpoint was asked, and scores of partitions.

Both are found by their manifests, and of each file only the columns that are joined are read: a release and the model before
it may read other features, and their files then have other columns.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import quote

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.documents import map_, parsed, text, time_of
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.models import samples, storage

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.labels.joining import Columns

_KEYS = {"samples": {"model", "version", "since"}, "scores": {"storage_conn_id", "since"}}
_FORMAT = "pipeops-scores/v1"
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


def is_kept(given: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether predictions are named as this package keeps them."""
    return isinstance(given, Mapping) and bool(set(_KEYS) & set(given))


#: Why a row has no score, beside what a server says it has lost: the model gave none.
NO_SCORE = "no_score"


def predictions_of(
    given: Mapping[str, Any], columns: Columns, root_of: Callable[[str], Any]
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Read predictions that were kept; rows without a score are left out, and counted.

    :param given: ``{"samples": <SAMPLE_URI>, "model": ...}``, with a ``version`` where only one is wanted; or
        ``{"scores": <name>}``, with a ``storage_conn_id`` where they are kept elsewhere. With ``since``, only what was
        predicted from then on is read.
    :param columns: what they are called.
    :param root_of: returns the root of a storage connection; that of an empty name is where scores are by default.
    :return: a row for each key and model; and of each model, by digest, why -> how many rows it has no score of.
    :raises InvalidInput: for what is named otherwise, or a missing column.
    :raises NotFound: if there are none.
    """
    import pandas as pd

    kind, value, more = _named(given)
    since = _since(more.get("since"))
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    if kind == "samples":
        parts = list(samples.parts(value, str(more["model"]), more.get("version"), since=since))
        for part in parts:
            lost[part.sha256].update(part.lost_rows)
        where, found = f"samples of {more['model']} below {value}", _sampled(parts, columns, since)
    else:
        root = root_of(str(more.get("storage_conn_id") or ""))
        where, found = f"scores of {value} below {storage.uri_of(root)}", _scored(root, value, columns, since)
    frames = list(found)
    if not frames:
        raise NotFound(
            f"there are no {where}{f' since {since}' if since else ''}", remedy="Check where they are kept."
        )
    rows = pd.concat(frames, ignore_index=True)
    for sha256, count in rows.loc[rows[columns.score].isna(), columns.sha256].value_counts().items():
        lost[str(sha256)][NO_SCORE] += int(count)
    kept = rows.dropna(subset=[columns.score]).reset_index(drop=True)
    return kept, {sha256: dict(reasons) for sha256, reasons in lost.items() if reasons}


def _named(given: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    more = dict(given)
    kind = next(kind for kind in _KEYS if kind in given)
    value = more.pop(kind)
    unknown = sorted(set(more) - _KEYS[kind])
    if unknown or not value or (kind == "samples" and not more.get("model")):
        raise InvalidInput(
            f"predictions have the unknown {', '.join(unknown)}" if unknown else "predictions name no model",
            field="predictions",
            value=sorted(given),
            remedy='Give {"samples": "s3://samples", "model": "delays"} or {"scores": "delays"}, and since.',
        )
    return kind, str(value), more


def _since(given: Any) -> datetime | None:
    found = time_of(given)
    if given and found is None:
        raise InvalidInput(
            f"since {given!r} is no time",
            field="predictions",
            value=given,
            remedy="Write it as 2026-01-31T10:00:00Z.",
        )
    return found


def _sampled(
    parts: Iterable[samples.Part], columns: Columns, since: datetime | None
) -> Iterator[pd.DataFrame]:
    for part in parts:
        rows = samples.read(part, columns.predicted)
        has_columns(f"sample {part.file} of version {part.version}", rows.column_names, columns.predicted)
        frame = rows.to_pandas()
        yield frame if since is None else frame[frame[columns.at] >= since]


def _scored(root: Any, name: str, columns: Columns, since: datetime | None) -> Iterator[pd.DataFrame]:
    """Read of each partition and model the scores that readers saw last; of a shadow those that were made last."""
    folder = root / "scores" / quote(name, safe="-_.:")
    shown: dict[str, datetime] = {}
    for path in folder.glob("current/partition=*/*.json"):
        entry = _document(path)
        at = text(entry.get("manifest"))
        shown[at] = max(shown.get(at, _LONG_AGO), time_of(entry.get("at")) or _LONG_AGO)
    newest: dict[tuple[str, str], tuple[bool, datetime, str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("model=*/partition=*/key=*/_manifest.json"), key=str):
        manifest, uri = _document(path), storage.uri_of(path)
        made = time_of(manifest.get("finished"))
        if manifest.get("passed") is not True or made is None or (since and made < since):
            continue
        seen = shown.get("/".join(uri.split("/")[-4:]))
        of = text(map_(manifest.get("model")).get("sha256")), text(manifest.get("partition"))
        # What nobody has seen, such as what a run that was killed has left, comes after all that somebody has.
        found = seen is not None, seen or made, uri, manifest
        newest[of] = max(newest.get(of, found), found, key=lambda one: one[:3])
    for (sha256, _), (_, _, uri, manifest) in newest.items():
        yield from _of_manifest(uri, manifest, sha256, columns)


def _of_manifest(
    uri: str, manifest: Mapping[str, Any], sha256: str, columns: Columns
) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    there = [str(one[0]) for one in manifest.get("columns") or ()]
    ours = {columns.sha256: sha256} | (
        {} if columns.at in there else {columns.at: time_of(manifest["finished"])}
    )
    wanted = [one for one in columns.predicted if one not in ours]
    has_columns(f"scores of partition {manifest.get('partition')}", there, wanted)
    for part in manifest.get("parts") or ():
        content = storage.get(f"{uri.rpartition('/')[0]}/{part['name']}", part["sha256"])
        yield pq.read_table(io.BytesIO(content), columns=wanted).to_pandas().assign(**ours)


def _document(path: Any) -> dict[str, Any]:
    uri = storage.uri_of(path)
    try:
        found = map_(parsed(storage.get(uri)))
        if found.get("format") != _FORMAT:
            raise ValueError("another format")
    except ValueError as error:
        raise storage.bad_manifest(uri, str(error)) from error
    return dict(found)
