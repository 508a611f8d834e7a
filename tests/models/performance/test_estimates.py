"""NannyML's estimates against the labels that came later, in an environment of its own.

NannyML and Airflow's newest dependencies do not always share one; what is estimated does not depend on Airflow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.estimates import estimate

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json
import numpy as np, pandas as pd
from airflow_pipeops.models.performance.estimates import estimate
from airflow_pipeops.models.performance import measure

random = np.random.default_rng(0)

def scores(rows, shift):
    x = random.normal(shift, 1, rows)
    p = 1 / (1 + np.exp(-x))
    return pd.DataFrame({"score": p, "late": (random.random(rows) < p).astype(int)})

def numbers(rows, shift):
    x = random.normal(shift, 1, rows)
    return pd.DataFrame({"x": x, "score": x, "late": x + random.normal(0, 0.2 + np.abs(x), rows)})

found = []
for metric in ("roc_auc", "accuracy", "precision", "recall", "f1"):
    before, after = scores(5000, 0), scores(3000, 1)
    guess = estimate(metric, before, after, label="late", prediction="score")
    found.append([metric, guess.to_json(), measure(metric, after["late"], after["score"]).to_json()])
for metric in ("mae", "rmse"):
    before, after = numbers(5000, 0), numbers(3000, 1)
    guess = estimate(metric, before, after[["x", "score"]], label="late", prediction="score", features=("x",))
    found.append([metric, guess.to_json(), measure(metric, after["late"], after["score"]).to_json()])
print()  # LightGBM writes to the same stream
print(json.dumps(found))
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_estimate_is_near_what_the_labels_say_later(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    wanted = ["nannyml>=0.13.1", "statsmodels>=0.14"]
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(python), *wanted]
    subprocess.run(install, check=True)
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for metric, guess, truth in json.loads(done.stdout.splitlines()[-1]):
        assert guess["estimated"]
        assert not truth["estimated"]
        # Both are estimates of the same quantity; each has its own sampling error.
        assert guess["value"] == pytest.approx(truth["value"], abs=0.05 * max(1, truth["value"])), metric
        assert guess["low"] <= guess["value"] <= guess["high"]


ROWS = pd.DataFrame({"score": [0.5] * 300, "late": [0, 1] * 150})


@pytest.mark.parametrize(
    ("metric", "reference", "current", "field"),
    [
        ("log_loss", ROWS, ROWS, "metric"),
        ("roc_auc", ROWS.head(299), ROWS, "reference"),
        ("roc_auc", ROWS[["score"]], ROWS, "reference"),
        ("roc_auc", ROWS.assign(late=0), ROWS, "reference"),
        ("roc_auc", ROWS, ROWS[["late"]], "current"),
        ("roc_auc", ROWS, ROWS.head(0), "current"),
        ("mae", ROWS, ROWS, "features"),
    ],
)
def test_what_cannot_be_estimated_is_named(
    metric: str, reference: pd.DataFrame, current: pd.DataFrame, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        estimate(metric, reference, current, label="late", prediction="score")
    assert caught.value.field == field


def test_without_the_library_its_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['nannyml'] = None\n"
        "import pandas as pd\n"
        "from airflow_pipeops.models.performance.estimates import estimate\n"
        "rows = pd.DataFrame({'score': [0.5] * 300, 'late': [0, 1] * 150})\n"
        "estimate('roc_auc', rows, rows, label='late', prediction='score')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "pip install 'airflow-pipeops[nannyml]'" in done.stderr
