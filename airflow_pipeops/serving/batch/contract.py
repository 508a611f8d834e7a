"""What a partition must be before it is scored, and its scores afterwards. Pure: what was measured in, verdicts out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_pipeops.base.arguments import at_least, mapping, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput

Outcome = Literal["passed", "failed", "cannot tell", "noted"]
#: What becomes of data that are not what the model has learned from.
OnSkew = Literal["record", "fail", "ignore"]

#: Families of types that each datatype of a model is read from without a change of value.
FITTING: Mapping[str, tuple[str, ...]] = {
    "INT64": ("integer", "boolean"),
    "FP64": ("number", "integer", "boolean"),
    "BYTES": ("text",),
}
#: Bins of a histogram of scores.
BINS = 20


@dataclass(frozen=True)
class ScoreContract(JsonForm):
    """What is demanded of a partition and of its scores.

    :param rows: least and most rows; ``None`` for no bound.
    :param nulls: column -> share of its values that may be null; a key has none at all.
    :param scores: least and greatest score; by default 0 and 1 for probabilities, and none for numbers.
    :param null_scores: share of the rows that may have no score.
    :param fallbacks: share of the rows that the model may refuse, whose score is that of ``fallback``.
    :param fallback: score of a row that the model refuses, as where a value is null that it cannot do without; by default
        such a row has none.
    :param shift: greatest population stability index of the scores against those of the version's first partition;
        ``None`` where they may move as they like.
    :param on_skew: what becomes of a partition whose features are not distributed as those that the model has learned from:
        ``record`` it, ``fail``, or do not look (``ignore``).
    """

    rows: tuple[int | None, int | None] = (1, None)
    nulls: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float, float] | None = None
    null_scores: float = 0.0
    fallbacks: float = 0.0
    fallback: float | None = None
    shift: float | None = None
    on_skew: OnSkew = "record"

    def __post_init__(self) -> None:
        one_of("on_skew", self.on_skew, ("record", "fail", "ignore"))
        given = mapping("nulls", self.nulls, "Give a share for each column.")
        shares = {f"nulls[{name}]": value for name, value in given.items()}
        for name, value in {**shares, "null_scores": self.null_scores, "fallbacks": self.fallbacks}.items():
            if not (_number(value) and 0 <= value <= 1):
                raise InvalidInput(
                    f"{name} is {value!r}", field=name, value=value, remedy="Give a share from 0 to 1."
                )
        for name, bounds, open_ in (("rows", self.rows, True), ("scores", self.scores, False)):
            if bounds is None and name == "scores":
                continue
            if not _bounds(bounds, open_):
                raise InvalidInput(
                    f"{name} is {bounds!r}",
                    field=name,
                    value=str(bounds),
                    remedy="Give the least and the most.",
                )
        if self.rows[0] is not None:
            at_least("rows", self.rows[0], 0, f"rows is {self.rows!r}", "Give the least and the most.")
        demand_types(self)
        if self.fallback is not None and not math.isfinite(self.fallback):
            raise InvalidInput(
                f"fallback is {self.fallback!r}",
                field="fallback",
                value=str(self.fallback),
                remedy="Give a score, or none.",
            )
        if self.shift is not None and not (math.isfinite(self.shift) and self.shift > 0):
            raise InvalidInput(
                f"shift is {self.shift!r}", field="shift", value=self.shift, remedy="For example 0.25."
            )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bounds(value: Any, open_: bool) -> bool:
    """Tell whether this is the least and the most, of which either may be left open."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    known = [one for one in value if not (open_ and one is None)]
    return all(map(_number, known)) and known == sorted(known) and not any(map(math.isnan, known))


