"""Skew between training and serving is found, with its cause; too little to tell is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.models.features.sets import FeatureSet, Join
from airflow_pipeops.models.features.skew import FeatureSkew, compared, judged
from airflow_pipeops.models.operators import SkewCheckOperator

ROWS = 3000
START = pd.Timestamp("2026-01-01", tz="UTC")


def truth() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "number": random.normal(100, 30, ROWS),
            "hour": random.integers(0, 24, ROWS),
            "text": random.choice(["Alpha", "Beta", "Gamma"], ROWS),
            "when": START + pd.to_timedelta(random.integers(0, 10**6, ROWS), unit="s"),
        }
    )


EARLIER = truth().assign(number=lambda frame: frame["number"] + 7.123456)
CODES = {"Alpha": "0", "Beta": "1", "Gamma": "2"}


@pytest.mark.parametrize(
    ("name", "served", "cause"),
    [
        ("number", lambda x: x.where(x.index >= 300), "missing"),
        ("number", lambda x: x.astype(str), "type"),
        ("number", lambda x: x.round(1), "rounding"),
        ("number", lambda x: np.trunc(x), "rounding"),
        ("number", lambda x: x.astype("float32").astype("float64"), "rounding"),
        ("number", lambda x: EARLIER["number"], "stale"),
        ("number", lambda x: x * 1.5, "other"),
        ("hour", lambda x: (x + 5) % 24, "timezone"),
        ("when", lambda x: x + timedelta(hours=5, minutes=30), "timezone"),
        ("when", lambda x: x.dt.tz_localize(None) - timedelta(hours=5), "timezone"),
        ("text", lambda x: x.str.upper() + " ", "category"),
        ("text", lambda x: x.map(CODES), "category"),
        ("text", lambda x: x.map({"Alpha": "Beta", "Beta": "Gamma", "Gamma": "Alpha"}), "category"),
        ("text", lambda x: pd.Series(np.random.default_rng(1).choice(list("xyz"), len(x))), "other"),
    ],
)
def test_each_cause_is_known(name: str, served: Callable[[Any], Any], cause: str) -> None:
    again = truth()
    given = again.assign(**{name: served(again[name])})
    report = compared(given, again, list(again.columns), earlier=[EARLIER])
    assert report.outcome == "skew"
    worst = report.features[0]
    assert worst.name == name
    assert max(worst.causes, key=worst.causes.__getitem__) == cause
    assert sum(worst.causes.values()) == worst.differing
    assert all(one.differing == 0 for one in report.features[1:])
    assert repr(name) in report.reason
    assert cause in report.reason


def test_what_is_the_same_is_said_to_be_so_whatever_its_form() -> None:
    again = truth().astype({"hour": "float64"})
    again.loc[5, ["number", "text"]] = None
    noisy = again.assign(number=again["number"] * (1 + 1e-12), hour=truth()["hour"].astype("int32"))
    report = compared(noisy, again, list(again.columns))
    assert (report.outcome, report.rows) == ("same", ROWS)
    assert [one.differing for one in report.features] == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["Int64", "string", "boolean", "datetime64[ns, UTC]"])
def test_nulls_are_the_same_whatever_pandas_calls_them(kind: str) -> None:
    values = {"Int64": 2**60, "string": "a", "boolean": True, "datetime64[ns, UTC]": START}
    again = pd.DataFrame({"x": pd.Series([values[kind]] * 1999 + [None], dtype=kind)})
    assert compared(again, again.copy(), ["x"]).outcome == "same"
    given = again.assign(x=again["x"].where(again.index >= 100))
    report = compared(given, again, ["x"])
    assert (report.outcome, report.features[0].causes) == ("skew", {"missing": 100})


@pytest.mark.parametrize(
    ("rows", "differing", "outcome", "said"),
    [
        (0, 0, "cannot tell", "no request"),
        (200, 0, "cannot tell", "200 requests are too few"),
        (200, 20, "skew", "10.00%"),
        (5000, 3, "same", "0.06%"),
        (5000, 8, "cannot tell", "which chance may explain"),
        (5000, 20, "skew", "0.40%"),
    ],
)
def test_the_verdict_is_beyond_chance_or_none(rows: int, differing: int, outcome: str, said: str) -> None:
    found = [
        FeatureSkew("x", rows, differing, {"other": differing} if differing else {}),
        FeatureSkew("y", rows, 0),
    ]
    report = judged(found, rows, 0.001)
    assert report.outcome == outcome
    assert said in report.reason


def test_numbers_are_told_as_people_write_them() -> None:
    frame = pd.DataFrame({"number": [1.5] * 3000, "hour": 4})
    found = compared(frame, frame + 1, ["number", "hour"])
    assert [(one.served, one.recomputed) for one in found.features] == [("1.5", "2.5"), ("4", "5")]
    assert "served 1.5, recomputed 2.5" in found.reason


def test_a_true_share_of_what_is_allowed_rarely_alarms() -> None:
    random = np.random.default_rng(0)
    alarms = [
        judged(
            [FeatureSkew(str(n), 4000, int(k), {"other": int(k)}) for n, k in enumerate(one)], 4000, 0.001
        ).outcome
        for one in random.binomial(4000, 0.001, (300, 20))
    ]
    assert alarms.count("skew") <= 9, "one in a hundred, and what chance adds to that in 300"


def wind_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["request_id", "at", "wind", "hour"]]


WIND = FeatureSet(
    steps={"wind": f"{__name__}:wind_of"},
    joins=(Join("weather", ("origin",), ("wind",), "observed", created_time="written"),),
    time="at",
)


@pytest.fixture
def logged(tmp_path: Path) -> dict[str, Any]:
    """Requests as a service logs them, what they were about, and the weather."""
    at = pd.date_range(START, periods=1500, freq="min")
    hourly = pd.date_range(START - timedelta(hours=3), periods=40, freq="h")
    weather = pd.DataFrame(
        {
            "origin": "JFK",
            "observed": hourly,
            "written": hourly + timedelta(minutes=1),
            "wind": np.arange(40.0),
        }
    )
    about = pd.DataFrame({"request_id": [f"r{n}" for n in range(1500)], "origin": "JFK", "hour": at.hour})
    known = [int((moment - timedelta(minutes=1) - hourly[0]) // timedelta(hours=1)) for moment in at]
    requests = pd.DataFrame(
        {
            "request_id": about["request_id"],
            "at": at.as_unit("ms").astype("int64"),
            "model": "flights",
            "version": "1",
            "sha256": "a" * 64,
            "wind": [float(n) for n in known],
            "hour": at.hour,
            "probability": 0.5,
        }
    )
    return {"requests": requests, "rows": about, "weather": weather}


@pytest.fixture
def check(logged: dict[str, Any], context: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(**arguments: Any) -> dict[str, Any]:
        uris = {}
        for name, frame in logged.items():
            uris[name] = str(tmp_path / f"{name}.parquet")
            frame.to_parquet(uris[name])
        given = {
            "requests": uris["requests"],
            "rows": uris["rows"],
            "tables": {"weather": uris["weather"]},
            "features": f"{__name__}:WIND",
            "deliverable": Deliverable("flight-delay"),
            **arguments,
        }
        return SkewCheckOperator(task_id="skew", **given).execute(context)

    return run


def test_requests_that_were_given_what_was_known_are_the_same(
    check: Callable[..., Any], context: Any
) -> None:
    found = check()
    assert (found["outcome"], found["passed"], found["rows"], found["unmatched"]) == ("same", True, 1500, 0)
    assert [one["name"] for one in found["features"]] == ["wind", "hour"]
    assert found["record_id"]
    (extra,) = (event.extra for event in context["outlet_events"].values() if event.extra)
    assert (extra["body"]["subject"], extra["body"]["passed"]) == ("skew", True)


def test_a_service_with_an_old_cache_is_told_as_stale(
    check: Callable[..., Any], logged: dict[str, Any]
) -> None:
    logged["requests"]["wind"] -= 1
    found = check()
    assert (found["outcome"], found["passed"]) == ("skew", False)
    assert found["features"][0]["causes"] == {"stale": 1500}


def test_weather_that_was_filled_in_later_is_not_what_was_known(
    check: Callable[..., Any], logged: dict[str, Any]
) -> None:
    """Recomputed today, corrected values would look like skew; as of the request they do not."""
    fixed = logged["weather"].assign(wind=-1.0, written=START + timedelta(days=30))
    logged["weather"] = pd.concat([logged["weather"], fixed])
    assert check()["outcome"] == "same"


def test_requests_of_one_model_and_those_with_nothing_to_be_made_of(
    check: Callable[..., Any], logged: dict[str, Any]
) -> None:
    logged["requests"].loc[:99, "sha256"] = "b" * 64
    logged["rows"] = logged["rows"].iloc[:1200]
    found = check(sha256="a" * 64)
    assert (found["rows"], found["unmatched"], found["outcome"]) == (1100, 300, "same")
    assert check(sha256="c" * 64)["outcome"] == "cannot tell"


def test_what_is_joined_is_never_held_against_itself(
    check: Callable[..., Any], logged: dict[str, Any]
) -> None:
    """Where the requests hold what the features are made of, they hold what was joined to it as well."""
    logged["requests"]["origin"] = "JFK"
    assert check(rows=None)["outcome"] == "same"
    logged["requests"]["wind"] -= 1
    assert check(rows=None)["features"][0]["causes"] == {"stale": 1500}
    with pytest.raises(AirflowFailException, match="table 'weather' is not given"):
        check(rows=None, tables=None)


@pytest.mark.parametrize("given", [{}, {"rows": None}])
def test_a_request_may_have_several_rows_as_the_server_samples_them(
    check: Callable[..., Any], logged: dict[str, Any], given: dict[str, Any]
) -> None:
    for name in ("requests", "rows"):
        number = logged[name].index // 2
        logged[name] = logged[name].assign(
            request_id=[f"r{n}" for n in number], row=logged[name].index % 2, role="answer", origin="JFK"
        )
    logged["rows"] = logged["rows"].iloc[::-1]
    logged["requests"]["at"] = pd.to_datetime(logged["requests"]["at"], unit="ms", utc=True)
    found = check(**given)
    assert (found["outcome"], found["rows"], found["unmatched"]) == ("same", 1500, 0)
    assert [one["name"] for one in found["features"]] == ["wind", "hour"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.update(requests=x["requests"].assign(at="yesterday")), "holds values that are no times"),
        (lambda x: x["requests"].loc.__setitem__((7, "at"), None), "1 rows without a time"),
        (lambda x: x.update(requests=x["requests"].drop(columns="at")), "has no column 'at'"),
        (
            lambda x: x.update(requests=pd.concat([x["requests"]] * 2)),
            "1,500 of the requests have a request_id",
        ),
        (lambda x: x.update(requests=x["requests"].drop(columns=["wind", "hour"])), "none of the features"),
        (lambda x: x.update(rows=x["rows"].drop(columns="origin")), "no column 'origin'"),
    ],
)
def test_bad_requests_are_refused_by_name(
    check: Callable[..., Any], logged: dict[str, Any], change: Callable[[Any], None], said: str
) -> None:
    change(logged)
    with pytest.raises(AirflowFailException, match=said):
        check()
