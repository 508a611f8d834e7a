"""A model's digest does not tell the machine, and its behaviour has a digest of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from airflow_pipeops.demo import flights
from airflow_pipeops.models import behaviour, serialized

_TREES = ["sklearn.tree._tree.Tree"]

_TRAIN = """
import hashlib
from airflow_pipeops.demo import flights
from airflow_pipeops.models import behaviour, serialized
table = flights.features(flights.month(1, 1500))
model = flights.train(table, 0)
threads = model.named_steps["trees"]._bin_mapper.n_threads
rows = behaviour.probes(table, flights.FEATURES)
content = serialized.dumps(model)
print(threads, hashlib.sha256(content).hexdigest(), behaviour.digest(behaviour.scores(model, rows)),
      behaviour.digest(behaviour.scores(serialized.loads(content), rows)))
"""


def test_the_digest_does_not_depend_on_the_number_of_processors() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", _TRAIN],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for threads in ("1", "2")
    ]
    assert [one[0] for one in said] == ["1", "2"], "they were trained with other numbers of threads"
    assert said[0][1:] == said[1][1:]
    assert said[0][2] == said[0][3]


def test_how_many_jobs_a_forest_may_use_is_no_part_of_it() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(300, 4)), columns=list("abcd"))
    labels = (rows["a"] + rows["b"] > 0).astype(int)
    contents = {}
    for jobs in (None, 1, 2, -1):
        model = make_pipeline(RandomForestClassifier(20, random_state=0, n_jobs=jobs)).fit(rows, labels)
        contents[jobs] = serialized.dumps(model, trusted=_TREES)
        again = serialized.loads(contents[jobs], trusted=_TREES)
        assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
        assert again[-1].n_jobs is None
        assert model[-1].n_jobs == jobs, "the model that was given is as it was"
        again.fit(rows, labels)
    assert len(set(contents.values())) == 1


def test_what_a_model_was_told_stays_a_part_of_it() -> None:
    rows, labels = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]}), [0, 0, 1, 1]
    one, two = (LogisticRegression(C=C).fit(rows, labels) for C in (1.0, 2.0))
    assert serialized.dumps(one) != serialized.dumps(two)
    assert serialized.loads(serialized.dumps(two)).C == 2.0


def test_probes_are_some_of_the_whole_and_those_at_the_edges() -> None:
    rows = pd.DataFrame({"a": np.arange(5000.0), "b": "x", "c": np.zeros(5000)})
    rows.loc[1234, "a"], rows.loc[77, "a"], rows.loc[4321, "b"] = 1e9, -1e9, None
    rows.loc[3210, "c"] = np.nan
    found = behaviour.probes(rows, ["a", "b", "c"])
    assert behaviour.PROBES <= len(found) <= behaviour.PROBES + 6
    assert (found["a"].max(), found["a"].min()) == (1e9, -1e9)
    assert found["b"].isna().sum() == 1
    assert found["c"].isna().sum() == 1
    assert behaviour.probes(rows.head(3), ["c", "a"]).columns.tolist() == ["c", "a"]
    pd.testing.assert_frame_equal(found, behaviour.probes(rows.copy(), ["a", "b", "c"]))


def test_the_last_bits_of_a_score_do_not_count_and_its_ninth_digit_does() -> None:
    scores = {"probability": np.array([0.123456789, 1e-7, 0.0, -0.0, np.nan])}
    noisy = {"probability": scores["probability"] * (1 + 1e-13)}
    other = {"probability": scores["probability"] * (1 + 1e-8)}
    assert behaviour.digest(scores) == behaviour.digest(noisy) != behaviour.digest(other)
    assert behaviour.digest(scores) != behaviour.digest({"probability_a": scores["probability"]})
    assert behaviour.distance(scores, other) == pytest.approx(0.123456789e-8)
    assert behaviour.distance(scores, {"probability": np.zeros(5)}) is None, (
        "one says none where the other does"
    )
    assert behaviour.distance(scores, {"other": scores["probability"]}) is None


def test_scores_of_any_kind_of_model(table: pd.DataFrame) -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    assert list(behaviour.scores(LinearRegression().fit(rows, [0, 1, 2, 3]), rows)) == ["probability"]
    several = behaviour.scores(LogisticRegression().fit(rows, list("xyzz")), rows)
    assert list(several) == ["probability_x", "probability_y", "probability_z"]
    two = behaviour.scores(flights.train(table, 0), table[list(flights.FEATURES)])
    assert {name: len(values) for name, values in two.items()} == {"probability": len(table)}
