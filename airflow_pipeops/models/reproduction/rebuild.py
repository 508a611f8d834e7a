"""Make a model again from its ``training.json``, in a process of its own, and compare the two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_pipeops.base.arguments import function
from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.models import artifact, behaviour, storage
from airflow_pipeops.models.reproduction.code import checked_out
from airflow_pipeops.models.reproduction.comparison import Reproduction, judge, unknown
from airflow_pipeops.models.reproduction.environment import THREADS
from airflow_pipeops.models.reproduction.manifest import TrainingManifest, read

#: The connection of the folder in which it is made again, which goes afterwards.
_CONNECTION = "pipeops_reproduction"


def reproduced(uri: str, sha256: str, *, tolerance: float = 1e-3, repository: str = "") -> Reproduction:
    """Make a model again, with as many threads as it was made with, and compare it with the recorded one.

    :param uri: of the ``training.json``.
    :param sha256: that its bytes must have.
    :param tolerance: up to which distance of their scores the two are close.
    :param repository: from which the recorded commit of the code is checked out; by default what is installed is run.
    :return: the verdict; ``cannot tell`` where something that it was made from is gone.
    """
    try:
        recorded = read(uri, sha256)
    except (NotFound, InvalidInput) as error:
        return unknown({}, f"what it was made from is not there as it was recorded: {error.message}")
    with tempfile.TemporaryDirectory(prefix="pipeops-reproduce-") as folder:
        try:
            code = checked_out(recorded.code, repository, Path(folder, "code")) if repository else []
        except PipeOpsError as error:
            return unknown(recorded.to_json(), f"its code cannot be checked out: {error.message}")
        made, problem = _made(recorded, Path(folder), code)
        if made is None:
            return unknown(recorded.to_json(), f"it cannot be made again: {problem}")
        return _compared(recorded, made, tolerance)


def _made(
    recorded: TrainingManifest, folder: Path, code: Sequence[str]
) -> tuple[TrainingManifest | None, str]:
    """Train in a process of its own, with folders of code before all others; return what it left, or why it left nothing."""
    result = folder / "result.json"
    arguments = {**recorded.arguments, "storage_conn_id": _CONNECTION}
    threads = map_(recorded.machine.get("threads"))
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    environment |= {name: str(value) for name, value in threads.items() if name in THREADS}
    environment |= {
        "PYTHONPATH": os.pathsep.join([*code, *filter(None, sys.path)]),
        "PIPEOPS_RESULT": str(result),
        f"AIRFLOW_CONN_{_CONNECTION.upper()}": json.dumps(
            {"conn_type": "pipeops_storage", "host": (folder / "store").as_uri()}
        ),
    }
    (folder / "store").mkdir()
    command = [sys.executable, "-m", "airflow_pipeops.models.pod", json.dumps(arguments)]
    # The folder in which somebody asks comes before all that is named, and may hold the code of today.
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=folder if code else None
    )
    if done.returncode or not result.exists():
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"the process ended with status {done.returncode}"
    facts = map_(parsed(result.read_bytes()))
    return read(str(facts["training_uri"]), str(facts["training_sha256"])), ""


def _compared(recorded: TrainingManifest, made: TrainingManifest, tolerance: float) -> Reproduction:
    old, new = map_(recorded.result), map_(made.result)
    trusted = list(recorded.arguments.get("trusted") or ())
    again = artifact.load(new["artifact_uri"], new["sha256"], trusted=trusted)
    same, distance, apart = None, None, None
    if old.get("probes_sha256") == new.get("probes_sha256"):
        same = old.get("behaviour") == new.get("behaviour")
    try:
        before = artifact.load(old["artifact_uri"], old["sha256"], trusted=trusted)
        if list(before.manifest.features) != list(again.manifest.features):
            same = False
        rows = _table(old["probes_uri"])
        distance = behaviour.distance(
            behaviour.scores(before.model, rows), behaviour.scores(again.model, rows)
        )
        if distance is None:
            same = False  # they have other outputs
        apart = _apart(recorded.arguments, before.model, again.model, old["holdout_uri"])
    except (PipeOpsError, KeyError, ValueError):
        pass  # the recorded model or its probes are gone, or not readable here: its behaviour is still recorded
    return judge(
        recorded.to_json(),
        made.to_json(),
        same_behaviour=same,
        distance=distance,
        tolerance=tolerance,
        apart=apart,
    )


def _apart(arguments: Mapping[str, Any], before: Any, again: Any, holdout: str) -> bool | None:
    """Tell whether the metric of two models differs beyond chance; ``None`` without a scorer, or with too few rows."""
    from airflow_pipeops.models import evaluation

    if not arguments.get("scorer"):
        return None
    scorer = function(arguments["scorer"], "scorer")
    gain = evaluation.compare(again, before, _table(holdout), scorer, target=arguments.get("target")).gain
    bounds = gain.bounds(0.025) if gain else None
    if bounds is None:
        return False if gain and not gain.value else None
    return not bounds[0] <= 0 <= bounds[1]


def _table(uri: str) -> Any:
    return storage.read_table([uri]).frame
