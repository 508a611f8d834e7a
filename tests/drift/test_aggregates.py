"""Aggregates: what they hold, what they refuse, that a profile gives them back, and that adding them is adding rows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from airflow_pipeops.drift.statistics.aggregates import (
    CategoricalAggregate,
    NumericAggregate,
    from_categories,
    from_values,
    merged,
    restored,
)
from airflow_pipeops.drift.statistics.bins import affine, fine_key, sturges_edges
from airflow_pipeops.exceptions import InvalidInput

floats = hnp.arrays(
    "float64", st.integers(0, 60), elements=st.floats(allow_nan=True, allow_infinity=True, width=64)
)


@given(floats, st.sampled_from([None, 1, 2, 64, 65536]))
def test_nothing_is_lost(values: np.ndarray, resolution: int | None) -> None:
    found = from_values(values, resolution=resolution)
    finite = values[np.isfinite(values)]
    assert found.rows == len(values)
    assert found.not_finite == len(values) - len(finite)
    assert found.finite == len(finite)
    if len(finite):
        assert found.low[0] == finite.min()
        assert found.high[-1] == finite.max()


@given(floats, floats, st.sampled_from([2, 64, 65536]))
def test_adding_two_windows_is_aggregating_both(left: np.ndarray, right: np.ndarray, resolution: int) -> None:
    first = from_values(left, resolution=resolution)
    second = from_values(right, centre=first.centre, scale=first.scale, resolution=resolution)
    both = from_values(
        np.concatenate([left, right]), centre=first.centre, scale=first.scale, resolution=resolution
    )
    added = merged(first, second)
    for name in ("key", "count", "low", "high"):
        np.testing.assert_array_equal(getattr(added, name), getattr(both, name))
    assert added.rows == both.rows


def test_the_two_zeros_are_one() -> None:
    first, second = (from_values(np.array(zeros), resolution=64) for zeros in ([0.0, -0.0], [-0.0, 0.0]))
    assert first.low.tobytes() == second.low.tobytes() == first.high.tobytes()


def test_kinds_of_nothing_are_told_apart() -> None:
    column = pd.Series([1.0, None, 3.0])
    assert (from_values(column).missing, from_values(column).not_finite) == (1, 0)
    plain = np.array([1.0, np.nan, np.inf])
    assert (from_values(plain).missing, from_values(plain).not_finite) == (0, 2)
    nullable = from_values(pd.Series([1, None, 3], dtype="Int64"))
    assert (nullable.missing, nullable.dtype) == (1, "Int64")
    masked = from_values(np.ma.masked_equal([1, 2, 3], 2))
    assert (masked.missing, masked.finite) == (1, 2)


def test_integers_beyond_doubles_are_known_to_be_rounded() -> None:
    assert from_values(np.array([1, 2**53 + 1])).rounded
    assert not from_values(np.array([1, 2**53 - 1])).rounded
    assert not from_values(np.array([2.0**60])).rounded


def test_a_profile_gives_the_aggregate_back() -> None:
    numeric = from_values(np.random.default_rng(0).normal(size=500), resolution=64)
    header = json.loads(json.dumps(numeric.header()))
    again = restored(header, numeric.arrays())
    assert isinstance(again, NumericAggregate)
    for field in dataclasses.fields(numeric):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(numeric, field.name))
    texts = from_categories(["a", "b", "ü", None, "a", "c"], top=2)
    header = json.loads(json.dumps(texts.header()))
    back = restored(header, {name: array.tolist() for name, array in texts.arrays().items()})
    assert isinstance(back, CategoricalAggregate)
    assert (back.counts, back.other, back.distinct, back.missing) == (texts.counts, 2, 4, 1)
    assert back.capped


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": [1, 0]}, "empty"),
        ({"rows": 7}, "add up"),
        ({"low": [2.0, 1.0], "high": [2.0, 1.0]}, "ascending"),
        ({"low": [1.0, 1.0]}, "ascending"),
        ({"high": [1.0, np.inf]}, "finite bounds"),
        ({"key": [2, 1]}, "keys"),
        ({"count": [2]}, "lengths"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_a_broken_aggregate_is_refused(change: dict, said: str) -> None:
    sound = from_values(np.array([1.0, 2.0]))
    with pytest.raises(InvalidInput, match=said):
        dataclasses.replace(sound, **change)


def test_a_profile_of_another_version_or_with_a_part_missing_is_refused() -> None:
    sound = from_values(np.array([1.0, 2.0]))
    with pytest.raises(InvalidInput, match="version"):
        restored({**sound.header(), "version": 99}, sound.arrays())
    with pytest.raises(InvalidInput, match="missing"):
        restored(sound.header(), {"key": [1]})
    with pytest.raises(InvalidInput, match="add up"):
        CategoricalAggregate(rows=3, missing=0, counts={"a": 1})


@given(hnp.arrays("float64", st.integers(1, 50), elements=st.floats(-1e300, 1e300)))
def test_the_map_is_finite_and_its_bins_grow_with_the_value(values: np.ndarray) -> None:
    centre, scale = affine(values)
    assert np.isfinite(centre)
    assert 0 < scale < np.inf
    assert np.log2(scale) == int(np.log2(scale))
    with np.errstate(over="ignore"):
        key = fine_key((np.sort(values) - centre) / scale, 1024)
    assert (np.diff(key) >= 0).all()
    assert key.min() >= 0
    assert key.max() <= 1024


def test_the_key_never_falls_between_neighbours_at_a_border() -> None:
    """Where rounding could turn the order of two values round: the last ones of a bin, and the first ones of the next."""
    share = np.arange(16384) / 16384
    for border in (share / (1 - share), -share / (1 - share), 2.0 ** np.arange(45, 60)):
        close = np.array([border])
        for _ in range(6):
            ends = np.nextafter(close[0], -np.inf), np.nextafter(close[-1], np.inf)
            close = np.concatenate([ends[:1], close, ends[1:]])
        assert (np.diff(fine_key(close, 32768), axis=0) >= 0).all()


@given(
    st.sampled_from(["float64", "float32", "int64", "int32", "uint8"]),
    st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=300),
    st.floats(1e-3, 1e3),
)
def test_sturges_edges_are_numpys(dtype: str, numbers: list[int], factor: float) -> None:
    floating = dtype.startswith("float")
    values = (np.array(numbers) * factor if floating else np.array(numbers)).astype(dtype)
    given = float(values.min()), float(values.max()), len(values), dtype
    try:
        theirs = np.histogram_bin_edges(values, bins="sturges")
    except ValueError:  # "Too many bins for data range"
        with pytest.raises(InvalidInput, match="finer"):
            sturges_edges(*given)
    else:
        np.testing.assert_array_equal(sturges_edges(*given), theirs.astype("float64"))
