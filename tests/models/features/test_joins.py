"""Joins as of a time, against a reference that looks at every pair of rows, and at what leaks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.features.joins import Join, joined, rows_by_label

START = pd.Timestamp("2026-01-01", tz="UTC")
HOUR = timedelta(hours=1)


def reference(
    rows: pd.DataFrame, table: pd.DataFrame, join: Join, as_of: datetime | None
) -> list[dict[str, Any]]:
    """What is joined to each row, by looking at each row of the table, in plain Python."""
    found = []
    for row in rows.to_dict("records"):
        best: tuple[Any, ...] | None = None
        for number, fact in enumerate(table.to_dict("records")):
            if any(pd.isna(row[key]) or pd.isna(fact[key]) or row[key] != fact[key] for key in join.keys):
                continue
            event = fact[join.event_time]
            created = fact[join.created_time] if join.created_time else event
            if join.known_by == "row" and (event > row["at"] or created > row["at"]):
                continue
            if join.known_by == "build" and event < row["at"]:
                continue
            if as_of is not None and (event > as_of or created > as_of):
                continue
            # A label may come at the very end of its time, a feature may not.
            age = abs(row["at"] - event)
            if join.ttl is not None and (age > join.ttl or (age == join.ttl and join.known_by == "row")):
                continue
            if best is None or (event, created, number) > best[:3]:
                best = (event, created, number, fact)
        found.append({name: best[3][name] if best else None for name in join.columns})
    return found


def random_case(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, Join, datetime | None]:
    """A table of few keys and few times, so that ties, late values and corrections are common."""
    random = np.random.default_rng(seed)
    count, facts = int(random.integers(1, 25)), int(random.integers(1, 40))
    keys = ["carrier", "origin"][: int(random.integers(1, 3))]

    def hours(size: int, low: int = 0, high: int = 12) -> Any:
        return START + pd.to_timedelta(random.integers(low, high, size), unit="h")

    def key(size: int) -> list[Any]:
        return random.choice(np.array(["AA", "UA", None], dtype=object), size, p=[0.45, 0.45, 0.1]).tolist()

    rows = pd.DataFrame({name: key(count) for name in keys} | {"at": hours(count), "id": range(count)})
    table = pd.DataFrame({name: key(facts) for name in keys} | {"event": hours(facts)})
    table["created"] = table["event"] + pd.to_timedelta(random.integers(0, 5, facts), unit="h")
    table["number"] = np.where(random.random(facts) < 0.2, np.nan, random.integers(0, 9, facts))
    table["text"] = random.choice(np.array(["x", "y", None], dtype=object), facts)
    join = Join(
        "facts",
        tuple(keys),
        ("number", "text"),
        "event",
        created_time="created" if random.random() < 0.7 else None,
        ttl=HOUR * int(random.integers(1, 6)) if random.random() < 0.5 else None,
        known_by="row" if random.random() < 0.7 else "build",
    )
    as_of = (START + HOUR * int(random.integers(0, 14))).to_pydatetime() if random.random() < 0.4 else None
    return rows.sample(frac=1, random_state=seed), table, join, as_of


def agrees(seed: int) -> None:
    rows, table, join, as_of = random_case(seed)
    found = joined(rows, "at", table, join, as_of=as_of)
    pd.testing.assert_frame_equal(found[rows.columns], rows)  # each row once, in its place, as it was
    wanted = reference(rows, table, join, as_of)
    for name in join.columns:
        for got, want in zip(found[name], (one[name] for one in wanted), strict=True):
            assert (pd.isna(got) and pd.isna(want)) or got == want, (seed, join, as_of, name)


def test_as_the_reference_says() -> None:
    for one in range(40):
        agrees(one)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 2000, 20))
def test_as_the_reference_says_on_a_thousand_tables(seed: int) -> None:
    for one in range(seed, seed + 20):
        agrees(one)


def test_nothing_that_came_later_changes_a_row() -> None:
    """However the future is rewritten, what was known stays what it was: no row has learned from it."""
    for one in range(20):
        rows, table, join, _ = random_case(one)
        rows = rows.head(4)
        if join.known_by == "build":
            continue
        created = table["created"] if join.created_time else table["event"]
        for row, before in zip(
            rows.to_dict("records"), joined(rows, "at", table, join).to_dict("records"), strict=True
        ):
            future = (table["event"] > row["at"]) | (created > row["at"])
            changed = table.assign(
                number=table["number"].where(~future, -1.0), text=table["text"].where(~future, "!")
            )
            after = joined(pd.DataFrame([row]), "at", changed, join).to_dict("records")[0]
            for name in join.columns:
                assert pd.isna(after[name]) if pd.isna(before[name]) else after[name] == before[name]


def test_a_value_that_was_written_later_is_not_known_yet() -> None:
    """One clock alone learns from what was filled in later."""
    rows = pd.DataFrame({"key": ["a"], "at": [START + 5 * HOUR]})
    table = pd.DataFrame(
        {
            "key": ["a", "a"],
            "event": [START, START + 4 * HOUR],
            "created": [START, START + 9 * HOUR],
            "value": [1, 2],
        }
    )
    two, one = (
        Join("facts", ("key",), ("value",), "event", created_time=created) for created in ("created", None)
    )
    assert joined(rows, "at", table, two)["value"].tolist() == [1]
    assert joined(rows, "at", table, one)["value"].tolist() == [2]


def test_a_label_that_comes_twice_counts_as_it_was_corrected_before_the_table_was_built() -> None:
    rows = pd.DataFrame({"id": [7, 8], "at": [START, START]})
    table = pd.DataFrame(
        {
            "id": [7, 7, 8],
            "landed": [START + 2 * HOUR, START + 2 * HOUR, START + 30 * HOUR],
            "written": [START + 3 * HOUR, START + 50 * HOUR, START + 31 * HOUR],
            "late": [0, 1, 1],
        }
    )
    labels = Join("labels", ("id",), ("late",), "landed", created_time="written", known_by="build")
    for hours, wanted in ((1, [None, None]), (4, [0, None]), (40, [0, 1]), (60, [1, 1])):
        found = joined(rows, "at", table, labels, as_of=(START + hours * HOUR).to_pydatetime())
        assert [None if pd.isna(value) else value for value in found["late"]] == wanted
    within = Join("labels", ("id",), ("late",), "landed", ttl=24 * HOUR, known_by="build")
    assert joined(rows, "at", table, within)["late"].isna().tolist() == [False, True]


def test_labels_that_are_not_known_yet_are_null_and_no_row_is_lost() -> None:
    rows = pd.DataFrame({"at": [START, START + 12 * HOUR, START + 36 * HOUR], "late": [0, 1, 1]})
    found = rows_by_label(
        rows, "at", "late", timedelta(days=1), datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
    )
    assert found["late"].isna().tolist() == [False, False, True]


def test_types_and_large_numbers_come_through_as_they_are() -> None:
    rows = pd.DataFrame({"key": [1, 2], "at": [START, START]})
    table = pd.DataFrame(
        {
            "key": [1.0, 2.0],
            "event": [START, START],
            "number": [2**60 + 1, 2**60 + 3],
            "when": [START, START + HOUR],
            "list": [[1], [2]],
        }
    )
    found = joined(rows, "at", table, Join("facts", ("key",), ("number", "when", "list"), "event"))
    assert found["number"].tolist() == [2**60 + 1, 2**60 + 3]
    assert found["when"].tolist() == [START, START + HOUR]
    assert found["list"].tolist() == [[1], [2]]


def facts(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"key": ["a"], "event": [START], "value": [1], **columns})


@pytest.mark.parametrize(
    ("table", "rows", "said"),
    [
        (facts(key=[7]), {}, "key 'key' holds string in the data and integer"),
        (facts().drop(columns="value"), {}, r"table 'facts' has no column 'value'"),
        (facts(), {"key": None}, "the data has no column 'key'"),
        (facts(), {"value": [2]}, "both have the column 'value'"),
        (facts(event=["yesterday"]), {}, "are no times"),
        (facts(event=[pd.NaT]), {}, "1 rows without a time"),
        (facts(event=[5]), {}, "'at' holds times with a zone, and 'event' holds numbers"),
        (facts(event=[START.tz_localize(None)]), {}, "'at' holds times with a zone, and 'event' holds times"),
    ],
)
def test_what_cannot_be_joined_is_said(table: pd.DataFrame, rows: dict[str, Any], said: str) -> None:
    given = pd.DataFrame({"key": ["a"], "at": [START], **{k: v for k, v in rows.items() if v}})
    given = given.drop(columns=[k for k, v in rows.items() if v is None])
    with pytest.raises(InvalidInput, match=said):
        joined(given, "at", table, Join("facts", ("key",), ("value",), "event"))


def test_a_join_says_what_it_lacks() -> None:
    for arguments, said in (
        ({"keys": ()}, "names no keys"),
        ({"columns": ()}, "names no columns"),
        ({"ttl": timedelta(0)}, "ttl is"),
        ({"known_by": "chance"}, "known_by is 'chance'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            Join(**{"table": "facts", "keys": ("k",), "columns": ("c",), "event_time": "event"} | arguments)
    numbers = pd.DataFrame({"key": ["a"], "at": [1], "late": [0]})
    with pytest.raises(InvalidInput, match="as_of is a time"):
        joined(numbers, "at", facts(event=[1]), Join("facts", ("key",), ("value",), "event"), as_of=START)
