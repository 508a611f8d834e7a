"""Attempts at a rollback with two sides, each in a process of its own, which may be killed at a step. Used by the tests.

Its tasks follow each other as in a DAG: what one has returned is kept, and a further attempt does not run it again. They are
the same for every proof but for those that prove. The settings are: git, registry, cache, desired, order, key, returned, and
kill; and what the proof needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.git.commits import Writer
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models.desired import WantedModel, wanted_model
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.models.rollback.saga import Begun, ModelRollback, RollbackOrder
from airflow_pipeops.serving.stream.desired import ModelInTable
from tests.mortal import attempts, mortal, step

mortal(GitRepository, "commit_edit")
mortal(Writer, "_commit", "_push")
mortal(Registry, "block", "set_alias", "call")

Given = dict[str, Any]
Proves = Callable[[Given, ModelRollback, Begun], Proof]


def task(given: Given, name: str, act: Callable[[], Any]) -> Any:
    """Return what a task returns; one that has returned is not run again, and the last one has left the record then."""
    kept = Path(given["returned"]) / f"{given['key']}.{name}"
    if not kept.exists():
        found = act()
        step(f"{name} is done")
        write_whole(kept, json.dumps(found).encode())
        step(f"{name} has returned")
    return json.loads(kept.read_text())


def place(given: Given) -> WantedModel:
    """Read where Git names the model: a table has a file and no fields."""
    return wanted_model(given) if "fields" in given else ModelInTable.from_json(given)


def attempt(given: Given, proves: Proves) -> Given:
    """Do what the tasks do."""
    order = RollbackOrder.from_json(given["order"])
    git = GitRepository(given["git"], cache_dir=given["cache"])
    rollback = ModelRollback(git, Registry(given["registry"]), place(given["desired"]), order)
    begun = Begun.from_json(task(given, "back", lambda: rollback.begin(given["key"]).to_json()))
    if begun.mine:
        proof = proves(given, rollback, begun)
        task(given, "finish", lambda: rollback.finish(proof, begun.commit))
    return {"mine": begun.mine, "commit": begun.commit}


def by_endpoint(given: Given, rollback: ModelRollback, begun: Begun) -> Proof:
    """Prove it as whoever has asked an endpoint."""
    seen = task(given, "proof", lambda: datetime.now(timezone.utc).isoformat())
    return Proof("endpoint", rollback.order.before_sha256, seen, "http://m")


if __name__ == "__main__":
    attempts(partial(attempt, proves=by_endpoint))
