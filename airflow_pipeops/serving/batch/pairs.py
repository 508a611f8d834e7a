"""The rows that readers saw scores of, each with the score that a challenger gave as a shadow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.pairs import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.artifact import Manifest as Model
    from airflow_pipeops.serving.batch.manifest import Manifest


def read(
    given: Sequence[Mapping[str, Any]],
    challenger: str,
    key: Sequence[str],
    columns: Sequence[str],
    output: str,
) -> tuple[pd.DataFrame, str, list[Model]]:
    """Put the scores of both models beside each other.

    :param given: what :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator` returned for each partition.
    :param challenger: digest of the challenger.
    :param key: columns that name a row.
    :param columns: further ones that were carried.
    :param output: the column of the models that is compared.
    :return: the rows that readers saw, with both scores, null where there is none, and the time by which each model learned,
        where it was carried; the digest of what was scored; and what both models say of themselves.
    :raises InvalidInput: for several champions, a partition that is there twice, or that the challenger has no scores of
        that held its contract, a column that is not there, or a key that names several rows.
    """
    import pandas as pd

    from airflow_pipeops.models.artifact import manifest_of

    champions = {one.get("sha256") for one in given}
    if len(champions) != 1:
        raise InvalidInput(
            "the partitions were scored by several champions",
            field="scores",
            value=sorted(str(one)[:12] for one in champions),
            remedy="Compare with one at a time.",
        )
    named = [one.get("partition") for one in given]
    if twice := {one for one, times in Counter(named).items() if times > 1}:
        raise InvalidInput(
            f"partition {min(map(str, twice))} is given twice, and its rows would count twice",
            field="scores",
            value=sorted(map(str, twice)),
            remedy="Give the newest result of each partition.",
        )
    found, digests = [], []
    models: list[Model] = []
    for one in given:
        shadow: Mapping[str, Any] = next(
            (each for each in one.get("shadows") or () if each.get("sha256") == challenger), {}
        )
        manifest = _manifest(shadow["manifest"]) if shadow.get("manifest") else None
        if manifest is None or not manifest.passed:
            what = "no scores" if manifest is None else "scores that do not hold the contract"
            raise InvalidInput(
                f"the challenger has {what} of partition {one.get('partition')}",
                field="challenger_sha256",
                value=challenger,
                remedy=f"It said: {shadow.get('reason') or 'it was no shadow of that run'}",
            )
        released = _manifest(str(one["manifest"]))
        models = models or [
            manifest_of(of.artifact_uri, of.sha256) for of in (manifest.model, released.model)
        ]
        there = {name for name, _ in released.columns}
        times = [model.time_column for model in models if model.time_column in there]
        wanted = dict.fromkeys([*key, *columns, output, *filter(None, times)])
        shown = _rows(str(one["manifest"]), released, list(wanted))
        beside = _rows(str(shadow["manifest"]), manifest, [*key, output])
        if shown.duplicated(list(key)).any():
            raise InvalidInput(
                f"{', '.join(key)} names more than one row of partition {one.get('partition')}",
                field="key",
                value=list(key),
                remedy="Name the key that the partition was scored by.",
            )
        shown = shown.rename(columns={output: CHAMPION})
        beside = beside.rename(columns={output: CHALLENGER})
        found.append(shown.merge(beside, on=list(key), how="left", validate="one_to_one"))
        digests.append(f"{one.get('partition')}={released.input_digest}")
    digest = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    return pd.concat(found, ignore_index=True), digest, models


def _manifest(uri: str) -> Manifest:
    from airflow_pipeops.models import storage
    from airflow_pipeops.serving.batch.manifest import Manifest

    return Manifest.from_bytes(storage.get(uri), uri)


def _rows(uri: str, manifest: Manifest, columns: Sequence[str]) -> pd.DataFrame:
    import io

    import pandas as pd

    from airflow_pipeops.models import storage

    has_columns("scores", [name for name, _ in manifest.columns], columns)
    folder = uri.rpartition("/")[0]
    parts = [storage.get(f"{folder}/{part.name}", part.sha256) for part in manifest.parts]
    return pd.concat([pd.read_parquet(io.BytesIO(part), columns=list(columns)) for part in parts])
