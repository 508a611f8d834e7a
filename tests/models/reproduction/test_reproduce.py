"""``airflow pipeops reproduce``: a model that was really trained is made again from its record, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.models.operators import RegisterModelOperator, TrainModelOperator
from airflow_pipeops.models.reproduction.code import code_of
from tests.commands import called
from tests.ledgers import entries, indexed, record
from tests.warm import programs

MODULE = """
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

def train(frame, seed, C=1.0):
    return LogisticRegression(C=C, random_state=seed).fit(frame[["a", "b"]], frame["y"])

def score(model, frame):
    return roc_auc_score(frame["y"], model.predict_proba(frame[["a", "b"]])[:, 1])
"""

#: In these a Python starts for each training; in the others it is forked from one that has loaded what takes long.
ANEW = ("test_the_same_is_identical_whoever_asks", "test_other_code_is_named")

Ran = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    (folder / "clinic_model.py").write_text(MODULE, encoding="utf-8")
    yield folder / "clinic_model.py"
    sys.modules.pop("clinic_model", None)


@pytest.fixture
def trained(module: Path, connections: Any, context: Any, tmp_path: Path) -> dict[str, Any]:
    """A model, trained on real rows, registered and recorded."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(600, 2)), columns=["a", "b"])
    rows["y"] = (rows["a"] + random.normal(size=600) > 0).astype(int)
    rows.to_parquet(tmp_path / "rows.parquet")
    about = {"deliverable": Deliverable("clinic")}
    made = TrainModelOperator(
        task_id="train",
        trainer="clinic_model:train",
        scorer="clinic_model:score",
        data=str(tmp_path / "rows.parquet"),
        name="clinic",
        target="y",
        parameters={"C": 0.5},
        seed=7,
        **about,
    ).execute(context)
    registered = RegisterModelOperator(task_id="register", model="clinic", challenger=made, **about).execute(
        context
    )
    return {**made, "version": registered["version"], "registered": registered}


@pytest.fixture
def reproduce(
    trained: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Ran:
    body = {key: value for key, value in trained["registered"].items() if key != "record_id"}
    old = record("model", {"name": "old", "version": "1"}, deliverable="clinic")
    model = record("model", body, deliverable="clinic")
    release = record(
        "release", {"revision": "r"}, model, deliverable="clinic", environment="production", minutes=1
    )
    indexed(tmp_path / "index.db", entries([old, model, release])).close()
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / "index.db"))
    if request.node.name not in ANEW:
        monkeypatch.setattr(sys, "executable", programs().command())

    def run(ref: str = "clinic/1", *more: str) -> tuple[int, dict[str, Any]]:
        code, out, err = called(capsys, "reproduce", ref, "--json", "--as-it-is", *more)
        return code, json.loads(out) if out else {"error": err}

    return run


def test_what_it_was_made_from_is_recorded(trained: dict[str, Any], context: Any) -> None:
    kinds = {
        event.extra["kind"]: event.extra["body"] for event in context["outlet_events"].values() if event.extra
    }
    body = kinds["training"]
    assert (body["trainer"], body["seed"], body["parameters"]) == ("clinic_model:train", 7, {"C": 0.5})
    assert set(body) >= {
        "behaviour",
        "packages_digest",
        "python",
        "image",
        "code",
        "training_uri",
        "training_sha256",
    }
    assert kinds["model"]["training_uri"] == body["training_uri"]
    whole = json.loads(Path(body["training_uri"].removeprefix("file://")).read_text(encoding="utf-8"))
    assert list(whole["code"]["files"]) == ["clinic_model"]
    assert list(whole["data"]["files"].values()) == [trained["data_digest"]]
    assert whole["packages"]["scikit-learn"]
    assert whole["machine"]["threads"]["OMP_NUM_THREADS"] == "1"
    assert whole["result"]["probes_sha256"] in trained["probes_uri"]


def test_code_that_changes_while_it_trains_is_recorded_as_it_was_run(
    module: Path, connections: Any, context: Any, tmp_path: Path
) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["a", "b"])
    rows.assign(y=(rows["a"] > 0).astype(int)).to_parquet(tmp_path / "rows.parquet")
    synced = f"    open({str(module)!r}, 'a').write('# another commit')\n    return Logistic"
    module.write_text(MODULE.replace("    return Logistic", synced), encoding="utf-8")
    before = code_of(["clinic_model:train"]).digest
    made = TrainModelOperator(
        task_id="train",
        trainer="clinic_model:train",
        data=str(tmp_path / "rows.parquet"),
        name="clinic",
    ).execute(context)
    assert made["code"]["digest"] == before != code_of(["clinic_model:train"]).digest


