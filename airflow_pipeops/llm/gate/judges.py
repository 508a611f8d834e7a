"""Is a judge that is a model any good? Its agreement with people, and with itself. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.models.paired.gain import MIN_UNITS
from airflow_pipeops.models.performance.intervals import proportion

if TYPE_CHECKING:
    import pandas as pd

#: Of both ends together.
_CONFIDENCE = 0.95
#: What labels are, by column.
_LABEL: Mapping[str, type] = {"item": str, "arm": str, "run": int, "scorer": str, "value": float}


@dataclass(frozen=True)
class Agreement(JsonForm):
    """How far a judge and people say the same.

    :param labels: answers that both have scored.
    :param agreed: share of them on which both say the same.
    :param kappa: Cohen's: agreement beyond chance; 0 for whoever always says the same.
    :param interval: of kappa, at 95 %.
    :param constant: agreement of whoever always says what people say most often.
    :param beats_constant: chance that a judge who is no better than that agrees so often (exact McNemar, one side).
    """

    labels: int
    agreed: float
    kappa: float
    interval: tuple[float, float]
    constant: float
    beats_constant: float


@dataclass(frozen=True)
class Flips(JsonForm):
    """How often a judge changes its mind for no reason.

    :param flipped: pairs of scores that differ, and should not.
    :param pairs: of scores of the same thing.
    :param interval: of the share, at 95 %.
    """

    flipped: int
    pairs: int
    interval: tuple[float, float]

    @classmethod
    def of(cls, flipped: int, pairs: int) -> Flips:
        """Return so many of so many, with the exact interval of their share."""
        if not 0 <= flipped <= pairs:
            raise InvalidInput(
                f"{flipped} flips of {pairs} pairs",
                field="flips",
                value=flipped,
                remedy="Give how many pairs have flipped, and of how many.",
            )
        return cls(flipped, pairs, proportion(flipped, pairs, _CONFIDENCE) if pairs else (0.0, 1.0))


@dataclass(frozen=True)
class JudgeMeasured(JsonForm):
    """What is known of a judge.

    :param agreement: with people; ``None`` without their labels.
    :param again: how it scores an equal answer again; ``None`` where it was never asked twice.
    :param positions: how it scores a pair in the other order; ``None`` where it scores no pairs, or nobody tried.
    """

    agreement: Agreement | None = None
    again: Flips | None = None
    positions: Flips | None = None


def agreement(people: Sequence[Any], judge: Sequence[Any]) -> Agreement:
    """Measure the agreement of a judge with people on the same answers.

    The interval of kappa is the wider of that of Fleiss, Cohen and Everitt (Psychological Bulletin 72, 1969), and that of
    the exact interval of the agreement: full agreement on twenty answers is not certain agreement.

    :param people: what they said.
    :param judge: what the judge said of the same answers.
    :return: the agreement.
    :raises InvalidInput: for no answers, or unequal numbers.
    """
    import numpy as np
    from scipy.special import betainc

    n = len(people)
    if not n or n != len(judge):
        raise InvalidInput(
            f"{n} labels of people and {len(judge)} of the judge",
            field="labels",
            value=n,
            remedy="Give what both say of the same answers.",
        )
    names, codes = np.unique(np.concatenate([np.asarray(people), np.asarray(judge)]), return_inverse=True)
    table = np.zeros((len(names), len(names)))
    np.add.at(table, (codes[:n], codes[n:]), 1)
    table /= n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agreed, chance = float(np.trace(table)), float(rows @ columns)
    constant = float(rows.max())
    if chance >= 1:  # both always say the same one thing
        return Agreement(n, agreed, 0.0, (0.0, 1.0), constant, 1.0)
    kappa = (agreed - chance) / (1 - chance)
    each = np.diag(table) * ((1 - chance) - (rows + columns) * (1 - agreed)) ** 2
    apart = (table - np.diag(np.diag(table))) * (columns[:, None] + rows[None, :]) ** 2
    spread = each.sum() + (1 - agreed) ** 2 * apart.sum() - (agreed * chance - 2 * chance + agreed) ** 2
    half = 1.959964 * math.sqrt(max(0.0, float(spread)) / n) / (1 - chance) ** 2
    exact = [(end - chance) / (1 - chance) for end in proportion(round(agreed * n), n, _CONFIDENCE)]
    interval = max(-1.0, min(kappa - half, exact[0])), min(1.0, max(kappa + half, exact[1]))
    usual = rows.argmax()
    right = codes[:n] == codes[n:]
    ours, theirs = int((right & (codes[:n] != usual)).sum()), int((~right & (codes[:n] == usual)).sum())
    return Agreement(
        n,
        agreed,
        kappa,
        interval,
        constant,
        float(betainc(ours, theirs + 1, 0.5)) if ours else 1.0,
    )


def said_by_people(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels in the types of the results, without those that are empty.

    :param labels: ``item``, ``arm``, ``run``, ``scorer`` and ``value``.
    :return: the same.
    :raises InvalidInput: for a column that is not there, or holds something else.
    """
    has_columns("labels", labels.columns, list(_LABEL))
    said = labels[labels["value"].notna()]
    for name, kind in _LABEL.items():
        try:
            said = said.astype({name: kind})
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"column {name!r} of the labels holds something else than {'scores' if kind is float else 'numbers'}",
                field="labels",
                value=name,
                remedy="Give the number of the run, and as value a score on the scale of the scorer.",
            ) from error
    return said


