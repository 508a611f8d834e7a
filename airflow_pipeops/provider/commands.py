"""``airflow pipeops``: the commands of this provider. Only their shape: what they do is imported when they run."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
)


def _arg(flags: tuple[str, ...], **kwargs: Any) -> Arg:
    return Arg(flags, **kwargs)  # type: ignore[no-untyped-call]


_POLICY = _arg(("policy",), help="JSON or YAML file of the policy, or package.module:NAME")
_HISTORY = _arg(
    ("--history",),
    help="JSON lines: observations, or records of decisions; - reads standard input",
)
_DELIVERABLE = _arg(("--deliverable",), help="name of a deliverable whose decisions Airflow's database holds")
_JSON = _arg(("--json",), help="print one JSON object instead of the table", action="store_true")

_REF = _arg(
    ("ref",),
    metavar="REF",
    help="a record id, a commit, an image's digest, MODEL/VERSION, or DELIVERABLE@ENVIRONMENT[@TIME]",
)
_AS_IT_IS = _arg(
    ("--as-it-is",),
    help="answer from what the ledger holds, without taking up what is new",
    action="store_true",
)
_DELIVERABLES = _arg(("deliverable",), nargs="*", help="names of deliverables; by default all")
_ENVIRONMENT = _arg(("--environment",), help="in this environment alone")
_AT = _arg(("--at",), help="at this time in place of now, such as 2026-03-01T12:00Z", metavar="TIME")
_CHECK = _arg(("--check",), help="end with 1 if anything needs somebody", action="store_true")
_DOWN = _arg(("--down",), help="what was made of it, in place of what it was made from", action="store_true")
_STEPS = _arg(("--limit",), help="records at most (default: 1000)", type=int, default=1000)
_HTML = _arg(("--html",), help="print a page that needs nothing else", action="store_true")
_PLACE = _arg(("deliverable",), nargs="?", metavar="DELIVERABLE[@ENVIRONMENT]", help="by default all")
_KIND = _arg(("--kind",), help="of this kind alone; may be given several times", action="append")
_FROM = _arg(("--from",), help="not before this time", dest="start", metavar="TIME")
_TO = _arg(("--to",), help="before this time", dest="end", metavar="TIME")
_ITEMS = _arg(("--limit",), help="records at most (default: 50)", type=int, default=50)
_AFTER = _arg(("--after",), help="what the part before has said")
_ALL = _arg(("--all",), help="what is not believed, too", action="store_true")
_FIGURES_OF = _arg(("place",), metavar="DELIVERABLE@ENVIRONMENT", help="whose figures")
_CONN_IDS = _arg(("conn_id",), nargs="*", help="look at these connections alone")
_URL = _arg(("--url",), help="address of the API server; by default [api] base_url")
_REPOSITORY = _arg(
    ("--repository",),
    dest="git_conn_id",
    metavar="GIT_CONN_ID",
    help="connection of a repository whose commits carry checkpoints; may be given several times",
    action="append",
)
_KEY = _arg(
    ("--key",), help="public key that signs checkpoints; by default that of [pipeops] ledger_key_conn_id"
)
_PARTS = _arg(("--parts",), help="divide the time into so many parts", type=int, default=1)


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
    reading = (
        _reading(
            "status",
            "Say what is live everywhere, and what needs somebody",
            (_DELIVERABLES, _ENVIRONMENT, _AT, _CHECK),
        ),
        _reading(
            "trace", "Walk from a record to what it was made from, or was made of it", (_REF, _DOWN, _STEPS)
        ),
        _reading(
            "passport", "Say what is live, since when, made from what, approved by whom", (_REF, _HTML, _JSON)
        ),
        _reading(
            "history",
            "Say what happened, the newest first",
            (_PLACE, _ENVIRONMENT, _KIND, _FROM, _TO, _ITEMS, _AFTER, _ALL),
        ),
        _reading("figures", "Say DORA's metrics, and those of the model", (_FIGURES_OF, _FROM, _TO, _PARTS)),
    )
    doctor = ActionCommand(
        name="doctor",
        help="Check connections, permissions, versions, triggerer, ledger and routes, and say what to do",
        description="Ends with 0 if all is well, and with 1 if something is not: see docs/cli.md.",
        func=lazy_load_command("airflow_pipeops.provider.doctor.command.doctor_command"),
        args=(_CONN_IDS, _URL, ARG_OUTPUT, ARG_VERBOSE),
    )
    verify = ActionCommand(
        name="verify",
        help="Hold the ledger against itself, its index, Airflow's database, and the checkpoints that left it",
        description="Ends with 0 if the ledger is what it was, and with 1 if it is not: see docs/ledger.md.",
        func=lazy_load_command("airflow_pipeops.git.verification.verify_command"),
        args=(_REPOSITORY, _KEY, ARG_OUTPUT, ARG_VERBOSE),
    )
    ledger = GroupCommand(
        name="ledger",
        help="Keep the ledger",
        subcommands=(
            ActionCommand(
                name="ingest",
                help="Take up the records that Airflow's database has and the ledger has not",
                func=lazy_load_command("airflow_pipeops.delivery.ledger.command.ingest_command"),
                args=(ARG_VERBOSE,),
            ),
        ),
    )
    return [
        GroupCommand(
            name="pipeops",
            help="Tools of airflow-pipeops",
            subcommands=(*reading, verify, doctor, ledger, replay),
        )
    ]


def _reading(name: str, help: str, args: tuple[Arg, ...]) -> ActionCommand:
    """Make a command that answers from the ledger."""
    return ActionCommand(
        name=name,
        help=help,
        description=f"{help}. Ends with 0, with 1 if what it found is not well, 2 if it could not answer, 3 if there is"
        " nothing by that name: see docs/cli.md.",
        func=lazy_load_command(f"airflow_pipeops.delivery.commands.reading.{name}_command"),
        args=(*args, ARG_OUTPUT, _AS_IT_IS, ARG_VERBOSE),
    )
