"""The rows that readers saw scores of, each with the score that a challenger gave as a shadow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.serving.batch.manifest import Manifest

#: Columns of the two scores.
CHAMPION, CHALLENGER = "champion_score", "challenger_score"


@dataclass(frozen=True)
class Unscored(JsonForm):
    """Labelled rows that are not compared, since a model gave no score for them.

    :param rows: that one or both gave none for.
    :param champion: that the champion gave none for.
    :param challenger: that the challenger gave none for.
    """

    rows: int
    champion: int
    challenger: int

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Unscored:
        """Count them."""
        old, new = frame[CHAMPION].isna(), frame[CHALLENGER].isna()
        return cls(int((old | new).sum()), int(old.sum()), int(new.sum()))

    def told(self, rows: int) -> str:
        """Say it of so many rows."""
        return (
            f"{self.rows:,} of {rows:,} labelled rows have no score (the challenger gave none for {self.challenger:,}, "
            f"the champion for {self.champion:,})"
        )

    def invalid(self, rows: int, most: float) -> str:
        """Say why what is left cannot be compared: whoever leaves out the hard rows looks good on the others.

        :param rows: that have a label.
        :param most: share of them that may have no score.
        :return: a reason; empty where there is none.
        """
        if self.challenger > self.champion:
            return f"{self.told(rows)}, and one that leaves out hard rows looks good on the others"
        if self.rows > most * rows:
            return f"{self.told(rows)}, and {most:.2%} may"
        return ""


def read(
    given: Sequence[Mapping[str, Any]],
    challenger: str,
    key: Sequence[str],
    columns: Sequence[str],
    output: str,
) -> tuple[pd.DataFrame, str]:
    """Put the scores of both models beside each other.

    :param given: what :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator` returned for each partition.
    :param challenger: digest of the challenger.
    :param key: columns that name a row.
    :param columns: further ones that were carried.
    :param output: the column of the models that is compared.
    :return: the rows that readers saw, with both scores, null where there is none; and the digest of what was scored.
    :raises InvalidInput: for several champions, a partition that the challenger has no scores of that held its contract, a
        column that is not there, or a key that names several rows.
    """
    import pandas as pd

    champions = {one.get("sha256") for one in given}
    if len(champions) != 1:
        raise InvalidInput(
            "the partitions were scored by several champions",
            field="scores",
            value=sorted(str(one)[:12] for one in champions),
            remedy="Compare with one at a time.",
        )
    found, digests = [], []
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
        shown = _rows(str(one["manifest"]), released, list(dict.fromkeys([*key, *columns, output])))
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
    return pd.concat(found, ignore_index=True), hashlib.sha256(
        "\n".join(sorted(digests)).encode()
    ).hexdigest()


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