def test_the_same_is_identical_whoever_asks(reproduce: Ran, trained: dict[str, Any], capsys: Any) -> None:
    code, found = reproduce("clinic@production")
    # How many threads each library has is as it was when somebody loaded it, and of a test process as it happens.
    others = [one for one in found["differences"] if one["input"] != "machine.libraries"]
    assert (code, found["outcome"], others) == (0, "identical", []), found
    assert found["recorded"] == found["found"] == trained["sha256"]
    assert found["distance"] == 0
    assert found["metrics"] == {"auc": [trained["metrics"]["auc"]] * 2}


def test_other_code_is_named(reproduce: Ran, module: Path) -> None:
    module.write_text(MODULE.replace("C=C", "C=C / 1000"), encoding="utf-8")
    code, found = reproduce()
    assert (code, found["outcome"]) == (1, "different"), found
    assert found["differences"][0]["input"] == "code.files.clinic_model"
    code, found = reproduce("clinic/1", "--tolerance", "1")
    assert found["outcome"] in ("close", "different")
    assert found["differences"][0]["input"] == "code.files.clinic_model"


def test_other_code_that_does_the_same_is_identical_and_named(reproduce: Ran, module: Path) -> None:
    module.write_text(MODULE + "\n# nothing\n", encoding="utf-8")
    code, found = reproduce()
    assert (code, found["outcome"]) == (0, "identical"), found
    assert found["differences"][0]["input"] == "code.files.clinic_model"


def test_the_recorded_commit_is_run_from_a_repository_whatever_is_installed(
    module: Path, connections: Any, context: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(module.parent), *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    (module.parent / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "then")
    reproduce: Ran = request.getfixturevalue("reproduce")
    module.write_text(MODULE.replace("C=C", "C=C / 1000"), encoding="utf-8")
    git("commit", "-qam", "now")
    assert reproduce()[1]["outcome"] == "different"
    code, found = reproduce("clinic/1", "--checkout", str(module.parent))
    assert (code, found["outcome"]) == (0, "identical"), found
    assert not [one for one in found["differences"] if one["input"].startswith("code")]
    assert module.read_text(encoding="utf-8") != MODULE, "what is installed stays as it is"
    code, found = reproduce("clinic/1", "--checkout", str(tmp_path))
    assert (code, found["outcome"]) == (2, "cannot tell")
    assert "its code cannot be checked out" in found["reason"]


def test_code_of_no_commit_cannot_be_checked_out(reproduce: Ran, module: Path) -> None:
    code, found = reproduce("clinic/1", "--checkout", str(module.parent))
    assert (code, found["outcome"]) == (2, "cannot tell")
    assert "no commit of the code is recorded" in found["reason"]


def test_a_model_of_other_features_is_another_whatever_the_data(
    reproduce: Ran, module: Path, tmp_path: Path
) -> None:
    pd.read_parquet(tmp_path / "rows.parquet").iloc[:-50].to_parquet(tmp_path / "rows.parquet")
    module.write_text(MODULE.replace('["a", "b"]', '["b"]'), encoding="utf-8")
    code, found = reproduce()
    assert (code, found["outcome"]) == (1, "different"), found


def test_other_data_and_no_recorded_model_leave_nothing_to_compare(
    reproduce: Ran, trained: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    rows.iloc[:-50].to_parquet(tmp_path / "rows.parquet")
    code, found = reproduce("clinic/1", "--tolerance", "1")
    assert (code, found["outcome"]) == (0, "close"), found
    Path(trained["artifact_uri"].removeprefix("file://"), "model.skops").unlink()
    code, found = reproduce()
    assert (code, found["outcome"]) == (2, "cannot tell"), found
    assert "cannot be read; first of what differs: data.digest" in found["reason"]


def test_what_is_gone_leaves_nothing_to_tell(
    reproduce: Ran, trained: dict[str, Any], module: Path, tmp_path: Path
) -> None:
    text = module.read_text(encoding="utf-8")
    module.write_text("raise ImportError('no such library')", encoding="utf-8")
    code, found = reproduce()
    assert (code, found["outcome"]) == (2, "cannot tell")
    assert "cannot be made again" in found["reason"]
    assert "no such library" in found["reason"]
    module.write_text(text, encoding="utf-8")
    (tmp_path / "rows.parquet").unlink()
    code, found = reproduce()
    assert (code, found["outcome"]) == (2, "cannot tell")
    assert "rows.parquet" in found["reason"]
    Path(trained["training_uri"].removeprefix("file://")).write_text("{}", encoding="utf-8")
    code, found = reproduce()
    assert (code, found["outcome"]) == (2, "cannot tell")
    assert "has been altered" in found["reason"]


def test_a_name_that_says_nothing_of_a_training(reproduce: Ran) -> None:
    code, found = reproduce("old/1")
    assert code == 2
    assert "no record of old/1 says what the model was made from" in found["error"]
    assert reproduce("clinic/9")[0] == 3
    assert reproduce("clinic/1", "--tolerance", "-1")[0] == 2
