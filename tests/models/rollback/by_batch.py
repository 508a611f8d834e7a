"""The same attempts, with a proof by batch output: the model that runs again scores a partition, and readers see that.

The further settings are ``data``, Parquet with a column ``id``, and ``store``.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow.parquet  # noqa: F401
import sklearn.linear_model  # noqa: F401
import skops.io  # noqa: F401

import airflow_pipeops.drift.operators.inputs  # noqa: F401
from airflow_pipeops.models import storage
from airflow_pipeops.models.rollback.proof import Proof, proof_of
from airflow_pipeops.models.rollback.saga import Begun, ModelRollback
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.scoring import Order, pinned_now, score
from airflow_pipeops.serving.batch.store import ScoreStore
from tests.models.rollback.two_sides import Given, attempt, task
from tests.mortal import attempts, mortal

mortal(ScoreStore, "put", "sweep", "first", "show")


def by_batch(given: Given, rollback: ModelRollback, begun: Begun) -> Proof:
    """Score the partition of the attempt's key, and let its manifest speak."""
    model = pinned_now(Pinned.of(vars(rollback.target())))
    order = Order(given["key"], given["data"], model, ("id",), rescore="all")
    facts = task(given, "score", lambda: score(order, Path(given["store"]), lambda line: None))
    return proof_of(facts, json.loads(storage.get(facts["manifest"])))


if __name__ == "__main__":
    attempts(partial(attempt, proves=by_batch))