def measured(
    frame: pd.DataFrame, scorer: str, labels: pd.DataFrame | None, positions: tuple[int, int] | None = None
) -> JudgeMeasured:
    """Measure a judge by the table of an evaluation.

    Answers of one digest are one answer: where it was scored in several runs, a pair of scores that differ is a flip. Within
    a run it was judged once, whichever arms have given it.

    :param frame: the table of an evaluation.
    :param scorer: the judge.
    :param labels: what people said, as :func:`said_by_people` returned it.
    :param positions: of a pairwise judge: in how many pairs it has changed its mind with their order, and of how many.
    :return: what is known of it.
    :raises InvalidInput: for two labels of one answer.
    """
    rows = frame[(frame["scorer"] == scorer) & frame["value"].notna()]
    if positions is not None:
        rows = _compared(rows)
    flipped = pairs = 0
    judged = rows[rows["output_digest"].notna()].drop_duplicates(["item", "output_digest", "run"])
    for _, scores in judged.groupby(["item", "output_digest"])["value"]:
        # One pair of each answer: pairs of pairs would count one answer many times.
        if len(scores) > 1:
            pairs += 1
            flipped += int(scores.iloc[0] != scores.iloc[1])
    found = None
    if labels is not None:
        key = ["item", "arm", "run"]
        said = labels[labels["scorer"] == scorer]
        if said.duplicated(key).any():
            raise InvalidInput(
                "an answer has two labels",
                field="labels",
                value=str(said.loc[said.duplicated(key), key].iloc[0].to_dict()),
                remedy="Let the labellers agree on one.",
            )
        same = {name: _LABEL[name] for name in key}
        joined = rows[[*key, "value"]].astype(same).merge(said[[*key, "value"]], on=key)
        if positions is not None:  # what is said of one arm says all of the other
            joined = joined.drop_duplicates(["item", "run"])
        if len(joined):
            found = agreement(joined["value_y"].tolist(), joined["value_x"].astype(float).tolist())
    return JudgeMeasured(
        found, Flips.of(flipped, pairs) if pairs else None, Flips.of(*positions) if positions else None
    )


def _compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of a pairwise judge by the pairs that it has judged: of equal answers it was asked nothing."""
    rows = rows[rows["output_digest"].notna()].sort_values("arm", kind="stable")
    pair = rows.groupby(["item", "run"])["output_digest"]
    different = pair.transform("nunique") > 1
    return rows.assign(output_digest=pair.transform(" ".join))[different]


def unfit(known: JudgeMeasured, policy: GatePolicy) -> str:
    """Say why a judge opens no gate.

    :param known: of it.
    :param policy: how good it must be.
    :return: the reason; empty if it is good enough.
    """
    agrees, again, positions = known.agreement, known.again, known.positions
    if agrees is None or agrees.labels < MIN_UNITS:
        count = agrees.labels if agrees else 0
        return f"its agreement with people is known on {count} answers, at least {MIN_UNITS} must be labelled"
    if agrees.interval[0] < policy.kappa:
        low, high = agrees.interval
        return (
            f"it agrees with people on {agrees.labels} answers by a kappa of {agrees.kappa:.2f} ({low:.2f} to {high:.2f}), "
            f"of which the lower end must be {policy.kappa:g}"
        )
    if agrees.beats_constant > policy.alpha:
        return (
            f"it agrees with people on {agrees.agreed:.0%} of the answers, and who always says the same does on "
            f"{agrees.constant:.0%}"
        )
    if again is None:
        return "nobody knows how it scores an equal answer again; let it score some twice"
    for what, flips, most in (
        ("when asked again", again, policy.flips),
        ("with the order", positions, policy.position_flips),
    ):
        if flips is not None and flips.interval[1] > most:
            return (
                f"it changes its mind {what} in {flips.flipped} of {flips.pairs} pairs, which may be "
                f"{flips.interval[1]:.0%}, and {most:.0%} is the most"
            )
    return ""
