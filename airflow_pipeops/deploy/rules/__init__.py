"""Which rule judges an object: one table per family of kinds, and a rule for all other custom resources."""

from __future__ import annotations

from collections.abc import Callable

from airflow_pipeops.deploy.rules.conditions import any_custom
from airflow_pipeops.deploy.rules.core import CORE, PASSIVE, exists
from airflow_pipeops.deploy.rules.custom import CUSTOM
from airflow_pipeops.deploy.rules.workloads import WORKLOADS
from airflow_pipeops.deploy.seen import Readiness, Seen

Rule = Callable[[Seen], Readiness]

#: (API group, kind) -> its rule.
RULES: dict[tuple[str, str], Rule] = {**WORKLOADS, **CORE, **CUSTOM}


def rule_of(seen: Seen) -> Rule:
    """Return the rule of an object's kind."""
    found = RULES.get((seen.group, seen.kind))
    if found is not None:
        return found
    return exists if seen.group in PASSIVE else any_custom
