"""Trains a model in a pod, whose image has this package: ``python -m airflow_pipeops.models.pod ARGUMENTS``.

The arguments are those of ``TrainModelOperator``, as JSON. The result is written to where the sidecar of Airflow's provider
looks for it (or to ``PIPEOPS_RESULT``), so that it becomes the XCom that the operator returns. Where ``PIPEOPS_ANSWER``
names a file, the short of it is written there instead, as the last word of a container: where ``training.json`` is, or what
has gone wrong. Connections come as ``AIRFLOW_CONN_...``.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import tempfile
from pathlib import Path

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.build.answers import ANSWER, failure
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

#: Where the provider's sidecar looks for what a pod returns.
RESULT = Path("/airflow/xcom/return.json")
#: What the short of a result holds: the file has the rest.
_SHORT = ("training_uri", "training_sha256", "seconds")
_REMEDY = "Give the arguments of TrainModelOperator as one JSON object."


def train(arguments: str, result: Path = RESULT) -> None:
    """Train, and leave the result.

    :param arguments: JSON.
    :param result: file for the result.
    """
    from airflow_pipeops.models.operators.train import train_model

    try:
        given = mapping("arguments", parsed(arguments), _REMEDY)
        inspect.signature(train_model).bind(**given)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"these are no arguments: {error}", field="arguments", remedy=_REMEDY) from error
    facts = train_model(**given)
    result.write_text(json.dumps(facts), encoding="utf-8")


def answer(arguments: str, place: Path) -> None:
    """Train, and leave the short of it, or what has gone wrong.

    :param arguments: JSON.
    :param place: file for the answer.
    :raises PipeOpsError: as the training does.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        try:
            train(arguments, result)
        except PipeOpsError as error:
            place.write_text(failure(error), encoding="utf-8")
            raise
        except Exception as error:
            said = PipeOpsError(f"the training failed: {type(error).__name__}: {error}")
            place.write_text(failure(said), encoding="utf-8")
            raise
        facts = parsed(result.read_bytes())
    place.write_text(json.dumps({name: facts[name] for name in _SHORT}), encoding="utf-8")


if __name__ == "__main__":
    try:
        given = sys.argv[1] if len(sys.argv) > 1 else ""
        if os.environ.get(ANSWER):
            answer(given, Path(os.environ[ANSWER]))
        else:
            train(given, Path(os.environ.get("PIPEOPS_RESULT") or RESULT))
    except PipeOpsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
