"""Trains a model in a pod, whose image has this package: ``python -m airflow_pipeops.models.pod ARGUMENTS``.

The arguments are those of ``TrainModelOperator``, as JSON. The result is written to where the sidecar of Airflow's provider
looks for it (or to ``PIPEOPS_RESULT``), so that it becomes the XCom that the operator returns. Connections come as
``AIRFLOW_CONN_...``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

#: Where the provider's sidecar looks for what a pod returns.
RESULT = Path("/airflow/xcom/return.json")
_REMEDY = "Give the arguments of TrainModelOperator as one JSON object."


def train(arguments: str, result: Path = RESULT) -> None:
    """Train, and leave the result.

    :param arguments: JSON.
    :param result: file for the result.
    """
    from airflow_pipeops.models.operators.train import train_model

    try:
        given = mapping("arguments", parsed(arguments), _REMEDY)
        facts = train_model(**given)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"these are no arguments: {error}", field="arguments", remedy=_REMEDY) from error
    result.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    try:
        train(sys.argv[1] if len(sys.argv) > 1 else "", Path(os.environ.get("PIPEOPS_RESULT") or RESULT))
    except PipeOpsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
