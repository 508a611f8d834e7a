"""Scores a partition where this package is installed: ``python -m airflow_pipeops.serving.batch.pod ORDER``.

The order is that of ``BatchScoreOperator``, as JSON. What became of the partition is written to the file that
``PIPEOPS_ANSWER`` names, by default to where a kubelet looks for the last words of a container. Connections come as
``AIRFLOW_CONN_...``. The exit code is 64 for what no other attempt mends, such as a contract that does not hold.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.build.answers import ANSWER, MOST, failure
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

#: Where a kubelet looks for the last words of a container.
RESULT = Path("/dev/termination-log")
#: No other attempt mends it.
REFUSED = 64
#: What the last words need not say: the manifest does.
_LONG = ("notes", "scores", "shadows", "reason")


def main(order: str, result: Path) -> int:
    """Score, and leave the result.

    :param order: JSON.
    :param result: file for what became of it.
    :return: the exit code.
    """
    try:
        facts = scored(order)
    except PipeOpsError as error:
        result.write_text(failure(error), encoding="utf-8")
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1 if error.retryable else REFUSED
    text = json.dumps(facts)
    if len(text) > MOST:
        text = json.dumps({name: value for name, value in facts.items() if name not in _LONG})
    result.write_text(text, encoding="utf-8")
    return 0


def scored(order: str) -> dict[str, object]:
    """Score a partition.

    :param order: JSON of an :class:`~airflow_pipeops.serving.batch.scoring.Order`.
    :return: what became of it.
    :raises InvalidInput: for what is no order.
    """
    from airflow_pipeops.models.operators.arguments import storage_root
    from airflow_pipeops.serving.batch.scoring import Order, score

    remedy = "Give the order of BatchScoreOperator as one JSON object."
    try:
        given = Order.from_json(mapping("order", parsed(order), remedy))
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"this is no order: {error}", field="order", remedy=remedy) from error
    return score(given, storage_root(given.storage_conn_id), lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", Path(os.environ.get(ANSWER) or RESULT)))
