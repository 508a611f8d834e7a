"""Numbers that say how far two sides are apart, from aggregates alone. Pure.

Those of two rows of counts are here; ``ordered.py`` has those of two distribution functions, ``pvalues.py`` and
``noise.py`` what chance alone gives, ``aggregates.py`` and ``cells.py`` what all of them are computed from.
"""

from __future__ import annotations

from airflow_pipeops.drift.statistics.counts import (
    Score,
    aligned,
    chi_square,
    chi_square_fit,
    cramers_v,
    filled,
    g_statistic,
    hellinger,
    jensen_shannon,
    jensen_shannon_terms,
    kullback_leibler,
    psi,
    smoothed,
    total_variation,
    unseen,
    z_statistic,
)

__all__ = [
    "Score",
    "aligned",
    "chi_square",
    "chi_square_fit",
    "cramers_v",
    "filled",
    "g_statistic",
    "hellinger",
    "jensen_shannon",
    "jensen_shannon_terms",
    "kullback_leibler",
    "psi",
    "smoothed",
    "total_variation",
    "unseen",
    "z_statistic",
]
