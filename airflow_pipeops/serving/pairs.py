"""Rows with the scores of two models that were asked the same, and what is left out of their comparison."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.joining import AT, LABEL, LABELLED_AT, SCORE, SHA256, key_of
from airflow_pipeops.models.labels.kept import NO_SCORE

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the two scores.
CHAMPION, CHALLENGER = "champion_score", "challenger_score"
#: What is said of a row, by whichever of the two has scored it.
_SAID = (AT, LABEL, LABELLED_AT)
#: Why rows have no score of a challenger that was asked for one.
REFUSED = frozenset({"shadow_failed", NO_SCORE})


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

    def invalid(self, rows: int, most: float, why: Collection[str] | None = None) -> str:
        """Say why what is left cannot be compared: whoever leaves out the hard rows looks good on the others.

        :param rows: that have a label.
        :param most: share of them that may have no score.
        :param why: reasons for which rows lack the challenger's score; ``None`` where nobody knows.
        :return: a reason; empty where there is none.
        """
        if self.challenger > self.champion and (why is None or REFUSED & set(why)):
            return f"{self.told(rows)}, and one that leaves out hard rows looks good on the others"
        if self.rows > most * rows:
            return f"{self.told(rows)}, and {most:.2%} may"
        return ""


def of_joined(frame: pd.DataFrame, champion: str, challenger: str) -> pd.DataFrame:
    """Put the scores of two models beside each other, for the time in which both were asked.

    :param frame: what :func:`~airflow_pipeops.models.labels.joining.join` returned.
    :param champion: digest of the model that answered.
    :param challenger: digest of its shadow.
    :return: the rows from the later first to the earlier last prediction of the two, with both scores, null where there is
        none.
    :raises InvalidInput: where one of them has predicted nothing, or not in the time of the other.
    """
    key = key_of(frame)
    old, new = (frame[frame[SHA256] == sha256].drop(columns=SHA256) for sha256 in (champion, challenger))
    start, end = max(old[AT].min(), new[AT].min()), min(old[AT].max(), new[AT].max())
    old, new = old[old[AT].between(start, end)], new[new[AT].between(start, end)]
    if old.empty or new.empty:
        raise InvalidInput(
            f"there is no time in which both {champion[:12]} and its shadow {challenger[:12]} have predicted",
            field="labelled",
            value=challenger,
            remedy="Does the challenger run as a shadow, and are its samples among those that labels were joined to?",
        )
    both = old.rename(columns={SCORE: CHAMPION}).merge(
        new.rename(columns={SCORE: CHALLENGER}),
        on=key,
        how="outer",
        suffixes=("", "_"),
        validate="one_to_one",
    )
    return both.assign(**{name: both[name].fillna(both[f"{name}_"]) for name in _SAID})
