"""What ``airflow pipeops remediation`` does: show what is open and what a person has; let it go on."""

from __future__ import annotations

import getpass
from typing import Any

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.delivery.commands.answers import WELL, shown
from airflow_pipeops.operations.remediation.history import History


def remediation_command(args: Any) -> int:
    """Reset what is asked for, and print what is open, held, or a person's."""
    import re

    from airflow_pipeops.base.storage import StorageHook
    from airflow_pipeops.operations.remediation.journal import Journal

    journal = Journal(StorageHook(args.storage_conn_id).get_conn())
    for scope in args.reset or ():
        form = re.compile(r"(rule:|batch |promotion ).+|[-a-z0-9]+@[-a-z0-9]+")
        matching(
            "--reset",
            scope,
            form,
            "a scope",
            "Use NAME@ENVIRONMENT, rule:NAME, 'batch URI', 'promotion NAME@ENVIRONMENT'.",
        )
        journal.reset(scope, getpass.getuser())
    found = state(journal.read()[1])
    if not shown(found, "json" if args.json else ""):
        for what, lines in found.items():
            print(f"{what}:" if lines else f"{what}: nothing")
            for line in lines:
                print("  " + " ".join(str(value) for value in line.values()))
    return WELL


def state(history: History) -> dict[str, list[dict[str, Any]]]:
    """Say what matters now.

    :param history: of the remediator.
    :return: what is open, what a person has, and what is held.
    """

    def told(one: Any) -> dict[str, Any]:
        return {
            "place": one.place,
            "action": one.action,
            "state": one.state,
            "since": one.changed,
            "reason": one.reason,
        }

    latched = [
        one
        for one in history.operations
        if one.state == "handed_over" and one == history.with_person(one.deliverable, one.environment)
    ]
    return {
        "open": [told(one) for one in history.operations if one.open],
        "with a person": [told(one) for one in latched],
        "held": [{"mark": mark, "by": by} for mark, by in sorted(history.marks.items())],
    }
