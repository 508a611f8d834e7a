"""Whether an old model fits today's data, and which one was live before."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_pipeops.models.rollback.fitness import Image, Old, Today, judge
from airflow_pipeops.models.rollback.target import Lived, before

FEATURES = {"hour": "INT64", "carrier": "BYTES"}
OLD = Old("1", features=FEATURES, age=timedelta(days=40))
TODAY = Today({"hour": "INT64", "carrier": "BYTES", "new": "FP64"}, {"carrier": 0.2})


@pytest.mark.parametrize(
    ("old", "today", "verdict", "said"),
    [
        (OLD, TODAY, "fits", "today's data have its 2 columns"),
        (OLD, Today({"hour": "INT64"}), "does not fit", "'carrier', which today's data do not have"),
        (OLD, Today({**FEATURES, "hour": "FP64"}), "does not fit", "'hour' as INT64, which is FP64 today"),
        (OLD, Today({**FEATURES, "hour": ""}), "does not fit", "which is of another type today"),
        (OLD, Today(FEATURES, {"hour": 1.0}), "does not fit", "null in all of today's rows"),
        (
            Old("1", "worse in May", features=FEATURES),
            TODAY,
            "does not fit",
            "itself taken back: worse in May",
        ),
        (Old("1", broken="a file is missing"), TODAY, "does not fit", "cannot be used: a file is missing"),
        (Old("", features=FEATURES), TODAY, "does not fit", "no version in the registry"),
        (Old("1", features=FEATURES, age=timedelta(days=400)), TODAY, "does not fit", "in the last 400 days"),
        (OLD, None, "cannot tell", "No data of today"),
        (Old("1", features=FEATURES), TODAY, "cannot tell", "until when it has learned"),
        (Old("1", age=timedelta(days=1)), TODAY, "cannot tell", "which columns it reads"),
    ],
)
def test_an_old_model(old, today, verdict, said):
    found = judge(old, today, max_age=timedelta(days=90))
    assert found.verdict == verdict
    assert said in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("image", "verdict", "said"),
    [
        (None, "fits", "No image was named"),
        (Image("r.io/serve:1", True), "fits", "Its registry has r.io/serve:1"),
        (Image("r.io/serve:1", False), "does not fit", "r.io/serve:1, is not in its registry any more"),
        (Image("r.io/serve:1", None, "no login"), "cannot tell", "r.io/serve:1, is still there: no login"),
    ],
)
def test_the_image_that_would_serve_it(image, verdict, said):
    found = judge(OLD, TODAY, image=image)
    assert found.verdict == verdict
    assert said in " ".join(found.reasons)


def lived(*digests: str) -> list[Lived]:
    return [Lived(digest, f"commit {number}") for number, digest in enumerate(digests)]


@pytest.mark.parametrize(
    ("digests", "current", "blocked", "expected"),
    [
        (["a", "b"], "b", [], "a"),
        (["a", "b", "b"], "b", [], "a"),
        (["a", "b", "a"], "a", [], "b"),
        (["a", "b", "a"], "a", ["b"], None),
        (["a", "bad", "c"], "c", ["bad"], "a"),
        (["a", "", "c"], "c", [], "a"),
        (["a"], "a", [], None),
        (["a"], "by hand", [], "a"),
        (["a", "b"], "by hand", ["b"], "a"),
        ([], "by hand", [], None),
        (["a", "b", "c"], "b", [], "c"),
        (["z", "a", "b"], "a", [], "b"),
        ([], "a", [], None),
    ],
)
def test_the_model_before_is_the_last_one_that_was_live(digests, current, blocked, expected):
    found = before(lived(*digests), current, blocked)
    assert (found.sha256 if found else None) == expected
