"""Attempts at a rollback with two sides, each in a process of its own, which may be killed at a step. Used by the tests.

The settings are: git, registry, cache, file, fields, order, key, record, and kill.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.git.commits import Writer
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models.desired import ModelInGit
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.models.rollback.saga import ModelRollback, RollbackOrder
from tests.mortal import attempts, mortal, step

mortal(GitRepository, "commit_edit")
mortal(Writer, "_commit", "_push")
mortal(Registry, "block", "set_alias", "call")


def attempt(given: dict[str, Any]) -> dict[str, Any]:
    """Do what the two tasks do, and keep the record as Airflow keeps the event of a task: under its key."""
    order = RollbackOrder.from_json(given["order"])
    git = GitRepository(given["git"], cache_dir=given["cache"])
    desired = ModelInGit(given["file"], given["fields"])
    rollback = ModelRollback(git, Registry(given["registry"]), desired, order)
    begun = rollback.begin(given["key"])
    step()
    if begun.mine:
        seen = datetime.now(timezone.utc).isoformat()
        rollback.finish(Proof("endpoint", order.before_sha256, seen, "http://m"), begun.commit)
        step()
        write_whole(Path(given["record"]) / given["key"], begun.commit.encode())
        step()
    return {"mine": begun.mine, "commit": begun.commit}


attempts(attempt)
