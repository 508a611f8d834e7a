"""``airflow pipeops``: the commands of this provider. Only their shape: what they do is imported when they run."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command


def _arg(flags: tuple[str, ...], **kwargs: Any) -> Arg:
    return Arg(flags, **kwargs)  # type: ignore[no-untyped-call]


_POLICY = _arg(("policy",), help="JSON or YAML file of the policy, or package.module:NAME")
_HISTORY = _arg(
    ("--history",),
    help="JSON lines: observations, or records of decisions; - reads standard input",
)
_DELIVERABLE = _arg(("--deliverable",), help="name of a deliverable whose decisions Airflow's database holds")
_JSON = _arg(("--json",), help="print one JSON object instead of the table", action="store_true")


def commands() -> list[GroupCommand]:
    """Return the commands, as Airflow's command line asks for them."""
    replay = ActionCommand(
        name="replay",
        help="Try a retrain policy on what happened, before it is switched on",
        description="Decides about each recorded batch by a policy, and prints the decisions with their reasons. The"
        " metrics are those of the models that served then: see docs/governor.md.",
        func=lazy_load_command("airflow_pipeops.governor.command.replay_command"),
        args=(_POLICY, _HISTORY, _DELIVERABLE, _JSON, ARG_VERBOSE),
    )
    return [GroupCommand(name="pipeops", help="Tools of airflow-pipeops", subcommands=(replay,))]
