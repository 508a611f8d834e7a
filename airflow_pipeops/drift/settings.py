"""What the person wants: mode, methods, thresholds, weights. Checked before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from airflow_pipeops.base.arguments import at_least, one_of
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput

#: What a column is compared as; of one that was asked for it may be left open.
Kind: TypeAlias = Literal["numerical", "categorical"]
AskedKind: TypeAlias = Literal["numerical", "categorical", ""]
Mode: TypeAlias = Literal["robust", "evidently-compatible"]
#: What a column is in the data set: targets and predictions are reported apart.
Role: TypeAlias = Literal["feature", "target", "prediction"]

ROBUST: Final = "robust"
COMPATIBLE: Final = "evidently-compatible"
MODES = (ROBUST, COMPATIBLE)

#: Method -> kinds of column that it can compare, and its default threshold in the robust mode (on the effect in excess).
ROBUST_METHODS = {
    "psi": ("numeric categorical", 0.1),
    "kl_div": ("numeric categorical", 0.1),
    "jensenshannon": ("numeric categorical", 0.1),
    "hellinger": ("numeric categorical", 0.1),
    "total_variation": ("numeric categorical", 0.1),
    "chisquare": ("numeric categorical", 0.1),
    "g_test": ("numeric categorical", 0.1),
    "z": ("categorical", 0.1),
    "ks": ("numeric", 0.1),
    "wasserstein": ("numeric", 0.1),
    "ed": ("numeric", 0.1),
    "cramer_von_mises": ("numeric", 0.1),
    "anderson": ("numeric", 0.1),
    "t_test": ("numeric", 0.1),
}

#: The same for the compatible mode: Evidently's own names, defaults, and how it compares; and the name that it shows.
COMPATIBLE_METHODS = {
    "psi": ("numeric categorical", 0.1, ">=", "PSI"),
    "kl_div": ("numeric categorical", 0.1, ">=", "Kullback-Leibler divergence"),
    "jensenshannon": ("numeric categorical", 0.1, ">=", "Jensen-Shannon distance"),
    "hellinger": ("numeric categorical", 0.1, ">=", "Hellinger distance"),
    "wasserstein": ("numeric", 0.1, ">=", "Wasserstein distance (normed)"),
    "ed": ("numeric", 0.1, ">", "Energy-distance"),
    "ks": ("numeric", 0.05, "<=", "K-S p_value"),
    "t_test": ("numeric", 0.05, "<", "t_test"),
    "cramer_von_mises": ("numeric", 0.1, "<=", "Cramer-von Mises"),
    "anderson": ("numeric", 0.1, "<", "Anderson-Darling"),
    "chisquare": ("categorical", 0.05, "<", "chi-square p_value"),
    "z": ("categorical", 0.05, "<", "Z-test p_value"),
    "g_test": ("categorical", 0.1, "<", "g_test"),
}


@dataclass(frozen=True)
class Settings:
    """How columns are judged.

    :param mode: ``robust`` (default) or ``evidently-compatible`` (the numbers, choices and thresholds of Evidently 0.7).
    :param method: for all columns that it can compare; ``None`` for the mode's choice: PSI, or what Evidently chooses.
    :param threshold: for all columns; ``None`` for the method's default.
    :param kinds: by column, ``numerical`` or ``categorical``: what Evidently would be told; otherwise it is inferred as
        there: integers of up to ten distinct values are categories. Only in the compatible mode.
    :param methods: by column.
    :param thresholds: by column.
    :param weights: by column, one where it is not given; a column of weight zero is reported and not counted.
    :param critical: columns whose drift alone makes the data set drift.
    :param targets: columns that are the label: reported apart, not counted among the features.
    :param predictions: columns that a model wrote: the same.
    :param false_alarms: robust mode: chance of any alarm at all while nothing drifts, over all columns and dimensions
        together; each column alone has at most that.
    :param min_rows: robust mode: fewer rows on a side, and the verdict is ``undecided``.
    :param bins: robust mode: quantile bins of a numeric column.
    :param missing_threshold: robust mode: change of the share of missing values from which on it is drift.
    :param unseen_threshold: robust mode: share of rows in new categories, or beyond the reference's range, over what chance
        explains, from which on it is drift.
    :param drift_share: from this share of drifted columns (by weight) on, the data set drifted.
    """

    mode: Mode = ROBUST
    method: str | None = None
    threshold: float | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    critical: Collection[str] = ()
    targets: Collection[str] = ()
    predictions: Collection[str] = ()
    false_alarms: float = 0.01
    min_rows: int = 100
    bins: int = 10
    missing_threshold: float = 0.05
    unseen_threshold: float = 0.05
    drift_share: float = 0.5

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("mode", self.mode, MODES)
        known = ROBUST_METHODS if self.mode == ROBUST else COMPATIBLE_METHODS
        for name in [self.method, *self.methods.values()]:
            if name is not None:
                remedy = f"In the {self.mode} mode there are: {', '.join(known)}."
                one_of("method", name, tuple(known), remedy=remedy)
        for name, kind in self.kinds.items():
            one_of(f"kind of {name}", kind, ("numerical", "categorical"))
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, limit in {"threshold": self.threshold, **self.thresholds}.items():
            if limit is not None and not limit >= 0:
                raise _wrong(f"threshold of {name}", limit, "Give a number from zero on.")
        for name, value in self.weights.items():
            if not 0 <= value < float("inf"):
                raise _wrong(f"weight of {name}", value, "Give a finite number from zero on.")
        for name in ("false_alarms", "missing_threshold", "unseen_threshold", "drift_share"):
            if not 0 < getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "Give a share above 0 and up to 1.")
        for name in ("bins", "min_rows"):
            value = getattr(self, name)
            at_least(name, value, 2, f"{name} is {value!r}", "Give at least 2.")

    def check(self, columns: Collection[str]) -> None:
        """Refuse a setting for a column that neither side has.

        :raises InvalidInput: naming the setting and the columns.
        """
        named = {
            "kinds": self.kinds,
            "methods": self.methods,
            "thresholds": self.thresholds,
            "weights": self.weights,
            "critical": self.critical,
            "targets": self.targets,
            "predictions": self.predictions,
        }
        for setting, names in named.items():
            if unknown := [name for name in names if name not in columns]:
                raise InvalidInput(
                    f"{setting} names {', '.join(map(repr, unknown))}, which neither side has",
                    field=setting,
                    value=unknown,
                    remedy="Check the spelling.",
                )

    def role(self, column: str) -> Role:
        """``target``, ``prediction`` or ``feature``."""
        if column in self.targets:
            return "target"
        return "prediction" if column in self.predictions else "feature"


def _wrong(what: str, value: object, remedy: str) -> InvalidInput:
    return InvalidInput(f"{what}: {value!r} is not understood", field=what, value=value, remedy=remedy)