@dataclass(frozen=True)
class Check(JsonForm):
    """One verdict.

    :param name: what was looked at.
    :param outcome: ``passed``, ``failed``, ``cannot tell`` (which opens no gate), or ``noted`` (nobody asked for more).
    :param reason: one sentence; empty where it passed.
    """

    name: str
    outcome: Outcome
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it lets the partition pass."""
        return self.outcome in ("passed", "noted")


def passed(checks: Sequence[Check]) -> bool:
    """Tell whether all checks let the partition pass."""
    return all(one.open for one in checks)


def reasons(checks: Sequence[Check]) -> str:
    """Say why not, in one line."""
    return "; ".join(one.reason for one in checks if not one.open)


@dataclass(frozen=True)
class Input:
    """What was seen of a partition.

    :param rows: how many.
    :param families: column -> family of its type, as the drift engine names it: integer, number, boolean, text, or another.
    :param nulls: column -> how many are null.
    :param twice: how many values of the key more than one row has; ``None`` where that could not be counted.
    :param key: the columns that name a row.
    """

    rows: int
    families: Mapping[str, str]
    nulls: Mapping[str, int]
    twice: int | None
    key: tuple[str, ...]


def schema(
    families: Mapping[str, str], features: Mapping[str, str], others: Sequence[str] = ()
) -> list[Check]:
    """Hold the columns of a partition against those that a model takes.

    :param families: column -> family of its type.
    :param features: column -> datatype of the Open Inference Protocol.
    :param others: further columns that must be there.
    :return: a check of the columns that are missing, and one of their types.
    """
    missing = [name for name in dict.fromkeys([*features, *others]) if name not in families]
    near = {name.lower(): name for name in families}
    hints = [f"{near[name.lower()]!r} is there" for name in missing if name.lower() in near]
    lacks = f"there is no column {', '.join(map(repr, missing))}" + (
        f" ({', '.join(hints)})" if hints else ""
    )
    wrong = [
        f"{name!r} holds {families[name]} and the model takes {' or '.join(FITTING[kind])}"
        for name, kind in features.items()
        if name in families and families[name] not in (*FITTING[kind], "null")
    ]
    return [_check("columns", not missing, lacks), _check("types", not wrong, "; ".join(wrong))]


def before(seen: Input, contract: ScoreContract) -> list[Check]:
    """Judge a partition before it is scored.

    :param seen: what it is.
    :param contract: what is demanded.
    :return: the checks.
    """
    low, high = contract.rows
    bounds = (
        f"{'any number' if low is None else f'{low:,}'} to {'any number' if high is None else f'{high:,}'}"
    )
    enough = (low is None or seen.rows >= low) and (high is None or seen.rows <= high)
    absent = {name: seen.nulls.get(name, 0) for name in seen.key if seen.nulls.get(name)}
    key = ", ".join(map(repr, seen.key))
    found = [
        _check("rows", enough, f"it has {seen.rows:,} rows, and {bounds} are expected"),
        _check(
            "key", not absent, "; ".join(f"{count:,} rows have no {name!r}" for name, count in absent.items())
        ),
    ]
    if seen.twice is None:
        found.append(Check("key_unique", "cannot tell", f"nobody could count how often {key} is there twice"))
    else:
        found.append(
            _check("key_unique", not seen.twice, f"{seen.twice:,} values of {key} name more than one row")
        )
    for name, most in contract.nulls.items():
        share = seen.nulls.get(name, 0) / seen.rows if seen.rows else 0.0
        found.append(
            _check(f"nulls[{name}]", share <= most, f"{share:.2%} of {name!r} is null, and {most:.2%} may be")
        )
    return found


@dataclass(frozen=True)
class Scored(JsonForm):
    """What a model gave for the rows of a partition.

    :param rows: how many got a line.
    :param nulls: how many of them have no score.
    :param fallbacks: how many the model refused.
    :param low: least score; ``None`` where there is none.
    :param high: greatest score.
    :param total: sum of the scores.
    :param edges: of the histogram: the inner ones, beyond which the outermost bins are open.
    :param counts: of the histogram, one more than edges.
    """

    rows: int = 0
    nulls: int = 0
    fallbacks: int = 0
    low: float | None = None
    high: float | None = None
    total: float = 0.0
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    def plus(self, other: Scored) -> Scored:
        """Return what was given for both parts, which have the same edges."""
        lows = [one for one in (self.low, other.low) if one is not None]
        highs = [one for one in (self.high, other.high) if one is not None]
        counts = self.counts or (0,) * len(other.counts)
        others = other.counts or (0,) * len(counts)
        return Scored(
            self.rows + other.rows,
            self.nulls + other.nulls,
            self.fallbacks + other.fallbacks,
            min(lows, default=None),
            max(highs, default=None),
            self.total + other.total,
            self.edges or other.edges,
            tuple(a + b for a, b in zip(counts, others, strict=True)),
        )

    @property
    def mean(self) -> float | None:
        """The mean of the scores."""
        known = self.rows - self.nulls
        return self.total / known if known else None


def after(
    rows: int,
    keys_equal: bool,
    scored: Mapping[str, Scored],
    contract: ScoreContract,
    *,
    probabilities: bool,
    first: Mapping[str, Scored] | None = None,
) -> list[Check]:
    """Judge the scores of a partition.

    :param rows: of the partition.
    :param keys_equal: whether the keys that were written are those that were read.
    :param scored: output -> what was written.
    :param contract: what is demanded.
    :param probabilities: whether the scores are probabilities.
    :param first: the same of the version's first partition; ``None`` if this is the first.
    :return: the checks.
    """
    lowest, highest = contract.scores or ((0.0, 1.0) if probabilities else (-math.inf, math.inf))
    found = [_check("keys", keys_equal, "the keys that were written are not those that were read")]
    for name, one in scored.items():
        of = f" of {name}" if len(scored) > 1 else ""
        found.append(_check(f"rows{of}", one.rows == rows, f"{rows:,} rows became {one.rows:,} lines"))
        low, high = one.low, one.high
        ranged = low is None or high is None or (lowest <= low and high <= highest)
        found.append(
            _check(
                f"range{of}", ranged, f"scores lie between {low} and {high}, not {lowest:g} and {highest:g}"
            )
        )
        for what, count, most in (
            ("null_scores", one.nulls, contract.null_scores),
            ("fallbacks", one.fallbacks, contract.fallbacks),
        ):
            share = count / one.rows if one.rows else 0.0
            said = f"{count:,} of {one.rows:,} rows ({share:.2%}) {_COUNTED[what]}, and {most:.2%} may"
            found.append(_check(f"{what}{of}", share <= most, said))
        if first is not None and contract.shift is not None:
            found.append(_shifted(f"shift{of}", one, first.get(name), contract.shift))
    return found


_COUNTED = {"null_scores": "have no score", "fallbacks": "were refused by the model"}


def stability(counts: Sequence[int], others: Sequence[int]) -> float:
    """Return the population stability index of two histograms of the same bins; half a row stands in for none."""
    one, two = sum(counts), sum(others)
    pairs = [((max(a, 0.5)) / one, (max(b, 0.5)) / two) for a, b in zip(counts, others, strict=True)]
    return sum((a - b) * math.log(a / b) for a, b in pairs)


def _shifted(name: str, one: Scored, first: Scored | None, most: float) -> Check:
    if first is None or one.edges != first.edges or not sum(one.counts) or not sum(first.counts):
        return Check(name, "cannot tell", "the scores cannot be held against those of the first partition")
    found = stability(one.counts, first.counts)
    said = f"the scores have moved by a PSI of {found:.3f} since the version's first partition, and {most:g} may be"
    return _check(name, found <= most, said)


def _check(name: str, holds: bool, reason: str) -> Check:
    return Check(name, "passed") if holds else Check(name, "failed", reason)


def skewed(drifted: bool | None, said: str, contract: ScoreContract) -> Check:
    """Say what follows from the comparison of a partition with what the model has learned from.

    :param drifted: whether it drifted for certain; ``None`` where nobody can tell.
    :param said: by the comparison; empty where nothing has moved.
    :param contract: what is demanded.
    :return: the check.
    """
    if drifted is False:
        return Check("skew", "noted" if said else "passed", said)
    if contract.on_skew == "record":
        return Check("skew", "noted", said)
    return Check("skew", "cannot tell" if drifted is None else "failed", said)


def expected(outcome: Any) -> list[Check]:
    """Turn what a suite of Great Expectations found into checks; findings that are not critical are noted.

    :param outcome: :class:`~airflow_pipeops.validation.engine.Outcome`.
    :return: one check for each finding that did not pass, or one that says that all did.
    """
    found = []
    for one in (*outcome.failures, *outcome.errors):
        item = one.expectation
        said = f"{item.type}: {one.reason}"
        bad: Outcome = "failed" if one.outcome == "failed" else "cannot tell"
        found.append(Check("expectations", bad if item.severity == "critical" else "noted", said))
    return found or [Check("expectations", "passed")]
