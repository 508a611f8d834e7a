"""Thumbs that come late, joined to the calls that they are about; and what the guard sees of both prompts.

Thumbs are labels: they come days later, twice, are changed or taken back. So they are joined as labels are
(:mod:`~airflow_pipeops.models.labels.joining`), with all that does not join counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.masking import identifier
from airflow_pipeops.llm.production import measures
from airflow_pipeops.llm.production.evidence import Block
from airflow_pipeops.llm.production.guard import PromptPolicy, Seen
from airflow_pipeops.models.labels.joining import Columns, Counts, join

if TYPE_CHECKING:
    import pandas as pd

_DOWN = {"down": 1, "-1": 1, "0": 1, "false": 1, "bad": 1, "up": 0, "1": 0, "true": 0, "good": 0}
_WEEK = timedelta(days=7)
#: A share of the traffic that is as far from what was declared as this has another reason than chance.
_UNLIKELY = 1e-4


@dataclass(frozen=True)
class Rate(JsonForm):
    """How often a prompt got a thumb down.

    :param prompt_digest: of the prompt.
    :param conversations: with it, whose thumbs are due.
    :param rated: of these, those with a thumb.
    :param down: of these, those with a thumb down.
    :param rate: thumbs down in a conversation, one without a thumb counting as none.
    :param low: of its exact interval of 95 %.
    :param high: of its interval.
    """

    prompt_digest: str
    conversations: int
    rated: int
    down: int
    rate: float
    low: float
    high: float


def conversations(
    calls: pd.DataFrame,
    measured: pd.DataFrame,
    thumbs: pd.DataFrame,
    *,
    key: str = "request_id",
    at: str = "at",
    thumb: str = "thumb",
) -> tuple[pd.DataFrame, Counts]:
    """Join thumbs to calls, and boil both down to conversations.

    :param calls: as they are kept.
    :param measured: of them, row by row.
    :param thumbs: with the id of a request, when it was given, and the thumb: ``up`` or ``down``, 1 or 0, and null where it
        was taken back. A whole number above 1 is no thumb.
    :param key: column of the request's id, in ``thumbs``.
    :param at: column of the time.
    :param thumb: column of the thumb.
    :return: a row for each conversation and prompt, with ``conversation, prompt_digest, start, end, calls, hard, rated,
        down``; and what became of the thumbs.
    :raises InvalidInput: for what is no thumb, and what :func:`~airflow_pipeops.models.labels.joining.join` refuses.
    """
    known = calls.assign(
        conversation=calls["conversation"].where(calls["conversation"] != "", calls["request_id"]),
        hard=measures.hard(measured).to_numpy().astype(int),
    )
    known = known[known["prompt_digest"] != ""]
    given = thumbs.rename(columns={key: "request_id", at: "at", thumb: "thumb"})
    if "request_id" in given and "thumb" in given:
        given = given.assign(
            request_id=given["request_id"].map(_named), thumb=given["thumb"].map(_thumb).astype(object)
        )
    joined = join(known, given, Columns(("request_id",), "at", "prompt_digest", "hard", "thumb"))
    rows = known.merge(
        joined.frame.rename(columns={"sha256": "prompt_digest"})[["request_id", "prompt_digest", "label"]],
        on=["request_id", "prompt_digest"],
    )
    rows["rated"] = rows["label"].notna()
    rows["down"] = rows["label"] == 1
    found = rows.groupby(["conversation", "prompt_digest"], sort=True, as_index=False).agg(
        start=("at", "min"),
        end=("at", "max"),
        calls=("at", "size"),
        hard=("hard", "max"),
        rated=("rated", "max"),
        down=("down", "max"),
    )
    return found.sort_values(["start", "conversation", "prompt_digest"], ignore_index=True), joined.counts


def rates(found: pd.DataFrame, delay: timedelta, now: datetime) -> list[Rate]:
    """Measure each prompt by the conversations whose thumbs are due.

    :param found: of :func:`conversations`.
    :param delay: after which the thumbs of a conversation should be there.
    :param now: with a zone.
    :return: the rates, by digest.
    """
    from airflow_pipeops.models.performance.intervals import proportion

    due = found[found["end"] + delay <= now]
    told = []
    for digest, rows in due.groupby("prompt_digest", sort=True):
        down, count = int(rows["down"].sum()), len(rows)
        low, high = proportion(down, count, 0.95)
        told.append(Rate(str(digest), count, int(rows["rated"].sum()), down, down / count, low, high))
    return told


def look(found: pd.DataFrame, new: str, before: str, policy: PromptPolicy, now: datetime) -> Seen:
    """Hold the conversations of two prompts against each other.

    Who is held against whom follows from times alone, and never from what became of a conversation.

    :param found: of :func:`conversations`.
    :param new: digest of the new prompt.
    :param before: of the one before it.
    :param policy: how they are compared.
    :param now: with a zone.
    :return: what is known.
    """
    due = found[(found["end"] + policy.delay <= now) & found["prompt_digest"].isin([new, before])]
    ours, theirs = due[due["prompt_digest"] == new], due[due["prompt_digest"] == before]
    in_both = set(ours["conversation"]) & set(theirs["conversation"])
    unfit = ""
    if policy.design == "shadow":
        pairs = _shadowed(ours, theirs)
    else:
        ours, theirs = (side[~side["conversation"].isin(in_both)] for side in (ours, theirs))
        if policy.design == "split":
            unfit = _unfit(ours, theirs, policy)
        pairs = [] if unfit else _near(ours, theirs, policy)
    if not unfit and not pairs:
        unfit = f"no conversation of {new[:12]} has any of {before[:12]} to be held against"
    rated = tuple(float(side["rated"].mean()) if len(side) else 0.0 for side in (ours, theirs))
    missing = ""
    if policy.min_rated and min(rated) < policy.min_rated and len(ours):
        missing = f"{rated[0]:.1%} and {rated[1]:.1%} of the conversations have one, and {policy.min_rated:.1%} should"
    return Seen(
        len(ours),
        len(theirs),
        tuple(_block(ours, theirs, one, "down") for one in pairs),
        tuple(_block(ours, theirs, one, "hard") for one in pairs),
        int(ours["hard"].sum()),
        tuple(float(side["down"].mean()) if len(side) else 0.0 for side in (ours, theirs)),
        rated,
        missing,
        unfit,
    )


#: Place of a conversation with the new prompt, and the places of those that it is held against.
_Pair = tuple[int, list[int]]


def _shadowed(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[_Pair]:
    there = {name: place for place, name in enumerate(theirs["conversation"])}
    return [(place, [there[name]]) for place, name in enumerate(ours["conversation"]) if name in there]


def _near(ours: pd.DataFrame, theirs: pd.DataFrame, policy: PromptPolicy) -> list[_Pair]:
    """Give each conversation the nearest ones that began before it, or as long before it a number of weeks earlier."""
    near, week = policy.near.total_seconds(), _WEEK.total_seconds()
    starts = [each.timestamp() for each in theirs["start"]]
    begun = [each.timestamp() for each in ours["start"]]
    first = min(begun, default=0.0)
    found: list[_Pair] = []
    goals = []
    for place, start in enumerate(begun):
        back = week * (math.floor((start - first) / week) + 1) if policy.design == "before" else 0.0
        goals.append((start - back, place))
    free: list[int] = []
    coming = 0
    for goal, place in sorted(goals):
        while coming < len(starts) and starts[coming] <= goal:
            free.append(coming)
            coming += 1
        taken: list[int] = []
        while free and len(taken) < policy.controls and starts[free[-1]] >= goal - near:
            taken.append(free.pop())
        if taken:
            found.append((place, taken))
    return found


def _unfit(ours: pd.DataFrame, theirs: pd.DataFrame, policy: PromptPolicy) -> str:
    """Say why a split is none: both prompts must have run at once, and shared the conversations as was declared."""
    from scipy.stats import binomtest

    if ours.empty or theirs.empty:
        return ""
    first, last = (
        max(ours["start"].min(), theirs["start"].min()),
        min(ours["start"].max(), theirs["start"].max()),
    )
    if first >= last:
        return "the two prompts did not run at the same time, so that no split compares them"
    counts = [int(((side["start"] >= first) & (side["start"] <= last)).sum()) for side in (ours, theirs)]
    if binomtest(counts[0], sum(counts), policy.share).pvalue < _UNLIKELY:
        return (
            f"the new prompt had {counts[0]:,} of {sum(counts):,} conversations, where {policy.share:.0%} were to be "
            "sent to it, so that they were not sent by chance alone"
        )
    return ""


def _block(ours: pd.DataFrame, theirs: pd.DataFrame, pair: _Pair, column: str) -> Block:
    place, others = pair
    new = bool(ours[column].iat[place])
    return Block(new, new + sum(bool(theirs[column].iat[other]) for other in others), 1 + len(others))


def _named(value: Any) -> Any:
    return identifier(value) if isinstance(value, str) else value


def _thumb(value: Any) -> int | None:
    """Read a thumb: 1 is down."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    said = str(value).strip().lower().removesuffix(".0")
    if said not in _DOWN:
        raise InvalidInput(
            f"{str(value)[:40]!r} is no thumb",
            field="thumb",
            value=str(value)[:40],
            remedy="Write up or down, or 1 and 0; null takes one back.",
        )
    return _DOWN[said]
