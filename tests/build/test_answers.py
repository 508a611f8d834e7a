"""What a container says has gone wrong reaches the task whole: a kubelet keeps the end of a last word that is too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.build.answers import failure
from airflow_pipeops.exceptions import Conflict, DataRejected
from airflow_pipeops.models import pod as training
from airflow_pipeops.serving.batch import pod as scoring

KEPT = 4096
LONG = ["größe " * 600, "😀" * 3000, '"\n\x00' * 2000, "ж" * 2999, "x" * 9000]


@pytest.mark.parametrize("said", LONG)
def test_a_long_refusal_is_read_as_one_whatever_it_is_written_in(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> Any:
        raise DataRejected(said)

    monkeypatch.setattr(scoring, "scored", refuses)
    assert scoring.main("{}", tmp_path / "score") == scoring.REFUSED
    monkeypatch.setattr(training, "train", refuses)
    with pytest.raises(DataRejected):
        training.answer("{}", tmp_path / "train")
    for name in ("score", "train"):
        kept = (tmp_path / name).read_bytes()[-KEPT:]
        answer = json.loads(kept)
        assert (answer["error"], answer["retryable"]) == ("DataRejected", False)
        assert said.startswith(answer["message"])
        assert len(kept) > KEPT - 30, "and as much of it as there is room for"


def test_a_short_one_is_left_as_it_is() -> None:
    error = Conflict("changed", remedy="Try again.")
    assert json.loads(failure(error)) == {
        "error": "Conflict",
        "message": "changed. Try again.",
        "retryable": True,
    }
